//! The error tables of RFC 6120: §4.9.3 for streams, §8.3.3 for stanzas.

use std::fmt;

use crate::xml::{Element, Kind, Stanza, XmlError};
use crate::{Jid, ns};

/// RFC 6120 §4.9.3: why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The condition.
    pub condition: StreamCondition,
    /// What a person may want to know.
    pub text: Option<String>,
    /// An application's own condition (§4.9.4).
    pub application: Option<Box<Element>>,
}

impl StreamError {
    /// The condition with a text.
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::from(condition) }
    }

    /// With an application-specific condition.
    pub fn with_application(self, application: Element) -> Self {
        Self { application: Some(Box::new(application)), ..self }
    }

    /// Appends `<stream:error/>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut condition = Element::new(self.condition.name(), ns::STREAM_ERRORS);
        if let StreamCondition::SeeOtherHost(host) = &self.condition {
            condition = condition.with_text(host.clone());
        }
        out.extend_from_slice(b"<stream:error>");
        condition.write(ns::STREAM, out);
        if let Some(text) = &self.text {
            Element::new("text", ns::STREAM_ERRORS)
                .with_attr("xml:lang", "en")
                .with_text(text.clone())
                .write(ns::STREAM, out);
        }
        if let Some(application) = &self.application {
            application.write(ns::STREAM, out);
        }
        out.extend_from_slice(b"</stream:error>");
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self { condition, text: None, application: None }
    }
}

impl From<XmlError> for StreamError {
    fn from(error: XmlError) -> Self {
        let condition = match error {
            XmlError::NotWellFormed(_) => StreamCondition::NotWellFormed,
            XmlError::Restricted(_) => StreamCondition::RestrictedXml,
            XmlError::BadNamespacePrefix => StreamCondition::BadNamespacePrefix,
            XmlError::UnsupportedEncoding => StreamCondition::UnsupportedEncoding,
            XmlError::Limit(_) => StreamCondition::PolicyViolation,
        };
        Self::new(condition, error.to_string())
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.name())?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StreamError {}

/// The conditions of RFC 6120 §4.9.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCondition {
    /// `bad-format`
    BadFormat,
    /// `bad-namespace-prefix`
    BadNamespacePrefix,
    /// `conflict`
    Conflict,
    /// `connection-timeout`
    ConnectionTimeout,
    /// `host-gone`
    HostGone,
    /// `host-unknown`
    HostUnknown,
    /// `improper-addressing`
    ImproperAddressing,
    /// `internal-server-error`
    InternalServerError,
    /// `invalid-from`
    InvalidFrom,
    /// `invalid-namespace`
    InvalidNamespace,
    /// `invalid-xml`
    InvalidXml,
    /// `not-authorized`
    NotAuthorized,
    /// `not-well-formed`
    NotWellFormed,
    /// `policy-violation`
    PolicyViolation,
    /// `remote-connection-failed`
    RemoteConnectionFailed,
    /// `reset`
    Reset,
    /// `resource-constraint`
    ResourceConstraint,
    /// `restricted-xml`
    RestrictedXml,
    /// `see-other-host`
    SeeOtherHost(String),
    /// `system-shutdown`
    SystemShutdown,
    /// `undefined-condition`
    UndefinedCondition,
    /// `unsupported-encoding`
    UnsupportedEncoding,
    /// `unsupported-feature`
    UnsupportedFeature,
    /// `unsupported-stanza-type`
    UnsupportedStanzaType,
    /// `unsupported-version`
    UnsupportedVersion,
}

impl StreamCondition {
    /// The names of all of them, in the document's order.
    pub const NAMES: [&str; 25] = [
        "bad-format",
        "bad-namespace-prefix",
        "conflict",
        "connection-timeout",
        "host-gone",
        "host-unknown",
        "improper-addressing",
        "internal-server-error",
        "invalid-from",
        "invalid-namespace",
        "invalid-xml",
        "not-authorized",
        "not-well-formed",
        "policy-violation",
        "remote-connection-failed",
        "reset",
        "resource-constraint",
        "restricted-xml",
        "see-other-host",
        "system-shutdown",
        "undefined-condition",
        "unsupported-encoding",
        "unsupported-feature",
        "unsupported-stanza-type",
        "unsupported-version",
    ];

    /// The name of the condition's element.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SeeOtherHost(_) => "see-other-host",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }
}

/// RFC 6120 §8.3.2: the `type` of a stanza error, which says what the sender can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Proceed: the condition was only a warning.
    Continue,
    /// Retry after changing the data sent.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

/// RFC 6120 §8.3: why a stanza was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The condition.
    pub condition: StanzaCondition,
    /// What the sender can do; [`StanzaCondition::usual_type`] unless set.
    pub kind: ErrorType,
    /// What a person may want to know.
    pub text: Option<Box<str>>,
    /// An application's own condition (§8.3.4).
    pub application: Option<Box<Element>>,
}

impl StanzaError {
    /// The condition with a text.
    pub fn new(condition: StanzaCondition, text: impl Into<String>) -> Self {
        Self { text: Some(text.into().into()), ..Self::from(condition) }
    }

    /// With another type than the usual one.
    pub fn with_type(self, kind: ErrorType) -> Self {
        Self { kind, ..self }
    }

    /// With an application-specific condition.
    pub fn with_application(self, application: Element) -> Self {
        Self { application: Some(Box::new(application)), ..self }
    }

    /// `<error/>`, as a child of a stanza.
    pub fn element(&self) -> Element {
        let mut error = Element::new("error", ns::CLIENT)
            .with_attr("type", self.kind.name())
            .with(Element::new(self.condition.name(), ns::STANZA_ERRORS));
        if let Some(text) = &self.text {
            error = error.with(Element::new("text", ns::STANZA_ERRORS).with_attr("xml:lang", "en").with_text(&**text));
        }
        match &self.application {
            Some(application) => error.with(Element::clone(application)),
            None => error,
        }
    }

    /// The error stanza that answers `stanza`: same kind and id, addresses swapped, the payload left out.
    /// `None` where RFC 6120 §8.3.1 forbids an answer: to an error, or to an IQ result.
    pub fn reply_to(&self, stanza: &Stanza) -> Option<Stanza> {
        let kind = stanza.type_();
        let answerable = match stanza.kind() {
            Kind::Iq => {
                matches!(kind.as_deref(), Some("get" | "set")) || !matches!(kind.as_deref(), Some("result" | "error"))
            }
            Kind::Message | Kind::Presence => kind.as_deref() != Some("error"),
            Kind::Other => false,
        };
        if !answerable {
            return None;
        }
        // An address that is none cannot be sent back as one (§8.1.1).
        let named = stanza.to().is_some_and(|to| Jid::parse(&to).is_ok());
        Some(stanza.reply("error", named, Some(&self.element())))
    }
}

impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> Self {
        Self { kind: condition.usual_type(), condition, text: None, application: None }
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.name())?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StanzaError {}

/// The conditions of RFC 6120 §8.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StanzaCondition {
    /// `bad-request`
    BadRequest,
    /// `conflict`
    Conflict,
    /// `feature-not-implemented`
    FeatureNotImplemented,
    /// `forbidden`
    Forbidden,
    /// `gone`
    Gone,
    /// `internal-server-error`
    InternalServerError,
    /// `item-not-found`
    ItemNotFound,
    /// `jid-malformed`
    JidMalformed,
    /// `not-acceptable`
    NotAcceptable,
    /// `not-allowed`
    NotAllowed,
    /// `not-authorized`
    NotAuthorized,
    /// `policy-violation`
    PolicyViolation,
    /// `recipient-unavailable`
    RecipientUnavailable,
    /// `redirect`
    Redirect,
    /// `registration-required`
    RegistrationRequired,
    /// `remote-server-not-found`
    RemoteServerNotFound,
    /// `remote-server-timeout`
    RemoteServerTimeout,
    /// `resource-constraint`
    ResourceConstraint,
    /// `service-unavailable`
    ServiceUnavailable,
    /// `subscription-required`
    SubscriptionRequired,
    /// `undefined-condition`
    UndefinedCondition,
    /// `unexpected-request`
    UnexpectedRequest,
}

impl StanzaCondition {
    /// The name of the condition's element.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Conflict => "conflict",
            Self::FeatureNotImplemented => "feature-not-implemented",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::JidMalformed => "jid-malformed",
            Self::NotAcceptable => "not-acceptable",
            Self::NotAllowed => "not-allowed",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::RecipientUnavailable => "recipient-unavailable",
            Self::Redirect => "redirect",
            Self::RegistrationRequired => "registration-required",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
            Self::SubscriptionRequired => "subscription-required",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The type that §8.3.3 gives for it.
    pub fn usual_type(self) -> ErrorType {
        match self {
            Self::Forbidden | Self::NotAuthorized | Self::RegistrationRequired | Self::SubscriptionRequired => {
                ErrorType::Auth
            }
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect
            | Self::UndefinedCondition => ErrorType::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable => ErrorType::Cancel,
        }
    }
}
