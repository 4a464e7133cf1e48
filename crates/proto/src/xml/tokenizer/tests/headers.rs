//! The root element: its header, its end, and what it declares for its stanzas.

#![allow(clippy::unwrap_used)]

use super::*;

fn header(xml: &str) -> StreamHeader {
    match Tokenizer::new(XmlLimits::default()).next(&mut xml.as_bytes()) {
        Ok(Some(Token::StreamStart(header))) => *header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_header_tells_its_attributes_unescaped() {
    let xml = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' to='a&amp;b' from=\"c'\" id='1' version='1.0' \
        xml:lang='en' xmlns:stream='http://etherx.jabber.org/streams' other='x'>";
    let expected = StreamHeader {
        name: "stream".into(),
        ns: ns::STREAM.into(),
        content_ns: ns::CLIENT.into(),
        to: Some("a&b".into()),
        from: Some("c'".into()),
        id: Some("1".into()),
        version: Some("1.0".into()),
        lang: Some("en".into()),
    };
    assert_eq!(header(xml), expected);
}

#[test]
fn attributes_with_other_prefixes_are_others() {
    let header = header("<a xmlns:p='urn:p' p:to='x' p:lang='y'>");
    assert_eq!(header, StreamHeader { name: "a".into(), ..StreamHeader::default() });
}

#[test]
fn a_header_without_prefix_is_in_the_default_namespace() {
    let header = header("<stream xmlns='http://etherx.jabber.org/streams'>");
    assert_eq!((&*header.ns, &*header.content_ns), (ns::STREAM, ns::STREAM));
}

#[test]
fn the_stanzas_of_a_server_stream_look_like_those_of_a_client_stream() {
    let server = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>";
    let xml = "<message><body xmlns='jabber:server'>x</body><f xmlns='urn:f'><iq xmlns='jabber:server'/></f></message>";
    let stanzas = read_after(server, xml.as_bytes()).unwrap();
    assert_eq!(stanzas[0].text(), "<message><body>x</body><f xmlns='urn:f'><iq xmlns='jabber:client'/></f></message>");
    assert_eq!(stanzas[0].kind(), Kind::Message);
    assert_eq!(stanzas[0].ns(), ns::CLIENT);
}

#[test]
fn the_server_namespace_is_foreign_on_a_client_stream() {
    let stanza = one("<message xmlns='jabber:server'/>");
    assert_eq!(stanza.kind(), Kind::Other);
    assert_eq!(stanza.ns(), ns::SERVER);
    assert_eq!(stanza.text(), "<message xmlns='jabber:server'/>");
}

#[test]
fn a_prefix_of_the_content_namespace_means_the_content_namespace() {
    let header = "<s:stream xmlns='jabber:server' xmlns:c='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>";
    let xml = b"<c:message><q:body xmlns:q='jabber:server'/></c:message>";
    let stanzas = read_after(header, xml).unwrap();
    assert_eq!(stanzas[0].text(), "<message><body/></message>");
    assert_eq!(stanzas[0].kind(), Kind::Message);
}

#[test]
fn without_prefix_for_streams_each_stanza_says_its_namespace() {
    let header = "<stream xmlns='http://etherx.jabber.org/streams'>";
    let stanzas =
        read_after(header, b"<features><a xmlns='urn:a'/></features><iq xmlns='jabber:client'/><iq/></stream>")
            .unwrap();
    assert_eq!(stanzas[0].text(), "<features xmlns='http://etherx.jabber.org/streams'><a xmlns='urn:a'/></features>");
    assert_eq!((stanzas[1].kind(), stanzas[1].text()), (Kind::Iq, "<iq/>"));
    assert_eq!((stanzas[2].kind(), stanzas[2].ns()), (Kind::Other, ns::STREAM));
}

#[test]
fn without_default_namespace_stanzas_are_in_none() {
    let stanzas = read_after("<s>", b"<iq><a/></iq>").unwrap();
    assert_eq!((stanzas[0].kind(), stanzas[0].ns()), (Kind::Other, ""));
    assert_eq!(stanzas[0].text(), "<iq xmlns=''><a/></iq>");
}

#[test]
fn an_empty_root_element_ends_its_stream() {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    let mut rest = &b"<a/> "[..];
    assert!(matches!(tokenizer.next(&mut rest), Ok(Some(Token::StreamStart(_)))));
    assert!(matches!(tokenizer.next(&mut rest), Ok(Some(Token::StreamEnd))));
    assert!(matches!(tokenizer.next(&mut rest), Ok(None)));
}

#[test]
fn a_restart_begins_a_new_document() {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    tokenizer.next(&mut &b"<a xmlns:x='urn:x'>"[..]).unwrap();
    tokenizer.restart();
    let mut rest = &b"<?xml version='1.0'?><b><x:c/>"[..];
    assert!(matches!(tokenizer.next(&mut rest), Ok(Some(Token::StreamStart(header))) if header.name == "b"));
    assert_eq!(tokenizer.next(&mut rest).unwrap_err(), XmlError::BadNamespacePrefix);
}
