//! `GET /terms/NAME/KEY`.

#![allow(clippy::unwrap_used)]

mod client;

use std::sync::Arc;

use client::{Running, start_with, term};
use magpie_terms::config::{KeyKind, SourceKind, TermSource, Terms};
use magpie_terms::functions::Functions;
use magpie_terms::sources::{Found, Lookup, Source, SourceError};
use serde_json::json;

const USER: &str = "#{name => <<\"Juliet\">>, mails => [{home, <<\"a@b\">>}, work], {a,b} => 3}";

/// Has what the tests need.
#[derive(Debug)]
struct Shelf(&'static str);

impl Source for Shelf {
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        let found = |bytes: Vec<u8>| Ok(Some(Found { bytes: bytes.into(), version: None }));
        let outcome = match key {
            "user" | "a/b c/你" => found(term(USER)),
            "which" => found(term(self.0)),
            "versioned" => Ok(Some(Found { bytes: term("v").into(), version: Some("1".into()) })),
            "garbage" => found(vec![131, 200]),
            "bad key" => Err(SourceError::Key("a number is needed".into())),
            "down" => Err(SourceError::Unavailable("connection refused".into())),
            "damaged" => Err(SourceError::Damaged("no header".into())),
            _ => Ok(None),
        };
        Box::pin(async move { outcome })
    }
}

fn service() -> Running {
    let sources: Vec<(String, Arc<dyn Source>)> =
        vec![("users".into(), Arc::new(Shelf("named"))), (String::new(), Arc::new(Shelf("unnamed")))];
    start_with(Terms::default(), Functions::default(), sources)
}

#[test]
fn a_term_is_read_where_it_lies_whole_or_a_part_of_it() {
    let service = service();
    let readable = service.get("/terms/users/user?path=mails&mode=readable");
    assert_eq!((readable.status, readable.header("content-type")), (200, Some("application/json")));
    assert_eq!(readable.json(), json!([["home", "a@b"], "work"]));
    for (path, expected) in [
        ("mails/home", json!("a@b")),
        ("mails/1/1", json!({"$atom": "home"})),
        ("mails/work", json!(true)),
        ("%7Ba%2Cb%7D", json!(3)),
        (
            "/",
            json!({"$map": [
                [{"$atom": "name"}, "Juliet"],
                [{"$atom": "mails"}, [{"$tuple": [{"$atom": "home"}, "a@b"]}, {"$atom": "work"}]],
                [{"$tuple": [{"$atom": "a"}, {"$atom": "b"}]}, 3],
            ]}),
        ),
    ] {
        assert_eq!(service.get(&format!("/terms/users/user?path={path}")).json(), expected, "{path}");
    }
    let nowhere = service.get("/terms/users/user?path=mails/9");
    assert_eq!((nowhere.status, &nowhere.json()["code"]), (404, &json!("no-such-part")));
    assert_eq!(nowhere.json()["detail"], "step 2, \"9\", leads nowhere in a list");
}

#[test]
fn it_is_told_as_json_text_or_bytes() {
    let service = service();
    let ask = |target: &str, accept: &str| service.ask("GET", target, &format!("Accept: {accept}\r\n"), b"");
    let text = ask("/terms/users/user?path=mails", "text/plain");
    assert_eq!(
        (text.header("content-type"), text.text()),
        (Some("text/plain; charset=utf-8"), "[{home,<<\"a@b\">>},work].\n")
    );
    let bytes = ask("/terms/users/user", "application/x-erlang-binary");
    assert_eq!((bytes.header("content-type"), &bytes.body), (Some("application/x-erlang-binary"), &term(USER)));
    let part = ask("/terms/users/user?path=mails/1", "application/x-erlang-binary");
    assert_eq!(part.body, term("{home, <<\"a@b\">>}"));
    assert_eq!(ask("/terms/users/user", "image/png").status, 406);
    let head = service.ask("HEAD", "/terms/users/user", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(service.post("/terms/users/user", "", b"").header("allow"), Some("GET, HEAD"));
}

#[test]
fn the_first_part_of_the_path_names_the_source() {
    let service = service();
    assert_eq!(service.get("/terms/users/which").json()["$atom"], "named");
    assert_eq!(service.get("/terms/which").json()["$atom"], "unnamed");
    assert_eq!(service.get("/terms/a%2Fb%20c/%E4%BD%A0?path=name").json(), "Juliet");
    assert_eq!(service.get("/terms/users/unknown").json()["code"], "no-such-key");
    let without = start_with(Terms::default(), Functions::default(), Vec::new());
    assert_eq!(without.get("/terms/users/user").json()["code"], "no-such-source");
}

#[test]
fn what_is_known_already_is_not_sent_again() {
    let service = service();
    for key in ["user", "versioned"] {
        let first = service.get(&format!("/terms/users/{key}"));
        let tag = first.header("etag").unwrap();
        let ask = |tag: &str, target: &str| service.ask("GET", target, &format!("If-None-Match: {tag}\r\n"), b"");
        let again = ask(tag, &format!("/terms/users/{key}"));
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)));
        for name in ["vary", "cache-control"] {
            assert!(first.header(name).is_some() && again.header(name) == first.header(name), "{name}: {}", again.head);
        }
        assert_eq!(ask("\"other\"", &format!("/terms/users/{key}")).status, 200);
        assert_eq!(ask("*", &format!("/terms/users/{key}")).status, 304);
    }
}

#[test]
fn what_is_wrong_with_a_source_is_told() {
    let service = service();
    for (key, status, code) in [
        ("bad%20key", 400, "bad-key"),
        ("down", 503, "unavailable"),
        ("damaged", 502, "damaged"),
        ("garbage", 502, "damaged"),
    ] {
        let answer = service.get(&format!("/terms/users/{key}"));
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{key}");
    }
    assert_eq!(service.get("/terms/users/down").header("retry-after"), Some("5"));
}

/// Never answers.
#[derive(Debug)]
struct Silent;

impl Source for Silent {
    fn get<'a>(&'a self, _: &'a str) -> Lookup<'a> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_source_that_says_nothing_is_given_up() {
    let sources: Vec<(String, Arc<dyn Source>)> = vec![("silent".into(), Arc::new(Silent))];
    let service = start_with(Terms { source_seconds_max: 1, ..Terms::default() }, Functions::default(), sources);
    let answer = service.get("/terms/silent/key");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")));
}

#[test]
fn tables_of_dets_and_mnesia_are_read_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!(
        "{{ok, t}} = dets:open_file(t, [{{file, \"{path}/t.dets\"}}]), ok = dets:insert(t, [{{42, <<\"Juliet\">>}}, {{{{<<\"verona\">>, 1}}, open}}]), ok = dets:close(t), \
         application:set_env(mnesia, dir, \"{path}/mnesia\"), ok = mnesia:create_schema([node()]), ok = mnesia:start(), \
         {{atomic, ok}} = mnesia:create_table(users, [{{disc_copies, [node()]}}]), \
         {{atomic, ok}} = mnesia:transaction(fun() -> mnesia:write({{users, <<\"romeo\">>, [{{mail, \"r@v\"}}]}}) end), \
         mnesia:dump_log(), stopped = mnesia:stop(), halt()."
    );
    let output = std::process::Command::new("erl").args(["-noshell", "-eval", &script]).output();
    let output = output.expect("missing: erl\n  apt-get install --no-install-recommends erlang-base erlang-mnesia");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let source = |name: &str, kind: SourceKind, file: &str| TermSource {
        name: name.into(),
        kind,
        path: folder.path().join(file),
        url: String::new(),
        query: String::new(),
        suffix: String::new(),
        key: KeyKind::Guess,
    };
    let source = vec![
        source("table", SourceKind::Dets, "t.dets"),
        source("rooms", SourceKind::Dets, "t.dets"),
        source("users", SourceKind::Mnesia, "mnesia/users.DCD"),
    ];
    let service = start_with(Terms { source, ..Terms::default() }, Functions::default(), Vec::new());
    assert_eq!(service.get("/terms/table/42?path=2").json(), "Juliet");
    assert_eq!(service.get("/terms/users/romeo?path=3/mail&mode=readable").status, 404, "an atom is another key");
    let romeo = service.get("/terms/users/%3C%3C%22romeo%22%3E%3E?path=3/mail&mode=readable");
    assert_eq!((romeo.status, romeo.text()), (200, "\"r@v\"\n"));
    // As the page has it.
    let page = include_str!("../../../docs/term-sources.md");
    let command = page.lines().find_map(|line| line.strip_prefix("curl -g 'http://127.0.0.1:8080/")).unwrap();
    let room = service.get(&format!("/{}?path=2", command.trim_end_matches('\'')));
    assert_eq!((room.status, room.text()), (200, "{\"$atom\":\"open\"}\n"));
    assert_eq!(service.get("/terms/table/43").json()["code"], "no-such-key");
}
