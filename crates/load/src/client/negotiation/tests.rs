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

const INLINE: &str = "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-1</mechanism>\
    <mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'/><fast xmlns='urn:xmpp:fast:0'>\
    <mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication></stream:features>";

fn success(inside: &str) -> String {
    format!(
        "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>romeo@example.org/load0/1</authorization-identifier>{inside}</success>"
    )
}

#[test]
fn a_login_that_does_all_at_once_ends_in_a_session_with_what_it_asked_for() {
    let mut talk =
        Talk::new(Profile { login: Login::Sasl2, acks: true, carbons: true, presence: true, ..profile() }, None);
    let login = talk.answer(INLINE);
    assert!(
        login.contains("<initial-response>AHJvbWVvAHNlY3JldA==</initial-response>") && !login.contains("request-token")
    );
    assert!(login.contains(
        "<tag>load0</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/><enable xmlns='urn:xmpp:carbons:2'/></bind>"
    ));
    let bound = "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='abc'/></bound>";
    let (next, said) = talk.says(&success(bound));
    assert_eq!(said, "<presence/>");
    let Ok(Next::Ready(ready)) = next else { panic!("{next:?}") };
    assert_eq!((ready.jid.as_str(), ready.stream.as_deref()), ("romeo@example.org/load0/1", Some("abc")));
}

#[test]
fn a_token_is_asked_for_and_used_the_next_time_before_the_offer_is_read() {
    let fast = Profile { login: Login::Fast, ..profile() };
    let mut first = Talk::new(fast.clone(), None);
    assert!(first.answer(INLINE).contains("<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>"));
    let (next, _) =
        first.says(&success("<bound xmlns='urn:xmpp:bind:0'/><token xmlns='urn:xmpp:fast:0' expiry='x' token='t'/>"));
    let Ok(Next::Ready(ready)) = next else { panic!("{next:?}") };
    assert_eq!(ready.token, Some(Token::new("t".into())));

    let mut again = Talk::new(fast, None);
    again.negotiation = again.negotiation.with_token(ready.token);
    let mut out = Vec::new();
    again.negotiation.open(&again.profile, &mut out);
    let opened = String::from_utf8(out).unwrap();
    assert!(opened.contains("'><authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'>"), "{opened}");
    assert!(opened.contains("<fast xmlns='urn:xmpp:fast:0'/>"));
    assert_eq!(again.answer(INLINE), "");
    let (next, _) = again.says(&success("<additional-data>AAAA</additional-data>"));
    assert_eq!(next, Err(Refusal::Sasl(SaslError::Token)), "it does not have the token");
}

#[test]
fn what_a_server_does_not_offer_inline_is_said() {
    let says = |login, features: &str| {
        let (next, _) = Talk::new(Profile { login, ..profile() }, None).says(features);
        next.unwrap_err().to_string()
    };
    assert!(says(Login::Sasl2, FEATURES).contains("does not offer SASL2 (XEP-0388)"));
    assert!(says(Login::Sasl2, &INLINE.replace("urn:xmpp:bind:0", "x")).contains("does not offer Bind 2 (XEP-0386)"));
    assert!(says(Login::Fast, &INLINE.replace("urn:xmpp:fast:0", "x")).contains("does not offer tokens (XEP-0484)"));
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
