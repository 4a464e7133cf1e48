//! `ping`: XEP-0199 to the server itself, the cheapest question that has an answer.

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::pace::Pace;
use super::time::{hexadecimal, time};
use crate::client::splitter::{attribute, name};
use crate::engine::World;
use crate::engine::connection::Stage;
use crate::plan::Plan;

/// What `ping` needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Ping {
    /// Closed loop: pings under way in each session
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub in_flight: u32,
    /// Open loop: pings a second of all sessions together
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
}

impl Default for Ping {
    fn default() -> Self {
        Self { in_flight: 1, rate: None }
    }
}

/// The start of every ping; the time follows as 16 hexadecimal digits.
const OPEN: &[u8] = b"<iq id='";

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: Ping,
    rest: Vec<u8>,
    pace: Option<Pace>,
    running: bool,
    sent: u64,
    answered: u64,
}

impl Worker {
    /// With nothing sent.
    pub fn new(work: Ping, plan: &Plan) -> Self {
        let share = f64::from(plan.sessions) / f64::from(plan.total.max(1));
        let pace = work.rate.map(|rate| Pace::new(rate * share, 0));
        let rest = format!("' type='get' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", plan.profile.domain).into_bytes();
        Self { work, rest, pace, running: false, sent: 0, answered: 0 }
    }

    fn send(&mut self, world: &mut World, who: u32, time: u64) {
        if world.session(who).stage() != Stage::Up {
            return;
        }
        self.sent += 1;
        world.stanza(who, |out| {
            out.extend_from_slice(OPEN);
            out.extend_from_slice(&hexadecimal(time));
            out.extend_from_slice(&self.rest);
        });
    }
}

impl Scenario for Worker {
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if name(element) != b"iq" {
            return;
        }
        let Some(began) = attribute(element, b"id").and_then(time) else { return };
        let now = world.micros();
        self.answered += 1;
        // An error is an answer as well: not every server answers this for everybody.
        if attribute(element, b"type") == Some(b"error") {
            world.recorder.error("ping refused");
        } else {
            world.recorder.record(began, now);
        }
        if self.running && self.pace.is_none() {
            self.send(world, who, now);
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.running = true;
        (self.sent, self.answered) = (0, 0);
        if let Some(pace) = &mut self.pace {
            pace.restart(world.micros());
            return;
        }
        for who in 0..world.len() {
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

    fn stop(&mut self, _world: &mut World) {
        self.running = false;
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.answered < self.sent
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        vec![("pings_not_answered".into(), self.sent.saturating_sub(self.answered) as f64)]
    }

    fn message_bytes(&self) -> usize {
        OPEN.len() + super::time::TIME_DIGITS + self.rest.len()
    }

    fn is_echo(&self) -> bool {
        true
    }
}
