//! The server's processes while a run goes on.

use std::io;
use std::time::{Duration, Instant};

use crate::measure::{KernelMemory, Processes};
use crate::result::Cpu;

/// CPU time and memory of the server, looked at once a second and at both ends of the window.
pub(super) struct ServerWatch {
    processes: Option<Processes>,
    start: Instant,
    looks: Vec<Look>,
    window: (f64, f64),
}

/// What is to be seen at a moment.
struct Look {
    second: f64,
    seen: Option<(Cpu, u64)>,
}

impl ServerWatch {
    pub(super) fn new(processes: Option<Processes>, start: Instant, warmup: f64, seconds: f64) -> Self {
        let end = warmup + seconds;
        let mut times: Vec<f64> = (0..).map(f64::from).take_while(|second| *second < end).collect();
        times.extend([warmup, end]);
        times.sort_by(f64::total_cmp);
        times.dedup();
        let times = if processes.is_none() { Vec::new() } else { times };
        let looks = times.into_iter().map(|second| Look { second, seen: None }).collect();
        Self { processes, start, looks, window: (warmup, end) }
    }

    /// Looks where it is time to. When to look again.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let processes = self.processes.as_mut()?;
        for look in self.looks.iter_mut().filter(|look| look.seen.is_none()) {
            let due = self.start + Duration::from_secs_f64(look.second);
            if due > Instant::now() {
                return Some(due);
            }
            look.seen = Some((processes.cpu(), processes.memory().bytes));
        }
        None
    }

    /// All is measured, perhaps before its time.
    pub(super) fn end(&mut self) {
        if let (Some(processes), Some(last)) = (&mut self.processes, self.looks.last_mut()) {
            last.seen.get_or_insert_with(|| (processes.cpu(), processes.memory().bytes));
        }
    }

    /// What the window took.
    pub(super) fn cpu(&self) -> Option<Cpu> {
        let at = |second: f64| self.looks.iter().find(|look| look.second == second)?.seen;
        Some(at(self.window.1)?.0.since(at(self.window.0)?.0))
    }

    /// CPU seconds in each second, and memory at its end, bytes.
    pub(super) fn per_second(&self) -> Vec<(f64, u64)> {
        let whole = self.looks.iter().filter(|look| look.second.fract() == 0.0).filter_map(|look| look.seen);
        let whole: Vec<(f64, u64)> = whole.map(|(cpu, memory)| (cpu.total(), memory)).collect();
        whole.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1)).collect()
    }
}

/// Memory of these processes, bytes.
pub(super) fn memory(pids: impl IntoIterator<Item = u32>) -> io::Result<u64> {
    Ok(Processes::of(pids)?.memory().bytes)
}

/// The server's memory and the kernel's, bytes.
pub(super) fn server_memory(processes: &mut Option<Processes>) -> io::Result<Option<(u64, u64)>> {
    let Some(processes) = processes else { return Ok(None) };
    Ok(Some((processes.memory().bytes, KernelMemory::read()?.bytes())))
}
