//! `user_add`: makes an account.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, Operation, OperationError};

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
    const COMMANDS: &'static [Command] = &[Command::new(
        "http://jabber.org/protocol/admin#add-user",
        "Add a user",
        "Fill out this form to make an account.",
    )
    .with(&[
        Argument::account("The Jabber ID for the account to be added"),
        Argument::field("password", "password", FieldType::TextPrivate, "The password for this account")
            .required()
            .again("password-verify", "Retype password"),
    ])
    .saying("The account is there.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.served_account(&arguments.jid)?;
        let made = context.accounts.create(&account, &arguments.password).await;
        made.map_err(|error| OperationError::of_account(error, &account))?;
        info!(%account, "account made");
        Ok(json!({ "jid": account.as_str() }))
    }
}
