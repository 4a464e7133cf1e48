//! `room_unban`: takes back what `room_ban` did.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, ErrorKind, Operation, OperationError};
use crate::modules::muc::banning::BanBook;

/// Lets in again.
pub struct RoomUnban;

/// Whom.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The account or the domain, as it was shut out.
    pub address: String,
    /// The served domain whose rooms they are; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for RoomUnban {
    const NAME: &'static str = "room_unban";
    const DOC: &'static str = "Lets an account or a domain into rooms again that was shut out of all of them.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-unban",
        "Let into rooms again",
        "Fill out this form to let an account or a domain into the rooms of this domain again.",
    )
    .with(&[
        Argument::host("host"),
        Argument::field("address", "address", FieldType::JidSingle, "The account or domain").required(),
    ])
    .saying("It may enter again.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let service = context.room_service(arguments.host.as_deref())?;
        let address = context.shut_out(&arguments.address)?;
        let there = match context.muc() {
            Some(muc) => muc.unban(&service, &address).await?,
            None => BanBook::new(context.accounts.store()).remove(&service, &address).await?,
        };
        if !there {
            let error = OperationError::new(ErrorKind::NotFound, format!("{address} is not shut out by itself"));
            return Err(error.help("`magpie room bans` shows who is"));
        }
        info!(%service, %address, "let into rooms again");
        Ok(json!({ "service": service.as_str(), "address": address.as_str() }))
    }
}
