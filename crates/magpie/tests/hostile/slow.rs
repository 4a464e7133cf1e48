//! Peers that do not read what they are sent.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::client::{Client, Got, PATIENCE, WORD_MAX};
use crate::server::Server;

/// Small enough to be reached soon: a session may keep a quarter of a mebibyte waiting.
const LIMITS: &str =
    "stanza_bytes_max = 65536\nunsent_bytes_max = 262144\nunacked_stanzas_max = 100000\noffline_messages_max = 100000";

/// Bytes of each message.
const BODY_BYTES: usize = 3000;

/// Bytes that the server's resident memory may grow by, for one peer that does not read: its share of buffers and of what the
/// allocator keeps.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

fn numbered(to: &str, number: usize) -> String {
    format!("<message to='{to}' type='chat' id='n{number}.'><body>{}</body></message>", "x".repeat(BODY_BYTES))
}

fn number(element: &str) -> Option<usize> {
    element.split("id='n").nth(1)?.split('.').next()?.parse().ok()
}

/// All numbers that come until the ping is answered that is sent now.
fn collect(client: &mut Client) -> Vec<usize> {
    let mut numbers = Vec::new();
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_secs(1) {
        match client.next_within(Duration::from_millis(200)) {
            Got::Element(element) => {
                numbers.extend(number(&element));
                if element.starts_with("<r ") {
                    continue;
                }
                quiet_since = Instant::now();
            }
            Got::Nothing | Got::Header(_) => {}
            Got::End | Got::Closed => break,
        }
    }
    numbers
}

/// A client with a small window.
fn idle_reader(server: &Server, user: &str) -> Client {
    let mut client = Client::connect_from(server.plain, [127, 0, 0, 1], Some(4096));
    client.login(user, user);
    client
}

/// Waits until messages come as they are sent, and no more out of the spool; how many that took.
fn warm_up(romeo: &mut Client, juliet: &mut Client) -> usize {
    for count in 1.. {
        romeo.send(numbered("juliet@localhost", 1_000_000));
        if !juliet.wait_for(&["<message"]).contains("urn:xmpp:delay") {
            return count;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    unreachable!("the counter does not end")
}

/// Has the server keep as many messages as the test is about, for what that takes with anybody.
fn fill_store(romeo: &mut Client, account: &str, count: usize) {
    for n in 0..count {
        romeo.send(numbered(account, n));
    }
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='p'"]);
}

fn managed(client: &mut Client) -> String {
    client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = client.wait_for(&["<enabled"]);
    enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned()
}

#[test]
fn a_peer_that_never_reads_is_cut_off_and_its_messages_wait() {
    let server = Server::start(LIMITS, &["romeo", "juliet", "nurse", "paris"]);
    let (mut romeo, mut nurse) = (server.login("romeo"), server.login("nurse"));
    let mut juliet = idle_reader(&server, "juliet");
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    const COUNT: usize = 8000;
    warm_up(&mut romeo, &mut juliet);
    fill_store(&mut romeo, "paris@localhost", COUNT);
    let before = server.memory_kib();
    let mut slowest = Duration::ZERO;
    let mut most = 0;
    for n in 0..COUNT {
        romeo.send(numbered("juliet@localhost", n));
        if n % 500 == 0 {
            slowest = slowest.max(romeo.chat(&mut nurse, &format!("word {n}")));
            most = most.max(server.memory_kib());
        }
    }
    assert!(slowest < WORD_MAX, "a word took {slowest:?}");
    server.wait_until("the session ends", |server| server.log().contains("session ended jid=juliet@localhost/juliet"));
    let grown = most.saturating_sub(before);
    eprintln!("{grown} KiB more memory for a peer that does not read");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    // What the system took for the first connection is there; what it did not comes to the second one.
    let seen = collect(&mut juliet);
    let mut again = server.connect();
    again.login("juliet", "again");
    again.send("<presence/>");
    let late = collect(&mut again);
    assert!(!late.is_empty() && !seen.is_empty());
    let mut all: Vec<usize> = seen.iter().chain(&late).copied().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), COUNT, "{} messages are lost", COUNT - all.len());
    // The one that was half written may come again.
    assert!(seen.len() + late.len() <= COUNT + 1, "{} and {}", seen.len(), late.len());
}

#[test]
fn a_managed_peer_that_never_reads_finds_its_session_again() {
    let server = Server::start(LIMITS, &["romeo", "juliet", "nurse"]);
    let (mut romeo, mut nurse) = (server.login("romeo"), server.login("nurse"));
    let mut juliet = idle_reader(&server, "juliet");
    let id = managed(&mut juliet);
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    // She has seen her own presence, and these.
    let seen = 1 + warm_up(&mut romeo, &mut juliet);
    let before = server.memory_kib();
    // Until the server gives the connection up.
    let mut count = 0;
    while !server.log().contains("session detached jid=juliet") {
        romeo.send(numbered("juliet@localhost", count));
        count += 1;
        // Slowly, so that her session has its turn between half a full mailbox, where it lets go of the connection, and a full
        // one, which would end it.
        if count % 5 == 0 {
            romeo.chat(&mut nurse, &format!("word {count}"));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(count < 20_000, "nothing bounds what waits for a peer that does not read");
    }
    // And some more while it is away.
    for _ in 0..20 {
        romeo.send(numbered("juliet@localhost", count));
        count += 1;
    }
    romeo.chat(&mut nurse, "the last word");
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    let mut again = server.connect();
    again.authenticate("juliet");
    again.open();
    again.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{seen}'/>"));
    assert!(again.element().starts_with("<resumed"));
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let element = again.element();
        match number(&element) {
            Some(number) => numbers.push(number),
            None => again.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", seen + numbers.len())),
        }
    }
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_managed_peer_that_stays_away_too_long_has_its_messages_kept() {
    let server = Server::start(LIMITS, &["romeo", "juliet"]);
    let mut romeo = server.login("romeo");
    managed(&mut romeo);
    let mut juliet = idle_reader(&server, "juliet");
    managed(&mut juliet);
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    let seen = 1 + warm_up(&mut romeo, &mut juliet);
    juliet.send(format!("<a xmlns='urn:xmpp:sm:3' h='{seen}'/>"));
    let mut count = 0;
    while !server.log().contains("session ended jid=juliet") {
        for _ in 0..20 {
            romeo.send(numbered("juliet@localhost", count));
            count += 1;
        }
        romeo.send("<r xmlns='urn:xmpp:sm:3'/>");
        romeo.wait_for(&["<a "]);
        assert!(count < 20_000, "nothing bounds what waits for a peer that is away");
    }
    let mut again = server.connect();
    again.login("juliet", "again");
    again.send("<presence/>");
    // She had nothing, and gets all of it once, in order.
    assert_eq!(collect(&mut again), (0..count).collect::<Vec<_>>());
}

#[test]
fn a_session_whose_connection_is_stuck_is_resumed_at_once() {
    let server = Server::start("unsent_bytes_max = 67108864\nunacked_stanzas_max = 100000", &["romeo", "juliet"]);
    let mut romeo = server.login("romeo");
    let mut juliet = idle_reader(&server, "juliet");
    let id = managed(&mut juliet);
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    let seen = 1 + warm_up(&mut romeo, &mut juliet);
    const COUNT: usize = 4_000;
    for n in 0..COUNT {
        romeo.send(numbered("juliet@localhost", n));
    }
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='p'"]);
    assert!(!server.log().contains("session detached"), "the connection was to be stuck, not gone");
    let mut again = server.connect();
    again.authenticate("juliet");
    again.open();
    let since = Instant::now();
    again.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{seen}'/>"));
    assert!(again.element().starts_with("<resumed"));
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    let mut numbers = Vec::new();
    while numbers.len() < COUNT {
        numbers.extend(number(&again.element()));
    }
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn offline_messages_of_any_size_reach_a_peer_that_reads() {
    let server = Server::start("stanza_bytes_max = 262144\nunsent_bytes_max = 262144", &["romeo", "juliet"]);
    let mut romeo = server.login("romeo");
    const COUNT: usize = 40;
    for n in 0..COUNT {
        let body = "&lt;".repeat(40_000);
        romeo.send(format!("<message to='juliet@localhost' type='chat' id='n{n}.'><body>{body}</body></message>"));
    }
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='p'"]);
    let mut juliet = idle_reader(&server, "juliet");
    juliet.send("<presence/>");
    let mut numbers = Vec::new();
    while numbers.len() < COUNT {
        numbers.extend(number(&juliet.element()));
    }
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn requests_whose_answers_are_not_read_end_the_session() {
    let requests = [
        "<iq type='get' id='x' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<message to='a@@b'/>",
    ];
    let server = Server::start(LIMITS, &["mallory", "romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let mallories: Vec<_> = (0..requests.len())
        .map(|n| {
            let mut mallory = Client::connect_from(server.plain, [127, 0, 0, 1], Some(4096));
            mallory.login("mallory", &format!("m{n}"));
            mallory
        })
        .collect();
    let before = server.memory_kib();
    std::thread::scope(|scope| {
        for (n, (mut mallory, request)) in std::iter::zip(mallories, requests).enumerate() {
            let server = &server;
            scope.spawn(move || {
                let many = request.repeat(1000);
                let since = Instant::now();
                while !server.log().contains(&format!("session ended jid=mallory@localhost/m{n} ")) {
                    mallory.send(&many);
                    assert!(since.elapsed() < Duration::from_secs(40), "{request}");
                }
            });
        }
        romeo.chat(&mut juliet, "meanwhile");
    });
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 3 * GROWTH_KIB_MAX, "{grown} KiB");
    romeo.chat(&mut juliet, "still here");
}

#[test]
fn a_flood_of_requests_for_a_count_grows_nothing() {
    const REQUESTS: usize = 400_000;
    let server = Server::start(LIMITS, &["mallory"]);
    let mut mallory = idle_reader(&server, "mallory");
    managed(&mut mallory);
    let before = server.memory_kib();
    let mut flood = "<r xmlns='urn:xmpp:sm:3'/>".repeat(REQUESTS);
    flood.push_str("<iq type='get' id='last' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    let (mut sender, mut sent) = (mallory.socket.try_clone().unwrap(), 0);
    // She reads nothing until the server takes no more of her, or has taken all.
    sender.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    while let Ok(part) = sender.write(&flood.as_bytes()[sent..]) {
        sent += part;
        if sent == flood.len() {
            break;
        }
    }
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&flood.as_bytes()[sent..]).unwrap());
        (0..)
            .map(|_| mallory.element())
            .take_while(|element| !element.contains("id='last'"))
            .inspect(|element| assert_eq!(element, "<a xmlns='urn:xmpp:sm:3' h='0'/>"))
            .count()
    });
    // Answers were left out, none is wrong.
    assert!((1..REQUESTS / 10).contains(&answers), "{answers}");
}
