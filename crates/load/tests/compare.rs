//! `magpie-load compare` from its command line: the real server, the relay, one row.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A machine that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(240);

/// `MAGPIE_BIN`, or the program of this checkout, built now.
fn magpie() -> PathBuf {
    if let Some(path) = std::env::var_os("MAGPIE_BIN") {
        return path.into();
    }
    // target/debug/deps/compare-0123
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--package", "magpie", "--target-dir"]).arg(folder.parent().unwrap());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    folder.join("magpie")
}

/// Runs it; gives its pid and what it wrote to standard output.
fn compare(folder: &Path, more: &[&str]) -> (u32, String) {
    let output = folder.join("output.txt");
    let mut child = Command::new(env!("CARGO_BIN_EXE_magpie-load"))
        .args(["compare", "--quick", "--only", "pairs-200", "--servers", "magpie,relay", "--seconds", "1"])
        .args(more)
        .arg("--magpie")
        .arg(magpie())
        .arg("--out")
        .arg(folder.join("out"))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "{status}");
    (child.id(), fs::read_to_string(output).unwrap())
}

#[test]
fn magpie_and_the_relay_are_measured_side_by_side_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (pid, said) = compare(folder.path(), &[]);
    let out = folder.path().join("out");
    let runs: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let servers: Vec<&str> = runs.iter().map(|run| run["server"].as_str().unwrap()).collect();
    assert_eq!(servers, ["Magpie", "relay"]);
    for run in &runs {
        assert!(run["operations"].as_u64().unwrap() > 100, "{run}");
        assert!(run["errors"].as_object().unwrap().is_empty(), "{run}");
        assert!(run["server_cpu"]["user"].as_f64().unwrap() + run["server_cpu"]["system"].as_f64().unwrap() > 0.0);
    }
    let page = fs::read_to_string(out.join("RESULTS.md")).unwrap();
    for text in [said.as_str(), page.as_str()] {
        assert!(text.contains("pairs-200") && text.contains("Magpie") && text.contains("relay"), "{text}");
    }
    assert!(fs::read_dir(out.join("plots")).unwrap().count() > 0);
    assert!(!std::env::temp_dir().join(format!("magpie-compare-{pid}")).exists());

    // Everything is there already, so nothing is run again.
    let journal = out.join("runs.jsonl");
    let before = fs::read(&journal).unwrap();
    compare(folder.path(), &["--resume", journal.to_str().unwrap()]);
    assert_eq!(fs::read(&journal).unwrap(), before);

    // Written again from what is there, without a server: the same page, and what `many` has left is a part of it.
    let mut many = serde_json::to_value(magpie_load::result::Run::default()).unwrap();
    many["scenario"] = "idle".into();
    many["server"] = "Magpie".into();
    many["parameters"] = serde_json::json!({
        "measured_by": "many", "connections": 100_000, "connections_wanted": 100_000, "command": "magpie-load many -c 100000",
    });
    for source in ["runs.jsonl", "results.json"] {
        fs::remove_file(out.join("RESULTS.md")).unwrap();
        rewrite(&out);
        assert_eq!(fs::read_to_string(out.join("RESULTS.md")).unwrap(), page, "from {source}");
        let _ = fs::remove_file(&journal);
    }
    fs::write(out.join("many.jsonl"), many.to_string()).unwrap();
    for _ in ["once", "and again, of results that have it in them"] {
        rewrite(&out);
        let page = fs::read_to_string(out.join("RESULTS.md")).unwrap();
        assert_eq!(page.matches("`magpie-load many -c 100000`").count(), 1, "{page}");
    }
}

fn rewrite(out: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie-load"));
    command.args(["compare", "--rewrite", "--out"]).arg(out).env_remove("MAGPIE_BIN");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("pairs-200"));
}
