//! XEP-0402: PEP Native Bookmarks, XEP-0048: Bookmarks, XEP-0411: Bookmarks Conversion
//!
//! Rooms that a user's clients remember, in one set of data, whichever of three places a client looks at: a node with an item for each
//! room, a node with one item for all, and private storage. The first is what counts; the others are written anew with each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, PUBLISH_OPTIONS};
use magpie_proto::{BareJid, Element, Jid, StanzaError};

use super::Pubsub;
use super::storage::{Item, Part, Place};
use crate::server::Server;

/// XEP-0402: an item for each room.
pub(super) const EACH: &str = "urn:xmpp:bookmarks:1";

/// XEP-0048: one item for all rooms; the name of the element, too.
pub(super) const ALL: &str = "storage:bookmarks";

/// Rooms that are converted; the others stay where they are.
const ROOMS_MAX: usize = 1000;

impl Pubsub {
    /// The account changed its bookmarks at the node with an item for each.
    pub(super) async fn bookmarks_changed(&self, server: &Arc<Server>, place: &Place) {
        if let Err(error) = self.copy_bookmarks(server, place).await {
            tracing::warn!(%error, account = %place.address, "bookmarks were not converted");
        }
    }

    /// The account replaced its bookmarks at the node with one item for all.
    pub(super) async fn bookmarks_replaced(&self, server: &Arc<Server>, place: &Place) {
        if let Some(storage) = self.all_bookmarks(place).await {
            server.modules.private.store_bookmarks(&place.address, &storage).await;
            self.take_bookmarks(server, place, &storage).await;
        }
    }

    /// The account asks for the bookmarks of a node that is not there: they may be in one of the other places, from a client or a
    /// server that knew no other.
    pub(super) async fn import_bookmarks(&self, server: &Arc<Server>, place: &Place, name: &str) {
        if name == ALL && matches!(self.storage.node(place, EACH).await, Ok(Some(_))) {
            return self.bookmarks_changed(server, place).await;
        }
        if let Some(storage) = self.all_bookmarks(place).await {
            return self.take_bookmarks(server, place, &storage).await;
        }
        if let Ok(Some(storage)) = server.modules.private.bookmarks(&place.address).await {
            self.bookmarks_stored(server, &place.address, &storage).await;
        }
    }

    /// The account asks for bookmarks in private storage, where there are none: those of its nodes.
    pub async fn bookmarks_of(&self, account: &BareJid) -> Option<Element> {
        let place = Place::account(account);
        let bookmarks = self.bookmarks(&place).await.ok()?;
        let conferences = bookmarks.iter().filter_map(|(room, item)| Some(conference_of(room, item.payload()?)));
        match bookmarks.is_empty() {
            true => self.all_bookmarks(&place).await,
            false => Some(Element::new("storage", ALL).with_all(conferences)),
        }
    }

    /// The item with all bookmarks.
    async fn all_bookmarks(&self, place: &Place) -> Option<Element> {
        let node = self.storage.node(place, ALL).await.ok()??;
        let last = self.storage.last(place, ALL, &node).await.ok()??;
        last.payload().filter(|payload| payload.is("storage", ALL)).cloned()
    }

    /// The account replaced its bookmarks in private storage.
    pub async fn bookmarks_stored(&self, server: &Arc<Server>, account: &BareJid, storage: &Element) {
        let place = Place::account(account);
        self.take_bookmarks(server, &place, storage).await;
        self.publish_all(server, &place, storage).await;
    }

    /// Makes the items those of an element with all of them, and leaves what is the same as it is.
    async fn take_bookmarks(&self, server: &Arc<Server>, place: &Place, storage: &Element) {
        let Ok(mut known) = self.bookmarks(place).await else { return };
        for conference in storage.children().filter(|child| child.is("conference", ALL)).take(ROOMS_MAX) {
            let Some(room) = conference.attr("jid").and_then(|jid| Jid::parse(jid).ok()) else { continue };
            let room = room.to_bare().to_string();
            let before = known.remove(&room);
            let payload = bookmark_of(conference, before.as_ref().and_then(Item::payload));
            if before.as_ref().and_then(Item::payload) != Some(&payload) {
                let item = Element::new("item", NS).with_attr("id", &room).with(payload);
                self.publish_privately(server, place, EACH, &item).await;
            }
        }
        for room in known.into_keys() {
            if let Err(error) = self.remove_item(server, place, EACH, &room).await {
                tracing::debug!(%error, account = %place.address, "a bookmark was not removed");
            }
        }
    }

    /// Writes the element with all bookmarks anew.
    async fn copy_bookmarks(&self, server: &Arc<Server>, place: &Place) -> Result<(), StanzaError> {
        let bookmarks = self.bookmarks(place).await?;
        let stored = server.modules.private.bookmarks(&place.address).await?;
        let rooms = stored.iter().flat_map(Element::children).filter(|child| child.is("conference", ALL));
        if rooms.count() > ROOMS_MAX {
            // Those that were not converted would be lost.
            return Ok(());
        }
        let others = stored.iter().flat_map(Element::children).filter(|child| !child.is("conference", ALL)).cloned();
        let conferences = bookmarks.iter().filter_map(|(room, item)| Some(conference_of(room, item.payload()?)));
        let storage = Element::new("storage", ALL).with_all(conferences).with_all(others);
        server.modules.private.store_bookmarks(&place.address, &storage).await;
        self.publish_all(server, place, &storage).await;
        Ok(())
    }

    async fn publish_all(&self, server: &Arc<Server>, place: &Place, storage: &Element) {
        let item = Element::new("item", NS).with_attr("id", "current").with(storage.clone());
        self.publish_privately(server, place, ALL, &item).await;
    }

    async fn bookmarks(&self, place: &Place) -> Result<BTreeMap<String, Item>, StanzaError> {
        let Some(node) = self.storage.node(place, EACH).await? else { return Ok(BTreeMap::new()) };
        let items = self.storage.items(place, EACH, &node, &Part::After(None), ROOMS_MAX).await?;
        Ok(items.into_iter().map(|placed| (placed.item.id().to_owned(), placed.item)).collect())
    }

    /// What was in private storage alone must not become known to others: nothing goes to a node that they may see (XEP-0411 §4).
    async fn publish_privately(
        &self,
        server: &Arc<Server>,
        place: &Place,
        name: &str,
        item: &Element,
    ) {
        let private = Form::typed(FormKind::Submit, PUBLISH_OPTIONS)
            .with(Field::new(FieldType::ListSingle, "pubsub#access_model").with_value("whitelist"));
        let published = self.publish_items(server, place, name, &place.address, &[item], Some(&private), |_| ()).await;
        if let Err(error) = published {
            tracing::debug!(%error, account = %place.address, name, "a bookmark was not published");
        }
    }
}

/// XEP-0402 §6: the bookmark of a room as an item of its own, with what the item had that the old form has no room for.
fn bookmark_of(conference: &Element, before: Option<&Element>) -> Element {
    let mut bookmark = Element::new("conference", EACH);
    for name in ["name", "autojoin"] {
        if let Some(value) = conference.attr(name) {
            bookmark.set_attr(name, value);
        }
    }
    for name in ["nick", "password"] {
        if let Some(child) = conference.child(name, ALL) {
            bookmark.push(Element::new(name, EACH).with_text(child.text()));
        }
    }
    bookmark.with_all(before.and_then(|before| before.child("extensions", EACH)).cloned())
}

/// The other way round.
fn conference_of(room: &str, bookmark: &Element) -> Element {
    let mut conference = Element::new("conference", ALL).with_attr("jid", room);
    for name in ["name", "autojoin"] {
        if let Some(value) = bookmark.attr(name) {
            conference.set_attr(name, value);
        }
    }
    for name in ["nick", "password"] {
        if let Some(child) = bookmark.child(name, EACH) {
            conference.push(Element::new(name, ALL).with_text(child.text()));
        }
    }
    conference
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use magpie_proto::ns;

    fn element(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
    }

    #[test]
    fn a_bookmark_goes_to_the_old_form_and_comes_back_with_what_that_has_no_room_for() {
        let bookmark = element(
            "<conference xmlns='urn:xmpp:bookmarks:1' name='A &amp; B' autojoin='1'><nick>n</nick>\
             <extensions><x xmlns='y'/></extensions></conference>",
        );
        let old = conference_of("a@b", &bookmark);
        let expected = "<conference xmlns='storage:bookmarks' jid='a@b' name='A &amp; B' autojoin='1'><nick>n</nick></conference>";
        assert_eq!(old, element(expected));
        assert_eq!(bookmark_of(&old, Some(&bookmark)), bookmark);
        assert!(bookmark_of(&old, None).child("extensions", EACH).is_none());
    }
}
