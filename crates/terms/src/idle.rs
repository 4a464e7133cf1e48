//! Connections on which nothing moves are ended.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::counters::Open;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A stream whose bytes are counted, and that fails with `TimedOut` when no byte went in either direction for a while, though one was waited for.
#[derive(Debug)]
pub(crate) struct Idle<S> {
    stream: S,
    open: Open,
    time_max: Duration,
    moved: Instant,
    /// Runs out at the earliest moment at which the stream may be idle; not moved with each byte.
    alarm: Pin<Box<Sleep>>,
}

impl<S> Idle<S> {
    /// A stream that may be still for so long.
    pub(crate) fn new(stream: S, open: Open, time_max: Duration) -> Self {
        let moved = Instant::now();
        Self { stream, open, time_max, moved, alarm: Box::pin(sleep_until(moved + time_max)) }
    }

    /// What a stream that is waited for answers.
    fn waits<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            match self.alarm.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if self.moved + self.time_max > Instant::now() => {
                    let alarm = self.moved + self.time_max;
                    self.alarm.as_mut().reset(alarm);
                }
                Poll::Ready(()) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
        }
    }

    fn count_sent(&self, outcome: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.open.sent(*bytes);
        }
    }

    fn outcome<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Pending => self.waits(context),
            ready => {
                self.moved = Instant::now();
                ready
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Idle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            self.open.received(buffer.filled().len() - before);
        }
        self.outcome(outcome, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Idle<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_sent(&outcome);
        self.outcome(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.waits(context),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.waits(context),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_sent(&outcome);
        self.outcome(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
