//! `magpie-load compare`: Magpie, its peers and the floor, side by side.
//!
//! Each server is set up in a temporary folder with its profile from `bench/profiles`, started on free loopback ports, and
//! stopped by pid. In each row the servers take turns; the scenarios run in processes of their own, which are this program.

pub mod about;
mod administration;
pub mod client;
pub mod ejabberd;
pub mod floor;
pub mod jabberd2;
pub mod journal;
#[cfg(test)]
mod judged;
pub mod magpie;
mod many;
pub mod place;
pub mod process;
pub mod prosody;
pub mod restart;
pub mod results;
pub mod rooms;
pub mod rows;
pub mod runner;
pub mod server;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::journal::Journal;
use self::place::Folder;
use self::process::Interrupt;
use self::rows::{Pace, ROWS, Row};
use self::runner::Runner;
use self::server::{Server, install};
use crate::report::goals::is_of_many;
use crate::result::Run;

/// Options of `magpie-load compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareOptions {
    /// Only these rows, with commas between: see --list
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these servers, with commas between: magpie, relay, ejabberd, prosody, jabberd2
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "magpie,relay,ejabberd,prosody,jabberd2")]
    pub servers: Vec<String>,
    /// Rounds in which the servers take turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of a run before anything counts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds of a run that count
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0)]
    pub seconds: f64,
    /// One round of short runs: to see that everything works, not to say figures
    #[arg(long)]
    pub quick: bool,
    /// Goes on with the runs in this file, which an interrupted comparison left
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Runs nothing: writes the results again, of the runs that are there (those of --resume, or in the folder runs.jsonl
    /// or else results.json, and many.jsonl)
    #[arg(long, conflicts_with_all = ["only", "quick", "magpie"])]
    pub rewrite: bool,
    /// The program of Magpie; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    pub magpie: Option<PathBuf>,
    /// Where runs, results and plots go; what `many` has left there in many.jsonl becomes a part of them
    #[arg(long, value_name = "FOLDER", default_value = "bench")]
    pub out: PathBuf,
    /// Lists the rows, and does nothing else
    #[arg(long)]
    pub list: bool,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A program that could not be started.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Something that the operator asked for does not exist.
    #[error("{0}")]
    Usage(String),
    /// A server or its surroundings.
    #[error("{0}")]
    Setup(String),
    /// The operator ended it.
    #[error("interrupted; go on with --resume")]
    Interrupted,
}

impl CompareError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }

    fn program(command: &Command) -> impl FnOnce(io::Error) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        move |source| Self::Program { program, source }
    }
}

/// Seconds of a quick run, where the operator did not say other ones.
const QUICK_SECONDS: f64 = 2.0;

/// Compares, prints the table and writes the results.
pub fn compare(options: &CompareOptions) -> Result<(), CompareError> {
    if options.list {
        for row in ROWS {
            println!("{:<18} {}", row.name, row.about);
        }
        return Ok(());
    }
    if options.rewrite {
        return rewrite(options);
    }
    let rows = rows(&options.only)?;
    let servers = servers(&options.servers, options.magpie.clone())?;
    let pace = options.pace();
    let interrupt = Interrupt::on_signals()?;
    install(&servers, &interrupt)?;
    let versions = servers
        .iter()
        .map(|server| Ok((server.name(), server.version(&interrupt)?)))
        .collect::<Result<BTreeMap<_, _>, CompareError>>()?;
    // Said before anything runs, not after all has.
    many::latest(&options.out)?;

    let mut journal = match &options.resume {
        Some(file) => Journal::resume(file)?,
        None => Journal::create(&options.out.join("runs.jsonl"))?,
    };
    let names: Vec<&str> = servers.iter().map(|server| server.name()).collect();
    let all = rows::steps(&rows, &names, pace);
    let left: Vec<_> = all.into_iter().filter(|step| !journal.has(step, pace)).collect();
    eprint!("{}", rows::plan(&left, pace));
    let bar = progress(rows::duration(&left, pace));
    let folder = Folder::new()?;
    let done = Runner::new(&folder, &servers, versions, pace, &interrupt, &bar)?.run(&left, &mut journal);
    bar.finish_and_clear();
    drop(folder);
    if !journal.runs().is_empty() {
        write(&options.out, journal.runs())?;
    }
    if matches!(done, Err(CompareError::Interrupted)) {
        eprintln!("go on with --resume {}", journal.path().display());
    }
    done
}

/// Writes the results of runs that were made before.
fn rewrite(options: &CompareOptions) -> Result<(), CompareError> {
    let file = options.resume.clone().unwrap_or_else(|| options.out.join("runs.jsonl"));
    let runs = if options.resume.is_some() || file.exists() {
        Journal::resume(&file)?.runs().to_vec()
    } else {
        // What a checkout has.
        crate::report::read(&options.out.join(results::RUNS)).map_err(CompareError::Setup)?
    };
    let runs: Vec<Run> = runs.into_iter().filter(|run| !is_of_many(run)).collect();
    write(&options.out, &runs)
}

/// Writes and prints the results of these runs and of what `many` has left.
fn write(folder: &Path, runs: &[Run]) -> Result<(), CompareError> {
    let all = [runs, &many::latest(folder)?].concat();
    results::write(folder, &all)?;
    print!("{}", results::table(&all));
    Ok(())
}

impl CompareOptions {
    fn pace(&self) -> Pace {
        if self.quick {
            let seconds = if self.seconds == 6.0 { QUICK_SECONDS } else { self.seconds };
            Pace { rounds: 1, warmup: self.warmup.min(1.0), seconds }
        } else {
            Pace { rounds: self.rounds, warmup: self.warmup, seconds: self.seconds }
        }
    }
}

fn rows(only: &[String]) -> Result<Vec<&'static Row>, CompareError> {
    if let Some(unknown) = only.iter().find(|name| Row::named(name).is_none()) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(CompareError::Usage(format!("there is no row {unknown}; there are {}", names.join(", "))));
    }
    Ok(ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)).collect())
}

fn servers(names: &[String], magpie: Option<PathBuf>) -> Result<Vec<Box<dyn Server>>, CompareError> {
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    for name in names {
        servers.push(match name.as_str() {
            "magpie" => Box::new(magpie::Magpie::find(magpie.clone())?),
            "relay" => Box::new(floor::Relay),
            "ejabberd" => Box::new(ejabberd::Ejabberd),
            "prosody" => Box::new(prosody::Prosody),
            "jabberd2" => Box::new(jabberd2::Jabberd2),
            other => {
                let known = "magpie, relay, ejabberd, prosody, jabberd2";
                return Err(CompareError::Usage(format!("there is no server {other}; there are {known}")));
            }
        });
    }
    // Rates of the relay are Magpie's, so it comes after it.
    servers.sort_by_key(|server| match server.name() {
        "Magpie" => 0,
        "relay" => 1,
        _ => 2,
    });
    Ok(servers)
}

/// Its length is milliseconds.
fn progress(duration: Duration) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(duration.as_millis() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {prefix} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_or_server_that_does_not_exist_is_refused_with_those_that_do() {
        let error = rows(&["pairs-20".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("pairs-20") && error.contains("pairs-2000"), "{error}");
        let error = servers(&["openfire".to_owned()], None).err().unwrap().to_string();
        assert!(error.contains("openfire") && error.contains("prosody"), "{error}");
    }

    #[test]
    fn the_relay_comes_after_magpie_whatever_was_said() {
        let names = ["prosody", "relay"].map(str::to_owned);
        let found: Vec<&str> = servers(&names, None).unwrap().iter().map(|server| server.name()).collect();
        assert_eq!(found, ["relay", "Prosody"]);
    }
}
