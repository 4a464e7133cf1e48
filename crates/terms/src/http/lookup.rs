//! `GET /terms/NAME/KEY`: a term where it lies, whole or a part of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use magpie_etf::{Decoder, Encoder, Limits, Reason};
use percent_encoding::percent_decode_str;

use super::body::Body;
use super::convert::{VARIES, respond_whole};
use super::negotiate::{accepted, accepted_coding};
use super::options::Options;
use super::{Answer, ERLANG_BINARY, JSON, Refusal, TEXT};
use crate::convert::{Form, Output};
use crate::problem::Problem;
use crate::select::{Part, select};
use crate::service::State;
use crate::sources::{Found, SourceError};
use crate::tapes::number;
use crate::turns::weight;

const PARAMETERS: [&str; 6] = ["path", "mode", "layout", "minor_version", "compressed", "deterministic"];

const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) async fn answer(state: &State, head: &Parts, path: &str) -> Answer {
    let options = Options::parse(head.uri.query(), &PARAMETERS)?;
    let offers = [JSON, "text/plain", ERLANG_BINARY];
    let media_type = accepted(&head.headers, &offers).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            format!("what there is here is {}", offers.join(", ")),
        )
    })?;
    let nothing = || Refusal::new(StatusCode::NOT_FOUND, "no-such-key", "there is no term under this key");
    let path = percent_decode_str(path).decode_utf8().map_err(|_| nothing())?;
    let Some((source, key)) = state.source(&path) else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "no-such-source", "no source has this path"));
    };
    let (found, as_it_lies) = source.get(key, &state.room).await?;
    let found = found.map_err(|error| refused(&path, &error))?.ok_or_else(nothing)?;
    let coding = accepted_coding(&head.headers);
    let tag = tag(&found, (media_type, coding.name()));
    if matches(&head.headers, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        // What the answer with the term would have (RFC 9110 §15.4.5).
        response.headers_mut().extend([(ETAG, tag), (CACHE_CONTROL, REVALIDATE), (VARY, VARIES)]);
        return Ok(response);
    }
    let (form, media_type) = match media_type {
        JSON => (Form::Json(options.mode), JSON),
        ERLANG_BINARY => (Form::Binary(options.encoder), ERLANG_BINARY),
        _ => (Form::Text { over_lines: options.over_lines.unwrap_or(true) }, TEXT),
    };
    let limits = Limits { inflated_bytes_max: state.settings.inflated_bytes_max, ..Limits::default() };
    let form = form.of_weight(weight(&found.bytes));
    let showing = state.work.run(weight(&found.bytes), form, |memory| {
        let limits = Limits { tape_bytes_max: memory, ..limits };
        shown(&found, &options, form, limits)
    });
    let (output, held) = showing.await?;
    drop((found, as_it_lies));
    let mut response = respond_whole(state, output, held, media_type, coding).await?;
    response.headers_mut().insert(ETAG, tag);
    response.headers_mut().insert(CACHE_CONTROL, REVALIDATE);
    Ok(response)
}

fn shown(found: &Found, options: &Options, form: Form, limits: Limits) -> Result<Output, Problem> {
    let mut output = Output::of(form);
    let is_as_it_lies =
        options.path.is_none() && matches!(form, Form::Binary(Encoder { compressed: None, deterministic: false, .. }));
    let tape = Decoder::new(limits).decode_all(&found.bytes);
    let tape = tape.map_err(|error| {
        if matches!(error.reason, Reason::TapeTooLarge(_)) {
            return error.into();
        }
        let detail = format!("what lies there is no term: {error}");
        Problem::new(StatusCode::BAD_GATEWAY, "damaged", detail)
    })?;
    if is_as_it_lies && let Output::Bytes(bytes) = &mut output {
        bytes.extend_from_slice(&found.bytes);
        return Ok(output);
    }
    let memory = limits.tape_bytes_max.saturating_sub(tape.memory());
    let part = select(tape.root(), options.path.as_deref().unwrap_or_default());
    match part.map_err(|error| Problem::new(StatusCode::NOT_FOUND, "no-such-part", error.to_string()))? {
        Part::Term(term) => {
            output.write(term, form, memory).map_err(|problem| problem.within(limits.tape_bytes_max))?
        }
        Part::Byte(byte) => output.write(number(i64::from(byte)).root(), form, memory)?,
        Part::True => {
            let yes = magpie_etf::text::parse("true").expect("an atom is a term");
            output.write(yes.root(), form, memory)?;
        }
    }
    output.shrink();
    match form {
        Form::Text { .. } => output.push(".\n"),
        Form::Json(_) => output.push("\n"),
        Form::Binary(_) => {}
    }
    Ok(output)
}

fn refused(path: &str, error: &SourceError) -> Refusal {
    let (status, code) = match error {
        SourceError::Key(_) => (StatusCode::BAD_REQUEST, "bad-key"),
        SourceError::Damaged(_) => (StatusCode::BAD_GATEWAY, "damaged"),
        SourceError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    if status.is_server_error() {
        tracing::warn!(path, %error, "a source of terms fails");
    }
    Problem::new(status, code, error.to_string()).into()
}

/// An entity tag (RFC 9110 §8.8.3), weak as the same term may be said in several ways.
fn tag(found: &Found, form: (&str, &str)) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    match &found.version {
        Some(version) => version.hash(&mut hasher),
        None => found.bytes.hash(&mut hasher),
    }
    form.hash(&mut hasher);
    HeaderValue::from_str(&format!("W/\"{:016x}\"", hasher.finish())).expect("hexadecimal digits may stand in headers")
}

fn matches(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tag = tag.to_str().unwrap_or_default();
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.flat_map(|value| value.split(',')).any(|member| member.trim() == "*" || opaque(member) == opaque(tag))
}
