//! `login`: connect, authenticate, bind, end the stream, and again. What counts is a session that was ready.
//!
//! Each session of the run is one person's client, which always logs in to the same account: it hashes its password once,
//! as clients that keep their keys do, so that the generator costs less than the server.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::client::negotiation as client;
use crate::crew::{Crew, CrewError};
use crate::engine::{Down, World};
use crate::result::Run;

/// What `login` needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Login {
    /// Resumes TLS sessions with the server's tickets, from the second login of each session on
    #[arg(long)]
    pub resumed: bool,
    /// Logs in and binds a resource at once (XEP-0388, XEP-0386)
    #[arg(long)]
    pub sasl2: bool,
    /// The same; from the second login of each session on by a token (XEP-0484), and with TLS by a resumed session
    #[arg(long)]
    pub fast: bool,
}

impl Login {
    /// How the parent leads. Where nobody ever got in there is nothing to measure, and why is an error.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        let run = crew.measure()?;
        match run.errors.keys().next() {
            Some(why) if run.figures.get("logins_all") == Some(&0.0) => Err(CrewError::Worker(why.clone())),
            _ => Ok(run),
        }
    }

    /// Whether TLS sessions are resumed.
    pub fn resumes(&self) -> bool {
        self.resumed || self.fast
    }

    /// By which profile of SASL.
    pub fn profile(&self) -> client::Login {
        match (self.fast, self.sasl2) {
            (true, _) => client::Login::Fast,
            (false, true) => client::Login::Sasl2,
            (false, false) => client::Login::Sasl,
        }
    }
}

/// How long a client waits after a login that failed, microseconds.
const PAUSE_US: u64 = 500_000;

/// The sessions of one worker.
#[derive(Debug, Default)]
pub struct Worker {
    began: Vec<u64>,
    /// Sessions that wait after a failure, oldest first.
    pausing: std::collections::VecDeque<(u64, u32)>,
    running: bool,
    handshakes_before: u64,
    logins_before: u64,
}

impl Worker {
    fn connect(&mut self, world: &mut World, who: u32) {
        if let Some(began) = self.began.get_mut(who as usize) {
            *began = world.micros();
        }
        world.connect(who..who + 1);
    }
}

impl Scenario for Worker {
    fn up(&mut self, world: &mut World, who: u32) {
        let began = self.began.get(who as usize).copied().unwrap_or_default();
        let now = world.micros();
        world.recorder.record(began, now);
        world.end(who);
    }

    fn down(&mut self, world: &mut World, who: u32, why: &Down) {
        if let Down::NotReady(why) | Down::Lost(why) = why {
            world.recorder.error(why);
            self.pausing.push_back((world.now + PAUSE_US, who));
            return;
        }
        if self.running {
            self.connect(world, who);
        }
    }

    fn element(&mut self, _world: &mut World, _who: u32, _element: &[u8]) {}

    fn begin(&mut self, world: &mut World) {
        self.running = true;
        self.began = vec![0; world.len() as usize];
        (self.handshakes_before, self.logins_before) = (world.resumed_handshakes, world.logins);
        for who in 0..world.len() {
            self.connect(world, who);
        }
    }

    fn due(&mut self, world: &mut World) -> Option<u64> {
        while let Some(&(due, who)) = self.pausing.front() {
            if due > world.now {
                return Some(due);
            }
            self.pausing.pop_front();
            if self.running {
                self.connect(world, who);
            }
        }
        None
    }

    fn stop(&mut self, world: &mut World) {
        self.running = false;
        world.stop_connecting();
    }

    fn is_waiting(&self, world: &World) -> bool {
        world.has_connections()
    }

    fn figures(&self, world: &World) -> Vec<(String, f64)> {
        vec![
            ("logins_all".into(), (world.logins - self.logins_before) as f64),
            ("tls_resumed".into(), (world.resumed_handshakes - self.handshakes_before) as f64),
        ]
    }
}
