//! The server's processes while a run goes on.

use std::time::{Duration, Instant};

use crate::result::Cpu;
use crate::worker::times;

/// CPU time of the server's processes, looked at once a second and at both ends of the window.
pub(super) struct ServerWatch {
    pids: Vec<u32>,
    start: Instant,
    /// When to look, seconds, with what was seen then.
    times: Vec<(f64, Option<Cpu>)>,
    window: (f64, f64),
}

impl ServerWatch {
    pub(super) fn new(pids: Vec<u32>, start: Instant, warmup: f64, seconds: f64) -> Self {
        let end = warmup + seconds;
        let mut times: Vec<f64> = (0..).map(f64::from).take_while(|second| *second < end).collect();
        times.extend([warmup, end]);
        times.sort_by(f64::total_cmp);
        times.dedup();
        let times = if pids.is_empty() { Vec::new() } else { times };
        Self { pids, start, times: times.into_iter().map(|time| (time, None)).collect(), window: (warmup, end) }
    }

    /// Looks where it is time to. When to look again.
    pub(super) fn look(&mut self) -> Option<Instant> {
        for (time, seen) in &mut self.times {
            if seen.is_none() {
                let due = self.start + Duration::from_secs_f64(*time);
                if due > Instant::now() {
                    return Some(due);
                }
                *seen = Some(server_cpu(&self.pids));
            }
        }
        None
    }

    /// The window ended before its time.
    pub(super) fn end(&mut self) {
        if let Some((_, seen)) = self.times.last_mut() {
            seen.get_or_insert_with(|| server_cpu(&self.pids));
        }
    }

    fn at(&self, second: f64) -> Option<Cpu> {
        self.times.iter().find(|(time, _)| *time == second)?.1
    }

    pub(super) fn cpu(&self) -> Option<Cpu> {
        let (before, after) = (self.at(self.window.0)?, self.at(self.window.1)?);
        Some(Cpu { user: after.user - before.user, system: after.system - before.system })
    }

    pub(super) fn per_second(&self) -> Vec<f64> {
        let whole: Vec<f64> = self
            .times
            .iter()
            .filter(|(time, _)| time.fract() == 0.0)
            .filter_map(|(_, cpu)| Some(cpu.as_ref()?.total()))
            .collect();
        whole.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn server_cpu(pids: &[u32]) -> Cpu {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let all = pids.iter().filter_map(|pid| times(&format!("/proc/{pid}/stat")));
    let (user, system) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Cpu { user: user as f64 / ticks, system: system as f64 / ticks }
}

/// Memory of processes that is theirs alone, and their share of the rest, bytes.
pub(super) fn memory(pids: impl IntoIterator<Item = u32>) -> u64 {
    let of = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.into_iter().filter_map(of).sum::<u64>() << 10
}

/// The kernel's memory for sockets and the like, bytes: what is neither the processes' nor the page cache.
pub(super) fn kernel_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    ["Slab", "PageTables", "KernelStack", "Percpu"].map(of).iter().sum::<u64>() << 10
}
