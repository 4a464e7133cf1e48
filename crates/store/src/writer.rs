//! The queue in front of a backend, and the thread that commits what is in it.
//!
//! While the thread waits for the disk, batches gather; then it takes them all and commits them together. The slower
//! the disk, the larger the groups. With nothing to do the thread sleeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::batch::Batch;
use crate::error::StoreError;
use crate::faults::Faults;
use crate::statistics::{Counters, Statistics};
use crate::threads;
use crate::ticket::{Group, Outcome, Ticket};

/// A group that is larger leaves the rest to the next one, so that the first in it need not wait for too many.
const GROUP_BATCHES_MAX: usize = 16 * 1024;
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The side of a backend that writes.
pub(crate) trait Commit: Send {
    /// Carries out the batches in their order and makes them durable.
    fn commit(&mut self, batches: &[Batch]) -> Outcome;
    /// After the last group.
    fn finish(&mut self) {}
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    bytes_max: usize,
    faults: Faults,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Pending>,
    batches: usize,
    bytes: usize,
    asleep: bool,
    closed: bool,
}

/// A group before it is committed. Dropped unsettled, as when its thread panics, it is closed.
struct Pending {
    batches: Vec<Batch>,
    bytes: usize,
    since: Instant,
    group: Arc<Group>,
}

impl Writer {
    /// Starts the thread. A queue of more than `bytes_max` bytes refuses batches.
    pub(crate) fn start(
        commit: Box<dyn Commit>,
        bytes_max: usize,
        faults: Faults,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), bytes_max, faults, counters });
        let thread = threads::spawn("store-writer".into(), {
            let shared = shared.clone();
            move || shared.run(commit)
        })?;
        Ok(Self { shared, threads: Mutex::new(vec![thread]) })
    }

    pub(crate) fn commit(&self, batch: Batch) -> Ticket {
        if batch.is_empty() {
            return Ticket::done();
        }
        self.shared.push(batch).unwrap_or_else(|error| {
            let refused = Err(error);
            self.shared.counters.outcome(0, &refused);
            Ticket::settled(refused)
        })
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (batches, bytes) = {
            let queue = self.shared.queue.lock();
            (queue.batches, queue.bytes)
        };
        self.shared.counters.statistics(batches, bytes)
    }

    /// Takes no more batches, and returns when those in the queue are settled.
    pub(crate) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
        self.shared.faults.release();
        threads::join(&self.threads);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn push(&self, batch: Batch) -> Result<Ticket, StoreError> {
        if batch.is_out_of_range() {
            return Err(StoreError::Backend("a log id is larger than LogId::MAX".into()));
        }
        let bytes = batch.bytes();
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(StoreError::Closed);
        }
        if queue.bytes + bytes > self.bytes_max {
            return Err(StoreError::Full);
        }
        queue.batches += 1;
        queue.bytes += bytes;
        if !queue.groups.back().is_some_and(|group| group.takes(bytes)) {
            queue.groups.push_back(Pending::new());
        }
        let pending = queue.groups.back_mut().expect("was just pushed");
        pending.batches.push(batch);
        pending.bytes += bytes;
        let ticket = Ticket::pending(pending.group.clone(), pending.batches.len() - 1);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
        Ok(ticket)
    }

    fn run(self: Arc<Self>, mut commit: Box<dyn Commit>) {
        let _closing = CloseOnDrop(&self);
        while let Some(pending) = self.next() {
            let outcome = self.commit(&mut *commit, &pending.batches);
            self.counters.committed(pending.since.elapsed());
            for (index, batch) in pending.batches.iter().enumerate() {
                self.counters.outcome(batch.writes(), &outcome.of(index));
            }
            let mut queue = self.queue.lock();
            queue.batches -= pending.batches.len();
            queue.bytes -= pending.bytes;
            drop(queue);
            pending.group.settle(outcome);
        }
        commit.finish();
    }

    fn next(&self) -> Option<Pending> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(pending) = queue.groups.pop_front() {
                return Some(pending);
            }
            if queue.closed {
                return None;
            }
            queue.asleep = true;
            self.filled.wait(&mut queue);
            queue.asleep = false;
        }
    }

    /// The first ones fail where a test said so.
    fn commit(&self, commit: &mut dyn Commit, batches: &[Batch]) -> Outcome {
        self.faults.delay();
        match self.faults.fail_commits_of(batches.len()) {
            None => commit.commit(batches),
            Some((count, error)) if count == batches.len() => Outcome::Failed(error),
            Some((count, error)) => {
                let outcome = commit.commit(&batches[count..]);
                let others = (0..batches.len() - count).map(|index| outcome.of(index));
                Outcome::Each(std::iter::repeat_n(Err(error), count).chain(others).collect())
            }
        }
    }
}

impl Pending {
    fn new() -> Self {
        Self { batches: Vec::new(), bytes: 0, since: Instant::now(), group: Arc::default() }
    }

    fn takes(&self, bytes: usize) -> bool {
        self.batches.len() < GROUP_BATCHES_MAX && self.bytes + bytes <= GROUP_BYTES_MAX
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.group.settle(Outcome::Failed(StoreError::Closed));
    }
}

/// Leaves no ticket unanswered when the thread ends, however it ends.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let groups = std::mem::take(&mut queue.groups);
        (queue.batches, queue.bytes) = (0, 0);
        // Settling wakes, and a waker may come back here.
        drop(queue);
        drop(groups);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::batch::Operation;
    use crate::ids::LogId;

    fn start(commit: impl Commit + 'static) -> (Writer, Faults) {
        let faults = Faults::new();
        (Writer::start(Box::new(commit), 1 << 20, faults.clone(), Arc::default()).unwrap(), faults)
    }

    fn numbered(number: u64, bytes: usize) -> Batch {
        let mut batch = Batch::new();
        batch.append("log", "", LogId(number), &vec![0u8; bytes]);
        batch
    }

    struct Panics;

    impl Commit for Panics {
        fn commit(&mut self, _: &[Batch]) -> Outcome {
            panic!("as a test wants it");
        }
    }

    #[test]
    fn a_writer_that_dies_leaves_no_ticket_unanswered() {
        let (writer, faults) = start(Panics);
        faults.hold_commits();
        let tickets: Vec<_> = (0..5).map(|number| writer.commit(numbered(number, 1))).collect();
        faults.release();
        tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait(), Err(StoreError::Closed)));
        assert_eq!(writer.commit(numbered(9, 1)).wait(), Err(StoreError::Closed));
        writer.close();
        assert_eq!((writer.statistics().queued_batches, writer.statistics().queued_bytes), (0, 0));
    }

    /// Keeps the numbers in each group, and fails those that are a multiple of 3.
    struct Keeps(Arc<Mutex<Vec<Vec<u64>>>>);

    impl Commit for Keeps {
        fn commit(&mut self, batches: &[Batch]) -> Outcome {
            let number = |batch: &Batch| match batch.operations().next() {
                Some(Operation::LogAppend { id, .. }) => id.0,
                other => panic!("{other:?}"),
            };
            let numbers: Vec<_> = batches.iter().map(number).collect();
            let outcome = |number: &u64| if number.is_multiple_of(3) { Err(StoreError::Conflict) } else { Ok(()) };
            let outcome = Outcome::Each(numbers.iter().map(outcome).collect());
            self.0.lock().push(numbers);
            outcome
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn groups_keep_the_order_lose_nothing_and_answer_each(sizes in proptest::collection::vec(0..2000usize, 0..60), held in any::<bool>()) {
            let groups = Arc::default();
            let (writer, faults) = start(Keeps(Arc::clone(&groups)));
            if held {
                faults.hold_commits();
            }
            let commit = |(number, bytes): (usize, &usize)| (number, writer.commit(numbered(number as u64, *bytes)));
            let tickets: Vec<_> = sizes.iter().enumerate().map(commit).collect();
            faults.release();
            for (number, ticket) in tickets {
                prop_assert_eq!(ticket.wait(), if number % 3 == 0 { Err(StoreError::Conflict) } else { Ok(()) });
            }
            writer.close();
            let groups = groups.lock();
            prop_assert!(!held || groups.len() <= 2, "{groups:?}");
            prop_assert_eq!(groups.concat(), (0..sizes.len() as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_group_that_would_be_too_large_leaves_the_rest_to_the_next() {
        let groups = Arc::default();
        let faults = Faults::new();
        let keeps = Box::new(Keeps(Arc::clone(&groups)));
        let writer = Writer::start(keeps, usize::MAX, faults.clone(), Arc::default()).unwrap();
        faults.hold_commits();
        for number in 0..5 {
            drop(writer.commit(numbered(number, GROUP_BYTES_MAX / 2)));
        }
        faults.release();
        writer.close();
        assert!(groups.lock().iter().all(|group| group.len() == 1), "{:?}", groups.lock());
    }
}
