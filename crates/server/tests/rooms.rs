//! Rooms in a whole server: when they are in memory, and whom they wake (XEP-0357), by what the members' bookmarks say (XEP-0492).

#![allow(clippy::unwrap_used)]

#[path = "host/mod.rs"]
mod host;

#[path = "../../magpie/tests/hostile/client.rs"]
#[allow(dead_code)]
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Got, PASSWORD};
use magpie_proto::{BareJid, Stanza};
use magpie_server::accounts::owner;
use magpie_server::admin::{Context, run};
use magpie_server::config::Config;
use magpie_server::modules::muc::banning::{BANNED_MAX, Ban};
use magpie_server::modules::muc::storage::Listed;
use magpie_server::modules::pubsub::InRoom;
use magpie_server::server::Server;
use magpie_store::{Batch, Store};
use tokio::runtime::Runtime;

/// For how long nothing comes where nothing must.
const SILENCE: Duration = Duration::from_millis(250);

struct Host {
    server: Arc<Server>,
    store: Store,
    address: SocketAddr,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Host {
    /// With romeo, juliet and the account of a push service.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let server = runtime.block_on(Server::start(host::config(folder.path()), store.clone())).unwrap();
        for user in ["romeo", "juliet", "app"] {
            runtime.block_on(server.deps.accounts.create(&jid(user), PASSWORD)).unwrap();
        }
        let address = server.addresses()[0].1;
        Self { server, store, address, runtime, _folder: folder }
    }

    fn login(&self, user: &str, resource: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.login(user, resource);
        client
    }

    /// As a room does for a member.
    fn said(&self, user: &str, at: &InRoom<'_>, body: &str) {
        let message = format!(
            "<message type='groupchat' from='{}/romeo' to='{user}@localhost'><body>{body}</body></message>",
            at.room
        );
        let message = Stanza::parse(message.as_bytes()).unwrap();
        let _context = self.runtime.enter();
        self.server.modules.push.message_in_room(&self.server, &jid(user), at, &message);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.runtime.block_on(self.server.shutdown());
    }
}

fn jid(user: &str) -> BareJid {
    BareJid::parse(&format!("{user}@localhost")).unwrap()
}

fn ask(client: &mut Client, id: &str, payload: &str) {
    client.send(format!("<iq type='set' id='{id}'>{payload}</iq>"));
    let answer = client.wait_for(&[&format!("id='{id}'")]);
    assert!(answer.contains("type='result'"), "{answer}");
}

fn log_out(mut client: Client) {
    client.send("</stream:stream>");
    client.is_closed();
}

/// What the service is told next, which it takes.
fn told(app: &mut Client) -> String {
    let push = app.wait_for(&["urn:xmpp:push:0"]);
    let id = push.split(" id='").nth(1).unwrap().split('\'').next().unwrap();
    app.send(format!("<iq type='result' to='localhost' id='{id}'/>"));
    push
}

fn bookmark(room: &BareJid, setting: &str) -> String {
    format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='{room}'>\
         <conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><nick>Jule</nick><extensions>\
         <notify xmlns='urn:xmpp:notification-settings:1'>{setting}</notify></extensions></conference></item></publish></pubsub>"
    )
}

#[test]
fn what_is_said_in_a_room_wakes_a_member_who_sleeps_as_the_bookmark_wants_it() {
    let host = Host::start();
    let mut app = host.login("app", "server");
    let mut juliet = host.login("juliet", "phone");
    ask(&mut juliet, "e", &format!("<enable xmlns='urn:xmpp:push:0' jid='{}' node='n'/>", app.jid));
    let rooms = ["family", "never", "mention", "public"]
        .map(|room| BareJid::parse(&format!("{room}@rooms.localhost")).unwrap());
    let [family, never, mention, public] = rooms.each_ref().map(|room| InRoom { room, private: true, nickname: None });
    let public = InRoom { private: false, nickname: Some("Jule"), ..public };
    ask(&mut juliet, "b1", &bookmark(never.room, "<never/>"));
    ask(
        &mut juliet,
        "b2",
        &bookmark(mention.room, "<never identity-category='client' identity-type='pc'/><on-mention/>"),
    );

    // Who is there is not woken, in the room or not.
    host.said("juliet", &family, "hello");
    assert_eq!(app.next_within(SILENCE), Got::Nothing);
    log_out(juliet);

    host.said("juliet", &family, "hello");
    let push = told(&mut app);
    assert!(push.contains("<publish node='n'>") && push.contains("message-count"), "{push}");
    for (room, body) in [(&never, "Jule!"), (&mention, "hello"), (&public, "hello")] {
        host.said("juliet", room, body);
        assert_eq!(app.next_within(SILENCE), Got::Nothing, "{room:?}");
    }
    for room in [&mention, &public] {
        host.said("juliet", room, "hello Jule");
        told(&mut app);
    }
    // What nobody would look at.
    host.said("juliet", &family, "");
    assert_eq!(app.next_within(SILENCE), Got::Nothing);
}

#[test]
fn a_member_without_devices_costs_no_look_into_the_store() {
    let host = Host::start();
    let room = BareJid::parse("family@rooms.localhost").unwrap();
    let before = host.store.statistics().reads;
    for _ in 0..100 {
        host.said("romeo", &InRoom { room: &room, private: true, nickname: None }, "hello");
    }
    std::thread::sleep(SILENCE);
    assert_eq!(host.store.statistics().reads, before);
}

/// Makes a room that lasts, and is in it.
fn make(client: &mut Client, room: &str, nick: &str) {
    client.send(format!("<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    client.wait_for(&["code='201'"]);
    let form = "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_persistentroom'><value>1</value></field></x>";
    let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
    client.send(format!("<iq type='set' id='c' to='{room}'>{query}</iq>"));
    client.wait_for(&["id='c'", "type='result'"]);
}

/// An owner gives somebody an affiliation.
fn affiliate(client: &mut Client, room: &str, user: &str, affiliation: &str) {
    let item = format!("<item affiliation='{affiliation}' jid='{user}@localhost'/>");
    let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
    client.send(format!("<iq type='set' id='{user}{affiliation}' to='{room}'>{query}</iq>"));
    client.wait_for(&[&format!("id='{user}{affiliation}'"), "type='result'"]);
}

fn enter(client: &mut Client, room: &str, nick: &str) {
    client.send(format!("<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    client.wait_for(&["<subject"]);
}

/// The accounts with an affiliation to a room, as the owner is told.
fn listed(client: &mut Client, room: &str, affiliation: &str, id: &str) -> Vec<String> {
    let query =
        format!("<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='{affiliation}'/></query>");
    client.send(format!("<iq type='get' id='{id}' to='{room}'>{query}</iq>"));
    let answer = client.wait_for(&[&format!("id='{id}'"), "type='result'"]);
    answer.split(" jid='").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned()).collect()
}

#[test]
fn an_account_that_is_removed_is_nothing_to_rooms_any_more_unless_it_is_banned() {
    let host = Host::start();
    let mut romeo = host.login("romeo", "orchard");
    for (room, affiliation) in [("coven", "member"), ("lair", "admin"), ("moor", "outcast")] {
        let room = format!("{room}@conference.localhost");
        make(&mut romeo, &room, "Romeo");
        affiliate(&mut romeo, &room, "juliet", affiliation);
    }
    let mut juliet = host.login("juliet", "phone");
    enter(&mut juliet, "coven@conference.localhost", "Juliet");
    make(&mut juliet, "tomb@conference.localhost", "Juliet");
    affiliate(&mut juliet, "tomb@conference.localhost", "romeo", "admin");
    let muc = &host.server.modules.muc;
    let rooms = |user: &str| host.runtime.block_on(muc.rooms().storage.rooms_with(&jid(user))).unwrap().len();
    assert_eq!((rooms("juliet"), rooms("romeo")), (3, 4));
    let staying = |user: &str| host.runtime.block_on(muc.rooms().storage.rooms_of(&jid(user))).unwrap().len();
    assert_eq!(staying("juliet"), 2);

    juliet.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
    juliet.wait_for(&["id='r'", "type='result'"]);
    assert_eq!((rooms("juliet"), staying("juliet")), (0, 0));
    for (room, affiliation, left) in [
        ("coven", "member", &[][..]),
        ("lair", "admin", &[]),
        // A ban is the room's own matter, and the room of who is gone is its admin's.
        ("moor", "outcast", &["juliet@localhost"]),
        ("tomb", "owner", &["romeo@localhost"]),
    ] {
        let room = format!("{room}@conference.localhost");
        assert_eq!(listed(&mut romeo, &room, affiliation, &format!("l-{affiliation}")), left, "{room}");
    }
}

#[test]
fn an_account_that_is_removed_while_no_server_runs_is_nothing_to_rooms_either() {
    let host = Host::start();
    let mut romeo = host.login("romeo", "orchard");
    make(&mut romeo, "coven@conference.localhost", "Romeo");
    affiliate(&mut romeo, "coven@conference.localhost", "juliet", "owner");
    make(&mut romeo, "tomb@conference.localhost", "Romeo");
    log_out(romeo);
    // With rooms that sleep it is as if nobody held them.
    let context = Context::new(host.server.deps.accounts.clone(), Config::clone(&host.server.config()));
    let arguments = serde_json::json!({ "jid": "romeo@localhost" });
    host.runtime.block_on(run(&context, "user_remove", arguments)).unwrap();
    let storage = &host.server.modules.muc.rooms().storage;
    let room = |local: &str| {
        let address = BareJid::parse(&format!("{local}@conference.localhost")).unwrap();
        host.runtime.block_on(storage.read(&address)).unwrap()
    };
    let coven = room("coven").unwrap();
    assert_eq!((coven.standings().count(), coven.stays().count()), (1, 0));
    assert!(coven.standing(&jid("juliet")).is_some() && room("tomb").is_none());
    assert!(host.runtime.block_on(storage.rooms_with(&jid("romeo"))).unwrap().is_empty());
}

#[test]
fn of_the_messages_of_a_room_the_newest_thousand_are_counted_as_unread() {
    let host = Host::start();
    let (mut romeo, room) = (host.login("romeo", "orchard"), "coven@conference.localhost");
    make(&mut romeo, room, "Romeo");
    affiliate(&mut romeo, room, "juliet", "member");
    let mut juliet = host.login("juliet", "phone");
    enter(&mut juliet, room, "Juliet");
    log_out(juliet);
    romeo.wait_for(&["type='unavailable'", "Juliet"]);
    let mut said = 0;
    for (until, expected) in [(900, 900), (1100, 1000)] {
        while said < until {
            romeo.send(format!("<message type='groupchat' to='{room}' id='m{said}'><body>x</body></message>"));
            romeo.wait_for(&[&format!("id='m{said}'")]);
            said += 1;
        }
        let unread = host.runtime.block_on(host.server.modules.muc.conversations(&jid("juliet"))).unwrap();
        assert_eq!((unread.len(), unread[0].1.new), (1, expected), "of {said}");
    }
}

#[test]
fn a_session_is_in_so_many_rooms_and_has_sent_presence_to_so_many_others_and_no_more() {
    let host = Host::start();
    let mut romeo = host.login("romeo", "orchard");
    for n in 0..1023 {
        romeo.send(format!("<presence to='witch{n}@localhost'/>"));
    }
    make(&mut romeo, "coven@conference.localhost", "Romeo");
    romeo.send(
        "<presence to='lair@conference.localhost/Romeo' id='p'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
    );
    let refused = romeo.wait_for(&["id='p'"]);
    assert!(refused.contains("resource-constraint"), "{refused}");
    // One place is free again.
    romeo.send("<presence to='witch1@localhost' type='unavailable'/>");
    enter(&mut romeo, "lair@conference.localhost", "Romeo");
}

#[test]
fn so_many_addresses_are_shut_out_of_the_rooms_of_a_domain_and_no_more() {
    let host = Host::start();
    let service = BareJid::parse("conference.localhost").unwrap();
    let bans = host.store.map::<Ban>("rooms-bans");
    let mut batch = Batch::new();
    (1..BANNED_MAX)
        .for_each(|n| bans.put(&mut batch, &owner(&service), &format!("witch{n}@localhost"), &Ban::default()));
    host.store.commit(batch).wait().unwrap();
    let muc = &host.server.modules.muc;
    let ban = |user: &str| host.runtime.block_on(muc.ban(&service, &jid(user), &Ban::default())).unwrap().is_some();
    assert_eq!((ban("last"), ban("one-more")), (true, false));
    assert!(host.runtime.block_on(muc.unban(&service, &jid("witch1"))).unwrap());
    assert!(ban("one-more"));
}

#[test]
fn a_search_for_rooms_looks_at_twenty_thousand() {
    let host = Host::start();
    let service = BareJid::parse("conference.localhost").unwrap();
    let listed = host.store.map::<Listed>("rooms-listed");
    let mut batch = Batch::new();
    let room = Listed { name: "A Dark Cave".into(), ..Listed::default() };
    (0..20_700).for_each(|n| listed.put(&mut batch, &owner(&service), &format!("cave{n:05}"), &room));
    host.store.commit(batch).wait().unwrap();
    let mut romeo = host.login("romeo", "orchard");
    let field = |var: &str, value: &str| format!("<field var='{var}'><value>{value}</value></field>");
    let form = field("FORM_TYPE", "urn:xmpp:channel-search:0:search-params") + &field("q", "cave");
    let search = format!(
        "<search xmlns='urn:xmpp:channel-search:0:search'><x xmlns='jabber:x:data' type='submit'>{form}</x></search>"
    );
    romeo.send(format!("<iq type='get' id='s' to='{service}'>{search}</iq>"));
    let found = romeo.wait_for(&["id='s'", "type='result'"]);
    assert!(found.contains("<count>20000</count>"), "{}", &found[..500]);
    // But who looks for company looks at none of those in which nobody is.
    make(&mut romeo, "cave99999@conference.localhost", "Romeo");
    let search = search.replace("</x>", &(field("min_users", "1") + "</x>"));
    romeo.send(format!("<iq type='get' id='s1' to='{service}'>{search}</iq>"));
    let found = romeo.wait_for(&["id='s1'", "type='result'"]);
    assert!(found.contains("<count>1</count>") && found.contains("cave99999@"), "{found}");
}

#[test]
fn so_many_are_invited_by_one_user_and_it_is_told_how_many_are_not() {
    let host = Host::start();
    let (mut romeo, room) = (host.login("romeo", "orchard"), "coven@conference.localhost");
    let mut juliet = host.login("juliet", "phone");
    juliet.send("<presence/>");
    make(&mut romeo, room, "Romeo");
    let form =
        "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_membersonly'><value>1</value></field></x>";
    romeo.send(format!(
        "<iq type='set' id='m' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query></iq>"
    ));
    romeo.wait_for(&["id='m'", "type='result'"]);
    let mut add = |id: &str, users: &[String], all_are_invited: bool| {
        let items: String =
            users.iter().map(|user| format!("<item affiliation='member' jid='{user}@localhost'/>")).collect();
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query>");
        romeo.send(format!("<iq type='set' id='{id}' to='{room}'>{query}</iq>"));
        if !all_are_invited {
            romeo.wait_for(&["<message", &format!("from='{room}'"), "of 900 new members were not invited"]);
        }
        romeo.wait_for(&[&format!("id='{id}'"), "type='result'"]);
    };
    // The last of a long list is invited as the first is.
    let mut users: Vec<String> = (0..999).map(|n| format!("witch{n}")).collect();
    users.push("juliet".into());
    add("a1", &users, true);
    juliet.wait_for(&["<invite"]);
    let users: Vec<String> = (1000..1900).map(|n| format!("witch{n}")).collect();
    add("a2", &users, false);
    romeo.send(format!(
        "<message to='{room}' id='i'><x xmlns='http://jabber.org/protocol/muc#user'>{}</x></message>",
        "<invite to='juliet@localhost'/>".repeat(20)
    ));
    let refused = romeo.wait_for(&["id='i'", "type='error'"]);
    assert!(refused.contains("resource-constraint"), "{refused}");
    assert_eq!(listed(&mut romeo, room, "member", "l").len(), 1900);
}

#[test]
fn a_room_that_nobody_is_in_is_in_the_store_alone() {
    let host = Host::start();
    let awake = || host.server.modules.muc.rooms().awake();
    let (mut romeo, room) = (host.login("romeo", "orchard"), "coven@conference.localhost");
    make(&mut romeo, room, "Romeo");
    assert_eq!(awake(), 1);

    romeo.send(format!("<presence to='{room}/Romeo' type='unavailable'/>"));
    romeo.wait_for(&["type='unavailable'"]);
    // Asked for, it is read and let go again.
    for id in ["d1", "d2"] {
        romeo.send(format!(
            "<iq type='get' id='{id}' to='{room}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        ));
        romeo.wait_for(&[&format!("id='{id}'"), "muc_persistent"]);
        assert_eq!(awake(), 0);
    }
}
