//! XEP-0402: PEP Native Bookmarks, XEP-0048: Bookmarks, XEP-0411: Bookmarks Conversion
//!
//! Rooms that a user's clients remember, in one set of data, whichever of three places a client looks at: a node with an item for each
//! room, a node with one item for all, and private storage. The first is what counts; the others are written anew with each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, PUBLISH_OPTIONS};
use magpie_proto::{BareJid, Element, Jid, StanzaError};
use magpie_store::Batch;

use super::publish::retracted;
use super::storage::{Change, Item, Place};
use super::{Kept, Pubsub};
use crate::server::Server;

/// XEP-0402: an item for each room.
pub(super) const EACH: &str = "urn:xmpp:bookmarks:1";

/// XEP-0048: one item for all rooms; the name of the element, too.
pub(super) const ALL: &str = "storage:bookmarks";

/// Rooms that are converted; the others stay where they are.
const ROOMS_MAX: usize = 1000;

impl Pubsub {
    /// The account changed its bookmarks at the node with an item for each: the element with all of them is written anew.
    pub(super) async fn bookmarks_changed(&self, server: &Server, change: &mut Change<'_>) -> Result<(), StanzaError> {
        let account = &change.place().address;
        let stored = server.modules.private.bookmarks(account).await?;
        let rooms = stored.iter().flat_map(Element::children).filter(|child| child.is("conference", ALL));
        if rooms.count() > ROOMS_MAX {
            // Those that were not converted would be lost.
            return Ok(());
        }
        let bookmarks = bookmarks(change).await?;
        let others = stored.iter().flat_map(Element::children).filter(|child| !child.is("conference", ALL)).cloned();
        let conferences = bookmarks.iter().filter_map(|(room, item)| Some(conference_of(room, item.payload()?)));
        let storage = Element::new("storage", ALL).with_all(conferences).with_all(others);
        server.modules.private.put_bookmarks(change.batch(), account, &storage);
        self.put_all(server, change, &storage).await
    }

    /// The account replaced its bookmarks at the node with one item for all.
    pub(super) async fn bookmarks_replaced(&self, server: &Server, change: &mut Change<'_>) -> Result<(), StanzaError> {
        let Some(storage) = all_bookmarks(change).await? else { return Ok(()) };
        let account = &change.place().address;
        server.modules.private.put_bookmarks(change.batch(), account, &storage);
        self.put_each(server, change, &storage).await
    }

    /// The account asks for the bookmarks of a node that is not there: they may be in one of the other places, from a client or a
    /// server that knew no other.
    pub(super) async fn import_bookmarks(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        name: &str,
    ) -> Result<(), StanzaError> {
        if name == ALL && change.node(EACH).await?.is_some() {
            return self.bookmarks_changed(server, change).await;
        }
        if let Some(storage) = all_bookmarks(change).await? {
            return self.put_each(server, change, &storage).await;
        }
        match server.modules.private.bookmarks(&change.place().address).await? {
            Some(storage) => self.put_both(server, change, &storage).await,
            None => Ok(()),
        }
    }

    /// The account asks for bookmarks in private storage, where there are none: those of its nodes.
    pub async fn bookmarks_of(&self, account: &BareJid) -> Result<Option<Element>, StanzaError> {
        let place = Place::account(account);
        let change = self.storage.change(&place);
        let bookmarks = bookmarks(&change).await?;
        let conferences = bookmarks.iter().filter_map(|(room, item)| Some(conference_of(room, item.payload()?)));
        match bookmarks.is_empty() {
            true => all_bookmarks(&change).await,
            false => Ok(Some(Element::new("storage", ALL).with_all(conferences))),
        }
    }

    /// The account replaces its bookmarks in private storage, by this batch: both kinds of nodes have them with it.
    pub async fn store_bookmarks(
        &self,
        server: &Server,
        account: &BareJid,
        storage: &Element,
        batch: Batch,
    ) -> Result<Kept, StanzaError> {
        let place = Place::account(account);
        let _turn = self.turn(&place).await;
        let mut change = self.storage.change(&place);
        *change.batch() = batch;
        self.put_both(server, &mut change, storage).await?;
        self.commit(server, change).await
    }

    async fn put_both(&self, server: &Server, change: &mut Change<'_>, storage: &Element) -> Result<(), StanzaError> {
        self.put_each(server, change, storage).await?;
        self.put_all(server, change, storage).await
    }

    /// Makes the items those of an element with all of them, and leaves what is the same as it is.
    async fn put_each(&self, server: &Server, change: &mut Change<'_>, storage: &Element) -> Result<(), StanzaError> {
        let (bookmarks, gone) = differences(bookmarks(change).await?, storage);
        for (room, bookmark) in bookmarks {
            let item = Element::new("item", NS).with_attr("id", &room).with(bookmark);
            self.put_privately(server, change, EACH, &item).await?;
        }
        if let (false, Some(node)) = (gone.is_empty(), change.node(EACH).await?.map(Arc::new)) {
            for room in gone {
                change.remove(EACH, &room).await?;
                change.tell(EACH, &node, retracted(EACH, &[room]));
            }
        }
        Ok(())
    }

    async fn put_all(&self, server: &Server, change: &mut Change<'_>, storage: &Element) -> Result<(), StanzaError> {
        let item = Element::new("item", NS).with_attr("id", "current").with(storage.clone());
        self.put_privately(server, change, ALL, &item).await
    }

    /// What was in private storage alone must not become known to others: nothing goes to a node that they may see (XEP-0411 §4).
    async fn put_privately(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        name: &str,
        item: &Element,
    ) -> Result<(), StanzaError> {
        let private = Form::typed(FormKind::Submit, PUBLISH_OPTIONS)
            .with(Field::new(FieldType::ListSingle, "pubsub#access_model").with_value("whitelist"));
        self.put_copy(server, change, name, item, Some(&private)).await
    }
}

/// The item with all bookmarks.
async fn all_bookmarks(change: &Change<'_>) -> Result<Option<Element>, StanzaError> {
    let Some(node) = change.node(ALL).await? else { return Ok(None) };
    let last = change.last(ALL, &node).await?;
    Ok(last.and_then(|item| item.payload().filter(|payload| payload.is("storage", ALL)).cloned()))
}

/// The items with one bookmark each.
async fn bookmarks(change: &Change<'_>) -> Result<BTreeMap<String, Item>, StanzaError> {
    let Some(node) = change.node(EACH).await? else { return Ok(BTreeMap::new()) };
    let items = change.items(EACH, &node, ROOMS_MAX).await?;
    Ok(items.into_iter().map(|item| (item.id().to_owned(), item)).collect())
}

/// What must be published for each room, and which rooms must go, so that items are what an element with all of them says.
fn differences(mut known: BTreeMap<String, Item>, storage: &Element) -> (Vec<(String, Element)>, Vec<String>) {
    // A client may have written an address otherwise; the item's id stays what it is.
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for id in known.keys() {
        ids.extend(Jid::parse(id).ok().map(|jid| (jid.to_bare().to_string(), id.clone())));
    }
    let mut wanted = Vec::new();
    let mut seen = BTreeSet::new();
    for conference in storage.children().filter(|child| child.is("conference", ALL)).take(ROOMS_MAX) {
        let Some(room) = conference.attr("jid").and_then(|jid| Jid::parse(jid).ok()) else { continue };
        let room = room.to_bare().to_string();
        if !seen.insert(room.clone()) {
            continue;
        }
        let room = ids.remove(&room).unwrap_or(room);
        let before = known.remove(&room);
        let before = before.as_ref().and_then(Item::payload);
        let bookmark = bookmark_of(conference, before);
        if before != Some(&bookmark) {
            wanted.push((room, bookmark));
        }
    }
    (wanted, known.into_keys().collect())
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
    fn of_an_element_with_all_of_them_only_what_differs_is_published_and_what_is_missing_goes() {
        let account = BareJid::parse("romeo@a.example").unwrap();
        let item = |room: &str, attributes: &str| {
            let bookmark = element(&format!("<conference xmlns='{EACH}' {attributes}/>"));
            (room.to_owned(), Item::new(room, &account, Some(&bookmark)))
        };
        let known = [item("Same@R", "name='S'"), item("other@r", "name='O'"), item("gone@r", "")];
        let storage = element(
            "<storage xmlns='storage:bookmarks'><conference jid='same@R/x' name='S'/><conference jid='other@r' name='P'/>\
             <conference jid='new@r'/><conference jid='new@r' name='again'/><conference jid='@'/><conference/><url url='u'/></storage>",
        );
        let (wanted, gone) = differences(known.into(), &storage);
        let rooms: Vec<(&str, Option<&str>)> = wanted.iter().map(|(room, new)| (room.as_str(), new.attr("name"))).collect();
        assert_eq!(rooms, [("other@r", Some("P")), ("new@r", None)]);
        assert_eq!(gone, ["gone@r"]);
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
