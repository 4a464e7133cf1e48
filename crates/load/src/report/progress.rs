//! Progress of a run on standard error: a line that changes in a terminal, one line per phase elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Sessions are made.
    Connecting {
        /// How many there will be.
        sessions: u64,
    },
    /// Operations run and do not count.
    WarmingUp {
        /// For how long.
        seconds: f64,
    },
    /// Operations run and count.
    Measuring {
        /// For how long.
        seconds: f64,
    },
    /// Sessions end.
    Ending,
}

/// How it stands at a moment; the caller gives one a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    /// Seconds since the phase began.
    pub seconds: f64,
    /// Sessions that are there.
    pub sessions: u64,
    /// Sessions a second, or operations a second, in the last second.
    pub rate: f64,
    /// The median of latency in the last second, microseconds.
    pub p50_us: Option<f64>,
    /// Its 99th percentile, microseconds.
    pub p99_us: Option<f64>,
    /// CPU seconds of the server in the last second.
    pub server_cpu: Option<f64>,
    /// Memory of the server, bytes.
    pub server_memory: Option<u64>,
    /// Errors since the run began.
    pub errors: u64,
}

/// Shows the phases of one run. It writes nothing to standard output.
#[derive(Debug)]
pub struct Progress {
    title: String,
    unit: String,
    phase: Option<Phase>,
    last: Now,
    bar: ProgressBar,
    terminal: bool,
    lines: fn(&str),
}

impl Progress {
    /// Of a run with this title (`Magpie pairs`) that counts these (`message`).
    pub fn new(title: &str, unit: &str) -> Self {
        Self::with(title, unit, std::io::stderr().is_terminal(), |line| eprintln!("{line}"))
    }

    fn with(title: &str, unit: &str, terminal: bool, lines: fn(&str)) -> Self {
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(title.to_owned());
        Self { title: title.to_owned(), unit: unit.to_owned(), phase: None, last: Now::default(), bar, terminal, lines }
    }

    /// A phase begins; the one before is done.
    pub fn phase(&mut self, phase: Phase) {
        self.close();
        self.phase = Some(phase);
        self.last = Now::default();
        if self.terminal {
            self.bar.set_message(line(phase, &self.unit, &self.last));
            self.bar.enable_steady_tick(Duration::from_millis(125));
        }
    }

    /// How it stands.
    pub fn now(&mut self, now: Now) {
        self.last = now;
        if let Some(phase) = self.phase {
            self.bar.set_message(line(phase, &self.unit, &now));
        }
    }

    /// The run is over; the line goes, so that the result can stand in its place.
    pub fn finish(&mut self) {
        self.close();
        self.bar.finish_and_clear();
    }

    /// Where no terminal shows the line as it changes, its last state is the phase's only line.
    fn close(&mut self) {
        if let Some(phase) = self.phase.take().filter(|phase| *phase != Phase::Ending && !self.terminal) {
            (self.lines)(&format!("{}: {}", self.title, line(phase, &self.unit, &self.last)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The line of a phase: `connecting 12 000/19 000 at 2 341/s`.
fn line(phase: Phase, unit: &str, now: &Now) -> String {
    let mut parts = Vec::new();
    match phase {
        Phase::Connecting { sessions } => parts.push(format!(
            "connecting {}/{} at {}/s",
            units::count(now.sessions as f64),
            units::count(sessions as f64),
            units::count(now.rate)
        )),
        Phase::WarmingUp { seconds } => {
            parts.push(format!("warming up {:.0}/{seconds:.0} s", now.seconds.min(seconds)))
        }
        Phase::Measuring { seconds } => parts.push(format!("measuring {:.0}/{seconds:.0} s", now.seconds.min(seconds))),
        Phase::Ending => parts.push(format!("ending {} sessions", units::count(now.sessions as f64))),
    }
    if let Phase::WarmingUp { .. } | Phase::Measuring { .. } = phase {
        parts.push(format!("{} {}/s", units::count(now.rate), units::plural(unit)));
        if let (Some(p50), Some(p99)) = (now.p50_us, now.p99_us) {
            parts.push(format!("p50 {}, p99 {}", units::micros(p50), units::micros(p99)));
        }
    }
    if let Some(cpu) = now.server_cpu {
        parts.push(format!("server {}", units::cores(cpu)));
    }
    if let Some(memory) = now.server_memory {
        parts.push(units::bytes(memory as f64));
    }
    if now.errors > 0 {
        parts.push(format!("{} errors", units::count(now.errors as f64)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_line_says_what_there_is_to_say() {
        let plain = |phase, now: Now| line(phase, "message", &now).replace('\u{202f}', " ");
        let now = Now { sessions: 12_000, rate: 2_341.2, ..Now::default() };
        assert_eq!(plain(Phase::Connecting { sessions: 19_000 }, now), "connecting 12 000/19 000 at 2 341/s");
        let now = Now {
            seconds: 11.7,
            rate: 22_700.0,
            p50_us: Some(800.0),
            p99_us: Some(11_000.0),
            server_cpu: Some(1.234),
            server_memory: Some(3 << 20),
            errors: 3,
            ..Now::default()
        };
        assert_eq!(
            plain(Phase::Measuring { seconds: 10.0 }, now),
            "measuring 10/10 s, 22 700 messages/s, p50 800 µs, p99 11 ms, server 1.23 cores, 3 MiB, 3 errors"
        );
    }

    #[test]
    fn without_a_terminal_each_phase_is_one_line() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut progress =
            Progress::with("relay pairs", "message", false, |line| LINES.lock().unwrap().push(line.to_owned()));
        progress.phase(Phase::Connecting { sessions: 2 });
        progress.now(Now { sessions: 1, rate: 1.0, ..Now::default() });
        progress.now(Now { sessions: 2, rate: 1.0, ..Now::default() });
        progress.phase(Phase::Measuring { seconds: 1.0 });
        progress.now(Now { seconds: 1.0, rate: 7.0, ..Now::default() });
        progress.phase(Phase::Ending);
        progress.finish();
        let lines = LINES.lock().unwrap();
        assert_eq!(*lines, ["relay pairs: connecting 2/2 at 1/s", "relay pairs: measuring 1/1 s, 7 messages/s"]);
    }
}
