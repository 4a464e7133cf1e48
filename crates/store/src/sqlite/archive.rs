//! Archives: a table for each month of each space, and one for all topics.
//!
//! A month that is forgotten is a table that is dropped. Rows are in the order of arrival with an index by owner and one by
//! owner and topic, as logs are: see [`super::schema`].

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::bell::Bell;
use super::feed::note_removal;
use super::queries::{at_one_moment, entry_of, id_of, limit_of};
use crate::archive::{Page, Topic, space};
use crate::backend::Entries;
use crate::batch::Effect;
use crate::ids::{LogId, month};

const PARTS: &str = "SELECT number FROM archive_parts
    WHERE name = ?1 AND space = ?2 AND month BETWEEN ?3 AND ?4 ORDER BY month";
const PARTS_BACK: &str = "SELECT number FROM archive_parts
    WHERE name = ?1 AND space = ?2 AND month BETWEEN ?3 AND ?4 ORDER BY month DESC";
const TOPICS: &str = "SELECT topic, last, count, new FROM archive_topics WHERE owner = ?1 AND name = ?2";
const TOPIC: &str = "SELECT last, count, new FROM archive_topics WHERE owner = ?1 AND name = ?2 AND topic = ?3";
const CHANGE_TOPIC: &str = "INSERT INTO archive_topics (owner, name, topic, last, count, new)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (owner, name, topic) DO UPDATE SET
        last = max(last, excluded.last),
        count = count + excluded.count,
        new = CASE ?7 WHEN 0 THEN new + excluded.new ELSE excluded.new END";
const READ_TOPIC: &str = "UPDATE archive_topics SET new = min(new, ?4) WHERE owner = ?1 AND name = ?2 AND topic = ?3";
const SHRINK_TOPIC: &str = "UPDATE archive_topics SET count = count - ?4, new = min(new, count - ?4)
    WHERE owner = ?1 AND name = ?2 AND topic = ?3";
const DROP_TOPICS_OF: &str = "DELETE FROM archive_topics WHERE owner = ?1 AND name = ?2 AND count <= 0";
const DROP_TOPICS: &str = "DELETE FROM archive_topics WHERE owner >= ?1 AND owner < ?2 AND count <= 0";

/// The tables that all archives share.
pub(super) const CREATE: &str = "CREATE TABLE archive_parts (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL, space TEXT NOT NULL, month INTEGER NOT NULL,
        UNIQUE (name, space, month)
    ) STRICT;
    CREATE TABLE archive_topics (
        owner TEXT NOT NULL, name TEXT NOT NULL, topic TEXT NOT NULL,
        last INTEGER NOT NULL, count INTEGER NOT NULL, new INTEGER NOT NULL,
        PRIMARY KEY (owner, name, topic)
    ) STRICT, WITHOUT ROWID;";

/// The parts that a writer has used, so that it need not look for them each time.
#[derive(Default)]
pub(super) struct Parts {
    known: HashMap<i64, Vec<Part>>,
    /// Whether an index follows what is taken away.
    bell: Arc<Bell>,
}

/// A part of a month.
struct Part {
    name: Box<str>,
    space: Box<str>,
    number: i64,
}

impl Parts {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { known: HashMap::new(), bell }
    }

    /// After a transaction that came to nothing: a part that it made is not there.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn known(&self, name: &str, space: &str, month: i64) -> Option<i64> {
        let known = self.known.get(&month)?.iter().find(|part| *part.name == *name && *part.space == *space);
        known.map(|part| part.number)
    }

    /// The part for a new entry, made where it is not there.
    fn find_or_make(&mut self, connection: &Connection, name: &str, space: &str, month: i64) -> rusqlite::Result<i64> {
        if let Some(number) = self.known(name, space, month) {
            return Ok(number);
        }
        let found = parts(connection, name, space, (month, month), false)?;
        let number = match found.first() {
            Some(number) => *number,
            None => make(connection, name, space, month)?,
        };
        self.known.entry(month).or_default().push(Part { name: name.into(), space: space.into(), number });
        Ok(number)
    }
}

fn make(connection: &Connection, name: &str, space: &str, month: i64) -> rusqlite::Result<i64> {
    connection
        .execute("INSERT INTO archive_parts (name, space, month) VALUES (?1, ?2, ?3)", params![name, space, month])?;
    let number = connection.last_insert_rowid();
    connection.execute_batch(&format!(
        "CREATE TABLE archive_part_{number} (
            owner TEXT NOT NULL, id INTEGER NOT NULL, topic TEXT NOT NULL, new INTEGER NOT NULL, record BLOB NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX archive_ids_{number} ON archive_part_{number} (owner, id);
        CREATE INDEX archive_topic_ids_{number} ON archive_part_{number} (owner, topic, id);"
    ))?;
    Ok(number)
}

/// The parts of these months, both included.
fn parts(
    connection: &Connection,
    name: &str,
    space: &str,
    months: (i64, i64),
    backwards: bool,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(if backwards { PARTS_BACK } else { PARTS })?;
    statement.query_map(params![name, space, months.0, months.1], |row| row.get(0))?.collect()
}

/// What is appended for one owner.
pub(super) struct Appended<'a> {
    pub(super) name: &'a str,
    pub(super) owner: &'a str,
    pub(super) topic: &'a str,
    pub(super) id: LogId,
    pub(super) effect: Effect,
    pub(super) record: &'a [u8],
}

pub(super) fn append(connection: &Connection, known: &mut Parts, appended: &Appended<'_>) -> rusqlite::Result<()> {
    let Appended { name, owner, topic, id, effect, .. } = *appended;
    if insert(connection, known, appended)? {
        change_topic(connection, name, owner, topic, Change::appended(None, id, effect))?;
    }
    Ok(())
}

/// Whether there was none of this id; otherwise that one has the record now.
pub(super) fn insert(connection: &Connection, known: &mut Parts, appended: &Appended<'_>) -> rusqlite::Result<bool> {
    let Appended { name, owner, topic, id, effect, record } = *appended;
    let part = known.find_or_make(connection, name, space(owner), month(id))?;
    known.bell.touch_part(month(id), part);
    let insert = format!(
        "INSERT INTO archive_part_{part} (owner, id, topic, new, record) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (owner, id) DO NOTHING"
    );
    let new = effect == Effect::New;
    let inserted = connection.prepare_cached(&insert)?.execute(params![owner, id_of(id), topic, new, record])?;
    if inserted == 0 {
        replace(connection, known.bell.is_watched(), name, owner, id, record)?;
    }
    Ok(inserted > 0)
}

/// What entries do to their topic.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) last: LogId,
    pub(super) count: u64,
    /// How many are new after all of them.
    pub(super) new: u64,
    /// Whether nothing from before is new any more.
    pub(super) read: bool,
}

impl Change {
    /// With one more, after the others.
    pub(super) fn appended(known: Option<Self>, id: LogId, effect: Effect) -> Self {
        let Self { last, count, new, read } = known.unwrap_or(Self { last: id, count: 0, new: 0, read: false });
        let (new, read) = match effect {
            Effect::None => (new, read),
            Effect::New => (new + 1, read),
            Effect::Read => (0, true),
        };
        Self { last: last.max(id), count: count + 1, new, read }
    }
}

pub(super) fn change_topic(
    connection: &Connection,
    name: &str,
    owner: &str,
    topic: &str,
    change: Change,
) -> rusqlite::Result<()> {
    let Change { last, count, new, read } = change;
    let values = params![owner, name, topic, id_of(last), count.cast_signed(), new.cast_signed(), read];
    connection.prepare_cached(CHANGE_TOPIC)?.execute(values)?;
    Ok(())
}

/// `watched`: an index follows it.
pub(super) fn replace(
    connection: &Connection,
    watched: bool,
    name: &str,
    owner: &str,
    id: LogId,
    record: &[u8],
) -> rusqlite::Result<()> {
    for part in parts(connection, name, space(owner), (month(id), month(id)), false)? {
        let update = format!("UPDATE archive_part_{part} SET record = ?3 WHERE owner = ?1 AND id = ?2");
        if connection.prepare_cached(&update)?.execute(params![owner, id_of(id), record])? > 0 {
            note_removal(connection, watched, name, owner, Some(id))?;
        }
    }
    Ok(())
}

pub(super) fn read(
    connection: &Connection,
    name: &str,
    owner: &str,
    topic_name: &str,
    up_to: LogId,
) -> rusqlite::Result<()> {
    let Some(known) = topic(connection, name, owner, topic_name)? else { return Ok(()) };
    let new = new_after(connection, name, owner, (topic_name, known), up_to)?;
    connection.prepare_cached(READ_TOPIC)?.execute(params![owner, name, topic_name, new])?;
    Ok(())
}

/// How many entries of a topic after this one were new when they came, where they are fewer than those that are.
fn new_after(
    connection: &Connection,
    name: &str,
    owner: &str,
    (topic, known): (&str, Topic),
    after: LogId,
) -> rusqlite::Result<i64> {
    let mut new = 0;
    if known.new > 0 && after < known.last {
        for part in parts(connection, name, space(owner), (month(after), month(known.last)), false)? {
            // No more than are new: what is older than that is looked at by nobody.
            let count = format!(
                "SELECT count(*) FROM (SELECT 1 FROM archive_part_{part}
                WHERE owner = ?1 AND topic = ?2 AND id > ?3 AND new = 1 LIMIT ?4)"
            );
            let values = params![owner, topic, id_of(after), limit_of(known.new as usize)];
            new += connection.prepare_cached(&count)?.query_row(values, |row| row.get::<_, i64>(0))?;
        }
    }
    Ok(new)
}

/// An entry is not new any more: its topic has one less, where it was.
pub(super) fn take_back(connection: &Connection, name: &str, owner: &str, id: LogId) -> rusqlite::Result<()> {
    for part in parts(connection, name, space(owner), (month(id), month(id)), false)? {
        let update =
            format!("UPDATE archive_part_{part} SET new = 0 WHERE owner = ?1 AND id = ?2 AND new = 1 RETURNING topic");
        let mut update = connection.prepare_cached(&update)?;
        let taken: Option<String> = update.query_row(params![owner, id_of(id)], |row| row.get(0)).optional()?;
        let Some(taken) = taken else { continue };
        let Some(known) = topic(connection, name, owner, &taken)? else { continue };
        // Of those that ever were new the newest are.
        if new_after(connection, name, owner, (&taken, known), id)? < known.new.cast_signed() {
            let values = params![owner, name, taken, known.new.cast_signed() - 1];
            connection.prepare_cached(READ_TOPIC)?.execute(values)?;
        }
    }
    Ok(())
}

/// Drops the months of a space that are over at this time.
pub(super) fn forget(
    connection: &Connection,
    known: &mut Parts,
    name: &str,
    space: &str,
    before: LogId,
) -> rusqlite::Result<()> {
    known.forget();
    for part in parts(connection, name, space, (i64::MIN, month(before) - 1), false)? {
        let mut groups = connection
            .prepare(&format!("SELECT owner, topic, count(*) FROM archive_part_{part} GROUP BY owner, topic"))?;
        let mut rows = groups.query([])?;
        while let Some(row) = rows.next()? {
            let (owner, topic, count) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get::<_, i64>(2)?);
            connection.prepare_cached(SHRINK_TOPIC)?.execute(params![owner, name, topic, count])?;
        }
        drop(rows);
        drop(groups);
        connection.execute_batch(&format!("DROP TABLE archive_part_{part}"))?;
        connection.execute("DELETE FROM archive_parts WHERE number = ?1", [part])?;
        known.bell.drop_part();
    }
    // All owners of the space: nothing lies between a slash and a zero.
    connection.execute(DROP_TOPICS, [format!("{space}/"), format!("{space}0")])?;
    connection.execute(DROP_TOPICS, [space, &format!("{space}\0")])?;
    Ok(())
}

/// Deletes the oldest rows of an owner from before this time.
pub(super) fn trim(
    connection: &Connection,
    watched: bool,
    name: &str,
    owner: &str,
    before: LogId,
    limit: usize,
) -> rusqlite::Result<()> {
    let mut room = limit;
    for part in parts(connection, name, space(owner), (i64::MIN, month(before)), false)? {
        let select =
            format!("SELECT id, topic FROM archive_part_{part} WHERE owner = ?1 AND id < ?2 ORDER BY id LIMIT ?3");
        let (mut last, mut topics) = (None, HashMap::<String, i64>::new());
        let mut statement = connection.prepare_cached(&select)?;
        let mut rows = statement.query(params![owner, id_of(before), limit_of(room)])?;
        while let Some(row) = rows.next()? {
            let id = LogId(row.get::<_, i64>(0)?.cast_unsigned());
            note_removal(connection, watched, name, owner, Some(id))?;
            last = Some(id);
            *topics.entry(row.get(1)?).or_default() += 1;
            room -= 1;
        }
        let Some(last) = last else { continue };
        delete(connection, part, owner, last)?;
        for (topic, count) in topics {
            connection.prepare_cached(SHRINK_TOPIC)?.execute(params![owner, name, topic, count])?;
        }
        if room == 0 {
            break;
        }
    }
    connection.prepare_cached(DROP_TOPICS_OF)?.execute([owner, name])?;
    Ok(())
}

/// Deletes an owner's rows up to this id: how many. The last row of a part stays, empty: see [`super::feed`].
fn delete(connection: &Connection, part: i64, owner: &str, up_to: LogId) -> rusqlite::Result<usize> {
    let keep_last = format!(
        "UPDATE OR REPLACE archive_part_{part} SET owner = '', topic = '', new = 0, record = x''
        WHERE owner = ?1 AND id <= ?2 AND rowid = (SELECT max(rowid) FROM archive_part_{part})"
    );
    let kept = connection.prepare_cached(&keep_last)?.execute(params![owner, id_of(up_to)])?;
    let delete = format!("DELETE FROM archive_part_{part} WHERE owner = ?1 AND id <= ?2");
    Ok(kept + connection.prepare_cached(&delete)?.execute(params![owner, id_of(up_to)])?)
}

pub(super) fn erase(connection: &Connection, watched: bool, owner: &str) -> rusqlite::Result<()> {
    let mut all = connection.prepare_cached("SELECT number FROM archive_parts WHERE space = ?1")?;
    let parts: Vec<i64> = all.query_map([space(owner)], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut any = false;
    for part in parts {
        any |= delete(connection, part, owner, LogId::MAX)? > 0;
    }
    if any {
        note_removal(connection, watched, "", owner, None)?;
    }
    connection.prepare_cached("DELETE FROM archive_topics WHERE owner = ?1")?.execute([owner])?;
    Ok(())
}

/// In one transaction, so that all parts are of one moment.
pub(super) fn page(connection: &Connection, name: &str, owner: &str, page: &Page) -> rusqlite::Result<Entries> {
    // Ids lie between these two, both included. There is none before the first and none after the last.
    let after = page.after.map_or(Some(LogId(0)), |after| after.0.checked_add(1).map(LogId));
    let before = page.before.map_or(Some(LogId::MAX), |before| before.0.checked_sub(1).map(LogId));
    let (Some(after), Some(before)) = (after, before) else { return Ok(Vec::new()) };
    let (first, last) = (after.min(LogId::MAX), before.min(LogId::MAX));
    if first > last || after > LogId::MAX {
        return Ok(Vec::new());
    }
    at_one_moment(connection, || {
        let mut entries = Entries::new();
        for part in parts(connection, name, space(owner), (month(first), month(last)), page.backwards)? {
            let topic = if page.topic.is_some() { "AND topic = ?5" } else { "AND ?5 IS NULL" };
            let order = if page.backwards { "DESC" } else { "" };
            let select = format!(
                "SELECT id, record FROM archive_part_{part}
                WHERE owner = ?1 AND id BETWEEN ?2 AND ?3 {topic} ORDER BY id {order} LIMIT ?4"
            );
            let limit = limit_of(page.limit - entries.len());
            let values = params![owner, id_of(first), id_of(last), limit, page.topic];
            let mut statement = connection.prepare_cached(&select)?;
            let rows = statement.query_map(values, entry_of)?;
            for row in rows {
                entries.push(row?);
            }
            if entries.len() >= page.limit {
                break;
            }
        }
        Ok(entries)
    })
}

/// The ids of the first and the last entry; the index by owner has both, and no record is looked at.
pub(super) fn ends(connection: &Connection, name: &str, owner: &str) -> rusqlite::Result<Option<(LogId, LogId)>> {
    let end = |backwards| -> rusqlite::Result<Option<LogId>> {
        let order = if backwards { "DESC" } else { "" };
        for part in parts(connection, name, space(owner), (month(LogId(0)), month(LogId::MAX)), backwards)? {
            let select = format!("SELECT id FROM archive_part_{part} WHERE owner = ?1 ORDER BY id {order} LIMIT 1");
            let id = connection.prepare_cached(&select)?.query_row([owner], |row| row.get::<_, i64>(0)).optional()?;
            if let Some(id) = id {
                return Ok(Some(LogId(id.cast_unsigned())));
            }
        }
        Ok(None)
    };
    at_one_moment(connection, || Ok(end(false)?.zip(end(true)?)))
}

pub(super) fn entries(connection: &Connection, name: &str, owner: &str, ids: &[LogId]) -> rusqlite::Result<Entries> {
    at_one_moment(connection, || {
        let mut entries = Entries::new();
        for id in ids {
            for part in parts(connection, name, space(owner), (month(*id), month(*id)), false)? {
                let select = format!("SELECT id, record FROM archive_part_{part} WHERE owner = ?1 AND id = ?2");
                let mut statement = connection.prepare_cached(&select)?;
                entries.extend(statement.query_row(params![owner, id_of(*id)], entry_of).optional()?);
            }
        }
        Ok(entries)
    })
}

pub(super) fn topics(connection: &Connection, name: &str, owner: &str) -> rusqlite::Result<Vec<(String, Topic)>> {
    let mut statement = connection.prepare_cached(TOPICS)?;
    statement.query_map([owner, name], |row| Ok((row.get(0)?, topic_of(row, 1)?)))?.collect()
}

pub(super) fn topic(connection: &Connection, name: &str, owner: &str, topic: &str) -> rusqlite::Result<Option<Topic>> {
    connection.prepare_cached(TOPIC)?.query_row([owner, name, topic], |row| topic_of(row, 0)).optional()
}

fn topic_of(row: &Row<'_>, from: usize) -> rusqlite::Result<Topic> {
    let number = |column| row.get::<_, i64>(from + column).map(i64::cast_unsigned);
    Ok(Topic { last: LogId(number(0)?), count: number(1)?, new: number(2)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::schema;
    use super::*;

    /// Ids in January, February and March 1970.
    fn day(day: u64) -> LogId {
        LogId::at_millis(day * 24 * 60 * 60 * 1000)
    }

    fn filled() -> (Connection, Parts) {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
        let mut known = Parts::default();
        for (owner, days) in [("a/ann", [1, 40, 70]), ("a/eve", [2, 41, 71]), ("b/bob", [3, 42, 72])] {
            for id in days.map(day) {
                let topic = if id == day(40) { "other" } else { "topic" };
                let appended = Appended { name: "x", owner, topic, id, effect: Effect::New, record: b"r" };
                append(&connection, &mut known, &appended).unwrap();
            }
        }
        (connection, known)
    }

    fn ids(connection: &Connection, owner: &str) -> Vec<LogId> {
        let all = Page { limit: 10, ..Page::default() };
        page(connection, "x", owner, &all).unwrap().into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn months_of_a_space_are_forgotten_whole_with_what_their_topics_counted() {
        let (connection, mut known) = filled();
        // In February, which is not over.
        forget(&connection, &mut known, "x", "a", day(50)).unwrap();
        assert_eq!(ids(&connection, "a/ann"), [day(40), day(70)]);
        assert_eq!(ids(&connection, "b/bob").len(), 3);
        forget(&connection, &mut known, "x", "a", day(60)).unwrap();
        assert_eq!(ids(&connection, "a/ann"), [day(70)]);
        assert_eq!(
            topics(&connection, "x", "a/ann").unwrap(),
            [("topic".into(), Topic { last: day(70), count: 1, new: 1 })]
        );
        let tables: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'archive_part_*'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 4);
        // A month that comes again, as by an import.
        let again = Appended { name: "x", owner: "a/ann", topic: "t", id: day(1), effect: Effect::None, record: b"" };
        append(&connection, &mut known, &again).unwrap();
        assert_eq!(ids(&connection, "a/ann"), [day(1), day(70)]);
    }

    #[test]
    fn an_owner_is_erased_from_all_months_and_nobody_else() {
        let (connection, _) = filled();
        erase(&connection, false, "a/ann").unwrap();
        assert_eq!((ids(&connection, "a/ann").len(), ids(&connection, "a/eve").len()), (0, 3));
        assert_eq!(topics(&connection, "x", "a/ann").unwrap(), []);
    }

    #[test]
    fn every_read_of_a_part_seeks_in_an_index_and_sorts_nothing() {
        let (connection, _) = filled();
        for (topic, order) in [("AND topic = ?5", ""), ("AND topic = ?5", "DESC"), ("AND ?5 IS NULL", "")] {
            let select = format!(
                "EXPLAIN QUERY PLAN SELECT id, record FROM archive_part_1
                WHERE owner = ?1 AND id BETWEEN ?2 AND ?3 {topic} ORDER BY id {order} LIMIT ?4"
            );
            let mut statement = connection.prepare(&select).unwrap();
            let plan: Vec<String> = statement.raw_query().mapped(|row| row.get(3)).map(Result::unwrap).collect();
            assert!(plan.iter().all(|step| step.starts_with("SEARCH ")) && plan.len() == 1, "{plan:?}");
        }
    }
}
