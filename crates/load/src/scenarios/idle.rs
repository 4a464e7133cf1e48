//! `idle`: sessions that are there and do nothing, as most of all sessions do most of the time.
//!
//! What counts is memory: before the sessions, with them, and after rounds in which all leave and come back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::crew::{Crew, CrewError};
use crate::engine::World;
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
}

/// How long after the last session memory is looked at: what a login left behind is given back by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Does nothing.
#[derive(Debug, Default)]
pub struct Worker;

impl Scenario for Worker {
    fn element(&mut self, _world: &mut World, _who: u32, _element: &[u8]) {}

    fn begin(&mut self, _world: &mut World) {}
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
