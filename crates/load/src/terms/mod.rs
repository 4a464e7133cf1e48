//! `magpie-load terms`: Magpie's term service beside Erlang's own `httpd`.
//!
//! The servers take turns; the client is one thread with all connections, which sends the next request on each as soon as the last
//! is answered. Server and client share the processors, so the CPU of the server is reported beside the rate.

mod client;
pub mod floor;
mod servers;
mod stream;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::compare::CompareError;
use crate::compare::magpie::Magpie;
use crate::compare::place::Folder;
use crate::compare::process::Interrupt;
use crate::measure::process::Processes;
use crate::report::table::Table;
use crate::report::units;
use client::Load;
use servers::{RECORD_FILE, Server, ServerKind};

/// Measures requests for terms: echo, a record to JSON, and a long stream.
#[derive(Clone, Debug, clap::Args)]
pub struct TermsOptions {
    /// Connections
    #[arg(long, short = 'c', value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Rounds in which the servers take turns; the best of them counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of a run
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    pub seconds: f64,
    /// MiB of the stream
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub stream: u64,
    /// The program of Magpie; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    pub magpie: Option<PathBuf>,
    /// Prints JSON in place of tables
    #[arg(long)]
    pub json: bool,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// A short text comes back.
    Echo,
    /// A record of 320 bytes becomes JSON.
    ToJson,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
struct Run {
    route: Route,
    server: &'static str,
    requests_per_second: f64,
    /// CPU of the server for each.
    cpu_us: f64,
    p50_us: u64,
    p99_us: u64,
}

/// The goals: times the rate of `httpd` without Nagle's algorithm, and MiB of memory for a stream.
const TIMES_NODELAY: f64 = 10.0;
const STREAM_MIB_MAX: f64 = 64.0;

#[derive(Debug, Serialize)]
struct Results {
    connections: u32,
    runs: Vec<Run>,
    stream: stream::Streamed,
}

/// Measures, and prints.
pub fn terms(options: &TermsOptions) -> Result<(), CompareError> {
    let interrupt = Interrupt::on_signals()?;
    let magpie = Magpie::find(options.magpie.clone())?;
    let folder = Folder::new()?;
    let kinds = [ServerKind::Magpie, ServerKind::Floor, ServerKind::HttpdNoDelay, ServerKind::Httpd];
    let length = u64::from(options.rounds) * (kinds.len() as u64 * 2 - 1) + 1;
    let progress = bar(length, options.json);
    let mut runs = Vec::new();
    for _ in 0..options.rounds {
        for kind in kinds {
            let server = Server::start(kind, magpie.program(), folder.path(), &interrupt)?;
            // The floor converts nothing.
            let routes = if kind == ServerKind::Floor { &[Route::Echo][..] } else { &[Route::Echo, Route::ToJson] };
            for &route in routes {
                interrupt.check()?;
                progress.set_message(format!("{}, {}", kind.name(), route.name()));
                runs.push(one(&server, route, options, &folder)?);
                progress.inc(1);
            }
        }
    }
    interrupt.check()?;
    progress.set_message("a long stream");
    let stream = {
        let server = Server::start(ServerKind::Magpie, magpie.program(), folder.path(), &interrupt)?;
        stream::run(&server, options.stream << 20)?
    };
    progress.finish_and_clear();
    let results = Results { connections: options.connections, runs, stream };
    let text = if options.json { json(&results)? } else { table(&results) };
    // Nobody reading any more is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn bar(length: u64, quiet: bool) -> ProgressBar {
    let target = if quiet || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed}, {eta} left)");
    bar.with_style(style.expect("the template is one"))
}

fn one(server: &Server, route: Route, options: &TermsOptions, folder: &Folder) -> Result<Run, CompareError> {
    let record = folder.path().join(RECORD_FILE);
    let body = match route {
        Route::Echo => Vec::new(),
        Route::ToJson => std::fs::read(&record).map_err(CompareError::file(&record))?,
    };
    let load = Load {
        address: server.address,
        request: request(server.kind, route, &body),
        expected: match route {
            Route::Echo => "abcd你好321",
            Route::ToJson => "\"name\":\"Juliet Capulet\"",
        },
        connections: options.connections as usize,
        warmup: Duration::from_secs(1),
        time: Duration::from_secs_f64(options.seconds),
    };
    let setup = |error: std::io::Error| CompareError::Setup(format!("{}: {error}", server.kind.name()));
    let mut processes = Processes::with_descendants(server.pids()).map_err(setup)?;
    let mut cpu = Vec::new();
    let answered = load.run(|| cpu.push(processes.cpu())).map_err(setup)?;
    let used = match &cpu[..] {
        [before, after] => after.since(*before),
        _ => Default::default(),
    };
    Ok(Run {
        route,
        server: server.kind.name(),
        requests_per_second: answered.count as f64 / answered.time.as_secs_f64(),
        cpu_us: (used.user + used.system) * 1e6 / answered.count.max(1) as f64,
        p50_us: answered.latency.value_at_quantile(0.5),
        p99_us: answered.latency.value_at_quantile(0.99),
    })
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::ToJson => "to-json of a record",
        }
    }
}

fn request(kind: ServerKind, route: Route, body: &[u8]) -> Vec<u8> {
    let line = match (route, kind) {
        (Route::Echo, _) => "GET /esi/echo_server:echo?abcd%E4%BD%A0%E5%A5%BD321",
        (Route::ToJson, ServerKind::Magpie) => "POST /terms/to-json?mode=readable",
        (Route::ToJson, _) => "POST /esi/echo_server:to_json",
    };
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

/// The best run of each, in the order of the first round.
fn best(results: &Results) -> Vec<&Run> {
    let mut best: Vec<&Run> = Vec::new();
    for run in &results.runs {
        match best.iter_mut().find(|known| (known.route, known.server) == (run.route, run.server)) {
            Some(known) if known.requests_per_second < run.requests_per_second => *known = run,
            Some(_) => {}
            None => best.push(run),
        }
    }
    best.sort_by_key(|run| run.route as u8);
    best
}

fn table(results: &Results) -> String {
    let best = best(results);
    let rate = |route: Route, server: ServerKind| {
        best.iter()
            .find(|run| run.route == route && run.server == server.name())
            .map_or(0.0, |run| run.requests_per_second)
    };
    let mut table = Table::new(&["route", "server", ">requests/s", ">times", ">µs of its CPU", ">p50", ">p99"]);
    for run in &best {
        table.row(vec![
            run.route.name().to_owned(),
            run.server.to_owned(),
            units::count(run.requests_per_second),
            format!("{:.1}", run.requests_per_second / rate(run.route, ServerKind::HttpdNoDelay)),
            format!("{:.1}", run.cpu_us),
            units::micros(run.p50_us as f64),
            units::micros(run.p99_us as f64),
        ]);
    }
    let mut text = format!("{} connections, the best of each server's runs\n\n{}\n", results.connections, table.text());
    let said = |met: bool| if met { "met" } else { "missed" };
    for route in [Route::Echo, Route::ToJson] {
        let times = rate(route, ServerKind::Magpie) / rate(route, ServerKind::HttpdNoDelay);
        text += &format!(
            "{}: {times:.1} times httpd with nodelay (goal: {TIMES_NODELAY}): {}\n",
            route.name(),
            said(times >= TIMES_NODELAY)
        );
    }
    let streamed = &results.stream;
    let peak = streamed.peak_bytes as f64 / f64::from(1 << 20);
    text += &format!(
        "a stream of {} to NDJSON: {} a second, {peak:.1} MiB of memory at most (goal: {STREAM_MIB_MAX}): {}\n",
        units::bytes(streamed.sent_bytes as f64),
        units::bytes(streamed.sent_bytes as f64 / streamed.seconds),
        said(peak < STREAM_MIB_MAX)
    );
    text
}

fn json(results: &Results) -> Result<String, CompareError> {
    let mut text = serde_json::to_string_pretty(results).map_err(|error| CompareError::Setup(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_best_runs_and_says_which_goals_are_met() {
        let run = |server: ServerKind, requests_per_second| Run {
            route: Route::Echo,
            server: server.name(),
            requests_per_second,
            cpu_us: 5.0,
            p50_us: 300,
            p99_us: 900,
        };
        let runs = vec![
            run(ServerKind::Magpie, 50_000.0),
            run(ServerKind::HttpdNoDelay, 6_000.0),
            run(ServerKind::Magpie, 66_000.0),
        ];
        let stream = stream::Streamed { sent_bytes: 1 << 30, seconds: 4.0, peak_bytes: 65 << 20 };
        let text = table(&Results { connections: 64, runs, stream });
        assert!(text.contains("echo: 11.0 times httpd with nodelay (goal: 10): met"), "{text}");
        assert!(text.contains("65.0 MiB of memory at most (goal: 64): missed"), "{text}");
    }
}
