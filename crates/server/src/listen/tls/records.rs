//! RFC 8446 §5: the records of a TLS 1.3 connection whose handshake has ended.
//!
//! rustls makes the handshake and keeps what a handshake needs for as long as its connection lives: some 3.5 KB, of which
//! the keys, as their ciphers want them, are a third. Afterwards little is left to do: seal, open, follow a change of keys (§7.2).
//! That is done here with a few hundred bytes a connection. A cipher, made from its key when bytes move, is remembered by the
//! thread for as long as no other takes its place: making one costs as much as sealing a message.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use rustls::{
    AlertDescription, CipherSuite, ConnectionTrafficSecrets, ExtractedSecrets, PeerMisbehaved, Tls13CipherSuite,
};
use zeroize::Zeroizing;

use super::{RECORD_HEADER_BYTES, RECORD_PLAIN_BYTES_MAX, TlsError};

/// Ciphers that a thread remembers, some 600 bytes each.
const CIPHERS_MAX: usize = 4096;

/// What every suite adds to a record to prove it.
const TAG_BYTES: usize = 16;

const NONCE_BYTES: usize = 12;

/// Longest key of a suite.
const KEY_BYTES_MAX: usize = 32;

/// §5.2: a record that says it is longer is refused.
const SEALED_BYTES_MAX: usize = RECORD_PLAIN_BYTES_MAX + 256;

/// Records that may be sealed with one key: AES-GCM's limit is 2^24.5 full ones (§5.5). Tests come past it.
const RECORDS_PER_KEY_MAX: u64 = if cfg!(test) { 64 } else { 1 << 24 };

/// Changes of keys, or records without anything in them, that a peer may send before it says something: each costs us work
/// and the peer nothing.
const IDLE_RECORDS_MAX: u8 = 32;

// §5.1, §5.2: content types.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// §4.6.3: the message, but for whether the other side shall do the same.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// Both directions.
pub(super) struct Records {
    suite: &'static Tls13CipherSuite,
    algorithm: &'static Algorithm,
    read: Direction,
    write: Direction,
    /// What came since the last byte of plaintext.
    idle: u8,
}

/// §7.3: what protects the records of one direction.
struct Direction {
    /// See [`next_number`].
    number: u64,
    secret: OkmBlock,
    key: Zeroizing<[u8; KEY_BYTES_MAX]>,
    iv: [u8; NONCE_BYTES],
    sequence: u64,
}

/// Why a connection is over, and what the peer is told.
struct Fatal {
    alert: AlertDescription,
    error: TlsError,
}

impl Records {
    /// Takes over from rustls. `client` and `server` are the traffic secrets with which the handshake ended. `None` where the keys in use
    /// do not come from them: the peer has changed its keys already.
    pub(super) fn new(
        suite: &'static Tls13CipherSuite,
        client: OkmBlock,
        server: OkmBlock,
        extracted: &ExtractedSecrets,
    ) -> Option<Self> {
        let algorithm = algorithm_of(suite)?;
        let direction = |secret: OkmBlock, (sequence, keys): &(u64, ConnectionTrafficSecrets)| {
            let (of_suite, iv) = match keys {
                ConnectionTrafficSecrets::Aes128Gcm { key, iv }
                | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
                | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
                _ => return None,
            };
            let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
            key.get_mut(..of_suite.len())?.copy_from_slice(of_suite);
            Some(Direction { number: next_number(), secret, key, iv: iv.try_into().ok()?, sequence: *sequence })
        };
        let (read, write) = (direction(client, &extracted.rx)?, direction(server, &extracted.tx)?);
        // A peer that has changed its keys has other ones for what it sends, whatever it asked of us.
        let mut iv = [0; NONCE_BYTES];
        expand_label(&*suite.hkdf_provider.expander_for_okm(&read.secret), b"tls13 iv", &mut iv);
        (iv == read.iv).then_some(Self { suite, algorithm, read, write, idle: 0 })
    }

    /// Whether this record layer knows the suite.
    pub(super) fn knows(suite: &Tls13CipherSuite) -> bool {
        algorithm_of(suite).is_some()
    }

    /// Consumes whole records: appends their plaintext, and to `out` what must be said about them. Whether the peer has closed.
    pub(super) fn receive(
        &mut self,
        input: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, TlsError> {
        let mut consumed = 0;
        let result = self.open_all(input, &mut consumed, plain, out);
        input.drain(..consumed);
        result.map_err(|Fatal { alert, error }| {
            // An alert that cannot be sealed is not sent.
            let _ = self.seal(ALERT, &[2, alert.into()], out);
            error
        })
    }

    /// Appends records with these bytes.
    pub(super) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.seal(APPLICATION_DATA, plain, out)
    }

    /// §6.1: appends `close_notify`.
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.seal(ALERT, &[1, AlertDescription::CloseNotify.into()], out)
    }

    /// Records that were sealed with the keys in use.
    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.write.sequence
    }

    fn open_all(
        &mut self,
        input: &mut [u8],
        consumed: &mut usize,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fatal> {
        let mut cipher = None;
        // One answer is enough for all that ask (§4.6.3).
        let mut answer = false;
        let mut closed = false;
        while let Some(record) = whole_record(&mut input[*consumed..])? {
            *consumed += record.len();
            let cipher = match &mut cipher {
                Some(cipher) => cipher,
                none => none.insert(self.read.cipher(self.algorithm)),
            };
            let (content_type, content) = self.read.open(cipher, record)?;
            self.idle += 1;
            match (content_type, content) {
                (APPLICATION_DATA, []) => {}
                (APPLICATION_DATA, content) => {
                    plain.extend_from_slice(content);
                    self.idle = 0;
                }
                (ALERT, &mut [_, description]) => match AlertDescription::from(description) {
                    AlertDescription::CloseNotify => {
                        closed = true;
                        break;
                    }
                    AlertDescription::UserCanceled => {}
                    // It is an error alert whatever level it names (§6), and no answer is due (§6.2).
                    alert => return Err(fatal(alert, rustls::Error::AlertReceived(alert))),
                },
                (HANDSHAKE, content) => {
                    answer |= asks_for_update(content)?;
                    self.read.update(self.suite, self.algorithm);
                    *cipher = self.read.cipher(self.algorithm);
                }
                _ => return Err(unexpected("a record of a type that has no place here")),
            }
            if self.idle > IDLE_RECORDS_MAX {
                let error = rustls::Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests);
                return Err(fatal(AlertDescription::UnexpectedMessage, error));
            }
        }
        if answer && !closed {
            let kept = self.update_write(out);
            kept.map_err(|error| Fatal { alert: AlertDescription::InternalError, error })?;
        }
        Ok(closed)
    }

    fn seal(&mut self, content_type: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let records = content.len().div_ceil(RECORD_PLAIN_BYTES_MAX);
        out.reserve(content.len() + records * (RECORD_HEADER_BYTES + 1 + TAG_BYTES));
        let mut cipher = self.write.cipher(self.algorithm);
        for chunk in content.chunks(RECORD_PLAIN_BYTES_MAX) {
            if self.write.sequence >= RECORDS_PER_KEY_MAX {
                self.update_write(out)?;
                cipher = self.write.cipher(self.algorithm);
            }
            self.write.seal(&cipher, content_type, chunk, out)?;
        }
        Ok(())
    }

    /// §4.6.3: says that new keys follow, and takes them.
    fn update_write(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let [kind, high, middle, low] = KEY_UPDATE;
        let cipher = self.write.cipher(self.algorithm);
        self.write.seal(&cipher, HANDSHAKE, &[kind, high, middle, low, 0], out)?;
        self.write.update(self.suite, self.algorithm);
        Ok(())
    }
}

impl Direction {
    fn new(suite: &'static Tls13CipherSuite, algorithm: &'static Algorithm, secret: OkmBlock) -> Self {
        let expander = suite.hkdf_provider.expander_for_okm(&secret);
        let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
        let mut iv = [0; NONCE_BYTES];
        let length = algorithm.key_len();
        expand_label(&*expander, b"tls13 key", &mut key[..length]);
        expand_label(&*expander, b"tls13 iv", &mut iv);
        drop(expander);
        Self { number: next_number(), secret, key, iv, sequence: 0 }
    }

    /// §7.2: the next secret, and the keys from it.
    fn update(&mut self, suite: &'static Tls13CipherSuite, algorithm: &'static Algorithm) {
        let label = b"tls13 traffic upd";
        let expander = suite.hkdf_provider.expander_for_okm(&self.secret);
        let secret = expander.expand_block(&[&lengths(expander.hash_len(), label), label, &[0]]);
        drop(expander);
        *self = Self::new(suite, algorithm, secret);
    }

    fn cipher(&self, algorithm: &'static Algorithm) -> Cipher {
        let key = Ciphers::with(|ciphers| ciphers.take(self.number)).flatten().unwrap_or_else(|| {
            let key = UnboundKey::new(algorithm, &self.key[..algorithm.key_len()]);
            LessSafeKey::new(key.expect("the key has the algorithm's length"))
        });
        Cipher { number: self.number, key: Some(key) }
    }

    /// §5.3: a number that is never used twice with one key.
    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[NONCE_BYTES - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// What a record says, and of which type.
    fn open<'a>(&mut self, cipher: &LessSafeKey, record: &'a mut [u8]) -> Result<(u8, &'a mut [u8]), Fatal> {
        let (header, sealed) = record.split_at_mut(RECORD_HEADER_BYTES);
        let opened = self.nonce().and_then(|nonce| cipher.open_in_place(nonce, Aad::from(header), sealed).ok());
        let Some(inner) = opened else {
            return Err(fatal(AlertDescription::BadRecordMac, rustls::Error::DecryptError));
        };
        // §5.4: the type is the last byte that is not zero.
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(unexpected("a record without a type"));
        };
        if end > RECORD_PLAIN_BYTES_MAX {
            return Err(fatal(AlertDescription::RecordOverflow, rustls::Error::PeerSentOversizedRecord));
        }
        let content_type = inner[end];
        Ok((content_type, &mut inner[..end]))
    }

    fn seal(
        &mut self,
        cipher: &LessSafeKey,
        content_type: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let nonce = self.nonce().ok_or(TlsError::KeysExhausted)?;
        let [high, low] = ((content.len() + 1 + TAG_BYTES) as u16).to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(content);
        out.push(content_type);
        match cipher.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[start..]) {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(_) => {
                // Nothing of it may leave in clear.
                out.truncate(start - RECORD_HEADER_BYTES);
                return Err(TlsError::KeysExhausted);
            }
        }
        Ok(())
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        drop(Ciphers::with(|ciphers| ciphers.take(self.number)));
    }
}

/// The cipher of a direction. The thread remembers it when it is dropped.
struct Cipher {
    number: u64,
    key: Option<LessSafeKey>,
}

impl Deref for Cipher {
    type Target = LessSafeKey;

    fn deref(&self) -> &LessSafeKey {
        self.key.as_ref().expect("it is taken out when it is dropped")
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            Ciphers::with(|ciphers| ciphers.put(self.number, key));
        }
    }
}

/// The ciphers that one thread remembers, each at the place that its number gives it.
#[derive(Default)]
struct Ciphers {
    places: Vec<Option<(u64, LessSafeKey)>>,
}

impl Ciphers {
    /// `None` in a thread that is being torn down.
    fn with<R>(f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        thread_local! {
            static CIPHERS: RefCell<Ciphers> = RefCell::default();
        }
        CIPHERS.try_with(|ciphers| f(&mut ciphers.borrow_mut())).ok()
    }

    fn take(&mut self, number: u64) -> Option<LessSafeKey> {
        let place = self.places.get_mut(number as usize % CIPHERS_MAX)?;
        place.take_if(|(of, _)| *of == number).map(|(_, key)| key)
    }

    fn put(&mut self, number: u64, key: LessSafeKey) {
        if self.places.is_empty() {
            self.places.resize_with(CIPHERS_MAX, || None);
        }
        self.places[number as usize % CIPHERS_MAX] = Some((number, key));
    }
}

/// The record at the front, if it is whole.
fn whole_record(input: &mut [u8]) -> Result<Option<&mut [u8]>, Fatal> {
    let Some(&[content_type, _, _, high, low]) = input.first_chunk() else { return Ok(None) };
    match content_type {
        APPLICATION_DATA => {}
        // §5: only before the client's Finished.
        CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE => return Err(unexpected("a record in clear")),
        _ => return Err(unexpected("no record")),
    }
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    if bytes > SEALED_BYTES_MAX {
        return Err(fatal(AlertDescription::RecordOverflow, rustls::Error::PeerSentOversizedRecord));
    }
    Ok(input.get_mut(..RECORD_HEADER_BYTES + bytes))
}

/// §4.6.3: a client says nothing else after the handshake. Whether it asks that we change our keys too.
fn asks_for_update(content: &[u8]) -> Result<bool, Fatal> {
    match content.split_at_checked(KEY_UPDATE.len()) {
        Some((head, [request @ (0 | 1)])) if head == KEY_UPDATE => Ok(*request == 1),
        Some((head, [_])) if head == KEY_UPDATE => {
            Err(fatal(AlertDescription::IllegalParameter, rustls::Error::General("KeyUpdate: 0 or 1".into())))
        }
        // Nobody cuts five bytes into two records.
        _ if KEY_UPDATE.starts_with(content) || content == KEY_UPDATE => {
            Err(Fatal { alert: AlertDescription::UnexpectedMessage, error: TlsError::Fragmented })
        }
        _ => Err(unexpected("a message that has no place after the handshake")),
    }
}

/// One that no other key of this process has.
fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

fn fatal(alert: AlertDescription, error: rustls::Error) -> Fatal {
    Fatal { alert, error: error.into() }
}

fn unexpected(what: &str) -> Fatal {
    fatal(AlertDescription::UnexpectedMessage, rustls::Error::General(what.into()))
}

fn algorithm_of(suite: &Tls13CipherSuite) -> Option<&'static Algorithm> {
    match suite.common.suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(&AES_128_GCM),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(&AES_256_GCM),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(&CHACHA20_POLY1305),
        _ => None,
    }
}

/// §7.1: HKDF-Expand-Label with an empty context.
fn expand_label(expander: &dyn HkdfExpander, label: &[u8], output: &mut [u8]) {
    let expanded = expander.expand_slice(&[&lengths(output.len(), label), label, &[0]], output);
    expanded.expect("what is asked for is shorter than 255 hashes");
}

/// What stands before the label: the length of the output and its own.
fn lengths(output_bytes: usize, label: &[u8]) -> [u8; 3] {
    [0, output_bytes as u8, label.len() as u8]
}
