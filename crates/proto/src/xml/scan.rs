//! XML 1.0 §2.2, §2.3: characters and names.

use super::XmlError;

/// XML 1.0 §2.3 `S`.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// XML 1.0 §2.2 `Char`.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// Where the first character stands that XML 1.0 §2.2 does not know.
pub(super) fn first_bad_char(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // One pass without branches settles nearly every text; the second pass looks at the suspects.
    let suspects = bytes.iter().fold(false, |any, &b| any | (b < b' ') | (b == 0xEF));
    if !suspects {
        return None;
    }
    bytes.iter().enumerate().position(|(at, &b)| match b {
        b'\t' | b'\n' | b'\r' => false,
        0xEF => matches!(bytes.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])),
        _ => b < b' ',
    })
}

/// UTF-8 whose every character XML knows.
pub(super) fn checked_str(bytes: &[u8]) -> Result<&str, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| BAD_UTF8)?;
    match first_bad_char(text) {
        Some(_) => Err(BAD_CHAR),
        None => Ok(text),
    }
}

pub(super) const BAD_UTF8: XmlError = XmlError::NotWellFormed("bytes that are not UTF-8");
pub(super) const BAD_CHAR: XmlError = XmlError::NotWellFormed("a character that XML does not allow");

/// A name with its prefix apart (Namespaces in XML 1.0 §4); an empty prefix is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QName<'a> {
    pub(super) prefix: &'a str,
    pub(super) local: &'a str,
}

impl<'a> QName<'a> {
    pub(super) fn parse(name: &'a str) -> Result<Self, XmlError> {
        let (prefix, local) = match memchr::memchr(b':', name.as_bytes()) {
            None => ("", name),
            Some(0) => return Err(BAD_NAME),
            Some(at) => (&name[..at], &name[at + 1..]),
        };
        if is_ncname(local) && (prefix.is_empty() || is_ncname(prefix)) {
            Ok(Self { prefix, local })
        } else {
            Err(BAD_NAME)
        }
    }
}

const BAD_NAME: XmlError = XmlError::NotWellFormed("a malformed name");

/// Namespaces in XML 1.0 §3 `NCName`: a name without colon.
pub(super) fn is_ncname(name: &str) -> bool {
    let bytes = name.as_bytes();
    match bytes.first() {
        None => false,
        Some(&first) if CLASS[first as usize] & NAME_START == 0 && first < 0x80 => false,
        Some(_) if bytes.iter().all(|&b| CLASS[b as usize] & NAME != 0) => true,
        Some(_) => {
            let mut chars = name.chars();
            chars.next().is_some_and(is_name_start) && chars.all(|c| is_name_start(c) || is_later_name_char(c))
        }
    }
}

fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

fn is_later_name_char(c: char) -> bool {
    matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// May begin a name, one of ASCII.
pub(super) const NAME_START: u8 = 1;
/// May stand in a name, one of ASCII, the colon excepted.
pub(super) const NAME: u8 = 2;
/// May stand between `&` and `;`.
pub(super) const REFERENCE: u8 = 4;

/// What a byte may be.
pub(super) static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b >= 0x80 {
            table[byte] = REFERENCE;
        } else if b.is_ascii_alphabetic() || b == b'_' {
            table[byte] = NAME_START | NAME | REFERENCE;
        } else if b.is_ascii_digit() || b == b'-' || b == b'.' {
            table[byte] = NAME | REFERENCE;
        } else if b == b'#' || b == b':' {
            table[byte] = REFERENCE;
        }
        byte += 1;
    }
    table
};
