//! Any tree, written in any of the ways that XML allows, is read as that tree.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::scan::is_char;
use super::{Element, Node, Stanza, Token, Tokenizer, XmlError, XmlLimits};
use crate::ns;

/// A tree and the style in which each piece of it is written.
#[derive(Clone, Debug)]
enum Piece {
    Element {
        name: &'static str,
        ns: &'static str,
        attrs: Vec<(&'static str, String, u8)>,
        style: u8,
        nodes: Vec<Piece>,
    },
    Text {
        text: String,
        style: u8,
    },
}

const NAMES: [&str; 6] = ["message", "iq", "body", "a-b.1_", "é", "\u{10400}"];
const NAMESPACES: [&str; 5] = [ns::CLIENT, ns::SERVER, "urn:x", "", "urn:a&b'\u{1F600}"];
const ATTRS: [&str; 6] = ["to", "from", "id", "type", "xml:lang", "é"];

fn text() -> impl Strategy<Value = String> {
    let awkward = prop::sample::select("<>&'\"\r\n\t ]]]".chars().collect::<Vec<_>>());
    let any = any::<char>().prop_filter("a character of XML", |&c| is_char(c));
    let c = prop_oneof![3 => awkward, 2 => prop::char::range('a', 'z'), 1 => any, 1 => prop::char::range('\u{1F300}', '\u{1F6FF}')];
    prop::collection::vec(c, 0..12).prop_map(|chars| chars.into_iter().collect())
}

fn element() -> impl Strategy<Value = Piece> {
    let leaf = prop_oneof![
        (text(), any::<u8>()).prop_map(|(text, style)| Piece::Text { text, style }),
        element_of(Just(Vec::new()).boxed()),
    ];
    let node = leaf.prop_recursive(4, 24, 4, |inner| element_of(prop::collection::vec(inner, 0..4).boxed()));
    element_of(prop::collection::vec(node, 0..4).boxed())
}

fn element_of(nodes: BoxedStrategy<Vec<Piece>>) -> impl Strategy<Value = Piece> {
    let attrs = prop::sample::subsequence(ATTRS.to_vec(), 0..4)
        .prop_flat_map(|names| names.into_iter().map(|name| (Just(name), text(), any::<u8>())).collect::<Vec<_>>());
    let (name, ns) = (prop::sample::select(NAMES.to_vec()), prop::sample::select(NAMESPACES.to_vec()));
    (name, ns, attrs, any::<u8>(), nodes).prop_map(|(name, ns, attrs, style, nodes)| Piece::Element {
        name,
        ns,
        attrs,
        style,
        nodes,
    })
}

impl Piece {
    fn node(&self) -> Node {
        match self {
            Self::Text { text, .. } => Node::Text(text.clone()),
            Self::Element { name, ns, attrs, nodes, .. } => {
                let element = Element::new(name, ns).with_all(nodes.iter().map(Self::node));
                Node::Element(attrs.iter().fold(element, |element, (name, value, _)| element.with_attr(name, value)))
            }
        }
    }

    fn element(&self) -> Element {
        match self.node() {
            Node::Element(element) => element,
            Node::Text(_) => unreachable!("only elements are generated at the top"),
        }
    }

    /// Writes it where `default` is the default namespace in force.
    fn write(&self, default: &str, out: &mut String) {
        match self {
            Self::Text { text, style } => write_text(text, *style, out),
            Self::Element { name, ns, attrs, style, nodes } => {
                let prefixed = style & 1 != 0 && !ns.is_empty();
                let name = if prefixed { format!("p{}:{name}", style >> 6) } else { (*name).to_owned() };
                out.push_str(&format!("<{name}"));
                let mut declaration = String::new();
                if prefixed {
                    write_attr(&format!("xmlns:p{}", style >> 6), ns, *style, &mut declaration);
                } else if *ns != default || style & 2 != 0 {
                    write_attr("xmlns", ns, *style, &mut declaration);
                }
                let late = style & 4 != 0;
                out.push_str(if late { "" } else { &declaration });
                for (name, value, style) in attrs {
                    write_attr(name, value, *style, out);
                }
                out.push_str(if late { &declaration } else { "" });
                out.push_str(if style & 8 != 0 { "" } else { "\n" });
                if nodes.is_empty() && style & 16 != 0 {
                    out.push_str("/>");
                    return;
                }
                out.push('>');
                let inner = if prefixed { default } else { ns };
                nodes.iter().for_each(|node| node.write(inner, out));
                out.push_str(&format!("</{name}{}>", if style & 32 != 0 { " " } else { "" }));
            }
        }
    }
}

fn write_attr(name: &str, value: &str, style: u8, out: &mut String) {
    let quote = if style & 8 != 0 { '"' } else { '\'' };
    let space = if style & 32 != 0 { "\r\n\t" } else { " " };
    let equals = if style & 64 != 0 { " = " } else { "=" };
    out.push_str(&format!("{space}{name}{equals}{quote}"));
    for c in value.chars() {
        match c {
            '<' | '&' | '\t' | '\n' | '\r' => push_reference(c, style, out),
            _ if c == quote || style & 128 != 0 => push_reference(c, style, out),
            _ => out.push(c),
        }
    }
    out.push(quote);
}

fn write_text(text: &str, style: u8, out: &mut String) {
    if style & 1 != 0 && !text.contains("]]>") && !text.contains('\r') {
        out.push_str(&format!("<![CDATA[{text}]]>"));
        return;
    }
    for c in text.chars() {
        match c {
            '\n' if style & 2 != 0 => out.push_str("\r\n"),
            '<' | '&' | '\r' => push_reference(c, style, out),
            // A `>` must not stand behind `]]`, which may be in the text before this one.
            '>' if style & 4 != 0 || out.ends_with("]]") => push_reference(c, style, out),
            _ if style & 128 != 0 => push_reference(c, style, out),
            _ => out.push(c),
        }
    }
}

fn push_reference(c: char, style: u8, out: &mut String) {
    let name = match c {
        '<' => "lt",
        '>' => "gt",
        '&' => "amp",
        '\'' => "apos",
        '"' => "quot",
        _ => "",
    };
    let reference = match (name.is_empty() || style & 16 != 0, style & 32 != 0) {
        (false, _) => format!("&{name};"),
        (true, false) => format!("&#{};", c as u32),
        (true, true) => format!("&#x{:04x};", c as u32),
    };
    out.push_str(&reference);
}

fn stanzas(pieces: &[&[u8]]) -> Result<Vec<Stanza>, XmlError> {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    let mut stanzas = Vec::new();
    for piece in [&[&b"<s:s xmlns='jabber:client' xmlns:s='urn:s'>"[..]], pieces].concat() {
        let mut rest = piece;
        while let Some(token) = tokenizer.next(&mut rest)? {
            if let Token::Stanza(stanza) = token {
                stanzas.push(stanza);
            }
        }
    }
    Ok(stanzas)
}

/// What a stanza says of itself, by its index and its bytes.
fn described(stanza: &Stanza) -> String {
    format!("{stanza:?} {} {}", stanza.name(), stanza.ns())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_read_as_it_was_meant_however_it_is_written(piece in element()) {
        let element = piece.element();
        let mut xml = String::new();
        piece.write(ns::CLIENT, &mut xml);

        let stanza = Stanza::parse(xml.as_bytes()).unwrap();
        prop_assert_eq!(stanza.element(), element.clone(), "{}", xml);
        prop_assert_eq!(Element::parse(xml.as_bytes(), ns::CLIENT).unwrap(), element.clone());
        prop_assert_eq!(stanza.text(), &element.to_xml(ns::CLIENT));
        prop_assert_eq!(described(&stanza), described(&Stanza::new(&element)));
        // The canonical form of the canonical form is itself.
        prop_assert_eq!(described(&Stanza::parse(stanza.bytes()).unwrap()), described(&stanza));
        for (child, tree) in stanza.children().zip(element.children()) {
            prop_assert_eq!(&child.element(), tree);
            prop_assert_eq!(&Element::parse(child.text().as_bytes(), child.ns).unwrap(), tree);
            prop_assert!(child.is(tree.name(), tree.ns()));
        }

        // In another namespace around it, the same tree is written otherwise, and read back.
        for around in ["urn:x", ""] {
            prop_assert_eq!(&Element::parse(element.to_xml(around).as_bytes(), around).unwrap(), &element);
        }
    }

}

proptest! {
    // Each case reads its bytes as often as there are bytes.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_comes_out_wherever_the_input_is_cut(first in element(), second in element()) {
        let mut xml = String::new();
        first.write(ns::CLIENT, &mut xml);
        second.write(ns::CLIENT, &mut xml);
        let bytes = xml.as_bytes();
        let described = |pieces: &[&[u8]]| -> Vec<String> { stanzas(pieces).unwrap().iter().map(described).collect() };
        let whole = described(&[bytes]);
        prop_assert_eq!(whole.len(), 2);
        for cut in 0..bytes.len() {
            prop_assert_eq!(&described(&[&bytes[..cut], &bytes[cut..]]), &whole, "cut at {}", cut);
        }
        prop_assert_eq!(&described(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }

    #[test]
    fn damaged_bytes_have_the_same_outcome_wherever_they_are_cut(piece in element(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut xml = String::new();
        piece.write(ns::CLIENT, &mut xml);
        let mut bytes = xml.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let outcome = |pieces: &[&[u8]]| stanzas(pieces).map(|stanzas| stanzas.iter().map(described).collect::<Vec<_>>());
        let whole = outcome(&[&bytes]);
        for cut in 0..bytes.len() {
            prop_assert_eq!(&outcome(&[&bytes[..cut], &bytes[cut..]]), &whole, "cut at {}", cut);
        }
    }
}
