//! A blocking client that says whatever it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use socket2::{Domain, Socket, Type};

/// All passwords.
pub(crate) const PASSWORD: &str = "secret";

/// A server that takes longer on a busy machine has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// As long as a word may take while others flood the server, on a busy machine: one that had to wait for them takes longer.
pub(crate) const WORD_MAX: Duration = Duration::from_secs(10);

pub(crate) const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
    taken: usize,
    /// The bound address.
    pub(crate) jid: String,
}

/// What comes from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Header(String),
    Element(String),
    /// `</stream:stream>`
    End,
    /// The connection was closed.
    Closed,
    /// Not in time.
    Nothing,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from(TcpStream::connect(address).unwrap())
    }

    /// With a receive buffer of so many bytes, from this local address.
    pub(crate) fn connect_from(address: SocketAddr, from: [u8; 4], receive_bytes: Option<usize>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::from(TcpStream::from(socket))
    }

    /// Sends; a server that has closed meanwhile has said why, which stands to be read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.socket.write_all(bytes.as_ref()) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("cannot send: {error}")
            }
            _ => {}
        }
    }

    pub(crate) fn next(&mut self) -> Got {
        self.next_within(PATIENCE)
    }

    pub(crate) fn next_within(&mut self, time: Duration) -> Got {
        let deadline = Instant::now() + time;
        loop {
            if let Some((got, len)) = split(&self.input[self.taken..]) {
                self.taken += len;
                if self.taken == self.input.len() {
                    self.input.clear();
                    self.taken = 0;
                }
                return got;
            }
            self.input.drain(..std::mem::take(&mut self.taken));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Nothing;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut part = [0; 64 * 1024];
            match self.socket.read(&mut part) {
                Ok(0) => return Got::Closed,
                Ok(read) => self.input.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Got::Closed,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("cannot read: {error}"),
            }
        }
    }

    pub(crate) fn element(&mut self) -> String {
        match self.next() {
            Got::Element(element) => element,
            other => panic!("{other:?} instead of an element"),
        }
    }

    /// The next element that has all of these; others are passed over.
    pub(crate) fn wait_for(&mut self, parts: &[&str]) -> String {
        loop {
            match self.next() {
                Got::Element(element) if parts.iter().all(|part| element.contains(part)) => return element,
                Got::Element(_) => {}
                other => panic!("{other:?} instead of {parts:?}"),
            }
        }
    }

    /// Opens a stream; the features.
    pub(crate) fn open(&mut self) -> String {
        self.send(HEADER);
        match self.next() {
            Got::Header(_) => self.element(),
            other => panic!("{other:?} instead of a header"),
        }
    }

    pub(crate) fn authenticate(&mut self, user: &str) {
        self.open();
        self.send(plain(user));
        assert!(self.element().starts_with("<success"));
    }

    pub(crate) fn login(&mut self, user: &str, resource: &str) {
        self.authenticate(user);
        self.open();
        self.bind(resource);
    }

    pub(crate) fn bind(&mut self, resource: &str) {
        self.send(bind(resource));
        let answer = self.element();
        assert!(answer.contains("type='result'"), "{answer}");
        self.jid = format!("{}</jid>", answer.split("<jid>").nth(1).unwrap()).split('<').next().unwrap().to_owned();
    }

    /// Sends a message and waits until `other` has it; how long that took.
    pub(crate) fn chat(&mut self, other: &mut Self, text: &str) -> Duration {
        let since = Instant::now();
        self.send(format!("<message to='{}' type='chat'><body>{text}</body></message>", other.jid));
        other.wait_for(&["<message", &format!("<body>{text}</body>")]);
        since.elapsed()
    }

    /// Waits for the stream error; the closing tag and the end of the connection must follow. Gives the error.
    pub(crate) fn ends_with(&mut self, condition: &str) -> String {
        let error = loop {
            match self.next() {
                Got::Element(element) if element.starts_with("<stream:error") => break element,
                Got::Element(_) | Got::Header(_) => {}
                other => panic!("{other:?} instead of the stream error {condition}"),
            }
        };
        let expected = format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'");
        assert!(error.contains(&expected), "{error} instead of {condition}");
        assert_eq!(self.next(), Got::End);
        assert_eq!(self.next(), Got::Closed);
        error
    }

    /// Waits for the end of the connection, whatever was said before.
    pub(crate) fn is_closed(&mut self) {
        loop {
            match self.next() {
                Got::Closed => return,
                Got::Nothing => panic!("the connection is not closed"),
                _ => {}
            }
        }
    }
}

impl From<TcpStream> for Client {
    fn from(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, input: Vec::new(), taken: 0, jid: String::new() }
    }
}

pub(crate) fn plain(user: &str) -> String {
    let data = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{data}</auth>")
}

pub(crate) fn bind(resource: &str) -> String {
    format!(
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
    )
}

/// The first header, element or closing tag, and its length.
fn split(input: &[u8]) -> Option<(Got, usize)> {
    let start = input.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let rest = &input[start..];
    let text = |len: usize| String::from_utf8(rest[..len].to_vec()).unwrap();
    let first = tag(rest)?;
    if rest.starts_with(b"<?xml") {
        let (got, len) = split(&rest[first..])?;
        return Some((got, start + first + len));
    }
    if rest.starts_with(b"<stream:stream") {
        return Some((Got::Header(text(first)), start + first));
    }
    if rest.starts_with(b"</") {
        assert_eq!(text(first), "</stream:stream>");
        return Some((Got::End, start + first));
    }
    let (mut depth, mut at) = (0, 0);
    loop {
        at += rest[at..].iter().position(|byte| *byte == b'<')?;
        let len = tag(&rest[at..])?;
        let is_closing = rest[at + 1] == b'/';
        let is_empty = rest[at + len - 2] == b'/';
        at += len;
        match (is_closing, is_empty) {
            (true, _) => depth -= 1,
            (false, false) => depth += 1,
            (false, true) => {}
        }
        if depth == 0 {
            return Some((Got::Element(text(at)), start + at));
        }
    }
}

/// The length of the tag at the beginning.
fn tag(input: &[u8]) -> Option<usize> {
    let mut quote = 0;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'>' if quote == 0 => return Some(at + 1),
            b'\'' | b'"' if quote == 0 => quote = *byte,
            byte if *byte == quote => quote = 0,
            _ => {}
        }
    }
    None
}
