//! The thread that fills the index of an archive, and answers from it. With nothing to do it sleeps, and has no file open.
//!
//! It has one queue: between two rounds of filling it answers whoever asks. Filled is at leisure, so that a busy server has its
//! processors for messages; a search lets the thread hurry.

mod engine;
mod index;

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::engine::Engine;
pub(crate) use self::engine::{Counts, Place};
use super::bell::Bell;
use super::failure;
use crate::error::StoreError;
use crate::ids::LogId;
use crate::reading::Reading;
use crate::search::{Look, SearchIndex, Stretch};
use crate::threads::{self, REST};
use crate::writer::Writer;

/// How long it lets entries gather before it indexes them.
const LINGER: Duration = Duration::from_secs(1);

/// After a round it leaves the processor alone for so many times as long as the round took: where nothing is written meanwhile, and
/// where the server is busy.
const LEISURE: u32 = 1;
const LEISURE_BUSY: u32 = 9;

/// When it tries again after an error.
const RETRY: Duration = Duration::from_secs(30);

/// How the name of an index's file begins.
const FILE: &str = "search-";

type Job = Box<dyn FnOnce(&mut Engine) + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

pub(super) struct Filler {
    queue: Arc<Mutex<Queue>>,
    thread: Thread,
    threads: Mutex<Vec<JoinHandle<()>>>,
    counts: Arc<Counts>,
}

impl Filler {
    pub(super) fn start(
        place: Place,
        writer: Weak<Writer>,
        bell: Arc<Bell>,
        at_rest: Option<fn()>,
    ) -> io::Result<Self> {
        // Before the index can have read anything.
        bell.watch();
        let (queue, counts) = (Arc::<Mutex<Queue>>::default(), Arc::<Counts>::default());
        let engine = Engine::new(place, writer, bell.clone(), counts.clone());
        let thread = threads::spawn("store-search".into(), {
            let queue = queue.clone();
            move || Run { queue: &queue, engine, at_rest, due: Some(Instant::now()), failing: false }.run()
        })?;
        let filler = Self { queue, thread: thread.thread().clone(), threads: Mutex::default(), counts };
        bell.listen(filler.thread.clone());
        filler.threads.lock().push(thread);
        Ok(filler)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.thread.unpark();
        threads::join(&self.threads);
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Engine) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        let (answer, reading) = Reading::waiting();
        let job = Box::new(move |engine: &mut Engine| {
            if !answer.is_unwanted() {
                answer.send(job(engine).map_err(failure));
            }
        });
        let mut queue = self.queue.lock();
        if queue.closed {
            return Reading::ready(Err(StoreError::Closed));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.thread.unpark();
        reading
    }
}

/// Whether the folder has an index, perhaps one that nobody will open.
pub(super) fn is_in(folder: &Path) -> io::Result<bool> {
    for entry in folder.read_dir()? {
        if entry?.file_name().to_string_lossy().starts_with(FILE) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl SearchIndex for Filler {
    fn plan(&self, owner: &str, first: LogId, last: LogId) -> Reading<Vec<Stretch>> {
        let owner = owner.to_owned();
        self.ask(move |engine| {
            let plan = engine.plan(&owner, first, last);
            // Without an index it takes longer.
            Ok(plan.unwrap_or_else(|error| {
                tracing::warn!(%error, "the archive is searched without its index");
                vec![Stretch { first, last, indexed: false }]
            }))
        })
    }

    fn look(&self, look: Look) -> Reading<Vec<u64>> {
        self.ask(move |engine| engine.look(&look))
    }

    fn rebuild(&self) -> Reading<()> {
        self.ask(|engine| {
            engine.start_over();
            Ok(())
        })
    }
}

struct Run<'a> {
    queue: &'a Mutex<Queue>,
    engine: Engine,
    at_rest: Option<fn()>,
    /// When the next round is.
    due: Option<Instant>,
    failing: bool,
}

impl Run<'_> {
    fn run(mut self) {
        let mut worked = Instant::now();
        loop {
            let (job, closed) = {
                let mut queue = self.queue.lock();
                (queue.jobs.pop_front(), queue.closed)
            };
            if let Some(job) = job {
                // One that panics drops its answer, which says closed.
                if panic::catch_unwind(AssertUnwindSafe(|| job(&mut self.engine))).is_err() {
                    self.engine.rest();
                }
                worked = Instant::now();
                continue;
            }
            if closed {
                return;
            }
            let now = Instant::now();
            if self.due.is_none() && self.engine.is_behind() {
                self.due = Some(now + LINGER);
            }
            if self.due.is_some_and(|due| due <= now) {
                self.round();
                worked = Instant::now();
                continue;
            }
            let rest = self.engine.is_open().then_some(worked + REST);
            if rest.is_some_and(|rest| rest <= now) {
                self.engine.rest();
                if let Some(at_rest) = self.at_rest {
                    at_rest();
                }
                continue;
            }
            match [self.due, rest].into_iter().flatten().min() {
                Some(until) => thread::park_timeout(until - now),
                None => thread::park(),
            }
        }
    }

    fn round(&mut self) {
        let began = Instant::now();
        let round = panic::catch_unwind(AssertUnwindSafe(|| self.engine.round()));
        let now = Instant::now();
        let round = round.unwrap_or_else(|_| {
            self.engine.rest();
            Err(rusqlite::Error::InvalidQuery)
        });
        self.due = match &round {
            Ok(()) if self.engine.is_behind() => {
                let leisure = if self.engine.is_busy() { LEISURE_BUSY } else { LEISURE };
                Some(now + (now - began) * leisure)
            }
            Ok(()) => self.engine.next_purge().map(|seconds| now + Duration::from_secs(seconds)),
            Err(error) => {
                if !self.failing {
                    tracing::error!(%error, "the search index is not filled for now");
                }
                Some(now + RETRY)
            }
        };
        self.failing = round.is_err();
    }
}
