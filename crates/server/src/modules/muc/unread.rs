//! What a member has not read of the rooms in which it stays, for its inbox (XEP-0430).
//!
//! Nothing is written for each message and member: kept is how far each member has read a room, when it says so, and the rest
//! is looked up in the room's archive when somebody asks.

use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, ns};
use magpie_store::{Batch, LogId, StoreError, Ticket, Topic};

use super::Muc;
use super::occupant_ids;
use crate::modules::inbox;

/// Messages of a room among which unread ones are counted: the newest. More are as many.
const COUNTED_MAX: usize = 1000;

impl Muc {
    /// The rooms in which an account stays, as conversations of its inbox: the last message, how many there are, and how many are
    /// unread. What it said itself it has read, with all before.
    pub async fn conversations(&self, account: &BareJid) -> Result<Vec<(BareJid, Topic)>, StoreError> {
        let mut conversations = Vec::new();
        for (room, read) in self.rooms.storage.rooms_of(account).await? {
            let Some(topic) = self.archive.conversation(&room, &room).await? else { continue };
            let new = if topic.last > read { self.unread(account, &room, read).await? } else { 0 };
            conversations.push((room, Topic { new, ..topic }));
        }
        Ok(conversations)
    }

    async fn unread(&self, account: &BareJid, room: &BareJid, read: LogId) -> Result<u64, StoreError> {
        let Some(secret) = self.rooms.storage.secret(room).await? else { return Ok(0) };
        let own = occupant_ids::made(&secret, account);
        let mut unread = 0;
        let look = |place: LogId, message: &Stanza| {
            if place <= read || is_said_by(message, &own) {
                return true;
            }
            unread += u64::from(inbox::is_instant(message));
            false
        };
        self.archive.look_back(room, room, COUNTED_MAX, look).await?;
        Ok(unread)
    }

    /// An account has read a room up to the message with this id. `None`: it does not stay there, or there is no such id.
    pub async fn read(&self, account: &BareJid, room: &BareJid, id: &str) -> Result<Option<Ticket>, StoreError> {
        let Some(place) = self.archive.place(room, id) else { return Ok(None) };
        match self.rooms.storage.read_up_to(account, room).await? {
            // An older marker takes nothing back.
            Some(read) if read < place => {
                let mut batch = Batch::new();
                self.rooms.storage.put_read(&mut batch, account, room, place);
                Ok(Some(self.rooms.commit(batch)))
            }
            _ => Ok(None),
        }
    }

    /// A displayed marker (XEP-0333) that somebody sent to a room.
    pub(super) async fn displayed(
        &self,
        account: &BareJid,
        room: &BareJid,
        marker: &Stanza,
    ) -> Result<Option<Ticket>, StoreError> {
        let named = marker.children().find(|child| inbox::is_marker(child.name, child.ns)).map(|child| child.element());
        match named.as_ref().and_then(|named| named.attr("id")) {
            Some(id) => self.read(account, room, id).await,
            None => Ok(None),
        }
    }
}

/// Whether the message is a displayed marker.
pub(super) fn is_marker(message: &Stanza) -> bool {
    message.children().any(|child| inbox::is_marker(child.name, child.ns))
}

fn is_said_by(message: &Stanza, id: &str) -> bool {
    message.child("body", ns::CLIENT).is_some() && occupant_ids::of(message).as_deref() == Some(id)
}
