//! One commit group in one transaction.

use std::cell::RefCell;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::archive::{self, Appended, Parts};
use super::arrivals::{Arrivals, Log};
use super::bell::Bell;
use super::feed;
use super::filing::{self, Work};
use super::queries::id_of;
use super::{failure, forget_pages};
use crate::batch::{Batch, Change, Operation};
use crate::cancel::cancelled;
use crate::error::StoreError;
use crate::ids::{Ids, LogId};
use crate::lock::Lock;
use crate::statistics::Counters;
use crate::ticket::Outcome;
use crate::writer::{Commit, Rest};

const PUT_VALUE: &str = "INSERT INTO value_rows (owner, name, record) VALUES (?1, ?2, ?3)
    ON CONFLICT (owner, name) DO UPDATE SET record = excluded.record";
const DELETE_VALUE: &str = "DELETE FROM value_rows WHERE owner = ?1 AND name = ?2";
const EXPECT_VALUE: &str = "SELECT record IS ?3 FROM value_rows WHERE owner = ?1 AND name = ?2";
const PUT_ENTRY: &str = "INSERT INTO map_rows (owner, name, key, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (owner, name, key) DO UPDATE SET record = excluded.record";
const DELETE_ENTRY: &str = "DELETE FROM map_rows WHERE owner = ?1 AND name = ?2 AND key = ?3";
const CLEAR_MAP: &str = "DELETE FROM map_rows WHERE owner = ?1 AND name = ?2";
const EXPECT_ENTRY: &str = "SELECT record IS ?4 FROM map_rows WHERE owner = ?1 AND name = ?2 AND key = ?3";
const APPEND: &str = "INSERT INTO log_rows (owner, name, id, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (owner, name, id) DO UPDATE SET record = excluded.record";
const DELETE_FROM_LOG: &str = "DELETE FROM log_rows WHERE owner = ?1 AND name = ?2 AND id = ?3";
const CLEAR_LOG: &str = "DELETE FROM log_rows WHERE owner = ?1 AND name = ?2";
/// All tables with an owner, but for those of archives; a test looks for others.
const ERASE: [&str; 3] = [
    "DELETE FROM value_rows WHERE owner = ?1",
    "DELETE FROM map_rows WHERE owner = ?1",
    "DELETE FROM log_rows WHERE owner = ?1",
];
const GET_COUNTER: &str = "SELECT count FROM counters WHERE name = ?1";
const SET_COUNTER: &str = "INSERT INTO counters (name, count) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET count = excluded.count";
/// Entries that a group files at least.
const ENTRIES_FILED_MIN: usize = 16;
/// Bytes of logs of what is filed that a group deletes at least.
const LOG_BYTES_CLEARED_MIN: i64 = 32 * 1024;
/// Entries that are filed in one transaction while there is nothing else to do: a group that comes then waits for it.
const ENTRIES_FILED_AT_REST: usize = 500;
/// No id above this one has been given by the program that wrote the database.
const ID_CEILING: &str = "id ceiling";

pub(super) struct SqliteCommit {
    connection: Connection,
    counters: Arc<Counters>,
    ids: Arc<Ids>,
    /// As stored in the database.
    id_ceiling: LogId,
    parts: RefCell<Parts>,
    /// Rung when something was put into the tables of an archive, or taken away.
    bell: Arc<Bell>,
    arrivals: Arc<Arrivals>,
    arriving_bytes_max: usize,
    /// Of the transaction that is under way; none where it lets nothing wait.
    log: RefCell<Option<Log>>,
    /// Entries and bytes of the last log.
    appended: (usize, usize),
    failing: bool,
    /// After the connection: fields are dropped in this order.
    _lock: Arc<Lock>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// A statement of it: without the batch it belongs to it may succeed.
    Statement(StoreError),
    /// Its begin or its commit: nothing is gained by trying again.
    Transaction(StoreError),
}

impl SqliteCommit {
    /// Gives the ids that go on after those that the database knows.
    pub(super) fn new(
        connection: Connection,
        counters: Arc<Counters>,
        bell: Arc<Bell>,
        lock: Arc<Lock>,
        arrivals: Arc<Arrivals>,
        arriving_bytes_max: usize,
    ) -> rusqlite::Result<(Self, Arc<Ids>)> {
        let stored: Option<i64> = connection.query_row(GET_COUNTER, [ID_CEILING], |row| row.get(0)).optional()?;
        let id_ceiling = LogId(stored.unwrap_or(0).cast_unsigned());
        let ids = Arc::new(Ids::after(id_ceiling));
        Ok((
            Self {
                connection,
                counters,
                ids: ids.clone(),
                id_ceiling,
                parts: RefCell::new(Parts::new(bell.clone())),
                bell,
                arrivals,
                arriving_bytes_max,
                log: RefCell::default(),
                appended: (0, 0),
                failing: false,
                _lock: lock,
            },
            ids,
        ))
    }

    /// Writes the batches in one transaction, but for the operations at the places in `skipped`.
    fn transaction(&mut self, batches: &[Batch], skipped: &[(usize, usize)], work: Work) -> Result<Outcome, Failure> {
        // What is done among older entries finds all of them in their places, and what waits is newer than all.
        let work = if batches.iter().any(Batch::is_about_the_past) { Work::All } else { work };
        self.log.replace((work != Work::All).then(Log::default));
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .map_err(transaction)?;
        let filed = filing::file_some(&self.connection, &mut self.parts.borrow_mut(), &self.arrivals, work);
        let written = filed.map_err(statement).and_then(|filed| {
            let written = self.write_all(batches, skipped)?;
            filing::write(&self.connection, &filed, self.log.borrow().as_ref()).map_err(statement)?;
            self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(transaction)?;
            Ok((written, filed))
        });
        match written {
            Ok(((outcome, ceiling), filed)) => {
                self.id_ceiling = ceiling;
                self.appended = self.log.borrow().as_ref().map_or((0, 0), |log| (log.entries(), log.bytes().len()));
                filing::settle(&self.arrivals, &filed, self.log.borrow().as_ref());
                self.bell.ring();
                Ok(outcome)
            }
            Err(failure) => {
                self.parts.borrow_mut().forget();
                // Some errors have rolled back already.
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "a transaction cannot be rolled back");
                }
                Err(failure)
            }
        }
    }

    fn write_all(&self, batches: &[Batch], skipped: &[(usize, usize)]) -> Result<(Outcome, LogId), Failure> {
        let mut skipped = skipped.iter().peekable();
        let mut outcomes = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let holds = !batch.has_conditions() || self.all_hold(batch).map_err(statement)?;
            for (place, operation) in batch.operations().enumerate() {
                let skip = skipped.next_if_eq(&&(index, place)).is_some();
                if holds && !skip {
                    self.write(operation).map_err(statement)?;
                }
            }
            if !holds {
                outcomes.resize(index, Ok(()));
                outcomes.push(Err(StoreError::Conflict));
            }
        }
        let ceiling = self.raise_ceiling().map_err(transaction)?;
        if outcomes.is_empty() {
            return Ok((Outcome::Committed, ceiling));
        }
        outcomes.resize(batches.len(), Ok(()));
        Ok((Outcome::Each(outcomes), ceiling))
    }

    /// What of the filing goes with a group: an eighth more than what the group before appended, so that one half is filed before the other
    /// is full. More would make groups longer, and longer groups larger ones.
    fn work(&self) -> Work {
        let (memory, logs) = self.arrivals.read().arriving_bytes();
        Work::Some {
            turn: memory.max(logs) > self.arriving_bytes_max,
            entries: self.appended.0 + self.appended.0 / 8 + ENTRIES_FILED_MIN,
            bytes: 2 * i64::try_from(self.appended.1).unwrap_or(i64::MAX / 4) + LOG_BYTES_CLEARED_MIN,
        }
    }

    fn note(&self, what: impl FnOnce(&mut Log)) {
        self.log.borrow_mut().as_mut().map(what);
    }

    fn all_hold(&self, batch: &Batch) -> rusqlite::Result<bool> {
        for operation in batch.operations() {
            let (found, expected) = match operation {
                Operation::Value { name, owner, change: Change::Expect(expected) } => {
                    let mut statement = self.connection.prepare_cached(EXPECT_VALUE)?;
                    (statement.query_row(params![owner, name, expected], |row| row.get(0)).optional()?, expected)
                }
                Operation::Map { name, owner, key, change: Change::Expect(expected) } => {
                    let mut statement = self.connection.prepare_cached(EXPECT_ENTRY)?;
                    (statement.query_row(params![owner, name, key, expected], |row| row.get(0)).optional()?, expected)
                }
                _ => continue,
            };
            if found != expected.map(|_| true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&self, operation: Operation<'_>) -> rusqlite::Result<()> {
        let statement = |sql| self.connection.prepare_cached(sql);
        match operation {
            Operation::Value { name, owner, change: Change::Put(record) } => {
                statement(PUT_VALUE)?.execute(params![owner, name, record])?;
            }
            Operation::Value { name, owner, change: Change::Delete } => {
                statement(DELETE_VALUE)?.execute([owner, name])?;
            }
            Operation::Map { name, owner, key, change: Change::Put(record) } => {
                statement(PUT_ENTRY)?.execute(params![owner, name, key, record])?;
            }
            Operation::Map { name, owner, key, change: Change::Delete } => {
                statement(DELETE_ENTRY)?.execute([owner, name, key])?;
            }
            Operation::Value { change: Change::Expect(_), .. } | Operation::Map { change: Change::Expect(_), .. } => {}
            Operation::MapClear { name, owner } => {
                statement(CLEAR_MAP)?.execute([owner, name])?;
            }
            Operation::LogAppend { name, owner, id, record } => {
                statement(APPEND)?.execute(params![owner, name, id_of(id), record])?;
            }
            Operation::LogDelete { name, owner, id } => {
                statement(DELETE_FROM_LOG)?.execute(params![owner, name, id_of(id)])?;
            }
            Operation::LogClear { name, owner } => {
                statement(CLEAR_LOG)?.execute([owner, name])?;
            }
            Operation::ArchiveAppend { name, owner, topic, id, effect, record } => {
                let appended = Appended { name, owner, topic, id, effect, record };
                match &mut *self.log.borrow_mut() {
                    Some(log) => log.append(&appended),
                    None => archive::append(&self.connection, &mut self.parts.borrow_mut(), &appended)?,
                }
            }
            Operation::ArchiveReplace { name, owner, id, counts, record } => {
                self.note(|log| log.replace(name, owner, id, counts, record));
                archive::replace(&self.connection, self.bell.is_watched(), name, owner, id, record)?;
                if !counts {
                    archive::take_back(&self.connection, name, owner, id)?;
                }
                self.bell.touch();
            }
            Operation::ArchiveRead { name, owner, topic, id } => {
                self.note(|log| log.read(name, owner, topic, id));
                archive::read(&self.connection, name, owner, topic, id)?;
            }
            Operation::ArchiveForget { name, space, id } => {
                archive::forget(&self.connection, &mut self.parts.borrow_mut(), name, space, id)?;
            }
            Operation::ArchiveRemovalsSeen { up_to } => {
                feed::drop_removals(&self.connection, up_to.cast_signed())?;
            }
            Operation::ArchiveTrim { name, owner, id, limit } => {
                archive::trim(&self.connection, self.bell.is_watched(), name, owner, id, limit)?;
                self.bell.touch();
            }
            Operation::Erase { owner } => {
                self.note(|log| log.erase(owner));
                archive::erase(&self.connection, self.bell.is_watched(), owner)?;
                self.bell.touch();
                for sql in ERASE {
                    statement(sql)?.execute([owner])?;
                }
            }
        }
        Ok(())
    }

    /// A full disk fails every group: only the first one and the end of it are news.
    fn report(&mut self, batches: usize, outcome: &Outcome) {
        let error =
            (0..batches).find_map(|index| outcome.of(index).err().filter(|error| *error != StoreError::Conflict));
        match &error {
            Some(error) if !self.failing => tracing::error!(%error, batches, "commits fail"),
            None if self.failing => tracing::info!("commits succeed again"),
            _ => {}
        }
        self.failing = error.is_some();
    }

    /// Every id in this transaction has been given, so none of them is above the ceiling that it leaves.
    fn raise_ceiling(&self) -> rusqlite::Result<LogId> {
        if self.ids.last() <= self.id_ceiling {
            return Ok(self.id_ceiling);
        }
        let ceiling = self.ids.ceiling();
        self.connection.prepare_cached(SET_COUNTER)?.execute(params![ID_CEILING, id_of(ceiling)])?;
        Ok(ceiling)
    }
}

impl Commit for SqliteCommit {
    fn commit(&mut self, batches: &[Batch]) -> Outcome {
        let skipped = cancelled(batches);
        let work = self.work();
        let outcome = match self.transaction(batches, &skipped, work) {
            Ok(outcome) => {
                self.counters.cancelled(skipped.len());
                outcome
            }
            // Nothing is skipped then: the batch that deletes may be the one that fails. And nothing is filed, which fails no batch.
            Err(Failure::Statement(_)) => Outcome::Each(
                batches
                    .iter()
                    .map(|batch| self.transaction(std::slice::from_ref(batch), &[], Work::None)?.of(0))
                    .collect(),
            ),
            Err(failure) => Outcome::Failed(failure.into()),
        };
        self.report(batches.len(), &outcome);
        outcome
    }

    fn rest(&mut self) -> Rest {
        let pending = self.arrivals.read();
        let (is_filing, (_, logs)) = (pending.is_filing(), pending.arriving_bytes());
        drop(pending);
        if is_filing || logs > 0 {
            match self.transaction(
                &[],
                &[],
                Work::Some { turn: !is_filing, entries: ENTRIES_FILED_AT_REST, bytes: 8 * LOG_BYTES_CLEARED_MIN },
            ) {
                Ok(_) => return Rest::Unfinished,
                Err(failure) => {
                    tracing::warn!(error = %StoreError::from(failure), "what arrived in archives waits to be filed")
                }
            }
        }
        forget_pages(&self.connection);
        Rest::Done
    }

    fn finish(&mut self) {
        // What was reserved and not used need not be skipped after a restart that was no crash.
        let last = self.ids.last();
        if last != self.id_ceiling
            && let Err(error) = self.connection.execute(SET_COUNTER, params![ID_CEILING, id_of(last)])
        {
            tracing::warn!(%error, "the id ceiling stays where it was");
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Statement(error) | Failure::Transaction(error) => error,
        }
    }
}

fn statement(error: rusqlite::Error) -> Failure {
    Failure::Statement(failure(error))
}

fn transaction(error: rusqlite::Error) -> Failure {
    Failure::Transaction(failure(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{prepare, schema};
    use super::*;

    struct Subject {
        commit: SqliteCommit,
        dir: tempfile::TempDir,
    }

    impl Subject {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut connection = Connection::open(dir.path().join("db")).unwrap();
            prepare(&connection).unwrap();
            schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
            let lock = Arc::new(Lock::take(&dir.path().join("lock")).unwrap());
            let (commit, _) =
                SqliteCommit::new(connection, Arc::default(), Arc::default(), lock, Arc::default(), 1024).unwrap();
            Self { commit, dir }
        }

        fn execute(&self, sql: &str) {
            self.commit.connection.execute_batch(sql).unwrap();
        }

        /// As another process sees it.
        fn owners(&self) -> Vec<String> {
            let connection = Connection::open(self.dir.path().join("db")).unwrap();
            let mut owners = connection.prepare("SELECT owner FROM log_rows ORDER BY rowid").unwrap();
            owners.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        }
    }

    fn append(owner: &str) -> Batch {
        let mut batch = Batch::new();
        batch.append("log", owner, LogId(1), &Vec::<u8>::new());
        batch
    }

    #[test]
    fn each_commit_is_synced_to_the_write_ahead_log() {
        let subject = Subject::new();
        let pragma = |name| -> String {
            let connection = &subject.commit.connection;
            connection
                .query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |row| row.get(0))
                .unwrap()
        };
        // 2 is FULL.
        assert_eq!((&*pragma("journal_mode"), &*pragma("synchronous")), ("wal", "2"));
    }

    #[test]
    fn a_statement_that_fails_fails_its_batch_alone() {
        // ABORT leaves the transaction open, ROLLBACK ends it, as a full disk may.
        for action in ["ABORT", "ROLLBACK"] {
            let mut subject = Subject::new();
            subject.execute(&format!(
                "CREATE TEMP TRIGGER refuse BEFORE INSERT ON log_rows WHEN NEW.owner = 'bad'
                BEGIN SELECT RAISE({action}, 'no'); END"
            ));
            let outcome = subject.commit.commit(&[append("ann"), append("bad"), append("eve")]);
            assert_eq!((outcome.of(0), outcome.of(2)), (Ok(()), Ok(())));
            assert!(matches!(outcome.of(1), Err(StoreError::Backend(_))), "{outcome:?}");
            assert_eq!(subject.owners(), ["ann", "eve"]);
        }
    }

    #[test]
    fn an_append_that_is_cancelled_is_not_even_tried() {
        let mut subject = Subject::new();
        subject.execute("CREATE TEMP TRIGGER refuse BEFORE INSERT ON log_rows BEGIN SELECT RAISE(ABORT, 'no'); END");
        let mut deletes = Batch::new();
        deletes.delete_from_log("log", "ann", LogId(1));
        assert_eq!(subject.commit.commit(&[append("ann"), deletes]), Outcome::Committed);
    }

    #[test]
    fn an_append_is_not_cancelled_by_a_deletion_that_fails() {
        let mut subject = Subject::new();
        subject.execute(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON log_rows WHEN NEW.owner = 'bad'
            BEGIN SELECT RAISE(ABORT, 'no'); END",
        );
        let mut deletes = append("bad");
        deletes.delete_from_log("log", "ann", LogId(1));
        let outcome = subject.commit.commit(&[append("ann"), deletes]);
        assert_eq!(outcome.of(0), Ok(()));
        assert!(outcome.of(1).is_err());
        assert_eq!(subject.owners(), ["ann"]);
    }

    #[test]
    fn a_commit_that_fails_fails_all_its_batches_and_none_after_them() {
        let mut subject = Subject::new();
        // A deferred constraint is checked by COMMIT itself.
        subject.execute(
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);
            CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER orphan AFTER INSERT ON log_rows WHEN NEW.owner = 'bad'
            BEGIN INSERT INTO children VALUES (1); END",
        );
        let outcome = subject.commit.commit(&[append("ann"), append("bad"), append("eve")]);
        assert!(matches!(&outcome, Outcome::Failed(StoreError::Backend(_))), "{outcome:?}");
        assert_eq!(subject.owners(), [""; 0]);
        assert_eq!(subject.commit.commit(&[append("ann"), append("eve")]), Outcome::Committed);
        assert_eq!(subject.owners(), ["ann", "eve"]);
    }

    #[test]
    fn a_transaction_that_cannot_begin_fails_all_its_batches() {
        let mut subject = Subject::new();
        subject.commit.connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        let other = Connection::open(subject.dir.path().join("db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let outcome = subject.commit.commit(&[append("ann"), append("eve")]);
        assert!(matches!(&outcome, Outcome::Failed(StoreError::Backend(_))), "{outcome:?}");
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(subject.commit.commit(&[append("ann")]), Outcome::Committed);
    }

    #[test]
    fn the_id_ceiling_is_raised_with_what_is_committed() {
        let mut subject = Subject::new();
        let ids = subject.commit.ids.clone();
        let given = ids.next_at(1_000_000);
        assert_eq!(subject.commit.commit(&[append("ann")]), Outcome::Committed);
        let stored = |subject: &Subject| {
            let connection = &subject.commit.connection;
            let stored = connection.query_row(GET_COUNTER, [ID_CEILING], |row| row.get::<_, i64>(0));
            LogId(stored.unwrap().cast_unsigned())
        };
        assert!(stored(&subject) > given);
        assert!(stored(&subject).millis() <= given.millis() + 1000);
        // It is written once, and not with each group.
        let (before, given) = (stored(&subject), ids.next_at(1_000_100));
        assert_eq!(subject.commit.commit(&[append("eve")]), Outcome::Committed);
        assert_eq!(stored(&subject), before);
        // A restart that is no crash goes on where it was.
        subject.commit.finish();
        assert_eq!(stored(&subject), given);
    }
}
