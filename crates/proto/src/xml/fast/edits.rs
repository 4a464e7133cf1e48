//! Where the canonical form of an ordinary stanza differs from the input.

use super::super::Attr;
use super::super::groups::value_len;
use super::super::index::Span;
use super::super::tag::XMLNS;
use super::{Fast, FastStamp, Stop, Tag};
use crate::ns;

impl<'a> Fast<'a> {
    /// Copies the input up to `at`, as it is.
    #[inline(always)]
    pub(super) fn copy_to(&mut self, at: usize) {
        self.out.extend_from_slice(&self.input[self.copied..at]);
        self.copied = at;
    }

    /// Puts something that is not in the input.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.shift = self.shift.wrapping_add(bytes.len() as u32);
    }

    /// Puts something instead of the `skip` bytes at `at`.
    pub(super) fn edit(&mut self, at: usize, skip: usize, put: &[u8]) {
        self.copy_to(at);
        self.put(put);
        self.copied = at + skip;
        self.shift = self.shift.wrapping_sub(skip as u32);
    }

    /// Where a place of the input is in the canonical form, the edits so far done.
    pub(super) fn place(&self, at: usize) -> u32 {
        (at as u32).wrapping_add(self.shift)
    }

    /// A predefined entity; where it ends.
    pub(super) fn reference<const VALUE: bool>(&mut self, at: usize) -> Result<usize, Stop> {
        let rest = &self.input[at + 1..];
        let len = match rest.first().ok_or(Stop::Cut)? {
            b'l' if rest.starts_with(b"lt;") => 4,
            b'g' if rest.starts_with(b"gt;") => 4,
            b'a' if rest.starts_with(b"amp;") => 5,
            b'a' if rest.starts_with(b"apos;") => {
                if !VALUE {
                    self.edit(at, 6, b"'");
                }
                6
            }
            b'q' if rest.starts_with(b"quot;") => {
                self.edit(at, 6, b"\"");
                6
            }
            _ => return Err(Stop::Unusual),
        };
        Ok(at + len)
    }

    /// `xmlns='…'`, which begins with the space at `at`; where its last quote stands. `name_end`: where the tag's name ends
    /// in the canonical form.
    pub(super) fn declaration<const TOP: bool>(
        &mut self,
        at: usize,
        equals: usize,
        name_end: u32,
        stamped: bool,
        tag: &mut Tag,
    ) -> Result<usize, Stop> {
        let start = equals + 2;
        let end = start + value_len(self.input.get(start..).ok_or(Stop::Cut)?, &mut self.seen).ok_or(Stop::Cut)?;
        let quote = self.input[end];
        if quote != self.input[equals + 1] || !matches!(quote, b'\'' | b'"') {
            return Err(Stop::Unusual);
        }
        let uri = Span::new(start, end);
        // There is only one in a tag, so that the namespace is still the inherited one.
        if self.inherits(tag.ns, uri)? {
            self.edit(at, end + 1 - at, b"");
            return Ok(end);
        }
        // It is none of the stanzas that are stamped, whatever its name.
        if stamped {
            return Err(Stop::Unusual);
        }
        tag.ns = uri;
        let value = name_end + " xmlns='".len() as u32;
        tag.out_ns = Span { start: value, end: value + uri.len() };
        if at == tag.name.end as usize {
            if quote == b'"' {
                self.edit(equals + 1, 1, b"'");
                self.edit(end, 1, b"'");
            }
            return Ok(end);
        }
        // In canonical form it stands before the attributes.
        self.edit(at, end + 1 - at, b"");
        let len = self.out.len();
        for piece in [b" xmlns='", self.bytes(uri), b"'"] {
            self.put(piece);
        }
        let inserted = self.out.len() - len;
        self.out[name_end as usize..].rotate_right(inserted);
        self.stale |= TOP;
        Ok(end)
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

    /// Puts the stamp first, behind the tag's name, which ends at `at`.
    #[inline(always)]
    pub(super) fn insert_stamp(&mut self, at: usize, stamp: FastStamp<'a>) {
        self.copy_to(at);
        self.put(b" from='");
        self.put_stamp(stamp);
        self.put(b"'");
    }

    fn put_stamp(&mut self, stamp: FastStamp<'a>) {
        let start = self.out.len();
        self.put(stamp.escaped.as_bytes());
        let is_escaped = stamp.escaped.len() != stamp.value.len();
        self.index.set_attr(Attr::From, Span::new(start, self.out.len()), is_escaped);
    }

    /// The sender wrote a `from`: the stamp goes there, and not first. Where the value's last quote stands.
    pub(super) fn replace_from(&mut self, equals: usize, name_end: u32, stamp: FastStamp<'a>) -> Result<usize, Stop> {
        let before = (self.out.len(), self.copied, self.shift);
        let end = self.value(equals)?.end;
        // The edits of the value and its quotes are of no use any more.
        self.out.truncate(before.0);
        (self.copied, self.shift) = (before.1, before.2);
        self.claimed_from = Some((&self.input[equals + 2..end], stamp.value));
        let stamp_len = " from=''".len() + stamp.escaped.len();
        self.out.drain(name_end as usize..name_end as usize + stamp_len);
        self.shift = self.shift.wrapping_sub(stamp_len as u32);
        self.index.move_attrs_forward(stamp_len);
        self.edit(equals + 1, end - equals, b"'");
        self.put_stamp(stamp);
        self.put(b"'");
        Ok(end)
    }
}
