//! The store's own threads, and how to wait for their end.

use std::cell::Cell;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

/// How long a thread has nothing to do before it lets go of memory that makes its work cheaper.
pub(crate) const REST: Duration = Duration::from_secs(1);

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        IS_OWN.set(true);
        run();
    })
}

/// Returns when the threads have ended, unless this is one of them: a waker that they call may drop the last handle of the
/// store, and then nobody is left to wait for.
pub(crate) fn join(threads: &Mutex<Vec<JoinHandle<()>>>) {
    if !IS_OWN.get() {
        for thread in threads.lock().drain(..) {
            // A panic there has been reported, and what it owed is answered.
            let _ = thread.join();
        }
    }
}
