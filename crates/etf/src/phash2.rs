//! `erlang:phash2/1`: the hash that does not depend on the node, by which DETS places keys.

use crate::term::{Elements, Pairs, Term, TermKind};

/// What the constants of all kinds are multiples of.
const GOLDEN: u32 = 0x9e37_79b9;
/// `phash2/1` gives 27 bits.
const MASK: u32 = (1 << 27) - 1;
/// The hash of `[]` where nothing came before it, and what stands for it elsewhere.
const NIL_ALONE: u32 = 3_468_870_702;
const NIL: u32 = 2;

impl Term<'_> {
    /// As `erlang:phash2/1`: 0 to 2^27-1, for equal terms the same. What followed `LOCAL_EXT` has none, as only its own node knows
    /// what it is.
    pub fn phash2(self) -> Option<u32> {
        let mut state = State { hash: 0, pairs: 0 };
        let mut next = vec![Next::Term(self)];
        while let Some(step) = next.pop() {
            match step {
                Next::Term(term) => state.term(term, &mut next)?,
                Next::Elements(mut elements) => {
                    if let Some(term) = elements.next() {
                        next.push(Next::Elements(elements));
                        state.term(term, &mut next)?;
                    }
                }
                Next::List(elements, tail) => state.list(elements, tail, &mut next),
                Next::Pairs { mut left, before } => match left.next() {
                    Some((key, value)) => {
                        next.extend([Next::Pairs { left, before }, Next::PairEnds, Next::Term(value), Next::Term(key)]);
                    }
                    None => {
                        let pairs = std::mem::replace(&mut state.pairs, before.pairs);
                        state.hash = before.hash;
                        state.word(pairs, 19);
                    }
                },
                Next::PairEnds => {
                    // The order of pairs must not matter.
                    state.pairs ^= state.hash;
                    state.hash = 0;
                }
            }
        }
        Some(state.hash & MASK)
    }
}

/// What is still to be hashed.
enum Next<'a> {
    Term(Term<'a>),
    Elements(Elements<'a>),
    List(Elements<'a>, Option<Term<'a>>),
    Pairs { left: Pairs<'a>, before: State },
    PairEnds,
}

#[derive(Clone, Copy)]
struct State {
    hash: u32,
    /// Of the innermost map: the hashes of its pairs.
    pairs: u32,
}

impl State {
    fn term<'a>(&mut self, term: Term<'a>, next: &mut Vec<Next<'a>>) -> Option<()> {
        match term.kind() {
            TermKind::Integer(integer) => match integer.to_i64() {
                Some(value) if (-(1 << 27)..1 << 27).contains(&value) => self.small(value as i32),
                Some(value) => self.large(value < 0, &value.unsigned_abs().to_le_bytes()),
                None => self.large(integer.is_negative(), integer.magnitude().unwrap_or_default()),
            },
            TermKind::Float(value) => {
                // 0.0 and -0.0 are equal.
                let bits = if value == 0.0 { 0 } else { value.to_bits() };
                self.words((bits >> 32) as u32, bits as u32, 12);
            }
            TermKind::Atom(name) if self.hash == 0 => self.hash = atom(name),
            TermKind::Atom(name) => self.word(atom(name), 3),
            TermKind::Binary(bytes) => self.binary(bytes, None),
            TermKind::Bits(bits) => {
                let (last, whole) = bits.bytes.split_last()?;
                self.binary(whole, Some((u32::from(bits.last_bits), u32::from(last >> (8 - bits.last_bits)))));
            }
            TermKind::Nil => self.nil(),
            TermKind::Bytes(bytes) => {
                for four in bytes.chunks(4) {
                    self.word(four.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)), 4);
                }
                self.nil();
            }
            TermKind::List(elements) => self.list(elements, None, next),
            TermKind::ImproperList(elements, tail) => self.list(elements, Some(tail), next),
            TermKind::Tuple(elements) => {
                self.word(elements.len() as u32, 9);
                next.push(Next::Elements(elements));
            }
            TermKind::Map(pairs) => {
                self.word(pairs.len() as u32, 16);
                if pairs.len() > 0 {
                    next.push(Next::Pairs { left: pairs, before: *self });
                    *self = Self { hash: 0, pairs: 0 };
                }
            }
            TermKind::Pid(pid) => self.word(pid.id, 5),
            TermKind::Port(port) => self.words(port.id as u32, (port.id >> 32) as u32, 6),
            TermKind::Reference(reference) => self.word(reference.words().next()?, 7),
            TermKind::Function(function) => {
                self.words(function.free.len() as u32, atom(function.module), 1);
                self.words(function.index, function.old_unique as u32, 1);
                next.push(Next::Elements(function.free));
            }
            TermKind::Export { module, name, arity } => {
                self.words(u32::from(arity), atom(module), 1);
                self.word(atom(name), 14);
            }
            TermKind::Local(_) => return None,
        }
        Some(())
    }

    /// Elements that are bytes come four at a time, as those of strings.
    fn list<'a>(&mut self, mut elements: Elements<'a>, tail: Option<Term<'a>>, next: &mut Vec<Next<'a>>) {
        let (mut word, mut count) = (0u32, 0);
        let other = loop {
            let Some(element) = elements.next() else { break None };
            let Some(byte) = element.as_i64().and_then(|value| u8::try_from(value).ok()) else { break Some(element) };
            word = word << 8 | u32::from(byte);
            count += 1;
            if count == 4 {
                self.word(word, 4);
                (word, count) = (0, 0);
            }
        };
        if count > 0 {
            self.word(word, 4);
        }
        match (other, tail) {
            (Some(element), _) => next.extend([Next::List(elements, tail), Next::Term(element)]),
            (None, Some(tail)) => next.push(Next::Term(tail)),
            (None, None) => self.nil(),
        }
    }

    fn nil(&mut self) {
        if self.hash == 0 {
            self.hash = NIL_ALONE;
        } else {
            self.word(NIL, 2);
        }
    }

    fn small(&mut self, value: i32) {
        if value < 0 {
            self.word(value.unsigned_abs(), 1);
        }
        self.word(value as u32, 1);
    }

    /// The magnitude in words of 64 bits.
    fn large(&mut self, negative: bool, magnitude: &[u8]) {
        for chunk in magnitude.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            let digit = u64::from_le_bytes(bytes);
            self.words(digit as u32, (digit >> 32) as u32, if negative { 10 } else { 11 });
        }
    }

    fn binary(&mut self, bytes: &[u8], bits: Option<(u32, u32)>) {
        let start = self.hash.wrapping_add(GOLDEN.wrapping_mul(13));
        if bytes.is_empty() && bits.is_none() {
            self.hash = start;
            return;
        }
        self.hash = block(bytes, start);
        if let Some((count, value)) = bits {
            self.words(count, value, 15);
        }
    }

    fn word(&mut self, word: u32, times: u32) {
        self.words(word, 0, times);
    }

    fn words(&mut self, first: u32, second: u32, times: u32) {
        let constant = GOLDEN.wrapping_mul(times);
        let (_, _, hash) = mix(constant.wrapping_add(first), constant.wrapping_add(second), self.hash);
        self.hash = hash;
    }
}

/// Bob Jenkins' mix of three words (1996).
fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for (first, second, third) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> first);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << second);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> third);
    }
    (a, b, c)
}

/// His hash of bytes, by words that are little endian; the lowest byte of the last word has the length.
fn block(bytes: &[u8], start: u32) -> u32 {
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, start);
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        a = a.wrapping_add(little(&chunk[..4]));
        b = b.wrapping_add(little(&chunk[4..8]));
        c = c.wrapping_add(little(&chunk[8..]));
        (a, b, c) = mix(a, b, c);
    }
    let rest = chunks.remainder();
    c = c.wrapping_add(bytes.len() as u32);
    let part = |from: usize| &rest[from.min(rest.len())..(from + 4).min(rest.len())];
    a = a.wrapping_add(little(part(0)));
    b = b.wrapping_add(little(part(4)));
    c = c.wrapping_add(little(part(8)) << 8);
    mix(a, b, c).2
}

/// P. J. Weinberger's hash of the characters, those of Latin-1 as one byte each.
fn atom(name: &str) -> u32 {
    let mut hash = 0u32;
    let mut take = |value: u32| {
        hash = (hash << 4).wrapping_add(value);
        let high = hash & 0xf000_0000;
        hash = (hash ^ (high >> 24)) & !high;
    };
    for character in name.chars() {
        if u32::from(character) < 256 {
            take(u32::from(character));
        } else {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| take(u32::from(byte)));
        }
    }
    hash
}
