//! `POST /terms/to-json`, `from-json`, `to-text`, `from-text`: one term, or a stream of them.

use std::sync::Arc;

use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::body::Body;
use super::input::{self, Held, Upload, whole};
use super::negotiate::{Coding, accepted, accepted_coding, content_coding, content_type};
use super::options::Options;
use super::stream::{self, Items};
use super::{Answer, ERLANG_BINARY, ERLANG_STREAM, JSON, NDJSON, ONE_CODING, Refusal, TEXT};
use crate::convert::{Converter, Form, Output, consult};
use crate::counters::Route;
use crate::problem::Problem;
use crate::service::State;
use crate::turns::weight;

/// Answers of fewer bytes are not compressed.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// What of a request the form of an answer depends on.
pub(super) const VARIES: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    ToJson,
    FromJson,
    ToText,
    FromText,
}

impl Conversion {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "to-json" => Self::ToJson,
            "from-json" => Self::FromJson,
            "to-text" => Self::ToText,
            "from-text" => Self::FromText,
            _ => return None,
        })
    }

    /// As what it is counted.
    pub(super) fn route(self) -> Route {
        match self {
            Self::ToJson => Route::ToJson,
            Self::FromJson => Route::FromJson,
            Self::ToText => Route::ToText,
            Self::FromText => Route::FromText,
        }
    }

    pub(super) async fn answer(self, state: &State, head: &Parts, body: Upload) -> Answer {
        let options = Options::parse(head.uri.query(), self.parameters())?;
        let is_stream = self.is_stream(head, &options)?;
        let coding = content_coding(&head.headers).ok_or_else(|| {
            let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-coding", ONE_CODING);
            refusal.with(ACCEPT_ENCODING, "gzip, zstd")
        })?;
        let written = self.written(is_stream);
        let essence = written.split(';').next().unwrap_or(written);
        accepted(&head.headers, &[essence]).ok_or_else(|| {
            Refusal::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", format!("what there is here is {essence}"))
        })?;
        let answer_coding = accepted_coding(&head.headers);
        let settings = &state.settings;
        let (from, to) = self.forms(&options, is_stream);
        let mut converter = Converter::new(from, to, settings.inflated_bytes_max);
        if is_stream {
            let conversion = stream::Conversion {
                input: input::reader(body, coding),
                items: if self == Self::FromJson { Items::Lines } else { Items::Prefixed },
                converter,
                to,
                coding: answer_coding,
                go_on: options.go_on,
                work: state.work.clone(),
                counters: Arc::clone(&state.counters),
                route: self.route(),
                term_bytes_max: settings.term_bytes_max,
            };
            let (first, rest) = conversion.begin().await?;
            return Ok(respond(Body::Stream(first, rest), written, answer_coding));
        }
        let term = whole(body, coding, &state.room, settings.term_bytes_max).await?;
        let weight = weight(term.bytes());
        let converting = state.work.run(weight, to, |memory| self.convert(&mut converter, to, term.bytes(), memory));
        let ((output, terms), held) = converting.await?;
        drop(term);
        state.counters.converted(self.route(), terms);
        respond_whole(state, output, held, written, answer_coding).await
    }

    /// The terms in the other form, and how many.
    fn convert(
        self,
        converter: &mut Converter,
        to: Form,
        term: &[u8],
        memory: usize,
    ) -> Result<(Output, u64), Problem> {
        let mut output = Output::of(to);
        let mut terms = 0;
        if self == Self::FromText {
            for (number, tape) in (0..).zip(consult(term, memory)?) {
                let of_item = |problem: Problem| problem.of_item(number);
                let tape = tape.map_err(of_item)?;
                let begin = output.begin_item();
                let left = memory.saturating_sub(output.len());
                output
                    .write_tape(&tape, to.of_weight(term.len()), left)
                    .map_err(|problem| problem.within(memory))
                    .map_err(of_item)?;
                output.end_item(begin, "");
                terms += 1;
            }
            output.shrink();
            return Ok((output, terms));
        }
        converter.convert(term, &mut output, memory)?;
        output.shrink();
        match self {
            Self::ToText => output.push(".\n"),
            Self::ToJson => output.push("\n"),
            _ => {}
        }
        Ok((output, 1))
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::ToJson => &["mode", "stream", "errors"],
            Self::ToText => &["layout", "stream", "errors"],
            Self::FromJson => &["minor_version", "compressed", "deterministic", "stream", "errors"],
            Self::FromText => &["minor_version", "compressed", "deterministic"],
        }
    }

    fn forms(self, options: &Options, is_stream: bool) -> (Form, Form) {
        let binary = Form::Binary(options.encoder);
        match self {
            Self::ToJson => (binary, Form::Json(options.mode)),
            Self::ToText => (binary, Form::Text { over_lines: options.over_lines.unwrap_or(!is_stream) }),
            Self::FromJson => (Form::Json(options.mode), binary),
            Self::FromText => (Form::Text { over_lines: false }, binary),
        }
    }

    /// Whether the body has several terms: its media type says it, or the parameter `stream`.
    fn is_stream(self, head: &Parts, options: &Options) -> Result<bool, Refusal> {
        let (one, many): (&[&str], &[&str]) = match self {
            Self::ToJson | Self::ToText => (&[ERLANG_BINARY, "application/bert"], &[ERLANG_STREAM]),
            Self::FromJson => (&[JSON], &[NDJSON, "application/jsonl", "application/json-seq"]),
            Self::FromText => (&["text/plain"], &[]),
        };
        let said = match content_type(&head.headers) {
            None => None,
            Some(name) if one.contains(&name.as_str()) => Some(false),
            Some(name) if many.contains(&name.as_str()) => Some(true),
            Some(name) => {
                let detail = format!("a body can be {} here, not {name}", [one, many].concat().join(", "));
                let accept = match self {
                    Self::ToJson | Self::ToText => "application/x-erlang-binary, application/x-erlang-binary-stream",
                    Self::FromJson => "application/json, application/x-ndjson",
                    Self::FromText => "text/plain",
                };
                let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-media-type", detail);
                return Err(refusal.with(ACCEPT, accept));
            }
        };
        Ok(options.stream.or(said).unwrap_or(false))
    }

    /// The media type of the answer. What is read from text are always several terms.
    fn written(self, is_stream: bool) -> &'static str {
        match self {
            Self::ToJson if is_stream => NDJSON,
            Self::ToJson => JSON,
            Self::ToText => TEXT,
            Self::FromJson if !is_stream => ERLANG_BINARY,
            Self::FromJson | Self::FromText => ERLANG_STREAM,
        }
    }
}

/// An answer that is there, compressed if that is wanted and is worth it.
pub(super) async fn respond_whole(
    state: &State,
    mut output: Output,
    held: Held,
    media_type: &'static str,
    coding: Coding,
) -> Answer {
    // Until it has gone: who reads slowly must not keep more than others leave.
    let whole = state.room.hold_in(held, output.take()).await?;
    if coding == Coding::Identity || whole.len() < COMPRESSED_BYTES_MIN {
        return Ok(respond(Body::Whole(whole), media_type, Coding::Identity));
    }
    let compressed = state.work.turns.wait(whole.len()).await?.run(|| stream::compressed(coding, whole));
    Ok(respond(Body::Whole(state.room.hold(compressed).await?), media_type, coding))
}

fn respond(body: Body, media_type: &'static str, coding: Coding) -> Response<Body> {
    let mut response = Response::new(body);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(VARY, VARIES);
    if coding != Coding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}
