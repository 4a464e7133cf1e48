//! XEP-0199: XMPP Ping
//!
//! Answers pings to the server and to accounts, and asks a silent client whether it is there.

use std::sync::Arc;

use magpie_proto::ns;
use magpie_proto::xml::{Element, Stanza};

use super::{About, Module};
use crate::registry::SessionHandle;
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::{Deps, random_text};

/// The namespace.
pub const NS: &str = "urn:xmpp:ping";

/// The module.
pub struct Ping;

impl Module for Ping {
    const ABOUT: &'static [About] = &[About {
        xep: Some(199),
        title: "XMPP Ping",
        version: "2.0.1",
        host_features: &[NS],
        account_features: &[NS],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        for target in [To::Host, To::OwnAccount] {
            requests.own_now(target, Verb::Get, ("ping", NS), self, Self::answer);
        }
    }
}

impl Ping {
    fn answer(&self, _query: &Query<'_>) -> Reply {
        Ok(None)
    }
}

/// A ping to a session that was silent for long. Any byte of it is an answer.
pub fn ask(session: &SessionHandle) -> Stanza {
    Stanza::new(
        &Element::new("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("from", session.jid.domain())
            .with_attr("to", session.jid.as_str())
            .with_attr("id", random_text(6))
            .with(Element::new("ping", NS)),
    )
}
