//! From a key's text in a path to the term that Erlang has for it.

use magpie_etf::{BuildError, Builder, Tape, TermKind, text};

use super::SourceError;
use crate::config::KeyKind;

/// The term that `text` names.
pub(super) fn parse(kind: KeyKind, text: &str) -> Result<Tape<'static>, SourceError> {
    match kind {
        KeyKind::Guess => text::parse(text).or_else(|_| binary(text)),
        KeyKind::Binary => binary(text),
        KeyKind::Text => string(text),
        KeyKind::Atom => {
            let mut builder = Builder::new();
            builder.atom(text).and_then(|()| builder.finish())
        }
        KeyKind::Integer => return integer(text),
        KeyKind::Term => return text::parse(text).map_err(|error| SourceError::Key(error.to_string())),
    }
    .map_err(|error| SourceError::Key(error.to_string()))
}

fn binary(text: &str) -> Result<Tape<'static>, BuildError> {
    let mut builder = Builder::new();
    builder.binary(text.as_bytes());
    builder.finish()
}

/// A list of the characters.
fn string(text: &str) -> Result<Tape<'static>, BuildError> {
    let mut builder = Builder::new();
    let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    match latin {
        Some(bytes) => builder.bytes(&bytes),
        None => {
            builder.begin_list();
            text.chars().for_each(|c| builder.integer(i64::from(u32::from(c))));
            builder.end()?;
        }
    }
    builder.finish()
}

fn integer(text: &str) -> Result<Tape<'static>, SourceError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let tape = text::parse(text).ok().filter(|_| is_decimal);
    let tape = tape.filter(|tape| matches!(tape.root().kind(), TermKind::Integer(_)));
    tape.ok_or_else(|| SourceError::Key("a whole number is wanted".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(kind: KeyKind, text: &str) -> Option<String> {
        parse(kind, text).ok().map(|tape| tape.root().to_string())
    }

    #[test]
    fn a_key_becomes_the_term_that_its_kind_says() {
        let rows = [
            (KeyKind::Guess, "42", Some("42")),
            (KeyKind::Guess, "{a,1}", Some("{a,1}")),
            (KeyKind::Guess, "ok", Some("ok")),
            (KeyKind::Guess, "Romeo M", Some("<<82,111,109,101,111,32,77>>")),
            (KeyKind::Guess, "", Some("<<>>")),
            (KeyKind::Binary, "42", Some("<<52,50>>")),
            (KeyKind::Text, "42", Some("[52,50]")),
            (KeyKind::Text, "", Some("[]")),
            (KeyKind::Text, "\u{3b1}", Some("[945]")),
            (KeyKind::Atom, "Hello World", Some("'Hello World'")),
            (KeyKind::Integer, "-7", Some("-7")),
            (KeyKind::Integer, "99999999999999999999", Some("99999999999999999999")),
            (KeyKind::Integer, "0x10", None),
            (KeyKind::Integer, "1.0", None),
            (KeyKind::Integer, "", None),
            (KeyKind::Term, "<<\"a\">>", Some("<<97>>")),
            (KeyKind::Term, "A", None),
        ];
        for (kind, text, wanted) in rows {
            assert_eq!(shown(kind, text).as_deref(), wanted, "{kind:?} {text}");
        }
        assert_eq!(shown(KeyKind::Atom, &"a".repeat(256)), None);
    }
}
