//! Terms on one line.

use std::fmt::{self, Write};

use super::float;
use crate::term::{Elements, Pairs, Term, TermKind};

/// How things are written that have more than one form.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Lists and binaries of printable characters in quotes.
    pub(super) strings: bool,
    /// Characters beyond Latin-1 as they are.
    pub(super) unicode: bool,
}

/// What is written to, and may want to know where terms begin and end.
pub(super) trait Out: Write {
    /// The term comes next.
    fn begins(&mut self, _: Term<'_>) {}
    /// All of the term was written.
    fn ends(&mut self, _: Term<'_>) {}
}

impl Out for String {}
impl Out for fmt::Formatter<'_> {}

/// What wants to know nothing but the text.
pub(super) struct Plain<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for Plain<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }
}

impl<W: Write> Out for Plain<'_, W> {}

pub(super) fn to_string(term: Term<'_>, style: Style) -> String {
    let mut text = String::new();
    write(&mut text, term, style).expect("a string takes all");
    text
}

/// What is left of a term.
enum Rest<'a> {
    Term(Term<'a>),
    /// Elements, the first of which has been written.
    Elements(Elements<'a>),
    Pairs(Pairs<'a>),
    Text(&'static str),
    /// What ends the term.
    End(&'static str, Term<'a>),
}

pub(super) fn write(out: &mut impl Out, term: Term<'_>, style: Style) -> fmt::Result {
    let mut rest = vec![Rest::Term(term)];
    while let Some(next) = rest.pop() {
        match next {
            Rest::Text(text) => out.write_str(text)?,
            Rest::End(text, term) => {
                out.write_str(text)?;
                out.ends(term);
            }
            Rest::Elements(mut elements) => {
                if let Some(term) = elements.next() {
                    out.write_char(',')?;
                    rest.extend([Rest::Elements(elements), Rest::Term(term)]);
                }
            }
            Rest::Pairs(mut pairs) => {
                if let Some((key, value)) = pairs.next() {
                    out.write_char(',')?;
                    rest.extend([Rest::Pairs(pairs), Rest::Term(value), Rest::Text(" => "), Rest::Term(key)]);
                }
            }
            Rest::Term(term) => {
                out.begins(term);
                self::term(out, term, style, &mut rest)?;
            }
        }
    }
    Ok(())
}

/// Writes a term, or begins it.
fn term<'a>(out: &mut impl Out, term: Term<'a>, style: Style, rest: &mut Vec<Rest<'a>>) -> fmt::Result {
    match term.kind() {
        TermKind::Tuple(elements) => return open(out, "{", elements, [Rest::End("}", term)], rest),
        TermKind::List(elements) => match printable_list(term, style) {
            Some(text) => quoted(out, '"', &text, style.unicode)?,
            None => return open(out, "[", elements, [Rest::End("]", term)], rest),
        },
        TermKind::ImproperList(elements, tail) => {
            let end = [Rest::End("]", term), Rest::Term(tail), Rest::Text("|")];
            return open(out, "[", elements, end, rest);
        }
        TermKind::Map(mut pairs) => {
            rest.push(Rest::End("}", term));
            if let Some((key, value)) = pairs.next() {
                rest.extend([Rest::Pairs(pairs), Rest::Term(value), Rest::Text(" => "), Rest::Term(key)]);
            }
            return out.write_str("#{");
        }
        kind => leaf(out, kind, style)?,
    }
    out.ends(term);
    Ok(())
}

fn open<'a, const N: usize>(
    out: &mut impl Out,
    begin: &str,
    mut elements: Elements<'a>,
    end: [Rest<'a>; N],
    rest: &mut Vec<Rest<'a>>,
) -> fmt::Result {
    rest.extend(end);
    if let Some(first) = elements.next() {
        rest.extend([Rest::Elements(elements), Rest::Term(first)]);
    }
    out.write_str(begin)
}

/// Writes what holds no other terms, or does not show them.
pub(super) fn leaf(out: &mut impl Write, kind: TermKind<'_>, style: Style) -> fmt::Result {
    match kind {
        TermKind::Integer(integer) => write!(out, "{integer}"),
        TermKind::Float(value) => out.write_str(&float::shortest(value)),
        TermKind::Atom(name) => atom(out, name, style.unicode),
        TermKind::Binary(bytes) => match printable_binary(bytes, style) {
            Some((text, is_utf8)) => {
                out.write_str("<<")?;
                quoted(out, '"', &text, style.unicode)?;
                out.write_str(if is_utf8 { "/utf8>>" } else { ">>" })
            }
            None => numbers(out, "<<", bytes, ">>"),
        },
        TermKind::Bits(bits) => {
            let (last, whole) = bits.bytes.split_last().expect("a bit string has a byte");
            numbers(out, "<<", whole, if whole.is_empty() { "" } else { "," })?;
            write!(out, "{}:{}>>", last >> (8 - bits.last_bits), bits.last_bits)
        }
        TermKind::Nil => out.write_str("[]"),
        TermKind::Bytes(bytes) if style.strings && bytes.iter().all(|&byte| is_printable(u32::from(byte))) => {
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            quoted(out, '"', &text, style.unicode)
        }
        TermKind::Bytes(bytes) => numbers(out, "[", bytes, "]"),
        TermKind::Pid(pid) => write!(out, "<0.{}.{}>", pid.id, pid.serial),
        TermKind::Port(port) => write!(out, "#Port<0.{}>", port.id),
        TermKind::Reference(reference) => {
            out.write_str("#Ref<0")?;
            reference.words().rev().try_for_each(|word| write!(out, ".{word}"))?;
            out.write_str(">")
        }
        TermKind::Function(function) => {
            out.write_str("#Fun<")?;
            atom(out, function.module, style.unicode)?;
            write!(out, ".{}.{}>", function.old_index, function.old_unique)
        }
        TermKind::Export { module, name, arity } => {
            out.write_str("fun ")?;
            atom(out, module, style.unicode)?;
            out.write_char(':')?;
            atom(out, name, style.unicode)?;
            write!(out, "/{arity}")
        }
        TermKind::Local(bytes) => write!(out, "#Local<{} bytes>", bytes.len()),
        TermKind::Tuple(_) | TermKind::List(_) | TermKind::ImproperList(..) | TermKind::Map(_) => Ok(()),
    }
}

fn numbers(out: &mut impl Write, begin: &str, bytes: &[u8], end: &str) -> fmt::Result {
    out.write_str(begin)?;
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.write_char(',')?;
        }
        write!(out, "{byte}")?;
    }
    out.write_str(end)
}

/// The text of a list whose elements are all printable characters, if such lists go in quotes.
pub(super) fn printable_list(term: Term<'_>, style: Style) -> Option<String> {
    if !style.strings {
        return None;
    }
    let TermKind::List(elements) = term.kind() else { return None };
    let characters = elements.map(|element| {
        let code = u32::try_from(element.as_i64()?).ok()?;
        char::from_u32(code).filter(|_| is_printable(code))
    });
    characters.collect()
}

/// The text of a binary of printable characters, and whether it is to be read as UTF-8.
fn printable_binary(bytes: &[u8], style: Style) -> Option<(String, bool)> {
    if !style.strings || bytes.is_empty() {
        return None;
    }
    match str::from_utf8(bytes) {
        Ok(text) if style.unicode && !bytes.is_ascii() => {
            text.chars().all(|c| is_printable(u32::from(c))).then(|| (text.to_owned(), true))
        }
        _ if bytes.iter().all(|&byte| is_printable(u32::from(byte))) => {
            Some((bytes.iter().map(|&byte| char::from(byte)).collect(), false))
        }
        _ => None,
    }
}

/// As `io_lib:printable_list/1` without `+pc unicode`: Latin-1.
fn is_printable(code: u32) -> bool {
    matches!(code, 8..=13 | 27 | 32..=126 | 160..=255)
}

/// An atom, in quotes where it needs them.
pub(super) fn atom(out: &mut impl Write, name: &str, unicode: bool) -> fmt::Result {
    if needs_no_quotes(name) { out.write_str(name) } else { quoted(out, '\'', name, unicode) }
}

fn needs_no_quotes(name: &str) -> bool {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| matches!(c, 'a'..='z' | 'ß'..='ö' | 'ø'..='ÿ'));
    let goes_on = |c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '@' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ');
    begins && characters.all(goes_on) && !RESERVED.contains(&name)
}

pub(super) const RESERVED: &[&str] = &[
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div",
    "end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor",
];

pub(super) fn quoted(out: &mut impl Write, quote: char, text: &str, unicode: bool) -> fmt::Result {
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => out.write_str("\\\\")?,
            c if c == quote => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{b}' => out.write_str("\\v")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            '\u{1b}' => out.write_str("\\e")?,
            '\u{7f}' => out.write_str("\\d")?,
            c if u32::from(c) < 32 || (0x80..0xa0).contains(&u32::from(c)) => write!(out, "\\{:03o}", u32::from(c))?,
            c if u32::from(c) > 255 && !unicode => write!(out, "\\x{{{:X}}}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}
