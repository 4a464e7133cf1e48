//! A socket and the stream on it.

use std::io;

use magpie_proto::FullJid;
use magpie_proto::stream::{ClientStream, Event, ResumeFailure};
use magpie_proto::{StreamError};

use crate::listen::transport::{ReadOutcome, Transport};
use crate::server::random_text;

/// A connection whose bytes are a client's stream.
#[derive(Debug)]
pub struct Connection {
    /// Bytes in and out.
    pub transport: Transport,
    /// What they mean.
    pub stream: ClientStream,
    /// Bytes that the stream has not taken yet; empty at rest.
    input: Vec<u8>,
    /// How many of them it has taken.
    taken: usize,
}

impl Connection {
    /// A stream on a fresh socket.
    pub fn new(transport: Transport, stream: ClientStream) -> Self {
        Self { transport, stream, input: Vec::new(), taken: 0 }
    }

    /// Waits until the socket can be read (where asked for) or, while something is unsent, written. Cancel-safe.
    pub async fn ready(&self, read: bool) -> io::Result<()> {
        self.transport.ready(read).await
    }

    /// Reads what is there; whether anything was. An error when the peer is gone.
    pub fn read(&mut self) -> io::Result<bool> {
        match self.transport.try_read(&mut self.input)? {
            ReadOutcome::Data(_) => Ok(true),
            ReadOutcome::WouldBlock => Ok(false),
            ReadOutcome::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next event in what was read.
    pub fn next(&mut self) -> Option<Event> {
        if self.taken == self.input.len() && !self.stream.is_closed() {
            self.forget_input();
            return None;
        }
        let mut rest = &self.input[self.taken..];
        let event = self.stream.next(&mut rest, &mut || random_text(18));
        self.taken = self.input.len() - rest.len();
        if event.is_none() {
            self.forget_input();
        }
        self.queue_output();
        event
    }

    /// Throws away what the peer sent in clear after it asked for TLS: nobody vouches for it (RFC 6120 §5.4.3.3).
    pub fn forget_input(&mut self) {
        self.input = Vec::new();
        self.taken = 0;
    }

    /// Writes to the stream.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.transport.queue_with(write);
    }

    /// Hands what the stream wants to say to the transport.
    pub fn queue_output(&mut self) {
        let output = self.stream.take_output();
        if !output.is_empty() {
            self.transport.queue(&output);
        }
    }

    /// Writes what the socket takes; whether nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.queue_output();
        self.transport.try_flush()
    }

    /// Bytes that wait for the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.transport.unsent_bytes()
    }

    /// Ends the stream with an error.
    pub fn fail(&mut self, error: StreamError) {
        self.stream.fail(error);
        self.queue_output();
    }

    /// Ends the stream in peace.
    pub fn end(&mut self) {
        self.stream.close();
        self.queue_output();
    }

    /// Says `<resumed/>`.
    pub fn resumed(&mut self, jid: &FullJid, previd: &str, h: u32) {
        self.stream.resumed(jid, previd, h);
        self.queue_output();
    }

    /// Says `<failed/>`.
    pub fn resume_failed(&mut self, failure: &ResumeFailure) {
        self.stream.resume_failed(failure);
        self.queue_output();
    }

    /// Writes what is left, within a time limit, and closes the socket.
    pub async fn close(self) {
        self.transport.close().await;
    }

    /// Drops a connection that is of no more use.
    pub fn abandon(self) {
        drop(self);
    }
}
