//! What is configured: what it takes the place of, and how it changes while the service runs.

#![allow(clippy::unwrap_used)]

mod client;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use client::{Running, parse, start, start_with, term};
use magpie_terms::config::{KeyKind, SourceKind, TermFunction, TermSource, Terms};
use magpie_terms::functions::{Answering, Call, Deliver, EsiCall, Failure, Function, Functions, Reply};

/// Says its name.
struct Named(&'static str);

impl Function for Named {
    fn esi<'a>(&'a self, _: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()> {
        Box::pin(async move {
            let _ = deliver.send(format!("content-type: text/plain\r\n\r\n{}", self.0)).await;
        })
    }

    fn call<'a>(&'a self, _: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async move { Ok(magpie_etf::text::parse(self.0).unwrap().into()) })
    }
}

fn forwarded(module: &str, function: &str, to: &Running, path: &str) -> TermFunction {
    let url = format!("http://{}{path}", to.http);
    TermFunction { module: module.into(), function: function.into(), url, ca_file: "".into() }
}

fn directory(name: &str, path: &Path) -> TermSource {
    TermSource {
        name: name.into(),
        kind: SourceKind::Directory,
        path: path.into(),
        url: String::new(),
        query: String::new(),
        suffix: String::new(),
        key: KeyKind::Guess,
    }
}

/// The answer to a call of BERT-RPC.
fn called(service: &Running, call: &str) -> String {
    let mut socket = client::connect(service.bert);
    socket.write_all(&client::prefixed([&term(call)[..]])).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut reply).unwrap();
    magpie_etf::decode(&reply).unwrap().root().to_string()
}

#[test]
fn a_function_that_was_registered_or_configured_takes_the_place_of_one_that_is_always_there() {
    for name in ["echo", "*"] {
        let mut functions = Functions::default();
        functions.set("echo_server", name, Arc::new(Named("registered")));
        functions.set("terms", "to_json", Arc::new(Named("registered")));
        let service = start_with(Terms::default(), functions, Vec::new());
        assert_eq!(service.get("/esi/echo_server:echo?x").text(), "registered", "{name}");
        assert_eq!(called(&service, "{call, echo_server, echo, [1]}"), "{reply,registered}");
        assert_eq!(called(&service, "{call, terms, to_json, [1]}"), "{reply,registered}");
        assert_eq!(called(&service, "{call, terms, from_json, [<<\"1\">>]}"), "{reply,1}");
        let function = vec![forwarded("echo_server", "echo", &service, "/esi/echo_server:echo")];
        let before = start(Terms { function, ..Terms::default() });
        assert_eq!(before.get("/esi/echo_server:echo?x").text(), "registered", "{name}");
    }
    // Of both, what is configured.
    let there = start(Terms::default());
    let mut functions = Functions::default();
    functions.set("echo_server", "echo", Arc::new(Named("registered")));
    let function = vec![forwarded("echo_server", "echo", &there, "/healthz")];
    let service = start_with(Terms { function, ..Terms::default() }, functions, Vec::new());
    assert_eq!(service.get("/esi/echo_server:echo?x").text(), "ok\n");
}

#[test]
fn other_settings_are_those_of_the_next_request_on_connections_that_are_open_too() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    fs::write(folders[0].path().join("a"), term("old")).unwrap();
    fs::write(folders[1].path().join("a"), term("new")).unwrap();
    let there = start(Terms::default());
    let service = start(Terms { source: vec![directory("old", folders[0].path())], ..Terms::default() });
    let mut kept = service.connect();
    let mut ask = |target: &str, headers: &str| {
        kept.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = kept.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection was closed");
            bytes.extend_from_slice(&buffer[..count]);
            if !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
                continue;
            }
            let answer = parse(&bytes);
            if answer.header("content-length") == Some(&answer.body.len().to_string()) {
                return answer;
            }
        }
    };
    assert_eq!(ask("/terms/old/a", "").json()["$atom"], "old");
    let settings = Terms {
        tokens: vec!["secret".into()],
        origins: vec!["https://app.example".into()],
        source: vec![directory("new", folders[1].path())],
        function: vec![forwarded("far", "*", &there, "/{function}")],
        ..Terms::default()
    };
    service.service.reload(settings.clone()).unwrap();
    assert_eq!(ask("/terms/new/a", "").status, 401);
    let token = "Authorization: Bearer secret\r\nOrigin: https://app.example\r\n";
    let answer = ask("/terms/new/a", token);
    assert_eq!(answer.json()["$atom"], "new");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(ask("/terms/old/a", token).json()["code"], "no-such-source");
    assert_eq!(called(&service, "{call, far, none, []}").split(',').nth(2), Some("404"));
    assert_eq!(service.ask("GET", "/esi/far:healthz", token, b"").text(), "ok\n");
    // What cannot be changes nothing.
    let wrong = Terms { source: vec![directory("new", Path::new(""))], ..Terms::default() };
    assert_eq!(service.service.reload(wrong).unwrap_err().key, "terms.source[0]");
    assert_eq!(ask("/terms/new/a", token).json()["$atom"], "new");
    // A source that is as it was goes on counting.
    service.service.reload(settings).unwrap();
    let page = service.ask("GET", "/metrics", token, b"");
    let found = "magpie_terms_lookups_total{source=\"new\",outcome=\"found\"} 2\n";
    assert!(page.text().contains(found), "{}", page.text());
}
