//! `echo_server:echo`: gives back what it is given.

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::{Answering, Call, Deliver, EsiCall, EsiInput, Failure, Function, Reply};
use crate::bert::elements;

const TEXT: &str = "content-type: text/plain; charset=utf-8\r\n\r\n";

/// The function.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Function for Echo {
    fn esi<'a>(&'a self, call: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()> {
        Box::pin(async move {
            if let Some(answer) = self.esi_at_once(call) {
                let _ = deliver.send(answer).await;
            }
        })
    }

    /// The input, unescaped, as text in UTF-8.
    fn esi_at_once(&self, call: &EsiCall) -> Option<Bytes> {
        let mut answer = Vec::with_capacity(256);
        answer.extend_from_slice(TEXT.as_bytes());
        match &call.input {
            EsiInput::Text(text) if text.contains('%') => answer.extend(percent_decode_str(text)),
            EsiInput::Text(text) => answer.extend_from_slice(text.as_bytes()),
            EsiInput::Body(body) | EsiInput::QueryAndBody(_, body) => answer.extend_from_slice(body),
        }
        Some(answer.into())
    }

    /// The one argument, and the stream behind it.
    fn call<'a>(&'a self, call: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let mut arguments = elements(&call.arguments);
            match (arguments.pop(), arguments.len()) {
                (Some(result), 0) => Ok(Reply { result, stream: call.stream }),
                _ => Err(Failure::bad_argument("echo takes one argument")),
            }
        })
    }
}
