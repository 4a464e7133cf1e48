//! Functions that a server of HTTPS answers.

#![allow(clippy::unwrap_used)]

mod client;
#[path = "sources/servers.rs"]
mod servers;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::{Running, connect, prefixed, start, term};
use magpie_terms::Service;
use magpie_terms::config::{TermFunction, Terms};
use magpie_terms::functions::Functions;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use servers::Certificates;

/// A server of HTTPS that answers each request with its head and body, and counts those who connect and those who ask.
struct Answering {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Answering {
    fn start(certificates: &Certificates) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates.path("server.pem")).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(chain.collect(), key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (Arc::clone(&connections), Arc::clone(&requests));
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                counted.0.fetch_add(1, Ordering::Relaxed);
                let (tls, requests) = (ServerConnection::new(Arc::clone(&config)).unwrap(), Arc::clone(&counted.1));
                std::thread::spawn(move || answer_all(StreamOwned::new(tls, socket), &requests));
            }
        });
        Self { port, connections, requests }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/add", self.port)
    }

    fn seen(&self) -> (usize, usize) {
        (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

fn answer_all(stream: StreamOwned<ServerConnection, std::net::TcpStream>, requests: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begin = head.len();
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
            if let Some(value) = head[begin..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        requests.fetch_add(1, Ordering::Relaxed);
        let content = if length > 0 { body } else { head.clone().into_bytes() };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
        reader.get_mut().write_all(&[answer.as_bytes(), &content].concat()).ok()?;
    }
}

fn function(url: String, ca_file: &str) -> TermFunction {
    TermFunction { module: "far".into(), function: "add".into(), url, ca_file: ca_file.into() }
}

fn forwarding(url: String, ca_file: &str) -> Running {
    start(Terms { function: vec![function(url, ca_file)], ..Terms::default() })
}

#[test]
fn a_function_is_forwarded_over_one_connection_with_tls_that_is_kept() {
    let certificates = Certificates::new();
    let server = Answering::start(&certificates);
    let service = forwarding(server.url("localhost"), &certificates.path("ca.pem"));
    for number in 1..=3 {
        let answer = service.get(&format!("/esi/far:add?{number}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().starts_with(&format!("GET /add?{number} HTTP/1.1\r\n")), "{}", answer.text());
    }
    assert_eq!(service.post("/esi/far:add", "", b"1+1").text(), "1+1");
    let mut socket = connect(service.bert);
    socket.write_all(&prefixed([&term("{call, far, add, [1, 2]}")[..]])).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(magpie_etf::decode(&reply).unwrap().root().to_string(), "{reply,[1,2]}");
    assert_eq!(server.seen(), (1, 5));
}

#[test]
fn a_server_whose_certificate_is_of_another_authority_or_for_another_name_is_asked_nothing() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = Answering::start(&certificates);
    for (host, ca_file, why) in [
        ("localhost", others.path("ca.pem"), "invalid peer certificate"),
        ("127.0.0.1", certificates.path("ca.pem"), "certificate not valid for name \"127.0.0.1\""),
    ] {
        let answer = forwarding(server.url(host), &ca_file).get("/esi/far:add?secret");
        assert_eq!(answer.status, 502, "{host}");
        assert!(answer.text().contains(why), "{host}: {}", answer.text());
    }
    assert_eq!(server.seen(), (2, 0), "nothing was asked");
}

#[test]
fn without_a_file_of_its_own_a_function_trusts_whom_the_system_trusts() {
    const URL: &str = "MAGPIE_TEST_URL";
    // Whom the system trusts is said by the environment, which a test cannot change but for a process of its own.
    if let Ok(url) = std::env::var(URL) {
        let answer = forwarding(url, "").get("/esi/far:add?1");
        assert_eq!(answer.status, 200, "{}", answer.text());
        return;
    }
    let certificates = Certificates::new();
    let server = Answering::start(&certificates);
    let run = |trusted: &Certificates| {
        let name = "without_a_file_of_its_own_a_function_trusts_whom_the_system_trusts";
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args([name, "--exact"]).env(URL, server.url("localhost")).env("SSL_CERT_FILE", trusted.path("ca.pem"));
        test.output().unwrap().status.success()
    };
    assert!(run(&certificates));
    assert!(!run(&Certificates::new()));
    assert_eq!(server.seen(), (2, 1));
}

#[test]
fn a_token_of_the_service_is_not_passed_on() {
    let certificates = Certificates::new();
    let server = Answering::start(&certificates);
    let function = vec![function(server.url("localhost"), &certificates.path("ca.pem"))];
    let service = start(Terms { function: function.clone(), tokens: vec!["secret".into()], ..Terms::default() });
    let headers = "Authorization: Bearer secret\r\nAccept-Language: zh\r\n";
    let seen = service.ask("GET", "/esi/far:add?1", headers, b"");
    assert!(seen.text().contains("accept-language: zh") && !seen.text().contains("secret"), "{}", seen.text());
    // Where the service has none, it is the other server's.
    let service = start(Terms { function, ..Terms::default() });
    let seen = service.ask("GET", "/esi/far:add?1", headers, b"");
    assert!(seen.text().contains("authorization: Bearer secret"), "{}", seen.text());
}

#[test]
fn a_url_or_a_file_of_authorities_that_cannot_be_is_said_at_the_start() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let ca_file = Certificates::new();
    for (url, ca_file, why) in [
        ("https://localhost/f", "/nowhere.pem", "/nowhere.pem: "),
        ("https://localhost/f", empty.path().to_str().unwrap(), "has no certificate"),
        ("http://localhost/f", &ca_file.path("ca.pem"), "`ca_file` is of use with https alone"),
        ("ftp://localhost/f", "", "or with https"),
        ("https:///f", "", "write it as"),
        ("http://localhost/f?a=b", "", "leave it out"),
        ("http://{function}.example.org/", "", "{function} can stand in the path alone"),
        ("http://localhost:90{function}/", "", "in the path alone"),
    ] {
        let settings = Terms { function: vec![function(url.into(), ca_file)], ..Terms::default() };
        let error = Service::new(settings, Functions::default(), Vec::new()).unwrap_err();
        assert_eq!(error.key, "terms.function[0]");
        assert!(error.message.contains(why), "{url} {ca_file}: {error}");
    }
}
