//! `token_list`: the clients of an account that log in by tokens (XEP-0484).

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::admin::command::Permission;
use crate::modules::fast::Fast;

/// Lists clients that have tokens.
pub struct TokenList;

/// Whose.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
}

const RESULTS: &[Shown] =
    &[Shown::new("clients", "clients", FieldType::TextMulti, "Clients that log in without the password")];

impl Operation for TokenList {
    const NAME: &'static str = "token_list";
    const DOC: &'static str = "Lists the clients of an account that log in by a token instead of the password.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "magpie#token-list",
            "List a user's clients that have tokens",
            "Fill out this form to list the clients that log in without the user's password.",
        )
        .with(&[Argument::account("The Jabber ID for this account")])
        .showing(RESULTS)
        .saying("There are none."),
        Command {
            permission: Permission::User,
            ..Command::new("magpie#my-tokens", "List my clients that have tokens", "")
        }
        .with(&[Argument::requester("jid")])
        .showing(RESULTS)
        .saying("There are none."),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        let clients = Fast::of(&context.accounts).clients(&account).await?;
        Ok(json!({ "jid": account.as_str(), "clients": clients }))
    }
}
