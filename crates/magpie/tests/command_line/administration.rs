//! The commands of administrators besides accounts: disabled users, sessions, invites, announcements, the stop.

use serde_json::json;

use crate::folder::Folder;
use crate::running::serve_in_the_clear;
use crate::session::Session;

#[test]
fn the_messages_of_an_account_have_an_age_that_is_shown_and_set() {
    let folder = Folder::new();
    folder.write_config("archive.keep_days = 365");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let course = || {
        let retention = |more: &[&str]| {
            let arguments = [&["user", "retention", "juliet@localhost", "--json"], more].concat();
            folder.run(&arguments).code(0).json()["days"].clone()
        };
        assert_eq!(retention(&[]), 365);
        assert_eq!((retention(&["--days", "30"]), retention(&[])), (json!(30), json!(30)));
        // Its domain keeps nothing longer.
        assert_eq!(retention(&["--days", "1000"]), 365);
        let told = folder.run(&["user", "retention", "juliet@localhost", "--days", "0"]).code(0).stdout;
        assert_eq!(told, "Messages of juliet@localhost are forgotten after 365 days.\n");
        assert!(folder.run(&["user", "retention", "romeo@localhost"]).code(1).stderr.contains("no account"));
    };
    course();
    let _server = folder.serve(&[]);
    course();
}

#[test]
fn an_account_is_disabled_shown_and_enabled_whether_a_server_runs_or_not() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let course = || {
        assert_eq!(folder.run(&["user", "disable", "juliet@localhost"]).code(0).stdout, "Disabled juliet@localhost.\n");
        assert_eq!(folder.run(&["user", "list", "localhost", "--disabled"]).code(0).stdout, "juliet@localhost\n");
        assert!(
            folder
                .run(&["user", "show", "juliet@localhost"])
                .code(0)
                .stdout
                .starts_with("juliet@localhost, disabled\n")
        );
        let domain = folder.run(&["domain", "--json"]).code(0).json();
        assert_eq!((&domain["accounts"], &domain["disabled"]), (&json!(1), &json!(1)));
        assert_eq!(folder.run(&["user", "enable", "juliet@localhost"]).code(0).stdout, "Enabled juliet@localhost.\n");
        assert_eq!(folder.run(&["user", "list", "localhost", "--disabled"]).code(0).stdout, "");
        assert!(folder.run(&["user", "disable", "romeo@localhost"]).code(1).stderr.contains("no account"));
        assert_eq!(folder.run(&["user", "roster", "juliet@localhost", "--json"]).code(0).json()["items"], json!([]));
    };
    course();
    let _server = folder.serve(&[]);
    course();
}

#[test]
fn rooms_are_listed_and_people_shut_out_whether_a_server_runs_or_not() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let course = || {
        assert_eq!(folder.run(&["room", "list"]).code(0).stdout, "");
        let told = folder.run(&["room", "ban", "spam.example", "--reason", "Spam"]).code(0).stdout;
        assert_eq!(told, "Shut spam.example out; removed 0 occupants.\n");
        assert_eq!(folder.run(&["room", "bans"]).code(0).stdout, "spam.example: Spam\n");
        let bans = folder.run(&["room", "bans", "--json"]).code(0).json()["bans"].clone();
        assert_eq!(bans, json!([{ "address": "spam.example", "reason": "Spam" }]));
        assert_eq!(folder.run(&["room", "unban", "spam.example"]).code(0).stdout, "Let spam.example in again.\n");
        assert!(folder.run(&["room", "unban", "spam.example"]).code(1).stderr.contains("not shut out"));
        for command in ["show", "destroy"] {
            let refused = folder.run(&["room", command, "coven@conference.localhost"]).code(1).stderr;
            assert!(refused.contains("there is no room"), "{refused}");
            assert!(folder.run(&["room", command, "coven@chat.example"]).code(1).stderr.contains("not a domain"));
        }
    };
    course();
    let _server = folder.serve(&[]);
    course();
}

#[test]
fn an_invite_is_made_listed_and_taken_back() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "romeo@localhost", "--password", "x"]).code(0);
    let create = ["invite", "create", "--user", "juliet", "--contact", "romeo@localhost", "--expires", "2d", "--json"];
    let made = folder.run(&create).code(0).json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["uri"], json!(format!("xmpp:juliet@localhost?register;preauth={token}")));
    assert_eq!((&made["contacts"], &made["uses"]), (&json!(["romeo@localhost"]), &json!(1)));
    assert_eq!(folder.run(&create).code(1).json()["error"]["kind"], "exists");
    let from = folder.run(&["invite", "create", "--from", "romeo@localhost"]).code(0).stdout;
    assert!(from.starts_with("xmpp:romeo@localhost?roster;preauth=") && from.contains(";ibr=y\n"), "{from}");
    assert!(folder.run(&["invite", "list"]).code(0).stdout.lines().count() == 2);
    folder.run(&["invite", "revoke", made["uri"].as_str().unwrap()]).code(0);
    assert!(folder.run(&["invite", "revoke", token]).code(1).stderr.contains("no such invite"));
    assert_eq!(folder.run(&["invite", "create", "--expires", "soon"]).code(2).stdout, "");
}

#[test]
fn tokens_are_listed_and_taken_back_whether_a_server_runs_or_not() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let course = || {
        assert_eq!(folder.run(&["token", "list", "juliet@localhost"]).code(0).stdout, "");
        assert!(folder.run(&["token", "list", "romeo@localhost"]).code(1).stderr.contains("no account"));
        let all = folder.run(&["token", "revoke", "juliet@localhost"]).code(0).stdout;
        assert_eq!(all, "Took back the tokens of 0 clients of juliet@localhost.\n");
        let one = folder.run(&["token", "revoke", "juliet@localhost", "--client", "phone"]).code(1).stderr;
        assert!(one.contains("no client of juliet@localhost with the id phone has a token"), "{one}");
    };
    course();
    let _server = folder.serve(&[]);
    course();
}

#[test]
fn the_search_index_is_made_anew_whether_a_server_runs_or_not() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let rebuild = || assert!(folder.run(&["search", "rebuild"]).code(0).stdout.contains("anew"));
    rebuild();
    let _server = folder.serve(&[]);
    rebuild();
}

#[test]
fn sessions_announcements_and_the_stop_need_a_running_server() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    for command in [&["session", "list"][..], &["announce", "hi"], &["stop"], &["session", "end", "juliet@localhost"]] {
        let done = folder.run(&[command, &["--json"]].concat()).code(1);
        assert_eq!(done.json()["error"]["kind"], "not-running", "{command:?}");
    }
    let server = folder.serve(&[]);
    assert_eq!(folder.run(&["session", "list"]).code(0).stdout, "");
    assert_eq!(
        folder.run(&["session", "end", "juliet@localhost"]).code(0).stdout,
        "Ended 0 sessions of juliet@localhost.\n"
    );
    assert_eq!(folder.run(&["announce", "hi", "--json"]).code(0).json()["sent"], 0);
    assert_eq!(folder.run(&["announce", "hi", "--domain", "example.net"]).code(1).stdout, "");
    assert_eq!(folder.run(&["stop"]).code(0).stdout, "The server stops.\n");
    server.wait_for_log("stopped");
}

#[test]
fn a_session_is_listed_told_and_ended_and_what_it_reports_can_be_read() {
    let folder = Folder::new();
    let (_server, address) = serve_in_the_clear(&folder);
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    let mut juliet = Session::open(&address);
    assert!(juliet.log_in("AGp1bGlldAB4"));
    juliet.send("<presence/>");
    juliet.wait_for("<presence");
    let listed = folder.run(&["session", "list", "juliet@localhost", "--json"]).code(0).json();
    let session = &listed["sessions"][0];
    assert_eq!((&session["available"], &listed["accounts"]), (&json!(true), &json!(["juliet@localhost"])));
    assert_eq!(folder.run(&["session", "list", "localhost"]).code(0).stdout.lines().count(), 1);
    assert_eq!(folder.run(&["domain", "--json"]).code(0).json()["online"], 1);

    assert_eq!(folder.run(&["announce", "New & better"]).code(0).stdout, "Sent to 1 session.\n");
    juliet.wait_for("<body>New &amp; better</body></message>");

    juliet.send(
        "<iq type='set' id='r'><block xmlns='urn:xmpp:blocking'><item jid='spam.example'>\
         <report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:abuse'><text>Go\naway</text></report></item></block></iq>",
    );
    juliet.wait_for("<iq type='result'");
    let reports = folder.run(&["report", "list"]).code(0).stdout;
    assert!(reports.contains("juliet@localhost reports spam.example: abuse\n    Go\n    away\n"), "{reports}");
    let report = folder.run(&["report", "list", "localhost", "--json"]).code(0).json()["reports"][0].clone();
    let id = report["id"].as_str().unwrap();
    folder.run(&["report", "remove", id]).code(0);
    assert!(folder.run(&["report", "remove", id]).code(1).stderr.contains("no such report"));
    assert_eq!(folder.run(&["report", "list"]).code(0).stdout, "");

    let jid = session["jid"].as_str().unwrap();
    assert_eq!(folder.run(&["session", "end", jid]).code(0).stdout, format!("Ended 1 session of {jid}.\n"));
    juliet.wait_for("<policy-violation");
}

#[test]
fn a_message_of_the_day_and_a_welcome_are_set_shown_and_removed() {
    let folder = Folder::new();
    folder.write_config("");
    folder.run(&["user", "add", "juliet@localhost", "--password", "x"]).code(0);
    assert_eq!(folder.run(&["motd", "show"]).code(0).stdout, "There is none.\n");
    folder.run(&["motd", "set", "Tea at five"]).code(0);
    let _server = folder.serve(&[]);
    assert_eq!(folder.run(&["motd", "show"]).code(0).stdout, "Tea at five\n");
    assert_eq!(folder.run(&["welcome", "show", "--json"]).code(0).json()["text"], json!(null));
    assert_eq!(folder.run(&["welcome", "set", "Hi", "--domain", "localhost"]).code(0).stdout, "It is set.\n");
    assert_eq!(folder.run(&["motd", "remove"]).code(0).stdout, "It is gone.\n");
    assert_eq!(folder.run(&["motd", "set", "x", "--domain", "example.net"]).code(1).stdout, "");
}
