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
    write::write(term, mode, text);
}

/// Reads JSON, as `Mode::Lossless` writes it. Of other JSON, objects become maps with binaries as keys, texts
/// binaries, arrays lists, `null` the atom `null`.
pub fn from_json(text: &str) -> Result<Tape<'static>, JsonError> {
    read::read(text)
}
