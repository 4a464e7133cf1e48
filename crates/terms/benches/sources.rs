//! What a lookup of a record costs in each source: one after another, and 64 at a time.

#![allow(clippy::unwrap_used)]

#[path = "../tests/sources/servers.rs"]
mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::sources::{Limits, Source, directory, postgresql, redis, sqlite};
use servers::{Postgres, Redis};

const LIMITS: Limits = Limits { bytes_max: 1 << 20, seconds_max: 5 };
const RECORD_BYTES: usize = 320;
const TOGETHER: usize = 64;
const ROUNDS: usize = 5;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let term = [vec![131, b'm', 0, 0, 1, 59], vec![b'x'; RECORD_BYTES - 6]].concat();
    let folder = tempfile::tempdir().unwrap();
    println!("{:<40} {:>10} {:>12}", "a record of 320 bytes", "µs", "at 64 µs");

    std::fs::write(folder.path().join("42"), &term).unwrap();
    let path = folder.path().join("42");
    let read = move |path: &Path| std::fs::read(path).unwrap();
    measure("std::fs::read, nothing else", 20_000, || async { drop(read(&path)) }).await;
    let blocking = || async {
        let path = path.clone();
        drop(tokio::task::spawn_blocking(move || read(&path)).await.unwrap());
    };
    measure("std::fs::read on a thread for blocking", 20_000, blocking).await;
    let terms = directory::open(&source(SourceKind::Directory, folder.path(), "", ""), LIMITS).unwrap();
    lookups("directory", 20_000, &terms).await;

    let path = folder.path().join("users.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE users (id INTEGER PRIMARY KEY, term BLOB)")
        .unwrap();
    database.execute("INSERT INTO users VALUES (42, ?1)", [&term]).unwrap();
    let query = "SELECT term FROM users WHERE id = $1";
    lookups("sqlite", 10_000, &sqlite::open(&source(SourceKind::Sqlite, &path, "", query), LIMITS).unwrap()).await;

    let server = Postgres::start(&[]);
    let client = server.client().await;
    client.batch_execute("CREATE TABLE users (id int8 PRIMARY KEY, term bytea)").await.unwrap();
    client.execute("INSERT INTO users VALUES (42, $1)", &[&term]).await.unwrap();
    for (name, url) in [
        ("postgresql, TCP", format!("{}?sslmode=disable", server.url())),
        ("postgresql, Unix socket", server.socket_url()),
    ] {
        let configured = source(SourceKind::Postgresql, Path::new(""), &url, query);
        lookups(name, 5_000, &postgresql::open(&configured, LIMITS).unwrap()).await;
    }
    drop(server);

    let server = Redis::start(&[]);
    server.say(&[&[b"SET", b"user:42", &term]]);
    let socket = format!("unix://{}", server.socket().display());
    for (name, url) in [("redis, TCP", server.url()), ("redis, Unix socket", socket)] {
        let configured = source(SourceKind::Redis, Path::new(""), &url, "GET user:$1");
        lookups(name, 5_000, &redis::open(&configured, LIMITS).unwrap()).await;
    }
}

fn source(kind: SourceKind, path: &Path, url: &str, query: &str) -> TermSource {
    TermSource {
        name: String::new(),
        kind,
        path: path.to_owned(),
        url: url.into(),
        query: query.into(),
        suffix: String::new(),
        key: KeyKind::Guess,
    }
}

async fn lookups(name: &str, times: usize, source: &impl Source) {
    let look = || async {
        assert_eq!(source.get("42").await.unwrap().unwrap().bytes.len(), RECORD_BYTES);
    };
    measure(name, times, look).await;
}

/// The best of some rounds, for each.
async fn measure<F: Future<Output = ()>>(name: &str, times: usize, look: impl Fn() -> F) {
    look().await;
    let (mut alone, mut together) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..times {
            look().await;
        }
        alone = alone.min(began.elapsed());
        let began = Instant::now();
        for _ in 0..times / TOGETHER {
            all((0..TOGETHER).map(|_| look())).await;
        }
        together = together.min(began.elapsed());
    }
    let micros = |time: Duration, times: usize| time.as_secs_f64() * 1e6 / times as f64;
    let together = micros(together, times / TOGETHER * TOGETHER);
    println!("{name:<40} {:>10.1} {together:>12.1}", micros(alone, times));
}

/// All of them in one task.
async fn all<F: Future<Output = ()>>(lookups: impl Iterator<Item = F>) {
    let mut lookups: Vec<_> = lookups.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        lookups.retain_mut(|lookup| lookup.as_mut().poll(context).is_pending());
        if lookups.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
