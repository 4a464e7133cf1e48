//! XEP-0388: the Extensible SASL Profile as elements of a stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::xml::decode;
use super::{Offer, SaslFailure, upgrade};
use crate::ns;
use crate::xml::{Element, Stanza};

/// Characters of what a client says of itself.
const TEXT_CHARS_MAX: usize = 128;

/// `<authenticate/>`: with what a client logs in, and what it wants to be done at once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Authenticate {
    /// The mechanism's name, as sent; empty where there was none, which no mechanism is called.
    pub mechanism: String,
    /// The initial response, where there is one.
    pub initial: Option<Vec<u8>>,
    /// The client's installation.
    pub user_agent: UserAgent,
    /// All other elements: what the client wants inline.
    pub inline: Vec<Element>,
}

/// `<user-agent/>`: a client's installation, for its user's eyes alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// A UUID, in lower case, the same whenever this client logs in; `None` also where what was sent is no UUID.
    pub id: Option<String>,
    /// What the client calls itself.
    pub software: Option<String>,
    /// On what it runs.
    pub device: Option<String>,
}

/// What a client says during SASL2 negotiation.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// `<authenticate/>`
    Authenticate(Box<Authenticate>),
    /// `<response/>`
    Response(Vec<u8>),
    /// `<next/>`: the task of this name (§2.6.3)
    Next(String),
    /// `<task-data/>`
    TaskData(Element),
    /// `<abort/>`
    Abort,
}

impl Request {
    /// `None` where the element is no request of SASL2; `incorrect-encoding` where its text is not base64.
    pub fn parse(stanza: &Stanza) -> Option<Result<Self, SaslFailure>> {
        if stanza.ns() != ns::SASL2 {
            return None;
        }
        match stanza.name() {
            "authenticate" => Some(authenticate(&stanza.element())),
            "response" => Some(decode(stanza.element().text().trim()).map(Self::Response)),
            "next" => Some(Ok(Self::Next(stanza.element().attr("task").unwrap_or_default().to_owned()))),
            "task-data" => Some(Ok(Self::TaskData(stanza.element()))),
            "abort" => Some(Ok(Self::Abort)),
            _ => None,
        }
    }
}

fn authenticate(element: &Element) -> Result<Request, SaslFailure> {
    let mut request =
        Authenticate { mechanism: element.attr("mechanism").unwrap_or_default().to_owned(), ..Authenticate::default() };
    for child in element.children() {
        match (child.name(), child.ns()) {
            ("initial-response", ns::SASL2) => request.initial = Some(decode(child.text().trim())?),
            ("user-agent", ns::SASL2) => request.user_agent = UserAgent::of(child),
            _ => request.inline.push(child.clone()),
        }
    }
    Ok(Request::Authenticate(Box::new(request)))
}

impl Authenticate {
    /// What the client wants inline of this name.
    pub fn wanted(&self, name: &str, ns: &str) -> Option<&Element> {
        self.inline.iter().find(|element| element.is(name, ns))
    }
}

impl UserAgent {
    fn of(element: &Element) -> Self {
        let text = |name| {
            let text: String = element.child(name, ns::SASL2)?.text().trim().chars().take(TEXT_CHARS_MAX).collect();
            (!text.is_empty()).then_some(text)
        };
        let id = element.attr("id").filter(|id| is_uuid(id)).map(str::to_ascii_lowercase);
        Self { id, software: text("software"), device: text("device") }
    }
}

/// Eight, four, four, four and twelve hexadecimal digits. Not all clients make theirs of version 4.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

impl std::fmt::Debug for Authenticate {
    /// Without what was sent: it may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticate").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// The stream feature `<authentication/>` (§2.1), with what can be had inline. Not to be sent where nothing is offered.
pub fn authentication(offer: &Offer, inline: &[Element]) -> Element {
    let each =
        offer.mechanisms.iter().map(|mechanism| Element::new("mechanism", ns::SASL2).with_text(mechanism.name()));
    let inline = (!inline.is_empty()).then(|| Element::new("inline", ns::SASL2).with_all(inline.iter().cloned()));
    Element::new("authentication", ns::SASL2).with_all(each).with_all(inline).with_all(upgrade::features(offer))
}

/// `<challenge/>`; empty where there is no data.
pub fn challenge(data: &[u8]) -> Element {
    let challenge = Element::new("challenge", ns::SASL2);
    if data.is_empty() { challenge } else { challenge.with_text(BASE64.encode(data)) }
}

/// `<success/>` for this address (§2.6.1): bare, or full where a resource is bound.
pub fn success(data: Option<&[u8]>, address: &str, additions: impl IntoIterator<Item = Element>) -> Element {
    let mut success = Element::new("success", ns::SASL2);
    if let Some(data) = data {
        success.push(Element::new("additional-data", ns::SASL2).with_text(BASE64.encode(data)));
    }
    success.with(Element::new("authorization-identifier", ns::SASL2).with_text(address)).with_all(additions)
}

/// `<failure/>` (§2.6.2).
pub fn failure(failure: SaslFailure) -> Element {
    Element::new("failure", ns::SASL2).with(Element::new(failure.name(), ns::SASL))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ID: &str = "D4565FA7-4d72-4749-b3d3-740edbf87770";

    fn parse(xml: &str) -> Option<Result<Request, SaslFailure>> {
        Request::parse(&Stanza::parse(xml.as_bytes()).unwrap())
    }

    fn authenticate(content: &str) -> Result<Authenticate, SaslFailure> {
        match parse(&format!("<authenticate xmlns='{}' mechanism='PLAIN'>{content}</authenticate>", ns::SASL2)) {
            Some(Ok(Request::Authenticate(request))) => Ok(*request),
            Some(Err(failure)) => Err(failure),
            _ => panic!("{content}"),
        }
    }

    #[test]
    fn no_initial_response_and_an_empty_one_are_not_the_same() {
        assert_eq!(authenticate("").unwrap().initial, None);
        assert_eq!(authenticate("<initial-response/>").unwrap().initial, Some(Vec::new()));
        assert_eq!(authenticate("<initial-response> biws </initial-response>").unwrap().initial.unwrap(), b"n,,");
        assert_eq!(authenticate("<initial-response>!</initial-response>"), Err(SaslFailure::IncorrectEncoding));
    }

    #[test]
    fn an_id_that_is_no_uuid_is_none_and_texts_are_short() {
        let agent = |id: &str, text: &str| {
            let content = format!("<user-agent id='{id}'><software>{text}</software><device/></user-agent>");
            authenticate(&content).unwrap().user_agent
        };
        assert_eq!(agent(ID, "x").id.unwrap(), ID.to_ascii_lowercase());
        for wrong in ["", "phone", &ID[1..], &ID.replace('-', "0"), &ID.replace('D', "G")] {
            assert_eq!(agent(wrong, "x").id, None, "{wrong}");
        }
        let agent = agent(ID, &"x".repeat(4000));
        assert_eq!(agent.software.unwrap().len(), TEXT_CHARS_MAX);
        assert_eq!(agent.device, None);
    }

    #[test]
    fn what_is_wanted_inline_is_found_by_its_name() {
        let request =
            authenticate("<bind xmlns='urn:xmpp:bind:0'/><user-agent/><resume xmlns='urn:xmpp:sm:3'/>").unwrap();
        assert_eq!(request.inline.len(), 2);
        assert!(request.wanted("bind", ns::BIND2).is_some() && request.wanted("bind", ns::BIND).is_none());
    }

    #[test]
    fn requests_are_told_from_other_elements_and_debug_tells_no_password() {
        let response = format!("<response xmlns='{}'>biws</response>", ns::SASL2);
        assert!(matches!(parse(&response), Some(Ok(Request::Response(data))) if data == b"n,,"));
        assert!(matches!(parse(&format!("<abort xmlns='{}'/>", ns::SASL2)), Some(Ok(Request::Abort))));
        assert!(parse(&format!("<response xmlns='{}'/>", ns::SASL)).is_none());
        assert!(parse(&format!("<success xmlns='{}'/>", ns::SASL2)).is_none());
        let text = format!("{:?}", authenticate("<initial-response>c2VjcmV0</initial-response>").unwrap());
        assert_eq!(text, "Authenticate { mechanism: \"PLAIN\", .. }");
    }
}
