//! A room as a value: what comes in changes it, and what follows goes to an [`Outside`]. No socket, no clock, no store.
//!
//! The parts of what it does are in files of their own: `entering.rs`, `talking.rs`, `inviting.rs`, `voicing.rs`, `moderating.rs`,
//! `owning.rs`, `registering.rs`, `asking.rs`.

use std::cell::OnceCell;
use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::{self, Affiliation, Item, Role, Status};
use magpie_proto::xeps::muc_config::RoomConfig;
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use super::hats::{self, Hats};
use super::occupant_ids;
use super::occupants::{Occupant, Occupants, Seat};
use super::privileges::Rank;
use super::throttling::{Pace, Taken};
use super::versioning::Versions;

/// What is outside a room.
pub trait Outside {
    /// The time.
    fn now(&self) -> DateTime;

    /// How much the room takes in a while.
    fn pace(&self) -> Pace;

    /// To a session of an occupant: its address takes the place of the stanza's `to`.
    fn send(&mut self, seat: &Seat, stanza: &Stanza);

    /// The same with a stanza that the room keeps, for who enters: however many there are, they take no memory for each.
    fn send_kept(&mut self, seat: &Seat, stanza: &Stanza);

    /// To whom the stanza names, in the room or not.
    fn send_out(&mut self, stanza: Stanza);

    /// A private message to all sessions of an occupant.
    fn send_private(&mut self, seats: &[Seat], stanza: &Stanza);

    /// Puts a message into the room's archive, with what only the archive tells beside it, and gives it back with its id there (XEP-0359).
    /// Where it cannot be kept it comes back as it is.
    fn keep(&mut self, message: Stanza, also: Option<&Element>) -> Stanza;

    /// A message was said, and this account is in the room though no session of it hears. `nick`: the nickname that is its own there.
    fn wake(&mut self, account: &BareJid, nick: Option<&str>, message: &Stanza);

    /// Something of the room has changed that must last as long as it does.
    fn change(&mut self, change: Change);
}

/// What has changed of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is in its one record: configuration, subject, whether it is locked.
    Record,
    /// What an account is to it.
    Standing(BareJid),
    /// Whether an account stays in it without a session.
    Stay(BareJid),
    /// The affiliations have another version, the one with this number (XEP-0463).
    Version(u64),
    /// Which hats there are, and who wears them.
    Hats,
    /// Its vCard is this one, or none.
    Vcard(Option<Box<Element>>),
    /// It is no more.
    Destroyed,
}

/// What an account is to a room, where it is more than nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The affiliation.
    pub affiliation: Affiliation,
    /// The nickname that is reserved for it, or that it asks for.
    pub nick: Option<String>,
    /// Why it was made what it is.
    pub reason: Option<String>,
    /// Whether moderators gave it voice, or took it, other than its affiliation does.
    pub voice: Option<bool>,
}

impl Standing {
    /// Whether it has asked to become a member, and nobody has answered yet (§9.9).
    pub fn asks(&self) -> bool {
        self.affiliation == Affiliation::None && self.nick.is_some()
    }

    /// Whether it need not be kept.
    pub fn is_nothing(&self) -> bool {
        self.affiliation == Affiliation::None && self.nick.is_none() && self.voice.is_none()
    }
}

/// The subject of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The message that set it: from the address in the room of who did, without `to`.
    pub message: Stanza,
    /// When.
    pub at: DateTime,
}

/// A message that was said in a room.
#[derive(Clone, Debug)]
pub struct Said {
    /// When.
    pub at: DateTime,
    /// The message, as occupants got it.
    pub message: Stanza,
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its address.
    pub address: BareJid,
    /// What it is configured with.
    pub config: RoomConfig,
    /// Its subject.
    pub subject: Option<Subject>,
    /// The hashes of its pictures (XEP-0486).
    pub avatars: Vec<Box<str>>,
    /// Whether its owner has still to configure it, so that nobody else may enter (§10.1.1).
    pub locked: bool,
    /// From when on it opens as it is to whoever wants in, though its owner has said nothing; none once the owner has its form.
    pub opens_at: Option<DateTime>,
    /// Whether it knows what was said in it before it woke.
    pub remembers: bool,
    /// Whether anything of it is in the store.
    pub stored: bool,
    /// With which the ids of its occupants are made (XEP-0421).
    pub secret: [u8; 16],
    pub(super) standings: HashMap<BareJid, Standing>,
    /// Whose the reserved nicknames are, by what nicknames are compared with; empty until somebody asks after a change.
    pub(super) reserved: OnceCell<HashMap<Box<str>, BareJid>>,
    /// The members who entered and did not leave: they are in the room while their clients sleep.
    pub(super) stays: HashSet<BareJid>,
    /// Who is in it.
    pub occupants: Occupants,
    pub(super) history: VecDeque<Said>,
    /// Who has spoken so lately that it must wait, and when, in Unix milliseconds (XEP-0500).
    pub(super) spoke_at: HashMap<BareJid, i64>,
    pub(super) taken: Taken,
    /// Its hats, where it has any (XEP-0317).
    pub hats: Option<Box<Hats>>,
    /// The versions of its affiliations (XEP-0463).
    pub versions: Versions,
}

/// Accounts that are more than nothing to one room, those that are banned too, those that ask to become members, and those whose voice
/// is remembered.
pub const STANDINGS_MAX: usize = 50_000;

/// Result of something that somebody wants of a room.
pub type Outcome<T = ()> = Result<T, StanzaError>;

/// What somebody did to an occupant, as it is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deed<'a> {
    /// What it is, for clients. Where somebody is removed all get it, otherwise the occupant alone.
    pub statuses: &'a [Status],
    /// Why, for people.
    pub reason: Option<&'a str>,
    /// The nickname of who did it.
    pub actor: Option<&'a str>,
    /// Between which versions of the affiliations it stands, where it changed one (XEP-0463).
    pub versions: Option<&'a Element>,
}

impl Deed<'_> {
    /// What it says of an occupant, for its presence.
    fn tells(&self, item: Item, statuses: &[Status]) -> Element {
        let item = Item { actor_nick: self.actor.map(str::to_owned), reason: self.reason.map(str::to_owned), ..item };
        muc::user(Some(&item), statuses).with_all(self.versions.cloned())
    }
}

impl Room {
    /// A room that nobody has entered, with defaults.
    pub fn new(address: BareJid, config: RoomConfig, secret: [u8; 16]) -> Self {
        Self {
            address,
            config,
            subject: None,
            avatars: Vec::new(),
            locked: false,
            opens_at: None,
            remembers: false,
            stored: false,
            secret,
            standings: HashMap::new(),
            reserved: OnceCell::new(),
            stays: HashSet::new(),
            occupants: Occupants::default(),
            history: VecDeque::new(),
            spoke_at: HashMap::new(),
            taken: Taken::default(),
            hats: None,
            versions: Versions::default(),
        }
    }

    /// What an account is to it.
    pub fn affiliation(&self, account: &BareJid) -> Affiliation {
        let of = |jid| self.standings.get(jid).map_or(Affiliation::None, |standing| standing.affiliation);
        match of(account) {
            // §9.2: a ban of its domain holds for who is nothing by itself.
            Affiliation::None if account.local().is_some() && of(&account.to_domain()) == Affiliation::Outcast => {
                Affiliation::Outcast
            }
            own => own,
        }
    }

    /// What an account is to it, whole, where it is more than nothing.
    pub fn standing(&self, account: &BareJid) -> Option<&Standing> {
        self.standings.get(account)
    }

    /// Sets what an account is to it, from the store.
    pub fn restore(&mut self, account: BareJid, standing: Standing) {
        self.reserved.take();
        self.standings.insert(account, standing);
    }

    /// An account is in it though its clients sleep, from the store.
    pub fn restore_stay(&mut self, account: BareJid) {
        self.stays.insert(account);
    }

    /// Who is in it though its clients may sleep.
    pub fn stays(&self) -> impl Iterator<Item = &BareJid> {
        self.stays.iter()
    }

    /// Whether an account is in it though its clients may sleep.
    pub fn has_stay(&self, account: &BareJid) -> bool {
        self.stays.contains(account)
    }

    /// The account stays where it should, and not where it should not: a member of a room that lasts, which entered it.
    pub(super) fn stay(&mut self, account: &BareJid, wanted: bool, out: &mut impl Outside) {
        let stays = wanted && self.lasts() && self.affiliation(account) >= Affiliation::Member;
        let changed = match stays {
            true => self.stays.insert(account.clone()),
            false => self.stays.remove(account),
        };
        if changed {
            out.change(Change::Stay(account.clone()));
        }
    }

    /// Who is more than nothing to it.
    pub fn standings(&self) -> impl Iterator<Item = (&BareJid, &Standing)> {
        self.standings.iter()
    }

    /// Whether there is room for so many who are nothing to it so far.
    pub(super) fn check_standings(&self, more: usize) -> Outcome {
        match more == 0 || self.standings.len() + more <= STANDINGS_MAX {
            true => Ok(()),
            false => Err(StanzaError::new(StanzaCondition::ResourceConstraint, "the lists of the room are full")),
        }
    }

    /// Whether it is to be kept in the store.
    pub fn lasts(&self) -> bool {
        self.config.persistent && !self.locked
    }

    /// Whether an account may know what is said in it, or who is there.
    pub fn admits(&self, account: &BareJid) -> bool {
        match self.affiliation(account) {
            Affiliation::Outcast => false,
            Affiliation::None => !self.config.members_only && !self.locked && self.config.password.is_none(),
            _ => true,
        }
    }

    pub(super) fn occupant(&self, jid: &FullJid) -> Outcome<&Occupant> {
        // §17.2: a room that is still being made is none.
        self.occupants.seated(jid).ok_or_else(|| match self.locked {
            true => StanzaCondition::ItemNotFound.into(),
            false => not_an_occupant(),
        })
    }

    /// What who acts may do. §8 and §9 go by its account: it acts from where it likes, and an admin need not be in the room.
    pub(super) fn rank_of(&self, from: &Jid) -> Rank {
        let account = from.to_bare();
        let affiliation = self.affiliation(&account);
        let role = match affiliation >= Affiliation::Admin {
            true => Some(Role::Moderator),
            false if self.occupants.has_account(&account) => {
                self.occupants.of_account(&account).map(|occupant| occupant.role).max()
            }
            false => None,
        };
        Rank { affiliation, role: role.unwrap_or_default() }
    }

    pub(super) fn address_of(&self, nick: &str) -> Outcome<FullJid> {
        self.address.with_resource(nick).map_err(|_| StanzaCondition::JidMalformed.into())
    }

    /// Whether an occupant sees the addresses of others.
    pub(super) fn sees_addresses(&self, viewer: &Occupant) -> bool {
        viewer.role == Role::Moderator || self.config.non_anonymous()
    }

    /// The item that shows an occupant.
    pub(super) fn item(occupant: &Occupant, with_address: bool) -> Item {
        Item {
            affiliation: Some(occupant.affiliation),
            role: Some(occupant.role),
            jid: occupant.seats.first().filter(|_| with_address).map(|seat| seat.jid.clone().into()),
            ..Item::default()
        }
    }

    /// The presence of an occupant, with what status codes say beside it.
    pub(super) fn presence_of(occupant: &Occupant, with_address: bool, statuses: &[Status]) -> Stanza {
        occupant.presence.with_child(&muc::user(Some(&Self::item(occupant, with_address)), statuses))
    }

    /// What an occupant shows has changed: the two forms in which others get it are made anew.
    pub(super) fn refresh(&mut self, nick: &str) {
        let hats = self.occupants.named(nick).and_then(|occupant| self.hats_of(&occupant.account));
        let has_hats = self.hats.is_some();
        if let Some(occupant) = self.occupants.named_mut(nick) {
            if has_hats {
                let bare = occupant.presence.without_children(|child| child.ns == hats::NS);
                occupant.presence = hats.iter().fold(bare, |presence, hats| presence.with_child(hats));
            }
            occupant.shown = [false, true].map(|with_address| Self::presence_of(occupant, with_address, &[]));
        }
    }

    /// Shows an occupant to all: itself gets it with these status codes.
    pub(super) fn show(&self, nick: &str, statuses: &[Status], out: &mut impl Outside) {
        self.show_acted(nick, &Deed { statuses, ..Deed::default() }, out);
    }

    /// The same, after somebody changed what it may do.
    pub(super) fn show_acted(&self, nick: &str, deed: &Deed<'_>, out: &mut impl Outside) {
        let Some(occupant) = self.occupants.named(nick) else { return };
        let shown = match deed {
            Deed { actor: None, reason: None, versions: None, .. } => occupant.shown.clone(),
            _ => [false, true].map(|with_address| {
                occupant.presence.with_child(&deed.tells(Self::item(occupant, with_address), &[]))
            }),
        };
        if self.config.broadcast.has(occupant.role) {
            for other in self.occupants.iter().filter(|other| other.address != occupant.address) {
                let presence = &shown[usize::from(self.sees_addresses(other))];
                other.seats.iter().for_each(|seat| out.send(seat, presence));
            }
        }
        let mut own = vec![Status::Own];
        own.extend_from_slice(deed.statuses);
        let item = Self::item(occupant, self.sees_addresses(occupant));
        let presence = occupant.presence.with_child(&deed.tells(item, &own));
        occupant.seats.iter().for_each(|seat| out.send(seat, &presence));
    }

    /// Tells an occupant that it has gone, and then everybody (§7.14, §8.2). It is no longer among the others.
    pub(super) fn say_gone(&self, gone: &Occupant, presence: &Stanza, deed: &Deed<'_>, out: &mut impl Outside) {
        let form = |with_address: bool, own: bool| {
            let item = Item { role: Some(Role::None), ..Self::item(gone, with_address) };
            let mut all = if own { vec![Status::Own] } else { Vec::new() };
            all.extend_from_slice(deed.statuses);
            presence.with_child(&deed.tells(item, &all))
        };
        let own = form(self.sees_addresses(gone), true);
        gone.seats.iter().for_each(|seat| out.send(seat, &own));
        if self.config.broadcast.has(gone.role) {
            let shown = [false, true].map(|with_address| form(with_address, false));
            for other in self.occupants.iter() {
                let presence = &shown[usize::from(self.sees_addresses(other))];
                other.seats.iter().for_each(|seat| out.send(seat, presence));
            }
        }
    }

    /// Takes an occupant out and tells everybody.
    pub(super) fn remove(&mut self, nick: &str, deed: &Deed<'_>, out: &mut impl Outside) {
        let Some(gone) = self.occupants.remove(nick) else { return };
        let presence = unavailable(&gone);
        self.say_gone(&gone, &presence, deed, out);
        self.after_leaving(out);
    }

    /// A room that does not last ends with its last occupant (§10.1.1).
    pub(super) fn after_leaving(&mut self, out: &mut impl Outside) {
        if self.occupants.is_empty() && !self.lasts() {
            out.change(Change::Destroyed);
        }
    }

    /// To all occupants.
    pub(super) fn broadcast(&self, stanza: &Stanza, out: &mut impl Outside) {
        for occupant in self.occupants.iter() {
            occupant.seats.iter().for_each(|seat| out.send(seat, stanza));
        }
    }
}

/// A stanza as an occupant sent it, as others may see it: from its address in the room, to nobody yet, without what only the room says.
pub(super) fn as_occupant(stanza: &Stanza, address: &FullJid, id: &str) -> Stanza {
    let rooms_own = |name: &str, ns: &str| {
        matches!(ns, muc::NS | muc::NS_USER | muc::NS_ADMIN | muc::NS_OWNER | occupant_ids::NS | hats::NS)
            || name == "delay" && ns == magpie_proto::xeps::delay::NS
    };
    stanza
        .without_children(|child| rooms_own(child.name, child.ns))
        .with(Attr::From, Some(address.as_str()))
        .with(Attr::To, None)
        .with_child(&occupant_ids::element(id))
}

/// The presence of somebody who is gone.
pub(super) fn unavailable(occupant: &Occupant) -> Stanza {
    let presence =
        Element::new("presence", ns::CLIENT).with_attr("from", &occupant.address).with_attr("type", "unavailable");
    Stanza::new(&presence.with(occupant_ids::element(&occupant.id)))
}

/// Who wants something that only occupants may.
pub(super) fn not_an_occupant() -> StanzaError {
    StanzaError::new(StanzaCondition::NotAcceptable, "only occupants of the room may do that")
}
