//! The index of a stanza, and edits of its bytes.

#![allow(clippy::unwrap_used)]

use super::*;

fn stanza(xml: &str) -> Stanza {
    Stanza::parse(xml.as_bytes()).unwrap()
}

fn written(stanza: &Stanza, to: Option<&str>) -> String {
    let mut out = b"before ".to_vec();
    stanza.write(to, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned()
}

#[test]
fn the_index_knows_addresses_id_type_and_language() {
    let it = stanza("<iq from='a@b' to='c@d/&apos;&amp;' id='1' type='get' xml:lang='en'><query xmlns='urn:q'/></iq>");
    assert_eq!(it.kind(), Kind::Iq);
    assert_eq!(it.from().unwrap(), "a@b");
    assert_eq!(it.to().unwrap(), "c@d/'&");
    assert_eq!(it.id().unwrap(), "1");
    assert_eq!(it.type_().unwrap(), "get");
    assert_eq!(it.attr(Attr::Lang).unwrap(), "en");
    assert_eq!(it.claimed_from(), None);
    assert!(it.is("iq", ns::CLIENT));
}

#[test]
fn only_the_content_namespace_makes_a_routed_kind() {
    assert_eq!(stanza("<message/>").kind(), Kind::Message);
    assert_eq!(stanza("<message xmlns='jabber:client'/>").text(), "<message/>");
    assert_eq!(stanza("<message xmlns='jabber:server'/>").kind(), Kind::Other);
    assert_eq!(stanza("<message xmlns='jabber:server'/>").ns(), "jabber:server");
    assert_eq!(stanza("<presence/>").kind(), Kind::Presence);
    assert_eq!(stanza("<messages/>").kind(), Kind::Other);
    assert_eq!(stanza("<r xmlns='urn:xmpp:sm:3'/>").ns(), "urn:xmpp:sm:3");
}

#[test]
fn children_have_their_namespaces_and_bytes() {
    let it = stanza("<message>text<body>a<b/></body><x xmlns='urn:x'><x/><y xmlns=''/></x><z xmlns=''/></message>");
    let children: Vec<_> = it.children().map(|child| (child.name, child.ns, child.text())).collect();
    let expected: [(&str, &str, &str); 3] = [
        ("body", "jabber:client", "<body>a<b/></body>"),
        ("x", "urn:x", "<x xmlns='urn:x'><x/><y xmlns=''/></x>"),
        ("z", "", "<z xmlns=''/>"),
    ];
    assert_eq!(children, expected);
}

#[test]
fn children_inherit_the_namespace_of_a_foreign_stanza() {
    let it = stanza("<error xmlns='urn:e'><gone/><text xmlns='urn:t'/><body xmlns='jabber:client'/></error>");
    let children: Vec<_> = it.children().map(|child| (child.name, child.ns)).collect();
    assert_eq!(children, [("gone", "urn:e"), ("text", "urn:t"), ("body", "jabber:client")]);
    assert_eq!(it.child("gone", "urn:e").unwrap().element().ns(), "urn:e");
    assert_eq!(it.child("body", "jabber:client").unwrap().element().ns(), "jabber:client");
}

#[test]
fn namespaces_with_escapes_are_given_unescaped() {
    let it = stanza("<a xmlns='urn:a&amp;b'><c/><d xmlns='urn:&apos;'/><e xmlns='urn:e'/></a>");
    assert_eq!(it.ns(), "urn:a&b");
    let spaces: Vec<_> = it.children().map(|child| child.ns.to_owned()).collect();
    assert_eq!(spaces, ["urn:a&b", "urn:'", "urn:e"]);
    assert_eq!(it.child("d", "urn:'").unwrap().element().to_xml("urn:a&b"), "<d xmlns='urn:&apos;'/>");
}

#[test]
fn an_attribute_is_set_in_place_or_first() {
    let it = stanza("<message id='1' to='a@b' type='chat'><body/></message>");
    assert_eq!(it.with(Attr::To, Some("c'd")).text(), "<message id='1' to='c&apos;d' type='chat'><body/></message>");
    assert_eq!(it.with(Attr::To, Some("c'd")).to().unwrap(), "c'd");
    assert_eq!(
        it.with(Attr::From, Some("x")).text(),
        "<message from='x' id='1' to='a@b' type='chat'><body/></message>"
    );
    assert_eq!(it.with(Attr::Lang, Some("x")).attr(Attr::Lang).unwrap(), "x");
    assert_eq!(stanza("<iq/>").with(Attr::From, Some("x")).text(), "<iq from='x'/>");
    let foreign = stanza("<a xmlns='urn:a' xmlns:p='urn:p' p:to='1'/>");
    assert_eq!(foreign.with(Attr::To, Some("x")).text(), "<a xmlns='urn:a' xmlns:p='urn:p' to='x' p:to='1'/>");
}

#[test]
fn an_attribute_is_removed_with_its_space() {
    let it = stanza("<message id='1' to='a@b' type='chat'/>");
    assert_eq!(it.with(Attr::To, None).text(), "<message id='1' type='chat'/>");
    assert_eq!(it.with(Attr::To, None).to(), None);
    assert_eq!(it.with(Attr::Type, None).text(), "<message id='1' to='a@b'/>");
    assert_eq!(it.with(Attr::From, None), it);
    assert_eq!(stanza("<a xml:lang='en'/>").with(Attr::Lang, None).text(), "<a/>");
}

#[test]
fn attributes_that_only_look_alike_are_left_alone() {
    let it = stanza("<message xmlns:p='urn:p' p:to='1' tone='2' xmlnsx='3'/>");
    assert_eq!(it.to(), None);
    assert_eq!(it.ns(), ns::CLIENT);
    assert_eq!(it.with(Attr::To, Some("x")).text(), "<message xmlns:p='urn:p' to='x' p:to='1' tone='2' xmlnsx='3'/>");
}

#[test]
fn write_splices_the_address_of_one_recipient() {
    let it = stanza("<message id='1' to='room@conf'><body>hi</body></message>");
    assert_eq!(written(&it, None), "<message id='1' to='room@conf'><body>hi</body></message>");
    assert_eq!(written(&it, Some("a@b")), "<message id='1' to='a@b'><body>hi</body></message>");
    assert_eq!(written(&stanza("<message id='1'/>"), Some("a@b/&")), "<message to='a@b/&amp;' id='1'/>");
    assert_eq!(written(&stanza("<message/>"), Some("a@b")), "<message to='a@b'/>");
    assert_eq!(written(&stanza("<message to=''/>"), Some("a@b")), "<message to='a@b'/>");
}

#[test]
fn a_child_is_added_as_the_last() {
    let delay = Element::new("delay", "urn:xmpp:delay");
    assert_eq!(
        stanza("<message to='a'/>").with_child(&delay).text(),
        "<message to='a'><delay xmlns='urn:xmpp:delay'/></message>"
    );
    let two =
        stanza("<message><body>/></body></message>").with_child(&delay).with_child(&Element::new("x", ns::CLIENT));
    assert_eq!(two.text(), "<message><body>/&gt;</body><delay xmlns='urn:xmpp:delay'/><x/></message>");
    assert_eq!(two.children().count(), 3);
}

#[test]
fn children_are_taken_away_and_nothing_left_is_an_empty_element() {
    let it = stanza("<message><a/><b xmlns='urn:b'>text</b><a>x</a></message>");
    assert_eq!(it.without_children(|child| child.name == "a").text(), "<message><b xmlns='urn:b'>text</b></message>");
    assert_eq!(it.without_children(|_| true).text(), "<message/>");
    assert_eq!(it.without_children(|_| false), it);
    assert_eq!(stanza("<message>t<a/></message>").without_children(|_| true).text(), "<message>t</message>");
    assert_eq!(stanza("<message a='/'/>").without_children(|_| true).text(), "<message a='/'/>");
}

#[test]
fn a_tree_becomes_a_stanza_and_comes_back() {
    let xml = "<iq type='set' id='a'><query xmlns='urn:q'>t<item xmlns:p='urn:p' p:a='1'>&lt;</item><e xmlns='jabber:client'/></query></iq>";
    let it = stanza(xml);
    assert_eq!(it.text(), xml);
    let tree = it.element();
    assert_eq!(tree.child("query", "urn:q").unwrap().child("item", "urn:q").unwrap().text(), "<");
    assert_eq!(Stanza::new(&tree), it);
    assert_eq!(Stanza::new(&Element::new("a", "urn:a")).text(), "<a xmlns='urn:a'/>");
}

#[test]
fn a_child_in_the_content_namespace_parses_on_its_own() {
    let it = stanza("<message><body>hi</body></message>");
    let body = it.child("body", ns::CLIENT).unwrap();
    assert_eq!(Element::parse(body.text().as_bytes(), body.ns).unwrap(), body.element());
    assert_eq!(body.element().ns(), ns::CLIENT);
}

#[test]
fn what_is_not_one_element_is_refused() {
    for xml in ["", "  ", "<a>", "<a/><b/>", "<a/>x", "x<a/>", "<?xml version='1.0'?><a/>", "<p:a/>", "</a>"] {
        assert!(Stanza::parse(xml.as_bytes()).is_err(), "{xml}");
        assert!(Element::parse(xml.as_bytes(), "urn:x").is_err(), "{xml}");
    }
    assert_eq!(stanza(" \n<a/>\r\n").text(), "<a/>");
}

#[test]
fn a_clone_is_the_same_piece_of_memory() {
    let it = stanza("<message to='a@b'><body>x</body></message>");
    assert!(std::ptr::eq(it.clone().text(), it.text()));
    assert!(!std::ptr::eq(it.with(Attr::To, Some("a@b")).text(), it.text()));
    assert_eq!(size_of::<Option<Stanza>>(), 2 * size_of::<usize>());
}

#[test]
fn what_does_not_fit_into_the_index_is_found_too() {
    let long = "x".repeat(300);
    let huge = "y".repeat(70_000);
    for start in [
        format!("<message xmlns:p='urn:{long}' to='a@b' p:a=''>"),
        format!("<message id='{huge}' to='a@b'>"),
        format!("<message xmlns='urn:{long}' to='a@b'>"),
        "<message to='a@b'><c/><c/><c/><c/><c/>".to_owned(),
        format!("<message to='a@b'><{long}/>"),
        format!("<message to='a@b'><c xmlns='urn:{long}'/>"),
        format!("<message to='a@b'><c>{huge}</c>"),
    ] {
        let xml = format!("{start}<d>&lt;</d><e xmlns='urn:e&amp;'><d/></e></message>");
        let it = stanza(&xml);
        let tree = it.element();
        assert_eq!((it.text(), it.to().as_deref(), it.id().as_deref()), (&*xml, Some("a@b"), tree.attr("id")));
        assert_eq!((it.name(), it.ns()), (tree.name(), tree.ns()));
        let children: Vec<Element> = it.children().map(|child| child.element()).collect();
        assert_eq!(children.iter().collect::<Vec<_>>(), tree.children().collect::<Vec<_>>());
        assert_eq!(it.child("e", "urn:e&").unwrap().text(), "<e xmlns='urn:e&amp;'><d/></e>");
        assert_eq!(it.child("d", it.ns()).unwrap().text(), "<d>&lt;</d>");
        assert_eq!(it.with(Attr::To, Some("c")).with(Attr::To, Some("a@b")), it);
        assert_eq!(it.with(Attr::From, Some("c")).with(Attr::From, None), it);
        assert_eq!(it.without_children(|child| child.name == "e").children().count(), children.len() - 1);
    }
}

#[test]
fn values_are_unescaped_where_they_stand_escaped_and_nowhere_else() {
    let escaped = [
        ("&amp;", "&"),
        ("a&apos;", "a'"),
        ("&lt;b", "<b"),
        ("c>d", "c>d"),
        ("&#9;", "\t"),
        ("&quot;&gt;", "\">"),
        ("&amp;quot;", "&quot;"),
    ];
    let plain = [("", ""), ("a b+c=?\"", "a b+c=?\""), ("&quot;", "\""), ("\u{1F339}", "\u{1F339}")];
    let values = escaped.iter().map(|&(xml, value)| (xml, value, true));
    for (xml, value, is_escaped) in values.chain(plain.iter().map(|&(xml, value)| (xml, value, false))) {
        // By the way of ordinary stanzas, by the other one (a prefix), and too large for the index.
        for child in ["", "<p:x xmlns:p='urn:p'/>", "<c/><c/><c/><c/><c/><c/>"] {
            let it = stanza(&format!("<iq to='a' id='{xml}' from='b'>{child}</iq>"));
            assert_eq!(
                (it.to().unwrap(), it.id().unwrap(), it.from().unwrap()),
                ("a".into(), value.into(), "b".into())
            );
            assert_eq!(matches!(it.id(), Some(Cow::Owned(_))), is_escaped, "{xml} {child}");
            assert!(matches!(it.to(), Some(Cow::Borrowed(_))), "{xml} {child}");
            assert_eq!(it.with(Attr::Id, Some("x")).id().unwrap(), "x");
            assert_eq!(it.with(Attr::To, Some(value)).to().unwrap(), value);
        }
    }
}
