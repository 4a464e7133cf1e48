//! What a backend does: carry out batches, and read each shape.

use std::sync::Arc;

use crate::archive::{Page, Topic};
use crate::batch::Batch;
use crate::ids::{Ids, LogId};
use crate::reading::Reading;
use crate::rows::{Found, Wanted};
use crate::search::{SearchIndex, TextOf};
use crate::statistics::Statistics;
use crate::ticket::{Ticket, Withdrawal};

/// Implements each shape once. Records are bytes here; their types are the shapes' business.
pub(crate) trait Backend: Send + Sync {
    /// As `commit`, after the entries that have no id yet were given one. Ids and batches have the same order.
    fn commit_placed(&self, batch: Batch, ids: &Ids) -> (LogId, Ticket);
    /// Queues the batch. Never blocks for long; batches become durable in the order of this call.
    fn commit(&self, batch: Batch) -> Ticket;
    /// As `commit`, without hurry.
    fn commit_later(&self, batch: Batch) -> (Ticket, Withdrawal);
    /// Takes a batch back: whether that was possible.
    fn withdraw(&self, withdrawal: &Withdrawal) -> bool;

    fn value(&self, name: &'static str, owner: &str) -> Reading<Option<Vec<u8>>>;
    /// Owners of a value, in byte order.
    fn owners(&self, name: &'static str, prefix: &str, after: Option<&str>, limit: usize) -> Reading<Vec<String>>;
    fn count_owners(&self, name: &'static str, prefix: &str) -> Reading<u64>;

    fn entry(&self, name: &'static str, owner: &str, key: &str) -> Reading<Option<Vec<u8>>>;
    /// Entries of a map, in byte order of the keys.
    fn entries(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Vec<u8>)>>;

    /// Entries of a map with keys between two, neither of them included; from the end on with `back`.
    fn keys(&self, name: &'static str, owner: &str, between: Between<'_>, limit: usize) -> Reading<KeyedEntries>;
    fn count_keys(&self, name: &'static str, owner: &str, between: Between<'_>) -> Reading<u64>;

    /// Entries of a log after an id, oldest first.
    fn range(&self, name: &'static str, owner: &str, after: Option<LogId>, limit: usize) -> Reading<Entries>;
    /// Entries of a log before an id, newest first.
    fn range_back(&self, name: &'static str, owner: &str, before: Option<LogId>, limit: usize) -> Reading<Entries>;
    fn count_entries(&self, name: &'static str, owner: &str) -> Reading<u64>;

    /// A page of an archive.
    fn page(&self, name: &'static str, owner: &str, page: Page) -> Reading<Entries>;
    /// The ids of the first and the last entry of an owner's archive.
    fn ends(&self, name: &'static str, owner: &str) -> Reading<Option<(LogId, LogId)>>;
    /// Entries of an archive by their ids; those that are not there are left out.
    fn archived(&self, name: &'static str, owner: &str, ids: Vec<LogId>) -> Reading<Entries>;
    /// Entries of an archive, by topic perhaps, in these milliseconds, in order of time.
    fn of_moments(&self, name: &'static str, owner: &str, topic: Option<String>, moments: Vec<u64>)
    -> Reading<Entries>;
    /// The index of an archive's words, filled from now on. `None`: entries have to be looked through. A store has one index.
    fn index(&self, name: &'static str, text: TextOf) -> Option<Arc<dyn SearchIndex>>;
    /// The topics of an owner's archive.
    fn topics(&self, name: &'static str, owner: &str) -> Reading<Vec<(String, Topic)>>;
    fn topic(&self, name: &'static str, owner: &str, topic: &str) -> Reading<Option<Topic>>;

    /// Several things of one owner, in the order in which they are wanted, all of one moment.
    fn rows(&self, owner: &str, wanted: &[Wanted]) -> Reading<Vec<Found>>;

    /// Resolves when the batches that were queued before are settled or withdrawn, whatever became of them; they linger no longer.
    fn settled(&self) -> Ticket;

    fn statistics(&self) -> Statistics;
    /// Commits what is queued and lets everything go. Doing it again does nothing.
    fn close(&self);
}

pub(crate) type KeyedEntries = Vec<(String, Vec<u8>)>;

/// A part of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between<'a> {
    /// After this key.
    pub after: &'a str,
    /// Before this key.
    pub before: &'a str,
    /// From the end on.
    pub back: bool,
}

pub(crate) type Entries = Vec<(LogId, Vec<u8>)>;
