//! `room_show`: what there is of a room, and who is in it.

use magpie_proto::ns;
use magpie_proto::xeps::data_forms::FieldType;
use magpie_proto::xeps::muc::Affiliation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rooms::no_such_room;
use super::{Argument, Command, Context, Operation, OperationError, Shown};
use crate::modules::muc::room::Room;
use crate::modules::muc::storage::Storage;

/// Occupants that are named; all are counted.
const OCCUPANTS_MAX: usize = 1000;

/// Shows a room.
pub struct RoomShow;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The address of the room.
    pub room: String,
}

impl Operation for RoomShow {
    const NAME: &'static str = "room_show";
    const DOC: &'static str = "Shows what a room is, whose, and who is in it.";
    const COMMANDS: &'static [Command] = &[Command::new(
        "magpie#room-show",
        "Get information on a room",
        "Fill out this form to see what a room is, and who is in it.",
    )
    .with(&[Argument::field("room", "room", FieldType::JidSingle, "The address of the room").required()])
    .showing(&[
        Shown::new("name", "name", FieldType::TextSingle, "Name"),
        Shown::new("owners", "owners", FieldType::JidMulti, "Owners"),
        Shown::new("occupants", "occupants", FieldType::TextSingle, "Occupants"),
        Shown::new("inside", "inside", FieldType::TextMulti, "Who is in it"),
    ])];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let address = context.room(&arguments.room)?;
        let awake =
            context.muc().and_then(|muc| Some(muc.rooms().with_awake(&address, false, |room, _| document(room))?.0));
        if let Some(document) = awake {
            return Ok(document);
        }
        let room = Storage::new(context.accounts.store()).read(&address).await?;
        room.as_ref().map(document).ok_or_else(|| no_such_room(&address))
    }
}

fn document(room: &Room) -> Value {
    let config = &room.config;
    let of = |wanted: Affiliation| {
        let mut found: Vec<&str> = room
            .standings()
            .filter(|(_, standing)| standing.affiliation == wanted)
            .map(|(jid, _)| jid.as_str())
            .collect();
        found.sort_unstable();
        found
    };
    let inside = room.occupants.iter().take(OCCUPANTS_MAX).map(|occupant| {
        json!({
            "nick": occupant.nick(),
            "jid": occupant.account.as_str(),
            "role": occupant.role.name(),
            "affiliation": occupant.affiliation.name(),
        })
    });
    let subject = room.subject.as_ref().and_then(|subject| subject.message.child("subject", ns::CLIENT));
    json!({
        "room": room.address.as_str(),
        "name": config.name,
        "description": config.description,
        "subject": subject.map(|subject| subject.element().text()),
        "persistent": config.persistent,
        "public": config.public,
        "members_only": config.members_only,
        "moderated": config.moderated,
        "password": config.password.is_some(),
        "archived": config.archived,
        "owners": of(Affiliation::Owner),
        "admins": of(Affiliation::Admin),
        "members": of(Affiliation::Member).len(),
        "outcasts": of(Affiliation::Outcast).len(),
        "occupants": room.occupants.len(),
        "inside": inside.collect::<Vec<_>>(),
    })
}
