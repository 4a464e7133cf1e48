//! Conversations as servers have them, and what a client makes of them.

#![allow(clippy::unwrap_used)]

use super::*;

const FEATURES: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms></stream:features>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const BOUND: &str = "<iq id='bind' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <jid>romeo@example.org/load0</jid></bind></iq>";

struct Talk {
    negotiation: Negotiation,
    profile: Profile,
    keys: Keys,
}

impl Talk {
    fn new(profile: Profile, resumption: Option<Resumption>) -> Self {
        let account = Account { username: "romeo".into(), password: "secret".into(), resource: "load0".into() };
        Self { negotiation: Negotiation::new(account, resumption), profile, keys: Keys::default() }
    }

    /// The server says this: what happens next, and what the client says.
    fn says(&mut self, element: &str) -> (Result<Next, Refusal>, String) {
        let mut out = Vec::new();
        let next = self.negotiation.element(&self.profile, &mut self.keys, element.as_bytes(), &mut out);
        (next, String::from_utf8(out).unwrap())
    }

    fn answer(&mut self, element: &str) -> String {
        let (next, answer) = self.says(element);
        assert_eq!(next, Ok(Next::Wait), "{element}");
        answer
    }
}

fn profile() -> Profile {
    Profile { domain: "example.org".into(), ..Profile::default() }
}

#[test]
fn a_login_with_plain_ends_in_a_session() {
    let mut talk = Talk::new(Profile { presence: true, ..profile() }, None);
    assert!(talk.answer(FEATURES).contains("mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==<"));
    assert!(talk.answer(SUCCESS).contains("to='example.org'"));
    let bind = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
    assert!(talk.answer(bind).contains("<resource>load0</resource>"));
    let (next, said) = talk.says(BOUND);
    assert_eq!(said, "<presence/>");
    let Ok(Next::Ready(ready)) = next else { panic!("{next:?}") };
    assert_eq!((ready.jid.as_str(), ready.stream), ("romeo@example.org/load0", None));
}

#[test]
fn a_session_is_asked_for_only_where_it_is_required() {
    for (session, asked) in [
        ("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>", true),
        ("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'></session>", true),
        ("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>", false),
        ("", false),
    ] {
        let mut talk = Talk::new(profile(), None);
        talk.answer(FEATURES);
        talk.answer(SUCCESS);
        let offered = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>{session}<x><optional/></x>");
        talk.answer(&format!("<stream:features>{offered}</stream:features>"));
        let (next, said) = talk.says(BOUND);
        assert_eq!(said.contains("<session"), asked, "{session}");
        assert_eq!(next == Ok(Next::Wait), asked, "{session}");
        if asked {
            let (next, _) = talk.says("<iq type='result' id='session'/>");
            assert!(matches!(next, Ok(Next::Ready(_))));
        }
    }
}

#[test]
fn starttls_comes_first_and_only_once() {
    let mut talk = Talk::new(Profile { security: Security::Starttls, ..profile() }, None);
    assert!(matches!(talk.says(FEATURES).0, Err(Refusal::NotOffered(_))));
    let features = FEATURES.replace("<mech", "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><mech");
    assert_eq!(talk.answer(&features), "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    assert_eq!(talk.says(proceed).0, Ok(Next::StartTls));
    talk.negotiation.protect();
    talk.negotiation.open(&profile(), &mut Vec::new());
    assert!(talk.answer(FEATURES).starts_with("<auth"));
}

#[test]
fn acknowledgements_count_from_where_both_sides_agree() {
    let mut talk = Talk::new(Profile { acks: true, carbons: true, roster: true, presence: true, ..profile() }, None);
    talk.answer(FEATURES);
    talk.answer(SUCCESS);
    talk.answer("<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>");
    assert!(talk.answer(BOUND).starts_with("<enable xmlns='urn:xmpp:sm:3' resume='true'/>"));
    talk.answer("<presence from='a@example.org/b'/>");
    talk.answer("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>");
    talk.answer("<iq type='result' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
    let (next, _) = talk.says("<iq type='result' id='carbons'/>");
    let Ok(Next::Ready(ready)) = next else { panic!("{next:?}") };
    assert_eq!((ready.stream.as_deref(), ready.sent, ready.received), (Some("s1"), 3, 2));
}

#[test]
fn a_stream_that_cannot_be_resumed_is_replaced_by_a_new_one() {
    let bind = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
    for resumes in [true, false] {
        let mut talk = Talk::new(profile(), Some(Resumption { id: "s1".into(), received: 7 }));
        talk.answer(FEATURES);
        talk.answer(SUCCESS);
        assert_eq!(talk.answer(bind), "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='7'/>");
        if resumes {
            let (next, _) = talk.says("<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='4'/>");
            let Ok(Next::Ready(ready)) = next else { panic!("{next:?}") };
            assert_eq!((ready.resumed, ready.stream.as_deref()), (Some(4), Some("s1")));
        } else {
            let failed = "<failed xmlns='urn:xmpp:sm:3'><item-not-found/></failed>";
            assert!(talk.answer(failed).contains("<resource>load0</resource>"));
        }
    }
}

#[test]
fn refusals_name_the_condition_and_the_text() {
    let mut talk = Talk::new(profile(), None);
    talk.answer(FEATURES);
    let (next, _) = talk.says("<failure xmlns='x'><not-authorized/><text>Wrong.</text></failure>");
    assert_eq!(next, Err(Refusal::Login("romeo".into(), "not-authorized (Wrong.)".into())));
    let (next, _) = talk.says("<stream:error><host-unknown xmlns='y'/></stream:error>");
    assert_eq!(next, Err(Refusal::Stream("host-unknown".into())));
}

#[test]
fn a_server_that_does_not_prove_itself_is_refused() {
    let mut talk = Talk::new(Profile { mechanism: Mechanism::ScramSha1, ..profile() }, None);
    assert!(talk.answer(FEATURES).contains("SCRAM-SHA-1"));
    let (next, _) = talk.says(SUCCESS);
    assert!(matches!(next, Err(Refusal::Sasl(_))), "{next:?}");
}
