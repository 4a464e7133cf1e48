//! RFC 6120 §13.7.1.2: a self-signed certificate for a domain that has none yet.
//!
//! It names the domain as a DNS name, which is what clients check, and as an XmppAddr. There is no SRVName in it: it must be
//! an IA5String (RFC 4985 §2), which rcgen cannot write. It is valid for 820 days: Apple's systems refuse a longer time than
//! 825 days even where the user trusts the certificate. It is renewed with the same key, so that a client which has pinned
//! the key goes on working.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::{CertificateError, file_name, ip_literal, read};

/// How long a certificate is valid.
const VALID: Duration = Duration::from_secs(820 * 24 * 60 * 60);

/// A certificate that ends sooner is renewed.
const RENEW: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Clocks of clients may be behind.
const BACKDATE: Duration = Duration::from_secs(24 * 60 * 60);

/// id-on-xmppAddr, RFC 6120 §13.7.1.4.
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// By this organization the server knows its own certificates again: another one is never replaced.
const ORGANIZATION: &str = "Self-signed by Magpie";

/// Writes a certificate for the domain, with the key that is there or a new one.
pub(super) fn make(domain: &str, chain_path: &Path, key_path: &Path) -> Result<(), CertificateError> {
    let unusable = |error: rcgen::Error| CertificateError::Content {
        path: key_path.to_owned(),
        reason: format!("cannot sign with this key: {error}"),
    };
    if let Some(folder) = chain_path.parent() {
        make_folder(folder).map_err(|error| CertificateError::Write { path: folder.to_owned(), error })?;
    }
    // The key is written first, so that a crash in between leaves no certificate without key.
    let key = if key_path.exists() {
        let pem = read(key_path)?;
        KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(unusable)?
    } else {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        write(key_path, key.serialize_pem().as_bytes(), 0o600)?;
        key
    };
    let certificate = parameters(domain, SystemTime::now())?.self_signed(&key).map_err(unusable)?;
    write(chain_path, certificate.pem().as_bytes(), 0o644)
}

/// Whether a certificate is one of the server's own and ends soon.
pub(super) fn wants_renewal(leaf: Option<&CertificateDer<'_>>, expires: SystemTime, now: SystemTime) -> bool {
    let Some(Ok((_, leaf))) = leaf.map(|leaf| x509_parser::parse_x509_certificate(leaf)) else { return false };
    let is_own = leaf.issuer().iter_organization().any(|name| name.as_str() == Ok(ORGANIZATION));
    is_own && expires < now + RENEW
}

fn parameters(domain: &str, now: SystemTime) -> Result<CertificateParams, CertificateError> {
    let not_a_name = || CertificateError::Domain { domain: domain.to_owned() };
    let ascii = file_name(domain)?;
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, appendix A.1); nobody looks at it.
    let common_name: String = domain.chars().take(64).collect();
    subject.push(DnType::CommonName, common_name);
    subject.push(DnType::OrganizationName, ORGANIZATION);
    parameters.distinguished_name = subject;
    parameters.subject_alt_names = vec![
        match ip_literal(domain) {
            Some(IpAddr::V4(address)) => SanType::IpAddress(address.into()),
            Some(IpAddr::V6(address)) => SanType::IpAddress(address.into()),
            None => SanType::DnsName(ascii.try_into().map_err(|_| not_a_name())?),
        },
        SanType::OtherName((XMPP_ADDR.to_vec(), domain.into())),
    ];
    let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + unix.saturating_sub(BACKDATE);
    parameters.not_after = parameters.not_before + VALID;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}

/// Puts a whole file in place, or none.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertificateError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = (|| {
        // One that a crash left there may have other permissions.
        if let Err(error) = std::fs::remove_file(&new)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = create(&new, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    written.map_err(|error| CertificateError::Write { path: path.to_owned(), error })
}

#[cfg(unix)]
fn create(path: &Path, mode: u32) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn create(path: &Path, _mode: u32) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn make_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}
