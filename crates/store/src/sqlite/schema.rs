//! The tables, and how a folder of an older version comes to have them.
//!
//! Each row begins with its owner. Values and maps are clustered by their key: measured, that reads a list of 50 in a
//! quarter of the time, and a write costs 1 to 2.5 times the bytes that it costs with an index beside the rows. Logs are
//! in the order of arrival with such an index: clustered, each append would rewrite a page of its owner's, and measured
//! that writes three times as much.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{archive, feed, filing};
use crate::error::OpenError;

/// What brings a database from the version before to this one: a list, of which the place is the version.
pub(super) type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// Only ever added to: a folder of any older version goes through what it lacks, in order.
pub(super) const MIGRATIONS: &[Migration] = &[create, archives, arrivals, removals];

fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE value_rows (
            owner TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (owner, name)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX value_owners ON value_rows (name, owner);
        CREATE TABLE map_rows (
            owner TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (owner, name, key)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE log_rows (
            owner TEXT NOT NULL, name TEXT NOT NULL, id INTEGER NOT NULL, record BLOB NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX log_ids ON log_rows (owner, name, id);
        CREATE TABLE counters (
            name TEXT PRIMARY KEY, count INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;",
    )
}

fn archives(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(archive::CREATE)
}

fn arrivals(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(filing::CREATE)
}

fn removals(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(feed::CREATE)
}

/// Brings the database to the end of the list, each step in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<(), OpenError> {
    let found = version(connection)?;
    check(found, migrations.len())?;
    for (version, migration) in (1u32..).zip(migrations).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)?;
        migration(&transaction).map_err(refused)?;
        transaction.pragma_update(None, "user_version", version).map_err(refused)?;
        transaction.commit().map_err(refused)?;
        if version > 1 {
            tracing::info!(version, "database migrated");
        }
    }
    Ok(())
}

pub(super) fn check(found: u32, known: usize) -> Result<(), OpenError> {
    let known = u32::try_from(known).expect("there are not that many migrations");
    if found > known { Err(OpenError::Newer { found, known }) } else { Ok(()) }
}

pub(super) fn version(connection: &Connection) -> Result<u32, OpenError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(refused)
}

pub(super) fn refused(error: rusqlite::Error) -> OpenError {
    OpenError::Backend(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn one(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("CREATE TABLE words (word TEXT); INSERT INTO words VALUES ('a'), ('b')")
    }

    fn two(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("ALTER TABLE words ADD length INTEGER; UPDATE words SET length = length(word)")
    }

    fn broken(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("DELETE FROM words; INSERT INTO absent VALUES (1)")
    }

    fn lengths(connection: &Connection) -> i64 {
        connection.query_row("SELECT sum(length) FROM words", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_database_goes_through_what_it_lacks_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[one]).unwrap();
        assert_eq!(version(&connection).unwrap(), 1);
        connection.execute("INSERT INTO words VALUES ('three')", []).unwrap();
        migrate(&mut connection, &[one, two]).unwrap();
        assert_eq!((version(&connection).unwrap(), lengths(&connection)), (2, 7));
        migrate(&mut connection, &[one, two]).unwrap();
        assert_eq!(lengths(&connection), 7);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before() {
        let mut connection = Connection::open_in_memory().unwrap();
        let failed = migrate(&mut connection, &[one, two, broken]);
        assert!(matches!(failed, Err(OpenError::Backend(_))), "{failed:?}");
        assert_eq!((version(&connection).unwrap(), lengths(&connection)), (2, 2));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[one, two]).unwrap();
        let refused = migrate(&mut connection, &[one]);
        assert!(matches!(refused, Err(OpenError::Newer { found: 2, known: 1 })), "{refused:?}");
    }
}
