//! What was compared, where and when: told by the runs themselves, so that it is true of them whenever it is written down.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::rows::{Pace, ROWS, Row};
use crate::report::goals::{FLOOR, MAGPIE};
use crate::report::units::day;
use crate::result::Run;

/// The parameter of a run that says which machine it ran on.
pub(crate) const MACHINE: &str = "machine";

/// The parameter of a run that says which version of the server it measured.
pub(crate) const VERSION: &str = "version";

/// What was compared, where and when.
#[derive(Clone, Debug)]
pub struct About {
    machines: Vec<String>,
    versions: Vec<(String, String)>,
    command: String,
    rows: Vec<&'static Row>,
    pace: Pace,
    date: String,
}

impl About {
    /// What these runs say of themselves.
    pub fn of(runs: &[Run]) -> Self {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.row().is_some()).collect();
        let rows: Vec<&'static Row> =
            ROWS.iter().filter(|row| runs.iter().any(|run| run.row() == Some(row.name))).collect();
        let machines: BTreeSet<&str> = runs.iter().filter_map(|run| text(run, MACHINE)).collect();
        let mut versions: Vec<(String, String)> = Vec::new();
        for run in &runs {
            let version = (run.server.clone(), text(run, VERSION).unwrap_or("version not known").to_owned());
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions.sort_by_key(|(server, _)| place_of(server));
        let pace = pace(&runs);
        Self {
            machines: machines.into_iter().map(str::to_owned).collect(),
            command: command(&rows, &versions, pace),
            versions,
            rows,
            pace,
            date: dates(&runs),
        }
    }

    /// Date, machine, versions, the command, as a list.
    pub fn surroundings(&self) -> String {
        let machine = if self.machines.is_empty() { "not known".to_owned() } else { self.machines.join("; ") };
        let mut out = format!("- date: {}\n- machine: {machine}\n- command: `{}`\n", self.date, self.command);
        for (server, version) in &self.versions {
            let _ = writeln!(out, "- {server}: {version}");
        }
        out
    }

    /// The rows, each with what it is and who is not in it.
    pub fn what_rows_are(&self) -> String {
        let mut out = "## What the rows are\n\n".to_owned();
        for row in &self.rows {
            let rounds = match (row.rounds(MAGPIE, self.pace), row.rounds("a peer", self.pace)) {
                (1, 1) => "one run".to_owned(),
                (own, peer) if own == peer => format!("{own} runs"),
                (own, _) => format!("{own} runs, of each peer one"),
            };
            let _ = writeln!(out, "- `{}`: {}; {rounds}.", row.name, row.about);
            for (server, reason) in row.without {
                let _ = writeln!(out, "  Without {server}: {reason}.");
            }
        }
        let _ = writeln!(
            out,
            "\nA run has {} s of warm-up and {} s that count, where sessions do something. The servers' settings, each with \
             its reason, are in\n[profiles](profiles); every run with all its figures is in [results.json](results.json).",
            self.pace.warmup, self.pace.seconds
        );
        out
    }
}

fn text<'a>(run: &'a Run, name: &str) -> Option<&'a str> {
    run.parameters.get(name).and_then(Value::as_str)
}

/// In tables Magpie is first, the floor next.
fn place_of(server: &str) -> usize {
    [MAGPIE, FLOOR, "ejabberd", "Prosody"].iter().position(|known| *known == server).unwrap_or(usize::MAX)
}

/// The command that makes such runs, with all that differs from its defaults and all that matters.
fn command(rows: &[&Row], versions: &[(String, String)], pace: Pace) -> String {
    let mut command = "magpie-load compare".to_owned();
    if rows.len() < ROWS.len() {
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        command += &format!(" --only {}", names.join(","));
    }
    let mut servers: Vec<String> = versions.iter().map(|(server, _)| server.to_ascii_lowercase()).collect();
    servers.dedup();
    command += &format!(" --servers {}", servers.join(","));
    command + &format!(" --rounds {} --warmup {} --seconds {}", pace.rounds, pace.warmup, pace.seconds)
}

/// That of the latest runs in which sessions do something: those that are idle, or make rooms, have one of their own.
fn pace(runs: &[&Run]) -> Pace {
    let number = |run: &Run, name: &str| run.parameters.get(name).and_then(Value::as_f64);
    let latest = runs.iter().max_by_key(|run| (!["idle", "rooms-idle"].contains(&run.scenario.as_str()), run.started));
    let of_latest = |name: &str| latest.and_then(|run| number(run, name)).unwrap_or_default();
    let rounds = runs.iter().filter_map(|run| number(run, "round")).fold(1.0, f64::max);
    Pace { rounds: rounds as u32, warmup: of_latest("warmup"), seconds: of_latest("seconds") }
}

fn dates(runs: &[&Run]) -> String {
    let starts = || runs.iter().map(|run| run.started);
    match (starts().min().map(day), starts().max().map(day)) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(day), _) => day,
        _ => "no runs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(server: &str, row: &str, round: u32, more: &[(&str, Value)]) -> Run {
        let own = [("row", row.into()), ("round", round.into()), ("seconds", 6.0.into()), ("warmup", 2.0.into())];
        let parameters = own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Run { scenario: "pairs".into(), server: server.into(), parameters, started: 1_795_500_000, ..Run::default() }
    }

    #[test]
    fn the_command_and_the_date_are_those_of_the_runs() {
        let mut runs = [
            run("Prosody", "pairs-200", 1, &[(VERSION, "0.12".into()), (MACHINE, "a small one".into())]),
            run("Magpie", "pairs-2000", 2, &[]),
            // No run of a row: it has its own table.
            Run { started: 1, ..Run::default() },
        ];
        let about = About::of(&runs);
        let command = "magpie-load compare --only pairs-200,pairs-2000 --servers magpie,prosody --rounds 2 --warmup 2 --seconds 6";
        assert_eq!(about.command, command);
        let versions = "- Magpie: version not known\n- Prosody: 0.12\n";
        let wanted = format!("- date: 2026-11-24\n- machine: a small one\n- command: `{command}`\n{versions}");
        assert_eq!(about.surroundings(), wanted);
        runs[0].started += 86_400;
        assert!(About::of(&runs).surroundings().starts_with("- date: 2026-11-24 to 2026-11-25\n"));
    }

    #[test]
    fn sessions_that_do_nothing_do_not_say_how_long_a_run_is() {
        let idle = run("Magpie", "idle", 1, &[("seconds", 1.0.into())]);
        let idle = Run { scenario: "idle".into(), started: u64::MAX, ..idle };
        assert_eq!(About::of(&[run("Magpie", "pairs-200", 1, &[]), idle]).pace.seconds, 6.0);
    }
}
