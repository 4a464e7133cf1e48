//! Runs and goals as tables: aligned text for a terminal, Markdown for a document.

use std::collections::BTreeMap;

use super::goals::{Bound, FLOOR, Judged, MAGPIE, Spread, Unit, Verdict};
use super::units;
use crate::result::Run;

/// Rows of cells under a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    head: Vec<String>,
    /// Numbers stand to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

/// Runs that measured the same: one line of a table.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What was measured: the scenario and the parameters that matter.
    pub label: String,
    /// Who was measured.
    pub server: &'a str,
    /// The runs, in the order they came.
    pub runs: Vec<&'a Run>,
}

impl Table {
    /// With this head; a name that begins with `>` stands over numbers.
    pub fn new(head: &[&str]) -> Self {
        let right = head.iter().map(|name| name.starts_with('>')).collect();
        Self {
            head: head.iter().map(|name| name.trim_start_matches('>').to_owned()).collect(),
            right,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are not there are empty.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// The names of the columns, and whether numbers are in them.
    pub fn columns(&self) -> impl Iterator<Item = (&str, bool)> {
        self.head.iter().map(String::as_str).zip(self.right.iter().copied())
    }

    /// The rows.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Aligned, two spaces between columns. Columns without a cell are left out.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&self.right) {
                if width > 0 {
                    line += &padded(cell, width, right);
                    line += "  ";
                }
            }
            line.trim_end().to_owned() + "\n"
        };
        let rule = widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>().saturating_sub(2);
        let mut text = line(&self.head) + &"─".repeat(rule) + "\n";
        for row in &self.rows {
            text += &line(row);
        }
        text
    }

    /// As a table of Markdown, aligned for who reads its source. Columns without a cell are left out.
    pub fn markdown(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let mut line = String::from("|");
            for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&self.right) {
                if width > 0 {
                    line += &format!(" {} |", padded(&cell.replace('|', "\\|"), width, right));
                }
            }
            line + "\n"
        };
        let mut text = line(&self.head) + "|";
        for (&width, &right) in widths.iter().zip(&self.right).filter(|(width, _)| **width > 0) {
            text += &if right { format!("{}:|", "-".repeat(width + 1)) } else { format!("{}|", "-".repeat(width + 2)) };
        }
        text.push('\n');
        for row in &self.rows {
            text += &line(row);
        }
        text
    }

    /// 0 for a column in which no row has anything.
    fn widths(&self) -> Vec<usize> {
        let width = |at: usize| {
            let cells = || self.rows.iter().map(|row| row[at].chars().count());
            if cells().any(|width| width > 0) || self.rows.is_empty() {
                cells().max().unwrap_or(0).max(self.head[at].chars().count())
            } else {
                0
            }
        };
        (0..self.head.len()).map(width).collect()
    }
}

/// Runs in groups of the same scenario, parameters and server, in the order in which they first came. The relay's stand beside
/// Magpie's of the same row of a comparison, whose TLS, acks or contacts it does not have.
pub fn groups(runs: &[Run]) -> Vec<Group<'_>> {
    let of_magpie = runs.iter().filter(|run| run.server == MAGPIE);
    let rows: BTreeMap<&str, String> = of_magpie.filter_map(|run| Some((run.row()?, label(run)))).collect();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let beside = run.row().filter(|_| run.server == FLOOR).and_then(|row| rows.get(row));
        let label = beside.cloned().unwrap_or_else(|| label(run));
        match groups.iter_mut().find(|group| group.label == label && group.server == run.server) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { label, server: &run.server, runs: vec![run] }),
        }
    }
    let first: BTreeMap<String, usize> =
        groups.iter().enumerate().rev().map(|(at, group)| (group.label.clone(), at)).collect();
    // Side by side what is to be compared; the sort is stable.
    groups.sort_by_key(|group| first[&group.label]);
    groups
}

/// The scenario and the parameters that tell its runs apart: `pairs, 2 000 connections, TLS`.
pub fn label(run: &Run) -> String {
    let value = |name: &str| run.parameters.get(name).filter(|value| !value.is_null());
    let number = |name: &str| value(name).and_then(serde_json::Value::as_f64);
    let flag = |name: &str| value(name).and_then(serde_json::Value::as_bool) == Some(true);
    let text = |name: &str| value(name).and_then(serde_json::Value::as_str);
    let mut parts = vec![run.scenario.clone()];
    if let Some(connections) = number("connections") {
        parts.push(format!("{} connections", units::count(connections)));
    }
    match text("security") {
        Some("tls") => parts.push("TLS".into()),
        Some("starttls") => parts.push("STARTTLS".into()),
        _ => {}
    }
    if flag("tls_resumed") || flag("resumed") {
        parts.push("resumed".into());
    }
    if let (Some(mechanism), "login") = (text("mechanism"), run.scenario.as_str()) {
        parts.push(mechanism.to_uppercase());
    }
    if let Some(rate) = number("rate") {
        parts.push(format!("open loop at {}/s", units::count(rate)));
    }
    for mark in ["sasl2", "fast", "archive", "acks", "carbons"] {
        if flag(mark) {
            parts.push(mark.into());
        }
    }
    for (name, one) in [("contacts", 0.0), ("cores", 0.0), ("archived_each", 0.0)] {
        if let Some(number) = number(name).filter(|number| *number > one) {
            parts.push(format!("{} {}", units::count(number), name.replace('_', " ")));
        }
    }
    parts.join(", ")
}

impl Group<'_> {
    /// The median of a figure and how far its runs lie apart.
    pub fn spread(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| figure(run)).collect())
    }

    /// Errors of all its runs.
    pub fn errors(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.errors.values()).sum()
    }
}

/// A latency of a run, microseconds.
pub fn percentile(run: &Run, wanted: f64) -> Option<f64> {
    let percentiles = &run.latency.as_ref()?.percentiles_us;
    percentiles.iter().find(|(percentile, _)| *percentile == wanted).map(|(_, us)| *us)
}

/// Bytes of the kernel for a session, both ends of it where the client is on the same machine.
pub fn kernel_per_session(run: &Run) -> Option<f64> {
    let memory = run.memory.filter(|memory| memory.sessions > 0)?;
    Some((memory.kernel_with as f64 - memory.kernel_before as f64) / memory.sessions as f64)
}

/// The table of runs. Medians over runs of the same, with the least and greatest; ratios by the relay where it ran.
pub fn runs(runs: &[Run]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "server",
        ">runs",
        ">per second",
        ">p50",
        ">p99",
        ">CPU each",
        ">by relay",
        ">client CPU",
        ">memory/session",
        ">kernel/session",
        ">errors",
    ]);
    let groups = groups(runs);
    let mut before = "";
    for group in &groups {
        let cpu = group.spread(Run::server_us);
        let mut cells = vec![
            if group.label == before { String::new() } else { group.label.clone() },
            group.server.to_owned(),
            group.runs.len().to_string(),
        ];
        before = &group.label;
        let cell =
            |spread: Option<Spread>, write: fn(f64) -> String| spread.map_or(String::new(), |s| ranged(s, write));
        cells.push(cell(group.spread(|run| (run.operations > 0).then(|| run.rate())), units::short));
        cells.push(cell(group.spread(|run| percentile(run, 50.0)), units::micros));
        cells.push(cell(group.spread(|run| percentile(run, 99.0)), units::micros));
        cells.push(cell(cpu, units::micros));
        let floor = groups.iter().find(|other| other.server == FLOOR && other.label == group.label);
        let floor = floor.filter(|floor| floor.server != group.server).and_then(|floor| floor.spread(Run::server_us));
        cells.push(match (cpu, floor) {
            (Some(cpu), Some(floor)) if floor.median > 0.0 => format!("{:.2} ×", cpu.median / floor.median),
            _ => String::new(),
        });
        let client = |run: &Run| (run.operations > 0).then(|| run.client_cpu.total() * 1e6 / run.operations as f64);
        cells.push(cell(group.spread(client), units::micros));
        cells.push(cell(group.spread(Run::bytes_per_session), units::bytes));
        cells.push(cell(group.spread(kernel_per_session), units::bytes));
        cells.push(match group.errors() {
            0 => String::new(),
            errors => units::count(errors as f64),
        });
        table.row(cells);
    }
    table
}

/// THE table: goal, measured, best peer, floor, verdict, and remarks.
pub fn goals(judged: &[Judged]) -> Table {
    let mut table = Table::new(&["what", "case", "goal", ">measured", ">best peer", ">floor", "met", "remarks"]);
    let mut before = "";
    for one in judged {
        let cell = |spread: Option<Spread>| spread.map_or("–".to_owned(), |s| ranged(s, writer(one.case.unit)));
        let peer =
            one.peer.as_ref().map_or("–".to_owned(), |(name, spread)| format!("{} {name}", cell(Some(*spread))));
        table.row(vec![
            if one.what == before { String::new() } else { one.what.to_owned() },
            one.case.name.to_owned(),
            one.case.bounds.iter().map(|bound| wish(*bound, one.case.unit)).collect::<Vec<_>>().join(", "),
            cell(one.measured),
            peer,
            cell(one.floor),
            match one.verdict {
                Verdict::Met => "yes".to_owned(),
                Verdict::Missed => "NO".to_owned(),
                Verdict::NotMeasured => "not measured".to_owned(),
            },
            one.why.clone(),
        ]);
        before = one.what;
    }
    table
}

/// `12.3 µs (11.9–13)`: the median, and where there are several, the least and the greatest.
pub fn ranged(spread: Spread, write: fn(f64) -> String) -> String {
    let median = write(spread.median);
    if spread.runs < 2 || spread.min == spread.max {
        return median;
    }
    let (least, most) = (write(spread.min), write(spread.max));
    // The unit once, where it is the same.
    match [&median, &least, &most].map(|text| text.split_once(' ')) {
        [Some((_, unit)), Some((least, second)), Some((most, third))] if unit == second && unit == third => {
            format!("{median} ({least}–{most})")
        }
        _ => format!("{median} ({least}–{most})"),
    }
}

fn writer(unit: Unit) -> fn(f64) -> String {
    match unit {
        Unit::CpuMicros | Unit::Micros => units::micros,
        Unit::Seconds => |seconds| format!("{} s", units::short(seconds)),
        Unit::Bytes => units::bytes,
        Unit::Times => |times| format!("{times:.2} ×"),
        Unit::Count => units::count,
    }
}

fn wish(bound: Bound, unit: Unit) -> String {
    match bound {
        Bound::AtMost(limit) => format!("≤ {}", writer(unit)(limit)),
        Bound::AtLeast(limit) => format!("≥ {}", writer(unit)(limit)),
        Bound::TimesFloor(times) => format!("≤ {times} × floor"),
        Bound::LessThanPeer(times) => format!("≤ best peer / {times}"),
        Bound::MoreThanPeer(times) => format!("≥ {times} × best peer"),
        Bound::HalfOfMaximum => "at half of the maximum".to_owned(),
        Bound::Reported => "reported".to_owned(),
    }
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
    if right { blanks + text } else { text.to_owned() + &blanks }
}

#[cfg(test)]
mod tests;
