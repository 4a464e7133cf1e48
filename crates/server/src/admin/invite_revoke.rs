//! `invite_revoke`: takes an invite back.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, ErrorKind, Operation, OperationError};
use crate::modules::invites::InviteBook;

/// Takes an invite back.
pub struct InviteRevoke;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Its token, or a link with it.
    pub token: String,
}

impl Operation for InviteRevoke {
    const NAME: &'static str = "invite_revoke";
    const DOC: &'static str = "Takes an invite back: its link is worth nothing any more.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#invite-revoke",
        "Take an invite back",
        "Fill out this form to make an invite worth nothing.",
    )
    .with(&[Argument::field("token", "token", FieldType::TextSingle, "Its token, or its link").required()])
    .saying("It is worth nothing any more.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let token = arguments.token.trim();
        let token = token.split_once("preauth=").map_or(token, |(_, token)| token.split(';').next().unwrap_or(token));
        let book = InviteBook::new(context.accounts.store());
        for host in &context.config().domains {
            if book.revoke(host, token).await? {
                info!(%host, "invite revoked");
                return Ok(json!({ "token": token, "host": host }));
            }
        }
        Err(OperationError::new(ErrorKind::NotFound, "there is no such invite").help("`magpie invite list` shows them"))
    }
}
