use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::sources::{Limits, Source, postgresql};

use crate::servers::{Certificates, PASSWORD_IN_URL, Postgres};
use crate::written::{JULIET, KEY, ROMEO, term};
use crate::{LIMITS, hostile_keys, look, source};

const QUERY: &str = "SELECT term FROM users WHERE id = $1";
const UUID: &str = "6f1ed002-ab5e-4c2d-9c3b-0123456789ab";

/// One server for the tests that run at the same time.
async fn server() -> Arc<Postgres> {
    static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    static FILLED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _filled = FILLED.lock().await;
    let running = RUNNING.lock().unwrap().upgrade();
    if let Some(server) = running {
        return server;
    }
    let server = Arc::new(Postgres::start(&["ssl=off"]));
    fill(&server).await;
    *RUNNING.lock().unwrap() = Arc::downgrade(&server);
    server
}

async fn fill(server: &Postgres) {
    let client = server.client().await;
    client
        .batch_execute(
            "CREATE TABLE users (id int8 PRIMARY KEY, small int2, name text, uid uuid, sum numeric, token bytea, term bytea);
             CREATE TABLE notes (name varchar(20), note text, age int4);
             INSERT INTO notes VALUES ('romeo', 'no term', 16);
             CREATE FUNCTION forget(int8) RETURNS bytea LANGUAGE sql AS 'DELETE FROM users WHERE id = $1 RETURNING term';
             CREATE ROLE stranger LOGIN PASSWORD 'stranger'",
        )
        .await
        .unwrap();
    let insert = "INSERT INTO users VALUES ($1, $1::int8, $2, $3::text::uuid, $1::int8 / 2.0, $4, $5)";
    let token = term("key");
    let rows =
        [(42i64, "romeo", Some(term("romeo"))), (43, "juliet", Some(term("juliet"))), (44, "long", Some(term("long")))];
    for (id, name, bytes) in rows.into_iter().chain([(45, "nobody", None)]) {
        client.execute(insert, &[&id, &name, &UUID, &token, &bytes]).await.unwrap();
    }
}

fn configured(url: &str, query: &str, key: KeyKind) -> TermSource {
    let mut source = source(SourceKind::Postgresql);
    source.url = url.to_owned();
    source.query = query.to_owned();
    source.key = key;
    source
}

fn open(url: &str, query: &str, key: KeyKind) -> impl Source + use<> {
    postgresql::open(&configured(url, query, key), LIMITS).unwrap()
}

#[tokio::test]
async fn terms_are_found_by_keys_of_every_type() {
    let server = server().await;
    for (query, key, text, expected) in [
        (QUERY, KeyKind::Guess, "42", ROMEO),
        (QUERY, KeyKind::Integer, "43", JULIET),
        (QUERY, KeyKind::Text, "42", ROMEO),
        (QUERY, KeyKind::Guess, "41", "nothing"),
        (QUERY, KeyKind::Guess, "45", "nothing"),
        (QUERY, KeyKind::Guess, "romeo", "key: not a whole number"),
        (QUERY, KeyKind::Integer, "romeo", "key: not a whole number of 64 bits"),
        ("SELECT term FROM users WHERE small = $1", KeyKind::Guess, "42", ROMEO),
        ("SELECT term FROM users WHERE name = $1", KeyKind::Guess, "romeo", ROMEO),
        ("SELECT term FROM users WHERE name = $1;", KeyKind::Atom, "juliet", JULIET),
        ("SELECT term FROM users WHERE id::text = $1 -- text", KeyKind::Guess, "42", ROMEO),
        ("SELECT term FROM users WHERE sum = $1", KeyKind::Guess, "21", ROMEO),
        ("SELECT term FROM users WHERE sum = $1", KeyKind::Text, "21.50", JULIET),
        ("SELECT term FROM users WHERE convert_to(name, 'UTF8') = $1", KeyKind::Binary, "juliet", JULIET),
        ("SELECT term FROM users WHERE convert_to(name, 'UTF8') = $1", KeyKind::Guess, "juliet", JULIET),
        ("SELECT term FROM users WHERE token = $1 AND id < 43", KeyKind::Term, KEY, ROMEO),
        ("SELECT term, name FROM users WHERE uid = $1 ORDER BY id LIMIT 2 OFFSET 1", KeyKind::Guess, UUID, JULIET),
        ("WITH u AS (SELECT * FROM users) SELECT term FROM u WHERE id = $1", KeyKind::Guess, "42", ROMEO),
        ("SELECT note FROM notes WHERE name = $1", KeyKind::Guess, "mercutio", "nothing"),
    ] {
        let got = look(&open(&server.url(), query, key), text).await;
        assert_eq!(got, expected, "{query} {text}");
    }
    assert_eq!(look(&open(&server.socket_url(), QUERY, KeyKind::Guess), "42").await, ROMEO, "over a Unix socket");
    let text = open(&server.url(), "SELECT note FROM notes WHERE name = $1", KeyKind::Guess);
    assert_eq!(&text.get("romeo").await.unwrap().unwrap().bytes[..], b"no term", "the bytes of a text are taken");
    let uuid = look(&open(&server.url(), "SELECT term FROM users WHERE uid = $1", KeyKind::Guess), "romeo").await;
    assert!(uuid.starts_with("key: invalid input syntax for type uuid"), "{uuid}");
    let small = look(&open(&server.url(), "SELECT term FROM users WHERE small = $1", KeyKind::Guess), "70000").await;
    assert!(small.starts_with("key: "), "{small}");
}

#[tokio::test]
async fn hostile_keys_are_not_found_and_change_nothing() {
    let server = server().await;
    for query in [QUERY, "SELECT term FROM users WHERE name = $1", "SELECT term FROM users WHERE token = $1"] {
        let terms = open(&server.url(), query, KeyKind::Guess);
        for key in hostile_keys() {
            let got = look(&terms, &key).await;
            assert!(got == "nothing" || got.starts_with("key: "), "{query} {key:.80?}: {got}");
        }
    }
    assert_eq!(look(&open(&server.url(), QUERY, KeyKind::Guess), "42").await, ROMEO);
}

#[tokio::test]
async fn what_is_wrong_with_the_server_or_the_query_is_said_without_the_password() {
    let server = server().await;
    let (url, port) = (server.url(), server.port());
    let stranger = format!("postgresql://stranger:stranger@localhost:{port}/postgres");
    let wrong = format!("postgresql://postgres:secret@localhost:{port}/postgres");
    let elsewhere = format!("postgresql://postgres:{PASSWORD_IN_URL}@localhost:{port}/elsewhere");
    let nobody = "postgresql://postgres:secret@127.0.0.1:1/postgres".to_owned();
    let tls = format!("{url}?sslmode=require");
    for (url, query, expected) in [
        (&wrong, QUERY, "password authentication failed"),
        (&elsewhere, QUERY, "database \"elsewhere\" does not exist (3D000)"),
        (&stranger, QUERY, "permission denied for table users (42501)"),
        (&nobody, QUERY, "Connection refused"),
        (&tls, QUERY, "server does not support TLS"),
        (&url, "SELECT age FROM notes WHERE age = $1", "first column is of the type int4, and must be bytea"),
        (&url, "SELECT term FROM people WHERE id = $1", "relation \"people\" does not exist (42P01)"),
        (&url, "SELECT term FORM users WHERE id = $1", "syntax error"),
        (&url, "SELECT term FROM users WHERE id = $1 OR id = $2", "2 parameters"),
        (&url, "SELECT FROM users WHERE id = $1", "no column"),
        (&url, "SELECT forget($1)", "cannot execute DELETE in a read-only transaction"),
        (&url, "DELETE FROM users WHERE id = $1 RETURNING term", "syntax error"),
        (&url, "SELECT term FROM users WHERE id = 42 / ($1 - 42)", "division by zero"),
    ] {
        let got = look(&open(url, query, KeyKind::Guess), "42").await;
        assert!(got.starts_with("unavailable: ") && got.contains(expected), "{query}: {got}");
        assert!(!got.contains("secret") && !got.contains(PASSWORD_IN_URL) && !got.contains("p@ss"), "{got}");
    }
    let got = look(&open(&url, "SELECT term FROM users WHERE name = $1", KeyKind::Term), "42").await;
    assert!(got.contains("$1 is of the type text"), "{got}");
    let terms = open(&url, QUERY, KeyKind::Guess);
    assert!(!format!("{terms:?}").contains("p@ss"));
    assert_eq!(look(&terms, "42").await, ROMEO);
}

#[test]
fn a_wrong_address_is_refused_at_once() {
    for (url, query, expected) in [
        ("", QUERY, "`url`"),
        ("host=localhost", QUERY, "`url`"),
        ("postgresql://", QUERY, "names no host"),
        ("postgresql://host/db?sslmode=maybe", QUERY, "none of disable, prefer"),
        ("postgresql://host/db?sslmode=verify-ca", QUERY, "`sslrootcert`"),
        ("postgresql://host/db?sslmode=verify-full&sslrootcert=%2Fnowhere.pem", QUERY, "/nowhere.pem: "),
        ("postgresql://host:port/db", QUERY, "port"),
        ("postgresql://host/db?colour=red", QUERY, "colour"),
        ("postgresql://host/db", "SELECT term FROM users", "`$1`"),
    ] {
        let why = postgresql::open(&configured(url, query, KeyKind::Guess), LIMITS).map(|_| ()).unwrap_err();
        assert!(why.contains(expected), "{url} {query}: {why}");
    }
}

#[tokio::test]
async fn a_value_that_is_too_long_is_not_read() {
    let server = server().await;
    let long = term("long").len();
    let with = |bytes_max| {
        postgresql::open(&configured(&server.url(), QUERY, KeyKind::Guess), Limits { bytes_max, ..LIMITS }).unwrap()
    };
    assert_eq!(with(long).get("44").await.unwrap().unwrap().bytes, term("long"));
    let less = with(long - 1);
    assert_eq!(look(&less, "44").await, format!("damaged: {long} bytes, and at most {} are read", long - 1));
    assert_eq!(look(&less, "42").await, ROMEO);
}

#[tokio::test]
async fn a_slow_query_is_given_up_by_the_server_and_its_connection_stays() {
    let server = server().await;
    let limits = Limits { seconds_max: 2, ..LIMITS };
    let slow = "SELECT term FROM users, pg_sleep(CASE WHEN $1 = 43 THEN 30 ELSE 0 END) WHERE id = $1";
    let url = format!("{}?application_name=slow", server.url());
    let terms = postgresql::open(&configured(&url, slow, KeyKind::Guess), limits).unwrap();
    assert_eq!(look(&terms, "42").await, ROMEO);
    let connections = async || {
        let client = server.client().await;
        let query = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(CASE%' AND pid <> pg_backend_pid()";
        let rows = client.query(query, &[]).await.unwrap();
        rows.into_iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
    };
    let before = connections().await;
    assert_eq!(before.len(), 1);
    let began = Instant::now();
    let got = look(&terms, "43").await;
    assert!(got.contains("statement timeout (57014)"), "{got}");
    assert!(began.elapsed() < Duration::from_secs(20), "the query had thirty");
    assert_eq!(look(&terms, "42").await, ROMEO);
    assert_eq!(connections().await, before);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://postgres:secret@{}/postgres", listener.local_addr().unwrap());
    let limits = Limits { seconds_max: 1, ..LIMITS };
    let terms = postgresql::open(&configured(&url, QUERY, KeyKind::Guess), limits).unwrap();
    let began = Instant::now();
    let (first, second) = tokio::join!(look(&terms, "42"), look(&terms, "43"));
    assert!(first.ends_with("no answer in 1 s") && second.ends_with("no answer in 1 s"), "{first} {second}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_share_a_connection_and_do_not_wait_for_one_another() {
    let server = server().await;
    let terms: Arc<dyn Source> =
        Arc::new(open(&server.url(), "SELECT term FROM users WHERE id = $1 + 0", KeyKind::Guess));
    let lookups: Vec<_> = (0..500)
        .map(|number| {
            let (terms, key) = (Arc::clone(&terms), if number % 2 == 0 { "42" } else { "43" });
            tokio::spawn(async move { (key, look(&*terms, key).await) })
        })
        .collect();
    for lookup in lookups {
        let (key, got) = lookup.await.unwrap();
        assert_eq!(got, if key == "42" { ROMEO } else { JULIET });
    }
    let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%$1 + 0%' AND pid <> pg_backend_pid()";
    assert_eq!(server.client().await.query_one(query, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_found_again() {
    let mut server = Postgres::start(&[]);
    fill(&server).await;
    let terms = open(&server.url(), QUERY, KeyKind::Guess);
    assert_eq!(look(&terms, "42").await, ROMEO);
    server.kill();
    server.start_again(&[]);
    assert_eq!(look(&terms, "42").await, ROMEO, "the lost connection is not the consumer's trouble");

    server.kill();
    let began = Instant::now();
    for _ in 0..20 {
        let got = look(&terms, "42").await;
        assert!(got.starts_with("unavailable: ") && got.contains("Connection refused"), "{got}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "who asks is told at once");
    server.start_again(&[]);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(look(&terms, "42").await, ROMEO);

    // A statement that is no more what it was is prepared anew.
    server.client().await.batch_execute("ALTER TABLE users ADD COLUMN age int4; DROP TABLE notes").await.unwrap();
    server.client().await.batch_execute("ALTER TABLE users ALTER COLUMN term TYPE text USING 'text'").await.unwrap();
    assert!(look(&terms, "42").await.starts_with("no term: "));
}

#[tokio::test]
async fn tls_is_used_as_the_url_says() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let mut server = Postgres::start(&[]);
    fill(&server).await;
    server.kill();
    server.start_with_tls(&certificates);
    let client = server.client().await;
    client.batch_execute("ALTER SYSTEM SET log_connections = on").await.unwrap();
    let is_encrypted =
        "SELECT term FROM users WHERE id = $1 AND (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    let file = |certificates: &Certificates| certificates.path("ca.pem").replace('/', "%2F");
    let (right, wrong) = (file(&certificates), file(&others));
    let localhost = server.url();
    let address = localhost.replace("localhost", "127.0.0.1");
    for (url, options, expected) in [
        (&localhost, "", ROMEO),
        (&localhost, "?sslmode=prefer", ROMEO),
        (&localhost, "?sslmode=require", ROMEO),
        (&localhost, "?channel_binding=require&sslmode=require", ROMEO),
        (&localhost, "?sslmode=disable", "nothing"),
        (&localhost, &format!("?sslmode=require&sslrootcert={right}"), ROMEO),
        (&localhost, &format!("?sslmode=require&sslrootcert={wrong}"), "unavailable: "),
        (&address, &format!("?sslmode=verify-ca&sslrootcert={right}"), ROMEO),
        (&address, &format!("?sslmode=verify-ca&sslrootcert={wrong}"), "unavailable: "),
        (&localhost, &format!("?sslmode=verify-full&sslrootcert={right}"), ROMEO),
        (&localhost, &format!("?sslmode=verify-full&sslrootcert={wrong}"), "unavailable: "),
        (&address, &format!("?sslmode=verify-full&sslrootcert={right}"), "unavailable: "),
        (&localhost, "?sslmode=verify-full", "unavailable: "),
    ] {
        let got = look(&open(&format!("{url}{options}"), is_encrypted, KeyKind::Guess), "42").await;
        assert!(got == expected || expected.ends_with(' ') && got.starts_with(expected), "{options}: {got}");
        if expected.ends_with(' ') {
            assert!(got.contains("certificate"), "{options}: {got}");
        }
    }
}
