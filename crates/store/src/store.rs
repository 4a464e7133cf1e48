//! A data folder, or memory, behind one handle.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::archive::Archive;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::error::{OpenError, StoreError};
use crate::faults::Faults;
use crate::ids::{Ids, LogId};
use crate::memory::Memory;
use crate::record::Record;
use crate::rows::{Rows, Wanted};
use crate::search::{Search, Searched};
use crate::shapes::{Log, Map, Value};
use crate::sqlite::Sqlite;
use crate::statistics::Statistics;
use crate::ticket::{Ticket, Withdrawal};
use crate::writer::Bounds;

/// A data folder, or memory. Cheap to clone. The last clone to go, shapes included, closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Box<dyn Backend>,
    ids: Arc<Ids>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory that batches may take while they wait for the disk, in bytes. Beyond it a commit fails with
    /// [`StoreError::Full`](crate::StoreError::Full).
    pub queue_bytes_max: usize,
    /// Size of the database beyond which a commit fails with [`StoreError::Full`](crate::StoreError::Full), in bytes.
    /// The write-ahead log beside it comes on top.
    pub database_bytes_max: Option<u64>,
    /// How long a batch given to [`Store::commit_later`] may wait before it is written. Zero: no longer than any other.
    ///
    /// The longer, the more is withdrawn before it costs anything, and the later its ticket resolves where it is not.
    pub linger: Duration,
    /// Memory that new entries of archives take before they are put into the tables of their months, in bytes, and as much again
    /// while that is done. The more, the more entries of one owner go there together; they are on disk in either case.
    pub arriving_bytes_max: usize,
    /// Threads that read, at least 1.
    pub readers: usize,
    /// Called by each of the store's threads once when it has had nothing to do for a second, after it has let go of its
    /// caches: an allocator that keeps free memory by thread can give it back here.
    pub at_rest: Option<fn()>,
    /// For tests.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_bytes_max: 256 * 1024 * 1024,
            database_bytes_max: None,
            linger: Duration::from_millis(25),
            arriving_bytes_max: 32 * 1024 * 1024,
            readers: 3,
            at_rest: None,
            faults: Faults::new(),
        }
    }
}

impl Options {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { bytes_max: self.queue_bytes_max, linger: self.linger, at_rest: self.at_rest }
    }
}

impl Store {
    /// Opens or creates the folder and takes its lock.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`Store::open`], but not by the defaults.
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let (sqlite, ids) = Sqlite::open(dir, options)?;
        Ok(Self::of(Box::new(sqlite), ids))
    }

    /// A store that forgets, for tests. Without threads: a commit is done when it returns.
    pub fn memory() -> Self {
        Self::of(Box::new(Memory::new()), Arc::new(Ids::after(LogId(0))))
    }

    /// A store that forgets and fails, for tests. Its commits take a thread, as those of a data folder do.
    pub fn memory_with(faults: Faults) -> Self {
        let memory = Memory::with_writer(faults, Options::default().bounds());
        Self::of(Box::new(memory.expect("a test can start a thread")), Arc::new(Ids::after(LogId(0))))
    }

    fn of(backend: Box<dyn Backend>, ids: Arc<Ids>) -> Self {
        Self { inner: Arc::new(Inner { backend, ids }) }
    }

    /// One record an owner.
    pub fn value<T: Record>(&self, name: &'static str) -> Value<T> {
        Value::new(self.clone(), name)
    }

    /// Records by key, an owner.
    pub fn map<T: Record>(&self, name: &'static str) -> Map<T> {
        Map::new(self.clone(), name)
    }

    /// Records in order of time, an owner.
    pub fn log<T: Record>(&self, name: &'static str) -> Log<T> {
        Log::new(self.clone(), name)
    }

    /// Entries that are kept for long, an owner, by topic.
    pub fn archive<T: Record>(&self, name: &'static str) -> Archive<T> {
        Archive::new(self.clone(), name)
    }

    /// The words of an archive's entries. From the first call on an index of them is filled in the background; a store has
    /// one, for one archive.
    pub fn search<T: Searched>(&self, archive: &'static str) -> Search<T> {
        Search::new(self.clone(), archive)
    }

    /// A new id, larger than every id given before, also across restarts (unless the clock went far back).
    ///
    /// What a restart cannot lose are ids of which something was committed; after a crash the next ids may be up to a
    /// second ahead of the clock.
    pub fn next_id(&self) -> LogId {
        self.inner.ids.next()
    }

    /// As [`Store::next_id`], with the time in Unix milliseconds as an argument.
    pub fn next_id_at(&self, millis: u64) -> LogId {
        self.inner.ids.next_at(millis)
    }

    /// Hands the batch to the writer. Never blocks. Batches become durable in the order of this call, each whole or not at all.
    pub fn commit(&self, batch: Batch) -> Ticket {
        self.inner.backend.commit(batch)
    }

    /// As [`Store::commit`], after giving a new id to what was appended to archives without one. Whoever reads up to an id that was
    /// given so, and sees it, has missed none before it: ids become readable in their order.
    pub fn commit_placed(&self, batch: Batch) -> (LogId, Ticket) {
        self.inner.backend.commit_placed(batch, &self.inner.ids)
    }

    /// As [`Store::commit`], for a batch that may soon be of no more use, or that nobody waits for: it is written only after
    /// [`Options::linger`], or before if a batch from [`Store::commit`] comes after it. The order of all of them stays.
    pub fn commit_later(&self, batch: Batch) -> (Ticket, Withdrawal) {
        self.inner.backend.commit_later(batch)
    }

    /// Takes a batch back, if the writer has not begun with it: whether it had not.
    ///
    /// `true`: it is never written, its preconditions are never checked, and its ticket says `Ok`. `false`: it is written
    /// already, or will be, or has failed; a batch that is committed now comes after it.
    pub fn withdraw(&self, withdrawal: Withdrawal) -> bool {
        self.inner.backend.withdraw(&withdrawal)
    }

    /// Reads several things of one owner at once, all of one moment.
    ///
    /// # Errors
    /// As for each alone.
    pub async fn read(&self, owner: &str, wanted: &[Wanted]) -> Result<Rows, StoreError> {
        let found = self.inner.backend.rows(owner, wanted).await?;
        Ok(Rows::new(wanted.to_vec(), found))
    }

    /// Resolves when every batch that was committed before this call is settled or withdrawn: a read that starts afterwards
    /// sees those that are kept. Batches from [`Store::commit_later`] linger no longer. With nothing queued it is
    /// resolved. What became of the batches it does not tell, and it writes nothing itself.
    pub fn settled(&self) -> Ticket {
        self.inner.backend.settled()
    }

    /// What it did so far.
    pub fn statistics(&self) -> Statistics {
        self.inner.backend.statistics()
    }

    /// Commits what is queued, closes the files, releases the lock. What comes later fails with
    /// [`StoreError::Closed`](crate::StoreError::Closed).
    pub fn close(&self) {
        self.inner.backend.close();
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
