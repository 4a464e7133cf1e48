//! A store that forgets. Without faults it has no thread: a commit is done when it returns, and a read is ready at once,
//! so that a run of the server from a seed stays one.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use parking_lot::Mutex;

use crate::archive::{self, Page, Topic};
use crate::backend::{Backend, Between, Entries, KeyedEntries};
use crate::batch::{Batch, Change, Effect, Operation};
use crate::error::StoreError;
use crate::faults::Faults;
use crate::ids::{Ids, LogId, month};
use crate::reading::Reading;
use crate::rows::{Found, Want, Wanted};
use crate::search::{SearchIndex, TextOf};
use crate::statistics::{Counters, Statistics};
use crate::ticket::{Outcome, Ticket, Withdrawal};
use crate::writer::{Bounds, Commit, Writer};

pub(crate) struct Memory {
    tables: Arc<Mutex<Tables>>,
    /// Only where faults are wanted: a slow commit has to be slow for somebody else.
    writer: Option<Writer>,
    faults: Faults,
    counters: Arc<Counters>,
    closed: AtomicBool,
}

/// Everything of an owner is in one place, and goes with it.
#[derive(Default)]
struct Tables(BTreeMap<String, Rows>);

#[derive(Default)]
struct Rows {
    values: BTreeMap<&'static str, Vec<u8>>,
    maps: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    logs: BTreeMap<&'static str, BTreeMap<LogId, Vec<u8>>>,
    archives: BTreeMap<&'static str, Archived>,
}

#[derive(Default)]
struct Archived {
    entries: BTreeMap<LogId, Filed>,
    topics: BTreeMap<String, Topic>,
}

struct Filed {
    topic: String,
    new: bool,
    record: Vec<u8>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            tables: Arc::default(),
            writer: None,
            faults: Faults::new(),
            counters: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn with_writer(faults: Faults, bounds: Bounds) -> io::Result<Self> {
        let memory = Self { faults: faults.clone(), ..Self::new() };
        let commit = Box::new(memory.tables.clone());
        let writer = Writer::start(commit, bounds, faults, memory.counters.clone())?;
        Ok(Self { writer: Some(writer), ..memory })
    }

    /// `place` is called under the lock, so that what it does has the order of the commits.
    fn apply(&self, mut batch: Batch, place: impl FnOnce(&mut Batch)) -> Ticket {
        if batch.is_empty() {
            return Ticket::done();
        }
        let since = Instant::now();
        let outcome = match self.closed.load(SeqCst) {
            true => Err(StoreError::Closed),
            false => {
                let mut tables = self.tables.lock();
                place(&mut batch);
                tables.apply(&batch)
            }
        };
        self.counters.outcome(batch.writes(), &outcome);
        self.counters.committed(since.elapsed());
        Ticket::settled(outcome)
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> Reading<T> {
        self.counters.begin_read();
        if self.closed.load(SeqCst) {
            return Reading::ready(Err(StoreError::Closed));
        }
        if let Some(fault) = self.faults.fail_read() {
            return Reading::ready(Err(fault));
        }
        Reading::ready(Ok(read(&self.tables.lock())))
    }

    fn read_owner<T: Default>(&self, owner: &str, read: impl FnOnce(&Rows) -> T) -> Reading<T> {
        self.read(|tables| tables.0.get(owner).map(read).unwrap_or_default())
    }
}

impl Backend for Memory {
    fn commit(&self, batch: Batch) -> Ticket {
        if let Some(writer) = &self.writer {
            return writer.commit(batch);
        }
        self.apply(batch, |_| {})
    }

    fn commit_placed(&self, batch: Batch, ids: &Ids) -> (LogId, Ticket) {
        if let Some(writer) = &self.writer {
            return writer.commit_placed(batch, ids);
        }
        let mut place = None;
        let ticket = self.apply(batch, |batch| batch.place(*place.insert(ids.next())));
        (place.unwrap_or_else(|| ids.next()), ticket)
    }

    fn commit_later(&self, batch: Batch) -> (Ticket, Withdrawal) {
        match &self.writer {
            Some(writer) => writer.commit_later(batch),
            None => (self.commit(batch), Withdrawal::none()),
        }
    }

    fn withdraw(&self, withdrawal: &Withdrawal) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.withdraw(withdrawal))
    }

    fn value(&self, name: &'static str, owner: &str) -> Reading<Option<Vec<u8>>> {
        self.read_owner(owner, |rows| rows.values.get(name).cloned())
    }

    fn owners(&self, name: &'static str, prefix: &str, after: Option<&str>, limit: usize) -> Reading<Vec<String>> {
        self.read(|tables| {
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix),
            };
            let owners = tables.0.range::<str, _>((from, Bound::Unbounded));
            let owners = owners.take_while(|(owner, _)| owner.starts_with(prefix));
            let owners = owners.filter(|(_, rows)| rows.values.contains_key(name));
            owners.map(|(owner, _)| owner.clone()).take(limit).collect()
        })
    }

    fn count_owners(&self, name: &'static str, prefix: &str) -> Reading<u64> {
        self.read(|tables| {
            let owners = tables.0.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            let owners = owners.take_while(|(owner, _)| owner.starts_with(prefix));
            owners.filter(|(_, rows)| rows.values.contains_key(name)).count() as u64
        })
    }

    fn entry(&self, name: &'static str, owner: &str, key: &str) -> Reading<Option<Vec<u8>>> {
        self.read_owner(owner, |rows| rows.maps.get(name)?.get(key).cloned())
    }

    fn entries(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Vec<u8>)>> {
        self.read_owner(owner, |rows| {
            let map = rows.maps.get(name).into_iter().flatten();
            map.map(|(key, record)| (key.clone(), record.clone())).collect()
        })
    }

    fn keys(&self, name: &'static str, owner: &str, between: Between<'_>, limit: usize) -> Reading<KeyedEntries> {
        self.read_owner(owner, |rows| {
            let entries = rows.maps.get(name).into_iter().flat_map(|map| part(map, between));
            let owned = |(key, record): (&String, &Vec<u8>)| (key.clone(), record.clone());
            match between.back {
                false => entries.take(limit).map(owned).collect(),
                true => entries.rev().take(limit).map(owned).collect(),
            }
        })
    }

    fn count_keys(&self, name: &'static str, owner: &str, between: Between<'_>) -> Reading<u64> {
        self.read_owner(owner, |rows| rows.maps.get(name).into_iter().flat_map(|map| part(map, between)).count() as u64)
    }

    fn range(&self, name: &'static str, owner: &str, after: Option<LogId>, limit: usize) -> Reading<Entries> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read_owner(owner, |rows| {
            let log = rows.logs.get(name).into_iter().flat_map(|log| log.range((after, Bound::Unbounded)));
            log.take(limit).map(|(id, record)| (*id, record.clone())).collect()
        })
    }

    fn range_back(&self, name: &'static str, owner: &str, before: Option<LogId>, limit: usize) -> Reading<Entries> {
        let before = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.read_owner(owner, |rows| {
            let log = rows.logs.get(name).into_iter().flat_map(|log| log.range((Bound::Unbounded, before)).rev());
            log.take(limit).map(|(id, record)| (*id, record.clone())).collect()
        })
    }

    fn count_entries(&self, name: &'static str, owner: &str) -> Reading<u64> {
        self.read_owner(owner, |rows| rows.logs.get(name).map_or(0, BTreeMap::len) as u64)
    }

    fn page(&self, name: &'static str, owner: &str, page: Page) -> Reading<Entries> {
        self.read_owner(owner, |rows| rows.archives.get(name).map(|archive| archive.page(&page)).unwrap_or_default())
    }

    fn ends(&self, name: &'static str, owner: &str) -> Reading<Option<(LogId, LogId)>> {
        self.read_owner(owner, |rows| {
            let entries = &rows.archives.get(name)?.entries;
            Some((*entries.first_key_value()?.0, *entries.last_key_value()?.0))
        })
    }

    fn archived(&self, name: &'static str, owner: &str, mut ids: Vec<LogId>) -> Reading<Entries> {
        ids.sort_unstable();
        ids.dedup();
        self.read_owner(owner, |rows| {
            let Some(archive) = rows.archives.get(name) else { return Vec::new() };
            ids.into_iter().filter_map(|id| Some((id, archive.entries.get(&id)?.record.clone()))).collect()
        })
    }

    fn of_moments(
        &self,
        name: &'static str,
        owner: &str,
        topic: Option<String>,
        moments: Vec<u64>,
    ) -> Reading<Entries> {
        self.read_owner(owner, |rows| {
            let Some(archive) = rows.archives.get(name) else { return Vec::new() };
            let of_topic = |filed: &Filed| topic.as_ref().is_none_or(|topic| *topic == filed.topic);
            let entries = moments.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter();
            let entries = entries
                .flat_map(|moment| archive.entries.range(LogId::at_millis(moment)..LogId::at_millis(moment + 1)));
            entries.filter(|(_, filed)| of_topic(filed)).map(|(id, filed)| (*id, filed.record.clone())).collect()
        })
    }

    fn index(&self, _: &'static str, _: TextOf) -> Option<Arc<dyn SearchIndex>> {
        None
    }

    fn topics(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Topic)>> {
        self.read_owner(owner, |rows| {
            let topics = rows.archives.get(name).into_iter().flat_map(|archive| &archive.topics);
            topics.map(|(topic, known)| (topic.clone(), *known)).collect()
        })
    }

    fn topic(&self, name: &'static str, owner: &str, topic: &str) -> Reading<Option<Topic>> {
        self.read_owner(owner, |rows| rows.archives.get(name)?.topics.get(topic).copied())
    }

    fn rows(&self, owner: &str, wanted: &[Wanted]) -> Reading<Vec<Found>> {
        self.read(|tables| {
            let empty = Rows::default();
            let rows = tables.0.get(owner).unwrap_or(&empty);
            wanted.iter().map(|wanted| rows.find(wanted.0)).collect()
        })
    }

    fn settled(&self) -> Ticket {
        self.writer.as_ref().map_or_else(Ticket::done, Writer::settled)
    }

    fn statistics(&self) -> Statistics {
        self.writer.as_ref().map_or_else(|| self.counters.statistics(0, 0), Writer::statistics)
    }

    fn close(&self) {
        self.closed.store(true, SeqCst);
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }
}

impl Rows {
    fn find(&self, want: Want) -> Found {
        match want {
            Want::Value(name) => Found::Value(self.values.get(name).cloned()),
            Want::Map(name) => {
                let map = self.maps.get(name).into_iter().flatten();
                Found::Map(map.map(|(key, record)| (key.clone(), record.clone())).collect())
            }
        }
    }
}

impl Archived {
    fn page(&self, page: &Page) -> Entries {
        let from = page.after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = page.before.map_or(Bound::Unbounded, Bound::Excluded);
        if let (Some(after), Some(before)) = (page.after, page.before)
            && after >= before
        {
            return Vec::new();
        }
        let matches = |filed: &Filed| page.topic.as_ref().is_none_or(|topic| *topic == filed.topic);
        let entries = self.entries.range((from, to)).filter(|(_, filed)| matches(filed));
        let entry = |(id, filed): (&LogId, &Filed)| (*id, filed.record.clone());
        match page.backwards {
            true => entries.rev().take(page.limit).map(entry).collect(),
            false => entries.take(page.limit).map(entry).collect(),
        }
    }

    /// Of the topic: how many after the id are new.
    fn new_after(&self, topic: &str, id: LogId) -> u64 {
        let after = self.entries.range((Bound::Excluded(id), Bound::Unbounded));
        after.filter(|(_, filed)| filed.new && filed.topic == topic).count() as u64
    }

    fn replace(&mut self, id: LogId, counts: bool, record: &[u8]) {
        let Some(filed) = self.entries.get_mut(&id) else { return };
        filed.record = record.to_vec();
        if !counts && std::mem::take(&mut filed.new) {
            let topic = filed.topic.clone();
            // Of those that ever were new the newest are.
            let after = self.new_after(&topic, id);
            if let Some(known) = self.topics.get_mut(&topic).filter(|known| after < known.new) {
                known.new -= 1;
            }
        }
    }

    fn forget(&mut self, before: i64) {
        self.entries.retain(|id, _| month(*id) >= before);
        let (entries, topics) = (&self.entries, &mut self.topics);
        topics.retain(|topic, known| {
            known.count = entries.values().filter(|filed| filed.topic == *topic).count() as u64;
            known.new = known.new.min(known.count);
            known.count > 0
        });
    }
}

impl Archived {
    fn trim(&mut self, before: LogId, limit: usize) {
        let old: Vec<LogId> = self.entries.range(..before).take(limit).map(|(id, _)| *id).collect();
        for filed in old.iter().filter_map(|id| self.entries.remove(id)) {
            let Some(known) = self.topics.get_mut(&filed.topic) else { continue };
            known.count -= 1;
            known.new = known.new.min(known.count);
        }
        self.topics.retain(|_, known| known.count > 0);
    }
}

/// The entries of a map between two keys.
fn part<'a>(
    map: &'a BTreeMap<String, Vec<u8>>,
    between: Between<'_>,
) -> impl DoubleEndedIterator<Item = (&'a String, &'a Vec<u8>)> {
    // A range that ends before it begins is a panic.
    let bounds = (Bound::Excluded(between.after), Bound::Excluded(between.before));
    (between.after < between.before).then(|| map.range::<str, _>(bounds)).into_iter().flatten()
}

impl Commit for Arc<Mutex<Tables>> {
    fn commit(&mut self, batches: &[Batch]) -> Outcome {
        let mut tables = self.lock();
        let outcomes: Vec<_> = batches.iter().map(|batch| tables.apply(batch)).collect();
        if outcomes.iter().all(Result::is_ok) { Outcome::Committed } else { Outcome::Each(outcomes) }
    }
}

impl Tables {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_out_of_range() {
            return Err(StoreError::Backend("a log id is larger than LogId::MAX".into()));
        }
        if batch.is_unplaced() {
            return Err(StoreError::Backend("an entry of an archive has no id".into()));
        }
        if !batch.operations().all(|operation| self.holds(operation)) {
            return Err(StoreError::Conflict);
        }
        batch.operations().for_each(|operation| self.write(operation));
        Ok(())
    }

    fn holds(&self, operation: Operation<'_>) -> bool {
        match operation {
            Operation::Value { name, owner, change: Change::Expect(expected) } => {
                let found = self.0.get(owner).and_then(|rows| rows.values.get(name));
                found.map(Vec::as_slice) == expected
            }
            Operation::Map { name, owner, key, change: Change::Expect(expected) } => {
                let found = self.0.get(owner).and_then(|rows| rows.maps.get(name)?.get(key));
                found.map(Vec::as_slice) == expected
            }
            _ => true,
        }
    }

    fn write(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Value { name, owner, change: Change::Put(record) } => {
                self.rows(owner).values.insert(name, record.to_vec());
            }
            Operation::Value { name, owner, change: Change::Delete } => {
                self.rows(owner).values.remove(name);
            }
            Operation::Map { name, owner, key, change: Change::Put(record) } => {
                self.rows(owner).maps.entry(name).or_default().insert(key.to_string(), record.to_vec());
            }
            Operation::Map { name, owner, key, change: Change::Delete } => {
                self.rows(owner).maps.entry(name).or_default().remove(key);
            }
            Operation::Value { change: Change::Expect(_), .. } | Operation::Map { change: Change::Expect(_), .. } => {}
            Operation::MapClear { name, owner } => {
                self.rows(owner).maps.remove(name);
            }
            Operation::LogAppend { name, owner, id, record } => {
                self.rows(owner).logs.entry(name).or_default().insert(id, record.to_vec());
            }
            Operation::LogDelete { name, owner, id } => {
                self.rows(owner).logs.entry(name).or_default().remove(&id);
            }
            Operation::LogClear { name, owner } => {
                self.rows(owner).logs.remove(name);
            }
            Operation::ArchiveAppend { name, owner, topic, id, effect, record } => {
                let archive = self.rows(owner).archives.entry(name).or_default();
                if let Some(filed) = archive.entries.get_mut(&id) {
                    filed.record = record.to_vec();
                    return;
                }
                let filed = Filed { topic: topic.to_string(), new: effect == Effect::New, record: record.to_vec() };
                archive.entries.insert(id, filed);
                let known = archive.topics.get(topic).copied();
                archive.topics.insert(topic.to_string(), Topic::appended(known, id, effect));
            }
            Operation::ArchiveReplace { name, owner, id, counts, record } => {
                if let Some(archive) = self.rows(owner).archives.get_mut(name) {
                    archive.replace(id, counts, record);
                }
            }
            Operation::ArchiveRead { name, owner, topic, id } => {
                let archive = self.rows(owner).archives.entry(name).or_default();
                let new = archive.new_after(topic, id);
                if let Some(known) = archive.topics.get_mut(topic) {
                    known.new = known.new.min(new);
                }
            }
            Operation::ArchiveForget { name, space, id } => {
                let owners = self.0.iter_mut().filter(|(owner, _)| archive::space(owner) == space);
                owners
                    .filter_map(|(_, rows)| rows.archives.get_mut(name))
                    .for_each(|archive| archive.forget(month(id)));
            }
            Operation::ArchiveTrim { name, owner, id, limit } => {
                if let Some(archive) = self.rows(owner).archives.get_mut(name) {
                    archive.trim(id, limit);
                }
            }
            // Nothing is indexed here.
            Operation::ArchiveRemovalsSeen { .. } => {}
            Operation::Erase { owner } => {
                self.0.remove(owner);
            }
        }
    }

    fn rows(&mut self, owner: &str) -> &mut Rows {
        self.0.entry(owner.to_string()).or_default()
    }
}
