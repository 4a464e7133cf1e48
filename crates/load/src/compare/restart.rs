//! How long a server takes to start on the rooms that it has, beside its start without any: it is ready when somebody has logged
//! in, and one of the rooms answers whoever enters.

use std::time::{Duration, Instant};

use super::CompareError;
use super::client::{Client, user};
use super::place::{DOMAIN, Place};
use super::process::{Interrupt, Started};
use super::server::{Server, start};
use crate::report::goals::START_WITH_ROOMS;
use crate::result::Run;

/// From that start until somebody was in one of the rooms, seconds.
pub const FIRST_ROOM: &str = "start_to_room_seconds";

/// Starts a server without rooms, and says how long it took.
pub(crate) fn first(
    server: &dyn Server,
    place: &Place,
    cpus: Option<&str>,
    interrupt: &Interrupt,
) -> Result<(Started, f64), CompareError> {
    let began = Instant::now();
    let started = start(server, place, cpus, interrupt)?;
    Ok((started, began.elapsed().as_secs_f64()))
}

/// Ends the server of this run and starts it again.
pub(crate) fn again(
    server: &dyn Server,
    place: &Place,
    started: &mut Started,
    run: &mut Run,
    interrupt: &Interrupt,
) -> Result<(), CompareError> {
    let room =
        room(run).ok_or_else(|| CompareError::Setup("the run does not say how its rooms are called".to_owned()))?;
    started.stop();
    let began = Instant::now();
    *started = start(server, place, None, interrupt)?;
    run.figures.insert(START_WITH_ROOMS.into(), began.elapsed().as_secs_f64());
    let entered = Client::log_in(place.address(), &user(1), PATIENCE).and_then(|mut client| client.enter(&room));
    match entered {
        Ok(true) => drop(run.figures.insert(FIRST_ROOM.into(), began.elapsed().as_secs_f64())),
        Ok(false) => drop(run.errors.insert(GONE.into(), run.operations.max(1))),
        Err(error) => return Err(CompareError::Setup(format!("after the restart {room}: {error}"))),
    }
    Ok(())
}

/// What a run says whose server has lost its rooms.
const GONE: &str = "a room was gone after the restart";

/// A login, and an answer of a room.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first room of the run.
fn room(run: &Run) -> Option<String> {
    let called = run.parameters.get("called")?.as_str()?;
    Some(format!("{called}0@conference.{DOMAIN}"))
}
