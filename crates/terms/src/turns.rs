//! Large terms are decoded and written aside, while other requests go on: only so many at once, and with the memory counted that they take.
//!
//! How much that is nobody knows before: a byte may become a node of 16 bytes, and six characters. So what is usual is taken of the
//! room first, and where that is not enough the work begins anew with more.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::convert::Form;
use crate::http::input::{Held, Room};
use crate::problem::Problem;

/// Terms of more bytes are large.
const LARGE_BYTES: usize = 64 << 10;

/// Of those that are compressed too: zlib takes a hundred times longer for a byte.
const LARGE_BYTES_COMPRESSED: usize = 4 << 10;

/// What a term may take that is not large: more than the worst takes, which is one over lines that begin with many spaces.
const SMALL_MEMORY: usize = 24 << 20;

/// What a large term takes of memory for each of its bytes, in most cases.
const USUAL: usize = 4;

/// By how much more is taken when that is not enough.
const MORE: usize = 4;

/// How long a large term waits for its turn.
const TURN_SECONDS_MAX: u64 = 10;

/// Who may work on a large term.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    /// So many at once that a processor is left for all others.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors.saturating_sub(1).max(1))
    }
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Waits for a turn to work on a term of this weight.
    ///
    /// # Errors
    /// If it does not come.
    pub(crate) async fn wait(&self, bytes: usize) -> Result<Turn, Problem> {
        if bytes <= LARGE_BYTES {
            return Ok(Turn(None));
        }
        let turn = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(Duration::from_secs(TURN_SECONDS_MAX), turn).await {
            Ok(Ok(turn)) => Ok(Turn(Some(turn))),
            _ => Err(Problem::busy()),
        }
    }
}

/// A turn; small terms need none.
pub(crate) struct Turn(Option<OwnedSemaphorePermit>);

impl Turn {
    /// Does the work; of a large term while other tasks are taken over by other threads.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if self.0.is_some() && has_others { tokio::task::block_in_place(work) } else { work() }
    }
}

/// Turns, and the room for what is worked on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) turns: Turns,
    pub(crate) room: Room,
}

impl Work {
    /// How many bytes of memory one term may take: the room has a place for what comes and what is sent besides.
    pub(crate) fn memory_max(&self) -> usize {
        self.room.bytes() / 2
    }

    /// Works on a term of this weight, of which something in this form is made, with the memory that it is told; after [`Problem::too_much_memory`] again with more, if there may be
    /// more. Gives what it gives, and the room that is taken, which the caller cuts down to what is left of it.
    ///
    /// # Errors
    /// Those of the work, or if there is no turn or no room for it.
    pub(crate) async fn run<T>(
        &self,
        weight: usize,
        to: Form,
        mut work: impl FnMut(usize) -> Result<T, Problem>,
    ) -> Result<(T, Held), Problem> {
        let mut held = Held::default();
        if weight <= if to.is_compressed() { LARGE_BYTES_COMPRESSED } else { LARGE_BYTES } {
            return work(SMALL_MEMORY).map(|done| (done, held));
        }
        let weight = weight.max(LARGE_BYTES + 1);
        let most = self.memory_max();
        let mut memory = (weight * USUAL).min(most);
        let turn = self.turns.wait(weight).await?;
        loop {
            self.room.fit(&mut held, memory).await?;
            match turn.run(|| work(memory)) {
                Err(problem) if problem.is_too_much_memory() && memory < most => memory = (memory * MORE).min(most),
                outcome => return outcome.map(|done| (done, held)),
            }
        }
    }
}

impl Problem {
    /// A term would take more memory than it may. [`Work::run`] may have more for it.
    pub(crate) fn too_much_memory(memory_max: usize) -> Self {
        let detail = format!("the term, or what is made of it, takes more than {memory_max} bytes of memory");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_MUCH_MEMORY, detail)
    }

    /// The same of all the memory, where a part of it was not enough.
    pub(crate) fn within(self, memory_max: usize) -> Self {
        if self.is_too_much_memory() { Self::too_much_memory(memory_max) } else { self }
    }

    fn is_too_much_memory(&self) -> bool {
        self.code() == TOO_MUCH_MEMORY
    }
}

/// The code of a problem.
pub(crate) const TOO_MUCH_MEMORY: &str = "too-much-memory";

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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_terms_take_turns_and_small_ones_go_by() {
        let turns = Turns::new(2);
        let first = turns.wait(LARGE_BYTES + 1).await.unwrap();
        let _second = turns.wait(LARGE_BYTES + 1).await.unwrap();
        assert_eq!(turns.wait(LARGE_BYTES + 1).await.err().unwrap().code(), "busy");
        assert_eq!(turns.wait(LARGE_BYTES).await.unwrap().run(|| 1), 1);
        drop(first);
        assert!(turns.wait(LARGE_BYTES + 1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_worked_on_takes_of_the_room_and_more_where_it_needs_more() {
        let work = Work { turns: Turns::new(4), room: Room::new(8 << 20) };
        let mut tried = Vec::new();
        let (_, held) = work
            .run(100_000, Form::JSON, |memory| {
                tried.push(memory);
                if tried.len() < 3 { Err(Problem::too_much_memory(memory)) } else { Ok(()) }
            })
            .await
            .unwrap();
        assert_eq!(tried, [400_000, 1_600_000, 4 << 20]);
        // Half of the room is taken, so that two more find none.
        let (_, other) = work.run(1 << 20, Form::JSON, |_| Ok(())).await.unwrap();
        assert_eq!(work.run(1 << 20, Form::JSON, |_| Ok(())).await.err().unwrap().code(), "busy");
        drop(other);
        let refused =
            work.run(1 << 20, Form::JSON, |memory| Err::<(), _>(Problem::too_much_memory(memory))).await.err().unwrap();
        assert_eq!((refused.code(), refused.status()), ("too-much-memory", StatusCode::PAYLOAD_TOO_LARGE));
        drop(held);
        assert!(work.run(1 << 20, Form::JSON, |_| Ok(())).await.is_ok());
    }

    #[test]
    fn a_compressed_term_weighs_what_it_inflates_to() {
        assert_eq!(weight(&[131, 80, 0, 32, 0, 0, 1, 2, 3]), 3 * 1032);
        assert_eq!(weight(&[&[131, 80, 0, 32, 0, 0][..], &[0; 4000]].concat()), 1 << 21);
        assert_eq!(weight(&[131, 80, 0, 0, 0, 1, 1, 2, 3]), 9);
        assert_eq!(weight(&[131, 106]), 2);
    }
}
