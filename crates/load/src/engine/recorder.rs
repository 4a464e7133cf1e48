//! Operations and their latencies, second by second and over the window that counts.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// One second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// Operations that ended in it.
    pub operations: u64,
    /// 99th percentile of their latencies, microseconds.
    pub p99_us: Option<f64>,
}

/// Counts. All times are microseconds of the engine's clock.
#[derive(Debug)]
pub struct Recorder {
    second: Histogram<u64>,
    in_second: u64,
    window: (u64, u64),
    counts_from: u64,
    /// Over the window.
    pub total: Histogram<u64>,
    /// How long the server took to say that it has stanzas (XEP-0198), of those that were asked about in the window.
    pub acks: Histogram<u64>,
    /// Latencies of what else a scenario measures, of what began in the window, by name.
    pub others: BTreeMap<&'static str, Histogram<u64>>,
    /// Operations that ended within the window.
    pub operations: u64,
    /// What went wrong.
    pub errors: BTreeMap<String, u64>,
}

impl Recorder {
    /// Nothing counts yet.
    pub fn new() -> Self {
        Self {
            second: histogram(),
            in_second: 0,
            window: (u64::MAX, u64::MAX),
            counts_from: 0,
            total: histogram(),
            acks: histogram(),
            others: BTreeMap::new(),
            operations: 0,
            errors: BTreeMap::new(),
        }
    }

    /// What follows counts from `start` to `end`.
    pub fn begin(&mut self, start: u64, end: u64) {
        *self = Self { window: (start, end), ..Self::new() };
    }

    /// The window that counts.
    pub fn window(&self) -> (u64, u64) {
        self.window
    }

    /// An operation that was meant to begin at `began` has ended. It counts where it ends, its latency where it began:
    /// what was asked for within the window and came late is in the distribution.
    pub fn record(&mut self, began: u64, now: u64) {
        self.count(now);
        if began >= self.counts_from && began < self.window.1 {
            // Cannot fail: it is within the bounds.
            self.second.saturating_record(now.saturating_sub(began).max(1));
        }
    }

    /// An operation without a latency has ended.
    pub fn count(&mut self, now: u64) {
        self.in_second += 1;
        if now >= self.window.0 && now < self.window.1 {
            self.operations += 1;
        }
    }

    /// What was asked about at `asked` is acknowledged.
    pub fn acknowledged(&mut self, asked: u64, now: u64) {
        if asked >= self.window.0 && asked < self.window.1 {
            self.acks.saturating_record(now.saturating_sub(asked).max(1));
        }
    }

    /// Something that is no operation by itself has ended.
    pub fn also(&mut self, what: &'static str, began: u64, now: u64) {
        if began >= self.window.0 && began < self.window.1 {
            let latencies = self.others.entry(what).or_insert_with(histogram);
            latencies.saturating_record(now.saturating_sub(began).max(1));
        }
    }

    /// Something went wrong.
    pub fn error(&mut self, what: &str) {
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(what.to_owned(), 1)),
        }
    }

    /// Ends a second, or a part of one where the window begins or ends.
    pub fn roll(&mut self, now: u64) -> Second {
        let p99_us = (!self.second.is_empty()).then(|| self.second.value_at_quantile(0.99) as f64);
        let second = Second { operations: std::mem::take(&mut self.in_second), p99_us };
        if now > self.window.0 {
            self.total.add(&self.second).expect("both have the same bounds");
        }
        if now >= self.window.0 {
            self.counts_from = self.window.0;
        }
        self.second.reset();
        second
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// For latencies in microseconds, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are right")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_in_the_window_is_in_the_distribution() {
        let mut recorder = Recorder::new();
        recorder.begin(100, 200);
        recorder.record(50, 90);
        assert_eq!(recorder.roll(100).operations, 1);
        recorder.record(90, 110);
        recorder.record(120, 170);
        let second = recorder.roll(200);
        assert_eq!((second.operations, second.p99_us), (2, Some(50.0)));
        recorder.record(190, 400);
        recorder.record(210, 220);
        recorder.roll(500);
        for (asked, now) in [(90, 110), (120, 150), (190, 450), (200, 201)] {
            recorder.acknowledged(asked, now);
            recorder.also("reflection", asked, now);
        }
        for latencies in [&recorder.acks, &recorder.others["reflection"]] {
            assert_eq!((latencies.len(), latencies.min(), latencies.max()), (2, 30, 260));
        }
        assert_eq!(recorder.operations, 2);
        assert_eq!((recorder.total.len(), recorder.total.max()), (2, 210));
    }

    #[test]
    fn errors_are_counted_by_name() {
        let mut recorder = Recorder::new();
        recorder.error("lost");
        recorder.error("lost");
        assert_eq!(recorder.errors["lost"], 2);
    }
}
