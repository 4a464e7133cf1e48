//! RFC 8446 §2.3, §8: what comes before the handshake has ended, and what comes again.

use std::io::Write as _;

use super::*;
use crate::listen::tls::early::{EARLY_DATA_BYTES_MAX, EarlySessions};

/// A server that takes early data, and clients that know it.
struct Early {
    server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Early {
    fn new() -> Self {
        let mut server = ServerConfig::clone(&server_config());
        server.ticketer = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&server.cert_resolver))
            .ticketer;
        server.session_storage = Arc::new(EarlySessions::default());
        server.max_early_data_size = EARLY_DATA_BYTES_MAX;
        let mut client = client_config(&[&version::TLS13]);
        client.resumption = Resumption::in_memory_sessions(8);
        client.enable_early_data = true;
        let early = Self { server: Arc::new(server), client };
        let mut first = early.pair();
        assert!(first.client.early_data().is_none(), "there is no session yet");
        first.settle();
        first.say(b"x");
        early
    }

    fn pair(&self) -> Pair {
        Pair { server: TlsConnection::accept(Arc::clone(&self.server)), ..Pair::new(self.client.clone()) }
    }

    /// A client that has said this as early data, and the bytes that it sends for it.
    fn says(&self, early: &[u8]) -> (Pair, Vec<u8>) {
        let mut pair = self.pair();
        pair.client.early_data().unwrap().write_all(early).unwrap();
        let bytes = pair.client_bytes();
        (pair, bytes)
    }
}

fn receive(server: &mut TlsConnection, mut bytes: Vec<u8>) -> (TlsProgress, Vec<u8>, Vec<u8>) {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let progress = server.receive(&mut bytes, &mut plain, &mut out).unwrap();
    (progress, plain, out)
}

#[test]
fn early_data_are_given_as_such_and_answered_before_the_handshake_ends() {
    let early = Early::new();
    let (mut pair, bytes) = early.says(b"<authenticate/>");
    let (progress, plain, mut out) = receive(&mut pair.server, bytes);
    assert!(progress.early && !progress.handshake_done && plain == b"<authenticate/>");
    assert!(pair.server.is_handshaking() && pair.server.may_send());
    assert!(pair.server.certificate().is_some() && pair.server.server_name() == Some("localhost"));
    let exporter = pair.server.tls_exporter().unwrap();
    pair.server.send(b"<success/>", &mut out).unwrap();

    // One flight from each side, and the client knows.
    pair.show_client(&out);
    assert!(pair.client.is_early_data_accepted());
    assert_eq!(pair.client_plain, b"<success/>");

    pair.client.writer().write_all(b"<presence/>").unwrap();
    let (progress, plain, out) = {
        let bytes = pair.client_bytes();
        receive(&mut pair.server, bytes)
    };
    assert!(!progress.early && progress.handshake_done && plain == b"<presence/>");
    pair.show_client(&out);
    assert!(pair.server.is_resumed() && !pair.server.is_handshaking());
    assert_eq!(pair.server.tls_exporter(), Some(exporter));
    let at_the_client = pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
    assert_eq!(at_the_client, exporter);
    pair.hear(b"<iq/>");
    assert_eq!(pair.client_plain, b"<success/><iq/>");
    pair.say(b"<message/>");
    assert_eq!(pair.plain, b"<message/>");
}

#[test]
fn records_of_early_data_may_be_cut_at_every_byte() {
    let early = Early::new();
    let (mut pair, bytes) = early.says(b"<authenticate/>");
    pair.pieces = vec![1];
    pair.deliver(&bytes).unwrap();
    assert_eq!(pair.plain, b"<authenticate/>");
    pair.settle();
    pair.say(b"<presence/>");
    assert_eq!(pair.plain, b"<authenticate/><presence/>");
}

#[test]
fn what_somebody_sends_again_is_not_given() {
    let early = Early::new();
    let (mut pair, bytes) = early.says(b"<authenticate/>");
    let (progress, ..) = receive(&mut pair.server, bytes.clone());
    assert!(progress.early);
    for _ in 0..2 {
        let mut again = TlsConnection::accept(Arc::clone(&early.server));
        let (progress, plain, out) = receive(&mut again, bytes.clone());
        assert!(!progress.early && plain.is_empty() && !out.is_empty());
        assert!(again.is_handshaking());
    }
}

#[test]
fn a_server_that_has_forgotten_the_session_passes_early_data_over_and_shakes_hands() {
    let early = Early::new();
    let (mut pair, bytes) = early.says(b"<authenticate/>");
    let mut forgetful = ServerConfig::clone(&early.server);
    forgetful.session_storage = Arc::new(EarlySessions::default());
    pair.server = TlsConnection::accept(Arc::new(forgetful));
    pair.deliver(&bytes).unwrap();
    pair.settle();
    assert!(!pair.client.is_early_data_accepted() && !pair.server.is_resumed());
    pair.say(b"<authenticate/>");
    assert_eq!(pair.plain, b"<authenticate/>");
}

#[test]
fn a_client_may_send_so_much_early_data_and_no_more() {
    let early = Early::new();
    let mut pair = early.pair();
    let written = pair.client.early_data().unwrap().write(&[b'x'; 20_000]).unwrap();
    assert_eq!(written, EARLY_DATA_BYTES_MAX as usize);
    let bytes = pair.client_bytes();
    pair.deliver(&bytes).unwrap();
    assert_eq!(pair.plain.len(), written);
}
