//! Bodies of requests: as something to read from, decoded, and whole within limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Buf, Bytes};
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::negotiate::Coding;
use crate::problem::Problem;

/// What is read at once of a body that is decoded.
const BUFFER_BYTES: usize = 64 << 10;

/// RFC 9659 §3: a decoder takes windows of up to 8 MiB. A frame of a few bytes may ask for more, which would be memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Terms of up to so many bytes are not counted.
const SMALL_BYTES: usize = 64 << 10;

/// How long a large term waits for room.
const ROOM_SECONDS_MAX: u64 = 10;

/// A term that has room may come slowly for so long, and then no more slowly than this: others wait for the room.
const SLOW_SECONDS_MAX: u64 = 60;
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The body of a request.
pub(crate) struct Upload {
    body: Incoming,
    /// Whether all of it was read.
    ended: Arc<AtomicBool>,
}

impl Upload {
    /// The body, and what tells later whether all of it was read.
    pub(crate) fn new(body: Incoming) -> (Self, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(body.is_end_stream()));
        (Self { body, ended: Arc::clone(&ended) }, ended)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body as something to read from.
pub(crate) type Input = Box<dyn AsyncBufRead + Send + Unpin>;

/// What the body says, decoded.
pub(crate) fn reader(body: Upload, coding: Coding) -> Input {
    let plain = BodyReader { body, chunk: Bytes::new() };
    match coding {
        Coding::Identity => Box::new(plain),
        Coding::Gzip => {
            let mut decoder = GzipDecoder::new(plain);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
        Coding::Zstd => {
            let mut decoder = ZstdDecoder::with_params(plain, &[DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)]);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    }
}

/// The next bytes of a body, as they come; trailers are none.
pub(crate) async fn next_chunk<B>(body: &mut B) -> Option<Result<Bytes, hyper::Error>>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

struct BodyReader {
    body: Upload,
    chunk: Bytes,
}

impl AsyncBufRead for BodyReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.chunk.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                // Trailers say nothing to us.
                Some(Ok(frame)) => this.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => break,
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let there = ready!(self.as_mut().poll_fill_buf(context))?;
        let amount = there.len().min(buffer.remaining());
        buffer.put_slice(&there[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

/// Why a body could not be read.
pub(crate) fn unreadable(error: &io::Error) -> Problem {
    let detail = match is_cut(error) {
        true => "the body was cut: it ended before it was whole".to_owned(),
        false => format!("the body cannot be read: {error}"),
    };
    Problem::new(StatusCode::BAD_REQUEST, "bad-body", detail)
}

/// Whether the connection, or what is compressed, ended before its end.
fn is_cut(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let here = error.downcast_ref::<io::Error>();
        if here.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
        {
            return true;
        }
        cause = match here.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// The room for large terms, which all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Room {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))), bytes }
    }

    /// How large it is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Room for so many bytes, once it is free; small ones need none.
    ///
    /// # Errors
    /// If no room gets free.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Held, Problem> {
        let mut held = Held::default();
        self.fit(&mut held, bytes).await?;
        Ok(held)
    }

    /// Changes how much is taken: what is too much is free at once, more is there once it is free.
    ///
    /// # Errors
    /// If no room gets free.
    pub(crate) async fn fit(&self, held: &mut Held, bytes: usize) -> Result<(), Problem> {
        // What is longer than the whole room gets all of it.
        let wanted = if bytes <= SMALL_BYTES { 0 } else { bytes.min(self.bytes) };
        let taken = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted > taken {
            let more = self.acquire(wanted - taken).await?;
            match &mut held.0 {
                Some(taken) => taken.merge(more),
                None => held.0 = Some(more),
            }
        } else if wanted == 0 {
            held.0 = None;
        } else if let Some(taken_all) = &mut held.0 {
            drop(taken_all.split(taken - wanted));
        }
        Ok(())
    }

    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let acquired = Arc::clone(&self.free).acquire_many_owned(bytes);
        match tokio::time::timeout(Duration::from_secs(ROOM_SECONDS_MAX), acquired).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::busy()),
        }
    }

    /// Keeps room for bytes that are sent, until they have gone.
    ///
    /// # Errors
    /// If no room gets free.
    pub(crate) async fn hold(&self, bytes: Bytes) -> Result<Bytes, Problem> {
        self.hold_in(Held::default(), bytes).await
    }

    /// Keeps so much of the room that is taken already, or more.
    ///
    /// # Errors
    /// If more is needed and does not get free.
    pub(crate) async fn hold_in(&self, mut held: Held, bytes: Bytes) -> Result<Bytes, Problem> {
        self.fit(&mut held, bytes.len()).await?;
        Ok(if held.0.is_some() { Bytes::from_owner(HeldBytes { bytes, _held: held }) } else { bytes })
    }
}

/// Room that is taken, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

/// Bytes with the room that they take.
struct HeldBytes {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that are collected, and the room that they take.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    bytes_max: usize,
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
    /// When room was first taken.
    since: Instant,
}

impl Collected {
    /// Nothing yet.
    pub(crate) fn new(room: &Room, bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, room: room.clone(), taken: None, since: Instant::now() }
    }

    /// The bytes, and the room that is kept for them.
    pub(crate) fn into_held(self) -> (Vec<u8>, Held) {
        (self.bytes, Held(self.taken))
    }

    /// Gives the room back.
    pub(crate) fn clear(&mut self) {
        self.taken = None;
        self.bytes.clear();
        self.bytes.shrink_to(SMALL_BYTES);
    }

    /// Appends bytes, once there is room. After an error there is nothing, and no room is taken.
    ///
    /// # Errors
    /// If they are more than one term may have, or no room gets free, or they come too slowly.
    pub(crate) async fn push(&mut self, more: &[u8]) -> Result<(), Problem> {
        let outcome = self.try_push(more).await;
        if outcome.is_err() {
            self.clear();
        }
        outcome
    }

    async fn try_push(&mut self, more: &[u8]) -> Result<(), Problem> {
        let length = self.bytes.len() + more.len();
        if length > self.bytes_max {
            return Err(Problem::too_large(self.bytes_max));
        }
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if taken > 0 && self.is_slow(length) {
            let detail =
                format!("a term of more than {SMALL_BYTES} bytes must come at {BYTES_PER_SECOND_MIN} a second");
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail));
        }
        if length > SMALL_BYTES && length > taken {
            // By doubling, as the vector grows.
            let wanted = length.max(taken * 2).min(self.bytes_max) - taken;
            let permit = self.room.acquire(wanted).await?;
            match &mut self.taken {
                Some(taken) => taken.merge(permit),
                None => {
                    self.taken = Some(permit);
                    self.since = Instant::now();
                }
            }
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn is_slow(&self, length: usize) -> bool {
        let seconds = self.since.elapsed().as_secs();
        seconds > SLOW_SECONDS_MAX && (length as u64) < seconds * BYTES_PER_SECOND_MIN
    }
}

/// A body that is one term.
#[derive(Debug)]
pub(crate) enum Whole {
    /// It came at once.
    Chunk(Bytes),
    /// It was put together.
    Collected(Collected),
}

impl Whole {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(bytes) => bytes,
            Self::Collected(collected) => &collected.bytes,
        }
    }
}

/// Reads a body that is one term.
pub(crate) async fn whole(mut body: Upload, coding: Coding, room: &Room, bytes_max: usize) -> Result<Whole, Problem> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Problem::too_large(bytes_max));
    }
    let mut collected = Collected::new(room, bytes_max);
    if coding == Coding::Identity {
        // Most come whole, with the head.
        let first = next_chunk(&mut body).await.transpose();
        let chunk = first.map_err(|error| unreadable(&io::Error::other(error)))?.unwrap_or_default();
        if body.is_end_stream() && chunk.len() <= bytes_max {
            return Ok(Whole::Chunk(chunk));
        }
        collected.push(&chunk).await?;
    }
    let mut input = reader(body, coding);
    loop {
        let chunk = input.fill_buf().await.map_err(|error| unreadable(&error))?;
        if chunk.is_empty() {
            return Ok(Whole::Collected(collected));
        }
        collected.push(chunk).await?;
        let length = chunk.len();
        input.consume(length);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_terms_wait_for_room_and_are_refused_when_none_gets_free() {
        let room = Room::new(300_000);
        let mut first = Collected::new(&room, 200_000);
        first.push(&[0; 200_000]).await.unwrap();
        let mut second = Collected::new(&room, 200_000);
        // Small ones need no room.
        second.push(&[0; SMALL_BYTES]).await.unwrap();
        let problem = second.push(&[0; 100_000]).await.unwrap_err();
        assert_eq!((problem.code(), problem.status()), ("busy", StatusCode::SERVICE_UNAVAILABLE));
        first.clear();
        second.push(&[0; 200_000]).await.unwrap();
        assert_eq!(second.push(&[0; 100_000]).await.unwrap_err().code(), "too-large");
        // What is refused keeps no room.
        first.push(&[0; 200_000]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_keeps_its_room_until_it_has_gone() {
        let room = Room::new(300_000);
        let mut sent = room.hold(vec![7; 200_000].into()).await.unwrap();
        assert_eq!(room.hold(vec![0; 200_000].into()).await.unwrap_err().code(), "busy");
        assert_eq!(room.hold(vec![0; SMALL_BYTES].into()).await.unwrap().len(), SMALL_BYTES);
        let rest = sent.split_off(100_000);
        drop(sent);
        assert!(room.hold(vec![0; 200_000].into()).await.is_err(), "the rest is still there");
        assert!(rest.iter().all(|byte| *byte == 7));
        drop(rest);
        // More than the whole room has all of it.
        let all = room.hold(vec![0; 400_000].into()).await.unwrap();
        assert!(room.take(SMALL_BYTES + 1).await.is_err());
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_term_that_comes_byte_by_byte_gives_its_room_to_others() {
        let room = Room::new(1 << 20);
        let mut slow = Collected::new(&room, 1 << 20);
        slow.push(&[0; (1 << 20) - 100]).await.unwrap();
        tokio::time::advance(Duration::from_secs(SLOW_SECONDS_MAX)).await;
        slow.push(&[0]).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let problem = slow.push(&[0]).await.unwrap_err();
        assert_eq!((problem.code(), problem.status()), ("too-slow", StatusCode::REQUEST_TIMEOUT));
        let mut other = Collected::new(&room, 1 << 20);
        other.push(&[0; 1 << 20]).await.unwrap();
    }
}
