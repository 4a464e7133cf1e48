//! Streams of terms: each is converted when it has come, so that memory does not grow with the stream.
//!
//! Terms as bytes have their length before them (32 bits, big endian), texts end with a line feed. An answer whose head was sent
//! cannot take its status back, so a term that cannot be taken is told in the stream: as a line `{"$error":…}` in JSON, which no term
//! is, as a comment in Erlang's syntax, and between terms as a length of 0 and, behind it, the problem as a term with its length.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use magpie_etf::{Encoder, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::{mpsc, oneshot};

use super::body::{Aborted, Chunks};
use super::input::{Collected, Held, Input, unreadable};
use super::negotiate::Coding;
use crate::convert::{Converter, Form, Output};
use crate::counters::{Counters, Route};
use crate::problem::Problem;
use crate::turns::{Turn, Work, weight};

/// An answer's chunk is sent when it has so many bytes, or when no more input is there.
const CHUNK_BYTES: usize = 32 << 10;

/// Levels of compression: what costs less than the conversion.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Items {
    /// Bytes with their length before them.
    Prefixed,
    /// Lines; empty ones are no terms.
    Lines,
}

/// A stream that is converted.
pub(crate) struct Conversion {
    /// What comes.
    pub(crate) input: Input,
    /// How its terms are told apart.
    pub(crate) items: Items,
    /// What is done with them.
    pub(crate) converter: Converter,
    /// What is written.
    pub(crate) to: Form,
    /// How it is compressed.
    pub(crate) coding: Coding,
    /// Whether a term that cannot be taken is passed over.
    pub(crate) go_on: bool,
    /// Large terms take turns, and need room.
    pub(crate) work: Work,
    /// Bytes of one term.
    pub(crate) term_bytes_max: usize,
    /// What is converted is counted.
    pub(crate) counters: Arc<Counters>,
    /// As what.
    pub(crate) route: Route,
}

impl Conversion {
    /// Begins to convert, in a task of its own, which ends when nobody takes its chunks any more. Gives the first chunk and the rest.
    ///
    /// # Errors
    /// If the first term cannot be taken, and is not to be passed over.
    pub(crate) async fn begin(self) -> Result<(Bytes, Chunks), Problem> {
        let (first, beginning) = oneshot::channel();
        let (chunks, rest) = mpsc::channel(1);
        let pump = Pump {
            output: self.converter.output(),
            item: Collected::new(&self.work.room, self.term_bytes_max),
            number: 0,
            held: Held::default(),
            sink: Sink { first: Some(first), chunks, coder: Coder::new(self.coding), work: self.work.clone() },
            of: self,
        };
        tokio::spawn(pump.run());
        match beginning.await {
            Ok(outcome) => outcome.map(|chunk| (chunk, rest)),
            Err(_) => Ok((Bytes::new(), rest)),
        }
    }
}

/// Who takes the chunks has gone.
struct Gone;

/// What comes next of a stream.
enum Next {
    /// Nothing.
    End,
    /// A term of `length` bytes at the beginning of what is there, of which `consumed` are then done with.
    Here { length: usize, consumed: usize },
    /// A term that was collected.
    Collected,
    /// Something that is no term.
    Problem(Problem),
    /// The stream itself is damaged.
    Broken(Problem),
}

struct Pump {
    of: Conversion,
    output: Output,
    item: Collected,
    number: u64,
    /// Room for what was written of large terms.
    held: Held,
    sink: Sink,
}

impl Pump {
    async fn run(mut self) {
        if self.convert_all().await.is_ok() {
            let _ = self.sink.finish(self.output.take(), self.held).await;
        }
    }

    async fn convert_all(&mut self) -> Result<(), Gone> {
        loop {
            let next = match self.of.items {
                Items::Prefixed => self.prefixed().await?,
                Items::Lines => self.line().await?,
            };
            let is_broken = matches!(next, Next::Broken(_));
            let outcome = match next {
                Next::End => return Ok(()),
                Next::Here { length, consumed } => {
                    // Nothing is waited for: it is there.
                    let there = self.of.input.fill_buf().await.unwrap_or_default();
                    let item = there.get(..length).unwrap_or_default();
                    let (converter, output) = (&mut self.of.converter, &mut self.output);
                    let outcome = convert(&self.of.work, converter, item, output, self.of.to).await;
                    self.of.input.consume(consumed);
                    outcome
                }
                Next::Collected => {
                    let (converter, output) = (&mut self.of.converter, &mut self.output);
                    let outcome = convert(&self.of.work, converter, &self.item.bytes, output, self.of.to).await;
                    self.item.clear();
                    outcome
                }
                Next::Problem(problem) | Next::Broken(problem) => Err(problem),
            };
            match outcome {
                Ok(((), held)) => {
                    self.held = held;
                    self.of.counters.converted(self.of.route, 1);
                }
                Err(problem) => {
                    if self.failed(problem).is_break() || is_broken {
                        return Ok(());
                    }
                }
            }
            self.number += 1;
            if self.output.len() >= CHUNK_BYTES {
                self.send().await?;
            }
        }
    }

    /// Sends what was written.
    async fn send(&mut self) -> Result<(), Gone> {
        self.sink.send(self.output.take(), std::mem::take(&mut self.held)).await
    }

    /// What is there of the input, at least a byte but at its end. Before it waits, what was written goes out.
    async fn fill(&mut self) -> Result<io::Result<&[u8]>, Gone> {
        // What is inflated is there as long as one likes: others have their turn.
        tokio::task::consume_budget().await;
        let there = poll_fn(|context| Poll::Ready(Pin::new(&mut self.of.input).poll_fill_buf(context).map_ok(|_| ())));
        match there.await {
            // It is said once: who asks again is told that this is the end.
            Poll::Ready(Err(error)) => return Ok(Err(error)),
            Poll::Pending if !self.output.is_empty() => self.send().await?,
            _ => {}
        }
        Ok(self.of.input.fill_buf().await)
    }

    async fn prefixed(&mut self) -> Result<Next, Gone> {
        let mut length = [0; 4];
        let mut got = 0;
        while got < 4 {
            let there = match self.fill().await? {
                Ok([]) if got == 0 => return Ok(Next::End),
                Ok([]) => return Ok(Next::Broken(Problem::cut_short("the stream ends within a length"))),
                Ok(there) => there,
                Err(error) => return Ok(Next::Broken(unreadable(&error))),
            };
            let amount = there.len().min(4 - got);
            length[got..got + amount].copy_from_slice(&there[..amount]);
            self.of.input.consume(amount);
            got += amount;
        }
        self.collect(u32::from_be_bytes(length) as usize).await
    }

    /// A term of this length.
    async fn collect(&mut self, length: usize) -> Result<Next, Gone> {
        let is_too_large = length > self.of.term_bytes_max;
        let mut problem = is_too_large.then(|| Problem::too_large(self.of.term_bytes_max));
        let mut left = length;
        while left > 0 && (problem.is_none() || self.of.go_on) {
            let amount = match self.fill().await? {
                Ok([]) => return Ok(Next::Broken(Problem::cut_short("the stream ends within a term"))),
                Ok(there) if left == length && there.len() >= length && problem.is_none() => {
                    return Ok(Next::Here { length, consumed: length });
                }
                Ok(there) => there.len().min(left),
                Err(error) => return Ok(Next::Broken(unreadable(&error))),
            };
            if problem.is_none() {
                let there = self.of.input.fill_buf().await.unwrap_or_default();
                problem = self.item.push(there.get(..amount).unwrap_or_default()).await.err();
            }
            self.of.input.consume(amount);
            left -= amount;
        }
        Ok(self.collected(problem))
    }

    async fn line(&mut self) -> Result<Next, Gone> {
        let mut problem = None;
        let mut is_first = true;
        loop {
            let there = match self.fill().await? {
                Ok(there) => there,
                Err(error) => return Ok(Next::Broken(unreadable(&error))),
            };
            let is_end = there.is_empty();
            let end = memchr::memchr(b'\n', there);
            let length = end.unwrap_or(there.len());
            let is_blank = there[..length].trim_ascii().is_empty();
            let consumed = end.map_or(length, |end| end + 1);
            match (is_first, end) {
                // Nothing at all, or nothing but space.
                (true, None) if is_end => return Ok(Next::End),
                (true, Some(_)) if is_blank => {
                    self.of.input.consume(consumed);
                    continue;
                }
                (true, Some(_)) if length <= self.of.term_bytes_max => return Ok(Next::Here { length, consumed }),
                _ if is_end => return Ok(self.collected(problem)),
                _ => {}
            }
            is_first = false;
            if problem.is_none() {
                let there = self.of.input.fill_buf().await.unwrap_or_default();
                problem = self.item.push(there.get(..length).unwrap_or_default()).await.err();
            }
            self.of.input.consume(consumed);
            if end.is_some() || (problem.is_some() && !self.of.go_on) {
                return Ok(self.collected(problem));
            }
        }
    }

    fn collected(&mut self, problem: Option<Problem>) -> Next {
        match problem {
            None => Next::Collected,
            Some(problem) => {
                self.item.clear();
                Next::Problem(problem)
            }
        }
    }

    /// Tells of a term that cannot be taken. Whether the stream ends by it.
    fn failed(&mut self, problem: Problem) -> ControlFlow<()> {
        let problem = problem.of_item(self.number);
        let end = if self.of.go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        if end.is_break() && self.output.is_empty() && self.sink.refuse(&problem) {
            return end;
        }
        let json = problem.to_json();
        let json = str::from_utf8(&json).unwrap_or_default();
        match (&mut self.output, self.of.to) {
            (Output::Bytes(_), _) => {
                self.output.begin_item();
                let begin = self.output.begin_item();
                if let Ok(tape) = json::from_json(json) {
                    let _ = self.output.write(tape.root(), Form::Binary(Encoder::default()), usize::MAX);
                }
                self.output.end_item(begin, "");
            }
            (text, Form::Text { .. }) => text.push(&format!("%% {json}\n")),
            (text, _) => text.push(&format!("{{\"$error\":{json}}}\n")),
        }
        end
    }
}

/// Converts a term of a stream, behind what is in the output.
async fn convert(
    work: &Work,
    converter: &mut Converter,
    item: &[u8],
    output: &mut Output,
    to: Form,
) -> Result<((), Held), Problem> {
    let converting = work.run(weight(item), to, |memory| {
        let before = output.len();
        let begin = output.begin_item();
        converter.convert(item, output, memory).inspect_err(|_| {
            output.truncate(before);
            output.shrink();
        })?;
        output.end_item(begin, if matches!(to, Form::Text { .. }) { ".\n" } else { "\n" });
        Ok(())
    });
    converting.await
}

/// Where the chunks go.
struct Sink {
    first: Option<oneshot::Sender<Result<Bytes, Problem>>>,
    chunks: mpsc::Sender<Result<Bytes, Aborted>>,
    coder: Coder,
    /// What is sent takes of its room until it has gone, and to compress much of it takes a turn.
    work: Work,
}

impl Sink {
    /// Tells the problem in place of all chunks, if there was none.
    fn refuse(&mut self, problem: &Problem) -> bool {
        self.first.take().is_some_and(|first| first.send(Err(problem.clone())).is_ok())
    }

    async fn send(&mut self, chunk: Bytes, held: Held) -> Result<(), Gone> {
        let turn = self.turn(&chunk).await;
        let chunk = turn.map(|turn| turn.run(|| self.coder.encode(chunk)));
        self.pass(chunk, held).await
    }

    async fn finish(&mut self, chunk: Bytes, held: Held) -> Result<(), Gone> {
        let turn = self.turn(&chunk).await;
        let chunk = turn.map(|turn| turn.run(|| self.coder.finish(chunk)));
        self.pass(chunk, held).await
    }

    async fn turn(&self, chunk: &Bytes) -> Result<Turn, Problem> {
        let weight = if matches!(self.coder, Coder::Identity) { 0 } else { chunk.len() };
        self.work.turns.wait(weight).await
    }

    async fn pass(&mut self, chunk: Result<Bytes, Problem>, held: Held) -> Result<(), Gone> {
        let chunk = match chunk {
            Ok(chunk) => self.work.room.hold_in(held, chunk).await,
            Err(problem) => Err(problem),
        };
        match (self.first.take(), chunk) {
            (Some(first), chunk) => first.send(chunk).map_err(|_| Gone),
            (None, Ok(chunk)) if chunk.is_empty() => Ok(()),
            (None, Ok(chunk)) => self.chunks.send(Ok(chunk)).await.map_err(|_| Gone),
            (None, Err(_)) => {
                let _ = self.chunks.send(Err(Aborted)).await;
                Err(Gone)
            }
        }
    }
}

/// Compresses chunks, each so that it can be read when it has come.
enum Coder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Coder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL);
                Self::Zstd(encoder.expect("the level is one that there is"))
            }
        }
    }

    fn encode(&mut self, chunk: Bytes) -> Bytes {
        const NEVER: &str = "a vector takes all";
        match self {
            Self::Identity => chunk,
            Self::Gzip(encoder) => {
                encoder.write_all(&chunk).and_then(|()| encoder.flush()).expect(NEVER);
                std::mem::take(encoder.get_mut()).into()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&chunk).and_then(|()| encoder.flush()).expect(NEVER);
                std::mem::take(encoder.get_mut()).into()
            }
        }
    }

    fn finish(&mut self, chunk: Bytes) -> Bytes {
        const NEVER: &str = "a vector takes all";
        let rest = self.encode(chunk);
        let end: Bytes = match std::mem::replace(self, Self::Identity) {
            Self::Identity => return rest,
            Self::Gzip(encoder) => encoder.finish().expect(NEVER).into(),
            Self::Zstd(encoder) => encoder.finish().expect(NEVER).into(),
        };
        [rest, end].concat().into()
    }
}

/// Compresses what is there.
pub(crate) fn compressed(coding: Coding, whole: Bytes) -> Bytes {
    Coder::new(coding).finish(whole)
}
