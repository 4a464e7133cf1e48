//! How fast one peer may send.

use std::time::Duration;

use tokio::time::Instant;

/// How fast one peer may send: a bucket of one second's worth, which each read empties and time fills. A peer that is faster is read later.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// When the bucket is full again, as long as that is ahead.
    full: Option<Instant>,
}

impl Allowance {
    /// Bytes were read. `per_second_max` 0: as fast as it likes.
    pub(super) fn spend(&mut self, bytes: usize, per_second_max: u64, now: Instant) {
        if per_second_max == 0 {
            return;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / per_second_max as f64);
        self.full = Some(self.full.filter(|full| *full > now).unwrap_or(now) + cost);
    }

    /// Until when nothing may be read. `since`: any time that is past, of which the clock need not be asked.
    pub(super) fn wait(&self, since: Instant) -> Option<Instant> {
        let until = self.full.map(|full| full - Duration::from_secs(1)).filter(|until| *until > since)?;
        (until > Instant::now()).then_some(until)
    }
}
