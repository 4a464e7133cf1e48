//! `user_passwd`: gives an account another password, and ends the sessions that knew the old one.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

/// Gives an account another password.
pub struct UserPasswd;

/// Which, and the new password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
    /// Its new password.
    pub password: String,
}

impl Operation for UserPasswd {
    const NAME: &'static str = "user_passwd";
    const DOC: &'static str = "Gives an account another password and ends its sessions.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#change-user-password",
        "Change a user's password",
        "Fill out this form to change a user's password. The user's sessions end.",
    )
    .with(&[
        Argument::account("The Jabber ID for this account"),
        Argument::field("password", "password", FieldType::TextPrivate, "The password for this account").required(),
    ])
    .saying("The password is changed.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.account(&arguments.jid)?;
        let set = context.accounts.set_password(&account, &arguments.password).await;
        set.map_err(|error| OperationError::of_account(error, &account))?;
        if let Some(sessions) = &context.sessions {
            sessions.on_password_changed(&account);
        }
        info!(%account, "password changed");
        Ok(json!({ "jid": account.as_str() }))
    }
}
