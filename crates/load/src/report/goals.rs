//! What Magpie is to reach: the goals as data, and what runs say about them.
//!
//! A run belongs to a case by its scenario and these parameters (`Run::parameters`), as the command line writes them:
//!
//! | parameter | values | when it is absent |
//! |---|---|---|
//! | `connections` | sessions | no case |
//! | `security` | `plain`, `starttls`, `tls` | `plain` |
//! | `loop` | `closed`, `open` | `open` where there is a `rate`, else `closed` |
//! | `rate` | operations a second asked for, open loop | |
//! | `acks`, `carbons` | true, false | false |
//! | `tls_resumed` | true, false | what `resumed` says, else false |
//! | `mechanism` | `plain`, `scram-sha-1`, `scram-sha-256` … | no case that asks for one |
//! | `archive` | true, false | false |
//! | `archived_each` | messages that were in each archive before | no case that asks for them |
//! | `sasl2`, `fast` | true, false: the profile of SASL | false |
//! | `rounds` | rounds of connect and disconnect | 1 |
//! | `contacts` | contacts of each user | no case that asks for them |
//! | `cores` | processors that the server may use | all |
//! | `measured_by` | `many`: by `magpie-load many` or `many-rooms`; `scenario`: by a row of the comparison | `scenario` |
//! | `occupants` | those of each room | no case that asks for them |
//! | `rooms` | rooms that were asked for | no case that asks for them |
//! | `connections_wanted` | sessions that were asked for, of which `connections` are there | `connections` |
//!
//! Every figure is the median over the runs of a case, with the least and the greatest beside it. The floor is the runs of the server `relay`
//! with the same scenario, connections, loop and (within 5 %) rate; it has no TLS, acks or contacts, so these do not count. Those
//! of the same row of the comparison (`row`) come first: they ran in turns with Magpie's. Only where there are none do others stand in.
//! Peers are all other servers, with the same case. Without a run there is no verdict but `not measured`; a run of
//! whose operations more than 1 % went wrong does not meet anything, and as a peer's or the floor's it does not count.
//! Whatever costs a message more than TLS, acks and carbons do at 200 connections is no matter of their number: that is
//! what the first goal looks at, at 2 000 as well.
//!
//! Figures (`Run::figures`) that cases read: `login_seconds` (else `connect_seconds`): until all sessions were there;
//! `round_NN_bytes_per_session`, NN from 01 to `rounds`: what the server holds in that round more than before the first session, for
//! each session; `filled_seconds`, `bytes_per_room`, `rooms_made`, `start_seconds`, `start_empty_seconds`: see the scenarios of rooms;
//! `tls_resumed`, `logins_all`: handshakes that were, of so many; `random_message_us`: a message to a random one of the sessions.

mod judge;
mod rooms;

pub use judge::{Judged, Spread, Verdict, judge, too_many_errors};
pub use rooms::{START_EMPTY, START_WITH_ROOMS};

use crate::result::Run;

/// The name of Magpie in results.
pub const MAGPIE: &str = "Magpie";
/// The name of the bare relay in results.
pub const FLOOR: &str = "relay";

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// What is to be reached.
    pub what: &'static str,
    /// The measurements that it takes; all must be met.
    pub cases: &'static [Case],
}

/// One measurement, and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What tells it from the others of its row.
    pub name: &'static str,
    /// From what it is taken.
    pub measure: Measure,
    /// How it is written.
    pub unit: Unit,
    /// What it must keep; all of them.
    pub bounds: &'static [Bound],
}

/// From which runs a figure comes.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// A figure of each run.
    Of(Selection, Figure),
    /// The median of the first runs by that of the second.
    Ratio(Selection, Selection, Figure),
    /// The same of the operations a second that the server's processors can do: as many as it did where it had nearly all of
    /// them; where the client took a part of them, as many as its CPU time for each allows. That is computed, and said.
    Capacity(Selection, Selection),
}

/// A figure of one run.
pub type Figure = fn(&Run) -> Option<f64>;

/// Which runs: the scenario, and what each parameter must be.
pub type Selection = (&'static str, &'static [(&'static str, Want)]);

/// What a parameter must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// This number.
    Number(f64),
    /// This number or more.
    AtLeast(f64),
    /// True or false.
    Flag(bool),
    /// A text that begins so.
    Text(&'static str),
    /// One that is not this.
    Other(&'static str),
}

/// What a figure must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most so many times the floor.
    TimesFloor(f64),
    /// At least so many times less than the best peer.
    LessThanPeer(f64),
    /// At least so many times what the best peer does.
    MoreThanPeer(f64),
    /// The rate asked for is half of what the same server reached in the closed loop, give or take a tenth of that.
    HalfOfMaximum,
    /// Nothing: that it is there is enough.
    Reported,
}

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds of CPU time.
    CpuMicros,
    /// A time, microseconds.
    Micros,
    /// A time, seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// One thing by another.
    Times,
    /// A number of things.
    Count,
}

use Bound::{AtLeast, AtMost, HalfOfMaximum, LessThanPeer, MoreThanPeer, Reported, TimesFloor};
use Want::{Flag, Number, Other, Text};

macro_rules! pairs {
    ($connections:literal, $security:expr, $loop:literal, $marks:literal) => {
        pairs!($connections, $security, $loop, $marks, false)
    };
    ($connections:literal, $security:expr, $loop:literal, $marks:literal, $archive:literal) => {
        (
            "pairs",
            &[
                ("connections", Number($connections)),
                ("security", $security),
                ("loop", Text($loop)),
                ("acks", Flag($marks)),
                ("carbons", Flag($marks)),
                ("archive", Flag($archive)),
                ("cores", Text("all")),
            ],
        )
    };
}

/// Those of one account in archives that were filled before.
const fn history(archived: &'static [(&'static str, Want)]) -> Selection {
    ("history", archived)
}

const fn more(name: &'static str, selection: Selection, times: &'static [Bound]) -> Case {
    Case { name, measure: Measure::Of(selection, RATE), unit: Unit::Count, bounds: times }
}

const PLAIN: Want = Text("plain");
/// STARTTLS and direct TLS are the same once the handshake is done.
const TLS: Want = Other("plain");

const CPU: Figure = Run::server_us;
const RATE: Figure = operations_per_second;
const BYTES: Figure = Run::bytes_per_session;
const LOGINS_A_SECOND: Figure = logins_per_second;

const fn idle(connections: &'static [(&'static str, Want)]) -> Selection {
    ("idle", connections)
}

const fn cpu(name: &'static str, selection: Selection, bounds: &'static [Bound]) -> Case {
    Case { name, measure: Measure::Of(selection, CPU), unit: Unit::CpuMicros, bounds }
}

/// The goals, as the table lists them.
pub const GOALS: &[Goal] = &[
    Goal {
        what: "CPU per 1:1 message",
        cases: &[
            cpu("200 connections", pairs!(200.0, PLAIN, "closed", false), &[TimesFloor(1.6), LessThanPeer(6.0)]),
            cpu("2 000 connections", pairs!(2000.0, PLAIN, "closed", false), &[TimesFloor(1.6), LessThanPeer(6.0)]),
        ],
    },
    Goal {
        what: "CPU per message with TLS",
        cases: &[cpu("200 connections", pairs!(200.0, TLS, "closed", false), &[TimesFloor(2.2)])],
    },
    Goal {
        what: "CPU per message with acks and carbons",
        cases: &[cpu("200 connections", pairs!(200.0, PLAIN, "closed", true), &[TimesFloor(2.2)])],
    },
    Goal {
        what: "Latency at half of the own maximum",
        cases: &[Case {
            name: "p99, open loop, 2 000 connections",
            measure: Measure::Of(pairs!(2000.0, PLAIN, "open", false), p99),
            unit: Unit::Micros,
            bounds: &[TimesFloor(3.0), AtMost(5_000.0), HalfOfMaximum],
        }],
    },
    Goal {
        what: "1:1 messages with archive, acks and carbons, on disk before they are acknowledged",
        cases: &[
            more("a second, 200 connections", pairs!(200.0, PLAIN, "closed", true, true), &[MoreThanPeer(10.0)]),
            more("a second, 2 000 connections", pairs!(2000.0, PLAIN, "closed", true, true), &[MoreThanPeer(10.0)]),
            cpu("CPU each, 200 connections", pairs!(200.0, PLAIN, "closed", true, true), &[AtMost(60.0)]),
            cpu("CPU each, 2 000 connections", pairs!(2000.0, PLAIN, "closed", true, true), &[AtMost(60.0)]),
        ],
    },
    Goal {
        what: "Latency of such messages at half of the own maximum, 2 000 connections",
        cases: &[
            Case {
                name: "p99 of delivery, by that without archive",
                measure: Measure::Ratio(
                    pairs!(2000.0, PLAIN, "open", true, true),
                    pairs!(2000.0, PLAIN, "open", true, false),
                    p99,
                ),
                unit: Unit::Times,
                bounds: &[AtMost(2.0)],
            },
            Case {
                name: "p99 of acknowledgements",
                measure: Measure::Of(pairs!(2000.0, PLAIN, "open", true, true), p99_of_acks),
                unit: Unit::Micros,
                bounds: &[AtMost(10_000.0), HalfOfMaximum],
            },
        ],
    },
    Goal {
        what: "Pages of 50 from archives of a million messages, 200 clients",
        cases: &[
            more("a second", history(&[("archived_each", Number(5000.0))]), &[MoreThanPeer(10.0)]),
            Case {
                name: "p99, by that of archives of 100 000",
                measure: Measure::Ratio(
                    history(&[("archived_each", Number(5000.0))]),
                    history(&[("archived_each", Number(500.0))]),
                    p99,
                ),
                unit: Unit::Times,
                bounds: &[AtMost(1.25)],
            },
        ],
    },
    Goal {
        what: "100 000 offline messages fetched by 1 000 clients that come back",
        cases: &[more("a second", ("offline", &[("connections", Number(2000.0))]), &[MoreThanPeer(5.0)])],
    },
    Goal {
        what: "Memory of an idle session, 20 contacts",
        cases: &[
            Case {
                name: "plain",
                measure: Measure::Of(idle(&[CONTACTS, UNPROTECTED, ONE_SERVER]), BYTES),
                unit: Unit::Bytes,
                bounds: &[AtMost(4096.0)],
            },
            Case {
                name: "TLS",
                measure: Measure::Of(idle(&[CONTACTS, ("security", TLS), ONE_SERVER]), BYTES),
                unit: Unit::Bytes,
                bounds: &[AtMost(6144.0)],
            },
            Case {
                name: "after ten rounds, by the first",
                measure: Measure::Of(
                    idle(&[CONTACTS, UNPROTECTED, ONE_SERVER, ("rounds", Want::AtLeast(10.0))]),
                    growth_in_rounds,
                ),
                unit: Unit::Times,
                bounds: &[AtMost(1.05)],
            },
        ],
    },
    Goal {
        what: "Many sessions by fewer",
        cases: &[
            Case {
                name: "bytes per session, 19 000 by 5 000",
                measure: Measure::Ratio(FEWER, FEW, BYTES),
                unit: Unit::Times,
                bounds: &[AtMost(1.05)],
            },
            Case {
                name: "logins a second, 19 000 by 5 000",
                measure: Measure::Ratio(FEWER, FEW, LOGINS_A_SECOND),
                unit: Unit::Times,
                bounds: &[AtLeast(0.95)],
            },
            Case {
                name: "bytes per session, 100 000 by 19 000",
                measure: Measure::Ratio(MANY, MANY_FEWER, BYTES),
                unit: Unit::Times,
                bounds: &[AtMost(1.05)],
            },
            Case {
                name: "logins a second, 100 000 by 19 000",
                measure: Measure::Ratio(MANY, MANY_FEWER, LOGINS_A_SECOND),
                unit: Unit::Times,
                bounds: &[AtLeast(0.95)],
            },
        ],
    },
    Goal {
        what: "CPU of a login with SCRAM",
        cases: &[
            cpu(
                "plain",
                ("login", &[NO_SASL2, NO_TOKEN, ("mechanism", Text("scram")), ("security", PLAIN)]),
                &[AtMost(200.0)],
            ),
            cpu(
                "full TLS 1.3 handshake",
                (
                    "login",
                    &[
                        NO_SASL2,
                        NO_TOKEN,
                        ("mechanism", Text("scram")),
                        ("security", TLS),
                        ("tls_resumed", Flag(false)),
                    ],
                ),
                &[AtMost(500.0)],
            ),
            Case {
                name: "resumed TLS session",
                measure: Measure::Of(
                    (
                        "login",
                        &[
                            NO_SASL2,
                            NO_TOKEN,
                            ("mechanism", Text("scram")),
                            ("security", TLS),
                            ("tls_resumed", Flag(true)),
                        ],
                    ),
                    cpu_of_resumed,
                ),
                unit: Unit::CpuMicros,
                bounds: &[AtMost(350.0)],
            },
        ],
    },
    Goal {
        what: "CPU of a login in one round trip",
        cases: &[
            cpu(
                "SASL2 and Bind 2, full TLS 1.3 handshake",
                ("login", &[("sasl2", Flag(true)), ("security", TLS)]),
                &[AtMost(450.0)],
            ),
            Case {
                name: "FAST, resumed TLS session",
                measure: Measure::Of(("login", &[("fast", Flag(true)), ("security", TLS)]), cpu_of_resumed),
                unit: Unit::CpuMicros,
                bounds: &[AtMost(200.0)],
            },
        ],
    },
    Goal {
        what: "CPU per ping",
        cases: &[cpu(
            "200 connections",
            ("ping", &[("connections", Number(200.0)), ("security", PLAIN)]),
            &[TimesFloor(1.6)],
        )],
    },
    Goal {
        what: "CPU per delivery of presence",
        cases: &[cpu(
            "20 contacts coming and going",
            ("presence", &[("contacts", Number(20.0)), ("security", PLAIN)]),
            &[AtMost(5.0)],
        )],
    },
    Goal {
        what: "Two cores by one",
        cases: &[Case {
            name: "messages a second",
            measure: Measure::Capacity(
                ("pairs", &[("security", PLAIN), ("loop", Text("closed")), ("cores", Number(2.0))]),
                ("pairs", &[("security", PLAIN), ("loop", Text("closed")), ("cores", Number(1.0))]),
            ),
            unit: Unit::Times,
            bounds: &[AtLeast(1.8)],
        }],
    },
    Goal {
        what: "A million idle sessions",
        cases: &[
            Case {
                name: "sessions",
                measure: Measure::Of(MILLION, |run| run.memory.map(|memory| memory.sessions as f64)),
                unit: Unit::Count,
                bounds: &[AtLeast(1_000_000.0)],
            },
            Case {
                name: "bytes per session",
                measure: Measure::Of(MILLION, BYTES),
                unit: Unit::Bytes,
                bounds: &[Reported],
            },
            Case {
                name: "time to log in",
                measure: Measure::Of(MILLION, login_seconds),
                unit: Unit::Seconds,
                bounds: &[Reported],
            },
            Case {
                name: "a message to a random one",
                measure: Measure::Of(MILLION, |run| run.figures.get("random_message_us").copied()),
                unit: Unit::Micros,
                bounds: &[Reported],
            },
        ],
    },
    rooms::SAID,
    rooms::ARCHIVED,
    rooms::FILL,
    rooms::AT_REST,
    rooms::MILLION,
];

/// Sessions of one server, each with twenty contacts.
const ONE_SERVER: (&str, Want) = ("measured_by", Other("many"));
/// Those of several servers, with a client process each.
const SEVERAL: (&str, Want) = ("measured_by", Text("many"));
const CONTACTS: (&str, Want) = ("contacts", Number(20.0));
/// RFC 6120's profile of SASL.
const NO_SASL2: (&str, Want) = ("sasl2", Flag(false));
const NO_TOKEN: (&str, Want) = ("fast", Flag(false));
const UNPROTECTED: (&str, Want) = ("security", PLAIN);

const FEW: Selection = idle(&[("connections", Number(5_000.0)), CONTACTS, UNPROTECTED, ONE_SERVER]);
const FEWER: Selection = idle(&[("connections", Number(19_000.0)), CONTACTS, UNPROTECTED, ONE_SERVER]);
const MANY_FEWER: Selection = idle(&[("connections", Number(19_000.0)), CONTACTS, UNPROTECTED, SEVERAL]);
const MANY: Selection = idle(&[("connections", Number(100_000.0)), CONTACTS, UNPROTECTED, SEVERAL]);
const MILLION: Selection = idle(&[("connections_wanted", Want::AtLeast(1_000_000.0))]);

/// Whether `magpie-load many` or `many-rooms` measured it.
pub fn is_of_many(run: &Run) -> bool {
    run.parameters.get("measured_by").and_then(serde_json::Value::as_str) == Some("many")
}

fn p99(run: &Run) -> Option<f64> {
    let percentiles = &run.latency.as_ref()?.percentiles_us;
    percentiles.iter().find(|(percentile, _)| *percentile == 99.0).map(|(_, us)| *us)
}

fn p99_of_acks(run: &Run) -> Option<f64> {
    run.ack_latency.as_ref().map(|latency| latency.at(99.0))
}

fn operations_per_second(run: &Run) -> Option<f64> {
    (run.operations > 0).then(|| run.rate())
}

fn login_seconds(run: &Run) -> Option<f64> {
    run.figures.get("login_seconds").or_else(|| run.figures.get("connect_seconds")).copied()
}

fn logins_per_second(run: &Run) -> Option<f64> {
    let seconds = login_seconds(run).filter(|seconds| *seconds > 0.0)?;
    Some(run.memory?.sessions as f64 / seconds)
}

/// None where fewer than 95 % of the handshakes were what was asked for: a server may refuse its tickets.
fn cpu_of_resumed(run: &Run) -> Option<f64> {
    let figure = |name: &str| run.figures.get(name).copied();
    // Both count the warm-up, as operations do not.
    let all = figure("logins_all").unwrap_or(run.operations as f64);
    run.server_us().filter(|_| figure("tls_resumed").unwrap_or(0.0) >= 0.95 * all)
}

/// Memory in the last round by that in the first.
fn growth_in_rounds(run: &Run) -> Option<f64> {
    let rounds = rounds(run);
    let ((_, first), (last, bytes)) = (rounds.first()?, rounds.last()?);
    (*last >= 10 && *first > 0.0).then(|| bytes / first)
}

/// Memory of a session in each round of connect and disconnect: number of the round, bytes.
pub fn rounds(run: &Run) -> Vec<(u32, f64)> {
    let number = |name: &str| name.strip_prefix("round_")?.strip_suffix("_bytes_per_session")?.parse().ok();
    let mut rounds: Vec<(u32, f64)> =
        run.figures.iter().filter_map(|(name, bytes)| Some((number(name)?, *bytes))).collect();
    rounds.sort_by_key(|(round, _)| *round);
    rounds
}

/// See [`Measure::Capacity`].
fn capacity(run: &Run) -> Option<f64> {
    if had_its_processors(run)? { Some(run.rate()) } else { Some(cores(run)? * 1e6 / run.server_us()?) }
}

/// Whether nearly all time of the processors that it may use was the server's.
fn had_its_processors(run: &Run) -> Option<bool> {
    Some(run.server_cpu?.total() >= 0.95 * cores(run)? * run.seconds)
}

fn cores(run: &Run) -> Option<f64> {
    run.parameters.get("cores")?.as_f64()
}

/// A goal that `magpie-load compare` has no row for, and what to do for it.
pub fn elsewhere(what: &str, case: &str) -> Option<&'static str> {
    match (what, case) {
        ("A million idle sessions", _) => Some("takes `magpie-load many -c 1000000 --out bench/many.jsonl`"),
        ("A million persistent rooms", _) => {
            Some("takes `magpie-load many-rooms --rooms 1000000 --out bench/many.jsonl`")
        }
        (_, case) if case.ends_with("100 000 by 19 000") => {
            Some("takes `magpie-load many --out bench/many.jsonl` with `-c 100000` and with `-c 19000`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
