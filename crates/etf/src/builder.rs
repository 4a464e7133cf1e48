//! Tapes that are made without bytes.

use std::borrow::Cow;

use crate::atoms;
use crate::error::Reason;
use crate::hash::{Duplicates, Seed};
use crate::integer::Integer;
use crate::tape::{Frame, Node, NodeKind, Tape, leaf_hash, nodes_hash, small_integer, trimmed};
use crate::term::Pid;

/// Why a [`Builder`] took something not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What no bytes could say either.
    #[error("{0}")]
    Reason(#[from] Reason),
    /// A list's tail was a list; its elements belong to the list.
    #[error("a tail that is a list")]
    Tail,
    /// There is no container to end, or a map has a key without a value, or not all was ended, or nothing was built.
    #[error("a container that does not end as it should")]
    Unbalanced,
    /// Tapes hold less than 4 GiB.
    #[error("more than 4 GiB")]
    TooLarge,
}

/// What a local fun is but for its variables.
pub(crate) struct FunctionHead<'a> {
    pub(crate) module: &'a str,
    pub(crate) arity: u8,
    pub(crate) unique: [u8; 16],
    pub(crate) index: u32,
    pub(crate) old_index: i32,
    pub(crate) old_unique: i32,
    pub(crate) pid: Pid<'a>,
}

/// Builds a tape term by term, containers from `begin_…` to `end`.
///
/// ```
/// # use magpie_etf::Builder;
/// let mut builder = Builder::new();
/// builder.begin_tuple();
/// builder.atom("ok")?;
/// builder.integer(42);
/// builder.end()?;
/// assert_eq!(builder.finish()?.root().to_string(), "{ok,42}");
/// # Ok::<(), magpie_etf::BuildError>(())
/// ```
pub struct Builder {
    tape: Tape<'static>,
    open: Vec<Frame>,
    keys: Vec<u64>,
    duplicates: Duplicates,
    seed: Seed,
    /// Where the last term that is whole begins.
    last: usize,
    whole: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            tape: Tape { source: Cow::Borrowed(&[]), extra: Vec::new(), nodes: Vec::new(), used: 0 },
            open: Vec::new(),
            keys: Vec::new(),
            duplicates: Duplicates::default(),
            seed: Seed::of_process(),
            last: 0,
            whole: 0,
        }
    }

    /// How many bytes of memory it takes by now.
    pub fn memory(&self) -> usize {
        let open = self.open.len() * size_of::<Frame>() + self.keys.len() * size_of::<u64>();
        self.tape.memory() + open
    }

    /// The tape, which must have one whole term.
    pub fn finish(self) -> Result<Tape<'static>, BuildError> {
        if !self.open.is_empty() || self.whole != 1 {
            return Err(BuildError::Unbalanced);
        }
        if u32::try_from(self.tape.extra.len()).is_err() || u32::try_from(self.tape.nodes.len()).is_err() {
            return Err(BuildError::TooLarge);
        }
        Ok(self.tape)
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.leaf(Node::integer(value));
    }

    /// An integer of any size, of another tape.
    pub fn any_integer(&mut self, value: Integer<'_>) {
        match value.parts() {
            Ok(value) => self.integer(value),
            Err((negative, magnitude)) => self.big(negative, magnitude),
        }
    }

    /// An integer of any size, as its magnitude, little endian.
    pub fn big(&mut self, negative: bool, magnitude: &[u8]) {
        let node = match small_integer(negative, magnitude) {
            Some(value) => Node::integer(value),
            None => {
                let magnitude = trimmed(magnitude);
                let value = self.tape.keep(magnitude);
                Node { kind: NodeKind::Big, small: u8::from(negative), size: magnitude.len() as u32, value }
            }
        };
        self.leaf(node);
    }

    /// A float, which must be finite.
    pub fn float(&mut self, value: f64) -> Result<(), BuildError> {
        if !value.is_finite() {
            return Err(Reason::Float.into());
        }
        self.leaf(Node::new(NodeKind::Float, 0, value.to_bits()));
        Ok(())
    }

    /// An atom of at most 255 characters.
    pub fn atom(&mut self, name: &str) -> Result<(), BuildError> {
        atoms::check(name)?;
        let value = self.tape.keep(name.as_bytes());
        self.leaf(Node::atom(name.as_bytes(), value));
        Ok(())
    }

    /// A binary.
    pub fn binary(&mut self, bytes: &[u8]) {
        self.stored(NodeKind::Binary, bytes);
    }

    /// A bit string, whose last byte has `last_bits` bits, the high ones.
    pub fn bits(&mut self, bytes: &[u8], last_bits: u8) -> Result<(), BuildError> {
        let Some((last, rest)) = bytes.split_last().filter(|_| (1..=8).contains(&last_bits)) else {
            return Err(Reason::Bits.into());
        };
        if last_bits == 8 {
            self.binary(bytes);
            return Ok(());
        }
        let value = self.tape.keep(rest);
        self.tape.extra.push(last & !(0xff >> last_bits));
        self.leaf(Node { kind: NodeKind::Bits, small: last_bits, size: bytes.len() as u32, value });
        Ok(())
    }

    /// A list of bytes, as Erlang has strings.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.leaf(Node::new(NodeKind::Nil, 0, 0));
        } else {
            self.stored(NodeKind::Bytes, bytes);
        }
    }

    /// A pid.
    pub fn pid(&mut self, node: &str, id: u32, serial: u32, creation: u32) -> Result<(), BuildError> {
        let value = u64::from(serial) << 32 | u64::from(id);
        self.named(Node::new(NodeKind::Pid, creation, value), node)
    }

    /// A port.
    pub fn port(&mut self, node: &str, id: u64, creation: u32) -> Result<(), BuildError> {
        self.named(Node::new(NodeKind::Port, creation, id), node)
    }

    /// A reference of 1 to 5 words.
    pub fn reference(&mut self, node: &str, creation: u32, words: &[u32]) -> Result<(), BuildError> {
        if !(1..=5).contains(&words.len()) {
            return Err(Reason::ReferenceWords.into());
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let value = self.tape.keep(&bytes);
        self.named(Node { kind: NodeKind::Reference, small: words.len() as u8, size: creation, value }, node)
    }

    /// `fun Module:Name/Arity`.
    pub fn export(&mut self, module: &str, name: &str, arity: u8) -> Result<(), BuildError> {
        atoms::check(module)?;
        atoms::check(name)?;
        let at = self.tape.nodes.len();
        self.tape.nodes.push(Node::new(NodeKind::Export, 0, 0));
        self.push_name(module);
        self.push_name(name);
        self.tape.nodes.push(Node::integer(i64::from(arity)));
        let hash = self.nodes_hash(at);
        self.finished(at, hash);
        Ok(())
    }

    /// What [`TermKind::Local`](crate::TermKind) holds; it can only be the whole term.
    pub fn local(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        if !self.open.is_empty() {
            return Err(Reason::Tag(crate::tag::LOCAL).into());
        }
        self.stored(NodeKind::Local, bytes);
        Ok(())
    }

    /// A tuple begins.
    pub fn begin_tuple(&mut self) {
        self.begin(NodeKind::Tuple);
    }

    /// A list begins.
    pub fn begin_list(&mut self) {
        self.begin(NodeKind::List);
    }

    /// A map begins; keys and values come in turns.
    pub fn begin_map(&mut self) {
        self.begin(NodeKind::Map);
    }

    /// A local fun begins, of which all but the variables is known: they follow.
    pub(crate) fn begin_function(&mut self, head: &FunctionHead<'_>) -> Result<(), BuildError> {
        atoms::check(head.module)?;
        atoms::check(head.pid.node)?;
        let mut bytes = [0; 25];
        bytes[0] = head.arity;
        bytes[1..17].copy_from_slice(&head.unique);
        bytes[17..21].copy_from_slice(&head.index.to_be_bytes());
        let at = self.tape.nodes.len();
        self.begin(NodeKind::Function);
        let value = self.tape.keep(&bytes);
        self.tape.nodes.push(Node::new(NodeKind::Binary, 25, value));
        self.push_name(head.module);
        self.tape.nodes.push(Node::integer(i64::from(head.old_index)));
        self.tape.nodes.push(Node::integer(i64::from(head.old_unique)));
        let value = u64::from(head.pid.serial) << 32 | u64::from(head.pid.id);
        self.tape.nodes.push(Node::new(NodeKind::Pid, head.pid.creation, value));
        self.push_name(head.pid.node);
        let hash = self.nodes_hash(at);
        if let Some(frame) = self.open.last_mut() {
            frame.hash = hash;
        }
        Ok(())
    }

    /// The innermost container ends.
    pub fn end(&mut self) -> Result<(), BuildError> {
        let frame = self.open.pop().ok_or(BuildError::Unbalanced)?;
        let end = self.tape.nodes.len();
        if frame.kind == NodeKind::List && frame.left == 0 {
            self.tape.nodes[frame.node] = Node::new(NodeKind::Nil, 0, 0);
            let hash = leaf_hash(&self.tape, self.tape.nodes[frame.node], self.seed);
            self.finished(frame.node, hash);
            return Ok(());
        }
        let size = match frame.kind {
            NodeKind::Map if frame.left % 2 != 0 => return Err(BuildError::Unbalanced),
            NodeKind::Map => frame.left / 2,
            _ => frame.left,
        };
        if frame.kind == NodeKind::Map && frame.has_duplicates(&mut self.keys, &mut self.duplicates) {
            return Err(Reason::DuplicateKey.into());
        }
        if frame.kind == NodeKind::Function {
            let count = self.tape.node(frame.node + 1).value as usize + 21;
            self.tape.extra[count..count + 4].copy_from_slice(&size.to_be_bytes());
        }
        let node = &mut self.tape.nodes[frame.node];
        (node.size, node.value) = (size, end as u64);
        let hash = frame.whole(size, self.seed);
        self.finished(frame.node, hash);
        Ok(())
    }

    /// The innermost list ends, and the last term is its tail, which must be no list.
    pub fn end_with_tail(&mut self) -> Result<(), BuildError> {
        let frame = self.open.last_mut().filter(|frame| frame.kind == NodeKind::List && frame.left >= 2);
        let frame = frame.ok_or(BuildError::Unbalanced)?;
        if matches!(
            self.tape.nodes[self.last].kind,
            NodeKind::Nil | NodeKind::Bytes | NodeKind::List | NodeKind::Improper
        ) {
            return Err(BuildError::Tail);
        }
        frame.left -= 1;
        frame.kind = NodeKind::Improper;
        self.tape.nodes[frame.node].kind = NodeKind::Improper;
        self.end()
    }

    fn begin(&mut self, kind: NodeKind) {
        let at = self.tape.nodes.len();
        self.tape.nodes.push(Node::new(kind, 0, at as u64 + 1));
        self.open.push(Frame::new(at, kind, Frame::HASHING, 0, self.keys.len()));
    }

    fn stored(&mut self, kind: NodeKind, bytes: &[u8]) {
        let value = self.tape.keep(bytes);
        self.leaf(Node::new(kind, bytes.len() as u32, value));
    }

    fn leaf(&mut self, node: Node) {
        let at = self.tape.nodes.len();
        self.tape.nodes.push(node);
        let hash = leaf_hash(&self.tape, node, self.seed);
        self.finished(at, hash);
    }

    fn named(&mut self, node: Node, name: &str) -> Result<(), BuildError> {
        atoms::check(name)?;
        let at = self.tape.nodes.len();
        self.tape.nodes.push(node);
        self.push_name(name);
        let hash = self.nodes_hash(at);
        self.finished(at, hash);
        Ok(())
    }

    fn push_name(&mut self, name: &str) {
        let value = self.tape.keep(name.as_bytes());
        self.tape.nodes.push(Node::atom(name.as_bytes(), value));
    }

    fn nodes_hash(&self, from: usize) -> u64 {
        nodes_hash(&self.tape, from, self.seed)
    }

    fn finished(&mut self, at: usize, hash: u64) {
        self.last = at;
        match self.open.last_mut() {
            Some(frame) => {
                frame.note(hash, &mut self.keys, self.seed);
                frame.left += 1;
            }
            None => self.whole += 1,
        }
    }
}
