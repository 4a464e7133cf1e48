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
fn decode(text: &str) -> Result<Vec<u8>, SaslFailure> {
    match text {
        "=" => Ok(Vec::new()),
        _ => BASE64.decode(text).map_err(|_| SaslFailure::IncorrectEncoding),
    }
}
