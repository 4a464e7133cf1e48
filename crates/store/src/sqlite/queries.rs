//! What is read, each in one statement that seeks in an index.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::backend::{Between, Entries, KeyedEntries};
use crate::ids::LogId;
use crate::rows::{Found, Want, Wanted};

const VALUE: &str = "SELECT record FROM value_rows WHERE owner = ?1 AND name = ?2";
const OWNERS: &str = "SELECT owner FROM value_rows WHERE name = ?1 AND owner >= ?2 ORDER BY owner LIMIT ?3";
const COUNT_OWNERS: &str = "SELECT count(*) FROM value_rows WHERE name = ?1 AND owner >= ?2";
const COUNT_OWNERS_TO: &str = "SELECT count(*) FROM value_rows WHERE name = ?1 AND owner >= ?2 AND owner < ?3";
const ENTRY: &str = "SELECT record FROM map_rows WHERE owner = ?1 AND name = ?2 AND key = ?3";
const ENTRIES: &str = "SELECT key, record FROM map_rows WHERE owner = ?1 AND name = ?2 ORDER BY key";
const KEYS: &str =
    "SELECT key, record FROM map_rows WHERE owner = ?1 AND name = ?2 AND key > ?3 AND key < ?4 ORDER BY key LIMIT ?5";
const KEYS_BACK: &str = "SELECT key, record FROM map_rows WHERE owner = ?1 AND name = ?2 AND key > ?3 AND key < ?4 ORDER BY key DESC LIMIT ?5";
const COUNT_KEYS: &str = "SELECT count(*) FROM map_rows WHERE owner = ?1 AND name = ?2 AND key > ?3 AND key < ?4";
const RANGE: &str = "SELECT id, record FROM log_rows WHERE owner = ?1 AND name = ?2 AND id > ?3 ORDER BY id LIMIT ?4";
const RANGE_BACK: &str =
    "SELECT id, record FROM log_rows WHERE owner = ?1 AND name = ?2 AND id <= ?3 ORDER BY id DESC LIMIT ?4";
const COUNT_ENTRIES: &str = "SELECT count(*) FROM log_rows WHERE owner = ?1 AND name = ?2";

pub(super) fn value(connection: &Connection, name: &str, owner: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached(VALUE)?.query_row([owner, name], |row| row.get(0)).optional()
}

pub(super) fn owners(
    connection: &Connection,
    name: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let from = match after {
        // Nothing lies between a string and the same with a zero byte behind it.
        Some(after) if after >= prefix => &format!("{after}\0"),
        _ => prefix,
    };
    let mut statement = connection.prepare_cached(OWNERS)?;
    let mut rows = statement.query(params![name, from, limit_of(limit)])?;
    let mut owners = Vec::new();
    while let Some(row) = rows.next()? {
        let owner: String = row.get(0)?;
        if !owner.starts_with(prefix) {
            break;
        }
        owners.push(owner);
    }
    Ok(owners)
}

pub(super) fn count_owners(connection: &Connection, name: &str, prefix: &str) -> rusqlite::Result<u64> {
    match prefix_end(prefix) {
        Some(end) => connection.prepare_cached(COUNT_OWNERS_TO)?.query_row([name, prefix, &end], count),
        None => connection.prepare_cached(COUNT_OWNERS)?.query_row([name, prefix], count),
    }
}

pub(super) fn entry(connection: &Connection, name: &str, owner: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached(ENTRY)?.query_row([owner, name, key], |row| row.get(0)).optional()
}

pub(super) fn entries(connection: &Connection, name: &str, owner: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(ENTRIES)?;
    statement.query_map([owner, name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn keys(
    connection: &Connection,
    name: &str,
    owner: &str,
    between: Between<'_>,
    limit: usize,
) -> rusqlite::Result<KeyedEntries> {
    let mut statement = connection.prepare_cached(if between.back { KEYS_BACK } else { KEYS })?;
    let values = params![owner, name, between.after, between.before, limit_of(limit)];
    statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn count_keys(connection: &Connection, values: [&str; 4]) -> rusqlite::Result<u64> {
    connection.prepare_cached(COUNT_KEYS)?.query_row(values, count)
}

pub(super) fn range(
    connection: &Connection,
    name: &str,
    owner: &str,
    after: Option<LogId>,
    limit: usize,
) -> rusqlite::Result<Entries> {
    let after = after.map_or(-1, |after| id_of(after.min(LogId::MAX)));
    page(connection, RANGE, name, owner, after, limit)
}

pub(super) fn range_back(
    connection: &Connection,
    name: &str,
    owner: &str,
    before: Option<LogId>,
    limit: usize,
) -> rusqlite::Result<Entries> {
    // Up to the one before it, because after the largest there is none to be before.
    let last = before.map_or(Some(LogId::MAX), |before| before.0.checked_sub(1).map(LogId));
    let Some(last) = last else { return Ok(Vec::new()) };
    page(connection, RANGE_BACK, name, owner, id_of(last.min(LogId::MAX)), limit)
}

fn page(
    connection: &Connection,
    query: &str,
    name: &str,
    owner: &str,
    id: i64,
    limit: usize,
) -> rusqlite::Result<Entries> {
    let mut statement = connection.prepare_cached(query)?;
    statement.query_map(params![owner, name, id, limit_of(limit)], entry_of)?.collect()
}

/// An id and a record.
pub(super) fn entry_of(row: &Row<'_>) -> rusqlite::Result<(LogId, Vec<u8>)> {
    Ok((LogId(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?))
}

pub(super) fn rows(connection: &Connection, owner: &str, wanted: &[Wanted]) -> rusqlite::Result<Vec<Found>> {
    let found = |wanted: &Wanted| {
        Ok(match wanted.0 {
            Want::Value(name) => Found::Value(value(connection, name, owner)?),
            Want::Map(name) => Found::Map(entries(connection, name, owner)?),
        })
    };
    at_one_moment(connection, || wanted.iter().map(found).collect())
}

/// In one transaction, so that all that is read is of one moment.
pub(super) fn at_one_moment<T>(
    connection: &Connection,
    read: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let found = read();
    // Nothing was written, so that a failure has nothing to take back. Some errors have ended the transaction already.
    if !connection.is_autocommit() {
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    found
}

pub(super) fn count_entries(connection: &Connection, name: &str, owner: &str) -> rusqlite::Result<u64> {
    connection.prepare_cached(COUNT_ENTRIES)?.query_row([owner, name], count)
}

fn count(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::cast_unsigned)
}

/// As it is stored. Up to [`LogId::MAX`] the order is the same.
pub(super) fn id_of(id: LogId) -> i64 {
    id.0.cast_signed()
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The first string after all that begin with the prefix, where there is one. The order of UTF-8 is that of the characters.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_string();
    while let Some(last) = end.pop() {
        // The range skips what is no character.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::schema;
    use super::*;

    #[test]
    fn every_statement_seeks_in_an_index_and_sorts_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
        for query in [
            VALUE,
            OWNERS,
            COUNT_OWNERS,
            COUNT_OWNERS_TO,
            ENTRY,
            ENTRIES,
            KEYS,
            KEYS_BACK,
            COUNT_KEYS,
            RANGE,
            RANGE_BACK,
            COUNT_ENTRIES,
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let mut rows = statement.raw_query();
            let mut plan = Vec::<String>::new();
            while let Some(row) = rows.next().unwrap() {
                plan.push(row.get(3).unwrap());
            }
            assert!(!plan.is_empty(), "{query}");
            assert!(plan.iter().all(|step| step.starts_with("SEARCH ")), "{query}: {plan:?}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_lies_after_all_it_begins_and_before_all_others() {
        assert_eq!(prefix_end("a/"), Some("a0".into()));
        assert_eq!(prefix_end("a\u{d7ff}"), Some("a\u{e000}".into()));
        assert_eq!(prefix_end("a\u{10ffff}\u{10ffff}"), Some("b".into()));
        assert_eq!(prefix_end("\u{10ffff}"), None);
        assert_eq!(prefix_end(""), None);
    }
}
