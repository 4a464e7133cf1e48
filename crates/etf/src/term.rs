//! Views of terms on a tape.

use std::fmt;

use crate::compare;
use crate::integer::Integer;
use crate::tape::{NodeKind, Tape};
use crate::text;

/// A term on a [`Tape`].
#[derive(Clone, Copy)]
pub struct Term<'a> {
    pub(crate) tape: &'a Tape<'a>,
    pub(crate) at: usize,
}

impl Term<'_> {
    /// How many nodes it has: one for each term in it, and some more for identifiers.
    pub fn nodes(&self) -> usize {
        self.tape.next(self.at) - self.at
    }
}

/// What a term is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TermKind<'a> {
    /// An integer of any size.
    Integer(Integer<'a>),
    /// A float, finite.
    Float(f64),
    /// An atom.
    Atom(&'a str),
    /// A binary.
    Binary(&'a [u8]),
    /// A bit string that is no binary.
    Bits(Bits<'a>),
    /// `[]`.
    Nil,
    /// A list of bytes that came as such, as strings do. One of integers from 0 to 255 may also be a `List`.
    Bytes(&'a [u8]),
    /// A proper list of at least one element.
    List(Elements<'a>),
    /// A list whose tail is no list.
    ImproperList(Elements<'a>, Term<'a>),
    /// A tuple.
    Tuple(Elements<'a>),
    /// A map, its pairs in the order in which they came.
    Map(Pairs<'a>),
    /// A pid.
    Pid(Pid<'a>),
    /// A port.
    Port(Port<'a>),
    /// A reference.
    Reference(Reference<'a>),
    /// A local fun.
    Function(Function<'a>),
    /// `fun Module:Name/Arity`.
    Export {
        /// The module.
        module: &'a str,
        /// The function.
        name: &'a str,
        /// The number of its arguments.
        arity: u8,
    },
    /// What followed `LOCAL_EXT`, in the form of the node that wrote it.
    Local(&'a [u8]),
}

/// A bit string that is no binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits<'a> {
    /// The bits; those of the last byte that do not count are 0.
    pub bytes: &'a [u8],
    /// How many bits of the last byte count, the high ones: 1 to 7.
    pub last_bits: u8,
}

/// A process identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The number.
    pub id: u32,
    /// Where the number has been used before.
    pub serial: u32,
    /// Which start of the node.
    pub creation: u32,
}

/// A port identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The number.
    pub id: u64,
    /// Which start of the node.
    pub creation: u32,
}

/// A reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Which start of the node.
    pub creation: u32,
    words: &'a [u8],
}

impl Reference<'_> {
    /// The 1 to 5 words, in the order of the format.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator {
        let (words, _) = self.words.as_chunks::<4>();
        words.iter().map(|word| u32::from_be_bytes(*word))
    }
}

/// A local fun, which only its module can call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Function<'a> {
    /// The module.
    pub module: &'a str,
    /// The number of its arguments.
    pub arity: u8,
    /// MD5 of what matters of the module.
    pub unique: &'a [u8; 16],
    /// Its number in the module.
    pub index: u32,
    /// Its number as before OTP R15.
    pub old_index: i32,
    /// Hash of its code as before OTP R15.
    pub old_unique: i32,
    /// The process that made it.
    pub pid: Pid<'a>,
    /// The variables that it has with it.
    pub free: Elements<'a>,
}

impl<'a> Term<'a> {
    pub(crate) fn at(tape: &'a Tape<'a>, at: usize) -> Self {
        Self { tape, at }
    }

    /// What it is.
    pub fn kind(self) -> TermKind<'a> {
        let (tape, at) = (self.tape, self.at);
        let node = tape.node(at);
        let elements = || Elements { tape, at: at + 1, left: node.size as usize };
        let bytes = || tape.bytes(node.value, node.size as usize);
        match node.kind {
            NodeKind::Integer => TermKind::Integer(Integer::from(node.value as i64)),
            NodeKind::Big => TermKind::Integer(Integer::big(node.small != 0, bytes())),
            NodeKind::Float => TermKind::Float(f64::from_bits(node.value)),
            NodeKind::Atom => TermKind::Atom(tape.text(at)),
            NodeKind::Binary => TermKind::Binary(bytes()),
            NodeKind::Bits => TermKind::Bits(Bits { bytes: bytes(), last_bits: node.small }),
            NodeKind::Nil => TermKind::Nil,
            NodeKind::Bytes => TermKind::Bytes(bytes()),
            NodeKind::List => TermKind::List(elements()),
            NodeKind::Improper => {
                let mut rest = elements();
                rest.by_ref().for_each(drop);
                TermKind::ImproperList(elements(), Self::at(tape, rest.at))
            }
            NodeKind::Tuple => TermKind::Tuple(elements()),
            NodeKind::Map => TermKind::Map(Pairs(Elements { left: node.size as usize * 2, ..elements() })),
            NodeKind::Pid => TermKind::Pid(self.pid()),
            NodeKind::Port => TermKind::Port(Port { node: tape.text(at + 1), id: node.value, creation: node.size }),
            NodeKind::Reference => TermKind::Reference(Reference {
                node: tape.text(at + 1),
                creation: node.size,
                words: tape.bytes(node.value, usize::from(node.small) * 4),
            }),
            NodeKind::Function => TermKind::Function(self.function()),
            NodeKind::Export => TermKind::Export {
                module: tape.text(at + 1),
                name: tape.text(at + 2),
                arity: tape.node(at + 3).value as u8,
            },
            NodeKind::Local => TermKind::Local(bytes()),
        }
    }

    fn pid(self) -> Pid<'a> {
        let node = self.tape.node(self.at);
        Pid {
            node: self.tape.text(self.at + 1),
            id: node.value as u32,
            serial: (node.value >> 32) as u32,
            creation: node.size,
        }
    }

    fn function(self) -> Function<'a> {
        let (tape, at) = (self.tape, self.at);
        let head = tape.bytes(tape.node(at + 1).value, 25);
        let (unique, rest) = head[1..].split_first_chunk::<16>().expect("25 bytes are there");
        let index = rest.first_chunk::<4>().expect("25 bytes are there");
        Function {
            module: tape.text(at + 2),
            arity: head[0],
            unique,
            index: u32::from_be_bytes(*index),
            old_index: tape.node(at + 3).value as i32,
            old_unique: tape.node(at + 4).value as i32,
            pid: Self::at(tape, at + 5).pid(),
            free: Elements { tape, at: at + 7, left: tape.node(at).size as usize },
        }
    }

    /// The integer, if it is one of 64 bits.
    pub fn as_i64(self) -> Option<i64> {
        let node = self.tape.node(self.at);
        (node.kind == NodeKind::Integer).then_some(node.value as i64)
    }

    /// The atom's name.
    pub fn as_atom(self) -> Option<&'a str> {
        (self.tape.node(self.at).kind == NodeKind::Atom).then(|| self.tape.text(self.at))
    }

    /// The binary's bytes.
    pub fn as_binary(self) -> Option<&'a [u8]> {
        let node = self.tape.node(self.at);
        (node.kind == NodeKind::Binary).then(|| self.tape.bytes(node.value, node.size as usize))
    }

    /// The tuple's elements.
    pub fn as_tuple(self) -> Option<Elements<'a>> {
        let node = self.tape.node(self.at);
        let elements = Elements { tape: self.tape, at: self.at + 1, left: node.size as usize };
        (node.kind == NodeKind::Tuple).then_some(elements)
    }

    /// The value of a map for the key which is this atom, found by looking at one key after the other.
    pub fn get(self, key: &str) -> Option<Term<'a>> {
        let TermKind::Map(mut pairs) = self.kind() else { return None };
        pairs.find(|(there, _)| there.as_atom() == Some(key)).map(|(_, value)| value)
    }
}

/// Terms one after the other.
#[derive(Clone, Copy)]
pub struct Elements<'a> {
    tape: &'a Tape<'a>,
    at: usize,
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Term<'a>;

    fn next(&mut self) -> Option<Term<'a>> {
        self.left = self.left.checked_sub(1)?;
        let term = Term::at(self.tape, self.at);
        self.at = self.tape.next(self.at);
        Some(term)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}

impl PartialEq for Elements<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The pairs of a map.
#[derive(Clone, Copy)]
pub struct Pairs<'a>(Elements<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Term<'a>, Term<'a>);

    fn next(&mut self) -> Option<(Term<'a>, Term<'a>)> {
        Some((self.0.next()?, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left / 2, Some(self.0.left / 2))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

impl PartialEq for Pairs<'_> {
    fn eq(&self, other: &Self) -> bool {
        compare::sorted(*self).eq(compare::sorted(*other))
    }
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(*self).finish()
    }
}

impl PartialEq for Term<'_> {
    fn eq(&self, other: &Self) -> bool {
        compare::order(*self, *other).is_eq()
    }
}

/// As `~w` prints it.
impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(f, *self)
    }
}

impl fmt::Debug for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
