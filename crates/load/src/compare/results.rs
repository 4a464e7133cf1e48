//! What a comparison leaves: THE table, `RESULTS.md` with plots beside it, `results.json`; all of it is made of runs alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::about::About;
use super::rows::ROWS;
use super::{CompareError, many, rooms};
use crate::report::goals::{is_of_many, judge, too_many_errors};
use crate::report::html::{Machine, Page};
use crate::report::plots::{self, Colours};
use crate::report::table::{self, Table};
use crate::result::{Latency, Run};

/// All runs, in the folder of the results.
pub const RUNS: &str = "results.json";

/// The tables for the terminal: what was measured, then the goals.
pub fn table(runs: &[Run]) -> String {
    format!("{}\n{}", rows_table(runs).text(), table::goals(&judge(runs)).text())
}

/// Writes `RESULTS.md`, `results.json` and the plots to the folder.
pub fn write(folder: &Path, runs: &[Run]) -> Result<(), CompareError> {
    fs::create_dir_all(folder).map_err(CompareError::file(folder))?;
    let json = serde_json::to_string_pretty(runs).map_err(|error| CompareError::Setup(error.to_string()))?;
    write_file(folder, RUNS, &(json + "\n"))?;
    let plots = write_plots(&folder.join("plots"), runs)?;
    write_file(folder, "RESULTS.md", &page(runs, &plots))
}

fn write_file(folder: &Path, name: &str, text: &str) -> Result<(), CompareError> {
    super::place::write(&folder.join(name), text)
}

/// The plots of this comparison take the place of those of the one before; gives their names.
fn write_plots(folder: &Path, runs: &[Run]) -> Result<Vec<String>, CompareError> {
    fs::create_dir_all(folder).map_err(CompareError::file(folder))?;
    for file in fs::read_dir(folder).map_err(CompareError::file(folder))?.flatten() {
        if file.path().extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(file.path()).map_err(CompareError::file(&file.path()))?;
        }
    }
    // What several servers held stands in a table of its own.
    let fits = |run: &&Run| too_many_errors(run).is_none() && !is_of_many(run);
    let valid: Vec<Run> = runs.iter().filter(fits).cloned().collect();
    let page = Page { title: "Side by side", runs: &valid, goals: true, machine: Machine::this() };
    let plots = page.plots().map_err(|error| CompareError::Setup(format!("the plots: {error}")))?;
    let mut names = Vec::new();
    if let Some(svg) = overview(runs)? {
        write_file(folder, OVERVIEW, &svg)?;
        names.push(OVERVIEW.to_owned());
    }
    for (name, svg) in plots.into_iter().filter(|(name, _)| is_between_servers(name)) {
        let name = name + ".svg";
        write_file(folder, &name, &svg)?;
        names.push(name);
    }
    Ok(names)
}

/// The one plot that says it all, for the README.
const OVERVIEW: &str = "overview.svg";

/// CPU time of every server for a message, and the floor.
fn overview(runs: &[Run]) -> Result<Option<String>, CompareError> {
    let is_first = |run: &&Run| run.row() == Some("pairs-200");
    let valid: Vec<Run> = runs.iter().filter(is_first).filter(|run| too_many_errors(run).is_none()).cloned().collect();
    let groups = table::groups(&valid);
    let title = "CPU time of the server for one message, 200 connections";
    plots::cpu_each(title, &groups.iter().collect::<Vec<_>>(), &Colours::of(runs))
        .map_err(|error| CompareError::Setup(format!("the plots: {error}")))
}

/// Those plots that say something between servers; second by second is for the page of a single run.
fn is_between_servers(name: &str) -> bool {
    // Nobody counts what an idle session costs a second.
    let idle = name.starts_with("idle") && name.ends_with("cpu-each");
    !idle && ["cpu-each", "memory-each", "latency", "churn"].iter().any(|kind| name.contains(kind))
}

fn page(runs: &[Run], plots: &[String]) -> String {
    let about = About::of(runs);
    let mut out =
        "# Side by side\n\nWritten by `magpie-load compare`: Magpie, its peers and the floor, on one machine in one \
                   run, in alternation.\n\n"
            .to_owned();
    if plots.iter().any(|plot| plot == OVERVIEW) {
        let _ = writeln!(out, "![CPU time of the server for a message](plots/{OVERVIEW})\n");
    }
    out += &about.surroundings();
    let _ = writeln!(out, "\n## Goals\n\n{GOALS_EXPLAINED}\n\n{}", table::goals(&judge(runs)).markdown());
    let _ = writeln!(out, "## Row by row\n\n{COLUMNS_EXPLAINED}\n\n{}", rows_table(runs).markdown());
    out += &about.what_rows_are();
    out += &rooms::section(runs);
    out += &many::section(runs);
    let plots: Vec<&String> = plots.iter().filter(|plot| *plot != OVERVIEW).collect();
    if !plots.is_empty() {
        let _ = writeln!(out, "\n## Plots\n");
    }
    for plot in plots {
        let _ = writeln!(out, "![{}](plots/{plot})\n", plot.trim_end_matches(".svg").replace('-', " "));
    }
    out
}

const GOALS_EXPLAINED: &str = "A figure is the median of its runs, with the least and the greatest behind it. The floor is \
    `magpie-load relay`, which passes\nthe same bytes on without looking at them, with a thread for each processor, as Magpie has. It has no TLS, acks or accounts: in rows with \
    TLS or acks it passes plain bytes of the\nsame size on, in turns with the others, and a case is judged by the floor of its own \
    row, or of the plain row where its own has none.\nPeers are ejabberd, Prosody and jabberd2, the best of them in each case. \
    Runs of peers in which more than 1 % went wrong do not\ncount. TLS, acks and carbons are judged at 200 connections. What \
    several servers held together is measured by `magpie-load many`,\nat another time: see [below](#many-sessions).";

const COLUMNS_EXPLAINED: &str = "Client and server share the processors, so *a second* depends on what the client leaves: CPU \
    time is the figure to compare.\n\n\
    - *a second*: messages, pings, deliveries (of presence, and of messages in rooms), logins or rooms that were done, by the second.\n\
    - *CPU each*: user and system time of all processes of the server for one of them, µs.\n\
    - *p99*: what 99 % of them took at most, ms; in the open loop from the moment at which each was due; in rooms until the last \
    occupant\n  had a message, or all presences.\n\
    - *acks p99*: the same of the answers to `<r/>`, ms: of Magpie when everything before it is synced to disk, which no peer waits for.\n\
    - *session*: memory of the server's processes (proportional set size) with the sessions less that of a server that \
    nobody has\n  used, by their number, KiB.\n\
    - *kernel*: the kernel's memory for a session, both ends of its loopback connection, KiB. It is the whole machine's, so \
    it is true\n  where nothing else runs.\n\
    - logins: of 200 clients, each of which waits for the server's end of the stream; ejabberd sends that a tenth of a second \
    later,\n  which costs it no CPU time.\n\
    - *errors*: what went wrong in all runs; *invalid* is a server of which more than 1 % did.\n\n\
    The row `cores` is one server on one processor and on two. Where the client took a part of them, the goal is computed: \
    processors\ndivided by CPU time of a message, which is an extrapolation and is marked as one.";

fn rows_table(runs: &[Run]) -> Table {
    let head = [
        "row",
        "server",
        ">a second",
        ">CPU each, µs",
        ">p99, ms",
        ">acks p99, ms",
        ">session, KiB",
        ">kernel, KiB",
        ">errors",
    ];
    let mut table = Table::new(&head);
    for line in lines(runs) {
        table.row(line.into());
    }
    table
}

/// Row, server, rate, CPU, p99, that of acknowledgements, bytes, the kernel's bytes, errors.
fn lines(runs: &[Run]) -> Vec<[String; 9]> {
    let mut lines = Vec::new();
    for row in ROWS {
        let mut servers: Vec<(&str, Option<u64>)> = Vec::new();
        let mut of: BTreeMap<(&str, Option<u64>), Vec<&Run>> = BTreeMap::new();
        for run in runs.iter().filter(|run| run.row() == Some(row.name)) {
            let key = (run.server.as_str(), run.parameters.get("cores").and_then(serde_json::Value::as_u64));
            if !servers.contains(&key) {
                servers.push(key);
            }
            of.entry(key).or_default().push(run);
        }
        for key in servers {
            let runs = &of[&key];
            let server = match key.1 {
                Some(cores) => format!("{}, {cores} CPU", key.0),
                None => key.0.to_owned(),
            };
            let p99 = |latency: &Option<Latency>| Some(latency.as_ref()?.at(99.0) / 1e3);
            let errors: u64 = runs.iter().flat_map(|run| run.errors.values()).sum();
            if let Some(why) = runs.iter().find_map(|run| too_many_errors(run)) {
                let empty = String::new;
                let why = format!("invalid: {why}");
                lines.push([row.name.to_owned(), server, empty(), empty(), empty(), empty(), empty(), empty(), why]);
                continue;
            }
            let kibibytes = |bytes: f64| bytes / 1024.0;
            lines.push([
                row.name.to_owned(),
                server,
                spread(runs, |run| (run.scenario != "idle").then(|| run.rate()), 0),
                spread(runs, |run| (run.scenario != "idle").then(|| run.server_us()).flatten(), 2),
                spread(runs, |run| p99(&run.latency), 2),
                spread(runs, |run| p99(&run.ack_latency), 2),
                spread(runs, |run| run.bytes_per_session().map(kibibytes), 2),
                spread(runs, |run| table::kernel_per_session(run).map(kibibytes), 2),
                errors.to_string(),
            ]);
        }
    }
    lines
}

/// `median (least–greatest)`, or nothing.
fn spread(runs: &[&Run], figure: impl Fn(&Run) -> Option<f64>, digits: usize) -> String {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values[..] {
        [] => String::new(),
        [one] => format!("{one:.digits$}"),
        [least, .., greatest] => {
            let median =
                if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
            format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(crate::report::units::day(0), "1970-01-01");
        assert_eq!(crate::report::units::day(951_782_400), "2000-02-29");
        assert_eq!(crate::report::units::day(1_795_500_000), "2026-11-24");
    }

    #[test]
    fn rooms_have_rows_and_a_section_and_a_failed_run_says_why() {
        let run = |row: &str, scenario: &str, figures: &[(&str, f64)]| Run {
            scenario: scenario.into(),
            server: "Magpie".into(),
            parameters: BTreeMap::from([("row".to_owned(), row.into())]),
            figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            operations: 600_000,
            seconds: 6.0,
            ..Run::default()
        };
        let mut failed = Run { server: "Prosody".into(), operations: 0, ..run("room-5000", "rooms", &[]) };
        failed.errors.insert(crate::scenarios::rooms::NOT_JOINED.into(), 1);
        let runs = [
            run("room-200-archive", "rooms", &[("reflection_p50_us", 750.0)]),
            run("rooms-idle", "rooms-idle", &[("bytes_per_room", 64.0)]),
            failed,
        ];
        let page = page(&runs, &[]);
        for part in ["| room-200-archive |", "100000 |", "\n## Rooms\n", "750 µs", "64 B", "`rooms-idle`: persistent"]
        {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert!(page.contains("invalid: 1 errors, most of them: not all were in the room in time"), "{page}");
    }

    #[test]
    fn a_spread_is_the_median_with_its_ends() {
        let of = |operations| Run { operations, seconds: 1.0, ..Run::default() };
        let runs = [of(3), of(1), of(2)];
        let runs: Vec<&Run> = runs.iter().collect();
        assert_eq!(spread(&runs, |run| Some(run.rate()), 0), "2 (1–3)");
        assert_eq!(spread(&runs[..1], |run| Some(run.rate()), 0), "3");
        assert_eq!(spread(&runs, |_| None, 0), "");
    }
}
