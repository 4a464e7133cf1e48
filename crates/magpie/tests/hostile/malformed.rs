//! RFC 6120 §4.9.3, §11: XML that is wrong, forbidden or too much, at each stage of a stream.

use crate::client::{Client, Got, HEADER};
use crate::server::Server;

/// How far a client has come before it misbehaves.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Features,
    Sasl,
    Authenticated,
    Bound,
    Managed,
}

const STAGES: [Stage; 5] = [Stage::Features, Stage::Sasl, Stage::Authenticated, Stage::Bound, Stage::Managed];

fn at(server: &Server, stage: Stage) -> Client {
    let mut client = server.connect();
    match stage {
        Stage::Features => drop(client.open()),
        Stage::Sasl => {
            client.open();
            client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1tYWxsb3J5LHI9YWJj</auth>");
            assert!(client.element().starts_with("<challenge"));
        }
        Stage::Authenticated => {
            client.authenticate("mallory");
            client.open();
        }
        Stage::Bound => client.login("mallory", "x"),
        Stage::Managed => {
            client.login("mallory", "y");
            client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            assert!(client.element().starts_with("<enabled"));
        }
    }
    client
}

#[test]
fn malformed_and_forbidden_xml_ends_the_stream_at_every_stage() {
    let server = Server::start("", &["mallory", "romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    let bomb = b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]><message>&c;</message>";
    let wrong: &[(&[u8], &str)] = &[
        (bomb, "restricted-xml"),
        (b"<!DOCTYPE message SYSTEM 'file:///etc/passwd'><message/>", "restricted-xml"),
        (b"<?php echo 1 ?>", "restricted-xml"),
        (b"<?xml version='1.0'?>", "restricted-xml"),
        (b"<!-- a comment -->", "restricted-xml"),
        (b"<message><!-- a comment --></message>", "restricted-xml"),
        (b"<message><body>&xxe;</body></message>", "restricted-xml"),
        (b"<message a='&xxe;'/>", "restricted-xml"),
        (b"<message><body>&#0;</body></message>", "not-well-formed"),
        (b"<message><body>&#xFFFF;</body></message>", "not-well-formed"),
        (b"<message><body>a\x01b</body></message>", "not-well-formed"),
        (b"<message><body>a\x00b</body></message>", "not-well-formed"),
        (b"<message><body>\xff\xfe</body></message>", "not-well-formed"),
        (b"<message><body>\xc0\xaf</body></message>", "not-well-formed"),
        (b"<message><body>\xed\xa0\x80</body></message>", "not-well-formed"),
        (b"<message><body>\xe2\x82</body></message>", "not-well-formed"),
        (b"<message><body></message></body>", "not-well-formed"),
        (b"<message><body></body></massage>", "not-well-formed"),
        (b"</message>", "not-well-formed"),
        (b"<message a='1' a='2'/>", "not-well-formed"),
        (b"<message a=1/>", "not-well-formed"),
        (b"<message a='<'/>", "not-well-formed"),
        (b"<message <body/></message>", "not-well-formed"),
        (b"<1message/>", "not-well-formed"),
        (b"<message><body>]]></body></message>", "not-well-formed"),
        (b"between stanzas", "not-well-formed"),
        (b"<message><x:y/></message>", "bad-namespace-prefix"),
        (b"<message x:y='1'/>", "bad-namespace-prefix"),
        (b"<message xmlns:x=''/>", "not-well-formed"),
    ];
    for stage in STAGES {
        for (bytes, condition) in wrong {
            eprintln!("{stage:?}: {}", String::from_utf8_lossy(bytes));
            let mut client = at(&server, stage);
            client.send(bytes);
            client.ends_with(condition);
        }
    }
    romeo.chat(&mut juliet, "still here");
}

#[test]
fn wrong_headers_end_the_stream() {
    let server = Server::start("", &[]);
    let header = |from: &str, to: &str| HEADER.replace(from, to).into_bytes();
    let wrong: &[(Vec<u8>, &str)] = &[
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not-well-formed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "not-well-formed"),
        (b"\xff\xfe<\x00s\x00".to_vec(), "not-well-formed"),
        (b"</stream:stream>".to_vec(), "not-well-formed"),
        (b"<!DOCTYPE stream>".to_vec(), "restricted-xml"),
        (b"<!-- x -->".to_vec(), "restricted-xml"),
        (b"<?xml-stylesheet href='x'?>".to_vec(), "restricted-xml"),
        (b"<?xml version='1.0' encoding='UTF-16'?>".to_vec(), "unsupported-encoding"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>".to_vec(), "unsupported-encoding"),
        (header("xmlns='jabber:client'", "xmlns='jabber:server'"), "invalid-namespace"),
        (header("etherx", "example"), "invalid-namespace"),
        (header("xmlns:stream=", "xmlns:strm="), "bad-namespace-prefix"),
        (header("version='1.0'", ""), "unsupported-version"),
        (header("version='1.0'", "version='0.9'"), "unsupported-version"),
        (header("localhost", "elsewhere.example"), "host-unknown"),
        (header("localhost", "@"), "host-unknown"),
        (header("to='localhost'", &format!("to='localhost' a='{}'", "x".repeat(20_000))), "policy-violation"),
        (format!("<stream:stream {}", "a".repeat(20_000)).into_bytes(), "policy-violation"),
        (
            header("to=", &(0..80).map(|n| format!("a{n}='' ")).chain(["to=".into()]).collect::<String>()),
            "policy-violation",
        ),
    ];
    for (bytes, condition) in wrong {
        eprintln!("{}", String::from_utf8_lossy(bytes));
        let mut client = server.connect();
        client.send(bytes);
        client.ends_with(condition);
    }
}

#[test]
fn too_much_of_anything_is_a_policy_violation_at_every_stage() {
    let server = Server::start(
        "stanza_bytes_max = 100000\nstanza_bytes_max_before_auth = 10000\ndepth_max = 32\nattributes_max = 16\nelements_max = 500",
        &["mallory", "romeo", "juliet"],
    );
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    for stage in STAGES {
        let bytes_max = match stage {
            Stage::Features | Stage::Sasl => 10_000,
            _ => 100_000,
        };
        let message = |content: String| format!("<message to='juliet@localhost'>{content}</message>");
        let too_much = [
            message(format!("<body>{}</body>", "x".repeat(bytes_max))),
            // Not even the end of the tag.
            format!("<message a='{}", "x".repeat(bytes_max)),
            format!("<message {}", "x".repeat(bytes_max)),
            // What an attacker would not finish.
            format!("<message><body>{}", "x".repeat(bytes_max)),
            message("<a>".repeat(32) + &"</a>".repeat(32)),
            "<a>".repeat(32) + "<a>",
            message("<a/>".repeat(500)),
            message(format!("<a {}/>", (0..17).map(|n| format!("a{n}='' ")).collect::<String>())),
            message(format!("<a {}/>", (0..17).map(|n| format!("xmlns:a{n}='x' ")).collect::<String>())),
            // White space inside a stanza counts; it does not between stanzas.
            format!("<message>{}", " ".repeat(bytes_max)),
        ];
        for (index, bytes) in too_much.iter().enumerate() {
            eprintln!("{stage:?}: {index}");
            let mut client = at(&server, stage);
            client.send(bytes);
            client.ends_with("policy-violation");
        }
    }
    // What is just within the limits is delivered.
    let mut client = at(&server, Stage::Bound);
    let inner = "<a>".repeat(31) + &"</a>".repeat(31) + &"<a/>".repeat(467);
    let body = "x".repeat(90_000);
    client.send(format!("<message to='{}' type='chat'>{inner}<body>{body}</body></message>", juliet.jid));
    assert!(juliet.wait_for(&["<a>"]).contains(&body));
    client.send(" ".repeat(200_000));
    client.chat(&mut juliet, "white space is no stanza");
    romeo.chat(&mut juliet, "still here");
    assert_eq!(romeo.next_within(std::time::Duration::from_millis(50)), Got::Nothing);
}

#[test]
fn a_dribble_of_bytes_is_understood_and_grows_nothing() {
    let server = Server::start("", &["mallory", "juliet"]);
    let mut juliet = server.login("juliet");
    let mut client = at(&server, Stage::Bound);
    let message = format!("<message to='{}' type='chat'><body>slöw &amp; \u{1F426}</body></message>", juliet.jid);
    for byte in message.as_bytes() {
        client.send([*byte]);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(juliet.wait_for(&["<message"]).contains("<body>slöw &amp; \u{1F426}</body>"));
}
