//! What is committed in no hurry: it may be withdrawn, and it may be waited for.

#![allow(clippy::unwrap_used, missing_docs)]

mod settled;
mod withdrawal;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use magpie_store::{Batch, Faults, Log, LogId, Options, Store, Ticket, Withdrawal};

const OWNER: &str = "ann";
/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A store in a folder whose batches linger for as long as given.
struct Subject {
    dir: tempfile::TempDir,
    faults: Faults,
    store: Store,
    log: Log<String>,
}

impl Subject {
    fn new(linger: Duration) -> Self {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
        let options = Options { linger, queue_bytes_max: 1 << 20, faults: faults.clone(), ..Options::default() };
        let store = Store::open_with(dir.path(), options).unwrap();
        let log = store.log("log");
        Self { dir, faults, store, log }
    }

    fn append(&self, text: &str) -> (LogId, Batch) {
        let (id, mut batch) = (self.store.next_id(), Batch::new());
        self.log.append(&mut batch, OWNER, id, &text.to_owned());
        (id, batch)
    }

    fn later(&self, text: &str) -> (Ticket, Withdrawal) {
        self.store.commit_later(self.append(text).1)
    }

    fn now(&self, text: &str) -> Ticket {
        self.store.commit(self.append(text).1)
    }

    /// What this program finds.
    fn texts(&self) -> Vec<String> {
        read(&self.log)
    }

    /// What the next program finds.
    fn reopen(self) -> Vec<String> {
        let Self { dir, store, log, .. } = self;
        store.close();
        drop((store, log));
        texts(dir.path())
    }

    /// Waits until the writer has taken everything that it can take.
    fn settle(&self) {
        let begun = Instant::now();
        while self.store.statistics().queued_batches > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn texts(dir: &Path) -> Vec<String> {
    read(&Store::open(dir).unwrap().log("log"))
}

fn read(log: &Log<String>) -> Vec<String> {
    block_on(log.range(OWNER, None, usize::MAX)).unwrap().into_iter().map(|(_, text)| text).collect()
}
