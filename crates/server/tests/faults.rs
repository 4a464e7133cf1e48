//! What users notice of a store that is slow, full or broken: a server in this process, on a store that fails on demand.
//!
//! The promises: a slow store delays acknowledgements, not delivery; a full one refuses what it cannot keep, and says so
//! before the count that covers it; and whatever needs no store goes on.

#![allow(clippy::unwrap_used)]

#[path = "host/mod.rs"]
mod host;

#[path = "../../magpie/tests/hostile/client.rs"]
#[allow(dead_code)]
mod client;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Got, PASSWORD, plain};
use magpie_proto::BareJid;
use magpie_server::config::Config;
use magpie_server::server::Server;
use magpie_store::{Faults, Store, StoreError};
use tokio::runtime::Runtime;

const SHORT: Duration = Duration::from_millis(300);

const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";

struct Host {
    faults: Faults,
    server: Arc<Server>,
    address: SocketAddr,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(users: &[&str]) -> Self {
        Self::start_with(users, |_| {})
    }

    fn start_with(users: &[&str], set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let faults = Faults::new();
        let mut config = host::config(folder.path());
        config.metrics.address = "127.0.0.1:0".into();
        set(&mut config);
        let store = Store::memory_with(faults.clone());
        let server = runtime.block_on(Server::start(config, store)).unwrap();
        for user in users {
            let account = BareJid::parse(&format!("{user}@localhost")).unwrap();
            runtime.block_on(server.deps.accounts.create(&account, PASSWORD)).unwrap();
        }
        let address = server.addresses()[0].1;
        Self { faults, server, address, runtime, _folder: folder }
    }

    fn login(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.login(user, user);
        client.send("<presence/>");
        client.wait_for(&["<presence", &format!("from='{user}@localhost/{user}'")]);
        client
    }

    /// A login of somebody for whom messages wait: the first may come before the user's own presence.
    fn returns(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.login(user, user);
        client.send("<presence/>");
        client
    }

    /// Until the server has noticed that the user's connections are closed: before, messages go to them.
    fn wait_until_away(&self, user: &str) {
        let account = BareJid::parse(&format!("{user}@localhost")).unwrap();
        let begun = Instant::now();
        while !self.server.registry().sessions(&account).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A line of the metrics page.
    fn metric(&self, name: &str) -> String {
        let mut http = std::net::TcpStream::connect(self.server.metrics_address().unwrap()).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        http.read_to_string(&mut page).unwrap();
        page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    }

    fn managed(&self, user: &str) -> Client {
        let mut client = self.login(user);
        client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        client.wait_for(&["<enabled"]);
        client
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.faults.release();
        self.runtime.block_on(self.server.shutdown());
    }
}

fn message(to: &str, text: &str) -> String {
    format!("<message to='{to}@localhost' type='chat' id='{text}'><body>{text}</body></message>")
}

fn ping(client: &mut Client) {
    client.send("<iq type='get' id='ping' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(client.wait_for(&["id='ping'"]).contains("type='result'"));
}

fn is_refused(element: &str) -> bool {
    element.contains("type='error'") && element.contains("<resource-constraint ")
}

/// The next element that is no request for a count.
fn said(client: &mut Client) -> String {
    loop {
        let element = client.element();
        if !element.starts_with("<r ") {
            return element;
        }
    }
}

/// Waits until messages reach the client as they are sent; how many it took.
fn warm_up(from: &mut Client, to: &mut Client, name: &str) -> u32 {
    for sent in 1.. {
        from.send(message(name, "warm"));
        if !to.wait_for(&["<body>warm"]).contains("urn:xmpp:delay") {
            return sent;
        }
    }
    unreachable!("it is through with its spool at some time")
}

#[test]
fn a_slow_store_delays_acknowledgements_and_not_delivery() {
    let host = Host::start(&["romeo", "juliet", "nurse"]);
    let mut juliet = host.login("juliet");
    let mut romeo = host.managed("romeo");
    warm_up(&mut romeo, &mut juliet, "juliet");
    romeo.send(REQUEST);
    let before = romeo.wait_for(&["<a "]);
    host.faults.hold_commits();
    // One for somebody who is there, one for somebody who is not, and something that needs no store.
    romeo.send(message("juliet", "now") + &message("nurse", "later") + REQUEST);
    let since = Instant::now();
    juliet.wait_for(&["<body>now"]);
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    // The stream is not held up either.
    ping(&mut romeo);
    let deadline = Instant::now() + SHORT;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match romeo.next_within(left) {
            Got::Element(element) => {
                assert!(!element.starts_with("<a "), "{element} before it was durable; {before} before it was sent")
            }
            got => assert_eq!(got, Got::Nothing),
        }
    }
    host.faults.release();
    let count = |ack: &str| ack.split("h='").nth(1).unwrap().split('\'').next().unwrap().parse::<u32>().unwrap();
    let after = romeo.wait_for(&["<a "]);
    assert!(count(&after) >= count(&before) + 2, "{before}, {after}");
    assert!(host.returns("nurse").wait_for(&["<message"]).contains("<body>later"));
}

#[test]
fn a_full_store_refuses_what_it_cannot_keep_before_the_count_that_covers_it() {
    let host = Host::start(&["romeo", "juliet", "nurse", "tybalt"]);
    let (mut romeo, mut juliet, mut tybalt) = (host.managed("romeo"), host.login("juliet"), host.managed("tybalt"));
    warm_up(&mut romeo, &mut juliet, "juliet");
    warm_up(&mut romeo, &mut tybalt, "tybalt");
    let mut benvolio = host.login("nurse");
    ping(&mut benvolio);
    drop(benvolio);
    host.wait_until_away("nurse");
    romeo.send(REQUEST);
    romeo.wait_for(&["<a "]);
    host.faults.fail_commits(usize::MAX, StoreError::Full);
    romeo.send(message("nurse", "full") + REQUEST);
    let error = said(&mut romeo);
    assert!(is_refused(&error) && error.contains("id='full'"), "{error}");
    assert!(said(&mut romeo).starts_with("<a "));
    // Without XEP-0198 the sender hears of it as well.
    juliet.send(message("nurse", "also"));
    assert!(is_refused(&juliet.element()));
    // A message that was to be kept until the recipient acknowledges it is refused, though the recipient may have it.
    romeo.send(message("tybalt", "unsafe") + REQUEST);
    let error = said(&mut romeo);
    assert!(is_refused(&error) && error.contains("id='unsafe'"), "{error}");
    tybalt.wait_for(&["<body>unsafe"]);
    // So is a change of the roster, which is left as it was.
    juliet.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='x@localhost'/></query></iq>");
    let answer = juliet.wait_for(&["id='s'"]);
    assert!(is_refused(&answer), "{answer}");
    // What needs no store goes on.
    juliet.send(message("romeo", "hello"));
    romeo.wait_for(&["<body>hello"]);
    // There is room again.
    host.faults.fail_commits(0, StoreError::Full);
    romeo.send(message("nurse", "fits"));
    juliet.send("<iq type='set' id='t'><query xmlns='jabber:iq:roster'><item jid='y@localhost'/></query></iq>");
    assert!(juliet.wait_for(&["id='t'"]).contains("type='result'"));
    juliet.send("<iq type='get' id='u'><query xmlns='jabber:iq:roster'/></iq>");
    let roster = juliet.wait_for(&["id='u'"]);
    assert!(roster.contains("y@localhost") && !roster.contains("x@localhost"), "{roster}");
    let mut nurse = host.returns("nurse");
    let first = nurse.wait_for(&["<message"]);
    assert!(first.contains("<body>fits"), "{first}");
}

#[test]
fn what_its_recipient_acknowledged_counts_as_handled_though_the_store_is_stuck_and_nothing_else_does() {
    let host = Host::start_with(&["romeo", "juliet", "nurse"], |config| config.archive.enabled = false);
    let (mut romeo, mut juliet) = (host.managed("romeo"), host.managed("juliet"));
    let warm = warm_up(&mut romeo, &mut juliet, "juliet");
    romeo.send(REQUEST);
    let before = romeo.wait_for(&["<a "]);
    host.faults.hold_commits();
    // The writer hangs with this one in its hands.
    juliet.send(message("nurse", "first"));
    std::thread::sleep(SHORT);
    romeo.send(message("juliet", "now") + REQUEST);
    juliet.wait_for(&["<body>now"]);
    let deadline = Instant::now() + SHORT;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match romeo.next_within(left) {
            Got::Element(element) => assert!(!element.starts_with("<a "), "{element} before juliet has it"),
            got => assert_eq!(got, Got::Nothing),
        }
    }
    juliet.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", warm + 1));
    let after = romeo.wait_for(&["<a "]);
    assert_ne!(before, after);
    host.faults.release();
    // It is with her, and nowhere else.
    drop(juliet);
    let mut juliet = host.returns("juliet");
    juliet.send(message("juliet", "last"));
    assert!(juliet.wait_for(&["<message"]).contains("<body>last"));
}

#[test]
fn a_message_counts_as_handled_once_it_is_in_the_archive_though_its_recipient_has_it_before() {
    let host = Host::start(&["romeo", "juliet", "nurse"]);
    let (mut romeo, mut juliet) = (host.managed("romeo"), host.managed("juliet"));
    let warm = warm_up(&mut romeo, &mut juliet, "juliet");
    host.faults.hold_commits();
    romeo.send(message("juliet", "now") + REQUEST);
    juliet.wait_for(&["<body>now"]);
    juliet.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", warm + 1));
    let deadline = Instant::now() + SHORT;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match romeo.next_within(left) {
            Got::Element(element) => assert!(!element.starts_with("<a "), "{element} before it is on disk"),
            got => assert_eq!(got, Got::Nothing),
        }
    }
    host.faults.release();
    romeo.wait_for(&["<a "]);
}

#[test]
fn a_message_that_the_archive_cannot_take_is_refused_once() {
    let host = Host::start(&["romeo", "juliet"]);
    let (mut romeo, mut juliet) = (host.managed("romeo"), host.managed("juliet"));
    warm_up(&mut romeo, &mut juliet, "juliet");
    host.faults.fail_commits(usize::MAX, StoreError::Full);
    romeo.send(message("juliet", "lost") + REQUEST);
    romeo.wait_for(&["<resource-constraint"]);
    romeo.wait_for(&["<a "]);
    assert_eq!(romeo.next_within(SHORT), Got::Nothing);
}

#[test]
fn people_log_in_and_get_their_messages_while_the_store_is_full() {
    let host = Host::start(&["romeo", "juliet"]);
    let mut romeo = host.managed("romeo");
    romeo.send(message("juliet", "before") + REQUEST);
    romeo.wait_for(&["<a "]);
    host.faults.fail_commits(usize::MAX, StoreError::Full);
    let mut juliet = host.returns("juliet");
    assert!(juliet.wait_for(&["<message"]).contains("<body>before"));
    juliet.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    assert!(juliet.wait_for(&["id='r'"]).contains("type='result'"));
    juliet.send(message("romeo", "hello"));
    romeo.wait_for(&["<body>hello"]);
}

#[test]
fn a_store_that_cannot_be_read_fails_logins_for_now_and_no_session() {
    let host = Host::start(&["romeo", "juliet", "nurse"]);
    let (mut romeo, mut juliet) = (host.login("romeo"), host.login("juliet"));
    warm_up(&mut romeo, &mut juliet, "juliet");
    host.faults.fail_reads(usize::MAX, StoreError::Backend("broken".into()));
    let mut nurse = Client::connect(host.address);
    nurse.open();
    nurse.send(plain("nurse"));
    let answer = nurse.element();
    assert!(answer.contains("<temporary-auth-failure"), "{answer}");
    romeo.chat(&mut juliet, "still here");
    // Whether there is room for it cannot be known.
    romeo.send(message("nurse", "lost"));
    let answer = romeo.element();
    assert!(answer.contains("type='error'") && answer.contains("<internal-server-error "), "{answer}");
    // On the same stream, as soon as it is possible.
    host.faults.fail_reads(0, StoreError::Closed);
    nurse.send(plain("nurse"));
    assert!(nurse.element().starts_with("<success"));
}

#[test]
fn a_session_without_a_connection_is_counted_as_waiting() {
    let host = Host::start(&["romeo"]);
    let waiting = || host.metric("magpie_sessions{state=\"waiting\"}");
    let romeo = host.managed("romeo");
    assert_eq!(waiting(), "0");
    drop(romeo);
    let until = Instant::now() + Duration::from_secs(5);
    while waiting() != "1" {
        assert!(Instant::now() < until, "{}", waiting());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(host.metric("magpie_sessions{state=\"connected\"}"), "0");
}

#[test]
fn messages_that_could_not_be_read_come_when_they_can_be() {
    let host = Host::start(&["romeo", "juliet"]);
    let mut romeo = host.managed("romeo");
    romeo.send(message("juliet", "kept") + REQUEST);
    romeo.wait_for(&["<a "]);
    let mut juliet = Client::connect(host.address);
    juliet.login("juliet", "juliet");
    host.faults.fail_reads(usize::MAX, StoreError::Backend("broken".into()));
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    std::thread::sleep(SHORT);
    // What is new need not wait for what is old.
    romeo.send(message("juliet", "new"));
    juliet.wait_for(&["<body>new"]);
    host.faults.fail_reads(0, StoreError::Closed);
    assert!(juliet.wait_for(&["<body>kept"]).contains("urn:xmpp:delay"));
}

#[test]
fn a_sender_is_read_no_faster_than_the_store_keeps_up() {
    let host = Host::start(&["romeo", "juliet", "nurse", "paris"]);
    let mut romeo = host.managed("romeo");
    let (mut juliet, mut paris) = (host.login("juliet"), host.login("paris"));
    warm_up(&mut paris, &mut juliet, "juliet");
    host.faults.hold_commits();
    let body = "x".repeat(1000);
    romeo.socket.set_write_timeout(Some(SHORT)).unwrap();
    let mut sent = Vec::new();
    let blocked = loop {
        let text =
            format!("<message to='nurse@localhost' type='chat' id='n{}'><body>{body}</body></message>", sent.len());
        match romeo.socket.write_all(text.as_bytes()) {
            Ok(()) => sent.push(text.len()),
            Err(error) => break error,
        }
        let bytes: usize = sent.iter().sum();
        assert!(bytes < 64 * 1024 * 1024, "{bytes} bytes wait for the store");
    };
    assert!(matches!(blocked.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked}");
    // What the system holds between the two is not the server's; what waits for the store is.
    assert!(host.server.deps.store.statistics().queued_batches <= 1100);
    // The others do not notice.
    paris.chat(&mut juliet, "meanwhile");
    host.faults.release();
    let mut nurse = host.returns("nurse");
    let first = nurse.wait_for(&["<message"]);
    assert!(first.contains("id='n0'"), "{first}");
}
