//! What sessions do while they are measured. One scenario is one file, with both halves: what a worker's sessions do, and
//! how the parent leads the workers through it.

pub mod pairs;

use serde::{Deserialize, Serialize};

use crate::crew::{Crew, CrewError};
use crate::engine::{Down, World};
use crate::plan::Plan;
use crate::result::Run;

/// A scenario in a worker. Times are microseconds of the world's clock.
pub trait Scenario {
    /// A session is ready.
    fn up(&mut self, world: &mut World, who: u32) {
        let _ = (world, who);
    }

    /// A session is not there any more, or could not be made.
    fn down(&mut self, world: &mut World, who: u32, why: &Down) {
        let _ = who;
        match why {
            Down::Ended => {}
            Down::NotReady(why) | Down::Lost(why) => world.recorder.error(why),
        }
    }

    /// An element came that is neither a request nor part of the stream's own business.
    fn element(&mut self, world: &mut World, who: u32, element: &[u8]);

    /// All sessions are there; what is measured begins.
    fn begin(&mut self, world: &mut World);

    /// Called after each wake-up: when it wants to be called next.
    fn due(&mut self, world: &mut World) -> Option<u64> {
        let _ = world;
        None
    }

    /// Nothing new is to be begun.
    fn stop(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Whether something that was begun has not ended.
    fn is_waiting(&self, world: &World) -> bool {
        let _ = world;
        false
    }

    /// Figures of this scenario, sums over the workers.
    fn figures(&self, world: &World) -> Vec<(String, f64)> {
        let _ = world;
        Vec::new()
    }

    /// Bytes of each message where there is no XML to tell.
    fn message_bytes(&self) -> usize {
        1
    }

    /// Whether a relay is to send everything back to who sent it.
    fn is_echo(&self) -> bool {
        false
    }
}

/// Which scenario, with what it alone needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// See [`pairs`].
    Pairs(pairs::Pairs),
}

impl Work {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pairs(_) => "pairs",
        }
    }

    /// What is counted, in the singular.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Pairs(_) => "message",
        }
    }

    /// What a worker does.
    pub fn scenario(&self, plan: &Plan) -> Box<dyn Scenario> {
        match self {
            Self::Pairs(work) => Box::new(pairs::Worker::new(work.clone(), plan)),
        }
    }

    /// How the parent leads.
    pub fn lead(&self, crew: &mut Crew) -> Result<Run, CrewError> {
        match self {
            Self::Pairs(_) => crew.connect_and_measure(),
        }
    }

    /// Sessions that must be in the same worker.
    pub fn group(&self) -> u32 {
        match self {
            Self::Pairs(_) => 2,
        }
    }
}
