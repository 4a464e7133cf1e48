//! What can go wrong, at opening and later.

/// How the store can fail after it was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition of the batch did not hold; nothing of it was written.
    #[error("the data changed meanwhile")]
    Conflict,
    /// The disk, the quota or the writer's queue is full.
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
