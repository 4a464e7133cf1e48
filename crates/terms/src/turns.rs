//! Large terms are decoded and written aside, while other requests go on, and only so many at once: each may take some thirty times its bytes
//! of memory until it is done.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Terms of more bytes are large.
const LARGE_BYTES: usize = 1 << 20;

/// Of large ones so many have their turn at once.
const AT_ONCE: usize = 4;

/// Who may work on a large term.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// Waits for a turn to work on a term of this weight.
    pub(crate) async fn wait(&self, bytes: usize) -> Turn {
        match bytes > LARGE_BYTES {
            true => Turn(Arc::clone(&self.0).acquire_owned().await.ok()),
            false => Turn(None),
        }
    }
}

/// A turn; small terms need none.
pub(crate) struct Turn(Option<OwnedSemaphorePermit>);

impl Turn {
    /// Does the work; of a large term while other tasks are taken over by other threads.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if self.0.is_some() && has_others { tokio::task::block_in_place(work) } else { work() }
    }
}

/// How many bytes a term is when it is decoded: of a compressed one those that it says it inflates to, as far as they can be.
pub(crate) fn weight(term: &[u8]) -> usize {
    match term {
        // Deflate makes no more than 1032 bytes of one.
        [131, 80, a, b, c, d, rest @ ..] => {
            (u32::from_be_bytes([*a, *b, *c, *d]) as usize).min(rest.len().saturating_mul(1032)).max(term.len())
        }
        _ => term.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_terms_take_turns_and_small_ones_go_by() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.wait(LARGE_BYTES + 1).await);
        }
        let late = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(late, turns.wait(LARGE_BYTES + 1)).await.is_err());
        assert_eq!(turns.wait(LARGE_BYTES).await.run(|| 1), 1);
        drop(held.pop());
        assert!(tokio::time::timeout(late, turns.wait(LARGE_BYTES + 1)).await.is_ok());
    }

    #[test]
    fn a_compressed_term_weighs_what_it_inflates_to() {
        assert_eq!(weight(&[131, 80, 0, 32, 0, 0, 1, 2, 3]), 3 * 1032);
        assert_eq!(weight(&[&[131, 80, 0, 32, 0, 0][..], &[0; 4000]].concat()), 1 << 21);
        assert_eq!(weight(&[131, 80, 0, 0, 0, 1, 1, 2, 3]), 9);
        assert_eq!(weight(&[131, 106]), 2);
    }
}
