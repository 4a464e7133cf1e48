//! The file of the index: for each month a table of SQLite's FTS5, without the texts.
//!
//! What it knows is in which millisecond an owner has which terms. Each term begins with its owner's number, so that no search
//! comes across what is others'. The number of a row is made of owner and moment: rows of an owner lie together, in order of time.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{LogId, month_begin};

/// Counts up when the file, or what counts as a word, changes: then it is made anew.
const VERSION: u32 = 1;

const CREATE: &str = "CREATE TABLE removals (seen INTEGER NOT NULL) STRICT;
    CREATE TABLE owners (number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE parts (
        number INTEGER PRIMARY KEY, space TEXT NOT NULL, month INTEGER NOT NULL,
        row INTEGER NOT NULL, last INTEGER NOT NULL, gone INTEGER
    ) STRICT;
    CREATE TABLE months (month INTEGER PRIMARY KEY, purge INTEGER) STRICT;";

const CACHE_KIBIBYTES: i32 = 8 * 1024;
const STATEMENTS_CACHED: usize = 128;
const CHECKPOINT_PAGES: u32 = 1000;
const LOG_BYTES_KEPT: u32 = 8 * 1024 * 1024;

/// Pages that one step of a purge writes, about.
const PURGE_PAGES: i64 = 256;

/// Bits of a row's number that say the moment: milliseconds of a month.
const MOMENT_BITS: u32 = 32;

pub(super) struct Index(Connection);

/// How far a part of the archive is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) part: i64,
    pub(super) space: String,
    pub(super) month: i64,
    /// The last row, and its id: another one there means that this is not the part that was read.
    pub(super) row: i64,
    pub(super) last: LogId,
    /// The part is no more. Up to the owner of this number its rows have gone from the index.
    pub(super) gone: Option<i64>,
}

impl Index {
    /// `None`: it is of another version.
    pub(super) fn open(path: &Path, removals_seen: i64) -> rusqlite::Result<Option<Self>> {
        let connection = Connection::open(path)?;
        // Nobody else opens it, so that it needs no memory for others to see.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A loss of power may take away the last of it, and the place with it: then that is read again.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "secure_delete", "FAST")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let index = Self(connection);
        if found == 0 {
            index.transaction(|| {
                index.0.execute_batch(CREATE)?;
                index.0.execute("INSERT INTO removals (seen) VALUES (?1)", [removals_seen])?;
                index.0.pragma_update(None, "user_version", VERSION)
            })?;
        }
        Ok((found == 0 || found == VERSION).then_some(index))
    }

    /// Takes the file away.
    pub(super) fn remove(path: &Path) -> io::Result<()> {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            match fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is written in it is written whole or not at all.
    pub(super) fn transaction<T>(&self, write: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.run("BEGIN IMMEDIATE", [])?;
        let written = write().and_then(|written| self.run("COMMIT", []).map(|_| written));
        if written.is_err() && !self.0.is_autocommit() {
            self.0.execute_batch("ROLLBACK")?;
        }
        written
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.0.prepare_cached(sql)?.execute(values)
    }

    fn numbers(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<i64>> {
        self.0.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
    }

    fn number(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Option<i64>> {
        self.0.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
    }

    pub(super) fn removals_seen(&self) -> rusqlite::Result<i64> {
        Ok(self.number("SELECT seen FROM removals", [])?.unwrap_or(0))
    }

    pub(super) fn set_removals_seen(&self, seen: i64) -> rusqlite::Result<()> {
        self.run("UPDATE removals SET seen = ?1", [seen]).map(drop)
    }

    pub(super) fn cursors(&self) -> rusqlite::Result<Vec<Cursor>> {
        self.cursors_where("", [])
    }

    pub(super) fn cursor(&self, part: i64) -> rusqlite::Result<Option<Cursor>> {
        Ok(self.cursors_where("WHERE number = ?1", [part])?.pop())
    }

    fn cursors_where(&self, which: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<Cursor>> {
        let select = format!("SELECT number, space, month, row, last, gone FROM parts {which}");
        let mut statement = self.0.prepare_cached(&select)?;
        let cursors = statement.query_map(values, |row| {
            let id = |column| row.get::<_, i64>(column).map(|id| LogId(id.cast_unsigned()));
            Ok(Cursor {
                part: row.get(0)?,
                space: row.get(1)?,
                month: row.get(2)?,
                row: row.get(3)?,
                last: id(4)?,
                gone: row.get(5)?,
            })
        })?;
        cursors.collect()
    }

    pub(super) fn set_cursor(&self, cursor: &Cursor) -> rusqlite::Result<()> {
        let Cursor { part, space, month, row, last, gone } = cursor;
        let replace = "INSERT OR REPLACE INTO parts (number, space, month, row, last, gone)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.run(replace, params![part, space, month, row, last.0.cast_signed(), gone]).map(drop)
    }

    /// Those of all parts that a month of a space has had: what is there of it is read again.
    pub(super) fn drop_cursors(&self, space: &str, month: i64) -> rusqlite::Result<()> {
        self.run("DELETE FROM parts WHERE space = ?1 AND month = ?2", params![space, month]).map(drop)
    }

    pub(super) fn owner(&self, owner: &str) -> rusqlite::Result<Option<i64>> {
        self.number("SELECT number FROM owners WHERE owner = ?1", [owner])
    }

    pub(super) fn find_or_make_owner(&self, owner: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.owner(owner)? {
            return Ok(number);
        }
        self.run("INSERT INTO owners (owner) VALUES (?1)", [owner])?;
        Ok(self.0.last_insert_rowid())
    }

    /// Owners of a space with numbers after this one, in order.
    pub(super) fn owners_of(&self, space: &str, after: i64, limit: usize) -> rusqlite::Result<Vec<i64>> {
        // Nothing lies between a slash and a zero.
        let select = "SELECT number FROM owners WHERE number > ?1 AND (owner = ?2 OR (owner >= ?3 AND owner < ?4))
            ORDER BY number LIMIT ?5";
        let (from, to) = (format!("{space}/"), format!("{space}0"));
        self.numbers(select, params![after, space, from, to, limit.cast_signed()])
    }

    /// Months that it has anything of, the oldest first.
    pub(super) fn months(&self) -> rusqlite::Result<Vec<i64>> {
        self.numbers("SELECT month FROM months ORDER BY month", [])
    }

    pub(super) fn make_month(&self, month: i64) -> rusqlite::Result<()> {
        if self.run("INSERT OR IGNORE INTO months (month) VALUES (?1)", [month])? > 0 {
            self.0.execute_batch(&format!(
                "CREATE VIRTUAL TABLE words_{month} USING
                fts5(terms, content='', contentless_delete=1, detail='none', tokenize='ascii')"
            ))?;
        }
        Ok(())
    }

    pub(super) fn drop_month(&self, month: i64) -> rusqlite::Result<()> {
        self.run("DELETE FROM parts WHERE month = ?1", [month])?;
        if self.run("DELETE FROM months WHERE month = ?1", [month])? > 0 {
            self.0.execute_batch(&format!("DROP TABLE words_{month}"))?;
        }
        Ok(())
    }

    pub(super) fn has(&self, month: i64, row: i64) -> rusqlite::Result<bool> {
        Ok(self.number(&format!("SELECT 1 FROM words_{month}_docsize WHERE id = ?1"), [row])?.is_some())
    }

    /// The month must be there. Rows are cheapest in their order.
    pub(super) fn put(&self, month: i64, row: i64, terms: &str) -> rusqlite::Result<()> {
        self.run(&format!("INSERT INTO words_{month} (rowid, terms) VALUES (?1, ?2)"), params![row, terms]).map(drop)
    }

    /// Takes a row away, and sees to it that by that time nothing of it is left in the file.
    pub(super) fn take(&self, month: i64, row: i64, purge: i64) -> rusqlite::Result<()> {
        self.run(&format!("DELETE FROM words_{month} WHERE rowid = ?1"), [row])?;
        self.run("UPDATE months SET purge = ?2 WHERE month = ?1 AND purge IS NULL", [month, purge]).map(drop)
    }

    /// Takes away rows of an owner's month: how many.
    pub(super) fn take_some(&self, month: i64, owner: i64, limit: usize, purge: i64) -> rusqlite::Result<usize> {
        let select = format!("SELECT id FROM words_{month}_docsize WHERE id BETWEEN ?1 AND ?2 LIMIT ?3");
        let (first, last) = (row_of(owner, month, 0), row_of(owner, month, u64::MAX));
        let rows = self.numbers(&select, params![first, last, limit.cast_signed()])?;
        rows.iter().try_for_each(|row| self.take(month, *row, purge))?;
        Ok(rows.len())
    }

    /// Takes away what an owner has: whether nothing is left.
    pub(super) fn take_owner(&self, owner: &str, limit: usize, purge: i64) -> rusqlite::Result<bool> {
        let Some(number) = self.owner(owner)? else { return Ok(true) };
        let mut left = limit;
        for month in self.months()? {
            left -= self.take_some(month, number, left, purge)?;
            if left == 0 {
                return Ok(false);
            }
        }
        self.run("DELETE FROM owners WHERE number = ?1", [number])?;
        Ok(true)
    }

    /// The earliest time at which a month is to be rid of what was taken away.
    pub(super) fn next_purge(&self) -> rusqlite::Result<Option<(i64, i64)>> {
        let select = "SELECT month, purge FROM months WHERE purge IS NOT NULL ORDER BY purge LIMIT 1";
        self.0.prepare_cached(select)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// Writes a part of a month's table anew, without what was taken away. `begun`: it goes on with that.
    pub(super) fn purge(&self, month: i64, begun: bool) -> rusqlite::Result<()> {
        let before = self.0.total_changes();
        let pages = if begun { PURGE_PAGES } else { -PURGE_PAGES };
        self.run(&format!("INSERT INTO words_{month} (words_{month}, rank) VALUES ('merge', ?1)"), [pages])?;
        let done = self.0.total_changes() - before < 2;
        // Zero comes before all times.
        let next = (!done).then_some(0);
        self.run("UPDATE months SET purge = ?2 WHERE month = ?1", params![month, next]).map(drop)
    }

    /// Rows of a month that have all of the terms in this question.
    pub(super) fn rows(
        &self,
        month: i64,
        question: &str,
        (first, last): (i64, i64),
        backwards: bool,
        limit: usize,
    ) -> rusqlite::Result<Vec<i64>> {
        let order = if backwards { "DESC" } else { "" };
        let select = format!(
            "SELECT rowid FROM words_{month} WHERE words_{month} MATCH ?1 AND rowid BETWEEN ?2 AND ?3
            ORDER BY rowid {order} LIMIT ?4"
        );
        self.numbers(&select, params![question, first, last, limit.cast_signed()])
    }
}

/// The row of an owner's moment. Moments outside of the month are its first or last.
pub(super) fn row_of(owner: i64, month: i64, moment: u64) -> i64 {
    let moment = moment.saturating_sub(month_begin(month)).min((1 << MOMENT_BITS) - 1);
    owner << MOMENT_BITS | moment.cast_signed()
}

pub(super) fn owner_of(row: i64) -> i64 {
    row >> MOMENT_BITS
}

pub(super) fn moment_of(month: i64, row: i64) -> u64 {
    month_begin(month) + (row & ((1 << MOMENT_BITS) - 1)).cast_unsigned()
}

/// A term as the index has it. No term of a text begins so.
pub(super) fn owned(owner: i64, term: &str, out: &mut String) {
    use std::fmt::Write as _;
    // Letters beyond `f` end the number.
    let _ = write!(out, "{owner:x}z{term}");
}

/// The term of a topic: private signs are in no word. Two topics that share it are told apart by the entries.
pub(super) fn topic_term(topic: &str) -> String {
    // FNV-1a.
    let hash = topic
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\u{e000}{hash:x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Whether the file has it, said to be there or not.
    fn has_term(index: &Index, month: i64, term: &str) -> bool {
        let mut blocks = index.0.prepare(&format!("SELECT block FROM words_{month}_data")).unwrap();
        let blocks: Vec<Vec<u8>> = blocks.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        blocks.iter().any(|block| block.windows(term.len()).any(|part| part == term.as_bytes()))
    }

    #[test]
    fn after_a_purge_the_file_has_no_term_of_what_was_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&folder.path().join("index.db"), 0).unwrap().unwrap();
        index.make_month(0).unwrap();
        for row in 0..200 {
            index.put(0, row, &format!("kept term{row} {}", if row == 7 { "zebra" } else { "" })).unwrap();
        }
        index.take(0, 7, 1000).unwrap();
        assert_eq!(index.next_purge().unwrap(), Some((0, 1000)));
        assert!(index.rows(0, "zebra", (0, i64::MAX), false, 9).unwrap().is_empty());
        assert!(has_term(&index, 0, "zebra"), "else there is nothing to purge");
        let mut begun = false;
        while index.next_purge().unwrap().is_some() {
            index.purge(0, begun).unwrap();
            begun = true;
        }
        assert!(!has_term(&index, 0, "zebra"));
        assert_eq!(index.rows(0, "kept AND term8", (0, i64::MAX), false, 9).unwrap(), [8]);
    }

    #[test]
    fn a_file_of_another_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.db");
        let index = Index::open(&path, 0).unwrap().unwrap();
        index.0.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(index);
        assert!(Index::open(&path, 0).unwrap().is_none());
    }

    #[test]
    fn a_row_says_its_owner_and_its_moment() {
        let begin = month_begin(683);
        let row = row_of(7, 683, begin + 5);
        assert_eq!((moment_of(683, row), owner_of(row)), (begin + 5, 7));
        let end = month_begin(684) - 1;
        assert_eq!(moment_of(683, row_of(7, 683, end)), end);
        assert!(row_of(7, 683, end) < row_of(8, 683, begin));
        assert!(row_of(7, 683, u64::MAX) < row_of(8, 683, 0));
    }
}
