//! Terms to JSON, without recursion.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Mode, TextTooLong};
use crate::term::{Elements, Pairs, Pid, Term, TermKind};

/// What is left of a term.
enum Rest<'a> {
    Term(Term<'a>),
    /// Elements, and whether the first is still to come.
    Elements(Elements<'a>, bool),
    /// Pairs of an object.
    Fields(Pairs<'a>, bool),
    /// Pairs as arrays.
    Pairs(Pairs<'a>, bool),
    Text(&'static str),
}

/// Most terms have no more to come at a time.
const DEPTH: usize = 16;

pub(super) fn write(term: Term<'_>, mode: Mode, memory_max: usize, out: &mut String) -> Result<(), TextTooLong> {
    let mut rest = Vec::with_capacity(DEPTH);
    rest.push(Rest::Term(term));
    while let Some(next) = rest.pop() {
        if out.len() + rest.len() * size_of::<Rest<'_>>() > memory_max {
            return Err(TextTooLong);
        }
        match next {
            Rest::Text(text) => out.push_str(text),
            Rest::Elements(mut elements, first) => {
                if let Some(term) = elements.next() {
                    out.push_str(if first { "" } else { "," });
                    rest.extend([Rest::Elements(elements, false), Rest::Term(term)]);
                }
            }
            Rest::Fields(mut pairs, first) => {
                if let Some((key, value)) = pairs.next() {
                    if !has_room(key, out, memory_max) {
                        return Err(TextTooLong);
                    }
                    out.push_str(if first { "" } else { "," });
                    string(&key_text(key, mode).expect("the keys were looked at"), out);
                    out.push(':');
                    rest.extend([Rest::Fields(pairs, false), Rest::Term(value)]);
                }
            }
            Rest::Pairs(mut pairs, first) => {
                if let Some((key, value)) = pairs.next() {
                    out.push_str(if first { "[" } else { ",[" });
                    let pair = [Rest::Text("]"), Rest::Term(value), Rest::Text(","), Rest::Term(key)];
                    rest.push(Rest::Pairs(pairs, false));
                    rest.extend(pair);
                }
            }
            Rest::Term(term) if !has_room(term, out, memory_max) => return Err(TextTooLong),
            Rest::Term(term) => match mode {
                Mode::Lossless => lossless(term, out, &mut rest),
                Mode::Readable => readable(term, out, &mut rest),
            },
        }
    }
    if out.len() > memory_max { Err(TextTooLong) } else { Ok(()) }
}

/// Whether a term that is written as a whole, however long it is, has room.
fn has_room(term: Term<'_>, out: &str, memory_max: usize) -> bool {
    // Most of a byte is made by an escape as `\u0000`.
    const MOST: usize = 6;
    let left = memory_max.saturating_sub(out.len());
    let node = term.tape.node(term.at);
    if node.size as usize <= left / MOST {
        return true;
    }
    match term.kind() {
        TermKind::Binary(bytes) => {
            bytes.iter().map(|byte| if IS_PLAIN[usize::from(*byte)] { 1 } else { MOST }).sum::<usize>() <= left
        }
        TermKind::Bytes(bytes) => bytes.len() <= left / 4,
        TermKind::Bits(bits) => bits.bytes.len() <= left / MOST,
        _ => true,
    }
}

fn lossless<'a>(term: Term<'a>, out: &mut String, rest: &mut Vec<Rest<'a>>) {
    match term.kind() {
        TermKind::Integer(integer) => match integer.to_i64() {
            // What a reader with doubles keeps whole.
            Some(value) if value.unsigned_abs() <= 1 << 53 => number(value, out),
            _ => put(out, format_args!("{{\"$int\":\"{integer}\"}}")),
        },
        TermKind::Float(value) => put(out, format_args!("{value:?}")),
        TermKind::Atom(name @ ("true" | "false" | "null")) => out.push_str(name),
        TermKind::Atom(name) => tagged_string("$atom", name, out),
        TermKind::Binary(bytes) => match str::from_utf8(bytes) {
            Ok(text) => string(text, out),
            Err(_) => encoded("$bytes", bytes, out),
        },
        TermKind::Bits(bits) => {
            out.push_str("{\"$bits\":[\"");
            BASE64_STANDARD.encode_string(bits.bytes, out);
            put(out, format_args!("\",{}]}}", bits.last_bits));
        }
        TermKind::Nil => out.push_str("[]"),
        TermKind::Bytes(bytes) => numbers(bytes, out),
        TermKind::List(elements) => {
            out.push('[');
            rest.extend([Rest::Text("]"), Rest::Elements(elements, true)]);
        }
        TermKind::ImproperList(elements, tail) => {
            out.push_str("{\"$list\":[");
            let end = [Rest::Text("}"), Rest::Term(tail), Rest::Text("],\"$tail\":")];
            rest.extend(end);
            rest.push(Rest::Elements(elements, true));
        }
        TermKind::Tuple(elements) => {
            out.push_str("{\"$tuple\":[");
            rest.extend([Rest::Text("]}"), Rest::Elements(elements, true)]);
        }
        TermKind::Map(pairs) => {
            if pairs.into_iter().all(|(key, _)| key_text(key, Mode::Lossless).is_some()) {
                out.push('{');
                rest.extend([Rest::Text("}"), Rest::Fields(pairs, true)]);
            } else {
                out.push_str("{\"$map\":[");
                rest.extend([Rest::Text("]}"), Rest::Pairs(pairs, true)]);
            }
        }
        identifier => self::identifier(identifier, out, rest),
    }
}

/// What names a process, a port, a reference or a function.
fn identifier<'a>(identifier: TermKind<'a>, out: &mut String, rest: &mut Vec<Rest<'a>>) {
    match identifier {
        TermKind::Pid(pid) => {
            out.push_str("{\"$pid\":");
            pid_fields(pid, out);
            out.push('}');
        }
        TermKind::Port(port) => {
            out.push_str("{\"$port\":{\"node\":");
            string(port.node, out);
            put(out, format_args!(",\"id\":\"{}\",\"creation\":{}}}}}", port.id, port.creation));
        }
        TermKind::Reference(reference) => {
            out.push_str("{\"$ref\":{\"node\":");
            string(reference.node, out);
            put(out, format_args!(",\"creation\":{},\"words\":[", reference.creation));
            for (at, word) in reference.words().enumerate() {
                put(out, format_args!("{}{word}", if at > 0 { "," } else { "" }));
            }
            out.push_str("]}}");
        }
        TermKind::Export { module, name, arity } => {
            out.push_str("{\"$export\":[");
            string(module, out);
            out.push(',');
            string(name, out);
            put(out, format_args!(",{arity}]}}"));
        }
        TermKind::Function(function) => {
            out.push_str("{\"$fun\":{\"module\":");
            string(function.module, out);
            put(out, format_args!(",\"arity\":{},\"unique\":\"", function.arity));
            BASE64_STANDARD.encode_string(function.unique, out);
            put(
                out,
                format_args!(
                    "\",\"index\":{},\"old_index\":{},\"old_unique\":{},\"pid\":",
                    function.index, function.old_index, function.old_unique
                ),
            );
            pid_fields(function.pid, out);
            out.push_str(",\"free\":[");
            rest.extend([Rest::Text("]}}"), Rest::Elements(function.free, true)]);
        }
        TermKind::Local(bytes) => encoded("$local", bytes, out),
        _ => {}
    }
}

fn readable<'a>(term: Term<'a>, out: &mut String, rest: &mut Vec<Rest<'a>>) {
    match term.kind() {
        TermKind::Integer(integer) if integer.to_i64().is_some() => number(integer.to_i64().unwrap_or_default(), out),
        TermKind::Integer(integer) => {
            // What is no integer of 64 bits other readers round, or refuse.
            let is_number = integer.to_i128().is_some_and(|value| (i64::MIN.into()..=u64::MAX.into()).contains(&value));
            let quote = if is_number { "" } else { "\"" };
            put(out, format_args!("{quote}{integer}{quote}"));
        }
        TermKind::Float(_) | TermKind::Nil => lossless(term, out, rest),
        TermKind::Atom("undefined" | "nil") => out.push_str("null"),
        TermKind::Atom(name @ ("true" | "false" | "null")) => out.push_str(name),
        TermKind::Atom(name) => string(name, out),
        TermKind::Binary(bytes) => match str::from_utf8(bytes) {
            Ok(text) => string(text, out),
            Err(_) => {
                out.push('"');
                BASE64_STANDARD.encode_string(bytes, out);
                out.push('"');
            }
        },
        TermKind::Bytes(bytes) => match printable(bytes) {
            Some(text) => string(&text, out),
            None => numbers(bytes, out),
        },
        TermKind::Tuple(elements) | TermKind::List(elements) => {
            out.push('[');
            rest.extend([Rest::Text("]"), Rest::Elements(elements, true)]);
        }
        TermKind::ImproperList(elements, tail) => {
            out.push('[');
            rest.extend([Rest::Text("]"), Rest::Term(tail), Rest::Text(","), Rest::Elements(elements, true)]);
        }
        TermKind::Map(pairs) => {
            if keys_are_texts(pairs) {
                out.push('{');
                rest.extend([Rest::Text("}"), Rest::Fields(pairs, true)]);
            } else {
                out.push('[');
                rest.extend([Rest::Text("]"), Rest::Pairs(pairs, true)]);
            }
        }
        _ => string(&term.to_string(), out),
    }
}

/// Whether all keys of a map can be those of an object. Two keys may read the same, as `ok` and <<"ok">>; of one kind they do not.
fn keys_are_texts(pairs: Pairs<'_>) -> bool {
    let keys = || pairs.into_iter().map(|(key, _)| key);
    if keys().all(|key| key.as_atom().is_some()) {
        return true;
    }
    if keys().all(|key| key.as_binary().is_some()) {
        return keys().all(|key| key_text(key, Mode::Readable).is_some());
    }
    let mut seen = HashSet::new();
    keys().all(|key| key_text(key, Mode::Readable).is_some_and(|text| seen.insert(text)))
}

/// The text of a map's key as that of an object, if it can be one.
fn key_text(key: Term<'_>, mode: Mode) -> Option<Cow<'_, str>> {
    match (key.kind(), mode) {
        (TermKind::Binary(bytes), _) => {
            let text = str::from_utf8(bytes).ok()?;
            match (text.starts_with('$'), mode) {
                (false, _) => Some(Cow::Borrowed(text)),
                (true, Mode::Readable) => Some(doubled(text)),
                (true, Mode::Lossless) => None,
            }
        }
        (_, Mode::Lossless) => None,
        (TermKind::Atom(name), Mode::Readable) if name.starts_with('$') => Some(doubled(name)),
        (TermKind::Atom(name), Mode::Readable) => Some(name.into()),
        (TermKind::Integer(integer), Mode::Readable) => Some(integer.to_string().into()),
        (TermKind::Bytes(bytes), Mode::Readable) => {
            printable(bytes).map(|text| if text.starts_with('$') { doubled(&text) } else { text.into() })
        }
        _ => None,
    }
}

/// A key that begins with `$` has another one before it, so that what stands beside terms, as a problem does, is none of them.
fn doubled(key: &str) -> Cow<'static, str> {
    format!("${key}").into()
}

/// A list of bytes as the text that it probably is: UTF-8, or Latin-1.
fn printable(bytes: &[u8]) -> Option<String> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    (!text.contains(is_control)).then_some(text)
}

fn pid_fields(pid: Pid<'_>, out: &mut String) {
    out.push_str("{\"node\":");
    string(pid.node, out);
    put(out, format_args!(",\"id\":{},\"serial\":{},\"creation\":{}}}", pid.id, pid.serial, pid.creation));
}

fn numbers(bytes: &[u8], out: &mut String) {
    out.push('[');
    for (at, byte) in bytes.iter().enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        number(i64::from(*byte), out);
    }
    out.push(']');
}

fn number(value: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

fn encoded(tag: &str, bytes: &[u8], out: &mut String) {
    put(out, format_args!("{{\"{tag}\":\""));
    BASE64_STANDARD.encode_string(bytes, out);
    out.push_str("\"}");
}

fn tagged_string(tag: &str, text: &str, out: &mut String) {
    put(out, format_args!("{{\"{tag}\":"));
    string(text, out);
    out.push('}');
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all");
}

/// The bytes that stand in strings as they are.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// A string of RFC 8259.
fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if IS_PLAIN[usize::from(byte)] {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => put(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}
