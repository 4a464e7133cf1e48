//! `room-fill`: everybody enters an empty room at the same moment (XEP-0045 §7.2), as after a restart.
//!
//! Each occupant is told of each other one, so that there are as many presences as occupants squared: it is the storm that makes
//! large rooms stand still. What counts is a presence that came; the end is when all have seen all.

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::groupchat::{self, Founding, PERSISTENT};
use crate::client::splitter::{attribute, name};
use crate::crew::{Crew, CrewError};
use crate::engine::World;
use crate::engine::connection::Stage;
use crate::plan::Plan;
use crate::result::Run;

/// What `room-fill` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RoomFill {
    /// Who enters; there are as many sessions
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub occupants: u32,
    /// Seconds after which it is given up
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    pub seconds_max: u64,
    /// Where the room is; without it, at `conference.` and the domain
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How the room is called, before a number; without it, after this process, so that it is not there before
    #[arg(long, value_name = "NAME")]
    pub called: Option<String>,
}

impl Default for RoomFill {
    fn default() -> Self {
        Self { occupants: 1000, seconds_max: 90, service: None, called: None }
    }
}

/// Until everybody had seen everybody, seconds; not there where that was given up.
pub const FILLED: &str = "filled_seconds";

/// When it was given up, seconds; not there where all had seen all.
pub const GAVE_UP: &str = "gave_up_seconds";

/// The sessions of one worker: those of one room, or none.
#[derive(Debug)]
pub struct Worker {
    room: String,
    founding: Founding,
    /// The owner has made the room and left it.
    is_empty: bool,
    filling: bool,
    began: u64,
    /// Whom each occupant has seen, itself too: a bit for each.
    seen: Vec<u64>,
    /// How many each has seen.
    counts: Vec<u32>,
    /// Occupants who have seen all.
    done: u32,
    twice: u64,
    destroyed: bool,
}

impl RoomFill {
    /// Makes the room, then fills it.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let connect_seconds = crew.connect()?;
        crew.prepare()?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        crew.order.warmup = 0.0;
        crew.order.seconds = self.seconds_max as f64;
        let mut run = crew.measure()?;
        let last = run.latency.as_ref().and_then(|latency| latency.percentiles_us.last()).map(|last| last.1 / 1e6);
        let all = run.figures.get("occupants_who_saw_all") == Some(&f64::from(self.occupants));
        match last.filter(|_| all) {
            Some(seconds) => run.figures.insert(FILLED.into(), seconds),
            None => run.figures.insert(GAVE_UP.into(), self.seconds_max as f64),
        };
        run.figures.insert("connect_seconds".into(), connect_seconds);
        crew.leave();
        Ok(run)
    }
}

impl Worker {
    /// Before there is a room.
    pub fn new(work: &RoomFill, plan: &Plan) -> Self {
        let service = groupchat::service(work.service.as_deref(), plan);
        let sessions = plan.sessions as usize;
        Self {
            room: format!("{}{}@{service}", work.called.as_deref().unwrap_or_default(), plan.first / work.occupants),
            founding: Founding::Nothing,
            is_empty: sessions == 0,
            filling: false,
            began: 0,
            seen: vec![0; sessions * words(sessions)],
            counts: vec![0; sessions],
            done: 0,
            twice: 0,
            destroyed: false,
        }
    }

    /// The owner configures the room and leaves it.
    fn founded(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if self.founding == Founding::Done {
            let left = groupchat::is_own_presence(element, who) && attribute(element, b"type") == Some(b"unavailable");
            self.is_empty |= left;
            return;
        }
        self.founding = groupchat::found(world, who, (&self.room, who), element, self.founding, &[PERSISTENT]);
        if self.founding == Founding::Done {
            groupchat::leave(world, who, &self.room, who);
        }
    }

    fn saw(&mut self, world: &mut World, who: u32, element: &[u8]) {
        match attribute(element, b"type") {
            None => {}
            Some(b"error") => {
                world.recorder.error(&format!("join refused: {}", groupchat::refusal(element)));
                return;
            }
            Some(_) => return,
        }
        let all = self.counts.len();
        let Some(other) = groupchat::nick(element).map(|nick| nick as usize).filter(|nick| *nick < all) else { return };
        let word = &mut self.seen[who as usize * words(all) + other / 64];
        let bit = 1 << (other % 64);
        if *word & bit != 0 {
            self.twice += 1;
            return;
        }
        *word |= bit;
        self.counts[who as usize] += 1;
        if self.counts[who as usize] as usize == all {
            self.done += 1;
            let now = world.micros();
            world.recorder.record(self.began, now);
        } else {
            world.recorder.count(world.now);
        }
    }
}

/// Words of 64 bits that so many bits take.
fn words(bits: usize) -> usize {
    bits.div_ceil(64)
}

impl Scenario for Worker {
    fn prepare(&mut self, world: &mut World) {
        if !self.is_empty {
            self.founding = Founding::Joining;
            groupchat::join(world, 0, &self.room, 0);
        }
    }

    fn is_prepared(&self, _world: &World) -> bool {
        self.is_empty
    }

    fn begin(&mut self, world: &mut World) {
        self.filling = true;
        self.began = world.micros();
        for who in 0..world.len() {
            groupchat::join(world, who, &self.room, who);
        }
    }

    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if attribute(element, b"id") == Some(groupchat::DESTROYED.as_bytes()) {
            self.destroyed = true;
        } else if !self.filling {
            self.founded(world, who, element);
        } else if name(element) == b"presence" {
            self.saw(world, who, element);
        }
    }

    fn is_done(&self, _world: &World) -> bool {
        self.done as usize == self.counts.len()
    }

    fn leave(&mut self, world: &mut World) {
        self.destroyed = world.is_empty() || world.session(0).stage() != Stage::Up;
        if !self.destroyed {
            groupchat::destroy(world, 0, &self.room);
        }
    }

    fn has_left(&self, _world: &World) -> bool {
        self.destroyed
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        let seen: f64 = self.counts.iter().map(|count| f64::from(*count)).sum();
        vec![
            ("occupants_who_saw_all".into(), self.done.into()),
            ("presences_missing".into(), (self.counts.len() as f64).powi(2) - seen),
            ("presences_twice".into(), self.twice as f64),
        ]
    }
}
