//! `offline`: people come back and get what was written to them meanwhile (XEP-0160).
//!
//! Sessions are pairs: the second of each writes to the first, who is not there, and leaves. That is the preparation, and
//! takes as long as it takes. Then all the first ones log in at once; what counts is a message that came, and the end is when all have.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::client::splitter::name;
use crate::crew::{Crew, CrewError};
use crate::engine::connection::Acks;
use crate::engine::{Down, World};
use crate::result::Run;

/// What `offline` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Offline {
    /// Messages for each who comes back
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub messages: u32,
    /// Bytes of a message, all its XML included
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub bytes: usize,
}

impl Default for Offline {
    fn default() -> Self {
        Self { messages: 100, bytes: 200 }
    }
}

/// Messages that are under way from one writer: a server may hold back who sends more.
const UNACKNOWLEDGED_MAX: u32 = 20;
/// The first of each pair.
const PER_PAIR: usize = 2;

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: Offline,
    /// Messages that each session has sent, or has received.
    counts: Vec<u32>,
    /// Sessions that have done their part.
    done: u32,
    fetching: bool,
    began: u64,
}

impl Offline {
    /// Writes all, then fetches all.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        if !crew.order.plan.profile.acks {
            return Err(CrewError::Worker("offline takes --acks: only they say that a message was taken".into()));
        }
        let seconds = crew.prepare()?;
        // What the server still writes is not part of it.
        std::thread::sleep(std::time::Duration::from_secs(2));
        crew.order.warmup = 0.0;
        crew.order.seconds = crew.order.seconds.max(FETCH_SECONDS_MAX);
        let mut run = crew.measure()?;
        run.figures.insert("prepare_seconds".into(), seconds);
        Ok(run)
    }
}

/// When it is given up.
const FETCH_SECONDS_MAX: f64 = 120.0;

impl Worker {
    /// With nothing written.
    pub fn new(work: Offline, sessions: u32) -> Self {
        Self { work, counts: vec![0; sessions as usize], done: 0, fetching: false, began: 0 }
    }

    fn pairs(&self) -> u32 {
        (self.counts.len() / PER_PAIR) as u32
    }

    /// Until as many are under way as may be, or all are.
    fn write(&mut self, world: &mut World, who: u32) {
        let (recipient, _) = world.plan.accounts.login(world.plan.first + (who ^ 1));
        let to = format!("{recipient}@{}", world.plan.profile.domain);
        let overhead = "<message type='chat' to=''><body></body></message>".len() + to.len();
        let body = "offline ".repeat(self.work.bytes / 8 + 1);
        let body = &body[..self.work.bytes.saturating_sub(overhead)];
        while self.counts[who as usize] < self.work.messages && unacknowledged(world, who) < UNACKNOWLEDGED_MAX {
            self.counts[who as usize] += 1;
            let message = format!("<message type='chat' to='{to}'><body>{body}</body></message>");
            world.stanza(who, |out| out.extend_from_slice(message.as_bytes()));
        }
        if self.counts[who as usize] == self.work.messages {
            world.send(who, |out| out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>"));
        }
    }
}

fn unacknowledged(world: &World, who: u32) -> u32 {
    world.session(who).acks().map_or(0, Acks::unacknowledged)
}

impl Scenario for Worker {
    fn prepare(&mut self, world: &mut World) {
        for who in (1..world.len()).step_by(PER_PAIR) {
            world.connect(who..who + 1);
        }
    }

    fn is_prepared(&self, world: &World) -> bool {
        self.done == self.pairs() && !world.has_connections()
    }

    fn up(&mut self, world: &mut World, who: u32) {
        if !self.fetching {
            self.write(world, who);
        }
    }

    fn acknowledged(&mut self, world: &mut World, who: u32) {
        if self.fetching {
            return;
        }
        if self.counts[who as usize] < self.work.messages {
            self.write(world, who);
        } else if unacknowledged(world, who) == 0 {
            self.done += 1;
            world.end(who);
        }
    }

    fn down(&mut self, world: &mut World, _who: u32, why: &Down) {
        if let Down::NotReady(why) | Down::Lost(why) = why {
            world.recorder.error(why);
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.fetching = true;
        self.done = 0;
        self.counts.fill(0);
        self.began = world.micros();
        for who in (0..world.len()).step_by(PER_PAIR) {
            world.connect(who..who + 1);
        }
    }

    fn element(&mut self, world: &mut World, who: u32, element: &[u8]) {
        if !self.fetching || name(element) != b"message" {
            return;
        }
        let count = &mut self.counts[who as usize];
        *count += 1;
        let now = world.micros();
        match (*count).cmp(&self.work.messages) {
            std::cmp::Ordering::Less => world.recorder.count(now),
            std::cmp::Ordering::Equal => {
                // From the moment at which all began to come back to the last message of this one.
                world.recorder.record(self.began, now);
                self.done += 1;
                // The run may be over before the server asks, and what is not acknowledged comes again in the next.
                let received = world.session(who).acks().map_or(0, |acks| acks.received);
                world.send(who, |out| {
                    out.extend_from_slice(format!("<a xmlns='urn:xmpp:sm:3' h='{received}'/>").as_bytes())
                });
            }
            std::cmp::Ordering::Greater => world.recorder.error("a message came twice"),
        }
    }

    fn is_done(&self, _world: &World) -> bool {
        self.fetching && self.done == self.pairs()
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        let received: u32 = self.counts.iter().sum();
        let wanted = u64::from(self.pairs()) * u64::from(self.work.messages);
        vec![("messages_missing".into(), wanted.saturating_sub(received.into()) as f64)]
    }
}
