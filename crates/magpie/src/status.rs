//! `magpie status`, `magpie reload`, `magpie log`: the running server.

use std::fmt::Write;

use magpie_server::admin::{
    LogLevel, Operation, OperationError, Reload, ReloadReport, Status, Stop, log_level, reload, status, stop,
};
use magpie_server::config::Config;
use serde_json::Value;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::counted;
use crate::target::{IfMissing, Target};
use crate::{config, output, target};

pub(crate) fn status(global: &Global) -> Result<(), Failure> {
    let config = config::load(global, &[])?;
    let mut target = Target::open(&config, IfMissing::Refuse)?;
    let document = target.run::<Status>(status::Arguments {})?;
    output::print(global, &document, || status_text(&document))
}

fn status_text(status: &Value) -> String {
    let mut text = String::new();
    let text_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let version = text_of(&status["version"]);
    let line = if status["running"] == true {
        let uptime = duration(number(&status["uptime_seconds"]));
        format!("Magpie {version} has been running for {uptime}, process {}.", number(&status["pid"]))
    } else {
        format!("No server is running. (This is magpie {version}.)")
    };
    let mut add = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    add(line);
    add(format!("  data      {}", text_of(&status["data"])));
    for domain in status["domains"].as_array().into_iter().flatten() {
        add(format!("  domain    {}, {}", text_of(&domain["domain"]), counted(number(&domain["accounts"]), "account")));
    }
    for listen in status["listen"].as_array().into_iter().flatten() {
        add(format!("  listen    {} {}", text_of(&listen["address"]), text_of(&listen["kind"])));
    }
    if let Some(sessions) = status["sessions"].as_u64() {
        add(format!("  sessions  {sessions}"));
    }
    text
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

pub(crate) fn reload(global: &Global) -> Result<(), Failure> {
    let document = ask::<Reload>(&config::load(global, &[])?, &reload::Arguments {})?;
    let report: ReloadReport = serde_json::from_value(document.clone())
        .map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?;
    output::print(global, &document, || reload_text(&report))?;
    if report.errors.is_empty() { Ok(()) } else { Err(Failure::new("not everything could be reloaded").said()) }
}

/// What a reload did, a line each.
fn reload_text(report: &ReloadReport) -> String {
    let lines =
        |heading: &str, items: &[String]| items.iter().map(|item| format!("{heading} {item}\n")).collect::<String>();
    let text = lines("reloaded      ", &report.reloaded)
        + &lines("needs restart ", &report.needs_restart)
        + &lines("not reloaded  ", &report.errors);
    if text.is_empty() { "Nothing has changed.\n".to_owned() } else { text }
}

pub(crate) fn log(global: &Global, filter: String) -> Result<(), Failure> {
    let document = ask::<LogLevel>(&config::load(global, &[])?, &log_level::Arguments { filter: filter.clone() })?;
    output::print(global, &document, || format!("The server logs {filter} from now on.\n"))
}

pub(crate) fn stop(global: &Global, delay: u64, announcement: Option<String>) -> Result<(), Failure> {
    let arguments = stop::Arguments { delay_seconds: Some(delay), announcement };
    let document = ask::<Stop>(&config::load(global, &[])?, &arguments)?;
    output::print(global, &document, || match delay {
        0 => "The server stops.\n".to_owned(),
        _ => format!("The server stops in {}.\n", duration(delay)),
    })
}

pub(crate) fn ask<O: Operation>(config: &Config, arguments: &O::Arguments) -> Result<Value, Failure> {
    let outcome: Result<Value, OperationError> =
        target::server(config)?.call::<O>(arguments).map_err(|error| target::broken(&error))?;
    Ok(outcome?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_their_two_largest_units() {
        let shown = [59, 61, 3_700, 90_000].map(duration);
        assert_eq!(shown, ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
