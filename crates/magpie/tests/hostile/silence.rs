//! Peers that say nothing, or stop in the middle: before, during and after the login.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Got, HEADER, PATIENCE, WORD_MAX};
use crate::server::Server;

/// A TLS record that begins a client's hello, and not its end.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\x02\x03\x04";

/// Silent connections of the large test.
const SILENT: usize = 10_000;

/// What each of them may cost the server, in bytes of memory. docs/limits.md says what it is in a release build.
const SILENT_BYTES_MAX: u64 = 5 * 1024;

/// Its name, and how a client gets there.
type Stage = (&'static str, fn(&Server) -> Client);

#[test]
fn whoever_does_not_log_in_in_time_is_cut_off_wherever_it_stopped() {
    let server = Server::start("login_seconds_max = 1", &["romeo", "juliet"]);
    let mut romeo = server.login("romeo");
    let files = server.open_files();
    let since = Instant::now();
    let stages: [Stage; 7] = [
        ("nothing", Server::connect),
        ("half a header", |server| {
            let mut client = server.connect();
            client.send(&HEADER[..40]);
            client
        }),
        ("a header", |server| {
            let mut client = server.connect();
            client.open();
            client
        }),
        ("white space", |server| {
            let mut client = server.connect();
            client.open();
            client.send("   \n");
            client
        }),
        ("half an element", |server| {
            let mut client = server.connect();
            client.open();
            client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>");
            client
        }),
        ("half an authentication", |server| {
            let mut client = server.connect();
            client.open();
            client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1yb21lbyxyPWFiYw==</auth>");
            assert!(client.element().starts_with("<challenge"));
            client
        }),
        ("no resource", |server| {
            let mut client = server.connect();
            client.authenticate("romeo");
            client.open();
            client
        }),
    ];
    let clients: Vec<_> = stages.iter().map(|(name, begin)| (name, begin(&server))).collect();
    for (name, mut client) in clients {
        eprintln!("{name}");
        client.ends_with("connection-timeout");
    }
    // TLS has no words for it.
    let mut handshakes = vec![Client::connect(server.tls), Client::connect(server.tls), server.connect()];
    handshakes[1].send(HALF_A_HELLO);
    handshakes[2].open();
    handshakes[2].send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(handshakes[2].element().starts_with("<proceed"));
    handshakes[2].send(HALF_A_HELLO);
    handshakes.iter_mut().for_each(Client::is_closed);
    assert!(since.elapsed() >= Duration::from_secs(1));
    // The limit is one on the login: a session may be silent.
    romeo.chat(&mut server.login("juliet"), "I am still here");
    drop(handshakes);
    server.wait_until("every connection is given back", |server| server.open_files() <= files);
}

#[test]
fn a_login_that_dribbles_or_never_pauses_is_out_of_time_as_well() {
    let server = Server::start("login_seconds_max = 1", &["romeo", "juliet"]);
    std::thread::scope(|scope| {
        let dribble = scope.spawn(|| {
            let mut client = server.connect();
            for byte in HEADER.as_bytes().iter().take(60) {
                client.send([*byte]);
                std::thread::sleep(Duration::from_millis(50));
            }
            client.ends_with("connection-timeout");
        });
        // Enough of them to occupy every thread of the server.
        let floods: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.connect();
                    client.open();
                    let blanks = vec![b' '; 64 * 1024];
                    let since = Instant::now();
                    while client.socket.write_all(&blanks).is_ok() {
                        assert!(since.elapsed() < PATIENCE, "white space is taken for ever");
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        // The others do not notice.
        let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
        romeo.chat(&mut juliet, "a word");
        dribble.join().unwrap();
        floods.into_iter().for_each(|flood| flood.join().unwrap());
    });
}

#[test]
fn a_stranger_who_does_not_read_the_answers_asks_nothing_more() {
    let server = Server::start("login_seconds_max = 20\n[registration]\nopen = true", &[]);
    let before = server.memory_kib();
    let mut client = Client::connect_from(server.plain, [127, 0, 0, 1], Some(4096));
    client.open();
    client.socket.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    // Each of these has an answer that is longer.
    let request = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>".repeat(1000);
    let mut sent = 0;
    let blocked = loop {
        match client.socket.write(request.as_bytes()) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 64 * 1024 * 1024, "the server takes {sent} bytes without an answer being read");
    };
    assert!(matches!(blocked.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked}");
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 8192, "{grown} KiB for one stranger");
}

#[test]
fn ten_thousand_silent_connections_cost_little_go_by_themselves_and_their_memory_goes_back() {
    let server = Server::start("login_seconds_max = 20\nunauthenticated_max = 15000", &["romeo", "juliet"]);
    // The first ones also pay for what all share.
    let mut silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(server.plain).unwrap()).collect();
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    romeo.chat(&mut juliet, "before");
    let (files, memory) = (server.open_files(), server.memory_kib());
    silent.extend((0..SILENT).map(|_| TcpStream::connect(server.plain).unwrap()));
    server.wait_until("all are accepted", |server| server.open_files() >= files + SILENT);
    let grown = server.memory_kib().saturating_sub(memory);
    let each = grown * 1024 / SILENT as u64;
    eprintln!("{each} bytes of memory for each silent connection");
    assert!(each <= SILENT_BYTES_MAX, "{each} bytes for each silent connection");
    // Meanwhile people log in and talk.
    let mut third = server.connect();
    third.login("romeo", "phone");
    let slowest = (0..20).map(|n| third.chat(&mut juliet, &format!("word {n}"))).max().unwrap();
    assert!(slowest < WORD_MAX, "a word took {slowest:?}");
    // All are told, and closed.
    for socket in silent.drain(..).step_by(500) {
        Client::from(socket).ends_with("connection-timeout");
    }
    drop(silent);
    server.wait_until("every connection is given back", |server| server.open_files() <= files - 200 + 1);
    romeo.chat(&mut juliet, "after");
    server.wait_until("their memory goes back", |server| server.memory_kib() < memory + grown / 4);
}

#[test]
fn strangers_beyond_the_limit_are_refused_and_users_are_no_strangers() {
    let server = Server::start("unauthenticated_max = 10", &["romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let mut strangers: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for _ in 0..5 {
        assert_eq!(server.connect().next(), Got::Closed);
    }
    // Whoever is in stays in.
    for stranger in &mut strangers {
        stranger.open();
    }
    romeo.chat(&mut juliet, "we are no strangers");
    // One goes, one may come.
    strangers.pop();
    let _newcomer = admitted(|| server.connect());
    assert_eq!(server.connect().next(), Got::Closed);
    // One logs in, one may come.
    strangers[0].send(crate::client::plain("romeo"));
    assert!(strangers[0].element().starts_with("<success"));
    strangers[0].open();
    strangers[0].bind("phone");
    server.connect().open();
}

#[test]
fn an_address_has_so_many_connections_and_they_are_counted_where_they_are() {
    let server = Server::start("connections_per_address_max = 2", &["romeo"]);
    let from = |last: u8| Client::connect_from(server.plain, [127, 0, 0, last], None);
    let mut first = from(2);
    first.login("romeo", "x");
    first.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = first.element();
    let id = enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap();
    let mut second = from(2);
    second.open();
    assert_eq!(from(2).next(), Got::Closed);
    // Another address is another matter, and the session goes there.
    let mut other = from(3);
    other.authenticate("romeo");
    other.open();
    other.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"));
    assert!(other.element().starts_with("<resumed"));
    first.is_closed();
    drop(first);
    let _third = admitted(|| from(2));
    assert_eq!(from(2).next(), Got::Closed);
    let _fourth = admitted(|| from(3));
    assert_eq!(from(3).next(), Got::Closed);
}

/// Connects until there is room: a connection that was closed by this side counts until the server has seen it.
fn admitted(connect: impl Fn() -> Client) -> Client {
    let since = Instant::now();
    loop {
        let mut client = connect();
        client.send(HEADER);
        if matches!(client.next(), Got::Header(_)) {
            client.element();
            return client;
        }
        assert!(since.elapsed() < PATIENCE, "the server takes no one any more");
    }
}

#[test]
fn a_silent_session_is_asked_and_ended_if_it_does_not_answer() {
    let server = Server::start("idle_seconds_max = 1", &["romeo", "juliet"]);
    let mut romeo = server.connect();
    romeo.login("romeo", "x");
    // Whoever answers stays.
    for _ in 0..2 {
        let ping = romeo.element();
        assert!(ping.contains("<ping xmlns='urn:xmpp:ping'"), "{ping}");
        let id = ping.split(" id='").nth(1).unwrap().split('\'').next().unwrap();
        romeo.send(format!("<iq type='result' id='{id}' to='localhost'/>"));
    }
    // Any byte is an answer.
    assert!(romeo.element().contains("<ping"));
    romeo.send(" ");
    assert!(romeo.element().contains("<ping"));
    romeo.ends_with("connection-timeout");
}

#[test]
fn a_silent_managed_session_is_asked_for_a_count_and_waits_to_be_resumed() {
    let server = Server::start("idle_seconds_max = 1", &["romeo"]);
    let mut romeo = server.connect();
    romeo.login("romeo", "x");
    romeo.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = romeo.element();
    let id = enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap();
    assert!(romeo.element().starts_with("<r "));
    romeo.send("<a xmlns='urn:xmpp:sm:3' h='0'/>");
    assert!(romeo.element().starts_with("<r "));
    // Its connection is given up, its session is not.
    romeo.is_closed();
    let mut again = server.connect();
    again.authenticate("romeo");
    again.open();
    again.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"));
    assert!(again.element().starts_with("<resumed"));
}
