//! Trees: built, parsed, written.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_built_element_is_written_canonically() {
    let query = Element::new("query", "jabber:iq:roster")
        .with_attr("ver", "1'\n")
        .with(Element::new("item", "jabber:iq:roster").with_attr("jid", "a&b").with_text("<>").with_text("'\r"))
        .with_all(["x", "y"].map(|name| Element::new(name, "urn:x")));
    let xml = "<query xmlns='jabber:iq:roster' ver='1&apos;&#10;'><item jid='a&amp;b'>&lt;&gt;'&#13;</item>\
        <x xmlns='urn:x'/><y xmlns='urn:x'/></query>";
    assert_eq!(query.to_xml(ns::CLIENT), xml);
    assert_eq!(Element::parse(xml.as_bytes(), ns::CLIENT).unwrap(), query);
}

#[test]
fn the_namespace_around_is_not_declared_again() {
    let element = Element::new("a", "urn:a");
    assert_eq!(element.to_xml("urn:a"), "<a/>");
    assert_eq!(element.to_xml(""), "<a xmlns='urn:a'/>");
    assert_eq!(Element::new("a", "").to_xml("urn:a"), "<a xmlns=''/>");
    assert_eq!(Element::parse(b"<a/>", "urn:a").unwrap(), element);
    assert_eq!(Element::parse(b"<a/>", "").unwrap().ns(), "");
}

#[test]
fn any_xml_of_the_profile_is_parsed() {
    let xml = b" <p:a xmlns:p = \"urn:p\" b=\"'\"><![CDATA[<]]>&#33;<c p:d='1'/></p:a> ";
    let element = Element::parse(xml, "urn:x").unwrap();
    assert_eq!(
        element.to_xml("urn:x"),
        "<a xmlns='urn:p' b='&apos;'>&lt;!<c xmlns='urn:x' xmlns:p='urn:p' p:d='1'/></a>"
    );
    let child = element.child("c", "urn:x").unwrap();
    assert_eq!(child.attr("p:d"), Some("1"));
    assert_eq!(child.prefix_ns("p"), Some("urn:p"));
    assert_eq!(child.prefix_ns("q"), None);
}

#[test]
fn a_foreign_namespace_keeps_its_name_where_it_stands_alone() {
    let element = Element::parse(b"<a xmlns='jabber:server'><b xmlns='urn:x'/></a>", "urn:x").unwrap();
    assert_eq!(element.ns(), "jabber:server");
    assert_eq!(element.to_xml("urn:x"), "<a xmlns='jabber:server'><b xmlns='urn:x'/></a>");
}

#[test]
fn attributes_are_found_replaced_and_listed() {
    let mut element = Element::new("a", "").with_attr("b", "1").with_attr("xml:lang", "en");
    element.set_attr("b", "2");
    element.set_attr("c", "3");
    assert_eq!(element.attrs().collect::<Vec<_>>(), [("b", "2"), ("xml:lang", "en"), ("c", "3")]);
    assert_eq!(element.attr("c"), Some("3"));
    assert_eq!(element.attr("d"), None);
}

#[test]
fn text_is_joined_around_children() {
    let element =
        Element::new("a", "").with_text("1").with(Element::new("b", "").with_text("x")).with_text("").with("2");
    assert_eq!(element.text(), "12");
    assert_eq!(element.nodes().len(), 3);
    assert_eq!(element.children().count(), 1);
    assert_eq!(Element::new("a", "").with_text(""), Element::new("a", ""));
}

#[test]
fn characters_that_xml_does_not_know_are_replaced_when_written() {
    let element = Element::new("a", "").with_attr("b", "\u{1}").with_text("x\0\u{FFFE}\u{FFFD}\u{FEFF}\u{10FFFF}");
    let xml = element.to_xml("");
    assert_eq!(xml, "<a b='\u{FFFD}'>x\u{FFFD}\u{FFFD}\u{FFFD}\u{FEFF}\u{10FFFF}</a>");
    assert!(Element::parse(xml.as_bytes(), "").is_ok());
}
