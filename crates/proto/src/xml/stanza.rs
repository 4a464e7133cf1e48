//! RFC 6120 §8: one stanza, as canonical bytes and a shallow index.

mod reply;

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;

use super::canon::{Scope, push_attribute};
use super::escape::unescape;
use super::index::{ChildSpan, Index, Span, escaped_namespaces, ns_name};
use super::reader::{PARSE_LIMITS, read_whole};
use super::{Element, XmlError, fast};
use crate::ns;

/// RFC 6120 §8: what a top-level element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>` in the content namespace
    Message,
    /// `<presence/>` in the content namespace
    Presence,
    /// `<iq/>` in the content namespace
    Iq,
    /// Anything else: stream features, SASL, acknowledgements, unknown elements.
    Other,
}

/// The attributes that the index knows and [`Stanza::with`] can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attr {
    /// `to`
    To,
    /// `from`
    From,
    /// `id`
    Id,
    /// `type`
    Type,
    /// `xml:lang`
    Lang,
}

/// One top-level element of a stream, as canonical bytes.
///
/// Canonical: the content namespace (`jabber:client`, `jabber:server`) is not declared on the top-level element
/// nor where it is inherited; every other change of namespace is an `xmlns='…'` on its element; element prefixes are gone;
/// prefixes of attributes are declared on the element that uses them; attribute values stand in single quotes; character references
/// and CDATA are resolved; only `&lt; &gt; &amp; &apos;` (the last in attributes) are escaped; tabs and newlines in
/// attribute values are character references. The same bytes thus serve client and server streams.
///
/// An element without content is `<a/>`; a carriage return, which only a reference can bring, stays one;
/// no more than one space stands anywhere in a tag.
///
/// Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Stanza {
    bytes: Bytes,
    index: Index,
    rare: Option<Box<Rare>>,
}

/// What hardly any stanza has.
#[derive(Clone, Debug, Default)]
struct Rare {
    claimed_from: Option<Box<str>>,
    /// Namespaces whose name stands escaped in the bytes, by where it stands.
    namespaces: Vec<(u32, Box<str>)>,
}

/// A stanza that is kept without its index, which is larger than most stanzas: it is made again where the stanza is used.
#[derive(Clone, Debug)]
pub struct KeptStanza {
    bytes: Bytes,
    rare: Option<Box<Rare>>,
}

impl From<Stanza> for KeptStanza {
    fn from(stanza: Stanza) -> Self {
        Self { bytes: stanza.bytes, rare: stanza.rare }
    }
}

impl KeptStanza {
    /// The stanza. Shares the bytes.
    pub fn stanza(&self) -> Stanza {
        Stanza { bytes: self.bytes.clone(), index: Index::of(&self.bytes), rare: self.rare.clone() }
    }
}

/// A child element of a stanza's top-level element.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// Local name.
    pub name: &'a str,
    /// Namespace; the content namespace is given as `jabber:client`.
    pub ns: &'a str,
    /// Its canonical bytes, from `<` to `>`, which say the namespace only where it is not the stanza's own.
    pub bytes: &'a [u8],
}

impl Child<'_> {
    /// Is it this element?
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// Parses it into a tree.
    pub fn element(&self) -> Element {
        // Its own namespace is right whether the bytes inherit it or declare it.
        Element::from_canonical(self.bytes, self.ns)
    }
}

impl Stanza {
    /// The element, in the content namespace or any other, as a top-level element.
    pub fn new(element: &Element) -> Self {
        let mut bytes = Vec::new();
        element.write(ns::CLIENT, &mut bytes);
        Self::from_canonical(bytes, None)
    }

    /// Parses one element from bytes in canonical form (or any XML without a declaration), as stored or as written
    /// in a test. No default namespace means the content namespace.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        static ALONE: LazyLock<Scope> = LazyLock::new(|| Scope::alone(ns::CLIENT));
        match fast::read(bytes, &PARSE_LIMITS, &ALONE, None) {
            Ok((len, stanza)) if len == bytes.len() => Ok(stanza),
            _ => Ok(Self::from_canonical(read_whole(bytes, &ALONE)?, None)),
        }
    }

    pub(super) fn from_canonical(bytes: Vec<u8>, claimed_from: Option<Box<str>>) -> Self {
        let index = Index::of(&bytes);
        let namespaces = escaped_namespaces(&index, &bytes);
        let rare = Rare { claimed_from, namespaces };
        let rare = (rare.claimed_from.is_some() || !rare.namespaces.is_empty()).then(|| Box::new(rare));
        // A boxed slice is what `Bytes` can take over as it is.
        Self { bytes: Bytes::from(bytes.into_boxed_slice()), index, rare }
    }

    /// With an index that is already made, and no namespace whose name needs unescaping.
    #[inline]
    pub(super) fn indexed(bytes: Bytes, index: Index, claimed_from: Option<Box<str>>) -> Self {
        let rare = claimed_from.map(|claimed| Box::new(Rare { claimed_from: Some(claimed), namespaces: Vec::new() }));
        Self { bytes, index, rare }
    }

    /// With this `from`, if it is one of the stanzas that are routed.
    pub(super) fn stamped(self, from: &str) -> Self {
        if self.kind() == Kind::Other || self.from().as_deref() == Some(from) {
            return self;
        }
        let claimed = self.from().map(|claimed| claimed.as_ref().into());
        let mut bytes = Vec::with_capacity(self.bytes.len() + from.len() + " from=''".len());
        self.splice(Attr::From, Some(from), &mut bytes);
        Self::from_canonical(bytes, claimed)
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.index.kind
    }

    /// Local name of the top-level element.
    pub fn name(&self) -> &str {
        self.index.name.str_of(&self.bytes)
    }

    /// Its namespace; the content namespace is given as `jabber:client`.
    pub fn ns(&self) -> &str {
        self.ns_name(self.index.ns)
    }

    /// Is it this element?
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name() == name && self.ns() == ns
    }

    /// An attribute's value, unescaped.
    pub fn attr(&self, attr: Attr) -> Option<Cow<'_, str>> {
        let span = self.index.attr(attr);
        (!span.is_none()).then(|| unescape(span.str_of(&self.bytes)))
    }

    /// `to`
    pub fn to(&self) -> Option<Cow<'_, str>> {
        self.attr(Attr::To)
    }

    /// `from`
    pub fn from(&self) -> Option<Cow<'_, str>> {
        self.attr(Attr::From)
    }

    /// `id`
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.attr(Attr::Id)
    }

    /// `type`
    pub fn type_(&self) -> Option<Cow<'_, str>> {
        self.attr(Attr::Type)
    }

    /// The `from` that the sender wrote, where a stamp replaced a different one.
    pub fn claimed_from(&self) -> Option<&str> {
        self.rare.as_ref()?.claimed_from.as_deref()
    }

    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = Child<'_>> {
        self.index.children.iter().map(|span| self.child_at(span))
    }

    /// The first child with this name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<Child<'_>> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The whole stanza as a tree.
    pub fn element(&self) -> Element {
        Element::from_canonical(&self.bytes, ns::CLIENT)
    }

    /// The same stanza with one attribute set, or removed with `None`.
    pub fn with(&self, attr: Attr, value: Option<&str>) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + value.map_or(0, str::len) + 16);
        self.splice(attr, value, &mut bytes);
        self.changed(bytes)
    }

    /// The same stanza with one more child, the last.
    pub fn with_child(&self, child: &Element) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 64);
        let closing = self.name().len() + "</>".len();
        if self.bytes.ends_with(b"/>") {
            bytes.extend_from_slice(&self.bytes[..self.bytes.len() - 2]);
            bytes.push(b'>');
        } else {
            bytes.extend_from_slice(&self.bytes[..self.bytes.len() - closing]);
        }
        child.write(self.ns(), &mut bytes);
        self.push_closing(&mut bytes);
        self.changed(bytes)
    }

    /// The same stanza without the children that `drop` picks.
    pub fn without_children(&self, mut drop: impl FnMut(Child<'_>) -> bool) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut copied = 0;
        for span in &self.index.children {
            if drop(self.child_at(span)) {
                bytes.extend_from_slice(&self.bytes[copied..span.bytes.start as usize]);
                copied = span.bytes.end as usize;
            }
        }
        if copied == 0 {
            return self.clone();
        }
        let closing = self.bytes.len() - (self.name().len() + "</>".len());
        bytes.extend_from_slice(&self.bytes[copied..closing]);
        // Nothing but the opening tag is left: the first `>` is the last byte.
        if memchr::memchr(b'>', &bytes) == Some(bytes.len() - 1) {
            bytes.pop();
            bytes.extend_from_slice(b"/>");
        } else {
            self.push_closing(&mut bytes);
        }
        self.changed(bytes)
    }

    /// Appends the bytes to `out`, with this `to` instead of the stanza's own where one is given:
    /// how a fan-out shares one stanza.
    pub fn write(&self, to: Option<&str>, out: &mut Vec<u8>) {
        match to {
            None => out.extend_from_slice(&self.bytes),
            Some(_) => self.splice(Attr::To, to, out),
        }
    }

    fn splice(&self, attr: Attr, value: Option<&str>, out: &mut Vec<u8>) {
        let span = self.index.attr(attr);
        let (start, end) = if span.is_none() {
            (self.index.attrs_start as usize, self.index.attrs_start as usize)
        } else {
            // From the space before the name to the closing quote.
            (span.start as usize - " ='".len() - attr.name().len(), span.end as usize + 1)
        };
        out.extend_from_slice(&self.bytes[..start]);
        if let Some(value) = value {
            push_attribute(attr.name(), value, out);
        }
        out.extend_from_slice(&self.bytes[end..]);
    }

    fn push_closing(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name().as_bytes());
        out.push(b'>');
    }

    fn changed(&self, bytes: Vec<u8>) -> Self {
        Self::from_canonical(bytes, self.claimed_from().map(Into::into))
    }

    fn child_at(&self, span: &ChildSpan) -> Child<'_> {
        let name = Span { start: span.bytes.start + 1, end: span.name_end };
        let ns = if span.ns.is_none() { self.index.ns } else { span.ns };
        Child { name: name.str_of(&self.bytes), ns: self.ns_name(ns), bytes: span.bytes.of(&self.bytes) }
    }

    fn ns_name(&self, span: Span) -> &str {
        let escaped = self.rare.as_ref().map_or(&[][..], |rare| &rare.namespaces);
        ns_name(span, &self.bytes, escaped)
    }
}

impl Attr {
    fn name(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::From => "from",
            Self::Id => "id",
            Self::Type => "type",
            Self::Lang => "xml:lang",
        }
    }
}

impl PartialEq for Stanza {
    /// Whether the canonical bytes are the same.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Stanza {}

#[cfg(test)]
mod tests;
