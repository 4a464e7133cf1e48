//! `magpie user import`

use std::fmt::Write;

use serde_json::{Value, json};

use crate::folder::Folder;

/// A hash and few rounds, so that thousands of accounts take seconds without optimization.
const QUICK: &str = "[auth]\nhashes = [\"sha-256\"]\n";

/// 2,000 lines after the header, of which some are bad. Gives the text and the bad lines' numbers.
fn two_thousand() -> (String, Vec<u64>) {
    let mut text = String::from("jid,password\n");
    let mut bad = Vec::new();
    for line in 2..=2001_u64 {
        match line % 400 {
            7 => writeln!(text, "no address {line}"),
            8 => writeln!(text, "user{line}@localhost,\"open"),
            9 => writeln!(text, "user{line}@elsewhere.example,x"),
            10 => writeln!(text, "user{line}@localhost,"),
            _ => writeln!(text, "user{line}@localhost,\"pass, {line}\""),
        }
        .unwrap();
        if (7..=10).contains(&(line % 400)) {
            bad.push(line);
        }
    }
    (text, bad)
}

fn lines(of: &Value) -> Vec<u64> {
    of.as_array().unwrap().iter().map(|entry| entry["line"].as_u64().unwrap()).collect()
}

#[test]
fn good_lines_are_imported_and_bad_ones_named() {
    let folder = Folder::new();
    folder.write("magpie.toml", QUICK);
    let (text, bad) = two_thousand();
    folder.write("users.csv", text);
    let done = folder.run(&["user", "import", "users.csv", "--json"]).code(1);
    let report = done.json();
    assert_eq!(report["rows"], 2000);
    assert_eq!(report["created"], 2000 - bad.len());
    assert_eq!(report["existing"], json!([]));
    assert_eq!(lines(&report["failed"]), bad);
    for (line, message) in [
        (7, "it has 1 field, not jid,password"),
        (8, "a quote is not closed"),
        (9, "elsewhere.example is not a domain of this server"),
        (10, "the password is empty"),
    ] {
        let found = done.stderr.lines().find(|text| text.starts_with(&format!("users.csv:{line}: ")));
        assert!(found.is_some_and(|text| text.contains(message)), "{line} {message}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("pass, "), "a password is shown: {}", done.stderr);
    let listed = folder.run(&["user", "list", "localhost"]).code(0).stdout;
    assert_eq!(listed.lines().count(), 2000 - bad.len());

    // Again: what is there is skipped, quickly, and said.
    let again = folder.run(&["user", "import", "users.csv", "--json"]).code(1).json();
    assert_eq!(again["created"], 0);
    assert_eq!(again["existing"].as_array().unwrap().len(), 2000 - bad.len());
    assert_eq!(lines(&again["failed"]), bad);
}

#[test]
fn existing_accounts_stay_unless_they_are_to_be_replaced() {
    let folder = Folder::new();
    folder.write("magpie.toml", QUICK);
    folder.write("users.csv", "a@localhost,1\nb@localhost,2\na@localhost,3\n");
    folder.run(&["user", "add", "a@localhost", "--password", "old"]).code(0);
    let kept = folder.run(&["user", "import", "users.csv"]).code(0);
    assert!(kept.stdout.starts_with("Added 1 account in "), "{}", kept.stdout);
    assert!(kept.stdout.ends_with("replaced 0, skipped 2 existing ones.\n"), "{}", kept.stdout);
    assert!(kept.stderr.contains("users.csv:1: a@localhost exists already; skipped"), "{}", kept.stderr);
    let replaced = folder.run(&["user", "import", "users.csv", "--replace", "--json"]).code(0).json();
    assert_eq!((&replaced["created"], &replaced["replaced"]), (&json!(0), &json!(3)));
    assert_eq!(replaced["existing"], json!([]));
}

#[test]
fn the_rows_can_come_from_standard_input() {
    let folder = Folder::new();
    let done = folder.run_with(&["user", "import", "-"], "JID,Password\r\na@localhost,x\r\n").code(0);
    assert!(done.stdout.starts_with("Added 1 account in "), "{}", done.stdout);
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "a@localhost\n");
}

#[test]
fn a_file_that_is_not_there_or_empty_imports_nothing() {
    let folder = Folder::new();
    assert!(folder.run(&["user", "import", "none.csv"]).code(1).stderr.contains("cannot read none.csv"));
    folder.write("empty.csv", "jid,password\n");
    assert_eq!(folder.run(&["user", "import", "empty.csv", "--json"]).code(0).json()["rows"], 0);
}

/// Needs the running server.
#[test]
fn a_running_server_takes_an_import_with_its_own_hashes() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&[]);
    // The configuration changes on the disk only: what is imported must fit the server that runs.
    folder.write_config("domains = [\"other.example\"]\n");
    let (text, bad) = two_thousand();
    let few: String = text.lines().take(30).map(|line| format!("{line}\n")).collect();
    folder.write("users.csv", few);
    let report = folder.run(&["user", "import", "users.csv", "--json"]).code(1).json();
    assert_eq!(report["created"], 25);
    assert_eq!(lines(&report["failed"]), bad[..4]);
    let status = folder.run(&["status", "--json"]).code(0).json();
    assert_eq!(status["domains"], json!([{ "domain": "localhost", "accounts": 25 }]));
    drop(server);
}

#[test]
fn a_second_import_of_many_names_a_few_that_exist_and_counts_the_others() {
    let folder = Folder::new();
    folder.write("users.csv", (0..30).map(|n| format!("user{n}@localhost,x\n")).collect::<String>());
    folder.run(&["user", "import", "users.csv"]).code(0);
    let done = folder.run(&["user", "import", "users.csv"]).code(0);
    assert_eq!(done.stderr.matches(" exists already; skipped").count(), 20, "{}", done.stderr);
    assert!(done.stderr.contains("users.csv:21: more accounts exist already"), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 21, "{}", done.stderr);
    assert!(done.stdout.contains("skipped 30 existing ones"), "{}", done.stdout);
    let document = folder.run(&["user", "import", "users.csv", "--json"]).code(0).json();
    assert_eq!(document["existing"].as_array().unwrap().len(), 30);
}
