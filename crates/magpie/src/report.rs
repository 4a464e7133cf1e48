//! `magpie report …`: what users reported of whom they blocked.

use magpie_server::admin::{ReportList, ReportRemove, report_list, report_remove};
use serde_json::{Value, json};

use crate::cli::{Global, ReportCommand};
use crate::failure::Failure;
use crate::target::{IfMissing, Target};
use crate::{config, output};

pub(crate) fn run(global: &Global, command: ReportCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        ReportCommand::List { host } => list(global, &mut target, host),
        ReportCommand::Remove { id } => {
            let document = target.run::<ReportRemove>(report_remove::Arguments { id })?;
            output::print(global, &document, || "Deleted the report.\n".to_owned())
        }
    }
}

/// Lists page by page, so that the newest are there at once. JSON waits for all: it is one document.
fn list(global: &Global, target: &mut Target, host: Option<String>) -> Result<(), Failure> {
    let mut reports: Vec<Value> = Vec::new();
    let mut before = None;
    loop {
        let page = target.run::<ReportList>(report_list::Arguments { host: host.clone(), before, limit: None })?;
        let found = page["reports"].as_array().map_or(&[][..], Vec::as_slice);
        if global.json {
            reports.extend_from_slice(found);
        } else {
            output::write(&found.iter().map(lines).collect::<String>())?;
        }
        before = page["next"].as_str().map(str::to_owned);
        if before.is_none() {
            break;
        }
    }
    if global.json { output::print(global, &json!({ "reports": reports }), String::new) } else { Ok(()) }
}

/// When, who, whom, why; under it what the user says.
fn lines(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or_default();
    let reason = text("reason").strip_prefix("urn:xmpp:reporting:").unwrap_or(text("reason"));
    let mut lines =
        format!("{} {} {} reports {}: {reason}\n", text("id"), text("at"), text("reporter"), text("reported"));
    for line in text("text").lines() {
        lines += &format!("    {line}\n");
    }
    lines
}
