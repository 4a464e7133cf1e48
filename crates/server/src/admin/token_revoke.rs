//! `token_revoke`: takes back the tokens by which clients of an account log in (XEP-0484), and ends those clients' sessions.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, ErrorKind, Operation, OperationError};
use crate::admin::command::Permission;
use crate::modules::fast::Fast;

/// Takes tokens back.
pub struct TokenRevoke;

/// Whose.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Address of the account.
    pub jid: String,
    /// The client, by its id; all that have tokens where none is named.
    #[serde(default)]
    pub client: Option<String>,
}

const CLIENT: Argument =
    Argument::field("client", "client", FieldType::TextSingle, "The client's id; all where none is given");

impl Operation for TokenRevoke {
    const NAME: &'static str = "token_revoke";
    const DOC: &'static str =
        "Takes the token of a client back, or those of all of an account, and ends the clients' sessions.";
    const COMMANDS: &'static [Command] = &[
        Command::new(
            "magpie#token-revoke",
            "Take back the tokens of a user's clients",
            "Fill out this form so that a client, or each that has a token, needs the user's password again. Their sessions end.",
        )
        .with(&[Argument::account("The Jabber ID for this account"), CLIENT])
        .saying("They need the password again."),
        Command {
            permission: Permission::User,
            ..Command::new(
                "magpie#my-token-revoke",
                "Log one of my clients out",
                "Fill out this form so that a client, or each that has a token, needs your password again. Their sessions end.",
            )
        }
        .with(&[Argument::requester("jid"), CLIENT])
        .saying("They need the password again."),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let account = context.existing_account(&arguments.jid).await?;
        let client = arguments.client.as_deref().map(|client| client.trim().to_ascii_lowercase());
        let revoked = Fast::of(&context.accounts).revoke(&account, client.as_deref()).await?;
        if let (true, Some(client)) = (revoked.is_empty(), client) {
            let message = format!("no client of {account} with the id {client} has a token");
            return Err(
                OperationError::new(ErrorKind::NotFound, message).help("`magpie token list` shows those that have one")
            );
        }
        if let Some(sessions) = &context.sessions {
            sessions.on_clients_revoked(&account, &revoked);
        }
        info!(%account, clients = revoked.len(), "tokens taken back");
        Ok(json!({ "jid": account.as_str(), "clients": revoked }))
    }
}
