//! `magpie export` and `magpie import`: XEP-0227 between servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::folder::Folder;
use crate::running::serve_in_the_clear;
use crate::session::Session;

/// An account with all that an account can have, as another server may write it.
const JULIET: &str = "<?xml version='1.0' encoding='UTF-8'?>
<!-- from elsewhere -->
<server-data xmlns='urn:xmpp:pie:0'>
  <host jid='localhost'>
    <user name='juliet' password='R0m30'>
      <query xmlns='jabber:iq:roster'><item jid='romeo@localhost' name='Romeo &amp; co' subscription='both'><group>Friends</group></item></query>
      <presence xmlns='jabber:client' type='subscribe' from='paris@example.net'/>
      <query xmlns='jabber:iq:privacy'><default name='d'/><list name='d'><item type='jid' value='tybalt@localhost' action='deny' order='1'/></list></query>
      <query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage></query>
      <vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN></vCard>
      <archive xmlns='urn:xmpp:pie:0#mam-of-the-future'/>
      <offline-messages>
        <message xmlns='jabber:client' from='romeo@localhost/orchard' to='juliet@localhost' type='chat'>
          <body>Neither, fair saint</body><delay xmlns='urn:xmpp:delay' from='localhost' stamp='2026-07-21T00:32:29Z'>Offline Storage</delay>
        </message>
      </offline-messages>
    </user>
    <user name='romeo'>
      <scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'>
        <iter-count>10000</iter-count><salt>TmFDbE5hQ2xOYUNs</salt>
        <server-key>0pXWGK0GZJ6TR73AIUN3ITYtA1g=</server-key><stored-key>Q6qT/SbybblGCZz8e8eSfCJOQic=</stored-key>
      </scram-credentials>
    </user>
    <user name='nurse'/>
  </host>
  <host jid='elsewhere.example'><user name='x' password='x'/></host>
</server-data>
";

#[test]
fn a_file_of_another_server_is_imported_with_what_cannot_be_kept_said() {
    let folder = Folder::new();
    folder.write("juliet.xml", JULIET);
    let done = folder.run(&["import", "juliet.xml", "--json"]).code(1);
    let report = done.json();
    assert_eq!((&report["created"], &report["failed"]["count"]), (&json!(3), &json!(1)), "{report}");
    assert_eq!(report["without_password"]["first"], json!(["nurse@localhost"]));
    assert_eq!(report["left_out"]["count"], 1, "{report}");
    assert!(done.stderr.contains("elsewhere.example is not a domain of this server"), "{}", done.stderr);
    assert!(done.stderr.contains("mam-of-the-future"), "{}", done.stderr);
    let shown = folder.run(&["user", "show", "juliet@localhost", "--json"]).code(0).json();
    assert_eq!((&shown["roster_items"], &shown["offline_messages"]), (&json!(1), &json!(1)));
    // Again: what is there is left as it is.
    let again = folder.run(&["import", "juliet.xml", "--json"]).code(1).json();
    assert_eq!((&again["created"], &again["existing"]["count"]), (&json!(0), &json!(3)));
    let shown = folder.run(&["user", "show", "juliet@localhost", "--json"]).code(0).json();
    assert_eq!(shown["offline_messages"], 1);
}

#[test]
fn what_is_exported_imports_into_an_empty_server_and_is_exported_the_same() {
    let (one, other) = (Folder::new(), Folder::new());
    one.write_config("");
    other.write_config("");
    one.write("juliet.xml", JULIET);
    one.run(&["import", "juliet.xml"]).code(1);
    let written = one.run(&["export", "--out", "all.xml", "--json"]).code(0).json();
    assert_eq!(written["accounts"], 3);
    let file = one.path().join("all.xml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let exported = fs::read_to_string(&file).unwrap();
    for part in [
        "<user name='juliet'><scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'>",
        "<item jid='romeo@localhost' name='Romeo &amp; co' subscription='both'><group>Friends</group></item>",
        "<presence xmlns='jabber:client' type='subscribe' from='paris@example.net'/>",
        "<item type='jid' value='tybalt@localhost' action='deny' order='1'/>",
        "<storage xmlns='storage:bookmarks'>",
        "<FN>Juliet Capulet</FN>",
        "<stored-key>Q6qT/SbybblGCZz8e8eSfCJOQic=</stored-key>",
        "stamp='2026-07-21T00:32:29Z'",
    ] {
        assert!(exported.contains(part), "{part}: {exported}");
    }
    // Through a running server as on a folder.
    one.run(&["user", "disable", "nurse@localhost"]).code(0);
    one.run(&["export", "--out", "all.xml"]).code(0);
    let exported = fs::read_to_string(&file).unwrap();
    let _servers = (one.serve(&[]), other.serve(&[]));
    one.run(&["export", "--domain", "localhost", "--out", "again.xml"]).code(0);
    assert_eq!(fs::read_to_string(one.path().join("again.xml")).unwrap(), exported);
    other.write("all.xml", &exported);
    let report = other.run(&["import", "all.xml", "--json"]).code(0).json();
    assert_eq!((&report["created"], &report["left_out"]["count"]), (&json!(3), &json!(0)), "{report}");
    assert_eq!(other.run(&["export", "--out", "-"]).code(0).stdout, exported);
    assert_eq!(other.run(&["user", "list", "localhost", "--disabled"]).code(0).stdout, "nurse@localhost\n");
}

#[test]
fn one_account_is_exported_alone_and_a_large_one_piece_by_piece() {
    let folder = Folder::new();
    let message = |n: usize| {
        format!(
            "<message xmlns='jabber:client' from='a@localhost' to='b@localhost'><body>{n} {}</body>\
             <delay xmlns='urn:xmpp:delay' from='localhost' stamp='2026-07-21T00:32:29Z'>Offline Storage</delay></message>",
            "x".repeat(2000)
        )
    };
    let messages: String = (0..2000).map(message).collect();
    let file = format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'><user name='b' password='x'><offline-messages>{messages}\
         </offline-messages></user><user name='c' password='x'/></host></server-data>"
    );
    folder.write("large.xml", file);
    folder.run(&["import", "large.xml"]).code(0);
    let exported = folder.run(&["export", "--user", "b@localhost", "--out", "-"]).code(0).stdout;
    assert!(exported.contains(&format!("<offline-messages>{messages}</offline-messages>")));
    assert!(!exported.contains("name='c'"));
    assert!(folder.run(&["export", "--user", "d@localhost", "--out", "d.xml"]).code(1).stderr.contains("no account"));
    let nothing = folder.run(&["export", "--domain", "example.org", "--out", "d.xml"]).code(1).stderr;
    assert!(
        nothing.contains("example.org is not a domain of this server") && nothing.contains("served: localhost"),
        "{nothing}"
    );
    assert!(!folder.path().join("d.xml").exists() && !folder.path().join("d.xml.part").exists());
}

#[test]
fn a_long_archive_and_large_nodes_go_from_server_to_server_piece_by_piece() {
    let (one, other) = (Folder::new(), Folder::new());
    one.write_config("");
    other.write_config("");
    let result = |n: usize| {
        format!(
            "<result xmlns='urn:xmpp:mam:2' id='{n}'><forwarded xmlns='urn:xmpp:forward:0'>\
             <delay xmlns='urn:xmpp:delay' stamp='20{:02}-07-21T00:32:{:02}Z'/>\
             <message xmlns='jabber:client' from='a{}@localhost/x' to='b@localhost' id='{n}'><body>{}</body></message></forwarded></result>",
            n / 60 / 60,
            n / 60 % 60,
            n % 7,
            "x".repeat(500)
        )
    };
    let large = "y".repeat(200_000);
    let results: String = (0..4_000).map(result).collect();
    let file = format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'><user name='b' password='x'>\
         <prefs xmlns='urn:xmpp:mam:2' default='roster'><always/><never/></prefs>\
         <pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='form'>\
         <field var='pubsub#max_items'><value>max</value></field></x></configure></pubsub>\
         <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'>\
         <item id='1'><x xmlns='x'>{large}</x></item><item id='2'><x xmlns='x'>{large}</x></item></items></pubsub>\
         <archive xmlns='urn:xmpp:pie:0#mam'>{results}</archive></user></host></server-data>"
    );
    one.write("archive.xml", file);
    one.run(&["import", "archive.xml"]).code(0);
    one.run(&["export", "--out", "one.xml"]).code(0);
    let exported = fs::read_to_string(one.path().join("one.xml")).unwrap();
    let ids: Vec<&str> = exported.split("<message ").skip(1).map(|rest| rest.split('\'').nth(7).unwrap()).collect();
    let expected: Vec<String> = (0..4_000).map(|n| n.to_string()).collect();
    assert_eq!(ids, expected);
    assert!(exported.contains(&format!("<item id='1'><x xmlns='x'>{large}</x></item><item id='2'>")));
    assert!(exported.contains("<prefs xmlns='urn:xmpp:mam:2' default='roster'>"));
    let _server = other.serve(&[]);
    other.write("one.xml", &exported);
    other.run(&["import", "one.xml"]).code(0);
    assert_eq!(other.run(&["export", "--out", "-"]).code(0).stdout, exported);
}

#[test]
fn a_broken_file_is_said_with_its_place_and_what_stands_before_it_is_kept() {
    let folder = Folder::new();
    let text = "<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'><user name='a' password='x'/><user name='b' password='x'><vCard";
    folder.write("broken.xml", text);
    let done = folder.run(&["import", "broken.xml"]).code(1);
    assert!(done.stderr.contains("broken.xml, byte "), "{}", done.stderr);
    assert_eq!(folder.run(&["user", "list", "localhost"]).code(0).stdout, "a@localhost\n");
    assert!(folder.run(&["import", "missing.xml"]).code(1).stderr.contains("cannot read missing.xml"));
}

/// Juliet's file, with another password, another contact and none of what the first one has.
const OTHER: &str = "<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'><user name='juliet' password='other'>\
    <query xmlns='jabber:iq:roster'><item jid='nurse@localhost' subscription='both'/></query></user></host></server-data>";

#[test]
fn an_account_that_exists_is_left_and_with_replace_it_becomes_what_the_file_says() {
    let folder = Folder::new();
    folder.write_config("");
    folder.write("juliet.xml", JULIET);
    folder.write("other.xml", OTHER);
    folder.run(&["import", "juliet.xml"]).code(1);
    let exported = |folder: &Folder| folder.run(&["export", "--user", "juliet@localhost", "--out", "-"]).code(0).stdout;
    let before = exported(&folder);
    let skipped = folder.run(&["import", "other.xml"]).code(0);
    assert!(skipped.stderr.contains("juliet@localhost exists already; skipped"), "{}", skipped.stderr);
    assert!(skipped.stderr.contains("magpie import --replace"), "{}", skipped.stderr);
    assert_eq!(exported(&folder), before);

    // What is cut off, or cannot be, erases nothing.
    folder.write("cut.xml", OTHER.split("</user>").next().unwrap());
    folder.write("empty.xml", OTHER.replace("'other'", "''"));
    let cut = folder.run(&["import", "--replace", "cut.xml"]).code(1);
    assert!(cut.stderr.contains("nothing was imported or replaced"), "{}", cut.stderr);
    let refused = folder.run(&["import", "--replace", "empty.xml", "--json"]).code(1).json();
    assert_eq!((&refused["replaced"], &refused["failed"]["count"]), (&json!(0), &json!(1)), "{refused}");
    assert_eq!(exported(&folder), before);

    // On a folder, and through a running server, on which the account has a session.
    folder.run(&["user", "retention", "juliet@localhost", "--days", "7"]).code(0);
    let report = folder.run(&["import", "--replace", "other.xml", "--json"]).code(0).json();
    assert_eq!((&report["created"], &report["replaced"]), (&json!(0), &json!(1)), "{report}");
    let after = exported(&folder);
    assert!(after.contains("nurse@localhost"), "{after}");
    for gone in ["romeo", "Capulet", "tybalt", "fair saint", "bookmarks", "magpie:account"] {
        assert!(!after.contains(gone), "{gone}: {after}");
    }
    let (_server, address) = serve_in_the_clear(&folder);
    let mut session = Session::open(&address);
    assert!(session.log_in("AGp1bGlldABvdGhlcg=="), "PLAIN with the file's password");
    folder.write("back.xml", &before);
    let report = folder.run(&["import", "--replace", "back.xml", "--json"]).code(0).json();
    assert_eq!(report["replaced"], 1, "{report}");
    session.wait_for("</stream:stream>");
    assert_eq!(exported(&folder), before);
    assert!(Session::open(&address).log_in("AGp1bGlldABSMG0zMA=="), "it can be used again");
    let left = folder.run(&["export", "--out", "all.xml", "--json"]).code(0);
    assert_eq!(left.json()["left_out"]["for how long the archive is kept"], 1, "the operator's setting stays");
    assert!(left.stderr.contains("not in the file"), "{}", left.stderr);
}
