//! The event loop of a worker: thousands of sessions in one thread, nothing between it and the kernel.
//!
//! Readiness is edge-triggered and asked for once per connection. What a wake-up brings is read in one go, and what it makes
//! a session say is written in one go.

pub mod connection;
pub mod recorder;
mod session;
pub mod tls;
mod world;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use crate::scenarios::Scenario;

pub use world::{Down, World};

/// Events that one wake-up takes.
const EVENTS: usize = 512;

/// The event data of whatever commands come from.
const COMMANDS: u64 = u64::MAX;

/// How long the loop sleeps where nothing asks for less, microseconds.
const SLEEP_US_MAX: u64 = 1_000_000;

/// Sessions, and what they do.
pub struct Engine {
    /// The sessions.
    pub world: World,
    /// What they do.
    pub scenario: Box<dyn Scenario>,
}

impl Engine {
    /// Also wakes when `commands` can be read.
    pub fn watch(&mut self, commands: impl AsFd) -> io::Result<()> {
        epoll::add(&self.world.epoll, commands, EventData::new_u64(COMMANDS), EventFlags::IN | EventFlags::HUP)?;
        Ok(())
    }

    /// Waits until `until` at most, and does what there is to do. Whether commands can be read.
    pub fn turn(&mut self, until: u64) -> io::Result<bool> {
        let mut events = [MaybeUninit::uninit(); EVENTS];
        let wait = until.min(self.world.next_due()).saturating_sub(self.world.micros()).min(SLEEP_US_MAX);
        let timeout = Timespec { tv_sec: (wait / 1_000_000) as i64, tv_nsec: (wait % 1_000_000 * 1000) as i64 };
        let events = match epoll::wait(&self.world.epoll, &mut events[..], Some(&timeout)) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.world.now = self.world.micros();
        let mut commands = false;
        for event in events {
            let (flags, data) = (event.flags, event.data.u64());
            if data == COMMANDS {
                commands = true;
                continue;
            }
            self.socket((data & u64::from(u32::MAX)) as u32, (data >> 32) as u32, flags);
            self.settle();
        }
        self.world.connect_due();
        self.settle();
        let next = self.scenario.due(&mut self.world);
        self.world.scenario_due = next.unwrap_or(u64::MAX);
        self.settle();
        Ok(commands)
    }

    /// Tells the scenario of the sessions that ended meanwhile; its own answer may end others.
    pub fn settle(&mut self) {
        while let Some((who, why)) = self.world.ended.pop() {
            self.scenario.down(&mut self.world, who, &why);
        }
    }
}
