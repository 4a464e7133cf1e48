//! Terms from and to Rust's types, by serde.
//!
//! | Rust | written as | read from |
//! |---|---|---|
//! | `bool` | `true`, `false` | the same |
//! | integers up to 128 bits | integer | integer |
//! | `f32`, `f64` | float | float, integer |
//! | `&str`, `String`, `char` | binary in UTF-8 | the same, atom, string (list of characters) |
//! | [`Atom`] | atom | atom, binary in UTF-8 |
//! | bytes (`serde_bytes`) | binary | binary, list of bytes |
//! | `None`, `()` | `undefined` | `undefined`, `nil`, `null` |
//! | `Vec`, slices | list | list, tuple |
//! | tuples | tuple | tuple, list |
//! | maps | map | map, list of pairs |
//! | structs | map with atoms as keys, or `{name, Field, …}` with [`Structs::Records`] | both, binaries as keys, list of pairs |
//! | `E::Unit` | `'Unit'` | atom, binary |
//! | `E::New(x)`, `E::Tuple(x, y)` | `{'New', X}`, `{'Tuple', X, Y}` | the same |
//! | `E::Struct { x }` | `{'Struct', #{x => X}}` | the same |

mod read;
mod write;

use std::fmt::Display;

use ::serde::de::{Deserialize, DeserializeOwned, Deserializer};
use ::serde::ser::{Serialize, Serializer};

use crate::builder::{BuildError, Builder};
use crate::decode::Decoder;
use crate::encode;
use crate::tape::Tape;
use crate::term::Term;

/// Rust's types nest this deep at most.
const DEPTH_MAX: usize = 128;
/// The name by which an atom is told from a text.
const ATOM: &str = "$magpie_etf::Atom";

/// A term is not of the type, or a value no term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SerdeError(String);

impl ::serde::de::Error for SerdeError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl ::serde::ser::Error for SerdeError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<BuildError> for SerdeError {
    fn from(error: BuildError) -> Self {
        Self(error.to_string())
    }
}

/// How structs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Structs {
    /// `#{field => Value}`
    #[default]
    Maps,
    /// `{name, Value, …}`, as Erlang's records are.
    Records,
}

/// An atom, where a `String` would be a binary.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Atom(pub String);

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ATOM, &self.0)
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A value from a term. Texts and bytes may be borrowed from its tape.
pub fn from_term<'a, T: Deserialize<'a>>(term: Term<'a>) -> Result<T, SerdeError> {
    T::deserialize(read::Reader::new(term))
}

/// A value from bytes that are one whole term.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SerdeError> {
    let tape = Decoder::default().decode_all(bytes).map_err(|error| SerdeError(error.to_string()))?;
    from_term(tape.root())
}

/// A value as a term.
pub fn to_tape<T: Serialize + ?Sized>(value: &T, structs: Structs) -> Result<Tape<'static>, SerdeError> {
    let mut builder = Builder::new();
    value.serialize(write::Writer { builder: &mut builder, structs })?;
    Ok(builder.finish()?)
}

/// A value as bytes, with structs as maps.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SerdeError> {
    Ok(encode(to_tape(value, Structs::Maps)?.root()))
}
