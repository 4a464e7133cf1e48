//! `pairs`: two users write to each other, RFC 6121 §5.
//!
//! Closed loop: each message that comes is answered with one of the same size. Open loop: messages are sent at a rate
//! whatever comes back, and a latency begins at the time that the rate asked for. Both ends of a pair are sessions of one
//! worker, so one clock measures the way of a message; its time travels in the stanza's `id`.

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::pace::Pace;
use super::time::{TIME_DIGITS, hexadecimal, time};
use crate::client::negotiation::condition;
use crate::client::splitter::{attribute, name};
use crate::engine::World;
use crate::engine::connection::{Acks, Stage};
use crate::plan::{Plan, Protocol};

/// What `pairs` needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Pairs {
    /// Bytes of a message, all its XML included
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub bytes: usize,
    /// Closed loop: messages under way in each pair
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub in_flight: u32,
    /// Closed loop: stanzas that the server has not acknowledged at which a session stops sending; it takes --acks, and a session
    /// asks after each fifth stanza
    #[arg(long, value_name = "N", requires = "acks", value_parser = clap::value_parser!(u32).range(5..))]
    pub unacknowledged_max: Option<u32>,
    /// Ends when so many messages of all pairs together have come
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    /// Open loop: messages a second of all pairs together
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { bytes: 200, in_flight: 1, unacknowledged_max: None, messages: None, rate: None }
    }
}

/// The start of every message; the time follows as 16 hexadecimal digits.
const OPEN: &[u8] = b"<message id='";
const TO: &[u8] = b"' type='chat' to='";
const BODY: &[u8] = b"'><body>";
const CLOSE: &[u8] = b"</body></message>";

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: Pairs,
    raw: bool,
    padding: Vec<u8>,
    pace: Option<Pace>,
    running: bool,
    sent: u64,
    received: u64,
    /// Messages that sessions will send when what is before them is acknowledged.
    held: Vec<u32>,
    /// After which this worker is done.
    messages_max: Option<u64>,
}

/// Bytes that a message to `jid` needs at least.
pub fn overhead(jid: &str) -> usize {
    OPEN.len() + TIME_DIGITS + TO.len() + jid.len() + BODY.len() + CLOSE.len()
}

impl Worker {
    /// With nothing sent.
    pub fn new(work: Pairs, plan: &Plan) -> Self {
        let share = f64::from(plan.sessions) / f64::from(plan.total.max(1));
        let pace = work.rate.map(|rate| Pace::new(rate * share, 0));
        let padding =
            b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(work.bytes).collect();
        let messages_max = work.messages.map(|all| (all as f64 * share).ceil() as u64);
        Self {
            raw: plan.protocol == Protocol::Raw,
            work,
            padding,
            pace,
            running: false,
            sent: 0,
            received: 0,
            held: vec![0; plan.sessions as usize],
            messages_max,
        }
    }

    /// Whether too much of what the session sent is not acknowledged.
    fn waits_for_acks(&self, world: &World, who: u32) -> bool {
        let unacknowledged = || world.session(who).acks().map_or(0, Acks::unacknowledged);
        self.work.unacknowledged_max.is_some_and(|most| unacknowledged() >= most)
    }

    /// From `who` to the other of the pair; the message says that it was sent at `time`.
    fn send(&mut self, world: &mut World, who: u32, time: u64) {
        let partner = who ^ 1;
        if world.session(who).stage() != Stage::Up || world.session(partner).stage() != Stage::Up {
            return;
        }
        self.sent += 1;
        let made_up;
        let jid: Box<str> = if self.raw {
            made_up = format!("user{partner}@localhost/load{partner}");
            made_up.into()
        } else {
            world.session(partner).jid().into()
        };
        let padding = &self.padding[..self.work.bytes.saturating_sub(overhead(&jid))];
        world.stanza(who, |out| {
            out.extend_from_slice(OPEN);
            out.extend_from_slice(&hexadecimal(time));
            for part in [TO, jid.as_bytes(), BODY, padding, CLOSE] {
                out.extend_from_slice(part);
            }
        });
    }
}

impl Scenario for Worker {
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if name(element) != b"message" {
            return;
        }
        let Some(began) = attribute(element, b"id").and_then(time) else { return };
        if attribute(element, b"type") == Some(b"error") {
            let error = memchr::memmem::find(element, b"<error").map_or(element, |found| &element[found..]);
            world.recorder.error(&format!("message refused: {}", condition(error)));
            return;
        }
        let now = world.micros();
        self.received += 1;
        world.recorder.record(began, now);
        if self.running && self.pace.is_none() {
            if self.waits_for_acks(world, who) {
                self.held[who as usize] += 1;
            } else {
                self.send(world, who, now);
            }
        }
    }

    fn acknowledged(&mut self, world: &mut World, who: u32) {
        while self.running && self.held[who as usize] > 0 && !self.waits_for_acks(world, who) {
            self.held[who as usize] -= 1;
            let now = world.micros();
            self.send(world, who, now);
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.running = true;
        (self.sent, self.received) = (0, 0);
        self.held.fill(0);
        if let Some(pace) = &mut self.pace {
            pace.restart(world.micros());
            return;
        }
        for who in (0..world.len()).step_by(2) {
            for _ in 0..self.work.in_flight {
                let now = world.micros();
                self.send(world, who, now);
            }
        }
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        if !self.running {
            return None;
        }
        let mut pace = self.pace.take()?;
        let next = loop {
            match pace.next(world.micros()) {
                Ok((due, number)) => self.send(world, (number % u64::from(world.len().max(1))) as u32, due),
                Err(due) => break due,
            }
        };
        self.pace = Some(pace);
        Some(next)
    }

    fn is_done(&self, _world: &World) -> bool {
        self.messages_max.is_some_and(|most| self.received >= most)
    }

    fn stop(&mut self, _world: &mut World) {
        self.running = false;
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.received < self.sent
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![
            ("messages_sent".into(), self.sent as f64),
            ("messages_not_received".into(), self.sent.saturating_sub(self.received) as f64),
        ]
    }

    fn message_bytes(&self) -> usize {
        self.work.bytes
    }
}
