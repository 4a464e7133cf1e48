//! XEP-0280: Message Carbons
//!
//! Copies a user's messages to the user's other sessions that asked for it: what one session sends, and what arrives for
//! another. A copy is made once and shared by all that get it.

use std::sync::Arc;

use magpie_proto::xeps::forwarding::Forwarded;
use magpie_proto::xeps::hints::Hints;
use magpie_proto::xml::{Element, Kind, Stanza};
use magpie_proto::{BareJid, Jid, ns};

use super::bind2::Binding;
use super::{About, Module};
use crate::mailbox::{Addressee, Delivery};
use crate::registry::{Account, Registry, Resource, SessionHandle, SessionId};
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::{Deps, Server};

const NS: &str = "urn:xmpp:carbons:2";
const NS_RULES: &str = "urn:xmpp:carbons:rules:0";
const NS_MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// The module.
pub struct Carbons {
    registry: Arc<Registry>,
}

impl Module for Carbons {
    const ABOUT: &'static [About] = &[About {
        xep: Some(280),
        title: "Message Carbons",
        version: "1.0.1",
        host_features: &[NS, NS_RULES],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { registry: Arc::clone(&deps.registry) }
    }

    const BIND_FEATURES: &'static [&'static str] = &[NS];

    async fn bound(&self, binding: &mut Binding<'_>) -> Vec<Element> {
        if binding.request.child("enable", NS).is_some() {
            let session = binding.session;
            self.registry.with(&session.account, |account| account.map(|account| account.set_carbons(session.id, true)));
        }
        Vec::new()
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        for target in [To::OwnAccount, To::Host] {
            requests.own_now(target, Verb::Set, ("enable", NS), self, Self::enable);
            requests.own_now(target, Verb::Set, ("disable", NS), self, Self::disable);
        }
    }
}

impl Carbons {
    fn enable(&self, query: &Query<'_>) -> Reply {
        self.set(query, true)
    }

    fn disable(&self, query: &Query<'_>) -> Reply {
        self.set(query, false)
    }

    fn set(&self, query: &Query<'_>, wanted: bool) -> Reply {
        let session = query.session()?;
        self.registry.with(&session.account, |account| account.map(|account| account.set_carbons(session.id, wanted)));
        Ok(None)
    }
}

/// Whether another session of the sender's account asked for copies, so that [`copy_sent`] has something to do.
pub fn are_wanted(account: &Account, sender: &SessionHandle) -> bool {
    account.resources.iter().any(|resource| resource.wants_carbons() && resource.session.id != sender.id)
}

/// A step: a message that a session sent, to the sender's other sessions.
pub fn copy_sent(server: &Server, sender: &SessionHandle, message: &Stanza, to: &Jid) {
    server.registry().with(&sender.account, |account| {
        let Some(account) = account else { return };
        let others = account.resources.iter().filter(|resource| resource.session.id != sender.id);
        // What goes to the own account is copied where it arrives.
        copy(others, &sender.account, message, "sent", || to.to_bare() != sender.account);
    });
}

/// A step: a message that arrived for an account, to the sessions that did not get it. Runs under the registry's lock for the account.
pub fn copy_received(account: &Account, name: &BareJid, message: &Stanza, recipients: &[SessionId]) {
    let sender = message.from();
    // A room sends a private message to each session that is in it (§6.1).
    let is_from_occupant = || message.child("x", NS_MUC_USER).is_some_and(|x| x.element().children().next().is_none());
    let others = account.resources.iter().filter(|resource| {
        !recipients.contains(&resource.session.id)
            // Its own message needs no copy.
            && sender.as_deref() != Some(resource.session.jid.as_str())
    });
    copy(others, name, message, "received", || !is_from_occupant());
}

/// Copies the message to those of the sessions that asked for it, if it is eligible and `may` be copied at all.
fn copy<'a>(
    to: impl Iterator<Item = &'a Resource>,
    account: &BareJid,
    message: &Stanza,
    direction: &str,
    may: impl FnOnce() -> bool,
) {
    let mut wanted = to.filter(|resource| resource.wants_carbons()).peekable();
    // Most people have one session: nothing is asked of the message where nobody wants a copy.
    if wanted.peek().is_none() || !is_eligible(message) || !may() {
        return;
    }
    let mut wrapper = Element::new("message", ns::CLIENT).with_attr("from", account);
    if let Some(kind) = message.type_() {
        wrapper.set_attr("type", kind);
    }
    let carbon = Element::new(direction, NS).with(Forwarded::new(message.clone()).element());
    let carbon = Stanza::new(&wrapper.with(carbon));
    for resource in wanted {
        // A copy that finds no room is dropped: the message itself is with its recipient.
        resource.session.mailbox.deliver(Delivery::to(carbon.clone(), Addressee::Session));
    }
}

/// §6.1, all of its rules.
fn is_eligible(message: &Stanza) -> bool {
    if message.kind() != Kind::Message || message.child("private", NS).is_some() || Hints::of(message).no_copy {
        return false;
    }
    // A copy of a copy would never end.
    if message.child("sent", NS).is_some() || message.child("received", NS).is_some() {
        return false;
    }
    match message.type_().as_deref() {
        Some("chat") => true,
        Some("groupchat" | "headline") => false,
        // An error answers something; whether that was eligible is seen by what it repeats.
        Some("error") => message.child("body", ns::CLIENT).is_some() || has_im_payload(message),
        _ => {
            message.child("body", ns::CLIENT).is_some()
                || has_im_payload(message)
                || message.child("x", "jabber:x:conference").is_some()
                || message
                    .child("x", NS_MUC_USER)
                    .is_some_and(|x| x.element().child("invite", NS_MUC_USER).is_some())
        }
    }
}

fn has_im_payload(message: &Stanza) -> bool {
    message.children().any(|child| {
        matches!(
            child.ns,
            "urn:xmpp:receipts" | ns::CHAT_STATES | "urn:xmpp:chat-markers:0"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn eligible(xml: &str) -> bool {
        is_eligible(&Stanza::parse(xml.as_bytes()).unwrap())
    }

    #[test]
    fn chat_is_copied_with_or_without_a_body() {
        assert!(eligible("<message type='chat'/>"));
        assert!(eligible("<message><body>x</body></message>"));
        assert!(!eligible("<message/>"));
    }

    #[test]
    fn receipts_and_invitations_are_copied() {
        assert!(eligible("<message><received xmlns='urn:xmpp:receipts' id='x'/></message>"));
        assert!(eligible("<message><x xmlns='jabber:x:conference' jid='room@example.org'/></message>"));
        assert!(eligible(
            "<message><x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@example.org'/></x></message>"
        ));
    }

    #[test]
    fn private_groupchat_and_headlines_are_not_copied() {
        assert!(!eligible("<message type='chat'><private xmlns='urn:xmpp:carbons:2'/></message>"));
        assert!(!eligible("<message type='chat'><no-copy xmlns='urn:xmpp:hints'/></message>"));
        assert!(!eligible("<message type='groupchat'><body>x</body></message>"));
        assert!(!eligible("<message type='headline'><body>x</body></message>"));
    }

    #[test]
    fn a_copy_is_not_copied() {
        assert!(!eligible("<message type='chat'><received xmlns='urn:xmpp:carbons:2'/></message>"));
    }
}
