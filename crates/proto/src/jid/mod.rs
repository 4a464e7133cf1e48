//! RFC 7622: addresses.
//!
//! An address that exists is prepared and enforced, so that equal addresses are equal strings. All three types share their
//! text: a clone and the bare JID of a full one cost a counter, not an allocation.

mod parts;

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parts::Parts;

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
#[derive(Clone)]
pub struct Jid {
    parts: Parts,
}

/// An address without a resource.
#[derive(Clone)]
pub struct BareJid {
    parts: Parts,
}

/// An address with a resource.
#[derive(Clone)]
pub struct FullJid {
    parts: Parts,
}

impl Jid {
    /// Prepares and enforces.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        Ok(Self { parts: Parts::parse(text)? })
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.parts.as_str()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        self.parts.local()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.parts.domain()
    }
    /// The resourcepart, if there is one.
    pub fn resource(&self) -> Option<&str> {
        self.parts.resource()
    }
    /// The address without its resource. Shares the text.
    pub fn to_bare(&self) -> BareJid {
        BareJid { parts: self.parts.to_bare() }
    }
    /// The address as a full JID, if it has a resource. Shares the text.
    pub fn to_full(&self) -> Option<FullJid> {
        self.clone().try_into().ok()
    }
}

impl BareJid {
    /// Prepares and enforces; [`JidError::Shape`] where there is a resource.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        Jid::parse(text)?.try_into()
    }
    /// From parts, each prepared and enforced.
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<Self, JidError> {
        Ok(Self { parts: Parts::from_parts(local, domain, None)? })
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.parts.as_str()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        self.parts.local()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.parts.domain()
    }
    /// With a resource, prepared and enforced.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        Ok(FullJid { parts: self.parts.with_resource(resource)? })
    }
    /// The bare JID of the domain itself.
    pub fn to_domain(&self) -> BareJid {
        Self { parts: self.parts.to_domain() }
    }

    /// The other addresses under which a server of RFC 6122's time would have stored the address that somebody typed as
    /// `text`, the likeliest first; for a look-up where the address itself is not known.
    ///
    /// Such servers folded what RFC 7622 keeps apart or refuses: `fußball` became `fussball`, `ﬁnn` became `finn`, `henryⅣ`
    /// became `henryiv`. `text` need not be an address today. A resource is ignored. What these servers stored and no
    /// address can be today, as `♚@example.com`, has no candidate.
    pub fn legacy_candidates(text: &str) -> Vec<BareJid> {
        let (local, domain, _) = parts::split(text);
        let local_folded =
            local.and_then(|local| parts::bounded(local).and_then(|local| stringprep::nodeprep(local).ok()));
        let domain_folded = parts::bounded(domain).and_then(|domain| stringprep::nameprep(domain).ok());
        if local.is_some() && local_folded.is_none() {
            return Vec::new();
        }
        let local_folded = local_folded.as_deref();
        let domain_folded = domain_folded.as_deref().unwrap_or(domain);
        let given = Self::from_parts(local, domain).ok();
        let mut candidates = Vec::new();
        for (local, domain) in [(local_folded, domain), (local_folded, domain_folded), (local, domain_folded)] {
            match Self::from_parts(local, domain) {
                Ok(jid) if Some(&jid) != given.as_ref() && !candidates.contains(&jid) => candidates.push(jid),
                _ => {}
            }
        }
        candidates
    }
}

impl FullJid {
    /// Prepares and enforces; [`JidError::Shape`] where there is no resource.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        Jid::parse(text)?.try_into()
    }
    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.parts.as_str()
    }
    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        self.parts.local()
    }
    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.parts.domain()
    }
    /// The resourcepart.
    pub fn resource(&self) -> &str {
        self.parts.resource().expect("only addresses with a resource become a FullJid")
    }
    /// The address without its resource. Shares the text.
    pub fn to_bare(&self) -> BareJid {
        BareJid { parts: self.parts.to_bare() }
    }
    /// The whole address. Shares the text.
    pub fn to_text(&self) -> Arc<str> {
        self.parts.to_text()
    }
}

/// Prepares and enforces a domainpart alone: as a served domain stands in the configuration.
pub fn parse_domain(text: &str) -> Result<String, JidError> {
    parts::domain(text).map(Cow::into_owned)
}

// Equality, order and hash are those of the string, so that a map keyed by addresses can be asked with a `&str`.
macro_rules! common {
    ($($jid:ident)*) => {$(
        impl PartialEq for $jid {
            fn eq(&self, other: &Self) -> bool {
                self.parts.eq(&other.parts)
            }
        }
        impl Eq for $jid {}
        impl PartialOrd for $jid {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $jid {
            fn cmp(&self, other: &Self) -> Ordering {
                self.as_str().cmp(other.as_str())
            }
        }
        impl Hash for $jid {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }
        impl PartialEq<str> for $jid {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }
        impl PartialEq<&str> for $jid {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
        impl Borrow<str> for $jid {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
        impl fmt::Display for $jid {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
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
    fn from(jid: BareJid) -> Self {
        Self { parts: jid.parts }
    }
}
impl From<FullJid> for Jid {
    fn from(jid: FullJid) -> Self {
        Self { parts: jid.parts }
    }
}
impl TryFrom<Jid> for BareJid {
    type Error = JidError;
    fn try_from(jid: Jid) -> Result<Self, JidError> {
        if jid.resource().is_none() { Ok(Self { parts: jid.parts }) } else { Err(JidError::Shape) }
    }
}
impl TryFrom<Jid> for FullJid {
    type Error = JidError;
    fn try_from(jid: Jid) -> Result<Self, JidError> {
        if jid.resource().is_some() { Ok(Self { parts: jid.parts }) } else { Err(JidError::Shape) }
    }
}

#[cfg(test)]
mod tests;
