//! RFC 7622: addresses.

use std::fmt;

/// Why a string is no address. The part at fault is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// The localpart is empty, too long, or has a character that UsernameCaseMapped or RFC 7622 §3.3.1 forbids.
    #[error("invalid localpart")]
    Localpart,
    /// The domainpart is empty, too long, or is no domain name, IPv4 or IPv6 literal.
    #[error("invalid domainpart")]
    Domainpart,
    /// The resourcepart is empty, too long, or has a character that OpaqueString forbids.
    #[error("invalid resourcepart")]
    Resourcepart,
    /// A full JID was given where a bare JID is needed, or the other way round.
    #[error("a resourcepart is missing or not allowed here")]
    Shape,
}

/// Any address: `domain`, `local@domain`, each with or without `/resource`. Prepared and enforced; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jid {}

/// An address without a resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BareJid {}

/// An address with a resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullJid {}

impl Jid {
    /// Prepares and enforces.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        todo!()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        todo!()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        todo!()
    }
    /// The resourcepart, if there is one.
    pub fn resource(&self) -> Option<&str> {
        todo!()
    }
    /// The address without its resource.
    pub fn to_bare(&self) -> BareJid {
        todo!()
    }
    /// The address as a full JID, if it has a resource.
    pub fn to_full(&self) -> Option<FullJid> {
        todo!()
    }
}

impl BareJid {
    /// Prepares and enforces; [`JidError::Shape`] where there is a resource.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// From parts, each prepared and enforced.
    pub fn from_parts(_local: Option<&str>, _domain: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        todo!()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        todo!()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        todo!()
    }
    /// With a resource, prepared and enforced.
    pub fn with_resource(&self, _resource: &str) -> Result<FullJid, JidError> {
        todo!()
    }
    /// The bare JID of the domain itself.
    pub fn to_domain(&self) -> BareJid {
        todo!()
    }
}

impl FullJid {
    /// Prepares and enforces; [`JidError::Shape`] where there is no resource.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        todo!()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        todo!()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        todo!()
    }
    /// The resourcepart.
    pub fn resource(&self) -> &str {
        todo!()
    }
    /// The address without its resource.
    pub fn to_bare(&self) -> BareJid {
        todo!()
    }
}

/// Prepares and enforces a domainpart alone: as a served domain stands in the configuration.
pub fn parse_domain(_text: &str) -> Result<String, JidError> {
    todo!()
}

macro_rules! common {
    ($($jid:ident)*) => {$(
        impl fmt::Display for $jid {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $jid {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $jid {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl std::str::FromStr for $jid {
            type Err = JidError;
            fn from_str(text: &str) -> Result<Self, JidError> {
                Self::parse(text)
            }
        }
    )*};
}
common!(Jid BareJid FullJid);

impl From<BareJid> for Jid {
    fn from(_: BareJid) -> Self {
        todo!()
    }
}
impl From<FullJid> for Jid {
    fn from(_: FullJid) -> Self {
        todo!()
    }
}
