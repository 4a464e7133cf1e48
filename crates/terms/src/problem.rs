//! RFC 9457: why a request failed, for programs.

use bytes::Bytes;
use hyper::StatusCode;
use magpie_etf::json::JsonError;
use magpie_etf::text::TextError;
use magpie_etf::{DecodeError, Reason};
use serde::Serialize;

use crate::turns::TOO_MUCH_MEMORY;

/// The media type.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong with a request, or with a term in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What a program may look at: `bad-term`, `no-such-key` …
    code: &'static str,
    detail: String,
    /// Where in the term it shows, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
    /// Whether `offset` counts bytes of the inflated term.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inflated: bool,
    /// Which term of a stream, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<u64>,
}

impl Problem {
    /// A problem; `detail` is for people.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let (kind, status, detail) = ("about:blank", status.as_u16(), detail.into());
        Self { kind, title, status, code, detail, offset: None, inflated: false, item: None }
    }

    /// One term has more bytes than it may.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let detail = format!("a term has more than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// Others take what there is.
    pub(crate) fn busy() -> Self {
        let detail = "too many large terms at once: ask again in a while";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    }

    /// The input ended within a term.
    pub(crate) fn cut_short(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "cut-short", detail)
    }

    /// Of which term of a stream it is, from 0.
    #[must_use]
    pub(crate) fn of_item(self, item: u64) -> Self {
        Self { item: Some(item), ..self }
    }

    /// Where in the term it shows, in bytes.
    #[must_use]
    pub(crate) fn at(self, offset: usize) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// What a program may look at.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// For people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// As JSON, on one line.
    pub(crate) fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers are JSON").into()
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        if let Reason::TapeTooLarge(memory_max) = error.reason {
            return Self::too_much_memory(memory_max);
        }
        let code = match error.reason {
            Reason::InflatedTooLarge(_) => "inflates-too-large",
            _ => "bad-term",
        };
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.reason.to_string()).at(error.offset);
        Self { inflated: error.inflated, ..problem }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        if error.is_too_large {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_MUCH_MEMORY, error.reason);
        }
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-json", error.reason).at(error.offset)
    }
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        if error.is_too_large {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_MUCH_MEMORY, error.reason);
        }
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-text", error.reason).at(error.offset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_bad_term_names_its_offset_and_the_reason() {
        let problem: Problem = magpie_etf::decode(&[131, 104, 2, 97]).err().unwrap().into();
        let json: serde_json::Value = serde_json::from_slice(&problem.of_item(3).to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "about:blank", "title": "Unprocessable Entity", "status": 422, "code": "bad-term",
                "detail": "the term goes on after the end of the input", "offset": 1, "item": 3,
            })
        );
    }
}
