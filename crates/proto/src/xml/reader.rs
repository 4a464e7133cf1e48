//! RFC 6120 §11: one element, in pieces as they arrive, to canonical bytes.
//!
//! Tags and references are judged when they are complete, text as it comes. An incomplete tag is kept with the
//! place up to which it was searched, so that each byte is looked at a fixed number of times however the input is cut.

use super::canon::{Canon, Scope};
use super::escape::{MALFORMED, reference};
use super::scan::{BAD_CHAR, BAD_UTF8, CLASS, REFERENCE, checked_str, first_bad_char, is_space};
use super::{XmlError, XmlLimits};

/// Reads one element.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) canon: Canon,
    limits: XmlLimits,
    /// Bytes taken so far.
    bytes: usize,
    item: Item,
    text: TextState,
}

/// What text remembers across a cut.
#[derive(Debug, Default)]
struct TextState {
    /// Inside a CDATA section.
    cdata: bool,
    /// `]` just before, two at most. In a CDATA section they are not written yet.
    brackets: u8,
    /// A carriage return just before, written as a line feed.
    after_return: bool,
}

impl Reader {
    pub(super) fn new(mut limits: XmlLimits) -> Self {
        // Offsets are 32 bits wide, and the canonical form can be five times as long.
        limits.stanza_bytes_max = limits.stanza_bytes_max.min(1 << 29);
        Self { canon: Canon::new(limits), limits, bytes: 0, item: Item::default(), text: TextState::default() }
    }

    /// Takes bytes from the front of `input`: up to the end of the element (`true`), or all.
    pub(super) fn feed(&mut self, input: &mut &[u8], scope: &Scope) -> Result<bool, XmlError> {
        // What lies beyond the limit is not even looked at, so that the limit strikes at one place however input is cut.
        let allowed = input.len().min(self.limits.stanza_bytes_max - self.bytes);
        let mut view = &input[..allowed];
        let complete = self.read(&mut view, scope)?;
        let used = allowed - view.len();
        self.bytes += used;
        *input = &input[used..];
        if !complete && !input.is_empty() {
            return Err(XmlError::Limit("bytes of a stanza"));
        }
        Ok(complete)
    }

    fn read(&mut self, view: &mut &[u8], scope: &Scope) -> Result<bool, XmlError> {
        while let Some(&byte) = view.first() {
            match self.item.first() {
                None if self.text.cdata => self.section(view)?,
                None if byte != b'<' && self.canon.at_top() => return Err(STRAY_TEXT),
                Some(b'<') | None if byte == b'<' || !self.item.is_empty() => {
                    self.markup(view, scope)?;
                    if self.item.is_empty() && !self.text.cdata && self.canon.at_top() {
                        return Ok(true);
                    }
                }
                Some(b'&') => self.reference(view)?,
                None if byte == b'&' => self.reference(view)?,
                None => self.text(view)?,
                Some(_) => self.cut_character(view)?,
            }
        }
        Ok(false)
    }

    /// A tag or the start of a CDATA section.
    fn markup(&mut self, view: &mut &[u8], scope: &Scope) -> Result<(), XmlError> {
        self.text.brackets = 0;
        self.text.after_return = false;
        match self.item.second(view) {
            None => self.item.keep(view),
            Some(b'?') => return Err(XmlError::Restricted("a processing instruction")),
            Some(b'!') => return self.cdata_start(view),
            Some(b'/') => {
                if let Some(raw) = self.item.take_tag(view, u16::MAX)? {
                    self.canon.close_tag(raw)?;
                    self.item.clear();
                }
            }
            Some(_) => {
                if let Some(raw) = self.item.take_tag(view, self.limits.attributes_max)? {
                    self.canon.open_tag(raw, scope)?;
                    self.item.clear();
                }
            }
        }
        Ok(())
    }

    fn cdata_start(&mut self, view: &mut &[u8]) -> Result<(), XmlError> {
        const START: &[u8] = b"<![CDATA[";
        while let Some((&byte, rest)) = view.split_first() {
            let at = self.item.raw.len();
            if byte != START[at] {
                return Err(match (at, byte) {
                    (2, b'-') => XmlError::Restricted("a comment"),
                    (2, _) => XmlError::Restricted("a document type declaration"),
                    _ => XmlError::NotWellFormed("a malformed CDATA section"),
                });
            }
            *view = rest;
            self.item.raw.push(byte);
            if at + 1 == START.len() {
                if self.canon.at_top() {
                    return Err(STRAY_TEXT);
                }
                self.item.clear();
                self.text.cdata = true;
                break;
            }
        }
        Ok(())
    }

    /// A CDATA section (XML 1.0 §2.7): everything is text up to `]]>`.
    fn section(&mut self, view: &mut &[u8]) -> Result<(), XmlError> {
        match (view[0], self.text.brackets) {
            (b'>', 2) => self.text = TextState::default(),
            (b']', 2) => self.canon.text("]"),
            (b']', _) => {
                self.text.brackets += 1;
                self.text.after_return = false;
            }
            _ => {
                self.canon.text(&"]]"[..std::mem::take(&mut self.text.brackets) as usize]);
                return self.text(view);
            }
        }
        *view = &view[1..];
        Ok(())
    }

    /// `&…;`
    fn reference(&mut self, view: &mut &[u8]) -> Result<(), XmlError> {
        self.text.brackets = 0;
        self.text.after_return = false;
        let start = usize::from(self.item.is_empty());
        let Some(end) = view[start..].iter().position(|&b| CLASS[b as usize] & REFERENCE == 0) else {
            self.item.keep(view);
            return Ok(());
        };
        let raw = self.item.take(view, start + end + 1);
        let name = checked_str(&raw[1..raw.len() - 1])?;
        if raw.last() != Some(&b';') {
            return Err(MALFORMED);
        }
        let c = reference(name)?;
        self.canon.text(c.encode_utf8(&mut [0; 4]));
        self.item.clear();
        Ok(())
    }

    /// Text up to the next markup.
    fn text(&mut self, view: &mut &[u8]) -> Result<(), XmlError> {
        let end = if self.text.cdata { memchr::memchr(b']', view) } else { memchr::memchr2(b'<', b'&', view) };
        let run = &view[..end.unwrap_or(view.len())];
        let (valid, cut) = match std::str::from_utf8(run) {
            Ok(valid) => (valid, None),
            Err(error) => {
                let valid = std::str::from_utf8(&run[..error.valid_up_to()]).map_err(|_| BAD_UTF8)?;
                (valid, Some(error.error_len()))
            }
        };
        self.take_text(valid)?;
        *view = &view[valid.len()..];
        match cut {
            None => Ok(()),
            Some(None) if end.is_none() => {
                self.item.keep(view);
                Ok(())
            }
            Some(_) => Err(BAD_UTF8),
        }
    }

    /// The rest of a character that was cut.
    fn cut_character(&mut self, view: &mut &[u8]) -> Result<(), XmlError> {
        self.item.raw.push(view[0]);
        *view = &view[1..];
        match std::str::from_utf8(&self.item.raw) {
            Ok(_) => {
                let raw = std::mem::take(&mut self.item.raw);
                self.take_text(std::str::from_utf8(&raw).map_err(|_| BAD_UTF8)?)
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(BAD_UTF8),
        }
    }

    /// Literal text: the rules on characters, `]]>` and line ends (XML 1.0 §2.4, §2.11).
    fn take_text(&mut self, text: &str) -> Result<(), XmlError> {
        let bad = first_bad_char(text);
        let close = if self.text.cdata { None } else { self.section_end(text) };
        match (bad, close) {
            (Some(bad), Some(close)) if close < bad => return Err(SECTION_END),
            (Some(_), _) => return Err(BAD_CHAR),
            (None, Some(_)) => return Err(SECTION_END),
            (None, None) => {}
        }
        let mut rest = text;
        if self.text.after_return {
            rest = rest.strip_prefix('\n').unwrap_or(rest);
        }
        self.text.after_return = if text.is_empty() { self.text.after_return } else { text.ends_with('\r') };
        while let Some(at) = memchr::memchr(b'\r', rest.as_bytes()) {
            self.canon.text(&rest[..at]);
            self.canon.text("\n");
            rest = rest[at..].strip_prefix("\r\n").unwrap_or(&rest[at + 1..]);
        }
        self.canon.text(rest);
        Ok(())
    }

    /// Where the `>` of a `]]>` stands, which may have begun before `text`.
    fn section_end(&mut self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        let before = self.text.brackets as usize;
        let bracket = |at: usize| if at < before { true } else { bytes[at - before] == b']' };
        let end = memchr::memchr_iter(b'>', bytes)
            .find(|&at| at + before >= 2 && bracket(at + before - 1) && bracket(at + before - 2));
        let trailing = bytes.iter().rev().take_while(|&&b| b == b']').count();
        let all = if trailing == bytes.len() { trailing + before } else { trailing };
        self.text.brackets = all.min(2) as u8;
        end
    }
}

pub(super) const STRAY_TEXT: XmlError = XmlError::NotWellFormed("text between stanzas");
const SECTION_END: XmlError = XmlError::NotWellFormed("`]]>` in text");

/// A tag, reference or character that may be cut: what arrived of it, and how far it was searched.
#[derive(Debug, Default)]
pub(super) struct Item {
    raw: Vec<u8>,
    /// The quote of the attribute value that the tag is in, or zero.
    quote: u8,
    attributes: u16,
}

impl Item {
    /// A tag of which only the `<` arrived.
    pub(super) fn angle() -> Self {
        Self { raw: vec![b'<'], ..Self::default() }
    }

    /// Like [`Self::take_tag`] for a tag outside of stanzas; `bytes` counts what was taken.
    pub(super) fn take_bounded<'a, 'v: 'a>(
        &'a mut self,
        input: &mut &'v [u8],
        bytes: &mut usize,
        limits: &XmlLimits,
    ) -> Result<Option<&'a [u8]>, XmlError> {
        const LIMIT: XmlError = XmlError::Limit("bytes of a stream header");
        if self.second(input) == Some(b'!') {
            return Err(XmlError::Restricted(
                "a comment, document type declaration or CDATA section outside of stanzas",
            ));
        }
        let allowed = input.len().min(limits.stanza_bytes_max.saturating_sub(*bytes));
        let (mut view, beyond) = input.split_at(allowed);
        let tag = self.take_tag(&mut view, limits.attributes_max)?;
        *bytes += allowed - view.len();
        if tag.is_none() && !beyond.is_empty() {
            return Err(LIMIT);
        }
        *input = &input[allowed - view.len()..];
        Ok(tag)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    fn first(&self) -> Option<u8> {
        self.raw.first().copied()
    }

    /// The second byte of the item, where it has arrived.
    pub(super) fn second(&self, view: &[u8]) -> Option<u8> {
        match self.raw.len() {
            0 => view.get(1).copied(),
            1 => view.first().copied(),
            _ => self.raw.get(1).copied(),
        }
    }

    pub(super) fn keep(&mut self, view: &mut &[u8]) {
        self.raw.extend_from_slice(view);
        *view = &[];
    }

    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.quote = 0;
        self.attributes = 0;
    }

    /// The item, which ends after `len` bytes of `view`.
    fn take<'a, 'v: 'a>(&'a mut self, view: &mut &'v [u8], len: usize) -> &'a [u8] {
        let (end, rest) = view.split_at(len);
        *view = rest;
        if self.raw.is_empty() {
            return end;
        }
        self.raw.extend_from_slice(end);
        &self.raw
    }

    /// The tag, up to its `>` or to a `<` that cannot be in it; `None` where it goes on after `view`.
    pub(super) fn take_tag<'a, 'v: 'a>(
        &'a mut self,
        view: &mut &'v [u8],
        attributes_max: u16,
    ) -> Result<Option<&'a [u8]>, XmlError> {
        let closing = self.second(view) == Some(b'/');
        let mut at = usize::from(self.raw.is_empty());
        while let Some(&byte) = view.get(at) {
            at += 1;
            match byte {
                b'<' => return Ok(Some(self.take(view, at))),
                b'>' if self.quote == 0 => return Ok(Some(self.take(view, at))),
                b'\'' | b'"' if closing => {}
                b'\'' | b'"' if self.quote == 0 => {
                    if self.attributes == attributes_max {
                        return Err(XmlError::Limit("attributes of an element"));
                    }
                    self.attributes += 1;
                    self.quote = byte;
                }
                _ if byte == self.quote => self.quote = 0,
                _ => {}
            }
        }
        self.keep(view);
        Ok(None)
    }
}

/// Reads one whole element with nothing but white space around it, in canonical form.
pub(super) fn read_whole(bytes: &[u8], scope: &Scope) -> Result<Vec<u8>, XmlError> {
    let start = bytes.iter().position(|&b| !is_space(b)).unwrap_or(bytes.len());
    let mut rest = &bytes[start..];
    let mut reader = Reader::new(PARSE_LIMITS);
    if !reader.feed(&mut rest, scope)? {
        return Err(XmlError::NotWellFormed("the end inside an element"));
    }
    if rest.iter().all(|&b| is_space(b)) { Ok(reader.canon.out) } else { Err(STRAY_TEXT) }
}

/// For bytes that were let in before. The depth stays bounded because trees are dropped by recursion.
pub(super) const PARSE_LIMITS: XmlLimits =
    XmlLimits { stanza_bytes_max: usize::MAX, depth_max: 512, attributes_max: u16::MAX, elements_max: u32::MAX };
