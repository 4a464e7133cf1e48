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
use magpie_server::modules::pubsub::InRoom;
use magpie_server::server::Server;
use magpie_store::Store;
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

#[test]
fn a_room_that_nobody_is_in_is_in_the_store_alone() {
    let host = Host::start();
    let awake = || host.server.modules.muc.rooms().awake();
    let (mut romeo, room) = (host.login("romeo", "orchard"), "coven@conference.localhost");
    romeo.send(format!("<presence to='{room}/Romeo'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    romeo.wait_for(&["code='201'"]);
    let form = "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_persistentroom'><value>1</value></field></x>";
    let owner = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
    romeo.send(format!("<iq type='set' id='c' to='{room}'>{owner}</iq>"));
    romeo.wait_for(&["id='c'", "type='result'"]);
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
