//! A run second by second: what the server used, beside what the generator counted.

use std::time::{Duration, Instant};

use super::Processes;
use crate::result::{Cpu, Sample};

const SECOND: Duration = Duration::from_secs(1);

/// What the generator counted since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Operations done.
    pub operations: u64,
    /// Sessions that are there now.
    pub sessions: u64,
    /// The 99th percentile of latency, microseconds; none where nothing was measured.
    pub p99_us: Option<f64>,
}

/// Takes one sample a second. It has no clock: the caller says what time it is.
///
/// A caller that comes late gets one sample for all the time since the last; `Sample::second` says when it was taken, so
/// that a rate is operations by the time between two samples.
#[derive(Debug)]
pub struct Sampler {
    processes: Option<Processes>,
    began: Instant,
    due: Instant,
    cpu: Cpu,
}

impl Sampler {
    /// Starts now; `processes` is the server's, none where it is not known: then its figures are 0.
    pub fn new(mut processes: Option<Processes>, now: Instant) -> Self {
        let cpu = processes.as_mut().map(Processes::cpu).unwrap_or_default();
        Self { processes, began: now, due: now + SECOND, cpu }
    }

    /// How long until the next sample; zero when it is due.
    pub fn due_in(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Takes a sample. The next one is due on the next full second since the start.
    pub fn sample(&mut self, now: Instant, counted: Counted) -> Sample {
        let cpu = self.cpu();
        let used = cpu.since(self.cpu);
        self.cpu = cpu;
        while self.due <= now {
            self.due += SECOND;
        }
        Sample {
            second: now.saturating_duration_since(self.began).as_secs_f64(),
            operations: counted.operations,
            server_cpu: used.total(),
            server_memory: self.memory(),
            sessions: counted.sessions,
            p99_us: counted.p99_us,
        }
    }

    /// CPU time of the server since it started, for the difference over what is measured.
    pub fn cpu(&mut self) -> Cpu {
        self.processes.as_mut().map(Processes::cpu).unwrap_or_default()
    }

    /// Memory of the server now, bytes.
    pub fn memory(&mut self) -> u64 {
        self.processes.as_mut().map_or(0, |processes| processes.memory().bytes)
    }

    /// The server's processes, none where they are not known.
    pub fn processes(&mut self) -> Option<&mut Processes> {
        self.processes.as_mut()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_late_caller_gets_one_sample_and_the_grid_stays() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sampler = Sampler::new(None, start);
        assert_eq!(sampler.due_in(at(400)), Duration::from_millis(600));
        let counted = Counted { operations: 12, sessions: 3, p99_us: Some(7.0) };
        let sample = sampler.sample(at(2_500), counted);
        assert_eq!(sample, Sample { second: 2.5, operations: 12, sessions: 3, p99_us: Some(7.0), ..Sample::default() });
        assert_eq!(sampler.due_in(at(2_500)), Duration::from_millis(500));
        assert_eq!(sampler.due_in(at(3_100)), Duration::ZERO);
    }

    #[test]
    fn cpu_time_is_what_was_used_since_the_last_sample() {
        let start = Instant::now();
        let mut sampler = Sampler::new(Some(Processes::of([std::process::id()]).unwrap()), start);
        let cpu = sampler.cpu();
        let mut hash = 0_u64;
        while sampler.cpu().since(cpu).total() < 0.2 {
            for n in 0..1_000_000_u64 {
                hash = std::hint::black_box(hash.wrapping_mul(31).wrapping_add(n));
            }
        }
        let first = sampler.sample(start + SECOND, Counted::default());
        assert!(first.server_cpu >= 0.2 && first.server_memory > 1 << 20, "{first:?}");
        let total = sampler.cpu().total();
        let second = sampler.sample(start + 2 * SECOND, Counted::default());
        assert!(second.server_cpu < total, "a sample holds its own second only: {second:?} of {total}");
    }
}
