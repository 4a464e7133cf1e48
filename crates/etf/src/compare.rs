//! Erlang's order of terms, as it is for the keys of maps: an integer is never equal to a float, and less than any.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::tape::NodeKind;
use crate::term::{Elements, Pairs, Term, TermKind};

/// Two terms that are still to be compared, or the sum of two lists.
enum Next<'a> {
    Pair(Term<'a>, Term<'a>),
    Decided(Ordering),
}

/// Compares without recursion. Only the first difference is looked for.
pub(crate) fn order<'a>(a: Term<'a>, b: Term<'a>) -> Ordering {
    let mut sorted = Sorted::default();
    if rank(a) == rank(b) {
        sorted.note(a);
        sorted.note(b);
    }
    sorted.order(a, b)
}

/// A map's pairs by their keys.
pub(crate) fn sorted<'a>(pairs: Pairs<'a>) -> impl Iterator<Item = (Term<'a>, Term<'a>)> {
    let mut sorted = Sorted::default();
    let mut all: Vec<(Term<'a>, Term<'a>)> = pairs.collect();
    all.iter().for_each(|(key, _)| sorted.note(*key));
    all.sort_by(|(a, _), (b, _)| sorted.order(*a, *b));
    all.into_iter()
}

/// The order of the keys of maps, by tape and node. Maps can be keys of maps: those that lie behind are sorted before, so that none is sorted
/// twice, and nothing recurs.
#[derive(Default)]
pub(crate) struct Sorted(HashMap<(usize, usize), Box<[usize]>>);

impl Sorted {
    /// Sorts all maps of a term.
    pub(crate) fn note(&mut self, term: Term<'_>) {
        for at in (term.at..term.at + term.nodes()).rev() {
            let map = Term { at, ..term };
            if let TermKind::Map(pairs) = map.kind()
                && pairs.len() > 1
            {
                let mut keys: Box<[usize]> = pairs.map(|(key, _)| key.at).collect();
                keys.sort_by(|a, b| self.order(Term { at: *a, ..term }, Term { at: *b, ..term }));
                self.0.insert(place(map), keys);
            }
        }
    }

    /// The pairs of a map that was noted, by their keys.
    pub(crate) fn pairs<'a>(&self, map: Term<'a>) -> Vec<(Term<'a>, Term<'a>)> {
        let at = |at| Term { at, ..map };
        match (self.0.get(&place(map)), map.kind()) {
            (Some(keys), _) => keys.iter().map(|key| (at(*key), at(map.tape.next(*key)))).collect(),
            (None, TermKind::Map(pairs)) => pairs.collect(),
            (None, _) => Vec::new(),
        }
    }

    /// The order of terms that were noted.
    fn order<'a>(&self, a: Term<'a>, b: Term<'a>) -> Ordering {
        let mut next = vec![Next::Pair(a, b)];
        while let Some(step) = next.pop() {
            let found = match step {
                Next::Decided(order) => order,
                Next::Pair(a, b) => one(a, b, &mut next, self),
            };
            if found.is_ne() {
                return found;
            }
        }
        Ordering::Equal
    }
}

fn place(term: Term<'_>) -> (usize, usize) {
    (std::ptr::from_ref(term.tape).addr(), term.at)
}

fn rank(term: Term<'_>) -> NodeKind {
    match term.tape.node(term.at).kind {
        NodeKind::Big => NodeKind::Integer,
        NodeKind::Bytes | NodeKind::Improper => NodeKind::List,
        NodeKind::Bits => NodeKind::Binary,
        kind => kind,
    }
}

fn one<'a>(a: Term<'a>, b: Term<'a>, next: &mut Vec<Next<'a>>, sorted: &Sorted) -> Ordering {
    use TermKind as K;
    match (a.kind(), b.kind()) {
        (K::Integer(a), K::Integer(b)) => a.order(b),
        (K::Float(a), K::Float(b)) => a.partial_cmp(&b).expect("floats are finite"),
        (K::Atom(a), K::Atom(b)) => a.cmp(b),
        (K::Binary(a), K::Binary(b)) | (K::Local(a), K::Local(b)) => a.cmp(b),
        (K::Binary(_) | K::Bits(_), K::Binary(_) | K::Bits(_)) => bits(a).cmp(bits(b)),
        (K::Tuple(a), K::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| all(a, b, next, sorted)),
        (K::Map(x), K::Map(y)) => x.len().cmp(&y.len()).then_with(|| maps(a, b, next, sorted)),
        (K::Bytes(a), K::Bytes(b)) => a.cmp(b),
        (K::Bytes(_) | K::List(_) | K::ImproperList(..), K::Bytes(_) | K::List(_) | K::ImproperList(..)) => {
            lists(a, b, next, sorted)
        }
        (K::Pid(a), K::Pid(b)) => (a.serial, a.id, a.node, a.creation).cmp(&(b.serial, b.id, b.node, b.creation)),
        (K::Port(a), K::Port(b)) => (a.node, a.creation, a.id).cmp(&(b.node, b.creation, b.id)),
        (K::Reference(a), K::Reference(b)) => {
            let named = (a.node, a.creation).cmp(&(b.node, b.creation));
            named.then_with(|| a.words().len().cmp(&b.words().len())).then_with(|| a.words().rev().cmp(b.words().rev()))
        }
        (K::Function(a), K::Function(b)) => {
            let key = |f: &crate::Function<'a>| (f.module, f.old_index, f.old_unique, f.arity, f.index, f.free.len());
            key(&a).cmp(&key(&b)).then_with(|| a.unique.cmp(b.unique)).then_with(|| all(a.free, b.free, next, sorted))
        }
        (K::Export { module, name, arity }, K::Export { module: m, name: n, arity: a }) => {
            (module, name, arity).cmp(&(m, n, a))
        }
        _ => kinds(a, b),
    }
}

fn kinds(a: Term<'_>, b: Term<'_>) -> Ordering {
    rank(a).cmp(&rank(b))
}

/// The elements in turns, of which there are as many on both sides.
fn all<'a>(a: Elements<'a>, b: Elements<'a>, next: &mut Vec<Next<'a>>, sorted: &Sorted) -> Ordering {
    let from = next.len();
    for (a, b) in a.zip(b) {
        // What is decided at once needs no place.
        if !is_container(a) || !is_container(b) {
            let found = one(a, b, next, sorted);
            if found.is_ne() {
                next.push(Next::Decided(found));
                break;
            }
        } else {
            next.push(Next::Pair(a, b));
        }
    }
    next[from..].reverse();
    Ordering::Equal
}

fn is_container(term: Term<'_>) -> bool {
    use NodeKind as N;
    matches!(term.tape.node(term.at).kind, N::Tuple | N::Map | N::List | N::Improper | N::Bytes | N::Function)
}

/// All keys come before all values.
fn maps<'a>(a: Term<'a>, b: Term<'a>, next: &mut Vec<Next<'a>>, sorted: &Sorted) -> Ordering {
    let pairs: Vec<_> = sorted.pairs(a).into_iter().zip(sorted.pairs(b)).collect();
    next.extend(pairs.iter().rev().map(|(a, b)| Next::Pair(a.1, b.1)));
    next.extend(pairs.iter().rev().map(|(a, b)| Next::Pair(a.0, b.0)));
    Ordering::Equal
}

/// An element of a list: bytes have no nodes of their own.
enum Item<'a> {
    Byte(u8),
    Term(Term<'a>),
}

fn lists<'a>(a: Term<'a>, b: Term<'a>, next: &mut Vec<Next<'a>>, sorted: &Sorted) -> Ordering {
    let (mut ours, mut theirs) = (items(a), items(b));
    let from = next.len();
    loop {
        let found = match (ours.next(), theirs.next()) {
            (Some(Item::Byte(a)), Some(Item::Byte(b))) => a.cmp(&b),
            (Some(Item::Byte(byte)), Some(Item::Term(term))) => byte_and_term(byte, term),
            (Some(Item::Term(term)), Some(Item::Byte(byte))) => byte_and_term(byte, term).reverse(),
            (Some(Item::Term(a)), Some(Item::Term(b))) if is_container(a) && is_container(b) => {
                next.push(Next::Pair(a, b));
                Ordering::Equal
            }
            (Some(Item::Term(a)), Some(Item::Term(b))) => one(a, b, next, sorted),
            // The tail of one against the rest of the other, which is a list.
            (None, Some(_)) => tail(a).map_or(NodeKind::Nil, rank).cmp(&NodeKind::List),
            (Some(_), None) => NodeKind::List.cmp(&tail(b).map_or(NodeKind::Nil, rank)),
            (None, None) => match (tail(a), tail(b)) {
                (None, None) => break,
                (Some(a), Some(b)) => {
                    next.push(Next::Pair(a, b));
                    break;
                }
                (None, Some(b)) => NodeKind::Nil.cmp(&rank(b)),
                (Some(a), None) => rank(a).cmp(&NodeKind::Nil),
            },
        };
        if found.is_ne() {
            next.push(Next::Decided(found));
            break;
        }
    }
    next[from..].reverse();
    Ordering::Equal
}

fn byte_and_term(byte: u8, term: Term<'_>) -> Ordering {
    match term.kind() {
        TermKind::Integer(integer) => crate::Integer::from(i64::from(byte)).order(integer),
        _ => NodeKind::Integer.cmp(&rank(term)),
    }
}

fn items<'a>(list: Term<'a>) -> Box<dyn Iterator<Item = Item<'a>> + 'a> {
    match list.kind() {
        TermKind::Bytes(bytes) => Box::new(bytes.iter().map(|&byte| Item::Byte(byte))),
        TermKind::List(elements) | TermKind::ImproperList(elements, _) => Box::new(elements.map(Item::Term)),
        _ => Box::new(std::iter::empty()),
    }
}

fn tail(list: Term<'_>) -> Option<Term<'_>> {
    match list.kind() {
        TermKind::ImproperList(_, tail) => Some(tail),
        _ => None,
    }
}

/// The bits of a bit string, as Erlang compares them: a prefix is less.
fn bits(term: Term<'_>) -> impl Iterator<Item = bool> {
    let (bytes, length) = match term.kind() {
        TermKind::Binary(bytes) => (bytes, bytes.len() * 8),
        TermKind::Bits(bits) => (bits.bytes, bits.bytes.len() * 8 - 8 + usize::from(bits.last_bits)),
        _ => (&[][..], 0),
    };
    (0..length).map(move |bit| bytes[bit / 8] >> (7 - bit % 8) & 1 == 1)
}
