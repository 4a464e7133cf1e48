//! A store with nothing to do does nothing. Alone in its process, so that every thread of the store is this one's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use magpie_store::{Batch, Effect, Filing, Record, Searched, Store};

struct Text(String);

impl Record for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::decode(bytes).map(Self)
    }
}

impl Searched for Text {
    fn text(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

/// How often each thread of the store went to sleep or was put to sleep.
fn switches() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.join("status")).ok());
    let of_store = statuses.filter(|status| status.contains("store-"));
    let line = |status: &str, name: &str| -> String {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string()
    };
    let number = |status: &str, name: &str| line(status, name).parse::<u64>().unwrap();
    let switches =
        |status: &str| number(status, "voluntary_ctxt_switches:") + number(status, "nonvoluntary_ctxt_switches:");
    of_store.map(|status| (line(&status, "Name:"), switches(&status))).collect()
}

#[test]
fn a_store_with_nothing_to_do_sleeps() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let value = store.value::<String>("value");
    let mut batch = Batch::new();
    value.put(&mut batch, "ann", &"x".to_string());
    let _search = store.search::<Text>("archive");
    let filing = Filing { owner: "ann", topic: "t", effect: Effect::None };
    store.archive("archive").append(&mut batch, Some(store.next_id()), &[filing], &Text("x".into()));
    store.commit(batch).wait().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(value.get("ann")).unwrap().is_some());
    // A second after that the threads let go of their caches; the one that fills the index lets entries gather for another before.
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(store.statistics().search_indexed, 1);
    let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| file.unwrap().path().read_link().ok());
    assert_eq!(files.filter(|file| file.to_string_lossy().contains("search-archive.db")).count(), 0);
    let before = switches();
    assert_eq!(before.len(), 6, "{before:?}");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(), before);
}
