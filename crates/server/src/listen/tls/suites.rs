//! RFC 8446 §4.1.1: which cipher suite a handshake gets.
//!
//! AES-128 with SHA-256 comes first, the one suite that every implementation has (§9.1). The reason is not AES but the hash: a
//! handshake and what is derived from it are some two hundred blocks of it, for which processors have instructions where it is
//! SHA-256 and none where it is SHA-384. A client that asks for ChaCha20 first gets it: it has no instructions for AES.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite};

use super::RECORD_PLAIN_BYTES_MAX;

/// In the order in which they are taken.
const ORDER: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// 0x1303 of TLS 1.3, the others of TLS 1.2 (RFC 7905).
const CHACHA20: [[u8; 2]; 3] = [[0x13, 0x03], [0xcc, 0xa9], [0xcc, 0xa8]];

const HANDSHAKE: u8 = 22;

/// Message type and length, version, random.
const BEFORE_SESSION_ID_BYTES: usize = 4 + 2 + 32;

/// What rustls needs of algorithms, with the suites in our order.
pub fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: ORDER.to_vec(), ..aws_lc_rs::default_provider() }
}

/// Whether a client's first bytes ask for ChaCha20 before all others. `None` while too few of them are there to tell; what is no
/// hello, or is cut where nobody cuts one, asks for nothing.
pub(super) fn wants_chacha20(input: &[u8]) -> Option<bool> {
    let is_handshake = input.first().is_none_or(|content_type| *content_type == HANDSHAKE);
    let [_, _, _, high, low, rest @ ..] = input else { return (!is_handshake).then_some(false) };
    let record_bytes = usize::from(u16::from_be_bytes([*high, *low]));
    if !is_handshake || record_bytes > RECORD_PLAIN_BYTES_MAX {
        return Some(false);
    }
    match first_suite(&rest[..rest.len().min(record_bytes)]) {
        Some(suite) => Some(CHACHA20.contains(&suite)),
        None => (rest.len() >= record_bytes).then_some(false),
    }
}

/// The first suite of a hello that is one.
fn first_suite(hello: &[u8]) -> Option<[u8; 2]> {
    let after = hello.get(BEFORE_SESSION_ID_BYTES..)?;
    let (session_id_bytes, after) = after.split_first()?;
    // The length of the list stands before it.
    let suites = after.get(usize::from(*session_id_bytes) + 2..)?;
    let (suites, _) = suites.as_chunks::<2>();
    suites.iter().copied().find(|suite| !is_grease(*suite))
}

/// RFC 8701: what a client puts in front of its list so that servers learn to overlook what they do not know.
fn is_grease([high, low]: [u8; 2]) -> bool {
    high == low && high & 0x0f == 0x0a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with a hello that has this session id and these suites.
    fn hello(session_id: &[u8], suites: &[[u8; 2]]) -> Vec<u8> {
        let suites = suites.concat();
        let mut message = vec![1, 0, 2, 0, 3, 3];
        message.extend([7; 32]);
        message.push(session_id.len() as u8);
        message.extend_from_slice(session_id);
        message.extend((suites.len() as u16).to_be_bytes());
        message.extend(suites);
        message.extend([1, 0]);
        let mut record = vec![HANDSHAKE, 3, 1];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        record
    }

    const AES_128: [u8; 2] = [0x13, 0x01];
    const GREASE: [u8; 2] = [0x5a, 0x5a];

    #[test]
    fn the_first_suite_that_means_something_is_the_clients_wish() {
        for session_id in [&[][..], &[9; 32]] {
            assert_eq!(wants_chacha20(&hello(session_id, &[CHACHA20[0], AES_128])), Some(true));
            assert_eq!(wants_chacha20(&hello(session_id, &[AES_128, CHACHA20[0]])), Some(false));
            assert_eq!(wants_chacha20(&hello(session_id, &[GREASE, CHACHA20[1], AES_128])), Some(true));
        }
    }

    #[test]
    fn too_few_bytes_say_nothing_and_never_something_else() {
        let whole = hello(&[9; 32], &[CHACHA20[2], AES_128]);
        let told = (0..=whole.len()).map(|bytes| wants_chacha20(&whole[..bytes])).collect::<Vec<_>>();
        let silent = told.iter().take_while(|wish| wish.is_none()).count();
        assert_eq!(silent, 5 + BEFORE_SESSION_ID_BYTES + 1 + 32 + 2 + 2);
        assert!(told[silent..].iter().all(|wish| *wish == Some(true)));
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        assert_eq!(wants_chacha20(b"<"), Some(false));
        assert_eq!(wants_chacha20(b"GET / HTTP/1.1"), Some(false));
        assert_eq!(wants_chacha20(&[HANDSHAKE, 3, 1, 0xff, 0xff]), Some(false));
        assert_eq!(wants_chacha20(&[HANDSHAKE, 3, 1, 0, 2, 1, 0]), Some(false));
        assert_eq!(wants_chacha20(&hello(&[], &[GREASE])[..44]), None);
        assert_eq!(wants_chacha20(&[]), None);
    }

    #[test]
    fn no_suite_of_the_library_is_left_out() {
        let ours = provider().cipher_suites;
        let all = aws_lc_rs::default_provider().cipher_suites;
        assert_eq!(ours.len(), all.len());
        assert!(all.iter().all(|suite| ours.contains(suite)));
    }
}
