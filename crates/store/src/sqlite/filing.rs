//! From the logs of what arrived to the tables of the months, a part in each transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::archive::{self, Appended, Change, Parts};
use super::arrivals::{Arrivals, Arrived, Filed, Half, Log};
use super::queries::id_of;
use crate::batch::Effect;
use crate::ids::LogId;

/// The tables.
pub(super) const CREATE: &str =
    "CREATE TABLE archive_arrivals_0 (number INTEGER PRIMARY KEY, log BLOB NOT NULL) STRICT;
    CREATE TABLE archive_arrivals_1 (number INTEGER PRIMARY KEY, log BLOB NOT NULL) STRICT;
    CREATE TABLE archive_filing (half INTEGER NOT NULL, up_to TEXT, id INTEGER NOT NULL) STRICT;";

const ADD: [&str; 2] =
    ["INSERT INTO archive_arrivals_0 (log) VALUES (?1)", "INSERT INTO archive_arrivals_1 (log) VALUES (?1)"];
const ALL: [&str; 2] =
    ["SELECT log FROM archive_arrivals_0 ORDER BY number", "SELECT log FROM archive_arrivals_1 ORDER BY number"];
const CLEAR: [&str; 2] = ["DELETE FROM archive_arrivals_0", "DELETE FROM archive_arrivals_1"];
const OLDEST: [&str; 2] = [
    "SELECT number, length(log) FROM archive_arrivals_0 ORDER BY number LIMIT 500",
    "SELECT number, length(log) FROM archive_arrivals_1 ORDER BY number LIMIT 500",
];
const CLEAR_UP_TO: [&str; 2] =
    ["DELETE FROM archive_arrivals_0 WHERE number <= ?1", "DELETE FROM archive_arrivals_1 WHERE number <= ?1"];
/// A row is there while a half is being filed.
const BEGIN: &str = "INSERT INTO archive_filing (half, up_to, id) VALUES (?1, NULL, 0)";
const GO_ON: &str = "UPDATE archive_filing SET up_to = ?1, id = ?2";
/// All is filed, and not all logs are deleted.
const ALL_FILED: &str = "UPDATE archive_filing SET up_to = NULL, id = -1";
const END: &str = "DELETE FROM archive_filing";
const STATE: &str = "SELECT half, up_to, id FROM archive_filing";

/// What of it happens in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// Some.
    Some {
        /// Where nothing is being filed: what has arrived is from now on.
        turn: bool,
        /// Entries to file at most.
        entries: usize,
        /// Bytes of logs to delete, and one log more: to delete a large row is to look at all of its pages.
        bytes: i64,
    },
    /// All that waits, so that what the transaction does itself comes after it.
    All,
}

/// What a transaction has done of it, for when it is durable.
#[derive(Default)]
pub(super) struct Progress {
    /// The half that takes what arrives.
    half: Half,
    turned: bool,
    filed: Option<Filed>,
    /// Whether all of the other half is filed and its logs are deleted.
    ended: bool,
    all: bool,
}

/// Brings back what waited when the store was closed; `None` where a log cannot be read.
pub(super) fn restore(connection: &Connection, arrivals: &Arrivals) -> rusqlite::Result<Option<()>> {
    let state: Option<(Half, Option<String>, i64)> =
        connection.query_row(STATE, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let replay = |half: Half| -> rusqlite::Result<Option<()>> {
        let mut statement = connection.prepare(ALL[usize::from(half)])?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if arrivals.apply(row.get_ref(0)?.as_blob()?).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    let Some((half, up_to, id)) = state else {
        // Only one of them has anything.
        let first: bool =
            connection.query_row("SELECT EXISTS (SELECT 1 FROM archive_arrivals_1)", [], |row| row.get(0))?;
        arrivals.start(first);
        return replay(first);
    };
    if up_to.is_none() && id < 0 {
        arrivals.start(half);
        arrivals.turn();
        return replay(!half);
    }
    arrivals.start(half);
    if replay(half)?.is_none() {
        return Ok(None);
    }
    arrivals.turn();
    if let Some(owner) = up_to {
        arrivals.filed(&Filed { owner: owner.into(), id: LogId(id.cast_unsigned()) });
    }
    replay(!half)
}

/// Files some of what arrived before. Comes before anything else that a transaction does, which then finds it in the tables.
pub(super) fn file_some(
    connection: &Connection,
    parts: &mut Parts,
    arrivals: &Arrivals,
    work: Work,
) -> rusqlite::Result<Progress> {
    let pending = arrivals.read();
    let mut progress = Progress { half: pending.half(), ..Progress::default() };
    let (turn, entries, bytes) = match work {
        Work::None => return Ok(progress),
        Work::Some { turn, entries, bytes } => (turn, entries, bytes),
        Work::All => {
            for (owner, entries) in pending.to_file().chain(pending.arriving()) {
                file(connection, parts, owner, entries)?;
            }
            for sql in CLEAR.into_iter().chain([END]) {
                connection.prepare_cached(sql)?.execute([])?;
            }
            progress.all = true;
            return Ok(progress);
        }
    };
    if !pending.is_filing() {
        if turn {
            connection.prepare_cached(BEGIN)?.execute([progress.half])?;
            (progress.half, progress.turned) = (!progress.half, true);
        }
        return Ok(progress);
    }
    let other = usize::from(!progress.half);
    if pending.has_none_to_file() {
        progress.ended = !clear_some(connection, other, bytes)?;
        return Ok(progress);
    }
    let (mut room, mut is_all) = (entries, true);
    for (owner, entries) in pending.to_file() {
        let now = &entries[..entries.len().min(room)];
        is_all = now.len() == entries.len();
        let Some(last) = now.last() else { break };
        file(connection, parts, owner, now)?;
        progress.filed = Some(Filed { owner: owner.into(), id: last.id });
        room -= now.len();
    }
    if is_all {
        connection.prepare_cached(ALL_FILED)?.execute([])?;
    } else if let Some(Filed { owner, id }) = &progress.filed {
        connection.prepare_cached(GO_ON)?.execute(params![owner, id_of(*id)])?;
    }
    Ok(progress)
}

/// Deletes some logs of a half that is filed; whether there were any.
fn clear_some(connection: &Connection, half: usize, enough: i64) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(OLDEST[half])?;
    let mut rows = statement.query([])?;
    let (mut last, mut bytes) = (None, 0);
    while let Some(row) = rows.next()?
        && bytes < enough
    {
        last = Some(row.get::<_, i64>(0)?);
        bytes += row.get::<_, i64>(1)?;
    }
    drop(rows);
    match last {
        Some(last) => connection.prepare_cached(CLEAR_UP_TO[half])?.execute([last])?,
        None => connection.prepare_cached(END)?.execute([])?,
    };
    Ok(last.is_some())
}

/// Writes what the transaction has done to what waits.
pub(super) fn write(connection: &Connection, progress: &Progress, log: Option<&Log>) -> rusqlite::Result<()> {
    if let Some(log) = log.filter(|log| !log.bytes().is_empty()) {
        connection.prepare_cached(ADD[usize::from(progress.half)])?.execute([log.bytes()])?;
    }
    Ok(())
}

/// After the transaction: memory follows.
pub(super) fn settle(arrivals: &Arrivals, progress: &Progress, log: Option<&Log>) {
    if progress.all {
        arrivals.clear();
    }
    if progress.turned {
        arrivals.turn();
    }
    if let Some(filed) = &progress.filed {
        arrivals.filed(filed);
    }
    if progress.ended {
        arrivals.end();
    }
    if log.is_some_and(|log| arrivals.apply(log.bytes()).is_none()) {
        tracing::error!("a log of arrivals that was just written cannot be read");
    }
}

fn file(connection: &Connection, parts: &mut Parts, owner: &str, entries: &[Arrived]) -> rusqlite::Result<()> {
    let mut topics: BTreeMap<(&str, &str), Change> = BTreeMap::new();
    for entry in entries {
        let Arrived { name, topic, id, effect, was_new, record } = entry;
        // It is kept that it was new, also where it was read since.
        let kept = if *was_new { Effect::New } else { Effect::None };
        let appended = Appended { name, owner, topic, id: *id, effect: kept, record };
        if archive::insert(connection, parts, &appended)? {
            let known = topics.get(&(&**name, &**topic)).copied();
            topics.insert((name, topic), Change::appended(known, *id, *effect));
        }
    }
    for ((name, topic), change) in topics {
        archive::change_topic(connection, name, owner, topic, change)?;
    }
    Ok(())
}
