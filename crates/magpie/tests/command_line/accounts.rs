//! `magpie user …` and `magpie status` on a data folder that no server uses.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use serde_json::json;

use crate::folder::Folder;

#[test]
fn an_account_is_made_listed_changed_and_removed() {
    let folder = Folder::new();
    let added = folder.run(&["user", "add", "Juliet@localhost", "--password", "x"]).code(0);
    assert_eq!((added.stdout.as_str(), added.stderr.as_str()), ("Added juliet@localhost.\n", ""));
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "juliet@localhost\n");
    let changed = folder.run(&["user", "passwd", "juliet@localhost", "--password", "y"]).code(0);
    assert_eq!(changed.stdout, "Changed the password of juliet@localhost.\n");
    let removed = folder.run(&["user", "remove", "juliet@localhost"]).code(0);
    assert_eq!(removed.stdout, "Removed juliet@localhost and all its data.\n");
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "");
}

#[test]
fn each_answer_is_one_document_with_json() {
    let folder = Folder::new();
    let juliet = json!({ "jid": "juliet@localhost" });
    let add = ["user", "add", "juliet@localhost", "--password", "x", "--json"];
    assert_eq!(folder.run(&add).code(0).json(), juliet);
    let list = folder.run(&["--json", "user", "list", "localhost"]).code(0).json();
    assert_eq!(list, json!({ "host": "localhost", "accounts": ["juliet@localhost"] }));
    let passwd = ["user", "--json", "passwd", "juliet@localhost", "--password", "y"];
    assert_eq!(folder.run(&passwd).code(0).json(), juliet);
    let status = folder.run(&["status", "--json"]).code(0).json();
    assert_eq!(status["running"], false);
    assert_eq!(status["domains"], json!([{ "domain": "localhost", "accounts": 1 }]));
    assert_eq!(folder.run(&["user", "remove", "juliet@localhost", "--json"]).code(0).json(), juliet);
}

#[test]
fn failures_say_what_to_do_and_with_json_also_why() {
    let folder = Folder::new();
    let add = ["user", "add", "juliet@localhost", "--password", "x", "--json"];
    folder.run(&add).code(0);
    let again = folder.run(&add).code(1);
    assert_eq!(again.json()["error"]["kind"], "exists");
    assert!(again.stderr.contains("juliet@localhost exists already"), "{}", again.stderr);
    assert!(again.stderr.contains("magpie user passwd juliet@localhost"), "{}", again.stderr);

    let unknown = folder.run(&["user", "passwd", "romeo@localhost", "--password", "x"]).code(1);
    assert_eq!(unknown.stdout, "");
    assert!(unknown.stderr.contains("there is no account romeo@localhost"), "{}", unknown.stderr);
    assert!(folder.run(&["user", "remove", "romeo@localhost"]).code(1).stderr.contains("no account"));

    let elsewhere = folder.run(&["user", "add", "romeo@example.org", "--password", "x"]).code(1);
    assert!(elsewhere.stderr.contains("example.org is not a domain of this server"), "{}", elsewhere.stderr);
    assert!(elsewhere.stderr.contains("served: localhost"), "{}", elsewhere.stderr);
    folder.run(&["user", "add", "romeo@example.org", "--password", "x", "--domain", "example.org"]).code(0);

    let empty = folder.run(&["user", "add", "romeo@localhost", "--password", ""]).code(1);
    assert!(empty.stderr.contains("the password is empty"), "{}", empty.stderr);
}

#[test]
fn what_is_used_wrongly_ends_with_2() {
    let folder = Folder::new();
    let wrong: [&[&str]; 10] = [
        &[],
        &["user"],
        &["use"],
        &["user", "add"],
        &["user", "add", "juliet@localhost/balcony", "--password", "x"],
        &["user", "add", "localhost", "--password", "x"],
        &["user", "add", "@localhost", "--password", "x"],
        &["user", "add", "juliet@localhost", "--password", "x", "--password-stdin"],
        &["user", "list", "not a domain"],
        &["log", "loud=quiet=x"],
    ];
    for arguments in wrong {
        assert_eq!(folder.run(arguments).code, 2, "{arguments:?}");
    }
    // Nobody can be asked for a password without a terminal.
    let no_terminal = folder.run(&["user", "add", "juliet@localhost"]).code(2);
    assert!(no_terminal.stderr.contains("--password-stdin"), "{}", no_terminal.stderr);
    assert!(!folder.data().exists());
}

#[test]
fn the_password_is_the_first_line_of_standard_input_without_its_end() {
    let folder = Folder::new();
    let add = |name: &str, input| folder.run_with(&["user", "add", name, "--password-stdin"], input);
    add("a@localhost", "secret\r\nmore\n").code(0);
    add("b@localhost", " spaced ").code(0);
    assert!(add("c@localhost", "\n").code(1).stderr.contains("the password is empty"));
}

#[test]
fn what_only_reads_makes_no_data_folder() {
    let folder = Folder::new();
    for arguments in [&["status"][..], &["user", "list", "localhost"], &["user", "remove", "a@localhost"]] {
        let done = folder.run(arguments).code(1);
        assert!(done.stderr.contains("there is no data folder magpie-data"), "{}", done.stderr);
    }
    assert!(!folder.data().exists());
}

#[test]
fn the_data_folder_is_where_the_command_line_or_else_the_configuration_says() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("etc")).unwrap();
    folder.write("etc/magpie.toml", "data = \"../var\"\n");
    let add =
        |arguments: &[&str]| folder.run(&[&["user", "add", "a@localhost", "--password", "x"], arguments].concat());
    // Relative to the file.
    add(&["--config", "etc/magpie.toml"]).code(0);
    assert!(folder.path().join("var").is_dir());
    // Relative to the working folder.
    add(&["--config", "etc/magpie.toml", "--data", "here"]).code(0);
    assert!(folder.path().join("here").is_dir());
    assert!(!folder.data().exists());
}

#[test]
fn a_folder_that_another_process_has_is_named_with_that_process() {
    let folder = Folder::new();
    let store = magpie_store::Store::open(&folder.data()).unwrap();
    let done = folder.run(&["user", "list", "localhost", "--json"]).code(1);
    assert_eq!(done.json()["error"]["kind"], "in-use");
    let expected =
        format!("is in use by process {}, which does not answer on magpie-data/magpie.sock", std::process::id());
    assert!(done.stderr.contains(&expected), "{}", done.stderr);
    store.close();
    folder.run(&["user", "list", "localhost"]).code(0);
}

#[test]
fn a_command_waits_for_the_one_before() {
    let folder = Folder::new();
    let store = magpie_store::Store::open(&folder.data()).unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        store.close();
    });
    folder.run(&["user", "list", "localhost"]).code(0);
    other.join().unwrap();
}

#[test]
fn data_of_a_newer_version_is_refused_and_not_touched() {
    let folder = Folder::new();
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
    let file = folder.data().join("store.db");
    // The user version in the header of an SQLite file.
    let mut database = fs::OpenOptions::new().write(true).open(&file).unwrap();
    database.seek(SeekFrom::Start(60)).unwrap();
    database.write_all(&4711_u32.to_be_bytes()).unwrap();
    drop(database);
    let before = fs::read(&file).unwrap();
    for arguments in [&["user", "list", "localhost", "--json"][..], &["serve", "--json"]] {
        let done = folder.run(arguments).code(1);
        assert_eq!(done.json()["error"]["kind"], "newer-data");
        assert!(done.stderr.contains("was written by a newer magpie: its format is 4711"), "{}", done.stderr);
    }
    assert_eq!(fs::read(&file).unwrap(), before);
}
