//! Memory that is free goes back to the system once connections have come and gone.
//!
//! The allocator keeps what a thread has freed for that thread, and finds out that it is whole pages only when the thread asks for
//! more. A thread with nothing to do never asks: after ten thousand sessions have left, their memory would stay.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use magpie_server::server::Server;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

/// How often it is looked whether connections came and went.
const LOOK: Duration = Duration::from_millis(500);

/// Looks after which memory is given back though connections still come and go.
const LOOKS_MAX: u32 = 20;

/// How long is waited for threads that are busy: they have another turn.
const BUSY_MAX: Duration = Duration::from_millis(20);

/// Gives back what is free on this thread.
pub(crate) fn give_back() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: any thread may call it at any time. It has no argument that could be wrong, it changes nothing but the
    // allocator's own books, and what is allocated stays where it is.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Gives back on all threads of the runtime whenever connections have come or gone and then no more do.
pub(crate) async fn keep_small(server: Arc<Server>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = 0;
    let mut changed = 0;
    loop {
        looks.tick().await;
        let turnover = server.deps.metrics.turnover();
        let still = turnover == known;
        known = turnover;
        if !still {
            changed += 1;
        }
        if changed > 0 && (still || changed > LOOKS_MAX) {
            changed = 0;
            give_back_everywhere().await;
        }
    }
}

/// A task for each thread, which stay until each thread had its turn: no thread takes two.
async fn give_back_everywhere() {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let round = ROUND.fetch_add(1, Ordering::Relaxed) + 1;
    let threads = Handle::current().metrics().num_workers();
    let done = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + BUSY_MAX;
    let visits = (0..threads).map(|_| {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            while done.load(Ordering::Relaxed) < threads && Instant::now() < end {
                if LAST.replace(round) != round {
                    give_back();
                    done.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        // Nothing in it panics, and at the end of the server nobody needs it.
        let _ = visit.await;
    }
    // Pages go back to the system by one thread at a time: the others passed by, and left theirs to this one.
    give_back();
}

#[cfg(all(test, feature = "mimalloc"))]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn what_the_program_allocates_comes_from_the_allocator_that_gives_back() {
        let text = String::from("a session");
        // SAFETY: any pointer may be asked about; it is compared, not followed.
        assert!(unsafe { libmimalloc_sys::mi_is_in_heap_region(text.as_ptr().cast()) });
        give_back();
        assert_eq!(text, "a session");
    }
}
