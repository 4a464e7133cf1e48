//! What the store counts, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::StoreError;

/// Upper bounds of the buckets of [`Histogram`], in microseconds. The last bucket has none.
const BOUNDS_MICROS: [u64; 16] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000,
];

/// Counted since the store was opened, but for the queue, which is as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// batches that wait for the writer, or are in its hands
    pub queued_batches: u64,
    /// memory that they take, in bytes
    pub queued_bytes: u64,
    /// batches that are durable
    pub batches: u64,
    /// writes in these batches, of which some may have cancelled each other
    pub rows: u64,
    /// appended rows that were deleted again before they reached the disk
    pub rows_cancelled: u64,
    /// batches that were withdrawn before they reached the disk; they count nowhere else
    pub withdrawn: u64,
    /// groups of batches that were committed together
    pub groups: u64,
    /// batches that failed by a precondition
    pub conflicts: u64,
    /// batches that failed by anything else, among them those that a full queue refused
    pub errors: u64,
    /// reads that were begun
    pub reads: u64,
    /// entries of an archive that its search index has not got yet, when it was last looked at
    pub search_behind: u64,
    /// entries that were looked at for the search index
    pub search_indexed: u64,
    /// how often a part of an archive, which is a month of a domain, was looked at for entries that its search index has not got
    pub search_looked: u64,
    /// for each group: from the moment its first batch was queued until all were durable
    pub commits: Histogram,
}

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// for each bucket its upper bound in microseconds (`None`: no bound) and how many fell in it and in none before
    pub buckets: Vec<(Option<u64>, u64)>,
    /// all of them together, in microseconds
    pub sum_micros: u64,
}

impl Histogram {
    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// Written by the writer and, for what is refused, by whoever commits. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    batches: AtomicU64,
    rows: AtomicU64,
    rows_cancelled: AtomicU64,
    withdrawn: AtomicU64,
    groups: AtomicU64,
    conflicts: AtomicU64,
    errors: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
    reads: Reads,
}

/// Written by every task that reads, so apart from the others.
#[derive(Default)]
#[repr(align(128))]
struct Reads(AtomicU64);

impl Counters {
    pub(crate) fn outcome(&self, writes: usize, outcome: &Result<(), StoreError>) {
        match outcome {
            Ok(()) => {
                self.batches.fetch_add(1, Relaxed);
                self.rows.fetch_add(writes as u64, Relaxed);
            }
            Err(StoreError::Conflict) => drop(self.conflicts.fetch_add(1, Relaxed)),
            Err(_) => drop(self.errors.fetch_add(1, Relaxed)),
        }
    }

    pub(crate) fn cancelled(&self, rows: usize) {
        self.rows_cancelled.fetch_add(rows as u64, Relaxed);
    }

    pub(crate) fn withdrawn(&self) {
        self.withdrawn.fetch_add(1, Relaxed);
    }

    pub(crate) fn begin_read(&self) {
        self.reads.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
        self.groups.fetch_add(1, Relaxed);
    }

    pub(crate) fn statistics(&self, queued_batches: usize, queued_bytes: usize) -> Statistics {
        let bounds = BOUNDS_MICROS.into_iter().map(Some).chain([None]);
        let buckets = bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Relaxed))).collect();
        Statistics {
            queued_batches: queued_batches as u64,
            queued_bytes: queued_bytes as u64,
            batches: self.batches.load(Relaxed),
            rows: self.rows.load(Relaxed),
            rows_cancelled: self.rows_cancelled.load(Relaxed),
            withdrawn: self.withdrawn.load(Relaxed),
            groups: self.groups.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            errors: self.errors.load(Relaxed),
            reads: self.reads.0.load(Relaxed),
            search_behind: 0,
            search_indexed: 0,
            search_looked: 0,
            commits: Histogram { buckets, sum_micros: self.sum_micros.load(Relaxed) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_in_the_first_bucket_that_holds_it() {
        let counters = Counters::default();
        for micros in [1, 50, 51, 5_000_000, 5_000_001] {
            counters.committed(Duration::from_micros(micros));
        }
        let commits = counters.statistics(0, 0).commits;
        let filled: Vec<_> = commits.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(Some(50), 2), (Some(100), 1), (Some(5_000_000), 1), (None, 1)]);
        assert_eq!((commits.count(), commits.sum_micros), (5, 10_000_103));
    }
}
