//! Erlang's terms beside the chat: listeners of the kinds `terms`, `terms-tls` and `bert`.

#![allow(clippy::unwrap_used)]

#[path = "../src/listen/tls/tests/anyone.rs"]
mod anyone;
#[path = "host/mod.rs"]
mod host;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyone::Anyone;
use magpie_server::config::{Config, Listen, ListenKind, TlsMode};
use magpie_server::server::Server;
use magpie_store::Store;
use rustls::ClientConfig;
use rustls::client::ClientConnection;
use rustls_pki_types::ServerName;
use tokio::runtime::Runtime;

struct Host {
    server: Arc<Server>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut config = host::config(folder.path());
        for kind in [ListenKind::Terms, ListenKind::TermsTls, ListenKind::Bert] {
            config.listen.push(Listen {
                address: ([127, 0, 0, 1], 0).into(),
                kind,
                tls: TlsMode::Required,
                force: false,
            });
        }
        change(&mut config);
        let server = runtime.block_on(Server::start(config, store)).unwrap();
        Self { server, runtime, _folder: folder }
    }

    fn at(&self, kind: ListenKind) -> SocketAddr {
        self.server.addresses().into_iter().find(|(of, _)| *of == kind).unwrap().1
    }

    fn connect(&self, kind: ListenKind) -> TcpStream {
        let socket = TcpStream::connect(self.at(kind)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }
}

const ECHO: &[u8] = b"GET /esi/echo_server:echo?abc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn asked(mut stream: impl Read + Write) -> String {
    stream.write_all(ECHO).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_chat_server_serves_terms_over_http_and_bert_rpc_too() {
    let host = Host::start(|_| {});
    let answer = asked(host.connect(ListenKind::Terms));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("abc"), "{answer}");
    let mut socket = host.connect(ListenKind::Bert);
    // {call, echo_server, echo, [1]}
    let call = b"\x83\x68\x04\x64\0\x04call\x64\0\x0becho_server\x64\0\x04echo\x6b\0\x01\x01";
    socket.write_all(&[&u32::try_from(call.len()).unwrap().to_be_bytes(), &call[..]].concat()).unwrap();
    let mut reply = [0; 4 + 13];
    socket.read_exact(&mut reply).unwrap();
    // {reply, 1}
    assert_eq!(&reply[4..], b"\x83\x68\x02\x64\0\x05reply\x61\x01");
}

#[test]
fn https_is_under_the_certificates_of_the_served_domains() {
    let host = Host::start(|_| {});
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = host.connect(ListenKind::TermsTls);
    let answer = asked(rustls::Stream::new(&mut tls, &mut socket));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("abc"), "{answer}");
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    let certificate = tls.peer_certificates().unwrap()[0].clone();
    assert!(host.server.certificates().binding_of(&certificate).is_some(), "it is the domain's certificate");
    // In clear nothing is said there.
    let answer = asked(host.connect(ListenKind::TermsTls));
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_reload_is_in_force_for_the_next_request_and_refused_where_it_would_show_terms_to_the_network() {
    let host = Host::start(|config| {
        config.terms.tokens = vec!["secret".to_owned()];
        config.listen.push(Listen {
            address: ([0, 0, 0, 0], 0).into(),
            kind: ListenKind::TermsTls,
            tls: TlsMode::Required,
            force: false,
        });
    });
    let reload = |change: &dyn Fn(&mut Config)| {
        let mut config = (**host.server.config()).clone();
        change(&mut config);
        host.runtime.block_on(host.server.reload(config))
    };
    assert!(asked(host.connect(ListenKind::Terms)).starts_with("HTTP/1.1 401"));
    // Another listener is there with the next start only, and that of now would have no token.
    let report = reload(&|config| {
        config.terms.tokens.clear();
        config.listen.pop();
    });
    assert_eq!((report.reloaded, report.needs_restart), (Vec::<String>::new(), vec!["listen".to_owned()]));
    assert!(report.errors[0].contains("everybody could read the terms"), "{:?}", report.errors);
    let report = reload(&|config| config.terms.source.push(serde_json::from_str("{\"kind\": \"dets\"}").unwrap()));
    assert!(report.errors[0].contains("terms.source[0]"), "{:?}", report.errors);
    assert!(asked(host.connect(ListenKind::Terms)).starts_with("HTTP/1.1 401"));
    let report = reload(&|config| config.terms.esi_modules = vec!["none".to_owned()]);
    assert_eq!((report.reloaded, report.errors), (vec!["terms".to_owned()], Vec::<String>::new()));
    let mut socket = host.connect(ListenKind::Terms);
    let request =
        String::from_utf8(ECHO.to_vec()).unwrap().replace("\r\n\r\n", "\r\nAuthorization: Bearer secret\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[test]
fn the_page_of_the_server_shows_what_the_term_service_counts() {
    let host = Host::start(|config| config.metrics.address = "127.0.0.1:0".into());
    asked(host.connect(ListenKind::Terms));
    let mut page = TcpStream::connect(host.server.metrics_address().unwrap()).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    for line in [
        "magpie_terms_requests_total{route=\"function\",status=\"2xx\"} 1",
        "magpie_terms_requests_total{route=\"term\",status=\"5xx\"} 0",
        "# TYPE magpie_terms_connections gauge",
        "magpie_terms_bert_bad_packets_total 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}: {text}");
    }
}

#[test]
fn the_limit_of_connections_from_one_address_is_theirs_too() {
    let host = Host::start(|config| config.limits.connections_per_address_max = 2);
    // Answered, and so counted.
    let mut held = [host.connect(ListenKind::Terms), host.connect(ListenKind::Bert)];
    held[0].write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    held[1].write_all(b"\0\0\0\x02\x83\x6a").unwrap();
    for socket in &mut held {
        socket.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(asked(host.connect(ListenKind::Terms)), "");
    drop(held);
}

#[test]
fn a_server_that_stops_answers_the_request_that_is_there_and_takes_no_more() {
    let host = Host::start(|_| {});
    let mut kept = host.connect(ListenKind::Terms);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    host.runtime.block_on(host.server.shutdown());
    let _ = kept.read_to_end(&mut Vec::new());
    assert!(TcpStream::connect(host.at(ListenKind::Terms)).is_err() || asked(&kept).is_empty());
}
