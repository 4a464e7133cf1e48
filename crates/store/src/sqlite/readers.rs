//! The threads that read. With nothing to do they sleep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::failure;
use crate::error::{OpenError, StoreError};
use crate::reading::Reading;

type Query = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    queries: VecDeque<Query>,
    closed: bool,
}

impl Readers {
    pub(super) fn start(count: usize, connect: impl Fn() -> Result<Connection, OpenError>) -> Result<Self, OpenError> {
        let readers = Self { shared: Arc::default(), threads: Mutex::default() };
        for index in 0..count.max(1) {
            let (shared, connection) = (readers.shared.clone(), connect()?);
            let thread = thread::Builder::new().name(format!("store-reader-{index}"));
            readers.threads.lock().push(thread.spawn(move || shared.run(&connection))?);
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
        for thread in self.threads.lock().drain(..) {
            // A waker may drop the last store on a reader's own thread, which then ends by itself.
            if thread.thread().id() != thread::current().id() {
                // A panic there has been reported, and its reading says closed.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self, connection: &Connection) {
        while let Some(query) = self.next() {
            query(connection);
        }
    }

    fn next(&self) -> Option<Query> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(query) = queue.queries.pop_front() {
                return Some(query);
            }
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
    }
}
