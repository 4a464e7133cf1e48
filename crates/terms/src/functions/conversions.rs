//! The module `terms`: over BERT-RPC what the routes below `/terms` do.
//!
//! `terms:to_json(Term)` gives a binary, `terms:from_json(Binary)` a term, `terms:to_text(Term)` a binary, `terms:get(Key)` the term of a
//! source, as `<<"users/42">>`, `terms:get(Key, Path)` a part of it. Over the web they are not called: there they have routes of their own.

use std::sync::Arc;

use magpie_etf::json::{self, Mode};
use magpie_etf::{Decoder, Limits, Reason, Tape, Term, TermKind, text};

use super::{Answering, Call, Deliver, EsiCall, Failure, Function, Functions, Reply};
use crate::config::Terms;
use crate::convert::{Form, Output};
use crate::problem::Problem;
use crate::select::{Part, select};
use crate::service::{self, Place};
use crate::tapes::{binary, number, owned};
use crate::turns::{Work, weight};

/// Adds those whose names nothing else is behind.
pub(crate) fn register(functions: &mut Functions, settings: &Terms, sources: &Arc<[Place]>, work: &Work) {
    let limits = Limits { inflated_bytes_max: settings.inflated_bytes_max, ..Limits::default() };
    for (name, what) in
        [("to_json", What::ToJson), ("from_json", What::FromJson), ("to_text", What::ToText), ("get", What::Get)]
    {
        let conversion = Conversion { what, limits, sources: Arc::clone(sources), work: work.clone() };
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
    work: Work,
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
            if let What::Get = self.what {
                return Ok(self.get(&call.arguments).await?.into());
            }
            let arguments = &call.arguments;
            let converting = self.work.run(arguments.weight(), Form::JSON, |memory| {
                let left = memory.checked_sub(arguments.memory()).ok_or_else(|| Problem::too_much_memory(memory))?;
                self.converted(arguments, left).map_err(|problem| problem.within(memory))
            });
            let (result, _) = converting.await.map_err(|problem| failed(&problem))?;
            result.map(Reply::from)
        })
    }
}

impl Conversion {
    /// What the one argument becomes with so much memory.
    fn converted(&self, arguments: &Tape<'_>, memory: usize) -> Result<Result<Tape<'static>, Failure>, Problem> {
        let single;
        let argument = match arguments.root().kind() {
            TermKind::List(mut elements) if elements.len() == 1 => elements.next(),
            TermKind::Bytes([byte]) => {
                single = number(i64::from(*byte));
                Some(single.root())
            }
            _ => None,
        };
        let Some(argument) = argument else { return Ok(Err(Failure::bad_argument("one argument is needed"))) };
        // The text, and the binary that it becomes.
        let of_text = memory / 2;
        let mut output = Output::Text(String::new());
        match self.what {
            What::ToJson => output.write(argument, Form::Json(Mode::Lossless), of_text)?,
            What::ToText => output.write(argument, Form::Text { over_lines: false }, of_text)?,
            What::FromJson | What::Get => {
                let text = match utf8(argument) {
                    Ok(text) => text,
                    Err(failure) => return Ok(Err(failure)),
                };
                return match json::from_json_within(text, memory) {
                    Err(error) if error.is_too_large => Err(error.into()),
                    outcome => Ok(outcome.map_err(|error| Failure::bad_argument(error.to_string()))),
                };
            }
        }
        Ok(Ok(binary(&output.take())))
    }

    async fn get(&self, arguments: &Tape<'_>) -> Result<Tape<'static>, Failure> {
        let texts = match arguments.root().kind() {
            TermKind::List(elements) if elements.len() <= 2 => {
                elements.map(|element| utf8(element).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?
            }
            _ => Vec::new(),
        };
        let [key, part @ ..] = &texts[..] else {
            return Err(Failure::bad_argument("a key is needed, and perhaps a path into the term"));
        };
        let nothing = || Failure { code: 404, class: "NoSuchKey", detail: format!("there is nothing at {key}") };
        let (source, key) = service::find(&self.sources, key).ok_or_else(nothing)?;
        let unavailable = |detail| Failure { code: 503, class: "Unavailable", detail };
        let (found, _as_it_lies) = source.get(key, &self.work.room).await.map_err(|problem| failed(&problem))?;
        let found = found.map_err(|error| unavailable(error.to_string()))?.ok_or_else(nothing)?;
        let path = part.first().map(String::as_str).unwrap_or_default();
        let reading = self.work.run(weight(&found.bytes), Form::JSON, |memory| {
            // The tape, and the copy that is the result.
            let limits = Limits { tape_bytes_max: memory / 2, ..self.limits };
            match Decoder::new(limits).decode_all(&found.bytes) {
                Err(error) if matches!(error.reason, Reason::TapeTooLarge(_)) => Err(Problem::too_much_memory(memory)),
                Err(error) => Ok(Err(unavailable(error.to_string()))),
                Ok(tape) if path.is_empty() => Ok(Ok(tape.into_owned())),
                Ok(tape) => Ok(match select(tape.root(), path) {
                    Ok(Part::Term(term)) => Ok(owned(term)),
                    Ok(Part::Byte(byte)) => Ok(number(i64::from(byte))),
                    Ok(Part::True) => Ok(text::parse("true").expect("an atom is a term")),
                    Err(error) => Err(Failure { code: 404, class: "NoSuchPart", detail: error.to_string() }),
                }),
            }
        });
        let (result, _) = reading.await.map_err(|problem| failed(&problem))?;
        result
    }
}

/// Why the work was not done.
fn failed(problem: &Problem) -> Failure {
    let class = if problem.status().is_server_error() { "Busy" } else { "TooLarge" };
    Failure { code: i64::from(problem.status().as_u16()), class, detail: problem.detail().to_owned() }
}

fn utf8(term: Term<'_>) -> Result<&str, Failure> {
    let text = term.as_binary().and_then(|bytes| str::from_utf8(bytes).ok());
    text.ok_or_else(|| Failure::bad_argument("the argument is no binary in UTF-8"))
}
