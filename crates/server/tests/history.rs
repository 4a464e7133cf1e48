//! What an archive does that a conversation cannot show: with many messages, old ones, and a store that fails.

#![allow(clippy::unwrap_used)]

#[path = "host/mod.rs"]
mod host;

#[path = "../../magpie/tests/hostile/client.rs"]
#[allow(dead_code)]
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, PASSWORD};
use magpie_proto::{BareJid, Stanza};
use magpie_server::accounts::owner;
use magpie_server::config::{ArchiveOfDomain, Config};
use magpie_server::modules::archive::{Archived, LOOKED_BACK};
use magpie_server::retention::{AccountAges, Retention};
use magpie_server::server::{Server, now};
use magpie_store::{Batch, Effect, Faults, Filing, LogId, Page, Store, StoreError};
use tokio::runtime::Runtime;

struct Host {
    faults: Faults,
    store: Store,
    server: Arc<Server>,
    address: SocketAddr,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Host {
    /// With romeo and juliet, on what is in the store.
    fn start(filled: impl FnOnce(&Store), set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = host::config(folder.path());
        set(&mut config);
        let faults = Faults::new();
        let store = Store::memory_with(faults.clone());
        filled(&store);
        let server = runtime.block_on(Server::start(config, store.clone())).unwrap();
        for user in ["romeo", "juliet"] {
            runtime.block_on(server.deps.accounts.create(&jid(user), PASSWORD)).unwrap();
        }
        let address = server.addresses()[0].1;
        Self { faults, store, server, address, runtime, _folder: folder }
    }

    fn login(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.login(user, user);
        client.send("<presence/>");
        client.wait_for(&["<presence", &format!("from='{user}@localhost/{user}'")]);
        client
    }

    /// The archive of a user, oldest first.
    fn archive(&self, user: &str) -> Vec<Stanza> {
        let _ = self.store.settled().wait();
        let archive = self.store.archive::<Archived>("messages");
        let page = Page { limit: 10_000, ..Page::default() };
        let entries = self.runtime.block_on(archive.page(&owner(&jid(user)), page)).unwrap();
        entries.into_iter().map(|(_, Archived(message))| message).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.faults.release();
        self.runtime.block_on(self.server.shutdown());
    }
}

fn jid(user: &str) -> BareJid {
    BareJid::parse(&format!("{user}@localhost")).unwrap()
}

/// A message from romeo to juliet in the archives of both.
fn put(store: &Store, id: LogId, name: &str) {
    let xml = format!(
        "<message from='romeo@localhost/x' to='juliet@localhost' type='chat' id='{name}'><body>{name}</body></message>"
    );
    let message = Archived(Stanza::parse(xml.as_bytes()).unwrap());
    let mut batch = Batch::new();
    let [romeo, juliet] = ["romeo", "juliet"].map(|user| owner(&jid(user)));
    let filings = [
        Filing { owner: &romeo, topic: "juliet@localhost", effect: Effect::Read },
        Filing { owner: &juliet, topic: "romeo@localhost", effect: Effect::New },
    ];
    store.archive("messages").append(&mut batch, Some(id), &filings, &message);
    store.commit(batch).wait().unwrap();
}

fn retraction(of: &str) -> String {
    format!(
        "<message to='juliet@localhost' type='chat' id='r-{of}'><retract xmlns='urn:xmpp:message-retract:1' id='{of}'/></message>"
    )
}

#[test]
fn what_is_taken_back_is_looked_for_among_the_newest_of_the_conversation_alone() {
    let many =
        |store: &Store| (0..=LOOKED_BACK as u64).for_each(|n| put(store, LogId::at_millis(n + 1), &format!("m{n}")));
    let host = Host::start(many, |_| {});
    let (mut romeo, mut juliet) = (host.login("romeo"), host.login("juliet"));
    // The oldest first: it is beyond the bound, the next is just within it.
    for of in ["m0", "m2"] {
        romeo.send(retraction(of));
        juliet.wait_for(&[&format!("id='r-{of}'")]);
    }
    for user in ["romeo", "juliet"] {
        let archive = host.archive(user);
        let is_taken_back = |n: usize| archive[n].child("retracted", "urn:xmpp:message-retract:1").is_some();
        assert_eq!([0, 1, 2, 3].map(is_taken_back), [false, false, true, false], "{user}");
        assert_eq!(archive.len(), LOOKED_BACK + 3);
    }
}

#[test]
fn a_retraction_whose_message_cannot_be_looked_for_is_answered_with_an_error() {
    let host = Host::start(|store| put(store, LogId::at_millis(1), "m0"), |_| {});
    let (mut romeo, mut juliet) = (host.login("romeo"), host.login("juliet"));
    let fail = |count| host.faults.fail_reads(count, StoreError::Backend("as a test wants it".into()));
    fail(1000);
    romeo.send(retraction("m0"));
    assert!(romeo.wait_for(&["id='r-m0'"]).contains("type='error'"));
    fail(0);
    romeo.send(retraction("m0"));
    juliet.wait_for(&["id='r-m0'"]);
    assert!(host.archive("juliet")[0].child("body", "jabber:client").is_none());
}

#[test]
fn whoever_knows_an_id_of_the_archive_reads_a_conversation_up_to_it() {
    let three = |store: &Store| (1..=3).for_each(|n| put(store, LogId::at_millis(n), &format!("m{n}")));
    let host = Host::start(three, |_| {});
    let modules = &host.server.modules;
    let unread = || {
        let topic = host.runtime.block_on(modules.archive.conversation(&jid("juliet"), &jid("romeo"))).unwrap();
        topic.unwrap().new
    };
    let read =
        |id: &str| modules.inbox.read(&host.server, &jid("juliet"), &jid("romeo"), id).map(|ticket| ticket.wait());
    assert_eq!(unread(), 3);
    assert_eq!(read("made-up"), None);
    assert_eq!(read(&modules.archive.id(&jid("romeo"), LogId::at_millis(3))), None);
    assert_eq!(unread(), 3);
    for (up_to, left) in [(2, 1), (1, 1), (3, 0)] {
        assert_eq!(read(&modules.archive.id(&jid("juliet"), LogId::at_millis(up_to))), Some(Ok(())));
        assert_eq!(unread(), left, "{up_to}");
    }
}

#[test]
fn preferences_are_followed_after_a_restart_and_by_who_is_away() {
    let prefer = |store: &Store| {
        let mut batch = Batch::new();
        let preferences = br#"{"default":"never","always":[],"never":[]}"#.to_vec();
        store.value("archive-preferences").put(&mut batch, &owner(&jid("juliet")), &preferences);
        store.commit(batch).wait().unwrap();
    };
    let host = Host::start(prefer, |_| {});
    let mut romeo = host.login("romeo");
    romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
    romeo.send("<iq type='get' id='done' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='done'"]);
    assert_eq!((host.archive("romeo").len(), host.archive("juliet").len()), (1, 0));
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A message of so many days ago.
fn put_old(store: &Store, days: u32) {
    put(store, LogId::at_millis((now() - days * DAY).as_millis() as u64), &format!("m{days}"));
}

impl Host {
    fn ids(&self, user: &str) -> Vec<String> {
        self.archive(user).iter().map(|message| message.id().unwrap().into_owned()).collect()
    }

    fn forget_at(&self, now: Duration) {
        self.runtime.block_on(Retention::new(&self.server.deps).forget(now)).unwrap();
    }
}

#[test]
fn months_that_are_older_than_the_configuration_says_are_gone_soon_after_the_start() {
    let filled = |store: &Store| [400, 100, 1].iter().for_each(|days| put_old(store, *days));
    let host = Host::start(filled, |config| config.archive.keep_days = 60);
    let begun = Instant::now();
    while host.archive("romeo").len() > 1 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((host.ids("romeo"), host.ids("juliet")), (vec!["m1".to_owned()], vec!["m1".to_owned()]));
    // As time goes by, and a month is over.
    host.forget_at(now() + 30 * DAY);
    assert_eq!(host.ids("juliet"), ["m1"]);
    host.forget_at(now() + 95 * DAY);
    assert_eq!(host.ids("juliet"), [""; 0]);
}

#[test]
fn a_domain_has_an_age_of_its_own() {
    let filled = |store: &Store| [400, 1].iter().for_each(|days| put_old(store, *days));
    let of = |domain: &str, keep_days| ArchiveOfDomain { domain: domain.into(), keep_days };
    let forever = Host::start(filled, |config| {
        (config.archive.keep_days, config.archive.domain) = (60, vec![of("localhost", 0)]);
    });
    forever.forget_at(now());
    assert_eq!(forever.ids("juliet"), ["m400", "m1"]);
    let short = Host::start(filled, |config| config.archive.domain = vec![of("localhost", 60)]);
    short.forget_at(now());
    assert_eq!(short.ids("juliet"), ["m1"]);
}

#[test]
fn messages_of_an_account_with_a_shorter_age_are_deleted_to_the_day_and_nobody_elses() {
    let many = |store: &Store| {
        (0..2500).for_each(|n| put(store, LogId::at_millis((now() - 20 * DAY).as_millis() as u64 + n), "old"));
        [11, 9, 0].iter().for_each(|days| put_old(store, *days));
    };
    let host = Host::start(many, |_| {});
    let ages = AccountAges::new(&host.store);
    host.runtime.block_on(ages.set(&jid("juliet"), Some(10))).unwrap();
    host.forget_at(now());
    assert_eq!(host.ids("juliet"), ["m9", "m0"]);
    assert_eq!(host.archive("romeo").len(), 2503);
    // What is unread is no more than what is there.
    let topic = host.runtime.block_on(host.server.modules.archive.conversation(&jid("juliet"), &jid("romeo")));
    let topic = topic.unwrap().unwrap();
    assert_eq!((topic.count, topic.new), (2, 2));
    host.runtime.block_on(ages.set(&jid("juliet"), None)).unwrap();
    host.forget_at(now() + 30 * DAY);
    assert_eq!(host.ids("juliet"), ["m9", "m0"]);
}
