//! The shape for what is kept for long: entries of an owner in order of time, read in pages, also by topic.
//!
//! An entry is appended for one owner or for several at once, for each under a topic. A topic knows its last entry, how many it has
//! and how many of them are new. Owners of one *space* (what stands before the first slash of their names) are forgotten
//! together by age, a month at a time at little cost.

use std::fmt;
use std::marker::PhantomData;

use crate::backend::Entries;
use crate::batch::{Batch, Effect};
use crate::error::StoreError;
use crate::ids::LogId;
use crate::record::Record;
use crate::store::Store;

/// Entries by owner and topic, in order of time.
pub struct Archive<T> {
    store: Store,
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

/// Whose an entry is, and under what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filing<'a> {
    /// The owner.
    pub owner: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// What it does to the topic.
    pub effect: Effect,
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Of this topic alone.
    pub topic: Option<String>,
    /// Those after this id.
    pub after: Option<LogId>,
    /// Those before this id.
    pub before: Option<LogId>,
    /// The newest of them, newest first, instead of the oldest, oldest first.
    pub backwards: bool,
    /// How many at most.
    pub limit: usize,
}

/// What is known of a topic without its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its last entry.
    pub last: LogId,
    /// How many entries it has.
    pub count: u64,
    /// How many of them are new, see [`Effect`]; after entries were forgotten, how many at most.
    pub new: u64,
}

impl Topic {
    /// With one more entry.
    pub(crate) fn appended(known: Option<Self>, id: LogId, effect: Effect) -> Self {
        let Self { last, count, new } = known.unwrap_or(Self { last: id, count: 0, new: 0 });
        let new = match effect {
            Effect::None => new,
            Effect::New => new + 1,
            Effect::Read => 0,
        };
        Self { last: last.max(id), count: count + 1, new }
    }
}

/// The part of an owner's name that it shares with the others of its space.
pub(crate) fn space(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(space, _)| space)
}

impl<T: Record> Archive<T> {
    pub(crate) fn new(store: Store, name: &'static str) -> Self {
        Self { store, name, record: PhantomData }
    }

    /// Appends an entry. `id`: `None` for the one that [`Store::commit_placed`] gives; only then is an entry sure to be seen by a reader
    /// who has read up to a later id. Where an owner has an entry of that id already, that gets the record, and stays under its topic.
    ///
    /// A batch with an entry that has no id fails unless it is given to [`Store::commit_placed`].
    pub fn append(&self, batch: &mut Batch, id: Option<LogId>, filings: &[Filing<'_>], record: &T) {
        batch.append_to_archive(self.name, id, filings, record);
    }

    /// Puts another record in the place of one that is there; its topic stays, and where it is not there nothing happens.
    pub fn replace(&self, batch: &mut Batch, owner: &str, id: LogId, record: &T) {
        batch.replace_in_archive(self.name, owner, id, record);
    }

    /// As [`Archive::replace`], and the entry does not count as new any more.
    pub fn take_back(&self, batch: &mut Batch, owner: &str, id: LogId, record: &T) {
        batch.take_back_in_archive(self.name, owner, id, record);
    }

    /// Nothing of the topic up to this id is new any more.
    pub fn read(&self, batch: &mut Batch, owner: &str, topic: &str, up_to: LogId) {
        batch.read_in_archive(self.name, owner, topic, up_to);
    }

    /// Forgets all entries of a space from the months that are over at this time. The months of entries are those of UTC.
    pub fn forget(&self, batch: &mut Batch, space: &str, before: LogId) {
        batch.forget_in_archive(self.name, space, before);
    }

    /// Forgets the oldest entries of one owner from before this time, at most so many: their rows are deleted one by one, which months
    /// that are dropped need not be. What came in the last moments stays.
    pub fn trim(&self, batch: &mut Batch, owner: &str, before: LogId, limit: usize) {
        batch.trim_archive(self.name, owner, before, limit);
    }

    /// Reads a page.
    pub async fn page(&self, owner: &str, page: Page) -> Result<Vec<(LogId, T)>, StoreError> {
        self.decode_all(self.store.backend().page(self.name, owner, page).await?)
    }

    /// The ids of the first and the last entry; `None` where there is none. A short read, whatever the entries are like.
    pub async fn ends(&self, owner: &str) -> Result<Option<(LogId, LogId)>, StoreError> {
        self.store.backend().ends(self.name, owner).await
    }

    /// Entries by their ids, oldest first; those that are not there are left out.
    pub async fn entries(&self, owner: &str, ids: Vec<LogId>) -> Result<Vec<(LogId, T)>, StoreError> {
        self.decode_all(self.store.backend().archived(self.name, owner, ids).await?)
    }

    /// All topics, the one with the newest entry first.
    pub async fn topics(&self, owner: &str) -> Result<Vec<(String, Topic)>, StoreError> {
        let mut topics = self.store.backend().topics(self.name, owner).await?;
        topics.sort_by_key(|(_, topic)| std::cmp::Reverse(topic.last));
        Ok(topics)
    }

    /// One topic.
    pub async fn topic(&self, owner: &str, topic: &str) -> Result<Option<Topic>, StoreError> {
        self.store.backend().topic(self.name, owner, topic).await
    }

    pub(crate) fn decode_all(&self, entries: Entries) -> Result<Vec<(LogId, T)>, StoreError> {
        let decode = |bytes: &[u8]| T::decode(bytes).ok_or(StoreError::Corrupt(self.name));
        entries.into_iter().map(|(id, bytes)| Ok((id, decode(&bytes)?))).collect()
    }
}

impl<T> Clone for Archive<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), name: self.name, record: PhantomData }
    }
}

impl<T> fmt::Debug for Archive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Archive").field(&self.name).finish()
    }
}
