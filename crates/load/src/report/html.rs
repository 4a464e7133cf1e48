//! A page with everything that runs say: one file, without scripts and without anything from elsewhere.

use std::fmt::{self, Write};

use super::goals::judge;
use super::plots::{self, Colours, OverTime, PlotError};
use super::table::{self, Group, Table};
use super::units;
use crate::measure::kernel;
use crate::result::Run;

/// What the page is made of.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// Its title.
    pub title: &'a str,
    /// The runs, in the order in which they are to stand.
    pub runs: &'a [Run],
    /// Whether the verdict on Magpie's goals stands on it.
    pub goals: bool,
    /// Where it was measured.
    pub machine: Machine,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many threads it runs at a time.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The kernel and its version.
    pub kernel: String,
}

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fff; --text: #1f2328; --faint: #57606a; --line: #d8dee4; --card: #f6f8fa; --bad: #b42318 }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --text: #e6edf3; --faint: #9aa4af; --line: #30363d; --card: #161b22; --bad: #ff7b72 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); max-width: 1240px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { margin: 2.2rem 0 .6rem; font-size: 1.25rem } p.faint, td.faint { color: var(--faint) }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1rem }
.card b { display: block; font-size: 1.45rem; line-height: 1.3 } .card dl { display: grid; grid-template-columns: auto auto; margin: .3rem 0 0; gap: 0 .8rem }
.card dt { color: var(--faint) } .card dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)) }
.plots svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; background: #fff }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .55rem; border-bottom: 1px solid var(--line); vertical-align: top; font-size: .88rem }
th.right, td.right { text-align: right; white-space: nowrap } td.long { min-width: 16rem }
.bad { color: var(--bad); font-weight: 600 }
";

impl Page<'_> {
    /// The page.
    pub fn render(&self) -> Result<String, PlotError> {
        let groups = table::groups(self.runs);
        let title = escaped(self.title);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title><style>{STYLE}</style></head>\n<body>\n\
             <h1>{title}</h1>\n{}",
            self.when_and_where()
        );
        page += &errors(&groups);
        section(&mut page, "Headlines", &format!("<div class=\"cards\">{}</div>", cards(&groups)));
        if self.goals {
            section(&mut page, "Goals", &html_table(&table::goals(&judge(self.runs))));
        }
        let plots: String = self.plots()?.into_iter().map(|(_, svg)| svg).collect();
        section(&mut page, "Plots", &format!("<div class=\"plots\">{plots}</div>"));
        section(&mut page, "All figures", &(html_table(&table::runs(self.runs)) + &notes()));
        section(&mut page, "Figures of one scenario", &html_table(&figures(&groups)));
        section(&mut page, "Parameters", &html_table(&parameters(&groups)));
        Ok(page + "</body></html>\n")
    }

    /// The plots, each with a name for its file.
    pub fn plots(&self) -> Result<Vec<(String, String)>, PlotError> {
        let groups = table::groups(self.runs);
        let colours = Colours::of(self.runs);
        let mut all = Vec::new();
        for (at, first) in groups.iter().enumerate() {
            if groups[..at].iter().any(|group| group.label == first.label) {
                continue;
            }
            let same: Vec<&Group<'_>> = groups.iter().filter(|group| group.label == first.label).collect();
            let label = &first.label;
            let mut plot = |kind: &str, svg: Option<String>| all.extend(svg.map(|svg| (file_name(label, kind), svg)));
            plot("cpu-each", plots::cpu_each(&format!("CPU: {label}"), &same, &colours)?);
            plot("memory-each", plots::memory_each(&format!("Memory of a session: {label}"), &same, &colours)?);
            plot("latency", plots::latency(&format!("Latency: {label}"), &same, &colours)?);
            for (kind, name, figure) in [
                ("throughput", "Throughput", OverTime::Throughput),
                ("p99", "p99 over time", OverTime::P99),
                ("cpu", "CPU over time", OverTime::Cpu),
                ("memory", "Memory over time", OverTime::Memory),
                ("sessions", "Sessions", OverTime::Sessions),
            ] {
                plot(kind, plots::over_time(&format!("{name}: {label}"), figure, &same, &colours)?);
            }
            plot("churn", plots::churn(&format!("Memory after rounds: {label}"), &same, &colours)?);
        }
        Ok(all)
    }

    fn when_and_where(&self) -> String {
        let starts = || self.runs.iter().map(|run| run.started);
        let when = match (starts().min(), starts().max()) {
            (Some(first), Some(last)) if first + 60 < last => {
                format!("Runs from {} to {}.", units::moment(first), units::moment(last))
            }
            (Some(first), _) => format!("Run at {}.", units::moment(first)),
            _ => "No runs.".to_owned(),
        };
        let machine = &self.machine;
        format!(
            "<p class=\"faint\">{when} This page was made on: {}, {} logical processors, {} of memory, {}; magpie-load {}.</p>\n",
            escaped(&machine.processor),
            machine.cores,
            units::bytes(machine.memory as f64),
            escaped(&machine.kernel),
            env!("CARGO_PKG_VERSION")
        )
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory as f64 / f64::from(1 << 30);
        write!(out, "{} × {}, {memory:.0} GiB, {}", self.cores, self.processor, self.kernel)
    }
}

impl Machine {
    /// The one on which we run; what it does not tell is `unknown`.
    pub fn this() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: after(&read("/proc/meminfo"), "MemTotal").and_then(|text| kernel::kilobytes(&text)).unwrap_or(0),
            kernel: format!("Linux {}", if kernel.is_empty() { "unknown" } else { kernel.trim() }),
        }
    }
}

/// With what XML reserves written so that it means itself.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in XML in any form.
            control if control.is_control() && !['\n', '\t'].contains(&control) => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

fn section(page: &mut String, name: &str, content: &str) {
    if content.contains("<td") || content.contains("<svg") || content.contains("card\"") {
        let _ = writeln!(page, "<h2>{name}</h2>\n{content}");
    }
}

/// At the top, so that nobody reads the figures without them.
fn errors(groups: &[Group<'_>]) -> String {
    let mut lines = String::new();
    for group in groups.iter().filter(|group| group.errors() > 0) {
        let mut kinds = std::collections::BTreeMap::new();
        for (what, count) in group.runs.iter().flat_map(|run| &run.errors) {
            *kinds.entry(what.as_str()).or_insert(0) += count;
        }
        for (what, count) in kinds {
            let (label, server) = (escaped(&group.label), escaped(group.server));
            let count = units::count(count as f64);
            let _ = write!(lines, "<li class=\"bad\">{server}, {label}: {count} × {}</li>", escaped(what));
        }
    }
    if lines.is_empty() {
        "<p>No errors.</p>\n".to_owned()
    } else {
        format!("<h2>Errors</h2>\n<p>Figures count only what went well.</p>\n<ul>{lines}</ul>\n")
    }
}

fn cards(groups: &[Group<'_>]) -> String {
    let mut cards = String::new();
    for group in groups {
        let unit = group.runs.first().map_or("", |run| run.unit.as_str());
        let median = |figure: &dyn Fn(&Run) -> Option<f64>| group.spread(figure).map(|spread| spread.median);
        let rate = median(&|run| (run.operations > 0).then(|| run.rate()));
        let memory = median(&Run::bytes_per_session);
        let headline = match (rate, memory) {
            (Some(rate), _) => format!("{} {}/s", units::short(rate), escaped(&units::plural(unit))),
            (None, Some(memory)) => format!("{}/session", units::bytes(memory)),
            _ => "nothing done".to_owned(),
        };
        let mut rows = String::new();
        let mut row = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(rows, "<dt>{name}</dt><dd>{value}</dd>");
            }
        };
        row("p50", median(&|run| table::percentile(run, 50.0)).map(units::micros));
        row("p99", median(&|run| table::percentile(run, 99.0)).map(units::micros));
        row("server CPU each", median(&Run::server_us).map(units::micros));
        let of_second = |run: &Run| run.server_cpu.filter(|_| run.seconds > 0.0).map(|cpu| cpu.total() / run.seconds);
        row("server CPU", median(&of_second).map(units::cores));
        row("memory per session", memory.map(units::bytes));
        row("kernel per session", median(&table::kernel_per_session).map(units::bytes));
        row("errors", (group.errors() > 0).then(|| units::count(group.errors() as f64)));
        let (server, label) = (escaped(group.server), escaped(&group.label));
        let _ = writeln!(cards, "<div class=\"card\">{server}: {label}<b>{headline}</b><dl>{rows}</dl></div>");
    }
    cards
}

/// Figures that the common table has no column for, as their names say them.
fn figures(groups: &[Group<'_>]) -> Table {
    let mut table = Table::new(&["scenario", "server", "figure", ">median", ">least", ">greatest"]);
    for group in groups {
        let mut names: Vec<&String> = group.runs.iter().flat_map(|run| run.figures.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let Some(spread) = group.spread(|run| run.figures.get(name).copied()) else { continue };
            let numbers = [spread.median, spread.min, spread.max].map(units::short);
            let mut cells = vec![group.label.clone(), group.server.to_owned(), name.clone()];
            cells.extend(numbers);
            table.row(cells);
        }
    }
    table
}

fn parameters(groups: &[Group<'_>]) -> Table {
    let mut table = Table::new(&["scenario", "server", "began", ">seconds", "parameters"]);
    for group in groups {
        for run in &group.runs {
            let all: Vec<String> =
                run.parameters.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
            let (began, seconds) = (units::moment(run.started), units::short(run.seconds));
            table.row(vec![group.label.clone(), group.server.to_owned(), began, seconds, all.join(", ")]);
        }
    }
    table
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn notes() -> String {
    format!(
        "<p class=\"faint\">Several runs of the same: the median, and in brackets the least and the greatest. CPU is user and system time of \
         the server's processes. Memory of a session: proportional set size with the sessions less that before them, by \
         their number. Kernel: {}. By relay: times the CPU of a bare relay of the same bytes, without TLS, acks or contacts.</p>\n",
        kernel::COUNTED
    )
}

fn html_table(table: &Table) -> String {
    let rights: Vec<bool> = table.columns().map(|(_, right)| right).collect();
    let class = |right: bool, long: bool| match (right, long) {
        (true, _) => " class=\"right\"",
        (false, true) => " class=\"long\"",
        _ => "",
    };
    let mut html = String::from("<div class=\"wide\"><table><thead><tr>");
    for (name, right) in table.columns() {
        let _ = write!(html, "<th{}>{}</th>", class(right, false), escaped(name));
    }
    html += "</tr></thead><tbody>\n";
    for row in table.rows() {
        html += "<tr>";
        for (cell, &right) in row.iter().zip(&rights) {
            let bad = if cell == "NO" || cell == "not measured" { " <span class=\"bad\">!</span>" } else { "" };
            let _ = write!(html, "<td{}>{}{bad}</td>", class(right, cell.chars().count() > 60), escaped(cell));
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn file_name(label: &str, kind: &str) -> String {
    let mut name = String::new();
    for sign in label.chars().filter(|sign| *sign != '\u{202f}') {
        match sign {
            'a'..='z' | '0'..='9' => name.push(sign),
            'A'..='Z' => name.push(sign.to_ascii_lowercase()),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    format!("{}-{kind}", name.trim_matches('-'))
}
