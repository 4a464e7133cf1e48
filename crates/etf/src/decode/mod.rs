//! `binary_to_term`: bytes to a tape, in one pass without recursion.

mod inflate;
mod rare;

use std::borrow::Cow;

use crate::atoms;
use crate::error::{DecodeError, Reason};
use crate::hash::{Duplicates, Seed};
use crate::tag;
use crate::tape::{Frame, Node, NodeKind, Tape, leaf_hash, nodes_hash};

/// What a decoder takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What a compressed term may inflate to.
    pub inflated_bytes_max: usize,
    /// How deep containers may lie in each other. The decoder itself needs no limit.
    pub depth_max: usize,
    /// What the tape may take, and what is needed to make it, without the bytes of the term: a list of a million `[]` takes 16 million bytes, and
    /// as many tuples in each other 80 million.
    pub tape_bytes_max: usize,
}

impl Default for Limits {
    /// 256 MiB, any depth, and any tape.
    fn default() -> Self {
        Self { inflated_bytes_max: 256 << 20, depth_max: usize::MAX, tape_bytes_max: usize::MAX }
    }
}

/// Decodes the term at the beginning of `input`; what follows is ignored, as `binary_to_term/1` does: see [`Tape::used`].
pub fn decode(input: &[u8]) -> Result<Tape<'_>, DecodeError> {
    Decoder::default().decode(input)
}

/// Nodes for which a decoder keeps memory from one term to the next.
const KEPT_NODES_MAX: usize = 1 << 16;

/// Decodes terms, one after the other, and keeps what it needs in between.
#[derive(Default)]
pub struct Decoder {
    limits: Limits,
    nodes: Vec<Node>,
    extra: Vec<u8>,
    stack: Vec<Frame>,
    keys: Vec<u64>,
    duplicates: Duplicates,
}

impl Decoder {
    /// A decoder with limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Sets another limit of the tape.
    pub fn limit_tape(&mut self, tape_bytes_max: usize) {
        self.limits.tape_bytes_max = tape_bytes_max;
    }

    /// Decodes the term at the beginning of `input`.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Tape<'a>, DecodeError> {
        let fail = |offset, reason| Err(DecodeError { offset, reason, inflated: false });
        match input {
            [] => return fail(0, Reason::Truncated),
            [tag::VERSION] => return fail(1, Reason::Truncated),
            [tag::VERSION, tag::COMPRESSED, ..] => return self.compressed(input),
            [tag::VERSION, ..] => {}
            [version, ..] => return fail(0, Reason::Version(*version)),
        }
        self.plain(Cow::Borrowed(input), 1).map_err(|(offset, reason)| DecodeError { offset, reason, inflated: false })
    }

    /// Decodes a term that must be the whole input.
    pub fn decode_all<'a>(&mut self, input: &'a [u8]) -> Result<Tape<'a>, DecodeError> {
        let tape = self.decode(input)?;
        if tape.used < input.len() {
            return Err(DecodeError { offset: tape.used, reason: Reason::Trailing, inflated: false });
        }
        Ok(tape)
    }

    /// Decodes the term without a version byte that begins at `from`, which is a part of a larger one; [`Tape::used`] is then where it
    /// ends.
    pub fn decode_part<'a>(&mut self, input: &'a [u8], from: usize) -> Result<Tape<'a>, DecodeError> {
        let fail = |(offset, reason)| DecodeError { offset, reason, inflated: false };
        if from >= input.len() {
            return Err(fail((input.len(), Reason::Truncated)));
        }
        self.plain(Cow::Borrowed(input), from).map_err(fail)
    }

    /// Takes the memory of a tape that is not needed any more, so that the next decoding needs none of its own.
    pub fn reuse(&mut self, tape: Tape<'_>) {
        self.keep(tape.nodes, tape.extra);
    }

    /// What a large term took goes back: most are not large.
    fn keep(&mut self, nodes: Vec<Node>, extra: Vec<u8>) {
        if nodes.capacity() <= KEPT_NODES_MAX {
            self.nodes = nodes;
        }
        if extra.capacity() <= KEPT_NODES_MAX {
            self.extra = extra;
        }
    }

    fn compressed<'a>(&mut self, input: &'a [u8]) -> Result<Tape<'a>, DecodeError> {
        let fail = |offset, reason| DecodeError { offset, reason, inflated: false };
        let size = input.get(2..6).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
        let size = size.ok_or(fail(input.len(), Reason::Truncated))? as usize;
        let most = self.limits.inflated_bytes_max;
        if size > most {
            return Err(fail(2, Reason::InflatedTooLarge(most)));
        }
        let (inflated, taken) = inflate::inflate(&input[6..], size).map_err(|reason| fail(6, reason))?;
        let tape = self.plain(Cow::Owned(inflated), 0);
        let mut tape = tape.map_err(|(offset, reason)| DecodeError { offset, reason, inflated: true })?;
        tape.used = 6 + taken;
        Ok(tape)
    }

    fn plain<'a>(&mut self, source: Cow<'a, [u8]>, from: usize) -> Result<Tape<'a>, (usize, Reason)> {
        if u32::try_from(source.len()).is_err() {
            return Err((0, Reason::TooLarge));
        }
        let (mut nodes, mut extra) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.extra));
        nodes.clear();
        extra.clear();
        nodes.reserve((source.len() / 16 + 4).min(1 << 12));
        self.stack.clear();
        self.keys.clear();
        let mut reader = Reader {
            tape: Tape { source: Cow::Borrowed(&source), extra, nodes, used: 0 },
            input: &source,
            at: from,
            stack: &mut self.stack,
            keys: &mut self.keys,
            duplicates: &mut self.duplicates,
            seed: Seed::of_process(),
            depth_max: self.limits.depth_max,
            nodes_max: self.limits.tape_bytes_max / size_of::<Node>(),
        };
        let outcome = reader.read();
        let (used, Tape { extra, nodes, .. }) = (reader.at, reader.tape);
        match outcome {
            Ok(()) => Ok(Tape { source, extra, nodes, used }),
            Err(failure) => {
                self.keep(nodes, extra);
                Err(match failure {
                    (offset, Reason::TapeTooLarge(_)) => (offset, Reason::TapeTooLarge(self.limits.tape_bytes_max)),
                    failure => failure,
                })
            }
        }
    }
}

struct Reader<'r, 's> {
    tape: Tape<'s>,
    input: &'s [u8],
    at: usize,
    stack: &'r mut Vec<Frame>,
    keys: &'r mut Vec<u64>,
    duplicates: &'r mut Duplicates,
    seed: Seed,
    depth_max: usize,
    nodes_max: usize,
}

/// A container that is open counts as so many nodes: the memory that it takes until it ends.
const FRAME_NODES: usize = size_of::<Frame>().div_ceil(size_of::<Node>());

type Taken<T> = Result<T, (usize, Reason)>;

/// What a tag turned out to be.
enum Step {
    /// A whole term, the last on the tape.
    Whole,
    /// A container of this kind, with so many elements, and so many terms to come.
    Open(NodeKind, u32, u32),
    /// No term of its own: the tail of a list that goes on.
    Again,
    /// The tail of a proper list.
    ListEnd,
}

impl Reader<'_, '_> {
    fn read(&mut self) -> Taken<()> {
        // As if the term were in a tuple.
        let mut frame = Frame::new(0, NodeKind::Tuple, 0, 1, 0);
        loop {
            let (began, started) = (self.at, self.tape.nodes.len());
            if started > self.nodes_max {
                return Err((began, Reason::TapeTooLarge(0)));
            }
            match self.step(&mut frame, began)? {
                Step::Whole => {
                    if frame.wants_hash() {
                        let hash = self.hash_of_last(started);
                        frame.note(hash, self.keys, self.seed);
                    }
                    self.took(&mut frame);
                }
                Step::Open(kind, size, left) => {
                    if self.stack.len() >= self.depth_max {
                        return Err((began, Reason::TooDeep(self.depth_max)));
                    }
                    if started + FRAME_NODES * self.stack.len() > self.nodes_max {
                        return Err((began, Reason::TapeTooLarge(0)));
                    }
                    self.claim(left as usize, began)?;
                    let mut mode = if frame.wants_hash() { Frame::HASHING } else { 0 };
                    let mut hash = 0;
                    match kind {
                        NodeKind::Function if mode != 0 => hash = nodes_hash(&self.tape, started, self.seed),
                        NodeKind::Function => {}
                        _ => {
                            if kind == NodeKind::Map && size > 1 {
                                mode = mode.max(Frame::KEYS);
                            }
                            self.push(kind, size, 0);
                        }
                    }
                    let mut inner = Frame::new(started, kind, mode, left, self.keys.len());
                    inner.hash = hash;
                    self.stack.push(std::mem::replace(&mut frame, inner));
                }
                Step::Again => {}
                Step::ListEnd => frame.left = 0,
            }
            while frame.left == 0 {
                let Some(outer) = self.stack.pop() else { return Ok(()) };
                self.close(std::mem::replace(&mut frame, outer), &mut frame)?;
            }
        }
    }

    #[inline(always)]
    fn step(&mut self, frame: &mut Frame, began: usize) -> Taken<Step> {
        let is_tail = frame.kind == NodeKind::List && frame.left == 1;
        match self.byte()? {
            tag::SMALL_INTEGER => {
                let value = self.byte()?;
                self.push(NodeKind::Integer, 0, u64::from(value));
            }
            tag::INTEGER => {
                let value = self.word()? as i32;
                self.push(NodeKind::Integer, 0, i64::from(value) as u64);
            }
            tag @ (tag::SMALL_ATOM_UTF8 | tag::ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM) => self.atom_of(tag, began)?,
            tag::BINARY => {
                let length = self.word()?;
                self.stretch(NodeKind::Binary, length)?;
            }
            tag::NIL if is_tail => return Ok(Step::ListEnd),
            tag::NIL => self.push(NodeKind::Nil, 0, 0),
            tag::STRING => {
                let length = u32::from(self.half()?);
                match length {
                    0 if is_tail => return Ok(Step::ListEnd),
                    0 => self.push(NodeKind::Nil, 0, 0),
                    _ if is_tail => return self.tail_of_bytes(frame, length),
                    _ => self.stretch(NodeKind::Bytes, length)?,
                }
            }
            tag::NEW_FLOAT => {
                let value = self.long()?;
                self.float(f64::from_bits(value), began)?;
            }
            tag::SMALL_TUPLE => {
                let size = u32::from(self.byte()?);
                return Ok(self.container(NodeKind::Tuple, size, size));
            }
            tag::LARGE_TUPLE => {
                let size = self.word()?;
                return Ok(self.container(NodeKind::Tuple, size, size));
            }
            tag::LIST => {
                let size = self.word()?;
                self.claim(size as usize, began)?;
                match size {
                    // A list of no elements is its tail.
                    0 => {}
                    _ if is_tail => {
                        frame.left += size;
                        self.tape.nodes[frame.node].size += size;
                    }
                    _ => return Ok(Step::Open(NodeKind::List, size, size + 1)),
                }
                return Ok(Step::Again);
            }
            tag::MAP => {
                let size = self.word()?;
                self.claim(size as usize * 2, began)?;
                return Ok(self.container(NodeKind::Map, size, size * 2));
            }
            tag => return self.rare(tag, began),
        }
        Ok(Step::Whole)
    }

    /// A container that has no end of its own is whole at once if it is empty.
    #[inline(always)]
    fn container(&mut self, kind: NodeKind, size: u32, left: u32) -> Step {
        if left != 0 {
            return Step::Open(kind, size, left);
        }
        let end = self.tape.nodes.len() as u64 + 1;
        self.push(kind, 0, end);
        Step::Whole
    }

    /// One term of the frame is there.
    #[inline(always)]
    fn took(&mut self, frame: &mut Frame) {
        if frame.kind == NodeKind::List && frame.left == 1 {
            // A tail that is no list, as lists were joined.
            frame.kind = NodeKind::Improper;
            self.tape.nodes[frame.node].kind = NodeKind::Improper;
        }
        frame.left -= 1;
    }

    fn close(&mut self, frame: Frame, outer: &mut Frame) -> Taken<()> {
        let end = self.tape.nodes.len() as u64;
        let node = &mut self.tape.nodes[frame.node];
        node.value = end;
        let size = node.size;
        if frame.kind == NodeKind::Map && frame.mode != 0 && frame.has_duplicates(self.keys, self.duplicates) {
            return Err((self.at, Reason::DuplicateKey));
        }
        if outer.wants_hash() {
            let hash = frame.whole(size, self.seed);
            outer.note(hash, self.keys, self.seed);
        }
        self.took(outer);
        Ok(())
    }

    /// A list's tail is a list of bytes: they are elements.
    #[cold]
    fn tail_of_bytes(&mut self, frame: &mut Frame, length: u32) -> Taken<Step> {
        let from = self.skip(length as usize)?;
        self.tape.nodes[frame.node].size += length;
        let input = self.input;
        for &byte in &input[from..self.at] {
            let node = Node::integer(i64::from(byte));
            self.tape.nodes.push(node);
            if frame.wants_hash() {
                frame.note(leaf_hash(&self.tape, node, self.seed), self.keys, self.seed);
            }
        }
        Ok(Step::ListEnd)
    }

    fn hash_of_last(&self, started: usize) -> u64 {
        let node = self.tape.nodes[started];
        match node.kind {
            NodeKind::Tuple | NodeKind::Map => Frame::new(0, node.kind, 0, 0, 0).whole(0, self.seed),
            NodeKind::Pid | NodeKind::Port | NodeKind::Reference | NodeKind::Export => {
                nodes_hash(&self.tape, started, self.seed)
            }
            NodeKind::Function => {
                let mut frame = Frame::new(0, node.kind, 0, 0, 0);
                frame.hash = nodes_hash(&self.tape, started, self.seed);
                frame.whole(0, self.seed)
            }
            _ => leaf_hash(&self.tape, node, self.seed),
        }
    }

    #[inline(always)]
    fn atom_of(&mut self, tag: u8, began: usize) -> Taken<()> {
        let is_short = matches!(tag, tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM);
        let length = if is_short { usize::from(self.byte()?) } else { usize::from(self.half()?) };
        let from = self.skip(length)?;
        let name = &self.input[from..self.at];
        if length <= atoms::CHARACTERS_MAX && name.is_ascii() {
            self.tape.nodes.push(Node { kind: NodeKind::Atom, small: 1, size: length as u32, value: from as u64 });
            return Ok(());
        }
        self.long_atom(tag, from).map_err(|reason| (began, reason))
    }

    #[cold]
    fn long_atom(&mut self, tag: u8, from: usize) -> Result<(), Reason> {
        let name = &self.input[from..self.at];
        if matches!(tag, tag::SMALL_ATOM_UTF8 | tag::ATOM_UTF8) {
            atoms::check_utf8(name)?;
            self.tape.nodes.push(Node::atom(name, from as u64));
            return Ok(());
        }
        if name.len() > atoms::CHARACTERS_MAX {
            return Err(Reason::AtomTooLong);
        }
        let name: String = name.iter().map(|&byte| char::from(byte)).collect();
        let value = self.tape.keep(name.as_bytes());
        self.tape.nodes.push(Node::atom(name.as_bytes(), value));
        Ok(())
    }

    fn float(&mut self, value: f64, began: usize) -> Taken<()> {
        if !value.is_finite() {
            return Err((began, Reason::Float));
        }
        self.push(NodeKind::Float, 0, value.to_bits());
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, kind: NodeKind, size: u32, value: u64) {
        self.tape.nodes.push(Node::new(kind, size, value));
    }

    #[inline(always)]
    fn stretch(&mut self, kind: NodeKind, length: u32) -> Taken<()> {
        let from = self.skip(length as usize)?;
        self.push(kind, length, from as u64);
        Ok(())
    }

    /// Every term that a container claims takes a byte at least.
    #[inline(always)]
    fn claim(&self, terms: usize, began: usize) -> Taken<()> {
        if terms > self.input.len() - self.at { Err((began, Reason::Truncated)) } else { Ok(()) }
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) -> Taken<usize> {
        let from = self.at;
        if length > self.input.len() - from {
            return Err((self.input.len(), Reason::Truncated));
        }
        self.at += length;
        Ok(from)
    }

    #[inline(always)]
    fn fixed<const N: usize>(&mut self) -> Taken<[u8; N]> {
        match self.input[self.at..].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err((self.input.len(), Reason::Truncated)),
        }
    }

    #[inline(always)]
    fn byte(&mut self) -> Taken<u8> {
        let byte = *self.input.get(self.at).ok_or((self.at, Reason::Truncated))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn half(&mut self) -> Taken<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    #[inline(always)]
    fn word(&mut self) -> Taken<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    #[inline(always)]
    fn long(&mut self) -> Taken<u64> {
        self.fixed().map(u64::from_be_bytes)
    }
}
