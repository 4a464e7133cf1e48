//! The web service: routes, who may ask, and how a problem is told.

pub(crate) mod body;
mod convert;
mod esi;
pub(crate) mod input;
mod lookup;
mod negotiate;
mod options;
mod stream;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, AUTHORIZATION,
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, VARY,
    WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::counters::{PROMETHEUS, Protocol, Route};
use crate::idle::Idle;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::service::{Service, State, stopped};
use body::Body;
use convert::Conversion;
use input::Upload;

/// The media type of a term as `term_to_binary` writes it.
pub(crate) const ERLANG_BINARY: &str = "application/x-erlang-binary";

/// The media type of terms with their lengths before them.
pub(crate) const ERLANG_STREAM: &str = "application/x-erlang-binary-stream";

/// The media type of one term in JSON.
pub(crate) const JSON: &str = "application/json";

/// The media type of JSON in lines.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// The media type of Erlang's syntax.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// What there is, for people.
const ROUTES: &str = "\
Erlang's terms over HTTP.

  GET  /terms/NAME/KEY?path=a/b/1&mode=readable   a term where it lies, or a part of it
  POST /terms/to-json?mode=readable               a term, or a stream of them, as JSON
  POST /terms/from-json                           and back
  POST /terms/to-text                             in Erlang's syntax
  POST /terms/from-text                           and back
  GET  /esi/Module:Function?Input                 a function, called as mod_esi does
  GET  /metrics                                   what was counted, for Prometheus
";

/// Why a body of another coding, or of several, is refused.
const ONE_CODING: &str = "a body can be gzip or zstd, and one of them alone";

/// What a connection reads at once, and a head may have.
const BUFFER_BYTES: usize = 64 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 100;

/// Serves a connection until it ends, or until `stop` holds `true` and its request is answered.
pub async fn serve<S>(service: Arc<Service>, stream: S, peer: SocketAddr, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = service.state();
    let settings = &state.settings;
    let open = service.counters().connection(Protocol::Http);
    let idle = Idle::new(stream, open, Duration::from_secs(settings.idle_seconds_max));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(settings.head_seconds_max))
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX);
    let answer = |request| {
        let state = service.state();
        async move { Ok::<_, std::convert::Infallible>(answer(&state, peer, request).await) }
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(idle), service_fn(answer)));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection of the term service ended");
    }
}

/// Why a request is refused, and the header that helps.
struct Refusal {
    problem: Box<Problem>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem::new(status, code, detail).into()
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let is_busy = problem.status() == StatusCode::SERVICE_UNAVAILABLE;
        let header = is_busy.then_some((RETRY_AFTER, "5"));
        Self { problem: problem.into(), header }
    }
}

type Answer = Result<Response<Body>, Refusal>;

async fn answer(state: &State, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (body, is_read) = Upload::new(body);
    let (origin, uri) = (head.headers.get(ORIGIN).cloned(), head.uri.clone());
    let route = route(&head);
    let outcome = match framed(&head) {
        Ok(()) => respond(state, route, peer, head, body).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = outcome.unwrap_or_else(|refusal| {
        let Refusal { problem, header } = refusal;
        tracing::debug!(%peer, path = uri.path(), code = problem.code(), detail = problem.detail(), "request refused");
        let mut response = Response::new(Body::Whole(problem.to_json()));
        *response.status_mut() = problem.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().extend(header.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    });
    // What is not read is in the way of the next request (RFC 9112 §9.6). A stream is read while it is answered.
    if !is_read.load(Ordering::Relaxed) && !matches!(response.body(), Body::Stream(..)) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    state.counters.request(route, response.status().as_u16());
    share(state, origin.as_ref(), response.headers_mut());
    response
}

/// RFC 9112 §3.2 and §6.1: what a request must say of itself.
fn framed(head: &Parts) -> Result<(), Refusal> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad-host", "a request needs one header Host"));
    }
    let codings = head.headers.get_all(TRANSFER_ENCODING).iter().filter_map(|value| value.to_str().ok());
    if codings.flat_map(|value| value.split(',')).any(|coding| !coding.trim().eq_ignore_ascii_case("chunked")) {
        let detail = "a body may be chunked, and is compressed by Content-Encoding alone";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "unknown-coding", detail));
    }
    Ok(())
}

/// Says in which pages of others a browser may show the answer.
fn share(state: &State, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let origins = &state.settings.origins;
    if origins.is_empty() {
        return;
    }
    answer.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin
        && origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
    {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, content-encoding"),
    );
    response
}

/// What a request asks for.
fn route(head: &Parts) -> Route {
    match head.uri.path() {
        _ if head.method == Method::OPTIONS && head.headers.contains_key(ORIGIN) => Route::Preflight,
        "/" => Route::Root,
        "/metrics" => Route::Metrics,
        "/healthz" if matches!(head.method, Method::GET | Method::HEAD) => Route::Health,
        path => match path.strip_prefix("/terms/") {
            Some(rest) => Conversion::named(rest).map_or(Route::Term, Conversion::route),
            None => Route::Function,
        },
    }
}

async fn respond(state: &State, route: Route, peer: SocketAddr, head: Parts, body: Upload) -> Answer {
    if !matches!(route, Route::Preflight | Route::Health) {
        authorize(state, &head.headers)?;
    }
    let said = |text: Bytes, media_type: &'static str| {
        must_be(&head, &[Method::GET, Method::HEAD], "GET, HEAD")?;
        let mut response = Response::new(Body::Whole(text));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        Ok(response)
    };
    let rest = head.uri.path().strip_prefix("/terms/").unwrap_or_default();
    match route {
        Route::Preflight => Ok(preflight()),
        Route::Health => said("ok\n".into(), TEXT),
        Route::Root => said(ROUTES.into(), TEXT),
        Route::Metrics => said(state.counters.page().into(), PROMETHEUS),
        Route::Term => {
            must_be(&head, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            Box::pin(lookup::answer(state, &head, rest)).await
        }
        Route::ToJson | Route::FromJson | Route::ToText | Route::FromText => {
            must_be(&head, &[Method::POST], "POST")?;
            let conversion = Conversion::named(rest).expect("its name has led here");
            // On the heap: what a stream needs is not to be carried around for all other requests.
            Box::pin(conversion.answer(state, &head, body)).await
        }
        Route::Function => esi::answer(state, peer, head, body).await,
    }
}

fn must_be(head: &Parts, methods: &[Method], allow: &'static str) -> Result<(), Refusal> {
    if methods.contains(&head.method) {
        return Ok(());
    }
    let detail = format!("{} is not possible here, but {allow}", head.method);
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail).with(ALLOW, allow))
}

/// RFC 6750, where tokens are configured.
fn authorize(state: &State, headers: &HeaderMap) -> Result<(), Refusal> {
    let tokens = &state.settings.tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let brought = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let token = match brought.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => &[],
    };
    // All are looked at, and all of each, so that time tells nothing.
    let is_one = tokens.iter().fold(false, |found, known| found | is_same(known.as_bytes(), token));
    if is_one {
        return Ok(());
    }
    let refusal =
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "a token is needed, as Authorization: Bearer …");
    Err(refusal.with(WWW_AUTHENTICATE, "Bearer"))
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
