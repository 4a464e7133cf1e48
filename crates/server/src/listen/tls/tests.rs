#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
use rustls::client::{ClientConnection, Resumption};
use rustls::{ClientConfig, version};
use rustls_pki_types::{PrivateKeyDer, ServerName};

use super::*;
use anyone::Anyone;

mod after_handshake;
mod anyone;
mod early_data;

fn server_config() -> Arc<ServerConfig> {
    static CONFIG: std::sync::OnceLock<Arc<ServerConfig>> = std::sync::OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| {
        let Generated { cert, signing_key } = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        Arc::new(config)
    }))
}

fn client_config(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut config = client_config_of(rustls::crypto::aws_lc_rs::default_provider(), versions);
    config.resumption = Resumption::disabled();
    config
}

fn client_config_of(
    provider: rustls::crypto::CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth()
}

fn client(config: ClientConfig) -> ClientConnection {
    ClientConnection::new(Arc::new(config), ServerName::try_from("LocalHost").unwrap()).unwrap()
}

/// Both ends of a connection, and what the server received.
struct Pair {
    client: ClientConnection,
    server: TlsConnection,
    input: Vec<u8>,
    plain: Vec<u8>,
    client_plain: Vec<u8>,
    /// In pieces of how many bytes the server's input arrives, in turn.
    pieces: Vec<usize>,
    turn: usize,
    input_bytes_max: usize,
}

impl Pair {
    fn new(config: ClientConfig) -> Self {
        Self {
            client: client(config),
            server: TlsConnection::accept(server_config()),
            input: Vec::new(),
            plain: Vec::new(),
            client_plain: Vec::new(),
            pieces: vec![usize::MAX],
            turn: 0,
            input_bytes_max: 0,
        }
    }

    fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn show_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut plain).unwrap();
            self.client_plain.extend(plain);
        }
    }

    /// Passes bytes from the client to the server, in pieces, and answers back.
    fn deliver(&mut self, mut bytes: &[u8]) -> Result<bool, TlsError> {
        let mut peer_closed = false;
        while !bytes.is_empty() {
            let piece = self.pieces[self.turn % self.pieces.len()].clamp(1, bytes.len());
            self.turn += 1;
            self.input.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            let mut out = Vec::new();
            let result = self.server.receive(&mut self.input, &mut self.plain, &mut out);
            self.input_bytes_max = self.input_bytes_max.max(self.input.len());
            self.show_client(&out);
            peer_closed |= result?.peer_closed;
        }
        Ok(peer_closed)
    }

    fn settle(&mut self) -> bool {
        let mut peer_closed = false;
        loop {
            let bytes = self.client_bytes();
            if bytes.is_empty() {
                return peer_closed;
            }
            peer_closed |= self.deliver(&bytes).unwrap();
        }
    }

    fn say(&mut self, plain: &[u8]) {
        for piece in plain.chunks(30_000) {
            self.client.writer().write_all(piece).unwrap();
            self.settle();
        }
    }

    fn hear(&mut self, plain: &[u8]) {
        let mut out = Vec::new();
        self.server.send(plain, &mut out).unwrap();
        self.show_client(&out);
    }
}

#[test]
fn both_versions_carry_bytes_both_ways_and_close() {
    for version in [&version::TLS12, &version::TLS13] {
        let mut pair = Pair::new(client_config(&[version]));
        assert!(pair.server.is_handshaking());
        pair.settle();
        assert!(!pair.server.is_handshaking());
        assert_eq!(pair.server.protocol_version(), Some(version.version));
        assert_eq!(pair.server.server_name(), Some("localhost"));
        assert_eq!(pair.server.alpn(), None);
        let shown = pair.client.peer_certificates().unwrap()[0].clone();
        assert_eq!(pair.server.certificate(), Some(&shown));
        pair.say(b"<stream>");
        assert_eq!(pair.plain, b"<stream>");
        pair.hear(b"<features/>");
        assert_eq!(pair.client_plain, b"<features/>");

        let mut out = Vec::new();
        pair.server.close_notify(&mut out);
        pair.server.close_notify(&mut out);
        pair.client.read_tls(&mut &out[..]).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        assert!(matches!(pair.server.send(b"x", &mut out), Err(TlsError::Closed)));

        pair.client.send_close_notify();
        assert!(pair.settle());
        assert!(pair.input.is_empty());
    }
}

#[test]
fn bytes_after_the_peers_close_notify_are_ignored_and_the_server_may_still_speak() {
    let mut pair = Pair::new(client_config(&[&version::TLS13]));
    pair.settle();
    pair.client.send_close_notify();
    let mut bytes = pair.client_bytes();
    bytes.extend_from_slice(b"anything at all");
    assert!(pair.deliver(&bytes).unwrap());
    assert!(pair.plain.is_empty() && pair.input.is_empty());
    pair.hear(b"</stream:stream>");
    assert_eq!(pair.client_plain, b"</stream:stream>");
}

#[test]
fn the_exporter_is_the_same_on_both_ends() {
    let mut pair = Pair::new(client_config(&[&version::TLS13]));
    assert_eq!(pair.server.tls_exporter(), None);
    pair.settle();
    let expected = pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
    assert_eq!(pair.server.tls_exporter(), Some(expected));
    let with_empty_context =
        pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
    assert_eq!(expected, with_empty_context);
}

#[test]
fn the_exporter_is_right_for_either_hash() {
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![suite],
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        let mut pair = Pair::new(client_config_of(provider, &[&version::TLS13]));
        pair.settle();
        let expected = pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
        assert_eq!(pair.server.tls_exporter(), Some(expected), "{suite:?}");
    }
}

#[test]
fn aes_128_comes_first_but_for_who_asks_for_chacha20() {
    use rustls::CipherSuite as Suite;
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    };
    let (aes_256, aes_128, chacha20) =
        (TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256);
    let older = (
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    );
    for (asked, got) in [
        // As OpenSSL and GnuTLS ask, and as rustls does.
        (vec![aes_256, chacha20, aes_128], Suite::TLS13_AES_128_GCM_SHA256),
        (vec![aes_256, aes_128, chacha20], Suite::TLS13_AES_128_GCM_SHA256),
        // A telephone without instructions for AES.
        (vec![chacha20, aes_128, aes_256], Suite::TLS13_CHACHA20_POLY1305_SHA256),
        // Who will not have AES-128.
        (vec![aes_256, chacha20], Suite::TLS13_AES_256_GCM_SHA384),
        (vec![older.0, older.2, older.1], Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (vec![older.2, older.0, older.1], Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ] {
        let versions = [asked[0].version()];
        let provider = rustls::crypto::CryptoProvider { cipher_suites: asked.clone(), ..provider() };
        let mut pair = Pair::new(client_config_of(provider, &versions));
        pair.pieces = vec![11];
        pair.settle();
        assert_eq!(pair.client.negotiated_cipher_suite().map(|suite| suite.suite()), Some(got), "{asked:?}");
    }
}

#[test]
fn tls_1_2_has_no_exporter() {
    let mut pair = Pair::new(client_config(&[&version::TLS12]));
    pair.settle();
    assert_eq!(pair.server.tls_exporter(), None);
}

#[test]
fn a_session_is_resumed_and_still_knows_its_certificate() {
    for version in [&version::TLS12, &version::TLS13] {
        let mut config = client_config(&[version]);
        config.resumption = Resumption::in_memory_sessions(8);
        let mut first = Pair::new(config.clone());
        first.settle();
        first.say(b"x");
        assert!(!first.server.is_resumed());
        let mut second = Pair::new(config);
        second.settle();
        assert!(second.server.is_resumed(), "{version:?}");
        assert_eq!(second.server.certificate(), first.server.certificate());
        assert!(second.server.certificate().is_some());
        assert_ne!(second.server.tls_exporter().is_some(), *version == version::TLS12);
    }
}

#[test]
fn megabytes_arrive_whole_both_ways() {
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    for version in [&version::TLS12, &version::TLS13] {
        let mut pair = Pair::new(client_config(&[version]));
        pair.pieces = vec![16_384];
        pair.settle();
        pair.say(&data);
        assert!(pair.plain == data);
        pair.hear(&data);
        assert!(pair.client_plain == data);
        assert!(pair.input_bytes_max < 20_000, "{}", pair.input_bytes_max);
    }
}

#[test]
fn records_may_be_cut_at_every_byte() {
    for version in [&version::TLS12, &version::TLS13] {
        let mut pair = Pair::new(client_config(&[version]));
        pair.pieces = vec![1];
        pair.settle();
        pair.say(b"one byte at a time");
        assert_eq!(pair.plain, b"one byte at a time");
        assert!(pair.input.is_empty());
    }
}

#[test]
fn handshake_messages_may_be_cut_into_small_records() {
    for version in [&version::TLS12, &version::TLS13] {
        for size in [32, 33, 100] {
            let mut config = client_config(&[version]);
            config.max_fragment_size = Some(size);
            let mut pair = Pair::new(config);
            pair.pieces = vec![7];
            pair.settle();
            assert!(!pair.server.is_handshaking());
            pair.say(&[7; 1000]);
            assert_eq!(pair.plain, [7; 1000]);
        }
    }
}

#[test]
fn a_key_update_is_answered() {
    let mut pair = Pair::new(client_config(&[&version::TLS13]));
    pair.settle();
    for round in 0..5_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.say(&[round]);
        pair.hear(&[round]);
    }
    assert_eq!(pair.plain, [0, 1, 2, 3, 4]);
    assert_eq!(pair.client_plain, [0, 1, 2, 3, 4]);
}

#[test]
fn nothing_is_sent_before_the_handshake_is_done() {
    let mut server = TlsConnection::accept(server_config());
    let mut out = Vec::new();
    assert!(matches!(server.send(b"<stream>", &mut out), Err(TlsError::Handshaking)));
    server.close_notify(&mut out);
    assert!(out.is_empty());
}

/// Feeds bytes until the server refuses them; returns the error and what it said.
fn refused(server: &mut TlsConnection, bytes: &[u8], piece: usize) -> Option<(TlsError, Vec<u8>)> {
    let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        if let Err(error) = server.receive(&mut input, &mut plain, &mut out) {
            return Some((error, out));
        }
        assert!(input.len() <= HANDSHAKE_BYTES_MAX);
    }
    None
}

fn is_clear_alert(bytes: &[u8]) -> bool {
    bytes.len() == 7 && bytes[0] == 21 && bytes[5] == 2
}

#[test]
fn what_is_not_tls_gets_an_alert() {
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "<?xml version='1.0'?><stream:stream>", "\u{16}\u{3}\u{1}\u{0}\u{5}hello"]
    {
        let mut server = TlsConnection::accept(server_config());
        let (_, out) = refused(&mut server, garbage.as_bytes(), 1000).unwrap();
        assert!(is_clear_alert(&out), "{garbage:?}: {out:?}");
        assert!(matches!(server.receive(&mut vec![0], &mut Vec::new(), &mut Vec::new()), Err(TlsError::Closed)));
    }
}

#[test]
fn an_endless_handshake_message_is_refused_while_it_is_small() {
    // A hello that says it has 65000 bytes, in records of any size.
    for record in [1, 50, 16_000_u16] {
        let mut message = vec![1, 0, 0xfd, 0xe8];
        message.resize(65_000, 0);
        let mut bytes = Vec::new();
        for part in message.chunks(record.into()) {
            bytes.extend_from_slice(&[22, 3, 1]);
            bytes.extend_from_slice(&(part.len() as u16).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let mut server = TlsConnection::accept(server_config());
        let (error, out) = refused(&mut server, &bytes, 1000).unwrap();
        assert!(matches!(error, TlsError::HandshakeTooLong), "{error}");
        assert!(is_clear_alert(&out));
    }
}

#[test]
fn an_oversized_record_is_refused_by_its_header() {
    let mut server = TlsConnection::accept(server_config());
    let (error, out) = refused(&mut server, &[22, 3, 1, 0xff, 0xff, 1], 1000).unwrap();
    assert!(matches!(error, TlsError::Protocol(_)));
    assert!(is_clear_alert(&out));
    let mut pair = Pair::new(client_config(&[&version::TLS13]));
    pair.settle();
    let (_, out) = refused(&mut pair.server, &[23, 3, 3, 0x7f, 0xff, 1], 1000).unwrap();
    assert!(out.len() > 7 && out[0] == 23, "an encrypted alert: {out:?}");
}

#[test]
fn empty_records_do_not_keep_the_server_busy_for_ever() {
    let mut server = TlsConnection::accept(server_config());
    let bytes = [22, 3, 1, 0, 0].repeat(1000);
    let (_, out) = refused(&mut server, &bytes, 1000).unwrap();
    assert!(is_clear_alert(&out));
}

#[test]
fn a_message_cut_into_records_after_the_handshake_is_refused_and_sending_does_not_panic() {
    let mut config = client_config(&[&version::TLS13]);
    config.enable_secret_extraction = true;
    let mut pair = Pair::new(config);
    pair.settle();
    // The first record of a KeyUpdate: the type and a part of the length. It is sealed by the client's own record layer,
    // taken over with its secrets.
    let (sequence, secrets) = secrets_of(pair.client);
    let record = seal((sequence, &secrets), &[24, 0], 22);
    let (mut input, mut plain, mut out) = (record, Vec::new(), Vec::new());
    let error = pair.server.receive(&mut input, &mut plain, &mut out).unwrap_err();
    assert!(matches!(error, TlsError::Fragmented), "{error}");
    assert!(matches!(pair.server.send(b"x", &mut out), Err(TlsError::Closed)));
    pair.server.close_notify(&mut out);
}

fn secrets_of(client: ClientConnection) -> (u64, rustls::ConnectionTrafficSecrets) {
    #[allow(deprecated)]
    client.dangerous_extract_secrets().unwrap().tx
}

/// RFC 8446 §5.2, for any suite with a 16 byte tag.
fn seal((sequence, secrets): (u64, &rustls::ConnectionTrafficSecrets), message: &[u8], content_type: u8) -> Vec<u8> {
    use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    use rustls::ConnectionTrafficSecrets as Secrets;
    let (key, iv, algorithm) = match secrets {
        Secrets::Aes128Gcm { key, iv } => (key, iv, &AES_128_GCM),
        Secrets::Aes256Gcm { key, iv } => (key, iv, &AES_256_GCM),
        Secrets::Chacha20Poly1305 { key, iv } => (key, iv, &CHACHA20_POLY1305),
        _ => panic!("an unknown suite"),
    };
    let nonce = rustls::crypto::cipher::Nonce::new(iv, sequence);
    let mut sealed = message.to_vec();
    sealed.push(content_type);
    let header = [23, 3, 3, 0, (sealed.len() + 16) as u8];
    LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap())
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce.0), Aad::from(header), &mut sealed)
        .unwrap();
    [&header[..], &sealed].concat()
}

#[test]
fn a_tls_connection_is_small() {
    assert!(size_of::<TlsConnection>() <= 104, "{}", size_of::<TlsConnection>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_of_the_records_gives_the_same_bytes(
        pieces in proptest::collection::vec(1_usize..3000, 1..20),
        data in proptest::collection::vec(any::<u8>(), 1..40_000),
        tls13: bool,
    ) {
        let mut pair = Pair::new(client_config(&[if tls13 { &version::TLS13 } else { &version::TLS12 }]));
        pair.pieces = pieces;
        pair.settle();
        pair.say(&data);
        prop_assert!(pair.plain == data);
        pair.hear(&data);
        prop_assert!(pair.client_plain == data);
        prop_assert!(pair.input.is_empty());
    }

    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..400) {
        let mut server = TlsConnection::accept(server_config());
        if let Some((_, out)) = refused(&mut server, &garbage, piece) {
            prop_assert!(is_clear_alert(&out));
        }
    }

    #[test]
    fn a_spoilt_byte_never_panics_and_never_passes(
        at in 0_usize..3000,
        flip in 1_u8..,
        piece in 1_usize..400,
        tls13: bool,
    ) {
        let mut pair = Pair::new(client_config(&[if tls13 { &version::TLS13 } else { &version::TLS12 }]));
        let mut seen = 0;
        for _ in 0..4 {
            let mut bytes = pair.client_bytes();
            let end = seen + bytes.len();
            if (seen..end).contains(&at) {
                bytes[at - seen] ^= flip;
            }
            seen = end;
            for piece in bytes.chunks(piece) {
                pair.input.extend_from_slice(piece);
                let mut out = Vec::new();
                if pair.server.receive(&mut pair.input, &mut pair.plain, &mut out).is_err() {
                    prop_assert!(pair.plain.is_empty());
                    return Ok(());
                }
                // A spoilt hello may make the client refuse the answer.
                let mut rest = &out[..];
                while !rest.is_empty() {
                    pair.client.read_tls(&mut rest).unwrap();
                    if pair.client.process_new_packets().is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
