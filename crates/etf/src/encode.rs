//! `term_to_binary/2`: a tape to bytes, by a walk along it.

use std::fmt::Write as _;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::compare;
use crate::tag;
use crate::tape::{Node, NodeKind, Tape};
use crate::term::{Elements, Term, TermKind};

/// The option `minor_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinorVersion {
    /// Floats as text, atoms in Latin-1 where they can be.
    Zero,
    /// Floats as 8 bytes, atoms in Latin-1 where they can be: the default up to OTP 25.
    One,
    /// All atoms in UTF-8: the default from OTP 26 on.
    #[default]
    Two,
}

/// Why a term was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// What is compressed has at most 4 GiB, as its size is a number of 32 bits.
    #[error("a term of more than 4 GiB cannot be compressed")]
    TooLarge,
    /// The zlib library failed.
    #[error("zlib failed")]
    Compression,
}

/// Encodes with minor version 2, as `term_to_binary/1` of OTP 26 and later.
pub fn encode(term: Term<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().plain(term, &mut bytes);
    bytes
}

/// The options of `term_to_binary/2`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    /// How floats and atoms are written.
    pub minor_version: MinorVersion,
    /// `{compressed, 0..9}`; where the bytes do not get fewer, they stay as they are.
    pub compressed: Option<u8>,
    /// Maps by the order of their keys, or else as they are on the tape.
    pub deterministic: bool,
}

impl Encoder {
    /// Writes a term behind what is in `bytes`.
    pub fn encode_into(&self, term: Term<'_>, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let from = bytes.len();
        self.plain(term, bytes);
        match self.compressed {
            Some(level @ 1..) => compress(bytes, from, level.min(9)),
            _ => Ok(()),
        }
    }

    fn plain(&self, term: Term<'_>, bytes: &mut Vec<u8>) {
        let tape = term.tape;
        if term.at == 0 {
            // About what it took before.
            bytes.reserve(tape.source.len() + tape.extra.len() + 16);
        }
        bytes.push(tag::VERSION);
        let mut writer = Writer { tape, source: &tape.source, bytes, minor: self.minor_version };
        if self.deterministic {
            writer.sorted(term);
        } else {
            writer.walk(term.at, tape.next(term.at));
        }
    }
}

/// Puts the term, which is at `from`, in a zlib stream, if it gets smaller.
fn compress(bytes: &mut Vec<u8>, from: usize, level: u8) -> Result<(), EncodeError> {
    let plain = &bytes[from + 1..];
    let size = u32::try_from(plain.len()).map_err(|_| EncodeError::TooLarge)?;
    let mut zlib = Compress::new(Compression::new(u32::from(level)), true);
    // No longer than what it stands for, or else it is of no use.
    let mut stream = Vec::with_capacity(plain.len());
    let status = zlib.compress_vec(plain, &mut stream, FlushCompress::Finish).map_err(|_| EncodeError::Compression)?;
    if status == Status::StreamEnd && stream.len() + 5 < plain.len() {
        bytes.truncate(from + 1);
        bytes.push(tag::COMPRESSED);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&stream);
    }
    Ok(())
}

struct Writer<'a, 'b> {
    tape: &'a Tape<'a>,
    source: &'a [u8],
    bytes: &'b mut Vec<u8>,
    minor: MinorVersion,
}

/// What stands behind the elements of a container.
enum Close {
    /// `[]` of a proper list.
    Nil,
    /// A fun's size, which goes to this place.
    Size(usize),
}

/// What is left to be written of a term whose maps are sorted.
enum Rest<'a> {
    Term(Term<'a>),
    Terms(Elements<'a>),
    Close(Close),
}

impl<'a> Writer<'a, '_> {
    /// The nodes from `at` to `end`.
    fn walk(&mut self, mut at: usize, end: usize) {
        // Where containers end behind whose elements something stands.
        let mut open: Vec<(usize, Close)> = Vec::new();
        while at < end {
            let node = self.tape.nodes[at];
            at = match node.kind {
                NodeKind::List => match self.byte_list(at, node) {
                    Some(after) => after,
                    None => {
                        self.head(tag::LIST, node.size);
                        open.push((node.value as usize, Close::Nil));
                        at + 1
                    }
                },
                NodeKind::Function => {
                    open.push((node.value as usize, Close::Size(self.bytes.len() + 1)));
                    self.special(at, node)
                }
                kind if is_named(kind) => self.special(at, node),
                _ => {
                    self.simple(node);
                    at + 1
                }
            };
            while let Some((_, close)) = open.pop_if(|(end, _)| *end == at) {
                self.close(close);
            }
        }
    }

    fn close(&mut self, close: Close) {
        match close {
            Close::Nil => self.bytes.push(tag::NIL),
            Close::Size(at) => {
                let size = (self.bytes.len() - at) as u32;
                self.bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
            }
        }
    }

    /// As `walk`, but maps in the order of their keys.
    fn sorted(&mut self, term: Term<'a>) {
        let mut rest = vec![Rest::Term(term)];
        while let Some(next) = rest.pop() {
            match next {
                Rest::Close(close) => self.close(close),
                Rest::Terms(mut elements) => {
                    if let Some(term) = elements.next() {
                        rest.push(Rest::Terms(elements));
                        rest.push(Rest::Term(term));
                    }
                }
                Rest::Term(term) => self.sorted_term(term, &mut rest),
            }
        }
    }

    fn sorted_term(&mut self, term: Term<'a>, rest: &mut Vec<Rest<'a>>) {
        let node = self.tape.node(term.at);
        match term.kind() {
            TermKind::Map(pairs) => {
                self.head(tag::MAP, node.size);
                let from = rest.len();
                rest.extend(compare::sorted(pairs).flat_map(|(key, value)| [Rest::Term(key), Rest::Term(value)]));
                rest[from..].reverse();
            }
            TermKind::List(elements) => {
                if self.byte_list(term.at, node).is_none() {
                    self.head(tag::LIST, node.size);
                    rest.extend([Rest::Close(Close::Nil), Rest::Terms(elements)]);
                }
            }
            TermKind::ImproperList(elements, tail) => {
                self.head(tag::LIST, node.size);
                rest.extend([Rest::Term(tail), Rest::Terms(elements)]);
            }
            TermKind::Tuple(elements) => {
                self.simple(node);
                rest.push(Rest::Terms(elements));
            }
            TermKind::Function(function) => {
                rest.extend([Rest::Close(Close::Size(self.bytes.len() + 1)), Rest::Terms(function.free)]);
                self.special(term.at, node);
            }
            _ if is_named(node.kind) => {
                self.special(term.at, node);
            }
            _ => self.simple(node),
        }
    }

    /// Writes a node that says all itself, or the head of a container that needs no end.
    #[inline(always)]
    fn simple(&mut self, node: Node) {
        match node.kind {
            NodeKind::Integer => self.integer(node.value as i64),
            NodeKind::Atom => self.atom(node),
            NodeKind::Binary => {
                self.head(tag::BINARY, node.size);
                self.copy(node);
            }
            NodeKind::Tuple => match u8::try_from(node.size) {
                Ok(size) => self.bytes.extend_from_slice(&[tag::SMALL_TUPLE, size]),
                Err(_) => self.head(tag::LARGE_TUPLE, node.size),
            },
            NodeKind::Map => self.head(tag::MAP, node.size),
            NodeKind::Nil => self.bytes.push(tag::NIL),
            NodeKind::Bytes => self.string(node),
            NodeKind::Float => self.float(f64::from_bits(node.value)),
            NodeKind::Improper => self.head(tag::LIST, node.size),
            NodeKind::Big => {
                match u8::try_from(node.size) {
                    Ok(size) => self.bytes.extend_from_slice(&[tag::SMALL_BIG, size]),
                    Err(_) => self.head(tag::LARGE_BIG, node.size),
                }
                self.bytes.push(node.small);
                self.copy(node);
            }
            NodeKind::Bits => {
                self.head(tag::BIT_BINARY, node.size);
                self.bytes.push(node.small);
                self.copy(node);
            }
            NodeKind::Local => {
                self.bytes.push(tag::LOCAL);
                self.copy(node);
            }
            _ => {}
        }
    }

    fn integer(&mut self, value: i64) {
        if let Ok(value) = u8::try_from(value) {
            self.bytes.extend_from_slice(&[tag::SMALL_INTEGER, value]);
        } else if let Ok(value) = i32::try_from(value) {
            self.head(tag::INTEGER, value as u32);
        } else {
            let magnitude = value.unsigned_abs();
            let length = 8 - magnitude.leading_zeros() as usize / 8;
            self.bytes.extend_from_slice(&[tag::SMALL_BIG, length as u8, u8::from(value < 0)]);
            self.bytes.extend_from_slice(&magnitude.to_le_bytes()[..length]);
        }
    }

    fn float(&mut self, value: f64) {
        if self.minor > MinorVersion::Zero {
            let mut field = [tag::NEW_FLOAT; 9];
            field[1..].copy_from_slice(&value.to_bits().to_be_bytes());
            return self.bytes.extend_from_slice(&field);
        }
        // `%.20e` of C: the exponent has a sign and two digits at least.
        let text = format!("{value:.20e}");
        let (mantissa, exponent) = text.split_once('e').expect("such a format has an exponent");
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        let mut field = String::with_capacity(31);
        let _ = write!(field, "{mantissa}e{sign}{digits:0>2}");
        self.bytes.push(tag::FLOAT);
        self.bytes.extend_from_slice(field.as_bytes());
        self.bytes.extend(std::iter::repeat_n(0, 31 - field.len()));
    }

    #[inline]
    fn atom(&mut self, node: Node) {
        let name = self.tape.bytes(node.value, node.size as usize);
        if self.minor < MinorVersion::Two {
            if name.is_ascii() {
                self.bytes.extend_from_slice(&[tag::ATOM, 0, node.size as u8]);
                return self.copy(node);
            }
            let text = str::from_utf8(name).expect("atoms are checked when they are read");
            if text.chars().all(|character| u32::from(character) < 256) {
                let length = text.chars().count() as u16;
                self.bytes.push(tag::ATOM);
                self.bytes.extend_from_slice(&length.to_be_bytes());
                return self.bytes.extend(text.chars().map(|character| u32::from(character) as u8));
            }
        }
        match u8::try_from(node.size) {
            Ok(length) => self.bytes.extend_from_slice(&[tag::SMALL_ATOM_UTF8, length]),
            Err(_) => {
                self.bytes.push(tag::ATOM_UTF8);
                self.bytes.extend_from_slice(&(node.size as u16).to_be_bytes());
            }
        }
        self.copy(node);
    }

    /// A list of bytes.
    fn string(&mut self, node: Node) {
        if let Ok(length) = u16::try_from(node.size) {
            self.bytes.push(tag::STRING);
            self.bytes.extend_from_slice(&length.to_be_bytes());
            return self.copy(node);
        }
        self.head(tag::LIST, node.size);
        let bytes = self.tape.bytes(node.value, node.size as usize);
        self.bytes.extend(bytes.iter().flat_map(|&byte| [tag::SMALL_INTEGER, byte]));
        self.bytes.push(tag::NIL);
    }

    /// A list that is one of at most 65 535 bytes is written as such; gives where it ends.
    #[inline]
    fn byte_list(&mut self, at: usize, node: Node) -> Option<usize> {
        let length = u16::try_from(node.size).ok()?;
        let is_byte = |node: &Node| node.kind == NodeKind::Integer && node.value < 256;
        let elements = self.tape.nodes.get(at + 1..at + 1 + usize::from(length))?;
        if !elements.iter().all(is_byte) {
            return None;
        }
        self.bytes.push(tag::STRING);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend(elements.iter().map(|node| node.value as u8));
        Some(node.value as usize)
    }

    /// Writes a pid, port, reference or external fun, or a fun up to its variables if those follow it in a walk; gives where it
    /// goes on.
    #[cold]
    fn special(&mut self, at: usize, node: Node) -> usize {
        let name = |tape: &Tape<'_>, offset| tape.node(at + offset);
        match node.kind {
            NodeKind::Pid => {
                self.bytes.push(tag::NEW_PID);
                self.atom(name(self.tape, 1));
                self.words(&[node.value as u32, (node.value >> 32) as u32, node.size]);
                at + 2
            }
            NodeKind::Port => {
                // Ids of 28 bits fit into the tag of before OTP 24.
                if node.value < 1 << 28 {
                    self.bytes.push(tag::NEW_PORT);
                    self.atom(name(self.tape, 1));
                    self.words(&[node.value as u32, node.size]);
                } else {
                    self.bytes.push(tag::V4_PORT);
                    self.atom(name(self.tape, 1));
                    self.words(&[(node.value >> 32) as u32, node.value as u32, node.size]);
                }
                at + 2
            }
            NodeKind::Reference => {
                self.bytes.extend_from_slice(&[tag::NEWER_REFERENCE, 0, node.small]);
                self.atom(name(self.tape, 1));
                self.words(&[node.size]);
                self.bytes.extend_from_slice(self.tape.bytes(node.value, usize::from(node.small) * 4));
                at + 2
            }
            NodeKind::Export => {
                self.bytes.push(tag::EXPORT);
                self.atom(name(self.tape, 1));
                self.atom(name(self.tape, 2));
                self.integer(name(self.tape, 3).value as i64);
                at + 4
            }
            _ => {
                self.head(tag::NEW_FUN, 0);
                self.copy(name(self.tape, 1));
                self.atom(name(self.tape, 2));
                self.integer(name(self.tape, 3).value as i64);
                self.integer(name(self.tape, 4).value as i64);
                self.special(at + 5, name(self.tape, 5))
            }
        }
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
    }

    #[inline(always)]
    fn head(&mut self, tag: u8, size: u32) {
        let [a, b, c, d] = size.to_be_bytes();
        self.bytes.extend_from_slice(&[tag, a, b, c, d]);
    }

    #[inline(always)]
    fn copy(&mut self, node: Node) {
        let (from, length) = (node.value as usize, node.size as usize);
        // Most names and numbers are short, and 16 bytes are copied faster than a number that is not known.
        if length <= 16
            && let Some(bytes) = self.source.get(from..from + 16)
        {
            let end = self.bytes.len() + length;
            self.bytes.extend_from_slice(bytes);
            return self.bytes.truncate(end);
        }
        self.bytes.extend_from_slice(self.tape.bytes(node.value, length));
    }
}

fn is_named(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::Pid | NodeKind::Port | NodeKind::Reference | NodeKind::Export)
}
