//! `kill -9` while the search index fills: it goes on where it was, and has each entry once.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "child/mod.rs"]
mod child;
#[path = "text/mod.rs"]
mod text;
#[path = "wait/mod.rs"]
mod wait;

use std::io::{BufRead, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use magpie_store::{Batch, Effect, Filing, LogId, Page, SearchEnd, Store, Words};
use rusqlite::Connection;

use text::Text;
use wait::wait;

const FOLDER: &str = "MAGPIE_STORE_SEARCH_TEST_FOLDER";
const OWNERS: [&str; 3] = ["a.example/ann", "a.example/bob", "b.example/ann"];
const COUNT: usize = 30_000;
const MILLIS_OF_DAY: u64 = 24 * 60 * 60 * 1000;

/// Over four months, a moment for each message.
fn id(number: usize) -> LogId {
    LogId::at_millis(number as u64 * 120 * MILLIS_OF_DAY / COUNT as u64)
}

fn fill(store: &Store) {
    let archive = store.archive::<Text>("archive");
    for first in (0..COUNT).step_by(500) {
        let mut batch = Batch::new();
        for number in first..first + 500 {
            let filing = Filing { owner: OWNERS[number % OWNERS.len()], topic: "t", effect: Effect::None };
            archive.append(&mut batch, Some(id(number)), &[filing], &Text(format!("every word{number}")));
        }
        store.commit(batch).wait().unwrap();
    }
}

/// Has the index filled, and says how far it is. Never returns.
fn fill_index_until_killed(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let search = store.search::<Text>("archive");
    let words = Words::parse("every").unwrap();
    loop {
        // Where somebody searches it fills without rests.
        let page = Page { limit: 1, ..Page::default() };
        wait(search.find("c.example/nobody", &words, &page, |_, _| ControlFlow::Continue(()))).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "indexed {}", store.statistics().search_indexed).unwrap();
        out.flush().unwrap();
    }
}

/// What the index itself has: rows of all months, and up to which rows of which parts.
fn indexed(dir: &Path) -> (usize, usize) {
    let index = Connection::open(dir.join("search-archive.db")).unwrap();
    let numbers = |sql: &str| -> Vec<i64> {
        let mut statement = index.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let months = numbers("SELECT month FROM months");
    let rows =
        months.iter().map(|month| numbers(&format!("SELECT count(*) FROM words_{month}_docsize"))[0]).sum::<i64>();
    let read = numbers("SELECT coalesce(sum(row), 0) FROM parts")[0];
    (usize::try_from(rows).unwrap(), usize::try_from(read).unwrap())
}

#[test]
fn an_index_that_was_killed_while_it_filled_has_every_entry_once_and_none_is_lost() {
    const NAME: &str = "an_index_that_was_killed_while_it_filled_has_every_entry_once_and_none_is_lost";
    // This test is its own child.
    if let Some(dir) = std::env::var_os(FOLDER) {
        fill_index_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    store.close();
    let mut killed_in_the_middle = 0;
    for round in 0..20 {
        let mut child = child::again(NAME, FOLDER, dir.path());
        // Once it has begun, so that each gets some way.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("indexed ")), "the child ended by itself");
        std::thread::sleep(Duration::from_millis(round * 13 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        // Words and place are written together, whenever it was.
        let (rows, read) = indexed(dir.path());
        assert_eq!(rows, read, "round {round}");
        killed_in_the_middle += usize::from(rows > 0 && rows < COUNT);
        if rows == COUNT {
            break;
        }
    }
    assert!(killed_in_the_middle > 0, "nothing was tried");

    let (before, _) = indexed(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let search = store.search::<Text>("archive");
    let find = |owner: &str, sought: &str| {
        let (mut found, words) = (Vec::new(), Words::parse(sought).unwrap());
        let all = Page { limit: COUNT, ..Page::default() };
        let end = wait(search.find(owner, &words, &all, |id, _| {
            found.push(id);
            ControlFlow::Continue(())
        }));
        assert_eq!(end.unwrap(), SearchEnd::Complete);
        found
    };
    // Also what is not in the index yet.
    assert_eq!(find(OWNERS[0], "word0"), [id(0)]);
    let since = Instant::now();
    while store.statistics().search_indexed < (COUNT - before) as u64 || store.statistics().search_behind > 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", store.statistics());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.statistics().search_indexed, (COUNT - before) as u64, "it went on where it was");
    for (place, owner) in OWNERS.into_iter().enumerate() {
        let own: Vec<LogId> = (place..COUNT).step_by(OWNERS.len()).map(id).collect();
        assert_eq!(find(owner, "every"), own);
        for number in (0..COUNT).step_by(997) {
            let found = find(owner, &format!("word{number}"));
            assert_eq!(found, if number % OWNERS.len() == place { vec![id(number)] } else { Vec::new() });
        }
    }
    store.close();
    assert_eq!(indexed(dir.path()), (COUNT, COUNT));
}
