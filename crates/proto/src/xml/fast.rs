//! RFC 6120 §11: the ordinary stanza, whole in the input, in one pass and one allocation.
//!
//! Whatever is out of the ordinary (a prefix, a CDATA section, a character reference, a limit reached, an error, a
//! stanza that is cut) is left to the reader, which knows every rule. What is taken here must come out
//! exactly as the reader would write it. That is a copy of the input but for a few edits.

use smallvec::SmallVec;

use super::buffer::with_buffer;
use super::canon::Scope;
use super::escape::attribute_value;
use super::groups::{HIGH, letters, text_len, value_len};
use super::index::{ChildPlace, Index, Span, attr_of, kind_of};
use super::scan::{CLASS, NAME, NAME_START, checked_str, first_bad_char};
use super::{Attr, Kind, Stanza, XmlLimits};

mod edits;

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
    if !scope.content || limits.depth_max == 0 || limits.attributes_max < KNOWN as u16 {
        return Err(Stop::Unusual);
    }
    let allowed = limits.stanza_bytes_max.min(1 << 29);
    let beyond = input.len() > allowed;
    let input = &input[..input.len().min(allowed)];
    with_buffer(|out| {
        let mut fast = Fast {
            input,
            limits,
            scope,
            out,
            copied: 0,
            shift: 0,
            elements: 0,
            seen: 0,
            open: SmallVec::new(),
            names: SmallVec::new(),
            names_seen: 0,
            index: Index::empty(),
            stale: false,
            claimed_from: None,
        };
        match fast.stanza(stamp) {
            Ok(end) => fast.finish(end).ok_or(Stop::Unusual),
            Err(Stop::Cut) if !beyond && fast.is_sound() => Err(Stop::Cut),
            Err(_) => Err(Stop::Unusual),
        }
    })
}

/// Attributes that the index or a namespace is made from.
const KNOWN: usize = 6;

struct Fast<'a> {
    input: &'a [u8],
    limits: &'a XmlLimits,
    scope: &'a Scope,
    /// The canonical form of the input up to `copied`.
    out: &'a mut Vec<u8>,
    copied: usize,
    /// How much further on a place is in the canonical form, modulo 2³².
    shift: u32,
    elements: u32,
    /// All bytes of text and values so far, or-ed in groups of eight.
    seen: u64,
    /// The elements around the one at hand.
    open: SmallVec<[Tag; 6]>,
    /// Attributes of the tag at hand that are none of those below, and a bit for each.
    names: SmallVec<[Span; 8]>,
    names_seen: u64,
    index: Index,
    /// What the index says is wrong, because of an insertion before it or because it is too much: it must be made anew.
    stale: bool,
    /// The value of the `from` that the stamp replaced, and of the stamp.
    claimed_from: Option<(&'a [u8], &'a str)>,
}

/// An opening tag.
struct Tag {
    name: Span,
    /// The namespace, in the input; none is the content namespace.
    ns: Span,
    /// Where its declaration stands in the canonical form, if it has one.
    out_ns: Span,
    /// Where its `<` stands in the canonical form.
    out_start: u32,
    /// After its `>`.
    end: u32,
}

/// An attribute's name.
#[derive(Clone, Copy)]
enum Name {
    /// One that the index knows.
    Known(Attr),
    From,
    Xmlns,
    Other,
    /// The tag ends.
    None,
}

/// The value of an attribute.
struct Value {
    /// Where it begins in the canonical form.
    out_start: u32,
    /// Where its last quote stands in the input.
    end: usize,
    /// Whether it stands escaped in the canonical form.
    escaped: bool,
}

impl<'a> Fast<'a> {
    /// Where the stanza ends.
    #[inline(always)]
    fn stanza(&mut self, stamp: Option<FastStamp<'a>>) -> Result<usize, Stop> {
        let name = self.name(0)?;
        let kind = kind_of(self.bytes(name));
        let (mut tag, empty) = self.tag::<true>(name, Span::default(), stamp.filter(|_| kind != Kind::Other))?;
        let (kind, attrs_start) = match tag.out_ns {
            ns if ns.is_none() => (kind, name.end),
            ns => (Kind::Other, ns.end + 1),
        };
        self.stale |= !self.index.set_tag(kind, name, tag.out_ns, attrs_start);
        let mut at = tag.end as usize;
        if empty {
            return Ok(at);
        }
        loop {
            at = self.text(at)?;
            if self.byte(at + 1)? == b'/' {
                at = self.close(&tag, at)?;
                let Some(parent) = self.open.pop() else { return Ok(at) };
                self.element_ends(&tag, at);
                tag = parent;
            } else {
                if self.open.len() + 1 >= self.limits.depth_max as usize {
                    return Err(Stop::Unusual);
                }
                let name = self.name(at)?;
                let (child, empty) = self.tag::<false>(name, tag.ns, None)?;
                at = child.end as usize;
                if empty {
                    self.element_ends(&child, at);
                } else {
                    self.open.push(std::mem::replace(&mut tag, child));
                }
            }
        }
    }

    /// The element that began with this tag ends at `end`, its parent is open.
    #[inline(always)]
    fn element_ends(&mut self, tag: &Tag, end: usize) {
        if self.open.is_empty() {
            let (start, end) = (tag.out_start, self.place(end));
            let name = Span { start: start + 1, end: start + 1 + tag.name.len() };
            self.stale |= !self.index.push_child(ChildPlace { whole: Span { start, end }, name, ns: tag.out_ns });
        }
    }

    /// The name in the opening tag that begins at `start`.
    #[inline(always)]
    fn name(&mut self, start: usize) -> Result<Span, Stop> {
        let name = Span::new(start + 1, self.name_end(start + 1)?);
        self.elements += 1;
        if self.elements > self.limits.elements_max { Err(Stop::Unusual) } else { Ok(name) }
    }

    /// The opening tag with this name, and whether its element is complete with it.
    #[inline(always)]
    fn tag<const TOP: bool>(
        &mut self,
        name: Span,
        inherited: Span,
        stamp: Option<FastStamp<'a>>,
    ) -> Result<(Tag, bool), Stop> {
        let mut at = name.end as usize;
        let name_end = self.place(at);
        if let Some(stamp) = stamp {
            self.insert_stamp(at, stamp);
        }
        let out_start = name_end - name.len() - 1;
        let mut tag = Tag { name, ns: inherited, out_ns: Span::default(), out_start, end: 0 };
        let mut empty = false;
        let mut known = 0_u8;
        self.names_seen = 0;
        loop {
            match self.byte(at)? {
                b'>' => break,
                b'/' if self.byte(at + 1)? == b'>' => {
                    empty = true;
                    break;
                }
                b' ' => {}
                _ => return Err(Stop::Unusual),
            }
            let (attribute, equals) = self.attribute_name(at + 1)?;
            let bit = match attribute {
                Name::Known(attr) => 1 << attr as u8,
                Name::From => 1 << Attr::From as u8,
                Name::Xmlns => 1 << 7,
                Name::Other => 0,
                Name::None => {
                    self.edit(at, 1, b"");
                    at += 1;
                    continue;
                }
            };
            if known & bit != 0 {
                return Err(Stop::Unusual);
            }
            known |= bit;
            let end = match (attribute, stamp) {
                (Name::Xmlns, _) => self.declaration::<TOP>(at, equals, name_end, stamp.is_some(), &mut tag)?,
                (Name::From, Some(stamp)) => self.replace_from(equals, name_end, stamp)?,
                (Name::From, None) => self.value_of::<TOP>(Some(Attr::From), equals)?,
                (Name::Known(attr), _) => self.value_of::<TOP>(Some(attr), equals)?,
                _ => self.value_of::<TOP>(None, equals)?,
            };
            at = end + 1;
        }
        tag.end = at as u32 + 1 + u32::from(empty);
        Ok((tag, empty))
    }

    /// The name of the attribute that begins at `at`, and where the `=` stands behind it.
    #[inline(always)]
    fn attribute_name(&mut self, at: usize) -> Result<(Name, usize), Stop> {
        const fn group(start: &[u8]) -> (u64, u64) {
            let (mut group, mut mask, mut at) = (0, 0, start.len());
            while at > 0 {
                at -= 1;
                group = group << 8 | start[at] as u64;
                mask = mask << 8 | 0xFF;
            }
            (group, mask)
        }
        const TO: (u64, u64) = group(b"to=");
        const ID: (u64, u64) = group(b"id=");
        const TYPE: (u64, u64) = group(b"type=");
        const FROM: (u64, u64) = group(b"from=");
        const DECLARATION: (u64, u64) = group(b"xmlns=");
        if let Some(group) = self.group(at) {
            let is = |(name, mask): (u64, u64)| group & mask == name;
            if is(TO) {
                return Ok((Name::Known(Attr::To), at + 2));
            }
            if is(ID) {
                return Ok((Name::Known(Attr::Id), at + 2));
            }
            if is(TYPE) {
                return Ok((Name::Known(Attr::Type), at + 4));
            }
            if is(FROM) {
                return Ok((Name::From, at + 4));
            }
            if is(DECLARATION) {
                return Ok((Name::Xmlns, at + 5));
            }
        }
        self.any_attribute_name(at)
    }

    fn any_attribute_name(&mut self, at: usize) -> Result<(Name, usize), Stop> {
        if matches!(self.byte(at)?, b'/' | b'>') {
            return Ok((Name::None, at));
        }
        let mut end = self.name_end(at)?;
        if self.input.get(end) == Some(&b':') {
            if !self.input[at..].starts_with(b"xml:lang=") {
                return Err(Stop::Unusual);
            }
            end = at + "xml:lang".len();
        }
        if self.byte(end)? != b'=' {
            return Err(Stop::Unusual);
        }
        let name = &self.input[at..end];
        if name == b"xmlns" {
            return Ok((Name::Xmlns, end));
        }
        match attr_of(name) {
            Some(Attr::From) => return Ok((Name::From, end)),
            Some(attr) => return Ok((Name::Known(attr), end)),
            None => {}
        }
        if self.names_seen == 0 {
            self.names.clear();
        }
        let bit = 1 << ((name[0] ^ name[name.len() - 1].rotate_left(3) ^ name.len() as u8) & 63);
        if self.names_seen & bit != 0 && self.names.iter().any(|known| self.bytes(*known) == name) {
            return Err(Stop::Unusual);
        }
        self.names_seen |= bit;
        self.names.push(Span::new(at, end));
        // Those that are known may all be there too. Near the limit it is left to the reader to tell.
        if self.names.len() + KNOWN > self.limits.attributes_max as usize {
            return Err(Stop::Unusual);
        }
        Ok((Name::Other, end))
    }

    /// The value of an attribute; where its last quote stands.
    #[inline(always)]
    fn value_of<const TOP: bool>(&mut self, attr: Option<Attr>, equals: usize) -> Result<usize, Stop> {
        let value = self.value(equals)?;
        if let (Some(attr), true) = (attr, TOP) {
            let span = Span { start: value.out_start, end: self.place(value.end) };
            self.index.set_attr(attr, span, value.escaped);
        }
        Ok(value.end)
    }

    /// The value in quotes behind the `=`.
    #[inline(always)]
    fn value(&mut self, equals: usize) -> Result<Value, Stop> {
        match self.byte(equals + 1)? {
            b'\'' => self.quoted(b'\'', equals + 2),
            b'"' => {
                self.edit(equals + 1, 1, b"'");
                let value = self.quoted(b'"', equals + 2)?;
                self.edit(value.end, 1, b"'");
                Ok(value)
            }
            _ => Err(Stop::Unusual),
        }
    }

    /// The value that begins at `start`, up to its quote.
    #[inline(always)]
    fn quoted(&mut self, quote: u8, start: usize) -> Result<Value, Stop> {
        let out_start = self.place(start);
        let mut at = start;
        let mut escaped = false;
        loop {
            let end = at + value_len(&self.input[at..], &mut self.seen).ok_or(Stop::Cut)?;
            if self.input[end] == quote {
                return Ok(Value { out_start, end, escaped });
            }
            let after = self.special_in_value(end)?;
            escaped |= after.1;
            at = after.0;
        }
    }

    /// Goes on behind a byte that may be special; whether there is an escape in its place.
    #[inline(never)]
    fn special_in_value(&mut self, at: usize) -> Result<(usize, bool), Stop> {
        match self.input[at] {
            b'\'' => self.edit(at, 1, b"&apos;"),
            b'>' => self.edit(at, 1, b"&gt;"),
            b'&' => return Ok((self.reference::<true>(at)?, self.input[at + 1] != b'q')),
            b' '..b'-' | b'=' | b'?' => return Ok((at + 1, false)),
            _ => return Err(Stop::Unusual),
        }
        Ok((at + 1, true))
    }

    /// Text up to the next `<`.
    #[inline(always)]
    fn text(&mut self, start: usize) -> Result<usize, Stop> {
        let mut at = start;
        loop {
            if self.byte(at)? == b'<' {
                return Ok(at);
            }
            let end = at + text_len(&self.input[at..], &mut self.seen).ok_or(Stop::Cut)?;
            if self.input[end] == b'<' {
                return Ok(end);
            }
            at = self.special_in_text(end)?;
        }
    }

    #[inline(never)]
    fn special_in_text(&mut self, at: usize) -> Result<usize, Stop> {
        match self.input[at] {
            b'\n' | b'\t' => {}
            b'>' if self.input[..at].ends_with(b"]]") => return Err(Stop::Unusual),
            b'>' => self.edit(at, 1, b"&gt;"),
            b'&' => return self.reference::<false>(at),
            _ => return Err(Stop::Unusual),
        }
        Ok(at + 1)
    }

    /// The closing tag at `at`; where it ends.
    #[inline(always)]
    fn close(&mut self, parent: &Tag, at: usize) -> Result<usize, Stop> {
        let len = parent.name.len() as usize;
        let end = at + len + 3;
        if !self.are_equal(parent.name.start as usize, at + 2, len) || self.byte(end - 1)? != b'>' {
            return Err(Stop::Unusual);
        }
        if at == parent.end as usize {
            self.edit(at - 1, len + 4, b"/>");
        }
        Ok(end)
    }

    #[inline(always)]
    fn finish(&mut self, end: usize) -> Option<(usize, Stanza)> {
        let text = if self.out.is_empty() {
            &self.input[..end]
        } else {
            self.copy_to(end);
            &self.out[..]
        };
        let text = std::str::from_utf8(text).ok()?;
        if self.seen & HIGH != 0 && first_bad_char(text).is_some() {
            return None;
        }
        let claimed_from = match self.claimed_from {
            None => None,
            Some((written, stamp)) => {
                let written = attribute_value(checked_str(written).ok()?).ok()?;
                (written != stamp).then(|| written.into())
            }
        };
        // What the sender wrote counts, and not the stamp; near the limit it is left to the reader to tell.
        let replaced = self.claimed_from.map_or(0, |(written, _)| written.len() * "&apos;".len());
        if text.len() + replaced > self.limits.stanza_bytes_max {
            return None;
        }
        let index = match self.stale || text.len() > Index::BYTES_MAX {
            true => Index::of(text),
            false => std::mem::replace(&mut self.index, Index::empty()),
        };
        Some((end, Stanza::indexed(text, index, claimed_from)))
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

    /// Eight bytes from `at` on, if there are as many.
    #[inline(always)]
    fn group(&self, at: usize) -> Option<u64> {
        self.input.get(at..)?.first_chunk().map(|group| u64::from_le_bytes(*group))
    }

    /// Whether the `len` bytes at both places are the same. There are as many at the first one, and at least one.
    #[inline(always)]
    fn are_equal(&self, first: usize, second: usize, len: usize) -> bool {
        match (self.group(first), self.group(second)) {
            (Some(first), Some(second)) if len <= 8 => (first ^ second) << (64 - 8 * len) == 0,
            _ => self.input[second..].starts_with(&self.input[first..first + len]),
        }
    }

    #[inline(always)]
    fn name_end(&self, start: usize) -> Result<usize, Stop> {
        // Most names are a few lower-case letters.
        let letters = self.group(start).map_or(0, |group| (letters(group).trailing_ones() / 8) as usize);
        let mut at = start + letters;
        if letters == 0 {
            if CLASS[self.byte(start)? as usize] & NAME_START == 0 {
                return Err(Stop::Unusual);
            }
            at += 1;
        }
        while CLASS[self.byte(at)? as usize] & NAME != 0 {
            at += 1;
        }
        Ok(at)
    }
}
