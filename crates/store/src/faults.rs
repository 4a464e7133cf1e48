//! Faults on demand, so that tests of whatever uses the store can see it fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::StoreError;

/// Makes a store slow, stuck or full. A clone steers the same store.
///
/// ```
/// use magpie_store::{Batch, Faults, Store, StoreError};
///
/// let faults = Faults::new();
/// let store = Store::memory_with(faults.clone());
/// let names = store.value::<String>("name");
/// let mut batch = Batch::new();
/// names.put(&mut batch, "ann", &"Ann".to_string());
/// faults.fail_commits(1, StoreError::Full);
/// assert_eq!(store.commit(batch).wait(), Err(StoreError::Full));
/// ```
#[derive(Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    released: Condvar,
}

#[derive(Default)]
struct Plan {
    delay: Duration,
    held: bool,
    commits: Option<(usize, StoreError)>,
    reads: Option<(usize, StoreError)>,
}

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each group takes this much longer from now on.
    pub fn slow_commits(&self, delay: Duration) {
        self.0.plan.lock().delay = delay;
    }

    /// No group is committed until [`Faults::release`], except where the store is closed.
    pub fn hold_commits(&self) {
        self.0.plan.lock().held = true;
    }

    /// Ends [`Faults::hold_commits`].
    pub fn release(&self) {
        self.0.plan.lock().held = false;
        self.0.released.notify_all();
    }

    /// The next `count` batches that reach the writer fail with this and write nothing. `usize::MAX`: all of them.
    pub fn fail_commits(&self, count: usize, error: StoreError) {
        self.0.plan.lock().commits = Some((count, error));
    }

    /// The next `count` reads fail with this. `usize::MAX`: all of them.
    pub fn fail_reads(&self, count: usize, error: StoreError) {
        self.0.plan.lock().reads = Some((count, error));
    }

    /// Sleeps as long as a group has to be late.
    pub(crate) fn delay(&self) {
        let mut plan = self.0.plan.lock();
        while plan.held {
            self.0.released.wait(&mut plan);
        }
        let delay = plan.delay;
        drop(plan);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }

    /// How many of this many batches have to fail.
    pub(crate) fn fail_commits_of(&self, batches: usize) -> Option<(usize, StoreError)> {
        take(&mut self.0.plan.lock().commits, batches)
    }

    pub(crate) fn fail_read(&self) -> Option<StoreError> {
        take(&mut self.0.plan.lock().reads, 1).map(|(_, error)| error)
    }
}

fn take(planned: &mut Option<(usize, StoreError)>, count: usize) -> Option<(usize, StoreError)> {
    let (left, error) = planned.as_mut().filter(|(left, _)| *left > 0)?;
    let count = count.min(*left);
    if *left != usize::MAX {
        *left -= count;
    }
    Some((count, error.clone()))
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0.plan.lock();
        f.debug_struct("Faults")
            .field("delay", &plan.delay)
            .field("held", &plan.held)
            .field("commits", &plan.commits)
            .field("reads", &plan.reads)
            .finish()
    }
}
