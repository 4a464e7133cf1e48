//! Terms from one form into another, as values: bytes in, bytes out.

use std::fmt;

use bytes::Bytes;
use magpie_etf::json::{self, Mode};
use magpie_etf::{Decoder, Encoder, Limits, Tape, Term, text};

use crate::problem::Problem;
use crate::turns::weight;

/// The form of a term.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As `term_to_binary` writes it.
    Binary(Encoder),
    /// JSON; what is read is lossless JSON in any case.
    Json(Mode),
    /// Erlang's syntax, over lines as `~tp` breaks them, or each term on one.
    Text { over_lines: bool },
}

/// Levels of zlib above this one take minutes for what is long and repeats itself by halves.
const LARGE_LEVEL_MAX: u8 = 6;

/// A term for which that matters.
const LARGE_BYTES: usize = 64 << 10;

impl Form {
    /// What most answers have.
    pub(crate) const JSON: Self = Self::Json(Mode::Lossless);

    /// Whether zlib is part of it.
    pub(crate) fn is_compressed(self) -> bool {
        matches!(self, Self::Binary(Encoder { compressed: Some(1..), .. }))
    }

    /// The form for terms of this weight.
    pub(crate) fn of_weight(self, weight: usize) -> Self {
        match self {
            Self::Binary(encoder) if weight > LARGE_BYTES => {
                let compressed = encoder.compressed.map(|level| level.min(LARGE_LEVEL_MAX));
                Self::Binary(Encoder { compressed, ..encoder })
            }
            form => form,
        }
    }
}

/// Turns terms of one form into another.
pub(crate) struct Converter {
    from: Form,
    to: Form,
    decoder: Decoder,
}

impl Converter {
    /// A converter; a compressed term may inflate to so many bytes.
    pub(crate) fn new(from: Form, to: Form, inflated_bytes_max: usize) -> Self {
        let limits = Limits { inflated_bytes_max, ..Limits::default() };
        Self { from, to, decoder: Decoder::new(limits) }
    }

    /// What it writes.
    pub(crate) fn output(&self) -> Output {
        Output::of(self.to)
    }

    /// Reads the one term that `input` is, and writes it behind what is in `output`. Both take no more than so many bytes of memory,
    /// whatever was in the output.
    pub(crate) fn convert(&mut self, input: &[u8], output: &mut Output, memory: usize) -> Result<(), Problem> {
        let to = self.to.of_weight(weight(input));
        match self.from {
            Form::Binary(_) => {
                self.decoder.limit_tape(memory);
                let tape = self.decoder.decode_all(input)?;
                let outcome = output.write_tape(&tape, to, memory);
                self.decoder.reuse(tape);
                outcome
            }
            Form::Json(_) => output.write_tape(&json::from_json_within(utf8(input)?, memory)?, to, memory),
            Form::Text { .. } => output.write_tape(&text::parse_within(utf8(input)?, memory)?, to, memory),
        }
    }
}

/// Reads terms in Erlang's syntax, a dot behind each. After an error there are no more.
pub(crate) fn consult(
    input: &[u8],
    memory: usize,
) -> Result<impl Iterator<Item = Result<Tape<'static>, Problem>>, Problem> {
    Ok(text::consult_within(utf8(input)?, memory).map(|outcome| outcome.map_err(Problem::from)))
}

fn utf8(input: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(input).map_err(|error| {
        let problem = Problem::new(hyper::StatusCode::UNPROCESSABLE_ENTITY, "not-utf-8", "the text is not UTF-8");
        problem.at(error.valid_up_to())
    })
}

/// What was written so far.
#[derive(Debug)]
pub(crate) enum Output {
    /// Bytes of terms.
    Bytes(Vec<u8>),
    /// JSON, or Erlang's syntax.
    Text(String),
}

impl Output {
    /// Nothing yet, of a form.
    pub(crate) fn of(form: Form) -> Self {
        match form {
            Form::Binary(_) => Self::Bytes(Vec::new()),
            Form::Json(_) | Form::Text { .. } => Self::Text(String::new()),
        }
    }

    /// Writes all of a tape, which takes of the memory too.
    pub(crate) fn write_tape(&mut self, tape: &Tape<'_>, form: Form, memory: usize) -> Result<(), Problem> {
        let left = memory.checked_sub(tape.memory()).ok_or_else(|| Problem::too_much_memory(memory))?;
        self.write(tape.root(), form, left).map_err(|problem| problem.within(memory))
    }

    /// Writes a term in the form of which the output is, with no more than so many bytes of memory.
    pub(crate) fn write(&mut self, term: Term<'_>, form: Form, memory: usize) -> Result<(), Problem> {
        let too_much = || Problem::too_much_memory(memory);
        let length_max = self.len().saturating_add(memory);
        match (&mut *self, form) {
            (Self::Text(text), Form::Json(mode)) => {
                json::write_json_within(term, mode, length_max, text).map_err(|_| too_much())?;
            }
            (Self::Text(out), Form::Text { over_lines: true }) => {
                let (from, nodes) = (out.len(), term.nodes());
                let bytes_max = OVER_LINES_BYTES_MAX.min(memory.saturating_sub(LINES_MEMORY * nodes) / 2);
                if nodes <= OVER_LINES_NODES_MAX {
                    let mut bounded = Bounded { out, length_max: from + bytes_max };
                    if text::write_pretty_within(&mut bounded, term, true, bytes_max).is_ok() {
                        return Ok(());
                    }
                    out.truncate(from);
                    if bytes_max < OVER_LINES_BYTES_MAX {
                        return Err(too_much());
                    }
                }
                line(out, term, length_max).map_err(|_| too_much())?;
            }
            (Self::Text(out), _) => line(out, term, length_max).map_err(|_| too_much())?,
            (Self::Bytes(bytes), Form::Binary(encoder)) => encode(encoder, term, bytes)?,
            (Self::Bytes(bytes), _) => encode(Encoder::default(), term, bytes)?,
        }
        if self.len() > length_max { Err(too_much()) } else { Ok(()) }
    }

    /// Writes what is no term: what stands between terms.
    pub(crate) fn push(&mut self, between: &str) {
        match self {
            Self::Bytes(bytes) => bytes.extend_from_slice(between.as_bytes()),
            Self::Text(text) => text.push_str(between),
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for the length of what follows, if its terms have their lengths before them.
    pub(crate) fn begin_item(&mut self) -> usize {
        if let Self::Bytes(bytes) = self {
            bytes.extend_from_slice(&[0; 4]);
        }
        self.len()
    }

    /// Ends what began there: the length before it, or a line's end behind it.
    pub(crate) fn end_item(&mut self, begin: usize, line_end: &str) {
        match self {
            Self::Bytes(bytes) => {
                let length = u32::try_from(bytes.len() - begin).expect("a term has less than 4 GiB");
                bytes[begin - 4..begin].copy_from_slice(&length.to_be_bytes());
            }
            Self::Text(text) => text.push_str(line_end),
        }
    }

    /// What was written, with no more memory than it has bytes.
    pub(crate) fn shrink(&mut self) {
        match self {
            Self::Bytes(bytes) => bytes.shrink_to_fit(),
            Self::Text(text) => text.shrink_to_fit(),
        }
    }

    /// Takes away what is behind `length`.
    pub(crate) fn truncate(&mut self, length: usize) {
        match self {
            Self::Bytes(bytes) => bytes.truncate(length),
            Self::Text(text) => text.truncate(length),
        }
    }

    /// All that was written, which is then no longer there.
    pub(crate) fn take(&mut self) -> Bytes {
        match self {
            Self::Bytes(bytes) => std::mem::take(bytes).into(),
            Self::Text(text) => std::mem::take(text).into_bytes().into(),
        }
    }
}

/// What terms over lines may have; what is longer, as it may be by its indentation alone, stands on one line.
const OVER_LINES_BYTES_MAX: usize = 8 << 20;

/// What has more terms in it stands on one line too.
const OVER_LINES_NODES_MAX: usize = 1 << 20;

/// Bytes of memory beside the text that each node takes until the lines are written.
const LINES_MEMORY: usize = 24;

/// Writes a term on one line.
fn line(out: &mut String, term: Term<'_>, length_max: usize) -> fmt::Result {
    text::write_line(&mut Bounded { out, length_max }, term, true)
}

struct Bounded<'a> {
    out: &'a mut String,
    length_max: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.out.len() + text.len() > self.length_max {
            return Err(fmt::Error);
        }
        self.out.push_str(text);
        Ok(())
    }
}

fn encode(encoder: Encoder, term: Term<'_>, bytes: &mut Vec<u8>) -> Result<(), Problem> {
    encoder
        .encode_into(term, bytes)
        .map_err(|error| Problem::new(hyper::StatusCode::UNPROCESSABLE_ENTITY, "cannot-be-encoded", error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_long_term_is_compressed_at_level_6_at_most() {
        let form = |level| Form::Binary(Encoder { compressed: Some(level), ..Encoder::default() });
        for (level, weight, expected) in [(9, LARGE_BYTES, 9), (9, LARGE_BYTES + 1, 6), (1, LARGE_BYTES + 1, 1)] {
            let Form::Binary(encoder) = form(level).of_weight(weight) else { panic!("the form stays") };
            assert_eq!(encoder.compressed, Some(expected));
        }
    }

    #[test]
    fn a_term_that_indentation_makes_long_stands_on_one_line() {
        let form = Form::Text { over_lines: true };
        let written = |depth: usize| {
            let term = [&[131][..], &[104, 2, 97, 1].repeat(depth), &[106]].concat();
            let mut output = Output::of(form);
            Converter::new(Form::Binary(Encoder::default()), form, 0)
                .convert(&term, &mut output, usize::MAX / 2)
                .unwrap();
            String::from_utf8(output.take().into()).unwrap()
        };
        assert!(written(200).contains('\n'));
        let long = written(200_000);
        assert!(!long.contains('\n') && long.len() == 800_002, "{} bytes", long.len());
    }
}
