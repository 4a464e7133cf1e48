//! RFC 8446 and RFC 5246: the server's side of TLS as a value without I/O.
//!
//! Built on rustls' unbuffered interface, because its other one keeps buffers in every idle connection. That interface
//! shows neither the client's server name nor an exporter, so a [`Witness`] stands in the configuration of each
//! handshake, sees what is decided there, and goes away with it. In TLS 1.3 rustls goes with it too: see [`records`].
//!
//! Where its configuration allows for early data (§2.3), that of a resumed session is given at once, marked as such, and what is said
//! before the client has ended its side of the handshake is sent (§4.4.4): so a login with a token (XEP-0484) is over when TLS is there.
//! Others than the client may have sent such data again; [`early`] lets nobody resume a session twice.
//!
//! `tls-exporter` (RFC 9266) is only given for TLS 1.3. There, no context and an empty one are the same; in TLS 1.2 they
//! are not, and the libraries in use disagree on which of both is meant, so that offering it would lock clients out.

use std::fmt;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ProtocolVersion, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::CertificateDer;

/// Bytes of an unfinished handshake message that may wait for their rest. A client's longest message is its hello, some
/// two thousand bytes with post-quantum keys.
pub const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Plaintext of one record at most (RFC 8446 §5.1).
const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// More than any cipher suite of TLS 1.2 and 1.3 adds to a record: header, nonce, tag, type.
const RECORD_OVERHEAD_BYTES_MAX: usize = 64;

/// The header of a record: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;

pub mod early;
mod records;
mod suites;
mod witness;

use records::Records;
pub use suites::provider;
use witness::{Witness, channel_binding};

/// The server's side of one TLS connection. Bytes are arguments.
pub struct TlsConnection {
    layer: Layer,
    witness: Option<Arc<Witness>>,
    server_name: Option<Box<str>>,
    alpn: Option<Box<[u8]>>,
    certificate: Option<Arc<CertifiedKey>>,
    exporter: Option<[u8; 32]>,
    /// Whether anything was said yet: the first thing that a server says is never encrypted.
    spoke: bool,
    failed: bool,
    peer_closed: bool,
    closed: bool,
    resumed: bool,
    /// Whether rustls has said that it can encrypt what is ours to say.
    may_write: bool,
}

/// Who does the work.
enum Layer {
    /// Nobody yet: the client has not said which suites it wants.
    Hello(Arc<ServerConfig>),
    /// The handshake; in TLS 1.2 also what follows it.
    Rustls(Box<UnbufferedServerConnection>),
    /// What follows the handshake of TLS 1.3.
    Records(Box<Records>),
    /// Nobody: it failed in between.
    Nobody,
}

/// What [`TlsConnection::receive`] achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsProgress {
    /// Bytes of plaintext that were appended.
    pub plain_bytes: usize,
    /// Some of them came as early data: anybody may have sent them, again and again.
    pub early: bool,
    /// The handshake ended with these bytes.
    pub handshake_done: bool,
    /// The peer said `close_notify`: nothing more will come.
    pub peer_closed: bool,
}

/// Why a TLS connection is over.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer broke the protocol, or refused ours.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// Bytes were to be sent before the handshake ended.
    #[error("the TLS handshake has not ended")]
    Handshaking,
    /// The peer's handshake messages are longer than any real one.
    #[error("a TLS handshake message is too long")]
    HandshakeTooLong,
    /// The peer cut a message into several records after the handshake, which nobody does.
    #[error("a TLS message after the handshake is split over records")]
    Fragmented,
    /// The connection failed or was closed before.
    #[error("the TLS connection is closed")]
    Closed,
    /// So many bytes went over this connection that its keys must not be used any more.
    #[error("the TLS keys are exhausted")]
    KeysExhausted,
}

impl TlsConnection {
    /// Waits for the hello of a client.
    pub fn accept(config: Arc<ServerConfig>) -> Self {
        Self {
            layer: Layer::Hello(config),
            witness: None,
            server_name: None,
            alpn: None,
            certificate: None,
            exporter: None,
            spoke: false,
            failed: false,
            peer_closed: false,
            closed: false,
            resumed: false,
            may_write: false,
        }
    }

    /// Consumes all whole records of `input`. Appends plaintext to `plain`, and to `out` what must be sent: handshake,
    /// session tickets, alerts. A record that is not yet whole stays in `input`.
    ///
    /// # Errors
    /// The connection is over; if there is an alert to be sent, it is in `out`.
    pub fn receive(
        &mut self,
        input: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<TlsProgress, TlsError> {
        if self.failed {
            return Err(TlsError::Closed);
        }
        let plain_before = plain.len();
        let out_before = out.len();
        let result = if self.peer_closed { Ok((false, false)) } else { self.process(input, plain, out) };
        self.spoke |= out.len() > out_before;
        let (handshake_done, early) = match result {
            Ok(done) => done,
            Err(error) => {
                self.fail(out);
                return Err(error);
            }
        };
        if self.peer_closed {
            // RFC 8446 §6.1: what follows a closure alert must be ignored.
            input.clear();
        }
        let plain_bytes = plain.len() - plain_before;
        Ok(TlsProgress { plain_bytes, early, handshake_done, peer_closed: self.peer_closed })
    }

    /// Encrypts `plain` and appends the records to `out`.
    ///
    /// # Errors
    /// If nothing can be said yet, or the connection is over.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.failed || self.closed {
            return Err(TlsError::Closed);
        }
        if !self.may_send() {
            return Err(TlsError::Handshaking);
        }
        if plain.is_empty() {
            return Ok(());
        }
        let result = match &mut self.layer {
            Layer::Records(records) => records.send(plain, out),
            Layer::Rustls(rustls) => write(rustls, out, |traffic, out| {
                let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX);
                encrypt(out, plain.len() + records * RECORD_OVERHEAD_BYTES_MAX, |room| traffic.encrypt(plain, room))
            }),
            Layer::Hello(_) | Layer::Nobody => Err(TlsError::Closed),
        };
        if matches!(result, Err(TlsError::KeysExhausted)) {
            self.fail(out);
        }
        result
    }

    /// Says that nothing more will be sent. Does nothing during the handshake, after an error, and the second time.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.failed || self.closed || !self.may_send() {
            return;
        }
        let result = match &mut self.layer {
            Layer::Records(records) => records.close_notify(out),
            Layer::Rustls(rustls) => write(rustls, out, |traffic, out| {
                encrypt(out, RECORD_OVERHEAD_BYTES_MAX, |room| traffic.queue_close_notify(room))
            }),
            Layer::Hello(_) | Layer::Nobody => Err(TlsError::Closed),
        };
        self.failed |= result.is_err();
        self.closed = true;
    }

    /// Whether something can be said: the handshake has ended, or its end on our side is enough.
    pub fn may_send(&self) -> bool {
        !self.is_handshaking() || self.may_write
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Hello(_) => true,
            Layer::Rustls(rustls) => rustls.is_handshaking(),
            Layer::Records(_) | Layer::Nobody => false,
        }
    }

    /// The server name that the client asked for (RFC 6066 §3): lower case, A-labels.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The agreed application protocol (RFC 7301), once the handshake has ended.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The agreed version.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        match &self.layer {
            Layer::Rustls(rustls) => rustls.protocol_version(),
            Layer::Records(_) => Some(ProtocolVersion::TLSv1_3),
            Layer::Hello(_) | Layer::Nobody => None,
        }
    }

    /// Whether the session of an earlier connection was taken up again, once the handshake has ended.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// RFC 9266: `tls-exporter`, once something can be said in TLS 1.3.
    pub fn tls_exporter(&self) -> Option<[u8; 32]> {
        self.exporter
    }

    /// The certificate that was chosen in this connection's handshake, once something can be said.
    pub fn certificate(&self) -> Option<&CertificateDer<'_>> {
        self.certificate.as_ref()?.end_entity_cert().ok()
    }

    /// Consumes all whole records. Whether that ended the handshake, and whether early data were among them.
    fn process(
        &mut self,
        input: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(bool, bool), TlsError> {
        if let Layer::Hello(config) = &self.layer {
            // A few bytes more will tell.
            let Some(wants_chacha20) = suites::wants_chacha20(input) else { return Ok((false, false)) };
            let (rustls, witness) = handshake(config, !wants_chacha20)?;
            (self.layer, self.witness) = (Layer::Rustls(rustls), Some(witness));
        }
        let mut early = false;
        if let Layer::Rustls(rustls) = &mut self.layer {
            let processed = process(rustls, input, plain, out, self.witness.is_some())?;
            (self.peer_closed, early) = (processed.peer_closed, processed.early);
            self.may_write |= processed.may_write;
        }
        if self.is_handshaking() {
            if input.len() > HANDSHAKE_BYTES_MAX {
                return Err(TlsError::HandshakeTooLong);
            }
            self.look_ahead();
            return Ok((false, early));
        }
        let done = self.note_handshake()?;
        match &mut self.layer {
            Layer::Records(records) if !self.peer_closed => self.peer_closed = records.receive(input, plain, out)?,
            // rustls left a whole record there because it waits for more of a handshake message, and counts on seeing
            // the same bytes again. `write` shows it none, so such a message is refused; its only legal one has 5 bytes.
            Layer::Rustls(_) if !self.peer_closed && begins_with_whole_record(input) => {
                return Err(TlsError::Fragmented);
            }
            _ => {}
        }
        Ok((done, early))
    }

    /// What the witness has seen so far, where something can be said before the handshake ends.
    fn look_ahead(&mut self) {
        let (true, Some(witness), Layer::Rustls(rustls)) = (self.may_write, &self.witness, &self.layer) else { return };
        let seen = witness.seen.lock();
        self.server_name.clone_from(&seen.server_name);
        self.certificate.clone_from(&seen.certificate);
        self.alpn = rustls.alpn_protocol().map(Box::from);
        if let (Some(SupportedCipherSuite::Tls13(suite)), Some(secret)) =
            (rustls.negotiated_cipher_suite(), &seen.exporter_secret)
        {
            self.exporter = channel_binding(suite, secret);
        }
    }

    /// Appends the alert that rustls queued, or one of ours where it queued none and may still speak in clear.
    fn fail(&mut self, out: &mut Vec<u8>) {
        self.failed = true;
        let before = out.len();
        while let Layer::Rustls(rustls) = &mut self.layer
            && rustls.wants_write()
        {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = rustls.process_tls_records(&mut []).state else {
                break;
            };
            encode(&mut data, out);
        }
        if out.len() == before && !self.spoke {
            // RFC 8446 §6: alert, legacy version, two bytes: fatal, decode_error.
            out.extend_from_slice(&[21, 3, 3, 0, 2, 2, 50]);
        }
    }

    /// Keeps what the witness saw, once the handshake has ended, and lets rustls go where it is not needed any more. Whether
    /// the handshake ended just now.
    fn note_handshake(&mut self) -> Result<bool, TlsError> {
        let (Some(witness), Layer::Rustls(rustls)) = (self.witness.take(), &self.layer) else { return Ok(false) };
        let seen = std::mem::take(&mut *witness.seen.lock());
        self.server_name = seen.server_name;
        self.certificate = seen.certificate;
        self.alpn = rustls.alpn_protocol().map(Box::from);
        self.resumed = rustls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let Some(SupportedCipherSuite::Tls13(suite)) = rustls.negotiated_cipher_suite() else { return Ok(true) };
        self.exporter = seen.exporter_secret.and_then(|secret| channel_binding(suite, &secret));
        if let (Some(client), Some(server)) = (seen.client_secret, seen.server_secret)
            && !self.peer_closed
            && may_hand_over(rustls)
            && let Layer::Rustls(rustls) = std::mem::replace(&mut self.layer, Layer::Nobody)
        {
            let (keys, _) = rustls.dangerous_into_kernel_connection()?;
            let records = Records::new(suite, client, server, &keys);
            let records = records.ok_or_else(|| rustls::Error::General("the keys were changed too early".into()))?;
            self.layer = Layer::Records(Box::new(records));
        }
        Ok(true)
    }
}

impl fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnection")
            .field("version", &self.protocol_version())
            .field("server_name", &self.server_name)
            .field("is_handshaking", &self.is_handshaking())
            .finish_non_exhaustive()
    }
}

/// A handshake, and who sees what is decided in it. `our_order`: whether our order of suites counts, and not the client's.
fn handshake(
    config: &ServerConfig,
    our_order: bool,
) -> Result<(Box<UnbufferedServerConnection>, Arc<Witness>), rustls::Error> {
    let mut config = config.clone();
    let witness = Witness::of(&mut config);
    config.ignore_client_order = our_order;
    // §4.4.4: an answer to early data need not wait for the rest of the client's handshake.
    config.send_half_rtt_data = config.max_early_data_size > 0;
    config.enable_secret_extraction = true;
    Ok((Box::new(UnbufferedServerConnection::new(Arc::new(config))?), witness))
}

/// Whether the handshake of TLS 1.3 has ended, what belongs to it is said, and nothing that came after it is read.
fn may_hand_over(rustls: &UnbufferedServerConnection) -> bool {
    let known = match rustls.negotiated_cipher_suite() {
        Some(SupportedCipherSuite::Tls13(suite)) => Records::knows(suite),
        _ => false,
    };
    known && !rustls.is_handshaking() && !rustls.wants_write()
}

/// What came of the records that rustls was shown.
#[derive(Default)]
struct Processed {
    peer_closed: bool,
    /// Whether early data were among them.
    early: bool,
    /// Whether rustls can encrypt.
    may_write: bool,
}

/// Shows rustls the records of `input`, all of them or up to the end of a handshake after which it `hands_over`.
fn process(
    rustls: &mut UnbufferedServerConnection,
    input: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
    hands_over: bool,
) -> Result<Processed, TlsError> {
    let mut consumed = 0;
    let mut processed = Processed::default();
    let result: Result<(), TlsError> = loop {
        if hands_over && may_hand_over(rustls) {
            break Ok(());
        }
        let UnbufferedStatus { mut discard, state } = rustls.process_tls_records(&mut input[consumed..]);
        let step: Result<Next, TlsError> = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Next::Continue),
                    Some(Ok(record)) => {
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    Some(Err(error)) => break Err(error.into()),
                }
            },
            Ok(ConnectionState::ReadEarlyData(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Next::Continue),
                    Some(Ok(record)) => {
                        processed.early = true;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    Some(Err(error)) => break Err(error.into()),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, out);
                Ok(Next::Continue)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Next::Continue)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::PeerClosed),
            Ok(ConnectionState::BlockedHandshake) => Ok(Next::NeedsInput),
            Ok(ConnectionState::WriteTraffic(_)) => {
                processed.may_write = true;
                Ok(Next::NeedsInput)
            }
            // A state that a later rustls invents is none that was asked for.
            Ok(_) => Err(rustls::Error::HandshakeNotComplete.into()),
            Err(error) => Err(error.into()),
        };
        consumed += discard;
        match step {
            Ok(Next::Continue) => {}
            Ok(Next::NeedsInput) => break Ok(()),
            Ok(Next::PeerClosed) => {
                processed.peer_closed = true;
                break Ok(());
            }
            Err(error) => break Err(error),
        }
    };
    input.drain(..consumed);
    result.map(|()| processed)
}

/// Brings rustls to the state in which it can write, and lets `encrypt` do so.
fn write(
    rustls: &mut UnbufferedServerConnection,
    out: &mut Vec<u8>,
    encrypt: impl FnOnce(&mut WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut Vec<u8>) -> Result<(), TlsError>,
) -> Result<(), TlsError> {
    loop {
        match rustls.process_tls_records(&mut []).state? {
            ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(mut traffic) => return encrypt(&mut traffic, out),
            _ => return Err(TlsError::Closed),
        }
    }
}

enum Next {
    Continue,
    NeedsInput,
    PeerClosed,
}

fn encode(data: &mut EncodeTlsData<'_, rustls::server::ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    let written = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(missing)) => {
            out.resize(start + missing.required_size, 0);
            data.encode(&mut out[start..]).expect("the room is as large as was asked for")
        }
        // A chunk without bytes.
        Ok(written) => written,
        Err(EncodeError::AlreadyEncoded) => 0,
    };
    out.truncate(start + written);
}

/// Lets `write` write into room at the end of `out`, which grows if `bytes_max` was not enough.
fn encrypt(
    out: &mut Vec<u8>,
    bytes_max: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut room = bytes_max;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            // A key update that waits to be sent goes first.
            Err(EncryptError::InsufficientSize(missing)) if missing.required_size > room => {
                room = missing.required_size;
            }
            Err(_) => {
                out.truncate(start);
                return Err(TlsError::KeysExhausted);
            }
        }
    }
}

fn begins_with_whole_record(input: &[u8]) -> bool {
    match input {
        [_, _, _, high, low, ..] => input.len() >= RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
