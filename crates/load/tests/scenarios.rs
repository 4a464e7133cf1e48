//! Each scenario as a user runs it, for a moment, against a server small enough to be seen through, and the relay.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "scenarios/server.rs"]
mod server;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use magpie_load::result::Run;

const PROGRAM: &str = env!("CARGO_BIN_EXE_magpie-load");

fn output(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn run(address: &str, arguments: &[&str]) -> Run {
    let seconds: &[&str] = if arguments.contains(&"--seconds") { &[] } else { &["--seconds", "1"] };
    let always = [&["--address", address, "--warmup", "0.2", "--json", "-"], seconds].concat();
    let (good, json, errors) = output(&[arguments, &always].concat());
    assert!(good, "{errors}");
    let run: Run = serde_json::from_str(&json).unwrap();
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    run
}

#[test]
fn pairs_write_to_each_other() {
    let run = run(&server::start(), &["pairs", "-c", "4"]);
    let latency = run.latency.unwrap();
    assert!(run.operations > 10 && latency.count > 10, "{}", run.operations);
    assert_eq!((run.figures["messages_not_received"], run.unit.as_str()), (0.0, "message"));
    assert!(run.series.len() >= 2 && run.client_cpu.total() > 0.0);
}

#[test]
fn the_figures_of_several_processes_are_added_up() {
    let run = run(&server::start(), &["pairs", "-c", "6", "--processes", "3", "--rate", "60"]);
    // One second at this rate, whoever sends.
    assert!((50..=70).contains(&run.operations), "{}", run.operations);
    assert_eq!(run.series.last().unwrap().sessions, 6);
}

#[test]
fn acknowledgements_and_carbons_are_asked_for() {
    let run = run(&server::start(), &["pairs", "-c", "2", "--acks", "--carbons", "--mechanism", "plain"]);
    assert!(run.operations > 10);
}

#[test]
fn who_waits_for_acknowledgements_goes_on_when_they_come() {
    let run = run(&server::start(), &["pairs", "-c", "2", "--acks", "--unacknowledged-max", "5", "--in-flight", "8"]);
    assert!(run.operations > 20, "{}", run.operations);
    assert!(run.ack_latency.unwrap().count > 2);
}

#[test]
fn a_number_of_messages_ends_a_run_before_its_time() {
    let began = std::time::Instant::now();
    let run = run(&server::start(), &["pairs", "-c", "4", "--messages", "40", "--seconds", "60"]);
    assert!(run.seconds < 30.0 && began.elapsed().as_secs() < 30, "{}", run.seconds);
}

#[test]
fn all_that_was_written_meanwhile_is_fetched() {
    let run = run(&server::start(), &["offline", "-c", "6", "--messages", "33", "--acks"]);
    // Three who come back, and the time of each is one.
    assert_eq!((run.operations, run.figures["messages_missing"], run.latency.unwrap().count), (99, 0.0, 3));
    let (good, _, errors) = output(&["offline", "-c", "2", "--address", &server::start()]);
    assert!(!good && errors.contains("--acks"), "{errors}");
}

#[test]
fn archives_are_paged_through_again_and_again() {
    let run = run(&server::start(), &["history", "-c", "3", "--page", "2"]);
    // Two pages of two and one of the fifth message, which is not counted.
    assert!(run.operations > 10, "{}", run.operations);
    let all = run.figures["messages_of_pages"];
    assert!(all > run.operations as f64 * 2.0, "{all} messages of {} pages", run.operations);
    assert_eq!(run.figures["pages_not_answered"], 0.0);
}

#[test]
fn what_is_said_in_a_room_comes_to_all_who_are_in_it() {
    let asked =
        ["rooms", "--rooms", "2", "--occupants", "5", "--senders", "2", "--archive", "--presence-of-moderators"];
    let run = run(&server::start(), &asked);
    let (messages, latency) = (run.figures["messages_sent"], run.latency.as_ref().unwrap());
    assert!(run.operations > 50 && messages > 10.0, "{}", run.operations);
    // Those of the warm-up and of the end do not count as operations, but none of them is missing.
    assert!(run.operations as f64 <= messages * 5.0 && latency.count as f64 <= messages);
    assert_eq!((run.figures["deliveries_missing"], run.figures["occupants_there"]), (0.0, 10.0));
    assert!(run.figures["reflection_p99_us"] >= run.figures["reflection_p50_us"], "{:?}", run.figures);
    assert_eq!((run.unit.as_str(), &run.parameters["connections"]), ("delivery", &10.into()));
    assert!(run.parameters["called"].as_str().unwrap().starts_with("load"), "{:?}", run.parameters);
}

#[test]
fn a_sender_in_a_room_waits_for_acknowledgements() {
    let asked = ["rooms", "--occupants", "3", "--senders", "3", "--acks", "--unacknowledged-max", "5"];
    let run = run(&server::start(), &asked);
    assert!(run.operations > 20 && run.ack_latency.unwrap().count > 2, "{}", run.operations);
}

#[test]
fn what_a_room_loses_or_says_twice_is_an_error() {
    let asked = ["rooms", "--occupants", "3", "--warmup", "0", "--seconds", "0.5", "--json", "-"];
    let (good, json, errors) = output(&[&asked[..], &["--address", &server::start_faulty()]].concat());
    assert!(good, "{errors}");
    let run: Run = serde_json::from_str(&json).unwrap();
    let of =
        |what: &str| run.errors.iter().filter(|(error, _)| error.contains(what)).map(|(_, count)| count).sum::<u64>();
    assert!(of("missing") > 0 && of("twice") > 0 && of("did not come to all") == 1, "{:?}", run.errors);
    assert!(run.figures["deliveries_missing"] > 0.0);
}

#[test]
fn a_room_is_filled_until_each_has_seen_each() {
    let run = run(&server::start(), &["room-fill", "--occupants", "12"]);
    assert_eq!((run.operations, run.figures["occupants_who_saw_all"], run.latency.unwrap().count), (144, 12.0, 12));
    assert_eq!((run.figures["presences_missing"], run.figures["presences_twice"]), (0.0, 0.0));
    assert!(run.figures["filled_seconds"] > 0.0 && run.seconds < 30.0, "{:?}", run.figures);
}

#[test]
fn rooms_are_made_and_left_and_their_memory_looked_at() {
    let pid = std::process::id().to_string();
    let asked = ["rooms-idle", "-c", "3", "--rooms", "50", "--settle", "0.1", "--server-pid", &pid, "--seconds", "30"];
    let run = run(&server::start(), &asked);
    // The first tenth of each session's share is made before.
    assert_eq!((run.figures["rooms_made"], run.figures["rooms_not_finished"], run.operations), (50.0, 0.0, 45));
    assert!(run.figures.contains_key("bytes_per_room") && run.seconds < 30.0, "{:?}", run.figures);
}

#[test]
fn pings_are_answered() {
    let run = run(&server::start(), &["ping", "-c", "3", "--in-flight", "2"]);
    assert!(run.operations > 10);
    assert_eq!(run.figures["pings_not_answered"], 0.0);
}

#[test]
fn logins_are_counted() {
    let run = run(&server::start(), &["login", "-c", "3"]);
    assert!(run.operations > 3, "more than one for each session: {}", run.operations);
}

#[test]
fn logins_that_do_all_at_once_are_counted_and_so_are_those_by_a_token() {
    for ways in [&["--sasl2"][..], &["--fast"], &["--sasl2", "--acks"], &["--fast", "--acks", "--carbons"]] {
        let run = run(&server::start_inline(), &[&["login", "-c", "3"], ways].concat());
        assert!(run.operations > 3, "{ways:?}: more than one for each session: {}", run.operations);
    }
    for way in ["--sasl2", "--fast"] {
        let short = ["--warmup", "0.1", "--seconds", "0.5", "--address", &server::start()];
        let (good, _, errors) = output(&[&["login", "-c", "1", way][..], &short].concat());
        assert!(!good && errors.contains("does not offer SASL2 (XEP-0388), or not without TLS"), "{errors}");
    }
}

#[test]
fn presence_reaches_the_contacts() {
    let run = run(&server::start(), &["presence", "-c", "3", "--contacts", "2"]);
    assert!(run.operations > 10);
    assert_eq!((run.figures["deliveries_missing"], run.figures["contacts_made"]), (0.0, 0.0));
}

#[test]
fn after_a_storm_all_are_back() {
    let run = run(&server::start(), &["storm", "-c", "6"]);
    assert_eq!((run.operations, run.figures["sessions_not_back"], run.figures["messages_sent"]), (6, 0.0, 6.0));
}

#[test]
fn idle_sessions_stay_through_their_rounds() {
    let pid = std::process::id().to_string();
    let run = run(&server::start(), &["idle", "-c", "5", "--rounds", "1", "--server-pid", &pid]);
    assert!(run.figures.contains_key("round_01_bytes_per_session"), "{:?}", run.figures);
    assert_eq!((run.memory.unwrap().sessions, run.operations), (5, 5));
    assert!(run.server_cpu.is_some());
}

#[test]
fn the_same_bytes_go_through_the_relay() {
    let mut relay = Command::new(PROGRAM).arg("relay").stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(relay.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let pairs = run(address.trim(), &["pairs", "-c", "4", "--protocol", "raw"]);
    let ping = run(address.trim(), &["ping", "-c", "2", "--protocol", "raw"]);
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert!(pairs.operations > 10 && ping.operations > 10);
    assert_eq!(pairs.figures["messages_not_received"], 0.0);
}

#[test]
fn what_went_wrong_is_said_with_what_to_do() {
    let (good, _, errors) = output(&["pairs", "--address", "127.0.0.1:1", "-c", "2"]);
    assert!(!good && errors.contains("does the server run there?"), "{errors}");
    let (good, _, errors) = output(&["ping", "-c", "1", "--password", "wrong", "--address", &server::start()]);
    assert!(
        !good && errors.contains("not-authorized") && errors.contains("magpie-load accounts --count 1"),
        "{errors}"
    );
    let (good, _, errors) = output(&["ping", "-c", "1", "--mechanism", "scram-sha-1", "--address", &server::start()]);
    assert!(!good && errors.contains("does not offer the mechanism SCRAM-SHA-1"), "{errors}");
}

#[test]
fn accounts_are_printed_as_they_log_in() {
    let (_, csv, _) = output(&["accounts", "--count", "2", "--domain", "example.org", "--first-account", "7"]);
    assert_eq!(csv, "user7@example.org,pw7\nuser8@example.org,pw8\n");
}

#[test]
fn a_file_runs_its_phases() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mix.toml");
    let text = format!(
        "[target]\naddress = ['{}']\nwarmup = 0.1\nseconds = 0.5\n[[phase]]\nname = 'one'\nconnections = 6\n\
         mix = [{{ scenario = {{ ping = {{}} }} }}, {{ share = 2.0, scenario = {{ pairs = {{}} }} }}]\n",
        server::start()
    );
    std::fs::write(&file, text).unwrap();
    let (good, json, errors) = output(&["run", file.to_str().unwrap(), "--json", "-"]);
    assert!(good, "{errors}");
    let runs: Vec<Run> = serde_json::from_str(&json).unwrap();
    assert_eq!(runs.iter().map(|run| run.scenario.as_str()).collect::<Vec<_>>(), ["ping", "pairs"]);
    assert!(runs.iter().all(|run| run.operations > 0 && run.parameters["phase"] == "one"));
}
