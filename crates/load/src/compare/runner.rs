//! Runs the steps: starts the servers of a row, has them take turns, stops them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::CompareError;
use super::about::{MACHINE, VERSION};
use super::client::CONTACTS;
use super::journal::Journal;
use super::place::{Certificate, DOMAIN, Folder, PASSWORD, Place};
use super::process::{Interrupt, Started, run};
use super::restart;
use super::rows::{CHURN_ROUNDS, Pace, Row, Security, Special, Step, duration};
use super::server::{Accounts, Archive, Server, start};
use crate::report::goals::{FLOOR, MAGPIE, START_EMPTY};
use crate::report::html::Machine;
use crate::result::Run;
use crate::scenarios::room_fill::GAVE_UP;

/// Clients come from these addresses, so that their ports do not run out.
const SOURCES: &str = "127.0.0.1-127.0.0.16";

/// Messages a second that any server with an archive takes.
const FILLED_A_SECOND_MIN: f64 = 200.0;

/// What runs need.
pub struct Runner<'a> {
    folder: &'a Folder,
    servers: &'a [Box<dyn Server>],
    /// By name.
    versions: BTreeMap<&'static str, String>,
    machine: String,
    pace: Pace,
    interrupt: &'a Interrupt,
    bar: &'a ProgressBar,
    certificate: Certificate,
    /// Servers with their accounts, by name.
    prepared: BTreeMap<(String, Accounts), Place>,
    failures: Vec<String>,
    began: Instant,
}

impl<'a> Runner<'a> {
    /// Makes the certificate that all servers show.
    pub fn new(
        folder: &'a Folder,
        servers: &'a [Box<dyn Server>],
        versions: BTreeMap<&'static str, String>,
        pace: Pace,
        interrupt: &'a Interrupt,
        bar: &'a ProgressBar,
    ) -> Result<Self, CompareError> {
        // Servers have the limit that we have.
        crate::worker::raise_file_limit();
        let certificate = Certificate::make(folder.path())?;
        Ok(Self {
            folder,
            servers,
            versions,
            machine: Machine::this().to_string(),
            pace,
            interrupt,
            bar,
            certificate,
            prepared: BTreeMap::new(),
            failures: Vec::new(),
            began: Instant::now(),
        })
    }

    /// Runs these steps, row by row. A server that fails is left out of the rest of its row, and the comparison fails at its
    /// end.
    pub fn run(mut self, steps: &[Step], journal: &mut Journal) -> Result<(), CompareError> {
        let mut done = 0;
        for steps_of_row in steps.chunk_by(|one, other| one.row == other.row) {
            let row = Row::named(steps_of_row[0].row).expect("steps are made of rows");
            self.run_row(row, steps_of_row, journal, |runner, at| runner.show(steps, done + at))?;
            done += steps_of_row.len();
        }
        if self.failures.is_empty() { Ok(()) } else { Err(CompareError::Setup(self.failures.join("\n"))) }
    }

    fn run_row(
        &mut self,
        row: &'static Row,
        steps: &[Step],
        journal: &mut Journal,
        show: impl Fn(&Self, usize),
    ) -> Result<(), CompareError> {
        let mut running: BTreeMap<&str, (Place, Started)> = BTreeMap::new();
        let mut failed: Vec<&str> = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            show(self, at);
            if failed.contains(&step.server.as_str()) {
                continue;
            }
            if row.wants_fresh_server() {
                running.clear();
            }
            match self.run_step(row, step, &mut running, journal) {
                Ok(found) => {
                    // It would take as long again, and say the same.
                    if found.figures.contains_key(GAVE_UP) {
                        failed.push(&step.server);
                    }
                    journal.add(found)?;
                }
                Err(CompareError::Interrupted) => return Err(CompareError::Interrupted),
                Err(error) => {
                    let failure = format!("{}, {}: {error}", row.name, step.server);
                    self.bar.suspend(|| eprintln!("{failure}"));
                    self.failures.push(failure);
                    running.remove(step.server.as_str());
                    failed.push(&step.server);
                }
            }
        }
        Ok(())
    }

    fn run_step<'s>(
        &mut self,
        row: &'static Row,
        step: &'s Step,
        running: &mut BTreeMap<&'s str, (Place, Started)>,
        journal: &Journal,
    ) -> Result<Run, CompareError> {
        let servers = self.servers;
        let server = servers.iter().find(|server| server.name() == step.server).expect("steps are made of servers");
        let mut start_seconds = None;
        if !running.contains_key(step.server.as_str()) {
            let place = self.prepared(server.as_ref(), row.accounts())?;
            let cpus = step.cores.map(|cores| if cores == 1 { "0".to_owned() } else { format!("0-{}", cores - 1) });
            let (started, seconds) = restart::first(server.as_ref(), &place, cpus.as_deref(), self.interrupt)?;
            start_seconds = Some(seconds);
            running.insert(&step.server, (place, started));
        }
        let (place, started) = running.get_mut(step.server.as_str()).expect("it was just started");
        let rate = rate(row, &step.server, journal)?;
        let mut scenario = self.scenario(row, server.as_ref(), place, &started.pids(), rate)?;
        let file = place.folder.join("run.json");
        scenario.arg("--json").arg(&file);
        // The row's own time, thrice for a busy machine, and the time in which a login may fail.
        let patience = Duration::from_secs_f64(3.0 * row.run_seconds(&step.server, self.pace) + 300.0);
        let said = run(&mut scenario, patience, self.interrupt);
        started.check()?;
        let said = said?;
        let json = fs::read(&file).map_err(CompareError::file(&file))?;
        let mut found: Run = serde_json::from_slice(&json)
            .map_err(|error| CompareError::Setup(format!("{}: {error}\n{said}", file.display())))?;
        fs::remove_file(&file).map_err(CompareError::file(&file))?;
        self.bar.suspend(|| eprintln!("{:<18} {}", row.name, said.lines().last().unwrap_or_default()));
        if row.special == Special::Restart {
            found.figures.extend(start_seconds.map(|seconds| (START_EMPTY.to_owned(), seconds)));
            restart::again(server.as_ref(), place, started, &mut found, self.interrupt)?;
        }
        mark(&mut found, row, step);
        found.parameters.insert(MACHINE.into(), self.machine.clone().into());
        let version = self.versions.get(server.name());
        found.parameters.extend(version.map(|version| (VERSION.to_owned(), version.clone().into())));
        Ok(found)
    }

    /// The folder of a server with these accounts, made when it is first wanted.
    fn prepared(&mut self, server: &dyn Server, accounts: Accounts) -> Result<Place, CompareError> {
        let key = (server.name().to_owned(), accounts);
        if let Some(place) = self.prepared.get(&key) {
            return Ok(place.clone());
        }
        self.bar.set_message(format!("{}: {} accounts", server.name(), accounts.number));
        let name = format!("{}-{}", server.name().to_ascii_lowercase(), self.prepared.len());
        let place = Place::new(self.folder.path(), &name, &self.certificate)?;
        server.prepare(&place, accounts, self.interrupt)?;
        if let Some(messages) = accounts.archive.messages(server.name()).filter(|_| !server.fills_archives()) {
            self.fill(server, &place, messages)?;
        }
        self.prepared.insert(key, place.clone());
        Ok(place)
    }

    /// Lets the users whose archives are wanted write to each other.
    fn fill(&self, server: &dyn Server, place: &Place, messages: u64) -> Result<(), CompareError> {
        self.bar.set_message(format!("{}: {messages} messages for its archives", server.name()));
        let mut started = start(server, place, None, self.interrupt)?;
        let mut command = Command::new(this_program()?);
        let row = Row::named("archive-200").expect("it is in the list");
        command.args(words(row, server.name(), server.protocol(), server.mechanism()));
        let patience = messages as f64 / FILLED_A_SECOND_MIN + 60.0;
        command.arg("--address").arg(place.address().to_string());
        command.args(["--warmup", "0", "--seconds", &patience.to_string(), "--messages", &messages.to_string()]);
        run(&mut command, Duration::from_secs_f64(patience + 60.0), self.interrupt)?;
        started.check()?;
        // What it still writes.
        std::thread::sleep(Duration::from_secs(3));
        started.stop();
        Ok(())
    }

    /// The command of a run.
    fn scenario(
        &self,
        row: &Row,
        server: &dyn Server,
        place: &Place,
        pids: &[u32],
        rate: Option<f64>,
    ) -> Result<Command, CompareError> {
        let mut command = Command::new(this_program()?);
        command.args(words(row, server.name(), server.protocol(), server.mechanism()));
        let address = match row.security_of(server.name()) {
            Security::Plain => place.address(),
            Security::Tls => place.tls_address(),
        };
        command.arg("--address").arg(address.to_string());
        let pace = row.pace(self.pace);
        command.args(["--warmup", &pace.warmup.to_string(), "--seconds", &pace.seconds.to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &format!("{rate:.0}")]);
        }
        for pid in pids {
            command.args(["--server-pid", &pid.to_string()]);
        }
        Ok(command)
    }

    fn show(&self, steps: &[Step], done: usize) {
        let (past, left) = (duration(&steps[..done], self.pace), duration(&steps[done..], self.pace));
        // What a start and the accounts cost is learned on the way.
        let slower = if past.is_zero() { 1.2 } else { self.began.elapsed().as_secs_f64() / past.as_secs_f64() };
        let left = left.as_secs_f64() * slower;
        self.bar.set_position(past.as_millis() as u64);
        self.bar.set_prefix(format!("{:.0}:{:02.0}", (left / 60.0).floor(), left % 60.0));
        self.bar.set_message(format!("{}, {}", steps[done].row, steps[done].server));
    }
}

fn this_program() -> Result<PathBuf, CompareError> {
    std::env::current_exe().map_err(|error| CompareError::Setup(error.to_string()))
}

/// The words of a run after the program's name, without what differs from start to start.
pub fn words(row: &Row, server: &str, protocol: &str, mechanism: &str) -> Vec<String> {
    let connections = row.connections.to_string();
    let security = match row.security_of(server) {
        Security::Plain => "plain",
        Security::Tls => "tls",
    };
    let mut words: Vec<String> = [
        row.scenario,
        "--server-name",
        server,
        "--domain",
        DOMAIN,
        "--protocol",
        protocol,
        "--security",
        security,
        "--mechanism",
        mechanism,
        "--accounts",
        "user{}",
        "--password",
        PASSWORD,
        "--connections",
        &connections,
        "--sources",
        SOURCES,
    ]
    .map(str::to_owned)
    .into();
    words.extend(row.arguments_of(server).iter().map(|&word| word.to_owned()));
    // Idle sessions find their contacts in the storage: `before` is a server that nobody has used.
    if row.contacts && row.scenario != "idle" {
        words.extend(["--contacts".to_owned(), CONTACTS.to_string()]);
    }
    if row.special == Special::Churn && server == MAGPIE {
        words.extend(["--rounds".to_owned(), CHURN_ROUNDS.to_string()]);
    }
    words
}

/// Says of a run where in the comparison it belongs, and what its command line does not say.
pub fn mark(run: &mut Run, row: &Row, step: &Step) {
    run.parameters.insert("row".into(), row.name.into());
    run.parameters.insert("round".into(), step.round.into());
    if let Some(cores) = step.cores {
        run.parameters.insert("cores".into(), cores.into());
    }
    match row.archive {
        Archive::Off => {}
        Archive::On => drop(run.parameters.insert("archive".into(), true.into())),
        Archive::Filled(each) => {
            run.parameters.insert("archive".into(), true.into());
            run.parameters.insert("archived_each".into(), each.into());
        }
    }
    // Connections to the relay are silent.
    if row.contacts && step.server != FLOOR {
        run.parameters.insert("contacts".into(), CONTACTS.into());
    }
}

/// The rate of an open loop.
fn rate(row: &Row, server: &str, journal: &Journal) -> Result<Option<f64>, CompareError> {
    let Special::HalfOfMaximum(closed) = row.special else { return Ok(None) };
    if server == "relay"
        && let Some(asked) = journal.runs().iter().rev().find_map(|run| asked(run, row.name, "Magpie"))
    {
        return Ok(Some(asked));
    }
    let maximum = journal.median_rate(closed, server);
    let maximum = maximum.ok_or_else(|| CompareError::Setup(format!("it takes the row {closed} as well")))?;
    Ok(Some((maximum / 2.0).round()))
}

fn asked(run: &Run, row: &str, server: &str) -> Option<f64> {
    let is_it = run.server == server && run.row() == Some(row);
    run.parameters.get("rate").filter(|_| is_it)?.as_f64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;

    fn run_of(row: &str, server: &str, rate: Option<f64>, operations: u64) -> Run {
        let mut parameters = BTreeMap::from([("row".to_owned(), Value::from(row))]);
        parameters.extend(rate.map(|rate| ("rate".to_owned(), rate.into())));
        Run { server: server.to_owned(), seconds: 1.0, operations, parameters, ..Run::default() }
    }

    #[test]
    fn an_open_loop_runs_at_half_of_the_own_maximum_and_the_relay_at_magpies_rate() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("runs.jsonl")).unwrap();
        let row = Row::named("open-2000").unwrap();
        assert!(rate(row, "Magpie", &journal).unwrap_err().to_string().contains("pairs-2000"));
        journal.add(run_of("pairs-2000", "Magpie", None, 90_001)).unwrap();
        journal.add(run_of("pairs-2000", "relay", None, 200_000)).unwrap();
        assert_eq!(rate(row, "Magpie", &journal).unwrap(), Some(45_001.0));
        journal.add(run_of("open-2000", "Magpie", Some(45_001.0), 45_000)).unwrap();
        assert_eq!(rate(row, "relay", &journal).unwrap(), Some(45_001.0));
        assert_eq!(rate(Row::named("pairs-200").unwrap(), "relay", &journal).unwrap(), None);
    }

    #[test]
    fn the_relay_passes_plain_bytes_on_in_rows_of_tls_and_of_acks() {
        let shared = ["pairs-200", "pairs-200-tls", "pairs-200-acks"].map(|name| Row::named(name).unwrap());
        assert!(shared.iter().all(|row| row.reason_without(FLOOR).is_none()));
        let [plain, tls, acks] = shared.map(|row| words(row, FLOOR, "raw", "plain"));
        assert!(plain == tls && plain == acks, "{tls:?} {acks:?}");
        let [plain, tls, acks] = shared.map(|row| words(row, MAGPIE, "xmpp", "scram-sha-1"));
        assert!(plain != tls && plain != acks, "{plain:?}");
    }

    #[test]
    fn only_magpie_comes_and_goes_for_ten_rounds() {
        let row = Row::named("idle").unwrap();
        assert!(words(row, "Magpie", "xmpp", "plain").contains(&"--rounds".to_owned()));
        assert!(!words(row, "Prosody", "xmpp", "plain").contains(&"--rounds".to_owned()));
        assert!(!words(row, "Prosody", "xmpp", "plain").contains(&"--contacts".to_owned()));
        let mut run = Run::default();
        let step = |server: &str| Step { row: row.name, server: server.to_owned(), round: 1, cores: None };
        mark(&mut run, row, &step("relay"));
        assert!(!run.parameters.contains_key("contacts"));
        mark(&mut run, row, &step("Prosody"));
        assert_eq!(run.parameters["contacts"], CONTACTS);
    }
}
