//! XML 1.0 §4.1, §2.11, §3.3.3: references, line ends and the white space of attribute values.

use std::borrow::Cow;

use super::XmlError;
use super::groups::{HIGH, text_len};
use super::scan::{is_char, is_ncname, is_space};

/// The character that a reference stands for; `name` is what stands between `&` and `;`.
pub(super) fn reference(name: &str) -> Result<char, XmlError> {
    match name {
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "amp" => return Ok('&'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => {}
    }
    let Some(number) = name.strip_prefix('#') else {
        let known_shape = name.split(':').all(is_ncname);
        return Err(if known_shape {
            XmlError::Restricted("an entity that XML does not predefine")
        } else {
            MALFORMED
        });
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    if digits.is_empty() {
        return Err(MALFORMED);
    }
    let mut code = 0_u32;
    for digit in digits.chars() {
        let digit = digit.to_digit(radix).ok_or(MALFORMED)?;
        // Saturation keeps a number that is too long out of range, however many digits follow.
        code = code.saturating_mul(radix).saturating_add(digit);
    }
    match char::from_u32(code) {
        Some(c) if is_char(c) => Ok(c),
        _ => Err(XmlError::NotWellFormed("a reference to a character that XML does not allow")),
    }
}

pub(super) const MALFORMED: XmlError = XmlError::NotWellFormed("a malformed reference");

/// The value of an attribute as XML 1.0 §3.3.3 gives it to the application.
pub(super) fn attribute_value(raw: &str) -> Result<Cow<'_, str>, XmlError> {
    let bytes = raw.as_bytes();
    if !bytes.iter().any(|&b| b == b'&' || b < b' ') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.bytes().position(|b| b == b'&' || (b < b' ' && is_space(b))) {
        value.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('&') {
            let end = rest.find(';').ok_or(MALFORMED)?;
            value.push(reference(&rest[1..end])?);
            rest = &rest[end + 1..];
        } else {
            value.push(' ');
            rest = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
        }
    }
    value.push_str(rest);
    Ok(Cow::Owned(value))
}

/// Where text is written: in an attribute's value more characters need an escape.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Text,
    Attribute,
}

/// Appends `text` in canonical form. A character that XML does not know becomes U+FFFD: what we write
/// ourselves must never break a stream.
pub(super) fn push_escaped(text: &str, place: Place, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // As most are. Values are short: a fold without a branch a byte is a third of the loop, and less than the way into a search.
    let mut seen = 0;
    let is_plain = match place {
        Place::Attribute => bytes.iter().fold(0, |seen, &b| seen | ESCAPE[b as usize]) == 0,
        Place::Text => text_len(bytes, &mut seen).is_none() && seen & HIGH == 0,
    };
    if is_plain {
        out.extend_from_slice(bytes);
        return;
    }
    let mut copied = 0;
    for (at, &b) in bytes.iter().enumerate() {
        if ESCAPE[b as usize] == 0 {
            continue;
        }
        let (escape, len): (&[u8], _) = match b {
            b'<' => (b"&lt;", 1),
            b'>' => (b"&gt;", 1),
            b'&' => (b"&amp;", 1),
            b'\r' => (b"&#13;", 1),
            b'\'' if place == Place::Attribute => (b"&apos;", 1),
            b'\t' if place == Place::Attribute => (b"&#9;", 1),
            b'\n' if place == Place::Attribute => (b"&#10;", 1),
            b'\'' | b'\t' | b'\n' => continue,
            0xEF => match bytes.get(at + 1..at + 3) {
                Some([0xBF, 0xBE | 0xBF]) => (REPLACEMENT, 3),
                _ => continue,
            },
            _ => (REPLACEMENT, 1),
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(escape);
        copied = at + len;
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// An attribute's value in canonical form.
pub(super) fn attribute(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    push_escaped(value, Place::Attribute, &mut out);
    String::from_utf8(out).expect("escapes of a string are a string")
}

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

static ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = 1;
        byte += 1;
    }
    table[b'<' as usize] = 1;
    table[b'>' as usize] = 1;
    table[b'&' as usize] = 1;
    table[b'\'' as usize] = 1;
    table[0xEF] = 1;
    table
};

/// Undoes the escapes of canonical bytes, text and attribute values alike.
pub(super) fn unescape(canonical: &str) -> Cow<'_, str> {
    let first = match canonical.len() {
        // As most attributes are: less than the way into a search.
        ..16 => canonical.bytes().position(|b| b == b'&'),
        _ => memchr::memchr(b'&', canonical.as_bytes()),
    };
    let Some(first) = first else {
        return Cow::Borrowed(canonical);
    };
    let mut text = String::with_capacity(canonical.len());
    text.push_str(&canonical[..first]);
    let mut rest = &canonical[first..];
    while !rest.is_empty() {
        let end = rest.find(';').unwrap_or(rest.len() - 1);
        match reference(&rest[1..end]) {
            Ok(c) => {
                text.push(c);
                rest = &rest[end + 1..];
            }
            // Not canonical: a caller made this up. Nothing better than the text itself.
            Err(_) => {
                text.push('&');
                rest = &rest[1..];
            }
        }
        let next = memchr::memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(text)
}
