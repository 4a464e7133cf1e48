//! Where terms lie that are read as they are: each kind of source has its file.

pub mod dets;
pub mod directory;
mod disk;
mod disk_log;
mod key;
pub mod log;
pub mod mnesia;
mod parameter;
pub mod postgresql;
mod record;
pub mod redis;
mod redis_url;
mod remote;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{SourceKind, TermSource, Terms};

/// A place where an Erlang system keeps terms. It is read only, and never locked: others write there.
pub trait Source: Send + Sync + fmt::Debug {
    /// The term that is kept under `key`, which is percent-decoded text of a path; none if there is none.
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a>;
}

/// What a lookup may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest term. What is longer is not read, and is [`SourceError::Damaged`].
    pub bytes_max: usize,
    /// The longest time, connecting included. Then the source is [`SourceError::Unavailable`].
    pub seconds_max: u64,
}

impl Limits {
    fn time(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.seconds_max)
    }
}

/// What [`Source::get`] gives.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Option<Found>, SourceError>> + Send + 'a>>;

/// A term that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The term as `term_to_binary` wrote it.
    pub bytes: Bytes,
    /// What changes whenever the term does, where that is known without reading it: the file's time and size.
    pub version: Option<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The key is not of the kind that the source has: the caller's fault.
    #[error("not a key of this source: {0}")]
    Key(String),
    /// What lies there is not what it should be.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file or the server cannot be read; it may be better in a while.
    #[error("cannot be read: {0}")]
    Unavailable(String),
}

impl SourceError {
    /// A term of so many bytes, which the limits do not allow.
    fn too_long(bytes: impl fmt::Display, limits: Limits) -> Self {
        Self::Damaged(format!("{bytes} bytes, and at most {} are read", limits.bytes_max))
    }
}

/// Opens a source.
///
/// # Errors
/// What is wrong with its configuration.
pub fn open(source: &TermSource, settings: &Terms) -> Result<Arc<dyn Source>, String> {
    let limits = Limits { bytes_max: settings.term_bytes_max, seconds_max: settings.source_seconds_max };
    Ok(match source.kind {
        SourceKind::Directory => Arc::new(directory::open(source, limits)?),
        SourceKind::Sqlite => Arc::new(sqlite::open(source, limits)?),
        SourceKind::Postgresql => Arc::new(postgresql::open(source, limits)?),
        SourceKind::Redis => Arc::new(redis::open(source, limits)?),
        SourceKind::Dets => Arc::new(dets::Dets::open(source, settings)?),
        SourceKind::DiskLog => Arc::new(log::Log::open(source, settings, limits)?),
        SourceKind::Mnesia => Arc::new(mnesia::Mnesia::open(source, settings)?),
    })
}
