#![allow(clippy::unwrap_used)]

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};
use rustls::client::ClientConnection;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::*;
use crate::listen::tls::{TlsConnection, TlsError};

fn load(folder: &TempDir, domains: &[&str]) -> Arc<Certificates> {
    let domains: Vec<_> = domains.iter().map(|&domain| domain.to_owned()).collect();
    Certificates::load(folder.path(), &domains, &[]).unwrap()
}

fn leaf(certificates: &Certificates, domain: &str) -> CertificateDer<'static> {
    certificates.entry(domain).unwrap().key.cert[0].clone()
}

/// Writes a certificate for `domain` into the folder's `certs`, made by somebody else.
fn put(folder: &TempDir, domain: &str, not_after: (i32, u8, u8)) -> (PathBuf, PathBuf) {
    let certs = folder.path().join("certs");
    std::fs::create_dir_all(&certs).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec![domain.to_owned()]).unwrap();
    parameters.not_after = date_time_ymd(not_after.0, not_after.1, not_after.2);
    let certificate = parameters.self_signed(&key).unwrap();
    let (chain_path, key_path) = (certs.join(format!("{domain}.crt")), certs.join(format!("{domain}.key")));
    std::fs::write(&chain_path, certificate.pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    (chain_path, key_path)
}

/// A handshake with a client that trusts `trusted` and asks for `asked`, with or without saying so in its hello.
fn handshake(
    config: Arc<ServerConfig>,
    trusted: &CertificateDer<'static>,
    asked: &str,
    server_name: bool,
    alpn: &[&str],
) -> Result<TlsConnection, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_sni = server_name;
    client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(asked.to_owned()).unwrap()).unwrap();
    let mut server = TlsConnection::accept(config);
    for _ in 0..3 {
        let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut input).unwrap();
        }
        let result = server.receive(&mut input, &mut plain, &mut out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        result.map_err(|error: TlsError| error.to_string())?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server)
}

#[test]
fn the_first_start_makes_a_certificate_and_the_second_keeps_it() {
    let folder = TempDir::new().unwrap();
    let first = leaf(&load(&folder, &["localhost"]), "localhost");
    let second = leaf(&load(&folder, &["localhost"]), "localhost");
    assert_eq!(first, second);
    assert!(folder.path().join("certs/localhost.crt").exists());
    assert!(!folder.path().join("certs/localhost.crt.new").exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_reads_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    load(&folder, &["localhost"]);
    let mode = std::fs::metadata(folder.path().join("certs/localhost.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_made_certificate_names_the_domain_in_both_ways_and_lives_820_days() {
    let folder = TempDir::new().unwrap();
    let certificate = leaf(&load(&folder, &["bücher.example"]), "bücher.example");
    assert!(folder.path().join("certs/xn--bcher-kva.example.crt").exists());
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert!(
        names.iter().any(|name| matches!(name, x509_parser::extensions::GeneralName::DNSName("xn--bcher-kva.example")))
    );
    let xmpp_addr = names.iter().any(|name| match name {
        x509_parser::extensions::GeneralName::OtherName(oid, value) => {
            oid.to_id_string() == "1.3.6.1.5.5.7.8.5" && value.ends_with("bücher.example".as_bytes())
        }
        _ => false,
    });
    assert!(xmpp_addr);
    let validity = parsed.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 820 * 86_400);
    assert!(validity.is_valid());
}

#[test]
fn addresses_are_domains_too() {
    let folder = TempDir::new().unwrap();
    let certificates = load(&folder, &["127.0.0.1", "[::1]"]);
    assert!(folder.path().join("certs/0-0-0-0-0-0-0-1.key").exists());
    for (domain, asked) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let config = certificates.server_config(Some(domain));
        let server = handshake(config, &leaf(&certificates, domain), asked, true, &[]).unwrap();
        assert_eq!(server.certificate(), Some(&leaf(&certificates, domain)));
    }
}

#[test]
fn a_domain_cannot_leave_the_folder() {
    let folder = TempDir::new().unwrap();
    for domain in ["../evil", "a/b", "", ".", "..", "a\0b"] {
        let error = Certificates::load(folder.path(), &[domain.to_owned()], &[]).unwrap_err();
        assert!(matches!(error, CertificateError::Domain { .. }), "{domain:?}: {error}");
    }
    assert!(matches!(Certificates::load(folder.path(), &[], &[]), Err(CertificateError::NoDomain)));
}

#[test]
fn the_hello_decides_then_the_stream_then_the_first_domain() {
    let folder = TempDir::new().unwrap();
    let certificates = load(&folder, &["a.example", "b.example", "c.example"]);
    let served = |to: Option<&str>, asked: &str, server_name: bool, expected: &str| {
        let expected = leaf(&certificates, expected);
        let server = handshake(certificates.server_config(to), &expected, asked, server_name, &[]);
        server.is_ok_and(|server| server.certificate() == Some(&expected))
    };
    assert!(served(Some("b.example"), "b.example", false, "b.example"));
    assert!(served(Some("B.Example"), "b.example", false, "b.example"));
    assert!(served(Some("b.example"), "c.example", true, "c.example"));
    assert!(served(None, "a.example", false, "a.example"));
    assert!(served(Some("elsewhere.example"), "a.example", false, "a.example"));
    // A server name that is not served changes nothing: the client gets the stream's certificate, which it then refuses.
    assert!(!served(Some("b.example"), "z.example", true, "b.example"));
    assert!(!served(Some("b.example"), "a.example", false, "a.example"));
}

#[test]
fn direct_tls_wants_xmpp_client_of_those_who_name_a_protocol() {
    let folder = TempDir::new().unwrap();
    let certificates = load(&folder, &["a.example"]);
    let trusted = leaf(&certificates, "a.example");
    let direct = |alpn: &[&str]| handshake(certificates.direct_tls_config(), &trusted, "a.example", true, alpn);
    assert_eq!(direct(&[]).unwrap().alpn(), None);
    assert_eq!(direct(&["xmpp-client"]).unwrap().alpn(), Some(&b"xmpp-client"[..]));
    assert_eq!(direct(&["h2", "xmpp-client"]).unwrap().alpn(), Some(&b"xmpp-client"[..]));
    let error = direct(&["h2", "xmpp-server"]).unwrap_err();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    // STARTTLS has no use for ALPN and does not look at it.
    assert!(handshake(certificates.server_config(None), &trusted, "a.example", true, &["h2"]).is_ok());
}

#[test]
fn a_reload_changes_new_connections_and_no_old_ones() {
    let folder = TempDir::new().unwrap();
    put(&folder, "a.example", (2090, 1, 1));
    let certificates = load(&folder, &["a.example", "b.example"]);
    let (old, old_b) = (leaf(&certificates, "a.example"), leaf(&certificates, "b.example"));
    let old_config = certificates.server_config(Some("a.example"));
    let unchanged = certificates.reload();
    assert!(unchanged.changed.is_empty() && unchanged.failed.is_empty());
    assert!(Arc::ptr_eq(&old_config, &certificates.server_config(Some("a.example"))), "tickets stay valid");

    put(&folder, "a.example", (2091, 1, 1));
    let report = certificates.reload();
    assert_eq!(report.changed, ["a.example"]);
    assert!(report.failed.is_empty());
    let new = leaf(&certificates, "a.example");
    assert_ne!(new, old);
    assert_eq!(leaf(&certificates, "b.example"), old_b);
    let during = handshake(old_config, &old, "a.example", true, &[]).unwrap();
    assert_eq!(during.certificate(), Some(&old), "the binding is that of the certificate which was shown");
    assert!(handshake(certificates.server_config(None), &new, "a.example", true, &[]).is_ok());
}

#[test]
fn a_bad_file_is_reported_by_name_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (chain, key) = put(&folder, "a.example", (2090, 1, 1));
    let certificates = load(&folder, &["a.example"]);
    let old = leaf(&certificates, "a.example");
    let good_key = std::fs::read(&key).unwrap();
    let spoil: [(&dyn Fn(), &str); 5] = [
        (&|| std::fs::write(&chain, "no certificate").unwrap(), "a.example.crt"),
        (&|| std::fs::remove_file(&chain).unwrap(), "a.example.crt"),
        (&|| drop(put(&folder, "a.example", (2090, 1, 1))), ""),
        (&|| std::fs::write(&key, &good_key).unwrap(), "a.example.key"),
        (&|| std::fs::write(&key, "").unwrap(), "a.example.key"),
    ];
    for (spoil, file) in spoil {
        spoil();
        if file.is_empty() {
            continue;
        }
        let report = certificates.reload();
        assert!(report.changed.is_empty());
        let error = report.failed[0].1.to_string();
        assert!(error.contains(file), "{error}");
        assert_eq!(leaf(&certificates, "a.example"), old);
    }
}

#[test]
fn a_configured_certificate_is_used_and_never_made() {
    let (folder, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (chain, key) = put(&folder, "a.example", (2090, 1, 1));
    let configured = [config::Certificate { domain: "A.example".into(), chain: chain.clone(), key }];
    let certificates = Certificates::load(data.path(), &["a.example".into()], &configured).unwrap();
    assert!(!data.path().join("certs").exists());
    assert!(certificates.expires("a.example").unwrap() > SystemTime::now());
    std::fs::remove_file(&chain).unwrap();
    let error = Certificates::load(data.path(), &["a.example".into()], &configured).unwrap_err();
    assert!(matches!(error, CertificateError::Read { path, .. } if path == chain));
}

#[test]
fn the_servers_own_certificate_is_renewed_with_its_key_and_no_other_one_is() {
    let folder = TempDir::new().unwrap();
    let certificates = load(&folder, &["a.example"]);
    let ours = leaf(&certificates, "a.example");
    let expires = certificates.expires("a.example").unwrap();
    let day = Duration::from_secs(86_400);
    assert!(!own::wants_renewal(Some(&ours), expires, SystemTime::now()));
    assert!(own::wants_renewal(Some(&ours), expires, expires - 29 * day));
    assert!(own::wants_renewal(Some(&ours), expires, expires + day));

    let key = std::fs::read(folder.path().join("certs/a.example.key")).unwrap();
    let source = &certificates.sources[0];
    own::make("a.example", &source.chain, &source.key).unwrap();
    assert_eq!(std::fs::read(folder.path().join("certs/a.example.key")).unwrap(), key);
    assert_eq!(certificates.reload().changed, ["a.example"]);

    put(&folder, "b.example", (2001, 1, 1));
    let theirs = load(&folder, &["b.example"]);
    assert!(!own::wants_renewal(Some(&leaf(&theirs, "b.example")), UNIX_EPOCH, SystemTime::now()));
    assert!(theirs.expires("b.example").unwrap() < SystemTime::now(), "an expired certificate of others is served");
}

#[test]
fn a_key_without_certificate_gets_one_and_a_certificate_without_key_is_an_error() {
    let folder = TempDir::new().unwrap();
    load(&folder, &["a.example"]);
    let (chain, key) = (folder.path().join("certs/a.example.crt"), folder.path().join("certs/a.example.key"));
    let before = std::fs::read(&key).unwrap();
    std::fs::remove_file(&chain).unwrap();
    load(&folder, &["a.example"]);
    assert_eq!(std::fs::read(&key).unwrap(), before);
    std::fs::remove_file(&key).unwrap();
    let error = Certificates::load(folder.path(), &["a.example".into()], &[]).unwrap_err();
    assert!(matches!(error, CertificateError::Read { path, .. } if path == key));
}

#[test]
fn the_end_point_binding_uses_the_hash_of_the_signature() {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    for (algorithm, hash) in
        [(&PKCS_ECDSA_P256_SHA256, &SHA256), (&PKCS_ECDSA_P384_SHA384, &SHA384), (&PKCS_ED25519, &SHA512)]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        let expected = digest(hash, certificate.der()).as_ref().to_vec();
        assert_eq!(end_point_binding(certificate.der()), Some(expected));
    }
    assert_eq!(end_point_binding(&CertificateDer::from(vec![1, 2, 3])), None);
}

#[test]
fn the_end_point_binding_of_weak_and_of_pss_signatures_is_that_of_rfc_5929() {
    use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let made = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
    // The signature is not looked at, so that any certificate can be given any algorithm.
    let with = |algorithm: &[u8]| resigned(made.der(), algorithm);
    let rsa = |last: u8| [&[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last][..], &[5, 0]].concat();
    let pss = |last: u8| {
        let hash = [0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0];
        let parameters = [&[0x30, 17, 0xa0, 15][..], &hash].concat();
        [&[0x30, 30, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10][..], &parameters].concat()
    };
    let cases: [(Vec<u8>, Option<&'static Algorithm>); 10] = [
        (rsa(4), Some(&SHA256)),
        (rsa(5), Some(&SHA256)),
        (rsa(11), Some(&SHA256)),
        (rsa(12), Some(&SHA384)),
        (rsa(13), Some(&SHA512)),
        (pss(1), Some(&SHA256)),
        (pss(2), Some(&SHA384)),
        (pss(3), Some(&SHA512)),
        (rsa(14), Some(&SHA224)),
        // MD2.
        (rsa(2), None),
    ];
    for (algorithm, hash) in cases {
        let certificate = with(&algorithm);
        let expected = hash.map(|hash| digest(hash, &certificate).as_ref().to_vec());
        assert_eq!(end_point_binding(&certificate), expected, "{algorithm:x?}");
    }
}

#[test]
fn a_connection_is_bound_to_the_certificate_it_was_shown_though_another_took_its_place() {
    let folder = TempDir::new().unwrap();
    let certificates = load(&folder, &["a.example", "b.example"]);
    let old = leaf(&certificates, "b.example");
    assert_eq!(certificates.binding_of(&old), end_point_binding(&old));
    assert_eq!(certificates.binding_of(&old), certificates.end_point_binding("b.example"));
    put(&folder, "b.example", (2100, 1, 1));
    certificates.reload();
    let new = leaf(&certificates, "b.example");
    assert_ne!(new, old);
    assert_eq!(certificates.end_point_binding("b.example"), end_point_binding(&new));
    assert_eq!(certificates.binding_of(&old), end_point_binding(&old));
}

/// The certificate with another algorithm beside its signature.
fn resigned(certificate: &CertificateDer<'_>, algorithm: &[u8]) -> CertificateDer<'static> {
    let old = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let at = certificate.windows(old.len()).rposition(|window| window == old).unwrap();
    let inner = [&certificate[4..at], algorithm, &certificate[at + old.len()..]].concat();
    let mut der = vec![0x30, 0x82];
    der.extend_from_slice(&(inner.len() as u16).to_be_bytes());
    der.extend(inner);
    der.into()
}
