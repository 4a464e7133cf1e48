//! What `magpie-load many` has left beside the comparison: more sessions than one process may have files, held by several.
//!
//! The goals of 100 000 and of a million sessions are judged by these lines, since they take longer and more of the machine than a
//! row of the comparison may.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::CompareError;
use super::about::{MACHINE, VERSION};
use crate::report::table::{Table, kernel_per_session, percentile};
use crate::report::units;
use crate::report::{goals, read};
use crate::result::Run;

/// The file in the folder of results.
pub(super) const FILE: &str = "many.jsonl";

/// The latest runs in the file, one of each number of sessions or rooms, fewest first; none where there is no file.
pub(super) fn latest(folder: &Path) -> Result<Vec<Run>, CompareError> {
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let mut all = read(&file).map_err(CompareError::Setup)?;
    all.retain(goals::is_of_many);
    // Of what was asked for the last line counts, however many it held.
    let mut latest: Vec<Run> = Vec::new();
    for run in all {
        latest.retain(|other| kind(other) != kind(&run));
        latest.push(run);
    }
    latest.sort_by_key(|run| kind(run).0);
    Ok(latest)
}

/// What was asked for: sessions (or rooms), contacts of each, how they connect, and what they do.
fn kind(run: &Run) -> (u64, u64, String, String) {
    let number = |name: &str| run.parameters.get(name).and_then(Value::as_u64);
    let wanted = number("connections_wanted").or_else(|| number("rooms")).unwrap_or_default();
    let contacts = number("contacts").unwrap_or_default();
    (wanted, contacts, text(run, "security").to_owned(), run.scenario.clone())
}

fn text<'a>(run: &'a Run, name: &str) -> &'a str {
    run.parameters.get(name).and_then(Value::as_str).unwrap_or("not known")
}

/// The section of `RESULTS.md`; empty where there are no such runs.
pub(super) fn section(runs: &[Run]) -> String {
    let many: Vec<&Run> = runs.iter().filter(|run| goals::is_of_many(run) && run.scenario == "idle").collect();
    if many.is_empty() {
        return String::new();
    }
    let mut out = format!("\n## Many sessions\n\n{EXPLAINED}\n\n{}\n", table(&many).markdown());
    for run in many {
        let _ = writeln!(
            out,
            "- {}: `{}`, {}, Magpie {}, {}",
            units::count(sessions(run)),
            text(run, "command"),
            units::day(run.started),
            text(run, VERSION),
            text(run, MACHINE)
        );
    }
    out
}

const EXPLAINED: &str = "Idle sessions with a roster loaded and presence sent, held by as many servers, with a client process \
    each, as the limit of open\nfiles of a process demands; clients, servers and kernel are one machine's. The kernel's memory is \
    that of both ends of a session. At the\nend a thousand messages go from random sessions to random sessions, one after another.";

fn sessions(run: &Run) -> f64 {
    run.memory.map_or(0, |memory| memory.sessions) as f64
}

fn table(runs: &[&Run]) -> Table {
    let mut table = Table::new(&[
        ">sessions",
        ">contacts",
        ">servers",
        ">server, each",
        ">kernel, each",
        ">clients, each",
        ">logging in",
        ">logins a second",
        ">server CPU of a login",
        ">message, p50",
        ">message, p99",
        ">errors",
    ]);
    for run in runs {
        let figure = |name: &str, write: fn(f64) -> String| {
            run.figures.get(name).map_or_else(String::new, |figure| write(*figure))
        };
        let cell = |value: Option<f64>, write: fn(f64) -> String| value.map_or_else(String::new, write);
        let wanted = kind(run).0 as f64;
        let held = units::count(sessions(run));
        table.row(vec![
            if sessions(run) < wanted { format!("{held} of {}", units::count(wanted)) } else { held },
            kind(run).1.to_string(),
            figure("server_processes", units::count),
            cell(run.bytes_per_session(), units::bytes),
            cell(kernel_per_session(run), units::bytes),
            figure("client_bytes_per_session", units::bytes),
            figure("login_seconds", |seconds| units::micros(seconds * 1e6)),
            figure("logins_per_second", units::count),
            figure("login_server_cpu_us", units::micros),
            cell(percentile(run, 50.0), units::micros),
            cell(percentile(run, 99.0), units::micros),
            run.errors.values().sum::<u64>().to_string(),
        ]);
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::result::{Cpu, Latency, Memory};

    /// A line as `magpie-load many` leaves it, of so many sessions and so many bytes for each.
    pub(in super::super) fn line(wanted: u32, sessions: u32, bytes: u64) -> Run {
        let parameters = [
            ("measured_by", Value::from("many")),
            ("connections", sessions.into()),
            ("connections_wanted", wanted.into()),
            ("contacts", 20.into()),
            ("security", "plain".into()),
            ("command", format!("magpie-load many -c {wanted}").into()),
            (VERSION, "0.1.0".into()),
            (MACHINE, "2 × Processor, 24 GiB, Linux 6.18".into()),
        ];
        let sessions = u64::from(sessions);
        let figures = [
            ("login_seconds", sessions as f64 / 5_000.0),
            ("logins_per_second", 5_000.0),
            ("server_processes", sessions.div_ceil(19_000) as f64),
            ("random_message_us", 31.0),
        ];
        Run {
            scenario: "idle".into(),
            server: goals::MAGPIE.into(),
            unit: "session".into(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            figures: BTreeMap::from(figures.map(|(name, value)| (name.to_owned(), value))),
            started: 1_795_500_000,
            operations: sessions,
            server_cpu: Some(Cpu { user: 1.0, system: 1.0 }),
            memory: Some(Memory { sessions, with: sessions * bytes, ..Memory::default() }),
            latency: Some(Latency { percentiles_us: vec![(50.0, 31.0), (99.0, 67.0)], ..Latency::default() }),
            ..Run::default()
        }
    }

    fn written(runs: &[Run]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = runs.iter().map(|run| serde_json::to_string(run).unwrap() + "\n").collect();
        fs::write(folder.path().join(FILE), lines).unwrap();
        folder
    }

    #[test]
    fn of_each_number_of_sessions_the_last_line_counts() {
        let lines = [line(100_000, 100_000, 4_000), line(19_000, 19_000, 3_900), line(100_000, 100_000, 3_800)];
        let latest = latest(written(&lines).path()).unwrap();
        assert_eq!(latest, [lines[1].clone(), lines[2].clone()]);
    }

    #[test]
    fn one_that_was_stopped_takes_the_place_of_one_that_was_whole() {
        let lines = [line(1_000_000, 1_000_000, 4_000), line(1_000_000, 734_000, 4_000)];
        let latest = latest(written(&lines).path()).unwrap();
        assert_eq!(latest, [lines[1].clone()]);
        let section = section(&latest).replace('\u{202f}', " ");
        assert!(section.contains("734 000 of 1 000 000"), "{section}");
    }

    #[test]
    fn no_file_is_no_lines_and_one_of_something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(latest(folder.path()).unwrap(), []);
        assert_eq!(section(&[]), "");
        fs::write(folder.path().join(FILE), "hello\n").unwrap();
        assert!(latest(folder.path()).unwrap_err().to_string().contains(FILE));
    }

    #[test]
    fn the_section_says_what_was_measured_and_where_when_and_how() {
        let text = section(&[line(100_000, 100_000, 4_096), Run::default()]).replace('\u{202f}', " ");
        for part in [" 100 000 |", " 4 KiB |", " 5 000 |", "31 µs", "67 µs", "20 s"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let source =
            "- 100 000: `magpie-load many -c 100000`, 2026-11-24, Magpie 0.1.0, 2 × Processor, 24 GiB, Linux 6.18\n";
        assert!(text.ends_with(source), "{text}");
    }
}
