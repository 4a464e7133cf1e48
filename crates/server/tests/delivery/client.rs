//! As much of a client as the stress test needs: a socket, top-level elements as text, PLAIN, binding and XEP-0198.

use std::net::SocketAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a client waits for an answer that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a read brought.
#[derive(Debug)]
pub enum Heard {
    /// A whole element, or the beginning or the end of the stream.
    Element(String),
    /// Nothing in time.
    Nothing,
    /// The server's side is closed, or the connection is gone.
    Closed,
}

/// A socket that is read by element.
pub struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// Connects and authenticates; afterwards the server waits for `<bind/>` or `<resume/>`.
    pub async fn login(address: SocketAddr, user: &str) -> Option<Self> {
        Self::login_with(address, user, None).await
    }

    /// As [`Wire::login`], with a receive buffer of so many bytes.
    pub async fn login_with(address: SocketAddr, user: &str, receive_bytes: Option<u32>) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).ok()?;
        }
        let socket = timeout(PATIENCE, socket.connect(address)).await.ok()?.ok()?;
        let mut wire = Self { socket, input: Vec::new() };
        let plain = BASE64_STANDARD.encode(format!("\0{user}\0secret"));
        wire.open().await?;
        wire.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")).await;
        wire.expect("<success").await?;
        wire.open().await?;
        Some(wire)
    }

    async fn open(&mut self) -> Option<()> {
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";
        self.send(header).await;
        self.expect("<stream:features").await.map(drop)
    }

    /// Binds a resource.
    pub async fn bind(&mut self, resource: &str) -> Option<()> {
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        );
        self.send(&bind).await;
        self.expect("<iq").await.filter(|answer| answer.contains("result")).map(drop)
    }

    /// Writes; a peer that is gone is noticed by the next read.
    pub async fn send(&mut self, text: &str) {
        let _ = timeout(PATIENCE, self.socket.write_all(text.as_bytes())).await;
    }

    /// Reads until an element begins so.
    pub async fn expect(&mut self, beginning: &str) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.hear(end).await {
                Heard::Element(element) if element.starts_with(beginning) => return Some(element),
                Heard::Element(element) if element.starts_with("<stream:error") => return None,
                Heard::Element(_) => {}
                Heard::Nothing | Heard::Closed => return None,
            }
        }
    }

    /// The next element, if it comes in time.
    pub async fn hear(&mut self, until: Instant) -> Heard {
        loop {
            if let Some(length) = element_length(&self.input) {
                let element: Vec<u8> = self.input.drain(..length).collect();
                return Heard::Element(String::from_utf8(element).expect("the server speaks UTF-8"));
            }
            match timeout_at(until, self.socket.read_buf(&mut self.input)).await {
                Err(_) => return Heard::Nothing,
                Ok(Ok(0) | Err(_)) => return Heard::Closed,
                Ok(Ok(_)) => {}
            }
        }
    }
}

/// The length of the first element, once all of it is there. The server escapes `>` in text, and the test puts none into
/// attributes.
fn element_length(input: &[u8]) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let begin = at + input[at..].iter().position(|byte| *byte == b'<')?;
        let end = begin + input[begin..].iter().position(|byte| *byte == b'>')? + 1;
        let tag = &input[begin..end];
        at = end;
        if tag.starts_with(b"<?") {
            continue;
        }
        if tag.starts_with(b"<stream:stream") || tag.starts_with(b"</stream:stream") {
            return Some(at);
        }
        match (tag.starts_with(b"</"), tag.ends_with(b"/>")) {
            (true, _) => depth -= 1,
            (false, true) => {}
            (false, false) => depth += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The value of an attribute of the element itself.
pub fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let tag = element.split('>').next()?;
    for quote in ['\'', '"'] {
        let pattern = format!(" {name}={quote}");
        if let Some((_, rest)) = tag.split_once(&pattern) {
            return rest.split(quote).next();
        }
    }
    None
}

/// The name of the element.
pub fn name(element: &str) -> &str {
    element
        .trim_start_matches('<')
        .split(|c: char| c.is_whitespace() || c == '>' || c == '/')
        .next()
        .unwrap_or_default()
}
