//! OpenMetrics 1.0: the counters as text.

use std::fmt::Error;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{CONDITIONS, Hot, MECHANISMS, Metrics};

/// One label and its value; several of them name a series.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("magpie_build_info", "The version that runs", [(&version[..], 1)])?;
        self.sessions(&mut page)?;
        self.stanzas(&mut page)?;
        self.refusals(&mut page)?;
        let sources = self.sources.lock().clone();
        if let Some(read) = sources.store {
            store(&mut page, &read())?;
        }
        if let Some(certificates) = sources.certificates {
            let expiries = certificates.expiries();
            let expiries: Vec<_> = expiries
                .iter()
                .map(|(domain, end)| (domain, end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()))
                .collect();
            let series: Vec<_> = expiries.iter().map(|(domain, end)| ([("domain", domain.as_str())], *end)).collect();
            let series = series.iter().map(|(labels, end)| (&labels[..], *end));
            page.gauges("magpie_certificate_expiry_seconds", "When the certificate ends, in Unix time", series)?;
        }
        if let Some(buffers) = sources.buffers {
            page.counter("magpie_received_bytes", "Bytes read from clients, as on the wire", buffers.received_bytes())?;
            page.counter("magpie_sent_bytes", "Bytes written to clients, as on the wire", buffers.sent_bytes())?;
            page.gauge("magpie_buffers_in_use", "Buffers that hold bytes on their way", buffers.in_use() as u64)?;
        }
        if let Some(read) = sources.terms {
            read().iter().try_for_each(|family| terms(&mut page, family))?;
        }
        for gauge in sources.gauges {
            page.gauge(gauge.name, gauge.help, (gauge.read)())?;
        }
        page.gauge("process_start_time_seconds", "When the process began, in Unix time", self.started_unix())?;
        process(&mut page)
    }
}

impl Metrics {
    fn sessions(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let negotiating = self.now(Hot::NegotiationsBegan, Hot::NegotiationsEnded);
        let waiting = self.now(Hot::WaitsBegan, Hot::WaitsEnded);
        let connected = self.now(Hot::SessionsBegan, Hot::SessionsEnded).saturating_sub(waiting);
        page.gauges(
            "magpie_sessions",
            "Sessions by state: negotiating, connected, waiting to be resumed",
            [
                (&[("state", "negotiating")][..], negotiating),
                (&[("state", "connected")][..], connected),
                (&[("state", "waiting")][..], waiting),
            ],
        )?;
        page.counter("magpie_sessions_bound", "Sessions that were bound", self.sum(Hot::SessionsBegan))?;
        let open = self.now(Hot::ConnectionsBegan, Hot::ConnectionsEnded);
        page.gauge("magpie_connections", "Open connections", open)?;
        page.counter("magpie_connections_accepted", "Accepted connections", self.sum(Hot::ConnectionsBegan))?;
        let refused = self.sum(Hot::ConnectionsRefused);
        page.counter("magpie_connections_refused", "Connections closed at once because of a limit", refused)
    }

    fn stanzas(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let by_kind = |hot: [Hot; 4]| {
            let kinds: [Labels<'_>; 4] =
                [&[("kind", "message")], &[("kind", "presence")], &[("kind", "iq")], &[("kind", "other")]];
            kinds.into_iter().zip(hot.map(|hot| self.sum(hot)))
        };
        page.counters(
            "magpie_stanzas_received",
            "Stanzas from clients",
            by_kind([Hot::MessagesIn, Hot::PresencesIn, Hot::IqsIn, Hot::OthersIn]),
        )?;
        page.counters(
            "magpie_stanzas_sent",
            "Stanzas to clients",
            by_kind([Hot::MessagesOut, Hot::PresencesOut, Hot::IqsOut, Hot::OthersOut]),
        )?;
        page.counters(
            "magpie_stanzas_routed",
            "What the router decided",
            [
                (&[("outcome", "delivered")][..], self.sum(Hot::Delivered)),
                (&[("outcome", "offline")][..], self.sum(Hot::Offline)),
                (&[("outcome", "refused")][..], self.sum(Hot::Refused)),
            ],
        )
    }

    fn refusals(&self, page: &mut Page<'_>) -> Result<(), Error> {
        use std::sync::atomic::Ordering::Relaxed;
        let names = MECHANISMS.into_iter().chain(["other"]);
        let counted = names.zip(&self.authentications).flat_map(|(mechanism, [failure, success])| {
            [("success", success), ("failure", failure)]
                .map(|(result, count)| ([("mechanism", mechanism), ("result", result)], count.load(Relaxed)))
        });
        let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
        let series = counted.iter().map(|(labels, count)| (&labels[..], *count));
        page.counters("magpie_authentications", "Authentications by mechanism and result", series)?;

        let names = CONDITIONS.into_iter().chain(["other"]);
        let counted = names.zip(&self.stream_errors).map(|(name, count)| ([("condition", name)], count.load(Relaxed)));
        let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
        let series = counted.iter().map(|(labels, count)| (&labels[..], *count));
        page.counters("magpie_stream_errors", "Streams that the server ended with an error", series)
    }
}

fn store(page: &mut Page<'_>, store: &magpie_store::Statistics) -> Result<(), Error> {
    page.gauge("magpie_store_queue_batches", "Batches that wait for the writer", store.queued_batches)?;
    page.gauge("magpie_store_queue_bytes", "Memory of the batches that wait for the writer", store.queued_bytes)?;
    page.counters(
        "magpie_store_batches",
        "Batches by outcome",
        [
            (&[("outcome", "durable")][..], store.batches),
            (&[("outcome", "conflict")][..], store.conflicts),
            (&[("outcome", "error")][..], store.errors),
            (&[("outcome", "withdrawn")][..], store.withdrawn),
        ],
    )?;
    page.counter("magpie_store_rows", "Writes in durable batches", store.rows)?;
    page.counter("magpie_store_reads", "Reads", store.reads)?;
    page.gauge(
        "magpie_search_behind",
        "Entries of the archive that its search index has not got yet",
        store.search_behind,
    )?;
    page.counter("magpie_search_indexed", "Entries looked at for the search index", store.search_indexed)?;
    let micros = |micros: u64| micros as f64 / 1_000_000.0;
    let buckets: Vec<_> =
        store.commits.buckets.iter().map(|(bound, count)| (bound.map_or(f64::INFINITY, micros), *count)).collect();
    let help = "From the first batch of a group until all are durable";
    let mut metric = page.0.encode_descriptor("magpie_store_commit_seconds", help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(micros(store.commits.sum_micros), store.commits.count(), &buckets, None)
}

/// What the term service counts.
fn terms(page: &mut Page<'_>, family: &magpie_terms::Family) -> Result<(), Error> {
    let kind = if family.is_counter { MetricType::Counter } else { MetricType::Gauge };
    let mut metric = page.0.encode_descriptor(family.name, family.help, None, kind)?;
    for (labels, value) in &family.series {
        match (family.is_counter, labels.is_empty()) {
            (true, true) => metric.encode_counter::<NoLabelSet, _, u64>(value, None)?,
            (true, false) => metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?,
            (false, true) => metric.encode_gauge(value)?,
            (false, false) => metric.encode_family(labels)?.encode_gauge(value)?,
        }
    }
    Ok(())
}

/// What the system knows of this process, where it says so in `/proc`.
fn process(page: &mut Page<'_>) -> Result<(), Error> {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        if let Some(kibibytes) = kibibytes {
            page.gauge("process_resident_memory_bytes", "Resident memory", kibibytes * 1024)?;
        }
    }
    if let Some(seconds) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
        let mut metric =
            page.0.encode_descriptor("process_cpu_seconds", "Processor time used", None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the folder itself.
        let open = open.count().saturating_sub(1) as u64;
        page.gauge("process_open_fds", "Open file descriptors", open)?;
    }
    #[cfg(unix)]
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.gauge("process_max_fds", "File descriptors that may be open", limit)?;
    }
    Ok(())
}

/// The time in user and system mode in `/proc/self/stat` (proc(5)), which counts in hundredths of a second.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<u64>() as f64 / 100.0)
}

/// Writes metrics one after another.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> Result<(), Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system_mode() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1203 0 0 0 250 31 9 9 20 0 5 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.81));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }
}
