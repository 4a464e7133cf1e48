//! Ids that are ordered by time and unique without coordination.
//!
//! From the top: 44 bits of Unix milliseconds (the highest stays zero until the year 2248, so that an id is a positive
//! 64-bit integer in every database), 12 bits of counter, 8 bits of node. There is one node so far: 0.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

const NODE_BITS: u32 = 8;
const COUNTER_BITS: u32 = 12;
const TIME_SHIFT: u32 = NODE_BITS + COUNTER_BITS;

/// The id of a log entry: ordered by time, unique in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub u64);

impl LogId {
    /// The largest id that a log takes.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The smallest id of this moment, in Unix milliseconds: where a range by time begins.
    pub const fn at_millis(millis: u64) -> Self {
        if millis > Self::MAX.millis() { Self::MAX } else { Self(millis << TIME_SHIFT) }
    }

    /// When it was given, in Unix milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 >> TIME_SHIFT
    }
}

/// The month of UTC in which an id was given, counted from January 1970.
pub(crate) fn month(id: LogId) -> i64 {
    // Days since 0000-03-01, in the Gregorian calendar's cycles of 400 years: the leap day is the last of such a year.
    let day = i64::try_from(id.millis() / MILLIS_PER_DAY).expect("44 bits of milliseconds") + 719_468;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    (cycle * 400 + year - 1970) * 12 + month + 2
}

/// When a month begins, in Unix milliseconds.
pub(crate) fn month_begin(month: i64) -> u64 {
    // As above: the year begins in March.
    let months = month + 1970 * 12 - 2;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let day = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100 + (153 * month + 2) / 5;
    u64::try_from(cycle * 146_097 + day - 719_468).unwrap_or(0) * MILLIS_PER_DAY
}

const MILLIS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// How far the ids may run ahead of what is stored of them. After a crash they go on from there, so this is also by how much
/// their time can then be wrong.
const AHEAD_MILLIS: u64 = 1000;

/// Gives ids. What is counted is the id without its node bits.
pub(crate) struct Ids {
    last: AtomicU64,
}

impl Ids {
    /// Every id given from now on is larger than `last`.
    pub(crate) fn after(last: LogId) -> Self {
        Self { last: AtomicU64::new(last.0 >> NODE_BITS) }
    }

    pub(crate) fn next(&self) -> LogId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.next_at(now)
    }

    /// A full counter borrows from the next millisecond.
    pub(crate) fn next_at(&self, millis: u64) -> LogId {
        let now = LogId::at_millis(millis).0 >> NODE_BITS;
        let next = |last: u64| now.max(last + 1);
        // Orders nothing but itself, so it may be relaxed.
        let last = self.last.fetch_update(Relaxed, Relaxed, |last| Some(next(last))).expect("always gives a value");
        LogId(next(last) << NODE_BITS)
    }

    /// The largest id that was given.
    pub(crate) fn last(&self) -> LogId {
        LogId(self.last.load(Relaxed) << NODE_BITS)
    }

    /// What to store so that nothing up to it need be stored again.
    pub(crate) fn ceiling(&self) -> LogId {
        LogId(self.last().0 + (AHEAD_MILLIS << TIME_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_when_the_clock_goes_back() {
        let ids = Ids::after(LogId(0));
        let mut before = LogId(0);
        for millis in [5, 5, 5, 6, 2, 6, 7] {
            let id = ids.next_at(millis);
            assert!(id > before, "{id:?} after {before:?}");
            before = id;
        }
        assert_eq!(before.millis(), 7);
    }

    #[test]
    fn a_full_counter_borrows_from_the_next_millisecond() {
        let ids = Ids::after(LogId(0));
        let given: Vec<_> = (0..5000).map(|_| ids.next_at(9)).collect();
        assert!(given.is_sorted() && given.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!((given[0].millis(), given[4999].millis()), (9, 10));
    }

    #[test]
    fn an_id_begins_with_its_time_and_leaves_the_node_free() {
        let ids = Ids::after(LogId(0));
        let id = ids.next_at(1_800_000_000_000);
        assert_eq!(id, LogId::at_millis(1_800_000_000_000));
        assert_eq!(ids.next_at(0).0 - id.0, 1 << NODE_BITS);
        assert_eq!(LogId::at_millis(u64::MAX), LogId::MAX);
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        let of = |seconds: u64| month(LogId::at_millis(seconds * 1000));
        for (seconds, expected) in [
            (0, 0),
            (31 * 86_400 - 1, 0),
            (31 * 86_400, 1),
            // 2000-02-29, 2000-03-01, 2026-12-31T23:59:59, 2027-01-01, 2100-02-28T23:59:59, 2100-03-01
            (951_782_400, 361),
            (951_868_800, 362),
            (1_798_761_599, 683),
            (1_798_761_600, 684),
            (4_107_542_399, 1561),
            (4_107_542_400, 1562),
        ] {
            assert_eq!(of(seconds), expected, "{seconds}");
        }
        for number in 0..3340 {
            let begin = month_begin(number);
            assert_eq!(of(begin / 1000), number);
            assert!(number == 0 || of(begin / 1000 - 1) == number - 1, "{number}");
        }
    }

    #[test]
    fn ids_of_many_threads_are_all_different() {
        let ids = Ids::after(LogId(0));
        let mut all = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..2000).map(|_| ids.next()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("does not panic")).collect::<Vec<_>>()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8000);
    }
}
