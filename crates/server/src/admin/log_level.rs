//! `log_level`: changes what a running server logs.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Changes what is logged.
pub struct LogLevel;

/// To what.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Levels by module, as `info,magpie_server=debug`.
    pub filter: String,
}

impl Operation for LogLevel {
    const NAME: &'static str = "log_level";
    const DOC: &'static str = "Changes what the running server logs, until it is restarted.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#log-level",
        "Change what is logged",
        "A level (error, warn, info, debug, trace), or levels by module.",
    )
    .with(&[Argument::field("filter", "filter", FieldType::TextSingle, "What is logged")
        .required()
        .with_default("info")])
    .saying("It is logged from now on, until the server is restarted.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let filter = arguments.filter;
        context.process()?.set_log_filter(&filter).map_err(|wrong| {
            OperationError::invalid(format!("\"{filter}\" is no log filter: {wrong}"))
                .help("write a level (error, warn, info, debug, trace), or levels by module: info,magpie_server=debug")
        })?;
        info!(%filter, "log filter changed");
        Ok(json!({ "filter": filter }))
    }
}
