//! A client's TLS connection (RFC 8446) with its records in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::plan::Trust;

/// A TLS connection.
#[derive(Debug)]
pub struct Tls {
    connection: ClientConnection,
}

/// What clients need before they can connect.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with the authorities.
    #[error("cannot read the certificates of {0}: {1}")]
    Authorities(String, String),
    /// The domain is no name that a certificate can have.
    #[error("{0} is no name for a certificate")]
    Name(String),
    /// Nothing says whom to trust.
    #[error("whom to trust is not said: name authorities with --ca, or accept any certificate with --insecure")]
    NoTrust,
    /// RFC 8446 §6.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// Memory is the only thing that records go through.
    #[error("TLS: {0}")]
    Io(#[from] std::io::Error),
}

impl TlsClient {
    /// For connections to `domain`.
    pub fn new(trust: &Trust, domain: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] =
            if trust.tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13, &rustls::version::TLS12] };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        let mut config = if trust.any {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { provider })).with_no_client_auth()
        } else {
            let file = trust.ca.as_ref().ok_or(TlsError::NoTrust)?;
            let failed = |error: String| TlsError::Authorities(file.display().to_string(), error);
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))? {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        if !trust.resume {
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let name = ServerName::try_from(domain.to_owned()).map_err(|_| TlsError::Name(domain.into()))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// A connection that has not begun.
    pub fn connect(&self) -> Result<Tls, TlsError> {
        Ok(Tls { connection: ClientConnection::new(Arc::clone(&self.config), self.name.clone())? })
    }
}

impl Tls {
    /// Takes records in and appends what they carried to `plain`. Whether the server has ended the connection.
    pub fn read(&mut self, mut records: &[u8], plain: &mut Vec<u8>) -> Result<bool, TlsError> {
        let mut closed = false;
        while !records.is_empty() {
            if self.connection.read_tls(&mut records)? == 0 {
                break;
            }
            let state = self.connection.process_new_packets()?;
            closed |= state.peer_has_closed();
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[start..])?;
        }
        Ok(closed)
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the handshake was a resumed one.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Appends the records of `plain`, and whatever else is to be sent, to `records`.
    pub fn write(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut rest = plain;
        loop {
            let taken = self.connection.writer().write(rest)?;
            rest = &rest[taken..];
            while self.connection.wants_write() {
                self.connection.write_tls(records)?;
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Says that nothing follows.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

/// Accepts any certificate, as one does with a server under test that made its own.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
