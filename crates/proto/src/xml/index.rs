//! The shallow index of a stanza: where in the canonical bytes the things stand that routing asks for.
//!
//! Canonical bytes are trusted here: they come from the reader or from a tree.

use smallvec::SmallVec;

use super::escape::unescape;
use super::{Attr, Kind};
use crate::ns;

/// A piece of the canonical bytes. Nothing that is looked for stands at their very beginning, so that the
/// default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn is_none(self) -> bool {
        self.start == 0
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    pub(super) fn str_of(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).expect("canonical bytes are UTF-8, and spans end beside ASCII")
    }
}

#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) kind: Kind,
    pub(super) name: Span,
    /// As it stands, escaped; none means the content namespace.
    pub(super) ns: Span,
    /// Values as they stand, by [`Attr`].
    pub(super) attrs: [Span; 5],
    /// Where the first attribute stands or would stand: after the declarations.
    pub(super) attrs_start: u32,
    pub(super) children: SmallVec<[ChildSpan; 3]>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChildSpan {
    pub(super) bytes: Span,
    pub(super) name_end: u32,
    /// As it stands, escaped; none means that of the stanza.
    pub(super) ns: Span,
}

impl Index {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let top = CanonTag::read(bytes, 0);
        let mut index = Self {
            kind: Kind::Other,
            name: top.name,
            ns: Span::default(),
            attrs: [Span::default(); 5],
            attrs_start: top.name.end,
            children: SmallVec::new(),
        };
        for (name, value) in top.attributes(bytes) {
            let name = name.of(bytes);
            if name.starts_with(b"xmlns") && matches!(name.get(5), None | Some(b':')) {
                index.attrs_start = value.end + 1;
                if name.len() == 5 {
                    index.ns = value;
                }
            } else if let Some(attr) = attr_of(name) {
                index.attrs[attr as usize] = value;
            }
        }
        index.kind = kind_of(top.name.of(bytes), index.ns);
        let mut at = top.end as usize;
        if top.empty {
            return index;
        }
        loop {
            at += memchr::memchr(b'<', &bytes[at..]).expect("the stanza's own closing tag follows");
            if bytes[at + 1] == b'/' {
                return index;
            }
            let tag = CanonTag::read(bytes, at);
            let ns = tag.attributes(bytes).next().filter(|(name, _)| name.of(bytes) == b"xmlns");
            let end = tag.element_end(bytes);
            let ns = ns.map_or(Span::default(), |(_, value)| value);
            index.children.push(ChildSpan { bytes: Span::new(at, end), name_end: tag.name.end, ns });
            at = end;
        }
    }

    pub(super) fn attr(&self, attr: Attr) -> Span {
        self.attrs[attr as usize]
    }
}

pub(super) fn kind_of(name: &[u8], ns: Span) -> Kind {
    match name {
        _ if !ns.is_none() => Kind::Other,
        b"message" => Kind::Message,
        b"presence" => Kind::Presence,
        b"iq" => Kind::Iq,
        _ => Kind::Other,
    }
}

pub(super) fn attr_of(name: &[u8]) -> Option<Attr> {
    Some(match name {
        b"to" => Attr::To,
        b"from" => Attr::From,
        b"id" => Attr::Id,
        b"type" => Attr::Type,
        b"xml:lang" => Attr::Lang,
        _ => return None,
    })
}

/// Namespaces that need unescaping, which those that documents define do not: the span's start and the name.
pub(super) fn escaped_namespaces(index: &Index, bytes: &[u8]) -> Vec<(u32, Box<str>)> {
    let spans = std::iter::once(index.ns).chain(index.children.iter().map(|child| child.ns));
    let escaped = spans.filter(|ns| memchr::memchr(b'&', ns.of(bytes)).is_some());
    escaped.map(|ns| (ns.start, unescape(ns.str_of(bytes)).into())).collect()
}

/// The name of the content namespace, or what `span` says.
pub(super) fn ns_name<'a>(span: Span, bytes: &'a [u8], escaped: &'a [(u32, Box<str>)]) -> &'a str {
    if span.is_none() {
        return ns::CLIENT;
    }
    match escaped.iter().find(|(start, _)| *start == span.start) {
        Some((_, name)) => name,
        None => span.str_of(bytes),
    }
}

/// An opening tag in canonical form.
pub(super) struct CanonTag {
    pub(super) name: Span,
    /// After its `>`.
    pub(super) end: u32,
    pub(super) empty: bool,
}

impl CanonTag {
    /// Reads the tag whose `<` stands at `at`.
    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        let rest = &bytes[at..];
        let name_len = rest.iter().position(|b| matches!(b, b' ' | b'/' | b'>')).unwrap_or(rest.len());
        // Attribute values keep `>` escaped, so that the first one ends the tag.
        let end = name_len + memchr::memchr(b'>', &rest[name_len..]).expect("a tag has its end");
        Self { name: Span::new(at + 1, at + name_len), end: (at + end + 1) as u32, empty: rest[end - 1] == b'/' }
    }

    /// Names and values of the attributes as they stand, declarations among them and first.
    pub(super) fn attributes<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (Span, Span)> + use<'a> {
        let mut at = self.name.end as usize;
        std::iter::from_fn(move || {
            if bytes.get(at) != Some(&b' ') {
                return None;
            }
            let name = at + 1;
            let equals = name + memchr::memchr(b'=', &bytes[name..])?;
            let value = equals + 2;
            let end = value + memchr::memchr(b'\'', bytes.get(value..)?)?;
            at = end + 1;
            Some((Span::new(name, equals), Span::new(value, end)))
        })
    }

    /// Where the element ends that begins with this tag.
    fn element_end(&self, bytes: &[u8]) -> usize {
        let mut at = self.end as usize;
        let mut depth = u32::from(!self.empty);
        while depth > 0 {
            at += memchr::memchr(b'<', &bytes[at..]).expect("an element has its end");
            let end = at + memchr::memchr(b'>', &bytes[at..]).expect("a tag has its end");
            if bytes[at + 1] == b'/' {
                depth -= 1;
            } else if bytes[end - 1] != b'/' {
                depth += 1;
            }
            at = end + 1;
        }
        at
    }
}
