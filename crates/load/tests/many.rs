//! `magpie-load many` from its command line: two servers with twenty sessions each.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(240);

/// `MAGPIE_BIN`, or the program of this checkout, built now.
fn magpie() -> PathBuf {
    if let Some(path) = std::env::var_os("MAGPIE_BIN") {
        return path.into();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    assert!(Command::new(cargo).args(["build", "--quiet", "--package", "magpie"]).status().unwrap().success());
    // target/debug/deps/many-0123 -> target/debug/magpie
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("magpie")
}

fn many(home: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie-load"));
    command.args(["many", "--no-contacts", "--magpie"]).arg(magpie()).arg("--folder").arg(home).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for its end; whether it went well, and what it wrote to standard output.
fn end(mut child: Child) -> (bool, String) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Processes that have this text in their command line: the folder's name is in that of each server.
fn processes_of(home: &Path) -> Vec<String> {
    let home = home.display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(&home)).collect()
}

fn left_in(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn two_servers_hold_their_shares_and_leave_only_the_data_for_the_next_time() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("template-results.jsonl");
    let arguments = ["-c", "39", "--per-process", "20", "--messages", "30", "--out", out.to_str().unwrap()];
    let (good, said) = end(many(home.path(), &arguments));
    assert!(good && said.contains("message to a random session, p99"), "{said}");
    let (good, _) = end(many(home.path(), &arguments));
    assert!(good, "with the data of the first time");
    // As another program or another configuration would have left it.
    fs::write(home.path().join("template/ready"), "20 accounts, contacts: false, magpie 0.1.0\n").unwrap();
    let (good, _) = end(many(home.path(), &arguments));
    assert!(good, "with new data");
    let lines = fs::read_to_string(&out).unwrap();
    let runs: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(runs.len(), 3);
    for run in &runs {
        assert_eq!((&run["scenario"], &run["parameters"]["connections"]), (&"idle".into(), &39.into()));
        assert_eq!((&run["memory"]["sessions"], &run["latency"]["count"]), (&39.into(), &30.into()), "{run}");
        assert_eq!(run["figures"]["server_processes"], 2.0);
        let command = "magpie-load many -c 39 --per-process 20 --no-contacts --messages 30";
        assert_eq!(
            (&run["parameters"]["command"], &run["parameters"]["measured_by"]),
            (&command.into(), &"many".into())
        );
        assert!(run["parameters"]["machine"].as_str().unwrap().contains("GiB"), "{run}");
        assert!(run["errors"].as_object().unwrap().is_empty(), "{run}");
        assert!(run["memory"]["with"].as_u64() > run["memory"]["before"].as_u64(), "{run}");
        assert!(run["figures"]["login_seconds"].as_f64().unwrap() > 0.0);
    }
    let is_new: Vec<bool> = runs.iter().map(|run| run["figures"]["prepare_seconds"].is_number()).collect();
    assert_eq!(is_new, [true, false, true]);
    assert_eq!(processes_of(home.path()), [""; 0]);
    assert!(left_in(home.path()).iter().all(|name| name.starts_with("template")), "{:?}", left_in(home.path()));
    let report = Command::new(env!("CARGO_BIN_EXE_magpie-load")).arg("report").arg(&out).output().unwrap();
    assert!(report.status.success() && !report.stdout.is_empty(), "{report:?}");
}

#[test]
fn rooms_are_there_again_after_the_server_was_started_on_them() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("many.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie-load"));
    command.args(["many-rooms", "--rooms", "40", "-c", "4", "--settle", "0.1", "--magpie"]).arg(magpie());
    command.arg("--out").arg(&out).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let (good, said) = end(command.spawn().unwrap());
    assert!(good && said.contains("bytes_per_room"), "{said}");
    let run: serde_json::Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&run["figures"]["rooms_made"], &run["parameters"]["measured_by"]), (&40.0.into(), &"many".into()));
    assert_eq!(run["parameters"]["command"], "magpie-load many-rooms --rooms 40 -c 4");
    assert!(run["errors"].as_object().unwrap().is_empty(), "{run}");
    for figure in ["start_empty_seconds", "start_seconds", "start_to_room_seconds"] {
        assert!(run["figures"][figure].as_f64().unwrap() > 0.0, "{run}");
    }
}

#[test]
fn time_that_is_up_before_the_first_login_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let (good, said) = end(many(home.path(), &["-c", "4", "--minutes-max", "0"]));
    assert!(!good && said.is_empty(), "{said}");
    assert_eq!(processes_of(home.path()), [""; 0]);
}

#[test]
fn an_interrupted_run_leaves_no_process() {
    let home = tempfile::tempdir().unwrap();
    // One login a second: it would take minutes.
    let child = many(home.path(), &["-c", "400", "--per-process", "200", "--connect-rate", "1"]);
    let deadline = Instant::now() + PATIENCE;
    while !left_in(home.path()).iter().any(|name| name == "node-002") || processes_of(home.path()).len() < 3 {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (good, said) = end(child);
    assert!(!good && said.is_empty(), "{said}");
    assert_eq!(processes_of(home.path()), [""; 0]);
    assert!(!left_in(home.path()).iter().any(|name| name.starts_with("node")));
}
