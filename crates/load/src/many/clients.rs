//! The workers: brought up one after another, so that all but the last are whole when memory or time is short.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::ManyError;
use super::course::{Course, Point};
use super::servers::Node;
use super::system::available;
use crate::compare::process::Interrupt;
use crate::crew::{CrewError, Worker, put_together};
use crate::measure::Processes;
use crate::plan::Plan;
use crate::result::Run;
use crate::worker::{Command, Event, Measured};

/// How often one looks whether there is a reason to stop.
const LOOK: Duration = Duration::from_millis(250);

/// A worker that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Seconds that the messages of one worker may take.
const MESSAGES_SECONDS_MAX: f64 = 60.0;

/// Reasons to stop before all is done.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// The operator's wish.
    pub(super) interrupt: Interrupt,
    /// When time is up.
    pub(super) deadline: Instant,
    /// Memory that is to stay available, bytes.
    pub(super) free_min: u64,
}

/// Why no more sessions were brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// So many bytes were available.
    Memory(u64),
    /// Time is up.
    Time,
}

/// All workers.
pub(super) struct Clients {
    workers: Vec<Option<Worker>>,
    plans: Vec<Plan>,
    events: Receiver<(usize, Option<Event>)>,
}

impl Guard {
    /// Fails where the operator wants an end; otherwise why to stop, if `more` bytes are to be taken.
    pub(super) fn check(&self, more: u64) -> Result<Option<Stop>, ManyError> {
        self.interrupt.check()?;
        if Instant::now() >= self.deadline {
            return Ok(Some(Stop::Time));
        }
        let free = available().map_err(|source| ManyError::File { path: PathBuf::from("/proc/meminfo"), source })?;
        Ok((free < self.free_min.saturating_add(more)).then_some(Stop::Memory(free)))
    }
}

impl Clients {
    /// One worker for each plan, none of which has connected.
    pub(super) fn start(plans: Vec<Plan>, guard: &Guard) -> Result<Self, ManyError> {
        let (sender, events) = mpsc::channel();
        let mut clients = Self { workers: Vec::new(), plans, events };
        for (index, plan) in clients.plans.iter().enumerate() {
            let mut worker = Worker::start(index, sender.clone())?;
            worker.say(&Command::Prepare(Box::new(plan.clone())))?;
            clients.workers.push(Some(worker));
        }
        let mut left = clients.workers.len();
        while left > 0 {
            if let (_, Event::Prepared) = clients.next(guard)? {
                left -= 1;
            }
        }
        Ok(clients)
    }

    /// The processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.workers.iter().flatten().map(Worker::pid).collect()
    }

    /// Brings the sessions up. `tell` hears how many there are.
    pub(super) fn connect(
        &mut self,
        nodes: &mut [Node],
        servers: &mut Processes,
        guard: &Guard,
        mut tell: impl FnMut(u64),
    ) -> Result<(Course, Option<Stop>), ManyError> {
        let mut course = Course::default();
        let free_at_first = available().unwrap_or(0);
        let began = Instant::now();
        let mut cpu_before = servers.cpu();
        for (index, node) in nodes.iter_mut().enumerate() {
            let held = course.held();
            let used = free_at_first.saturating_sub(available().unwrap_or(0));
            let more = used.checked_div(held).unwrap_or(0) * u64::from(self.plans[index].sessions);
            if let Some(stop) = guard.check(more)? {
                return Ok((course, Some(stop)));
            }
            if index == 0 {
                course.points.push(Point::default());
                cpu_before = servers.cpu();
            }
            self.say(index, &Command::Connect)?;
            loop {
                let up = match self.next_until(Instant::now() + PATIENCE, guard)? {
                    (_, Event::Connected { .. }) => Some(self.plans[index].sessions),
                    (_, Event::Progress { up }) => {
                        if let Some(stop) = guard.check(0)? {
                            // What it had is not whole: it is given up, and the memory is free for those who are.
                            self.end(index);
                            course.forget_beyond(held);
                            return Ok((course, Some(stop)));
                        }
                        node.check()?;
                        Some(up).filter(|up| *up < self.plans[index].sessions)
                    }
                    _ => None,
                };
                let Some(up) = up else { continue };
                let sessions = held + u64::from(up);
                let server_cpu = servers.cpu().since(cpu_before);
                course.points.push(Point { seconds: began.elapsed().as_secs_f64(), sessions, server_cpu });
                tell(sessions);
                if up == self.plans[index].sessions {
                    break;
                }
            }
        }
        Ok((course, None))
    }

    /// Messages to random sessions, of one worker after another. What they took.
    pub(super) fn messages(&mut self, held: u64, guard: &Guard, mut tell: impl FnMut(u64)) -> Result<Run, ManyError> {
        let mut all: Vec<Measured> = Vec::new();
        let mut before = 0;
        for index in 0..self.workers.len() {
            before += u64::from(self.plans[index].sessions);
            if before > held {
                break;
            }
            guard.interrupt.check()?;
            self.say(index, &Command::Measure { warmup: 0.0, seconds: MESSAGES_SECONDS_MAX })?;
            let until = Instant::now() + Duration::from_secs_f64(MESSAGES_SECONDS_MAX) + PATIENCE;
            loop {
                if let (_, Event::Measured(measured)) = self.next_until(until, guard)? {
                    all.push(*measured);
                    break;
                }
            }
            tell(all.iter().map(|one| one.operations).sum());
        }
        let mut run = put_together(&all)?;
        // One after another, so the times add up.
        run.seconds = all.iter().map(|one| one.seconds).sum();
        Ok(run)
    }

    fn end(&mut self, index: usize) {
        if let Some(worker) = self.workers[index].take() {
            worker.end();
        }
    }

    fn say(&mut self, index: usize, command: &Command) -> Result<(), ManyError> {
        let worker = self.workers[index].as_mut().ok_or(CrewError::Gone)?;
        Ok(worker.say(command)?)
    }

    fn next(&mut self, guard: &Guard) -> Result<(usize, Event), ManyError> {
        self.next_until(Instant::now() + PATIENCE, guard)
    }

    /// The next event of a worker that was not given up.
    fn next_until(&mut self, until: Instant, guard: &Guard) -> Result<(usize, Event), ManyError> {
        loop {
            guard.interrupt.check()?;
            match self.events.recv_timeout(LOOK) {
                Ok((worker, _)) if self.workers[worker].is_none() => {}
                Ok((_, Some(Event::Failed { error }))) => return Err(CrewError::Worker(error).into()),
                Ok((worker, Some(event))) => return Ok((worker, event)),
                Ok((_, None)) | Err(RecvTimeoutError::Disconnected) => {
                    // Ctrl-C of a terminal reaches the workers as well, perhaps before us.
                    std::thread::sleep(LOOK);
                    guard.interrupt.check()?;
                    return Err(CrewError::Gone.into());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(CrewError::TooLong(PATIENCE.as_secs(), "sessions are brought up").into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.workers.drain(..).flatten().for_each(Worker::end);
    }
}
