//! RFC 6120 §8: one stanza, as canonical text and a shallow index.

mod reply;

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use smallvec::SmallVec;
use triomphe::{Arc, HeaderSlice};

use super::buffer::with_buffer;
use super::canon::{Scope, push_attribute};
use super::escape::unescape;
use super::index::{ChildPlace, Index, Span};
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

/// One top-level element of a stream, as canonical text.
///
/// Canonical: the content namespace (`jabber:client`, `jabber:server`) is not declared on the top-level element
/// nor where it is inherited; every other change of namespace is an `xmlns='…'` on its element; element prefixes are gone;
/// prefixes of attributes are declared on the element that uses them; attribute values stand in single quotes; character references
/// and CDATA are resolved; only `&lt; &gt; &amp; &apos;` (the last in attributes) are escaped; tabs and newlines in
/// attribute values are character references. The same text thus serves client and server streams.
///
/// An element without content is `<a/>`; a carriage return, which only a reference can bring, stays one;
/// no more than one space stands anywhere in a tag.
///
/// Cloning shares text and index, which are one piece of memory.
#[derive(Clone)]
pub struct Stanza(Arc<HeaderSlice<Index, str>>);

/// A child element of a stanza's top-level element.
#[derive(Clone, Copy)]
pub struct Child<'a> {
    /// Local name.
    pub name: &'a str,
    /// Namespace; the content namespace is given as `jabber:client`.
    pub ns: &'a str,
    /// Where its text stands in that of the stanza.
    whole: Span,
    stanza: &'a str,
}

impl<'a> Child<'a> {
    /// Its canonical text, from `<` to `>`, which says the namespace only where it is not the stanza's own.
    pub fn text(&self) -> &'a str {
        self.whole.of(self.stanza)
    }

    /// Is it this element?
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// Parses it into a tree.
    pub fn element(&self) -> Element {
        // Its own namespace is right whether the text inherits it or declares it.
        Element::from_canonical(self.text(), self.ns)
    }
}

impl Stanza {
    /// The element, in the content namespace or any other, as a top-level element.
    pub fn new(element: &Element) -> Self {
        Self::written(None, |out| element.write(ns::CLIENT, out))
    }

    /// Parses one element from bytes in canonical form (or any XML without a declaration), as stored or as written
    /// in a test. No default namespace means the content namespace.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        static ALONE: LazyLock<Scope> = LazyLock::new(|| Scope::alone(ns::CLIENT));
        match fast::read(bytes, &PARSE_LIMITS, &ALONE, None) {
            Ok((len, stanza)) if len == bytes.len() => Ok(stanza),
            _ => Ok(Self::from_canonical(as_text(&read_whole(bytes, &ALONE)?), None)),
        }
    }

    pub(super) fn from_canonical(text: &str, claimed_from: Option<Box<str>>) -> Self {
        Self::indexed(text, Index::of(text), claimed_from)
    }

    /// With an index that is already made.
    #[inline]
    pub(super) fn indexed(text: &str, mut index: Index, claimed_from: Option<Box<str>>) -> Self {
        if let Some(claimed) = claimed_from {
            index.set_claimed_from(claimed);
        }
        Self(Arc::from_header_and_str(index, text))
    }

    /// With this `from`, if it is one of the stanzas that are routed.
    pub(super) fn stamped(self, from: &str) -> Self {
        if self.kind() == Kind::Other || self.from().as_deref() == Some(from) {
            return self;
        }
        let claimed = self.from().map(|claimed| claimed.as_ref().into());
        Self::written(claimed, |out| self.splice(Attr::From, Some(from), out))
    }

    /// What `write` writes, in canonical form.
    fn written(claimed_from: Option<Box<str>>, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        with_buffer(|out| {
            write(out);
            Self::from_canonical(as_text(out), claimed_from)
        })
    }

    fn changed(&self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::written(self.claimed_from().map(Into::into), write)
    }

    /// The canonical text.
    pub fn text(&self) -> &str {
        &self.0.slice
    }

    /// The same as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.text().as_bytes()
    }

    /// Bytes of memory that it takes, shared by all its copies; for one with more than five children or 64 KiB, without what its
    /// index takes beyond its own size.
    pub fn memory(&self) -> usize {
        size_of::<usize>() + size_of::<Index>() + self.text().len()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.index().kind()
    }

    /// Local name of the top-level element.
    pub fn name(&self) -> &str {
        self.index().name().of(self.text())
    }

    /// Its namespace; the content namespace is given as `jabber:client`.
    pub fn ns(&self) -> &str {
        self.index().ns_name(self.index().ns(), self.text())
    }

    /// Is it this element?
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name() == name && self.ns() == ns
    }

    /// An attribute's value, unescaped.
    pub fn attr(&self, attr: Attr) -> Option<Cow<'_, str>> {
        let span = self.index().attr(attr);
        if span.is_none() {
            return None;
        }
        let value = span.of(self.text());
        Some(if self.index().is_escaped(attr) { unescape(value) } else { Cow::Borrowed(value) })
    }

    /// Whether it has the attribute.
    pub fn has(&self, attr: Attr) -> bool {
        !self.index().attr(attr).is_none()
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
        self.index().claimed_from()
    }

    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = Child<'_>> {
        self.index().children().map(|place| self.child_at(place))
    }

    /// The first child with this name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<Child<'_>> {
        let is_wanted = |place: &ChildPlace| place.name.is(name, self.text()) && self.child_ns(*place) == ns;
        self.index().children().find(is_wanted).map(|place| self.child_at(place))
    }

    /// The whole stanza as a tree.
    pub fn element(&self) -> Element {
        Element::from_canonical(self.text(), ns::CLIENT)
    }

    /// The same stanza with one attribute set, or removed with `None`.
    pub fn with(&self, attr: Attr, value: Option<&str>) -> Self {
        self.changed(|out| self.splice(attr, value, out))
    }

    /// The same stanza with one more child, the last.
    pub fn with_child(&self, child: &Element) -> Self {
        self.changed(|out| {
            match self.bytes().strip_suffix(b"/>") {
                Some(open) => {
                    out.extend_from_slice(open);
                    out.push(b'>');
                }
                None => out.extend_from_slice(&self.bytes()[..self.closing()]),
            }
            child.write(self.ns(), out);
            self.push_closing(out);
        })
    }

    /// The same stanza without the children that `drop` picks.
    pub fn without_children(&self, mut drop: impl FnMut(Child<'_>) -> bool) -> Self {
        let dropped: SmallVec<[ChildPlace; 4]> =
            self.index().children().filter(|&place| drop(self.child_at(place))).collect();
        if dropped.is_empty() {
            return self.clone();
        }
        self.changed(|out| {
            let mut copied = 0;
            for place in dropped {
                out.extend_from_slice(&self.bytes()[copied..place.whole.start as usize]);
                copied = place.whole.end as usize;
            }
            out.extend_from_slice(&self.bytes()[copied..self.closing()]);
            // Nothing but the opening tag is left: the first `>` is the last byte.
            if memchr::memchr(b'>', out) == Some(out.len() - 1) {
                out.pop();
                out.extend_from_slice(b"/>");
            } else {
                self.push_closing(out);
            }
        })
    }

    /// Appends the bytes to `out`, with this `to` instead of the stanza's own where one is given:
    /// how a fan-out shares one stanza.
    pub fn write(&self, to: Option<&str>, out: &mut Vec<u8>) {
        match to {
            None => out.extend_from_slice(self.bytes()),
            Some(_) => self.splice(Attr::To, to, out),
        }
    }

    fn splice(&self, attr: Attr, value: Option<&str>, out: &mut Vec<u8>) {
        let span = self.index().attr(attr);
        let (start, end) = if span.is_none() {
            (self.index().attrs_start() as usize, self.index().attrs_start() as usize)
        } else {
            // From the space before the name to the closing quote.
            (span.start as usize - " ='".len() - attr.name().len(), span.end as usize + 1)
        };
        out.extend_from_slice(&self.bytes()[..start]);
        if let Some(value) = value {
            push_attribute(attr.name(), value, out);
        }
        out.extend_from_slice(&self.bytes()[end..]);
    }

    /// Where the closing tag begins, if there is one.
    fn closing(&self) -> usize {
        self.text().len() - (self.name().len() + "</>".len())
    }

    fn push_closing(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name().as_bytes());
        out.push(b'>');
    }

    fn child_at(&self, place: ChildPlace) -> Child<'_> {
        let text = self.text();
        Child { name: place.name.of(text), ns: self.child_ns(place), whole: place.whole, stanza: text }
    }

    fn child_ns(&self, place: ChildPlace) -> &str {
        let ns = if place.ns.is_none() { self.index().ns() } else { place.ns };
        self.index().ns_name(ns, self.text())
    }

    fn index(&self) -> &Index {
        &self.0.header
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

impl fmt::Debug for Child<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("name", &self.name).field("ns", &self.ns).field("text", &self.text()).finish()
    }
}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stanza").field("text", &self.text()).field("index", self.index()).finish()
    }
}

impl PartialEq for Stanza {
    /// Whether the canonical text is the same.
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Stanza {}

/// What the reader or a tree wrote.
pub(super) fn as_text(canonical: &[u8]) -> &str {
    std::str::from_utf8(canonical).expect("what is read as UTF-8 or written from strings is UTF-8")
}

#[cfg(test)]
mod tests;
