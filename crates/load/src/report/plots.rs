//! Plots of runs as SVG that stands alone: white ground, axes with units, logarithmic where values lie far apart.

mod draw;
mod scale;

pub use draw::{Bar, Bars, Lines, PlotError, Series, bars, lines};
pub use scale::Axis;

use super::goals::{FLOOR, MAGPIE, rounds};
use super::table::{self, Group};
use super::units;
use crate::result::Run;

/// Red, green and blue.
pub type Colour = (u8, u8, u8);

/// The kernel's part of a stacked bar.
const KERNEL: Colour = (0xc9, 0xd1, 0xd9);
/// Told apart by most who do not see all colours: Okabe and Ito's.
const OTHERS: [Colour; 6] = [
    (0xd5, 0x5e, 0x00),
    (0x00, 0x9e, 0x73),
    (0xcc, 0x79, 0xa7),
    (0xe6, 0x9f, 0x00),
    (0x56, 0xb4, 0xe9),
    (0x5b, 0x4b, 0x8a),
];

/// A figure of a run that changes while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverTime {
    /// Operations a second.
    Throughput,
    /// CPU of the server.
    Cpu,
    /// Memory of the server.
    Memory,
    /// The 99th percentile of latency.
    P99,
    /// Sessions that are there.
    Sessions,
}

/// Servers keep their colour in all plots of a report.
#[derive(Clone, Debug, Default)]
pub struct Colours(Vec<String>);

impl Colours {
    /// Of all servers of these runs.
    pub fn of(runs: &[Run]) -> Self {
        let mut names: Vec<String> = runs.iter().map(|run| run.server.clone()).collect();
        names.retain(|name| name != MAGPIE && name != FLOOR);
        names.sort();
        names.dedup();
        Self(names)
    }

    /// The colour of this one.
    pub fn server(&self, name: &str) -> Colour {
        match name {
            MAGPIE => (0x00, 0x62, 0xb8),
            FLOOR => (0x6e, 0x77, 0x81),
            other => OTHERS[self.0.iter().position(|name| name == other).unwrap_or(0) % OTHERS.len()],
        }
    }
}

/// How latency is distributed: each percentile, the rare ones stretched. None where no run has latencies.
pub fn latency(title: &str, groups: &[&Group<'_>], colours: &Colours) -> Result<Option<String>, PlotError> {
    let curves = each_run(groups, colours, curve);
    if curves.is_empty() {
        return Ok(None);
    }
    let percent = |rarity: f64| format!("{} %", 100.0 - 100.0 / rarity);
    let x = Axis::logarithmic("percentile", percent);
    lines(&Lines { title, x, y: Axis::new("latency", units::micros), series: &curves, steps: true }).map(Some)
}

/// A figure second by second. None where no run has it.
pub fn over_time(
    title: &str,
    figure: OverTime,
    groups: &[&Group<'_>],
    colours: &Colours,
) -> Result<Option<String>, PlotError> {
    let curves = each_run(groups, colours, |run| samples(run, figure));
    if curves.is_empty() {
        return Ok(None);
    }
    let unit = groups.first().and_then(|group| group.runs.first()).map_or("operation", |run| run.unit.as_str());
    let per_second = format!("{} a second", units::plural(unit));
    let y = match figure {
        OverTime::Throughput => Axis::new(&per_second, units::short),
        OverTime::Cpu => Axis::new("CPU of the server, cores", units::short),
        OverTime::Memory => Axis::new("memory of the server", units::bytes).binary(),
        OverTime::P99 => Axis::new("99th percentile of latency", units::micros),
        OverTime::Sessions => Axis::new("sessions", units::count),
    };
    // Sessions that stay as they are need no picture.
    let still = |series: &Series| series.points.iter().all(|point| point.1 == series.points[0].1);
    if figure == OverTime::Sessions && curves.iter().all(still) {
        return Ok(None);
    }
    let y = if figure == OverTime::Cpu { y.linear() } else { y };
    let x = Axis::new("seconds since the run began", units::short).linear();
    lines(&Lines { title, x, y, series: &curves, steps: false }).map(Some)
}

/// CPU of the server for an operation, server beside server; the relay's as a line. None where nobody's is known.
pub fn cpu_each(title: &str, groups: &[&Group<'_>], colours: &Colours) -> Result<Option<String>, PlotError> {
    let bar = |group: &&Group<'_>| {
        let spread = group.spread(Run::server_us)?;
        let parts = vec![("", colours.server(group.server), spread.median)];
        Some(Bar { name: group.server.to_owned(), parts, between: Some((spread.min, spread.max)) })
    };
    let all: Vec<Bar<'_>> = groups.iter().filter_map(bar).collect();
    let floor = groups.iter().find(|group| group.server == FLOOR).and_then(|group| group.spread(Run::server_us));
    if all.is_empty() {
        return Ok(None);
    }
    let unit = groups.first().and_then(|group| group.runs.first()).map_or("operation", |run| run.unit.as_str());
    let name = format!("CPU of the server for each {unit}");
    let floor = floor.map(|floor| ("the bare relay", floor.median));
    bars(&Bars { title, y: Axis::new(&name, units::micros), bars: &all, floor }).map(Some)
}

/// Memory of a session: the server's own, and the kernel's above it. None where nobody's is known.
pub fn memory_each(title: &str, groups: &[&Group<'_>], colours: &Colours) -> Result<Option<String>, PlotError> {
    let bar = |group: &&Group<'_>| {
        let own = group.spread(Run::bytes_per_session)?;
        let kernel = group.spread(table::kernel_per_session).map_or(0.0, |spread| spread.median.max(0.0));
        let parts = vec![
            ("the server's own memory", colours.server(group.server), own.median),
            ("the kernel's, client's end included", KERNEL, kernel),
        ];
        Some(Bar { name: group.server.to_owned(), parts, between: None })
    };
    let all: Vec<Bar<'_>> = groups.iter().filter_map(bar).collect();
    if all.is_empty() {
        return Ok(None);
    }
    bars(&Bars { title, y: Axis::new("memory for each session", units::bytes).binary(), bars: &all, floor: None })
        .map(Some)
}

/// Memory of a session in each round of connect and disconnect. None where nobody went round twice.
pub fn churn(title: &str, groups: &[&Group<'_>], colours: &Colours) -> Result<Option<String>, PlotError> {
    let curves = each_run(groups, colours, |run| {
        rounds(run).into_iter().map(|(round, bytes)| (f64::from(round), bytes)).collect()
    });
    if curves.is_empty() {
        return Ok(None);
    }
    let x = Axis::new("round of connect and disconnect", units::short).linear();
    let y = Axis::new("memory for each session", units::bytes).binary().linear();
    lines(&Lines { title, x, y: y.from_zero(), series: &curves, steps: false }).map(Some)
}

/// A line for every run that has two points or more; the name stands with the first of its server.
fn each_run(groups: &[&Group<'_>], colours: &Colours, points: impl Fn(&Run) -> Vec<(f64, f64)>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for group in groups {
        for run in &group.runs {
            let points = points(run);
            if points.len() >= 2 {
                all.push(Series { name: group.server.to_owned(), colour: colours.server(group.server), points });
            }
        }
    }
    all
}

/// Rarity (10 is the 90th percentile, 100 the 99th) and latency.
fn curve(run: &Run) -> Vec<(f64, f64)> {
    let Some(latency) = run.latency.as_ref().filter(|latency| latency.count > 0) else { return Vec::new() };
    let rarest = (latency.count as f64).clamp(2.0, 1e6);
    let whole = histogram(&latency.histogram);
    let at = |percentile: f64| whole.as_ref().map(|whole| whole.value_at_percentile(percentile) as f64);
    let mut points = Vec::new();
    if whole.is_some() {
        for step in 0..=(rarest.log10() * 40.0) as u32 {
            let rarity = 10_f64.powf(f64::from(step) / 40.0);
            points.extend(at(100.0 - 100.0 / rarity).map(|us| (rarity, us.max(1.0))));
        }
    } else {
        let rarity = |percentile: f64| if percentile >= 100.0 { rarest } else { 100.0 / (100.0 - percentile) };
        points.extend(latency.percentiles_us.iter().map(|&(percentile, us)| (rarity(percentile), us.max(1.0))));
    }
    points
}

/// None where the text is not one.
fn histogram(text: &str) -> Option<hdrhistogram::Histogram<u64>> {
    use base64::Engine;
    use hdrhistogram::serialization::Deserializer;

    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

fn samples(run: &Run, figure: OverTime) -> Vec<(f64, f64)> {
    let mut before = 0.0;
    let mut points = Vec::new();
    for sample in &run.series {
        let seconds = sample.second - before;
        before = sample.second;
        let value = match figure {
            OverTime::Throughput => Some(sample.operations as f64 / seconds),
            OverTime::Cpu => run.server_cpu.map(|_| sample.server_cpu / seconds),
            OverTime::Memory => (sample.server_memory > 0).then_some(sample.server_memory as f64),
            OverTime::P99 => sample.p99_us,
            OverTime::Sessions => Some(sample.sessions as f64),
        };
        points.extend(value.filter(|value| value.is_finite()).map(|value| (sample.second, value)));
    }
    points
}

#[cfg(test)]
mod tests;
