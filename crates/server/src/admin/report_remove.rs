//! `report_remove`: deletes a report that was dealt with.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, ErrorKind, Operation, OperationError, report_list};
use crate::modules::reports::ReportBook;

/// Deletes a report.
pub struct ReportRemove;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Its id.
    pub id: String,
}

impl Operation for ReportRemove {
    const NAME: &'static str = "report_remove";
    const DOC: &'static str = "Deletes a report.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let id = report_list::report_id(&arguments.id)?;
        let book = ReportBook::new(context.accounts.store());
        for host in &context.config().domains {
            if book.remove(host, id).await? {
                info!(%host, id = arguments.id, "report removed");
                return Ok(json!({ "id": arguments.id }));
            }
        }
        Err(OperationError::new(ErrorKind::NotFound, "there is no such report").help("`magpie report list` shows them"))
    }
}
