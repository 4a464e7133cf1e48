//! The module `terms`: over BERT-RPC what the routes below `/terms` do.
//!
//! `terms:to_json(Term)` gives a binary, `terms:from_json(Binary)` a term, `terms:to_text(Term)` a binary, `terms:get(Path)` the term of a
//! source, as `<<"users/42">>`. Over the web they are not called: there they have routes of their own.

use std::sync::Arc;

use magpie_etf::json::{self, Mode};
use magpie_etf::{Decoder, Limits, Tape, Term, text};

use super::{Answering, Call, Deliver, EsiCall, Failure, Function, Functions, Reply};
use crate::bert::{binary, elements};
use crate::config::Terms;
use crate::service::{self, Place};
use crate::turns::{Turns, weight};

/// Adds those whose names nothing else is behind.
pub(crate) fn register(functions: &mut Functions, settings: &Terms, sources: &Arc<[Place]>, turns: &Turns) {
    let limits = Limits { inflated_bytes_max: settings.inflated_bytes_max, ..Limits::default() };
    for (name, what) in
        [("to_json", What::ToJson), ("from_json", What::FromJson), ("to_text", What::ToText), ("get", What::Get)]
    {
        let conversion = Conversion { what, limits, sources: Arc::clone(sources), turns: turns.clone() };
        functions.set_unless_known("terms", name, Arc::new(conversion));
    }
}

#[derive(Clone, Copy)]
enum What {
    ToJson,
    FromJson,
    ToText,
    Get,
}

struct Conversion {
    what: What,
    limits: Limits,
    sources: Arc<[Place]>,
    turns: Turns,
}

impl Function for Conversion {
    fn esi<'a>(&'a self, _: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()> {
        Box::pin(async move {
            let answer = "status: 404 Not Found\r\ncontent-type: text/plain\r\n\r\nOver the web, ask below /terms.\n";
            let _ = deliver.send(answer).await;
        })
    }

    fn call<'a>(&'a self, call: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let turn = self.turns.wait(call.arguments.weight()).await;
            let result = turn.run(|| {
                let mut arguments = elements(&call.arguments);
                let (Some(argument), 0) = (arguments.pop(), arguments.len()) else {
                    return Err(Failure::bad_argument("one argument is needed"));
                };
                Ok(match self.what {
                    What::ToJson => binary(json::to_json(argument.root(), Mode::Lossless).as_bytes()),
                    What::ToText => binary(text::line(argument.root(), true).as_bytes()),
                    What::FromJson => json::from_json(utf8(argument.root())?)
                        .map_err(|error| Failure::bad_argument(error.to_string()))?,
                    What::Get => argument,
                })
            })?;
            match self.what {
                What::Get => Ok(self.get(utf8(result.root())?).await?.into()),
                _ => Ok(result.into()),
            }
        })
    }
}

impl Conversion {
    async fn get(&self, path: &str) -> Result<Tape<'static>, Failure> {
        let nothing = || Failure { code: 404, class: "NoSuchKey", detail: format!("there is nothing at {path}") };
        let (source, key) = service::find(&self.sources, path).ok_or_else(nothing)?;
        let failed = |detail| Failure { code: 503, class: "Unavailable", detail };
        let found = source.get(key).await.map_err(|error| failed(error.to_string()))?.ok_or_else(nothing)?;
        let turn = self.turns.wait(weight(&found.bytes)).await;
        turn.run(|| {
            let tape = Decoder::new(self.limits).decode_all(&found.bytes).map_err(|error| failed(error.to_string()))?;
            Ok(tape.into_owned())
        })
    }
}

fn utf8(term: Term<'_>) -> Result<&str, Failure> {
    let text = term.as_binary().and_then(|bytes| str::from_utf8(bytes).ok());
    text.ok_or_else(|| Failure::bad_argument("the argument is no binary in UTF-8"))
}
