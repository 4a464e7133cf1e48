//! The threads that read. With nothing to do they let go of what they have cached, and sleep.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::{failure, forget_pages};
use crate::error::{OpenError, StoreError};
use crate::reading::Reading;
use crate::threads::{self, REST};

type Query = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// Called by each thread when it rests.
    at_rest: Option<fn()>,
}

/// What a thread does next.
enum Step {
    Read(Query),
    Rest,
}

#[derive(Default)]
struct Queue {
    queries: VecDeque<Query>,
    closed: bool,
}

impl Readers {
    pub(super) fn start(
        count: usize,
        at_rest: Option<fn()>,
        connect: impl Fn() -> Result<Connection, OpenError>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared { at_rest, ..Shared::default() });
        let readers = Self { shared, threads: Mutex::default() };
        for index in 0..count.max(1) {
            let (shared, connection) = (readers.shared.clone(), connect()?);
            let thread = threads::spawn(format!("store-reader-{index}"), move || shared.run(&connection))?;
            readers.threads.lock().push(thread);
        }
        Ok(readers)
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        let (answer, reading) = Reading::waiting();
        let query = Box::new(move |connection: &Connection| {
            if !answer.is_unwanted() {
                answer.send(query(connection).map_err(failure));
            }
        });
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Reading::ready(Err(StoreError::Closed));
        }
        queue.queries.push_back(query);
        drop(queue);
        self.shared.filled.notify_one();
        reading
    }

    /// Takes no more queries, and returns when those in the queue are answered.
    pub(super) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
        threads::join(&self.threads);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self, connection: &Connection) {
        let mut rested = false;
        while let Some(step) = self.next(rested) {
            rested = matches!(step, Step::Rest);
            match step {
                // A query that panics drops its answer, which says closed. The others still need this thread.
                Step::Read(query) => drop(panic::catch_unwind(AssertUnwindSafe(|| query(connection)))),
                Step::Rest => {
                    forget_pages(connection);
                    if let Some(at_rest) = self.at_rest {
                        at_rest();
                    }
                }
            }
        }
    }

    fn next(&self, rested: bool) -> Option<Step> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(query) = queue.queries.pop_front() {
                return Some(Step::Read(query));
            }
            if queue.closed {
                return None;
            }
            if rested {
                self.filled.wait(&mut queue);
            } else if self.filled.wait_for(&mut queue, REST).timed_out() && queue.queries.is_empty() && !queue.closed {
                return Some(Step::Rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::ticket::block_on;

    #[test]
    fn a_query_that_panics_fails_alone() {
        let readers = Readers::start(1, None, || Ok(Connection::open_in_memory().unwrap())).unwrap();
        let panics = readers.read::<u8>(|_| panic!("as a test wants it"));
        let works = readers.read(|connection| connection.query_row("SELECT 7", [], |row| row.get::<_, i64>(0)));
        assert_eq!(block_on(panics), Err(StoreError::Closed));
        assert_eq!(block_on(works), Ok(7));
    }

    #[test]
    fn a_reader_rests_once_after_its_last_query() {
        static RESTS: AtomicUsize = AtomicUsize::new(0);
        let at_rest = || {
            RESTS.fetch_add(1, Relaxed);
        };
        let readers = Readers::start(1, Some(at_rest), || Ok(Connection::open_in_memory().unwrap())).unwrap();
        for rests in 1..=2 {
            assert_eq!(block_on(readers.read(|_| Ok(()))), Ok(()));
            std::thread::sleep(REST * 3);
            assert_eq!(RESTS.load(Relaxed), rests);
        }
    }

    #[test]
    fn a_query_that_nobody_waits_for_is_not_run() {
        let readers = Readers::start(1, None, || Ok(Connection::open_in_memory().unwrap())).unwrap();
        let (begin, begun) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let first = readers.read(move |_| {
            begin.send(()).unwrap();
            gone.recv().unwrap();
            Ok(())
        });
        begun.recv().unwrap();
        let (run, ran) = std::sync::mpsc::channel();
        drop(readers.read(move |_| Ok(run.send(()))));
        go.send(()).unwrap();
        assert_eq!(block_on(first), Ok(()));
        assert!(ran.recv().is_err());
    }
}
