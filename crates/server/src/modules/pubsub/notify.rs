//! XEP-0060 §7.1.2 and §12, XEP-0163 §4: who is notified, and where.
//!
//! Of an account's nodes those are notified without a subscription who see its presence and say in their capabilities that they want
//! to be (`NODE+notify`), its own sessions included.

use std::collections::HashSet;
use std::sync::Arc;

use magpie_proto::xeps::pubsub::{NS_EVENT, SubscriptionState};
use magpie_proto::xeps::pubsub_config::SendLast;
use magpie_proto::xml::{Attr, Stanza};
use magpie_proto::{BareJid, Element, Jid, StanzaError, ns};

use super::node::{Asker, Node};
use super::publish::published;
use super::storage::Place;
use super::Pubsub;
use crate::mailbox::{Addressee, Delivery};
use crate::modules::offline::refusal;
use crate::pipeline;
use crate::registry::Account;
use crate::roster::Roster;
use crate::server::{Server, random_text};
use crate::subscription::Subscription;

impl Pubsub {
    /// Tells everybody who wants to know, as far as the node's configuration and access model let them.
    pub(super) async fn notify(&self, server: &Arc<Server>, place: &Place, name: &str, node: &Node, event: &Element) {
        if !node.config.deliver {
            return;
        }
        let message = message(place, node, event);
        let mut told = HashSet::new();
        if place.personal
            && let Err(error) = self.notify_interested(server, place, name, node, &message, &mut told).await
        {
            tracing::warn!(%error, account = %place.address, "contacts could not be notified");
        }
        for (jid, state) in node.subscriptions() {
            if state != SubscriptionState::Subscribed || !node.delivers_to(jid) || told.contains(&jid.to_bare()) {
                continue;
            }
            // Who may not see it any more hears nothing of it.
            match self.asker(server, place, jid).await {
                Ok(asker) if node.may_read(&asker).is_ok() => self.send(server, place, jid, &message).await,
                _ => {}
            }
        }
    }

    /// Sends a message from the place to somebody in particular.
    pub(super) async fn send(&self, server: &Arc<Server>, place: &Place, to: &Jid, message: &Stanza) {
        if !server.serves(to.domain()) {
            return;
        }
        // Whom the account blocks it sends nothing (XEP-0191 §3.3).
        if place.personal && server.modules.blocking.blocks(&place.address, to).await.unwrap_or(true) {
            return;
        }
        let message = message.with(Attr::To, Some(to.as_str()));
        if let Err(error) = Box::pin(pipeline::account_receives_message(server, to, &message, false)).await {
            tracing::debug!(%error, %to, "a notification was refused");
        }
    }

    async fn notify_interested(
        &self,
        server: &Arc<Server>,
        place: &Place,
        name: &str,
        node: &Node,
        message: &Stanza,
        told: &mut HashSet<BareJid>,
    ) -> Result<(), StanzaError> {
        let account = &place.address;
        let roster = server.modules.roster.of(account).await.map_err(refusal)?;
        let blocked = server.modules.blocking.of(account).await.map_err(refusal)?;
        let tell = |contact: &BareJid| {
            server.registry().with(contact, |entry| {
                let Some(entry) = entry else { return false };
                contact != account && blocks(entry, account) || self.tell_sessions(server, entry, name, message)
            })
        };
        if tell(account) {
            told.insert(account.clone());
        }
        for contact in roster.contacts(Subscription::has_from) {
            let jid = contact.jid();
            let asker = asker_of(&roster, account, &jid.clone().into());
            if node.may_read(&asker).is_ok() && !blocked.blocks(&jid.clone().into()) && tell(&jid) {
                told.insert(jid);
            }
        }
        Ok(())
    }

    /// To the sessions that want it: whether there was one.
    fn tell_sessions(&self, server: &Server, entry: &Account, name: &str, message: &Stanza) -> bool {
        let mut any = false;
        for resource in entry.available() {
            if server.modules.caps.wants(resource.session.id, name) {
                any = true;
                resource.session.mailbox.deliver(Delivery::to(message.clone(), Addressee::Session));
            }
        }
        any
    }

    /// §6.1.7: a new subscriber gets the last item.
    pub(super) async fn send_last_to(&self, server: &Arc<Server>, place: &Place, name: &str, node: &Node, to: &Jid) {
        if node.config.send_last == SendLast::Never || !node.config.deliver || !node.delivers_to(to) {
            return;
        }
        if let Ok(Some(item)) = self.storage.last(place, name, node).await {
            let event = published(name, &[&item], node.config.payloads);
            self.send(server, place, to, &message(place, node, &event)).await;
        }
    }

    /// Who somebody is to a place.
    pub(super) async fn asker(&self, server: &Server, place: &Place, jid: &Jid) -> Result<Asker, StanzaError> {
        if !place.personal {
            return Ok(Asker::stranger(jid.clone()));
        }
        let roster = server.modules.roster.of(&place.address).await.map_err(refusal)?;
        Ok(asker_of(&roster, &place.address, jid))
    }
}

fn asker_of(roster: &Roster, account: &BareJid, jid: &Jid) -> Asker {
    let bare = jid.to_bare();
    let seen = bare == *account || roster.state(&bare).subscription.has_from();
    let groups = roster.get(&bare).filter(|item| item.listed).map(|item| item.groups).unwrap_or_default();
    Asker { jid: jid.clone(), sees_presence: seen, groups }
}

fn blocks(entry: &Account, account: &BareJid) -> bool {
    entry.blocked().is_some_and(|list| list.blocks(&account.clone().into()))
}

/// A notification, addressed to nobody yet.
pub(super) fn message(place: &Place, node: &Node, event: &Element) -> Stanza {
    let message = Element::new("message", ns::CLIENT)
        .with_attr("type", node.config.notification.name())
        .with_attr("id", random_text(9))
        .with_attr("from", &place.address)
        .with(Element::new("event", NS_EVENT).with(event.clone()));
    Stanza::new(&message)
}
