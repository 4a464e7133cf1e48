//! The answer to a commit, and the batch until the writer takes it.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use parking_lot::Mutex;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::ids::LogId;

/// Resolves when its batch is durable or was withdrawn, or says why it is not durable. Dropping it cancels nothing.
///
/// It can be asked again after it resolved, and says the same.
pub struct Ticket(State);

enum State {
    Settled(Result<(), StoreError>),
    Pending(Arc<Slot>),
}

/// The right to take a batch back before it is written: see [`Store::withdraw`](crate::Store::withdraw). Dropping it takes nothing
/// back.
pub struct Withdrawal(Option<Arc<Slot>>);

impl Ticket {
    /// A ticket for nothing: resolved.
    pub fn done() -> Self {
        Self::settled(Ok(()))
    }

    pub(crate) fn settled(outcome: Result<(), StoreError>) -> Self {
        Self(State::Settled(outcome))
    }

    /// The ticket of a batch that is queued.
    pub(crate) fn pending(slot: Arc<Slot>) -> Self {
        Self(State::Pending(slot))
    }

    /// The outcome, if it is there already.
    pub fn outcome(&self) -> Option<Result<(), StoreError>> {
        match &self.0 {
            State::Settled(outcome) => Some(outcome.clone()),
            State::Pending(slot) => slot.outcome(),
        }
    }

    /// As [`Future::poll`], but the task is not woken where the batch is withdrawn, only where the writer is done with it.
    ///
    /// For who looks at [`Ticket::outcome`] before it matters anyway: most tasks then need not wake for each batch.
    pub fn poll_quietly(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        self.poll_as(context, true)
    }

    /// Blocks this thread until the outcome is there.
    pub fn wait(self) -> Result<(), StoreError> {
        block_on(self)
    }

    fn poll_as(&mut self, context: &mut Context<'_>, quietly: bool) -> Poll<Result<(), StoreError>> {
        match &self.0 {
            State::Settled(outcome) => Poll::Ready(outcome.clone()),
            State::Pending(slot) => slot.poll(context.waker(), quietly),
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_as(context, false)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.outcome()).finish()
    }
}

impl Withdrawal {
    /// For a batch that cannot be taken back.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn of(slot: Arc<Slot>) -> Self {
        Self(Some(slot))
    }

    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Withdrawal").finish_non_exhaustive()
    }
}

/// One batch on its way through the writer, shared by the queue, the ticket and the withdrawal.
pub(crate) struct Slot(Mutex<Progress>);

struct Progress {
    stage: Stage,
    /// Who polled the ticket last, and whether quietly.
    waker: Option<(Waker, bool)>,
}

enum Stage {
    Queued(Batch),
    /// In the writer's hands.
    Taken,
    Withdrawn,
    Settled(Result<(), StoreError>),
}

impl Stage {
    fn outcome(&self) -> Option<Result<(), StoreError>> {
        match self {
            Self::Queued(_) | Self::Taken => None,
            Self::Withdrawn => Some(Ok(())),
            Self::Settled(outcome) => Some(outcome.clone()),
        }
    }
}

impl Slot {
    pub(crate) fn new(batch: Batch) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Progress { stage: Stage::Queued(batch), waker: None })))
    }

    /// Gives the entries of the batch that have no id yet this one.
    pub(crate) fn place(&self, id: LogId) {
        if let Stage::Queued(batch) = &mut self.0.lock().stage {
            batch.place(id);
        }
    }

    /// Gives the batch to the writer, unless it was withdrawn.
    pub(crate) fn take(&self) -> Option<Batch> {
        self.replace_queued(Stage::Taken, |_| {}).map(|(batch, _)| batch)
    }

    /// Takes the batch back: whether that was possible. `then` hears of it before anybody can see it.
    pub(crate) fn withdraw(&self, then: impl FnOnce(&Batch)) -> bool {
        let Some((batch, waker)) = self.replace_queued(Stage::Withdrawn, then) else { return false };
        drop(batch);
        if let Some((waker, false)) = waker {
            waker.wake();
        }
        true
    }

    fn replace_queued(&self, next: Stage, then: impl FnOnce(&Batch)) -> Option<(Batch, Option<(Waker, bool)>)> {
        let mut progress = self.0.lock();
        let Stage::Queued(batch) = &progress.stage else { return None };
        then(batch);
        let waker = if matches!(next, Stage::Withdrawn) { progress.waker.take() } else { None };
        match std::mem::replace(&mut progress.stage, next) {
            Stage::Queued(batch) => Some((batch, waker)),
            Stage::Taken | Stage::Withdrawn | Stage::Settled(_) => unreachable!("it was queued a line before"),
        }
    }

    /// The first outcome stands.
    pub(crate) fn settle(&self, outcome: Result<(), StoreError>) {
        let mut progress = self.0.lock();
        if progress.stage.outcome().is_none() {
            // Dropped after the lock, like the waker.
            let _batch = std::mem::replace(&mut progress.stage, Stage::Settled(outcome));
            let waker = progress.waker.take();
            drop(progress);
            if let Some((waker, _)) = waker {
                waker.wake();
            }
        }
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        matches!(self.0.lock().stage, Stage::Withdrawn)
    }

    fn outcome(&self) -> Option<Result<(), StoreError>> {
        self.0.lock().stage.outcome()
    }

    fn poll(&self, waker: &Waker, quietly: bool) -> Poll<Result<(), StoreError>> {
        let mut progress = self.0.lock();
        if let Some(outcome) = progress.stage.outcome() {
            return Poll::Ready(outcome);
        }
        match &mut progress.waker {
            Some((known, quiet)) => {
                known.clone_from(waker);
                *quiet = quietly;
            }
            unknown @ None => *unknown = Some((waker.clone(), quietly)),
        }
        Poll::Pending
    }
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

    fn queued() -> (Arc<Slot>, Ticket) {
        let slot = Slot::new(Batch::new());
        (slot.clone(), Ticket::pending(slot))
    }

    #[test]
    fn a_polled_ticket_wakes_its_last_waker_once() {
        let counts: [Arc<Count>; 2] = Default::default();
        let (slot, mut ticket) = queued();
        assert_eq!(poll(&mut ticket, &counts[0]), Poll::Pending);
        assert_eq!(poll(&mut ticket, &counts[1]), Poll::Pending);
        assert!(slot.take().is_some());
        slot.settle(Err(StoreError::Full));
        slot.settle(Ok(()));
        assert_eq!(counts.map(|count| count.0.load(SeqCst)), [0, 1]);
        assert_eq!(ticket.outcome(), Some(Err(StoreError::Full)));
    }

    #[test]
    fn a_ticket_says_the_same_each_time_it_is_polled() {
        let (slot, mut ticket) = queued();
        assert_eq!(ticket.outcome(), None);
        slot.settle(Err(StoreError::Conflict));
        slot.settle(Ok(()));
        for _ in 0..2 {
            assert_eq!(poll(&mut ticket, &Arc::default()), Poll::Ready(Err(StoreError::Conflict)));
        }
        assert_eq!(Ticket::done().outcome(), Some(Ok(())));
    }

    #[test]
    fn what_is_withdrawn_is_never_taken_and_what_is_taken_is_never_withdrawn() {
        let (slot, ticket) = queued();
        assert!(slot.withdraw(|_| {}));
        assert!(slot.is_withdrawn() && slot.take().is_none());
        slot.settle(Err(StoreError::Closed));
        assert_eq!(ticket.outcome(), Some(Ok(())));
        assert!(!slot.withdraw(|_| panic!("it is not there any more")));

        let (slot, ticket) = queued();
        assert!(slot.take().is_some());
        assert!(!slot.withdraw(|_| panic!("it is the writer's")));
        assert_eq!(ticket.outcome(), None);
        slot.settle(Err(StoreError::Full));
        assert!(!slot.withdraw(|_| panic!("it is settled")));
        assert_eq!(ticket.outcome(), Some(Err(StoreError::Full)));
    }

    #[test]
    fn a_withdrawal_wakes_who_waits_and_not_who_waits_quietly() {
        for (quietly, woken_by_withdrawal) in [(false, 1), (true, 0)] {
            let count = Arc::new(Count::default());
            let waker = Waker::from(count.clone());
            let mut context = Context::from_waker(&waker);
            let (slot, mut ticket) = queued();
            assert_eq!(ticket.poll_as(&mut context, quietly), Poll::Pending);
            assert!(slot.withdraw(|_| {}));
            assert_eq!(count.0.load(SeqCst), woken_by_withdrawal);
            assert_eq!(ticket.poll_quietly(&mut context), Poll::Ready(Ok(())));

            // What the writer has to say is always said.
            let (slot, mut ticket) = queued();
            assert_eq!(ticket.poll_as(&mut context, quietly), Poll::Pending);
            slot.settle(Err(StoreError::Full));
            assert_eq!(count.0.load(SeqCst), woken_by_withdrawal + 1);
        }
    }

    #[test]
    fn who_waited_quietly_can_wait_aloud() {
        let count = Arc::new(Count::default());
        let (slot, mut ticket) = queued();
        let waker = Waker::from(count.clone());
        assert_eq!(ticket.poll_quietly(&mut Context::from_waker(&waker)), Poll::Pending);
        assert_eq!(poll(&mut ticket, &count), Poll::Pending);
        assert!(slot.withdraw(|_| {}));
        assert_eq!(count.0.load(SeqCst), 1);
    }

    #[test]
    fn waiting_ends_when_another_thread_settles_or_withdraws() {
        for round in 0..200 {
            let (slot, ticket) = queued();
            thread::scope(|scope| {
                let wait = scope.spawn(|| ticket.wait());
                match round % 2 {
                    0 => slot.settle(Ok(())),
                    _ => assert!(slot.withdraw(|_| {})),
                }
                assert_eq!(wait.join().unwrap(), Ok(()));
            });
        }
    }

    #[test]
    fn a_batch_is_either_taken_or_withdrawn_however_two_threads_meet() {
        let (mut taken, mut withdrawn) = (0, 0);
        for _ in 0..2000 {
            let (slot, _ticket) = queued();
            let [writer, other] = thread::scope(|scope| {
                let writer = scope.spawn(|| slot.take().is_some());
                [slot.withdraw(|_| {}), writer.join().unwrap()]
            });
            assert!(writer ^ other);
            taken += usize::from(other);
            withdrawn += usize::from(writer);
        }
        assert_eq!(taken + withdrawn, 2000);
    }
}
