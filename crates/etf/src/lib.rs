//! Erlang's external term format (`erl_ext_dist`): what `term_to_binary` writes and `binary_to_term` reads.
//!
//! How it is built:
//!
//! - A decoded term is a [`Tape`]: one vector of 16-byte nodes in the order of the bytes, a container before what it
//!   holds, with the place where it ends. No box, no tree; to pass over a term is one addition, and to encode, print or
//!   compare one is a walk along the vector.
//! - Binaries, atoms and big integers stay where they lie in the input; a node has their offset. What had to be made
//!   (Latin-1 atoms as UTF-8, text that was parsed, inflated input) lies in a buffer of the tape.
//! - [`Term`] is a view of one node, `Copy`, and [`Kind`](TermKind) what it shows to `match`.
//! - Nothing recurses by depth of the input: decoder, encoder, comparison, text and JSON keep their own stacks. Only serde
//!   recurses, which has a limit of depth.
//! - Growth is by what was read, never by what a length claims: a container that claims more elements than there are
//!   bytes is refused at once, and nodes are pushed as they are read. A node takes 16 bytes, and the shortest term
//!   one, so that a tape has at most 16 times the size of its input.
//! - Compressed terms inflate up to [`Limits::inflated_bytes_max`].
//! - Terms are normal: integers in their smallest form, lists flattened (`[1 | [2]]` is `[1, 2]`), so that what OTP holds to be
//!   equal is equal here.
//! - Keys of maps must differ, as in OTP. Keys get a seeded hash while they are read, once for each node however deep
//!   maps are keys of maps, and the hashes of a map are compared when it ends.
//! - What OTP 25 refuses is refused, with the offset and the reason ([`DecodeError`]). Wider than OTP 25: `LOCAL_EXT` is kept as opaque bytes,
//!   and `0.0` beside `-0.0` in a map is refused as there, though OTP 27 tells them apart.
//! - [`Encoder`] writes the bytes of `term_to_binary/2`, by a walk along the tape.
//! - [`text`] prints and reads Erlang's syntax; [`json`] maps to JSON and back without loss; [`serde`] is for Rust's types.

mod atoms;
mod builder;
mod compare;
mod decode;
mod encode;
mod error;
mod hash;
mod integer;
pub mod json;
mod phash2;
pub mod serde;
mod tag;
mod tape;
mod term;
pub mod text;

pub use builder::{BuildError, Builder};
pub use decode::{Decoder, Limits, decode};
pub use encode::{EncodeError, Encoder, MinorVersion, encode};
pub use error::{DecodeError, Reason};
pub use integer::Integer;
pub use tape::Tape;
pub use term::{Bits, Elements, Function, Pairs, Pid, Port, Reference, Term, TermKind};

/// The example of the README is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
