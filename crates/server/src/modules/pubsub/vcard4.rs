//! XEP-0292: vCard4 Over XMPP
//!
//! One business card, whichever of two forms a client knows: what is published at the node goes into the vCard of XEP-0054 where
//! everybody may see it, and what is stored there is published. Pictures stay with the avatar (XEP-0084, 0153).

mod mapping;

use magpie_proto::xeps::pubsub::NS;
use magpie_proto::xeps::pubsub_config::{AccessModel, NodeConfig, SendLast};
use magpie_proto::{BareJid, Element, StanzaError};

use self::mapping::{to_vcard_temp, to_vcard4};
use super::storage::{Change, Item, Place};
use super::{Kept, Pubsub};
use crate::modules::vcard::{Vcard, check_size};
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
    pub(super) async fn vcard4_published(&self, server: &Server, change: &mut Change<'_>) -> Result<(), StanzaError> {
        let Some(node) = change.node(NODE).await? else { return Ok(()) };
        let item = change.last(NODE, &node).await?;
        let payload = item.as_ref().and_then(Item::payload);
        let Some(card) = payload.filter(|payload| payload.is("vcard", NS_VCARD)) else { return Ok(()) };
        if node.config.access != AccessModel::Open {
            return Ok(());
        }
        let account = &change.place().address;
        let before = server.modules.vcard.of(account).await?;
        let vcard = to_vcard_temp(card, before.as_ref());
        if before.as_ref() == Some(&vcard) {
            return Ok(());
        }
        if let Err(error) = check_size(&vcard, server.config().limits.stored_bytes_max) {
            tracing::debug!(%error, %account, "a vCard was not converted");
            return Ok(());
        }
        // It keeps the picture that it had.
        change.put_vcard(Vcard::new(vcard));
        Ok(())
    }

    /// The account stores a card of the older form; with it the newer one is published, and the picture if it is another one.
    pub async fn store_vcard(&self, server: &Server, account: &BareJid, vcard: Vcard) -> Result<Kept, StanzaError> {
        let place = Place::account(account);
        let _turn = self.turn(&place).await;
        let mut change = self.storage.change(&place);
        let before = server.modules.vcard.stored(account).await?;
        let picture = vcard.picture();
        let element = vcard.element().clone();
        let is_other = before.as_ref().map_or("", Vcard::photo) != vcard.photo();
        change.put_vcard(vcard);
        if is_other {
            self.put_avatar(server, &mut change, picture.as_ref()).await?;
        }
        self.put_vcard4(server, &mut change, &element).await?;
        self.commit(server, change).await
    }

    async fn put_vcard4(&self, server: &Server, change: &mut Change<'_>, vcard: &Element) -> Result<(), StanzaError> {
        let before = match change.node(NODE).await? {
            Some(node) => change.last(NODE, &node).await?,
            None => None,
        };
        let known = before.as_ref().and_then(Item::payload);
        let card = to_vcard4(vcard, known);
        // A card of nothing but a picture is none yet.
        if known == Some(&card) || known.is_none() && card.children().all(|property| property.is("fn", NS_VCARD) && is_empty(property)) {
            return Ok(());
        }
        let id = before.as_ref().map_or("current", |item| item.id());
        let item = Element::new("item", NS).with_attr("id", id).with(card);
        self.put_copy(server, change, NODE, &item, None).await
    }

    /// Somebody asks for a card that nobody has published: there may be one of the older form.
    pub(super) async fn import_vcard(&self, server: &Server, change: &mut Change<'_>) -> Result<(), StanzaError> {
        match server.modules.vcard.of(&change.place().address).await? {
            Some(vcard) => self.put_vcard4(server, change, &vcard).await,
            None => Ok(()),
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
