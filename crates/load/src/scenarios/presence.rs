//! `presence`: users come and go, and their contacts hear of it (RFC 6121 §4).
//!
//! Users are in groups in which everyone knows everyone. In each group one after the other leaves and comes back, the next
//! once all contacts have heard it. Who comes back also hears who is there: that is a delivery too.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::client::splitter::{attribute, name};
use crate::crew::{Crew, CrewError};
use crate::engine::World;
use crate::engine::connection::Stage;
use crate::result::Run;

/// What `presence` needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Presence {
    /// Mutual contacts of each user, made where they are missing
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub contacts: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { contacts: 20 }
    }
}

/// How long a group waits for a delivery, microseconds.
const PATIENCE_US: u64 = 5_000_000;

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    size: u32,
    groups: Vec<Group>,
    running: bool,
    looked: u64,
    missing: u64,
}

/// Users who all know each other.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Who comes or goes, counted in the group.
    acting: u32,
    is_there: bool,
    /// When that was sent.
    began: u64,
    /// Contacts who have not heard of it.
    left: u32,
}

impl Presence {
    /// Makes the contacts, then measures.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let connect_seconds = crew.connect()?;
        let (made, seconds) = crew.contacts(self.contacts)?;
        let mut run = crew.measure()?;
        run.figures.insert("connect_seconds".into(), connect_seconds);
        run.figures.insert("contacts_made".into(), made as f64);
        run.figures.insert("contacts_seconds".into(), seconds);
        Ok(run)
    }
}

impl Worker {
    /// With everybody there.
    pub fn new(work: &Presence) -> Self {
        Self { size: work.contacts + 1, groups: Vec::new(), running: false, looked: 0, missing: 0 }
    }

    /// The next thing that happens in a group.
    fn act(&mut self, world: &mut World, index: u32) {
        let size = self.size;
        let first = index * size;
        let group = &mut self.groups[index as usize];
        if !group.is_there {
            group.is_there = true;
        } else {
            group.acting = (group.acting + 1) % size;
            group.is_there = false;
        }
        group.began = world.micros();
        let members = first..(first + size).min(world.len());
        let acting = first + group.acting % (members.end - members.start).max(1);
        group.acting = acting - first;
        group.left = members.filter(|who| *who != acting && world.session(*who).stage() == Stage::Up).count() as u32;
        let stanza: &[u8] = if group.is_there { b"<presence/>" } else { b"<presence type='unavailable'/>" };
        world.stanza(acting, |out| out.extend_from_slice(stanza));
    }
}

impl Scenario for Worker {
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if name(element) != b"presence" || self.groups.is_empty() {
            return;
        }
        if !matches!(attribute(element, b"type"), None | Some(b"unavailable")) {
            return;
        }
        let index = who / self.size;
        let group = self.groups[index as usize];
        let acting = index * self.size + group.acting;
        let from = attribute(element, b"from").unwrap_or_default();
        if from == world.session(who).jid().as_bytes() {
            return;
        }
        let now = world.micros();
        let is_there = attribute(element, b"type").is_none();
        if who == acting || from != world.session(acting).jid().as_bytes() || is_there != group.is_there {
            world.recorder.count(now);
            return;
        }
        world.recorder.record(group.began, now);
        let group = &mut self.groups[index as usize];
        group.left = group.left.saturating_sub(1);
        if group.left == 0 && self.running {
            self.act(world, index);
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.running = true;
        let groups = world.len().div_ceil(self.size);
        self.groups = vec![Group { is_there: true, ..Group::default() }; groups as usize];
        for index in 0..groups {
            self.act(world, index);
        }
        self.looked = world.now;
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        if !self.running {
            return None;
        }
        if world.now >= self.looked + PATIENCE_US / 5 {
            self.looked = world.now;
            for index in 0..self.groups.len() {
                let Group { left, began, .. } = self.groups[index];
                if world.now > began + PATIENCE_US {
                    self.missing += u64::from(left);
                    world.recorder.error("presence not delivered in time");
                    self.act(world, index as u32);
                }
            }
        }
        Some(self.looked + PATIENCE_US / 5)
    }

    fn stop(&mut self, _world: &mut World) {
        self.running = false;
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.groups.iter().any(|group| group.left > 0)
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        let left: u32 = self.groups.iter().map(|group| group.left).sum();
        vec![("deliveries_missing".into(), (self.missing + u64::from(left)) as f64)]
    }
}
