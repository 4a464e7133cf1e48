//! The queue in front of a backend, and the thread that commits what is in it.
//!
//! While the thread waits for the disk, batches gather; then it takes them all and commits them together. The slower
//! the disk, the larger the groups. Batches that nobody is in a hurry for gather also while the disk is idle, for as long as they
//! may linger: what is withdrawn meanwhile costs the disk nothing. With nothing to do the thread sleeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::batch::Batch;
use crate::error::StoreError;
use crate::faults::Faults;
use crate::ids::{Ids, LogId};
use crate::statistics::{Counters, Statistics};
use crate::threads::{self, REST};
use crate::ticket::{Outcome, Slot, Ticket, Withdrawal};

/// A group that is larger leaves the rest to the next one, so that the first in it need not wait for too many.
const GROUP_BATCHES_MAX: usize = 16 * 1024;
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// From the begin of one group to that of the next, at least: a disk that is done at once would otherwise be given each batch alone, and
/// a group costs as much as some batches.
const GATHERING: Duration = Duration::from_millis(1);

/// Places of withdrawn batches that the queue keeps at most, unless they are less than half of it.
const WITHDRAWN_MAX: usize = 1024;

/// The side of a backend that writes.
pub(crate) trait Commit: Send {
    /// Carries out the batches in their order and makes them durable.
    fn commit(&mut self, batches: &[Batch]) -> Outcome;
    /// When there was nothing to commit for [`REST`]: does what was put off, a part of it at a time, and then lets go of memory that
    /// it can have again.
    fn rest(&mut self) -> Rest {
        Rest::Done
    }
    /// After the last group.
    fn finish(&mut self) {}
}

/// Whether there is more to do at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Done,
    /// To be asked again as long as there is nothing to commit.
    Unfinished,
}

/// What the thread does next.
enum Step {
    Commit(Group),
    Rest,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How much a queue takes, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// More bytes are refused.
    pub(crate) bytes_max: usize,
    /// How long a batch may wait that nobody is in a hurry for.
    pub(crate) linger: Duration,
    /// Called by the thread when it rests.
    pub(crate) at_rest: Option<fn()>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    load: Load,
    bounds: Bounds,
    faults: Faults,
    counters: Arc<Counters>,
}

/// What waits, or is in the thread's hands. Withdrawals change it without the queue's lock.
#[derive(Default)]
struct Load {
    batches: AtomicUsize,
    bytes: AtomicUsize,
    /// Withdrawn batches whose places are still in the queue.
    withdrawn: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many in it somebody is in a hurry for.
    hurried: usize,
    /// Whether the thread has a group in its hands.
    committing: bool,
    /// When it took the last one.
    taken: Option<Instant>,
    sleep: Sleep,
    closed: bool,
}

/// What the thread is doing, and so what wakes it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    #[default]
    Awake,
    /// Until there is anything.
    Idle,
    /// Until what lingers is due, or somebody is in a hurry.
    Lingers,
    /// Until the group before has been long enough ago.
    Gathers,
}

struct Waiting {
    slot: Arc<Slot>,
    bytes: usize,
    since: Instant,
    hurried: bool,
}

/// Gives a batch its id, under the queue's lock.
type Placing<'a> = &'a mut dyn FnMut(&Slot);

/// Batches that are committed together. Dropped unsettled, as when the thread panics, it is closed.
struct Group {
    batches: Vec<Batch>,
    slots: Vec<Arc<Slot>>,
    /// Places without a batch, of those who wait for what was before them.
    marks: Vec<Arc<Slot>>,
    bytes: usize,
    since: Instant,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        commit: Box<dyn Commit>,
        bounds: Bounds,
        faults: Faults,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            load: Load::default(),
            bounds,
            faults,
            counters,
        });
        let thread = threads::spawn("store-writer".into(), {
            let shared = shared.clone();
            move || shared.run(commit)
        })?;
        Ok(Self { shared, threads: Mutex::new(vec![thread]) })
    }

    pub(crate) fn commit(&self, batch: Batch) -> Ticket {
        self.push(batch, true).map_or_else(|ticket| ticket, Ticket::pending)
    }

    pub(crate) fn commit_later(&self, batch: Batch) -> (Ticket, Withdrawal) {
        match self.push(batch, false) {
            Ok(slot) => (Ticket::pending(slot.clone()), Withdrawal::of(slot)),
            Err(ticket) => (ticket, Withdrawal::none()),
        }
    }

    pub(crate) fn commit_placed(&self, batch: Batch, ids: &Ids) -> (LogId, Ticket) {
        // An id where the batch is refused, too: it is used for what need not be stored.
        let mut place = None;
        let pushed = self.push_with(batch, true, Some(&mut |slot| slot.place(*place.insert(ids.next()))));
        (place.unwrap_or_else(|| ids.next()), pushed.map_or_else(|ticket| ticket, Ticket::pending))
    }

    /// The batch's place in the queue, or the ticket of one that needs none.
    fn push(&self, batch: Batch, hurried: bool) -> Result<Arc<Slot>, Ticket> {
        self.push_with(batch, hurried, None)
    }

    fn push_with(&self, batch: Batch, hurried: bool, place: Option<Placing<'_>>) -> Result<Arc<Slot>, Ticket> {
        if batch.is_empty() {
            return Err(Ticket::done());
        }
        self.shared.push(batch, hurried, place).map_err(|error| {
            let refused = Err(error);
            self.shared.counters.outcome(0, &refused);
            Ticket::settled(refused)
        })
    }

    pub(crate) fn withdraw(&self, withdrawal: &Withdrawal) -> bool {
        withdrawal.slot().is_some_and(|slot| slot.withdraw(|batch| self.shared.withdrawn(batch)))
    }

    /// Resolves when all that is queued is settled or withdrawn, and hurries it.
    ///
    /// It has a place of its own behind the others: the ticket of the last of them would resolve too early where that one is
    /// withdrawn.
    pub(crate) fn settled(&self) -> Ticket {
        self.shared.mark().map_or_else(Ticket::done, Ticket::pending)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let Load { batches, bytes, .. } = &self.shared.load;
        self.shared.counters.statistics(batches.load(Relaxed), bytes.load(Relaxed))
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
    /// `place` is called under the queue's lock, so that what it does has the queue's order.
    fn push(&self, batch: Batch, hurried: bool, place: Option<Placing<'_>>) -> Result<Arc<Slot>, StoreError> {
        if batch.is_out_of_range() {
            return Err(StoreError::Backend("a log id is larger than LogId::MAX".into()));
        }
        if batch.is_unplaced() && place.is_none() {
            return Err(StoreError::Backend("an entry of an archive has no id".into()));
        }
        let bytes = batch.bytes();
        let slot = Slot::new(batch);
        let waiting = Waiting { slot: slot.clone(), bytes, since: Instant::now(), hurried };
        let queue = self.queue.lock();
        if queue.closed {
            return Err(StoreError::Closed);
        }
        let before = self.load.bytes.load(Relaxed);
        if before + bytes > self.bounds.bytes_max {
            return Err(StoreError::Full);
        }
        if let Some(place) = place {
            place(&slot);
        }
        self.load.add(1, bytes);
        self.put(queue, waiting, before + bytes > GROUP_BYTES_MAX);
        Ok(slot)
    }

    /// A place without a batch, unless there is nothing to wait for.
    fn mark(&self) -> Option<Arc<Slot>> {
        let mut queue = self.queue.lock();
        self.drop_withdrawn(&mut queue);
        // Also where the thread is gone: then nobody is left to settle it.
        if queue.waiting.is_empty() && !queue.committing {
            return None;
        }
        let slot = Slot::new(Batch::new());
        let waiting = Waiting { slot: slot.clone(), bytes: 0, since: Instant::now(), hurried: true };
        self.put(queue, waiting, false);
        Some(slot)
    }

    fn put(&self, mut queue: MutexGuard<'_, Queue>, waiting: Waiting, too_many: bool) {
        let hurried = waiting.hurried;
        queue.hurried += usize::from(hurried);
        queue.waiting.push_back(waiting);
        self.forget_withdrawn(&mut queue);
        let wake = match queue.sleep {
            Sleep::Awake => false,
            Sleep::Idle => true,
            Sleep::Lingers => hurried || too_many,
            Sleep::Gathers => too_many,
        };
        if wake {
            queue.sleep = Sleep::Awake;
        }
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Called under the lock of the batch's slot, so that whoever sees it withdrawn sees it counted.
    fn withdrawn(&self, batch: &Batch) {
        self.load.subtract(1, batch.bytes());
        self.load.withdrawn.fetch_add(1, Relaxed);
        self.counters.withdrawn();
    }

    /// While the disk does not answer, nobody else takes them out of the queue.
    fn forget_withdrawn(&self, queue: &mut Queue) {
        let withdrawn = self.load.withdrawn.load(Relaxed);
        if withdrawn <= WITHDRAWN_MAX || withdrawn <= queue.waiting.len() / 2 {
            return;
        }
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.hurried || !waiting.slot.is_withdrawn());
        self.load.withdrawn.fetch_sub(before - queue.waiting.len(), Relaxed);
    }

    /// The oldest that were withdrawn give up their places.
    fn drop_withdrawn(&self, queue: &mut Queue) {
        while queue.waiting.front().is_some_and(|waiting| !waiting.hurried && waiting.slot.is_withdrawn()) {
            queue.waiting.pop_front();
            self.load.withdrawn.fetch_sub(1, Relaxed);
        }
    }

    fn run(self: Arc<Self>, mut commit: Box<dyn Commit>) {
        let _closing = CloseOnDrop(&self);
        let mut rested = None;
        while let Some(step) = self.next(rested) {
            rested = None;
            let group = match step {
                Step::Commit(group) => group,
                Step::Rest => {
                    rested = Some(commit.rest());
                    if rested == Some(Rest::Unfinished) {
                        continue;
                    }
                    if let Some(at_rest) = self.bounds.at_rest {
                        at_rest();
                    }
                    continue;
                }
            };
            if group.batches.is_empty() {
                group.settle(&Outcome::Committed);
                continue;
            }
            let outcome = self.commit(&mut *commit, &group.batches);
            self.counters.committed(group.since.elapsed());
            for (index, batch) in group.batches.iter().enumerate() {
                self.counters.outcome(batch.writes(), &outcome.of(index));
            }
            self.load.subtract(group.batches.len(), group.bytes);
            group.settle(&outcome);
        }
        commit.finish();
    }

    /// The next group, once it is due, or a rest: `rested` says how the last one ended, if nothing was committed since.
    fn next(&self, rested: Option<Rest>) -> Option<Step> {
        let mut queue = self.queue.lock();
        // The one before is settled.
        queue.committing = false;
        loop {
            self.drop_withdrawn(&mut queue);
            let now = Instant::now();
            let gathered = queue.taken.map(|taken| taken + GATHERING).filter(|gathered| *gathered > now);
            let full = queue.closed || self.load.bytes.load(Relaxed) > GROUP_BYTES_MAX;
            let due = queue.waiting.front().map(|oldest| oldest.since + self.bounds.linger);
            let hurry = full || queue.hurried > 0;
            match due {
                Some(due) if (hurry || due <= now) && !full && gathered.is_some() => {
                    let _timed_out = self.sleep(&mut queue, Sleep::Gathers, gathered);
                }
                Some(due) if hurry || due <= now => match self.take(&mut queue, now) {
                    Some(group) => {
                        (queue.committing, queue.taken) = (true, Some(now));
                        return Some(Step::Commit(group));
                    }
                    None => continue,
                },
                Some(due) => drop(self.sleep(&mut queue, Sleep::Lingers, Some(due))),
                None if queue.closed => return None,
                None if rested == Some(Rest::Unfinished) => return Some(Step::Rest),
                None if rested == Some(Rest::Done) => drop(self.sleep(&mut queue, Sleep::Idle, None)),
                None if self.sleep(&mut queue, Sleep::Idle, Some(now + REST)) && queue.waiting.is_empty() => {
                    return Some(Step::Rest);
                }
                None => {}
            }
        }
    }

    /// Whether it was the time that woke it.
    fn sleep(&self, queue: &mut MutexGuard<'_, Queue>, sleep: Sleep, until: Option<Instant>) -> bool {
        queue.sleep = sleep;
        let timed_out = match until {
            Some(until) => self.filled.wait_until(queue, until).timed_out(),
            None => {
                self.filled.wait(queue);
                false
            }
        };
        queue.sleep = Sleep::Awake;
        timed_out
    }

    /// Takes the oldest out of the queue: all up to the last that is hurried, and after it those that have lingered for half
    /// their time, since they would soon cost a group of their own.
    fn take(&self, queue: &mut Queue, now: Instant) -> Option<Group> {
        let all = queue.closed || self.load.bytes.load(Relaxed) > GROUP_BYTES_MAX;
        let since = queue.waiting.front()?.since;
        let mut group = Group { batches: Vec::new(), slots: Vec::new(), marks: Vec::new(), bytes: 0, since };
        while let Some(next) = queue.waiting.front() {
            let wanted = all || queue.hurried > 0 || next.since + self.bounds.linger / 2 <= now;
            if !wanted || !group.has_room(next.bytes) {
                break;
            }
            let Some(Waiting { slot, bytes, hurried, .. }) = queue.waiting.pop_front() else { break };
            queue.hurried -= usize::from(hurried);
            match slot.take() {
                Some(batch) if batch.is_empty() => group.marks.push(slot),
                Some(batch) => {
                    group.batches.push(batch);
                    group.slots.push(slot);
                    group.bytes += bytes;
                }
                None => drop(self.load.withdrawn.fetch_sub(1, Relaxed)),
            }
        }
        (!group.slots.is_empty() || !group.marks.is_empty()).then_some(group)
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

impl Load {
    fn add(&self, batches: usize, bytes: usize) {
        self.batches.fetch_add(batches, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn subtract(&self, batches: usize, bytes: usize) {
        self.batches.fetch_sub(batches, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Group {
    fn has_room(&self, bytes: usize) -> bool {
        self.batches.is_empty() || (self.batches.len() < GROUP_BATCHES_MAX && self.bytes + bytes <= GROUP_BYTES_MAX)
    }

    fn settle(&self, outcome: &Outcome) {
        self.slots.iter().enumerate().for_each(|(index, slot)| slot.settle(outcome.of(index)));
        self.marks.iter().for_each(|slot| slot.settle(Ok(())));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.slots.iter().chain(&self.marks).for_each(|slot| slot.settle(Err(StoreError::Closed)));
    }
}

/// Leaves no ticket unanswered when the thread ends, however it ends.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        queue.committing = false;
        let waiting = std::mem::take(&mut queue.waiting);
        queue.hurried = 0;
        // Settling wakes, and a waker may come back here.
        drop(queue);
        waiting.iter().for_each(|waiting| waiting.slot.settle(Err(StoreError::Closed)));
        // Nothing can be withdrawn any more, so nobody else counts.
        let Load { batches, bytes, withdrawn } = &self.0.load;
        [batches, bytes, withdrawn].into_iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests;
