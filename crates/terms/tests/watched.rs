//! What the service counts.

#![allow(clippy::unwrap_used)]

mod client;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use client::{Answer, Running, connect, prefixed, start, start_with, term};
use magpie_terms::config::Terms;
use magpie_terms::functions::Functions;
use magpie_terms::sources::{Found, Lookup, Source, SourceError};

/// What the page says now, by series.
fn counted(page: &Answer) -> HashMap<String, u64> {
    assert_eq!((page.status, page.header("content-type").unwrap()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let samples = page.text().lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

/// Waits for what is counted when something has ended that nobody waits for.
fn wait(service: &Running, series: &str, value: u64) {
    let began = std::time::Instant::now();
    loop {
        let there = counted(&service.get("/metrics"))[series];
        if there == value {
            return;
        }
        assert!(began.elapsed().as_secs() < 30, "{series} is {there} and not {value}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[derive(Debug)]
struct Shelf;

impl Source for Shelf {
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        let outcome = match key {
            "there" => Ok(Some(Found { bytes: term("there").into(), version: None })),
            "bad" => Err(SourceError::Key("none".into())),
            "damaged" => Err(SourceError::Damaged("no header".into())),
            "down" => Err(SourceError::Unavailable("refused".into())),
            _ => Ok(None),
        };
        Box::pin(async move { outcome })
    }
}

#[test]
fn requests_terms_lookups_and_calls_are_counted() {
    let sources: Vec<(String, Arc<dyn Source>)> = vec![("shelf".into(), Arc::new(Shelf))];
    let service = start_with(Terms::default(), Functions::default(), sources);
    let stream = prefixed([&term("1")[..], &term("2"), &[131, 200], &term("3")]);
    service.post("/terms/to-json?stream&errors=continue", "", &stream);
    service.post("/terms/to-json", "", &term("{a, 1}"));
    service.post("/terms/to-json", "", &[131, 200]);
    service.post("/terms/from-text", "", b"a. b. c.");
    service.get("/terms/to-text");
    service.get("/esi/echo_server:echo?x");
    service.get("/nowhere");
    for key in ["there", "there", "bad", "damaged", "down", "not"] {
        service.get(&format!("/terms/shelf/{key}"));
    }
    let mut calls = connect(service.bert);
    let packets = [
        "{call, echo_server, echo, [1]}",
        "{call, terms, get, [<<\"shelf/there\">>]}",
        "{call, echo_server, echo, []}",
        "{call, none, f, []}",
        "{cast, echo_server, echo, [1]}",
        "{cast, none, f, []}",
        "none",
    ];
    for packet in packets {
        calls.write_all(&prefixed([&term(packet)[..]])).unwrap();
        let mut length = [0; 4];
        calls.read_exact(&mut length).unwrap();
        calls.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize]).unwrap();
    }
    wait(&service, "magpie_terms_bert_calls_total{kind=\"cast\",outcome=\"reply\"}", 1);
    let counted = counted(&service.get("/metrics"));
    for (series, value) in [
        ("requests_total{route=\"to-json\",status=\"2xx\"}", 2),
        ("requests_total{route=\"to-json\",status=\"4xx\"}", 1),
        ("requests_total{route=\"from-text\",status=\"2xx\"}", 1),
        ("requests_total{route=\"to-text\",status=\"4xx\"}", 1),
        ("requests_total{route=\"function\",status=\"2xx\"}", 1),
        ("requests_total{route=\"function\",status=\"4xx\"}", 1),
        ("requests_total{route=\"term\",status=\"2xx\"}", 2),
        ("requests_total{route=\"term\",status=\"4xx\"}", 2),
        ("requests_total{route=\"term\",status=\"5xx\"}", 2),
        ("converted_total{route=\"to-json\"}", 4),
        ("converted_total{route=\"from-text\"}", 3),
        ("lookups_total{source=\"shelf\",outcome=\"found\"}", 3),
        ("lookups_total{source=\"shelf\",outcome=\"none\"}", 1),
        ("lookups_total{source=\"shelf\",outcome=\"bad-key\"}", 1),
        ("lookups_total{source=\"shelf\",outcome=\"damaged\"}", 1),
        ("lookups_total{source=\"shelf\",outcome=\"unavailable\"}", 1),
        ("bert_calls_total{kind=\"call\",outcome=\"reply\"}", 2),
        ("bert_calls_total{kind=\"call\",outcome=\"user\"}", 1),
        ("bert_calls_total{kind=\"call\",outcome=\"server\"}", 1),
        ("bert_calls_total{kind=\"cast\",outcome=\"server\"}", 1),
        ("bert_bad_packets_total", 1),
        ("connections{protocol=\"bert\"}", 1),
        ("connections_accepted_total{protocol=\"bert\"}", 1),
    ] {
        assert_eq!(counted[&format!("magpie_terms_{series}")], value, "{series}");
    }
    drop(calls);
    wait(&service, "magpie_terms_connections{protocol=\"bert\"}", 0);
}

#[test]
fn bytes_are_counted_as_they_come_and_go() {
    let service = start(Terms::default());
    let mut socket = connect(service.bert);
    let packet = prefixed([&term("{call, echo_server, echo, [1]}")[..]]);
    socket.write_all(&packet).unwrap();
    let mut reply = [0; 4 + 13];
    socket.read_exact(&mut reply).unwrap();
    let counted = counted(&service.get("/metrics"));
    assert_eq!(counted["magpie_terms_received_bytes_total{protocol=\"bert\"}"], packet.len() as u64);
    wait(&service, "magpie_terms_sent_bytes_total{protocol=\"bert\"}", 17);
    let http = counted["magpie_terms_received_bytes_total{protocol=\"http\"}"];
    assert!(http > 0 && http < 1000, "{http}: the request of the page itself");
}

#[test]
fn the_page_needs_a_token_where_all_else_does() {
    let service = start(Terms { tokens: vec!["first".into()], ..Terms::default() });
    assert_eq!(service.get("/metrics").status, 401);
    let page = service.ask("GET", "/metrics", "Authorization: Bearer first\r\n", b"");
    assert_eq!(counted(&page)["magpie_terms_requests_total{route=\"metrics\",status=\"4xx\"}"], 1);
    let posted = service.ask("POST", "/metrics", "Authorization: Bearer first\r\n", b"");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}
