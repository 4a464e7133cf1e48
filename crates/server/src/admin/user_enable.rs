//! `user_enable`: lets an account be used again that was disabled.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Enables an account.
pub struct UserEnable;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
}

impl Operation for UserEnable {
    const NAME: &'static str = "user_enable";
    const DOC: &'static str = "Lets an account that was disabled be used again.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#reenable-user",
        "Re-enable users",
        "Fill out this form to re-enable users.",
    )
    .with(&[Argument::accounts("The Jabber ID(s) to re-enable")])
    .saying("They can log in again.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        context.accounts.enable(&account).await?;
        info!(%account, "account enabled");
        Ok(json!({ "jid": account.as_str() }))
    }
}
