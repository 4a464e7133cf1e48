//! What sessions do while they are measured. One scenario is one file, with both halves: what a worker's sessions do, and
//! how the parent leads the workers through it.

pub mod contacts;
pub mod groupchat;
pub mod history;
pub mod idle;
pub mod login;
pub mod offline;
pub mod pace;
pub mod pairs;
pub mod ping;
pub mod presence;
pub mod room_fill;
pub mod rooms;
pub mod rooms_idle;
pub mod storm;
pub mod time;

use serde::{Deserialize, Serialize};

use crate::crew::{Crew, CrewError};
use crate::engine::{Down, World};
use crate::plan::Plan;
use crate::result::Run;

/// A scenario in a worker. Times are microseconds of the world's clock.
pub trait Scenario {
    /// A session is ready.
    fn up(&mut self, world: &mut World, who: u32) {
        let _ = (world, who);
    }

    /// A session is not there any more, or could not be made.
    fn down(&mut self, world: &mut World, who: u32, why: &Down) {
        let _ = who;
        match why {
            Down::Ended => {}
            Down::NotReady(why) | Down::Lost(why) => world.recorder.error(why),
        }
    }

    /// An element came that is neither a request nor part of the stream's own business.
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]);

    /// The server has acknowledged stanzas of a session.
    fn acknowledged(&mut self, world: &mut World, who: u32) {
        let _ = (world, who);
    }

    /// Does what has to be done before anything is measured, with the sessions that the parent has brought up, or none.
    fn prepare(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Whether that is done.
    fn is_prepared(&self, world: &World) -> bool {
        let _ = world;
        true
    }

    /// All sessions are there; what is measured begins.
    fn begin(&mut self, world: &mut World);

    /// Called after each wake-up: when it wants to be called next.
    fn due(&mut self, world: &mut World) -> Option<u64> {
        let _ = world;
        None
    }

    /// Nothing new is to be begun.
    fn stop(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Whether there is nothing more to measure, before the time is over.
    fn is_done(&self, world: &World) -> bool {
        let _ = world;
        false
    }

    /// Whether something that was begun has not ended.
    fn is_waiting(&self, world: &World) -> bool {
        let _ = world;
        false
    }

    /// All that was begun has ended, or was waited for long enough.
    fn end(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Takes away what it has made at the server, before its sessions end.
    fn leave(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Whether that is done.
    fn has_left(&self, world: &World) -> bool {
        let _ = world;
        true
    }

    /// Figures of this scenario, sums over the workers.
    fn figures(&self, world: &World) -> Vec<(String, f64)> {
        let _ = world;
        Vec::new()
    }

    /// Bytes of each message where there is no XML to tell.
    fn message_bytes(&self) -> usize {
        1
    }

    /// Whether a relay is to send everything back to who sent it.
    fn is_echo(&self) -> bool {
        false
    }
}

/// Which scenario, with what it alone needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// See [`idle`].
    Idle(idle::Idle),
    /// See [`pairs`].
    Pairs(pairs::Pairs),
    /// See [`ping`].
    Ping(ping::Ping),
    /// See [`login`].
    Login(login::Login),
    /// See [`presence`].
    Presence(presence::Presence),
    /// See [`storm`].
    Storm(storm::Storm),
    /// See [`offline`].
    Offline(offline::Offline),
    /// See [`history`].
    History(history::History),
    /// See [`rooms`].
    Rooms(rooms::Rooms),
    /// See [`room_fill`].
    #[serde(rename = "room-fill")]
    RoomFill(room_fill::RoomFill),
    /// See [`rooms_idle`].
    #[serde(rename = "rooms-idle")]
    RoomsIdle(rooms_idle::RoomsIdle),
}

impl Work {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Pairs(_) => "pairs",
            Self::Ping(_) => "ping",
            Self::Login(_) => "login",
            Self::Presence(_) => "presence",
            Self::Storm(_) => "storm",
            Self::Offline(_) => "offline",
            Self::History(_) => "history",
            Self::Rooms(_) => "rooms",
            Self::RoomFill(_) => "room-fill",
            Self::RoomsIdle(_) => "rooms-idle",
        }
    }

    /// What is counted, in the singular.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Idle(_) => "session",
            Self::Pairs(_) => "message",
            Self::Ping(_) => "ping",
            Self::Login(_) => "login",
            Self::Presence(_) => "delivery",
            Self::Storm(_) => "login",
            Self::Offline(_) => "message",
            Self::History(_) => "page",
            Self::Rooms(_) => "delivery",
            Self::RoomFill(_) => "presence",
            Self::RoomsIdle(_) => "room",
        }
    }

    /// What a worker does.
    pub fn scenario(&self, plan: &Plan) -> Box<dyn Scenario> {
        match self {
            Self::Idle(work) => Box::new(idle::Worker::new(work, plan)),
            Self::Pairs(work) => Box::new(pairs::Worker::new(work.clone(), plan)),
            Self::Ping(work) => Box::new(ping::Worker::new(work.clone(), plan)),
            Self::Login(_) => Box::new(login::Worker::default()),
            Self::Presence(work) => Box::new(presence::Worker::new(work)),
            Self::Storm(work) => Box::new(storm::Worker::new(work.clone(), plan.seed)),
            Self::Offline(work) => Box::new(offline::Worker::new(work.clone(), plan.sessions)),
            Self::History(work) => Box::new(history::Worker::new(work.clone(), plan.sessions)),
            Self::Rooms(work) => Box::new(rooms::Worker::new(work.clone(), plan)),
            Self::RoomFill(work) => Box::new(room_fill::Worker::new(work, plan)),
            Self::RoomsIdle(work) => Box::new(rooms_idle::Worker::new(work, plan)),
        }
    }

    /// How the parent leads.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        match self {
            Self::Idle(work) => work.lead(crew),
            Self::Pairs(_) | Self::Ping(_) | Self::History(_) => crew.connect_and_measure(),
            Self::Login(work) => work.lead(crew),
            Self::Presence(work) => work.lead(crew),
            Self::Storm(work) => work.lead(crew),
            Self::Offline(work) => work.lead(crew),
            Self::Rooms(work) => work.lead(crew),
            Self::RoomFill(work) => work.lead(crew),
            Self::RoomsIdle(work) => work.lead(crew),
        }
    }

    /// Sessions that must be in the same worker.
    pub fn group(&self) -> u32 {
        match self {
            Self::Pairs(_) | Self::Storm(_) | Self::Offline(_) => 2,
            Self::Ping(_) | Self::Login(_) | Self::History(_) | Self::RoomsIdle(_) => 1,
            Self::Idle(work) => work.contacts + 1,
            Self::Presence(work) => work.contacts + 1,
            Self::Rooms(work) => work.occupants,
            Self::RoomFill(work) => work.occupants,
        }
    }

    /// Sessions of a run that is asked for so many: those that belong together are whole, and a scenario of rooms has those that
    /// its rooms take.
    pub fn sessions(&self, asked: u32) -> u32 {
        match self {
            Self::Rooms(work) => work.rooms.saturating_mul(work.occupants),
            Self::RoomFill(work) => work.occupants,
            _ => asked.div_ceil(self.group()) * self.group(),
        }
    }

    /// With a name for its rooms, where it has rooms and they have none.
    #[must_use]
    pub fn with_rooms_called(mut self, name: &str) -> Self {
        let called = match &mut self {
            Self::Rooms(work) => &mut work.called,
            Self::RoomFill(work) => &mut work.called,
            Self::RoomsIdle(work) => &mut work.called,
            _ => return self,
        };
        called.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Whether its sessions become available (RFC 6121 §4.2) after they asked for their roster.
    pub fn needs_presence(&self) -> bool {
        !matches!(self, Self::Login(_))
    }

    /// Whether clients ask for their roster, as people's clients do.
    pub fn needs_roster(&self) -> bool {
        matches!(self, Self::Idle(_) | Self::Presence(_) | Self::Storm(_))
    }
}
