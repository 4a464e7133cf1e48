//! `user_exists`: which of many accounts exist, so that an import derives no keys in vain.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Operation, OperationError, ROWS_MAX};

/// Says which accounts exist.
pub struct UserExists;

/// Which to look for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Addresses, at most 1000.
    pub jids: Vec<String>,
}

impl Operation for UserExists {
    const NAME: &'static str = "user_exists";
    const DOC: &'static str = "Says which of the accounts exist, in the order of the question.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        if arguments.jids.len() > ROWS_MAX {
            return Err(OperationError::invalid(format!("more than {ROWS_MAX} accounts")));
        }
        let mut exist = Vec::with_capacity(arguments.jids.len());
        for jid in &arguments.jids {
            exist.push(context.accounts.exists(&context.account(jid)?).await?);
        }
        Ok(json!({ "exist": exist }))
    }
}
