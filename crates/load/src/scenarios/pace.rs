//! An open loop's times: even distances, whatever comes back.

/// Says who is to act when. Times are microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: f64,
    start: u64,
    count: u64,
}

impl Pace {
    /// So many a second, from `start` on.
    pub fn new(per_second: f64, start: u64) -> Self {
        Self { per_second, start, count: 0 }
    }

    /// Begins anew.
    pub fn restart(&mut self, start: u64) {
        *self = Self::new(self.per_second, start);
    }

    /// The time of the next one, and its number, where it has come; otherwise the time to wait for.
    pub fn next(&mut self, now: u64) -> Result<(u64, u64), u64> {
        let due = self.start + (self.count as f64 * 1e6 / self.per_second) as u64;
        if due > now {
            return Err(due);
        }
        self.count += 1;
        Ok((due, self.count - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_keeps_the_time_that_was_meant() {
        let mut pace = Pace::new(1000.0, 5_000);
        assert_eq!(pace.next(4_999), Err(5_000));
        assert_eq!(pace.next(7_500), Ok((5_000, 0)));
        assert_eq!(pace.next(7_500), Ok((6_000, 1)));
        assert_eq!(pace.next(7_500), Ok((7_000, 2)));
        assert_eq!(pace.next(7_500), Err(8_000));
    }
}
