//! `rooms-idle`: rooms that stay although nobody is in them (XEP-0045 §10.2, persistent rooms).
//!
//! Each session makes one room after the other: it enters, has the owner's form, submits it, and leaves. What counts is a room
//! that was made and left, and what such rooms take of the server's memory: the first tenth of them is made before memory is
//! looked at, so that what a server sets up once is not counted as theirs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::groupchat::{self, Founding, PERSISTENT};
use crate::client::splitter::attribute;
use crate::crew::{Crew, CrewError};
use crate::engine::World;
use crate::engine::connection::Stage;
use crate::plan::Plan;
use crate::result::Run;

/// What `rooms-idle` needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RoomsIdle {
    /// Rooms; fewer where they take longer than --seconds
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub rooms: u32,
    /// Seconds between the last room and the look at memory
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub settle: f64,
    /// Where the rooms are; without it, at `conference.` and the domain
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How rooms are called, before a number; without it, after this process, so that none is there before
    #[arg(long, value_name = "NAME")]
    pub called: Option<String>,
}

impl Default for RoomsIdle {
    fn default() -> Self {
        Self { rooms: 10_000, settle: 5.0, service: None, called: None }
    }
}

/// Rooms that were made, the first tenth included.
pub const MADE: &str = "rooms_made";

/// Memory of the server for each further room, bytes; less than nothing where the server holds less than before.
pub const BYTES: &str = "bytes_per_room";

/// The first tenth of the rooms may take so long, microseconds.
const FIRST_US_MAX: u64 = 5_000_000;

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    service: String,
    called: String,
    makers: Vec<Maker>,
    /// Rooms of this worker, and of all.
    share: u32,
    /// Until so many have been begun.
    until: u32,
    begun: u32,
    made: u32,
    deadline: u64,
    /// The numbers of rooms: the first of this worker's, and how many sessions of all workers take turns.
    first: u32,
    step: u32,
}

#[derive(Clone, Debug, Default)]
struct Maker {
    founding: Founding,
    room: String,
    rooms: u32,
    began: u64,
}

impl RoomsIdle {
    /// Makes a tenth, looks, makes the others, looks again.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let settle = Duration::from_secs_f64(self.settle.clamp(0.0, 600.0));
        let connect_seconds = crew.connect()?;
        crew.prepare()?;
        std::thread::sleep(settle);
        let before = crew.server_memory()?;
        crew.order.warmup = 0.0;
        let mut run = crew.measure()?;
        std::thread::sleep(settle);
        if let (Some((before, _)), Some((after, _))) = (before, crew.server_memory()?) {
            let bytes = (after as f64 - before as f64) / run.operations.max(1) as f64;
            run.figures.insert(BYTES.into(), bytes);
            run.figures.insert("server_bytes_before".into(), before as f64);
            run.figures.insert("server_bytes_after".into(), after as f64);
        }
        run.figures.insert("connect_seconds".into(), connect_seconds);
        crew.leave();
        Ok(run)
    }
}

impl Worker {
    /// With no room made.
    pub fn new(work: &RoomsIdle, plan: &Plan) -> Self {
        let of_all = u64::from(work.rooms);
        let until = |sessions: u32| (of_all * u64::from(sessions) / u64::from(plan.total.max(1))) as u32;
        Self {
            service: groupchat::service(work.service.as_deref(), plan),
            called: work.called.clone().unwrap_or_default(),
            makers: vec![Maker::default(); plan.sessions as usize],
            share: until(plan.first + plan.sessions) - until(plan.first),
            until: 0,
            begun: 0,
            made: 0,
            deadline: u64::MAX,
            first: plan.first,
            step: plan.total,
        }
    }

    fn make(&mut self, world: &mut World, who: u32) {
        let maker = &mut self.makers[who as usize];
        maker.founding = Founding::Nothing;
        if self.begun >= self.until || world.session(who).stage() != Stage::Up {
            return;
        }
        self.begun += 1;
        let number = self.first + who + maker.rooms * self.step;
        maker.rooms += 1;
        maker.room = format!("{}{number}@{}", self.called, self.service);
        maker.founding = Founding::Joining;
        maker.began = world.micros();
        groupchat::join(world, who, &maker.room, 0);
    }

    fn make_all(&mut self, world: &mut World, until: u32) {
        self.until = until;
        for who in 0..world.len() {
            self.make(world, who);
        }
    }

    fn is_idle(&self) -> bool {
        self.made == self.begun
    }
}

impl Scenario for Worker {
    fn prepare(&mut self, world: &mut World) {
        self.deadline = world.micros() + FIRST_US_MAX;
        self.make_all(world, self.share / 10);
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        if self.deadline == u64::MAX || self.is_idle() {
            return None;
        }
        if world.now < self.deadline {
            return Some(self.deadline);
        }
        // Those that were begun are made whole.
        (self.until, self.deadline) = (self.begun, u64::MAX);
        None
    }

    fn is_prepared(&self, _world: &World) -> bool {
        self.is_idle() && self.begun == self.until
    }

    fn begin(&mut self, world: &mut World) {
        self.deadline = u64::MAX;
        self.make_all(world, self.share);
    }

    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        let maker = &mut self.makers[who as usize];
        match maker.founding {
            Founding::Nothing => {}
            Founding::Done => {
                if groupchat::is_own_presence(element, 0) && attribute(element, b"type") == Some(b"unavailable") {
                    self.made += 1;
                    let now = world.micros();
                    world.recorder.record(maker.began, now);
                    self.make(world, who);
                }
            }
            founding => {
                let room = std::mem::take(&mut maker.room);
                maker.founding = groupchat::found(world, who, (&room, 0), element, founding, &[PERSISTENT]);
                if maker.founding == Founding::Done {
                    groupchat::leave(world, who, &room, 0);
                }
                maker.room = room;
            }
        }
    }

    fn stop(&mut self, _world: &mut World) {
        self.until = self.begun;
    }

    fn is_done(&self, _world: &World) -> bool {
        self.made == self.share
    }

    fn is_waiting(&self, _world: &World) -> bool {
        !self.is_idle()
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![(MADE.into(), self.made.into()), ("rooms_not_finished".into(), (self.begun - self.made).into())]
    }
}
