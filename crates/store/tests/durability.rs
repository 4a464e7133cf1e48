//! `kill -9` at any moment loses nothing that was acknowledged.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "child/mod.rs"]
mod child;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use magpie_store::{Archive, Batch, Effect, Filing, Log, Page, Store, Topic, Value};

const FOLDER: &str = "MAGPIE_STORE_TEST_FOLDER";
const OWNER: &str = "ann";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Numbers in the log, in the order of their ids.
fn numbers(store: &Store) -> Vec<u64> {
    let log: Log<String> = store.log("log");
    let entries = block_on(log.range(OWNER, None, usize::MAX)).unwrap();
    entries.into_iter().map(|(_, number)| number.parse().unwrap()).collect()
}

/// Numbers in the archive, in the order of their ids, and how many the topic says it has, which are all new.
fn archived(store: &Store) -> (Vec<u64>, u64) {
    let archive: Archive<String> = store.archive("archive");
    let entries = block_on(archive.page(OWNER, Page { limit: usize::MAX, ..Page::default() })).unwrap();
    let topic = block_on(archive.topic(OWNER, "topic")).unwrap();
    let count = topic.map_or(0, |Topic { count, new, .. }| if count == new { count } else { 0 });
    (entries.into_iter().map(|(_, number)| number.parse().unwrap()).collect(), count)
}

/// Appends the numbers that follow, many at a time, and prints each once it is acknowledged. Never returns.
fn write_until_killed(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let log: Log<String> = store.log("log");
    let last: Value<String> = store.value("last");
    let mut tickets = VecDeque::new();
    for number in numbers(&store).len() as u64.. {
        let mut batch = Batch::new();
        log.append(&mut batch, OWNER, store.next_id(), &number.to_string());
        last.put(&mut batch, OWNER, &number.to_string());
        let filing = |owner, effect| Filing { owner, topic: "topic", effect };
        let filings = [filing(OWNER, Effect::New), filing("eve", Effect::Read)];
        store.archive("archive").append(&mut batch, None, &filings, &number.to_string());
        // A spool entry that comes and goes.
        let spooled = store.next_id();
        log.append(&mut batch, "spool", spooled, &number.to_string());
        let mut acknowledged = Batch::new();
        log.delete(&mut acknowledged, "spool", spooled);
        tickets.push_back((number, store.commit_placed(batch).1));
        drop(store.commit(acknowledged));
        if tickets.len() == 20 {
            let (number, ticket) = tickets.pop_front().unwrap();
            ticket.wait().unwrap();
            println!("acknowledged {number}");
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_at_any_moment() {
    const NAME: &str = "what_was_acknowledged_is_there_after_a_kill_at_any_moment";
    // This test is its own child.
    if let Some(dir) = std::env::var_os(FOLDER) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut written = 0;
    for round in 0..20 {
        let mut child = child::again(NAME, FOLDER, dir.path());
        let mut acknowledged = None;
        let mut read = |line: String| {
            if let Some(number) = line.strip_prefix("acknowledged ").and_then(|number| number.parse::<u64>().ok()) {
                acknowledged = Some(number);
            }
            acknowledged.is_some()
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The first acknowledgement, so that each round has one to lose.
        assert!(lines.by_ref().any(&mut read), "the child ended by itself");
        let kill = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 1700));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // A last line may have been cut.
        for line in lines {
            read(line);
        }
        kill.join().unwrap();

        let store = Store::open(dir.path()).unwrap();
        let found = numbers(&store);
        let acknowledged = acknowledged.unwrap();
        assert!(found.len() as u64 > acknowledged, "acknowledged {acknowledged}, found {}", found.len());
        // Whole batches in the order of their commits, under ids that grow across restarts.
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        let last: Value<String> = store.value("last");
        assert_eq!(block_on(last.get(OWNER)).unwrap(), Some((found.len() - 1).to_string()));
        assert_eq!(archived(&store), (found.clone(), found.len() as u64));
        assert!(found.len() > written);
        written = found.len();
    }
}
