//! What the service counts, for whoever watches it: in shards by thread, each on cache lines of its own, and summed when somebody looks.
//!
//! Labels come from fixed lists, and the names of sources from the configuration. Who asks cannot make series.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::sources::{Found, SourceError};

/// The media type of the text that Prometheus reads.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const SHARDS_MAX: usize = 64;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Health,
    Metrics,
    Preflight,
    Term,
    ToJson,
    FromJson,
    ToText,
    FromText,
    Function,
}

const ROUTES: [&str; 10] =
    ["root", "healthz", "metrics", "preflight", "term", "to-json", "from-json", "to-text", "from-text", "function"];
/// Classes of status; informational answers are hyper's own.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Bert,
}

const PROTOCOLS: [&str; 2] = ["http", "bert"];

/// How a call of BERT-RPC ends: as its reply says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    Reply,
    User,
    Server,
}

const CALL_KINDS: [&str; 2] = ["call", "cast"];
const CALL_ENDS: [&str; 3] = ["reply", "user", "server"];

/// How a lookup ends.
const OUTCOMES: [&str; 5] = ["found", "none", "bad-key", "damaged", "unavailable"];

// Where in a shard what is counted stands.
const REQUESTS: usize = 0;
const CONVERTED: usize = REQUESTS + ROUTES.len() * CLASSES.len();
const BYTES: usize = CONVERTED + ROUTES.len();
const CONNECTIONS: usize = BYTES + 2 * PROTOCOLS.len();
const CALLS: usize = CONNECTIONS + 2 * PROTOCOLS.len();
const PACKETS: usize = CALLS + CALL_KINDS.len() * CALL_ENDS.len();
const COUNT: usize = PACKETS + 1;

#[repr(align(128))]
struct Shard([AtomicU64; COUNT]);

/// The counters of a service.
pub(crate) struct Counters {
    shards: Box<[Shard]>,
    sources: Mutex<Vec<(String, Arc<Lookups>)>>,
}

/// Lookups in one source, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Lookups([AtomicU64; OUTCOMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
        let shard = || Shard(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { shards: (0..shards).map(|_| shard()).collect(), sources: Mutex::default() }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    /// A request was answered.
    pub(crate) fn request(&self, route: Route, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.add(REQUESTS + route as usize * CLASSES.len() + class, 1);
    }

    /// Terms were converted.
    pub(crate) fn converted(&self, route: Route, terms: u64) {
        self.add(CONVERTED + route as usize, terms);
    }

    /// A connection is open, until the value is dropped.
    pub(crate) fn connection(self: &Arc<Self>, protocol: Protocol) -> Open {
        self.add(CONNECTIONS + 2 * protocol as usize, 1);
        Open { counters: Arc::clone(self), protocol }
    }

    /// A call of BERT-RPC has ended.
    pub(crate) fn call(&self, is_cast: bool, end: CallEnd) {
        self.add(CALLS + usize::from(is_cast) * CALL_ENDS.len() + end as usize, 1);
    }

    /// A packet of BERT-RPC asked nothing that can be.
    pub(crate) fn bad_packet(&self) {
        self.add(PACKETS, 1);
    }

    /// The counters of a source, which it keeps when the configuration is read again.
    pub(crate) fn lookups(&self, source: &str) -> Arc<Lookups> {
        let mut sources = self.sources.lock();
        if let Some((_, known)) = sources.iter().find(|(name, _)| name == source) {
            return Arc::clone(known);
        }
        let fresh = Arc::<Lookups>::default();
        sources.push((source.to_owned(), Arc::clone(&fresh)));
        fresh
    }

    fn add(&self, at: usize, count: u64) {
        self.shards[thread_number() % self.shards.len()].0[at].fetch_add(count, Ordering::Relaxed);
    }

    fn sum(&self, at: usize) -> u64 {
        self.shards.iter().map(|shard| shard.0[at].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// All that was counted so far.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut requests = Family::counter("magpie_terms_requests", "Requests answered, by what they ask for");
        let mut converted = Family::counter("magpie_terms_converted", "Terms converted");
        for (nth, route) in ROUTES.into_iter().enumerate() {
            for (class, name) in CLASSES.into_iter().enumerate() {
                let count = self.sum(REQUESTS + nth * CLASSES.len() + class);
                requests.push(&[("route", route), ("status", name)], count);
            }
            if route.contains('-') {
                converted.push(&[("route", route)], self.sum(CONVERTED + nth));
            }
        }
        let mut read = Family::counter("magpie_terms_received_bytes", "Bytes read from clients, without TLS");
        let mut written = Family::counter("magpie_terms_sent_bytes", "Bytes written to clients, without TLS");
        let mut accepted = Family::counter("magpie_terms_connections_accepted", "Connections that were served");
        let mut open = Family { is_counter: false, ..Family::counter("magpie_terms_connections", "Open connections") };
        for (nth, protocol) in PROTOCOLS.into_iter().enumerate() {
            let labels = &[("protocol", protocol)];
            read.push(labels, self.sum(BYTES + 2 * nth));
            written.push(labels, self.sum(BYTES + 2 * nth + 1));
            // The end is read first, so that what ends meanwhile is not missing from the beginning.
            let ended = self.sum(CONNECTIONS + 2 * nth + 1);
            let began = self.sum(CONNECTIONS + 2 * nth);
            accepted.push(labels, began);
            open.push(labels, began.saturating_sub(ended));
        }
        let mut lookups = Family::counter("magpie_terms_lookups", "Lookups in sources, by outcome");
        for (source, counted) in self.sources.lock().iter() {
            for (outcome, count) in OUTCOMES.into_iter().zip(&counted.0) {
                lookups.push(&[("source", source), ("outcome", outcome)], count.load(Ordering::Relaxed));
            }
        }
        let mut calls = Family::counter("magpie_terms_bert_calls", "Calls of BERT-RPC, by how they ended");
        for (kind, kind_name) in CALL_KINDS.into_iter().enumerate() {
            for (end, end_name) in CALL_ENDS.into_iter().enumerate() {
                let count = self.sum(CALLS + kind * CALL_ENDS.len() + end);
                calls.push(&[("kind", kind_name), ("outcome", end_name)], count);
            }
        }
        let mut packets = Family::counter("magpie_terms_bert_bad_packets", "Packets of BERT-RPC that are no calls");
        packets.push(&[], self.sum(PACKETS));
        vec![requests, converted, read, written, accepted, open, lookups, calls, packets]
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> String {
        let mut page = String::with_capacity(8 << 10);
        for Family { name, help, is_counter, series } in self.families() {
            let (suffix, kind) = if is_counter { ("_total", "counter") } else { ("", "gauge") };
            // Writing to a text cannot fail.
            let _ = write!(page, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
            for (labels, value) in series {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(page, "{name}{suffix}{labels} {value}");
            }
        }
        page
    }
}

impl Lookups {
    /// A lookup has ended.
    pub(crate) fn ended(&self, outcome: &Result<Option<Found>, SourceError>) {
        let outcome = match outcome {
            Ok(Some(_)) => 0,
            Ok(None) => 1,
            Err(SourceError::Key(_)) => 2,
            Err(SourceError::Damaged(_)) => 3,
            Err(SourceError::Unavailable(_)) => 4,
        };
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Open {
    counters: Arc<Counters>,
    protocol: Protocol,
}

impl Open {
    /// Bytes were read.
    pub(crate) fn received(&self, bytes: usize) {
        self.counters.add(BYTES + 2 * self.protocol as usize, bytes as u64);
    }

    /// Bytes were written.
    pub(crate) fn sent(&self, bytes: usize) {
        self.counters.add(BYTES + 2 * self.protocol as usize + 1, bytes as u64);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.add(CONNECTIONS + 2 * self.protocol as usize + 1, 1);
    }
}

/// Series of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Without the `_total` that counters have behind it.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub is_counter: bool,
    /// Labels with their values, and the number.
    pub series: Vec<(Vec<(&'static str, String)>, u64)>,
}

impl Family {
    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, is_counter: true, series: Vec::new() }
    }

    fn push(&mut self, labels: &[(&'static str, &str)], value: u64) {
        self.series.push((labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(), value));
    }
}

/// A label's value, as the page has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number for each thread, from 0.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_stands_nowhere_twice() {
        let counters = Arc::new(Counters::default());
        counters.request(Route::Function, 599);
        counters.converted(Route::FromText, 7);
        let open = [counters.connection(Protocol::Http), counters.connection(Protocol::Bert)];
        open[1].received(3);
        open[1].sent(5);
        counters.call(false, CallEnd::Reply);
        counters.call(true, CallEnd::Server);
        counters.bad_packet();
        let page = counters.page();
        let counted: Vec<&str> = page.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).collect();
        assert_eq!(
            counted,
            [
                "magpie_terms_requests_total{route=\"function\",status=\"5xx\"} 1",
                "magpie_terms_converted_total{route=\"from-text\"} 7",
                "magpie_terms_received_bytes_total{protocol=\"bert\"} 3",
                "magpie_terms_sent_bytes_total{protocol=\"bert\"} 5",
                "magpie_terms_connections_accepted_total{protocol=\"http\"} 1",
                "magpie_terms_connections_accepted_total{protocol=\"bert\"} 1",
                "magpie_terms_connections{protocol=\"http\"} 1",
                "magpie_terms_connections{protocol=\"bert\"} 1",
                "magpie_terms_bert_calls_total{kind=\"call\",outcome=\"reply\"} 1",
                "magpie_terms_bert_calls_total{kind=\"cast\",outcome=\"server\"} 1",
                "magpie_terms_bert_bad_packets_total 1",
            ]
        );
        drop(open);
        assert!(counters.page().contains("\nmagpie_terms_connections{protocol=\"bert\"} 0\n"));
    }

    #[test]
    fn the_name_of_a_source_cannot_break_the_page() {
        let counters = Counters::default();
        counters.lookups("a\"} 1\nb\\").ended(&Ok(None));
        assert!(counters.page().contains("{source=\"a\\\"} 1\\nb\\\\\",outcome=\"none\"} 1\n"));
    }
}
