//! Terms that a live `erl` wrote, read where they lie: in files, in SQLite, in PostgreSQL and in Redis.

#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod directory;
mod postgresql;
mod redis;
mod redis_hostile;
mod served;
mod servers;
mod sqlite;
mod written;

use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::sources::{Found, Limits, Source, SourceError};

const LIMITS: Limits = Limits { bytes_max: 1 << 20, seconds_max: 5 };

fn source(kind: SourceKind) -> TermSource {
    TermSource {
        name: "users".into(),
        kind,
        path: "".into(),
        url: String::new(),
        query: String::new(),
        suffix: String::new(),
        key: KeyKind::Guess,
    }
}

type Got = Result<Option<Found>, SourceError>;

/// What a lookup gave, as Erlang shows it; or what went wrong, with the kind of the fault.
fn shown(got: Got) -> String {
    match got {
        Ok(Some(found)) => match magpie_etf::decode(&found.bytes) {
            Ok(term) => magpie_etf::text::line(term.root(), true),
            Err(error) => format!("no term: {error}"),
        },
        Ok(None) => "nothing".into(),
        Err(SourceError::Key(why)) => format!("key: {why}"),
        Err(SourceError::Damaged(why)) => format!("damaged: {why}"),
        Err(error) => format!("unavailable: {error}"),
    }
}

async fn look(source: &dyn Source, key: &str) -> String {
    shown(source.get(key).await)
}

/// Keys of those who want more than a term.
fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "a/",
        "//",
        "./42",
        "42/.",
        "42\0",
        "\0",
        "42\0.term",
        "'; DROP TABLE users; --",
        "42' OR '1'='1",
        "42; SELECT pg_sleep(9)",
        "$1",
        "%s%s%s",
        "*",
        "user:*",
        "42\r\nFLUSHALL\r\n",
        "\r\n",
        "a b",
        "\u{202e}42",
        "\u{10ffff}",
        "..\\..\\etc\\passwd",
        "-",
        "99999999999999999999",
        "1e9",
        "0x2a",
        " 42",
        "42 ",
        "NaN",
        "NULL",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("x".repeat(1 << 20));
    keys.push("../".repeat(1 << 18));
    keys.push("9".repeat(1 << 20));
    keys
}
