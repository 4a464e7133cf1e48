//! Who is in a room: occupants by nickname, and by the addresses of their sessions.

use std::sync::Arc;

use hashbrown::HashMap;
use magpie_proto::precis::nickname_key;
use magpie_proto::xeps::muc::{Affiliation, Role};
use magpie_proto::{BareJid, FullJid, Stanza};
use smallvec::SmallVec;

use super::throttling::Bucket;
use crate::registry::SessionHandle;

/// Where a session of an occupant is.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its address.
    pub jid: FullJid,
    /// The session itself, where it is this node's.
    pub session: Option<Arc<SessionHandle>>,
}

impl Seat {
    /// Whether the session has lost its connection and may be resumed (XEP-0198).
    pub fn sleeps(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_detached())
    }
}

/// Somebody in a room. Several sessions of one account may share a nickname.
#[derive(Debug)]
pub struct Occupant {
    /// The nickname, as it stands in the address.
    pub address: FullJid,
    /// By what it is compared with others.
    key: Box<str>,
    /// The account.
    pub account: BareJid,
    /// The sessions, at least one.
    pub seats: SmallVec<[Seat; 1]>,
    /// What it may do.
    pub role: Role,
    /// What its account is to the room.
    pub affiliation: Affiliation,
    /// Its last presence: from its address in the room, without what only the room may say.
    pub presence: Stanza,
    /// The same as others get it: without its own address, and with it.
    pub shown: [Stanza; 2],
    /// XEP-0421: its id.
    pub id: Box<str>,
    /// What it has sent of late.
    pub sent: Bucket,
}

impl Occupant {
    /// Its nickname.
    pub fn nick(&self) -> &str {
        self.address.resource()
    }
}

/// The occupants of a room.
#[derive(Debug, Default)]
pub struct Occupants {
    all: Vec<Occupant>,
    by_key: HashMap<Box<str>, usize>,
    by_seat: HashMap<FullJid, usize>,
    /// How many sessions each account has here.
    sessions: HashMap<BareJid, usize>,
}

/// By what nicknames are compared: those that PRECIS takes for the same have the same. One that is none of its nicknames is itself.
pub fn key(nick: &str) -> Box<str> {
    nickname_key(nick).map_or_else(|_| nick.into(), |key| key.into())
}

impl Occupants {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Each.
    pub fn iter(&self) -> std::slice::Iter<'_, Occupant> {
        self.all.iter()
    }

    /// Each, to be changed; sessions and nicknames stay.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Occupant> {
        self.all.iter_mut()
    }

    /// Who has a nickname, or one that looks the same.
    pub fn named(&self, nick: &str) -> Option<&Occupant> {
        self.by_key.get(&*key(nick)).map(|index| &self.all[*index])
    }

    /// The same, to be changed.
    pub fn named_mut(&mut self, nick: &str) -> Option<&mut Occupant> {
        self.by_key.get(&*key(nick)).map(|index| &mut self.all[*index])
    }

    /// Whose session has the address.
    pub fn seated(&self, jid: &FullJid) -> Option<&Occupant> {
        self.by_seat.get(jid).map(|index| &self.all[*index])
    }

    /// The same, to be changed.
    pub fn seated_mut(&mut self, jid: &FullJid) -> Option<&mut Occupant> {
        self.by_seat.get(jid).map(|index| &mut self.all[*index])
    }

    /// The occupants with sessions of an account.
    pub fn of_account<'a>(&'a self, account: &'a BareJid) -> impl Iterator<Item = &'a Occupant> {
        self.all.iter().filter(move |occupant| occupant.account == *account)
    }

    /// Whether an account has a session here.
    pub fn has_account(&self, account: &BareJid) -> bool {
        self.sessions.contains_key(account)
    }

    fn count(&mut self, account: &BareJid) {
        match self.sessions.get_mut(account) {
            Some(count) => *count += 1,
            None => drop(self.sessions.insert(account.clone(), 1)),
        }
    }

    fn discount(&mut self, account: &BareJid, gone: usize) {
        if let Some(count) = self.sessions.get_mut(account) {
            *count = count.saturating_sub(gone);
            if *count == 0 {
                self.sessions.remove(account);
            }
        }
    }

    /// Adds an occupant whose nickname nobody has.
    pub fn add(&mut self, occupant: Occupant) {
        let index = self.all.len();
        self.count(&occupant.account);
        for seat in &occupant.seats {
            self.by_seat.insert(seat.jid.clone(), index);
        }
        self.by_key.insert(occupant.key.clone(), index);
        self.all.push(occupant);
    }

    /// Another session takes part in a nickname.
    pub fn share(&mut self, nick: &str, seat: Seat) {
        if let Some(index) = self.by_key.get(&*key(nick)).copied() {
            self.by_seat.insert(seat.jid.clone(), index);
            self.count(&seat.jid.to_bare());
            self.all[index].seats.push(seat);
        }
    }

    /// A session leaves: its occupant, where that has no other.
    pub fn leave(&mut self, jid: &FullJid) -> Option<Occupant> {
        let index = self.by_seat.get(jid).copied()?;
        if self.all[index].seats.len() > 1 {
            self.by_seat.remove(jid);
            self.all[index].seats.retain(|seat| seat.jid != *jid);
            self.discount(&jid.to_bare(), 1);
            return None;
        }
        Some(self.take(index))
    }

    /// Takes an occupant out, with all its sessions.
    pub fn remove(&mut self, nick: &str) -> Option<Occupant> {
        self.by_key.get(&*key(nick)).copied().map(|index| self.take(index))
    }

    fn take(&mut self, index: usize) -> Occupant {
        let gone = self.all.swap_remove(index);
        self.by_key.remove(&gone.key);
        self.discount(&gone.account, gone.seats.len());
        for seat in &gone.seats {
            self.by_seat.remove(&seat.jid);
        }
        if let Some(moved) = self.all.get(index) {
            self.by_key.insert(moved.key.clone(), index);
            for seat in &moved.seats {
                self.by_seat.insert(seat.jid.clone(), index);
            }
        }
        gone
    }

    /// Gives an occupant another nickname, which nobody else has.
    pub fn rename(&mut self, nick: &str, address: FullJid) {
        let Some(index) = self.by_key.remove(&*key(nick)) else { return };
        let occupant = &mut self.all[index];
        occupant.key = key(address.resource());
        occupant.address = address;
        self.by_key.insert(occupant.key.clone(), index);
    }
}

/// What an occupant begins with.
pub struct Entrance {
    /// Its address in the room.
    pub address: FullJid,
    /// Its first session.
    pub seat: Seat,
    /// What it may do.
    pub role: Role,
    /// What its account is to the room.
    pub affiliation: Affiliation,
    /// Its presence, as [`Occupant::presence`].
    pub presence: Stanza,
    /// XEP-0421: its id.
    pub id: Box<str>,
}

impl From<Entrance> for Occupant {
    fn from(entrance: Entrance) -> Self {
        let Entrance { address, seat, role, affiliation, presence, id } = entrance;
        Self {
            key: key(address.resource()),
            account: seat.jid.to_bare(),
            seats: SmallVec::from_iter([seat]),
            shown: [presence.clone(), presence.clone()],
            sent: Bucket::default(),
            address,
            role,
            affiliation,
            presence,
            id,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn full(jid: &str) -> FullJid {
        FullJid::parse(jid).unwrap()
    }

    fn enters(occupants: &mut Occupants, nick: &str, jid: &str) {
        let entrance = Entrance {
            address: full(&format!("coven@chat.shakespeare.example/{nick}")),
            seat: Seat { jid: full(jid), session: None },
            role: Role::Participant,
            affiliation: Affiliation::None,
            presence: Stanza::parse(b"<presence/>").unwrap(),
            id: nick.into(),
        };
        occupants.add(entrance.into());
    }

    #[test]
    fn whoever_leaves_the_others_are_found_by_nickname_and_by_session() {
        let mut occupants = Occupants::default();
        for n in 0..5 {
            enters(&mut occupants, &format!("Witch{n}"), &format!("crone{n}@shakespeare.example/desktop"));
        }
        occupants.share("witch3", Seat { jid: full("crone3@shakespeare.example/pda"), session: None });
        assert!(occupants.leave(&full("crone3@shakespeare.example/desktop")).is_none());
        assert!(occupants.has_account(&full("crone3@shakespeare.example/pda").to_bare()));
        for gone in [0, 3] {
            let jid = if gone == 3 {
                "crone3@shakespeare.example/pda".into()
            } else {
                format!("crone{gone}@shakespeare.example/desktop")
            };
            assert_eq!(occupants.leave(&full(&jid)).unwrap().nick(), format!("Witch{gone}"));
        }
        assert!(!occupants.has_account(&full("crone3@shakespeare.example/pda").to_bare()));
        assert_eq!(occupants.len(), 3);
        for n in [1, 2, 4] {
            assert_eq!(occupants.named(&format!("WITCH{n}")).unwrap().nick(), format!("Witch{n}"));
            let jid = full(&format!("crone{n}@shakespeare.example/desktop"));
            assert_eq!(occupants.seated(&jid).unwrap().nick(), format!("Witch{n}"));
        }
        assert!(occupants.named("witch0").is_none() && occupants.leave(&full("nobody@x.example/y")).is_none());
    }

    #[test]
    fn an_occupant_with_another_nickname_is_found_by_that_alone() {
        let mut occupants = Occupants::default();
        enters(&mut occupants, "oldhag", "wiccarocks@shakespeare.example/laptop");
        occupants.rename("oldhag", full("coven@chat.shakespeare.example/third witch"));
        assert!(occupants.named("oldhag").is_none());
        assert_eq!(occupants.named("Third Witch").unwrap().nick(), "third witch");
        assert!(occupants.remove("third witch").is_some() && occupants.is_empty());
    }
}
