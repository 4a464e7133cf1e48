//! `user_remove`: erases an account with all its data, and ends its sessions.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};
use crate::accounts::AccountError;
use crate::modules::invites::InviteBook;
use crate::modules::muc::forgetting::forget_account;

/// Erases an account.
pub struct UserRemove;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account. Its domain need not be served any more.
    pub jid: String,
}

impl Operation for UserRemove {
    const NAME: &'static str = "user_remove";
    const DOC: &'static str = "Erases an account with all its data and ends its sessions.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#delete-user",
        "Delete users",
        "Fill out this form to delete users with all their data.",
    )
    .with(&[Argument::accounts("The Jabber ID(s) to delete")])
    .saying("They are gone.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.account(&arguments.jid)?;
        let removing = context.sessions.clone().and_then(|sessions| sessions.remove_account(account.clone()));
        let removed = match removing {
            Some(removing) => removing.await,
            None => match context.accounts.exists(&account).await? {
                true => {
                    forget_account(context.accounts.store(), &account).await?;
                    context.accounts.remove(&account).await
                }
                false => Err(AccountError::NotFound),
            },
        };
        removed.map_err(|error| OperationError::of_account(error, &account))?;
        InviteBook::new(context.accounts.store()).forget(&account).await?;
        if let Some(sessions) = &context.sessions {
            sessions.on_account_removed(&account);
        }
        info!(%account, "account removed");
        Ok(json!({ "jid": account.as_str() }))
    }
}
