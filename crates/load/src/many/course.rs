//! How the logins went from the first to the last.

use crate::result::Cpu;

/// How it stood at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// Seconds since the first login began.
    pub(super) seconds: f64,
    /// Sessions that are held.
    pub(super) sessions: u64,
    /// CPU time of all servers so far.
    pub(super) server_cpu: Cpu,
}

/// The points, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Course {
    /// The first is the beginning, without sessions.
    pub(super) points: Vec<Point>,
}

/// What logins took in a part of the course.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Logins a second.
    pub(super) logins_per_second: f64,
    /// CPU time of the servers for each, microseconds.
    pub(super) server_us: f64,
}

impl Course {
    /// Sessions that are held at its end.
    pub(super) fn held(&self) -> u64 {
        self.points.last().map_or(0, |point| point.sessions)
    }

    /// Seconds from the first login to the last.
    pub(super) fn seconds(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.seconds)
    }

    /// Leaves out what came after so many sessions were held: they were given up.
    pub(super) fn forget_beyond(&mut self, sessions: u64) {
        self.points.retain(|point| point.sessions <= sessions);
    }

    /// The pace between two parts of all the sessions, as 0.9 and 1.0 for the last tenth. None where nothing was seen.
    pub(super) fn pace(&self, from: f64, to: f64) -> Option<Pace> {
        let held = self.held() as f64;
        let (from, to) = (self.at(held * from)?, self.at(held * to)?);
        let (sessions, seconds) = (to.0 - from.0, to.1 - from.1);
        (sessions > 0.0 && seconds > 0.0)
            .then(|| Pace { logins_per_second: sessions / seconds, server_us: (to.2 - from.2) * 1e6 / sessions })
    }

    /// Sessions, seconds and CPU seconds when there were so many sessions; between two points as on a straight line.
    fn at(&self, sessions: f64) -> Option<(f64, f64, f64)> {
        let after = self.points.iter().position(|point| point.sessions as f64 >= sessions)?;
        let end = self.points[after];
        let Some(begin) = after.checked_sub(1).map(|before| self.points[before]) else {
            return Some((end.sessions as f64, end.seconds, end.server_cpu.total()));
        };
        let part = (sessions - begin.sessions as f64) / (end.sessions - begin.sessions).max(1) as f64;
        let between = |begin: f64, end: f64| begin + (end - begin) * part;
        Some((sessions, between(begin.seconds, end.seconds), between(begin.server_cpu.total(), end.server_cpu.total())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A hundred sessions a second, then fifty; 1 ms of CPU time each, then 2 ms.
    fn slower() -> Course {
        let points = [(0.0, 0, 0.0), (1.0, 100, 0.1), (3.0, 200, 0.3)];
        let points = points.map(|(seconds, sessions, system)| {
            let server_cpu = Cpu { user: 0.0, system };
            Point { seconds, sessions, server_cpu }
        });
        Course { points: points.to_vec() }
    }

    #[test]
    fn the_last_tenth_is_told_from_the_first() {
        let (first, last) = (slower().pace(0.0, 0.1).unwrap(), slower().pace(0.9, 1.0).unwrap());
        assert!((first.logins_per_second - 100.0).abs() < 1e-6 && (first.server_us - 1000.0).abs() < 1e-6, "{first:?}");
        assert!((last.logins_per_second - 50.0).abs() < 1e-6 && (last.server_us - 2000.0).abs() < 1e-6, "{last:?}");
        let all = slower().pace(0.0, 1.0).unwrap();
        assert!((all.logins_per_second - 200.0 / 3.0).abs() < 1e-6, "{all:?}");
    }

    #[test]
    fn what_was_given_up_is_not_held() {
        let mut course = slower();
        course.forget_beyond(150);
        assert_eq!((course.held(), course.seconds()), (100, 1.0));
        assert_eq!(Course::default().pace(0.0, 1.0), None);
    }
}
