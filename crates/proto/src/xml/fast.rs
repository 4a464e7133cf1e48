//! RFC 6120 §11: the ordinary stanza, whole in the input, in one pass and one allocation.
//!
//! Whatever is out of the ordinary (a prefix, a CDATA section, a character reference, a limit reached, an error, a
//! stanza that is cut) is left to the reader, which knows every rule. What is taken here must come out
//! exactly as the reader would write it. That is a copy of the input but for a few edits.

use smallvec::SmallVec;

use super::canon::Scope;
use super::escape::attribute_value;
use super::index::{ChildPlace, Index, Span, attr_of, kind_of};
use super::scan::{CLASS, NAME, NAME_START, first_bad_char};
use super::stanza::as_text;
use super::tag::XMLNS;
use super::{Attr, Kind, Stanza, XmlLimits};
use crate::ns;

/// The `from` that the canonical form is to have.
#[derive(Clone, Copy)]
pub(super) struct FastStamp<'a> {
    pub(super) value: &'a str,
    pub(super) escaped: &'a str,
}

/// Why a stanza was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is out of the ordinary.
    Unusual,
    /// The input ends in it; so far the reader would find no fault either.
    Cut,
}

/// The stanza at the front of `input` and its length there, if it is ordinary.
pub(super) fn read(
    input: &[u8],
    limits: &XmlLimits,
    scope: &Scope,
    stamp: Option<FastStamp<'_>>,
) -> Result<(usize, Stanza), Stop> {
    if !scope.content {
        return Err(Stop::Unusual);
    }
    let allowed = limits.stanza_bytes_max.min(1 << 29);
    let beyond = input.len() > allowed;
    let input = &input[..input.len().min(allowed)];
    let mut fast = Fast {
        input,
        limits,
        scope,
        at: 0,
        shift: 0,
        elements: 0,
        seen: 0,
        edits: SmallVec::new(),
        open: SmallVec::new(),
        names: SmallVec::new(),
        index: Index::empty(),
        child: ChildPlace::default(),
        stale: false,
        claimed_from: None,
    };
    match fast.stanza(stamp) {
        Ok(()) => fast.finish().ok_or(Stop::Unusual),
        Err(Stop::Cut) if !beyond && fast.is_sound() => Err(Stop::Cut),
        Err(_) => Err(Stop::Unusual),
    }
}

struct Fast<'a> {
    input: &'a [u8],
    limits: &'a XmlLimits,
    scope: &'a Scope,
    at: usize,
    /// How much further on a place is in the canonical form, modulo 2³².
    shift: u32,
    elements: u32,
    /// All bytes of text and values so far, or-ed in groups of eight.
    seen: u64,
    edits: SmallVec<[Edit<'a>; 16]>,
    open: SmallVec<[Open; 8]>,
    /// Attributes of the tag at hand.
    names: SmallVec<[Span; 8]>,
    index: Index,
    /// The child at hand.
    child: ChildPlace,
    /// What the index says is wrong, because of an edit before it or because it is too much: it must be made anew.
    stale: bool,
    /// The value of the `from` that the stamp replaced, and of the stamp.
    claimed_from: Option<(&'a [u8], &'a str)>,
}

/// Where the canonical form differs from the input.
struct Edit<'a> {
    at: u32,
    skip: u32,
    put: &'a [u8],
}

/// The value of an attribute, as it stands.
#[derive(Clone, Copy)]
struct Value {
    input: Span,
    /// The same in the canonical form.
    out: Span,
    /// Whether both are the same bytes.
    plain: bool,
}

/// What a tag has shown so far.
struct TagSoFar {
    name: Span,
    /// How many edits there were before it.
    edits: usize,
    /// Its namespace, in the input; none is the content namespace.
    ns: Span,
    /// Where its declaration stands in the canonical form, if it has one.
    out_ns: Span,
}

#[derive(Clone, Copy)]
struct Open {
    name: Span,
    /// The namespace, in the input; none is the content namespace.
    ns: Span,
    /// After the `>` of its tag.
    content: u32,
}

impl<'a> Fast<'a> {
    fn stanza(&mut self, stamp: Option<FastStamp<'a>>) -> Result<(), Stop> {
        if self.tag::<true>(stamp)? {
            return Ok(());
        }
        loop {
            self.text()?;
            if self.byte(self.at + 1)? == b'/' {
                self.close()?;
                if self.open.is_empty() {
                    return Ok(());
                }
            } else {
                self.tag::<false>(None)?;
            }
        }
    }

    /// An opening tag; true where the stanza is complete with it.
    fn tag<const TOP: bool>(&mut self, stamp: Option<FastStamp<'a>>) -> Result<bool, Stop> {
        let start = self.at;
        let name = Span::new(start + 1, self.name_end(start + 1)?);
        self.at = name.end as usize;
        self.elements += 1;
        if self.elements > self.limits.elements_max || self.open.len() >= self.limits.depth_max as usize {
            return Err(Stop::Unusual);
        }
        let inherited = self.open.last().map_or(Span::default(), |parent| parent.ns);
        let out_start = self.place(start);
        let mut tag = TagSoFar { name, edits: self.edits.len(), ns: inherited, out_ns: Span::default() };
        let stamp = stamp.filter(|_| TOP && kind_of(self.bytes(name)) != Kind::Other);
        if let Some(stamp) = stamp {
            self.insert_stamp(stamp);
        }
        self.names.clear();
        let mut names_seen = 0_u64;
        let (empty, end) = loop {
            let at = self.at;
            match self.byte(at)? {
                b'>' => break (false, at + 1),
                b'/' if self.byte(at + 1)? == b'>' => break (true, at + 2),
                b' ' => {}
                _ => return Err(Stop::Unusual),
            }
            if matches!(self.byte(at + 1)?, b'/' | b'>') {
                self.edit(at, 1, b"");
                self.at += 1;
                continue;
            }
            let (attribute, value) = self.attribute(&mut names_seen)?;
            let attribute = self.bytes(attribute);
            if attribute == b"xmlns" {
                self.declaration(at, value, stamp.is_some(), &mut tag)?;
            } else if TOP && let Some(attr) = attr_of(attribute) {
                match stamp {
                    Some(stamp) if attr == Attr::From => self.replace_from(stamp, value.input),
                    _ => self.stale |= !self.index.set_attr(attr, value.out),
                }
            }
        };
        if TOP {
            let (kind, attrs_start) = match tag.out_ns {
                ns if ns.is_none() => (kind_of(self.bytes(name)), name.end),
                ns => (Kind::Other, ns.end + 1),
            };
            self.stale |= !self.index.set_tag(kind, name, tag.out_ns, attrs_start);
        } else if self.open.len() == 1 {
            let whole = Span { start: out_start, end: self.place(end) };
            let name = Span { start: out_start + 1, end: out_start + 1 + name.len() };
            self.child = ChildPlace { whole, name, ns: tag.out_ns };
            if empty {
                self.stale |= !self.index.push_child(self.child);
            }
        }
        self.at = end;
        if !empty {
            self.open.push(Open { name, ns: tag.ns, content: end as u32 });
        }
        Ok(TOP && empty)
    }

    /// `xmlns='…'`, which began with the space at `at`.
    fn declaration(&mut self, at: usize, value: Value, stamped: bool, tag: &mut TagSoFar) -> Result<(), Stop> {
        if !value.plain {
            return Err(Stop::Unusual);
        }
        // There is only one in a tag, so that the namespace is still the inherited one.
        if self.inherits(tag.ns, value.input)? {
            self.delete_declaration(at);
            return Ok(());
        }
        // It is none of the stanzas that are stamped, whatever its name.
        if stamped {
            return Err(Stop::Unusual);
        }
        tag.ns = value.input;
        if at == tag.name.end as usize {
            tag.out_ns = value.out;
        } else {
            self.delete_declaration(at);
            self.declare_first(tag.edits, tag.name.end, value.input);
        }
        Ok(())
    }

    /// One attribute: its name and its value.
    #[inline(always)]
    fn attribute(&mut self, names_seen: &mut u64) -> Result<(Span, Value), Stop> {
        let start = self.at + 1;
        let mut end = self.name_end(start)?;
        if self.input.get(end) == Some(&b':') {
            if !self.input[start..].starts_with(b"xml:lang=") {
                return Err(Stop::Unusual);
            }
            end = start + "xml:lang".len();
        }
        let name = Span::new(start, end);
        let bit = 1 << ((self.input[start] ^ self.input[end - 1].rotate_left(3) ^ (end - start) as u8) & 63);
        if *names_seen & bit != 0 && self.names.iter().any(|known| self.bytes(*known) == self.bytes(name)) {
            return Err(Stop::Unusual);
        }
        *names_seen |= bit;
        self.names.push(name);
        if self.names.len() > self.limits.attributes_max as usize || self.byte(end)? != b'=' {
            return Err(Stop::Unusual);
        }
        let value = match self.byte(end + 1)? {
            b'\'' => self.value::<false>(end + 2)?,
            b'"' => {
                self.edit(end + 1, 1, b"'");
                let value = self.value::<true>(end + 2)?;
                self.edit(value.input.end as usize, 1, b"'");
                value
            }
            _ => return Err(Stop::Unusual),
        };
        self.at = value.input.end as usize + 1;
        Ok((name, value))
    }

    /// The value that begins at `start`, up to its quote.
    #[inline(always)]
    fn value<const DOUBLE: bool>(&mut self, start: usize) -> Result<Value, Stop> {
        let out_start = self.place(start);
        let mut at = start;
        let mut plain = true;
        loop {
            at = self.find(at, |group| {
                let special = below_space(group) | equal(group | (LOW * 2), b'>') | equal(group | LOW, b'\'');
                if DOUBLE { special | equal(group, b'"') } else { special }
            })?;
            match self.input[at] {
                b'"' if DOUBLE => break,
                b'\'' if !DOUBLE => break,
                b'\'' => self.edit(at, 1, b"&apos;"),
                b'>' => self.edit(at, 1, b"&gt;"),
                b'&' => at += self.reference::<true>(at)?,
                _ => return Err(Stop::Unusual),
            }
            plain = false;
            at += 1;
        }
        let out = Span { start: out_start, end: self.place(at) };
        Ok(Value { input: Span::new(start, at), out, plain })
    }

    /// Text up to the next `<`.
    fn text(&mut self) -> Result<(), Stop> {
        let mut at = self.at;
        loop {
            at = self.find(at, |group| {
                below_space(group) | equal(group | (LOW * 2), b'>') | equal(group, b'&') | equal(group, b']')
            })?;
            match self.input[at] {
                b'<' => {
                    self.at = at;
                    return Ok(());
                }
                b'\n' | b'\t' => {}
                b'>' => self.edit(at, 1, b"&gt;"),
                b'&' => at += self.reference::<false>(at)?,
                b']' if self.input.get(at + 1..at + 3).ok_or(Stop::Cut)? != b"]>" => {}
                _ => return Err(Stop::Unusual),
            }
            at += 1;
        }
    }

    /// A predefined entity; how many bytes follow its `&`.
    fn reference<const VALUE: bool>(&mut self, at: usize) -> Result<usize, Stop> {
        let rest = &self.input[at + 1..];
        Ok(match rest.first().ok_or(Stop::Cut)? {
            b'l' if rest.starts_with(b"lt;") => 3,
            b'g' if rest.starts_with(b"gt;") => 3,
            b'a' if rest.starts_with(b"amp;") => 4,
            b'a' if rest.starts_with(b"apos;") => {
                if !VALUE {
                    self.edit(at, 6, b"'");
                }
                5
            }
            b'q' if rest.starts_with(b"quot;") => {
                self.edit(at, 6, b"\"");
                5
            }
            _ => return Err(Stop::Unusual),
        })
    }

    fn close(&mut self) -> Result<(), Stop> {
        let open = self.open.pop().ok_or(Stop::Unusual)?;
        let name = self.bytes(open.name);
        let rest = &self.input[self.at + 2..];
        if !rest.starts_with(name) || *rest.get(name.len()).ok_or(Stop::Cut)? != b'>' {
            return Err(Stop::Unusual);
        }
        let end = self.at + name.len() + 3;
        if self.at == open.content as usize {
            self.edit(self.at - 1, name.len() + 4, b"/>");
        }
        self.at = end;
        if self.open.len() == 1 {
            self.child.whole.end = self.place(end);
            self.stale |= !self.index.push_child(self.child);
        }
        Ok(())
    }

    /// Whether a declaration changes nothing; not where the content namespace must be written by another name.
    fn inherits(&self, current: Span, declared: Span) -> Result<bool, Stop> {
        let uri = self.bytes(declared);
        if uri == ns::XML.as_bytes() || uri == XMLNS.as_bytes() {
            return Err(Stop::Unusual);
        }
        let said_otherwise = uri == self.scope.default_ns.as_bytes() && uri != ns::CLIENT.as_bytes();
        match (current.is_none(), said_otherwise) {
            (true, true) => Ok(true),
            (true, false) => Ok(uri == ns::CLIENT.as_bytes()),
            (false, true) => Err(Stop::Unusual),
            (false, false) => Ok(uri == self.bytes(current)),
        }
    }

    /// Takes away the declaration from the space at `at` to the closing quote, with the edits of its quotes.
    fn delete_declaration(&mut self, at: usize) {
        if self.input[self.at - 1] == b'"' {
            self.edits.truncate(self.edits.len() - 2);
        }
        self.edit(at, self.at - at, b"");
    }

    /// In canonical form the declaration stands before the attributes.
    fn declare_first(&mut self, tag_edits: usize, name_end: u32, uri: Span) {
        let pieces: [&[u8]; 3] = [b" xmlns='", self.bytes(uri), b"'"];
        for (nth, put) in pieces.into_iter().enumerate() {
            self.edits.insert(tag_edits + nth, Edit { at: name_end, skip: 0, put });
            self.shift = self.shift.wrapping_add(put.len() as u32);
        }
        self.stale = true;
    }

    fn insert_stamp(&mut self, stamp: FastStamp<'a>) {
        let value = self.at + " from='".len();
        self.stale |= !self.index.set_attr(Attr::From, Span::new(value, value + stamp.escaped.len()));
        self.edit(self.at, 0, b" from='");
        self.edit(self.at, 0, stamp.escaped.as_bytes());
        self.edit(self.at, 0, b"'");
    }

    /// The sender wrote a `from`: the stamp goes there, and not first.
    fn replace_from(&mut self, stamp: FastStamp<'a>, value: Span) {
        let inserted: usize = self.edits.drain(..3).map(|edit| edit.put.len()).sum();
        self.shift = self.shift.wrapping_sub(inserted as u32);
        self.claimed_from = Some((self.bytes(value), stamp.value));
        // The value's own edits, the quotes apart, are of no use any more.
        let double = self.input[self.at - 1] == b'"';
        if double {
            self.edits.pop();
        }
        while self.edits.last().is_some_and(|edit| edit.at >= value.start) {
            let Some(edit) = self.edits.pop() else { break };
            self.shift = self.shift.wrapping_sub((edit.put.len() as u32).wrapping_sub(edit.skip));
        }
        self.edit(value.start as usize, (value.end - value.start) as usize, stamp.escaped.as_bytes());
        if double {
            self.edit(value.end as usize, 1, b"'");
        }
        self.stale = true;
    }

    fn finish(self) -> Option<(usize, Stanza)> {
        let raw = &self.input[..self.at];
        if self.seen & HIGH != 0 && first_bad_char(std::str::from_utf8(raw).ok()?).is_some() {
            return None;
        }
        let claimed_from = match self.claimed_from {
            None => None,
            Some((written, stamp)) => {
                let written = attribute_value(std::str::from_utf8(written).ok()?).ok()?;
                (written != stamp).then(|| written.into())
            }
        };
        let len = self.place(self.at) as usize;
        // What the sender wrote counts, and not the stamp; near the limit it is left to the reader to tell.
        let replaced = self.claimed_from.map_or(0, |(written, _)| written.len() * "&apos;".len());
        if len + replaced > self.limits.stanza_bytes_max {
            return None;
        }
        if self.edits.is_empty() {
            return Some((self.at, self.into_stanza(std::str::from_utf8(raw).ok()?, claimed_from)));
        }
        let mut out = Vec::with_capacity(len);
        let mut copied = 0;
        for edit in &self.edits {
            out.extend_from_slice(&raw[copied..edit.at as usize]);
            out.extend_from_slice(edit.put);
            copied = (edit.at + edit.skip) as usize;
        }
        out.extend_from_slice(&raw[copied..]);
        debug_assert_eq!(out.len(), len);
        Some((self.at, self.into_stanza(as_text(&out), claimed_from)))
    }

    fn into_stanza(self, text: &str, claimed_from: Option<Box<str>>) -> Stanza {
        let index = if self.stale { Index::of(text) } else { self.index };
        Stanza::indexed(text, index, claimed_from)
    }

    /// Whether the reader, too, would go on with what is there of a stanza that is cut.
    fn is_sound(&self) -> bool {
        if self.place(self.input.len()) as usize > self.limits.stanza_bytes_max {
            return false;
        }
        if self.seen & HIGH == 0 {
            return true;
        }
        let valid = match std::str::from_utf8(self.input) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&self.input[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return false,
        };
        first_bad_char(valid).is_none()
    }

    fn bytes(&self, span: Span) -> &'a [u8] {
        &self.input[span.start as usize..span.end as usize]
    }

    fn byte(&self, at: usize) -> Result<u8, Stop> {
        self.input.get(at).copied().ok_or(Stop::Cut)
    }

    fn edit(&mut self, at: usize, skip: usize, put: &'a [u8]) {
        self.edits.push(Edit { at: at as u32, skip: skip as u32, put });
        self.shift = self.shift.wrapping_add(put.len() as u32).wrapping_sub(skip as u32);
    }

    /// Where a place of the input is in the canonical form, the edits so far done.
    fn place(&self, at: usize) -> u32 {
        (at as u32).wrapping_add(self.shift)
    }

    fn name_end(&self, start: usize) -> Result<usize, Stop> {
        if CLASS[self.byte(start)? as usize] & NAME_START == 0 {
            return Err(Stop::Unusual);
        }
        let rest = &self.input[start + 1..];
        let len = rest.iter().position(|&b| CLASS[b as usize] & NAME == 0);
        Ok(start + 1 + len.ok_or(Stop::Cut)?)
    }

    /// The first byte from `at` on that `special` marks in a group of eight.
    #[inline(always)]
    fn find(&mut self, mut at: usize, special: impl Fn(u64) -> u64) -> Result<usize, Stop> {
        while let Some(group) = self.input.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let group = u64::from_le_bytes(*group);
            self.seen |= group;
            let found = special(group) & !group & HIGH;
            if found != 0 {
                return Ok(at + (found.trailing_zeros() / 8) as usize);
            }
            at += 8;
        }
        // The last group is filled up with spaces, which nobody looks for.
        let rest = &self.input[at..];
        let mut group = [b' '; 8];
        group[..rest.len()].copy_from_slice(rest);
        let group = u64::from_le_bytes(group);
        self.seen |= group;
        let found = special(group) & !group & HIGH;
        if found != 0 { Ok(at + (found.trailing_zeros() / 8) as usize) } else { Err(Stop::Cut) }
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks, by its high bit, each byte that equals the ASCII character `byte`. Two kinds of bytes may be marked too: those
/// beyond ASCII, which [`Fast::find`] takes out again, and those above one that is marked rightly.
#[inline(always)]
fn equal(group: u64, byte: u8) -> u64 {
    (group ^ (LOW * byte as u64)).wrapping_sub(LOW)
}

/// Marks the control characters below the space in the same way.
#[inline(always)]
fn below_space(group: u64) -> u64 {
    group.wrapping_sub(LOW * b' ' as u64)
}
