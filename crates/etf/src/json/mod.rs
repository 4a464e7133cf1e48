//! Terms as JSON and back: without loss, or readable.
//!
//! Without loss, what JSON has stands for what is nearest, and all else is an object whose one key begins with `$`:
//! see the table in `docs/terms.md`. To read it back gives an equal term, and so the same bytes of `term_to_binary`.

mod read;
mod write;

use crate::tape::Tape;
use crate::term::Term;

pub use read::JsonError;

/// How terms become JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// [`from_json`] gives the term back.
    #[default]
    Lossless,
    /// As a reader wants it who knows nothing of Erlang: atoms and texts as strings, tuples as arrays.
    Readable,
}

/// Writes a term as JSON, on one line.
pub fn to_json(term: Term<'_>, mode: Mode) -> String {
    let mut text = String::new();
    write_json(term, mode, &mut text);
    text
}

/// Writes a term as JSON behind what is in `text`.
pub fn write_json(term: Term<'_>, mode: Mode, text: &mut String) {
    write::write(term, mode, usize::MAX, text).expect("no text is longer");
}

/// There is no room for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text takes more memory than it may")]
pub struct TextTooLong;

/// Writes as [`write_json`] does, until the text with what was in it before takes more memory than so many bytes.
/// What is then there is not a whole term.
pub fn write_json_within(term: Term<'_>, mode: Mode, memory_max: usize, text: &mut String) -> Result<(), TextTooLong> {
    write::write(term, mode, memory_max, text)
}

/// Reads JSON, as `Mode::Lossless` writes it. Of other JSON, objects become maps with binaries as keys, texts
/// binaries, arrays lists, `null` the atom `null`.
pub fn from_json(text: &str) -> Result<Tape<'static>, JsonError> {
    from_json_within(text, usize::MAX)
}

/// Reads JSON as [`from_json`] does, unless the tape takes more memory than so many bytes.
pub fn from_json_within(text: &str, memory_max: usize) -> Result<Tape<'static>, JsonError> {
    read::read(text, memory_max)
}
