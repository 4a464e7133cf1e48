#![allow(clippy::unwrap_used)]

use super::*;
use crate::sasl::{Hash, Offer, SaslFailure, ScramKeys};
use crate::xml::{Stanza, XmlLimits};
use crate::{BareJid, StreamCondition, ns};

const LIMITS: XmlLimits = XmlLimits { stanza_bytes_max: 4096, depth_max: 16, attributes_max: 16, elements_max: 64 };

const GET: &str = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>";

fn feed(stream: &mut ClientStream, text: &str) -> Option<Event> {
    let mut input = text.as_bytes();
    let event = stream.next(&mut input, &mut || "nonce".into());
    assert!(input.is_empty());
    event
}

fn written(stream: &mut ClientStream) -> String {
    String::from_utf8(stream.take_output()).unwrap()
}

/// A stream whose features were just sent, and the features.
fn opened(starttls: StartTls, registration: bool) -> (ClientStream, String) {
    let mut stream = ClientStream::new(LIMITS, false, "id".into(), "example.org".into());
    open(&mut stream, "", starttls, registration);
    let features = written(&mut stream);
    (stream, features)
}

/// Sends a header with these attributes, and accepts it.
fn open(stream: &mut ClientStream, attributes: &str, starttls: StartTls, registration: bool) {
    assert!(matches!(feed(stream, &header(attributes)), Some(Event::Opened(_))));
    stream.accept(Acceptance {
        domain: "example.org".into(),
        starttls,
        offer: Offer::new("example.org", Default::default(), &[Hash::Sha256], true, false),
        protected: true,
        inline: None,
        registration,
        invites: false,
        features: Vec::new(),
        limits: StreamLimits::default(),
        xml: LIMITS,
    });
}

fn header(attributes: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' {attributes}>"
    )
}

fn auth(mechanism: &str, message: &str) -> String {
    format!("<auth xmlns='{}' mechanism='{mechanism}'>{message}</auth>", ns::SASL)
}

/// `\0juliet\0secret`
const MESSAGE: &str = "AGp1bGlldABzZWNyZXQ=";

fn keys() -> ScramKeys {
    ScramKeys::fake(&[7; 32], "juliet", Hash::Sha256, 4096)
}

/// A stream after SASL, with a new header still to come.
fn authenticated() -> ClientStream {
    let (mut stream, _) = opened(StartTls::Optional, false);
    assert!(matches!(feed(&mut stream, &auth("PLAIN", MESSAGE)), Some(Event::FindKeys { .. })));
    assert!(matches!(stream.keys(keys(), true), Some(Event::CheckPassword { .. })));
    assert!(matches!(stream.password_checked(true), Some(Event::Authenticated { .. })));
    stream.authenticated(BareJid::parse("juliet@example.org").unwrap());
    stream.take_output();
    stream
}

/// The condition with which the stream fails on this, after the features.
fn failure(stream: &mut ClientStream, text: &str) -> StreamCondition {
    match feed_some(stream, text) {
        Some(Event::Failed(error)) => error.condition,
        other => panic!("{other:?}"),
    }
}

/// As [`feed`], where not all is taken.
fn feed_some(stream: &mut ClientStream, text: &str) -> Option<Event> {
    stream.next(&mut text.as_bytes(), &mut || "nonce".into())
}

#[test]
fn a_header_that_is_none_of_ours_has_its_own_error_and_ours_comes_first() {
    let client = "xmlns='jabber:client'";
    let streams = "xmlns:stream='http://etherx.jabber.org/streams'";
    for (text, condition) in [
        (format!("<stream:stream {client} xmlns:stream='urn:x' version='1.0'>"), StreamCondition::InvalidNamespace),
        (format!("<stream:flow {client} {streams} version='1.0'>"), StreamCondition::InvalidNamespace),
        (format!("<stream:stream xmlns='jabber:server' {streams} version='1.0'>"), StreamCondition::InvalidNamespace),
        (format!("<stream:stream {client} {streams}>"), StreamCondition::UnsupportedVersion),
        (format!("<stream:stream {client} {streams} version='0.9'>"), StreamCondition::UnsupportedVersion),
        (format!("<stream:stream {client} {streams} version='one'>"), StreamCondition::UnsupportedVersion),
        (format!("<stream:stream {client} version='1.0'>"), StreamCondition::BadNamespacePrefix),
        (
            format!("<?xml version='1.0' encoding='latin1'?><stream:stream {client}>"),
            StreamCondition::UnsupportedEncoding,
        ),
        ("<!DOCTYPE x>".into(), StreamCondition::RestrictedXml),
        ("<stream:stream <".into(), StreamCondition::NotWellFormed),
        ("GET / HTTP/1.1\r\n".into(), StreamCondition::NotWellFormed),
        (header(&format!("to='{}'", "x".repeat(5000))), StreamCondition::PolicyViolation),
    ] {
        let mut stream = ClientStream::new(LIMITS, false, "id".into(), "example.org".into());
        assert_eq!(failure(&mut stream, &text), condition, "{text}");
        let answer = written(&mut stream);
        assert!(answer.starts_with("<?xml version='1.0'?><stream:stream "), "{answer}");
        assert!(answer.contains(&format!("<{} ", condition.name())), "{answer}");
        assert!(answer.ends_with("</stream:error></stream:stream>"), "{answer}");
        assert!(stream.is_closed());
    }
}

#[test]
fn whom_the_header_is_from_our_header_is_to_as_a_bare_address() {
    for (from, to) in [("Juliet@example.org/balcony", Some("juliet@example.org")), ("@", None)] {
        let mut stream = ClientStream::new(LIMITS, false, "id".into(), "example.org".into());
        open(&mut stream, &format!("from='{from}'"), StartTls::Optional, false);
        let answer = written(&mut stream);
        assert_eq!(answer.contains(" to='"), to.is_some(), "{answer}");
        assert!(to.is_none_or(|to| answer.contains(&format!(" to='{to}'"))), "{answer}");
    }
    // What one stream said is not repeated on the next.
    let mut stream = ClientStream::new(LIMITS, false, "id".into(), "example.org".into());
    open(&mut stream, "from='juliet@example.org'", StartTls::Optional, false);
    assert!(matches!(feed(&mut stream, &format!("<starttls xmlns='{}'/>", ns::TLS)), Some(Event::StartTls)));
    stream.tls_started();
    stream.take_output();
    open(&mut stream, "", StartTls::No, false);
    assert!(!written(&mut stream).contains(" to='"));
}

#[test]
fn before_the_tls_that_is_required_authentication_needs_encryption() {
    let (mut stream, features) = opened(StartTls::Required, false);
    assert!(features.contains("<required/>") && !features.contains("<mechanisms"));
    let event = feed(&mut stream, &auth("PLAIN", MESSAGE));
    assert!(matches!(
        event,
        Some(Event::AuthenticationFailed { failure: SaslFailure::EncryptionRequired, username: None, .. })
    ));
    assert!(written(&mut stream).contains("<encryption-required/>"));
}

#[test]
fn tls_is_started_once_and_not_after_authentication() {
    let starttls = format!("<starttls xmlns='{}'/>", ns::TLS);
    let (mut secure, _) = opened(StartTls::No, false);
    let mut late = authenticated();
    open(&mut late, "", StartTls::Optional, false);
    late.take_output();
    for stream in [&mut secure, &mut late] {
        assert!(matches!(feed(stream, &starttls), Some(Event::Closed)));
        assert_eq!(written(stream), format!("<failure xmlns='{}'/></stream:stream>", ns::TLS));
    }
}

#[test]
fn an_exchange_that_began_in_clear_does_not_go_on_under_tls() {
    let (mut stream, _) = opened(StartTls::Optional, false);
    assert!(feed(&mut stream, &auth("PLAIN", "")).is_none());
    assert!(matches!(feed(&mut stream, &format!("<starttls xmlns='{}'/>", ns::TLS)), Some(Event::StartTls)));
    stream.tls_started();
    open(&mut stream, "", StartTls::No, false);
    let response = format!("<response xmlns='{}'>{MESSAGE}</response>", ns::SASL);
    assert_eq!(failure(&mut stream, &response), StreamCondition::NotAuthorized);
}

#[test]
fn after_authentication_the_stream_stays_with_its_domain() {
    let mut stream = authenticated();
    assert_eq!(failure(&mut stream, &header("to='example.net'")), StreamCondition::HostUnknown);
    let mut stream = authenticated();
    open(&mut stream, "to='Example.ORG'", StartTls::No, false);
    assert!(written(&mut stream).contains("<bind "));
}

#[test]
fn nobody_authenticates_twice() {
    let mut stream = authenticated();
    open(&mut stream, "", StartTls::No, false);
    assert_eq!(failure(&mut stream, &auth("PLAIN", MESSAGE)), StreamCondition::UnsupportedStanzaType);
}

#[test]
fn six_wrong_passwords_end_the_stream() {
    let (mut stream, _) = opened(StartTls::Optional, false);
    for count in 1..=6 {
        feed(&mut stream, &auth("PLAIN", MESSAGE));
        stream.keys(keys(), false);
        assert!(matches!(stream.password_checked(true), Some(Event::AuthenticationFailed { .. })));
        assert_eq!(stream.is_closed(), count == 6, "{count}");
    }
    assert!(written(&mut stream).ends_with("</stream:error></stream:stream>"));
}

#[test]
fn a_stream_is_for_so_many_attempts_whatever_becomes_of_them() {
    // One that is refused, one that cannot be read, and one that is begun and given up for the next.
    for attempt in [auth("TELEPATHY", ""), auth("PLAIN", "!"), auth("PLAIN", "")] {
        let (mut stream, _) = opened(StartTls::Optional, false);
        for _ in 0..32 {
            feed(&mut stream, &attempt);
            assert!(!stream.is_closed());
        }
        assert_eq!(failure(&mut stream, &attempt), StreamCondition::PolicyViolation);
    }
}

#[test]
fn debug_tells_no_password() {
    let (mut stream, _) = opened(StartTls::Optional, true);
    let set = "<iq type='set' id='r'><query xmlns='jabber:iq:register'><password>secret</password></query></iq>";
    let mut texts = vec![format!("{:?}", feed(&mut stream, set))];
    stream.registration_answered(None);
    texts.push(format!("{:?}", feed(&mut stream, &auth("PLAIN", MESSAGE))));
    texts.push(format!("{:?}", stream.keys(keys(), true)));
    texts.push(format!("{stream:?}"));
    for text in texts {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn registration_is_offered_and_handed_over_where_strangers_may_make_accounts() {
    let (mut stream, features) = opened(StartTls::Optional, true);
    assert!(features.contains(&format!("<register xmlns='{}'/>", ns::REGISTER_FEATURE)));
    for kind in ["get", "set"] {
        let iq = format!("<iq type='{kind}' id='r'><query xmlns='jabber:iq:register'/></iq>");
        assert!(matches!(feed(&mut stream, &iq), Some(Event::Register(_))));
        assert!(stream.is_waiting());
        let answer = Stanza::parse(b"<iq type='result' id='r'/>").unwrap();
        stream.registration_answered(Some(&answer));
        assert_eq!(written(&mut stream), "<iq type='result' id='r'/>");
        assert!(!stream.is_waiting());
    }
}

#[test]
fn who_asks_for_registration_where_there_is_none_is_told_so_five_times() {
    let (mut stream, features) = opened(StartTls::No, false);
    assert!(!features.contains(ns::REGISTER_FEATURE));
    for _ in 0..5 {
        assert!(feed(&mut stream, GET).is_none());
        assert!(written(&mut stream).contains("<service-unavailable"));
    }
    assert!(
        matches!(feed(&mut stream, GET), Some(Event::Failed(error)) if error.condition == StreamCondition::PolicyViolation)
    );
}

#[test]
fn nobody_registers_before_the_tls_that_is_required() {
    let (mut stream, features) = opened(StartTls::Required, true);
    assert!(!features.contains(ns::REGISTER_FEATURE));
    assert!(
        matches!(feed(&mut stream, GET), Some(Event::Failed(error)) if error.condition == StreamCondition::NotAuthorized)
    );
}

#[test]
fn any_other_stanza_of_a_stranger_ends_the_stream() {
    for stanza in [
        "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='result' id='r'><query xmlns='jabber:iq:register'/></iq>",
        "<message/>",
    ] {
        let (mut stream, _) = opened(StartTls::Optional, true);
        assert!(
            matches!(feed(&mut stream, stanza), Some(Event::Failed(error)) if error.condition == StreamCondition::NotAuthorized),
            "{stanza}"
        );
    }
}

mod sasl2 {
    use super::*;
    use crate::FullJid;
    use crate::sasl::{UpgradeTask, upgrade};
    use crate::xml::Element;

    fn opened2() -> ClientStream {
        opened2_with(true)
    }

    fn opened2_with(protected: bool) -> ClientStream {
        let mut stream = ClientStream::new(LIMITS, true, "id".into(), "example.org".into());
        assert!(matches!(feed(&mut stream, &header("from='juliet@example.org'")), Some(Event::Opened(_))));
        stream.accept(Acceptance {
            domain: "example.org".into(),
            starttls: StartTls::No,
            offer: Offer::new("example.org", Default::default(), &[Hash::Sha256], true, false),
            protected,
            inline: Some(vec![Element::new("bind", ns::BIND2)]),
            invites: false,
            registration: false,
            features: Vec::new(),
            limits: StreamLimits::default(),
            xml: LIMITS,
        });
        let features = written(&mut stream);
        assert!(features.contains("<inline><bind xmlns='urn:xmpp:bind:0'/></inline><upgrade "), "{features}");
        stream
    }

    fn authenticate(content: &str) -> String {
        format!(
            "<authenticate xmlns='{}' mechanism='PLAIN'><initial-response>{MESSAGE}</initial-response>{content}</authenticate>",
            ns::SASL2
        )
    }

    /// A stream whose peer has proved who it is and waits for `<success/>`.
    fn proved(content: &str) -> ClientStream {
        let mut stream = opened2();
        assert!(matches!(feed(&mut stream, &authenticate(content)), Some(Event::FindKeys { .. })));
        assert!(matches!(stream.keys(keys(), true), Some(Event::CheckPassword { .. })));
        let Some(Event::Authenticated { request: Some(request), .. }) = stream.password_checked(true) else { panic!() };
        assert_eq!(request.inline.len(), usize::from(!content.is_empty()));
        let after = After { features: Vec::new(), limits: StreamLimits::default(), xml: LIMITS };
        stream.authenticated_inline(BareJid::parse("juliet@example.org").unwrap(), after);
        assert!(written(&mut stream).is_empty());
        stream
    }

    const IDENTIFIER: &str = "<authorization-identifier>juliet@example.org";

    #[test]
    fn without_a_wish_to_bind_the_same_stream_goes_on_with_new_features() {
        let mut stream = proved("");
        stream.succeeded();
        let answer = written(&mut stream);
        assert!(answer.starts_with("<success xmlns='urn:xmpp:sasl:2'>"), "{answer}");
        assert!(answer.contains(&format!("{IDENTIFIER}</")) && answer.contains("<bind "), "{answer}");
        assert!(answer.contains("</success><stream:features>"), "{answer}");
        let bind = format!("<iq type='set' id='b'><bind xmlns='{}'/></iq>", ns::BIND);
        assert!(matches!(feed(&mut stream, &bind), Some(Event::Bind { resource: None })));
    }

    #[test]
    fn a_resource_bound_inline_ends_negotiation_and_stamps_stanzas() {
        let mut stream = proved("<bind xmlns='urn:xmpp:bind:0'/>");
        stream.add_to_success(Element::new("token", "urn:example"));
        stream.bound_inline(&FullJid::parse("juliet@example.org/b").unwrap(), vec![Element::new("x", "urn:example")]);
        let answer = written(&mut stream);
        let bound =
            "<token xmlns='urn:example'/><bound xmlns='urn:xmpp:bind:0'><x xmlns='urn:example'/></bound></success>";
        assert!(answer.contains(&format!("{IDENTIFIER}/b</")) && answer.contains(bound), "{answer}");
        assert!(!answer.contains(ns::BIND), "{answer}");
        let Some(Event::Stanza(stanza)) = feed(&mut stream, "<message/>") else { panic!() };
        assert_eq!(stanza.from().as_deref(), Some("juliet@example.org/b"));
    }

    #[test]
    fn what_cannot_be_resumed_is_said_within_the_success_and_what_can_ends_negotiation() {
        let failure = ResumeFailure { condition: crate::StanzaCondition::ItemNotFound, h: Some(7) };
        let mut stream = proved("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>");
        stream.resume_failed(&failure);
        assert!(stream.is_waiting() && written(&mut stream).is_empty());
        stream.succeeded();
        assert!(written(&mut stream).contains("<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found"));

        let mut stream = proved("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>");
        stream.resumed(&FullJid::parse("juliet@example.org/b").unwrap(), "x", 3);
        assert!(written(&mut stream).contains("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='3'/></success>"));
        assert!(stream.is_bound());
    }

    #[test]
    fn during_authentication_nothing_else_may_come_and_the_two_profiles_do_not_mix() {
        let begun = |element: &str| {
            let mut stream = opened2();
            assert!(feed(&mut stream, element).is_none());
            stream
        };
        let two = format!("<authenticate xmlns='{}' mechanism='PLAIN'/>", ns::SASL2);
        let one = auth("PLAIN", "");
        for (first, second) in [
            (&two, auth("PLAIN", MESSAGE)),
            (&two, authenticate("")),
            (&two, "<message/>".into()),
            (&two, GET.into()),
            (&two, format!("<response xmlns='{}'>{MESSAGE}</response>", ns::SASL)),
            (&one, format!("<response xmlns='{}'>{MESSAGE}</response>", ns::SASL2)),
            (&one, format!("<next xmlns='{}' task='x'/>", ns::SASL2)),
        ] {
            assert_eq!(failure(&mut begun(first), &second), StreamCondition::NotAuthorized, "{first} {second}");
        }
        // A new attempt by the other profile gives up the one before.
        assert!(matches!(feed(&mut begun(&one), &authenticate("")), Some(Event::FindKeys { .. })));
    }

    #[test]
    fn attempts_are_counted_across_profiles_and_six_wrong_passwords_end_the_stream() {
        let mut stream = opened2();
        for count in 1..=32 {
            let attempt = match count % 3 {
                0 => auth("TELEPATHY", ""),
                1 => format!("<authenticate xmlns='{}' mechanism='TELEPATHY'/>", ns::SASL2),
                _ => authenticate("").replace(MESSAGE, "!"),
            };
            assert!(matches!(feed(&mut stream, &attempt), Some(Event::AuthenticationFailed { .. })));
        }
        assert_eq!(failure(&mut stream, &authenticate("")), StreamCondition::PolicyViolation);

        let mut stream = opened2();
        for count in 1..=6 {
            feed(&mut stream, &authenticate(""));
            stream.keys(keys(), false);
            assert!(matches!(stream.password_checked(true), Some(Event::AuthenticationFailed { .. })));
            assert!(written(&mut stream).starts_with("<failure xmlns='urn:xmpp:sasl:2'><not-authorized "));
            assert_eq!(stream.is_closed(), count == 6, "{count}");
        }
    }

    #[test]
    fn scram_tells_what_was_offered_by_this_profile_and_by_the_other_unless_that_is_switched_off() {
        use base64::Engine as _;
        let challenge = |text: String, name: &str, protected| {
            let mut stream = opened2_with(protected);
            assert!(matches!(feed(&mut stream, &text), Some(Event::FindKeys { .. })));
            stream.keys(keys(), true);
            let answer = written(&mut stream);
            let data = answer.split(['>', '<']).nth(2).unwrap();
            assert!(answer.starts_with(&format!("<challenge xmlns='{name}'>")), "{answer}");
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap()
        };
        // `n,,n=juliet,r=x`
        let first = "biwsbj1qdWxpZXQscj14";
        let two = format!(
            "<authenticate xmlns='{}' mechanism='SCRAM-SHA-256'><initial-response>{first}</initial-response></authenticate>",
            ns::SASL2
        );
        for protected in [false, true] {
            assert!(challenge(two.clone(), ns::SASL2, protected).contains(",h="));
            assert_eq!(challenge(auth("SCRAM-SHA-256", first), ns::SASL, protected).contains(",h="), protected);
        }
    }

    /// A stream whose peer has proved who it is and is asked for keys of another hash.
    fn asked() -> ClientStream {
        let mut stream = opened2();
        feed(&mut stream, &authenticate("<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>"));
        stream.keys(keys(), true);
        let Some(Event::Authenticated { request: Some(request), .. }) = stream.password_checked(true) else { panic!() };
        assert_eq!(upgrade::wanted(&request), [Hash::Sha512]);
        stream.ask_for_keys(UpgradeTask { hash: Hash::Sha512, iterations: 4096, salt: b"salt".to_vec() });
        let answer = written(&mut stream);
        let task = "<continue xmlns='urn:xmpp:sasl:2'><tasks><task>UPGR-SCRAM-SHA-512</task></tasks></continue>";
        assert_eq!(answer, task);
        stream
    }

    const NEXT: &str = "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>";

    fn hash(base64: &str) -> String {
        format!("<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>{base64}</hash></task-data>")
    }

    #[test]
    fn a_peer_that_is_asked_for_keys_gives_them_and_is_told_of_its_success_afterwards() {
        use base64::Engine as _;
        let mut stream = asked();
        assert!(feed(&mut stream, NEXT).is_none());
        assert!(
            written(&mut stream).contains("<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>c2FsdA==</salt>")
        );
        let given = hash(&base64::engine::general_purpose::STANDARD.encode([7; 64]));
        let Some(Event::Upgraded { keys }) = feed(&mut stream, &given) else { panic!() };
        assert_eq!((keys.hash, keys.iterations, &*keys.salt), (Hash::Sha512, 4096, &b"salt"[..]));
        let after = After { features: Vec::new(), limits: StreamLimits::default(), xml: LIMITS };
        stream.authenticated_inline(BareJid::parse("juliet@example.org").unwrap(), after);
        stream.succeeded();
        assert!(written(&mut stream).starts_with("<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>"));
    }

    #[test]
    fn a_task_that_fails_fails_the_authentication_and_nothing_else_may_come_meanwhile() {
        let failing = |first: &[&str], last: &str, expected: SaslFailure| {
            let mut stream = asked();
            first.iter().for_each(|element| assert!(feed(&mut stream, element).is_none()));
            let event = feed(&mut stream, last);
            assert!(
                matches!(event, Some(Event::AuthenticationFailed { failure, .. }) if failure == expected),
                "{last}"
            );
            assert!(written(&mut stream).contains("<failure xmlns='urn:xmpp:sasl:2'>"));
            // From the beginning, and as nobody.
            assert!(matches!(feed(&mut stream, &authenticate("")), Some(Event::FindKeys { .. })));
        };
        let abort = "<abort xmlns='urn:xmpp:sasl:2'/>";
        failing(&[], &NEXT.replace("512", "256"), SaslFailure::MalformedRequest);
        failing(&[], abort, SaslFailure::Aborted);
        failing(&[NEXT], abort, SaslFailure::Aborted);
        failing(&[NEXT], NEXT, SaslFailure::MalformedRequest);
        failing(&[NEXT], &hash("AAAA"), SaslFailure::MalformedRequest);
        failing(&[NEXT], &hash("!"), SaslFailure::IncorrectEncoding);
        for (first, second) in [
            ("", hash("AAAA")),
            ("", authenticate("")),
            (NEXT, authenticate("")),
            (NEXT, auth("PLAIN", MESSAGE)),
            (NEXT, "<message/>".into()),
            (NEXT, format!("<iq type='set' id='b'><bind xmlns='{}'/></iq>", ns::BIND)),
        ] {
            let mut stream = asked();
            feed(&mut stream, first);
            assert_eq!(failure(&mut stream, &second), StreamCondition::NotAuthorized, "{first} {second}");
        }
    }

    #[test]
    fn other_features_than_the_client_has_in_mind_fail_it_and_are_no_guess() {
        let version = |value: &str| format!("<config-version xmlns='urn:xmpp:iap:0' value='{value}'/>");
        let mut stream = opened2();
        for _ in 0..10 {
            let event = feed(&mut stream, &authenticate(&version("older")));
            assert!(matches!(event, Some(Event::AuthenticationFailed { failure: SaslFailure::Aborted, .. })));
            assert!(written(&mut stream).contains("<config-version-mismatch "));
            assert!(!stream.is_closed());
        }
    }
}
