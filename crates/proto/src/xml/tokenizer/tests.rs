//! What comes out of the tokenizer, wherever its input is cut.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::xml::{Attr, Kind};

mod headers;
mod limits;
mod refusals;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
    to='localhost' version='1.0' xmlns:p='urn:p'>";

/// What a stream yields, as text: canonical stanzas and events, and how it ends.
fn outcome(tokenizer: &mut Tokenizer, pieces: &[&[u8]]) -> (Vec<String>, Option<XmlError>) {
    let mut tokens = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match tokenizer.next(&mut rest) {
                Ok(Some(Token::StreamStart(header))) => tokens.push(format!("{header:?}")),
                Ok(Some(Token::Stanza(stanza))) => tokens.push(describe(&stanza)),
                Ok(Some(Token::StreamEnd)) => tokens.push("end".to_owned()),
                Ok(None) => break,
                Err(error) => return (tokens, Some(error)),
            }
        }
        assert!(rest.is_empty(), "an incomplete token takes all the input");
    }
    (tokens, None)
}

fn describe(stanza: &Stanza) -> String {
    let children: Vec<_> =
        stanza.children().map(|child| format!("{} {} {:?}", child.name, child.ns, child.text())).collect();
    format!(
        "{} {:?} {} {} {:?} {children:?} {:?}",
        stanza.text(),
        stanza.kind(),
        stanza.name(),
        stanza.ns(),
        [Attr::To, Attr::From, Attr::Id, Attr::Type, Attr::Lang].map(|attr| stanza.attr(attr)),
        stanza.claimed_from(),
    )
}

/// The canonical forms of the stanzas in `xml`, after the usual header; every cut yields the same.
fn canonical(xml: impl AsRef<[u8]>) -> Result<Vec<String>, XmlError> {
    canonical_after(HEADER, xml.as_ref())
}

fn canonical_after(header: &str, xml: &[u8]) -> Result<Vec<String>, XmlError> {
    let stanzas = read_after(header, xml)?;
    Ok(stanzas.iter().map(|stanza| stanza.text().to_owned()).collect())
}

fn read_after(header: &str, xml: &[u8]) -> Result<Vec<Stanza>, XmlError> {
    let bytes = [header.as_bytes(), xml].concat();
    let new = || Tokenizer::new(XmlLimits::default());
    let whole = outcome(&mut new(), &[&bytes]);
    for cut in 0..=bytes.len() {
        assert_eq!(whole, outcome(&mut new(), &[&bytes[..cut], &bytes[cut..]]), "cut at {cut}");
    }
    let dribble: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, outcome(&mut new(), &dribble), "byte by byte");

    let mut tokenizer = new();
    let mut rest = &bytes[..];
    let mut stanzas = Vec::new();
    loop {
        match tokenizer.next(&mut rest)? {
            Some(Token::Stanza(stanza)) => stanzas.push(stanza),
            Some(_) => {}
            None => return Ok(stanzas),
        }
    }
}

fn one(xml: &str) -> Stanza {
    let mut stanzas = read_after(HEADER, xml.as_bytes()).unwrap();
    assert_eq!(stanzas.len(), 1);
    stanzas.remove(0)
}

#[test]
fn a_canonical_stanza_stays_as_it_is() {
    let xml = "<message to='a@b/c' type='chat' id='1'><body>hi</body><x xmlns='urn:x' a='b'><y/></x></message>";
    let stanza = one(xml);
    assert_eq!(stanza.text(), xml);
    assert_eq!(stanza.kind(), Kind::Message);
    assert_eq!(stanza.to().unwrap(), "a@b/c");
    assert_eq!(stanza.children().count(), 2);
    assert_eq!(stanza.child("x", "urn:x").unwrap().text(), "<x xmlns='urn:x' a='b'><y/></x>");
}

#[test]
fn quotes_spaces_and_empty_elements_become_canonical() {
    let xml = "<message\n to = \"a'b\"\t><body  ></body ><x xmlns=\"urn:x\"  /></message >";
    assert_eq!(canonical(xml).unwrap(), ["<message to='a&apos;b'><body/><x xmlns='urn:x'/></message>"]);
}

#[test]
fn references_and_cdata_are_resolved() {
    let xml = "<a b='&#x41;&quot;&apos;&#10;'>&#65;&apos;&quot;&lt;&gt;&amp;&#x1F600;<![CDATA[<b>]]&amp;]]]]>></a>";
    assert_eq!(
        canonical(xml).unwrap(),
        ["<a b='A\"&apos;&#10;'>A'\"&lt;&gt;&amp;\u{1F600}&lt;b&gt;]]&amp;amp;]]&gt;</a>"]
    );
}

#[test]
fn line_ends_and_white_space_in_values_are_normalized() {
    let xml = "<a b='1\r\n2\r3\n4\t5&#13;&#9;'>1\r\n2\r3\n4\t&#13;\n<![CDATA[\r\n\r]]>\n</a>";
    assert_eq!(canonical(xml).unwrap(), ["<a b='1 2 3 4 5&#13;&#9;'>1\n2\n3\n4\t&#13;\n\n\n\n</a>"]);
}

#[test]
fn prefixes_of_elements_become_default_namespaces() {
    let xml = "<p:a xmlns:q='urn:q'><q:b/><p:c/><d xmlns='urn:q'/><e/></p:a>";
    assert_eq!(
        canonical(xml).unwrap(),
        ["<a xmlns='urn:p'><b xmlns='urn:q'/><c/><d xmlns='urn:q'/><e xmlns='jabber:client'/></a>"]
    );
}

#[test]
fn prefixes_of_attributes_are_declared_where_they_are_used() {
    let xml = "<a xmlns:q='urn:q'><b p:x='1' q:y='2' xml:lang='en'/></a>";
    assert_eq!(canonical(xml).unwrap(), ["<a><b xmlns:p='urn:p' xmlns:q='urn:q' p:x='1' q:y='2' xml:lang='en'/></a>"]);
}

#[test]
fn the_content_namespace_is_not_declared_where_it_is_inherited() {
    let xml =
        "<message xmlns='jabber:client'><f xmlns='urn:f'><message xmlns='jabber:client'/></f><n xmlns=''/></message>";
    assert_eq!(
        canonical(xml).unwrap(),
        ["<message><f xmlns='urn:f'><message xmlns='jabber:client'/></f><n xmlns=''/></message>"]
    );
}

#[test]
fn a_stamp_replaces_what_the_sender_wrote() {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    tokenizer.stamp_from(Some(Arc::from("me@here/x")));
    let xml = format!("{HEADER}<message from='you' id='1'/><iq id='2'/><r xmlns='urn:r'/><iq from='me@here/x'/>");
    let mut rest = xml.as_bytes();
    let mut stanzas = Vec::new();
    while let Some(token) = tokenizer.next(&mut rest).unwrap() {
        if let Token::Stanza(stanza) = token {
            stanzas.push(stanza);
        }
    }
    assert_eq!(stanzas[0].text(), "<message from='me@here/x' id='1'/>");
    assert_eq!(stanzas[0].claimed_from(), Some("you"));
    assert_eq!(stanzas[0].from().unwrap(), "me@here/x");
    assert_eq!(stanzas[1].text(), "<iq from='me@here/x' id='2'/>");
    assert_eq!(stanzas[1].claimed_from(), None);
    assert_eq!(stanzas[2].text(), "<r xmlns='urn:r'/>");
    assert_eq!(stanzas[3].claimed_from(), None);
}

#[test]
fn a_stamp_holds_for_the_stanza_that_is_just_arriving() {
    for xml in ["<message from='you'><body>x</body></message>", "<message from='you'><![CDATA[x]]></message>"] {
        let canonical = xml.replace("you", "me").replace("<![CDATA[x]]>", "x");
        for cut in 1..xml.len() {
            let mut tokenizer = Tokenizer::new(XmlLimits::default());
            tokenizer.next(&mut HEADER.as_bytes()).unwrap();
            assert!(tokenizer.next(&mut &xml.as_bytes()[..cut]).unwrap().is_none());
            tokenizer.stamp_from(Some(Arc::from("me")));
            let Ok(Some(Token::Stanza(stanza))) = tokenizer.next(&mut &xml.as_bytes()[cut..]) else { panic!("{cut}") };
            assert_eq!(stanza.text(), &canonical, "{cut}");
            assert_eq!(stanza.claimed_from(), Some("you"), "{cut}");
        }
    }
}

#[test]
fn a_stamp_is_only_for_the_content_namespace() {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    tokenizer.stamp_from(Some(Arc::from("me")));
    let xml = format!(
        "{HEADER}<iq from='you' xmlns='urn:x'/><iq xmlns='urn:x' from='you'/><iq id='1' xmlns='jabber:client'/>"
    );
    let mut rest = xml.as_bytes();
    let mut stanzas = Vec::new();
    while let Some(token) = tokenizer.next(&mut rest).unwrap() {
        if let Token::Stanza(stanza) = token {
            stanzas.push(stanza.text().to_owned());
        }
    }
    assert_eq!(stanzas, ["<iq xmlns='urn:x' from='you'/>", "<iq xmlns='urn:x' from='you'/>", "<iq from='me' id='1'/>"]);
}
