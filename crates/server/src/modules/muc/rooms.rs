//! The rooms that are awake: those with somebody in them, and those of which something is being asked. All others are in the store
//! alone.
//!
//! A room is changed under its own lock, and what follows is handed to sessions and to the store in the same breath; nothing
//! awaits there. Who finds a room asleep reads it first; of several who do, one does.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::result_sets::Page;
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StanzaError};
use magpie_store::{Batch, StoreError, Ticket};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::occupants::Seat;
use super::room::{Change, Outcome, Outside, Room, Said};
use super::storage::Storage;
use super::talking::HISTORY_MAX;
use super::throttling::{Pace, Takers};
use crate::accounts;
use crate::mailbox::{Addressee, Delivery};
use crate::modules::archive::{Kept, MessageArchive};
use crate::modules::offline::refusal;
use crate::modules::retraction::Tombstones;
use crate::registry::SessionId;
use crate::server::{Deps, now};

/// Enough that two cores rarely meet at one lock.
const SHARDS: usize = 64;

type Shard = HashMap<BareJid, Arc<Mutex<Bed>>>;

/// A room that is awake, or was until a moment ago.
struct Bed {
    room: Room,
    /// It fell asleep, or is no more, after it was looked up: look again.
    left: bool,
}

/// The rooms of this node.
pub struct Rooms {
    shards: Box<[Mutex<Shard>]>,
    /// For who reads a room from the store.
    turns: Box<[tokio::sync::Mutex<()>]>,
    hasher: RandomState,
    /// Those that are listed and do not last, by their services: their local parts, with their names.
    passing: Mutex<HashMap<BareJid, BTreeMap<String, String>>>,
    /// The rows.
    pub storage: Storage,
    archive: Arc<MessageArchive>,
    deps: Deps,
}

/// What an act on a room leaves to do.
#[derive(Default)]
pub struct Left {
    /// For whom is not reached as an occupant.
    pub out: Vec<Stanza>,
    /// Sessions that get it besides who is named: those of one account, with one private message.
    pub others: SmallVec<[SessionId; 1]>,
    /// The message that was put into the archive.
    pub kept: Option<Kept>,
    /// Who is to be woken for a message, each with the nickname that is its own in the room.
    pub sleepers: Vec<(BareJid, Option<String>)>,
    /// What they are woken for.
    pub news: Option<Stanza>,
    /// Whether only members may enter the room.
    pub private: bool,
    /// Resolves when what changed is on disk.
    pub ticket: Option<Ticket>,
}

/// The outside of a room while something is done to it.
pub struct Act<'a> {
    rooms: &'a Rooms,
    address: BareJid,
    now: DateTime,
    changes: Vec<Change>,
    /// What takes the place of messages that are taken back, written with the one that does it.
    pub tombstones: Tombstones,
    left: Left,
}

impl Outside for Act<'_> {
    fn now(&self) -> DateTime {
        self.now
    }

    fn pace(&self) -> Pace {
        Pace::of(&self.rooms.deps.config.load().rooms)
    }

    fn send(&mut self, seat: &Seat, stanza: &Stanza) {
        if let Some(session) = &seat.session {
            session.mailbox.deliver(Delivery::to(stanza.clone(), Addressee::Session));
        }
    }

    fn send_kept(&mut self, seat: &Seat, stanza: &Stanza) {
        if let Some(session) = &seat.session {
            session.mailbox.deliver(Delivery::shared(stanza.clone()));
        }
    }

    fn send_out(&mut self, stanza: Stanza) {
        self.left.out.push(stanza);
    }

    fn send_private(&mut self, seats: &[Seat], stanza: &Stanza) {
        let Some((first, others)) = seats.split_first() else { return };
        self.left.out.push(stanza.with(Attr::To, Some(first.jid.as_str())));
        self.left.others = others.iter().filter_map(|seat| Some(seat.session.as_ref()?.id)).collect();
    }

    fn keep(&mut self, message: Stanza, also: Option<&Element>) -> Stanza {
        let kept =
            self.rooms.archive.keep_in_room(&message, also, &self.address, &std::mem::take(&mut self.tombstones));
        let Some(kept) = kept else { return message };
        let stamped = self.rooms.archive.stamped(&message, &self.address, kept.place);
        self.left.kept = Some(kept);
        stamped
    }

    fn wake(&mut self, account: &BareJid, nick: Option<&str>, message: &Stanza) {
        self.left.sleepers.push((account.clone(), nick.map(str::to_owned)));
        self.left.news.get_or_insert_with(|| message.clone());
    }

    fn change(&mut self, change: Change) {
        // Writing one twice does no harm, and a list of ten thousand is not looked through for each of them.
        if self.changes.last() != Some(&change) {
            self.changes.push(change);
        }
    }
}

impl Rooms {
    /// None awake.
    pub fn new(deps: &Deps, archive: Arc<MessageArchive>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turns: (0..SHARDS).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
            passing: Mutex::default(),
            storage: Storage::new(&deps.store),
            archive,
            deps: deps.clone(),
        }
    }

    fn index(&self, address: &BareJid) -> usize {
        self.hasher.hash_one(address.as_str()) as usize % SHARDS
    }

    /// How many are awake.
    pub fn awake(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether an account may make a room now.
    pub fn check_maker(&self, makers: &Takers, account: &BareJid) -> Outcome {
        let config = self.deps.config.load();
        let is_admin = config.admins.iter().any(|admin| admin == account.as_str());
        makers.make_room(account, is_admin, &config.rooms, i64::try_from(now().as_millis()).unwrap_or(i64::MAX))
    }

    /// Those of a service that are awake.
    pub fn awake_of(&self, service: &BareJid) -> Vec<BareJid> {
        let of_service = |shard: &Mutex<Shard>| -> Vec<BareJid> {
            let shard = shard.lock();
            shard.keys().filter(|room| room.domain() == service.domain()).cloned().collect()
        };
        self.shards.iter().flat_map(of_service).collect()
    }

    /// All rooms of a service, asleep or awake, in the order of their localparts.
    pub async fn all_of(
        &self,
        service: &BareJid,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BareJid>, StoreError> {
        let mut rooms = self.storage.all_of(service, after, limit).await?;
        rooms.extend(
            self.awake_of(service).into_iter().filter(|room| after.is_none_or(|after| room.local() > Some(after))),
        );
        rooms.sort_unstable_by(|one, other| one.local().cmp(&other.local()));
        rooms.dedup();
        rooms.truncate(limit);
        Ok(rooms)
    }

    /// Writes.
    pub fn commit(&self, batch: Batch) -> Ticket {
        self.deps.store.commit(batch)
    }

    fn bed(&self, address: &BareJid) -> Option<Arc<Mutex<Bed>>> {
        self.shards[self.index(address)].lock().get(address).cloned()
    }

    /// Does something to a room that is awake. `None`: it is not, or it does not know yet what was said in it and `remembering` asks for
    /// that; nothing was done.
    pub fn with_awake<R>(
        &self,
        address: &BareJid,
        remembering: bool,
        act: impl FnOnce(&mut Room, &mut Act<'_>) -> R,
    ) -> Option<(R, Left)> {
        loop {
            let bed = self.bed(address)?;
            let mut bed = bed.lock();
            if bed.left {
                continue;
            }
            if remembering && !bed.room.remembers {
                return None;
            }
            let mut outside = Act {
                rooms: self,
                address: address.clone(),
                now: now().into(),
                changes: Vec::new(),
                tombstones: Tombstones::default(),
                left: Left::default(),
            };
            let done = act(&mut bed.room, &mut outside);
            let Act { changes, left, .. } = outside;
            return Some((done, self.settle(&mut bed, &changes, left)));
        }
    }

    /// Writes what has changed, and lets a room sleep that nobody is in.
    fn settle(&self, bed: &mut Bed, changes: &[Change], mut left: Left) -> Left {
        let room = &mut bed.room;
        let destroyed = changes.contains(&Change::Destroyed);
        left.private = room.config.members_only;
        if destroyed || changes.contains(&Change::Record) {
            self.list_passing(room, destroyed);
        }
        room.stored |= left.kept.is_some();
        if !changes.is_empty() && (room.stored || room.lasts()) {
            let mut batch = Batch::new();
            self.storage.write_all(&mut batch, room, changes);
            room.stored &= !destroyed;
            room.stored |= room.lasts();
            left.ticket = Some(self.deps.store.commit(batch));
        }
        if destroyed || room.occupants.is_empty() {
            bed.left = true;
            self.shards[self.index(&bed.room.address)].lock().remove(&bed.room.address);
        }
        left
    }

    fn list_passing(&self, room: &Room, destroyed: bool) {
        let local = room.address.local().unwrap_or_default();
        let mut passing = self.passing.lock();
        let passing = passing.entry(room.address.to_domain()).or_default();
        match !destroyed && !room.lasts() && room.is_listed() {
            true => drop(passing.insert(local.to_owned(), room.config.name.clone())),
            false => drop(passing.remove(local)),
        }
    }

    /// The rooms of a service that are listed and do not last, with their names: those after a local part, or before one.
    pub fn passing(&self, service: &BareJid, page: Option<&Page>, max: usize) -> Vec<(String, String)> {
        let passing = self.passing.lock();
        let Some(passing) = passing.get(service) else { return Vec::new() };
        let (from, to) = match page {
            Some(Page::After(name)) => (Bound::Excluded(name.as_str()), Bound::Unbounded),
            Some(Page::Before(name)) => (Bound::Unbounded, Bound::Excluded(name.as_str())),
            _ => (Bound::Unbounded, Bound::Unbounded),
        };
        let found = passing.range::<str, _>((from, to)).map(|(local, name)| (local.clone(), name.clone()));
        match page {
            Some(Page::Last | Page::Before(_)) => found.rev().take(max).collect(),
            _ => found.take(max).collect(),
        }
    }

    /// How many of them there are, and how many before a local part.
    pub fn count_passing(&self, service: &BareJid, before: Option<&str>) -> u64 {
        let passing = self.passing.lock();
        passing.get(service).map_or(0, |passing| match before {
            None => passing.len() as u64,
            Some(before) => passing.range::<str, _>((Bound::Unbounded, Bound::Excluded(before))).count() as u64,
        })
    }

    /// Does something to a room, wherever it is.
    ///
    /// # Errors
    /// `item-not-found` where there is none.
    pub async fn with<R>(
        &self,
        address: &BareJid,
        act: impl FnOnce(&mut Room, &mut Act<'_>) -> Outcome<R> + Send,
    ) -> Outcome<(R, Left)> {
        self.with_or_new(address, false, || Err(StanzaCondition::ItemNotFound.into()), act).await
    }

    /// The same; where there is none, `make` says which one is made, or why not.
    pub async fn with_or_new<R>(
        &self,
        address: &BareJid,
        remembering: bool,
        make: impl FnOnce() -> Outcome<Room> + Send,
        act: impl FnOnce(&mut Room, &mut Act<'_>) -> Outcome<R> + Send,
    ) -> Outcome<(R, Left)> {
        let (mut make, mut act) = (Some(make), Some(act));
        loop {
            let mut once = |room: &mut Room, outside: &mut Act<'_>| act.take().map(|act| act(room, outside));
            if let Some((Some(done), left)) = self.with_awake(address, remembering, &mut once) {
                return done.map(|done| (done, left));
            }
            let _turn = self.turns[self.index(address)].lock().await;
            match self.bed(address) {
                Some(_) if !remembering => continue,
                Some(_) => {
                    let said = self.said_before(address).await?;
                    if let Some(bed) = self.bed(address) {
                        let mut bed = bed.lock();
                        if !std::mem::replace(&mut bed.room.remembers, true) {
                            said.into_iter().for_each(|said| bed.room.remember(said));
                        }
                    }
                    continue;
                }
                None => {}
            }
            let room = match self.storage.read(address).await.map_err(refusal)? {
                Some(mut room) => {
                    if remembering {
                        room.remembers = true;
                        self.said_before(address).await?.into_iter().for_each(|said| room.remember(said));
                    }
                    room
                }
                None => {
                    let Some(make) = make.take() else { return Err(StanzaCondition::ItemNotFound.into()) };
                    let room = make()?;
                    self.forget_namesake(address).await?;
                    Room { remembers: true, ..room }
                }
            };
            let bed = Bed { room, left: false };
            self.shards[self.index(address)].lock().insert(address.clone(), Arc::new(Mutex::new(bed)));
        }
    }

    /// A room that did not last can have left an archive or a vCard where the server was killed: they are not for those who come later.
    async fn forget_namesake(&self, address: &BareJid) -> Outcome {
        let left = self.archive.has_any(address).await.map_err(refusal)?
            || self.storage.vcard(address).await.map_err(refusal)?.is_some();
        if left {
            let mut batch = Batch::new();
            batch.erase(&accounts::owner(address));
            self.deps.store.commit(batch).await.map_err(refusal)?;
        }
        Ok(())
    }

    /// What was said last, from the archive.
    async fn said_before(&self, address: &BareJid) -> Result<Vec<Said>, StanzaError> {
        let mut said = Vec::new();
        let enough = |place: magpie_store::LogId, message: &Stanza| {
            if message.child("body", magpie_proto::ns::CLIENT).is_some() {
                let message = message.without_children(|child| child.ns == magpie_proto::xeps::muc::NS_USER);
                let message = self.archive.stamped(&message, address, place);
                let at = DateTime::from_unix_millis(i64::try_from(place.millis()).unwrap_or(i64::MAX));
                said.push(Said { at, message });
            }
            said.len() == HISTORY_MAX
        };
        self.archive.look_back(address, address, HISTORY_MAX, enough).await.map_err(refusal)?;
        said.reverse();
        Ok(said)
    }
}
