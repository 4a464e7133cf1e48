//! The limits, how early they strike, and what the tokenizer owns meanwhile.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use super::*;

const SMALL: XmlLimits = XmlLimits { stanza_bytes_max: 200, depth_max: 3, attributes_max: 3, elements_max: 5 };

fn tokenizer() -> Tokenizer {
    let mut tokenizer = Tokenizer::new(SMALL);
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    assert!(matches!(tokenizer.next(&mut header.as_bytes()), Ok(Some(Token::StreamStart(_)))));
    tokenizer
}

/// How many bytes of `xml` are taken before the refusal, one by one; the refusal must be a limit's, and the
/// same where all arrives at once.
fn strikes_after(xml: &str) -> usize {
    let mut whole = tokenizer();
    let mut rest = xml.as_bytes();
    let error = whole.next(&mut rest).unwrap_err();
    assert!(matches!(error, XmlError::Limit(_)), "{error:?}");
    let mut dribble = tokenizer();
    for (at, byte) in xml.bytes().enumerate() {
        match dribble.next(&mut &[byte][..]) {
            Ok(None) => {}
            result => {
                assert_eq!(result.unwrap_err(), error);
                return at;
            }
        }
    }
    panic!("the limit did not strike");
}

fn fits(xml: &str) {
    assert!(matches!(tokenizer().next(&mut xml.as_bytes()), Ok(Some(Token::Stanza(_)))), "{xml}");
    let mut dribble = tokenizer();
    let last = xml.bytes().map(|byte| dribble.next(&mut &[byte][..]).unwrap()).last().unwrap();
    assert!(matches!(last, Some(Token::Stanza(_))), "{xml}");
}

#[test]
fn a_stanza_has_as_many_bytes_as_allowed_and_no_more() {
    fits(&format!("<a>{}</a>", "x".repeat(193)));
    fits(&format!("<a b='{}'/>", "x".repeat(191)));
    // It strikes at the first byte too many, wherever that is.
    assert_eq!(strikes_after(&format!("<a>{}</a>", "x".repeat(194))), 200);
    assert_eq!(strikes_after(&format!("<a>{}</a>", "x".repeat(1000))), 200);
    assert_eq!(strikes_after(&format!("<a b='{}'/>", "x".repeat(1000))), 200);
    assert_eq!(strikes_after(&format!("<a>&{};</a>", "x".repeat(1000))), 200);
    assert_eq!(strikes_after(&format!("<a><![CDATA[{}", "]".repeat(1000))), 200);
    assert_eq!(strikes_after(&format!("<{}/>", "a".repeat(1000))), 200);
}

#[test]
fn white_space_between_stanzas_counts_for_none() {
    let xml = format!("{}<a>{}</a>", " ".repeat(1000), "x".repeat(193));
    let mut tokenizer = tokenizer();
    assert!(matches!(tokenizer.next(&mut xml.as_bytes()), Ok(Some(Token::Stanza(_)))));
}

#[test]
fn canonical_bytes_are_bounded_like_the_bytes_that_arrive() {
    // 190 bytes arrive, 300 would be kept.
    let xml = format!("<a xmlns:q='urn:{}'><q:a/><q:a/><q:a/></a>", "x".repeat(100));
    assert!(matches!(tokenizer().next(&mut xml.as_bytes()), Err(XmlError::Limit(_))));
    let quotes = format!("<a b=\"{}\"/>", "'".repeat(40));
    assert!(matches!(tokenizer().next(&mut quotes.as_bytes()), Err(XmlError::Limit(_))));
    let angles = format!("<a>{}</a>", ">".repeat(60));
    assert!(matches!(tokenizer().next(&mut angles.as_bytes()), Err(XmlError::Limit(_))));
}

#[test]
fn elements_are_as_deep_as_allowed_and_no_deeper() {
    fits("<a><b><c/></b><b><c></c></b></a>");
    assert_eq!(strikes_after("<a><b><c><d/></c></b></a>"), 12);
}

#[test]
fn elements_are_as_many_as_allowed_and_no_more() {
    fits("<a><b/><c/><d/><e/></a>");
    assert_eq!(strikes_after("<a><b/><c/><d/><e/><f/></a>"), 22);
}

#[test]
fn attributes_are_as_many_as_allowed_and_no_more() {
    fits("<a b='1' c='2' d='3'/>");
    fits("<a xmlns='urn:a' c='2' d='3'/>");
    // At the quote that opens the value of the fourth.
    assert_eq!(strikes_after("<a b='1' c='2' d='3' e='4'/>"), 23);
    assert_eq!(strikes_after("<a xmlns='urn:a' xmlns:b='urn:b' d='3' e='4'/>"), 41);
}

#[test]
fn prefixes_in_scope_are_bounded() {
    let limits = XmlLimits { attributes_max: 1000, ..XmlLimits::default() };
    let declared = |count: usize| {
        let declarations: String = (0..count).map(|n| format!(" xmlns:p{n}='urn:p'")).collect();
        let mut tokenizer = Tokenizer::new(limits);
        tokenizer.next(&mut format!("<s><a{declarations}/>").as_bytes()).unwrap();
        let mut tokenizer = Tokenizer::new(limits);
        let xml = format!("<s><a{declarations}/>");
        let mut rest = xml.as_bytes();
        tokenizer.next(&mut rest).unwrap();
        tokenizer.next(&mut rest)
    };
    assert!(declared(128).is_ok());
    assert!(matches!(declared(129), Err(XmlError::Limit(_))));
}

#[test]
fn a_header_is_bounded_too() {
    for header in [format!("<a b='{}'>", "x".repeat(200)), format!("<?xml version='1.0' {}?>", "x".repeat(200))] {
        assert!(matches!(Tokenizer::new(SMALL).next(&mut header.as_bytes()), Err(XmlError::Limit(_))));
        let mut dribble = Tokenizer::new(SMALL);
        let taken = header.bytes().take_while(|&byte| dribble.next(&mut &[byte][..]).is_ok()).count();
        assert_eq!(taken, 200);
    }
    let attributes = "<a b='1' c='2' d='3' e='4'>";
    assert!(matches!(Tokenizer::new(SMALL).next(&mut attributes.as_bytes()), Err(XmlError::Limit(_))));
}

#[test]
fn new_limits_hold_from_the_next_stanza_on() {
    let long = format!("<a>{}</a>", "x".repeat(300));
    let mut tokenizer = tokenizer();
    tokenizer.next(&mut &b"<a>"[..]).unwrap();
    tokenizer.set_limits(XmlLimits::default());
    assert!(matches!(tokenizer.next(&mut &long.as_bytes()[3..]), Err(XmlError::Limit(_))));

    let mut tokenizer = self::tokenizer();
    tokenizer.set_limits(XmlLimits::default());
    assert!(matches!(tokenizer.next(&mut long.as_bytes()), Ok(Some(Token::Stanza(_)))));
}

#[test]
fn a_dribbling_peer_costs_no_more_than_its_bytes() {
    let long = "x".repeat(240 * 1024);
    let quotes = "a=''".repeat(10) + &" ".repeat(200 * 1024);
    let inputs = [
        format!("<a b='{long}'/>"),
        format!("<a>{long}</a>"),
        format!("<a>&{long};</a>"),
        format!("<a><![CDATA[{}]]></a>", "]".repeat(240 * 1024)),
        format!("<a {quotes}/>"),
        format!("<{long}/>"),
        "<a>".repeat(60) + &"<b/>]".repeat(8000),
    ];
    let start = Instant::now();
    for input in inputs {
        let mut tokenizer = Tokenizer::new(XmlLimits::default());
        tokenizer.next(&mut &b"<s>"[..]).unwrap();
        for byte in input.bytes() {
            if tokenizer.next(&mut &[byte][..]).is_err() {
                break;
            }
        }
    }
    // A second or so without optimization; quadratic cost would be hours.
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn nothing_is_owned_between_stanzas() {
    let mut tokenizer = tokenizer();
    let at_rest = |tokenizer: &Tokenizer| match &tokenizer.phase {
        Phase::Between(scope) => USUAL_SCOPES.iter().any(|usual| Arc::ptr_eq(usual, scope)),
        _ => false,
    };
    assert!(at_rest(&tokenizer));
    for byte in b"<message><body>x</body></message>\n" {
        tokenizer.next(&mut &[*byte][..]).unwrap();
    }
    assert!(at_rest(&tokenizer));
    tokenizer.next(&mut &b"<message/>"[..]).unwrap();
    assert!(at_rest(&tokenizer));
}
