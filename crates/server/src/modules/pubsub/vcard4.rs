//! XEP-0292: vCard4 Over XMPP
//!
//! One business card, whichever of two forms a client knows: what is published at the node goes into the vCard of XEP-0054 where
//! everybody may see it, and what is stored there is published. Pictures stay with the avatar (XEP-0084, 0153).

mod mapping;

use std::sync::Arc;

use magpie_proto::xeps::pubsub::NS;
use magpie_proto::xeps::pubsub_config::{AccessModel, NodeConfig, SendLast};
use magpie_proto::{BareJid, Element};

use self::mapping::{to_vcard_temp, to_vcard4};
use super::Pubsub;
use super::storage::Place;
use crate::requests::{Query, Reply};
use crate::server::Server;

/// The node (§4.1).
pub(super) const NODE: &str = "urn:xmpp:vcard4";

/// The node with cards of contacts, for nobody else (§5.2).
pub(super) const CONTACTS: &str = "urn:xmpp:contacts";

/// The namespace of a card (RFC 6351).
pub(super) const NS_VCARD: &str = "urn:ietf:params:xml:ns:vcard-4.0";

impl Pubsub {
    /// The account published its card: the older form gets it, if everybody may see it.
    pub(super) async fn vcard4_published(&self, server: &Arc<Server>, place: &Place) {
        let Ok(Some(node)) = self.storage.node(place, NODE).await else { return };
        let Ok(Some(item)) = self.storage.last(place, NODE, &node).await else { return };
        let Some(card) = item.payload().filter(|payload| payload.is("vcard", NS_VCARD)) else { return };
        if node.config.access != AccessModel::Open {
            return;
        }
        let vcards = &server.modules.vcard;
        let Ok(before) = vcards.of(&place.address).await else { return };
        let vcard = to_vcard_temp(card, before.as_ref());
        if before.as_ref() != Some(&vcard)
            && let Err(error) = vcards.replace(server, &place.address, vcard, || ()).await
        {
            tracing::debug!(%error, account = %place.address, "a vCard was not converted");
        }
    }

    /// The account stored a card of the older form: it is published.
    pub async fn vcard_stored(&self, server: &Arc<Server>, account: &BareJid, vcard: &Element) {
        let place = Place::account(account);
        let Ok(node) = self.storage.node(&place, NODE).await else { return };
        let before = match &node {
            Some(node) => self.storage.last(&place, NODE, node).await.ok().flatten(),
            None => None,
        };
        let known = before.as_ref().and_then(|item| item.payload());
        let card = to_vcard4(vcard, known);
        // A card of nothing but a picture is none yet.
        if known == Some(&card) || known.is_none() && card.children().all(|property| property.is("fn", NS_VCARD) && is_empty(property)) {
            return;
        }
        let id = before.as_ref().map_or("current", |item| item.id());
        let item = Element::new("item", NS).with_attr("id", id).with(card);
        if let Err(error) = self.publish_items(server, &place, NODE, account, &[&item], None, |_| ()).await {
            tracing::debug!(%error, %account, "a vCard was not converted");
        }
    }

    /// Somebody asks for a card that nobody has published: there may be one of the older form.
    pub(super) async fn import_vcard(&self, server: &Arc<Server>, place: &Place) {
        if let Ok(Some(vcard)) = server.modules.vcard.of(&place.address).await {
            self.vcard_stored(server, &place.address, &vcard).await;
        }
    }

    /// §6: the card of a host.
    #[allow(clippy::unused_self, reason = "owners of requests are methods")]
    pub(super) fn vcard4_of_host(&self, query: &Query<'_>) -> Reply {
        let property = |name, kind, value: &str| {
            Element::new(name, NS_VCARD).with(Element::new(kind, NS_VCARD).with_text(value))
        };
        let card = Element::new("vcard", NS_VCARD)
            .with(property("fn", "text", query.to.domain()))
            .with(property("note", "text", "An XMPP server that runs Magpie."))
            .with(property("impp", "uri", &format!("xmpp:{}", query.to.domain())))
            .with(property("kind", "text", "application"));
        Ok(Some(card))
    }
}

/// A card is for everybody and asked for, not sent: a notification only says that it has changed (§4.1, §4.2.2, XEP-0222 §2).
pub(super) fn configuration() -> NodeConfig {
    NodeConfig { access: AccessModel::Open, send_last: SendLast::Never, payloads: false, ..NodeConfig::personal() }
}

/// Whether there is no text in an element, nor in what it contains.
fn is_empty(element: &Element) -> bool {
    element.text().trim().is_empty() && element.children().all(is_empty)
}
