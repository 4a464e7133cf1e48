//! The parent of the worker processes: starts them, leads them through a scenario, and puts together what they measured.
//!
//! Even one worker is a process of its own, so that the way of a large run is the way of every run.

mod together;
mod watch;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::engine::recorder::histogram;
use crate::measure::Processes;
use crate::plan::Plan;
use crate::report::progress::{Now, Phase, Progress};
use crate::result::{Latency, Run, Sample};
use crate::worker::{Command, Event, Measured, encoded};

pub use together::{Together, WAITED_IN_VAIN};
use watch::ServerWatch;

/// How long a scenario may need before it can begin.
const PREPARE_MAX: Duration = Duration::from_secs(1800);

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// A worker said so.
    #[error("{0}")]
    Worker(String),
    /// A worker ended without a word.
    #[error("a worker process ended by itself")]
    Gone,
    /// A phase took longer than it ever should.
    #[error("no answer from the worker processes within {0} s while {1}")]
    TooLong(u64, &'static str),
    /// A process could not be started or written to.
    #[error("cannot run a worker process: {0}")]
    Io(#[from] io::Error),
    /// A histogram that cannot be read.
    #[error("a worker process sent a histogram that cannot be read")]
    Histogram,
}

/// A run, as the command line asked for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// For all workers together: `sessions` is the total, `first` is 0.
    pub plan: Plan,
    /// Worker processes.
    pub processes: u32,
    /// Seconds before anything counts.
    pub warmup: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// Processes of the server.
    pub server_pids: Vec<u32>,
    /// How the server is called.
    pub server: String,
    /// What the run was asked for, as it is reported.
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// The workers.
pub struct Crew {
    /// What they were asked for.
    pub order: Order,
    workers: Vec<Worker>,
    events: Receiver<(usize, Option<Event>)>,
    server: Option<Processes>,
    progress: Progress,
    /// Runs that measure at the same time wait here for each other.
    pub together: Option<Arc<Together>>,
}

/// One worker process.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
}

impl Crew {
    /// Starts the processes and hands out the plan.
    pub fn start(order: Order) -> Result<Self, CrewError> {
        let (sender, events) = mpsc::channel();
        let pids = &order.server_pids;
        let server = if pids.is_empty() { None } else { Some(Processes::with_descendants(pids.iter().copied())?) };
        let title = format!("{} {}", order.server, order.plan.work.name());
        let progress = Progress::new(&title, order.plan.work.unit());
        let mut crew = Self { workers: Vec::new(), events, server, progress, together: None, order };
        for plan in shares(&crew.order.plan, crew.order.processes) {
            let index = crew.workers.len();
            crew.workers.push(Worker::start(index, sender.clone())?);
            crew.workers[index].say(&Command::Prepare(Box::new(plan)))?;
        }
        crew.wait(Duration::from_secs(30), "they prepare", |event| matches!(event, Event::Prepared), |_, _| {})?;
        Ok(crew)
    }

    /// Brings all sessions up. The slowest worker's seconds.
    pub fn connect(&mut self) -> Result<f64, CrewError> {
        let plan = &self.order.plan;
        // Each login has a bound of its own, and so has the number of those that wait for each other.
        let rate = if plan.connect_rate > 0.0 { plan.connect_rate } else { f64::INFINITY };
        let waves = f64::from(plan.sessions) / f64::from(plan.connecting_max.max(1)) + 1.0;
        let patience = f64::from(plan.sessions) / rate + waves * plan.login_seconds_max as f64 + 30.0;
        self.progress.phase(Phase::Connecting { sessions: self.order.plan.sessions.into() });
        self.say(&Command::Connect)?;
        let mut seconds: f64 = 0.0;
        self.wait(
            Duration::from_secs_f64(patience.min(86_400.0)),
            "sessions are brought up",
            |event| matches!(event, Event::Connected { .. }),
            |_, event| {
                if let Event::Connected { seconds: taken } = event {
                    seconds = seconds.max(*taken);
                }
            },
        )?;
        Ok(seconds)
    }

    /// Lets the scenario do what it needs before it can begin. The slowest worker's seconds.
    pub fn prepare(&mut self) -> Result<f64, CrewError> {
        self.progress.phase(Phase::Connecting { sessions: self.order.plan.sessions.into() });
        self.say(&Command::PrepareScenario)?;
        let mut seconds: f64 = 0.0;
        self.wait(
            PREPARE_MAX,
            "the scenario is prepared",
            |event| matches!(event, Event::PreparedScenario { .. }),
            |_, event| {
                if let Event::PreparedScenario { seconds: taken } = event {
                    seconds = seconds.max(*taken);
                }
            },
        )?;
        Ok(seconds)
    }

    /// Takes away what the scenario has made at the server, and ends all sessions. All is measured by then: a server that does not
    /// get it done is no reason to throw that away.
    pub fn leave(&mut self) {
        if let Err(error) = self.disconnect(false) {
            eprintln!("after it was measured: {error}");
        }
    }

    /// Ends all sessions; `abruptly` without a word.
    pub fn disconnect(&mut self, abruptly: bool) -> Result<(), CrewError> {
        self.say(&Command::Disconnect { abruptly })?;
        let patience = Duration::from_secs(self.order.plan.login_seconds_max * 2 + 30);
        self.wait(patience, "sessions are ended", |event| matches!(event, Event::Disconnected), |_, _| {})
    }

    /// Makes everybody in a group everybody's contact. Subscriptions that were asked for, and how long it took, seconds.
    pub fn contacts(&mut self, count: u32) -> Result<(u64, f64), CrewError> {
        let start = Instant::now();
        self.say(&Command::Contacts { count })?;
        // Far below what any server does: a hundred subscriptions a second.
        let patience = u64::from(self.order.plan.sessions) * u64::from(count) / 100 + 60;
        let mut all = 0;
        self.wait(
            Duration::from_secs(patience),
            "contacts are made",
            |event| matches!(event, Event::HaveContacts { .. }),
            |_, event| {
                if let Event::HaveContacts { made } = event {
                    all += made;
                }
            },
        )?;
        Ok((all, start.elapsed().as_secs_f64()))
    }

    /// Memory of the server and of the kernel, bytes; none where the server's processes are not known.
    pub fn server_memory(&mut self) -> Result<Option<(u64, u64)>, CrewError> {
        Ok(watch::server_memory(&mut self.server)?)
    }

    /// Memory of the workers, bytes.
    pub fn workers_memory(&self) -> u64 {
        watch::memory(self.workers.iter().map(|worker| worker.child.id())).unwrap_or_default()
    }

    /// Brings all sessions up and measures what they do.
    pub fn connect_and_measure(&mut self) -> Result<Run, CrewError> {
        let connect_seconds = self.connect()?;
        // What the last logins still cause is not part of it.
        std::thread::sleep(Duration::from_millis(300));
        let mut run = self.measure()?;
        run.figures.insert("connect_seconds".into(), connect_seconds);
        Ok(run)
    }

    /// Measures what the sessions do.
    pub fn measure(&mut self) -> Result<Run, CrewError> {
        let (warmup, seconds) = (self.order.warmup, self.order.seconds);
        if let Some(together) = &self.together {
            together.wait()?;
        }
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut counts = warmup == 0.0;
        self.progress.phase(match counts {
            true => Phase::Measuring { seconds },
            false => Phase::WarmingUp { seconds: warmup },
        });
        self.say(&Command::Measure { warmup, seconds })?;
        let start = Instant::now();
        let mut measured = Vec::new();
        let mut series: Vec<Sample> = Vec::new();
        let mut watch = ServerWatch::new(self.server.clone(), start, warmup, seconds);
        let patience = start + Duration::from_secs_f64(warmup + seconds + self.order.plan.drain_seconds_max + 30.0);
        while measured.len() < self.workers.len() {
            let until = watch.look().unwrap_or(patience).min(patience);
            let Some((_, event)) = self.next(until)? else {
                if Instant::now() >= patience {
                    return Err(CrewError::TooLong((warmup + seconds) as u64, "they measure"));
                }
                continue;
            };
            match event {
                Event::Second { second, operations, p99_us, up } => {
                    let index = second as usize;
                    if series.len() <= index {
                        series.resize(index + 1, Sample::default());
                    }
                    let sample = &mut series[index];
                    sample.second = f64::from(second) + 1.0;
                    sample.operations += operations;
                    sample.sessions += u64::from(up);
                    // The worst of the workers: their distributions are put together only at the end.
                    sample.p99_us = sample.p99_us.into_iter().chain(p99_us).reduce(f64::max);
                    self.progress.now(Now {
                        seconds: if counts { sample.second - warmup } else { sample.second },
                        sessions: sample.sessions,
                        rate: sample.operations as f64,
                        p99_us: sample.p99_us,
                        ..Now::default()
                    });
                    if !counts && sample.second >= warmup {
                        counts = true;
                        self.progress.phase(Phase::Measuring { seconds });
                    }
                }
                Event::Measured(of_one) => measured.push(*of_one),
                _ => {}
            }
        }
        watch.end();
        let server_cpu = watch.cpu();
        let mut run = put_together(&measured)?;
        run.server_cpu = server_cpu;
        for (sample, (server_cpu, server_memory)) in series.iter_mut().zip(watch.per_second()) {
            (sample.server_cpu, sample.server_memory) = (server_cpu, server_memory);
        }
        self.progress.finish();
        run.series = series;
        run.started = began;
        run.scenario = self.order.plan.work.name().into();
        run.unit = self.order.plan.work.unit().into();
        run.server = self.order.server.clone();
        run.parameters = self.order.parameters.clone();
        Ok(run)
    }

    fn say(&mut self, command: &Command) -> Result<(), CrewError> {
        for worker in &mut self.workers {
            worker.say(command)?;
        }
        Ok(())
    }

    /// Until every worker has said something for which `ends` holds.
    fn wait(
        &mut self,
        patience: Duration,
        what: &'static str,
        ends: impl Fn(&Event) -> bool,
        mut each: impl FnMut(usize, &Event),
    ) -> Result<(), CrewError> {
        let until = Instant::now() + patience;
        let mut left = self.workers.len();
        let mut ready = Vec::new();
        while left > 0 {
            let Some((worker, event)) = self.next(until)? else {
                return Err(CrewError::TooLong(patience.as_secs(), what));
            };
            if let Event::Progress { up } = event {
                ready.resize(self.workers.len(), 0);
                ready[worker] = u64::from(up);
                let seconds = (Instant::now() + patience).saturating_duration_since(until).as_secs_f64();
                self.progress.now(Now { seconds, sessions: ready.iter().sum(), ..Now::default() });
            }
            each(worker, &event);
            left -= usize::from(ends(&event));
        }
        Ok(())
    }

    /// The next event; none where there is none until `until`.
    fn next(&mut self, until: Instant) -> Result<Option<(usize, Event)>, CrewError> {
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((_, Some(Event::Failed { error }))) => Err(CrewError::Worker(error)),
            Ok((worker, Some(event))) => Ok(Some((worker, event))),
            Ok((_, None)) | Err(RecvTimeoutError::Disconnected) => Err(CrewError::Gone),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.workers.drain(..).for_each(Worker::end);
    }
}

impl Worker {
    /// Ends it: a worker ends when nobody can command it any more, and is killed where it does not.
    pub(crate) fn end(self) {
        let Self { mut child, input } = self;
        drop(input);
        let until = Instant::now() + Duration::from_secs(5);
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts the process; what it says is sent to `events` with its number, and nothing when it ends.
    pub(crate) fn start(index: usize, events: Sender<(usize, Option<Event>)>) -> Result<Self, CrewError> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(CrewError::Gone);
        };
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let event = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let ended = event.is_none();
                if events.send((index, event)).is_err() || ended {
                    return;
                }
            }
            let _ = events.send((index, None));
        });
        Ok(Self { child, input })
    }

    pub(crate) fn say(&mut self, command: &Command) -> Result<(), CrewError> {
        let mut line = serde_json::to_vec(command).map_err(io::Error::from)?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        Ok(())
    }
}

/// Splits sessions evenly; those that belong together stay together.
fn shares(plan: &Plan, processes: u32) -> Vec<Plan> {
    let group = plan.work.group();
    let groups = plan.sessions.div_ceil(group);
    let processes = processes.clamp(1, groups.max(1));
    let mut first = 0;
    let mut plans = Vec::new();
    for index in 0..processes {
        let sessions = (groups / processes + u32::from(index < groups % processes)) * group;
        let share = f64::from(sessions) / f64::from(plan.sessions.max(1));
        plans.push(Plan {
            sessions,
            first,
            total: plan.sessions,
            connect_rate: plan.connect_rate * share,
            connecting_max: (plan.connecting_max / processes).max(1),
            seed: plan.seed.wrapping_add(u64::from(index)),
            ..plan.clone()
        });
        first += sessions;
    }
    plans
}

/// One run of what the workers measured.
pub(crate) fn put_together(all: &[Measured]) -> Result<Run, CrewError> {
    let seconds = all.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let mut run = Run { seconds, ..Run::default() };
    let (mut latencies, mut acks) = (histogram(), histogram());
    let mut others: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    for one in all {
        run.operations += one.operations;
        run.client_cpu.user += one.cpu.user;
        run.client_cpu.system += one.cpu.system;
        for (what, count) in &one.errors {
            *run.errors.entry(what.clone()).or_default() += count;
        }
        for (name, figure) in &one.figures {
            *run.figures.entry(name.clone()).or_default() += figure;
        }
        latencies.add(decoded(&one.histogram)?).map_err(|_| CrewError::Histogram)?;
        acks.add(decoded(&one.acks)?).map_err(|_| CrewError::Histogram)?;
        for (name, more) in &one.others {
            let all = others.entry(name).or_insert_with(histogram);
            all.add(decoded(more)?).map_err(|_| CrewError::Histogram)?;
        }
    }
    for (name, all) in others {
        for (percentile, value) in [("p50", 50.0), ("p99", 99.0)] {
            run.figures.insert(format!("{name}_{percentile}_us"), all.value_at_percentile(value) as f64);
        }
    }
    run.latency = (!latencies.is_empty()).then(|| latency(&latencies));
    run.ack_latency = (!acks.is_empty()).then(|| latency(&acks));
    Ok(run)
}

fn decoded(histogram: &str) -> Result<Histogram<u64>, CrewError> {
    let bytes = STANDARD.decode(histogram).map_err(|_| CrewError::Histogram)?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|_| CrewError::Histogram)
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |percentile: f64| match percentile {
        0.0 => histogram.min() as f64,
        _ => histogram.value_at_percentile(percentile) as f64,
    };
    Latency {
        count: histogram.len(),
        mean_us: histogram.mean(),
        percentiles_us: [0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0]
            .map(|percentile| (percentile, at(percentile)))
            .to_vec(),
        histogram: encoded(histogram),
    }
}
