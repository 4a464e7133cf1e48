//! `storm`: all connections break at once, and all clients come back.
//!
//! Right before, everybody writes a message to another: with acknowledgements (XEP-0198) each of them must arrive, because
//! a stream is resumed, or what was not acknowledged is sent again, or the server kept it for later.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::time::{hexadecimal, time};
use crate::client::negotiation::Resumption;
use crate::client::splitter::{attribute, name};
use crate::crew::{Crew, CrewError};
use crate::engine::connection::Stage;
use crate::engine::{Down, World};
use crate::result::Run;

/// What `storm` needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Storm {
    /// No messages: only the sessions have to come back
    #[arg(long)]
    pub without_messages: bool,
}

/// How long a client waits before it tries again, microseconds: between this and twice this.
const PAUSE_US: u64 = 500_000;

/// What a session has to do with its message.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// The server's count of stanzas that makes the message its own.
    due: Option<u32>,
    sent: bool,
    /// How often the message from it arrived.
    arrived: u32,
    returned: bool,
}

/// The sessions of one worker.
#[derive(Debug)]
pub struct Worker {
    work: Storm,
    members: Vec<Member>,
    pausing: VecDeque<(u64, u32)>,
    began: u64,
    returned: u32,
    last: u64,
    retries: u64,
    resumed: u64,
    sent_again: u64,
    seed: u64,
}

impl Storm {
    /// Brings all up, lets all drop, waits for all.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let connect_seconds = crew.connect()?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        crew.order.warmup = 0.0;
        let mut run = crew.measure()?;
        run.figures.insert("connect_seconds".into(), connect_seconds);
        // The slowest worker's, not the sum.
        let returned =
            run.latency.as_ref().and_then(|latency| latency.percentiles_us.last()).map_or(0.0, |last| last.1);
        run.figures.insert("returned_seconds".into(), returned / 1e6);
        Ok(run)
    }
}

impl Worker {
    /// Before the storm.
    pub fn new(work: Storm, seed: u64) -> Self {
        Self {
            work,
            members: Vec::new(),
            pausing: VecDeque::new(),
            began: 0,
            returned: 0,
            last: 0,
            retries: 0,
            resumed: 0,
            sent_again: 0,
            seed: seed | 1,
        }
    }

    fn write(&self, world: &mut World, who: u32) {
        let other = (who ^ 1).min(world.len() - 1);
        let to = bare(world.session(other).jid()).to_owned();
        world.stanza(who, |out| {
            out.extend_from_slice(b"<message id='");
            out.extend_from_slice(&hexadecimal(u64::from(who)));
            out.extend_from_slice(b"' type='chat' to='");
            out.extend_from_slice(to.as_bytes());
            out.extend_from_slice(b"'><body>before the storm</body></message>");
        });
    }

    fn comes_back(&mut self, world: &mut World, who: u32) {
        let resumption = world
            .session(who)
            .acks()
            .filter(|acks| !acks.stream.is_empty())
            .map(|acks| Resumption { id: acks.stream.clone(), received: acks.received });
        match resumption {
            Some(resumption) => world.resume(who, resumption),
            None => world.connect(who..who + 1),
        }
    }

    /// A number between 0 and 1.
    fn random(&mut self) -> f64 {
        // Xorshift: jitter needs no better one.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Scenario for Worker {
    fn up(&mut self, world: &mut World, who: u32) {
        if self.members.is_empty() {
            return;
        }
        let now = world.micros();
        let was_resumed = world.session(who).was_resumed();
        let acknowledged = world.session(who).acks().map(|acks| acks.acknowledged);
        let member = &mut self.members[who as usize];
        if !member.returned {
            member.returned = true;
            self.returned += 1;
            self.last = now;
            self.resumed += u64::from(was_resumed);
            world.recorder.record(self.began, now);
        }
        // A new stream knows nothing of the old one: what it had not acknowledged is sent again.
        let has_it = member.due.is_some_and(|due| was_resumed && acknowledged >= Some(due));
        if member.sent && member.due.is_some() && !has_it {
            member.due = None;
            self.sent_again += 1;
            self.write(world, who);
        }
    }

    fn down(&mut self, world: &mut World, who: u32, why: &Down) {
        match why {
            Down::Ended if !self.members.is_empty() => self.comes_back(world, who),
            Down::Ended => {}
            Down::NotReady(why) | Down::Lost(why) => {
                if self.members.is_empty() {
                    world.recorder.error(why);
                    return;
                }
                self.retries += 1;
                let pause = PAUSE_US + (self.random() * PAUSE_US as f64) as u64;
                self.pausing.push_back((world.now + pause, who));
            }
        }
    }

    fn element(&mut self, _world: &mut World, _who: u32, element: &[u8]) {
        if name(element) != b"message" || attribute(element, b"type") == Some(b"error") {
            return;
        }
        let Some(sender) = attribute(element, b"id").and_then(time) else { return };
        if let Some(member) = self.members.get_mut(sender as usize) {
            member.arrived += 1;
        }
    }

    fn begin(&mut self, world: &mut World) {
        self.members = vec![Member::default(); world.len() as usize];
        for who in 0..world.len() {
            if !self.work.without_messages && world.session(who).stage() == Stage::Up {
                self.write(world, who);
                let due = world.session(who).acks().map(|acks| acks.sent);
                let member = &mut self.members[who as usize];
                (member.sent, member.due) = (true, due);
            }
        }
        self.began = world.micros();
        for who in 0..world.len() {
            world.drop_connection(who);
        }
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        // Their order is nearly the order of their times.
        while let Some(&(due, who)) = self.pausing.front() {
            if due > world.now {
                return Some(due);
            }
            self.pausing.pop_front();
            self.comes_back(world, who);
        }
        None
    }

    fn is_done(&self, world: &World) -> bool {
        self.returned as usize == self.members.len() && world.up() == world.len()
    }

    fn is_waiting(&self, _world: &World) -> bool {
        self.members.iter().any(|member| member.sent && member.arrived == 0)
    }

    fn figures(&self, _world: &World) -> Vec<(String, f64)> {
        let count = |holds: fn(&Member) -> bool| self.members.iter().filter(|member| holds(member)).count() as f64;
        vec![
            ("messages_sent".into(), count(|member| member.sent)),
            ("messages_lost".into(), count(|member| member.sent && member.arrived == 0)),
            ("messages_twice".into(), count(|member| member.arrived > 1)),
            ("messages_sent_again".into(), self.sent_again as f64),
            ("sessions_not_back".into(), count(|member| !member.returned)),
            ("sessions_resumed".into(), self.resumed as f64),
            ("logins_retried".into(), self.retries as f64),
        ]
    }
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}
