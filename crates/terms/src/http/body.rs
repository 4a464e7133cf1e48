//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// The rest of a body will not come: the connection ends in place of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rest will not come")]
pub(crate) struct Aborted;

/// What is sent as it comes.
pub(crate) type Chunks = mpsc::Receiver<Result<Bytes, Aborted>>;

/// What is given to a connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Of a length that is known.
    Whole(Bytes),
    /// Sent in chunks though it is there at once.
    Chunked(Bytes),
    /// What comes when it comes; behind what is there already.
    Stream(Bytes, Chunks),
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let (Self::Whole(there) | Self::Chunked(there) | Self::Stream(there, _)) = &mut *self;
        if !there.is_empty() {
            // Piece by piece: a connection may copy what it is given, and the room that is kept for it is free when the last has gone.
            let piece = there.split_to(there.len().min(PIECE_BYTES));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut *self {
            Self::Stream(there, chunks) => chunks.poll_recv(context).map(|chunk| {
                chunk.map(|chunk| {
                    *there = chunk?;
                    Ok(Frame::data(there.split_to(there.len().min(PIECE_BYTES))))
                })
            }),
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
