//! Peers that say too much.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Client, Got, WORD_MAX};
use crate::server::Server;

/// Says `request` as fast as the server takes it until it is told to stop, or cut off.
fn flood(client: &Client, request: &str, stop: &AtomicBool) -> usize {
    let many = request.repeat(64 * 1024 / request.len());
    let mut socket = client.socket.try_clone().unwrap();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) && socket.write_all(many.as_bytes()).is_ok() {
        written += many.len();
    }
    written
}

#[test]
fn a_flood_of_stanzas_takes_no_one_elses_time() {
    let server = Server::start("", &["mallory", "romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let stop = AtomicBool::new(false);
    let requests = [
        // Nothing comes back from these, so that the flood never waits for itself.
        "<iq type='result' id='x' to='localhost'/>",
        "<message to='nobody@localhost' type='headline'/>",
        "<message to='mallory@localhost' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
        "<presence type='unavailable'/>",
    ];
    let sessions: Vec<_> = (0..requests.len())
        .map(|n| {
            let mut client = server.connect();
            client.login("mallory", &format!("m{n}"));
            client
        })
        .collect();
    std::thread::scope(|scope| {
        let floods: Vec<_> = std::iter::zip(&sessions, requests)
            .map(|(client, request)| scope.spawn(|| flood(client, request, &stop)))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let words: Vec<_> = (0..30).map(|n| romeo.chat(&mut juliet, &format!("word {n}"))).collect();
        stop.store(true, Ordering::Relaxed);
        let slowest = words.iter().max().unwrap();
        eprintln!("slowest word {slowest:?}");
        assert!(*slowest < WORD_MAX, "{words:?}");
        let written: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        assert!(written > 1024 * 1024, "{written} bytes are no flood");
    });
}

#[test]
fn a_flood_of_presence_does_not_drown_a_word() {
    let server = Server::start("", &["mallory", "romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let mut mallory = server.connect();
    mallory.login("mallory", "m");
    let stop = AtomicBool::new(false);
    let request = format!("<presence to='{}'><status>here</status></presence>", juliet.jid);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&mallory, &request, &stop));
        std::thread::sleep(Duration::from_millis(200));
        let mut slowest = Duration::ZERO;
        for n in 0..10 {
            slowest = slowest.max(romeo.chat(&mut juliet, &format!("word {n}")));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(slowest < WORD_MAX, "a word took {slowest:?}");
        assert!(flooding.join().unwrap() > 64 * 1024);
    });
}

#[test]
fn roster_pushes_to_a_session_that_does_not_read_cost_that_session_alone() {
    let limits = "roster_items_max = 2000\nstanza_bytes_max = 65536\nunsent_bytes_max = 65536";
    let server = Server::start(limits, &["mallory", "romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let mut deaf = Client::connect_from(server.plain, [127, 0, 0, 1], Some(4096));
    deaf.login("mallory", "deaf");
    deaf.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    deaf.wait_for(&["id='r'"]);
    let mut mallory = server.connect();
    mallory.login("mallory", "busy");
    let name = "n".repeat(1000);
    let mut refused = 0;
    for n in 0..2100 {
        let item = format!("<item jid='c{n}@localhost' name='{name}'/>");
        mallory.send(format!("<iq type='set' id='i'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
        let answer = mallory.wait_for(&["id='i'"]);
        if answer.contains("type='error'") {
            assert!(answer.contains("<resource-constraint "), "{answer}");
            refused += 1;
        }
        if n % 300 == 0 {
            romeo.chat(&mut juliet, &format!("word {n}"));
        }
    }
    assert_eq!(refused, 100);
    romeo.chat(&mut juliet, "still here");
}

#[test]
fn an_offline_account_keeps_exactly_as_many_messages_as_it_may() {
    const SENT: usize = if cfg!(debug_assertions) { 50_000 } else { 100_000 };
    const KEPT: usize = 1000;
    let server = Server::start(&format!("offline_messages_max = {KEPT}"), &["romeo", "nurse", "juliet"]);
    // Two senders at once, for what they might count twice.
    let refused: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = ["romeo", "nurse"]
            .into_iter()
            .map(|user| {
                let mut client = server.login(user);
                scope.spawn(move || {
                    let mut socket = client.socket.try_clone().unwrap();
                    let writing = std::thread::spawn(move || {
                        for n in 0..SENT / 2 {
                            let id = format!("{user}{n}");
                            let message = format!(
                                "<message to='juliet@localhost' type='chat' id='{id}'><body>x</body></message>"
                            );
                            socket.write_all(message.as_bytes()).unwrap();
                        }
                        socket
                            .write_all(b"<iq type='get' id='end' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
                            .unwrap();
                    });
                    let mut refused = 0;
                    loop {
                        let element = client.element();
                        if element.contains("id='end'") {
                            break;
                        }
                        assert!(
                            element.contains("type='error'") && element.contains("<resource-constraint "),
                            "{element}"
                        );
                        refused += 1;
                    }
                    writing.join().unwrap();
                    refused
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert_eq!(refused, SENT - KEPT);
    let mut juliet = server.connect();
    juliet.login("juliet", "x");
    juliet.send("<presence/>");
    let mut kept = BTreeSet::new();
    let mut last = [None, None];
    loop {
        match juliet.next_within(Duration::from_secs(2)) {
            Got::Element(element) if element.starts_with("<message") => {
                let id = element.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
                let (user, number) = id.split_at(5);
                let number: usize = number.parse().unwrap();
                // Each sender's messages come in the order in which they were sent.
                let last = &mut last[usize::from(user == "nurse")];
                assert!(last.is_none_or(|last| last < number), "{id} after {last:?}");
                *last = Some(number);
                assert!(kept.insert(id));
            }
            Got::Element(_) => {}
            Got::Nothing => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept.len(), KEPT);
}
