//! What is seldom written, into a buffer of its own first.

use std::fmt::Write as _;

use super::MinorVersion;
use crate::tag;
use crate::tape::{Node, NodeKind, Tape};

/// Writes one node, and those that belong to it.
pub(super) struct Rare<'a, 'b> {
    pub(super) tape: &'a Tape<'a>,
    pub(super) minor: MinorVersion,
    pub(super) bytes: &'b mut Vec<u8>,
}

impl Rare<'_, '_> {
    /// Writes a pid, port, reference, external fun, or a fun up to its variables, whose size is still 0, or what says all itself; gives
    /// where it goes on.
    pub(super) fn node(&mut self, at: usize) -> usize {
        let node = self.tape.node(at);
        let next = |offset| self.tape.node(at + offset);
        match node.kind {
            NodeKind::Pid => {
                self.bytes.push(tag::NEW_PID);
                self.atom(next(1));
                self.words(&[node.value as u32, (node.value >> 32) as u32, node.size]);
            }
            NodeKind::Port => {
                // Ids of 28 bits fit into the tag of before OTP 24.
                if node.value < 1 << 28 {
                    self.bytes.push(tag::NEW_PORT);
                    self.atom(next(1));
                    self.words(&[node.value as u32, node.size]);
                } else {
                    self.bytes.push(tag::V4_PORT);
                    self.atom(next(1));
                    self.words(&[(node.value >> 32) as u32, node.value as u32, node.size]);
                }
            }
            NodeKind::Reference => {
                self.bytes.extend_from_slice(&[tag::NEWER_REFERENCE, 0, node.small]);
                self.atom(next(1));
                self.words(&[node.size]);
                self.bytes.extend_from_slice(self.tape.bytes(node.value, usize::from(node.small) * 4));
            }
            NodeKind::Export => {
                self.bytes.push(tag::EXPORT);
                self.atom(next(1));
                self.atom(next(2));
                self.integer(next(3));
            }
            NodeKind::Function => {
                self.head(tag::NEW_FUN, 0);
                self.copy(next(1));
                self.atom(next(2));
                self.integer(next(3));
                self.integer(next(4));
                return self.node(at + 5);
            }
            _ => self.simple(node),
        }
        self.tape.next(at)
    }

    /// A node that says all itself.
    fn simple(&mut self, node: Node) {
        match node.kind {
            NodeKind::Atom => self.atom(node),
            NodeKind::Float => self.float(f64::from_bits(node.value)),
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
            NodeKind::Bytes => {
                // Up to 65 535 are a string, and are written elsewhere.
                self.head(tag::LIST, node.size);
                let bytes = self.tape.bytes(node.value, node.size as usize);
                self.bytes.extend(bytes.iter().flat_map(|&byte| [tag::SMALL_INTEGER, byte]));
                self.bytes.push(tag::NIL);
            }
            NodeKind::Local => {
                self.bytes.push(tag::LOCAL);
                self.copy(node);
            }
            _ => {}
        }
    }

    fn atom(&mut self, node: Node) {
        let name = self.tape.bytes(node.value, node.size as usize);
        if self.minor < MinorVersion::Two {
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

    /// As `%.20e` of C: the exponent has a sign and two digits at least.
    fn float(&mut self, value: f64) {
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

    /// An integer of 32 bits.
    fn integer(&mut self, node: Node) {
        let value = node.value as i64;
        match u8::try_from(value) {
            Ok(value) => self.bytes.extend_from_slice(&[tag::SMALL_INTEGER, value]),
            Err(_) => self.head(tag::INTEGER, value as u32),
        }
    }

    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.bytes.extend_from_slice(&word.to_be_bytes()));
    }

    fn head(&mut self, tag: u8, size: u32) {
        self.bytes.push(tag);
        self.words(&[size]);
    }

    fn copy(&mut self, node: Node) {
        self.bytes.extend_from_slice(self.tape.bytes(node.value, node.size as usize));
    }
}
