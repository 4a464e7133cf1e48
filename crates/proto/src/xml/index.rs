//! The shallow index of a stanza: where in the canonical text the things stand that routing asks for.
//!
//! Canonical text is trusted here: it comes from the reader or from a tree.

use std::slice;

use smallvec::SmallVec;

use super::canon_tag::{CanonAttr, CanonTag};
use super::escape::unescape;
use super::{Attr, Kind};
use crate::ns;

/// A piece of the canonical text. Nothing that is looked for stands at its very beginning, so that the
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

    pub(super) fn len(self) -> u32 {
        self.end - self.start
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    /// Whether it says `wanted`.
    pub(super) fn is(self, wanted: &str, text: &str) -> bool {
        text.as_bytes().get(self.start as usize..self.end as usize) == Some(wanted.as_bytes())
    }
}

/// The index. Every stanza that is kept keeps it, and each session that is at rest keeps a stanza: it is small. What does
/// not fit into small numbers stands in a box.
#[derive(Clone, Debug)]
pub(super) struct Index {
    kind: Kind,
    /// A bit for each attribute whose value stands escaped.
    escaped: u8,
    name_len: u8,
    /// One more than the length of the namespace as it stands; zero means the content namespace.
    ns_len: u8,
    /// Of all the declarations. After them the first attribute stands or would stand.
    declarations_len: u8,
    children_len: u8,
    /// Start and end of the values as they stand, by [`Attr`]; zero is none.
    attrs: [(u16, u16); 5],
    children: [Child; CHILDREN_MAX],
    rare: Option<Box<Rare>>,
}

/// Children that fit into the index.
const CHILDREN_MAX: usize = 5;

const _: () = assert!(size_of::<Index>() == 64);

#[derive(Clone, Copy, Debug, Default)]
struct Child {
    start: u16,
    end: u16,
    name_len: u8,
    /// One more than the length of the namespace as it stands; zero means that of the stanza.
    ns_len: u8,
}

/// What hardly any stanza has.
#[derive(Clone, Debug, Default)]
struct Rare {
    claimed_from: Option<Box<str>>,
    /// Namespaces whose name stands escaped in the text, by where it stands.
    namespaces: Vec<(u32, Box<str>)>,
    /// Where things are, if they do not all fit into the index.
    places: Option<Places>,
}

/// Where things are, in any stanza.
#[derive(Clone, Debug)]
struct Places {
    name: Span,
    ns: Span,
    attrs: [Span; 5],
    attrs_start: u32,
    children: SmallVec<[ChildPlace; CHILDREN_MAX]>,
    /// A bit for each attribute whose value stands escaped.
    escaped: u8,
    escaped_namespaces: Vec<Span>,
}

/// Where a child is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChildPlace {
    pub(super) whole: Span,
    pub(super) name: Span,
    /// As it stands, escaped; none means that of the stanza.
    pub(super) ns: Span,
}

impl Index {
    /// Of a stanza whose places are small numbers.
    pub(super) const BYTES_MAX: usize = u16::MAX as usize;

    /// With nothing in it yet.
    pub(super) fn empty() -> Self {
        Self {
            kind: Kind::Other,
            escaped: 0,
            name_len: 0,
            ns_len: 0,
            declarations_len: 0,
            children_len: 0,
            attrs: [(0, 0); 5],
            children: [Child::default(); CHILDREN_MAX],
            rare: None,
        }
    }

    pub(super) fn of(text: &str) -> Self {
        let places = Places::of(text);
        let kind = if places.ns.is_none() { kind_of(places.name.of(text).as_bytes()) } else { Kind::Other };
        let mut index = Self::empty();
        let namespaces = places.escaped_namespaces.iter().map(|ns| (ns.start, unescape(ns.of(text)).into()));
        let namespaces: Vec<_> = namespaces.collect();
        if text.len() > Self::BYTES_MAX || !index.take(kind, &places) {
            index = Self { kind, escaped: places.escaped, ..Self::empty() };
            index.rare_mut().places = Some(places);
        }
        if !namespaces.is_empty() {
            index.rare_mut().namespaces = namespaces;
        }
        index
    }

    fn take(&mut self, kind: Kind, places: &Places) -> bool {
        self.escaped = places.escaped;
        self.attrs = places.attrs.map(|value| (value.start as u16, value.end as u16));
        self.set_tag(kind, places.name, places.ns, places.attrs_start)
            && places.children.iter().all(|&child| self.push_child(child))
    }

    /// Sets what the opening tag says; false where that does not fit.
    pub(super) fn set_tag(&mut self, kind: Kind, name: Span, ns: Span, attrs_start: u32) -> bool {
        let declarations_len = attrs_start - name.end;
        self.kind = kind;
        self.name_len = name.len() as u8;
        self.ns_len = ns_len(ns) as u8;
        self.declarations_len = declarations_len as u8;
        // The namespace is among the declarations.
        name.len().max(declarations_len) <= u8::MAX.into()
    }

    /// Sets where an attribute's value stands, and whether it stands escaped.
    pub(super) fn set_attr(&mut self, attr: Attr, value: Span, escaped: bool) {
        self.attrs[attr as usize] = (value.start as u16, value.end as u16);
        self.escaped |= u8::from(escaped) << attr as u8;
    }

    /// Moves all attributes forward that are set, by as much as was taken out before them.
    pub(super) fn move_attrs_forward(&mut self, len: usize) {
        for (start, end) in self.attrs.iter_mut().filter(|(start, _)| *start != 0) {
            *start = start.wrapping_sub(len as u16);
            *end = end.wrapping_sub(len as u16);
        }
    }

    /// Adds a child; false where that does not fit.
    pub(super) fn push_child(&mut self, child: ChildPlace) -> bool {
        let Some(free) = self.children.get_mut(usize::from(self.children_len)) else { return false };
        self.children_len += 1;
        let (start, end) = (child.whole.start as u16, child.whole.end as u16);
        *free = Child { start, end, name_len: child.name.len() as u8, ns_len: ns_len(child.ns) as u8 };
        child.name.len().max(ns_len(child.ns)) <= u8::MAX.into()
    }

    pub(super) fn set_claimed_from(&mut self, claimed: Box<str>) {
        self.rare_mut().claimed_from = Some(claimed);
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn name(&self) -> Span {
        match self.places() {
            None => Span { start: 1, end: 1 + u32::from(self.name_len) },
            Some(places) => places.name,
        }
    }

    /// As it stands, escaped; none means the content namespace.
    pub(super) fn ns(&self) -> Span {
        match self.places() {
            None => ns_span(self.name(), self.ns_len),
            Some(places) => places.ns,
        }
    }

    /// An attribute's value as it stands.
    pub(super) fn attr(&self, attr: Attr) -> Span {
        match self.places() {
            None => {
                let (start, end) = self.attrs[attr as usize];
                Span { start: start.into(), end: end.into() }
            }
            Some(places) => places.attrs[attr as usize],
        }
    }

    /// Whether an attribute's value stands escaped.
    pub(super) fn is_escaped(&self, attr: Attr) -> bool {
        self.escaped & 1 << attr as u8 != 0
    }

    /// Where the first attribute stands or would stand: after the declarations.
    pub(super) fn attrs_start(&self) -> u32 {
        match self.places() {
            None => self.name().end + u32::from(self.declarations_len),
            Some(places) => places.attrs_start,
        }
    }

    #[inline]
    pub(super) fn children(&self) -> ChildPlaces<'_> {
        match self.places() {
            None => ChildPlaces { small: self.children[..usize::from(self.children_len)].iter(), large: [].iter() },
            Some(places) => ChildPlaces { small: [].iter(), large: places.children.iter() },
        }
    }

    pub(super) fn claimed_from(&self) -> Option<&str> {
        self.rare.as_ref()?.claimed_from.as_deref()
    }

    /// What a namespace is called that stands at `span`, or the content namespace for none.
    pub(super) fn ns_name<'a>(&'a self, span: Span, text: &'a str) -> &'a str {
        if span.is_none() {
            return ns::CLIENT;
        }
        match self.rare.as_ref().and_then(|rare| rare.namespace(span)) {
            Some(name) => name,
            None => span.of(text),
        }
    }

    fn places(&self) -> Option<&Places> {
        self.rare.as_ref()?.places.as_ref()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// Where the children are, in order: either all in the index, or none.
pub(super) struct ChildPlaces<'a> {
    small: slice::Iter<'a, Child>,
    large: slice::Iter<'a, ChildPlace>,
}

impl Iterator for ChildPlaces<'_> {
    type Item = ChildPlace;

    #[inline]
    fn next(&mut self) -> Option<ChildPlace> {
        match self.small.next() {
            Some(child) => Some(child.place()),
            None => self.large.next().copied(),
        }
    }
}

impl Rare {
    fn namespace(&self, span: Span) -> Option<&str> {
        self.namespaces.iter().find(|(start, _)| *start == span.start).map(|(_, name)| &**name)
    }
}

impl Child {
    fn place(&self) -> ChildPlace {
        let start = u32::from(self.start);
        let name = Span { start: start + 1, end: start + 1 + u32::from(self.name_len) };
        ChildPlace { whole: Span { start, end: self.end.into() }, name, ns: ns_span(name, self.ns_len) }
    }
}

fn ns_len(ns: Span) -> u32 {
    if ns.is_none() { 0 } else { ns.len() + 1 }
}

/// The namespace that the tag declares whose name this is.
fn ns_span(name: Span, ns_len: u8) -> Span {
    if ns_len == 0 {
        return Span::default();
    }
    let start = name.end + " xmlns='".len() as u32;
    Span { start, end: start + u32::from(ns_len) - 1 }
}

impl Places {
    fn of(text: &str) -> Self {
        let top = CanonTag::read(text, 0);
        let mut places = Self {
            name: top.name,
            ns: Span::default(),
            attrs: [Span::default(); 5],
            attrs_start: top.name.end,
            children: SmallVec::new(),
            escaped: 0,
            escaped_namespaces: Vec::new(),
        };
        for attribute in top.attributes(text) {
            let name = attribute.name.of(text).as_bytes();
            if let Some(attr) = attr_of(name) {
                places.attrs[attr as usize] = attribute.value;
                places.escaped |= u8::from(attribute.escaped) << attr as u8;
            } else if name.starts_with(b"xmlns") && matches!(name.get(5), None | Some(b':')) {
                places.attrs_start = attribute.value.end + 1;
                if name.len() == 5 {
                    places.ns = places.note_namespace(&attribute);
                }
            }
        }
        let bytes = text.as_bytes();
        let mut at = top.end as usize;
        if top.empty {
            return places;
        }
        loop {
            at += memchr::memchr(b'<', &bytes[at..]).expect("the stanza's own closing tag follows");
            if bytes[at + 1] == b'/' {
                return places;
            }
            let tag = CanonTag::read(text, at);
            let declaration = tag.attributes(text).next().filter(|first| first.name.is("xmlns", text));
            let ns = declaration.map_or(Span::default(), |declaration| places.note_namespace(&declaration));
            let end = tag.element_end(text);
            places.children.push(ChildPlace { whole: Span::new(at, end), name: tag.name, ns });
            at = end;
        }
    }

    fn note_namespace(&mut self, declaration: &CanonAttr) -> Span {
        if declaration.escaped {
            self.escaped_namespaces.push(declaration.value);
        }
        declaration.value
    }
}

/// What an element of the content namespace is.
pub(super) fn kind_of(name: &[u8]) -> Kind {
    // One comparison for each, where a `match` would look at byte after byte.
    if name == b"message" {
        Kind::Message
    } else if name == b"presence" {
        Kind::Presence
    } else if name == b"iq" {
        Kind::Iq
    } else {
        Kind::Other
    }
}

pub(super) fn attr_of(name: &[u8]) -> Option<Attr> {
    Some(match name.len() {
        2 if name == b"to" => Attr::To,
        2 if name == b"id" => Attr::Id,
        4 if name == b"from" => Attr::From,
        4 if name == b"type" => Attr::Type,
        8 if name == b"xml:lang" => Attr::Lang,
        _ => return None,
    })
}
