//! XML 1.0 §2.1, §3: the small tree that the owner of a payload parses or builds.

use super::XmlError;
use super::canon::{Scope, push_attribute};
use super::canon_tag::CanonTag;
use super::escape::{Place, push_escaped, unescape};
use super::index::Span;
use super::reader::read_whole;
use super::scan::{QName, is_ncname};
use super::stanza::as_text;
use crate::ns;

/// An element, owned. Attributes in other namespances than none keep their canonical prefix (`xml:lang`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: Box<str>,
    ns: Box<str>,
    /// Declarations of prefixes that attributes use.
    prefixes: Vec<(Box<str>, Box<str>)>,
    attrs: Vec<(Box<str>, Box<str>)>,
    nodes: Vec<Node>,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, unescaped.
    Text(String),
}

impl Element {
    /// An empty element. The content namespace is `jabber:client` ([`crate::ns::CLIENT`]).
    pub fn new(name: &str, ns: &str) -> Self {
        debug_assert!(is_ncname(name), "{name:?} cannot name an element");
        Self { name: name.into(), ns: ns.into(), prefixes: Vec::new(), attrs: Vec::new(), nodes: Vec::new() }
    }

    /// Parses canonical bytes, or any XML of RFC 6120's profile; `ns` is the namespace in force around it.
    pub fn parse(bytes: &[u8], ns: &str) -> Result<Self, XmlError> {
        Ok(Self::from_canonical(as_text(&read_whole(bytes, &Scope::alone(ns))?), ns))
    }

    /// Reads what the reader or [`Self::write`] made, with `ns` in force around it.
    pub(super) fn from_canonical(text: &str, ns: &str) -> Self {
        let bytes = text.as_bytes();
        let mut open: Vec<Self> = Vec::new();
        let mut at = 0;
        loop {
            let closing = bytes[at + 1] == b'/';
            let (end, complete) = if closing {
                (at + memchr::memchr(b'>', &bytes[at..]).expect("a tag has its end") + 1, true)
            } else {
                let tag = CanonTag::read(text, at);
                let inherited = open.last().map_or(ns, |parent| &*parent.ns);
                open.push(Self::from_tag(&tag, text, inherited));
                (tag.end as usize, tag.empty)
            };
            if complete {
                let element = open.pop().expect("closing tags have their opening tags before them");
                match open.last_mut() {
                    None => return element,
                    Some(parent) => parent.nodes.push(Node::Element(element)),
                }
            }
            at = end + memchr::memchr(b'<', &bytes[end..]).expect("an open element has its closing tag");
            if let (true, Some(parent)) = (at > end, open.last_mut()) {
                parent.nodes.push(Node::Text(unescape(Span::new(end, at).of(text)).into_owned()));
            }
        }
    }

    fn from_tag(tag: &CanonTag, text: &str, inherited: &str) -> Self {
        let mut element = Self {
            name: tag.name.of(text).into(),
            ns: inherited.into(),
            prefixes: Vec::new(),
            attrs: Vec::new(),
            nodes: Vec::new(),
        };
        for attribute in tag.attributes(text) {
            let name = attribute.name.of(text);
            let value = attribute.value.of(text);
            let value: Box<str> = if attribute.escaped { unescape(value).into() } else { value.into() };
            match name.strip_prefix("xmlns") {
                Some("") => element.ns = value,
                Some(prefix) if prefix.starts_with(':') => element.prefixes.push((prefix[1..].into(), value)),
                _ => element.attrs.push((name.into(), value)),
            }
        }
        element
    }

    /// With an attribute more, for building: `Element::new("item", ROSTER).with_attr("jid", jid)`.
    pub fn with_attr(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// With a child more.
    pub fn with(mut self, child: impl Into<Node>) -> Self {
        self.push(child);
        self
    }

    /// With a child more for each.
    pub fn with_all(mut self, children: impl IntoIterator<Item = impl Into<Node>>) -> Self {
        for child in children {
            self.push(child);
        }
        self
    }

    /// With text.
    pub fn with_text(self, text: impl Into<String>) -> Self {
        self.with(Node::Text(text.into()))
    }

    /// Adds a node, the last. Text joins the text before it, as it would on the wire.
    pub fn push(&mut self, node: impl Into<Node>) {
        match (node.into(), self.nodes.last_mut()) {
            (Node::Text(text), _) if text.is_empty() => {}
            (Node::Text(text), Some(Node::Text(last))) => last.push_str(&text),
            (node, _) => self.nodes.push(node),
        }
    }

    /// Local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Is it this element?
    pub fn is(&self, name: &str, ns: &str) -> bool {
        *self.name == *name && *self.ns == *ns
    }

    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Sets an attribute. Of the prefixes only `xml` may be used, and those that the element was parsed with.
    pub fn set_attr(&mut self, name: &str, value: impl AsRef<str>) {
        debug_assert!(self.may_have(name), "{name:?} cannot name an attribute here");
        let value = value.as_ref().into();
        match self.attrs.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, old)) => *old = value,
            None => self.attrs.push((name.into(), value)),
        }
    }

    fn may_have(&self, name: &str) -> bool {
        match QName::parse(name) {
            Ok(QName { prefix: "", local }) => local != "xmlns",
            Ok(QName { prefix: "xml", .. }) => true,
            Ok(QName { prefix, .. }) => self.prefixes.iter().any(|(known, _)| **known == *prefix),
            Err(_) => false,
        }
    }

    /// All attributes, in order.
    pub fn attrs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attrs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The namespace of a prefix that an attribute of this element uses.
    pub fn prefix_ns(&self, prefix: &str) -> Option<&str> {
        if prefix == "xml" {
            return Some(ns::XML);
        }
        self.prefixes.iter().find(|(known, _)| **known == *prefix).map(|(_, ns)| &**ns)
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child with this name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The text of the element itself, its pieces joined.
    pub fn text(&self) -> String {
        let pieces = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        pieces.collect()
    }

    /// Appends the canonical form; `ns` is the namespace in force around it.
    pub fn write(&self, ns: &str, out: &mut Vec<u8>) {
        out.push(b'<');
        out.extend_from_slice(self.name.as_bytes());
        if *self.ns != *ns {
            push_attribute("xmlns", &self.ns, out);
        }
        for (prefix, uri) in &self.prefixes {
            push_attribute(&format!("xmlns:{prefix}"), uri, out);
        }
        for (name, value) in &self.attrs {
            push_attribute(name, value, out);
        }
        if self.nodes.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(&self.ns, out),
                Node::Text(text) => push_escaped(text, Place::Text, out),
            }
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'>');
    }

    /// The canonical form as a string; `ns` is the namespace in force around it.
    pub fn to_xml(&self, ns: &str) -> String {
        let mut out = Vec::new();
        self.write(ns, &mut out);
        String::from_utf8(out).expect("what is written from strings is UTF-8")
    }
}

impl From<Element> for Node {
    fn from(element: Element) -> Self {
        Self::Element(element)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests;
