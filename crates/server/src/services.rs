//! The domains of services: what answers at `pubsub.example.org` where `example.org` is served.
//!
//! A service has no accounts. Its module owns requests to [`To::Service`](crate::requests::To::Service), and gets messages and presence from
//! `pipeline.rs`.

use std::sync::Arc;

use magpie_proto::{BareJid, Jid, Stanza, StanzaError};

use crate::modules::pubsub;
use crate::pipeline::host_receives_message;
use crate::promise::Promise;
use crate::server::Server;

/// What answers at a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// XEP-0060
    Pubsub,
    /// XEP-0045
    Muc,
}

impl Service {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Pubsub, Self::Muc];

    /// What stands before the served domain.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pubsub => "pubsub",
            Self::Muc => "conference",
        }
    }

    /// A name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pubsub => "Publish-Subscribe",
            Self::Muc => "Multi-User Chat",
        }
    }

    /// Where it answers for a served domain. `None`: that would be no domain.
    pub fn address(self, domain: &str) -> Option<BareJid> {
        BareJid::from_parts(None, &format!("{}.{domain}", self.label())).ok()
    }

    /// Which service answers at a domain, if it is none that is served itself.
    pub fn at(domain: &str, serves: impl Fn(&str) -> bool) -> Option<Self> {
        let (label, rest) = domain.split_once('.')?;
        let service = Self::ALL.iter().copied().find(|service| service.label() == label)?;
        (serves(rest) && !serves(domain)).then_some(service)
    }

    /// A message to the service; those to rooms take a way of their own.
    pub fn receive_message(self, server: &Arc<Server>, to: &Jid, message: &Stanza) -> Result<Promise, StanzaError> {
        match self {
            Self::Pubsub if pubsub::is_decision(message) => {
                server.modules.pubsub.receive_message(server, &to.to_bare(), message);
                Ok(Promise::kept())
            }
            Self::Pubsub | Self::Muc => host_receives_message(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_answers_below_each_served_domain_that_has_no_accounts_there() {
        let serves = |domain: &str| ["example.org", "pubsub.example.net", "example.net"].contains(&domain);
        assert_eq!(Service::at("pubsub.example.org", serves), Some(Service::Pubsub));
        for other in ["pubsub.example.com", "pubsub.example.net", "example.org", "x.example.org", "pubsub", ""] {
            assert_eq!(Service::at(other, serves), None, "{other}");
        }
        let address = Service::Pubsub.address("example.org");
        assert_eq!(address.as_ref().map(BareJid::as_str), Some("pubsub.example.org"));
    }
}
