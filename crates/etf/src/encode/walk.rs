//! The walk along the nodes.
//!
//! It fills a slice, and comes back where the slice has no room for the longest head of a node with a short
//! text behind it. So there is one comparison for each node, and none for each byte; the slice grows by pieces that stay in
//! the nearest cache from when they are zeroed until they are filled.

use super::MinorVersion;
use super::rare::Rare;
use crate::compare::Sorted;
use crate::tag;
use crate::tape::{Node, NodeKind, Tape};
use crate::term::Term;

/// Bytes that every step may write without a look at what room there is.
const SLOT: usize = 32;
/// Texts of so many bytes are copied as so many, as a number that is known is copied faster.
const SHORT: usize = 16;
/// Texts of so many bytes go to where nothing has been zeroed.
const COPIED: usize = 2048;
/// Bytes by which the output grows.
const PIECE: usize = 16 << 10;

pub(super) struct Walk<'a> {
    tape: &'a Tape<'a>,
    minor: MinorVersion,
    is_sorted: bool,
    /// The maps, if they are to be sorted.
    maps: Sorted,
    at: usize,
    /// Where the next of `open` is due.
    end: usize,
    open: Vec<Open>,
    rare: Vec<u8>,
}

/// What comes behind the nodes up to `end`, and the next end.
enum Open {
    /// `[]` of a proper list.
    Nil(usize),
    /// A fun's size, which goes to this place.
    Size(usize, usize),
    /// Nodes that lie elsewhere.
    Jump(usize, usize),
}

/// Why the walk came back.
enum Stop {
    Done,
    /// So many bytes are needed.
    Room(usize),
    /// The text of the node comes next.
    Text(Node),
    /// A fun ends, whose size goes to this place.
    Size(usize),
}

impl<'a> Walk<'a> {
    pub(super) fn new(term: Term<'a>, minor: MinorVersion, is_sorted: bool) -> Self {
        let (tape, at) = (term.tape, term.at);
        let mut maps = Sorted::default();
        if is_sorted {
            maps.note(term);
        }
        Self { tape, minor, is_sorted, maps, at, end: tape.next(at), open: Vec::new(), rare: Vec::new() }
    }

    /// Writes behind what is in `bytes`.
    pub(super) fn write(mut self, bytes: &mut Vec<u8>) {
        let expected = self.expected();
        bytes.reserve(expected);
        bytes.push(tag::VERSION);
        let mut filled = bytes.len();
        let (mut piece, mut needed) = (expected.min(PIECE), SLOT);
        loop {
            let length = (filled + piece).min(bytes.capacity()).max(filled + needed);
            bytes.resize(length, 0);
            let (taken, stop) = match self.minor {
                MinorVersion::Two => self.fill::<true>(&mut bytes[filled..], filled),
                _ => self.fill::<false>(&mut bytes[filled..], filled),
            };
            filled += taken;
            match stop {
                Stop::Room(room) => (piece, needed) = (PIECE, room),
                Stop::Text(node) => {
                    bytes.truncate(filled);
                    bytes.extend_from_slice(self.tape.bytes(node.value, node.size as usize));
                    filled = bytes.len();
                    // Where there are long texts, there are few heads.
                    (piece, needed) = ((2 * taken).clamp(2 * SLOT, PIECE), SLOT);
                }
                Stop::Size(place) => {
                    needed = SLOT;
                    let size = (filled - place) as u32;
                    bytes[place..place + 4].copy_from_slice(&size.to_be_bytes());
                }
                Stop::Done => return bytes.truncate(filled),
            }
        }
    }

    /// About how many bytes it will take: what it took before, or else a guess.
    fn expected(&self) -> usize {
        let nodes = self.end - self.at;
        let texts = if nodes == self.tape.nodes.len() { self.tape.source.len() + self.tape.extra.len() } else { 0 };
        let heads = if self.tape.source.is_empty() || texts == 0 { 8 * nodes } else { 0 };
        texts + heads + 2 * SLOT
    }

    /// Fills the slice, which lies behind so many bytes, as far as it goes.
    fn fill<const UTF8: bool>(&mut self, out: &mut [u8], behind: usize) -> (usize, Stop) {
        let nodes = &self.tape.nodes[..];
        // Most tapes were decoded, and have their texts in the source; others have none.
        let texts = if self.tape.source.is_empty() { &self.tape.extra[..] } else { &self.tape.source[..] };
        let total = out.len();
        let mut rest = out;
        let mut segment = nodes[self.at..self.end].iter();
        let stop = loop {
            let Some(slot) = rest.first_chunk_mut::<SLOT>() else {
                self.at = self.end - segment.len();
                break Stop::Room(SLOT);
            };
            let Some(node) = segment.next() else {
                match self.ends() {
                    Ok(nil) => {
                        slot[0] = tag::NIL;
                        rest = &mut std::mem::take(&mut rest)[usize::from(nil)..];
                    }
                    Err(stop) => break stop,
                }
                segment = nodes[self.at..self.end].iter();
                continue;
            };
            let length = match node.kind {
                NodeKind::Integer => integer(slot, node.value as i64),
                NodeKind::Atom if node.small != 0 && UTF8 => {
                    [slot[0], slot[1]] = [tag::SMALL_ATOM_UTF8, node.size as u8];
                    short(slot, 2, texts, node)
                }
                NodeKind::Atom if node.small != 0 => {
                    [slot[0], slot[1], slot[2]] = [tag::ATOM, 0, node.size as u8];
                    short(slot, 3, texts, node)
                }
                NodeKind::Binary => {
                    head(slot, tag::BINARY, node.size);
                    short(slot, 5, texts, node)
                }
                NodeKind::Tuple => tuple(slot, node.size),
                NodeKind::Float if UTF8 || self.minor != MinorVersion::Zero => {
                    slot[0] = tag::NEW_FLOAT;
                    slot[1..9].copy_from_slice(&node.value.to_be_bytes());
                    9
                }
                NodeKind::Map if !self.is_sorted => head(slot, tag::MAP, node.size),
                NodeKind::List if !segment.as_slice().first().is_some_and(is_byte) => {
                    let length = head(slot, tag::LIST, node.size);
                    rest = &mut std::mem::take(&mut rest)[length..];
                    let at = self.end - segment.len();
                    self.open.push(Open::Nil(self.end));
                    self.end = node.value as usize;
                    segment = nodes[at..self.end].iter();
                    continue;
                }
                NodeKind::Improper => head(slot, tag::LIST, node.size),
                NodeKind::Nil => {
                    slot[0] = tag::NIL;
                    1
                }
                _ => 0,
            };
            if length != 0 {
                rest = &mut std::mem::take(&mut rest)[length..];
                continue;
            }
            self.at = self.end - segment.len() - 1;
            let filled = behind + total - rest.len();
            match self.other(rest, filled) {
                Ok(length) => rest = &mut std::mem::take(&mut rest)[length..],
                Err((length, stop)) => {
                    rest = &mut std::mem::take(&mut rest)[length..];
                    break stop;
                }
            }
            segment = nodes[self.at..self.end].iter();
        };
        (total - rest.len(), stop)
    }

    /// What comes behind the nodes up to the end: whether it is `[]`, or why the walk comes back.
    fn ends(&mut self) -> Result<bool, Stop> {
        self.at = self.end;
        match self.open.pop() {
            Some(Open::Nil(outer)) => {
                self.end = outer;
                Ok(true)
            }
            Some(Open::Jump(from, to)) => {
                (self.at, self.end) = (from, to);
                Ok(false)
            }
            Some(Open::Size(place, outer)) => {
                self.end = outer;
                Err(Stop::Size(place))
            }
            None => Err(Stop::Done),
        }
    }

    /// What takes more than a slot, or more thought, behind so many bytes: how many bytes it took, and why it comes back.
    #[inline(never)]
    fn other(&mut self, room: &mut [u8], filled: usize) -> Result<usize, (usize, Stop)> {
        let node = self.tape.node(self.at);
        let slot = room.first_chunk_mut().ok_or((0, Stop::Room(SLOT)))?;
        match node.kind {
            NodeKind::Binary => {
                let length = head(slot, tag::BINARY, node.size);
                self.text(room, length, node)
            }
            NodeKind::Bytes if node.size <= u32::from(u16::MAX) => {
                let length = head(slot, tag::STRING, node.size << 16) - 2;
                self.text(room, length, node)
            }
            NodeKind::Atom if node.small != 0 => {
                let length = match self.minor {
                    MinorVersion::Two => head(slot, tag::SMALL_ATOM_UTF8, node.size << 24) - 3,
                    _ => head(slot, tag::ATOM, node.size << 16) - 2,
                };
                self.text(room, length, node)
            }
            NodeKind::Map => {
                if node.size > 1 {
                    self.open.push(Open::Jump(node.value as usize, self.end));
                    self.sorted();
                } else {
                    self.at += 1;
                }
                Ok(head(slot, tag::MAP, node.size))
            }
            NodeKind::List => {
                let elements = self.at + 1..self.at + 1 + node.size as usize;
                let Some(elements) = self.tape.nodes.get(elements).filter(|elements| is_string(elements)) else {
                    self.open.push(Open::Nil(self.end));
                    (self.at, self.end) = (self.at + 1, node.value as usize);
                    return Ok(head(slot, tag::LIST, node.size));
                };
                let length = 3 + elements.len();
                head(slot, tag::STRING, node.size << 16);
                let room = room.get_mut(3..length).ok_or((0, Stop::Room(length)))?;
                room.iter_mut().zip(elements).for_each(|(byte, node)| *byte = node.value as u8);
                self.at = node.value as usize;
                Ok(length)
            }
            kind => {
                self.rare.clear();
                let next = Rare { tape: self.tape, minor: self.minor, bytes: &mut self.rare }.node(self.at);
                let length = self.rare.len();
                room.get_mut(..length).ok_or((0, Stop::Room(length)))?.copy_from_slice(&self.rare);
                self.at = next;
                if kind == NodeKind::Function {
                    self.open.push(Open::Size(filled + 1, self.end));
                    self.end = node.value as usize;
                }
                Ok(length)
            }
        }
    }

    /// The text behind a head that has been written.
    fn text(&mut self, room: &mut [u8], head: usize, node: Node) -> Result<usize, (usize, Stop)> {
        self.at += 1;
        let length = node.size as usize;
        match room[head..].get_mut(..length).filter(|_| length < COPIED) {
            Some(room) => room.copy_from_slice(self.tape.bytes(node.value, length)),
            None => return Err((head, Stop::Text(node))),
        }
        Ok(head + length)
    }

    /// Goes to a map's first pair in the order of keys, and puts down where the others are.
    fn sorted(&mut self) {
        let pairs = self.maps.pairs(Term::at(self.tape, self.at));
        self.open.extend(pairs.iter().rev().map(|(key, value)| Open::Jump(key.at, self.tape.next(value.at))));
        if let Some(Open::Jump(at, end)) = self.open.pop() {
            (self.at, self.end) = (at, end);
        }
    }
}

/// Copies a short text behind so many bytes of the slot, and what follows it, which is written over; gives how much of the slot is taken,
/// or 0 if the text is longer or too near to the end of all texts.
#[inline(always)]
fn short(slot: &mut [u8; SLOT], head: usize, texts: &[u8], node: &Node) -> usize {
    match texts.get(node.value as usize..).and_then(|rest| rest.first_chunk::<SHORT>()) {
        Some(text) if node.size as usize <= SHORT => {
            slot[head..head + SHORT].copy_from_slice(text);
            head + node.size as usize
        }
        _ => 0,
    }
}

#[inline(always)]
fn head(slot: &mut [u8; SLOT], tag: u8, size: u32) -> usize {
    slot[0] = tag;
    slot[1..5].copy_from_slice(&size.to_be_bytes());
    5
}

#[inline(always)]
fn tuple(slot: &mut [u8; SLOT], size: u32) -> usize {
    match u8::try_from(size) {
        Ok(size) => {
            [slot[0], slot[1]] = [tag::SMALL_TUPLE, size];
            2
        }
        Err(_) => head(slot, tag::LARGE_TUPLE, size),
    }
}

#[inline(always)]
fn integer(slot: &mut [u8; SLOT], value: i64) -> usize {
    if let Ok(value) = u8::try_from(value) {
        [slot[0], slot[1]] = [tag::SMALL_INTEGER, value];
        2
    } else if let Ok(value) = i32::try_from(value) {
        head(slot, tag::INTEGER, value as u32)
    } else {
        let magnitude = value.unsigned_abs();
        let length = 8 - magnitude.leading_zeros() as usize / 8;
        [slot[0], slot[1], slot[2]] = [tag::SMALL_BIG, length as u8, u8::from(value < 0)];
        slot[3..11].copy_from_slice(&magnitude.to_le_bytes());
        3 + length
    }
}

fn is_byte(node: &Node) -> bool {
    node.kind == NodeKind::Integer && node.value < 256
}

/// Whether a list is one of at most 65 535 bytes.
fn is_string(elements: &[Node]) -> bool {
    elements.len() <= usize::from(u16::MAX) && elements.iter().all(is_byte)
}
