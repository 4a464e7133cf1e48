//! Several scenarios at the same time: all begin to measure when the last is ready.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::CrewError;

/// What a run says that could not begin because of another.
pub const WAITED_IN_VAIN: &str = "another scenario of the same phase could not begin";

/// How long one waits for the others.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Where runs wait for each other.
#[derive(Debug)]
pub struct Together {
    missing: AtomicUsize,
    given_up: AtomicBool,
}

impl Together {
    /// Of so many runs.
    pub fn new(runs: usize) -> Self {
        Self { missing: AtomicUsize::new(runs), given_up: AtomicBool::new(false) }
    }

    /// One run failed: the others need not wait.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Waits for the others.
    pub fn wait(&self) -> Result<(), CrewError> {
        let until = Instant::now() + PATIENCE;
        self.missing.fetch_sub(1, Ordering::SeqCst);
        while self.missing.load(Ordering::SeqCst) > 0 {
            if self.given_up.load(Ordering::SeqCst) || Instant::now() > until {
                return Err(CrewError::Worker(WAITED_IN_VAIN.into()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_for_one_that_failed_is_told() {
        let together = Arc::new(Together::new(2));
        let waiting = Arc::clone(&together);
        let thread = std::thread::spawn(move || waiting.wait().is_err());
        together.give_up();
        assert!(thread.join().expect("it does not panic"));
    }
}
