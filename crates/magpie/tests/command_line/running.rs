//! Commands beside a running server, and the server's own start, signals and stop. All of these need `magpie serve`.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::json;

use crate::folder::{Folder, Running};
use crate::session::Session;

#[test]
fn a_server_says_how_to_reach_it_and_listens_there() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&["--domain", "chat.example"]);
    assert_eq!(server.ready["domains"], json!(["chat.example"]));
    assert_eq!(server.ready["pid"], server.pid());
    assert_eq!(server.ready["listen"][0]["kind"], "c2s");
    let address = server.ready["listen"][0]["address"].as_str().unwrap();
    TcpStream::connect(address).unwrap();
    let certificate = &server.ready["certificates"][0];
    assert_eq!((&certificate["domain"], &certificate["own"]), (&json!("chat.example"), &json!(true)));
    assert!(fs::read_to_string(certificate["chain"].as_str().unwrap()).unwrap().contains("BEGIN CERTIFICATE"));
    assert!(server.ready["open_files_max"].as_u64().unwrap() > 0);
}

#[test]
fn the_certificate_of_an_internationalized_domain_is_named_by_its_file() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&["--domain", "b\u{fc}cher.example"]);
    let chain = server.ready["certificates"][0]["chain"].as_str().unwrap();
    assert!(chain.ends_with("/certs/xn--bcher-kva.example.crt"), "{chain}");
    assert!(fs::read_to_string(chain).unwrap().contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_port_that_another_program_has_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = std::net::TcpListener::bind(taken).unwrap();
    let folder = Folder::new();
    folder.write("magpie.toml", format!("[[listen]]\naddress = \"{taken}\"\nkind = \"c2s\"\n"));
    let done = folder.run(&["serve", "--json"]).code(1);
    drop(other);
    let error = done.json()["error"].clone();
    assert_eq!(error["kind"], "start");
    assert!(error["message"].as_str().unwrap().contains(&format!("cannot listen on {taken}")), "{error}");
    assert!(error["help"].as_str().unwrap().contains("[[listen]]"), "{error}");
}

#[test]
fn for_people_it_says_what_to_do_next() {
    let folder = Folder::new();
    folder.write_config("");
    let mut server = std::process::Command::new(assert_cmd::cargo::cargo_bin("magpie"))
        .current_dir(folder.path())
        .args(["serve", "--data", "here"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut out = server.stdout.take().unwrap();
    while !text.contains("Stop with Ctrl-C") {
        let mut part = [0; 4096];
        let read = out.read(&mut part).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(text.contains("serves localhost"), "{text}");
    // As it was started: a program that cargo has built is on no PATH.
    let program = assert_cmd::cargo::cargo_bin("magpie").display().to_string();
    let add = format!("There is no account yet. Make one:  {program} user add --data here NAME@localhost");
    assert!(text.contains(&add), "{text}");
    assert!(text.contains(&format!("{program} reload --data here\n")), "{text}");
    assert!(text.contains("here/certs/localhost.crt"), "{text}");
    assert!(text.contains("(host 127.0.0.1, port "), "{text}");
}

#[test]
fn commands_work_through_the_running_server_as_they_do_without() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&[]);
    let socket = folder.data().join("magpie.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let add = ["user", "add", "juliet@localhost", "--password", "x"];
    assert_eq!(folder.run(&add).code(0).stdout, "Added juliet@localhost.\n");
    assert!(folder.run(&add).code(1).stderr.contains("juliet@localhost exists already"));
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "juliet@localhost\n");
    let status = folder.run(&["status", "--json"]).code(0).json();
    assert_eq!((&status["running"], &status["pid"]), (&json!(true), &json!(server.pid())));
    assert_eq!((&status["sessions"], &status["listen"]), (&json!(0), &server.ready["listen"]));
    let text = folder.run(&["status"]).code(0).stdout;
    assert!(text.contains("has been running for"), "{text}");
    assert!(text.contains("localhost, 1 account\n"), "{text}");
    folder.run(&["user", "passwd", "juliet@localhost", "--password", "y"]).code(0);
    folder.run(&["user", "remove", "juliet@localhost"]).code(0);
    assert!(folder.run(&["user", "remove", "juliet@localhost"]).code(1).stderr.contains("no account"));
    server.wait_for_log("account removed");
}

/// A server on which a session needs no TLS.
pub(crate) fn serve_in_the_clear(folder: &Folder) -> (Running, String) {
    let listen =
        "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"c2s\"\ntls = \"optional\"\n[metrics]\naddress = \"\"\n";
    folder.write("magpie.toml", listen);
    let server = folder.serve(&[]);
    let address = server.ready["listen"][0]["address"].as_str().unwrap().to_owned();
    (server, address)
}

/// `juliet` with the password `x`, as PLAIN sends it.
const JULIET_X: &str = "AGp1bGlldAB4";
/// The same with `y`.
const JULIET_Y: &str = "AGp1bGlldAB5";

#[test]
fn an_account_that_is_made_can_log_in_at_once_and_is_thrown_out_when_it_is_removed() {
    let folder = Folder::new();
    let (_server, address) = serve_in_the_clear(&folder);
    let mut session = Session::open(&address);
    assert!(!session.log_in(JULIET_X));
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    assert!(session.log_in(JULIET_X));
    assert_eq!(folder.run(&["status", "--json"]).code(0).json()["sessions"], 1);
    folder.run(&["user", "remove", "juliet@localhost"]).code(0);
    let error = session.wait_for("</stream:stream>");
    assert!(error.contains("<not-authorized"), "{error}");
    assert!(error.contains("the account was removed"), "{error}");
    assert!(!Session::open(&address).log_in(JULIET_X));
}

#[test]
fn another_password_ends_the_sessions_that_knew_the_old_one() {
    let folder = Folder::new();
    folder.write("users.csv", "juliet@localhost,x\n");
    let (_server, address) = serve_in_the_clear(&folder);
    folder.run(&["user", "import", "users.csv"]).code(0);
    let mut first = Session::open(&address);
    assert!(first.log_in(JULIET_X));
    // What is skipped changes nothing.
    folder.run(&["user", "import", "users.csv"]).code(0);
    first.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    first.wait_for("id='p'");
    folder.run(&["user", "passwd", "juliet@localhost", "--password", "y"]).code(0);
    assert!(first.wait_for("</stream:stream>").contains("the password was changed"));
    assert!(!Session::open(&address).log_in(JULIET_X));
    let mut second = Session::open(&address);
    assert!(second.log_in(JULIET_Y));
    folder.run(&["user", "import", "users.csv", "--replace"]).code(0);
    assert!(second.wait_for("</stream:stream>").contains("the password was changed"));
}

#[test]
fn a_stop_tells_sessions_why() {
    let folder = Folder::new();
    let (server, address) = serve_in_the_clear(&folder);
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let mut session = Session::open(&address);
    assert!(session.log_in(JULIET_X));
    server.signal("TERM");
    assert!(session.wait_for("</stream:stream>").contains("<system-shutdown"));
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn a_stop_is_graceful_and_leaves_the_data_to_commands() {
    for signal in ["TERM", "INT"] {
        let folder = Folder::new();
        folder.write_config("");
        let server = folder.serve(&[]);
        folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
        server.signal(signal);
        server.wait_for_log("stopped");
        // Nothing but the one document was printed.
        assert_eq!(server.ended(), (Some(0), "\n".to_owned()));
        assert!(!folder.data().join("magpie.sock").exists());
        assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "a@localhost\n");
    }
}

#[test]
fn a_socket_that_a_killed_server_left_is_no_obstacle() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&[]);
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
    server.signal("KILL");
    assert_eq!(server.ended().0, None);
    assert!(folder.data().join("magpie.sock").exists());
    // What was acknowledged is there, without a server and with the next one.
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "a@localhost\n");
    let _server = folder.serve(&[]);
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "a@localhost\n");
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let folder = Folder::new();
    folder.write_config("");
    let _server = folder.serve(&[]);
    let second = folder.run(&["serve", "--json"]).code(1);
    assert_eq!(second.json()["error"]["kind"], "in-use");
    assert!(second.stderr.contains("a server runs already on the data folder"), "{}", second.stderr);
    // And the first one is still reached.
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!("[[listen]]\naddress = \"{address}\"\nkind = \"c2s\"\n[metrics]\naddress = \"\"\n");
    folder.write("magpie.toml", config);
    let done = folder.run(&["serve"]).code(1);
    assert!(done.stderr.contains(&address.to_string()), "{}", done.stderr);
    // The folder is given back.
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
}

#[test]
fn a_reload_says_what_is_in_force_and_what_needs_a_restart() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&[]);
    assert_eq!(folder.run(&["reload"]).code(0).stdout, "Nothing has changed.\n");
    folder.write_config("domains = [\"localhost\", \"other.example\"]\nadmins = [\"a@localhost\"]\n");
    let report = folder.run(&["reload", "--json"]).code(0).json();
    assert_eq!(report, json!({ "reloaded": ["admins"], "needs_restart": ["domains"], "errors": [] }));
    // A domain that needs a restart is not served yet.
    assert!(folder.run(&["user", "add", "a@other.example", "--password", "x"]).code(1).stderr.contains("not a domain"));
    folder.write_config("admins = []\n");
    server.signal("HUP");
    server.wait_for_log("reloaded what=admins");
    assert_eq!(folder.run(&["status", "--json"]).code(0).json()["running"], true);
}

#[test]
fn a_configuration_that_cannot_be_used_is_not_reloaded_and_the_server_goes_on() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&[]);
    folder.write("magpie.toml", "domain = []\n");
    server.signal("HUP");
    server.wait_for_log("did you mean domains?");
    assert!(server.log().contains("the configuration is as it was"), "{}", server.log());
    folder.write_config("");
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
}

#[test]
fn the_log_filter_changes_while_the_server_runs() {
    let folder = Folder::new();
    folder.write_config("");
    let server = folder.serve(&["--log", "error", "--log-format", "json"]);
    folder.run(&["user", "add", "a@localhost", "--password", "x"]).code(0);
    assert_eq!(server.log(), "");
    assert_eq!(folder.run(&["log", "info"]).code(0).stdout, "The server logs info from now on.\n");
    folder.run(&["user", "add", "b@localhost", "--password", "x"]).code(0);
    server.wait_for_log("account made");
    let line = server.log().lines().find(|line| line.contains("account made")).unwrap().to_owned();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["account"], &event["level"]), (&json!("b@localhost"), &json!("INFO")));
}

#[test]
fn what_needs_a_server_fails_without_one() {
    let folder = Folder::new();
    for arguments in [&["reload", "--json"][..], &["log", "info", "--json"]] {
        let done = folder.run(arguments).code(1);
        assert_eq!(done.json()["error"]["kind"], "not-running");
        assert!(done.stderr.contains("magpie serve"), "{}", done.stderr);
    }
}

#[test]
fn the_service_manager_is_told_of_start_and_stop() {
    let folder = Folder::new();
    folder.write_config("");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut server = std::process::Command::new(assert_cmd::cargo::cargo_bin("magpie"))
        .current_dir(folder.path())
        .arg("serve")
        .env("NOTIFY_SOCKET", &path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut text = [0; 256];
        let read = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..read].to_vec()).unwrap()
    };
    assert_eq!(told().trim_end(), "READY=1");
    let kill = |name: &str| std::process::Command::new("kill").args([name, &server.id().to_string()]).status().unwrap();
    assert!(kill("-HUP").success());
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told().trim_end(), "READY=1");
    assert!(kill("-TERM").success());
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert!(server.wait().unwrap().success());
}
