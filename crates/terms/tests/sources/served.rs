//! The same places as the page says that they are configured, asked by HTTP.

use magpie_terms::config::Terms;

use crate::client::{Running, start};
use crate::servers::{PASSWORD_IN_URL, Postgres, Redis};
use crate::written::term;

#[derive(serde::Deserialize)]
struct Configuration {
    terms: Terms,
}

fn configured(text: &str) -> Terms {
    toml::from_str::<Configuration>(text).unwrap().terms
}

#[test]
fn the_configuration_of_the_page_is_one() {
    let page = include_str!("../../../../docs/term-sources.md");
    let (_, text) = page.split_once("```toml\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let terms = configured(text);
    let names: Vec<&str> = terms.source.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["sessions", "users", "carts", "orders", "rooms", "accounts", "events"]);
    for source in terms.source.iter().take(4) {
        magpie_terms::sources::open(source, &terms).unwrap();
    }
}

fn answers(service: &Running, expected: &[(&str, u16, &str)]) {
    for (path, status, text) in expected {
        let answer = service.get(&format!("/terms/{path}?mode=readable"));
        assert_eq!(answer.status, *status, "{path}: {}", answer.text());
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    }
}

#[test]
fn each_source_answers_by_http_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("42"), term("romeo")).unwrap();
    std::fs::write(path("letter"), "no term").unwrap();
    let database = rusqlite::Connection::open(path("users.db")).unwrap();
    database.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, term BLOB)").unwrap();
    database.execute("INSERT INTO users VALUES (42, ?1), (43, 43)", [term("romeo")]).unwrap();
    let postgres = Postgres::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = postgres.client().await;
        client.batch_execute("CREATE TABLE users (id int8 PRIMARY KEY, term bytea)").await.unwrap();
        client.execute("INSERT INTO users VALUES (42, $1), (43, 'no term')", &[&term("romeo")]).await.unwrap();
    });
    let mut redis = Redis::start(&[]);
    redis.say(&[&[b"SET", b"user:42", term("romeo")], &[b"HSET", b"user:43", b"a", b"b"]]);
    let text = format!(
        "[[terms.source]]\nname = 'files'\nkind = 'directory'\npath = '{}'\n\
         [[terms.source]]\nname = 'lite'\nkind = 'sqlite'\npath = '{}'\nquery = 'SELECT term FROM users WHERE id = $1'\n\
         [[terms.source]]\nname = 'pg'\nkind = 'postgresql'\nurl = '{}'\nquery = 'SELECT term FROM users WHERE id = $1'\n\
         [[terms.source]]\nname = 'redis'\nkind = 'redis'\nurl = '{}'\nquery = 'GET user:$1'\n",
        path(""),
        path("users.db"),
        postgres.url(),
        redis.url(),
    );
    let service = start(configured(&text));
    answers(
        &service,
        &[
            ("files/42", 200, "Romeo Montague"),
            ("files/43", 404, "no-such-key"),
            ("files/..%2F..%2Fetc%2Fpasswd", 404, "no-such-key"),
            ("files/letter", 502, "damaged"),
            ("lite/42", 200, "Romeo Montague"),
            ("lite/44", 404, "no-such-key"),
            ("lite/43", 502, "an integer and no BLOB"),
            ("lite/4%00", 400, "bad-key"),
            ("pg/42", 200, "Romeo Montague"),
            ("pg/44", 404, "no-such-key"),
            ("pg/43", 502, "damaged"),
            ("pg/romeo", 400, "bad-key"),
            ("redis/42", 200, "Romeo Montague"),
            ("redis/44", 404, "no-such-key"),
            ("redis/43", 502, "WRONGTYPE"),
        ],
    );
    drop(postgres);
    redis.kill();
    std::fs::remove_file(path("users.db")).unwrap();
    answers(
        &service,
        &[("lite/42", 503, "unavailable"), ("pg/42", 503, "unavailable"), ("redis/42", 503, "unavailable")],
    );
    for path in ["pg/42", "redis/42"] {
        assert!(!service.get(&format!("/terms/{path}")).text().contains(PASSWORD_IN_URL));
    }
    answers(&service, &[("files/42", 200, "Romeo Montague")]);
}
