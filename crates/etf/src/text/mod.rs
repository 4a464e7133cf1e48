//! Erlang's syntax for terms: printed as `io_lib:format` prints them, read as `file:consult` reads them.

mod float;
mod parse;
mod print;
mod scan;

use std::borrow::Cow;
use std::fmt;

use crate::tape::Tape;
use crate::term::Term;

/// As `io_lib:format("~tw", [Term])`.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, term: Term<'_>) -> fmt::Result {
    print::write(f, term, print::Style { strings: false, unicode: true })
}

/// As `io_lib:format("~w", [Term])`, or with `unicode` as `~tw`.
pub fn plain(term: Term<'_>, unicode: bool) -> String {
    print::to_string(term, print::Style { strings: false, unicode })
}

/// As `io_lib:format("~0p", [Term])`, or with `unicode` as `~0tp`: what is printable is shown as text, on one line.
pub fn line(term: Term<'_>, unicode: bool) -> String {
    print::to_string(term, print::Style { strings: true, unicode })
}

/// Text that is no term, and where it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct TextError {
    /// Offset of the byte at which it shows.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Cow<'static, str>,
}

/// Reads one term; a dot may stand behind it.
pub fn parse(text: &str) -> Result<Tape<'static>, TextError> {
    let mut scanner = scan::Scanner::new(text);
    let tape = parse::term(&mut scanner)?;
    scanner.space();
    if !scanner.is_at_end() {
        scanner.dot()?;
        scanner.space();
    }
    if scanner.is_at_end() { Ok(tape) } else { Err(scanner.error("something follows the term")) }
}

/// Reads terms, each with a dot behind it, as `file:consult/1` does. After an error there are no more.
pub fn consult(text: &str) -> impl Iterator<Item = Result<Tape<'static>, TextError>> {
    let mut scanner = Some(scan::Scanner::new(text));
    std::iter::from_fn(move || {
        let mut here = scanner.take()?;
        here.space();
        if here.is_at_end() {
            return None;
        }
        let outcome = parse::term(&mut here).and_then(|tape| here.dot().map(|()| tape));
        if outcome.is_ok() {
            scanner = Some(here);
        }
        Some(outcome)
    })
}
