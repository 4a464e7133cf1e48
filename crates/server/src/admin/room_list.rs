//! `room_list`: the rooms of a domain, page by page.

use magpie_proto::BareJid;
use magpie_proto::xeps::data_forms::FieldType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::modules::muc::storage::Storage;

/// How many rooms a page has, at most and by default.
const PAGE_MAX: usize = 1000;

/// Lists rooms.
pub struct RoomList;

/// Whose, and which page.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The served domain; the only one where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// The `next` of the page before; none for the first page.
    #[serde(default)]
    pub after: Option<String>,
    /// Rooms of this page, at most 1000.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for RoomList {
    const NAME: &'static str = "room_list";
    const DOC: &'static str = "Lists the rooms of a domain, hidden ones too, in the order of their localparts.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-list",
        "Get list of rooms",
        "Fill out this form to list the rooms of this domain.",
    )
    .with(&[Argument::host("host"), Argument::max_items()])
    .showing(&[Shown::new("rooms", "rooms", FieldType::JidMulti, "The list of rooms")])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let service = context.room_service(arguments.host.as_deref())?;
        let limit = arguments.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let after = arguments.after.as_deref();
        let rooms = match context.muc() {
            Some(muc) => muc.rooms().all_of(&service, after, limit).await?,
            None => Storage::new(context.accounts.store()).all_of(&service, after, limit).await?,
        };
        let next = rooms.last().filter(|_| rooms.len() == limit).and_then(BareJid::local);
        Ok(json!({
            "service": service.as_str(),
            "rooms": rooms.iter().map(BareJid::as_str).collect::<Vec<_>>(),
            "next": next,
        }))
    }
}
