//! Shapes (value, map, log, archive; the blob index comes with media) over few backends (memory, SQLite). Knows no XMPP.
//!
//! Writes are collected in a [`Batch`] and given to a writer that commits in groups: [`Store::commit`] returns a
//! [`Ticket`] that resolves when the batch is on disk. Reads run on a small pool of readers. Every row begins
//! with its owner, so that erasing an owner is complete by construction.
//!
//! ```text
//! Value Map Log     the shapes: typed, by name        shapes.rs
//! Archive           the shape for what is kept long   archive.rs
//! Search            what is in an archive, by words   search.rs, words.rs
//! Batch             what to write: operations and     batch.rs
//!                   preconditions, as data
//! Backend           each shape once                   backend.rs
//!   Memory          tables in this process            memory.rs
//!   Sqlite          a file in a data folder           sqlite/
//! Rows              several shapes in one visit       rows.rs
//! Writer            the queue in front of a backend   writer.rs
//! Ticket            the answer from behind it         ticket.rs
//! ```
//!
//! What holds:
//!
//! - A ticket that says `Ok` means synced to the disk, or withdrawn. A read that starts after that sees the batch.
//! - Batches become durable in the order of [`Store::commit`], each whole or not at all. One that fails takes no
//!   other with it, except where the commit of their common transaction fails: then nobody knows what the disk
//!   holds, and all of them are told so.
//! - What is withdrawn ([`Store::withdraw`]) before the writer has begun with it is never written, and its ticket says `Ok`.
//! - With nothing to do the threads sleep.
//! - Entries whose ids [`Store::commit_placed`] gave become readable in the order of their ids.
//! - Preconditions are checked against what the batches before made, never against the own batch's writes.

mod archive;
mod backend;
mod batch;
mod cancel;
mod error;
mod faults;
mod ids;
mod lock;
mod memory;
mod reading;
mod record;
mod rows;
mod search;
mod shapes;
mod sqlite;
mod statistics;
mod store;
mod threads;
mod ticket;
mod words;
mod writer;

pub use archive::{Archive, Filing, Page, Topic};
pub use batch::{Batch, Effect};
pub use error::{OpenError, StoreError};
pub use faults::Faults;
pub use ids::LogId;
pub use record::Record;
pub use rows::{Rows, Wanted};
pub use search::{LOOKED_AT_MAX, Search, SearchEnd, Searched};
pub use shapes::{Log, Map, Value};
pub use statistics::{Histogram, Statistics};
pub use store::{Options, Store};
pub use ticket::{Ticket, Withdrawal};
pub use words::{SOUGHT_BYTES_MAX, SOUGHT_MAX, TEXT_BYTES_MAX, Words, WordsError};
