//! The server: its hosts, what they share, and how it starts, reloads and stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::sasl::{Hash, ScramKeys};
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaError, StreamCondition, StreamError};
use magpie_store::{Batch, Store, StoreError};
use magpie_terms::functions::Functions;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

use crate::accounts::Accounts;
use crate::auth::{CheckedPasswords, LoginThrottle};
use crate::config::{Config, Limits, ListenKind};
use crate::listen::buffers::Buffers;
use crate::listen::certificates::{CertificateError, Certificates};
use crate::listen::tcp::{Admission, Listener};
use crate::listen::transport::Transport;
use crate::mailbox::Mail;
use crate::metrics::{Metrics, MetricsServer, serve_metrics};
use crate::modules::Modules;
use crate::modules::offline::refusal;
use crate::registry::Registry;
use crate::requests::{Requests, TwoOwners};
use crate::retention::Retention;
use crate::services::Service;
use crate::session::{self, Asleep, Counts, Gate};
use crate::terms;

mod reload;

/// Buffers kept for the next connection that needs one: 1 MiB.
const POOLED_BUFFERS_MAX: usize = 64;

/// Accounts and addresses whose failed logins are remembered.
const THROTTLED_MAX: usize = 65_536;

/// Batches waiting for the store above which the server calls itself not ready.
const QUEUED_BATCHES_HIGH: u64 = 100_000;

/// How often certificates are looked at: those that the server made itself are renewed, others are warned of.
const CERTIFICATE_CHECK_SECONDS: u64 = 24 * 60 * 60;

/// Bytes of the tag that stands for a device in its resources.
const DEVICE_TAG_BYTES: usize = 9;

/// How long a stop waits for sessions to end.
const STOP_SECONDS_MAX: u64 = 15;

/// How long a stop takes at most to save those that the next start takes up.
const SAVE_SECONDS_MAX: u64 = 10;

/// What a module may keep from the start.
#[derive(Clone)]
pub struct Deps {
    /// The store.
    pub store: Store,
    /// The accounts.
    pub accounts: Accounts,
    /// The configuration, as last loaded.
    pub config: Arc<ArcSwap<Config>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Random, and the same for as long as the data folder lives: what only this server can make is made with it.
    pub secret: Arc<[u8; 32]>,
}

impl Deps {
    /// Whether messages are archived.
    pub fn archives(&self) -> bool {
        self.config.load().archive.enabled
    }
}

/// Everything that sessions share.
pub struct Server {
    /// The parts that modules have too.
    pub deps: Deps,
    /// The modules.
    pub modules: Modules,
    /// Who owns which request.
    pub requests: Requests,
    /// The domains served; to change them takes a restart.
    domains: Box<[Box<str>]>,
    limits: SessionLimits,
    certificates: Arc<Certificates>,
    throttle: Mutex<LoginThrottle>,
    password_checks: Semaphore,
    checked_passwords: CheckedPasswords,
    /// From which the salts of accounts that do not exist are made.
    fake_secret: Arc<[u8; 32]>,
    buffers: Buffers,
    admission: Arc<Admission>,
    addresses: Mutex<Vec<(ListenKind, SocketAddr)>>,
    terms: Arc<magpie_terms::Service>,
    metrics_server: Mutex<Option<MetricsServer>>,
    stopping: watch::Sender<bool>,
    /// Every connection holds a copy of the sender; when all are gone the receiver ends.
    running: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    /// While the server stops: the sessions that the next start takes up again.
    asleep: Mutex<Vec<Asleep>>,
}

/// The limits that every turn of every session asks for, which a look into the configuration each time would slow down.
#[derive(Debug, Default)]
pub struct SessionLimits {
    unsent_bytes_max: AtomicUsize,
    unacked_stanzas_max: AtomicUsize,
    bytes_per_second_max: AtomicU64,
}

impl SessionLimits {
    fn set(&self, limits: &Limits) {
        self.unsent_bytes_max.store(limits.unsent_bytes_max, Ordering::Relaxed);
        self.unacked_stanzas_max.store(limits.unacked_stanzas_max, Ordering::Relaxed);
        self.bytes_per_second_max.store(limits.bytes_per_second_max, Ordering::Relaxed);
    }

    /// See [`Limits::unsent_bytes_max`].
    pub fn unsent_bytes_max(&self) -> usize {
        self.unsent_bytes_max.load(Ordering::Relaxed)
    }

    /// See [`Limits::unacked_stanzas_max`].
    pub fn unacked_stanzas_max(&self) -> usize {
        self.unacked_stanzas_max.load(Ordering::Relaxed)
    }

    /// See [`Limits::bytes_per_second_max`].
    pub fn bytes_per_second_max(&self) -> u64 {
        self.bytes_per_second_max.load(Ordering::Relaxed)
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// which one
        address: SocketAddr,
        /// why
        error: std::io::Error,
    },
    /// A certificate is missing or wrong.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mistake in the program.
    #[error(transparent)]
    TwoOwners(#[from] TwoOwners),
    /// A source or a function of the term service is not configured as it must be.
    #[error(transparent)]
    Terms(#[from] magpie_terms::Misconfigured),
    /// The address for metrics is none, or cannot be had.
    #[error("cannot serve metrics on {address}: {error}")]
    Metrics {
        /// as configured
        address: String,
        /// why
        error: std::io::Error,
    },
}

impl Server {
    /// Starts the server on an open store: it listens when this returns.
    pub async fn start(config: Config, store: Store) -> Result<Arc<Self>, StartError> {
        let certificates = Certificates::load(&config.data, &config.domains, &config.certificate)?;
        let terms = magpie_terms::Service::new(config.terms.clone(), Functions::default(), Vec::new())?;
        let secret = store.value::<Vec<u8>>("secret");
        let fake_secret: [u8; 32] = match secret.get("fake-salt").await?.and_then(|bytes| bytes.try_into().ok()) {
            Some(known) => known,
            None => {
                let mut fresh = [0; 32];
                fill(&mut fresh);
                let mut batch = Batch::new();
                secret.put(&mut batch, "fake-salt", &fresh.to_vec());
                store.commit(batch).await?;
                fresh
            }
        };
        let fake_secret = Arc::new(fake_secret);
        let mut password_secret = [0; 32];
        fill(&mut password_secret);
        let metrics = Metrics::new();
        let deps = Deps {
            accounts: Accounts::new(&store, config.auth.scram_policy()),
            store,
            registry: Arc::new(Registry::default()),
            metrics: Arc::clone(&metrics),
            config: Arc::new(ArcSwap::from_pointee(config.clone())),
            secret: Arc::clone(&fake_secret),
        };
        let (modules, requests) = Modules::new(&deps)?;
        modules.load(&config.domains).await?;
        let admission = Admission::new(
            {
                let metrics = Arc::clone(&metrics);
                move || metrics.negotiating_now()
            },
            {
                let metrics = Arc::clone(&metrics);
                move || metrics.connection_refused()
            },
        );
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let server = Arc::new(Self {
            throttle: Mutex::new(LoginThrottle::new(config.auth.failures_per_minute_max, THROTTLED_MAX)),
            deps,
            modules,
            requests,
            domains: config.domains.iter().map(|domain| domain.as_str().into()).collect(),
            limits: SessionLimits::default(),
            certificates,
            password_checks: Semaphore::new(cores),
            checked_passwords: CheckedPasswords::new(&password_secret, Instant::now()),
            fake_secret,
            buffers: Buffers::new(POOLED_BUFFERS_MAX),
            admission,
            addresses: Mutex::default(),
            terms: Arc::new(terms),
            metrics_server: Mutex::default(),
            stopping: watch::Sender::new(false),
            running: Mutex::new(Some(mpsc::channel(1))),
            asleep: Mutex::default(),
        });
        server.limits.set(&config.limits);
        server.admission.set_limits(config.limits.connections_per_address_max, config.limits.unauthenticated_max);
        server.watch();
        // Before anybody can connect: who looks for contacts, or for the own session, finds them.
        session::wake_all(&server).await;
        for listen in &config.listen {
            let error = |error| StartError::Listen { address: listen.address, error };
            let port = listen.address.port();
            let ipv4_apart = config.listen.iter().any(|other| other.address.is_ipv4() && other.address.port() == port);
            let listener = Listener::bind(listen, ipv4_apart).map_err(error)?;
            let address = listener.address();
            server.addresses.lock().push((listen.kind, address));
            match listen.kind.is_xmpp() {
                true => {
                    server.accept_from(listener, Gate { tls: listen.tls, direct: listen.kind == ListenKind::C2sTls });
                }
                false => server.accept_terms_from(listener, listen.kind),
            }
            info!(%address, kind = %listen.kind, "listening");
        }
        server.check_certificates();
        server.forget_old_messages();
        server.serve_metrics(&config.metrics.address).await?;
        Ok(server)
    }

    fn accept_from(self: &Arc<Self>, listener: Listener, gate: Gate) {
        let server = Arc::clone(self);
        let Some(running) = self.running() else { return };
        let accept = move |socket, peer, admitted| {
            let transport = match gate.direct {
                false => Transport::plain(socket, peer, server.buffers()),
                true => Transport::tls(socket, peer, server.buffers(), server.direct_tls_config()),
            };
            let counts = Counts { _admitted: admitted, _connection: server.deps.metrics.connection() };
            // At once, so that however many are accepted before the first of them runs, none is too many.
            let negotiating = server.deps.metrics.negotiating();
            let running = running.clone();
            // Made out here: what a future is given when it begins has its room in it for as long as it lives.
            let serving = session::serve(Arc::clone(&server), transport, gate, counts, negotiating);
            tokio::spawn(async move {
                serving.await;
                drop(running);
            });
        };
        tokio::spawn(listener.run(Arc::clone(&self.admission), self.stopping(), accept));
    }

    fn accept_terms_from(self: &Arc<Self>, listener: Listener, kind: ListenKind) {
        let server = Arc::clone(self);
        let Some(running) = self.running() else { return };
        let accept = move |socket, peer, admitted| {
            let tls = (kind == ListenKind::TermsTls).then(|| server.certificates.web_tls_config());
            let serving = terms::serve(Arc::clone(&server.terms), kind, tls, socket, peer, server.stopping());
            let running = running.clone();
            tokio::spawn(async move {
                serving.await;
                drop((admitted, running));
            });
        };
        tokio::spawn(listener.run(Arc::clone(&self.admission), self.stopping(), accept));
    }

    /// What the metrics page shows besides what is counted.
    fn watch(self: &Arc<Self>) {
        let metrics = &self.deps.metrics;
        let store = self.deps.store.clone();
        metrics.watch_store(move || store.statistics());
        metrics.watch_certificates(Arc::clone(&self.certificates));
        metrics.watch_buffers(self.buffers());
        if self.config().listen.iter().any(|listen| !listen.kind.is_xmpp()) {
            let terms = Arc::clone(&self.terms);
            metrics.watch_terms(move || terms.counted());
        }
    }

    fn check_certificates(self: &Arc<Self>) {
        let (certificates, mut stopping) = (Arc::clone(&self.certificates), self.stopping());
        tokio::spawn(async move {
            loop {
                let stop = stopping.wait_for(|stopping| *stopping);
                if tokio::time::timeout(Duration::from_secs(CERTIFICATE_CHECK_SECONDS), stop).await.is_ok() {
                    return;
                }
                let certificates = Arc::clone(&certificates);
                // What is wrong is in the log.
                let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
            }
        });
    }

    fn forget_old_messages(self: &Arc<Self>) {
        let (retention, mut stopping) = (Retention::new(&self.deps), self.stopping());
        tokio::spawn(async move {
            tokio::select! {
                () = retention.run() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }

    async fn serve_metrics(self: &Arc<Self>, address: &str) -> Result<(), StartError> {
        if address.is_empty() {
            return Ok(());
        }
        let failed = |error| StartError::Metrics { address: address.to_owned(), error };
        let parsed = address.parse().map_err(|_| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let (stopping, store) = (self.stopping(), self.deps.store.clone());
        let ready = move || match (*stopping.borrow(), store.statistics().queued_batches) {
            (true, _) => Err("stopping".to_owned()),
            (false, queued) if queued > QUEUED_BATCHES_HIGH => Err(format!("{queued} batches wait for the store")),
            (false, _) => Ok(()),
        };
        let serving = serve_metrics(parsed, Arc::clone(&self.deps.metrics), ready).await.map_err(failed)?;
        info!(address = %serving.address(), "metrics");
        *self.metrics_server.lock() = Some(serving);
        Ok(())
    }

    /// Ends every stream with `system-shutdown`, keeps what was not delivered and the sessions that can be resumed, and closes the
    /// store.
    pub async fn shutdown(&self) {
        self.stopping.send_replace(true);
        let error = StreamError::from(StreamCondition::SystemShutdown);
        for session in self.registry().all() {
            // A session that is ending by itself needs no telling.
            let _ = session.mailbox.put(Mail::End(error.clone()));
        }
        let running = self.running.lock().take();
        if let Some((sender, mut receiver)) = running {
            drop(sender);
            let ended = tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), receiver.recv());
            if ended.await.is_err() {
                let ending = self.registry().all().len().saturating_sub(self.asleep().len());
                warn!(sessions = ending, "some sessions did not end in time");
            }
        }
        session::save_all(self, tokio::time::Instant::now() + Duration::from_secs(SAVE_SECONDS_MAX)).await;
        self.modules.last.write().await;
        let store = self.deps.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close());
        if closed.await.is_err() {
            warn!("the store did not close");
        }
    }

    fn direct_tls_config(&self) -> Arc<rustls::ServerConfig> {
        match self.deps.config.load().auth.early_data {
            true => self.certificates.early_tls_config(),
            false => self.certificates.direct_tls_config(),
        }
    }

    /// What a task that may serve a session holds, so that a stop waits for it; `None` once the server stops.
    pub fn running(&self) -> Option<mpsc::Sender<()>> {
        self.running.lock().as_ref().map(|(sender, _)| sender.clone())
    }

    /// The sessions that sleep until the next start.
    pub(crate) fn asleep(&self) -> MutexGuard<'_, Vec<Asleep>> {
        self.asleep.lock()
    }

    /// Where connections are accepted.
    pub fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.addresses.lock().clone()
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_server.lock().as_ref().map(MetricsServer::address)
    }

    /// The configuration in force.
    pub fn config(&self) -> arc_swap::Guard<Arc<Config>> {
        self.deps.config.load()
    }

    /// The limits of sessions in force.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// Who is connected.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.deps.registry
    }

    /// The certificates.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Where buffers come from.
    pub fn buffers(&self) -> Buffers {
        self.buffers.clone()
    }

    /// Who failed to log in how often.
    pub fn throttle(&self) -> MutexGuard<'_, LoginThrottle> {
        self.throttle.lock()
    }

    /// Becomes true when the server stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Whether the domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|served| **served == *domain)
    }

    /// Which service answers at a domain that is not served itself.
    pub fn service_at(&self, domain: &str) -> Option<Service> {
        Service::at(domain, |domain| self.serves(domain))
    }

    /// Whether the account may administer the server.
    pub fn is_admin(&self, account: &BareJid) -> bool {
        self.config().admins.iter().any(|admin| admin == account.as_str())
    }

    /// Whether there is such an account.
    pub async fn account_exists(&self, account: &BareJid) -> Result<bool, StanzaError> {
        // Who is logged in exists, as far as anybody needs to know.
        let online =
            self.registry().with(account, |account| account.is_some_and(|account| !account.resources.is_empty()));
        match online {
            true => Ok(true),
            false => self.deps.accounts.exists(account).await.map_err(refusal),
        }
    }

    /// The account that is meant by an address: itself, or, where there is none, the one under which a server of RFC 6122's
    /// time stored it (`fußball` as `fussball`).
    pub async fn account_meant(&self, address: &BareJid) -> Result<BareJid, StoreError> {
        if !address.as_str().is_ascii() && !self.deps.accounts.exists(address).await? {
            for candidate in BareJid::legacy_candidates(address.as_str()) {
                if self.serves(candidate.domain()) && self.deps.accounts.exists(&candidate).await? {
                    return Ok(candidate);
                }
            }
        }
        Ok(address.clone())
    }

    /// What the server offers after authentication, besides what every server does.
    pub fn stream_features(&self, domain: &str) -> Vec<Element> {
        self.modules.stream_features(domain)
    }

    /// Keys for an account that does not exist, of the hash asked for, or of that which a real account would be asked by.
    pub fn fake_keys(&self, account: &str, hash: Option<Hash>) -> ScramKeys {
        let policy = self.deps.accounts.policy();
        let strongest = policy.hashes.iter().map(|(hash, _)| *hash).max();
        let hash = hash.or(strongest).unwrap_or(Hash::Sha256);
        let configured = policy.hashes.iter().find(|(known, _)| *known == hash);
        let iterations = configured.map_or(4096, |(_, iterations)| *iterations);
        ScramKeys::fake(&self.fake_secret, account, hash, iterations)
    }

    /// What stands for a client's installation in its resources: always the same, and nobody can tell from it what the installation is
    /// called.
    pub fn device_tag(&self, account: &BareJid, user_agent: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.deps.secret);
        let tag = hmac::sign(&key, ["device", account.as_str(), user_agent].join("\0").as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..DEVICE_TAG_BYTES])
    }

    /// Checks a password where it blocks nobody, a few at a time.
    pub async fn check_password(&self, keys: Box<ScramKeys>, password: String) -> bool {
        if self.checked_passwords.knows(&keys, &password, Instant::now()) {
            return true;
        }
        let Ok(_turn) = self.password_checks.acquire().await else { return false };
        let check = move || keys.check_password(&password).then_some((keys, password));
        let Ok(Some((keys, password))) = tokio::task::spawn_blocking(check).await else { return false };
        self.checked_passwords.remember(&keys, &password, Instant::now());
        true
    }
}

/// Time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Fresh randomness as printable text: `bytes` of it.
pub fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fill(&mut random);
    BASE64_URL_SAFE_NO_PAD.encode(random)
}

/// Fresh randomness.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    fill(&mut random);
    random
}

fn fill(random: &mut [u8]) {
    SystemRandom::new().fill(random).expect("the system's random source does not fail once it is seeded");
}
