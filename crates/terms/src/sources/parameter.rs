//! The key of a path as what a database takes: a whole number, text or bytes.

use magpie_etf::{Encoder, MinorVersion};

use super::SourceError;
use crate::config::KeyKind;

/// A key, as [`KeyKind`] says that it is read for databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Parameter {
    /// What the key may be, in the order in which it is tried: as OTP 26 and later write a term, and as those before do, where
    /// that is something else.
    pub(super) fn parse(kind: KeyKind, key: &str) -> Result<Vec<Self>, SourceError> {
        let one = match kind {
            KeyKind::Guess => integer(key).map_or_else(|| Self::Text(key.to_owned()), Self::Integer),
            KeyKind::Text | KeyKind::Atom => Self::Text(key.to_owned()),
            KeyKind::Binary => Self::Bytes(key.as_bytes().to_vec()),
            KeyKind::Integer => {
                Self::Integer(integer(key).ok_or_else(|| SourceError::Key("not a whole number of 64 bits".into()))?)
            }
            KeyKind::Term => {
                let wrong = |error: &dyn std::fmt::Display| SourceError::Key(error.to_string());
                let term = magpie_etf::text::parse(key).map_err(|error| wrong(&error))?;
                let write = |minor_version| {
                    let mut bytes = Vec::new();
                    let encoder = Encoder { minor_version, deterministic: true, ..Encoder::default() };
                    encoder.encode_into(term.root(), &mut bytes).map(|()| Self::Bytes(bytes))
                };
                let mut both = vec![
                    write(MinorVersion::Two).map_err(|error| wrong(&error))?,
                    write(MinorVersion::One).map_err(|error| wrong(&error))?,
                ];
                both.dedup();
                return Ok(both);
            }
        };
        Ok(vec![one])
    }

    /// What a server gets that knows of bytes alone.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Integer(integer) => integer.to_string().into_bytes(),
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A number in the one way in which it is written, so that a term has one path: `007` and `+7` are text.
pub(super) fn integer(key: &str) -> Option<i64> {
    let digits = key.strip_prefix('-').unwrap_or(key);
    let plain = match digits.as_bytes() {
        [b'0'] => key == "0",
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    if plain { key.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_is_one_only_as_it_is_usually_written() {
        for (key, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("-42", Some(-42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("007", None),
            ("+7", None),
            ("-", None),
            ("", None),
            ("4 2", None),
            ("4e2", None),
            ("٤", None),
        ] {
            assert_eq!(integer(key), expected, "{key}");
        }
    }

    #[test]
    fn a_key_becomes_what_its_kind_says() {
        let parse = Parameter::parse;
        let bytes = |bytes: &[u8]| Parameter::Bytes(bytes.to_vec());
        assert_eq!(parse(KeyKind::Guess, "42").unwrap(), [Parameter::Integer(42)]);
        assert_eq!(parse(KeyKind::Guess, "romeo").unwrap(), [Parameter::Text("romeo".into())]);
        assert_eq!(parse(KeyKind::Text, "42").unwrap(), [Parameter::Text("42".into())]);
        assert_eq!(parse(KeyKind::Atom, "ok").unwrap(), [Parameter::Text("ok".into())]);
        assert_eq!(parse(KeyKind::Binary, "42").unwrap(), [bytes(b"42")]);
        let (new, old) = (bytes(b"\x83h\x02w\x01aa\x01"), bytes(b"\x83h\x02d\0\x01aa\x01"));
        assert_eq!(parse(KeyKind::Term, "{a,1}").unwrap(), [new, old]);
        assert_eq!(parse(KeyKind::Term, "1").unwrap(), [bytes(b"\x83a\x01")]);
        assert!(matches!(parse(KeyKind::Integer, "romeo"), Err(SourceError::Key(_))));
        assert!(matches!(parse(KeyKind::Term, "{a,"), Err(SourceError::Key(_))));
    }
}
