//! `room_bans`: who is shut out of all rooms of a domain.

use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::modules::muc::banning::BanBook;

/// Lists who is shut out.
pub struct RoomBans;

/// Of which rooms.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
}

impl Operation for RoomBans {
    const NAME: &'static str = "room_bans";
    const DOC: &'static str = "Lists the accounts and domains that are shut out of all rooms of a domain.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-bans",
        "Get list of those shut out of all rooms",
        "This lists the accounts and domains that enter no room of this domain.",
    )
    .with(&[Argument::host("host")])
    .showing(&[Shown::new("bans", "bans", FieldType::TextMulti, "Who is shut out")])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let service = context.room_service(arguments.host.as_deref())?;
        let bans = BanBook::new(context.accounts.store()).list(&service).await?;
        let bans = bans.into_iter().map(|(address, ban)| json!({ "address": address, "reason": ban.reason }));
        Ok(json!({ "service": service.as_str(), "bans": bans.collect::<Vec<_>>() }))
    }
}
