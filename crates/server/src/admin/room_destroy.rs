//! `room_destroy`: ends a room, with its archive.

use magpie_proto::xeps::data_forms::FieldType;
use magpie_proto::xeps::muc::NS_OWNER;
use magpie_proto::{Element, Jid};
use magpie_store::Batch;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::rooms::no_such_room;
use super::{Argument, Command, Context, ErrorKind, Operation, OperationError};
use crate::modules::muc::room::Change;
use crate::modules::muc::storage::Storage;

/// Destroys a room.
pub struct RoomDestroy;

/// Which, and what its occupants are told.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The address of the room.
    pub room: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// Another room, to go to instead.
    #[serde(default)]
    pub alternate: Option<String>,
}

impl Operation for RoomDestroy {
    const NAME: &'static str = "room_destroy";
    const DOC: &'static str =
        "Destroys a room, with its archive and all who belong to it. Those who are in it are told.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-destroy",
        "Destroy a room",
        "Fill out this form to destroy a room, with its archive.",
    )
    .with(&[
        Argument::field("room", "room", FieldType::JidSingle, "The address of the room").required(),
        Argument::field("reason", "reason", FieldType::TextSingle, "Why"),
        Argument::field("alternate", "alternate", FieldType::JidSingle, "A room to go to instead"),
    ])
    .saying("It is no more.")];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let address = context.room(&arguments.room)?;
        let alternate = arguments.alternate.as_deref().map(Jid::parse).transpose();
        let alternate = alternate.map_err(|_| OperationError::invalid("the alternate is no address"))?;
        let mut destroy = Element::new("destroy", NS_OWNER);
        if let Some(alternate) = &alternate {
            destroy.set_attr("jid", alternate);
        }
        if let Some(reason) = &arguments.reason {
            destroy.push(Element::new("reason", NS_OWNER).with_text(reason.as_str()));
        }
        match context.muc() {
            Some(muc) => {
                let gone = muc.rooms().with(&address, |room, out| room.destroy(&destroy, out)).await;
                let ((), left) = gone.map_err(|error| match error.condition {
                    magpie_proto::StanzaCondition::ItemNotFound => no_such_room(&address),
                    _ => OperationError::new(ErrorKind::Failed, "the room could not be destroyed"),
                })?;
                if let Some(ticket) = left.ticket {
                    ticket.await?;
                }
            }
            None => {
                let storage = Storage::new(context.accounts.store());
                let room = storage.read(&address).await?.ok_or_else(|| no_such_room(&address))?;
                let mut batch = Batch::new();
                storage.write(&mut batch, &room, &Change::Destroyed);
                context.accounts.store().commit(batch).await?;
            }
        }
        info!(room = %address, "room destroyed by the administrator");
        Ok(json!({ "room": address.as_str() }))
    }
}
