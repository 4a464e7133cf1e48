//! What is compared: the rows, each one scenario with its parameters, and the order of their runs.

mod rooms;

use std::collections::BTreeSet;
use std::time::Duration;

use super::server::Accounts;
use super::server::Archive;
use crate::report::goals::{FLOOR, MAGPIE};

/// How connections are protected, as `magpie-load --security` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// TLS from the start.
    Tls,
}

/// How often a row is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// By every server as often as `--rounds` says.
    Rounds,
    /// By Magpie and the relay as often as `--rounds` says, by its peers once: no goal is about them, and they take time.
    PeersOnce,
    /// Once: what is counted (bytes) scatters little.
    Once,
}

/// What a row has beyond a scenario with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Nothing.
    None,
    /// The rate of the open loop is half of what the server itself did in the closed loop, the row named here; the relay's is
    /// Magpie's.
    HalfOfMaximum(&'static str),
    /// The server may use one processor, then two.
    Cores,
    /// Ten rounds of connect and disconnect, for Magpie.
    Churn,
    /// The server is started again on what the run has left, and both its starts are timed.
    Restart,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name for `--only`.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// The subcommand of `magpie-load`.
    pub scenario: &'static str,
    /// What the scenario alone has.
    pub arguments: &'static [&'static str],
    /// Sessions.
    pub connections: u32,
    /// How they are protected.
    pub security: Security,
    /// Whether everybody has twenty contacts.
    pub contacts: bool,
    /// Whether there are archives.
    pub archive: Archive,
    /// Servers that cannot do it, each with the reason.
    pub without: &'static [(&'static str, &'static str)],
    /// How often.
    pub repeats: Repeats,
    /// See there.
    pub special: Special,
}

const KERNELS_PART: (&str, &str) = ("relay", "its part is in the row of 19 000");
const NO_LOGIN: (&str, &str) = ("relay", "knows no accounts");
const NO_PRESENCE: (&str, &str) = ("relay", "knows no contacts");
const NO_MANAGEMENT: (&str, &str) = ("jabberd2", "has neither XEP-0198 nor XEP-0280");
const NO_TICKETS: (&str, &str) =
    ("ejabberd", "gives tickets and takes none back: openssl's s_client makes a full handshake with them too");
const NO_SCRAM: (&str, &str) = ("jabberd2", "has no SCRAM");
const OWN_GOAL: &str = "the goal holds Magpie against itself with fewer sessions";

const PAIRS: Row = Row {
    name: "pairs-200",
    about: "messages between 100 pairs, closed loop",
    scenario: "pairs",
    arguments: &[],
    connections: 200,
    security: Security::Plain,
    contacts: false,
    archive: Archive::Off,
    without: &[],
    repeats: Repeats::Rounds,
    special: Special::None,
};

const IDLE: Row = Row {
    name: "idle",
    about: "memory of an idle session with a roster of 20 and presence; for Magpie after ten rounds of coming and going too",
    scenario: "idle",
    arguments: &[],
    connections: 5_000,
    contacts: true,
    repeats: Repeats::Once,
    special: Special::Churn,
    ..PAIRS
};

const LOGIN: Row = Row {
    name: "login-scram",
    about: "logins with SCRAM by 200 clients, no TLS",
    scenario: "login",
    arguments: &[],
    // Enough that no server is measured by what it waits: ejabberd answers the end of a stream a tenth of a second later.
    connections: 200,
    without: &[NO_LOGIN, NO_SCRAM],
    repeats: Repeats::PeersOnce,
    ..PAIRS
};

/// Stanzas after which a session waits for acknowledgements: with fewer a server that syncs is measured by its disk's latency, with
/// more by what its memory holds.
const ACKNOWLEDGED: &[&str] = &["--acks", "--carbons", "--unacknowledged-max", "15"];
const NO_SASL2: &[(&str, &str)] = &[
    NO_LOGIN,
    ("jabberd2", "has no SASL2"),
    ("Prosody", "has no SASL2 in Debian's version"),
    ("ejabberd", "has no SASL2 in Debian's version"),
];
const NO_ARCHIVE: (&str, &str) = ("relay", "keeps nothing");
const NO_ARCHIVE_EITHER: (&str, &str) = ("jabberd2", "has no archive");
const OWN: &[(&str, &str)] = &[
    NO_ARCHIVE,
    NO_ARCHIVE_EITHER,
    ("Prosody", "the goal holds Magpie against itself"),
    ("ejabberd", "the goal holds Magpie against itself"),
];

const ARCHIVE_200: Row = Row {
    name: "archive-200",
    about: "messages between 100 pairs with archive, stream management and carbons; who has 15 that are not acknowledged waits",
    arguments: ACKNOWLEDGED,
    archive: Archive::On,
    without: &[NO_ARCHIVE, NO_ARCHIVE_EITHER],
    repeats: Repeats::PeersOnce,
    ..PAIRS
};

const HISTORY: Row = Row {
    name: "history-200",
    about: "pages of 50 from the archives of 200 users, 5 000 messages in each (Prosody: 500)",
    scenario: "history",
    arguments: &[],
    archive: Archive::Filled(5_000),
    ..ARCHIVE_200
};

/// The rows, in the order in which they are run: a row that needs another comes after it.
pub const ROWS: &[Row] = &[
    PAIRS,
    Row { name: "pairs-2000", about: "messages between 1 000 pairs, closed loop", connections: 2_000, ..PAIRS },
    Row {
        name: "pairs-200-tls",
        repeats: Repeats::PeersOnce,
        about: "messages between 100 pairs, TLS 1.3; the relay beside them passes the same bytes on without TLS",
        security: Security::Tls,
        ..PAIRS
    },
    Row {
        name: "pairs-200-acks",
        repeats: Repeats::PeersOnce,
        about: "messages between 100 pairs, stream management and carbons on; the relay beside them has neither",
        arguments: &["--acks", "--carbons"],
        without: &[NO_MANAGEMENT],
        ..PAIRS
    },
    Row {
        name: "open-2000",
        repeats: Repeats::PeersOnce,
        about: "messages between 1 000 pairs at half of the own maximum, open loop",
        connections: 2_000,
        special: Special::HalfOfMaximum("pairs-2000"),
        ..PAIRS
    },
    Row {
        name: "ping-200",
        about: "pings of the server by 200 sessions",
        scenario: "ping",
        repeats: Repeats::PeersOnce,
        ..PAIRS
    },
    Row {
        name: "presence",
        repeats: Repeats::PeersOnce,
        about: "420 users with 20 contacts each, coming and going",
        scenario: "presence",
        connections: 420,
        contacts: true,
        without: &[NO_PRESENCE],
        ..PAIRS
    },
    ARCHIVE_200,
    Row {
        name: "archive-2000",
        about: "messages between 1 000 pairs with archive, stream management and carbons",
        connections: 2_000,
        ..ARCHIVE_200
    },
    Row {
        name: "archive-open",
        about: "the same at half of the own maximum, open loop",
        connections: 2_000,
        arguments: &["--acks", "--carbons"],
        without: OWN,
        special: Special::HalfOfMaximum("archive-2000"),
        ..ARCHIVE_200
    },
    Row {
        name: "open-acks",
        about: "the same without archive, at the same rate",
        connections: 2_000,
        arguments: &["--acks", "--carbons"],
        archive: Archive::Off,
        without: OWN,
        special: Special::HalfOfMaximum("archive-2000"),
        ..ARCHIVE_200
    },
    HISTORY,
    Row {
        name: "history-small",
        about: "pages of 50 from the archives of 200 users, 500 messages in each",
        archive: Archive::Filled(500),
        without: OWN,
        ..HISTORY
    },
    Row {
        name: "offline",
        about: "1 000 users who come back at once, 100 messages for each, with stream management",
        scenario: "offline",
        connections: 2_000,
        arguments: &["--acks"],
        archive: Archive::Off,
        ..ARCHIVE_200
    },
    LOGIN,
    Row {
        name: "login-tls",
        about: "logins with SCRAM (jabberd2: PLAIN), full TLS 1.3 handshake",
        security: Security::Tls,
        without: &[NO_LOGIN],
        ..LOGIN
    },
    Row {
        name: "login-resumed",
        about: "logins with SCRAM, resumed TLS 1.3 sessions",
        security: Security::Tls,
        arguments: &["--resumed"],
        without: &[NO_LOGIN, NO_SCRAM, NO_TICKETS],
        ..LOGIN
    },
    Row {
        name: "login-sasl2",
        about: "logins with SASL2 and Bind 2, carbons and stream management on with them, full TLS 1.3 handshake",
        security: Security::Tls,
        arguments: &["--sasl2", "--acks", "--carbons"],
        without: NO_SASL2,
        ..LOGIN
    },
    Row {
        name: "login-fast",
        about: "the same by a token, resumed TLS 1.3 sessions",
        security: Security::Tls,
        arguments: &["--fast", "--acks", "--carbons"],
        without: NO_SASL2,
        ..LOGIN
    },
    Row {
        name: "cores",
        about: "messages between 100 pairs, the server on one processor and on two",
        without: &[
            ("ejabberd", "the goal is about Magpie alone"),
            ("Prosody", "has one thread"),
            ("jabberd2", "has one thread for each process"),
            ("relay", "the goal is about Magpie alone"),
        ],
        special: Special::Cores,
        ..PAIRS
    },
    Row { without: &[KERNELS_PART], ..IDLE },
    Row {
        name: "idle-tls",
        about: "memory of an idle session with a roster of 20 and presence, TLS",
        security: Security::Tls,
        special: Special::None,
        without: &[KERNELS_PART],
        ..IDLE
    },
    Row {
        name: "sessions-19000",
        about: "memory of a session and logins a second, 19 000 sessions; for the relay silent connections: the kernel's part",
        connections: 19_000,
        special: Special::None,
        without: &[("Prosody", OWN_GOAL), ("ejabberd", OWN_GOAL), ("jabberd2", OWN_GOAL)],
        ..IDLE
    },
    rooms::ROOM_200,
    rooms::ROOM_1000,
    rooms::ROOM_5000,
    rooms::ROOM_200_ARCHIVE,
    rooms::ROOM_1000_ARCHIVE,
    rooms::ROOM_5000_ARCHIVE,
    rooms::ROOM_FILL,
    rooms::ROOMS_IDLE,
];

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The row's name.
    pub row: &'static str,
    /// The server's name in tables.
    pub server: String,
    /// Counted from 1.
    pub round: u32,
    /// How many processors the server may use; none: all.
    pub cores: Option<u32>,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Rounds.
    pub rounds: u32,
    /// Seconds before anything counts.
    pub warmup: f64,
    /// Seconds that count.
    pub seconds: f64,
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// Why a server does not take part; none where it does.
    pub fn reason_without(&self, server: &str) -> Option<&'static str> {
        self.without.iter().find(|(name, _)| *name == server).map(|(_, reason)| *reason)
    }

    /// How a server's connections are protected: the relay has no TLS.
    pub fn security_of(&self, server: &str) -> Security {
        if server == FLOOR { Security::Plain } else { self.security }
    }

    /// What the scenario has with this server: the relay knows nothing that it could be told.
    pub fn arguments_of(&self, server: &str) -> &'static [&'static str] {
        if server == FLOOR { &[] } else { self.arguments }
    }

    /// What must be in a server's storage.
    pub fn accounts(&self) -> Accounts {
        // Rows share a folder of accounts where they can, so that rosters are made once.
        let rooms = self.has_rooms();
        let least = match (self.contacts, rooms) {
            (true, _) => IDLE.connections,
            (false, true) => rooms::OCCUPANTS_MAX,
            (false, false) => 2_000,
        };
        let number = self.connections.max(least);
        Accounts { number, contacts: self.contacts, archive: self.archive, rooms }
    }

    /// Whether it is about group chat.
    pub fn has_rooms(&self) -> bool {
        self.scenario.starts_with("room")
    }

    /// Whether a run wants a server that has just started: memory is measured.
    pub fn wants_fresh_server(&self) -> bool {
        self.scenario == "idle" || [Special::Cores, Special::Restart].contains(&self.special)
    }

    /// How often a server runs it.
    pub fn rounds(&self, server: &str, pace: Pace) -> u32 {
        match self.repeats {
            Repeats::Rounds => pace.rounds,
            Repeats::PeersOnce if [MAGPIE, FLOOR].contains(&server) => pace.rounds,
            Repeats::PeersOnce | Repeats::Once => 1,
        }
    }

    /// Seconds of warm-up and seconds that count; sessions that do nothing need no long look, and rooms are made as long as it
    /// takes to have some.
    pub fn pace(&self, pace: Pace) -> Pace {
        match self.scenario {
            "idle" => Pace { warmup: 0.0, seconds: 1.0, ..pace },
            "rooms-idle" => Pace { warmup: 0.0, seconds: 3.0 * pace.seconds, ..pace },
            _ => pace,
        }
    }

    /// How long a run takes, about, on a machine of two processors.
    pub fn run_seconds(&self, server: &str, pace: Pace) -> f64 {
        let pace = self.pace(pace);
        if let Some(seconds) = rooms::run_seconds(self, server, pace) {
            return seconds;
        }
        if self.scenario == "offline" {
            // Written, and fetched.
            return match server {
                MAGPIE => 12.0,
                "ejabberd" => 160.0,
                _ => 60.0,
            };
        }
        if self.scenario != "idle" {
            return pace.warmup + pace.seconds + f64::from(self.connections) / 1_500.0 + 1.0;
        }
        let logins_per_second = match (server, self.security) {
            (FLOOR, _) => 10_000.0,
            (MAGPIE, _) => 1_500.0,
            ("Prosody", Security::Plain) => 200.0,
            ("Prosody", Security::Tls) => 90.0,
            (_, Security::Plain) => 500.0,
            (_, Security::Tls) => 300.0,
        };
        let connect = f64::from(self.connections) / logins_per_second;
        let rounds = if self.special == Special::Churn && server == MAGPIE { f64::from(CHURN_ROUNDS) } else { 0.0 };
        pace.warmup + pace.seconds + SETTLE_SECONDS + connect + rounds * (connect + SETTLE_SECONDS)
    }
}

/// Rounds of coming and going in which memory must not grow.
pub const CHURN_ROUNDS: u32 = 10;

/// What `idle` waits before it looks at memory, with the sessions and without.
const SETTLE_SECONDS: f64 = 4.0;

/// A server's start up to the first login, and its end.
const START_SECONDS: f64 = 2.5;

/// All runs of these rows and servers: in each row the servers take turns, round after round.
pub fn steps(rows: &[&'static Row], servers: &[&str], pace: Pace) -> Vec<Step> {
    let mut steps = Vec::new();
    for row in rows {
        for round in 1..=pace.rounds {
            let takes_part = |server: &&&str| row.reason_without(server).is_none() && round <= row.rounds(server, pace);
            for server in servers.iter().filter(takes_part) {
                let cores: &[Option<u32>] = if row.special == Special::Cores { &[Some(1), Some(2)] } else { &[None] };
                for cores in cores {
                    steps.push(Step { row: row.name, server: (*server).to_owned(), round, cores: *cores });
                }
            }
        }
    }
    steps
}

/// How long these runs take, about, with the starts of servers and their accounts.
pub fn duration(steps: &[Step], pace: Pace) -> Duration {
    let mut seconds = 0.0;
    let mut prepared: BTreeSet<(&str, Accounts)> = BTreeSet::new();
    let mut before: BTreeSet<(&str, &str)> = BTreeSet::new();
    for step in steps {
        let Some(row) = Row::named(step.row) else { continue };
        seconds += row.run_seconds(&step.server, pace);
        if before.insert((step.row, &step.server)) || row.wants_fresh_server() {
            seconds += START_SECONDS;
        }
        if step.server != FLOOR && prepared.insert((&step.server, row.accounts())) {
            seconds += row.accounts().seconds(&step.server);
        }
    }
    Duration::from_secs_f64(seconds)
}

/// What is going to be run and how long that takes, line by line.
pub fn plan(steps: &[Step], pace: Pace) -> String {
    let minutes = |steps: &[Step]| duration(steps, pace).as_secs_f64() / 60.0;
    let mut plan = String::new();
    for of_row in steps.chunk_by(|one, other| one.row == other.row) {
        let (name, runs) = (of_row[0].row, of_row.len());
        plan +=
            &format!("{name:<18} {runs:>3} {}, {:.1} min\n", if runs == 1 { "run" } else { "runs" }, minutes(of_row));
    }
    plan + &format!("{:<18} {:>3} runs, about {:.1} min with all accounts\n", "together", steps.len(), minutes(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [&str; 5] = ["Magpie", "relay", "ejabberd", "Prosody", "jabberd2"];
    const PACE: Pace = Pace { rounds: 3, warmup: 2.0, seconds: 6.0 };

    #[test]
    fn names_differ_and_every_server_that_is_left_out_exists() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        assert!(ROWS.iter().flat_map(|row| row.without).all(|(server, _)| SERVERS.contains(server)));
        assert!(ROWS.iter().all(|row| row.reason_without("Magpie").is_none()));
    }

    #[test]
    fn servers_take_turns_in_every_round() {
        let row = Row::named("pairs-200").into_iter().collect::<Vec<_>>();
        let order: Vec<(u32, String)> =
            steps(&row, &SERVERS[..2], PACE).into_iter().map(|step| (step.round, step.server)).collect();
        let of = |round, server: &str| (round, server.to_owned());
        assert_eq!(order, [1, 2, 3].map(|round| [of(round, "Magpie"), of(round, "relay")]).concat());
    }

    #[test]
    fn cores_are_measured_one_after_the_other_and_memory_once() {
        let cores = Row::named("cores").into_iter().collect::<Vec<_>>();
        let found: Vec<Option<u32>> =
            steps(&cores, &SERVERS, Pace { rounds: 1, ..PACE }).iter().map(|step| step.cores).collect();
        assert_eq!(found, [Some(1), Some(2)]);
        let idle = Row::named("idle").into_iter().collect::<Vec<_>>();
        assert!(steps(&idle, &SERVERS, PACE).iter().all(|step| step.round == 1));
    }

    #[test]
    fn a_row_that_takes_its_rate_from_another_comes_after_it() {
        for (at, row) in ROWS.iter().enumerate() {
            if let Special::HalfOfMaximum(other) = row.special {
                assert!(ROWS[..at].iter().any(|row| row.name == other));
            }
        }
    }

    #[test]
    fn peers_run_once_where_no_goal_is_about_them() {
        let row = Row::named("login-tls").into_iter().collect::<Vec<_>>();
        let of = |server: &str| steps(&row, &SERVERS, PACE).iter().filter(|step| step.server == server).count();
        assert_eq!(SERVERS.map(of), [3, 0, 1, 1, 1]);
    }

    #[test]
    fn the_rows_of_rooms_take_no_more_than_12_minutes() {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.has_rooms()).collect();
        let steps = steps(&rows, &SERVERS, PACE);
        let rooms = duration(&steps, PACE);
        assert!(rooms < Duration::from_secs(12 * 60), "{rooms:?}\n{}", plan(&steps, PACE));
        assert_eq!(rows.len(), 8);
    }

    #[test]
    fn the_whole_plan_fits_in_47_minutes() {
        let all: Vec<&Row> = ROWS.iter().collect();
        let steps = steps(&all, &SERVERS, PACE);
        let whole = duration(&steps, PACE);
        assert!(whole < Duration::from_secs(47 * 60), "{whole:?}\n{}", plan(&steps, PACE));
        let least: f64 = steps.iter().map(|step| Row::named(step.row).map_or(0.0, |row| row.pace(PACE).seconds)).sum();
        assert!(whole > Duration::from_secs_f64(least));
        let plan = plan(&steps, PACE);
        assert!(ROWS.iter().all(|row| plan.contains(row.name)) && plan.contains("together"), "{plan}");
    }
}
