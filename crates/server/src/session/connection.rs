//! A socket and the stream on it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use magpie_proto::FullJid;
use magpie_proto::StreamError;
use magpie_proto::stream::{ClientStream, Event, ResumeFailure};

use crate::listen::tcp::Admitted;
use crate::listen::{Buffers, PooledBuf, ReadOutcome, Transport};
use crate::metrics::Counted;
use crate::server::random_text;

/// Where a connection is counted until it is closed, whichever session it serves by then.
#[derive(Debug)]
pub struct Counts {
    /// For its address.
    pub _admitted: Admitted,
    /// For the metrics.
    pub _connection: Counted,
}

/// A connection whose bytes are a client's stream.
#[derive(Debug)]
pub struct Connection {
    /// Bytes in and out.
    pub transport: Transport,
    /// What they mean.
    pub stream: ClientStream,
    buffers: Buffers,
    /// Bytes that the stream has not taken yet, from `taken` on.
    input: Option<PooledBuf>,
    taken: usize,
    /// Under TLS, what was written since the last flush: it goes out as few records.
    output: Option<PooledBuf>,
    _counts: Counts,
}

impl Connection {
    /// A stream on a fresh socket.
    pub fn new(transport: Transport, stream: ClientStream, buffers: Buffers, counts: Counts) -> Self {
        Self { transport, stream, buffers, input: None, taken: 0, output: None, _counts: counts }
    }

    /// Waits until the socket can be read (where asked for) or, while something is unsent, written. Cancel-safe.
    pub async fn ready(&self, read: bool) -> io::Result<()> {
        self.transport.ready(read).await
    }

    /// As [`Connection::ready`], for an owner that waits for other things too.
    pub fn poll_ready(&self, context: &mut Context<'_>, read: bool) -> Poll<io::Result<()>> {
        self.transport.poll_ready(context, read)
    }

    /// Reads what is there: how many bytes. An error when the peer is gone.
    pub fn read(&mut self) -> io::Result<usize> {
        let input = self.input.get_or_insert_with(|| self.buffers.take());
        let outcome = self.transport.try_read(input);
        if input.is_empty() {
            self.input = None;
        }
        match outcome? {
            ReadOutcome::Data(bytes) => Ok(bytes),
            ReadOutcome::WouldBlock => Ok(0),
            ReadOutcome::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Whether something was read that the stream has not taken yet.
    pub fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// The next event in what was read.
    pub fn next_event(&mut self) -> Option<Event> {
        let input = self.input.as_deref()?;
        let mut rest = &input[self.taken..];
        let event = self.stream.next(&mut rest, &mut || random_text(18));
        self.taken = input.len() - rest.len();
        if rest.is_empty() || event.is_none() {
            self.input = None;
            self.taken = 0;
        }
        self.queue_output();
        event
    }

    /// Begins TLS. What the peer sent in clear behind its wish ends the connection: nobody vouches for it (RFC 6120 §5.4.3.3).
    pub fn start_tls(&mut self, config: Arc<rustls::ServerConfig>) -> io::Result<()> {
        // Some clients end every element with a newline.
        let rest = self.input.take();
        let rest = rest.as_deref().map_or(&[][..], |rest| &rest[std::mem::take(&mut self.taken)..]);
        match rest.iter().all(u8::is_ascii_whitespace) {
            true => self.transport.start_tls(config),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes were sent in clear after <starttls/>")),
        }
    }

    /// Whom the client's TLS hello named.
    pub fn server_name(&self) -> Option<&str> {
        self.transport.server_name()
    }

    /// Writes to the stream, after what the stream itself has said before.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.queue_output();
        self.append(write);
    }

    /// Only what is to be encrypted has to be gathered first.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match self.transport.tls_connection() {
            Some(_) => write(self.output.get_or_insert_with(|| self.buffers.take())),
            None => self.transport.queue_with(write),
        }
    }

    /// Takes what the stream itself wants to say.
    fn queue_output(&mut self) {
        if self.stream.has_output() {
            let output = self.stream.take_output();
            self.append(|out| out.extend_from_slice(&output));
        }
    }

    /// Writes what the socket takes; whether nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.queue();
        self.transport.try_flush()
    }

    /// Gives the transport all that is to be written.
    fn queue(&mut self) {
        self.queue_output();
        if let Some(output) = self.output.take() {
            self.transport.queue(&output);
        }
    }

    /// Bytes that wait for the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.transport.unsent_bytes() + self.output.as_deref().map_or(0, Vec::len)
    }

    /// How far the stream on the wire has come, and how far it will have come once all is written that was queued by
    /// [`Connection::flush`].
    pub fn progress(&self) -> (u64, u64) {
        let sent = self.transport.sent_total();
        (sent, sent + self.transport.unsent_bytes() as u64)
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

    /// Writes what is left, within a time limit, and closes the socket. How far the stream on the wire has come.
    pub async fn close(mut self) -> u64 {
        // The last words go out together with TLS' `close_notify`. A peer that is gone gets nothing, which is no news.
        self.queue();
        self.transport.close().await
    }

    /// Drops a connection that is of no more use.
    pub fn abandon(self) {
        drop(self);
    }
}
