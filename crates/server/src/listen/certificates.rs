//! RFC 6120 §13.7: a certificate for each served domain, changed while the server runs.
//!
//! Where the configuration names none, `certs/DOMAIN.crt` and `.key` in the data folder are used, and made on first start
//! (see `own.rs`). `DOMAIN` is the A-label form in lower case, so that the name is the same on every file system; an IPv6
//! literal is written as its eight groups joined by `-`.
//!
//! Everything that one handshake needs lies in one snapshot, so that a reload never mixes old and new. A changed
//! certificate changes the ticket keys too: a resumed session is bound to the certificate that the client once saw.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

mod end_point;
mod own;

pub use end_point::end_point_binding;

use super::tls::early::{EARLY_DATA_BYTES_MAX, EarlySessions};
use crate::config;

/// XEP-0368 §3: the application protocol of direct TLS for clients.
const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// A certificate that ends sooner than this is worth a warning.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The certificates of all served domains.
pub struct Certificates {
    sources: Vec<Source>,
    provider: Arc<CryptoProvider>,
    snapshot: ArcSwap<Snapshot>,
}

/// Why a certificate cannot be used. Each error names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No domain is served.
    #[error("no domain is served, so there is no certificate to load")]
    NoDomain,
    /// The domain cannot be a file name.
    #[error("`{domain}` cannot be the name of a certificate file")]
    Domain {
        /// The domain as configured.
        domain: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file has not the content that it should have.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What [`Certificates::reload`] did.
#[derive(Debug, Default)]
pub struct Report {
    /// Domains that have a new certificate now.
    pub changed: Vec<String>,
    /// Domains that keep their old certificate, and why.
    pub failed: Vec<(String, CertificateError)>,
}

impl Certificates {
    /// Reads the certificate of each domain; makes the ones that are neither configured nor there.
    ///
    /// # Errors
    /// Any file that is missing though configured, unreadable, or does not fit its key.
    pub fn load(
        data_dir: &Path,
        domains: &[String],
        configured: &[config::Certificate],
    ) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(super::tls::provider());
        let folder = data_dir.join("certs");
        let sources =
            domains.iter().map(|domain| Source::new(&folder, domain, configured)).collect::<Result<Vec<_>, _>>()?;
        let entries = sources
            .iter()
            .map(|source| Ok((source.name.clone(), Arc::new(source.load(&provider, true)?))))
            .collect::<Result<BTreeMap<_, _>, CertificateError>>()?;
        let default = sources.first().ok_or(CertificateError::NoDomain)?.name.clone();
        let snapshot = ArcSwap::from_pointee(Snapshot::new(Served { entries, default }, &provider)?);
        let certificates = Arc::new(Self { sources, provider, snapshot });
        certificates.warn_of_expiry(SystemTime::now());
        Ok(certificates)
    }

    /// Reads all files again. What cannot be used is reported and changes nothing. Connections that exist keep the
    /// certificate of their handshake.
    ///
    /// To be called on the operator's wish and once a day: a certificate made by the server is renewed here.
    pub fn reload(&self) -> Report {
        let old = self.snapshot.load_full();
        let mut entries = old.served.entries.clone();
        let mut report = Report::default();
        for source in &self.sources {
            match source.load(&self.provider, false) {
                Ok(entry) if entries.get(&source.name).is_some_and(|old| old.key.cert == entry.key.cert) => {}
                Ok(entry) => {
                    entries.insert(source.name.clone(), Arc::new(entry));
                    report.changed.push(source.domain.clone());
                }
                Err(error) => {
                    tracing::error!(domain = %source.domain, %error, "certificate not reloaded");
                    report.failed.push((source.domain.clone(), error));
                }
            }
        }
        if !report.changed.is_empty() {
            let served = Served { entries, default: old.served.default.clone() };
            match Snapshot::new(served, &self.provider) {
                Ok(snapshot) => {
                    self.snapshot.store(Arc::new(snapshot));
                    tracing::info!(domains = ?report.changed, "certificates reloaded");
                }
                Err(error) => report.failed.push((std::mem::take(&mut report.changed).join(" "), error)),
            }
        }
        self.warn_of_expiry(SystemTime::now());
        report
    }

    /// For STARTTLS. `domain` is the stream's `to`: it decides if the client's hello names no served domain. Without it,
    /// or if it is not served, the first served domain does.
    pub fn server_config(&self, domain: Option<&str>) -> Arc<ServerConfig> {
        let snapshot = self.snapshot.load();
        let name = domain.and_then(|domain| file_name(domain).ok());
        let config = name.and_then(|name| snapshot.starttls.get(&name));
        Arc::clone(config.unwrap_or(&snapshot.starttls[&snapshot.served.default]))
    }

    /// For direct TLS (XEP-0368): a client may leave ALPN out; one that uses it must offer `xmpp-client`.
    pub fn direct_tls_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.snapshot.load().direct)
    }

    /// As [`Certificates::direct_tls_config`], for clients that may log in by early data (XEP-0484).
    pub fn early_tls_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.snapshot.load().early)
    }

    /// For HTTPS.
    pub fn web_tls_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.snapshot.load().web)
    }

    /// RFC 5929 §4: `tls-server-end-point` of the domain's certificate, as new connections get it; `None` where it is
    /// not defined. A connection that exists may have another one: see `Transport::bindings`.
    pub fn end_point_binding(&self, domain: &str) -> Option<Vec<u8>> {
        self.entry(domain)?.end_point.clone()
    }

    /// `tls-server-end-point` of a certificate that a connection was shown.
    pub fn binding_of(&self, shown: &CertificateDer<'_>) -> Option<Vec<u8>> {
        let snapshot = self.snapshot.load();
        let is_it = |entry: &&Arc<Entry>| entry.key.end_entity_cert().is_ok_and(|certificate| certificate == shown);
        match snapshot.served.entries.values().find(is_it) {
            Some(entry) => entry.end_point.clone(),
            // It was replaced meanwhile.
            None => end_point_binding(shown),
        }
    }

    /// When the domain's certificate ends.
    pub fn expires(&self, domain: &str) -> Option<SystemTime> {
        Some(self.entry(domain)?.expires)
    }

    /// When the certificate of each served domain ends.
    pub fn expiries(&self) -> Vec<(String, SystemTime)> {
        self.sources.iter().filter_map(|source| Some((source.domain.clone(), self.expires(&source.domain)?))).collect()
    }

    /// Logs a warning for each certificate that ends within 14 days of `now`.
    pub fn warn_of_expiry(&self, now: SystemTime) {
        for (domain, expires) in self.expiries() {
            if expires < now {
                tracing::error!(%domain, "certificate has expired");
            } else if expires < now + EXPIRY_WARNING {
                let days = expires.duration_since(now).unwrap_or_default().as_secs() / 86_400;
                tracing::warn!(%domain, days, "certificate expires soon");
            }
        }
    }

    fn entry(&self, domain: &str) -> Option<Arc<Entry>> {
        self.snapshot.load().served.entries.get(&file_name(domain).ok()?).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("expiries", &self.expiries()).finish_non_exhaustive()
    }
}

/// Whether the files of a configured certificate can be used: they are read, and the key belongs to the chain.
///
/// # Errors
/// As of [`Certificates::load`].
pub fn check(configured: &config::Certificate) -> Result<(), CertificateError> {
    let source = Source::new(Path::new(""), &configured.domain, std::slice::from_ref(configured))?;
    source.read(&rustls::crypto::aws_lc_rs::default_provider()).map(drop)
}

/// Where the certificate of a domain without a configured one is in this data folder.
pub fn own_chain_path(data_dir: &Path, domain: &str) -> Option<PathBuf> {
    Some(data_dir.join("certs").join(format!("{}.crt", file_name(domain).ok()?)))
}

/// Everything that one handshake needs.
struct Snapshot {
    served: Arc<Served>,
    starttls: BTreeMap<String, Arc<ServerConfig>>,
    direct: Arc<ServerConfig>,
    /// The same for clients that may send early data.
    early: Arc<ServerConfig>,
    /// HTTPS.
    web: Arc<ServerConfig>,
}

impl Snapshot {
    fn new(served: Served, provider: &Arc<CryptoProvider>) -> Result<Self, CertificateError> {
        let served = Arc::new(served);
        let starttls = served
            .entries
            .keys()
            .map(|name| Ok((name.clone(), Arc::new(with_tickets(build(&served, name, provider)?)?))))
            .collect::<Result<_, CertificateError>>()?;
        let mut direct = build(&served, &served.default, provider)?;
        direct.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        // rustls takes early data only in sessions that the server remembers itself.
        let mut early = direct.clone();
        early.session_storage = Arc::new(EarlySessions::default());
        early.max_early_data_size = EARLY_DATA_BYTES_MAX;
        let mut web = build(&served, &served.default, provider)?;
        web.alpn_protocols = vec![b"http/1.1".to_vec()];
        let [direct, web] = [with_tickets(direct)?, with_tickets(web)?].map(Arc::new);
        Ok(Self { served, starttls, direct, early: Arc::new(early), web })
    }
}

/// One configuration.
fn build(
    served: &Arc<Served>,
    otherwise: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, CertificateError> {
    let unusable =
        |error: rustls::Error| CertificateError::Content { path: otherwise.into(), reason: error.to_string() };
    let resolver = Resolver { served: Arc::clone(served), otherwise: otherwise.to_owned() };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// What a client needs to resume is in its ticket; the server remembers nothing. Each configuration has ticket keys of its own, so that
/// a session can only be resumed where a client without server name gets the same certificate as before.
fn with_tickets(mut config: ServerConfig) -> Result<ServerConfig, CertificateError> {
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new();
    config.ticketer =
        ticketer.map_err(|error| CertificateError::Content { path: "tickets".into(), reason: error.to_string() })?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The certificates by name of the domain.
struct Served {
    entries: BTreeMap<String, Arc<Entry>>,
    default: String,
}

struct Entry {
    key: Arc<CertifiedKey>,
    /// RFC 5929 §4: to find it takes longer than all else of a login's greeting.
    end_point: Option<Vec<u8>>,
    expires: SystemTime,
}

/// RFC 6066 §3: the name in the client's hello decides if it is served; else the domain that the stream is for.
struct Resolver {
    served: Arc<Served>,
    otherwise: String,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().map(str::to_ascii_lowercase);
        let entries = &self.served.entries;
        let entry = named.and_then(|name| entries.get(&name)).or_else(|| entries.get(&self.otherwise))?;
        Some(Arc::clone(&entry.key))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("otherwise", &self.otherwise).finish_non_exhaustive()
    }
}

/// Where the certificate of a domain comes from.
struct Source {
    domain: String,
    name: String,
    chain: PathBuf,
    key: PathBuf,
    /// The files are the server's own, and it may make them.
    own: bool,
}

impl Source {
    fn new(folder: &Path, domain: &str, configured: &[config::Certificate]) -> Result<Self, CertificateError> {
        let name = file_name(domain)?;
        let configured = configured.iter().find(|entry| file_name(&entry.domain).is_ok_and(|other| other == name));
        Ok(match configured {
            Some(entry) => {
                Self { domain: domain.to_owned(), name, chain: entry.chain.clone(), key: entry.key.clone(), own: false }
            }
            None => Self {
                domain: domain.to_owned(),
                chain: folder.join(format!("{name}.crt")),
                key: folder.join(format!("{name}.key")),
                name,
                own: true,
            },
        })
    }

    /// `make`: whether missing files of the server's own are made. They are not on a reload: somebody may be replacing
    /// them at this moment.
    fn load(&self, provider: &CryptoProvider, make: bool) -> Result<Entry, CertificateError> {
        if make && self.own && !self.chain.exists() {
            own::make(&self.domain, &self.chain, &self.key)?;
            tracing::info!(domain = %self.domain, file = %self.chain.display(), "self-signed certificate made");
        }
        let entry = self.read(provider)?;
        if self.own && own::wants_renewal(entry.key.end_entity_cert().ok(), entry.expires, SystemTime::now()) {
            own::make(&self.domain, &self.chain, &self.key)?;
            tracing::info!(domain = %self.domain, file = %self.chain.display(), "self-signed certificate renewed");
            return self.read(provider);
        }
        Ok(entry)
    }

    fn read(&self, provider: &CryptoProvider) -> Result<Entry, CertificateError> {
        let content = |path: &Path, reason: String| CertificateError::Content { path: path.to_owned(), reason };
        let chain = CertificateDer::pem_slice_iter(&read(&self.chain)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| content(&self.chain, format!("not a PEM file with certificates: {error}")))?;
        let leaf = chain.first().ok_or_else(|| content(&self.chain, "there is no certificate in it".to_owned()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| content(&self.chain, format!("not an X.509 certificate: {error}")))?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| content(&self.key, format!("not a PEM file with a private key: {error}")))?;
        if !names(leaf, &self.name) {
            tracing::warn!(domain = %self.domain, file = %self.chain.display(), "certificate does not name the domain");
        }
        let key = CertifiedKey::from_der(chain.clone(), key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                content(&self.key, format!("the key does not belong to {}", self.chain.display()))
            }
            error => content(&self.key, error.to_string()),
        })?;
        Ok(Entry { end_point: end_point_binding(leaf), key: Arc::new(key), expires })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
}

/// Whether a client that asks for the domain would find it in the certificate.
fn names(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) =
        (rustls::server::ParsedCertificate::try_from(leaf), ServerName::try_from(name.to_owned()))
    else {
        return false;
    };
    rustls::client::verify_server_name(&parsed, &name).is_ok()
}

/// The domain as it stands in file names and in a client's hello: A-labels, lower case.
fn file_name(domain: &str) -> Result<String, CertificateError> {
    if let Some(address) = ip_literal(domain) {
        return Ok(match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => ipv6_file_name(address),
        });
    }
    let name = idna::domain_to_ascii(domain.trim_end_matches('.')).unwrap_or_default();
    let is_safe = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if name.is_empty() || name.starts_with('.') || !is_safe {
        return Err(CertificateError::Domain { domain: domain.to_owned() });
    }
    Ok(name)
}

fn ipv6_file_name(address: Ipv6Addr) -> String {
    address.segments().map(|group| format!("{group:x}")).join("-")
}

/// RFC 7622 §3.2: a domainpart may be an address, an IPv6 one in brackets.
fn ip_literal(domain: &str) -> Option<IpAddr> {
    let bare = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
    bare.parse().ok()
}

#[cfg(test)]
mod tests;
