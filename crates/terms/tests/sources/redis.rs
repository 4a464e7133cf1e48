use std::time::{Duration, Instant};

use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::sources::{Limits, Source, redis};

use crate::servers::{Certificates, PASSWORD, PASSWORD_IN_URL, Redis};
use crate::written::{JULIET, KEY, ROMEO, term};
use crate::{LIMITS, hostile_keys, look, source};

pub(crate) fn configured(url: &str, query: &str, key: KeyKind) -> TermSource {
    let mut source = source(SourceKind::Redis);
    source.url = url.to_owned();
    source.query = query.to_owned();
    source.key = key;
    source
}

fn open(url: &str, query: &str, key: KeyKind) -> impl Source + use<> {
    redis::open(&configured(url, query, key), LIMITS).unwrap()
}

fn fill(server: &Redis) {
    let padded = [b"0123456789abcdef", term("romeo")].concat();
    server.say(&[
        &[b"SET", b"user:42", term("romeo")],
        &[b"SET", b"user:a b\r\n\"c\"", term("romeo")],
        &[b"SET", b"user:long", term("long")],
        &[b"SET", b"user:empty", b""],
        &[b"HSET", b"users", b"juliet", term("juliet"), term("key"), term("romeo")],
        &[b"RPUSH", b"people", term("romeo"), term("juliet")],
        &[b"SET", b"padded", &padded],
    ]);
}

#[tokio::test]
async fn terms_are_found_by_each_command_that_reads_one_string() {
    let server = Redis::start(&[]);
    fill(&server);
    for (query, key, text, expected) in [
        ("GET user:$1", KeyKind::Guess, "42", ROMEO),
        ("get user:$1", KeyKind::Integer, "42", ROMEO),
        ("GET user:$1", KeyKind::Guess, "a b\r\n\"c\"", ROMEO),
        ("GET user:$1", KeyKind::Guess, "43", "nothing"),
        ("GET user:$1", KeyKind::Integer, "romeo", "key: not a whole number of 64 bits"),
        ("HGET users $1", KeyKind::Text, "juliet", JULIET),
        ("HGET users $1", KeyKind::Term, KEY, ROMEO),
        ("HGET users $1", KeyKind::Guess, "romeo", "nothing"),
        ("HGET $1 juliet", KeyKind::Guess, "users", JULIET),
        ("LINDEX people $1", KeyKind::Guess, "-1", JULIET),
        ("LINDEX people $1", KeyKind::Guess, "2", "nothing"),
        ("GETRANGE $1 16 -1", KeyKind::Guess, "padded", ROMEO),
        ("getrange $1 16 -1", KeyKind::Guess, "unknown", "nothing"),
    ] {
        assert_eq!(look(&open(&server.url(), query, key), text).await, expected, "{query} {text}");
    }
    let socket = format!("unix://{}", server.socket().display());
    assert_eq!(look(&open(&socket, "GET user:$1", KeyKind::Guess), "42").await, ROMEO, "over a Unix socket");
    let empty = open(&server.url(), "GET user:$1", KeyKind::Guess);
    assert_eq!(empty.get("empty").await.unwrap().unwrap().bytes.len(), 0);
}

#[tokio::test]
async fn hostile_keys_are_one_word_and_change_nothing() {
    let server = Redis::start(&[]);
    fill(&server);
    let before = server.say(&[&[b"DBSIZE"]]);
    for query in ["GET user:$1", "HGET users $1", "GET $1:$1"] {
        let terms = open(&server.url(), query, KeyKind::Guess);
        for key in hostile_keys() {
            assert_eq!(look(&terms, &key).await, "nothing", "{query} {key:.80?}");
        }
    }
    assert_eq!(server.say(&[&[b"DBSIZE"]]), before);
    assert_eq!(look(&open(&server.url(), "GET user:$1", KeyKind::Guess), "42").await, ROMEO);
}

#[tokio::test]
async fn who_has_a_password_gets_in_to_the_database_of_the_url() {
    let reader = ["--user", "reader", "on", ">reader", "~user:*", "+get", "+select"];
    let server = Redis::start(&[&["--requirepass", PASSWORD][..], &reader].concat());
    let auth: &[&[u8]] = &[b"AUTH", PASSWORD.as_bytes()];
    server.say(&[
        auth,
        &[b"SELECT", b"3"],
        &[b"SET", b"user:42", term("romeo")],
        &[b"SET", b"other:42", term("romeo")],
    ]);
    let port = server.port();
    for (url, query, expected) in [
        (format!("redis://:{PASSWORD_IN_URL}@localhost:{port}/3"), "GET user:$1", ROMEO),
        (format!("redis://default:{PASSWORD_IN_URL}@127.0.0.1:{port}/3"), "GET user:$1", ROMEO),
        (format!("unix://:{PASSWORD_IN_URL}@{}?db=3", server.socket().display()), "GET user:$1", ROMEO),
        (format!("redis://reader:reader@localhost:{port}/3"), "GET user:$1", ROMEO),
        (format!("redis://reader:reader@localhost:{port}/3"), "GET other:$1", "NOPERM"),
        (format!("redis://:{PASSWORD_IN_URL}@localhost:{port}"), "GET user:$1", "nothing"),
        (format!("redis://:{PASSWORD_IN_URL}@localhost:{port}/99"), "GET user:$1", "DB index is out of range"),
        (format!("redis://:secret@localhost:{port}/3"), "GET user:$1", "WRONGPASS"),
        (format!("redis://localhost:{port}/3"), "GET user:$1", "NOAUTH"),
        (format!("redis://localhost:{port}"), "GET user:$1", "NOAUTH"),
        ("redis://:secret@127.0.0.1:1".to_owned(), "GET user:$1", "Connection refused"),
        ("unix:///nowhere/redis".to_owned(), "GET user:$1", "No such file"),
    ] {
        let terms = open(&url, query, KeyKind::Guess);
        let got = look(&terms, "42").await;
        assert!(got == expected || got.starts_with("unavailable: ") && got.contains(expected), "{url}: {got}");
        let debug = format!("{terms:?}");
        assert!(!got.contains("secret") && !debug.contains("secret") && !debug.contains(PASSWORD), "{got} {debug}");
    }
}

#[tokio::test]
async fn a_value_of_the_wrong_kind_or_length_is_damaged_and_the_connection_stays() {
    let server = Redis::start(&[]);
    fill(&server);
    let long = term("long").len();
    let with = |query, bytes_max| {
        redis::open(&configured(&server.url(), query, KeyKind::Guess), Limits { bytes_max, ..LIMITS }).unwrap()
    };
    assert!(look(&with("GET $1", 1000), "people").await.starts_with("damaged: WRONGTYPE "));
    assert_eq!(with("GET user:$1", long).get("long").await.unwrap().unwrap().bytes, term("long"));
    let less = with("GET user:$1", long - 1);
    assert_eq!(look(&less, "42").await, ROMEO);
    let before = server.say(&[&[b"INFO", b"stats"]]);
    for _ in 0..3 {
        assert_eq!(look(&less, "long").await, format!("damaged: {long} bytes, and at most {} are read", long - 1));
        assert_eq!(look(&less, "42").await, ROMEO);
    }
    let connections = |info: &str| -> u32 {
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
        line.parse().unwrap()
    };
    let after = server.say(&[&[b"INFO", b"stats"]]);
    assert_eq!(connections(&after), connections(&before) + 1, "that of the test itself");
}

#[test]
fn what_is_no_query_or_no_address_is_refused_at_once() {
    let refused =
        |url: &str, query: &str| redis::open(&configured(url, query, KeyKind::Guess), LIMITS).map(|_| ()).unwrap_err();
    for query in ["SET user:$1 1", "DEL $1", "SUBSCRIBE $1", "BLPOP $1 0", "EVAL $1 0", "HGETALL $1", "$1"] {
        assert!(refused("redis://localhost", query).contains("one of GET, HGET"), "{query}");
    }
    assert!(refused("redis://localhost", "GET user").contains("`$1`"));
    assert!(refused("redis://localhost", " ").contains("`query`"));
    assert!(refused("localhost:6379", "GET $1").contains("`url`"));
    assert!(refused("rediss://localhost?sslrootcert=/nowhere.pem", "GET $1").contains("/nowhere.pem: "));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time_and_then_there_again() {
    let server = Redis::start(&[]);
    fill(&server);
    let limits = Limits { seconds_max: 1, ..LIMITS };
    let terms = redis::open(&configured(&server.url(), "GET user:$1", KeyKind::Guess), limits).unwrap();
    assert_eq!(look(&terms, "42").await, ROMEO);
    server.pause();
    let began = Instant::now();
    let (first, second) = tokio::join!(look(&terms, "42"), look(&terms, "43"));
    assert!(first.ends_with("no answer in 1 s") && second.ends_with("no answer in 1 s"), "{first} {second}");
    assert!(began.elapsed() < Duration::from_secs(10));
    server.go_on();
    assert_eq!(look(&terms, "42").await, ROMEO);
    assert_eq!(look(&terms, "43").await, "nothing", "answers that came too late are nobody else's");
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_found_again() {
    let mut server = Redis::start(&[]);
    fill(&server);
    let terms = open(&server.url(), "GET user:$1", KeyKind::Guess);
    assert_eq!(look(&terms, "42").await, ROMEO);
    server.kill();
    server.start_again();
    fill(&server);
    assert_eq!(look(&terms, "42").await, ROMEO, "the lost connection is not the consumer's trouble");
    server.kill();
    for _ in 0..20 {
        let got = look(&terms, "42").await;
        assert!(got.starts_with("unavailable: "), "{got}");
    }
    server.start_again();
    fill(&server);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(look(&terms, "42").await, ROMEO);
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_share_a_connection_and_each_gets_its_own_answer() {
    let server = Redis::start(&[]);
    let keys: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    for key in &keys {
        server.say(&[&[b"SET", format!("user:{key}").as_bytes(), format!("\x6b{key}").as_bytes()]]);
    }
    let terms: std::sync::Arc<dyn Source> = std::sync::Arc::new(open(&server.url(), "GET user:$1", KeyKind::Guess));
    let lookups: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let terms = std::sync::Arc::clone(&terms);
            tokio::spawn(async move { (terms.get(&key).await.unwrap().unwrap().bytes, key) })
        })
        .collect();
    for lookup in lookups {
        let (bytes, key) = lookup.await.unwrap();
        assert_eq!(bytes, format!("\x6b{key}"));
    }
    let clients = server.say(&[&[b"CLIENT", b"LIST"]]);
    assert_eq!(clients.matches("cmd=get").count(), 1, "{clients}");
}

#[tokio::test]
async fn rediss_is_tls_with_a_verified_name() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Redis::start_with_tls(&certificates, port);
    fill(&server);
    for (host, options, expected) in [
        ("localhost", format!("?sslrootcert={}", certificates.path("ca.pem")), ROMEO),
        ("127.0.0.1", format!("?sslrootcert={}", certificates.path("ca.pem")), "certificate"),
        ("localhost", format!("?sslrootcert={}", others.path("ca.pem")), "certificate"),
        ("localhost", String::new(), "certificate"),
    ] {
        let url = format!("rediss://{host}:{port}/{options}");
        let got = look(&open(&url, "GET user:$1", KeyKind::Guess), "42").await;
        assert!(got == expected || got.starts_with("unavailable: ") && got.contains(expected), "{url}: {got}");
    }
    let plain = format!("rediss://localhost:{}/?sslrootcert={}", server.port(), certificates.path("ca.pem"));
    assert!(look(&open(&plain, "GET user:$1", KeyKind::Guess), "42").await.starts_with("unavailable: "));
}
