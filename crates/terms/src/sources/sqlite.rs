//! A column of a SQLite database that other programs write.
//!
//! Lookups run on threads for blocking work, as a disk may be slow and a writer may keep the file locked.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use tokio::sync::Semaphore;

use super::parameter::Parameter;
use super::{Found, Limits, Lookup, Source, SourceError};
use crate::config::{KeyKind, TermSource};

/// Lookups at the same time, each with a connection of its own.
const CONNECTIONS_MAX: usize = 4;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;

#[derive(Debug)]
struct Sqlite {
    key: KeyKind,
    turns: Arc<Semaphore>,
    database: Arc<Database>,
}

#[derive(Debug)]
struct Database {
    path: PathBuf,
    query: String,
    limits: Limits,
    idle: Mutex<Vec<Opened>>,
}

#[derive(Debug)]
struct Opened {
    connection: Connection,
    /// Device and inode of the file: where another took its place the connection would read the old one for ever.
    file: (u64, u64),
    deadline: Arc<Mutex<Instant>>,
}

/// The database at `path`; it is opened when it is first asked.
pub fn open(source: &TermSource, limits: Limits) -> Result<impl Source + use<>, String> {
    if source.path.as_os_str().is_empty() {
        return Err("a source of the kind `sqlite` needs `path`, the file".into());
    }
    if !source.query.contains("$1") {
        return Err("a source of the kind `sqlite` needs `query`, with `$1` for the key".into());
    }
    let database =
        Database { path: source.path.clone(), query: source.query.clone(), limits, idle: Mutex::new(Vec::new()) };
    Ok(Sqlite { key: source.key, turns: Arc::new(Semaphore::new(CONNECTIONS_MAX)), database: Arc::new(database) })
}

impl Source for Sqlite {
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let keys = Parameter::parse(self.key, key)?;
            // Where SQLite compares it with a number it reads no further than to a NUL.
            if matches!(&keys[..], [Parameter::Text(text)] if text.contains('\0')) {
                return Err(SourceError::Key("text has no NUL here".into()));
            }
            let deadline = Instant::now() + self.database.limits.time();
            let late = || self.database.late();
            let turn = Arc::clone(&self.turns).acquire_owned();
            let turn = tokio::time::timeout_at(deadline.into(), turn).await.map_err(|_| late())?;
            let database = Arc::clone(&self.database);
            let lookup = tokio::task::spawn_blocking(move || {
                // Who gives up sooner leaves the thread its turn.
                let _turn = turn;
                database.get(&keys, deadline)
            });
            let outcome = tokio::time::timeout_at(deadline.into(), lookup).await.map_err(|_| late())?;
            outcome.unwrap_or_else(|_| Err(SourceError::Unavailable("the lookup was given up".into())))
        })
    }
}

impl Database {
    fn get(&self, keys: &[Parameter], deadline: Instant) -> Result<Option<Found>, SourceError> {
        let unavailable =
            |why: &dyn std::fmt::Display| SourceError::Unavailable(format!("{}: {why}", self.path.display()));
        let file = std::fs::metadata(&self.path).map_err(|error| unavailable(&error))?;
        let file = (file.dev(), file.ino());
        let idle = self.idle.lock().pop().filter(|opened| opened.file == file);
        let opened = match idle {
            Some(opened) => opened,
            None => self.connect(file).map_err(|error| unavailable(&error))?,
        };
        *opened.deadline.lock() = deadline;
        match look_up(&opened.connection, &self.query, keys, self.limits) {
            Ok(outcome) => {
                self.idle.lock().push(opened);
                outcome
            }
            // The connection goes with the error, as the cause may be its own.
            Err(error) => Err(match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => SourceError::Damaged(error.to_string()),
                Some(ErrorCode::TooBig) => SourceError::too_long("more", self.limits),
                Some(ErrorCode::OperationInterrupted) => self.late(),
                _ => unavailable(&error),
            }),
        }
    }

    fn connect(&self, file: (u64, u64)) -> rusqlite::Result<Opened> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(self.limits.time())?;
        // SQLite reads no value into memory that is longer than it may be; a query may be longer than a term.
        let bytes_max = self.limits.bytes_max.max(self.query.len() + 1);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(bytes_max).unwrap_or(i32::MAX))?;
        let deadline = Arc::new(Mutex::new(Instant::now()));
        let clock = Arc::clone(&deadline);
        connection.progress_handler(STEPS, Some(move || Instant::now() >= *clock.lock()))?;
        Ok(Opened { connection, file, deadline })
    }

    fn late(&self) -> SourceError {
        SourceError::Unavailable(format!("{}: no answer in {} s", self.path.display(), self.limits.seconds_max))
    }
}

/// The outer error is SQLite's, the inner one says what is wrong with what it gave.
fn look_up(
    connection: &Connection,
    query: &str,
    keys: &[Parameter],
    limits: Limits,
) -> rusqlite::Result<Result<Option<Found>, SourceError>> {
    let mut statement = connection.prepare_cached(query)?;
    if statement.parameter_count() != 1 || !statement.readonly() {
        return Ok(Err(SourceError::Unavailable("the query must read, and have `$1` and no other parameter".into())));
    }
    for key in keys {
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { continue };
        let other = match row.get_ref(0)? {
            ValueRef::Null => continue,
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) if bytes.len() > limits.bytes_max => {
                return Ok(Err(SourceError::too_long(bytes.len(), limits)));
            }
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => {
                return Ok(Ok(Some(Found { bytes: Bytes::copy_from_slice(bytes), version: None })));
            }
            ValueRef::Integer(_) => "an integer",
            ValueRef::Real(_) => "a number",
        };
        return Ok(Err(SourceError::Damaged(format!("the query's first column is {other} and no BLOB"))));
    }
    Ok(Ok(None))
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
