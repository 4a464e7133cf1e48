//! Functions over the web, who may ask, and how long.

#![allow(clippy::unwrap_used)]

mod client;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Running, parse, start, start_with};
use magpie_terms::config::{TermFunction, Terms};
use magpie_terms::functions::{Answering, Call, Deliver, EsiCall, EsiInput, Failure, Function, Functions, Reply};
use serde_json::json;

/// Answers as its input says.
struct Test;

impl Function for Test {
    fn esi<'a>(&'a self, call: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()> {
        Box::pin(async move {
            match &call.input {
                EsiInput::Text(text) if text == "created" => {
                    let head = "Status: 201 Created\r\nX-Answer: 42\r\nContent-Type: text/plain\r\n\r\n";
                    let _ = deliver.send(format!("{head}made")).await;
                }
                EsiInput::Text(text) if text == "html" => {
                    let _ = deliver.send("<p>hello").await;
                    let _ = deliver.send("</p>").await;
                }
                EsiInput::Text(text) if text == "slow" => tokio::time::sleep(Duration::from_secs(20)).await,
                EsiInput::Text(text) if text == "bad" => {
                    let _ = deliver.send("no header\r\n\r\nbody").await;
                }
                EsiInput::Text(text) if text == "abort" => {
                    let _ = deliver.send("first").await;
                    deliver.abort().await;
                }
                EsiInput::Text(text) if text == "parts" => {
                    let _ = deliver.send("content-type: text/plain\r\n\r\nfirst,").await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let _ = deliver.send("second").await;
                }
                EsiInput::Text(text) if text == "nothing" => {}
                input => {
                    let _ = deliver.send(format!("content-type: text/plain\r\n\r\n{} {input:?}", call.method)).await;
                }
            }
        })
    }

    fn call<'a>(&'a self, _: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async { Err(Failure::bad_argument("not over BERT-RPC")) })
    }
}

fn with_test(settings: Terms) -> Running {
    let mut functions = Functions::default();
    functions.set("test", "test", Arc::new(Test));
    start_with(settings, functions, Vec::new())
}

#[test]
fn the_echo_gives_the_text_back_in_utf_8() {
    let service = start(Terms::default());
    for target in [
        "/esi/echo_server:echo?abcd你好321",
        "/esi/echo_server:echo?abcd%E4%BD%A0%E5%A5%BD321",
        "/esi/echo_server%3Aecho/abcd%E4%BD%A0好321",
        "/esi/echo_server/echo?abcd你好321",
        "/echo_server/echo/abcd你好321",
    ] {
        let answer = service.get(target);
        assert_eq!((answer.status, answer.text()), (200, "abcd你好321"), "{target}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.is_chunked && answer.header("content-length").is_none(), "{}", answer.head);
    }
    assert_eq!(service.post("/esi/echo_server:echo", "", "你好".as_bytes()).text(), "你好");
    let mut socket = service.connect();
    socket.write_all(b"GET /esi/echo_server:echo?old HTTP/1.0\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let answer = parse(&bytes);
    assert_eq!((answer.text(), answer.is_chunked), ("old", false));
}

#[test]
fn functions_are_called_by_the_rules_of_httpd() {
    let service = with_test(Terms { esi_modules: vec!["test".into()], ..Terms::default() });
    for (method, target, status, body) in [
        ("GET", "/esi/test:test?a%20b+c%41", 200, r#"GET Text("a%20b+cA")"#),
        ("GET", "/esi/test:test/a/b?c", 200, r#"GET Text("a/b?c")"#),
        ("DELETE", "/esi/test:test?x", 200, r#"DELETE Text("x")"#),
        ("POST", "/esi/test:test", 200, r#"POST Body(b"body")"#),
        ("PUT", "/esi/test:test?q", 200, r#"PUT QueryAndBody(Some("q"), b"body")"#),
        ("PATCH", "/esi/test:test", 200, r#"PATCH QueryAndBody(None, b"body")"#),
        ("POST", "/esi/test:test?q=1", 404, "no-such-function"),
        ("GET", "/esi/test:none", 404, "no-such-function"),
        ("GET", "/esi/test", 400, "no-function"),
        ("GET", "/esi/echo_server:echo?x", 403, "module-not-allowed"),
        ("GET", "/elsewhere", 404, "no-such-path"),
    ] {
        let answer = service.ask(method, target, "", if method.starts_with('P') { b"body" } else { b"" });
        assert_eq!(answer.status, status, "{method} {target}");
        match status {
            200 => assert_eq!(answer.text(), body, "{method} {target}"),
            _ => assert_eq!(answer.json()["code"], body, "{method} {target}"),
        }
    }
    let everything = with_test(Terms::default());
    assert_eq!(everything.get("/esi/unknown:f").json()["code"], "no-such-module");
    let head = everything.ask("HEAD", "/esi/test:test?x", "", b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/plain")));
}

#[test]
fn a_functions_first_chunk_has_the_headers_and_may_have_the_status() {
    let service = with_test(Terms { function_seconds_max: 1, ..Terms::default() });
    let created = service.get("/esi/test:test?created");
    assert_eq!((created.status, created.header("x-answer"), created.text()), (201, Some("42"), "made"));
    let html = service.get("/esi/test:test?html");
    assert_eq!((html.header("content-type"), html.text()), (Some("text/html"), "<p>hello</p>"));
    let parts = service.get("/esi/test:test?parts");
    assert_eq!(parts.text(), "first,second");
    for (input, status, code) in [("slow", 504, "too-slow"), ("bad", 500, "bad-answer"), ("nothing", 500, "no-answer")]
    {
        let answer = service.get(&format!("/esi/test:test?{input}"));
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{input}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let service = with_test(Terms::default());
    let mut socket = service.connect();
    socket.write_all(b"GET /esi/test:test?abort HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn the_first_part_of_an_answer_comes_before_the_second_is_made() {
    let service = with_test(Terms::default());
    let mut socket = service.connect();
    socket.write_all(b"GET /esi/test:test?parts HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 512]);
    while !seen.windows(6).any(|window| window == b"first,") {
        let count = socket.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
    }
    assert!(!seen.windows(6).any(|window| window == b"second"));
}

#[test]
fn functions_are_forwarded_to_another_server() {
    let behind = with_test(Terms::default());
    let function = |function: &str, url: String| TermFunction {
        module: "far".into(),
        function: function.into(),
        url,
        ca_file: "".into(),
    };
    let mut settings = Terms::default();
    settings.function.push(function("*", format!("http://{}/esi/test:{{function}}", behind.http)));
    settings.function.push(function("down", "http://127.0.0.1:1/".into()));
    let service = start(settings);
    let answer = service.get("/esi/far:test?created");
    assert_eq!((answer.status, answer.header("x-answer"), answer.text()), (201, Some("42"), "made"));
    assert_eq!(service.get("/esi/far:test?a%20b").text(), r#"GET Text("a%20b")"#);
    assert_eq!(service.post("/esi/far:test", "", b"body").text(), r#"POST Body(b"body")"#);
    assert_eq!(service.get("/esi/far:none?x").status, 404);
    let down = service.get("/esi/far:down?x");
    assert_eq!(down.status, 502);
    assert!(down.text().contains("cannot be asked"), "{}", down.text());
}

#[test]
fn a_server_of_functions_that_says_nothing_more_is_let_go_when_nobody_waits_for_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = TermFunction { module: "far".into(), function: "silent".into(), url, ca_file: "".into() };
    let service = start(Terms { function: vec![silent], idle_seconds_max: 1, ..Terms::default() });
    let mut asking = service.connect();
    asking.write_all(b"GET /esi/far:silent HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut head = [0; 1024];
    assert!(server.read(&mut head).unwrap() > 0);
    server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
    // The one that asked is idle, and so its connection is closed; then that to the server.
    let _ = asking.read_to_end(&mut Vec::new());
    assert_eq!(server.read(&mut head).unwrap(), 0);
}

#[test]
fn who_has_no_token_is_refused_where_one_is_needed() {
    let service = start(Terms { tokens: vec!["first".into(), "second".into()], ..Terms::default() });
    let target = "/esi/echo_server:echo?x";
    let refused = service.get(target);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    for (header, status) in
        [("Bearer second", 200), ("bearer first", 200), ("Bearer secon", 401), ("Basic first", 401), ("", 401)]
    {
        let answer = service.ask("GET", target, &format!("Authorization: {header}\r\n"), b"");
        assert_eq!(answer.status, status, "{header}");
    }
    assert_eq!(service.get("/healthz").text(), "ok\n");
}

#[test]
fn pages_of_the_origins_that_are_named_may_ask() {
    let service = start(Terms { origins: vec!["https://app.example".into()], ..Terms::default() });
    let with = |origin: &str| service.ask("GET", "/esi/echo_server:echo?x", &format!("Origin: {origin}\r\n"), b"");
    assert_eq!(with("https://app.example").header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(with("https://evil.example").header("access-control-allow-origin"), None);
    let open = start(Terms { origins: vec!["*".into()], ..Terms::default() });
    let answer = open.ask("GET", "/esi/echo_server:echo?x", "Origin: https://evil.example\r\n", b"");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://evil.example"));
    let preflight = service.ask("OPTIONS", "/terms/to-json", "Origin: https://app.example\r\n", b"");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("https://app.example")));
}

#[test]
fn connections_on_which_nothing_moves_are_closed() {
    let service = start(Terms { idle_seconds_max: 1, head_seconds_max: 1, ..Terms::default() });
    let answered = b"GET /esi/echo_server:echo?x HTTP/1.1\r\nHost: x\r\n\r\n";
    for (what, sent) in [
        ("nothing", &b""[..]),
        ("half a head", b"GET /esi/echo_server:echo?x HTTP/1.1\r\nHo"),
        ("a head without its body", b"POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"),
        ("a request, and no other", answered),
    ] {
        let mut socket = service.connect();
        socket.write_all(sent).unwrap();
        let began = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
    }
    // A head that comes byte by byte is never idle.
    let mut socket = service.connect();
    let began = Instant::now();
    for byte in b"GET /esi/echo_server:echo?x HTTP/1.1\r\nHost: abcdefghijklmnopqrstuvwxyz" {
        if socket.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = socket.read_to_end(&mut Vec::new());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_connection_carries_many_requests_pipelined_too() {
    let service = start(Terms::default());
    let mut socket = service.connect();
    let mut requests: Vec<u8> = (0..200)
        .flat_map(|number| format!("GET /esi/echo_server:echo?-{number}- HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes())
        .collect();
    requests.extend_from_slice(b"GET /esi/echo_server:echo?end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(&requests).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!((0..200).all(|number| text.contains(&format!("-{number}-"))));
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 201);
}

#[test]
fn a_head_with_too_much_in_it_is_refused() {
    let service = start(Terms::default());
    let ask = |headers: &str| service.ask("GET", "/esi/echo_server:echo?x", headers, b"").status;
    let headers = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    assert_eq!(ask(&headers(90)), 200);
    assert_eq!(ask(&headers(110)), 431);
    assert_eq!(ask(&format!("X-Long: {}\r\n", "y".repeat(400 << 10))), 431);
    assert_eq!(ask(&headers(90)), 200);
}

/// Sends a request as it is, and gives what is answered. One that says more of its body than comes is at its end.
fn said(service: &Running, request: &str, is_cut: bool) -> String {
    let mut socket = service.connect();
    socket.write_all(request.as_bytes()).unwrap();
    if is_cut {
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"}") && !answer.ends_with(b"ok\n") {
        match socket.read(&mut buffer).unwrap() {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_connection_on_which_a_body_was_not_read_says_that_it_ends() {
    let service = with_test(Terms { term_bytes_max: 1000, ..Terms::default() });
    let large = "x".repeat(2000);
    for (target, headers, body, closes) in [
        ("POST /terms/to-json", "Content-Type: image/png\r\n", "abc", true),
        ("POST /terms/users/42", "", "abc", true),
        ("POST /terms/to-json", "", &large, true),
        ("POST /unknown:function", "", "abc", true),
        ("GET /healthz", "", "abc", true),
        ("POST /terms/to-json", "", "abc", false),
        ("POST /terms/to-json?stream", "", "abc", false),
        ("POST /esi/test:test", "", "abc", false),
        ("GET /healthz", "", "", false),
    ] {
        let length = body.len();
        let head = format!("{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
        let mut socket = service.connect();
        socket.write_all(head.as_bytes()).unwrap();
        // Later, so that it is not there when the answer begins.
        std::thread::sleep(Duration::from_millis(50));
        let _ = socket.write_all(body.as_bytes());
        let mut answer = vec![0; 4096];
        let count = socket.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).to_ascii_lowercase();
        assert_eq!(answer.contains("\r\nconnection: close\r\n"), closes, "{target} {headers}{length}: {answer}");
    }
}

#[test]
fn requests_that_are_none_of_http_1_1_are_refused() {
    let service = with_test(Terms::default());
    for (request, status, code) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", 400, "bad-host"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad-host"),
        (
            "POST /terms/to-json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "unknown-coding",
        ),
        ("TRACE /esi/test:test?input HTTP/1.1\r\nHost: x\r\n\r\n", 405, "wrong-method"),
        ("GET /esi HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no-function"),
        ("GET /esi/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no-function"),
        ("POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n\u{1}", 400, "bad-body"),
    ] {
        let answer = said(&service, request, code == "bad-body");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{request}: {answer}");
        assert!(code != "bad-body" || answer.contains("the body was cut"), "{answer}");
    }
    assert!(
        said(&service, "GET /healthz HTTP/1.0\r\n\r\n", false).starts_with("HTTP/1.0 200"),
        "of old, no host is named"
    );
}
