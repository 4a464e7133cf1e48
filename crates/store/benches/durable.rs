//! How many rows a second become durable, by how many come at once. `cargo bench -p magpie-store`.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use magpie_store::{Batch, Log, LogId, Map, Store, Ticket, Value};

/// A message as the archive keeps it.
const ROW_BYTES: usize = 283;
const OWNERS: usize = 10_000;

fn main() {
    // Without it this is a test run, which only has to see that it works.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let time = if measured { Duration::from_millis(1500) } else { Duration::from_millis(5) };
    let row = vec![b'x'; ROW_BYTES];
    let owners: Vec<String> = (0..OWNERS).map(|owner| format!("example.org/user{owner}")).collect();
    let mut random = 88172645463325252u64;
    let mut owner = || {
        // Marsaglia's xorshift: some order that is no order of the database's.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        &*owners[random as usize % OWNERS]
    };

    for rows in [1, 10, 100, 1000] {
        measure(&format!("log: {rows} rows in one batch"), time, rows, |store| {
            let log: Log<Vec<u8>> = store.log("archive");
            let mut batch = Batch::new();
            (0..rows).for_each(|_| log.append(&mut batch, owner(), store.next_id(), &row));
            store.commit(batch).wait().unwrap();
        });
    }
    for rows in [10, 100, 1000] {
        measure(&format!("log: {rows} batches of one row at once"), time, rows, |store| {
            let log: Log<Vec<u8>> = store.log("archive");
            wait_all((0..rows).map(|_| {
                let mut batch = Batch::new();
                log.append(&mut batch, owner(), store.next_id(), &row);
                store.commit(batch)
            }));
        });
    }
    measure("log: 1000 appended and deleted at once", time, 1000, |store| {
        let log: Log<Vec<u8>> = store.log("spool");
        let ids: Vec<(&str, LogId)> = (0..1000).map(|_| (owner(), store.next_id())).collect();
        let (mut appends, mut deletes) = (Batch::new(), Batch::new());
        ids.iter().for_each(|(owner, id)| log.append(&mut appends, owner, *id, &row));
        ids.iter().for_each(|(owner, id)| log.delete(&mut deletes, owner, *id));
        wait_all([appends, deletes].map(|batch| store.commit(batch)));
    });
    for bytes in [100, 1500] {
        // SQLite writes no page whose bytes stay the same.
        let mut version = 0u64;
        let mut record = || {
            version += 1;
            [&version.to_be_bytes()[..], &row.repeat(6)[..bytes - 8]].concat()
        };
        measure(&format!("value: 100 of {bytes} bytes"), time, 100, |store| {
            let value: Value<Vec<u8>> = store.value("account");
            let mut batch = Batch::new();
            (0..100).for_each(|_| value.put(&mut batch, owner(), &record()));
            store.commit(batch).wait().unwrap();
        });
        let mut key = 0;
        measure(&format!("map: 100 of {bytes} bytes"), time, 100, |store| {
            let map: Map<Vec<u8>> = store.map("roster");
            let mut batch = Batch::new();
            for _ in 0..100 {
                key = (key + 7) % 50;
                map.put(&mut batch, owner(), &format!("contact{key}@example.net"), &record());
            }
            store.commit(batch).wait().unwrap();
        });
    }
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let value: Value<Vec<u8>> = store.value("account");
    let mut batch = Batch::new();
    owners.iter().for_each(|owner| value.put(&mut batch, owner, &row));
    store.commit(batch).wait().unwrap();
    let map: Map<Vec<u8>> = store.map("roster");
    // A contact here and one there, as rosters grow.
    wait_all((0..50).map(|contact| {
        let mut batch = Batch::new();
        let key = format!("contact{contact}@example.net");
        owners.iter().for_each(|owner| map.put(&mut batch, owner, &key, &row[..100].to_vec()));
        store.commit(batch)
    }));
    let reading = tokio::runtime::Builder::new_current_thread().build().unwrap();
    report("value: one read after another", time, 1, || {
        black_box(reading.block_on(value.get(owner())).unwrap().unwrap());
    });
    report("map: one list of 50 after another", time, 50, || {
        assert_eq!(black_box(reading.block_on(map.list(owner())).unwrap()).len(), 50);
    });
}

fn measure(what: &str, time: Duration, rows: usize, mut run: impl FnMut(&Store)) {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    report(what, time, rows, || run(&store));
    store.close();
}

fn report(what: &str, time: Duration, rows: usize, mut run: impl FnMut()) {
    let (begun, written) = (Instant::now(), bytes_written());
    let mut runs = 0;
    while begun.elapsed() < time {
        run();
        runs += 1;
    }
    let (seconds, rows) = (begun.elapsed().as_secs_f64(), (runs * rows) as f64);
    let (speed, turn) = (rows / seconds, seconds * 1e3 / runs as f64);
    print!("{what:40} {speed:>9.0} rows/s {turn:>9.3} ms a turn");
    if let Some(written) = written.zip(bytes_written()).map(|(before, after)| after - before) {
        print!(" {:>7.0} bytes written a row", written as f64 / rows);
    }
    println!();
}

/// What the process wrote to disks so far, where the system says so.
fn bytes_written() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

fn wait_all(tickets: impl IntoIterator<Item = Ticket>) {
    let tickets: Vec<_> = tickets.into_iter().collect();
    tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
}

/// Beside the build, which is on a disk more often than the system's folder for temporary files.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
