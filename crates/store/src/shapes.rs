//! The shapes: typed and by name. What they do is the backend's.

use std::fmt;
use std::marker::PhantomData;

use crate::backend::{Between, Entries, KeyedEntries};
use crate::batch::Batch;
use crate::error::StoreError;
use crate::ids::LogId;
use crate::record::Record;
use crate::rows::{Found, Rows, Want, Wanted};
use crate::sqlite::prefix_end;
use crate::store::Store;

/// What the shapes have in common: the store, their name in it, and the type of their records.
macro_rules! shape {
    ($shape:ident) => {
        impl<T> Clone for $shape<T> {
            fn clone(&self) -> Self {
                Self { store: self.store.clone(), name: self.name, record: PhantomData }
            }
        }

        impl<T> fmt::Debug for $shape<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($shape)).field(&self.name).finish()
            }
        }

        impl<T: Record> $shape<T> {
            pub(crate) fn new(store: Store, name: &'static str) -> Self {
                Self { store, name, record: PhantomData }
            }

            fn decode(&self, bytes: &[u8]) -> Result<T, StoreError> {
                T::decode(bytes).ok_or(StoreError::Corrupt(self.name))
            }
        }
    };
}

shape!(Value);
shape!(Map);
shape!(Log);

/// One record an owner.
pub struct Value<T> {
    store: Store,
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Value<T> {
    /// Reads.
    pub async fn get(&self, owner: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.store.backend().value(self.name, owner).await?;
        bytes.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// To be read with others by [`Store::read`].
    pub fn wanted(&self) -> Wanted {
        Wanted(Want::Value(self.name))
    }

    /// The record in what was read.
    ///
    /// # Errors
    /// If it is corrupt, or was not asked for.
    pub fn found(&self, rows: &Rows) -> Result<Option<T>, StoreError> {
        match rows.get(Want::Value(self.name))? {
            Found::Value(Some(bytes)) => self.decode(bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Owners that begin with `prefix`, in byte order, after `after`, at most `limit`.
    pub async fn owners(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        self.store.backend().owners(self.name, prefix, after, limit).await
    }

    /// How many owners begin with `prefix`.
    pub async fn count(&self, prefix: &str) -> Result<u64, StoreError> {
        self.store.backend().count_owners(self.name, prefix).await
    }

    /// Writes.
    pub fn put(&self, batch: &mut Batch, owner: &str, record: &T) {
        batch.put_value(self.name, owner, record);
    }

    /// Deletes.
    pub fn delete(&self, batch: &mut Batch, owner: &str) {
        batch.delete_value(self.name, owner);
    }

    /// The batch fails with [`StoreError::Conflict`] unless the record is this one, by its bytes (`None`: is not there).
    pub fn expect(&self, batch: &mut Batch, owner: &str, record: Option<&T>) {
        batch.expect_value(self.name, owner, record);
    }
}

/// Records by key, an owner.
pub struct Map<T> {
    store: Store,
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Map<T> {
    /// Reads one.
    pub async fn get(&self, owner: &str, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.store.backend().entry(self.name, owner, key).await?;
        bytes.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Reads all of an owner, in byte order of the keys.
    pub async fn list(&self, owner: &str) -> Result<Vec<(String, T)>, StoreError> {
        let entries = self.store.backend().entries(self.name, owner).await?;
        entries.into_iter().map(|(key, bytes)| Ok((key, self.decode(&bytes)?))).collect()
    }

    /// Entries whose keys begin with `prefix` and are longer, in byte order, after the key `after`, at most `limit`.
    pub async fn range(
        &self,
        owner: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let before = key_end(prefix);
        let between = Between { after: after.unwrap_or(prefix), before: &before, back: false };
        self.decode_all(self.store.backend().keys(self.name, owner, between, limit).await?)
    }

    /// As [`Map::range`], but from the last on, before the key `before`.
    pub async fn range_back(
        &self,
        owner: &str,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let end = key_end(prefix);
        let between = Between { after: prefix, before: before.unwrap_or(&end), back: true };
        self.decode_all(self.store.backend().keys(self.name, owner, between, limit).await?)
    }

    /// How many entries have keys that begin with `prefix` and are longer, and come before the key `before`.
    pub async fn count(&self, owner: &str, prefix: &str, before: Option<&str>) -> Result<u64, StoreError> {
        let end = key_end(prefix);
        let between = Between { after: prefix, before: before.unwrap_or(&end), back: false };
        self.store.backend().count_keys(self.name, owner, between).await
    }

    fn decode_all(&self, entries: KeyedEntries) -> Result<Vec<(String, T)>, StoreError> {
        entries.into_iter().map(|(key, bytes)| Ok((key, self.decode(&bytes)?))).collect()
    }

    /// To be read with others by [`Store::read`].
    pub fn wanted(&self) -> Wanted {
        Wanted(Want::Map(self.name))
    }

    /// All entries in what was read, in byte order of the keys.
    ///
    /// # Errors
    /// If one is corrupt, or they were not asked for.
    pub fn found(&self, rows: &Rows) -> Result<Vec<(String, T)>, StoreError> {
        match rows.get(Want::Map(self.name))? {
            Found::Map(entries) => entries.iter().map(|(key, bytes)| Ok((key.clone(), self.decode(bytes)?))).collect(),
            _ => Ok(Vec::new()),
        }
    }

    /// Writes one.
    pub fn put(&self, batch: &mut Batch, owner: &str, key: &str, record: &T) {
        batch.put_entry(self.name, owner, key, record);
    }

    /// Deletes one.
    pub fn delete(&self, batch: &mut Batch, owner: &str, key: &str) {
        batch.delete_entry(self.name, owner, key);
    }

    /// Deletes all of an owner.
    pub fn clear(&self, batch: &mut Batch, owner: &str) {
        batch.clear_map(self.name, owner);
    }

    /// As [`Value::expect`].
    pub fn expect(&self, batch: &mut Batch, owner: &str, key: &str, record: Option<&T>) {
        batch.expect_entry(self.name, owner, key, record);
    }
}

/// Before this key lie all that begin with the prefix.
fn key_end(prefix: &str) -> String {
    prefix_end(prefix).unwrap_or_else(|| "\u{10ffff}\u{10ffff}".to_owned())
}

/// Records in order of time, an owner.
pub struct Log<T> {
    store: Store,
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Log<T> {
    /// Entries after `after`, oldest first, at most `limit`.
    pub async fn range(&self, owner: &str, after: Option<LogId>, limit: usize) -> Result<Vec<(LogId, T)>, StoreError> {
        self.decode_all(self.store.backend().range(self.name, owner, after, limit).await?)
    }

    /// Entries before `before`, newest first, at most `limit`.
    pub async fn range_back(
        &self,
        owner: &str,
        before: Option<LogId>,
        limit: usize,
    ) -> Result<Vec<(LogId, T)>, StoreError> {
        self.decode_all(self.store.backend().range_back(self.name, owner, before, limit).await?)
    }

    /// How many entries an owner has.
    pub async fn count(&self, owner: &str) -> Result<u64, StoreError> {
        self.store.backend().count_entries(self.name, owner).await
    }

    /// Appends; an entry that has the id already is replaced. A deletion of the same id in the same commit group cancels
    /// it before it reaches the disk.
    ///
    /// A batch with an id above [`LogId::MAX`] fails.
    pub fn append(&self, batch: &mut Batch, owner: &str, id: LogId, record: &T) {
        batch.append(self.name, owner, id, record);
    }

    /// Deletes one.
    pub fn delete(&self, batch: &mut Batch, owner: &str, id: LogId) {
        batch.delete_from_log(self.name, owner, id);
    }

    /// Deletes all of an owner.
    pub fn clear(&self, batch: &mut Batch, owner: &str) {
        batch.clear_log(self.name, owner);
    }

    fn decode_all(&self, entries: Entries) -> Result<Vec<(LogId, T)>, StoreError> {
        entries.into_iter().map(|(id, bytes)| Ok((id, self.decode(&bytes)?))).collect()
    }
}
