//! `room_ban`: an account or a domain enters no room of a domain any more.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Argument, Command, Context, ErrorKind, Operation, OperationError};
use crate::modules::muc::banning::{BANNED_MAX, Ban, BanBook};

/// Shuts out.
pub struct RoomBan;

/// Whom, and why.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The account or the domain.
    pub address: String,
    /// The served domain whose rooms they are; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// What is said to who is shut out.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Operation for RoomBan {
    const NAME: &'static str = "room_ban";
    const DOC: &'static str =
        "Shuts an account or a whole domain out of all rooms of a domain. Whoever of them is in one is out at once.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-ban",
        "Shut out of all rooms",
        "Fill out this form to shut an account or a domain out of all rooms of this domain.",
    )
    .with(&[
        Argument::host("host"),
        Argument::field("address", "address", FieldType::JidSingle, "The account or domain").required(),
        Argument::field("reason", "reason", FieldType::TextSingle, "Why"),
    ])
    .saying("It is shut out.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let service = context.room_service(arguments.host.as_deref())?;
        let address = context.shut_out(&arguments.address)?;
        let ban = Ban { reason: arguments.reason.filter(|reason| !reason.is_empty()) };
        let removed = match context.muc() {
            Some(muc) => muc.ban(&service, &address, &ban).await?,
            None => BanBook::new(context.accounts.store()).add(&service, &address, &ban).await?.then_some(0),
        };
        let removed = removed.ok_or_else(|| {
            OperationError::new(ErrorKind::NotAllowed, format!("{BANNED_MAX} addresses are shut out already"))
                .help("shut out the domains of those that come from one")
        })?;
        info!(%service, %address, removed, "shut out of rooms");
        Ok(json!({ "service": service.as_str(), "address": address.as_str(), "removed": removed }))
    }
}
