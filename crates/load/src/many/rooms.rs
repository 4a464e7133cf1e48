//! `magpie-load many-rooms`: rooms that nobody is in, by the million, on one server.
//!
//! They are made by the stanzas with which people make rooms, so a million takes minutes. What they take of memory is
//! reported, and how long the server takes to start on them, beside its start without any.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{ManyError, append, at};
use crate::compare::about::{MACHINE, VERSION};
use crate::compare::magpie::Magpie;
use crate::compare::place::{Certificate, DOMAIN, Folder, PASSWORD, Place};
use crate::compare::process::{Interrupt, run};
use crate::compare::restart;
use crate::compare::server::{Accounts, Archive, Server as _};
use crate::report::goals::START_EMPTY;
use crate::report::html::Machine;
use crate::report::table::Table;
use crate::report::units;
use crate::result::Run;
use crate::worker;

/// Makes persistent rooms and leaves them, looks at the server's memory, and starts the server on them again.
#[derive(Clone, Debug, clap::Args)]
pub struct ManyRoomsOptions {
    /// Rooms
    #[arg(long, value_name = "N", default_value_t = ROOMS, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub rooms: u32,
    /// Sessions that make them
    #[arg(long, short = 'c', value_name = "N", default_value_t = SESSIONS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Seconds between the last room and the look at memory
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub settle: f64,
    /// Minutes after which no more rooms are made, and what there is is reported
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    pub minutes_max: f64,
    /// The program of Magpie; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    pub magpie: Option<PathBuf>,
    /// Where the result is appended, as a line of JSON; - is standard output. `compare` reads bench/many.jsonl
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Modest: a million is `--rooms 1000000`.
const ROOMS: u32 = 100_000;
const SESSIONS: u32 = 200;

impl ManyRoomsOptions {
    fn command(&self) -> String {
        let sessions = if self.connections == SESSIONS { String::new() } else { format!(" -c {}", self.connections) };
        format!("magpie-load many-rooms --rooms {}{sessions}", self.rooms)
    }
}

/// Makes the rooms, prints the table and writes the result.
pub fn many_rooms(options: &ManyRoomsOptions) -> Result<(), ManyError> {
    let interrupt = Interrupt::on_signals()?;
    let magpie = Magpie::find(options.magpie.clone())?;
    // The server has the limit that we have.
    worker::raise_file_limit();
    let folder = Folder::new()?;
    let certificate = Certificate::make(folder.path())?;
    let place = Place::new(folder.path(), "rooms", &certificate)?;
    let accounts = Accounts { number: options.connections, contacts: false, archive: Archive::Off, rooms: true };
    magpie.prepare(&place, accounts, &interrupt)?;
    let (mut started, start_seconds) = restart::first(&magpie, &place, None, &interrupt)?;
    eprintln!("making {} rooms", options.rooms);
    let file = place.folder.join("run.json");
    let seconds = options.minutes_max.clamp(0.1, 1e4) * 60.0;
    let mut scenario = Command::new(std::env::current_exe().map_err(at(&file))?);
    scenario.args(["rooms-idle", "--rooms", &options.rooms.to_string(), "--settle", &options.settle.to_string()]);
    scenario.args(["--connections", &options.connections.to_string(), "--seconds", &seconds.to_string()]);
    scenario.args(["--address", &place.address().to_string(), "--domain", DOMAIN, "--password", PASSWORD]);
    scenario.args(["--mechanism", magpie.mechanism(), "--server-name", magpie.name()]);
    for pid in started.pids() {
        scenario.args(["--server-pid", &pid.to_string()]);
    }
    let patience = seconds + 2.0 * options.settle.max(0.0) + 120.0;
    run(scenario.arg("--json").arg(&file), Duration::from_secs_f64(patience), &interrupt)?;
    started.check()?;
    let json = std::fs::read(&file).map_err(at(&file))?;
    let mut found: Run = serde_json::from_slice(&json).map_err(|error| at(&file)(error.into()))?;
    found.figures.insert(START_EMPTY.into(), start_seconds);
    eprintln!("starting the server again");
    restart::again(&magpie, &place, &mut started, &mut found, &interrupt)?;
    let version = magpie.version(&interrupt)?;
    let machine = Machine::this().to_string();
    let about =
        [("measured_by", "many".to_owned()), ("command", options.command()), (VERSION, version), (MACHINE, machine)];
    found.parameters.extend(about.map(|(name, value)| (name.to_owned(), value.into())));
    print!("{}", table(&found).text());
    options.out.as_deref().map_or(Ok(()), |file| append(&found, file))
}

/// Figures by their names.
fn table(run: &Run) -> Table {
    let mut table = Table::new(&["figure", ">value"]);
    table.row(vec!["rooms_per_second".into(), units::short(run.rate())]);
    for (name, value) in &run.figures {
        table.row(vec![name.clone(), units::short(*value)]);
    }
    for (what, count) in &run.errors {
        table.row(vec![format!("error: {what}"), count.to_string()]);
    }
    table
}
