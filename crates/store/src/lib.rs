//! Four shapes (value, map, log, blob index) over few backends (memory, SQLite). Knows no XMPP.
//!
//! Writes are collected in a [`Batch`] and given to a writer that commits in groups: [`Store::commit`] returns a
//! [`Ticket`] that resolves when the batch is on disk. Reads run on a small pool of readers. Every row begins
//! with its owner, so that erasing an owner is complete by construction.

use std::future::Future;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How the store can fail after it was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition of the batch did not hold; nothing of it was written.
    #[error("the data changed meanwhile")]
    Conflict,
    /// The disk or the quota is full.
    #[error("the disk is full")]
    Full,
    /// Anything else that the backend says.
    #[error("storage: {0}")]
    Backend(String),
    /// A row that its type cannot read.
    #[error("corrupt row in {0}")]
    Corrupt(&'static str),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder's lock.
    #[error("the data folder is in use by process {pid:?}")]
    InUse {
        /// its id, where the lock file names one
        pid: Option<u32>,
    },
    /// Written by a newer version.
    #[error("the data folder has version {found}, this program knows {known}")]
    Newer {
        /// version in the folder
        found: u32,
        /// newest version that this program knows
        known: u32,
    },
    /// The folder cannot be made, read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The database cannot be opened.
    #[error("{0}")]
    Backend(String),
}

/// What a row holds.
pub trait Record: Sized + Send + 'static {
    /// Appends the stored form.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the stored form; `None` where it is corrupt.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Record for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Record for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// The id of a log entry: ordered by time, unique in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub u64);

/// A data folder, or memory. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens or creates the folder and takes its lock.
    pub fn open(_dir: &Path) -> Result<Self, OpenError> {
        todo!()
    }
    /// A store that forgets, for tests.
    pub fn memory() -> Self {
        todo!()
    }
    /// One record an owner.
    pub fn value<T: Record>(&self, _name: &'static str) -> Value<T> {
        todo!()
    }
    /// Records by key, an owner.
    pub fn map<T: Record>(&self, _name: &'static str) -> Map<T> {
        todo!()
    }
    /// Records in order of time, an owner.
    pub fn log<T: Record>(&self, _name: &'static str) -> Log<T> {
        todo!()
    }
    /// A new id, larger than every id given before, also across restarts (unless the clock went far back).
    pub fn next_id(&self) -> LogId {
        todo!()
    }
    /// Hands the batch to the writer. Never blocks. Batches become durable in the order of this call, each whole or not at all.
    pub fn commit(&self, _batch: Batch) -> Ticket {
        todo!()
    }
    /// Commits what is queued, closes the files, releases the lock.
    pub fn close(&self) {
        todo!()
    }
}

/// Writes that become durable together.
#[derive(Default)]
pub struct Batch {}

impl Batch {
    /// An empty batch. Committing it gives a ticket that is resolved.
    pub fn new() -> Self {
        Self::default()
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Deletes every row of the owner in every shape and name.
    pub fn erase(&mut self, _owner: &str) {
        todo!()
    }
}

/// Resolves when its batch is durable, or says why it is not. Dropping it cancels nothing.
pub struct Ticket {}

impl Ticket {
    /// A ticket for nothing: resolved.
    pub fn done() -> Self {
        todo!()
    }
    /// The outcome, if it is there already.
    pub fn outcome(&self) -> Option<Result<(), StoreError>> {
        todo!()
    }
    /// Blocks this thread until the outcome is there.
    pub fn wait(self) -> Result<(), StoreError> {
        todo!()
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// One record an owner.
pub struct Value<T>(PhantomData<fn() -> T>);

impl<T: Record> Value<T> {
    /// Reads.
    pub async fn get(&self, _owner: &str) -> Result<Option<T>, StoreError> {
        todo!()
    }
    /// Owners that begin with `prefix`, in byte order, after `after`, at most `limit`.
    pub async fn owners(&self, _prefix: &str, _after: Option<&str>, _limit: usize) -> Result<Vec<String>, StoreError> {
        todo!()
    }
    /// How many owners begin with `prefix`.
    pub async fn count(&self, _prefix: &str) -> Result<u64, StoreError> {
        todo!()
    }
    /// Writes.
    pub fn put(&self, _batch: &mut Batch, _owner: &str, _record: &T) {
        todo!()
    }
    /// Deletes.
    pub fn delete(&self, _batch: &mut Batch, _owner: &str) {
        todo!()
    }
    /// The batch fails with [`StoreError::Conflict`] unless the record is this one, by its bytes (`None`: is not there).
    pub fn expect(&self, _batch: &mut Batch, _owner: &str, _record: Option<&T>) {
        todo!()
    }
}

/// Records by key, an owner.
pub struct Map<T>(PhantomData<fn() -> T>);

impl<T: Record> Map<T> {
    /// Reads one.
    pub async fn get(&self, _owner: &str, _key: &str) -> Result<Option<T>, StoreError> {
        todo!()
    }
    /// Reads all of an owner, in byte order of the keys.
    pub async fn list(&self, _owner: &str) -> Result<Vec<(String, T)>, StoreError> {
        todo!()
    }
    /// Writes one.
    pub fn put(&self, _batch: &mut Batch, _owner: &str, _key: &str, _record: &T) {
        todo!()
    }
    /// Deletes one.
    pub fn delete(&self, _batch: &mut Batch, _owner: &str, _key: &str) {
        todo!()
    }
    /// Deletes all of an owner.
    pub fn clear(&self, _batch: &mut Batch, _owner: &str) {
        todo!()
    }
    /// As [`Value::expect`].
    pub fn expect(&self, _batch: &mut Batch, _owner: &str, _key: &str, _record: Option<&T>) {
        todo!()
    }
}

/// Records in order of time, an owner.
pub struct Log<T>(PhantomData<fn() -> T>);

impl<T: Record> Log<T> {
    /// Entries after `after`, oldest first, at most `limit`.
    pub async fn range(
        &self,
        _owner: &str,
        _after: Option<LogId>,
        _limit: usize,
    ) -> Result<Vec<(LogId, T)>, StoreError> {
        todo!()
    }
    /// How many entries an owner has.
    pub async fn count(&self, _owner: &str) -> Result<u64, StoreError> {
        todo!()
    }
    /// Appends. A deletion of the same id in the same commit group cancels it before it reaches the disk.
    pub fn append(&self, _batch: &mut Batch, _owner: &str, _id: LogId, _record: &T) {
        todo!()
    }
    /// Deletes one.
    pub fn delete(&self, _batch: &mut Batch, _owner: &str, _id: LogId) {
        todo!()
    }
    /// Deletes all of an owner.
    pub fn clear(&self, _batch: &mut Batch, _owner: &str) {
        todo!()
    }
}
