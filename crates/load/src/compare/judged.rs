//! What rows write and what goals read are the same: every row is judged, on runs made up with the rows' own command lines.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::many::tests::line;
use super::rows::{CHURN_ROUNDS, Pace, ROWS, Row, Special, Step, steps};
use super::runner::{mark, words};
use crate::cli::asked;
use crate::report::goals::{FLOOR, MAGPIE, START_EMPTY, START_WITH_ROOMS, Verdict, elsewhere, judge};
use crate::result::{Cpu, Latency, Memory, Run};

const PACE: Pace = Pace { rounds: 2, warmup: 2.0, seconds: 6.0 };

/// A run as the row's command line asks for it, with the figures that its scenario writes.
fn made_up(step: &Step) -> Run {
    let row = Row::named(step.row).unwrap();
    let (protocol, mechanism) = if step.server == FLOOR { ("raw", "plain") } else { ("xmpp", "scram-sha-1") };
    let mut words = words(row, &step.server, protocol, mechanism);
    if matches!(row.special, Special::HalfOfMaximum(_)) {
        words.extend(["--rate", "5000"].map(str::to_owned));
    }
    let (scenario, parameters) = asked(&words);
    let operations = if row.special == Special::None { 60_000 } else { 30_000 };
    let mut run = Run { scenario, server: step.server.clone(), parameters, seconds: 6.0, operations, ..Run::default() };
    run.server_cpu = Some(Cpu { user: 0.2, system: 0.1 });
    match row.scenario {
        "idle" => {
            let sessions = u64::from(row.connections);
            let with = 1_000_000 + sessions * 4_000;
            run.memory = Some(Memory { sessions, before: 1_000_000, with, ..Memory::default() });
            run.figures.insert("connect_seconds".into(), f64::from(row.connections) / 1_000.0);
            if words.contains(&"--rounds".to_owned()) {
                let rounds = (1..=CHURN_ROUNDS).map(|round| (format!("round_{round:02}_bytes_per_session"), 4_000.0));
                run.figures.extend(rounds);
            }
        }
        "login" => {
            let resumed = if ["--resumed", "--fast"].iter().any(|option| row.arguments.contains(option)) {
                59_900.0
            } else {
                0.0
            };
            run.figures = BTreeMap::from([("logins_all".into(), 60_000.0), ("tls_resumed".into(), resumed)]);
        }
        "room-fill" => drop(run.figures.insert("filled_seconds".into(), 1.5)),
        "rooms-idle" => {
            let figures =
                [("rooms_made", 20_000.0), ("bytes_per_room", 50.0), (START_EMPTY, 0.1), (START_WITH_ROOMS, 0.2)];
            run.figures.extend(figures.map(|(name, value)| (name.to_owned(), value)));
        }
        _ => run.latency = Some(Latency { percentiles_us: vec![(99.0, 900.0)], ..Latency::default() }),
    }
    if words.contains(&"--acks".to_owned()) {
        run.ack_latency.clone_from(&run.latency);
    }
    mark(&mut run, row, step);
    run
}

fn all() -> Vec<Run> {
    let rows: Vec<&Row> = ROWS.iter().collect();
    steps(&rows, &[MAGPIE, FLOOR, "ejabberd"], PACE).iter().map(made_up).collect()
}

fn not_measured(runs: &[Run]) -> BTreeSet<(&'static str, &'static str)> {
    let judged = judge(runs).into_iter().filter(|one| one.verdict == Verdict::NotMeasured);
    judged.map(|one| (one.what, one.case.name)).collect()
}

#[test]
fn every_goal_that_a_row_is_for_is_judged() {
    let missing = not_measured(&all());
    assert!(missing.iter().all(|(what, case)| elsewhere(what, case).is_some()), "{missing:?}");
    // The million sessions, the 100 000, the million rooms: nothing else is left to other measurements.
    assert_eq!(missing.len(), 10, "{missing:?}");
}

#[test]
fn what_many_has_left_fills_the_rest() {
    let mut rooms = all().into_iter().find(|run| run.scenario == "rooms-idle" && run.server == MAGPIE).unwrap();
    rooms.parameters.remove("row");
    rooms
        .parameters
        .extend([("measured_by", "many".into()), ("rooms", 1_000_000.into())].map(|(n, v)| (n.to_owned(), v)));
    rooms.figures.insert("rooms_made".into(), 1_000_000.0);
    let lines = [line(19_000, 19_000, 4_000), line(100_000, 100_000, 4_100), line(1_000_000, 1_000_000, 4_050), rooms];
    let runs = [all(), lines.to_vec()].concat();
    assert_eq!(not_measured(&runs), BTreeSet::new());
    let judged = judge(&runs);
    let of = |case: &str| judged.iter().find(|one| one.case.name == case).unwrap();
    let bytes = of("bytes per session, 100 000 by 19 000");
    assert_eq!((bytes.verdict, bytes.measured.unwrap().median), (Verdict::Met, 4_100.0 / 4_000.0));
    assert_eq!(bytes.why, "by `magpie-load many`, 2026-11-24");
    assert_eq!(of("sessions").measured.unwrap().median, 1_000_000.0);
    assert_eq!(of("time to log in").measured.unwrap().median, 200.0);
    assert_eq!(of("a message to a random one").measured.unwrap().median, 31.0);
    // The comparison's own rows are not moved by them: theirs is one server.
    let plain = |runs: &[Run]| judge(runs).into_iter().find(|one| one.case.name == "plain").unwrap().measured;
    assert_eq!(plain(&runs), plain(&all()));
    let fewer = |runs: &[Run]| judge(runs).into_iter().find(|one| one.case.name.ends_with("19 000 by 5 000")).unwrap();
    assert_eq!(fewer(&runs).measured, fewer(&all()).measured);
}

#[test]
fn a_million_that_is_not_held_is_missed_and_not_unmeasured() {
    let judged = judge(&[line(1_000_000, 734_000, 4_000)]);
    let sessions = judged.iter().find(|one| one.case.name == "sessions").unwrap();
    assert_eq!((sessions.verdict, sessions.measured.unwrap().median), (Verdict::Missed, 734_000.0));
}

#[test]
fn a_hundred_thousand_are_not_held_against_the_19_000_of_a_row() {
    let runs = [all(), vec![line(100_000, 100_000, 4_100)]].concat();
    assert!(not_measured(&runs).contains(&("Many sessions by fewer", "bytes per session, 100 000 by 19 000")));
}

#[test]
fn every_row_is_for_a_goal() {
    let all = all();
    let with_all = not_measured(&all);
    for row in ROWS {
        let without: Vec<Run> =
            all.iter().filter(|run| run.parameters["row"].as_str() != Some(row.name)).cloned().collect();
        assert!(not_measured(&without).len() > with_all.len(), "without {} nothing is missed", row.name);
    }
}

#[test]
fn the_floor_and_a_peer_stand_beside_magpie_where_they_have_the_row() {
    let judged = judge(&all());
    let of = |what: &str| judged.iter().find(|one| one.what == what).unwrap();
    for what in [
        "CPU per 1:1 message",
        "CPU per message with TLS",
        "CPU per message with acks and carbons",
        "Latency at half of the own maximum",
        "CPU per ping",
    ] {
        // Of its own row alone, which was run twice.
        assert!(of(what).floor.is_some_and(|floor| floor.runs == 2) && of(what).peer.is_some(), "{what}");
    }
    for what in ["Memory of an idle session, 20 contacts", "CPU of a login with SCRAM", "CPU per delivery of presence"]
    {
        assert!(of(what).peer.is_some(), "{what}");
    }
}
