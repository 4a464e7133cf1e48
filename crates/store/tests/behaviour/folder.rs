//! A data folder: whose it is, who may open it, and what is in its tables.

use super::*;

#[test]
fn a_folder_in_use_names_its_process_and_is_free_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let refused = Store::open(dir.path());
    assert!(matches!(refused, Err(OpenError::InUse { pid }) if pid == Some(std::process::id())));
    store.close();
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_newer_folder_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap().close();
    let path = dir.path().join("store.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 1000).unwrap();
    // The header says how the log is kept, so that whoever opens it the usual way changes it.
    connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::Newer { found: 1000, known: _ })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.db"), "not a database, but long enough to look like one. ".repeat(50))
        .unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::Backend(_))));
}

#[test]
fn what_is_stored_is_for_the_owner_of_the_process_alone() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new").join("data");
    let store = Store::open(&dir).unwrap();
    let value: Value<String> = store.value("value");
    store.commit(batch(|batch| value.put(batch, "ann", &text("x")))).wait().unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    assert!(dir.join("store.db-wal").exists());
    store.close();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(dir.join("store.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open(&dir).unwrap();
    assert_eq!((mode(&dir), mode(&dir.join("store.db"))), (0o700, 0o600));
}

#[test]
fn erasing_an_owner_leaves_no_row_of_it_in_any_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let fill = |batch: &mut Batch, owner: &str| {
        for name in ["one", "two"] {
            store.value::<String>(name).put(batch, owner, &text("x"));
            store.map::<String>(name).put(batch, owner, "k", &text("x"));
            store.log::<String>(name).append(batch, owner, store.next_id(), &text("x"));
            let filing = Filing { owner, topic: "t", effect: Effect::New };
            store.archive::<String>(name).append(batch, Some(store.next_id()), &[filing], &text("x"));
        }
    };
    store
        .commit(batch(|batch| ["host/ann", "host/anna", "host/bob"].iter().for_each(|owner| fill(batch, owner))))
        .wait()
        .unwrap();
    let counts = || {
        let connection = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        let mut tables = connection
            .prepare("SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'owner'")
            .unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let count = |owner: &str| -> Vec<i64> {
            let of = |table: &String| {
                let sql = format!("SELECT count(*) FROM {table} WHERE owner = ?1");
                connection.query_row(&sql, [owner], |row| row.get(0)).unwrap()
            };
            tables.iter().map(of).collect()
        };
        (count("host/ann"), count("host/anna"), count("host/bob"))
    };
    // Values, maps, logs and the topics of archives, and one archive's part and the other's.
    let full = vec![2, 2, 2, 2, 1, 1];
    assert_eq!(counts(), (full.clone(), full.clone(), full.clone()));
    store.commit(batch(|batch| batch.erase("host/ann"))).wait().unwrap();
    assert_eq!(counts(), (vec![0; 6], full.clone(), full));
}

#[test]
fn every_table_but_the_counters_and_those_that_keep_order_among_archives_begins_with_an_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let filing = Filing { owner: "ann", topic: "t", effect: Effect::New };
    let appended = batch(|batch| store.archive("a").append(batch, Some(store.next_id()), &[filing], &text("x")));
    store.commit(appended).wait().unwrap();
    store.close();
    let connection = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    let mut columns = connection
        .prepare("SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.cid = 0 ORDER BY 1")
        .unwrap();
    let columns: Vec<(String, String)> =
        columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let others: Vec<_> =
        columns.iter().filter(|(_, column)| column != "owner").map(|(table, _)| table.as_str()).collect();
    let without = [
        "archive_arrivals_0",
        "archive_arrivals_1",
        "archive_filing",
        "archive_parts",
        "archive_removals",
        "counters",
        "sqlite_sequence",
    ];
    assert_eq!((&*others, columns.len()), (&without[..], 12));
}
