//! `rooms`: what is said in a room reaches all who are in it (XEP-0045 §7.4).
//!
//! Closed loop: a sender says the next once the room has reflected the one before. What counts is a delivery: a message that
//! came to an occupant, the sender included, once and in the order in which all others get it. All occupants of a room are
//! sessions of one worker.

mod order;

use serde::{Deserialize, Serialize};

use self::order::{Came, Id, Order};
use super::groupchat::{self, Founding, PERSISTENT, PRESENCE_OF_MODERATORS, Wish};
use super::{Scenario, time};
use crate::client::splitter::{attribute, name};
use crate::crew::{Crew, CrewError};
use crate::engine::World;
use crate::engine::connection::{Acks, Stage};
use crate::plan::Plan;
use crate::result::Run;

/// What `rooms` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Rooms {
    /// Rooms; each has occupants of its own, so that there are as many sessions as occupants in all of them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Occupants of each room
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub occupants: u32,
    /// Occupants of each room who say something
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub senders: u32,
    /// Bytes of a message as it is sent, all its XML included
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub bytes: usize,
    /// Stanzas that the server has not acknowledged at which a sender waits; it takes --acks, and a session asks after each
    /// fifth stanza
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(5..))]
    pub unacknowledged_max: Option<u32>,
    /// The rooms have an archive (XEP-0313)
    #[arg(long)]
    pub archive: bool,
    /// The rooms show the presence of moderators alone, where the server can: a join is one presence then, and not one for
    /// each who is there
    #[arg(long)]
    pub presence_of_moderators: bool,
    /// Seconds after which a room that not all have entered is given up
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    pub join_seconds_max: u64,
    /// Where the rooms are; without it, at `conference.` and the domain
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How rooms are called, before a number; without it, after this process, so that none is there before
    #[arg(long, value_name = "NAME")]
    pub called: Option<String>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            rooms: 1,
            occupants: 200,
            senders: 1,
            bytes: 200,
            unacknowledged_max: None,
            archive: false,
            presence_of_moderators: false,
            join_seconds_max: 90,
            service: None,
            called: None,
        }
    }
}

/// Joins that are under way in each room.
const JOINING_MAX: u32 = 100;

/// What a run says whose rooms were given up.
pub const NOT_JOINED: &str = "not all were in the room in time";

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: Rooms,
    rooms: Vec<Room>,
    occupants: Vec<Occupant>,
    padding: Vec<u8>,
    deadline: u64,
    running: bool,
    sent: u64,
    /// Messages that their senders have not seen again.
    waiting: u64,
    delivered: u64,
}

/// One room; its owner is its first occupant.
#[derive(Debug)]
struct Room {
    jid: String,
    founding: Founding,
    /// The occupant who enters next.
    next: u32,
    joined: u32,
    destroyed: bool,
    order: Order,
}

#[derive(Clone, Debug, Default)]
struct Occupant {
    joined: bool,
    /// Messages that it has had.
    position: u64,
    /// Messages that it has sent.
    number: u32,
    /// The one that it has not seen again.
    under_way: Option<Id>,
    /// It will send when what is before it is acknowledged.
    held: bool,
}

impl Rooms {
    /// Lets all enter, then measures.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let connect_seconds = crew.connect()?;
        let join_seconds = crew.prepare()?;
        // What the last joins still cause is not part of it.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut run = crew.measure()?;
        run.figures.insert("connect_seconds".into(), connect_seconds);
        run.figures.insert("join_seconds".into(), join_seconds);
        crew.leave();
        Ok(run)
    }
}

impl Worker {
    /// With nobody in any room.
    pub fn new(work: Rooms, plan: &Plan) -> Self {
        let work = Rooms { senders: work.senders.min(work.occupants), ..work };
        let service = groupchat::service(work.service.as_deref(), plan);
        let called = work.called.clone().unwrap_or_default();
        let first = plan.first / work.occupants;
        let room = |number: u32| Room {
            jid: format!("{called}{}@{service}", first + number),
            founding: Founding::Nothing,
            next: 1,
            joined: 0,
            destroyed: false,
            order: Order::new(work.occupants, work.senders),
        };
        Self {
            rooms: (0..plan.sessions / work.occupants).map(room).collect(),
            occupants: vec![Occupant::default(); plan.sessions as usize],
            padding: b"The quick brown fox jumps over the lazy dog. "
                .iter()
                .copied()
                .cycle()
                .take(work.bytes)
                .collect(),
            work,
            deadline: u64::MAX,
            running: false,
            sent: 0,
            waiting: 0,
            delivered: 0,
        }
    }

    fn wishes(&self) -> Vec<Wish> {
        let mut wishes = vec![PERSISTENT, groupchat::archive(self.work.archive)];
        if self.work.presence_of_moderators {
            wishes.push(PRESENCE_OF_MODERATORS);
        }
        wishes
    }

    /// The room of a session, and which of its occupants it is.
    fn place(&self, who: u32) -> (usize, u32) {
        ((who / self.work.occupants) as usize, who % self.work.occupants)
    }

    fn all_are_there(&self) -> bool {
        self.rooms.iter().all(|room| room.joined == self.work.occupants)
    }

    /// Brings in as many as may be under way.
    fn join_more(&mut self, world: &mut World, index: usize) {
        let occupants = self.work.occupants;
        let room = &mut self.rooms[index];
        while room.next < occupants && room.next - room.joined < JOINING_MAX {
            let nick = room.next;
            room.next += 1;
            groupchat::join(world, index as u32 * occupants + nick, &room.jid, nick);
        }
    }

    fn joining(&mut self, world: &mut World, who: u32, element: &[u8]) {
        let (index, nick) = self.place(who);
        let wishes = if nick == 0 { self.wishes() } else { Vec::new() };
        let room = &mut self.rooms[index];
        if nick == 0 && room.founding != Founding::Done {
            room.founding = groupchat::found(world, who, (&room.jid, nick), element, room.founding, &wishes);
            if room.founding != Founding::Done {
                return;
            }
        } else if !groupchat::is_own_presence(element, nick) {
            return;
        } else if groupchat::is_refused(element) {
            world.recorder.error(&format!("join refused: {}", groupchat::refusal(element)));
            return;
        }
        let occupant = &mut self.occupants[who as usize];
        if !std::mem::replace(&mut occupant.joined, true) {
            room.joined += 1;
            self.join_more(world, index);
        }
    }

    /// Whether too much of what the session sent is not acknowledged.
    fn waits_for_acks(&self, world: &World, who: u32) -> bool {
        let unacknowledged = || world.session(who).acks().map_or(0, Acks::unacknowledged);
        self.work.unacknowledged_max.is_some_and(|most| unacknowledged() >= most)
    }

    fn send(&mut self, world: &mut World, who: u32) {
        if !self.running || world.session(who).stage() != Stage::Up {
            return;
        }
        if self.waits_for_acks(world, who) {
            self.occupants[who as usize].held = true;
            return;
        }
        let (index, nick) = self.place(who);
        let occupant = &mut self.occupants[who as usize];
        occupant.number += 1;
        let id = Id::new(world.micros(), nick, occupant.number);
        occupant.under_way = Some(id);
        self.sent += 1;
        self.waiting += 1;
        let room = self.rooms[index].jid.as_bytes();
        let padding = &self.padding[..self.work.bytes.saturating_sub(OVERHEAD + room.len())];
        world.stanza(who, |out| {
            for part in [OPEN, &id.0, TO, room, BODY, padding, CLOSE] {
                out.extend_from_slice(part);
            }
        });
    }

    fn message(&mut self, world: &mut World, who: u32, element: &[u8]) {
        let Some(digits) = attribute(element, b"id") else { return };
        let is_own = self.occupants[who as usize].under_way.is_some_and(|id| id.0 == digits);
        if is_own && groupchat::is_refused(element) {
            world.recorder.error(&format!("message refused: {}", groupchat::refusal(element)));
            self.reflected(world, who);
            return;
        }
        let (index, _) = self.place(who);
        let occupant = &mut self.occupants[who as usize];
        let Some(came) = self.rooms[index].order.take(&mut occupant.position, digits) else { return };
        match came {
            Came::InPlace { began, left: 0 } => {
                self.delivered += 1;
                let now = world.micros();
                world.recorder.record(began, now);
            }
            Came::InPlace { .. } => {
                self.delivered += 1;
                world.recorder.count(world.now);
            }
            Came::After(_) => world.recorder.error("messages missing, or in another order than with others"),
            Came::Again => world.recorder.error("a message came twice, or after others that follow it elsewhere"),
        }
        if is_own {
            let began = time::time(&digits[..time::TIME_DIGITS]).unwrap_or_default();
            let now = world.micros();
            world.recorder.also(REFLECTION, began, now);
            self.reflected(world, who);
        }
    }

    fn reflected(&mut self, world: &mut World, who: u32) {
        self.occupants[who as usize].under_way = None;
        self.waiting -= 1;
        self.send(world, who);
    }

    fn missing(&self) -> u64 {
        (self.sent * u64::from(self.work.occupants)).saturating_sub(self.delivered)
    }
}

const OPEN: &[u8] = b"<message id='";
const TO: &[u8] = b"' type='groupchat' to='";
const BODY: &[u8] = b"'><body>";
const CLOSE: &[u8] = b"</body></message>";
const OVERHEAD: usize = OPEN.len() + size_of::<Id>() + TO.len() + BODY.len() + CLOSE.len();

/// How the latencies from a message to its reflection to the sender are called.
const REFLECTION: &str = "reflection";

impl Scenario for Worker {
    fn prepare(&mut self, world: &mut World) {
        self.deadline = world.micros() + self.work.join_seconds_max * 1_000_000;
        for (index, room) in self.rooms.iter_mut().enumerate() {
            room.founding = Founding::Joining;
            groupchat::join(world, index as u32 * self.work.occupants, &room.jid, 0);
        }
    }

    fn is_prepared(&self, world: &World) -> bool {
        self.all_are_there() || world.micros() >= self.deadline
    }

    fn begin(&mut self, world: &mut World) {
        if !self.all_are_there() {
            world.recorder.error(NOT_JOINED);
            return;
        }
        self.running = true;
        for index in 0..self.rooms.len() as u32 {
            for sender in 0..self.work.senders {
                self.send(world, index * self.work.occupants + sender);
            }
        }
    }

    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if name(element) == b"message" {
            self.message(world, who, element);
        } else if attribute(element, b"id") == Some(groupchat::DESTROYED.as_bytes()) {
            let (index, _) = self.place(who);
            self.rooms[index].destroyed = true;
        } else if !self.occupants[who as usize].joined {
            self.joining(world, who, element);
        }
    }

    fn acknowledged(&mut self, world: &mut World, who: u32) {
        if std::mem::take(&mut self.occupants[who as usize].held) {
            self.send(world, who);
        }
    }

    fn is_done(&self, _world: &World) -> bool {
        !self.all_are_there()
    }

    fn stop(&mut self, _world: &mut World) {
        self.running = false;
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.waiting > 0 || self.rooms.iter().any(|room| room.order.left() > 0)
    }

    fn end(&mut self, world: &mut World) {
        if self.missing() > 0 {
            world.recorder.error("messages that did not come to all");
        }
    }

    fn leave(&mut self, world: &mut World) {
        for (index, room) in self.rooms.iter_mut().enumerate() {
            let owner = index as u32 * self.work.occupants;
            room.destroyed = room.founding == Founding::Nothing || world.session(owner).stage() != Stage::Up;
            if !room.destroyed {
                groupchat::destroy(world, owner, &room.jid);
            }
        }
    }

    fn has_left(&self, _world: &World) -> bool {
        self.rooms.iter().all(|room| room.destroyed)
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![
            ("messages_sent".into(), self.sent as f64),
            ("deliveries_missing".into(), self.missing() as f64),
            ("occupants_there".into(), self.rooms.iter().map(|room| f64::from(room.joined)).sum()),
        ]
    }
}
