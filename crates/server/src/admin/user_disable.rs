//! `user_disable`: keeps an account from being used, with all its data, until `user_enable`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Disables an account.
pub struct UserDisable;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
}

impl Operation for UserDisable {
    const NAME: &'static str = "user_disable";
    const DOC: &'static str = "Ends the sessions of an account and lets nobody log in, until it is enabled again.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#disable-user",
        "Disable users",
        "Fill out this form to disable users. Their sessions end.",
    )
    .with(&[Argument::accounts("The Jabber ID(s) to disable")])
    .saying("They cannot log in any more.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.account(&arguments.jid)?;
        let disabled = context.accounts.disable(&account).await;
        disabled.map_err(|error| OperationError::of_account(error, &account))?;
        if let Some(sessions) = &context.sessions {
            sessions.on_account_disabled(&account);
        }
        info!(%account, "account disabled");
        Ok(json!({ "jid": account.as_str() }))
    }
}
