//! The answer to a read: a value that is there, or one that a reader will send.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::StoreError;

/// Resolves when the reader has answered. Dropping it cancels a read that has not begun.
pub(crate) enum Reading<T> {
    Ready(Option<Result<T, StoreError>>),
    Waiting(Arc<Mutex<Slot<T>>>),
}

/// Sends the answer; dropped without one, the read fails with [`StoreError::Closed`].
pub(crate) struct Answer<T>(Arc<Mutex<Slot<T>>>);

pub(crate) struct Slot<T> {
    answer: Option<Result<T, StoreError>>,
    waker: Option<Waker>,
}

impl<T> Reading<T> {
    pub(crate) fn ready(answer: Result<T, StoreError>) -> Self {
        Self::Ready(Some(answer))
    }

    pub(crate) fn waiting() -> (Answer<T>, Self) {
        let slot = Arc::new(Mutex::new(Slot { answer: None, waker: None }));
        (Answer(slot.clone()), Self::Waiting(slot))
    }
}

impl<T> Answer<T> {
    pub(crate) fn send(self, answer: Result<T, StoreError>) {
        self.set(answer);
    }

    /// Whether the reading was dropped.
    pub(crate) fn is_unwanted(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn set(&self, answer: Result<T, StoreError>) {
        let mut slot = self.0.lock();
        if slot.answer.is_none() {
            slot.answer = Some(answer);
        }
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.set(Err(StoreError::Closed));
    }
}

impl<T: Unpin> Future for Reading<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(answer) => Poll::Ready(answer.take().expect("a future is not polled after it is ready")),
            Self::Waiting(slot) => {
                let mut slot = slot.lock();
                match slot.answer.take() {
                    Some(answer) => Poll::Ready(answer),
                    None => {
                        slot.waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::block_on;

    #[test]
    fn an_answer_that_is_dropped_says_closed() {
        let (answer, reading) = Reading::<u8>::waiting();
        drop(answer);
        assert_eq!(block_on(reading), Err(StoreError::Closed));
    }

    #[test]
    fn a_reading_wakes_when_the_answer_comes_from_another_thread() {
        for _ in 0..200 {
            let (answer, reading) = Reading::waiting();
            let sender = std::thread::spawn(move || answer.send(Ok(7)));
            assert_eq!(block_on(reading), Ok(7));
            sender.join().expect("does not panic");
        }
    }

    #[test]
    fn a_dropped_reading_is_seen() {
        let (answer, reading) = Reading::<u8>::waiting();
        assert!(!answer.is_unwanted());
        drop(reading);
        assert!(answer.is_unwanted());
    }
}
