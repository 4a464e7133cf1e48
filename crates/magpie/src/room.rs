//! `magpie room …`: rooms for group chat, and who is shut out of all of them.

use magpie_server::admin::{
    RoomBan, RoomBans, RoomDestroy, RoomList, RoomShow, RoomUnban, room_ban, room_bans, room_destroy, room_list,
    room_show, room_unban,
};
use serde_json::{Value, json};

use crate::cli::{Global, RoomCommand};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::target::{IfMissing, Target};

pub(crate) fn run(global: &Global, command: RoomCommand) -> Result<(), Failure> {
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    match command {
        RoomCommand::List { host } => list(global, &mut target, host),
        RoomCommand::Show { room } => {
            let document = target.run::<RoomShow>(room_show::Arguments { room })?;
            output::print(global, &document, || shown(&document))
        }
        RoomCommand::Destroy { room, reason, alternate } => {
            let document = target.run::<RoomDestroy>(room_destroy::Arguments { room, reason, alternate })?;
            output::print(global, &document, || format!("Destroyed {}.\n", text(&document, "room")))
        }
        RoomCommand::Ban { address, reason, host } => {
            let document = target.run::<RoomBan>(room_ban::Arguments { address, host, reason })?;
            let removed = document["removed"].as_u64().unwrap_or_default();
            output::print(global, &document, || {
                format!("Shut {} out; removed {}.\n", text(&document, "address"), counted(removed, "occupant"))
            })
        }
        RoomCommand::Unban { address, host } => {
            let document = target.run::<RoomUnban>(room_unban::Arguments { address, host })?;
            output::print(global, &document, || format!("Let {} in again.\n", text(&document, "address")))
        }
        RoomCommand::Bans { host } => {
            let document = target.run::<RoomBans>(room_bans::Arguments { host })?;
            output::print(global, &document, || document["bans"].as_array().into_iter().flatten().map(ban).collect())
        }
    }
}

fn text<'a>(document: &'a Value, key: &str) -> &'a str {
    document[key].as_str().unwrap_or_default()
}

/// Lists page by page, so that the first are there at once. JSON waits for all: it is one document.
fn list(global: &Global, target: &mut Target, host: Option<String>) -> Result<(), Failure> {
    let mut rooms: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = target.run::<RoomList>(room_list::Arguments { host: host.clone(), after, limit: None })?;
        let found = page["rooms"].as_array().map_or(&[][..], Vec::as_slice);
        if global.json {
            rooms.extend_from_slice(found);
        } else {
            output::write(
                &found.iter().map(|room| format!("{}\n", room.as_str().unwrap_or_default())).collect::<String>(),
            )?;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if global.json { output::print(global, &json!({ "rooms": rooms }), String::new) } else { Ok(()) }
}

/// What it is, whose, and who is in it.
fn shown(room: &Value) -> String {
    let flags = [
        ("persistent", "lasts"),
        ("public", "is listed"),
        ("members_only", "for members only"),
        ("moderated", "moderated"),
        ("password", "with a password"),
        ("archived", "with an archive"),
    ];
    let is: Vec<&str> = flags.iter().filter(|(key, _)| room[*key] == true).map(|(_, word)| *word).collect();
    let mut lines = format!("{}: {}\n", text(room, "room"), is.join(", "));
    for key in ["name", "description", "subject"] {
        if !text(room, key).is_empty() {
            lines += &format!("{key}: {}\n", text(room, key));
        }
    }
    for key in ["owners", "admins"] {
        let jids: Vec<&str> = room[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !jids.is_empty() {
            lines += &format!("{key}: {}\n", jids.join(", "));
        }
    }
    lines +=
        &format!("members: {}, outcasts: {}, occupants: {}\n", room["members"], room["outcasts"], room["occupants"]);
    for occupant in room["inside"].as_array().into_iter().flatten() {
        lines += &format!("    {} ({}), {}\n", text(occupant, "nick"), text(occupant, "jid"), text(occupant, "role"));
    }
    lines
}

fn ban(ban: &Value) -> String {
    match ban["reason"].as_str() {
        Some(reason) => format!("{}: {reason}\n", text(ban, "address")),
        None => format!("{}\n", text(ban, "address")),
    }
}
