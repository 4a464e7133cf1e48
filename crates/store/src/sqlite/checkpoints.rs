//! The write-ahead log is copied into the database by a thread of its own, so that no commit group waits for it.
//!
//! While it copies, others are committed; so the log would never be copied whole, and never begin anew. What came in between, which is
//! little, the writer copies itself once the thread is done. Where the thread cannot keep up, the writer does all of it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::error::OpenError;
use crate::threads;

/// Pages of the log after which it is copied. With more, a page that changes often is copied less often; but what is copied is synced
/// at once, and commits of that moment wait for the same disk: with 16 000 a percent of them waited 30 ms, with 1 000 8 ms.
const PAGES: i32 = 1_000;
/// Pages of the log after which the writer does not wait for the thread any more: 64 MiB.
const PAGES_MAX: i32 = 16_000;

const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    /// Open for as long as this is: to close it would end the locks that SQLite has on the same file.
    _database: Arc<File>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Wanted,
    /// The thread has copied what was there when it began.
    Copied,
    Closed,
}

impl Checkpoints {
    /// `writer` tells it of its commits; `own` is the thread's. To be dropped after both are closed.
    pub(super) fn start(writer: &mut Connection, own: Connection, path: &Path) -> Result<Self, OpenError> {
        let database = Arc::new(File::open(path)?);
        let shared = Arc::<Shared>::default();
        // Takes the place of SQLite's own.
        let hook = {
            let shared = shared.clone();
            move |log: &mut rusqlite::hooks::Wal, pages| {
                if shared.is_for_the_writer(pages)
                    && let Err(error) = log.checkpoint()
                {
                    tracing::debug!(%error, "the write-ahead log stays as it is");
                }
                // The commit is done, whatever came of this.
                Ok(())
            }
        };
        writer.wal_hook(Some(hook)).map_err(super::refused)?;
        let thread = threads::spawn("store-copier".into(), {
            let (shared, database) = (shared.clone(), database.clone());
            move || shared.run(&own, &database)
        })?;
        Ok(Self { shared, _database: database, threads: Mutex::new(vec![thread]) })
    }

    /// Returns when the thread has ended.
    pub(super) fn close(&self) {
        *self.shared.state.lock() = State::Closed;
        self.shared.wanted.notify_one();
        threads::join(&self.threads);
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Whether the writer, with so many pages in the log, is to copy what is left.
    fn is_for_the_writer(&self, pages: i32) -> bool {
        if pages < PAGES {
            return false;
        }
        let mut state = self.state.lock();
        match *state {
            State::Idle => {
                *state = State::Wanted;
                drop(state);
                self.wanted.notify_one();
                pages >= PAGES_MAX
            }
            State::Copied => {
                *state = State::Idle;
                true
            }
            State::Wanted | State::Closed => pages >= PAGES_MAX,
        }
    }

    fn run(&self, connection: &Connection, database: &File) {
        loop {
            let mut state = self.state.lock();
            while matches!(*state, State::Idle | State::Copied) {
                self.wanted.wait(&mut state);
            }
            if *state == State::Closed {
                return;
            }
            drop(state);
            if let Err(error) = connection.query_row(COPY, [], |_| Ok(())) {
                tracing::debug!(%error, "the write-ahead log is not copied");
            }
            // SQLite leaves that to who copies the last page, which is the writer.
            if let Err(error) = database.sync_data() {
                tracing::debug!(%error, "the database is not synced");
            }
            let mut state = self.state.lock();
            if *state == State::Wanted {
                *state = State::Copied;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, Instant};

    use super::super::{cache, prepare};
    use super::*;

    const COMMITS: i64 = 400;

    #[test]
    fn the_log_is_copied_beside_the_writer_and_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut writer = Connection::open(&path).unwrap();
        prepare(&writer).unwrap();
        writer.execute_batch("CREATE TABLE rows (record BLOB)").unwrap();
        let own = Connection::open(&path).unwrap();
        cache(&own, 64).unwrap();
        let checkpoints = Checkpoints::start(&mut writer, own, &path).unwrap();
        let log = dir.path().join("db-wal");
        // Each changes some 100 pages: in all more than the log may have.
        let until = Instant::now() + Duration::from_secs(60);
        for _ in 0..COMMITS {
            writer.execute("INSERT INTO rows VALUES (zeroblob(400000))", []).unwrap();
            assert!(Instant::now() < until);
        }
        let (pages, longest) = (std::fs::metadata(&log).unwrap().len() / 4120, PAGES_MAX as u64 + 400);
        assert!(pages < longest, "{pages} pages in a log of at most {longest}");
        checkpoints.close();
        let rows: i64 = writer.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, COMMITS);
    }

    #[test]
    fn the_writer_copies_the_rest_after_the_thread_or_all_where_that_does_not_come() {
        let shared = Shared::default();
        assert!(!shared.is_for_the_writer(PAGES - 1));
        assert!(*shared.state.lock() == State::Idle);
        assert!(!shared.is_for_the_writer(PAGES));
        assert!(*shared.state.lock() == State::Wanted);
        assert!(!shared.is_for_the_writer(PAGES_MAX - 1) && shared.is_for_the_writer(PAGES_MAX));
        *shared.state.lock() = State::Copied;
        assert!(shared.is_for_the_writer(PAGES + 10));
        assert!(*shared.state.lock() == State::Idle);
    }
}
