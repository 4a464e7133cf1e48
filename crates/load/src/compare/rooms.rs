//! The section of `RESULTS.md` about group chat: what the common table has no columns for.

use std::fmt::Write as _;

use serde_json::Value;

use super::about::{MACHINE, VERSION};
use super::restart::FIRST_ROOM;
use crate::report::goals::{START_EMPTY, START_WITH_ROOMS, Spread, is_of_many, too_many_errors};
use crate::report::table::{Table, percentile, ranged};
use crate::report::units;
use crate::result::Run;
use crate::scenarios::room_fill::{FILLED, GAVE_UP};
use crate::scenarios::rooms_idle::{BYTES, MADE};

/// Empty where there are no runs about rooms.
pub(super) fn section(runs: &[Run]) -> String {
    type Part = fn(&[&Run]) -> Table;
    let parts: [(&str, Part); 3] = [("rooms", said), ("room-fill", filled), ("rooms-idle", at_rest)];
    let mut out = String::new();
    for (scenario, table) in parts {
        let fits = |run: &&Run| run.scenario == scenario && too_many_errors(run).is_none();
        let of: Vec<&Run> = runs.iter().filter(fits).collect();
        if !of.is_empty() {
            let _ = writeln!(out, "{}", table(&of).markdown());
        }
    }
    if out.is_empty() {
        return out;
    }
    for run in runs.iter().filter(|run| run.scenario == "rooms-idle" && is_of_many(run)) {
        let text = |name: &str| run.parameters.get(name).and_then(Value::as_str).unwrap_or("not known");
        let made = run.figures.get(MADE).copied().map_or_else(String::new, units::count);
        let (command, day) = (text("command"), units::day(run.started));
        let _ = writeln!(out, "- {made} rooms: `{command}`, {day}, Magpie {}, {}", text(VERSION), text(MACHINE));
    }
    format!("\n## Rooms\n\n{EXPLAINED}\n\n{out}")
}

const EXPLAINED: &str = "- *reflected*: from a message until the room has sent it to its sender; *at the last*: until the last \
    occupant has it. Each message\n  came to each occupant once, and to all in the same order, or it is an error.\n\
    - *entered*: until all were in the room, before anything was measured.\n\
    - *filled*: from the moment at which all enter an empty room until each has seen each other.\n\
    - *memory of a room*: of the server's processes after the last room less that after the first tenth of them, by their number \
    between;\n  nobody is in any of them. An allocator gives back and takes, so a few bytes more or less than nothing are nothing.\n\
    - *started*: until somebody had logged in, without rooms and with them; *room answers*: until that one was in one of them.";

/// Runs of the same row and server, in the order in which they came.
fn groups<'a>(runs: &[&'a Run]) -> Vec<(String, Vec<&'a Run>)> {
    let mut groups: Vec<(String, Vec<&Run>)> = Vec::new();
    for run in runs {
        let name = run.row().unwrap_or("`many-rooms`").to_owned();
        match groups.iter_mut().find(|(row, of)| *row == name && of[0].server == run.server) {
            Some((_, of)) => of.push(run),
            None => groups.push((name, vec![run])),
        }
    }
    groups
}

/// The median of a figure, with the least and the greatest.
fn cell(runs: &[&Run], figure: impl Fn(&Run) -> Option<f64>, write: fn(f64) -> String) -> String {
    Spread::of(runs.iter().filter_map(|run| figure(run)).collect()).map_or_else(String::new, |all| ranged(all, write))
}

fn figure(name: &'static str) -> impl Fn(&Run) -> Option<f64> {
    move |run| run.figures.get(name).copied()
}

fn seconds(seconds: f64) -> String {
    units::micros(seconds * 1e6)
}

fn said(runs: &[&Run]) -> Table {
    let mut table = Table::new(&[
        "row",
        "server",
        ">deliveries a second",
        ">reflected, p50",
        ">p99",
        ">at the last, p50",
        ">p99",
        ">entered",
    ]);
    for (row, runs) in groups(runs) {
        table.row(vec![
            row,
            runs[0].server.clone(),
            cell(&runs, |run| Some(run.rate()), units::short),
            cell(&runs, figure("reflection_p50_us"), units::micros),
            cell(&runs, figure("reflection_p99_us"), units::micros),
            cell(&runs, |run| percentile(run, 50.0), units::micros),
            cell(&runs, |run| percentile(run, 99.0), units::micros),
            cell(&runs, figure("join_seconds"), seconds),
        ]);
    }
    table
}

fn filled(runs: &[&Run]) -> Table {
    let mut table =
        Table::new(&["row", "server", ">filled", ">presences a second", ">CPU for each", ">half had seen all"]);
    for (row, runs) in groups(runs) {
        let gave_up = runs.iter().find_map(|run| run.figures.get(GAVE_UP));
        table.row(vec![
            row,
            runs[0].server.clone(),
            match gave_up {
                Some(after) => format!("not within {}, given up", seconds(*after)),
                None => cell(&runs, figure(FILLED), seconds),
            },
            cell(&runs, |run| Some(run.rate()), units::short),
            cell(&runs, Run::server_us, units::micros),
            cell(&runs, |run| percentile(run, 50.0), units::micros),
        ]);
    }
    table
}

fn at_rest(runs: &[&Run]) -> Table {
    let mut table = Table::new(&[
        "row",
        "server",
        ">rooms",
        ">made a second",
        ">CPU for each",
        ">memory of a room",
        ">started, empty",
        ">started with them",
        ">room answers",
    ]);
    for (row, runs) in groups(runs) {
        table.row(vec![
            row,
            runs[0].server.clone(),
            cell(&runs, figure(MADE), units::count),
            cell(&runs, |run| Some(run.rate()), units::short),
            cell(&runs, Run::server_us, units::micros),
            cell(&runs, figure(BYTES), units::bytes),
            cell(&runs, figure(START_EMPTY), seconds),
            cell(&runs, figure(START_WITH_ROOMS), seconds),
            cell(&runs, figure(FIRST_ROOM), seconds),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::Latency;

    fn run(scenario: &str, row: &str, server: &str, figures: &[(&str, f64)]) -> Run {
        Run {
            scenario: scenario.into(),
            server: server.into(),
            parameters: BTreeMap::from([("row".to_owned(), row.into())]),
            figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            operations: 1_000,
            seconds: 1.0,
            latency: Some(Latency { percentiles_us: vec![(50.0, 3_000.0), (99.0, 7_000.0)], ..Latency::default() }),
            ..Run::default()
        }
    }

    #[test]
    fn what_rooms_are_about_stands_in_three_tables() {
        let mut many = run("rooms-idle", "", "Magpie", &[(MADE, 1e6), (BYTES, -3.0)]);
        many.parameters = BTreeMap::from([
            ("measured_by".to_owned(), "many".into()),
            ("command".to_owned(), "magpie-load many-rooms".into()),
        ]);
        let runs = [
            run("rooms", "room-200", "Magpie", &[("reflection_p50_us", 1_000.0), ("join_seconds", 0.5)]),
            run("rooms", "room-200", "Magpie", &[("reflection_p50_us", 2_000.0), ("join_seconds", 0.5)]),
            run("room-fill", "room-fill-1000", "Magpie", &[(FILLED, 1.5)]),
            run("room-fill", "room-fill-1000", "Prosody", &[(GAVE_UP, 90.0)]),
            run("rooms-idle", "rooms-idle", "Magpie", &[(MADE, 20_000.0), (BYTES, 64.0), (START_WITH_ROOMS, 0.25)]),
            many,
        ];
        let text = section(&runs).replace('\u{202f}', " ");
        for part in ["1.5 ms (1–2)", "500 ms", "1.5 s", "not within 90 s, given up", "20 000", "64 B", "250 ms", "-3 B"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.contains("- 1 000 000 rooms: `magpie-load many-rooms`, 1970-01-01"), "{text}");
        assert_eq!(section(&[Run::default()]), "");
    }

    #[test]
    fn a_run_that_failed_is_not_in_them() {
        let mut failed = run("rooms", "room-5000", "Prosody", &[]);
        failed.operations = 0;
        failed.errors.insert("not all were in the room in time".into(), 1);
        assert_eq!(section(&[failed]), "");
    }
}
