//! `report_list`: what users reported of whom they blocked, the newest first.

use magpie_proto::xeps::data_forms::FieldType;
use magpie_proto::xeps::date_time::DateTime;
use magpie_store::LogId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::modules::reports::{Report, ReportBook};

/// How many reports a page has, at most and by default.
const PAGE_MAX: usize = 1000;

/// Lists reports.
pub struct ReportList;

/// Of whose users, and which page.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// The `next` of the page before; none for the first page.
    #[serde(default)]
    pub before: Option<String>,
    /// Reports of this page, at most 1000.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for ReportList {
    const NAME: &'static str = "report_list";
    const DOC: &'static str = "Lists what users reported of whom they blocked, the newest first.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#report-list",
        "Get list of abuse reports",
        "Fill out this form to list what users of this domain reported.",
    )
    .with(&[Argument::host("host"), Argument::max_items()])
    .showing(&[Shown::new("reports", "reports", FieldType::TextMulti, "The newest reports")])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let host = context.host(arguments.host.as_deref())?;
        let limit = arguments.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let before = arguments.before.as_deref().map(report_id).transpose()?;
        let reports = ReportBook::new(context.accounts.store()).list(&host, before, limit).await?;
        let next = reports.last().filter(|_| reports.len() == limit).map(|(id, _)| id.0.to_string());
        let reports: Vec<Value> = reports.iter().map(|(id, report)| document(*id, report)).collect();
        Ok(json!({ "host": host, "reports": reports, "next": next }))
    }
}

/// A report's id, as it is written.
pub(super) fn report_id(text: &str) -> Result<LogId, OperationError> {
    text.parse().map(LogId).map_err(|_| OperationError::invalid(format!("\"{text}\" is no id of a report")))
}

fn document(id: LogId, report: &Report) -> Value {
    json!({
        "id": id.0.to_string(),
        "at": DateTime::from_unix(report.at as i64, 0).to_string(),
        "reporter": report.reporter,
        "reported": report.reported,
        "reason": report.reason,
        "text": report.text,
        "messages": report.messages,
        "report_origin": report.report_origin,
        "third_party": report.third_party,
    })
}
