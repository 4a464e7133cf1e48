#![allow(clippy::unwrap_used)]

use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn page(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(metrics)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = Metrics::new();
    metrics.stanza_in(Kind::Message);
    metrics.stanza_in(Kind::Message);
    metrics.stanza_in(Kind::Iq);
    metrics.stanza_out(Kind::Presence);
    metrics.routed_delivered();
    metrics.routed_offline();
    metrics.routed_refused();
    metrics.authentication("SCRAM-SHA-256", true);
    metrics.authentication("PLAIN", false);
    metrics.stream_error("policy-violation");
    metrics.connection_refused();
    let page = page(&metrics);
    for (series, expected) in [
        ("magpie_stanzas_received_total{kind=\"message\"}", 2.0),
        ("magpie_stanzas_received_total{kind=\"iq\"}", 1.0),
        ("magpie_stanzas_received_total{kind=\"presence\"}", 0.0),
        ("magpie_stanzas_sent_total{kind=\"presence\"}", 1.0),
        ("magpie_stanzas_routed_total{outcome=\"delivered\"}", 1.0),
        ("magpie_stanzas_routed_total{outcome=\"offline\"}", 1.0),
        ("magpie_stanzas_routed_total{outcome=\"refused\"}", 1.0),
        ("magpie_authentications_total{mechanism=\"SCRAM-SHA-256\",result=\"success\"}", 1.0),
        ("magpie_authentications_total{mechanism=\"PLAIN\",result=\"failure\"}", 1.0),
        ("magpie_stream_errors_total{condition=\"policy-violation\"}", 1.0),
        ("magpie_connections_refused_total", 1.0),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series} in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn sessions_are_in_one_state_each() {
    let metrics = Metrics::new();
    let states = |metrics: &Arc<Metrics>| {
        let page = page(metrics);
        ["negotiating", "connected", "waiting"]
            .map(|state| value(&page, &format!("magpie_sessions{{state=\"{state}\"}}")).unwrap())
    };
    let connection = metrics.connection();
    let negotiating = metrics.negotiating();
    assert_eq!((states(&metrics), metrics.negotiating_now()), ([1.0, 0.0, 0.0], 1));
    drop(negotiating);
    metrics.session_began();
    metrics.session_began();
    assert_eq!((states(&metrics), metrics.negotiating_now()), ([0.0, 2.0, 0.0], 0));
    let waiting = metrics.waiting();
    assert_eq!(states(&metrics), [0.0, 1.0, 1.0]);
    drop(waiting);
    metrics.session_ended();
    assert_eq!(states(&metrics), [0.0, 1.0, 0.0]);
    assert_eq!(value(&page(&metrics), "magpie_connections"), Some(1.0));
    drop(connection);
    assert_eq!(value(&page(&metrics), "magpie_connections"), Some(0.0));
    assert_eq!(value(&page(&metrics), "magpie_connections_accepted_total"), Some(1.0));
}

#[test]
fn a_peer_cannot_make_series() {
    let metrics = Metrics::new();
    for attempt in 0..1000 {
        metrics.authentication(&format!("X-{attempt}"), false);
        metrics.stream_error(&format!("x-{attempt}"));
    }
    let page = page(&metrics);
    assert_eq!(value(&page, "magpie_authentications_total{mechanism=\"other\",result=\"failure\"}"), Some(1000.0));
    assert_eq!(value(&page, "magpie_stream_errors_total{condition=\"other\"}"), Some(1000.0));
    assert!(!page.contains("X-7") && !page.contains("x-7"));
}

#[test]
fn every_condition_of_the_protocol_has_its_series() {
    for condition in [
        magpie_proto::StreamCondition::BadFormat,
        magpie_proto::StreamCondition::NotWellFormed,
        magpie_proto::StreamCondition::PolicyViolation,
        magpie_proto::StreamCondition::SystemShutdown,
        magpie_proto::StreamCondition::UnsupportedVersion,
    ] {
        assert!(CONDITIONS.contains(&condition.name()), "{}", condition.name());
    }
    assert!(CONDITIONS.is_sorted() && MECHANISMS.is_sorted());
}

#[test]
fn nothing_is_lost_between_threads() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10_000).for_each(|_| metrics.stanza_in(Kind::Presence)));
        }
    });
    assert_eq!(value(&page(&metrics), "magpie_stanzas_received_total{kind=\"presence\"}"), Some(80_000.0));
}

#[test]
fn shards_share_no_cache_line() {
    assert_eq!(size_of::<Shard>() % 128, 0);
    assert_eq!(align_of::<Shard>(), 128);
}

#[test]
fn what_others_know_is_asked_for_when_somebody_looks() {
    let metrics = Metrics::new();
    metrics.watch_store(|| Statistics {
        queued_batches: 7,
        batches: 5,
        conflicts: 1,
        withdrawn: 9,
        commits: magpie_store::Histogram {
            buckets: vec![(Some(500), 3), (Some(1000), 1), (None, 1)],
            sum_micros: 2_500_000,
        },
        ..Statistics::default()
    });
    let folder = tempfile::TempDir::new().unwrap();
    let certificates = Certificates::load(folder.path(), &["a.example".into()], &[]).unwrap();
    let expires = certificates.expires("a.example").unwrap().duration_since(UNIX_EPOCH).unwrap();
    metrics.watch_certificates(certificates);
    let buffers = Buffers::default();
    metrics.watch_buffers(buffers.clone());
    let _used = buffers.take();
    metrics.watch("magpie_mail_waiting", "Mail that waits", || 1.0);
    metrics.watch("magpie_mail_waiting", "Mail that waits", || 2.5);
    let page = page(&metrics);
    for (series, expected) in [
        ("magpie_store_queue_batches", 7.0),
        ("magpie_store_batches_total{outcome=\"durable\"}", 5.0),
        ("magpie_store_batches_total{outcome=\"conflict\"}", 1.0),
        ("magpie_store_batches_total{outcome=\"withdrawn\"}", 9.0),
        ("magpie_store_commit_seconds_bucket{le=\"0.0005\"}", 3.0),
        ("magpie_store_commit_seconds_bucket{le=\"0.001\"}", 4.0),
        ("magpie_store_commit_seconds_bucket{le=\"+Inf\"}", 5.0),
        ("magpie_store_commit_seconds_count", 5.0),
        ("magpie_store_commit_seconds_sum", 2.5),
        ("magpie_certificate_expiry_seconds{domain=\"a.example\"}", expires.as_secs_f64().floor()),
        ("magpie_buffers_in_use", 1.0),
        ("magpie_received_bytes_total", 0.0),
        ("magpie_mail_waiting", 2.5),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series} in\n{page}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_described() {
    let page = page(&Metrics::new());
    assert!(value(&page, "process_resident_memory_bytes").unwrap() > 100_000.0);
    assert!(value(&page, "process_open_fds").unwrap() >= 3.0);
    assert!(value(&page, "process_max_fds").unwrap() >= 3.0);
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
        - value(&page, "process_start_time_seconds").unwrap();
    assert!((0.0..60.0).contains(&age));
}

async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_page_is_served_with_health_and_readiness() {
    let metrics = Metrics::new();
    metrics.session_began();
    let ready = Arc::new(Mutex::new(Err("the store fails".to_owned())));
    let asked = Arc::clone(&ready);
    let address = ([127, 0, 0, 1], 0).into();
    let server = serve_metrics(address, Arc::clone(&metrics), move || asked.lock().clone()).await.unwrap();

    let (head, body) = get(server.address(), "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    assert!(body.contains("magpie_sessions{state=\"connected\"} 1"), "{body}");
    assert!(get(server.address(), "/healthz").await.0.starts_with("HTTP/1.1 200"));
    let (head, body) = get(server.address(), "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("the store fails"), "{head}{body}");
    *ready.lock() = Ok(());
    assert!(get(server.address(), "/readyz").await.0.starts_with("HTTP/1.1 200"));
    assert!(get(server.address(), "/").await.0.starts_with("HTTP/1.1 404"));

    let address = server.address();
    assert!(serve_metrics(address, metrics, || Ok(())).await.is_err(), "the address is taken");
    drop(server);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(address).await.is_err());
}
