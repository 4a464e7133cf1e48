//! After the handshake of TLS 1.3, when the records are ours.

use super::*;

/// A pair whose client can be taken apart.
fn open_pair(suite: rustls::SupportedCipherSuite) -> Pair {
    let provider =
        rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..rustls::crypto::aws_lc_rs::default_provider() };
    let mut config = client_config_of(provider, &[&version::TLS13]);
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    let mut pair = Pair::new(config);
    pair.settle();
    assert!(matches!(pair.server.layer, Layer::Records(_)));
    pair
}

fn suites() -> impl Iterator<Item = rustls::SupportedCipherSuite> {
    rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES
        .iter()
        .copied()
        .filter(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)))
}

/// What the server says to records that the client sealed, in one go.
fn say_sealed(messages: &[(&[u8], u8)]) -> (Result<TlsProgress, TlsError>, Vec<u8>, Vec<u8>) {
    let mut pair = open_pair(rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let (sequence, secrets) = secrets_of(pair.client);
    let mut input = Vec::new();
    for (index, (message, content_type)) in (0..).zip(messages) {
        input.extend(seal((sequence + index, &secrets), message, *content_type));
    }
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let result = pair.server.receive(&mut input, &mut plain, &mut out);
    (result, plain, out)
}

#[test]
fn each_suite_carries_bytes_both_ways_through_changes_of_keys() {
    for suite in suites() {
        let mut pair = open_pair(suite);
        for round in 0..4_u8 {
            pair.say(&[round; 40_000]);
            pair.hear(&[round; 40_000]);
            pair.client.refresh_traffic_keys().unwrap();
        }
        assert_eq!((pair.plain.len(), pair.client_plain.len()), (160_000, 160_000), "{suite:?}");
    }
}

#[test]
fn keys_that_sealed_enough_are_changed() {
    for suite in suites() {
        let mut pair = open_pair(suite);
        for _ in 0..100 {
            pair.hear(b"x");
        }
        let Layer::Records(records) = &pair.server.layer else { panic!("rustls") };
        assert!(records.written() < 64);
        pair.hear(&[0; 2_000_000]);
        assert_eq!(pair.client_plain.len(), 2_000_100);
    }
}

#[test]
fn what_has_no_place_after_the_handshake_gets_an_encrypted_alert() {
    for (message, content_type) in [
        (&[24, 0, 0, 1, 2][..], 22),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], 22),
        (&[1, 0, 0, 0], 22),
        (&[], 22),
        (&[1], 20),
        (&[2, 40], 21),
        (&[1, 0, 0], 21),
        (b"", 0),
        (b"x", 99),
    ] {
        let (result, plain, out) = say_sealed(&[(message, content_type)]);
        assert!(result.is_err(), "{message:?} of type {content_type}");
        assert!(plain.is_empty() && out.len() == 24 && out[0] == 23, "{out:?}");
    }
}

#[test]
fn records_without_anything_in_them_are_not_answered_for_ever() {
    let nothing = (&b""[..], 23);
    let something = (&b"x"[..], 23);
    let (result, plain, _) = say_sealed(&[&[nothing; 30][..], &[something], &[nothing; 30]].concat());
    assert!(result.is_ok() && plain == b"x");
    let (result, ..) = say_sealed(&[nothing; 100]);
    assert!(result.is_err());
}

#[test]
fn clear_records_after_the_handshake_are_refused() {
    for record in [[20, 3, 3, 0, 1, 1].as_slice(), &[21, 3, 3, 0, 2, 1, 0], &[22, 3, 3, 0, 1, 1], &[99, 3, 3, 0, 1, 1]]
    {
        let mut pair = open_pair(suites().next().unwrap());
        let (_, out) = refused(&mut pair.server, record, 100).unwrap();
        assert_eq!(out[0], 23);
    }
}

#[test]
fn a_connection_after_its_handshake_is_small() {
    let bytes = size_of::<Records>();
    assert!(bytes <= 320, "{bytes}");
}
