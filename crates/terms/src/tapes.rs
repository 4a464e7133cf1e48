//! Terms that are made here, each on a tape of its own.

use magpie_etf::{Builder, Tape, Term, decode, encode};

/// A term that was a part of another.
pub(crate) fn owned(term: Term<'_>) -> Tape<'static> {
    let bytes = encode(term);
    decode(&bytes).expect("what was encoded can be decoded").into_owned()
}

/// An integer.
pub(crate) fn number(value: i64) -> Tape<'static> {
    let mut builder = Builder::new();
    builder.integer(value);
    builder.finish().expect("an integer is a whole term")
}

/// A binary.
pub(crate) fn binary(bytes: &[u8]) -> Tape<'static> {
    let mut builder = Builder::new();
    builder.binary(bytes);
    builder.finish().expect("a binary is a whole term")
}
