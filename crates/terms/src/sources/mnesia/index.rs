//! Where in logs the keys of a table lie.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use magpie_etf::{Elements, Encoder, Term, TermKind};

/// What a log says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write,
    Delete,
    DeleteObject,
    Count,
}

/// Where a log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the logs.
    pub(super) log: u8,
    /// Of the item.
    pub(super) at: u64,
    /// Which of the item's changes.
    pub(super) nth: u32,
}

const NONE: u32 = u32::MAX;
/// 24 bytes each.
const ENTRIES_MAX: usize = 1 << 26;

/// 24 bytes.
struct Entry {
    hash: u64,
    /// The offset above, then 4 bits of the log, and 4 of the change.
    place: u64,
    nth: u32,
    /// The change before it, or the next that is free.
    before: u32,
}

/// Keys by their hash, and for each the changes that count. Two keys of one hash of 64 bits, which is seeded, are not expected, and
/// are told apart when a term is read.
pub(super) struct Index {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: u32,
    /// Whether all that was before is gone.
    pub(super) is_cleared: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self { table: HashTable::new(), entries: Vec::new(), free: NONE, is_cleared: false }
    }
}

impl Index {
    /// Puts a change behind the others of its key, or in their stead.
    pub(super) fn put(&mut self, hash: u64, change: Change, place: Place, replaces: bool) -> Result<(), String> {
        let entry = Entry {
            hash,
            place: place.at << 8 | u64::from(place.log & 15) << 4 | change as u64,
            nth: place.nth,
            before: NONE,
        };
        let entries = &self.entries;
        let slot = self.table.find_mut(hash, |&at| entries[at as usize].hash == hash);
        if let Some(first) = slot {
            if replaces {
                let at = *first as usize;
                let mut before = std::mem::replace(&mut self.entries[at], entry).before;
                while before != NONE {
                    let next = std::mem::replace(&mut self.entries[before as usize].before, self.free);
                    self.free = before;
                    before = next;
                }
                return Ok(());
            }
            let before = *first;
            *first = Self::take(&mut self.entries, &mut self.free, Entry { before, ..entry })?;
            return Ok(());
        }
        let at = Self::take(&mut self.entries, &mut self.free, entry)?;
        let entries = &self.entries;
        self.table.insert_unique(hash, at, |&at| entries[at as usize].hash);
        Ok(())
    }

    fn take(entries: &mut Vec<Entry>, free: &mut u32, entry: Entry) -> Result<u32, String> {
        if *free != NONE {
            let at = *free;
            *free = std::mem::replace(&mut entries[at as usize], entry).before;
            return Ok(at);
        }
        if entries.len() >= ENTRIES_MAX {
            return Err(format!("more than {ENTRIES_MAX} keys and changes"));
        }
        entries.push(entry);
        Ok(entries.len() as u32 - 1)
    }

    /// All that was so far is gone.
    pub(super) fn clear(&mut self) {
        *self = Self { is_cleared: true, ..Self::default() };
    }

    /// The changes of a key, the last first.
    pub(super) fn changes(&self, hash: u64) -> impl Iterator<Item = (Change, Place)> {
        let first = self.table.find(hash, |&at| self.entries[at as usize].hash == hash).copied();
        let mut next = first.unwrap_or(NONE);
        std::iter::from_fn(move || {
            let entry = self.entries.get(next as usize)?;
            next = entry.before;
            let change = match entry.place & 15 {
                0 => Change::Write,
                1 => Change::Delete,
                2 => Change::DeleteObject,
                _ => Change::Count,
            };
            let place = Place { log: (entry.place >> 4 & 15) as u8, at: entry.place >> 8, nth: entry.nth };
            Some((change, place))
        })
    }
}

/// How a table tells keys apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    seed: RandomState,
    /// `ordered_set`: `1` and `1.0` are one key.
    pub(super) by_value: bool,
}

impl Keys {
    pub(super) fn hash(&self, key: Term<'_>) -> u64 {
        self.seed.hash_one(self.bytes(key))
    }

    /// Bytes that are the same for keys that are the same.
    pub(super) fn bytes(&self, key: Term<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut next = vec![Next::Term(key)];
        while let Some(step) = next.pop() {
            match step {
                Next::Elements(mut elements) => {
                    if let Some(element) = elements.next() {
                        next.extend([Next::Elements(elements), Next::Term(element)]);
                    }
                }
                Next::Term(term) => match term.kind() {
                    TermKind::Float(value) => self.float(value, &mut bytes),
                    TermKind::Tuple(elements) if !is_flat(elements) => {
                        bytes.push(b't');
                        bytes.extend((elements.len() as u64).to_be_bytes());
                        next.push(Next::Elements(elements));
                    }
                    TermKind::List(elements) if !is_flat(elements) => {
                        bytes.push(b'l');
                        bytes.extend((elements.len() as u64).to_be_bytes());
                        next.push(Next::Elements(elements));
                    }
                    TermKind::ImproperList(elements, tail) => {
                        bytes.push(b'i');
                        bytes.extend((elements.len() as u64).to_be_bytes());
                        next.extend([Next::Term(tail), Next::Elements(elements)]);
                    }
                    _ => plain(term, &mut bytes),
                },
            }
        }
        bytes
    }

    fn float(&self, value: f64, bytes: &mut Vec<u8>) {
        let is_whole = value.fract() == 0.0 && value.abs() < 9.0e18;
        if self.by_value && is_whole {
            let tape = magpie_etf::text::parse(&(value as i64).to_string()).expect("digits are an integer");
            plain(tape.root(), bytes);
            return;
        }
        bytes.push(b'f');
        // 0.0 and -0.0 are one key.
        bytes.extend((value + 0.0).to_be_bytes());
    }
}

enum Next<'a> {
    Term(Term<'a>),
    Elements(Elements<'a>),
}

/// Whether the encoder writes it as it must be here: nothing in it that needs to be looked at.
fn is_flat(mut elements: Elements<'_>) -> bool {
    elements.all(|term| {
        !matches!(
            term.kind(),
            TermKind::Float(_)
                | TermKind::Tuple(_)
                | TermKind::List(_)
                | TermKind::Bytes(_)
                | TermKind::ImproperList(..)
        )
    })
}

fn plain(term: Term<'_>, bytes: &mut Vec<u8>) {
    let encoder = Encoder { deterministic: true, ..Encoder::default() };
    // What cannot be encoded inside of another term is none that a table holds.
    if encoder.encode_into(term, bytes).is_err() {
        bytes.push(b'?');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_the_same_where_erlang_says_so() {
        let same = |by_value: bool, a: &str, b: &str| {
            let keys = Keys { by_value, ..Keys::default() };
            let (a, b) = (magpie_etf::text::parse(a).unwrap(), magpie_etf::text::parse(b).unwrap());
            let is_same = keys.bytes(a.root()) == keys.bytes(b.root());
            assert_eq!(is_same, keys.hash(a.root()) == keys.hash(b.root()));
            is_same
        };
        assert!(same(false, "{a,[1,2.5]}", "{a,[1,2.5]}"));
        assert!(same(false, "#{a=>1,b=>2}", "#{b=>2,a=>1}"));
        assert!(same(false, "0.0", "-0.0"));
        assert!(!same(false, "1", "1.0"));
        let (keys, text) = (Keys::default(), magpie_etf::text::parse("[7,a,[7]]").unwrap());
        let bytes = magpie_etf::encode(text.root());
        let decoded = magpie_etf::decode(&bytes).unwrap();
        assert_eq!(keys.bytes(text.root()), keys.bytes(decoded.root()), "a list of bytes comes in two forms");
        assert!(same(true, "{1,[2|3]}", "{1.0,[2.0|3.0]}"));
        assert!(!same(true, "1.5", "1"));
        assert!(!same(false, "{a,{b}}", "{a,[b]}"));
        assert!(!same(false, "[[a],b]", "[[a,b]]"));
    }

    #[test]
    fn of_a_key_the_changes_count_that_were_not_replaced() {
        let mut index = Index::default();
        let place = |at| Place { log: 3, at, nth: 7 };
        for hash in 0..1000 {
            index.put(hash, Change::Write, place(hash), true).unwrap();
            index.put(hash, Change::Count, place(hash + 1), false).unwrap();
            index.put(hash, Change::DeleteObject, place(hash + 2), false).unwrap();
        }
        let all: Vec<_> = index.changes(5).collect();
        assert_eq!(all, [(Change::DeleteObject, place(7)), (Change::Count, place(6)), (Change::Write, place(5))]);
        let before = index.entries.len();
        for hash in 0..1000 {
            index.put(hash, Change::Delete, place(9), true).unwrap();
        }
        for hash in 1000..3000 {
            index.put(hash, Change::Write, place(hash), false).unwrap();
        }
        assert_eq!(index.entries.len(), before, "what was replaced is used again");
        assert_eq!(index.changes(5).collect::<Vec<_>>(), [(Change::Delete, place(9))]);
        assert_eq!(index.changes(2999).collect::<Vec<_>>(), [(Change::Write, place(2999))]);
        index.clear();
        assert!(index.is_cleared && index.changes(5).next().is_none());
    }
}
