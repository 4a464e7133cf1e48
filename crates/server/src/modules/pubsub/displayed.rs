//! XEP-0490: Message Displayed Synchronization
//!
//! How far a user has read each chat is an item for each at a node of its own, for its other clients. A client may say so in the
//! message by which it tells the sender: the server takes it out, before anybody sees it, and publishes it.

use magpie_proto::{BareJid, Element, Jid};
use magpie_proto::xeps::pubsub::NS;
use magpie_proto::xeps::pubsub_config::{AccessModel, NodeConfig, SendLast};
use magpie_proto::xml::Stanza;

use super::Pubsub;
use super::storage::Place;
use crate::modules::stanza_ids;
use crate::pipeline::Outgoing;
use crate::server::Server;
use crate::services::Service;

/// The node, and the namespace of its items.
pub(super) const NODE: &str = "urn:xmpp:mds:displayed:0";

/// That the server publishes on behalf of clients (§3.5.2).
pub(super) const ASSIST: &str = "urn:xmpp:mds:server-assist:0";

/// Whether a message says how far its sender has read.
pub fn says_displayed(message: &Stanza) -> bool {
    // Hardly any does, and the index shows that.
    message.child("displayed", NODE).is_some()
}

impl Pubsub {
    /// A step: what a message says of how far its sender has read is published, and no part of it any more (§4.2).
    pub async fn take_displayed(&self, outgoing: Outgoing) -> Outgoing {
        let Some(displayed) = outgoing.stanza.child("displayed", NODE).map(|child| child.element()) else { return outgoing };
        if let Some(chat) = outgoing.stanza.to() {
            let account = &outgoing.session.account;
            // §4.2: the address as it stands is the id.
            let item = Element::new("item", NS).with_attr("id", &*chat).with(displayed);
            let place = Place::account(account);
            let server = &outgoing.server;
            match self.publish_items(server, &place, NODE, account, &[&item], None).await {
                Ok((_, kept)) => {
                    read(server, account, &[&item]).await;
                    kept.tell(server).await;
                }
                Err(error) => tracing::debug!(%error, %account, "how far a chat was read was not published"),
            }
        }
        let stanza = outgoing.stanza.without_children(|child| child.is("displayed", NODE));
        Outgoing { stanza, ..outgoing }
    }
}

/// The account's inbox counts as read what these items say (XEP-0430); of a room by the room's own ids.
pub(super) async fn read(server: &Server, account: &BareJid, items: &[&Element]) {
    for item in items {
        let stanza_id = item.child("displayed", NODE).and_then(|displayed| displayed.child("stanza-id", stanza_ids::NS));
        let by = |id: &&Element| id.attr("by").and_then(|by| Jid::parse(by).ok());
        let chat = item.attr("id").and_then(|id| Jid::parse(id).ok());
        if let (Some(id), Some(room)) = (stanza_id, chat.as_ref().filter(|chat| server.service_at(chat.domain()) == Some(Service::Muc))) {
            if by(&id) == Some(room.to_bare().into()) {
                read_room(server, account, &room.to_bare(), id.attr("id").unwrap_or_default()).await;
            }
            continue;
        }
        let own = stanza_id.filter(|id| by(id) == Some(account.clone().into()));
        let (Some(id), Some(chat)) = (own.and_then(|own| own.attr("id")), chat) else { continue };
        if let Some(ticket) = server.modules.inbox.read(server, account, &chat.to_bare(), id)
            && let Err(error) = ticket.await
        {
            tracing::warn!(%error, %account, "a chat that was read is not counted as read");
        }
    }
}

async fn read_room(server: &Server, account: &BareJid, room: &BareJid, id: &str) {
    let read = match server.modules.muc.read(account, room, id).await {
        Ok(Some(ticket)) => ticket.await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = read {
        tracing::warn!(%error, %account, %room, "a room that was read is not counted as read");
    }
}

/// What its publish-options ask for (§3.2).
pub(super) fn configuration() -> NodeConfig {
    NodeConfig { access: AccessModel::Whitelist, max_items: None, send_last: SendLast::Never, ..NodeConfig::personal() }
}
