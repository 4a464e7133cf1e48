//! The query of a request: what may be said in it, and what else is refused.

use std::borrow::Cow;

use hyper::StatusCode;
use magpie_etf::json::Mode;
use magpie_etf::{Encoder, MinorVersion};
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// What a query says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `mode=lossless|readable`: the JSON that is written.
    pub(crate) mode: Mode,
    /// `layout=pretty|line`: whether Erlang's syntax goes over lines; a stream's terms do not unless that is said.
    pub(crate) over_lines: Option<bool>,
    /// `stream=true|false`: whether the body has several terms; else its media type says it.
    pub(crate) stream: Option<bool>,
    /// `errors=continue|stop`: whether a stream goes on after a term that cannot be taken.
    pub(crate) go_on: bool,
    /// `minor_version=0|1|2`, `compressed=0..9`, `deterministic=true`: as of `term_to_binary/2`.
    pub(crate) encoder: Encoder,
    /// `path=a/b/1`: a part of the term, see [`crate::select`].
    pub(crate) path: Option<String>,
}

impl Options {
    /// Reads a query, of which `known` may be there.
    pub(crate) fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut options = Self::default();
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (decoded(name), decoded(value)),
                None if part == "path" => return Err(refused("path needs a value, as path=a/b/1".to_owned())),
                None => (decoded(part), "true".into()),
            };
            if !known.contains(&name.as_ref()) {
                let detail = format!("there is no parameter {name} here, but {}", known.join(", "));
                return Err(refused(detail));
            }
            if seen.contains(&name) {
                return Err(refused(format!("{name} is said twice")));
            }
            let is_known = options.set(&name, &value);
            is_known.ok_or_else(|| refused(format!("{name} cannot be {value}")))?;
            seen.push(name);
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match (name, value) {
            ("mode", "lossless") => self.mode = Mode::Lossless,
            ("mode", "readable") => self.mode = Mode::Readable,
            ("layout", "pretty") => self.over_lines = Some(true),
            ("layout", "line") => self.over_lines = Some(false),
            ("stream", _) => self.stream = Some(value.parse().ok()?),
            ("errors", "continue") => self.go_on = true,
            ("errors", "stop") => self.go_on = false,
            ("minor_version", "0") => self.encoder.minor_version = MinorVersion::Zero,
            ("minor_version", "1") => self.encoder.minor_version = MinorVersion::One,
            ("minor_version", "2") => self.encoder.minor_version = MinorVersion::Two,
            ("compressed", "true") => self.encoder.compressed = Some(6),
            ("compressed", _) => self.encoder.compressed = Some(value.parse().ok().filter(|level| *level <= 9)?),
            ("deterministic", _) => self.encoder.deterministic = value.parse().ok()?,
            ("path", _) => self.path = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", detail)
}

/// A part of a query as text: `+` is a space, as forms have it.
fn decoded(part: &str) -> Cow<'_, str> {
    let spaced: Cow<'_, str> = if part.contains('+') { part.replace('+', " ").into() } else { part.into() };
    match percent_decode_str(&spaced).decode_utf8_lossy() {
        Cow::Borrowed(same) if same.len() == spaced.len() => spaced,
        decoded => decoded.into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_query_says_what_is_wanted_and_what_is_unknown_is_refused() {
        let known = ["path", "mode", "compressed"];
        let options = Options::parse(Some("path=a%2Fb+c/%E4%BD%A0&mode=readable&compressed"), &known).unwrap();
        assert_eq!(options.path.as_deref(), Some("a/b c/你"));
        assert_eq!((options.mode, options.encoder.compressed), (Mode::Readable, Some(6)));
        let refusal = |query| Options::parse(Some(query), &known).unwrap_err().detail().to_owned();
        assert_eq!(refusal("mode=fast"), "mode cannot be fast");
        assert_eq!(refusal("errors=continue"), "there is no parameter errors here, but path, mode, compressed");
        assert_eq!(refusal("path"), "path needs a value, as path=a/b/1");
        assert_eq!(refusal("path=a&mode=readable&path=b"), "path is said twice");
        assert_eq!(Options::parse(Some("path="), &known).unwrap().path.as_deref(), Some(""));
        assert_eq!(refusal("compressed=10"), "compressed cannot be 10");
    }
}
