//! XEP-0402 §6, XEP-0411, XEP-0398, XEP-0292: what is the same in two places is in both once its client is answered.

use std::time::Duration;

use magpie_store::Faults;

use super::*;

/// SHA-1 of `abc` (FIPS 180-2 appendix A), which is `YWJj` in base64.
const ABC: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";

const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";

fn private(client: &mut Client) -> String {
    ask(client, "get", None, "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>")
}

fn store_privately(client: &mut Client, room: &str) {
    let storage = format!("<storage xmlns='storage:bookmarks'><conference jid='{room}'/></storage>");
    done(&ask(client, "set", None, &format!("<query xmlns='jabber:iq:private'>{storage}</query>")));
}

fn vcard(client: &mut Client) -> String {
    ask(client, "get", None, "<vCard xmlns='vcard-temp'/>")
}

fn store_vcard(client: &mut Client, name: &str, photo: &str) {
    let vcard = format!("<vCard xmlns='vcard-temp'><FN>{name}</FN>{photo}</vCard>");
    done(&ask(client, "set", None, &vcard));
}

fn delete(client: &mut Client, node: &str) {
    done(&ask(client, "set", None, &format!("<pubsub xmlns='{PUBSUB}#owner'><delete node='{node}'/></pubsub>")));
}

/// With a store that takes its time for each transaction, so that whatever comes in a later one is missed.
#[test]
fn another_session_that_asks_upon_the_answer_finds_what_was_stored_in_each_place() {
    let faults = Faults::new();
    let host = Host::start_on(Store::memory_with(faults.clone()), &["romeo"]);
    let (mut one, mut other) = (host.connect_as("romeo", "one"), host.connect_as("romeo", "other"));
    faults.slow_commits(Duration::from_millis(20));
    for n in 0..5 {
        let room = format!("{n}@rooms.example");
        done(&publish(&mut one, BOOKMARKS, &room, &format!("<conference xmlns='{BOOKMARKS}'/>")));
        let found = private(&mut other);
        assert!(found.contains(&format!("jid='{room}'")), "{found}");
        let found = items(&mut other, None, "storage:bookmarks", "");
        assert!(found.contains(&format!("jid='{room}'")), "{found}");

        let room = format!("stored{n}@rooms.example");
        store_privately(&mut one, &room);
        let found = items(&mut other, None, BOOKMARKS, "");
        assert!(found.contains(&format!("<item id='{room}'>")) && found.matches("<item ").count() == 1, "{found}");
        let found = items(&mut other, None, "storage:bookmarks", "");
        assert!(found.contains(&format!("jid='{room}'")), "{found}");

        let room = format!("all{n}@rooms.example");
        let storage = format!("<storage xmlns='storage:bookmarks'><conference jid='{room}'/></storage>");
        done(&publish(&mut one, "storage:bookmarks", "current", &storage));
        let found = private(&mut other) + &items(&mut other, None, BOOKMARKS, "");
        assert!(found.contains(&format!("jid='{room}'")) && found.contains(&format!("id='{room}'")), "{found}");
        let retract = format!("<retract node='{BOOKMARKS}'><item id='{room}'/></retract>");
        done(&ask(&mut one, "set", None, &format!("<pubsub xmlns='{PUBSUB}'>{retract}</pubsub>")));
        let found = private(&mut other);
        assert!(!found.contains("<conference"), "{found}");

        store_vcard(&mut one, &format!("Romeo {n}"), "<PHOTO><TYPE>image/png</TYPE><BINVAL>YWJj</BINVAL></PHOTO>");
        let found = items(&mut other, None, "urn:xmpp:vcard4", "");
        assert!(found.contains(&format!("<text>Romeo {n}</text>")), "{found}");
        let found = items(&mut other, None, "urn:xmpp:avatar:metadata", "");
        assert!(found.contains(&format!("id='{ABC}'")), "{found}");
        assert!(items(&mut other, None, "urn:xmpp:avatar:data", "").contains(">YWJj<"));

        delete(&mut one, "urn:xmpp:avatar:metadata");
        assert!(!vcard(&mut other).contains("<BINVAL>"));
        let info = format!(
            "<metadata xmlns='urn:xmpp:avatar:metadata'><info id='{ABC}' type='image/png' bytes='3'/></metadata>"
        );
        done(&publish(&mut one, "urn:xmpp:avatar:metadata", ABC, &info));
        let found = vcard(&mut other);
        assert!(found.contains("<BINVAL>YWJj</BINVAL>"), "{found}");

        let card = "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn><text>R. {n}</text></fn></vcard>";
        done(&publish(&mut one, "urn:xmpp:vcard4", "current", &card.replace("{n}", &n.to_string())));
        let found = vcard(&mut other);
        assert!(found.contains(&format!("<FN>R. {n}</FN>")) && found.contains("<BINVAL>"), "{found}");
    }
}

#[test]
fn two_sessions_that_store_at_once_leave_the_same_in_each_place() {
    let host = Host::start(&["romeo"]);
    let (mut one, mut other) = (host.connect_as("romeo", "one"), host.connect_as("romeo", "other"));
    for n in 0..40 {
        let conference = format!("<conference xmlns='{BOOKMARKS}'/>");
        let publish = format!("<publish node='{BOOKMARKS}'><item id='{n}@a'>{conference}</item></publish>");
        one.send(format!("<iq type='set' id='asked'><pubsub xmlns='{PUBSUB}'>{publish}</pubsub></iq>"));
        store_privately(&mut other, &format!("{n}@b"));
        one.wait_for(&["<iq ", "id='asked'"]);
        let rooms = |answer: &str, attribute: &str| {
            let mut rooms: Vec<String> =
                answer.split(attribute).skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned()).collect();
            rooms.sort();
            rooms
        };
        let kept = rooms(&private(&mut one), " jid='");
        assert!(kept.contains(&format!("{n}@b")), "{kept:?}");
        assert_eq!(kept, rooms(&items(&mut one, None, BOOKMARKS, ""), "<item id='"));
        assert_eq!(kept, rooms(&items(&mut one, None, "storage:bookmarks", ""), " jid='"));
    }
}

#[test]
fn of_an_element_that_is_stored_twice_at_once_the_last_one_counts_everywhere() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    let storage = |room: &str| format!("<storage xmlns='storage:bookmarks'><conference jid='{room}'/></storage>");
    let both = format!("<query xmlns='jabber:iq:private'>{}{}</query>", storage("first@a"), storage("last@a"));
    done(&ask(&mut romeo, "set", None, &both));
    for found in
        [private(&mut romeo), items(&mut romeo, None, BOOKMARKS, ""), items(&mut romeo, None, "storage:bookmarks", "")]
    {
        assert!(found.contains("'last@a'") && !found.contains("first@a"), "{found}");
    }
}

#[test]
fn a_change_that_cannot_be_kept_leaves_every_place_as_it_was() {
    let faults = Faults::new();
    let host = Host::start_on(Store::memory_with(faults.clone()), &["romeo"]);
    let mut romeo = host.connect("romeo");
    store_privately(&mut romeo, "a@rooms.example");
    store_vcard(&mut romeo, "Romeo", "");
    let everywhere = |romeo: &mut Client| {
        let nodes = [BOOKMARKS, "storage:bookmarks", "urn:xmpp:vcard4", "urn:xmpp:avatar:metadata"];
        nodes.map(|node| items(romeo, None, node, "")).concat() + &private(romeo) + &vcard(romeo)
    };
    let before = everywhere(&mut romeo);
    let photo = "<PHOTO><TYPE>image/png</TYPE><BINVAL>YWJj</BINVAL></PHOTO>";
    for change in [
        "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='b@c'/></storage></query>"
            .to_owned(),
        format!("<vCard xmlns='vcard-temp'><FN>R.</FN>{photo}</vCard>"),
        format!(
            "<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'><item id='b@c'><conference xmlns='{BOOKMARKS}'/></item></publish></pubsub>"
        ),
        format!("<pubsub xmlns='{PUBSUB}#owner'><purge node='{BOOKMARKS}'/></pubsub>"),
    ] {
        faults.fail_commits(1, magpie_store::StoreError::Full);
        refused(&ask(&mut romeo, "set", None, &change), &["resource-constraint"]);
        assert_eq!(everywhere(&mut romeo), before, "{change}");
    }
}
