//! Tags in canonical text.
//!
//! It is trusted: it comes from the reader or from a tree.

use super::groups::value_len;
use super::index::Span;

/// An opening tag in canonical form.
pub(super) struct CanonTag {
    pub(super) name: Span,
    /// After its `>`.
    pub(super) end: u32,
    pub(super) empty: bool,
}

/// An attribute in canonical form.
pub(super) struct CanonAttr {
    pub(super) name: Span,
    /// Its value as it stands.
    pub(super) value: Span,
    /// Whether it stands escaped.
    pub(super) escaped: bool,
}

impl CanonTag {
    /// Reads the tag whose `<` stands at `at`.
    pub(super) fn read(text: &str, at: usize) -> Self {
        let rest = &text.as_bytes()[at..];
        let name_len = rest.iter().position(|b| matches!(b, b' ' | b'/' | b'>')).unwrap_or(rest.len());
        // Attribute values keep `>` escaped, so that the first one ends the tag.
        let end = name_len + memchr::memchr(b'>', &rest[name_len..]).expect("a tag has its end");
        Self { name: Span::new(at + 1, at + name_len), end: (at + end + 1) as u32, empty: rest[end - 1] == b'/' }
    }

    /// The attributes, declarations among them and first.
    pub(super) fn attributes<'a>(&self, text: &'a str) -> impl Iterator<Item = CanonAttr> + use<'a> {
        let bytes = text.as_bytes();
        let mut at = self.name.end as usize;
        std::iter::from_fn(move || {
            if bytes.get(at) != Some(&b' ') {
                return None;
            }
            let name = at + 1;
            let equals = name + bytes[name..].iter().position(|&b| b == b'=')?;
            let start = equals + 2;
            let (mut end, mut escaped) = (start, false);
            loop {
                end += value_len(bytes.get(end..)?, &mut 0)?;
                match bytes[end] {
                    b'\'' => break,
                    byte => escaped |= byte == b'&',
                }
                end += 1;
            }
            at = end + 1;
            Some(CanonAttr { name: Span::new(name, equals), value: Span::new(start, end), escaped })
        })
    }

    /// Where the element ends that begins with this tag.
    pub(super) fn element_end(&self, text: &str) -> usize {
        let bytes = text.as_bytes();
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
