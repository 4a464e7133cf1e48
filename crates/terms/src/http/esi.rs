//! `/esi/Module:Function?Input`: functions called as `mod_esi` of Erlang's `httpd` calls them.
//!
//! Differences, on purpose: the input may hold bytes that are not ASCII, which `httpd` takes for Latin-1.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::body::{Aborted, Body, Chunks};
use super::input::{Held, Upload, Whole, whole};
use super::negotiate::content_coding;
use super::{Answer, ONE_CODING, Refusal, must_be};
use crate::functions::{Deliver, EsiCall, EsiInput, Unknown};
use crate::service::State;

/// Those that `mod_esi` has a sense for.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Chunks that wait to be sent.
const CHUNKS_MAX: usize = 4;

/// What a path calls.
#[derive(Debug, PartialEq, Eq)]
struct Called<'a> {
    module: &'a str,
    function: &'a str,
    /// What follows the function's name, with the `?` or `/` before it.
    rest: &'a str,
}

pub(super) async fn answer(state: &State, peer: SocketAddr, head: Parts, body: Upload) -> Answer {
    must_be(&head, &METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE")?;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let aliases = &state.settings.esi;
    let below = aliases.iter().filter_map(|alias| {
        let rest = target.strip_prefix(alias.trim_end_matches('/'))?;
        rest.strip_prefix('/').map(|rest| (alias.len(), rest))
    });
    let nothing = || Refusal::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path");
    let no_function =
        || Refusal::new(StatusCode::BAD_REQUEST, "no-function", "a function is called as Module:Function?Input");
    let is_alias = |alias: &String| alias.len() > 1 && alias.trim_end_matches('/') == head.uri.path();
    if aliases.iter().any(is_alias) {
        return Err(no_function());
    }
    let (length, call) = below.max_by_key(|(length, _)| *length).ok_or_else(nothing)?;
    let whole_name = matches!(head.method, Method::POST);
    let called = parse(call, whole_name).ok_or_else(|| match length {
        // Below the root everything is, and what calls nothing is simply not there.
        0 | 1 => nothing(),
        _ => no_function(),
    })?;
    let allowed = &state.settings.esi_modules;
    if !allowed.is_empty() && !allowed.iter().any(|module| module == called.module) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "module-not-allowed", "this module may not be called"));
    }
    let function = state.functions.get(called.module, called.function).map_err(|unknown| match unknown {
        Unknown::Module => Refusal::new(StatusCode::NOT_FOUND, "no-such-module", "there is no such module"),
        Unknown::Function => Refusal::new(StatusCode::NOT_FOUND, "no-such-function", "the module has no such function"),
    })?;
    let (input, held) = input(state, &head, called.rest, body).await?;
    let (module, name) = (called.module.to_owned(), called.function.to_owned());
    let call = EsiCall { module, function: name, method: head.method, input, headers: head.headers, peer };
    if let Some(answer) = function.esi_at_once(&call) {
        let (status, headers, content) = head_of(answer).ok_or_else(bad_answer)?;
        drop((call, held));
        return Ok(response(status, headers, Body::Chunked(state.room.hold(content).await?)));
    }
    let function = Arc::clone(function);
    let (chunks, delivered) = mpsc::channel(CHUNKS_MAX);
    let running = Box::pin(async move {
        function.esi(&call, Deliver(chunks)).await;
        drop(held);
    });
    let seconds = state.settings.function_seconds_max;
    delivered_by(running, delivered, seconds).await
}

/// What the function is asked, and the room that it takes while the function has it.
async fn input(state: &State, head: &Parts, rest: &str, body: Upload) -> Result<(EsiInput, Option<Held>), Refusal> {
    if !matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        return Ok((EsiInput::Text(unreserved(rest.get(1..).unwrap_or_default())), None));
    }
    let coding = content_coding(&head.headers)
        .ok_or_else(|| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-coding", ONE_CODING))?;
    let bytes_max = state.settings.term_bytes_max;
    let (body, held): (Bytes, _) = match whole(body, coding, &state.room, bytes_max).await? {
        Whole::Chunk(chunk) => (chunk, None),
        Whole::Collected(collected) => {
            let (bytes, held) = collected.into_held();
            (bytes.into(), Some(held))
        }
    };
    let input = match head.method {
        Method::POST => EsiInput::Body(body),
        _ => EsiInput::QueryAndBody(rest.strip_prefix('?').map(unreserved), body),
    };
    Ok((input, held))
}

/// What a path below an alias calls; none if it names no function. A POST's function is all that follows the module.
fn parse(call: &str, whole_name: bool) -> Option<Called<'_>> {
    let escaped = [call.find("%3A"), call.find("%3a")].into_iter().flatten().min();
    let plain = call.find([':', '/', '?']);
    let (at, length) = match (escaped, plain) {
        (Some(escaped), Some(plain)) if plain < escaped => (plain, 1),
        (Some(escaped), _) => (escaped, 3),
        (None, Some(plain)) => (plain, 1),
        (None, None) => return None,
    };
    if call[at..].starts_with('?') {
        return None;
    }
    let (module, rest) = (&call[..at], &call[at + length..]);
    let end = if whole_name { rest.len() } else { rest.find(['?', '/']).unwrap_or(rest.len()) };
    let (function, rest) = rest.split_at(end);
    (!module.is_empty() && !function.is_empty()).then_some(Called { module, function, rest })
}

/// Decodes the escapes of letters, digits and `-._~`, and no others (RFC 3986 §6.2.2.2).
fn unreserved(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let byte = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                plain.push(c);
                rest = &rest[at + 3..];
            }
            _ => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Runs a function until its first chunk is there, and then beside the answer.
async fn delivered_by(
    mut running: std::pin::Pin<Box<impl Future<Output = ()> + Send + 'static>>,
    mut delivered: Chunks,
    seconds_max: u64,
) -> Answer {
    let mut is_done = false;
    let first = poll_fn(|context| {
        if !is_done && running.as_mut().poll(context).is_ready() {
            is_done = true;
        }
        delivered.poll_recv(context)
    });
    let first = match tokio::time::timeout(Duration::from_secs(seconds_max), first).await {
        Ok(Some(Ok(first))) => first,
        Ok(Some(Err(Aborted)) | None) => {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no-answer", "the function gave no answer"));
        }
        Err(_) => {
            let detail = format!("the function gave no answer in {seconds_max} seconds");
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", detail));
        }
    };
    let (status, headers, content) = head_of(first).ok_or_else(bad_answer)?;
    let body = if is_done && delivered.is_empty() {
        Body::Chunked(content)
    } else {
        if !is_done {
            tokio::spawn(running);
        }
        Body::Stream(content, delivered)
    };
    Ok(response(status, headers, body))
}

fn bad_answer() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "bad-answer", "the function's headers are none")
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The headers that the first chunk begins with, and the content behind them; none if there are such that cannot be.
fn head_of(mut chunk: Bytes) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let mut headers = HeaderMap::new();
    let mut status = StatusCode::OK;
    let Some(end) = memchr::memmem::find(&chunk, b"\r\n\r\n") else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        return Some((status, headers, chunk));
    };
    let head = chunk.split_to(end + 4);
    for line in str::from_utf8(&head).ok()?.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            status = StatusCode::from_bytes(value.split(' ').next()?.as_bytes()).ok()?;
            continue;
        }
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        // How long the answer is, and how it is sent, is not the function's affair.
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
            headers.append(name, HeaderValue::from_str(value).ok()?);
        }
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/html"));
    Some((status, headers, chunk))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_path_calls_as_httpd_has_it() {
        for (call, function, rest) in [
            ("echo_server:echo?abc", "echo", "?abc"),
            ("echo_server%3Aecho?a:b/c", "echo", "?a:b/c"),
            ("echo_server%3aecho", "echo", ""),
            ("echo_server/echo/a/b?c", "echo", "/a/b?c"),
            ("echo_server:echo/abc", "echo", "/abc"),
        ] {
            assert_eq!(parse(call, false), Some(Called { module: "echo_server", function, rest }), "{call}");
        }
        assert_eq!(parse("m:echo?q=1", true), Some(Called { module: "m", function: "echo?q=1", rest: "" }));
        for call in ["echo_server", "echo_server?a:b", "echo_server:", ":echo", "", "echo_server/?x"] {
            assert_eq!(parse(call, false), None, "{call}");
        }
    }

    #[test]
    fn escapes_of_what_needs_none_are_decoded_alone() {
        assert_eq!(unreserved("a%20b+c%41%2d%2G%"), "a%20b+cA-%2G%");
        assert_eq!(unreserved("abcd你好321"), "abcd你好321");
        assert_eq!(unreserved("%E4%BD%A0"), "%E4%BD%A0");
    }

    #[test]
    fn the_first_chunk_begins_with_headers_or_is_all_content() {
        let chunk = Bytes::from_static(b"status: 201 Created\r\nX-A: 1\r\ncontent-length: 7\r\n\r\nbody");
        let (status, headers, content) = head_of(chunk).unwrap();
        assert_eq!((status, &content[..]), (StatusCode::CREATED, &b"body"[..]));
        assert_eq!((headers["x-a"].as_bytes(), headers.get(CONTENT_LENGTH)), (&b"1"[..], None));
        let (status, headers, content) = head_of(Bytes::from_static(b"<p>hello")).unwrap();
        assert_eq!(
            (status, &headers[CONTENT_TYPE], &content[..]),
            (StatusCode::OK, &HeaderValue::from_static("text/html"), &b"<p>hello"[..])
        );
        assert!(head_of(Bytes::from_static(b"no header\r\n\r\nbody")).is_none());
    }
}
