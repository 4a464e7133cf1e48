//! RFC 7622 §3: the parts of an address, each enforced, as one string and the places where it is cut.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::JidError;
use crate::precis;

/// RFC 7622 §3.1: in bytes, after enforcement.
const PART_BYTES_MAX: usize = 1023;

/// In bytes, before enforcement. No rule shortens a part to less than a quarter of it, so that what is longer can be refused
/// unread.
const PART_BYTES_READ_MAX: usize = 4 * PART_BYTES_MAX;

/// One string, `local@domain/resource`, of which `text[..end]` is the address. What follows belongs to another address that
/// shares it.
#[derive(Clone)]
pub(super) struct Parts {
    text: Arc<str>,
    /// Bytes of the localpart; it is never empty, so that 0 says that there is none.
    local: u16,
    /// Where the domainpart ends.
    domain_end: u16,
    /// Where the address ends.
    end: u16,
}

impl Parts {
    pub(super) fn parse(text: &str) -> Result<Self, JidError> {
        if let Some(parts) = Self::plain(text) {
            return Ok(parts);
        }
        let (local, domain, resource) = split(text);
        Self::from_parts(local, domain, resource)
    }

    /// The address that needs no more than lower case, as nearly all do: ASCII, a host name without A-labels.
    pub(super) fn plain(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // The localpart, or the domainpart where no `@` follows.
        let (first, mut seen) = run_of(LOCAL, bytes, 0);
        let local = match bytes.get(first) {
            Some(b'@') if first > 0 && first <= PART_BYTES_MAX => first,
            Some(b'/') | None => 0,
            _ => return None,
        };
        let domain_start = if local > 0 { local + 1 } else { 0 };
        let (domain_end, domain_seen) = host_name(bytes, domain_start)?;
        seen |= domain_seen;
        match bytes.get(domain_end) {
            None => {}
            Some(b'/') => {
                let (end, _) = run_of(RESOURCE, bytes, domain_end + 1);
                if end < bytes.len() || !within_limit(&text[domain_end + 1..]) {
                    return None;
                }
            }
            Some(_) => return None,
        }
        let mut text: Arc<str> = Arc::from(text);
        if seen & UPPER != 0 {
            let text = Arc::get_mut(&mut text).expect("nobody else has it yet");
            text[..domain_end].make_ascii_lowercase();
        }
        Some(Self { local: short(local), domain_end: short(domain_end), end: short(text.len()), text })
    }

    pub(super) fn from_parts(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self, JidError> {
        let local = local.map(self::local).transpose()?;
        let domain = self::domain(domain)?;
        let resource = resource.map(self::resource).transpose()?;
        let (local, resource) = (local.as_deref(), resource.as_deref());
        Ok(Self::cut(join(local, &domain, resource), local, &domain))
    }

    fn cut(text: Arc<str>, local: Option<&str>, domain: &str) -> Self {
        let domain_end = local.map_or(0, |local| local.len() + 1) + domain.len();
        Self { local: short(local.map_or(0, str::len)), domain_end: short(domain_end), end: short(text.len()), text }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text[..usize::from(self.end)]
    }

    /// Of two that share their text it is not read.
    pub(super) fn eq(&self, other: &Self) -> bool {
        self.end == other.end && (Arc::ptr_eq(&self.text, &other.text) || self.as_str() == other.as_str())
    }

    pub(super) fn to_text(&self) -> Arc<str> {
        match usize::from(self.end) == self.text.len() {
            true => Arc::clone(&self.text),
            false => Arc::from(self.as_str()),
        }
    }

    pub(super) fn local(&self) -> Option<&str> {
        (self.local > 0).then(|| &self.text[..usize::from(self.local)])
    }

    pub(super) fn domain(&self) -> &str {
        &self.text[self.domain_start()..usize::from(self.domain_end)]
    }

    fn domain_start(&self) -> usize {
        if self.local > 0 { usize::from(self.local) + 1 } else { 0 }
    }

    pub(super) fn resource(&self) -> Option<&str> {
        (self.end > self.domain_end).then(|| &self.text[usize::from(self.domain_end) + 1..usize::from(self.end)])
    }

    pub(super) fn to_bare(&self) -> Self {
        Self { end: self.domain_end, ..self.clone() }
    }

    pub(super) fn to_domain(&self) -> Self {
        match self.local {
            0 => self.to_bare(),
            _ => Self::cut(Arc::from(self.domain()), None, self.domain()),
        }
    }

    pub(super) fn with_resource(&self, resource: &str) -> Result<Self, JidError> {
        let resource = self::resource(resource)?;
        Ok(Self::cut(join(self.local(), self.domain(), Some(&resource)), self.local(), self.domain()))
    }
}

fn short(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("three parts of at most 1023 bytes")
}

fn join(local: Option<&str>, domain: &str, resource: Option<&str>) -> Arc<str> {
    match (local, resource) {
        (None, None) => Arc::from(domain),
        (Some(local), None) => Arc::from([local, "@", domain].concat()),
        (None, Some(resource)) => Arc::from([domain, "/", resource].concat()),
        (Some(local), Some(resource)) => Arc::from([local, "@", domain, "/", resource].concat()),
    }
}

/// RFC 7622 §3.2: first the resource is cut off, then the localpart, and only then are characters mapped: `＠` never becomes a
/// separator.
pub(super) fn split(text: &str) -> (Option<&str>, &str, Option<&str>) {
    let (bare, resource) = match memchr::memchr(b'/', text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    match memchr::memchr(b'@', bare.as_bytes()) {
        Some(at) => (Some(&bare[..at]), &bare[at + 1..], resource),
        None => (None, bare, resource),
    }
}

/// A part that is not too long to be looked at.
pub(super) fn bounded(part: &str) -> Option<&str> {
    (part.len() <= PART_BYTES_READ_MAX).then_some(part)
}

fn within_limit(part: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&part.len())
}

/// RFC 7622 §3.3
fn local(text: &str) -> Result<Cow<'_, str>, JidError> {
    let local = bounded(text).and_then(|text| precis::username_case_mapped(text).ok()).ok_or(JidError::Localpart)?;
    if within_limit(&local) && !local.bytes().any(excluded) { Ok(local) } else { Err(JidError::Localpart) }
}

/// RFC 7622 §3.3.1: separators, and what would need escaping in XML.
const fn excluded(byte: u8) -> bool {
    matches!(byte, b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@')
}

/// RFC 7622 §3.4
fn resource(text: &str) -> Result<Cow<'_, str>, JidError> {
    let resource = bounded(text).and_then(|text| precis::opaque_string(text).ok()).ok_or(JidError::Resourcepart)?;
    if within_limit(&resource) { Ok(resource) } else { Err(JidError::Resourcepart) }
}

/// RFC 7622 §3.2
pub(super) fn domain(text: &str) -> Result<Cow<'_, str>, JidError> {
    if is_plain_domain(text) {
        return Ok(match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            false => Cow::Borrowed(text),
            true => Cow::Owned(text.to_ascii_lowercase()),
        });
    }
    if let Some(literal) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        // RFC 5952 gives an address one spelling.
        let address: Ipv6Addr = literal.parse().map_err(|_| JidError::Domainpart)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    bounded(text).and_then(domain_name).map(Cow::Owned).ok_or(JidError::Domainpart)
}

/// Whether the domainpart is a host name, or an IPv4 address, that no rule changes except in its case.
fn is_plain_domain(text: &str) -> bool {
    host_name(text.as_bytes(), 0).is_some_and(|(end, _)| end == text.len())
}

/// Where the host name ends that begins at `start`, and the classes that its bytes have.
fn host_name(bytes: &[u8], start: usize) -> Option<(usize, u8)> {
    let (mut label, mut all) = (start, 0);
    loop {
        let (end, seen) = run_of(LABEL, bytes, label);
        all |= seen;
        if !is_plain_label(&bytes[label..end]) || end - start > 253 {
            return None;
        }
        match bytes.get(end) {
            Some(b'.') => label = end + 1,
            _ => return Some((end, all)),
        }
    }
}

/// Of letters, digits, hyphens and underscores: whether they are a label, and no A-label.
fn is_plain_label(label: &[u8]) -> bool {
    let (Some(first), Some(last)) = (label.first(), label.last()) else { return false };
    label.len() <= 63
        && *first != b'-'
        && *last != b'-'
        && !(label.get(2..4) == Some(b"--") && label[..2].eq_ignore_ascii_case(b"xn"))
}

/// Where the run of bytes of this class ends that begins at `start`, and the classes that they have.
fn run_of(class: u8, bytes: &[u8], start: usize) -> (usize, u8) {
    let mut seen = 0;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        let classes = CLASSES[usize::from(byte)];
        if classes & class == 0 {
            break;
        }
        seen |= classes;
        at += 1;
    }
    (at, seen)
}

/// May stand in a localpart that no rule changes except in its case.
const LOCAL: u8 = 1;
/// May stand in a label of such a domainpart.
const LABEL: u8 = 2;
/// May stand in a resourcepart that no rule changes.
const RESOURCE: u8 = 4;
/// Is not in lower case.
const UPPER: u8 = 8;

/// The classes of each byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_graphic() && !excluded(byte) {
            classes[byte as usize] |= LOCAL;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            classes[byte as usize] |= LABEL;
        }
        if matches!(byte, b' '..=b'~') {
            classes[byte as usize] |= RESOURCE;
        }
        if byte.is_ascii_uppercase() {
            classes[byte as usize] |= UPPER;
        }
        byte += 1;
    }
    classes
};

/// Letters, digits, hyphen; and the underscore, which is in no host name by the letter (RFC 952), but in the names of hosts that
/// servers with nameprep accepted and that DNS resolves.
const DENIED: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// RFC 7622 §3.2.1: NR-LDH labels and U-labels, A-labels turned into these. UTS 46 maps and decodes, without the transitional
/// rules; that each label is valid in IDNA2008, as UTS 46 does not demand, is checked after it.
pub(super) fn domain_name(text: &str) -> Option<String> {
    let uts46 = Uts46::new();
    let (unicode, valid) = uts46.to_unicode(text.as_bytes(), DENIED, Hyphens::CheckFirstLast);
    valid.ok()?;
    // The root's dot is no part of the address (§3.2).
    let unicode = unicode.strip_suffix('.').unwrap_or(&unicode);
    // The limits of DNS hold for the labels as they are looked up.
    uts46.to_ascii(unicode.as_bytes(), DENIED, Hyphens::CheckFirstLast, DnsLength::Verify).ok()?;
    let conforms = unicode.split('.').all(|label| label.is_ascii() || is_u_label(label));
    (conforms && within_limit(unicode)).then(|| unicode.to_owned())
}

/// RFC 5892 §3, after UTS 46: what remains to be refused beyond the IdentifierClass are the blocks of §2.4.
fn is_u_label(label: &str) -> bool {
    let ignorable_block =
        |c| matches!(c, '\u{20d0}'..='\u{20ff}' | '\u{1d100}'..='\u{1d1ff}' | '\u{1d200}'..='\u{1d24f}');
    precis::check_class(label, precis::Class::Identifier).is_ok() && !label.contains(ignorable_block)
}
