//! The rows about group chat (XEP-0045).

use super::super::server::Archive;
use super::{Pace, Repeats, Row, Special};
use crate::report::goals::MAGPIE;
use crate::scenarios::room_fill::RoomFill;

const NO_ROOMS: &[(&str, &str)] = &[("relay", "knows no rooms"), ("jabberd2", "has no rooms in Debian's package")];

const SLOW_TO_ENTER: &str =
    "5 000 are not in the room within 60 s, as room-5000 shows: each who enters costs it a look at all others";

/// After so long a room of 5 000 is given up.
const ENTER_SECONDS_MAX: f64 = 60.0;

/// Occupants of the largest room.
pub(super) const OCCUPANTS_MAX: u32 = 5_000;

pub(super) const ROOM_200: Row = Row {
    name: "room-200",
    about: "what five of 200 occupants of a room say comes to all of them, closed loop",
    scenario: "rooms",
    arguments: &["--occupants", "200", "--senders", "5"],
    without: NO_ROOMS,
    repeats: Repeats::PeersOnce,
    ..super::PAIRS
};

pub(super) const ROOM_1000: Row = Row {
    name: "room-1000",
    about: "the same with 1 000 occupants; the room shows the presence of moderators alone, so that they are in it soon",
    arguments: &["--occupants", "1000", "--senders", "5", "--presence-of-moderators"],
    connections: 1_000,
    ..ROOM_200
};

pub(super) const ROOM_5000: Row = Row {
    name: "room-5000",
    about: "the same with 5 000 occupants; given up where they are not in it within 60 s",
    arguments: &["--occupants", "5000", "--senders", "5", "--presence-of-moderators", "--join-seconds-max", "60"],
    connections: OCCUPANTS_MAX,
    repeats: Repeats::Once,
    ..ROOM_1000
};

pub(super) const ROOM_200_ARCHIVE: Row = Row {
    name: "room-200-archive",
    about: "as room-200, with the room's archive",
    arguments: &["--occupants", "200", "--senders", "5", "--archive"],
    archive: Archive::On,
    ..ROOM_200
};

pub(super) const ROOM_1000_ARCHIVE: Row = Row {
    name: "room-1000-archive",
    about: "as room-1000, with the room's archive",
    arguments: &["--occupants", "1000", "--senders", "5", "--presence-of-moderators", "--archive"],
    archive: Archive::On,
    ..ROOM_1000
};

pub(super) const ROOM_5000_ARCHIVE: Row = Row {
    name: "room-5000-archive",
    about: "as room-5000, with the room's archive",
    arguments: &[
        "--occupants",
        "5000",
        "--senders",
        "5",
        "--presence-of-moderators",
        "--join-seconds-max",
        "60",
        "--archive",
    ],
    archive: Archive::On,
    without: &[NO_ROOMS[0], NO_ROOMS[1], ("Prosody", SLOW_TO_ENTER)],
    ..ROOM_5000
};

pub(super) const ROOM_FILL: Row = Row {
    name: "room-fill-1000",
    about: "1 000 enter an empty room at once, until each has seen each: a million presences; given up after 90 s",
    scenario: "room-fill",
    arguments: &["--occupants", "1000"],
    connections: 1_000,
    ..ROOM_200
};

pub(super) const ROOMS_IDLE: Row = Row {
    name: "rooms-idle",
    about: "persistent rooms that 200 sessions make and leave, 20 000 or as many as they make in 18 s; what memory each further \
            one takes, and how long the server takes to start on them",
    scenario: "rooms-idle",
    arguments: &["--rooms", "20000"],
    connections: 200,
    repeats: Repeats::Once,
    special: Special::Restart,
    ..ROOM_200
};

/// Logins a second while nothing else happens.
fn logins_per_second(server: &str) -> f64 {
    match server {
        MAGPIE => 4_000.0,
        "Prosody" => 200.0,
        _ => 1_000.0,
    }
}

/// How long a run of one of these takes, about; none of others.
pub(super) fn run_seconds(row: &Row, server: &str, pace: Pace) -> Option<f64> {
    let occupants = f64::from(row.connections);
    let logins = occupants / logins_per_second(server);
    let own = server == MAGPIE;
    match row.scenario {
        "rooms" => {
            // A presence for each who is there, unless they are not shown.
            let seen = if row.arguments.contains(&"--presence-of-moderators") { 2.0 } else { occupants };
            let presences = occupants * seen / if own { 300_000.0 } else { 25_000.0 };
            // Who enters costs Prosody a look at each who is there.
            let looks = if server == "Prosody" { occupants * occupants / 150_000.0 } else { 0.0 };
            let entering = (presences + looks).min(ENTER_SECONDS_MAX);
            Some(logins + entering + pace.warmup + pace.seconds + 2.0)
        }
        "room-fill" => {
            let presences = occupants * occupants / if own { 500_000.0 } else { 25_000.0 };
            Some(logins + presences.min(RoomFill::default().seconds_max as f64) + 3.0)
        }
        // Twice the look at memory, the first tenth, and a start.
        "rooms-idle" => Some(logins + pace.seconds + 12.0 + if own { 3.0 } else { 8.0 }),
        _ => None,
    }
}
