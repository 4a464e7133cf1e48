//! A worker process: takes commands as lines of JSON, answers with events as lines of JSON.
//!
//! It ends when its standard input ends, so that no worker outlives its parent.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, World};
use crate::plan::Plan;
use crate::result::Cpu;
use crate::scenarios::contacts::{self, Contacts};

/// What a parent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// What it is all about; comes first.
    Prepare(Box<Plan>),
    /// Bring all sessions up; answered by [`Event::Connected`].
    Connect,
    /// Make everybody in a group everybody's contact; answered by [`Event::HaveContacts`].
    Contacts {
        /// Contacts of each user.
        count: u32,
    },
    /// Do what the scenario needs before it can begin; answered by [`Event::PreparedScenario`].
    PrepareScenario,
    /// Let them do what the scenario says; answered by [`Event::Measured`].
    Measure {
        /// Seconds that do not count.
        warmup: f64,
        /// Seconds that count.
        seconds: f64,
    },
    /// Take away what the scenario has made at the server, and end all sessions; answered by [`Event::Disconnected`].
    Disconnect {
        /// Without a word.
        abruptly: bool,
    },
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It has understood the plan.
    Prepared,
    /// So many sessions are there, while they are being brought up.
    Progress {
        /// Sessions that are ready.
        up: u32,
    },
    /// All sessions are there.
    Connected {
        /// How long it took, seconds.
        seconds: f64,
    },
    /// Everybody has contacts.
    HaveContacts {
        /// Subscriptions that were asked for.
        made: u64,
    },
    /// The scenario can begin.
    PreparedScenario {
        /// How long it took, seconds.
        seconds: f64,
    },
    /// One second of measuring.
    Second {
        /// Which, counted from 0, its warm-up included.
        second: u32,
        /// Operations that ended in it.
        operations: u64,
        /// 99th percentile of their latencies, microseconds.
        p99_us: Option<f64>,
        /// Sessions that are ready.
        up: u32,
    },
    /// All that was measured; what follows ends what was begun.
    Measured(Box<Measured>),
    /// All sessions are gone.
    Disconnected,
    /// It cannot go on.
    Failed {
        /// Why.
        error: String,
    },
}

/// What one worker measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Operations that ended within the window.
    pub operations: u64,
    /// How long the window was.
    pub seconds: f64,
    /// Of their latencies in microseconds: HdrHistogram V2, compressed, base64.
    pub histogram: String,
    /// The same of how long acknowledgements took.
    pub acks: String,
    /// The same of what else the scenario measures, by its name.
    #[serde(default)]
    pub others: std::collections::BTreeMap<String, String>,
    /// What went wrong.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// What the worker itself took while it counted.
    pub cpu: Cpu,
    /// Of the scenario; to be added up.
    pub figures: Vec<(String, f64)>,
}

/// How often a worker says how far it is, microseconds.
const PROGRESS_US: u64 = 250_000;

/// How long a server may take to take away what a scenario has made, microseconds.
const LEAVE_US_MAX: u64 = 20_000_000;

/// Runs until the parent is done.
pub fn run() -> io::Result<()> {
    let Some(Command::Prepare(plan)) = next_command()? else { return Ok(()) };
    raise_file_limit();
    let scenario = plan.work.scenario(&plan);
    let world = match World::new(*plan) {
        Ok(world) => world,
        Err(error) => return say(&Event::Failed { error: error.to_string() }),
    };
    let mut engine = Engine { world, scenario };
    engine.watch(io::stdin())?;
    say(&Event::Prepared)?;
    loop {
        if !engine.turn(u64::MAX)? {
            continue;
        }
        let Some(command) = next_command()? else { return Ok(()) };
        match command {
            Command::Prepare(_) => {}
            Command::Connect => connect(&mut engine)?,
            Command::Contacts { count } => make_contacts(&mut engine, count)?,
            Command::PrepareScenario => prepare_scenario(&mut engine)?,
            Command::Measure { warmup, seconds } => measure(&mut engine, warmup, seconds)?,
            Command::Disconnect { abruptly } => disconnect(&mut engine, abruptly)?,
        }
    }
}

fn connect(engine: &mut Engine) -> io::Result<()> {
    let all = engine.world.len();
    let start = engine.world.micros();
    engine.world.now = start;
    engine.world.recorder.errors.clear();
    engine.world.connect(0..all);
    let mut said = start;
    while engine.world.up() < all {
        if engine.turn(said + PROGRESS_US)? {
            return Ok(());
        }
        let now = engine.world.micros();
        if let Some((error, _)) = engine.world.recorder.errors.first_key_value() {
            let up = engine.world.up();
            return say(&Event::Failed { error: format!("{error} ({up} of {all} sessions were there)") });
        }
        if now >= said + PROGRESS_US {
            said = now;
            say(&Event::Progress { up: engine.world.up() })?;
        }
    }
    say(&Event::Connected { seconds: (engine.world.micros() - start) as f64 / 1e6 })
}

fn prepare_scenario(engine: &mut Engine) -> io::Result<()> {
    let start = engine.world.micros();
    engine.world.now = start;
    engine.world.recorder.errors.clear();
    engine.scenario.prepare(&mut engine.world);
    let mut said = start;
    while !engine.scenario.is_prepared(&engine.world) {
        if engine.turn(said + PROGRESS_US)? {
            return Ok(());
        }
        if let Some((error, _)) = engine.world.recorder.errors.first_key_value() {
            return say(&Event::Failed { error: format!("while it was prepared: {error}") });
        }
        if engine.world.micros() >= said + PROGRESS_US {
            said = engine.world.micros();
            say(&Event::Progress { up: engine.world.up() })?;
        }
    }
    say(&Event::PreparedScenario { seconds: (engine.world.micros() - start) as f64 / 1e6 })
}

fn make_contacts(engine: &mut Engine, count: u32) -> io::Result<()> {
    engine.world.now = engine.world.micros();
    let contacts = Contacts::new(count, engine.world.len());
    let scenario = std::mem::replace(&mut engine.scenario, Box::new(contacts));
    let figure = |engine: &Engine, index: usize| engine.scenario.figures(&engine.world)[index].1;
    engine.scenario.begin(&mut engine.world);
    engine.world.wake_scenario();
    let mut said = engine.world.now;
    while !engine.scenario.is_done(&engine.world) {
        if engine.turn(said + PROGRESS_US)? {
            return Ok(());
        }
        if let Some((error, _)) = engine.world.recorder.errors.first_key_value() {
            return say(&Event::Failed { error: format!("while contacts were made: {error}") });
        }
        if engine.world.micros() >= said + PROGRESS_US {
            said = engine.world.micros();
            say(&Event::Progress { up: figure(engine, contacts::READY) as u32 })?;
        }
    }
    let made = figure(engine, contacts::MADE) as u64;
    engine.scenario = scenario;
    say(&Event::HaveContacts { made })
}

fn measure(engine: &mut Engine, warmup: f64, seconds: f64) -> io::Result<()> {
    let micros = |seconds: f64| (seconds * 1e6) as u64;
    let start = engine.world.micros();
    let (begin, mut end) = (start + micros(warmup), start + micros(warmup + seconds));
    let mut seconds = seconds;
    engine.world.now = start;
    engine.world.recorder.begin(begin, end);
    engine.scenario.begin(&mut engine.world);
    engine.world.wake_scenario();
    engine.settle();
    let (mut second, mut operations, mut p99_us) = (0, 0, None);
    let mut cpu = cpu_now();
    let mut edge = start;
    while edge < end {
        let whole = start + 1_000_000 * (u64::from(second) + 1);
        let next = if edge < begin { whole.min(begin) } else { whole.min(end) };
        let mut done = false;
        while engine.world.micros() < next && !done {
            if engine.turn(next)? {
                return Ok(());
            }
            done = engine.scenario.is_done(&engine.world);
        }
        if done {
            end = engine.world.micros();
            seconds = end.saturating_sub(begin) as f64 / 1e6;
        }
        edge = if done { end } else { next };
        let part = engine.world.recorder.roll(edge);
        operations += part.operations;
        p99_us = part.p99_us.or(p99_us);
        if edge == begin {
            cpu = cpu_now();
        }
        if edge == whole || edge == end {
            say(&Event::Second { second, operations, p99_us, up: engine.world.up() })?;
            (second, operations, p99_us) = (second + 1, 0, None);
        }
    }
    let after = cpu_now();
    let cpu = Cpu { user: after.user - cpu.user, system: after.system - cpu.system };
    engine.scenario.stop(&mut engine.world);
    let patience = engine.world.micros() + micros(engine.world.plan.drain_seconds_max);
    while engine.scenario.is_waiting(&engine.world) && engine.world.micros() < patience {
        if engine.turn(patience)? {
            return Ok(());
        }
    }
    engine.scenario.end(&mut engine.world);
    engine.world.recorder.roll(u64::MAX);
    let figures = engine.scenario.figures(&engine.world);
    let recorder = &engine.world.recorder;
    say(&Event::Measured(Box::new(Measured {
        operations: recorder.operations,
        seconds,
        histogram: encoded(&recorder.total),
        acks: encoded(&recorder.acks),
        others: recorder.others.iter().map(|(name, histogram)| ((*name).to_owned(), encoded(histogram))).collect(),
        errors: recorder.errors.clone(),
        cpu,
        figures,
    })))
}

fn disconnect(engine: &mut Engine, abruptly: bool) -> io::Result<()> {
    engine.world.now = engine.world.micros();
    if !abruptly {
        engine.scenario.leave(&mut engine.world);
        engine.settle();
        let patience = engine.world.micros() + LEAVE_US_MAX;
        while !engine.scenario.has_left(&engine.world) && engine.world.micros() < patience {
            if engine.turn(patience)? {
                return Ok(());
            }
        }
    }
    for who in 0..engine.world.len() {
        if abruptly {
            engine.world.drop_connection(who);
        } else {
            engine.world.end(who);
        }
    }
    engine.settle();
    while engine.world.has_connections() {
        if engine.turn(engine.world.micros() + 1_000_000)? {
            return Ok(());
        }
    }
    say(&Event::Disconnected)
}

/// Compressed and in base64.
pub fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a vector takes all bytes");
    STANDARD.encode(bytes)
}

/// CPU time of this process so far.
pub fn cpu_now() -> Cpu {
    let total = clock_gettime(ClockId::ProcessCPUTime);
    let total = Duration::new(total.tv_sec as u64, total.tv_nsec as u32).as_secs_f64();
    // Only the share of the kernel has to come from the coarser counters.
    let (user, system) = times("/proc/self/stat").unwrap_or((1, 0));
    let share = system as f64 / (user + system).max(1) as f64;
    Cpu { user: total * (1.0 - share), system: total * share }
}

/// User and system time of the process that `file` is about, in clock ticks.
fn times(file: &str) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(file).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The next command; none where the parent is gone.
fn next_command() -> io::Result<Option<Command>> {
    let mut line = String::new();
    // A plan is a few kilobytes: more is not a command.
    if io::stdin().lock().take(1 << 20).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

fn say(event: &Event) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, event)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// As many files as the system lets this process have.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is refused the lower limit stays, and is what is returned.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
