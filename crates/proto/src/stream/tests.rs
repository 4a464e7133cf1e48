#![allow(clippy::unwrap_used)]

use super::*;
use crate::sasl::{Hash, Offer};
use crate::xml::{Stanza, XmlLimits};
use crate::{StreamCondition, ns};

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
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    assert!(matches!(feed(&mut stream, header), Some(Event::Opened(_))));
    stream.accept(Acceptance {
        domain: "example.org".into(),
        starttls,
        offer: Offer::new("example.org", Default::default(), &[Hash::Sha256], true, false),
        registration,
        features: Vec::new(),
        limits: StreamLimits::default(),
        xml: LIMITS,
    });
    let features = written(&mut stream);
    (stream, features)
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
