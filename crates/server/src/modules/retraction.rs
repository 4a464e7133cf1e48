//! XEP-0424: Message Retraction
//!
//! A message that its author takes back is replaced in the archives of both sides by a tombstone, and so are its corrections
//! (XEP-0308), in the batch with which the retraction is archived; where it still waits for its recipient it is not delivered any
//! more. The retraction is a message like any other. Whoever takes back what is not there, or what somebody else wrote, has sent
//! a message that changes nothing.

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, Jid, ns};
use magpie_store::{LogId, StoreError};
use smallvec::SmallVec;

use super::archive::{Archived, LOOKED_BACK};
use super::muc::occupant_ids;
use super::{About, Module, stanza_ids};
use crate::accounts;
use crate::server::{Deps, Server, now};

/// The namespace.
pub const NS: &str = "urn:xmpp:message-retract:1";
const NS_CORRECTION: &str = "urn:xmpp:message-correct:0";
const NS_ROOM_USER: &str = "http://jabber.org/protocol/muc#user";

/// The module: what it does is a step.
pub struct Retraction;

impl Module for Retraction {
    const ABOUT: &'static [About] = &[About {
        xep: Some(424),
        title: "Message Retraction",
        version: "0.4.2",
        host_features: &[],
        account_features: &[NS, "urn:xmpp:message-retract:1#tombstone"],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }
}

/// What takes the place of messages in archives: whose archive, where, and what.
#[derive(Debug, Default)]
pub struct Tombstones(pub Vec<(String, LogId, Archived)>);

impl Tombstones {
    /// Where in the account's archive, and in its spool, messages are taken back.
    pub fn places(&self, account: &BareJid) -> SmallVec<[LogId; 1]> {
        if self.0.is_empty() {
            return SmallVec::new();
        }
        let wanted = accounts::owner(account);
        self.0.iter().filter(|(owner, ..)| *owner == wanted).map(|(_, place, _)| *place).collect()
    }
}

/// Whether the message takes another one back.
pub fn takes_back(message: &Stanza) -> bool {
    message.child("retract", NS).is_some()
}

impl Retraction {
    /// What a message that takes another one back does to the archives of its recipient and of `sender`, its author where that is an account of this
    /// server. The message is looked for among the newest of the conversation, or where its author's archive has the id.
    pub async fn find(
        &self,
        server: &Server,
        message: &Stanza,
        recipient: &BareJid,
        sender: Option<&BareJid>,
    ) -> Result<Tombstones, StoreError> {
        let mut tombstones = Tombstones::default();
        let Some(retraction) = Asked::of(message).filter(|_| server.deps.archives()) else { return Ok(tombstones) };
        let archive = &server.modules.archive;
        // Both archives have the message at one place.
        let place = sender.and_then(|sender| archive.place(sender, &retraction.id));
        let of_sender = sender.filter(|sender| *sender != recipient).map(|sender| (sender, recipient));
        let author = retraction.from.to_bare();
        for (account, contact) in [(recipient, &author)].into_iter().chain(of_sender) {
            let mut bury = |place, message: &Stanza| {
                tombstones.0.push((accounts::owner(account), place, retraction.tombstone(message)));
            };
            if let Some(place) = place {
                if let Some(found) = archive.at(account, place).await?.filter(|found| retraction.may_take(found)) {
                    bury(place, &found);
                }
                continue;
            }
            let mut corrections = Vec::new();
            let mut original = None;
            archive
                .look_back(account, contact, LOOKED_BACK, |place, message| {
                    if !retraction.may_take(message) {
                        return false;
                    }
                    if retraction.corrects(message) {
                        corrections.push((place, message.clone()));
                    } else if retraction.names(message) {
                        original = Some((place, message.clone()));
                    }
                    original.is_some()
                })
                .await?;
            // A correction of what is not there is a message of its own.
            if let Some((place, message)) = original {
                corrections.iter().for_each(|(place, message)| bury(*place, message));
                bury(place, &message);
            }
        }
        Ok(tombstones)
    }
}

// In rooms.

impl Retraction {
    /// What a message that takes another one back does to the archive of a room. `said`: the message as the occupants get it. In rooms a
    /// message is named by its id in the room's archive (§4.1); who wrote it is told by the id of the occupant.
    pub async fn find_in_room(&self, server: &Server, said: &Stanza, room: &BareJid) -> Result<Tombstones, StoreError> {
        let mut tombstones = Tombstones::default();
        let Some(asked) = Asked::of(said) else { return Ok(tombstones) };
        let archive = &server.modules.archive;
        let Some(place) = archive.place(room, &asked.id) else { return Ok(tombstones) };
        let is_authors = |message: &Stanza| occupant_ids::of(message).is_some() && occupant_ids::of(message) == occupant_ids::of(said) && is_there(message);
        let Some(original) = archive.at(room, place).await?.filter(is_authors) else { return Ok(tombstones) };
        let id = original.id().map(|id| id.into_owned());
        let corrects = |message: &Stanza| {
            let replaced = message.child("replace", NS_CORRECTION).map(|replace| replace.element());
            is_authors(message) && replaced.is_some_and(|replace| replace.attr("id") == id.as_deref())
        };
        let owner = accounts::owner(room);
        tombstones.0.push((owner.clone(), place, asked.tombstone(&original)));
        archive
            .look_back(room, room, LOOKED_BACK, |at, message| {
                if at > place && corrects(message) {
                    tombstones.0.push((owner.clone(), at, asked.tombstone(message)));
                }
                at <= place
            })
            .await?;
        Ok(tombstones)
    }

    /// What a moderator does to the archive of a room who takes a message back (XEP-0425 §4): `None` where there is no such message.
    pub async fn find_moderated(
        &self,
        server: &Server,
        room: &BareJid,
        id: &str,
        said: &Stanza,
    ) -> Result<Option<Tombstones>, StoreError> {
        let archive = &server.modules.archive;
        let Some(place) = archive.place(room, id) else { return Ok(None) };
        let Some(original) = archive.at(room, place).await?.filter(is_there) else { return Ok(None) };
        let Some(asked) = Asked::of(said) else { return Ok(None) };
        let Archived(tombstone) = asked.tombstone(&original);
        // The tombstone says who did it and why, as the message does.
        let retract = said.child("retract", NS).map(|retract| retract.element());
        let why = retract.iter().flat_map(Element::children).cloned();
        let mut retracted = tombstone.child("retracted", NS).map(|child| child.element()).unwrap_or_else(|| Element::new("retracted", NS));
        why.for_each(|child| retracted.push(child));
        let tombstone = tombstone.without_children(|child| child.is("retracted", NS)).with_child(&retracted);
        Ok(Some(Tombstones(vec![(accounts::owner(room), place, Archived(tombstone))])))
    }
}

/// Whether a message can be taken back: it is none that takes another back, and not taken back already.
fn is_there(message: &Stanza) -> bool {
    !takes_back(message) && message.child("retracted", NS).is_none()
}

/// What a retraction says.
struct Asked<'a> {
    /// The message that is taken back.
    id: String,
    from: Jid,
    message: &'a Stanza,
}

impl<'a> Asked<'a> {
    fn of(message: &'a Stanza) -> Option<Self> {
        let id = message.child("retract", NS)?.element().attr("id").filter(|id| !id.is_empty())?.to_owned();
        Some(Self { id, from: Jid::parse(&message.from()?).ok()?, message })
    }

    /// Whether the message is of the retraction's author, and one that can be taken back: not a retraction, which must stay, and not
    /// taken back already.
    fn may_take(&self, message: &Stanza) -> bool {
        let Some(from) = message.from().and_then(|from| Jid::parse(&from).ok()) else { return false };
        let in_room = message.child("x", NS_ROOM_USER).is_some() || self.message.child("x", NS_ROOM_USER).is_some();
        let same = match in_room {
            // In a room everybody has the room's bare address.
            true => from == self.from && occupant_ids::of(message) == occupant_ids::of(self.message),
            false => from.to_bare() == self.from.to_bare(),
        };
        same && is_there(message)
    }

    fn names(&self, message: &Stanza) -> bool {
        let origin = || Some(message.child("origin-id", stanza_ids::NS)?.element().attr("id")? == self.id);
        message.id().as_deref() == Some(&self.id) || origin().unwrap_or(false)
    }

    fn corrects(&self, message: &Stanza) -> bool {
        let replaces = message.child("replace", NS_CORRECTION);
        replaces.is_some_and(|replaces| replaces.element().attr("id") == Some(&self.id))
    }

    /// What says that there was a message: its addresses and ids, and which it corrected.
    fn tombstone(&self, message: &Stanza) -> Archived {
        let mut tombstone = Element::new("message", ns::CLIENT);
        for (name, attr) in [("from", Attr::From), ("to", Attr::To), ("type", Attr::Type), ("id", Attr::Id)] {
            if let Some(value) = message.attr(attr) {
                tombstone.set_attr(name, value);
            }
        }
        let stamp = DateTime::from_unix_millis(now().as_millis() as i64);
        let mut retracted = Element::new("retracted", NS).with_attr("stamp", stamp.to_string());
        if let Some(id) = self.message.id() {
            retracted.set_attr("id", id);
        }
        let kept = message.children().filter(|child| {
            child.is("origin-id", stanza_ids::NS) || child.is("replace", NS_CORRECTION) || child.is("occupant-id", occupant_ids::NS)
        });
        let bare = kept.filter_map(|child| {
            let element = child.element();
            Some(Element::new(child.name, child.ns).with_attr("id", element.attr("id")?))
        });
        Archived(Stanza::new(&tombstone.with(retracted).with_all(bare)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(xml: &str) -> Stanza {
        Stanza::parse(xml.as_bytes()).unwrap()
    }

    fn retraction(from: &str, payload: &str) -> Stanza {
        message(&format!("<message from='{from}' id='r'><retract xmlns='{NS}' id='m'/>{payload}</message>"))
    }

    #[test]
    fn a_tombstone_has_nothing_of_what_was_said() {
        let secret = "secret";
        let taken = message(&format!(
            "<message from='a@x/1' to='b@x' type='chat' id='m' xml:lang='{secret}'><body>{secret}</body><subject>{secret}</subject>\
             <thread>{secret}</thread><x xmlns='jabber:x:oob'><url>{secret}</url></x>\
             <origin-id xmlns='urn:xmpp:sid:0' id='m' more='{secret}'>{secret}</origin-id></message>"
        ));
        let asked = retraction("a@x/2", "");
        let Archived(tombstone) = Asked::of(&asked).unwrap().tombstone(&taken);
        assert!(!tombstone.text().contains(secret), "{}", tombstone.text());
        assert_eq!(tombstone.id().as_deref(), Some("m"));
        let retracted = tombstone.child("retracted", NS).unwrap().element();
        assert_eq!((retracted.attr("id"), retracted.attr("stamp").is_some()), (Some("r"), true));
        assert!(tombstone.child("origin-id", stanza_ids::NS).is_some());
    }

    #[test]
    fn only_its_author_takes_a_message_back_and_never_a_retraction_or_a_tombstone() {
        let asked = retraction("a@x/2", "");
        let asked = Asked::of(&asked).unwrap();
        assert!(asked.may_take(&message("<message from='a@x/1' id='m'><body>x</body></message>")));
        for other in [
            "<message from='b@x/1' id='m'><body>x</body></message>".to_owned(),
            "<message id='m'><body>x</body></message>".to_owned(),
            format!("<message from='a@x/1' id='m'><retract xmlns='{NS}' id='n'/></message>"),
            format!("<message from='a@x/1' id='m'><retracted xmlns='{NS}' id='n'/></message>"),
        ] {
            assert!(!asked.may_take(&message(&other)), "{other}");
        }
    }

    #[test]
    fn in_a_room_the_author_is_the_occupant() {
        let (mark, id) = (format!("<x xmlns='{NS_ROOM_USER}'/>"), |id| format!("<occupant-id xmlns='{}' id='{id}'/>", occupant_ids::NS));
        let asked = retraction("room@x/ann", &format!("{mark}{}", id("1")));
        let asked = Asked::of(&asked).unwrap();
        let of = |from: &str, id: &str| message(&format!("<message from='{from}' id='m'><body>x</body>{mark}{id}</message>"));
        assert!(asked.may_take(&of("room@x/ann", &id("1"))));
        assert!(!asked.may_take(&of("room@x/ann", &id("2"))));
        assert!(!asked.may_take(&of("room@x/eve", &id("1"))));
    }
}
