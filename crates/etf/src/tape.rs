//! The tape: nodes in the order of the bytes.

use std::borrow::Cow;

use crate::hash::{Duplicates, Seed};
use crate::term::Term;

/// What a node is. The order is that of Erlang's terms, as far as it goes by kind alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum NodeKind {
    /// `value` is the integer.
    Integer,
    /// `value` is the offset of the magnitude, little endian without zeros at its end, `size` its length, `small` 1 below zero.
    Big,
    /// `value` has the bits.
    Float,
    /// `value` is the offset of the name in UTF-8, `size` its length; `small` is 1 if it is ASCII.
    Atom,
    /// `value` is the offset of `small` words, big endian; `size` is the creation; the node's name follows.
    Reference,
    /// `size` is the number of free variables; `value` the end. Follow: 25 bytes (arity to number of variables) as a binary,
    /// module, old index, old unique number, pid, variables.
    Function,
    /// Follow: module, name, arity.
    Export,
    /// `value` is the id, `size` the creation; the node's name follows.
    Port,
    /// `value` is the serial above the id, `size` the creation; the node's name follows.
    Pid,
    /// `size` elements follow; `value` is the end.
    Tuple,
    /// `size` pairs follow; `value` is the end.
    Map,
    /// The empty list.
    Nil,
    /// A list of bytes: `value` is the offset, `size` the length, never 0.
    Bytes,
    /// `size` elements follow, never 0; `value` is the end.
    List,
    /// `size` elements and the tail follow; `value` is the end.
    Improper,
    /// `value` is the offset, `size` the length.
    Binary,
    /// As `Binary`; `small` is the number of bits in the last byte, 1 to 7.
    Bits,
    /// What follows the tag `LOCAL_EXT`: `value` is the offset, `size` the length.
    Local,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) small: u8,
    pub(crate) size: u32,
    pub(crate) value: u64,
}

impl Node {
    #[inline]
    pub(crate) fn new(kind: NodeKind, size: u32, value: u64) -> Self {
        Self { kind, small: 0, size, value }
    }

    /// An atom of this name, which lies at `value`.
    #[inline]
    pub(crate) fn atom(name: &[u8], value: u64) -> Self {
        Self { kind: NodeKind::Atom, small: u8::from(name.is_ascii()), size: name.len() as u32, value }
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::new(NodeKind::Integer, 0, value as u64)
    }
}

/// A term that was decoded, parsed or built.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    pub(crate) source: Cow<'a, [u8]>,
    pub(crate) extra: Vec<u8>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) used: usize,
}

impl<'a> Tape<'a> {
    /// The term itself.
    pub fn root(&self) -> Term<'_> {
        Term::at(self, 0)
    }

    /// How many bytes of the input the term took; 0 if it was not decoded.
    pub fn used(&self) -> usize {
        self.used
    }

    /// About how many bytes it has, with what it was read from. What is made of it is of that order too.
    pub fn weight(&self) -> usize {
        self.source.len() + self.extra.len() + 2 * self.nodes.len()
    }

    /// How many bytes of memory it takes, with what it was read from.
    pub fn memory(&self) -> usize {
        self.source.len() + self.extra.len() + size_of::<Node>() * self.nodes.len()
    }

    /// A tape that owns its bytes.
    pub fn into_owned(self) -> Tape<'static> {
        Tape { source: Cow::Owned(self.source.into_owned()), extra: self.extra, nodes: self.nodes, used: self.used }
    }

    #[inline]
    pub(crate) fn node(&self, at: usize) -> Node {
        self.nodes[at]
    }

    /// Bytes that a node points to.
    #[inline]
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> &[u8] {
        let offset = offset as usize;
        match offset.checked_sub(self.source.len()) {
            Some(offset) => &self.extra[offset..offset + length],
            None => &self.source[offset..offset + length],
        }
    }

    pub(crate) fn text(&self, at: usize) -> &str {
        let node = self.node(at);
        str::from_utf8(self.bytes(node.value, node.size as usize)).expect("atoms are checked when they are read")
    }

    /// Where the node after this term lies.
    #[inline]
    pub(crate) fn next(&self, at: usize) -> usize {
        let node = self.node(at);
        match node.kind {
            NodeKind::Tuple | NodeKind::Map | NodeKind::List | NodeKind::Improper | NodeKind::Function => {
                node.value as usize
            }
            NodeKind::Pid | NodeKind::Port | NodeKind::Reference => at + 2,
            NodeKind::Export => at + 4,
            _ => at + 1,
        }
    }

    /// Puts bytes behind the source; gives the offset for a node.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.source.len() + self.extra.len();
        self.extra.extend_from_slice(bytes);
        offset as u64
    }
}

impl PartialEq for Tape<'_> {
    fn eq(&self, other: &Tape<'_>) -> bool {
        self.root() == other.root()
    }
}

/// A container of which not all has come.
pub(crate) struct Frame {
    pub(crate) node: usize,
    pub(crate) kind: NodeKind,
    /// 0, `KEYS` or `HASHING`.
    pub(crate) mode: u8,
    /// Terms that are still to come; for a builder those that came.
    pub(crate) left: u32,
    pub(crate) hash: u64,
    key: u64,
    keys_from: usize,
}

impl Frame {
    /// A map whose keys must be told apart.
    pub(crate) const KEYS: u8 = 1;
    /// A container that is part of a key, so that its hash is needed.
    pub(crate) const HASHING: u8 = 2;

    #[inline]
    pub(crate) fn new(node: usize, kind: NodeKind, mode: u8, left: u32, keys_from: usize) -> Self {
        Self { node, kind, mode, left, hash: 0, key: 0, keys_from }
    }

    /// Whether [`Self::note`] wants to hear of the next term.
    #[inline]
    pub(crate) fn wants_hash(&self) -> bool {
        self.mode != 0 && (self.mode == Self::HASHING || self.left.is_multiple_of(2))
    }

    /// Takes note of an element's hash. For a map an even `left` means a key.
    #[inline]
    pub(crate) fn note(&mut self, hash: u64, keys: &mut Vec<u64>, seed: Seed) {
        if self.kind != NodeKind::Map {
            self.hash = seed.mix(self.hash, hash);
        } else if self.left.is_multiple_of(2) {
            keys.push(hash);
            self.key = hash;
        } else {
            // A sum: the order of pairs does not matter.
            self.hash = self.hash.wrapping_add(seed.mix(self.key, hash));
        }
    }

    /// The hash of the whole container, which has `size` elements.
    pub(crate) fn whole(&self, size: u32, seed: Seed) -> u64 {
        match self.kind {
            // As a list of bytes, which may come as either.
            NodeKind::List => seed.word(NodeKind::List as u64, self.hash),
            kind => seed.mix(seed.word(kind as u64, self.hash), u64::from(size)),
        }
    }

    /// Whether a map, which is at its end, has two keys of one hash.
    pub(crate) fn has_duplicates(&self, keys: &mut Vec<u64>, duplicates: &mut Duplicates) -> bool {
        let found = duplicates.find(&keys[self.keys_from..]).is_some();
        keys.truncate(self.keys_from);
        found
    }
}

/// The hash of a node without children.
pub(crate) fn leaf_hash(tape: &Tape<'_>, node: Node, seed: Seed) -> u64 {
    let domain = node.kind as u64;
    match node.kind {
        // 0.0 and -0.0 are one key in OTP 25.
        NodeKind::Float if node.value << 1 == 0 => seed.word(domain, 0),
        NodeKind::Integer | NodeKind::Float | NodeKind::Nil => seed.word(domain, node.value),
        NodeKind::Bytes => {
            let bytes = tape.bytes(node.value, node.size as usize);
            let all = bytes
                .iter()
                .fold(0, |hash, &byte| seed.mix(hash, seed.word(NodeKind::Integer as u64, u64::from(byte))));
            seed.word(NodeKind::List as u64, all)
        }
        _ => seed.bytes(domain | u64::from(node.small) << 8, tape.bytes(node.value, node.size as usize)),
    }
}

/// The hash of the nodes of a pid, port, reference, external fun or the head of a fun.
pub(crate) fn nodes_hash(tape: &Tape<'_>, from: usize, seed: Seed) -> u64 {
    tape.nodes[from..].iter().fold(0, |hash, node| {
        let own = match node.kind {
            NodeKind::Pid | NodeKind::Port => seed.mix(seed.word(node.kind as u64, node.value), u64::from(node.size)),
            NodeKind::Reference => {
                let words = seed.bytes(node.kind as u64, tape.bytes(node.value, usize::from(node.small) * 4));
                seed.mix(words, u64::from(node.size))
            }
            NodeKind::Export | NodeKind::Function => seed.word(node.kind as u64, 0),
            _ => leaf_hash(tape, *node, seed),
        };
        seed.mix(hash, own)
    })
}

/// Without zeros at the end, which are the high bytes.
pub(crate) fn trimmed(magnitude: &[u8]) -> &[u8] {
    let length = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &magnitude[..length]
}

/// The integer if 64 bits hold it.
#[inline]
pub(crate) fn small_integer(negative: bool, magnitude: &[u8]) -> Option<i64> {
    let magnitude = trimmed(magnitude);
    if magnitude.len() > 8 {
        return None;
    }
    let mut bytes = [0; 8];
    bytes[..magnitude.len()].copy_from_slice(magnitude);
    let value = u64::from_le_bytes(bytes);
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}
