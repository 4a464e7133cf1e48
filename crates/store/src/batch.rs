//! What is to be written: a list of operations with preconditions, as data, so that any backend can carry it out.

use std::fmt;

use smallvec::SmallVec;

use crate::archive::Filing;
use crate::ids::LogId;
use crate::record::Record;

/// Writes that become durable together.
///
/// A batch fails with [`StoreError::Conflict`](crate::StoreError::Conflict) where a precondition does not hold.
/// Preconditions are checked before the batch writes anything, so their place in it does not matter; the writes are
/// done in the order in which they were added.
#[derive(Default)]
pub struct Batch {
    entries: SmallVec<[Entry; 2]>,
    /// Owners, keys and records, one after another, so that a batch costs one allocation.
    bytes: Vec<u8>,
    conditions: usize,
    out_of_range: bool,
    unplaced: bool,
    past: bool,
}

/// What an entry of an archive does to its topic's count of what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// It is new itself.
    New,
    /// Nothing up to it is new any more.
    Read,
}

/// Stands for the id that [`Store::commit_placed`](crate::Store::commit_placed) gives.
const PLACE: LogId = LogId(u64::MAX);

/// Where an operation's parts lie in the bytes of its batch.
#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    name: &'static str,
    id: LogId,
    owner: usize,
    key: usize,
    text_end: usize,
    record: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    ValuePut,
    ValueDelete,
    ValueIs,
    ValueIsAbsent,
    MapPut,
    MapDelete,
    MapClear,
    MapIs,
    MapIsAbsent,
    LogAppend,
    LogDelete,
    LogClear,
    ArchiveAppend(Effect),
    ArchiveReplace { counts: bool },
    ArchiveRead,
    ArchiveForget,
    ArchiveTrim,
    ArchiveRemovalsSeen,
    Erase,
}

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Value {
        name: &'static str,
        owner: &'a str,
        change: Change<'a>,
    },
    Map {
        name: &'static str,
        owner: &'a str,
        key: &'a str,
        change: Change<'a>,
    },
    MapClear {
        name: &'static str,
        owner: &'a str,
    },
    LogAppend {
        name: &'static str,
        owner: &'a str,
        id: LogId,
        record: &'a [u8],
    },
    LogDelete {
        name: &'static str,
        owner: &'a str,
        id: LogId,
    },
    LogClear {
        name: &'static str,
        owner: &'a str,
    },
    ArchiveAppend {
        name: &'static str,
        owner: &'a str,
        topic: &'a str,
        id: LogId,
        effect: Effect,
        record: &'a [u8],
    },
    /// `counts`: it stays as new as it was.
    ArchiveReplace {
        name: &'static str,
        owner: &'a str,
        id: LogId,
        counts: bool,
        record: &'a [u8],
    },
    ArchiveRead {
        name: &'static str,
        owner: &'a str,
        topic: &'a str,
        id: LogId,
    },
    ArchiveForget {
        name: &'static str,
        space: &'a str,
        id: LogId,
    },
    ArchiveTrim {
        name: &'static str,
        owner: &'a str,
        id: LogId,
        limit: usize,
    },
    ArchiveRemovalsSeen {
        up_to: u64,
    },
    Erase {
        owner: &'a str,
    },
}

/// What is done to a single record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Put(&'a [u8]),
    Delete,
    /// The precondition that it is these bytes, or is not there.
    Expect(Option<&'a [u8]>),
}

impl Batch {
    /// An empty batch. Committing it gives a ticket that is resolved.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Deletes every row of the owner in every shape and name.
    pub fn erase(&mut self, owner: &str) {
        self.add(Kind::Erase, "", owner, "");
    }

    /// How much memory it takes while it is queued, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// How many operations write.
    pub(crate) fn writes(&self) -> usize {
        self.entries.len() - self.conditions
    }

    pub(crate) fn has_conditions(&self) -> bool {
        self.conditions > 0
    }

    /// Whether it has a log id that no backend can store.
    pub(crate) fn is_out_of_range(&self) -> bool {
        self.out_of_range
    }

    pub(crate) fn operations(&self) -> impl DoubleEndedIterator<Item = Operation<'_>> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.operation(entry))
    }

    /// Gives the entries that have no id yet theirs.
    pub(crate) fn place(&mut self, id: LogId) {
        self.unplaced = false;
        let unplaced = |entry: &&mut Entry| matches!(entry.kind, Kind::ArchiveAppend(_)) && entry.id == PLACE;
        self.entries.iter_mut().filter(unplaced).for_each(|entry| entry.id = id);
    }

    /// Whether it has entries without an id.
    pub(crate) fn is_unplaced(&self) -> bool {
        self.unplaced
    }

    /// Whether it does something among older entries of archives: appends one with an id of its own, or forgets some.
    pub(crate) fn is_about_the_past(&self) -> bool {
        self.past
    }

    fn operation(&self, entry: &Entry) -> Operation<'_> {
        let text =
            |from: usize, to: usize| std::str::from_utf8(&self.bytes[from..to]).expect("owners and keys came as &str");
        let owner = text(entry.owner, entry.key);
        let key = || text(entry.key, entry.text_end);
        let record = &self.bytes[entry.record..entry.end];
        let Entry { name, id, .. } = *entry;
        let value = |change| Operation::Value { name, owner, change };
        let map = |change| Operation::Map { name, owner, key: key(), change };
        match entry.kind {
            Kind::ValuePut => value(Change::Put(record)),
            Kind::ValueDelete => value(Change::Delete),
            Kind::ValueIs => value(Change::Expect(Some(record))),
            Kind::ValueIsAbsent => value(Change::Expect(None)),
            Kind::MapPut => map(Change::Put(record)),
            Kind::MapDelete => map(Change::Delete),
            Kind::MapIs => map(Change::Expect(Some(record))),
            Kind::MapIsAbsent => map(Change::Expect(None)),
            Kind::MapClear => Operation::MapClear { name, owner },
            Kind::LogAppend => Operation::LogAppend { name, owner, id, record },
            Kind::LogDelete => Operation::LogDelete { name, owner, id },
            Kind::LogClear => Operation::LogClear { name, owner },
            Kind::ArchiveAppend(effect) => Operation::ArchiveAppend { name, owner, topic: key(), id, effect, record },
            Kind::ArchiveReplace { counts } => Operation::ArchiveReplace { name, owner, id, counts, record },
            Kind::ArchiveRead => Operation::ArchiveRead { name, owner, topic: key(), id },
            Kind::ArchiveForget => Operation::ArchiveForget { name, space: owner, id },
            Kind::ArchiveTrim => {
                let limit = record.try_into().map(usize::from_be_bytes).expect("is what was put there");
                Operation::ArchiveTrim { name, owner, id, limit }
            }
            Kind::ArchiveRemovalsSeen => Operation::ArchiveRemovalsSeen { up_to: id.0 },
            Kind::Erase => Operation::Erase { owner },
        }
    }

    fn add(&mut self, kind: Kind, name: &'static str, owner: &str, key: &str) -> &mut Entry {
        let start = self.bytes.len();
        if start == 0 {
            // Most batches are one small record.
            self.bytes.reserve(512);
        }
        self.bytes.extend_from_slice(owner.as_bytes());
        self.bytes.extend_from_slice(key.as_bytes());
        let (key, end) = (start + owner.len(), self.bytes.len());
        self.entries.push(Entry { kind, name, id: LogId(0), owner: start, key, text_end: end, record: end, end });
        self.entries.last_mut().expect("was just pushed")
    }

    fn add_record<T: Record>(&mut self, kind: Kind, name: &'static str, owner: &str, key: &str, record: &T) {
        self.add(kind, name, owner, key);
        self.encode(record);
    }

    /// Gives the last entry its record.
    fn encode<T: Record>(&mut self, record: &T) {
        record.encode(&mut self.bytes);
        self.entries.last_mut().expect("the record's entry is there").end = self.bytes.len();
    }

    pub(crate) fn put_value<T: Record>(&mut self, name: &'static str, owner: &str, record: &T) {
        self.add_record(Kind::ValuePut, name, owner, "", record);
    }

    pub(crate) fn delete_value(&mut self, name: &'static str, owner: &str) {
        self.add(Kind::ValueDelete, name, owner, "");
    }

    pub(crate) fn expect_value<T: Record>(&mut self, name: &'static str, owner: &str, record: Option<&T>) {
        self.conditions += 1;
        match record {
            Some(record) => self.add_record(Kind::ValueIs, name, owner, "", record),
            None => drop(self.add(Kind::ValueIsAbsent, name, owner, "")),
        }
    }

    pub(crate) fn put_entry<T: Record>(&mut self, name: &'static str, owner: &str, key: &str, record: &T) {
        self.add_record(Kind::MapPut, name, owner, key, record);
    }

    pub(crate) fn delete_entry(&mut self, name: &'static str, owner: &str, key: &str) {
        self.add(Kind::MapDelete, name, owner, key);
    }

    pub(crate) fn clear_map(&mut self, name: &'static str, owner: &str) {
        self.add(Kind::MapClear, name, owner, "");
    }

    pub(crate) fn expect_entry<T: Record>(&mut self, name: &'static str, owner: &str, key: &str, record: Option<&T>) {
        self.conditions += 1;
        match record {
            Some(record) => self.add_record(Kind::MapIs, name, owner, key, record),
            None => drop(self.add(Kind::MapIsAbsent, name, owner, key)),
        }
    }

    pub(crate) fn append<T: Record>(&mut self, name: &'static str, owner: &str, id: LogId, record: &T) {
        self.out_of_range |= id > LogId::MAX;
        self.add(Kind::LogAppend, name, owner, "").id = id;
        self.encode(record);
    }

    pub(crate) fn delete_from_log(&mut self, name: &'static str, owner: &str, id: LogId) {
        self.add(Kind::LogDelete, name, owner, "").id = id;
    }

    /// One entry for several owners, whose record is in the batch once.
    pub(crate) fn append_to_archive<T: Record>(
        &mut self,
        name: &'static str,
        id: Option<LogId>,
        filings: &[Filing<'_>],
        record: &T,
    ) {
        self.out_of_range |= id.is_some_and(|id| id > LogId::MAX);
        self.unplaced |= id.is_none() && !filings.is_empty();
        self.past |= id.is_some();
        let mut encoded = None;
        for filing in filings {
            self.add(Kind::ArchiveAppend(filing.effect), name, filing.owner, filing.topic).id = id.unwrap_or(PLACE);
            match encoded {
                None => {
                    self.encode(record);
                    encoded = self.entries.last().map(|entry| (entry.record, entry.end));
                }
                Some((start, end)) => {
                    let entry = self.entries.last_mut().expect("was just added");
                    (entry.text_end, entry.record, entry.end) = (entry.record, start, end);
                }
            }
        }
    }

    pub(crate) fn replace_in_archive<T: Record>(&mut self, name: &'static str, owner: &str, id: LogId, record: &T) {
        self.add(Kind::ArchiveReplace { counts: true }, name, owner, "").id = id;
        self.encode(record);
    }

    pub(crate) fn take_back_in_archive<T: Record>(&mut self, name: &'static str, owner: &str, id: LogId, record: &T) {
        self.add(Kind::ArchiveReplace { counts: false }, name, owner, "").id = id;
        self.encode(record);
    }

    pub(crate) fn read_in_archive(&mut self, name: &'static str, owner: &str, topic: &str, id: LogId) {
        self.add(Kind::ArchiveRead, name, owner, topic).id = id;
    }

    pub(crate) fn forget_in_archive(&mut self, name: &'static str, space: &str, before: LogId) {
        self.past = true;
        self.add(Kind::ArchiveForget, name, space, "").id = before;
    }

    pub(crate) fn trim_archive(&mut self, name: &'static str, owner: &str, before: LogId, limit: usize) {
        self.add(Kind::ArchiveTrim, name, owner, "").id = before;
        self.encode(&limit.to_be_bytes().to_vec());
    }

    /// An index has followed what was taken away, up to this number.
    pub(crate) fn removals_seen(&mut self, up_to: u64) {
        self.add(Kind::ArchiveRemovalsSeen, "", "", "").id = LogId(up_to);
    }

    pub(crate) fn clear_log(&mut self, name: &'static str, owner: &str) {
        self.add(Kind::LogClear, name, owner, "");
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("operations", &self.entries.len()).field("bytes", &self.bytes.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in_in_its_order() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.put_value("v", "ann", &b"one".to_vec());
        batch.expect_entry("m", "bob", "k", None::<&Vec<u8>>);
        batch.append("l", "", LogId(7), &Vec::<u8>::new());
        batch.erase("eve");
        let operations: Vec<_> = batch.operations().collect();
        assert_eq!(
            operations,
            [
                Operation::Value { name: "v", owner: "ann", change: Change::Put(b"one") },
                Operation::Map { name: "m", owner: "bob", key: "k", change: Change::Expect(None) },
                Operation::LogAppend { name: "l", owner: "", id: LogId(7), record: b"" },
                Operation::Erase { owner: "eve" },
            ]
        );
        assert_eq!((batch.writes(), batch.has_conditions()), (3, true));
    }

    #[test]
    fn expecting_an_empty_record_is_not_expecting_none() {
        let mut batch = Batch::new();
        batch.expect_value("v", "ann", Some(&Vec::<u8>::new()));
        let operation = batch.operations().next();
        let change = Change::Expect(Some(&b""[..]));
        assert_eq!(operation, Some(Operation::Value { name: "v", owner: "ann", change }));
    }
}
