//! The server stops while it is busy.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::server::Server;

fn number(element: &str) -> Option<usize> {
    element.split("id='n").nth(1)?.split('.').next()?.parse().ok()
}

fn read_all(server: &Server, user: &str) -> BTreeSet<usize> {
    let mut client = server.connect();
    client.login(user, "again");
    client.send("<presence/>");
    let mut numbers = BTreeSet::new();
    loop {
        match client.next_within(Duration::from_secs(2)) {
            Got::Element(element) => numbers.extend(number(&element)),
            Got::Nothing => return numbers,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stop_under_load_tells_everybody_and_loses_nothing_that_was_acknowledged() {
    let mut server =
        Server::start("unacked_stanzas_max = 100000\nresume_seconds_max = 1", &["romeo", "juliet", "nurse"]);
    let mut romeo = server.connect();
    romeo.login("romeo", "x");
    romeo.send("<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(romeo.element().starts_with("<enabled"));
    // Juliet is there and reads, but never says so; the nurse is away; a stranger is not in yet.
    let mut juliet = server.connect();
    juliet.login("juliet", "x");
    juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/>");
    juliet.wait_for(&["<presence"]);
    let mut stranger = server.connect();
    stranger.open();
    let mut socket = romeo.socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for n in 0_usize.. {
            let to = ["juliet", "nurse"][n % 2];
            let message = format!(
                "<message to='{to}@localhost' type='chat' id='n{n}.'><body>x</body></message><r xmlns='urn:xmpp:sm:3'/>"
            );
            if socket.write_all(message.as_bytes()).is_err() {
                break;
            }
        }
    });
    let mut acknowledged = 0;
    let since = Instant::now();
    let mut told = false;
    let mut stopping = false;
    loop {
        if !stopping && acknowledged > 100 && since.elapsed() > Duration::from_millis(500) {
            server.signal("TERM");
            stopping = true;
        }
        match romeo.next() {
            Got::Element(element) if element.starts_with("<a ") => {
                acknowledged =
                    element.split("h='").nth(1).unwrap().split('\'').next().unwrap().parse::<usize>().unwrap();
            }
            Got::Element(element) if element.starts_with("<stream:error") => {
                assert!(element.contains("<system-shutdown "), "{element}");
                told = true;
            }
            Got::Element(_) | Got::End => {}
            Got::Closed => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(told, "romeo was not told why his stream ended");
    juliet.ends_with("system-shutdown");
    stranger.ends_with("system-shutdown");
    drop((romeo, juliet, stranger));
    writing.join().unwrap();
    assert_eq!(server.ended(), Some(0), "{}", server.log());
    server.run();
    let mut kept = read_all(&server, "juliet");
    kept.extend(read_all(&server, "nurse"));
    eprintln!("{acknowledged} acknowledged, {} kept", kept.len());
    let lost: Vec<_> = (0..acknowledged).filter(|n| !kept.contains(n)).collect();
    assert!(lost.is_empty(), "{} of {acknowledged} acknowledged messages are lost: {lost:?}", lost.len());
}

#[test]
fn a_stop_waits_for_nobody_who_does_not_read() {
    let mut server = Server::start("unsent_bytes_max = 67108864", &["romeo", "juliet"]);
    let mut romeo = server.login("romeo");
    let mut juliet = Client::connect_from(server.plain, [127, 0, 0, 1], Some(4096));
    juliet.login("juliet", "x");
    juliet.send("<presence/>");
    juliet.wait_for(&["<presence"]);
    const COUNT: usize = 10_000;
    for n in 0..COUNT {
        let body = "x".repeat(1000);
        romeo.send(format!("<message to='juliet@localhost' type='chat' id='n{n}.'><body>{body}</body></message>"));
    }
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='p'"]);
    let since = Instant::now();
    server.signal("TERM");
    romeo.ends_with("system-shutdown");
    drop(romeo);
    assert_eq!(server.ended(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(14), "{:?}", since.elapsed());
    assert!(!server.log().contains("did not end in time"), "{}", server.log());
    // What she did not get into her hands waits for her.
    let mut seen = BTreeSet::new();
    loop {
        match juliet.next() {
            Got::Element(element) => seen.extend(number(&element)),
            Got::Closed | Got::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.len() < COUNT);
    server.run();
    seen.extend(read_all(&server, "juliet"));
    assert_eq!(seen.len(), COUNT);
}

/// The SM-ID that a session is given.
fn enable(client: &mut Client) -> String {
    client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = client.wait_for(&["<enabled"]);
    enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned()
}

#[test]
fn sessions_by_the_thousand_are_saved_in_time_and_wait_again() {
    const COUNT: usize = 1000;
    let mut server = Server::start("sessions_per_account_max = 2000", &["romeo", "juliet"]);
    let mut waiting = Vec::new();
    let sessions: Vec<(Client, String)> = (0..COUNT)
        .map(|n| {
            let mut client = server.connect();
            client.login("juliet", &format!("r{n}"));
            let id = enable(&mut client);
            (client, id)
        })
        .collect();
    let mut romeo = server.login("romeo");
    for n in 0..COUNT {
        romeo.send(format!("<message to='juliet@localhost/r{n}' type='chat' id='n{n}.'><body>x</body></message>"));
    }
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.wait_for(&["id='p'"]);
    // Some have no connection when the server stops, the others lose theirs with it.
    for (n, (client, id)) in sessions.into_iter().enumerate() {
        waiting.push((id, (n % 2 == 0).then_some(client)));
    }
    let since = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0), "{}", server.log());
    let stopped = since.elapsed();
    assert!(stopped < Duration::from_secs(10), "{stopped:?}");
    let since = Instant::now();
    server.run();
    eprintln!("{COUNT} sessions: {stopped:?} to stop, {:?} to start", since.elapsed());
    assert!(server.log().contains(&format!("sessions={COUNT} lost=0")), "{}", server.log());
    for (n, (id, _)) in waiting.iter().enumerate().step_by(97) {
        let mut juliet = server.connect();
        juliet.authenticate("juliet");
        juliet.open();
        juliet.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"));
        assert!(juliet.element().starts_with("<resumed "));
        juliet.wait_for(&[&format!("id='n{n}.'")]);
    }
}
