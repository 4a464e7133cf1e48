use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::sources::{Limits, Source, sqlite};
use rusqlite::Connection;

use crate::written::{JULIET, KEY, ROMEO, term};
use crate::{LIMITS, hostile_keys, look, source};

const QUERY: &str = "SELECT term FROM users WHERE id = $1";

fn database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, token BLOB, term BLOB)").unwrap();
    let token = term("key");
    for (id, name, bytes) in [(42, "romeo", term("romeo")), (43, "juliet", term("juliet")), (44, "long", term("long"))]
    {
        let row = (id, name, token, bytes);
        connection.execute("INSERT INTO users (id, name, token, term) VALUES (?1, ?2, ?3, ?4)", row).unwrap();
    }
    connection.execute("INSERT INTO users (id, name) VALUES (45, 'nobody')", ()).unwrap();
    connection
}

fn configured(path: &Path, query: &str, key: KeyKind) -> TermSource {
    let mut source = source(SourceKind::Sqlite);
    source.path = path.to_owned();
    source.query = query.to_owned();
    source.key = key;
    source
}

fn open(path: &Path, query: &str, key: KeyKind) -> impl Source + use<> {
    sqlite::open(&configured(path, query, key), LIMITS).unwrap()
}

#[tokio::test]
async fn terms_are_found_by_keys_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    for (query, key, text, expected) in [
        (QUERY, KeyKind::Guess, "42", ROMEO),
        (QUERY, KeyKind::Integer, "43", JULIET),
        (QUERY, KeyKind::Guess, "41", "nothing"),
        (QUERY, KeyKind::Guess, "45", "nothing"),
        (QUERY, KeyKind::Integer, "romeo", "key: not a whole number of 64 bits"),
        ("SELECT term FROM users WHERE name = $1", KeyKind::Guess, "romeo", ROMEO),
        ("SELECT term FROM users WHERE name = $1", KeyKind::Atom, "juliet", JULIET),
        ("SELECT term FROM users WHERE CAST(name AS BLOB) = $1", KeyKind::Binary, "juliet", JULIET),
        ("SELECT term FROM users WHERE token = $1 ORDER BY id DESC LIMIT 3 OFFSET 1", KeyKind::Term, KEY, JULIET),
        ("SELECT term, name FROM users WHERE id <> $1 ORDER BY id", KeyKind::Guess, "42", JULIET),
        ("SELECT CAST(term AS TEXT) FROM users WHERE id = $1;", KeyKind::Guess, "42", ROMEO),
    ] {
        let got = look(&open(&path, query, key), text).await;
        assert_eq!(got, expected, "{query} {text}");
    }
}

#[tokio::test]
async fn hostile_keys_are_not_found_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    for query in [QUERY, "SELECT term FROM users WHERE name = $1"] {
        let terms = open(&path, query, KeyKind::Guess);
        for key in hostile_keys().into_iter().filter(|key| key.trim() != "42") {
            let got = look(&terms, &key).await;
            assert!(got == "nothing" || key.contains('\0') && got.starts_with("key: "), "{key:.80?}: {got}");
        }
    }
    assert_eq!(look(&open(&path, QUERY, KeyKind::Guess), "42").await, ROMEO);
}

#[tokio::test]
async fn what_is_wrong_with_the_file_or_the_query_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    let nowhere = folder.path().join("nowhere.db");
    let no_database = folder.path().join("letter.db");
    std::fs::write(&no_database, "not a database, but a letter of more than a hundred bytes. ".repeat(100)).unwrap();
    for (path, query, expected) in [
        (&path, "SELECT name, term FROM users WHERE id = $1 + 0 * abs(id)", "no term"),
        (&path, "SELECT id FROM users WHERE id = $1", "damaged: the query's first column is an integer and no BLOB"),
        (&path, "SELECT 1.5 FROM users WHERE id = $1", "damaged: the query's first column is a number and no BLOB"),
        (&path, "SELECT term FROM people WHERE id = $1", "no such table: people"),
        (&path, "SELECT term FORM users WHERE id = $1", "syntax error"),
        (&path, "SELECT term FROM users WHERE id = $1 OR id = $2", "no other parameter"),
        (&path, "DELETE FROM users WHERE id = $1 RETURNING term", "the query must read"),
        (&nowhere, QUERY, "nowhere.db: No such file"),
        (&no_database, QUERY, "damaged: file is not a database"),
    ] {
        let got = look(&open(path, query, KeyKind::Guess), "42").await;
        assert!(got.contains(expected), "{query}: {got}");
    }
    let refused = |change: fn(&mut TermSource)| {
        let mut source = configured(&path, QUERY, KeyKind::Guess);
        change(&mut source);
        sqlite::open(&source, LIMITS).map(|_| ()).unwrap_err()
    };
    assert!(refused(|source| source.path = "".into()).contains("`path`"));
    assert!(refused(|source| source.query = "SELECT term FROM users".into()).contains("`$1`"));
}

#[tokio::test]
async fn a_value_that_is_too_long_is_not_read_and_a_query_that_takes_too_long_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    let long = term("long").len();
    let with = |query: &str, limits| sqlite::open(&configured(&path, query, KeyKind::Guess), limits).unwrap();
    let exact = with(QUERY, Limits { bytes_max: long, ..LIMITS });
    assert_eq!(exact.get("44").await.unwrap().unwrap().bytes, term("long"));
    let less = with(QUERY, Limits { bytes_max: long - 1, ..LIMITS });
    let got = look(&less, "44").await;
    assert!(got.starts_with("damaged: ") && got.ends_with(&format!("at most {} are read", long - 1)), "{got}");
    assert_eq!(look(&less, "42").await, ROMEO);
    // A query may be longer than a term may be.
    let short = with(QUERY, Limits { bytes_max: 3, ..LIMITS });
    assert!(look(&short, "42").await.starts_with("damaged: "));

    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n WHERE i <> $1";
    let endless = with(endless, Limits { seconds_max: 1, ..LIMITS });
    let began = Instant::now();
    let lookups = (0..8).map(|_| look(&endless, "42"));
    for got in futures(lookups).await {
        assert!(got.ends_with("no answer in 1 s"), "{got}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "one after the other");
}

async fn futures(lookups: impl Iterator<Item = impl Future<Output = String>>) -> Vec<String> {
    let mut lookups: Vec<_> = lookups.map(Box::pin).collect();
    let mut answers = vec![None; lookups.len()];
    std::future::poll_fn(|context| {
        for (lookup, answer) in lookups.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            if let std::task::Poll::Ready(ready) = lookup.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Another program that has the database open; it does what it is told line by line.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Writer {
    const PROGRAM: &str = "\
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
for line in sys.stdin:
    if line == 'toggle\\n':
        while not os.path.exists(sys.argv[1] + '.enough'):
            for id in (42, 43):
                db.execute('UPDATE users SET term = (SELECT term FROM users WHERE id = ?) WHERE id = 1', (id,))
                time.sleep(0.001)
    else:
        db.execute(line).fetchall()
    print('done', flush=True)
";

    fn start(path: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", Self::PROGRAM])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("missing: python3\n  apt-get update && apt-get install --no-install-recommends python3");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn begin(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").unwrap();
    }

    fn end(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }

    fn tell(&mut self, what: &str) {
        self.begin(what);
        self.end();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_database_is_read_while_another_program_writes_to_it() {
    for journal in ["wal", "delete"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        database(&path);
        let mut writer = Writer::start(&path);
        writer.tell(&format!("PRAGMA journal_mode = {journal}"));
        writer.tell("INSERT INTO users (id, term) SELECT 1, term FROM users WHERE id = 42");
        let terms = open(&path, QUERY, KeyKind::Guess);
        // Until the reader has seen enough: no count of writes is sure to last until its first look.
        writer.begin("toggle");
        let mut seen = [0; 2];
        let began = Instant::now();
        while seen.contains(&0) || seen.iter().sum::<i32>() < 200 {
            let got = look(&terms, "1").await;
            assert!(got == ROMEO || got == JULIET, "{journal}: {got}");
            seen[usize::from(got == JULIET)] += 1;
            assert!(began.elapsed() < Duration::from_secs(60), "{journal}: {seen:?}");
        }
        std::fs::write(folder.path().join("users.db.enough"), "").unwrap();
        writer.end();
        assert_eq!(look(&terms, "1").await, JULIET, "{journal}: what was committed is seen");
    }
}

#[tokio::test]
async fn a_database_that_is_locked_for_too_long_is_unavailable_and_then_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    let limits = Limits { seconds_max: 1, ..LIMITS };
    let terms = sqlite::open(&configured(&path, QUERY, KeyKind::Guess), limits).unwrap();
    let mut writer = Writer::start(&path);
    writer.tell("BEGIN EXCLUSIVE");
    let began = Instant::now();
    let got = look(&terms, "42").await;
    assert!(got.starts_with("unavailable: "), "{got}");
    assert!(began.elapsed() < Duration::from_secs(10));
    writer.tell("COMMIT");
    assert_eq!(look(&terms, "42").await, ROMEO);
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_another_is_read_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    database(&path);
    let terms = open(&path, QUERY, KeyKind::Guess);
    assert_eq!(look(&terms, "42").await, ROMEO);
    let next = folder.path().join("next.db");
    database(&next).execute("UPDATE users SET term = ?1 WHERE id = 42", [term("juliet")]).unwrap();
    std::fs::rename(&next, &path).unwrap();
    assert_eq!(look(&terms, "42").await, JULIET);
}
