//! Things said at the wrong time.

use crate::client::{Client, Got, bind, plain};
use crate::server::Server;

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

fn condition(name: &str) -> String {
    format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'")
}

#[test]
fn stanzas_before_authentication_and_before_binding_are_not_authorized() {
    let server = Server::start("", &["romeo"]);
    for stanza in [
        "<message to='romeo@localhost'><body>x</body></message>",
        "<presence/>",
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        &bind("x"),
    ] {
        let mut client = server.connect();
        client.open();
        client.send(stanza);
        client.ends_with("not-authorized");
    }
    for stanza in ["<message to='romeo@localhost'><body>x</body></message>", "<presence/>"] {
        let mut client = server.connect();
        client.authenticate("romeo");
        client.open();
        client.send(stanza);
        client.ends_with("not-authorized");
    }
    // Nothing of it has reached the account.
    let mut romeo = server.login("romeo");
    romeo.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(romeo.element().contains("id='p'"));
}

#[test]
fn authenticating_twice_ends_the_stream() {
    let server = Server::start("", &["romeo"]);
    let mut client = server.connect();
    client.authenticate("romeo");
    client.open();
    client.send(plain("romeo"));
    client.ends_with("unsupported-stanza-type");
    let mut client = server.connect();
    client.login("romeo", "a");
    client.send(plain("romeo"));
    client.ends_with("unsupported-stanza-type");
    // Two requests in one breath: the second one meets a stream that waits for a header.
    let mut client = server.connect();
    client.open();
    client.send(plain("romeo") + &plain("romeo"));
    assert!(client.element().starts_with("<success"));
    client.ends_with("invalid-namespace");
}

#[test]
fn a_response_without_a_question_is_not_authorized() {
    let server = Server::start("", &[]);
    for nonza in
        ["<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"]
    {
        let mut client = server.connect();
        client.open();
        client.send(nonza);
        client.ends_with("not-authorized");
    }
}

#[test]
fn a_second_bind_is_not_allowed_and_the_session_goes_on() {
    let server = Server::start("", &["romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    romeo.send(bind("another"));
    let answer = romeo.wait_for(&["id='bind'"]);
    assert!(answer.contains("type='error'") && answer.contains(&condition("not-allowed")), "{answer}");
    romeo.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    assert!(romeo.wait_for(&["id='s'"]).contains("type='result'"));
    romeo.chat(&mut juliet, "one resource");
}

#[test]
fn stream_management_needs_a_resource_and_is_enabled_once() {
    let server = Server::start("", &["romeo"]);
    let mut client = server.connect();
    client.authenticate("romeo");
    client.open();
    for nonza in [ENABLE, "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>"] {
        client.send(nonza);
        let answer = client.element();
        assert!(answer.starts_with("<failed") && answer.contains(&condition("unexpected-request")), "{answer}");
    }
    client.bind("x");
    for nonza in ["<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>"] {
        client.send(nonza);
        assert!(client.element().starts_with("<failed"));
    }
    client.send(ENABLE);
    assert!(client.element().starts_with("<enabled"));
    for nonza in [ENABLE, "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"] {
        client.send(nonza);
        let answer = client.element();
        assert!(answer.starts_with("<failed") && answer.contains(&condition("unexpected-request")), "{answer}");
    }
    // Before authentication nothing of it is known.
    let mut client = server.connect();
    client.open();
    client.send(ENABLE);
    client.ends_with("not-authorized");
}

fn managed(server: &Server, user: &str) -> (Client, String) {
    let mut client = server.connect();
    client.login(user, user);
    client.send(ENABLE);
    let enabled = client.wait_for(&["<enabled"]);
    let id = enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    (client, id)
}

fn resume(id: &str, h: &str) -> String {
    format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
}

#[test]
fn a_session_is_resumed_by_its_own_account_alone() {
    let server = Server::start("", &["romeo", "mallory"]);
    let (_romeo, id) = managed(&server, "romeo");
    let mut mallory = server.connect();
    mallory.authenticate("mallory");
    mallory.open();
    for (request, expected) in [
        (resume(&id, "0"), "item-not-found"),
        (resume("", "0"), "item-not-found"),
        (resume(&id, "-1"), "bad-request"),
        (resume(&id, "4294967296"), "bad-request"),
        ("<resume xmlns='urn:xmpp:sm:3' h='0'/>".to_owned(), "bad-request"),
    ] {
        mallory.send(&request);
        let answer = mallory.element();
        assert!(answer.starts_with("<failed") && answer.contains(&condition(expected)), "{request}: {answer}");
    }
    // And may go on to bind.
    mallory.bind("x");
    // The owner may.
    let mut again = server.connect();
    again.authenticate("romeo");
    again.open();
    again.send(resume(&id, "0"));
    assert!(again.element().starts_with("<resumed"));
}

#[test]
fn acknowledging_what_was_never_sent_ends_the_stream_and_says_the_counts() {
    let server = Server::start("", &["romeo"]);
    let (mut romeo, id) = managed(&server, "romeo");
    romeo.send("<a xmlns='urn:xmpp:sm:3' h='5'/>");
    let error = romeo.ends_with("undefined-condition");
    let expected = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='5' send-count='0'/>";
    assert!(error.contains(expected), "{error}");
    // Such a session is over.
    let mut again = server.connect();
    again.authenticate("romeo");
    again.open();
    again.send(resume(&id, "0"));
    assert!(again.element().contains(&condition("item-not-found")));
    // So does a resume that claims too much, of which the session itself knows nothing.
    let (waiting, id) = managed(&server, "romeo");
    drop(waiting);
    let mut again = server.connect();
    again.authenticate("romeo");
    again.open();
    again.send(resume(&id, "7"));
    let error = again.ends_with("undefined-condition");
    assert!(error.contains("<handled-count-too-high xmlns='urn:xmpp:sm:3' h='7' send-count='0'/>"), "{error}");
    // Without a count, or with one that is no number.
    for nonza in ["<a xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='x'/>"] {
        let (mut romeo, _) = managed(&server, "romeo");
        romeo.send(nonza);
        romeo.ends_with("bad-format");
    }
}

#[test]
fn elements_that_nobody_knows_end_the_stream() {
    let server = Server::start("", &["romeo"]);
    for element in
        ["<nonsense/>", "<nonsense xmlns='urn:example'/>", "<stream:features/>", "<flood xmlns='urn:xmpp:sm:3'/>"]
    {
        let mut client = server.connect();
        client.login("romeo", "x");
        client.send(element);
        client.ends_with("unsupported-stanza-type");
    }
}

#[test]
fn starttls_out_of_time_fails() {
    let server = Server::start("", &["romeo"]);
    let mut client = server.connect();
    client.authenticate("romeo");
    client.open();
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(client.element().starts_with("<failure"));
    assert_eq!(client.next(), Got::End);
    client.is_closed();
    // Stanzas in clear behind the wish for TLS are nobody's.
    let mut client = server.connect();
    client.open();
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><presence/>");
    assert!(client.element().starts_with("<proceed"));
    client.is_closed();
}

#[test]
fn malformed_addresses_and_requests_are_refused_one_by_one() {
    let server = Server::start("", &["romeo", "juliet"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    for to in ["@", "a@@localhost", "/", "romeo@localhost/", &"x".repeat(2000)] {
        romeo.send(format!("<iq type='get' id='i' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"));
        let answer = romeo.wait_for(&["id='i'"]);
        assert!(answer.contains(&condition("jid-malformed")), "{to}: {answer}");
    }
    for iq in [
        "<iq type='fetch' id='i'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='i'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='get' id='i'/>",
        "<iq type='get' id='i'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>",
        "<presence id='i' type='gone'/>",
    ] {
        romeo.send(iq);
        let answer = romeo.wait_for(&["id='i'"]);
        assert!(answer.contains(&condition("bad-request")), "{iq}: {answer}");
    }
    romeo.chat(&mut juliet, "a word");
}

#[test]
fn whoever_speaks_in_anothers_name_is_cut_off_and_not_heard() {
    let server = Server::start("", &["romeo", "juliet", "mallory"]);
    let (mut romeo, mut juliet) = (server.login("romeo"), server.login("juliet"));
    for from in ["romeo@localhost/romeo", "localhost", "pope@vatican.example", "@"] {
        let mut mallory = server.login("mallory");
        mallory.send(format!("<message from='{from}' to='{}' type='chat'><body>forged</body></message>", juliet.jid));
        mallory.ends_with("invalid-from");
    }
    romeo.send(format!("<message to='{}' type='chat'><body>true</body></message>", juliet.jid));
    let first = juliet.wait_for(&["<message"]);
    assert!(first.contains("<body>true"), "{first}");
}
