//! What publish-subscribe promises of cost and limits, and what is found of the times before it: a server in this process.

#![allow(clippy::unwrap_used)]

#[path = "../host/mod.rs"]
mod host;

#[path = "../../../magpie/tests/hostile/client.rs"]
#[allow(dead_code)]
mod client;
mod copies;
mod features;

use std::net::SocketAddr;
use std::sync::Arc;

use client::{Client, PASSWORD};
use magpie_proto::{BareJid, Element};
use magpie_server::accounts::owner;
use magpie_server::config::Config;
use magpie_server::modules::pubsub::storage::Item;
use magpie_server::server::Server;
use magpie_store::{Batch, Record, Store};
use tokio::runtime::Runtime;

struct Host {
    server: Arc<Server>,
    store: Store,
    address: SocketAddr,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(users: &[&str]) -> Self {
        Self::start_with(users, |_| {})
    }

    fn start_on(store: Store, users: &[&str]) -> Self {
        Self::start_as(store, users, |_| {})
    }

    fn start_with(users: &[&str], set: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(Store::memory(), users, set)
    }

    fn start_as(store: Store, users: &[&str], set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = host::config(folder.path());
        set(&mut config);
        let server = runtime.block_on(Server::start(config, store.clone())).unwrap();
        let address = server.addresses()[0].1;
        let host = Self { server, store, address, runtime, _folder: folder };
        users.iter().for_each(|user| host.create(user));
        host
    }

    fn create(&self, user: &str) {
        self.runtime.block_on(self.server.deps.accounts.create(&account(user), PASSWORD)).unwrap();
    }

    fn connect(&self, user: &str) -> Client {
        self.connect_as(user, user)
    }

    fn connect_as(&self, user: &str, resource: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.login(user, resource);
        client
    }

    fn reads(&self) -> u64 {
        self.store.statistics().reads
    }

    /// Puts a row of an account into the store, as if it had always been there.
    fn put<T: Record>(&self, map: &'static str, user: &str, key: &str, record: &T) {
        let mut batch = Batch::new();
        self.store.map::<T>(map).put(&mut batch, &owner(&account(user)), key, record);
        self.runtime.block_on(async { self.store.commit(batch).await }).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.runtime.block_on(self.server.shutdown());
    }
}

fn account(user: &str) -> BareJid {
    BareJid::parse(&format!("{user}@localhost")).unwrap()
}

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const SERVICE: &str = "pubsub.localhost";

/// Asks the client's own account, or another place: the answer.
fn ask(client: &mut Client, kind: &str, to: Option<&str>, payload: &str) -> String {
    let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
    client.send(format!("<iq type='{kind}' id='asked'{to}>{payload}</iq>"));
    client.wait_for(&["<iq ", "id='asked'"])
}

fn publish(client: &mut Client, node: &str, id: &str, payload: &str) -> String {
    let publish = format!("<publish node='{node}'><item id='{id}'>{payload}</item></publish>");
    ask(client, "set", None, &format!("<pubsub xmlns='{PUBSUB}'>{publish}</pubsub>"))
}

fn items(client: &mut Client, to: Option<&str>, node: &str, more: &str) -> String {
    ask(client, "get", to, &format!("<pubsub xmlns='{PUBSUB}'><items node='{node}'/>{more}</pubsub>"))
}

fn configured(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(var, value)| format!("<field var='pubsub#{var}'><value>{value}</value></field>"));
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{PUBSUB}#node_config</value></field>{}</x>",
        fields.collect::<String>()
    )
}

fn create(client: &mut Client, to: Option<&str>, node: &str, fields: &[(&str, &str)]) -> String {
    let configure = configured(fields);
    ask(
        client,
        "set",
        to,
        &format!("<pubsub xmlns='{PUBSUB}'><create node='{node}'/><configure>{configure}</configure></pubsub>"),
    )
}

fn done(answer: &str) {
    assert!(answer.contains("type='result'"), "{answer}");
}

fn refused(answer: &str, conditions: &[&str]) {
    assert!(answer.contains("type='error'"), "{answer}");
    for condition in conditions {
        assert!(answer.contains(&format!("<{condition} ")), "no {condition}: {answer}");
    }
}

/// Presence of a client that wants to hear of bookmarks and of `urn:a`; the server asks about its hash once.
fn come_and_want(client: &mut Client, ver: &str) {
    client.send(format!(
        "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='{ver}'/></presence>"
    ));
    let question = client.wait_for(&["<iq ", "disco#info"]);
    let id = question.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    client.send(format!(
        "<iq type='result' to='localhost' id='{id}'><query xmlns='http://jabber.org/protocol/disco#info'>\
         <feature var='urn:xmpp:bookmarks:1+notify'/><feature var='urn:a+notify'/></query></iq>"
    ));
}

/// Until nobody has read anything for a while: how much was read until then.
fn settle(host: &Host) -> u64 {
    let (mut before, mut same) = (host.reads(), 0);
    while same < 3 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = host.reads();
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    before
}

fn see_each_other(host: &Host, one: &str, other: &str) {
    let (mut a, mut b) = (host.connect(one), host.connect(other));
    for (from, to) in [(&mut a, other), (&mut b, one)] {
        from.send("<presence/>");
        from.send(format!(
            "<presence type='subscribe' to='{to}@localhost'/><presence type='subscribed' to='{to}@localhost'/>"
        ));
        from.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
        from.wait_for(&["id='p'"]);
    }
    for client in [&mut a, &mut b] {
        client.send("</stream:stream>");
    }
    while [one, other].iter().any(|user| !host.server.registry().sessions(&account(user)).is_empty()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_login_asks_the_store_about_contacts_who_have_something_to_send_and_about_no_others() {
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    let mut users: Vec<&str> = names.iter().map(String::as_str).collect();
    users.push("romeo");
    let host = Host::start(&users);
    names.iter().for_each(|name| see_each_other(&host, "romeo", name));
    let login = |ver: &str| {
        let before = settle(&host);
        let mut romeo = host.connect("romeo");
        romeo.send("<presence/>");
        let without = settle(&host) - before;
        come_and_want(&mut romeo, ver);
        (settle(&host) - before - without, romeo)
    };
    let (first, _) = login("first");
    assert!(first <= 100, "the first login reads once or twice for each contact: {first}");
    let (second, _) = login("second");
    assert!(second <= 3, "a second one reads nothing for them: {second}");

    let mut c0 = host.connect("c0");
    done(&publish(&mut c0, "urn:a", "1", "<x xmlns='urn:a'/>"));
    done(&publish(&mut c0, "urn:b", "1", "<x xmlns='urn:b'/>"));
    let (third, mut romeo) = login("third");
    let event = romeo.wait_for(&["#event"]);
    assert!(event.contains("node='urn:a'") && event.contains("from='c0@localhost'"), "{event}");
    assert!(third <= 12, "what is sent is read, and nothing else: {third}");

    // A node that does not want to greet any more does not.
    let silent = configured(&[("send_last_published_item", "never")]);
    done(&ask(
        &mut c0,
        "set",
        None,
        &format!("<pubsub xmlns='{PUBSUB}#owner'><configure node='urn:a'>{silent}</configure></pubsub>"),
    ));
    let (fourth, _) = login("fourth");
    assert!(fourth <= 6, "its nodes are looked at once more: {fourth}");
}

#[test]
fn bookmarks_and_cards_from_before_there_were_nodes_are_found_there() {
    let host = Host::start(&["romeo", "juliet"]);
    let bookmarks =
        "<storage xmlns='storage:bookmarks'><conference jid='a@rooms.example' name='A' autojoin='true'/></storage>";
    host.put("private", "romeo", "{storage:bookmarks}storage", &bookmarks.to_owned());
    let (mut romeo, mut juliet) = (host.connect("romeo"), host.connect("juliet"));
    // Somebody else's question brings nothing about.
    refused(&items(&mut juliet, Some("romeo@localhost"), "urn:xmpp:bookmarks:1", ""), &["item-not-found"]);
    let found = items(&mut romeo, None, "urn:xmpp:bookmarks:1", "");
    assert!(
        found
            .contains("<item id='a@rooms.example'><conference xmlns='urn:xmpp:bookmarks:1' name='A' autojoin='true'/>"),
        "{found}"
    );
    assert!(items(&mut romeo, None, "storage:bookmarks", "").contains("jid='a@rooms.example'"));
    refused(&items(&mut juliet, Some("romeo@localhost"), "urn:xmpp:bookmarks:1", ""), &["not-allowed", "closed-node"]);

    // The other way round: nodes from elsewhere, and a client that knows private storage alone.
    done(&publish(&mut juliet, "storage:bookmarks", "current", bookmarks));
    let mut batch = Batch::new();
    host.store.map::<String>("private").clear(&mut batch, &owner(&account("juliet")));
    host.runtime.block_on(async { host.store.commit(batch).await }).unwrap();
    let stored =
        ask(&mut juliet, "get", None, "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>");
    assert!(stored.contains("<conference jid='a@rooms.example'"), "{stored}");

    let card = b"\n<vCard xmlns='vcard-temp'><FN>Romeo</FN></vCard>".to_vec();
    let mut batch = Batch::new();
    host.store.value::<Vec<u8>>("vcard").put(&mut batch, &owner(&account("romeo")), &card);
    host.runtime.block_on(async { host.store.commit(batch).await }).unwrap();
    let found = items(&mut juliet, Some("romeo@localhost"), "urn:xmpp:vcard4", "");
    assert!(found.contains("<fn><text>Romeo</text></fn>"), "{found}");
}

/// Items 0, 1, … as they would have been published one after another.
fn fill(host: &Host, user: &str, node: &str, count: u64) {
    let (items, ids) = (host.store.map::<Item>("pubsub-items"), host.store.map::<String>("pubsub-ids"));
    let (owner, mut batch) = (owner(&account(user)), Batch::new());
    for n in 0..count {
        let payload = Element::new("a", "b");
        let place = format!("{node}\u{1}{:016x}", host.store.next_id().0);
        items.put(&mut batch, &owner, &place, &Item::new(&n.to_string(), &account(user), Some(&payload)));
        ids.put(&mut batch, &owner, &format!("{node}\u{1}{n}"), &place);
    }
    host.runtime.block_on(async { host.store.commit(batch).await }).unwrap();
}

#[test]
fn rooms_beyond_as_many_as_are_converted_stay_in_private_storage() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    let rooms: String = (0..1001).map(|n| format!("<conference jid='{n}@rooms.example'/>")).collect();
    let storage = format!("<storage xmlns='storage:bookmarks'>{rooms}</storage>");
    let stored = format!("<query xmlns='jabber:iq:private'>{storage}</query>");
    done(&ask(&mut romeo, "set", None, &stored));
    let page = items(
        &mut romeo,
        None,
        "urn:xmpp:bookmarks:1",
        "<set xmlns='http://jabber.org/protocol/rsm'><max>1</max></set>",
    );
    assert!(page.contains("<count>1000</count>"), "{page}");
    let conference = "<conference xmlns='urn:xmpp:bookmarks:1' name='changed'/>";
    done(&publish(&mut romeo, "urn:xmpp:bookmarks:1", "5@rooms.example", conference));
    let kept =
        ask(&mut romeo, "get", None, "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>");
    assert_eq!(kept.matches("<conference ").count(), 1001);
}

#[test]
fn subscriptions_and_affiliations_are_found_at_whichever_of_a_services_nodes_they_are() {
    let host = Host::start(&["romeo", "juliet"]);
    let (mut romeo, mut juliet) = (host.connect("romeo"), host.connect("juliet"));
    for n in 0..520 {
        done(&create(&mut romeo, Some(SERVICE), &format!("n{n:03}"), &[]));
    }
    let subscribe =
        |node: &str| format!("<pubsub xmlns='{PUBSUB}'><subscribe node='{node}' jid='juliet@localhost'/></pubsub>");
    done(&ask(&mut juliet, "set", Some(SERVICE), &subscribe("n001")));
    done(&ask(&mut juliet, "set", Some(SERVICE), &subscribe("n519")));
    let asked = |client: &mut Client, what: &str| {
        ask(client, "get", Some(SERVICE), &format!("<pubsub xmlns='{PUBSUB}'><{what}/></pubsub>"))
    };
    let before = host.reads();
    let found = asked(&mut juliet, "subscriptions");
    assert!(found.contains("node='n001'") && found.contains("node='n519'"), "{found}");
    assert!(host.reads() - before <= 5, "nodes that do not concern the asker are not read");
    assert!(!asked(&mut juliet, "affiliations").contains("<affiliation "));

    let affiliation = "<affiliation jid='juliet@localhost' affiliation='publisher'/>";
    let affiliate =
        format!("<pubsub xmlns='{PUBSUB}#owner'><affiliations node='n519'>{affiliation}</affiliations></pubsub>");
    done(&ask(&mut romeo, "set", Some(SERVICE), &affiliate));
    assert!(asked(&mut juliet, "affiliations").contains("<affiliation node='n519' affiliation='publisher'/>"));
    for node in ["n001", "n519"] {
        done(&ask(
            &mut romeo,
            "set",
            Some(SERVICE),
            &format!("<pubsub xmlns='{PUBSUB}#owner'><delete node='{node}'/></pubsub>"),
        ));
    }
    assert!(!asked(&mut juliet, "subscriptions").contains("<subscription "));
    assert!(!asked(&mut juliet, "affiliations").contains("<affiliation "));
}

#[test]
fn a_node_of_ten_million_items_is_refused_and_one_of_as_many_as_there_may_be_is_read_in_pages() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    refused(&create(&mut romeo, None, "huge", &[("max_items", "10000000")]), &["not-acceptable"]);
    done(&create(
        &mut romeo,
        None,
        "large",
        &[("max_items", "max"), ("publish_node_full", "reject"), ("access_model", "open")],
    ));
    fill(&host, "romeo", "large", 9_990);
    let rest = (9_990..10_000).map(|n| format!("<item id='{n}'><a xmlns='b'/></item>"));
    let publish_rest = format!("<publish node='large'>{}</publish>", rest.collect::<String>());
    done(&ask(&mut romeo, "set", None, &format!("<pubsub xmlns='{PUBSUB}'>{publish_rest}</pubsub>")));
    refused(&publish(&mut romeo, "large", "one more", "<a xmlns='b'/>"), &["not-allowed", "max-items-exceeded"]);
    done(&publish(&mut romeo, "large", "9999", "<a xmlns='again'/>"));

    // Without a page the newest, and what is before them is said.
    let newest = items(&mut romeo, None, "large", "");
    assert_eq!(newest.matches("<item ").count(), 512);
    assert!(newest.contains("<count>10000</count>") && newest.contains("<first index='9488'>9488</first>"), "{newest}");
    // A page costs as many reads at the end as at the beginning.
    let pages = [
        ("", "<first index='0'>0<"),
        ("<after>4999</after>", "<first>5000<"),
        ("<after>9899</after>", "<first>9900<"),
        ("<before/>", "<first index='9950'>9950<"),
    ];
    let costs = pages.map(|(after, first)| {
        let before = host.reads();
        let set = format!("<set xmlns='http://jabber.org/protocol/rsm'><max>50</max>{after}</set>");
        let page = items(&mut romeo, None, "large", &set);
        assert_eq!(page.matches("<item ").count(), 50);
        assert!(page.contains(first) && page.contains("<count>10000</count>"), "{page}");
        host.reads() - before
    });
    assert!(costs.iter().all(|reads| *reads <= 6), "{costs:?}");
    refused(
        &items(
            &mut romeo,
            None,
            "large",
            "<set xmlns='http://jabber.org/protocol/rsm'><max>5</max><after>nothing</after></set>",
        ),
        &["item-not-found"],
    );
    done(&ask(&mut romeo, "set", None, &format!("<pubsub xmlns='{PUBSUB}#owner'><purge node='large'/></pubsub>")));
    assert!(!items(&mut romeo, None, "large", "").contains("<item "));
}

#[test]
fn of_several_items_at_once_each_finds_the_node_as_those_before_it_have_left_it() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    done(&create(&mut romeo, None, "two", &[("max_items", "2")]));
    let publish_all = |romeo: &mut Client, node: &str, ids: &[&str]| {
        let items: String = ids.iter().map(|id| format!("<item id='{id}'><a xmlns='b'/></item>")).collect();
        ask(romeo, "set", None, &format!("<pubsub xmlns='{PUBSUB}'><publish node='{node}'>{items}</publish></pubsub>"))
    };
    done(&publish(&mut romeo, "two", "0", "<a xmlns='b'/>"));
    done(&publish_all(&mut romeo, "two", &["1", "2", "3", "2"]));
    let found = items(&mut romeo, None, "two", "<set xmlns='http://jabber.org/protocol/rsm'/>");
    let ids: Vec<&str> = found.split("<item id='").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert_eq!(ids, ["3", "2"]);
    assert!(found.contains("<count>2</count>"), "{found}");

    // All of them, or none.
    done(&create(&mut romeo, None, "full", &[("max_items", "2"), ("publish_node_full", "reject")]));
    refused(&publish_all(&mut romeo, "full", &["1", "2", "3"]), &["max-items-exceeded"]);
    assert!(!items(&mut romeo, None, "full", "").contains("<item "));
    done(&publish_all(&mut romeo, "full", &["1", "2", "1"]));
}

#[test]
fn an_item_whose_notification_would_be_larger_than_a_stanza_may_be_is_refused() {
    let host = Host::start_with(&["romeo"], |config| {
        (config.limits.stanza_bytes_max, config.limits.stored_bytes_max) = (20_000, 20_000);
    });
    let mut romeo = host.connect("romeo");
    let payload = |len: usize| format!("<a xmlns='b'>{}</a>", "x".repeat(len));
    done(&publish(&mut romeo, "n", "1", &payload(10_000)));
    refused(&publish(&mut romeo, "n", "1", &payload(18_000)), &["not-acceptable", "payload-too-big"]);
    done(&create(&mut romeo, None, "small", &[("max_payload_size", "100")]));
    refused(&publish(&mut romeo, "small", "1", &payload(100)), &["not-acceptable", "payload-too-big"]);
    // An answer is no larger either: what does not fit is on the next page.
    done(&create(&mut romeo, None, "several", &[("max_items", "max")]));
    for id in 0..4 {
        done(&publish(&mut romeo, "several", &id.to_string(), &payload(7_000)));
    }
    let answer = items(&mut romeo, None, "several", "<set xmlns='http://jabber.org/protocol/rsm'/>");
    assert!(answer.len() <= 20_000, "{}", answer.len());
    assert!(answer.contains("<first index='0'>0</first><last>1</last><count>4</count>"), "{answer}");
    let rest = items(&mut romeo, None, "several", "<set xmlns='http://jabber.org/protocol/rsm'><after>1</after></set>");
    assert!(rest.contains("<first index='2'>2</first><last>3</last>"), "{rest}");
    let by_id = |ids: &[&str]| {
        let ids: String = ids.iter().map(|id| format!("<item id='{id}'/>")).collect();
        format!("<pubsub xmlns='{PUBSUB}'><items node='several'>{ids}</items></pubsub>")
    };
    let two = ask(&mut romeo, "get", None, &by_id(&["0", "3", "nothing"]));
    assert_eq!(two.matches("<item ").count(), 2);
    refused(&ask(&mut romeo, "get", None, &by_id(&["0", "1", "2"])), &["policy-violation"]);
    refused(&ask(&mut romeo, "get", None, &by_id(&["nothing"; 513])), &["policy-violation"]);
}

#[test]
fn names_items_nodes_bytes_and_texts_have_their_limits() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    let long = "n".repeat(1024);
    refused(&create(&mut romeo, None, &long, &[]), &["not-acceptable"]);
    refused(&publish(&mut romeo, &long, "1", "<a xmlns='b'/>"), &["not-acceptable"]);
    refused(&publish(&mut romeo, "n", &long, "<a xmlns='b'/>"), &["not-acceptable"]);
    refused(&create(&mut romeo, None, "n", &[("description", &"d".repeat(9000))]), &["not-acceptable"]);
    let many: String = (0..33).map(|n| format!("<item id='{n}'><a xmlns='b'/></item>")).collect();
    let publish_many = format!("<pubsub xmlns='{PUBSUB}'><publish node='n'>{many}</publish></pubsub>");
    refused(&ask(&mut romeo, "set", None, &publish_many), &["not-acceptable", "max-items-exceeded"]);
    for n in 0..500 {
        done(&create(&mut romeo, None, &n.to_string(), &[]));
    }
    refused(&create(&mut romeo, None, "500", &[]), &["resource-constraint"]);
    refused(&publish(&mut romeo, "501", "1", "<a xmlns='b'/>"), &["resource-constraint"]);
    done(&publish(&mut romeo, "0", "1", "<a xmlns='b'/>"));

    // The account's bytes are counted, and given back.
    let bytes = host.store.value::<String>("pubsub-bytes");
    let mut batch = Batch::new();
    bytes.put(&mut batch, &owner(&account("romeo")), &(64u64 << 20).to_string());
    host.runtime.block_on(async { host.store.commit(batch).await }).unwrap();
    refused(&publish(&mut romeo, "1", "1", "<a xmlns='b'/>"), &["resource-constraint"]);
    let retract = format!("<pubsub xmlns='{PUBSUB}'><retract node='0'><item id='1'/></retract></pubsub>");
    done(&ask(&mut romeo, "set", None, &retract));
    done(&publish(&mut romeo, "1", "1", "<a xmlns='b'/>"));
}

#[test]
fn an_item_expires_after_as_many_seconds_as_its_node_says() {
    let host = Host::start(&["romeo"]);
    let mut romeo = host.connect("romeo");
    done(&create(&mut romeo, None, "n", &[("item_expire", "1"), ("max_items", "10")]));
    done(&publish(&mut romeo, "n", "old", "<a xmlns='b'/>"));
    assert!(items(&mut romeo, None, "n", "").contains("<item id='old'>"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(!items(&mut romeo, None, "n", "").contains("<item "));
    let by_id = format!("<pubsub xmlns='{PUBSUB}'><items node='n'><item id='old'/></items></pubsub>");
    assert!(!ask(&mut romeo, "get", None, &by_id).contains("<item "));
    done(&publish(&mut romeo, "n", "new", "<a xmlns='b'/>"));
    let left = items(&mut romeo, None, "n", "<set xmlns='http://jabber.org/protocol/rsm'/>");
    assert!(left.contains("<item id='new'>") && left.contains("<count>1</count>"), "{left}");
}

#[test]
fn an_account_that_is_removed_leaves_no_node_to_who_has_its_name_after_it() {
    let host = Host::start(&["romeo", "juliet"]);
    see_each_other(&host, "romeo", "juliet");
    let mut romeo = host.connect("romeo");
    done(&publish(&mut romeo, "urn:a", "1", "<x xmlns='urn:a'/>"));
    let mut juliet = host.connect("juliet");
    come_and_want(&mut juliet, "ver");
    juliet.wait_for(&["#event", "node='urn:a'"]);
    done(&ask(&mut romeo, "set", None, "<query xmlns='jabber:iq:register'><remove/></query>"));
    while host.runtime.block_on(host.server.deps.accounts.exists(&account("romeo"))).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    settle(&host);
    for map in ["pubsub-nodes", "pubsub-items", "pubsub-ids"] {
        let left = host.runtime.block_on(host.store.map::<Vec<u8>>(map).list(&owner(&account("romeo")))).unwrap();
        assert!(left.is_empty(), "{map}");
    }
    host.create("romeo");
    let mut romeo = host.connect("romeo");
    refused(&items(&mut romeo, None, "urn:a", ""), &["item-not-found"]);
}
