//! Functions that another server answers.
//!
//! Over the web, the request goes there with its method and its input: a GET's as the query, a POST's as the body. Over BERT-RPC, the list of
//! arguments goes there with POST as `application/x-erlang-binary`, and the answer is a term in the same form, or JSON.

use std::fmt;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use magpie_etf::{Decoder, Tape, encode, json};

use super::connect::Connect;
use super::{Answering, Call, Deliver, EsiCall, EsiInput, Failure, Function, Reply};
use crate::config::{TermFunction, Terms};
use crate::http::ERLANG_BINARY;
use crate::http::body::Body;
use crate::http::input::next_chunk;

/// Headers that go on to the other server.
const PASSED: [&str; 6] = ["accept", "accept-language", "authorization", "content-type", "cookie", "user-agent"];

/// Another server.
pub struct Forward {
    url: String,
    client: Client<Connect, Body>,
    answer_bytes_max: usize,
    /// Where requests have a token of ours, it is not for the other server.
    has_tokens: bool,
}

impl Forward {
    /// The server of a configured function; it is connected to when it is first asked.
    ///
    /// # Errors
    /// If `url` is no URL of `http` or `https`, or the authorities of `ca_file` cannot be read.
    pub fn new(function: &TermFunction, settings: &Terms) -> Result<Self, String> {
        let example = "as http://127.0.0.1:9000/path";
        let url = &function.url;
        let named = |name: &str| url.replace("{function}", name).parse::<Uri>();
        let uri = named("f").map_err(|error| format!("{error}: write it {example}"))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("write it {example}, or with https"));
        };
        if uri.query().is_some() {
            return Err("what is asked is the query: leave it out".to_owned());
        }
        // Who calls must not choose who is asked.
        if named("g").ok().as_ref().and_then(Uri::authority) != Some(authority) {
            return Err("{function} can stand in the path alone".to_owned());
        }
        let ca_file = Some(function.ca_file.as_path()).filter(|file| !file.as_os_str().is_empty());
        let connect = match (scheme, ca_file) {
            ("https", file) => Connect::tls(file)?,
            (_, None) => Connect::plain(),
            (_, Some(_)) => return Err("`ca_file` is of use with https alone".to_owned()),
        };
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connect);
        let has_tokens = !settings.tokens.is_empty();
        Ok(Self { url: url.clone(), client, answer_bytes_max: settings.term_bytes_max, has_tokens })
    }

    async fn ask(
        &self,
        function: &str,
        query: Option<&str>,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let name = percent_encoding::utf8_percent_encode(function, percent_encoding::NON_ALPHANUMERIC).to_string();
        let mut url = self.url.replace("{function}", &name);
        if let Some(query) = query {
            url.push('?');
            url.push_str(query);
        }
        let mut request = Request::new(Body::Whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|_| "the input is no query of a URL".to_owned())?;
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            format!("the server of this function cannot be asked: {error}{causes}")
        })
    }

    async fn esi_to(&self, call: &EsiCall, deliver: &Deliver) -> Result<(), String> {
        let (query, body) = match &call.input {
            EsiInput::Text(text) => ((!text.is_empty()).then_some(text.as_str()), Bytes::new()),
            EsiInput::Body(body) => (None, body.clone()),
            EsiInput::QueryAndBody(query, body) => (query.as_deref(), body.clone()),
        };
        let passed = call.headers.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
        let passed = passed.filter(|(name, _)| **name != AUTHORIZATION || !self.has_tokens);
        let headers = passed.map(|(name, value)| (name.clone(), value.clone())).collect();
        let answer = self.ask(&call.function, query, call.method.clone(), headers, body).await?;
        let mut head = BytesMut::from(format!("status: {}\r\n", answer.status().as_u16()).as_bytes());
        for (name, value) in answer.headers() {
            if name == CONTENT_TYPE || name.as_str().starts_with("x-") || is_of_content(name) {
                head.extend_from_slice(name.as_str().as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(value.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
        }
        head.extend_from_slice(b"\r\n");
        if deliver.send(head.freeze()).await.is_err() {
            return Ok(());
        }
        let mut body = answer.into_body();
        loop {
            let chunk = tokio::select! {
                chunk = next_chunk(&mut body) => chunk,
                // A server that says nothing more keeps nothing here for ever.
                () = deliver.gone() => return Ok(()),
            };
            match chunk {
                None => return Ok(()),
                Some(Err(_)) => {
                    deliver.abort().await;
                    return Ok(());
                }
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    if deliver.send(chunk).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn call_to(&self, call: Call) -> Result<Tape<'static>, Failure> {
        let failed = |code: i64, detail: String| Failure { code, class: "ForwardError", detail };
        let headers = [(CONTENT_TYPE, HeaderValue::from_static(ERLANG_BINARY))].into_iter().collect();
        let body = encode(call.arguments.root()).into();
        let answer = self.ask(&call.function, None, Method::POST, headers, body).await;
        let answer = answer.map_err(|detail| failed(502, detail))?;
        let status = i64::from(answer.status().as_u16());
        let is_json =
            answer.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = next_chunk(&mut body).await {
            bytes.extend_from_slice(&chunk.map_err(|error| failed(502, error.to_string()))?);
            if bytes.len() > self.answer_bytes_max {
                return Err(failed(502, format!("the answer has more than {} bytes", self.answer_bytes_max)));
            }
        }
        if !(200..300).contains(&status) {
            return Err(failed(status, String::from_utf8_lossy(&bytes).chars().take(1000).collect()));
        }
        if is_json {
            let text = str::from_utf8(&bytes).map_err(|error| failed(502, error.to_string()))?;
            return json::from_json(text).map_err(|error| failed(502, error.to_string()));
        }
        let tape = Decoder::default().decode_all(&bytes).map_err(|error| failed(502, error.to_string()))?;
        Ok(tape.into_owned())
    }
}

fn is_of_content(name: &HeaderName) -> bool {
    [
        "cache-control",
        "content-disposition",
        "content-language",
        "etag",
        "last-modified",
        "location",
        "set-cookie",
        "vary",
    ]
    .contains(&name.as_str())
}

impl Function for Forward {
    fn esi<'a>(&'a self, call: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()> {
        Box::pin(async move {
            if let Err(detail) = self.esi_to(call, &deliver).await {
                tracing::warn!(module = call.module, function = call.function, %detail, "a function is not answered");
                let answer =
                    format!("status: 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n{detail}\n");
                let _ = deliver.send(answer).await;
            }
        })
    }

    fn call<'a>(&'a self, call: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async move { self.call_to(call).await.map(Reply::from) })
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("url", &self.url).finish_non_exhaustive()
    }
}
