//! RFC 6120 §6.4 and XEP-0440: SASL as elements of a stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Offer, SaslFailure};
use crate::ns;
use crate::xml::{Element, Stanza};

/// XEP-0440: the stream feature that names channel binding types.
pub const NS_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";

/// What a client says during SASL negotiation.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// `<auth/>`
    Auth {
        /// The mechanism's name, as sent; empty where there was none, which no mechanism is called.
        mechanism: String,
        /// The initial response; `None` where `<auth/>` was empty, no bytes where it was `=`.
        initial: Option<Vec<u8>>,
    },
    /// `<response/>`
    Response(Vec<u8>),
    /// `<abort/>`
    Abort,
}

impl Request {
    /// `None` where the element is no request of SASL; `incorrect-encoding` where its text is not base64 (RFC 6120 §6.5.5).
    pub fn parse(stanza: &Stanza) -> Option<Result<Self, SaslFailure>> {
        if stanza.ns() != ns::SASL {
            return None;
        }
        match stanza.name() {
            "auth" => {
                let element = stanza.element();
                let initial = match element.text().as_str() {
                    "" => Ok(None),
                    text => decode(text).map(Some),
                };
                let mechanism = element.attr("mechanism").unwrap_or_default().to_owned();
                Some(initial.map(|initial| Self::Auth { mechanism, initial }))
            }
            "response" => Some(decode(&stanza.element().text()).map(Self::Response)),
            "abort" => Some(Ok(Self::Abort)),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Request {
    /// Without what was sent: it may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auth { mechanism, .. } => {
                f.debug_struct("Auth").field("mechanism", mechanism).finish_non_exhaustive()
            }
            Self::Response(_) => f.write_str("Response(..)"),
            Self::Abort => f.write_str("Abort"),
        }
    }
}

/// The stream feature `<mechanisms/>` (RFC 6120 §6.4.1). Not to be sent where nothing is offered.
pub fn mechanisms(offer: &Offer) -> Element {
    let each = offer.mechanisms.iter().map(|mechanism| Element::new("mechanism", ns::SASL).with_text(mechanism.name()));
    Element::new("mechanisms", ns::SASL).with_all(each)
}

/// The stream feature `<sasl-channel-binding/>` (XEP-0440 §2); `None` where there is nothing to bind to.
pub fn channel_bindings(offer: &Offer) -> Option<Element> {
    if offer.bindings.is_empty() {
        return None;
    }
    let each =
        offer.binding_types().map(|name| Element::new("channel-binding", NS_CHANNEL_BINDING).with_attr("type", name));
    Some(Element::new("sasl-channel-binding", NS_CHANNEL_BINDING).with_all(each))
}

/// `<challenge/>` with the data of [`super::Step::Challenge`]; empty where there is none.
pub fn challenge(data: &[u8]) -> Element {
    let challenge = Element::new("challenge", ns::SASL);
    if data.is_empty() { challenge } else { challenge.with_text(BASE64.encode(data)) }
}

/// `<success/>`, with additional data where there is some; `=` stands for data of no bytes (RFC 6120 §6.4.6).
pub fn success(data: Option<&[u8]>) -> Element {
    let success = Element::new("success", ns::SASL);
    match data {
        None => success,
        Some([]) => success.with_text("="),
        Some(data) => success.with_text(BASE64.encode(data)),
    }
}

/// `<failure/>`, with an English text for people where one is given (RFC 6120 §6.5).
pub fn failure(failure: SaslFailure, text: Option<&str>) -> Element {
    let element = Element::new("failure", ns::SASL).with(Element::new(failure.name(), ns::SASL));
    match text {
        None => element,
        Some(text) => element.with(Element::new("text", ns::SASL).with_attr("xml:lang", "en").with_text(text)),
    }
}

/// Some clients write `=` for a response of no bytes as they do in `<auth/>`.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, SaslFailure> {
    match text {
        "=" => Ok(Vec::new()),
        _ => BASE64.decode(text).map_err(|_| SaslFailure::IncorrectEncoding),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sasl::{ChannelBindings, Hash};

    fn parse(xml: &str) -> Option<Result<Request, SaslFailure>> {
        Request::parse(&Stanza::parse(xml.as_bytes()).unwrap())
    }

    fn auth(content: &str) -> Result<Option<Vec<u8>>, SaslFailure> {
        let xml = format!("<auth xmlns='{}' mechanism='PLAIN'>{content}</auth>", ns::SASL);
        parse(&xml).unwrap().map(|request| match request {
            Request::Auth { mechanism, initial } if mechanism == "PLAIN" => initial,
            request => panic!("{request:?}"),
        })
    }

    fn response(content: &str) -> Result<Vec<u8>, SaslFailure> {
        let xml = format!("<response xmlns='{}'>{content}</response>", ns::SASL);
        parse(&xml).unwrap().map(|request| match request {
            Request::Response(data) => data,
            request => panic!("{request:?}"),
        })
    }

    #[test]
    fn an_empty_auth_has_no_initial_response_and_an_equals_sign_an_empty_one() {
        assert_eq!(auth(""), Ok(None));
        assert_eq!(auth("="), Ok(Some(Vec::new())));
        assert_eq!(auth("AGp1bGlldAByMG0zMG15cjBtMzA="), Ok(Some(b"\0juliet\0r0m30myr0m30".to_vec())));
        assert_eq!(response(""), Ok(Vec::new()));
        assert_eq!(response("="), Ok(Vec::new()));
        assert_eq!(response("biws"), Ok(b"n,,".to_vec()));
    }

    #[test]
    fn what_is_not_base64_is_an_incorrect_encoding() {
        for wrong in ["A", "AGp1bGlldAByMG0zMG15cjBtMzA", "bi ws", " biws", "bi_s", "biw=s", "==", "biwt=", "AB=="] {
            assert_eq!(auth(wrong), Err(SaslFailure::IncorrectEncoding), "{wrong}");
            assert_eq!(response(wrong), Err(SaslFailure::IncorrectEncoding), "{wrong}");
        }
    }

    #[test]
    fn requests_are_told_from_other_elements() {
        let sasl = ns::SASL;
        assert_eq!(parse(&format!("<abort xmlns='{sasl}'/>")), Some(Ok(Request::Abort)));
        assert_eq!(
            parse(&format!("<auth xmlns='{sasl}'/>")),
            Some(Ok(Request::Auth { mechanism: String::new(), initial: None }))
        );
        assert_eq!(parse(&format!("<success xmlns='{sasl}'/>")), None);
        assert_eq!(parse("<auth xmlns='urn:example' mechanism='PLAIN'/>"), None);
        assert_eq!(parse("<message><body>hello</body></message>"), None);
    }

    #[test]
    fn debug_tells_no_password() {
        let request = parse(&format!("<auth xmlns='{}' mechanism='PLAIN'>AGp1AHIw</auth>", ns::SASL)).unwrap().unwrap();
        let text = format!("{request:?}");
        assert_eq!(text, "Auth { mechanism: \"PLAIN\", .. }");
        assert_eq!(format!("{:?}", Request::Response(b"secret".to_vec())), "Response(..)");
    }

    #[test]
    fn features_name_mechanisms_and_binding_types() {
        let bindings = ChannelBindings { tls_exporter: Some([1; 32]), tls_server_end_point: Some(vec![2; 32]) };
        let offer = Offer::new("example.com", bindings, &[Hash::Sha1], true, false);
        assert_eq!(
            mechanisms(&offer).to_xml(ns::CLIENT),
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
             <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism>\
             </mechanisms>"
        );
        assert_eq!(
            channel_bindings(&offer).unwrap().to_xml(ns::CLIENT),
            "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
             <channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/>\
             </sasl-channel-binding>"
        );
        let offer = Offer::new("example.com", ChannelBindings::default(), &[Hash::Sha1], true, false);
        assert_eq!(channel_bindings(&offer), None);
    }

    #[test]
    fn answers_carry_their_data() {
        let sasl = ns::SASL;
        assert_eq!(challenge(b"").to_xml(ns::CLIENT), format!("<challenge xmlns='{sasl}'/>"));
        assert_eq!(challenge(b"r=1").to_xml(ns::CLIENT), format!("<challenge xmlns='{sasl}'>cj0x</challenge>"));
        assert_eq!(success(None).to_xml(ns::CLIENT), format!("<success xmlns='{sasl}'/>"));
        assert_eq!(success(Some(b"")).to_xml(ns::CLIENT), format!("<success xmlns='{sasl}'>=</success>"));
        assert_eq!(success(Some(b"v=1")).to_xml(ns::CLIENT), format!("<success xmlns='{sasl}'>dj0x</success>"));
    }

    #[test]
    fn every_failure_has_its_element() {
        for condition in SaslFailure::ALL {
            assert_eq!(
                failure(condition, None).to_xml(ns::CLIENT),
                format!("<failure xmlns='{}'><{}/></failure>", ns::SASL, condition.name())
            );
        }
        assert_eq!(
            failure(SaslFailure::AccountDisabled, Some("Call 212-555-1212")).to_xml(ns::CLIENT),
            format!(
                "<failure xmlns='{}'><account-disabled/><text xml:lang='en'>Call 212-555-1212</text></failure>",
                ns::SASL
            )
        );
    }
}
