//! XML 1.0 §3.1 and Namespaces in XML 1.0: one tag, whole, before any namespace is resolved.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::XmlError;
use super::escape::attribute_value;
use super::scan::{QName, checked_str, is_space};
use crate::ns;

/// An opening tag.
#[derive(Debug)]
pub(super) struct Tag<'a> {
    /// The name as it must stand in the closing tag.
    pub(super) raw_name: &'a str,
    pub(super) name: QName<'a>,
    /// Attributes, declarations not among them, values normalized (§3.3.3).
    pub(super) attributes: SmallVec<[Attribute<'a>; 8]>,
    /// `xmlns='…'` (empty prefix) and `xmlns:p='…'`, checked.
    pub(super) declarations: SmallVec<[(&'a str, Cow<'a, str>); 2]>,
    /// `<a/>`
    pub(super) empty: bool,
}

/// An attribute, before its prefix is resolved.
#[derive(Debug)]
pub(super) struct Attribute<'a> {
    pub(super) raw_name: &'a str,
    pub(super) name: QName<'a>,
    pub(super) value: Cow<'a, str>,
}

/// Namespaces in XML 1.0 §3: what the prefix `xmlns` stands for.
pub(super) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

const MALFORMED: XmlError = XmlError::NotWellFormed("a malformed tag");
const DUPLICATE: XmlError = XmlError::NotWellFormed("an attribute twice in one tag");

impl<'a> Tag<'a> {
    /// Parses from `<` to `>`. Anything else at the end makes it malformed.
    pub(super) fn parse(raw: &'a [u8]) -> Result<Self, XmlError> {
        let text = checked_str(raw)?;
        let mut rest = text.strip_prefix('<').ok_or(MALFORMED)?;
        let raw_name = take_name(&mut rest);
        let name = QName::parse(raw_name)?;
        if name.prefix == "xmlns" {
            return Err(XmlError::NotWellFormed("an element with the prefix xmlns"));
        }
        let mut tag = Self { raw_name, name, attributes: SmallVec::new(), declarations: SmallVec::new(), empty: false };
        loop {
            let spaced = skip_space(&mut rest);
            match rest {
                ">" => break,
                "/>" => {
                    tag.empty = true;
                    break;
                }
                _ if !spaced => {
                    return Err(XmlError::NotWellFormed("no white space before an attribute"));
                }
                _ => tag.attribute(&mut rest)?,
            }
        }
        tag.refuse_duplicates()?;
        Ok(tag)
    }

    fn attribute(&mut self, rest: &mut &'a str) -> Result<(), XmlError> {
        let raw_name = take_name(rest);
        let name = QName::parse(raw_name)?;
        let value = attribute_value(take_quoted(rest)?)?;
        if name.prefix.is_empty() && name.local == "xmlns" {
            check_declaration("", &value)?;
            self.declarations.push(("", value));
        } else if name.prefix == "xmlns" {
            check_declaration(name.local, &value)?;
            self.declarations.push((name.local, value));
        } else {
            self.attributes.push(Attribute { raw_name, name, value });
        }
        Ok(())
    }

    fn refuse_duplicates(&self) -> Result<(), XmlError> {
        let attributes = self.attributes.iter().map(|attribute| attribute.raw_name);
        let declarations = self.declarations.iter().map(|&(prefix, _)| prefix);
        if all_differ(attributes) && all_differ(declarations) { Ok(()) } else { Err(DUPLICATE) }
    }

    /// Namespaces in XML 1.0 §6.3: two attributes may not have the same expanded name, and each prefix must be
    /// bound. `resolve` finds the namespace of a prefix.
    pub(super) fn check_expanded<'n>(&self, resolve: impl Fn(&str) -> Option<&'n str>) -> Result<(), XmlError> {
        let mut expanded = SmallVec::<[(&str, &str); 4]>::new();
        for attribute in self.attributes.iter().filter(|attribute| !attribute.name.prefix.is_empty()) {
            let ns = resolve(attribute.name.prefix).ok_or(XmlError::BadNamespacePrefix)?;
            expanded.push((ns, attribute.name.local));
        }
        if all_differ(expanded.iter().copied()) { Ok(()) } else { Err(DUPLICATE) }
    }
}

/// The name in a closing tag, from `</` to `>`.
pub(super) fn closing_name(raw: &[u8]) -> Result<&str, XmlError> {
    let mut rest = checked_str(raw)?.strip_prefix("</").ok_or(MALFORMED)?;
    let name = take_name(&mut rest);
    skip_space(&mut rest);
    if rest == ">" { Ok(name) } else { Err(MALFORMED) }
}

/// XML 1.0 §2.8: the XML declaration, from `<?xml` to `?>`.
pub(super) fn check_xml_declaration(raw: &[u8]) -> Result<(), XmlError> {
    const MALFORMED: XmlError = XmlError::NotWellFormed("a malformed XML declaration");
    let text = checked_str(raw)?;
    let mut rest = match text.strip_prefix("<?xml") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii() && is_space(c as u8)) => rest,
        Some(rest) if rest.starts_with('?') => return Err(MALFORMED),
        _ => return Err(XmlError::Restricted("a processing instruction")),
    };
    let mut expected: &[&str] = &["version", "encoding", "standalone"];
    let mut first = true;
    loop {
        let spaced = skip_space(&mut rest);
        if rest == "?>" && !first {
            return Ok(());
        }
        let name = take_name(&mut rest);
        let at = expected.iter().position(|&expected| expected == name).ok_or(MALFORMED)?;
        // The version must be there; the other two may be left out, but not change places.
        if !spaced || (first && at != 0) {
            return Err(MALFORMED);
        }
        let value = take_quoted(&mut rest)?;
        match name {
            "version" if value != "1.0" => return Err(XmlError::NotWellFormed("a version of XML other than 1.0")),
            "encoding" if !value.eq_ignore_ascii_case("utf-8") => return Err(XmlError::UnsupportedEncoding),
            "standalone" if value != "yes" && value != "no" => return Err(MALFORMED),
            _ => {}
        }
        expected = &expected[at + 1..];
        first = false;
    }
}

/// Namespaces in XML 1.0 §3: the reserved prefixes and names, and no prefix for nothing.
fn check_declaration(prefix: &str, uri: &str) -> Result<(), XmlError> {
    let problem = match (prefix, uri) {
        ("xmlns", _) => "a declaration of the prefix xmlns",
        ("xml", ns::XML) => return Ok(()),
        ("xml", _) => "another namespace for the prefix xml",
        (_, ns::XML | XMLNS) => "another prefix for a reserved namespace",
        ("", "") => return Ok(()),
        (_, "") => "a prefix for no namespace",
        _ => return Ok(()),
    };
    Err(XmlError::NotWellFormed(problem))
}

fn all_differ<T: Ord + Copy>(names: impl Iterator<Item = T>) -> bool {
    let mut names: SmallVec<[T; 8]> = names.collect();
    if names.len() <= 8 {
        return (1..names.len()).all(|at| !names[..at].contains(&names[at]));
    }
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

fn skip_space(rest: &mut &str) -> bool {
    let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
    let skipped = trimmed.len() < rest.len();
    *rest = trimmed;
    skipped
}

/// Up to what cannot stand in a name; whether it is one is for [`QName`].
fn take_name<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest
        .bytes()
        .position(|b| is_space(b) || matches!(b, b'=' | b'/' | b'>' | b'<' | b'\'' | b'"'))
        .unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    name
}

/// `= 'value'`, as it stands.
fn take_quoted<'a>(rest: &mut &'a str) -> Result<&'a str, XmlError> {
    skip_space(rest);
    *rest = rest.strip_prefix('=').ok_or(XmlError::NotWellFormed("an attribute without value"))?;
    skip_space(rest);
    let quote = match rest.as_bytes().first() {
        Some(&quote @ (b'\'' | b'"')) => quote,
        _ => return Err(XmlError::NotWellFormed("an attribute value without quotes")),
    };
    *rest = &rest[1..];
    match memchr::memchr2(quote, b'<', rest.as_bytes()) {
        Some(end) if rest.as_bytes()[end] == quote => {
            let value = &rest[..end];
            *rest = &rest[end + 1..];
            Ok(value)
        }
        Some(_) => Err(XmlError::NotWellFormed("`<` in an attribute value")),
        None => Err(MALFORMED),
    }
}
