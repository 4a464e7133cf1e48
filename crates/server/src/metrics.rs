//! OpenMetrics: what the server counts, and the loopback page that shows it.
//!
//! What happens with every stanza is counted in shards by thread, each on cache lines of its own, and summed when somebody
//! looks. What others know already (the store, the certificates, the buffers) is asked for at that moment.
//!
//! Labels come from fixed lists. A peer can choose the name of a mechanism, and must not be able to make series of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use magpie_proto::{Kind, StreamCondition};
use magpie_store::Statistics;
use parking_lot::Mutex;

use crate::listen::buffers::{Buffers, thread_number};
use crate::listen::certificates::Certificates;

mod page;
mod serve;

pub use serve::{MetricsServer, serve_metrics};

/// The counters of one server.
pub struct Metrics {
    shards: Box<[Shard]>,
    authentications: [[AtomicU64; 2]; MECHANISMS.len() + 1],
    stream_errors: [AtomicU64; CONDITIONS.len() + 1],
    started: SystemTime,
    sources: Mutex<Sources>,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A stanza came from one of our clients.
    pub fn stanza_in(&self, kind: Kind) {
        self.add(Hot::stanza_in(kind), 1);
    }

    /// A stanza was written to one of our clients.
    pub fn stanza_out(&self, kind: Kind) {
        self.add(Hot::stanza_out(kind), 1);
    }

    /// A stanza was handed to at least one session.
    pub fn routed_delivered(&self) {
        self.add(Hot::Delivered, 1);
    }

    /// A message was kept for an account that is offline.
    pub fn routed_offline(&self) {
        self.add(Hot::Offline, 1);
    }

    /// A stanza was refused, or silently dropped where the rules say so.
    pub fn routed_refused(&self) {
        self.add(Hot::Refused, 1);
    }

    /// A session was bound.
    pub fn session_began(&self) {
        self.add(Hot::SessionsBegan, 1);
    }

    /// A bound session has ended.
    pub fn session_ended(&self) {
        self.add(Hot::SessionsEnded, 1);
    }

    /// A connection was accepted; it counts as open until the value is dropped.
    pub fn connection(self: &Arc<Self>) -> Counted {
        self.counted(Hot::ConnectionsBegan, Hot::ConnectionsEnded)
    }

    /// Connections that were ever accepted and those that ever ended, in one number: it changes where any came or went.
    pub fn turnover(&self) -> u64 {
        self.sum(Hot::ConnectionsBegan).wrapping_add(self.sum(Hot::ConnectionsEnded))
    }

    /// A connection negotiates its stream; it does until the value is dropped.
    pub fn negotiating(self: &Arc<Self>) -> Counted {
        self.counted(Hot::NegotiationsBegan, Hot::NegotiationsEnded)
    }

    /// A bound session has lost its connection and waits to be resumed (XEP-0198); it does until the value is dropped.
    pub fn waiting(self: &Arc<Self>) -> Counted {
        self.counted(Hot::WaitsBegan, Hot::WaitsEnded)
    }

    /// How many connections negotiate at this moment: those not yet authenticated.
    pub fn negotiating_now(&self) -> usize {
        usize::try_from(self.now(Hot::NegotiationsBegan, Hot::NegotiationsEnded)).unwrap_or(usize::MAX)
    }

    /// A connection was refused because of a limit.
    pub fn connection_refused(&self) {
        self.add(Hot::ConnectionsRefused, 1);
    }

    /// An authentication has ended.
    pub fn authentication(&self, mechanism: &str, success: bool) {
        let mechanism = MECHANISMS.iter().position(|known| *known == mechanism).unwrap_or(MECHANISMS.len());
        self.authentications[mechanism][usize::from(success)].fetch_add(1, Ordering::Relaxed);
    }

    /// The server ended a stream with this condition (RFC 6120 §4.9.3).
    pub fn stream_error(&self, condition: &str) {
        let condition = CONDITIONS.iter().position(|known| *known == condition).unwrap_or(CONDITIONS.len());
        self.stream_errors[condition].fetch_add(1, Ordering::Relaxed);
    }

    /// From now on shows what the store says: `move || store.statistics()`.
    pub fn watch_store(&self, read: impl Fn() -> Statistics + Send + Sync + 'static) {
        self.sources.lock().store = Some(Arc::new(read));
    }

    /// From now on shows when the certificates end.
    pub fn watch_certificates(&self, certificates: Arc<Certificates>) {
        self.sources.lock().certificates = Some(certificates);
    }

    /// From now on shows what the term service counts: `move || service.counted()`.
    pub fn watch_terms(&self, read: impl Fn() -> Vec<magpie_terms::Family> + Send + Sync + 'static) {
        self.sources.lock().terms = Some(Arc::new(read));
    }

    /// From now on shows the bytes that went over the wire, and the buffers in use.
    pub fn watch_buffers(&self, buffers: Buffers) {
        self.sources.lock().buffers = Some(buffers);
    }

    /// From now on shows a value that somebody else knows, such as the length of a queue. The name begins with `magpie_`.
    pub fn watch(&self, name: &'static str, help: &'static str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        let mut sources = self.sources.lock();
        sources.gauges.retain(|gauge| gauge.name != name);
        sources.gauges.push(Gauge { name, help, read: Arc::new(read) });
    }

    fn add(&self, what: Hot, count: u64) {
        let shard = &self.shards[thread_number() % self.shards.len()];
        shard.0[what as usize].fetch_add(count, Ordering::Relaxed);
    }

    fn sum(&self, what: Hot) -> u64 {
        self.shards.iter().map(|shard| shard.0[what as usize].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// The end is read first, so that what ends meanwhile is not missing from the beginning.
    fn now(&self, began: Hot, ended: Hot) -> u64 {
        let ended = self.sum(ended);
        self.sum(began).saturating_sub(ended)
    }

    fn counted(self: &Arc<Self>, began: Hot, ended: Hot) -> Counted {
        self.add(began, 1);
        Counted { metrics: Arc::clone(self), ended }
    }

    fn started_unix(&self) -> f64 {
        self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(64);
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            authentications: Default::default(),
            stream_errors: Default::default(),
            started: SystemTime::now(),
            sources: Mutex::default(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Something that counts for as long as this value lives.
#[must_use]
pub struct Counted {
    metrics: Arc<Metrics>,
    ended: Hot,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.add(self.ended, 1);
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

/// What is counted in shards.
#[derive(Clone, Copy)]
enum Hot {
    MessagesIn,
    PresencesIn,
    IqsIn,
    OthersIn,
    MessagesOut,
    PresencesOut,
    IqsOut,
    OthersOut,
    Delivered,
    Offline,
    Refused,
    SessionsBegan,
    SessionsEnded,
    ConnectionsBegan,
    ConnectionsEnded,
    ConnectionsRefused,
    NegotiationsBegan,
    NegotiationsEnded,
    WaitsBegan,
    WaitsEnded,
}

impl Hot {
    const COUNT: usize = Self::WaitsEnded as usize + 1;

    fn stanza_in(kind: Kind) -> Self {
        match kind {
            Kind::Message => Self::MessagesIn,
            Kind::Presence => Self::PresencesIn,
            Kind::Iq => Self::IqsIn,
            Kind::Other => Self::OthersIn,
        }
    }

    fn stanza_out(kind: Kind) -> Self {
        match kind {
            Kind::Message => Self::MessagesOut,
            Kind::Presence => Self::PresencesOut,
            Kind::Iq => Self::IqsOut,
            Kind::Other => Self::OthersOut,
        }
    }
}

#[derive(Default)]
#[repr(align(128))]
struct Shard([AtomicU64; Hot::COUNT]);

/// Who is asked when somebody looks.
#[derive(Clone, Default)]
struct Sources {
    store: Option<Arc<dyn Fn() -> Statistics + Send + Sync>>,
    certificates: Option<Arc<Certificates>>,
    terms: Option<Arc<dyn Fn() -> Vec<magpie_terms::Family> + Send + Sync>>,
    buffers: Option<Buffers>,
    gauges: Vec<Gauge>,
}

#[derive(Clone)]
struct Gauge {
    name: &'static str,
    help: &'static str,
    read: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// The mechanisms that the server offers; any other counts as `other`.
const MECHANISMS: [&str; 8] = [
    "ANONYMOUS",
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
];

/// RFC 6120 §4.9.3; any other counts as `other`.
const CONDITIONS: [&str; 25] = StreamCondition::NAMES;

#[cfg(test)]
mod tests;
