//! `reload`: reads the configuration and the certificates again, without ending a session.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Command, Context, Operation, OperationError, Shown};

/// Reads the configuration again.
pub struct Reload;

/// Nothing.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What changed and is in force.
    pub reloaded: Vec<String>,
    /// What changed and needs a restart to be in force.
    pub needs_restart: Vec<String>,
    /// What could not be read; it is as it was.
    pub errors: Vec<String>,
}

impl Operation for Reload {
    const NAME: &'static str = "reload";
    const DOC: &'static str = "Reads the configuration and the certificates again; sessions go on.";
    const COMMANDS: &'static [Command] =
        &[Command::new("magpie#reload", "Read the configuration again", "").showing(&[
            Shown::new("reloaded", "reloaded", FieldType::TextMulti, "In force"),
            Shown::new("needs_restart", "needs_restart", FieldType::TextMulti, "Needs a restart"),
            Shown::new("errors", "errors", FieldType::TextMulti, "Not read"),
        ])];
    type Arguments = Arguments;

    async fn run(context: &Context, _: Arguments) -> Result<Value, OperationError> {
        Ok(json!(context.process()?.reload().await?))
    }
}
