//! Erlang's syntax for terms: printed as `io_lib:format` prints them, read as `file:consult` reads them.

mod float;
mod parse;
mod pretty;
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

/// Writes what [`line()`] gives. An error is one of `out`, which ends it.
pub fn write_line(out: &mut impl fmt::Write, term: Term<'_>, unicode: bool) -> fmt::Result {
    print::write(&mut print::Plain(out), term, print::Style { strings: true, unicode })
}

/// As `io_lib:format("~p", [Term])`, or with `unicode` as `~tp`: what [`line()`] gives, over lines of 80 columns.
///
/// ```
/// # use magpie_etf::text;
/// let tape = text::parse("{user, [\"Juliet Capulet\", \"Piazza delle Erbe\", \"Verona\"], [\"the balcony\", \"the tomb\"]}")?;
/// let lines = "{user,[\"Juliet Capulet\",\"Piazza delle Erbe\",\"Verona\"],\n      [\"the balcony\",\"the tomb\"]}";
/// assert_eq!(text::pretty(tape.root(), false), lines);
/// # Ok::<(), text::TextError>(())
/// ```
///
/// A line is indented by at most 256 spaces; so a hostile term may still be a few hundred times longer as text than as bytes:
/// [`write_pretty`] writes where a limit can be set.
pub fn pretty(term: Term<'_>, unicode: bool) -> String {
    let mut text = String::new();
    write_pretty(&mut text, term, unicode).expect("a string takes all");
    text
}

/// Writes what [`pretty`] gives. An error is one of `out`, which ends it.
pub fn write_pretty(out: &mut impl fmt::Write, term: Term<'_>, unicode: bool) -> fmt::Result {
    write_pretty_within(out, term, unicode, usize::MAX)
}

/// Writes what [`pretty`] gives, unless the term has more bytes on one line.
pub fn write_pretty_within(
    out: &mut impl fmt::Write,
    term: Term<'_>,
    unicode: bool,
    line_bytes_max: usize,
) -> fmt::Result {
    pretty::write(out, term, print::Style { strings: true, unicode }, line_bytes_max)
}

/// Text that is no term, and where it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct TextError {
    /// Offset of the byte at which it shows.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Cow<'static, str>,
    /// Whether nothing is wrong with it, but that it takes more memory than was allowed.
    pub is_too_large: bool,
}

/// Reads one term; a dot may stand behind it.
pub fn parse(text: &str) -> Result<Tape<'static>, TextError> {
    parse_within(text, usize::MAX)
}

/// Reads one term as [`parse`] does, unless the tape takes more memory than so many bytes.
pub fn parse_within(text: &str, memory_max: usize) -> Result<Tape<'static>, TextError> {
    let mut scanner = scan::Scanner::new(text);
    let tape = parse::term(&mut scanner, memory_max)?;
    scanner.space();
    if !scanner.is_at_end() {
        scanner.dot()?;
        scanner.space();
    }
    if scanner.is_at_end() { Ok(tape) } else { Err(scanner.error("something follows the term")) }
}

/// Reads terms, each with a dot behind it, as `file:consult/1` does. After an error there are no more.
pub fn consult(text: &str) -> impl Iterator<Item = Result<Tape<'static>, TextError>> {
    consult_within(text, usize::MAX)
}

/// Reads terms as [`consult`] does, unless the tape of one takes more memory than so many bytes.
pub fn consult_within(text: &str, memory_max: usize) -> impl Iterator<Item = Result<Tape<'static>, TextError>> {
    let mut scanner = Some(scan::Scanner::new(text));
    std::iter::from_fn(move || {
        let mut here = scanner.take()?;
        here.space();
        if here.is_at_end() {
            return None;
        }
        let outcome = parse::term(&mut here, memory_max).and_then(|tape| here.dot().map(|()| tape));
        if outcome.is_ok() {
            scanner = Some(here);
        }
        Some(outcome)
    })
}
