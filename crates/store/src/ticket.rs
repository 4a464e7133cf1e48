//! The answer to a commit.
//!
//! The tickets of one commit group share one allocation, and one outcome.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use parking_lot::Mutex;

use crate::error::StoreError;

/// Resolves when its batch is durable, or says why it is not. Dropping it cancels nothing.
///
/// It can be asked again after it resolved, and says the same.
pub struct Ticket(State);

enum State {
    Settled(Result<(), StoreError>),
    Pending { group: Arc<Group>, index: usize, waker: Option<usize> },
}

impl Ticket {
    /// A ticket for nothing: resolved.
    pub fn done() -> Self {
        Self::settled(Ok(()))
    }

    pub(crate) fn settled(outcome: Result<(), StoreError>) -> Self {
        Self(State::Settled(outcome))
    }

    /// The ticket of the batch at `index` in the group.
    pub(crate) fn pending(group: Arc<Group>, index: usize) -> Self {
        Self(State::Pending { group, index, waker: None })
    }

    /// The outcome, if it is there already.
    pub fn outcome(&self) -> Option<Result<(), StoreError>> {
        match &self.0 {
            State::Settled(outcome) => Some(outcome.clone()),
            State::Pending { group, index, .. } => group.outcome.get().map(|outcome| outcome.of(*index)),
        }
    }

    /// Blocks this thread until the outcome is there.
    pub fn wait(self) -> Result<(), StoreError> {
        block_on(self)
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        let State::Pending { group, waker, .. } = &mut self.0 else { unreachable!("a settled ticket has an outcome") };
        group.register(context.waker(), waker);
        // It may have been settled between the look and the registration.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.outcome()).finish()
    }
}

/// Batches that share a transaction.
#[derive(Default)]
pub(crate) struct Group {
    outcome: OnceLock<Outcome>,
    wakers: Mutex<Vec<Waker>>,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Failed(StoreError),
    Each(Vec<Result<(), StoreError>>),
}

impl Outcome {
    pub(crate) fn of(&self, index: usize) -> Result<(), StoreError> {
        match self {
            Self::Committed => Ok(()),
            Self::Failed(error) => Err(error.clone()),
            Self::Each(outcomes) => outcomes[index].clone(),
        }
    }
}

impl Group {
    /// The first outcome stands.
    pub(crate) fn settle(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers.lock());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn register(&self, waker: &Waker, slot: &mut Option<usize>) {
        let mut wakers = self.wakers.lock();
        match slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(known) => known.clone_from(waker),
            // Once the group is settled its wakers are gone, and the caller looks at the outcome again.
            None => {
                *slot = Some(wakers.len());
                wakers.push(waker.clone());
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls on this thread, which sleeps in between.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn poll(ticket: &mut Ticket, count: &Arc<Count>) -> Poll<Result<(), StoreError>> {
        Pin::new(ticket).poll(&mut Context::from_waker(&Waker::from(count.clone())))
    }

    #[test]
    fn every_polled_ticket_is_woken_once_by_its_last_waker() {
        let group = Arc::new(Group::default());
        let counts: [Arc<Count>; 3] = Default::default();
        let mut first = Ticket::pending(group.clone(), 0);
        let mut second = Ticket::pending(group.clone(), 1);
        assert_eq!(poll(&mut first, &counts[0]), Poll::Pending);
        assert_eq!(poll(&mut second, &counts[1]), Poll::Pending);
        assert_eq!(poll(&mut first, &counts[2]), Poll::Pending);
        group.settle(Outcome::Each(vec![Err(StoreError::Full), Ok(())]));
        assert_eq!(counts.map(|count| count.0.load(SeqCst)), [0, 1, 1]);
        assert_eq!(first.outcome(), Some(Err(StoreError::Full)));
        assert_eq!(second.outcome(), Some(Ok(())));
    }

    #[test]
    fn a_ticket_says_the_same_each_time_it_is_polled() {
        let group = Arc::new(Group::default());
        let mut ticket = Ticket::pending(group.clone(), 0);
        assert_eq!(ticket.outcome(), None);
        group.settle(Outcome::Failed(StoreError::Conflict));
        group.settle(Outcome::Committed);
        for _ in 0..2 {
            assert_eq!(poll(&mut ticket, &Arc::default()), Poll::Ready(Err(StoreError::Conflict)));
        }
        assert_eq!(Ticket::done().outcome(), Some(Ok(())));
    }

    #[test]
    fn waiting_ends_when_another_thread_settles() {
        for _ in 0..200 {
            let group = Arc::new(Group::default());
            let tickets: Vec<_> = (0..3).map(|index| Ticket::pending(group.clone(), index)).collect();
            thread::scope(|scope| {
                let waits: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(|| ticket.wait())).collect();
                group.settle(Outcome::Committed);
                waits.into_iter().for_each(|wait| assert_eq!(wait.join().unwrap(), Ok(())));
            });
        }
    }

    #[test]
    fn a_dropped_ticket_keeps_nobody_else_from_being_woken() {
        let group = Arc::new(Group::default());
        let count = Arc::new(Count::default());
        let mut dropped = Ticket::pending(group.clone(), 0);
        let mut kept = Ticket::pending(group.clone(), 1);
        assert_eq!(poll(&mut dropped, &Arc::default()), Poll::Pending);
        assert_eq!(poll(&mut kept, &count), Poll::Pending);
        drop(dropped);
        group.settle(Outcome::Committed);
        assert_eq!(count.0.load(SeqCst), 1);
    }
}
