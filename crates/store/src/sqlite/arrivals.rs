//! Entries of archives on their way to the tables of their months: in memory by owner, and on disk in the order in which they came.
//!
//! An entry that was put at once where it belongs would touch a page of each of its owners. So what a commit group appends is one
//! row, a log of what was done (see [`Log`]), written one after another; in memory it waits for others of the same owners, and is
//! filed with them, owner by owner. There are two halves: one takes what arrives while the other is being filed. A store that is
//! opened after a crash does again what the logs say.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use super::archive::Appended;
use crate::archive::{Page, Topic};
use crate::backend::Entries;
use crate::batch::Effect;
use crate::ids::LogId;

/// What waits, shared by the writer and those who read.
#[derive(Default)]
pub(super) struct Arrivals(RwLock<Pending>);

/// Both halves.
#[derive(Default)]
pub(super) struct Pending {
    /// Grows when entries leave for the tables.
    version: u64,
    /// Which half takes what arrives.
    half: Half,
    arriving: Waiting,
    /// Bytes of the logs of that half.
    logged: usize,
    /// What is left of the other half.
    filing: Waiting,
    /// Whether the other half has logs on disk.
    is_filing: bool,
    names: Vec<Arc<str>>,
}

/// The half: the first, or the second.
pub(super) type Half = bool;

#[derive(Default)]
struct Waiting {
    /// By owner, in the order of their ids.
    owners: BTreeMap<Box<str>, Vec<Arrived>>,
    bytes: usize,
}

/// An entry that waits.
#[derive(Clone)]
pub(super) struct Arrived {
    pub(super) name: Arc<str>,
    pub(super) topic: Box<str>,
    pub(super) id: LogId,
    /// What it does to its topic.
    pub(super) effect: Effect,
    /// Whether it was new when it came, and was not taken back.
    pub(super) was_new: bool,
    pub(super) record: Arc<[u8]>,
}

/// Up to where entries were filed, in the order of owners and then of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filed {
    pub(super) owner: Box<str>,
    pub(super) id: LogId,
}

/// What an entry costs in memory besides its texts and its record.
const ENTRY_BYTES: usize = size_of::<Arrived>() + 16;

impl Arrivals {
    /// Does what a log says; `None` where it cannot be read.
    pub(super) fn apply(&self, log: &[u8]) -> Option<()> {
        self.0.write().apply(log)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Pending> {
        self.0.read()
    }

    /// What has arrived is to be filed, the other half takes what comes.
    pub(super) fn turn(&self) {
        let mut pending = self.0.write();
        debug_assert!(!pending.is_filing && pending.filing.owners.is_empty());
        (pending.half, pending.logged, pending.is_filing) = (!pending.half, 0, true);
        pending.filing = std::mem::take(&mut pending.arriving);
    }

    /// All of both halves is filed.
    pub(super) fn clear(&self) {
        let mut pending = self.0.write();
        *pending = Pending { version: pending.version + 1, half: pending.half, ..Pending::default() };
    }

    /// All of the other half is filed.
    pub(super) fn end(&self) {
        self.0.write().is_filing = false;
    }

    /// Begins with this half.
    pub(super) fn start(&self, half: Half) {
        self.0.write().half = half;
    }

    /// Lets go of what was filed.
    pub(super) fn filed(&self, up_to: &Filed) {
        let mut pending = self.0.write();
        pending.version += 1;
        pending.filing.forget(up_to);
    }

    /// What `read` finds in the tables together with what `fold` makes of what waits, both of one moment.
    pub(super) fn consistently<T>(
        &self,
        read: impl Fn() -> rusqlite::Result<T>,
        fold: impl Fn(&Pending, T) -> T,
    ) -> rusqlite::Result<T> {
        for _ in 0..ATTEMPTS {
            let before = self.0.read().version;
            let found = read()?;
            let pending = self.0.read();
            if pending.version == before {
                return Ok(fold(&pending, found));
            }
        }
        let pending = self.0.read();
        Ok(fold(&pending, read()?))
    }
}

/// Reads after which what waits is held.
const ATTEMPTS: usize = 3;

impl Pending {
    /// The half that takes what arrives.
    pub(super) fn half(&self) -> Half {
        self.half
    }

    /// Bytes of the half that takes what arrives: in memory, and on disk.
    pub(super) fn arriving_bytes(&self) -> (usize, usize) {
        (self.arriving.bytes, self.logged)
    }

    /// Whether the other half is being filed.
    pub(super) fn is_filing(&self) -> bool {
        self.is_filing
    }

    /// Whether all of the other half is filed.
    pub(super) fn has_none_to_file(&self) -> bool {
        self.filing.owners.is_empty()
    }

    /// What is to be filed, by owner.
    pub(super) fn to_file(&self) -> impl Iterator<Item = (&str, &[Arrived])> {
        self.filing.iter()
    }

    /// What has arrived, by owner.
    pub(super) fn arriving(&self) -> impl Iterator<Item = (&str, &[Arrived])> {
        self.arriving.iter()
    }

    /// As [`crate::Archive::page`] would find it if nothing were filed, in the order of the page.
    pub(super) fn page(&self, name: &str, owner: &str, page: &Page) -> Entries {
        let topic = page.topic.as_deref();
        let mut entries = Vec::new();
        let halves = if page.backwards { [&self.arriving, &self.filing] } else { [&self.filing, &self.arriving] };
        for half in halves {
            let Some(all) = half.owners.get(owner) else { continue };
            let from = page.after.map_or(0, |after| all.partition_point(|entry| entry.id <= after));
            let to = page.before.map_or(all.len(), |before| all.partition_point(|entry| entry.id < before));
            let all = all.get(from..to).unwrap_or_default().iter();
            let all = all.filter(|entry| *entry.name == *name && topic.is_none_or(|topic| *entry.topic == *topic));
            let found = |entry: &Arrived| (entry.id, entry.record.to_vec());
            let room = page.limit - entries.len();
            if page.backwards {
                entries.extend(all.rev().take(room).map(found));
            } else {
                entries.extend(all.take(room).map(found));
            }
        }
        entries
    }

    /// The ids of the first and the last entry that waits.
    pub(super) fn ends(&self, name: &str, owner: &str) -> Option<(LogId, LogId)> {
        let ids = || self.of(name, owner).map(|entry| entry.id);
        ids().min().zip(ids().max())
    }

    /// The entries of these ids, in their order; `ids` is sorted.
    pub(super) fn entries(&self, name: &str, owner: &str, ids: &[LogId]) -> Entries {
        let wanted = self.of(name, owner).filter(|entry| ids.binary_search(&entry.id).is_ok());
        wanted.map(|entry| (entry.id, entry.record.to_vec())).collect()
    }

    /// What a topic is with the entries that wait.
    pub(super) fn topic(&self, name: &str, owner: &str, topic: &str, filed: Option<Topic>) -> Option<Topic> {
        self.of(name, owner)
            .filter(|entry| *entry.topic == *topic)
            .fold(filed, |known, entry| Some(Topic::appended(known, entry.id, entry.effect)))
    }

    /// All topics with the entries that wait.
    pub(super) fn topics(&self, name: &str, owner: &str, filed: Vec<(String, Topic)>) -> Vec<(String, Topic)> {
        if self.of(name, owner).next().is_none() {
            return filed;
        }
        let mut all: BTreeMap<String, Topic> = filed.into_iter().collect();
        for entry in self.of(name, owner) {
            let known = all.get(&*entry.topic).copied();
            all.insert(entry.topic.to_string(), Topic::appended(known, entry.id, entry.effect));
        }
        all.into_iter().collect()
    }

    fn of(&self, name: &str, owner: &str) -> impl Iterator<Item = &Arrived> {
        let halves = [&self.filing, &self.arriving].into_iter().filter_map(move |half| half.owners.get(owner));
        halves.flatten().filter(move |entry| *entry.name == *name)
    }

    fn apply(&mut self, log: &[u8]) -> Option<()> {
        self.logged += log.len();
        let mut reader = Reader { rest: log, record: None };
        while let Some(done) = reader.next()? {
            match done {
                Done::Append { name, owner, topic, id, effect, record } => {
                    let name = self.name(name);
                    let (topic, was_new) = (topic.into(), effect == Effect::New);
                    self.arriving.add(owner, Arrived { name, topic, id, effect, was_new, record });
                }
                Done::Replace { name, owner, id, counts, record } => {
                    let found = self.of_mut(owner).find(|entry| *entry.name == *name && entry.id == id);
                    if let Some(entry) = found {
                        entry.record = record;
                        entry.was_new &= counts;
                        if !counts && entry.effect == Effect::New {
                            entry.effect = Effect::None;
                        }
                    }
                }
                Done::Read { name, owner, topic, id } => self
                    .of_mut(owner)
                    .filter(|entry| *entry.name == *name && *entry.topic == *topic)
                    .filter(|entry| entry.id <= id && entry.effect == Effect::New)
                    .for_each(|entry| entry.effect = Effect::None),
                Done::Erase { owner } => {
                    self.version += 1;
                    self.halves_mut().into_iter().for_each(|half| half.erase(owner));
                }
            }
        }
        Some(())
    }

    /// One copy of each name: there are few.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        self.names.push(name.into());
        self.names[self.names.len() - 1].clone()
    }

    fn halves_mut(&mut self) -> [&mut Waiting; 2] {
        [&mut self.filing, &mut self.arriving]
    }

    fn of_mut(&mut self, owner: &str) -> impl Iterator<Item = &mut Arrived> {
        self.halves_mut().into_iter().filter_map(move |half| half.owners.get_mut(owner)).flatten()
    }
}

impl Waiting {
    fn iter(&self) -> impl Iterator<Item = (&str, &[Arrived])> {
        self.owners.iter().map(|(owner, entries)| (&**owner, &**entries))
    }

    fn add(&mut self, owner: &str, entry: Arrived) {
        self.bytes += entry.bytes();
        match self.owners.get_mut(owner) {
            Some(entries) => entries.push(entry),
            None => drop(self.owners.insert(owner.into(), vec![entry])),
        }
    }

    fn erase(&mut self, owner: &str) {
        let gone = self.owners.remove(owner).unwrap_or_default();
        self.bytes -= gone.iter().map(Arrived::bytes).sum::<usize>();
    }

    fn forget(&mut self, up_to: &Filed) {
        let later = self.owners.split_off::<str>(&up_to.owner);
        self.owners = later;
        if let Some(entries) = self.owners.get_mut(&up_to.owner) {
            let filed = entries.partition_point(|entry| entry.id <= up_to.id);
            entries.drain(..filed);
            if entries.is_empty() {
                self.owners.remove(&up_to.owner);
            }
        }
        if self.owners.is_empty() {
            *self = Self::default();
        }
    }
}

impl Arrived {
    fn bytes(&self) -> usize {
        self.topic.len() + self.record.len() + ENTRY_BYTES
    }
}

/// Both in the order of the page, no more than it takes; what is in both is taken from what waits.
pub(super) fn merged(filed: Entries, waiting: Entries, page: &Page) -> Entries {
    if waiting.is_empty() {
        return filed;
    }
    let mut all = waiting;
    all.extend(filed);
    // Stable: what waited stays before what was filed of the same id.
    if page.backwards {
        all.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    } else {
        all.sort_by_key(|(id, _)| *id);
    }
    all.dedup_by_key(|(id, _)| *id);
    all.truncate(page.limit);
    all
}

/// What a transaction does to what waits, in order: one row of a half.
#[derive(Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    /// Where the record of the last entry lies: the next one, for the other side, mostly has the same.
    record: Option<(usize, usize)>,
    entries: usize,
}

const APPEND: u8 = 1;
const APPEND_SAME: u8 = 2;
const REPLACE: u8 = 3;
const READ: u8 = 4;
const ERASE: u8 = 5;
const TAKE_BACK: u8 = 6;

impl Log {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries it appends.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn append(&mut self, appended: &Appended<'_>) {
        let Appended { name, owner, topic, id, effect, record } = *appended;
        let same = self.record.is_some_and(|(from, to)| &self.bytes[from..to] == record);
        self.add(if same { APPEND_SAME } else { APPEND }, id, &[name, owner, topic]);
        self.bytes.push(match effect {
            Effect::None => 0,
            Effect::New => 1,
            Effect::Read => 2,
        });
        self.entries += 1;
        if !same {
            self.add_bytes(record);
            self.record = Some((self.bytes.len() - record.len(), self.bytes.len()));
        }
    }

    pub(super) fn replace(&mut self, name: &str, owner: &str, id: LogId, counts: bool, record: &[u8]) {
        self.add(if counts { REPLACE } else { TAKE_BACK }, id, &[name, owner]);
        self.add_bytes(record);
    }

    pub(super) fn read(&mut self, name: &str, owner: &str, topic: &str, up_to: LogId) {
        self.add(READ, up_to, &[name, owner, topic]);
    }

    pub(super) fn erase(&mut self, owner: &str) {
        self.add(ERASE, LogId(0), &[owner]);
    }

    fn add(&mut self, what: u8, id: LogId, texts: &[&str]) {
        self.bytes.push(what);
        self.bytes.extend_from_slice(&id.0.to_le_bytes());
        texts.iter().for_each(|text| self.add_bytes(text.as_bytes()));
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        // A batch is smaller than that: it was in memory whole, with its queue's limit.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }
}

/// One step of a log.
enum Done<'a> {
    Append { name: &'a str, owner: &'a str, topic: &'a str, id: LogId, effect: Effect, record: Arc<[u8]> },
    Replace { name: &'a str, owner: &'a str, id: LogId, counts: bool, record: Arc<[u8]> },
    Read { name: &'a str, owner: &'a str, topic: &'a str, id: LogId },
    Erase { owner: &'a str },
}

struct Reader<'a> {
    rest: &'a [u8],
    record: Option<Arc<[u8]>>,
}

impl<'a> Reader<'a> {
    /// The next step, or none at the end; the outer `None` is a log that was cut or changed.
    fn next(&mut self) -> Option<Option<Done<'a>>> {
        let Some((what, rest)) = self.rest.split_first() else { return Some(None) };
        let (id, rest) = rest.split_first_chunk()?;
        self.rest = rest;
        let id = LogId(u64::from_le_bytes(*id));
        Some(Some(match *what {
            APPEND | APPEND_SAME => {
                let (name, owner, topic) = (self.text()?, self.text()?, self.text()?);
                let (effect, rest) = self.rest.split_first()?;
                self.rest = rest;
                let effect = *[Effect::None, Effect::New, Effect::Read].get(usize::from(*effect))?;
                if *what == APPEND {
                    self.record = Some(self.bytes()?.into());
                }
                Done::Append { name, owner, topic, id, effect, record: self.record.clone()? }
            }
            REPLACE | TAKE_BACK => {
                let (name, owner, record) = (self.text()?, self.text()?, self.bytes()?.into());
                Done::Replace { name, owner, id, counts: *what == REPLACE, record }
            }
            READ => Done::Read { name: self.text()?, owner: self.text()?, topic: self.text()?, id },
            ERASE => Done::Erase { owner: self.text()? },
            _ => return None,
        }))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}
