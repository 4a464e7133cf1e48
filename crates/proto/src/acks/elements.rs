//! XEP-0198 §3 to §6: the elements.

use std::io::Write;

use crate::xml::{Kind, Stanza};
use crate::{Element, StanzaCondition, ns};

/// An element of stream management, at the top of a stream or inside SASL2 and Bind 2 (§9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamManagement {
    /// `<enable/>`
    Enable {
        /// Whether the stream shall be resumable.
        resume: bool,
        /// For how long after a disconnection, in seconds, the client would like it to be.
        max_seconds: Option<u32>,
    },
    /// `<enabled/>`
    Enabled {
        /// Whether the stream is resumable.
        resume: bool,
        /// By which name it is resumed; there if it is resumable.
        id: Option<String>,
        /// For how long after a disconnection, in seconds.
        max_seconds: Option<u32>,
        /// Where the server would like the client to reconnect: host or address, and port.
        location: Option<String>,
    },
    /// `<r/>`
    Request,
    /// `<a/>`
    Ack {
        /// How many stanzas were handled.
        h: u32,
    },
    /// `<resume/>`
    Resume {
        /// How many stanzas were handled.
        h: u32,
        /// The stream's name, as `<enabled/>` gave it.
        previd: String,
    },
    /// `<resumed/>`
    Resumed {
        /// How many stanzas were handled.
        h: u32,
        /// The stream's name, as `<enabled/>` gave it.
        previd: String,
    },
    /// `<failed/>`
    Failed {
        /// Why, where the peer says it in a way that is known.
        condition: Option<StanzaCondition>,
        /// How many stanzas were handled before the stream timed out.
        h: Option<u32>,
    },
}

/// Why an element is none of stream management.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagementError {
    /// It has another namespace, or a name that the namespace does not define.
    #[error("not an element of stream management")]
    Unknown,
    /// This attribute is missing or has no such value.
    #[error("the attribute '{0}' is missing or malformed")]
    Attribute(&'static str),
}

impl StreamManagement {
    /// Parses a top-level element.
    pub fn parse(stanza: &Stanza) -> Result<Self, ManagementError> {
        if stanza.kind() != Kind::Other || stanza.ns() != ns::SM {
            return Err(ManagementError::Unknown);
        }
        // The most frequent ones, as nearly everybody writes them, need no tree.
        if stanza.name() == "r" {
            return Ok(Self::Request);
        }
        if let Some(h) = plain_ack(stanza.bytes()) {
            return Ok(Self::Ack { h });
        }
        Self::from_element(&stanza.element())
    }

    /// Parses an element wherever it stands.
    pub fn from_element(element: &Element) -> Result<Self, ManagementError> {
        if element.ns() != ns::SM {
            return Err(ManagementError::Unknown);
        }
        let text = |name| element.attr(name).map(str::to_owned);
        Ok(match element.name() {
            "enable" => Self::Enable { resume: boolean(element, "resume")?, max_seconds: seconds(element)? },
            "enabled" => Self::Enabled {
                resume: boolean(element, "resume")?,
                id: text("id"),
                max_seconds: seconds(element)?,
                location: text("location"),
            },
            "r" => Self::Request,
            "a" => Self::Ack { h: count(element)?.ok_or(ManagementError::Attribute("h"))? },
            name @ ("resume" | "resumed") => {
                let h = count(element)?.ok_or(ManagementError::Attribute("h"))?;
                let previd = text("previd").ok_or(ManagementError::Attribute("previd"))?;
                if name == "resume" { Self::Resume { h, previd } } else { Self::Resumed { h, previd } }
            }
            "failed" => Self::Failed { condition: condition(element), h: count(element)? },
            _ => return Err(ManagementError::Unknown),
        })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let element = |name| Element::new(name, ns::SM);
        let with = |element: Element, name, value: Option<String>| match value {
            Some(value) => element.with_attr(name, value),
            None => element,
        };
        let number = |value: &Option<u32>| value.map(|value| value.to_string());
        let resumable = |resume: &bool| resume.then(|| "true".to_owned());
        match self {
            Self::Enable { resume, max_seconds } => {
                let element = with(element("enable"), "resume", resumable(resume));
                with(element, "max", number(max_seconds))
            }
            Self::Enabled { resume, id, max_seconds, location } => {
                let element = with(element("enabled"), "id", id.clone());
                let element = with(element, "resume", resumable(resume));
                let element = with(element, "max", number(max_seconds));
                with(element, "location", location.clone())
            }
            Self::Request => element("r"),
            Self::Ack { h } => element("a").with_attr("h", h.to_string()),
            Self::Resume { h, previd } => element("resume").with_attr("h", h.to_string()).with_attr("previd", previd),
            Self::Resumed { h, previd } => element("resumed").with_attr("h", h.to_string()).with_attr("previd", previd),
            Self::Failed { condition, h } => {
                let element = with(element("failed"), "h", number(h));
                element.with_all(condition.map(|condition| Element::new(condition.name(), ns::STANZA_ERRORS)))
            }
        }
    }

    /// Writes it as a top-level element, in canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Request => out.extend_from_slice(REQUEST),
            Self::Ack { h } => {
                out.extend_from_slice(ACK_BEGIN);
                write!(out, "{h}").expect("a vector takes everything");
                out.extend_from_slice(ACK_END);
            }
            _ => self.element().write(ns::CLIENT, out),
        }
    }

    /// As a top-level element.
    pub fn stanza(&self) -> Stanza {
        Stanza::new(&self.element())
    }
}

const REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";
const ACK_BEGIN: &[u8] = b"<a xmlns='urn:xmpp:sm:3' h='";
const ACK_END: &[u8] = b"'/>";

/// The count of an acknowledgement that has nothing but its count.
fn plain_ack(bytes: &[u8]) -> Option<u32> {
    let h = bytes.strip_prefix(ACK_BEGIN)?.strip_suffix(ACK_END)?;
    if h.is_empty() || !h.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(h).ok()?.parse().ok()
}

fn boolean(element: &Element, name: &'static str) -> Result<bool, ManagementError> {
    match element.attr(name).map(str::trim) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(ManagementError::Attribute(name)),
    }
}

fn count(element: &Element) -> Result<Option<u32>, ManagementError> {
    element.attr("h").map(|h| h.trim().parse().map_err(|_| ManagementError::Attribute("h"))).transpose()
}

/// The schema sets no upper bound; a longer time than the type holds is as good as its longest.
fn seconds(element: &Element) -> Result<Option<u32>, ManagementError> {
    let Some(max) = element.attr("max").map(str::trim) else { return Ok(None) };
    if max.is_empty() || !max.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ManagementError::Attribute("max"));
    }
    Ok(Some(max.parse().unwrap_or(u32::MAX)))
}

fn condition(element: &Element) -> Option<StanzaCondition> {
    use StanzaCondition as C;
    const ALL: [StanzaCondition; 22] = [
        C::BadRequest,
        C::Conflict,
        C::FeatureNotImplemented,
        C::Forbidden,
        C::Gone,
        C::InternalServerError,
        C::ItemNotFound,
        C::JidMalformed,
        C::NotAcceptable,
        C::NotAllowed,
        C::NotAuthorized,
        C::PolicyViolation,
        C::RecipientUnavailable,
        C::Redirect,
        C::RegistrationRequired,
        C::RemoteServerNotFound,
        C::RemoteServerTimeout,
        C::ResourceConstraint,
        C::ServiceUnavailable,
        C::SubscriptionRequired,
        C::UndefinedCondition,
        C::UnexpectedRequest,
    ];
    let name = element.children().find(|child| child.ns() == ns::STANZA_ERRORS)?.name();
    ALL.into_iter().find(|condition| condition.name() == name)
}
