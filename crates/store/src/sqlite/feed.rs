//! What an index of an archive has to follow: entries of all owners in the order in which they were filed, and what was taken away.
//!
//! Within a part rows keep the numbers by which they were filed, and no number is used twice: the last row of a part stays when its
//! owner is erased, empty and nobody's. Of one owner's entries those that were appended without an id of their own are filed in the
//! order of their ids.

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::queries::{id_of, limit_of};
use crate::archive::space;
use crate::ids::{LogId, month};

const ALL_PARTS: &str =
    "SELECT number, space, month FROM archive_parts WHERE name = ?1 ORDER BY month DESC, number DESC";
const PART: &str = "SELECT number, space, month FROM archive_parts WHERE name = ?1 AND number = ?2";
const PARTS_OF: &str = "SELECT number, space, month FROM archive_parts
    WHERE name = ?1 AND space = ?2 AND month BETWEEN ?3 AND ?4 ORDER BY month";
const NOTE_REMOVAL: &str = "INSERT INTO archive_removals (name, gone, id) VALUES (?1, ?2, ?3)";
const DROP_REMOVALS: &str = "DELETE FROM archive_removals WHERE number <= ?1";
const REMOVALS: &str = "SELECT number, gone, id FROM archive_removals
    WHERE number > ?1 AND (name = ?2 OR name = '') ORDER BY number LIMIT ?3";
const REMOVALS_BOUNDS: &str = "SELECT
    coalesce((SELECT min(number) FROM archive_removals), 0),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'archive_removals'), 0)";

/// Removals that are kept for who watches. Who is further behind starts over.
const REMOVALS_MAX: i64 = 100_000;

/// Removals have numbers without gaps, and none is used again. An owner's name stays here until the index has followed.
pub(super) const CREATE: &str = "CREATE TABLE archive_removals (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, gone TEXT NOT NULL, id INTEGER
    ) STRICT;";

/// A month of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: i64,
    pub(super) space: String,
    pub(super) month: i64,
    /// The number of its last row.
    pub(super) last: i64,
}

/// An entry, as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) row: i64,
    pub(super) owner: String,
    pub(super) topic: String,
    pub(super) id: LogId,
    pub(super) record: Vec<u8>,
}

/// What was taken away or changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) number: i64,
    pub(super) what: Removed,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// An entry has another record.
    Entry(String, LogId),
    /// All that an owner had.
    Owner(String),
}

/// All parts, the newest month first.
pub(super) fn parts(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Part>> {
    with_last(connection, ALL_PARTS, params![name])
}

/// One part.
pub(super) fn part(connection: &Connection, name: &str, number: i64) -> rusqlite::Result<Option<Part>> {
    Ok(with_last(connection, PART, params![name, number])?.pop())
}

/// The parts of a space in these months, both included, the oldest first.
pub(super) fn parts_of(
    connection: &Connection,
    name: &str,
    space: &str,
    (first, last): (i64, i64),
) -> rusqlite::Result<Vec<Part>> {
    with_last(connection, PARTS_OF, params![name, space, first, last])
}

fn with_last(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Vec<Part>> {
    let mut statement = connection.prepare_cached(sql)?;
    let found: Vec<(i64, String, i64)> =
        statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    found
        .into_iter()
        .map(|(number, space, month)| Ok(Part { number, space, month, last: last(connection, number)? }))
        .collect()
}

fn last(connection: &Connection, part: i64) -> rusqlite::Result<i64> {
    let last = format!("SELECT coalesce(max(rowid), 0) FROM archive_part_{part}");
    connection.prepare_cached(&last)?.query_row([], |row| row.get(0))
}

/// Entries of a part that arrived after one.
pub(super) fn after(connection: &Connection, part: i64, row: i64, limit: usize) -> rusqlite::Result<Vec<Arrival>> {
    let select = format!(
        "SELECT rowid, owner, topic, id, record FROM archive_part_{part} WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let rows = statement.query_map(params![row, limit_of(limit)], |row| {
        let id = LogId(row.get::<_, i64>(3)?.cast_unsigned());
        Ok(Arrival { row: row.get(0)?, owner: row.get(1)?, topic: row.get(2)?, id, record: row.get(4)? })
    })?;
    rows.collect()
}

/// The id of the entry that arrived as this one.
pub(super) fn id_at(connection: &Connection, part: i64, row: i64) -> rusqlite::Result<Option<LogId>> {
    let select = format!("SELECT id FROM archive_part_{part} WHERE rowid = ?1");
    let id: Option<i64> = connection.prepare_cached(&select)?.query_row([row], |row| row.get(0)).optional()?;
    Ok(id.map(|id| LogId(id.cast_unsigned())))
}

/// The last of an owner's entries that were filed no later than as this row.
pub(super) fn last_of(connection: &Connection, part: i64, owner: &str, row: i64) -> rusqlite::Result<Option<LogId>> {
    let select = format!(
        "SELECT id FROM archive_part_{part} INDEXED BY archive_ids_{part}
        WHERE owner = ?1 AND rowid <= ?2 ORDER BY id DESC LIMIT 1"
    );
    let id: Option<i64> =
        connection.prepare_cached(&select)?.query_row(params![owner, row], |row| row.get(0)).optional()?;
    Ok(id.map(|id| LogId(id.cast_unsigned())))
}

/// An owner's entries of these moments, in Unix milliseconds, oldest first: their topic, id and record.
pub(super) fn of_moments(
    connection: &Connection,
    name: &str,
    owner: &str,
    moments: &[u64],
) -> rusqlite::Result<Vec<(String, LogId, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut number =
        connection.prepare_cached("SELECT number FROM archive_parts WHERE name = ?1 AND space = ?2 AND month = ?3")?;
    let mut part = None;
    for moment in moments {
        let (first, last) = (LogId::at_millis(*moment), LogId(LogId::at_millis(moment + 1).0.saturating_sub(1)));
        let month = month(first);
        let number = match part {
            Some((known, number)) if known == month => number,
            _ => number.query_row(params![name, space(owner), month], |row| row.get::<_, i64>(0)).optional()?,
        };
        part = Some((month, number));
        let Some(number) = number else { continue };
        let select = format!(
            "SELECT topic, id, record FROM archive_part_{number} WHERE owner = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id"
        );
        let mut statement = connection.prepare_cached(&select)?;
        let rows = statement.query_map(params![owner, id_of(first), id_of(last)], |row| {
            Ok((row.get(0)?, LogId(row.get::<_, i64>(1)?.cast_unsigned()), row.get(2)?))
        })?;
        for row in rows {
            found.push(row?);
        }
    }
    Ok(found)
}

/// Notes that an entry has another record, or that an owner has none left, where there is an index to follow it.
pub(super) fn note_removal(
    connection: &Connection,
    watched: bool,
    name: &str,
    owner: &str,
    id: Option<LogId>,
) -> rusqlite::Result<()> {
    if !watched {
        return Ok(());
    }
    connection.prepare_cached(NOTE_REMOVAL)?.execute(params![name, owner, id.map(id_of)])?;
    drop_removals(connection, connection.last_insert_rowid().saturating_sub(REMOVALS_MAX))
}

/// Whoever watches has seen them up to this one.
pub(super) fn drop_removals(connection: &Connection, up_to: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(DROP_REMOVALS)?.execute([up_to])?;
    Ok(())
}

pub(super) fn removals(
    connection: &Connection,
    name: &str,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Removal>> {
    let mut statement = connection.prepare_cached(REMOVALS)?;
    let rows = statement.query_map(params![after, name, limit_of(limit)], |row| {
        let (owner, id): (String, Option<i64>) = (row.get(1)?, row.get(2)?);
        let what = match id {
            Some(id) => Removed::Entry(owner, LogId(id.cast_unsigned())),
            None => Removed::Owner(owner),
        };
        Ok(Removal { number: row.get(0)?, what })
    })?;
    rows.collect()
}

/// The number of the oldest removal that is kept, 0 if there is none, and of the last that ever was.
pub(super) fn removals_bounds(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.prepare_cached(REMOVALS_BOUNDS)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}
