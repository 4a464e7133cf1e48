//! `user_add`: makes an account.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, Operation, OperationError};

/// Makes an account.
pub struct UserAdd;

/// Which, and with which password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account, on a served domain.
    pub jid: String,
    /// Its password.
    pub password: String,
}

impl Operation for UserAdd {
    const NAME: &'static str = "user_add";
    const DOC: &'static str = "Makes an account on a served domain.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.served_account(&arguments.jid)?;
        let made = context.accounts.create(&account, &arguments.password).await;
        made.map_err(|error| OperationError::of_account(error, &account))?;
        info!(%account, "account made");
        Ok(json!({ "jid": account.as_str() }))
    }
}
