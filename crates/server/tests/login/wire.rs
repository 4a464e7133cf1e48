//! A client that counts: how often it waits for an answer before it can say more, and how many bytes go each way.

#[path = "../../src/listen/tls/tests/anyone.rs"]
mod anyone;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::xml::{Element, Token, Tokenizer, XmlLimits};
use rustls::client::{ClientConnection, Resumption};
use rustls::{ClientConfig, version};
use rustls_pki_types::ServerName;

use anyone::Anyone;

const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Wire {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// Whether something was said since the last answer.
    asked: bool,
    pub(crate) round_trips: RoundTrips,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// All that went out, as it was on the wire.
    record: Vec<u8>,
    /// How much of it went out before anything came back.
    first_flight_bytes: usize,
    tokenizer: Tokenizer,
    plain: Vec<u8>,
}

/// How often the client waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoundTrips {
    pub(crate) tcp: usize,
    pub(crate) tls: usize,
    pub(crate) xmpp: usize,
}

impl RoundTrips {
    pub(crate) fn all(self) -> usize {
        self.tcp + self.tls + self.xmpp
    }
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let limits = XmlLimits { stanza_bytes_max: 1 << 20, depth_max: 64, attributes_max: 64, elements_max: 4096 };
        Self {
            socket,
            tls: None,
            asked: false,
            round_trips: RoundTrips { tcp: 1, ..RoundTrips::default() },
            sent: 0,
            received: 0,
            record: Vec::new(),
            first_flight_bytes: 0,
            tokenizer: Tokenizer::new(limits),
            plain: Vec::new(),
        }
    }

    /// Shakes hands; what is said afterwards goes out with the end of the handshake.
    pub(crate) fn protect(&mut self, config: &Arc<ClientConfig>) {
        self.tls = Some(ClientConnection::new(Arc::clone(config), name()).unwrap());
        self.flush();
        while self.tls.as_ref().unwrap().is_handshaking() {
            self.read();
        }
    }

    /// Begins to shake hands and says this as early data, without waiting for anything.
    pub(crate) fn protect_and_say(&mut self, config: &Arc<ClientConfig>, early: &str) {
        let mut tls = ClientConnection::new(Arc::clone(config), name()).unwrap();
        let mut writer = tls.early_data().expect("there is a session that takes early data");
        writer.write_all(early.as_bytes()).unwrap();
        self.tls = Some(tls);
        self.flush();
    }

    pub(crate) fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().unwrap()
    }

    pub(crate) fn say(&mut self, text: &str) {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(text.as_bytes()).unwrap(),
            None => {
                self.socket.write_all(text.as_bytes()).unwrap();
                (self.sent, self.asked) = (self.sent + text.len(), true);
            }
        }
    }

    /// Opens a stream as juliet.
    pub(crate) fn open(&mut self, and: &str) {
        self.say(&format!("{}{and}", header()));
    }

    /// The next element.
    pub(crate) fn hear(&mut self) -> Element {
        self.hear_or_end().expect("the stream goes on")
    }

    /// The next element; `None` at the end of the stream.
    pub(crate) fn hear_or_end(&mut self) -> Option<Element> {
        self.flush();
        loop {
            let mut rest = &self.plain[..];
            let token = self.tokenizer.next(&mut rest).unwrap();
            let taken = self.plain.len() - rest.len();
            self.plain.drain(..taken);
            match token {
                Some(Token::Stanza(stanza)) => return Some(stanza.element()),
                Some(Token::StreamStart(_)) => {}
                Some(Token::StreamEnd) => return None,
                None => self.read(),
            }
        }
    }

    /// The server begins a new stream.
    pub(crate) fn restart(&mut self) {
        self.tokenizer.restart();
    }

    /// Whether a client that connects now could send early data.
    pub(crate) fn may_send_early_data(config: &Arc<ClientConfig>) -> bool {
        ClientConnection::new(Arc::clone(config), name()).unwrap().early_data().is_some()
    }

    /// What went out before anything came back.
    pub(crate) fn first_flight(&self) -> Vec<u8> {
        self.record[..self.first_flight_bytes].to_vec()
    }

    /// Sends bytes as they are, whatever they mean.
    pub(crate) fn say_as_it_is(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Whether bytes come back.
    pub(crate) fn gets_an_answer(&mut self) -> bool {
        self.socket.read(&mut [0; 64]).unwrap() > 0
    }

    fn flush(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        let before = self.record.len();
        while tls.wants_write() {
            tls.write_tls(&mut self.record).unwrap();
        }
        let bytes = &self.record[before..];
        if !bytes.is_empty() {
            self.socket.write_all(bytes).unwrap();
            (self.sent, self.asked) = (self.sent + bytes.len(), true);
        }
    }

    /// Waits for bytes. The client waits only where it has asked for something before.
    fn read(&mut self) {
        if std::mem::take(&mut self.asked) {
            match &self.tls {
                Some(tls) if tls.is_handshaking() => self.round_trips.tls += 1,
                _ => self.round_trips.xmpp += 1,
            }
        }
        if self.received == 0 {
            self.first_flight_bytes = self.record.len();
        }
        let mut bytes = [0; 16 * 1024];
        let read = self.socket.read(&mut bytes).unwrap();
        assert!(read > 0, "the server closed the connection");
        self.received += read;
        let Some(tls) = &mut self.tls else {
            self.plain.extend_from_slice(&bytes[..read]);
            return;
        };
        let mut records = &bytes[..read];
        while !records.is_empty() {
            tls.read_tls(&mut records).unwrap();
            let state = tls.process_new_packets().unwrap();
            let start = self.plain.len();
            self.plain.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut self.plain[start..]).unwrap();
        }
    }
}

pub(crate) fn header() -> &'static str {
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
     from='juliet@localhost' to='localhost' version='1.0' xml:lang='en'>"
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// A client's TLS; it keeps the sessions that it can resume.
pub(crate) fn tls_client() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    Arc::new(config)
}
