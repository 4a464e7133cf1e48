//! `magpie terms`: Erlang's terms without a chat server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::folder::{Folder, Running};

/// `{user, 42}`
const TERM: &[u8] = b"\x83\x68\x02\x77\x04user\x61\x2a";

fn get(server: &Running, target: &str) -> String {
    let address = server.ready["listen"][0]["address"].as_str().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn terms_of_a_folder_are_served_by_one_command() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("terms")).unwrap();
    folder.write("terms/user-42", TERM);
    let server = folder.start("terms", &["--listen", "127.0.0.1:0", "--bert", "127.0.0.1:0", "--directory", "terms"]);
    assert_eq!(server.ready["listen"][0]["kind"], "terms");
    assert_eq!(server.ready["listen"][1]["kind"], "bert");
    let answer = get(&server, "/terms/user-42?mode=readable");
    assert!(answer.ends_with("[\"user\",42]\n"), "{answer}");
    assert!(get(&server, "/esi/echo_server:echo?abcd\u{4f60}").contains("abcd\u{4f60}"));
    server.signal("TERM");
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn sources_are_configured_in_the_file_with_paths_from_its_folder() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("etc/data")).unwrap();
    folder.write("etc/data/romeo.term", TERM);
    let config = "[[terms.source]]\nname = \"users\"\nkind = \"directory\"\npath = \"data\"\nsuffix = \".term\"\n";
    folder.write("etc/magpie.toml", config);
    let server = folder.start("terms", &["--listen", "127.0.0.1:0", "--config", "etc/magpie.toml"]);
    assert!(get(&server, "/terms/users/romeo?path=2").ends_with("\r\n\r\n42\n"));
    drop(server);
    folder.write("etc/magpie.toml", config.replace("path = \"data\"", "path = \"\""));
    let done = folder.run(&["terms", "--listen", "127.0.0.1:0", "--config", "etc/magpie.toml", "--json"]).code(1);
    let problem = &done.json()["error"]["problems"][0];
    assert_eq!((&problem["key"], &problem["line"]), (&json!("terms.source[0]"), &json!(1)), "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("needs `path`"), "{problem}");
}

#[test]
fn a_changed_file_is_read_again_by_a_signal() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("data")).unwrap();
    folder.write("data/romeo", TERM);
    folder.write("magpie.toml", "");
    let server = folder.start("terms", &["--listen", "127.0.0.1:0"]);
    assert!(get(&server, "/terms/users/romeo").contains("no-such-source"));
    folder.write("magpie.toml", "[[terms.source]]\nname = \"users\"\nkind = \"directory\"\npath = \"data\"\n");
    server.signal("HUP");
    server.wait_for_log("reloaded what=\"terms\"");
    assert!(get(&server, "/terms/users/romeo?path=2").ends_with("\r\n\r\n42\n"));
    folder.write("magpie.toml", "[[terms.source]]\nname = \"users\"\nkind = \"directory\"\npath = \"\"\n");
    server.signal("HUP");
    server.wait_for_log("not reloaded");
    assert!(get(&server, "/terms/users/romeo?path=2").ends_with("\r\n\r\n42\n"));
    assert!(get(&server, "/metrics").contains("magpie_terms_lookups_total{source=\"users\",outcome=\"found\"} 2\n"));
}

#[test]
fn what_everybody_could_read_needs_to_be_forced() {
    let folder = Folder::new();
    let done = folder.run(&["terms", "--listen", "0.0.0.0:0", "--json"]).code(1);
    let error = done.json()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("0.0.0.0:0 is not loopback"), "{error}");
    assert!(error["help"].as_str().unwrap().contains("--force"), "{error}");
    let server = folder.start("terms", &["--listen", "0.0.0.0:0", "--force"]);
    server.signal("INT");
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn a_folder_that_is_not_there_or_a_taken_port_is_named_with_what_to_do() {
    let folder = Folder::new();
    let done = folder.run(&["terms", "--directory", "none"]).code(1);
    assert!(done.stderr.contains("there is no folder none"), "{}", done.stderr);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let done = folder.run(&["terms", "--listen", &taken]).code(1);
    assert!(done.stderr.contains(&format!("cannot listen on {taken}")), "{}", done.stderr);
    assert!(done.stderr.contains("--listen"), "{}", done.stderr);
}
