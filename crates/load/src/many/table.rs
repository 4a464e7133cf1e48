//! What is printed at the end.

use super::clients::Stop;
use crate::report::table::{Table, kernel_per_session};
use crate::report::units;
use crate::result::Run;

/// One line for each figure.
pub(super) fn table(run: &Run) -> Table {
    let mut table = Table::new(&["what", ">measured"]);
    let mut row = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row(vec![what.into(), value]);
        }
    };
    let figure = |name: &str| run.figures.get(name).copied();
    let sessions = run.memory.map_or(0, |memory| memory.sessions) as f64;
    row("sessions held", Some(units::count(sessions)));
    row("servers, and as many client processes", figure("server_processes").map(units::count));
    row("server memory, each session", run.bytes_per_session().map(units::bytes));
    row("kernel memory, each session, both ends", kernel_per_session(run).map(units::bytes));
    row("client memory, each session", figure("client_bytes_per_session").map(units::bytes));
    row("an idle server by itself", figure("idle_server_bytes").map(units::bytes));
    row("threads of a server", figure("server_threads").map(units::short));
    row("data folder of a server", figure("data_bytes_per_server").map(units::bytes));
    row("making the data folder", figure("prepare_seconds").map(|seconds| units::micros(seconds * 1e6)));
    row("logging all in", figure("login_seconds").map(|seconds| units::micros(seconds * 1e6)));
    for (what, name) in [("all", ""), ("first tenth", "first_tenth_"), ("last tenth", "last_tenth_")] {
        let of = |figure_name: &str| figure(&format!("{name}{figure_name}"));
        row(&format!("logins a second, {what}"), of("logins_per_second").map(units::count));
        row(&format!("server CPU of a login, {what}"), of("login_server_cpu_us").map(units::micros));
    }
    row("client CPU of a session", (sessions > 0.0).then(|| units::micros(run.client_cpu.total() * 1e6 / sessions)));
    row("message to a random session, p50", figure("random_message_us").map(units::micros));
    row("message to a random session, p99", figure("random_message_p99_us").map(units::micros));
    for (what, count) in &run.errors {
        row(what, Some(units::count(*count as f64)));
    }
    table
}

/// Why there are not as many sessions as were asked for.
pub(super) fn why(stop: Stop, free_min: u64) -> String {
    match stop {
        Stop::Memory(free) => format!(
            "no more were brought up: of memory {} were available, and {} are to stay (--free-mib)",
            units::bytes(free as f64),
            units::bytes(free_min as f64)
        ),
        Stop::Time => "no more were brought up: time was up (--minutes-max)".to_owned(),
    }
}
