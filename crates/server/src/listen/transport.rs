//! RFC 6120 §3, §5: the bytes of one connection, in clear or under TLS.
//!
//! A transport owns a buffer only while bytes are on their way: unsent ones, or a TLS record that is not yet whole. It does
//! no work by itself. Its owner waits for [`Transport::ready`], reads with [`Transport::try_read`], says with
//! [`Transport::queue`] what goes out, and calls [`Transport::try_flush`].

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use magpie_proto::sasl::ChannelBindings;
use rustix::net::{RecvFlags, SendFlags};
use rustls::ServerConfig;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffers::{BUFFER_BYTES, Buffers, PooledBuf};
use super::certificates::Certificates;
use super::tls::{TlsConnection, TlsError};

/// How long [`Transport::close`] tries to write what is unsent.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);

/// How long [`Transport::close`] then waits for the peer to close its side.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How many bytes of a peer that does not close are thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Room that a read offers at least.
const READ_BYTES_MIN: usize = 4 * 1024;

/// One connection's bytes.
pub struct Transport {
    socket: TcpStream,
    peer: SocketAddr,
    buffers: Buffers,
    /// What waits to be written, from `sent` on.
    unsent: Option<PooledBuf>,
    sent: usize,
    /// Bytes that the system took so far, as they went over the wire.
    sent_total: u64,
    tls: Option<Box<Tls>>,
    /// The peer will send nothing more.
    peer_closed: bool,
    /// Something went wrong for good: nothing more is read or queued.
    failed: bool,
    /// Whether early data were in what was read last.
    early: bool,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Nothing for now. Under TLS, bytes may have been queued meanwhile: see [`Transport::unsent_bytes`].
    WouldBlock,
    /// So many bytes, at least one, were appended.
    Data(usize),
    /// The peer will send nothing more.
    Closed,
}

struct Tls {
    connection: TlsConnection,
    /// The beginning of a record whose rest has not come yet.
    input: Option<PooledBuf>,
}

impl Transport {
    /// A connection in clear.
    pub fn plain(socket: TcpStream, peer: SocketAddr, buffers: Buffers) -> Self {
        // A stanza is to go out now. Where this fails the connection is gone, which the first read will tell.
        let _ = socket.set_nodelay(true);
        Self {
            socket,
            peer,
            buffers,
            unsent: None,
            sent: 0,
            sent_total: 0,
            tls: None,
            peer_closed: false,
            failed: false,
            early: false,
        }
    }

    /// A connection that begins with TLS (XEP-0368).
    pub fn tls(socket: TcpStream, peer: SocketAddr, buffers: Buffers, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(Tls::accept(config)), ..Self::plain(socket, peer, buffers) }
    }

    /// Begins TLS after `<proceed/>` was queued (RFC 6120 §5.4.2.3). What is queued already goes out in clear; all that is
    /// read from now on is TLS.
    ///
    /// No clear byte waits inside the transport. Bytes that [`Transport::try_read`] delivered behind `<starttls/>` were sent by
    /// somebody who did not wait for `<proceed/>`, perhaps to have them taken for encrypted ones (the flaw of CVE-2011-0411):
    /// the caller must throw them away or end the connection.
    ///
    /// # Errors
    /// If TLS is there already: the connection must be closed.
    pub fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        if self.tls.is_some() {
            return Err(self.fail(io::Error::new(io::ErrorKind::InvalidInput, "TLS within TLS")));
        }
        self.tls = Some(Tls::accept(config));
        Ok(())
    }

    /// Waits until there may be something to read, or room to write what is unsent. Without `read`, which is how the owner
    /// lets a peer wait, and with nothing unsent it waits for ever. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn ready(&self, read: bool) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context, read)).await
    }

    /// As [`Transport::ready`], for an owner that waits for other things too: one task at a time.
    pub fn poll_ready(&self, context: &mut Context<'_>, read: bool) -> Poll<io::Result<()>> {
        if read {
            if self.peer_closed || self.failed {
                return Poll::Ready(Ok(()));
            }
            if let ready @ Poll::Ready(_) = self.socket.poll_read_ready(context) {
                return ready;
            }
        }
        match self.unsent {
            Some(_) => self.socket.poll_write_ready(context),
            None => Poll::Pending,
        }
    }

    /// Reads what is there, at most some 16 KiB, and appends it decrypted to `plain`.
    ///
    /// # Errors
    /// From the system; or `InvalidData` with a [`TlsError`] inside, after which an alert may be unsent.
    pub fn try_read(&mut self, plain: &mut Vec<u8>) -> io::Result<ReadOutcome> {
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.peer_closed {
            return Ok(ReadOutcome::Closed);
        }
        if self.tls.is_none() {
            return self.receive(plain);
        }
        // Records without plaintext, as those of the handshake, are no reason to come back with nothing.
        loop {
            let Some(tls) = &mut self.tls else { return Ok(ReadOutcome::WouldBlock) };
            let mut input = tls.input.take().unwrap_or_else(|| self.buffers.take());
            let received = self.receive(&mut input);
            if !matches!(received, Ok(ReadOutcome::Data(_))) {
                self.keep_input(input);
                return received;
            }
            let delivered = self.decrypt(&mut input, plain)?;
            self.keep_input(input);
            if delivered > 0 {
                return Ok(ReadOutcome::Data(delivered));
            }
            if self.peer_closed {
                return Ok(ReadOutcome::Closed);
            }
        }
    }

    /// Whether early data of TLS (RFC 8446 §2.3) were in what [`Transport::try_read`] gave last: somebody else than the client may have
    /// sent them again.
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// Queues bytes to be sent, encrypted if TLS is on. During the handshake there is no way to say anything, and the bytes
    /// are dropped.
    pub fn queue(&mut self, plain: &[u8]) {
        if self.failed || plain.is_empty() {
            return;
        }
        let unsent = Self::room(&mut self.unsent, &mut self.sent, &self.buffers);
        match &mut self.tls {
            None => unsent.extend_from_slice(plain),
            Some(tls) => match tls.connection.send(plain, unsent) {
                Ok(()) => {}
                Err(TlsError::Handshaking) => {
                    tracing::debug!(peer = %self.peer, bytes = plain.len(), "nothing can be said before TLS is there");
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "cannot encrypt");
                    self.failed = true;
                }
            },
        }
        self.drop_empty();
    }

    /// Queues what `write` appends to a buffer, as [`Transport::queue`] does; without TLS there is no copy in between.
    pub fn queue_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.failed {
            return;
        }
        if self.tls.is_some() {
            let mut plain = self.buffers.take();
            write(&mut plain);
            self.queue(&plain);
        } else {
            write(Self::room(&mut self.unsent, &mut self.sent, &self.buffers));
            self.drop_empty();
        }
    }

    /// Writes what is unsent, as far as the system takes it. Returns whether nothing is left.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        while let Some(unsent) = &self.unsent {
            let bytes = &unsent[self.sent..];
            let result = self.socket.try_io(Interest::WRITABLE, || {
                rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from)
            });
            match result {
                Ok(written) => {
                    self.buffers.count_sent(written);
                    self.sent += written;
                    self.sent_total += written as u64;
                    self.drop_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.unsent = None;
                    self.sent = 0;
                    return Err(self.fail(error));
                }
            }
        }
        Ok(true)
    }

    /// Bytes that wait to be written, as they go over the wire.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.len() - self.sent)
    }

    /// Bytes that the system has taken since the connection began, as they go over the wire.
    pub fn sent_total(&self) -> u64 {
        self.sent_total
    }

    /// Bytes of heap that this connection holds in buffers; 0 while it is idle.
    pub fn idle_heap(&self) -> usize {
        let input = self.tls.as_ref().and_then(|tls| tls.input.as_ref());
        [self.unsent.as_ref(), input].into_iter().flatten().map(|buffer| buffer.capacity()).sum()
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether TLS is there: what is said goes out encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.connection.may_send())
    }

    /// Whether a TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.connection.is_handshaking())
    }

    /// The TLS connection, for its facts: version, server name, application protocol.
    pub fn tls_connection(&self) -> Option<&TlsConnection> {
        self.tls.as_ref().map(|tls| &tls.connection)
    }

    /// The server name that the client asked for under TLS (RFC 6066 §3): lower case, A-labels.
    pub fn server_name(&self) -> Option<&str> {
        self.tls_connection()?.server_name()
    }

    /// What binds an authentication to this connection (RFC 5056), of the certificate that it was given; nothing without TLS.
    pub fn bindings(&self, certificates: &Certificates) -> ChannelBindings {
        let Some(tls) = self.tls.as_ref().filter(|_| self.is_encrypted()) else { return ChannelBindings::default() };
        ChannelBindings {
            tls_exporter: tls.connection.tls_exporter(),
            tls_server_end_point: tls.connection.certificate().and_then(|shown| certificates.binding_of(shown)),
        }
    }

    /// Ends the connection: writes what is unsent and `close_notify`, for five seconds at most, then gives the peer two more
    /// to close its side, so that the system does not throw away what the peer has not read yet. Gives the bytes that the system
    /// has taken, as [`Transport::sent_total`].
    pub async fn close(mut self) -> u64 {
        if let Some(tls) = &mut self.tls {
            let unsent = Self::room(&mut self.unsent, &mut self.sent, &self.buffers);
            tls.connection.close_notify(unsent);
            tls.input = None;
            self.drop_empty();
        }
        let flushed = tokio::time::timeout(FLUSH_TIME_MAX, async {
            while !self.try_flush()? {
                self.socket.writable().await?;
            }
            io::Result::Ok(())
        });
        if matches!(flushed.await, Ok(Ok(())))
            && socket2::SockRef::from(&self.socket).shutdown(Shutdown::Write).is_ok()
            && !self.peer_closed
        {
            let _ = tokio::time::timeout(LINGER_TIME_MAX, self.linger()).await;
        }
        self.sent_total
    }

    /// Throws away what comes. Nothing of it is kept between two reads, so that thousands of connections that close at once
    /// hold no buffers.
    async fn linger(&mut self) {
        let mut bytes = 0;
        while bytes < LINGER_BYTES_MAX {
            if self.socket.readable().await.is_err() {
                return;
            }
            match self.discard() {
                Ok(0) => return,
                Ok(more) => bytes += more,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// Throws away one read; 0 at the peer's end.
    fn discard(&mut self) -> io::Result<usize> {
        let mut ignored = [0; READ_BYTES_MIN];
        let bytes = self.socket.try_read(&mut ignored)?;
        self.buffers.count_received(bytes);
        Ok(bytes)
    }

    /// One read from the socket, as the bytes are.
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<ReadOutcome> {
        if into.capacity() - into.len() < READ_BYTES_MIN {
            into.reserve(BUFFER_BYTES);
        }
        let room = into.capacity() - into.len();
        let mut received = None;
        let result = self.socket.try_io(Interest::READABLE, || {
            let spare = rustix::buffer::spare_capacity(into);
            let bytes = rustix::net::recv(&self.socket, spare, RecvFlags::empty())?.0;
            received = Some(bytes);
            if bytes > 0 && bytes < room && DRAINED_BY_SHORT_READ {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (received, result) {
            (Some(0), _) => {
                self.peer_closed = true;
                Ok(ReadOutcome::Closed)
            }
            (Some(bytes), _) => {
                self.buffers.count_received(bytes);
                Ok(ReadOutcome::Data(bytes))
            }
            (None, Err(error)) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(ReadOutcome::WouldBlock),
                _ => Err(self.fail(error)),
            },
            (None, Ok(())) => Ok(ReadOutcome::WouldBlock),
        }
    }

    /// Returns how many bytes of plaintext `input` yielded.
    fn decrypt(&mut self, input: &mut Vec<u8>, plain: &mut Vec<u8>) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let unsent = Self::room(&mut self.unsent, &mut self.sent, &self.buffers);
        let result = tls.connection.receive(input, plain, unsent);
        self.drop_empty();
        match result {
            Ok(progress) => {
                self.peer_closed |= progress.peer_closed;
                self.early = progress.early;
                Ok(progress.plain_bytes)
            }
            Err(error) => Err(self.fail(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    fn keep_input(&mut self, input: PooledBuf) {
        if let Some(tls) = &mut self.tls {
            tls.input = (!input.is_empty()).then_some(input);
        }
    }

    /// The buffer of unsent bytes, with what was sent of it removed once that is most of it.
    fn room<'a>(unsent: &'a mut Option<PooledBuf>, sent: &mut usize, buffers: &Buffers) -> &'a mut Vec<u8> {
        let unsent = unsent.get_or_insert_with(|| buffers.take());
        if *sent > 0 && *sent >= unsent.len() - *sent {
            unsent.drain(..*sent);
            *sent = 0;
        }
        unsent
    }

    fn drop_empty(&mut self) {
        if self.unsent.as_ref().is_some_and(|unsent| unsent.len() == self.sent) {
            self.unsent = None;
            self.sent = 0;
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = true;
        if let Some(tls) = &mut self.tls {
            tls.input = None;
        }
        error
    }
}

/// Where readiness is edge-triggered, a read that did not fill its room has emptied the socket, and the runtime may forget
/// that it was readable. That saves a read in vain after each stanza. On other systems the next read finds it out.
const DRAINED_BY_SHORT_READ: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"));

impl Tls {
    fn accept(config: Arc<ServerConfig>) -> Box<Self> {
        Box::new(Self { connection: TlsConnection::accept(config), input: None })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("peer", &self.peer)
            .field("tls", &self.tls_connection())
            .field("unsent_bytes", &self.unsent_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
