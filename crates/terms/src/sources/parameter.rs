//! The key of a path as what a database takes: a whole number, text or bytes.

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
    pub(super) fn parse(kind: KeyKind, key: &str) -> Result<Self, SourceError> {
        Ok(match kind {
            KeyKind::Guess => integer(key).map_or_else(|| Self::Text(key.to_owned()), Self::Integer),
            KeyKind::Text | KeyKind::Atom => Self::Text(key.to_owned()),
            KeyKind::Binary => Self::Bytes(key.as_bytes().to_vec()),
            KeyKind::Integer => {
                Self::Integer(integer(key).ok_or_else(|| SourceError::Key("not a whole number of 64 bits".into()))?)
            }
            KeyKind::Term => {
                let term = magpie_etf::text::parse(key).map_err(|error| SourceError::Key(error.to_string()))?;
                Self::Bytes(magpie_etf::encode(term.root()))
            }
        })
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
        let parse = |kind, key| Parameter::parse(kind, key);
        assert_eq!(parse(KeyKind::Guess, "42").unwrap(), Parameter::Integer(42));
        assert_eq!(parse(KeyKind::Guess, "romeo").unwrap(), Parameter::Text("romeo".into()));
        assert_eq!(parse(KeyKind::Text, "42").unwrap(), Parameter::Text("42".into()));
        assert_eq!(parse(KeyKind::Atom, "ok").unwrap(), Parameter::Text("ok".into()));
        assert_eq!(parse(KeyKind::Binary, "42").unwrap(), Parameter::Bytes(b"42".to_vec()));
        assert_eq!(parse(KeyKind::Term, "{a,1}").unwrap(), Parameter::Bytes(b"\x83h\x02w\x01aa\x01".to_vec()));
        assert!(matches!(parse(KeyKind::Integer, "romeo"), Err(SourceError::Key(_))));
        assert!(matches!(parse(KeyKind::Term, "{a,"), Err(SourceError::Key(_))));
    }
}
