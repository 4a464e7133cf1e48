//! RFC 8446 §4, §7: what a handshake decides and rustls' unbuffered interface does not show.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::tls13::OkmBlock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{KeyLog, ServerConfig};

/// Sees what one handshake decides: the server name, the certificate, and the secret under the exporters.
pub(super) struct Witness {
    resolver: Arc<dyn ResolvesServerCert>,
    key_log: Arc<dyn KeyLog>,
    pub(super) seen: Mutex<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) server_name: Option<Box<str>>,
    pub(super) certificate: Option<Arc<CertifiedKey>>,
    pub(super) exporter_secret: Option<OkmBlock>,
    pub(super) client_secret: Option<OkmBlock>,
    pub(super) server_secret: Option<OkmBlock>,
}

impl Witness {
    /// Puts a new one in the place of what decides in this configuration.
    pub(super) fn of(config: &mut ServerConfig) -> Arc<Self> {
        let witness = Arc::new(Self {
            resolver: Arc::clone(&config.cert_resolver),
            key_log: Arc::clone(&config.key_log),
            seen: Mutex::default(),
        });
        config.cert_resolver = Arc::clone(&witness) as _;
        config.key_log = Arc::clone(&witness) as _;
        witness
    }
}

impl Seen {
    /// Where the secret of this name is to be kept: those under TLS 1.3's exporters and record keys, by NSS' names for them.
    fn place(&mut self, label: &str) -> Option<&mut Option<OkmBlock>> {
        match label {
            "EXPORTER_SECRET" => Some(&mut self.exporter_secret),
            "CLIENT_TRAFFIC_SECRET_0" => Some(&mut self.client_secret),
            "SERVER_TRAFFIC_SECRET_0" => Some(&mut self.server_secret),
            _ => None,
        }
    }
}

impl ResolvesServerCert for Witness {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = hello.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
        let certificate = self.resolver.resolve(hello);
        let mut seen = self.seen.lock();
        seen.server_name = server_name;
        seen.certificate.clone_from(&certificate);
        certificate
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

impl KeyLog for Witness {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if let Some(place) = self.seen.lock().place(label) {
            *place = Some(OkmBlock::new(secret));
        }
        if self.key_log.will_log(label) {
            self.key_log.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        Seen::default().place(label).is_some() || self.key_log.will_log(label)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

/// RFC 9266: RFC 8446 §7.5 with the label and length of RFC 9266 §2 and an empty context.
pub(super) fn channel_binding(suite: &rustls::Tls13CipherSuite, exporter_secret: &OkmBlock) -> Option<[u8; 32]> {
    let hash_of_nothing = suite.common.hash_provider.hash(&[]);
    let length = u16::try_from(hash_of_nothing.as_ref().len()).ok()?;
    let derived = suite.hkdf_provider.expander_for_okm(exporter_secret).expand_block(&[
        &length.to_be_bytes(),
        &[30],
        b"tls13 EXPORTER-Channel-Binding",
        &[hash_of_nothing.as_ref().len() as u8],
        hash_of_nothing.as_ref(),
    ]);
    let mut binding = [0; 32];
    suite
        .hkdf_provider
        .expander_for_okm(&derived)
        .expand_slice(
            &[
                &32_u16.to_be_bytes(),
                &[14],
                b"tls13 exporter",
                &[hash_of_nothing.as_ref().len() as u8],
                hash_of_nothing.as_ref(),
            ],
            &mut binding,
        )
        .ok()?;
    Some(binding)
}
