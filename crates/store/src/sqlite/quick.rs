//! Short reads, answered by whoever asks.
//!
//! What a login reads takes some microseconds. To have a thread do it takes as long again, thrice: the thread is woken, takes its turn,
//! and wakes who asked. So it is done at once, by a connection that lies there for it. Where the disk has to be waited for, all would
//! wait that share the asking thread: then the threads that read take over, until a read in between is quick again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

/// Average time of a read beyond which the threads do it. A few pages that are not in the system's cache take less on a solid
/// state disk, and more on one that turns.
const AVERAGE_MAX: Duration = Duration::from_micros(500);

/// One read counts an eighth, and no more than this: a thread that had to give up its processor in between was not slow.
const COUNTED_MAX: Duration = Duration::from_millis(2);
const SHARE: u32 = 8;

/// While reads are slow, one of so many is done here to see whether they still are.
const PROBED: u32 = 32;

/// A connection for one read at a time. `None` once the store is closed.
pub(super) struct Quick(Mutex<Option<Place>>);

struct Place {
    connection: Connection,
    pace: Pace,
}

/// How long reads take, and how many were left to the threads since.
#[derive(Default)]
struct Pace {
    average: Duration,
    left: u32,
}

impl Quick {
    /// The connection waits for no lock: its cache is small, since it keeps it.
    pub(super) fn new(connection: Connection) -> Self {
        Self(Mutex::new(Some(Place { connection, pace: Pace::default() })))
    }

    /// The answer, unless it is better left to a thread: another read is under way here, reads are slow, or the database is
    /// locked at this moment.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        let mut place = self.0.try_lock()?;
        let Place { connection, pace } = place.as_mut()?;
        if !pace.may_read() {
            return None;
        }
        let began = Instant::now();
        let answer = query(connection);
        pace.note(began.elapsed());
        let busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        (!answer.as_ref().is_err_and(busy)).then_some(answer)
    }

    pub(super) fn close(&self) {
        self.0.lock().take();
    }
}

impl Pace {
    fn may_read(&mut self) -> bool {
        if self.average <= AVERAGE_MAX {
            return true;
        }
        self.left = (self.left + 1) % PROBED;
        self.left == 0
    }

    fn note(&mut self, took: Duration) {
        self.average = self.average / SHARE * (SHARE - 1) + took.min(COUNTED_MAX) / SHARE;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const QUICK: Duration = Duration::from_micros(20);
    const DISK: Duration = Duration::from_millis(8);

    #[test]
    fn one_that_was_interrupted_is_not_slow_and_a_disk_that_is_waited_for_is() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.note(QUICK);
        }
        pace.note(Duration::from_millis(100));
        assert!(pace.may_read());
        for _ in 0..4 {
            pace.note(DISK);
        }
        assert!(!pace.may_read());
    }

    #[test]
    fn while_reads_are_slow_few_are_tried_and_quick_ones_bring_all_back() {
        let mut pace = Pace::default();
        let mut read = |took, times| {
            let mut here = 0;
            for _ in 0..times {
                if pace.may_read() {
                    pace.note(took);
                    here += 1;
                }
            }
            here
        };
        assert_eq!(read(QUICK, 1000), 1000);
        let slow = read(DISK, 3200);
        assert!((100..110).contains(&slow), "{slow}");
        assert!(read(QUICK, 1000) > 600);
        assert_eq!(read(QUICK, 1000), 1000);
    }

    #[test]
    fn a_second_read_at_a_time_is_left_to_the_threads_and_so_is_one_after_the_end() {
        let quick = Quick::new(Connection::open_in_memory().unwrap());
        let inner = quick.read(|_| Ok(quick.read(|_| Ok(())).is_none())).unwrap();
        assert!(inner.unwrap());
        assert!(quick.read(|_| Ok(())).is_some());
        quick.close();
        assert!(quick.read(|_| Ok(())).is_none());
    }

    #[test]
    fn a_database_that_is_locked_is_left_to_the_threads_and_other_errors_are_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE a (b); BEGIN EXCLUSIVE").unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.busy_timeout(Duration::ZERO).unwrap();
        let quick = Quick::new(reader);
        let count = |connection: &Connection| connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0));
        assert!(quick.read::<i64>(count).is_none());
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(quick.read::<i64>(count).unwrap(), Ok(0));
        assert!(quick.read(|connection| connection.execute("nonsense", [])).unwrap().is_err());
    }
}
