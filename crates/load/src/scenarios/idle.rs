//! `idle`: sessions that are there and do nothing, as most of all sessions do most of the time.
//!
//! What counts is memory: before the sessions, with them, and after rounds in which all leave and come back. A message now
//! and then to one of them says how long it takes to wake a session that had nothing to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::time::{hexadecimal, time};
use crate::client::splitter::{attribute, name};
use crate::crew::{Crew, CrewError};
use crate::engine::World;
use crate::plan::Plan;
use crate::report::table::percentile;
use crate::result::{Memory, Run};

/// What `idle` needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Idle {
    /// Mutual contacts of each user, made where they are missing
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub contacts: u32,
    /// Rounds in which all sessions leave and come back
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub rounds: u32,
    /// Messages of each worker process from a random session to a random session, one after another
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub messages: u32,
}

/// How long after the last session memory is looked at: what a login left behind is given back by then.
const SETTLE: Duration = Duration::from_secs(2);

/// A message that has not come after so long is lost, microseconds.
const LOST_US: u64 = 5_000_000;

/// Does nothing, but for the messages.
#[derive(Debug)]
pub struct Worker {
    /// Messages that are still to be sent.
    left: u32,
    seed: u64,
    /// When the one that is under way was sent.
    sent: Option<u64>,
    /// Whether the messages are all there is to wait for.
    ends: bool,
}

impl Worker {
    /// With nothing sent.
    pub fn new(work: &Idle, plan: &Plan) -> Self {
        Self { left: work.messages, seed: plan.seed, sent: None, ends: work.messages > 0 }
    }

    fn send(&mut self, world: &mut World) {
        self.sent = None;
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let (from, to) = (self.random(world.len()), self.random(world.len()));
        let now = world.micros();
        let mut message = b"<message type='chat' to='".to_vec();
        message.extend_from_slice(world.session(to).jid().as_bytes());
        message.extend_from_slice(b"' id='");
        message.extend_from_slice(&hexadecimal(now));
        message.extend_from_slice(b"'><body>Are you there?</body></message>");
        self.sent = Some(now);
        world.stanza(from, |out| out.extend_from_slice(&message));
    }

    /// A session; SplitMix64, so that seeds that follow each other have nothing in common.
    fn random(&mut self, sessions: u32) -> u32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(sessions.max(1))) as u32
    }
}

impl Scenario for Worker {
    fn element(&mut self, world: &mut World, _who: u32, element: &[u8]) {
        if self.sent.is_none() || name(element) != b"message" {
            return;
        }
        let Some(began) = attribute(element, b"id").and_then(time).filter(|began| self.sent == Some(*began)) else {
            return;
        };
        if attribute(element, b"type") == Some(b"error") {
            world.recorder.error("message refused");
        } else {
            world.recorder.record(began, world.micros());
        }
        self.send(world);
    }

    fn begin(&mut self, world: &mut World) {
        self.send(world);
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        let lost = self.sent? + LOST_US;
        if world.now < lost {
            return Some(lost);
        }
        world.recorder.error("message lost");
        self.send(world);
        Some(world.now + LOST_US)
    }

    fn is_done(&self, _world: &World) -> bool {
        self.ends && self.left == 0 && self.sent.is_none()
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.sent.is_some()
    }

    fn stop(&mut self, _world: &mut World) {
        self.left = 0;
    }
}

impl Idle {
    /// Looks at memory before, with, and after each round.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        // Before anybody was ever there: what a server keeps from the making of contacts is memory that sessions cost too.
        let before = crew.server_memory()?;
        if self.contacts > 0 {
            crew.connect()?;
            crew.contacts(self.contacts)?;
            crew.disconnect(false)?;
            std::thread::sleep(SETTLE);
        }
        let sessions = u64::from(crew.order.plan.sessions);
        let own_before = crew.workers_memory();
        let connect_seconds = crew.connect()?;
        std::thread::sleep(SETTLE);
        let with = crew.server_memory()?;
        let own = crew.workers_memory().saturating_sub(own_before);
        let mut run = crew.measure()?;
        if let Some(us) = percentile(&run, 50.0) {
            run.figures.insert("random_message_us".into(), us);
        }
        run.operations = sessions;
        run.figures.insert("connect_seconds".into(), connect_seconds);
        run.figures.insert("logins_per_second".into(), sessions as f64 / connect_seconds.max(1e-6));
        run.figures.insert("client_bytes_per_session".into(), own as f64 / sessions.max(1) as f64);
        let mut after = None;
        for round in 1..=self.rounds {
            crew.disconnect(false)?;
            std::thread::sleep(SETTLE);
            after = crew.server_memory()?.map(|(own, _)| own);
            let seconds = crew.connect()?;
            std::thread::sleep(SETTLE);
            run.figures.insert(format!("round_{round:02}_connect_seconds"), seconds);
            if let (Some((with, _)), Some((before, _))) = (crew.server_memory()?, before) {
                let bytes = with.saturating_sub(before) as f64 / sessions.max(1) as f64;
                run.figures.insert(format!("round_{round:02}_bytes_per_session"), bytes);
            }
        }
        crew.disconnect(false)?;
        std::thread::sleep(SETTLE);
        after = crew.server_memory()?.map(|(own, _)| own).or(after);
        if let (Some((before, kernel_before)), Some((with, kernel_with))) = (before, with) {
            run.memory = Some(Memory { sessions, before, with, after, kernel_before, kernel_with });
        }
        Ok(run)
    }
}
