//! A term service on a free port, and a client that sends bytes as they are.

#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use magpie_terms::Service;
use magpie_terms::config::Terms;
use magpie_terms::functions::Functions;
use magpie_terms::sources::Source;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A service that runs until it is dropped.
pub struct Running {
    pub http: SocketAddr,
    pub bert: SocketAddr,
    pub service: Arc<Service>,
    stop: watch::Sender<bool>,
    _runtime: Runtime,
}

pub fn start(settings: Terms) -> Running {
    start_with(settings, Functions::default(), Vec::new())
}

pub fn start_with(settings: Terms, functions: Functions, sources: Vec<(String, Arc<dyn Source>)>) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = Arc::new(Service::new(settings, functions, sources).unwrap());
    let stop = watch::Sender::new(false);
    let listen = || {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        (listener.local_addr().unwrap(), listener)
    };
    let ((http, web), (bert, calls)) = (listen(), listen());
    let (stopping, of_web) = (stop.subscribe(), Arc::clone(&service));
    runtime.spawn(async move {
        while let Ok((socket, peer)) = web.accept().await {
            tokio::spawn(magpie_terms::http::serve(Arc::clone(&of_web), socket, peer, stopping.clone()));
        }
    });
    let (stopping, of_calls) = (stop.subscribe(), Arc::clone(&service));
    runtime.spawn(async move {
        while let Ok((socket, peer)) = calls.accept().await {
            let (service, stopping) = (Arc::clone(&of_calls), stopping.clone());
            tokio::spawn(async move { magpie_terms::bert::serve(&service, socket, peer, stopping).await });
        }
    });
    Running { http, bert, service, stop, _runtime: runtime }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub is_chunked: bool,
}

impl Answer {
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (there, value) = line.split_once(": ")?;
            there.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Running {
    pub fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "", b"")
    }

    pub fn post(&self, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.ask("POST", target, headers, body)
    }

    /// `headers` are lines that end with CR LF.
    pub fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let mut socket = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        // Who refuses a body need not read it.
        let _ = socket.write_all(body);
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
        parse(&bytes)
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

pub fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("there is a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &bytes[end + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { dechunked(rest) } else { rest.to_vec() };
    Answer { status, head, body, is_chunked }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk has a size");
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// A term in Erlang's syntax as bytes.
pub fn term(text: &str) -> Vec<u8> {
    magpie_etf::encode(magpie_etf::text::parse(text).unwrap().root())
}

/// Terms with their lengths before them.
pub fn prefixed<'a>(terms: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let with_length = |term: &[u8]| [&u32::try_from(term.len()).unwrap().to_be_bytes(), term].concat();
    terms.into_iter().flat_map(with_length).collect()
}
