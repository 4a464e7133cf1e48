//! RFC 6120 §4 from the client's side: a blocking connection that opens streams, negotiates TLS, logs in and binds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::sasl::{Exchange, MECHANISMS};
use super::script::Login;
use super::xml::{BIND, CLIENT, Incoming, Node, SASL, STREAM, StreamReader, TLS, escape};

/// All passwords of all conversations.
pub(crate) const PASSWORD: &str = "secret";
/// A server that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Connection {
    transport: Transport,
    reader: StreamReader,
    domain: String,
    /// What was sent and received, for the report of a failure.
    pub(crate) transcript: Vec<String>,
    pub(crate) closed: bool,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Gone,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, domain: &str) -> Result<Self, String> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| format!("{address}: {error}"))?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        Ok(Self {
            transport: Transport::Plain(socket),
            reader: StreamReader::new(),
            domain: domain.to_owned(),
            transcript: Vec::new(),
            closed: false,
        })
    }

    /// Makes the plain connection a TLS connection.
    pub(crate) fn start_tls(&mut self) -> Result<(), String> {
        let Transport::Plain(socket) = std::mem::replace(&mut self.transport, Transport::Gone) else {
            return Err("the connection has TLS already".into());
        };
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(self.domain.clone()).map_err(|error| error.to_string())?;
        let session = ClientConnection::new(Arc::new(tls_config()), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| format!("TLS: {error}"))?;
        }
        self.transport = Transport::Tls(Box::new(stream));
        self.transcript.push("  (TLS established)".into());
        Ok(())
    }

    /// Whether the server has begun the stream that it would have to end.
    pub(crate) fn header_seen(&self) -> bool {
        self.reader.header_seen
    }

    pub(crate) fn send(&mut self, text: &str) -> Result<(), String> {
        let shown: String = text.chars().take(2000).collect();
        self.transcript.push(format!("> {}", shown.replace('\n', "\n> ")));
        let bytes = text.as_bytes();
        let outcome = match &mut self.transport {
            Transport::Plain(socket) => socket.write_all(bytes),
            Transport::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Transport::Gone => return Err("the connection is gone".into()),
        };
        match outcome {
            Ok(()) => Ok(()),
            // The server may have said why it closes: that stands to be read.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            Err(error) => Err(format!("cannot send: {error}")),
        }
    }

    /// The next thing that comes before the deadline.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<Option<Incoming>, String> {
        loop {
            if let Some(incoming) = self.reader.ready.pop_front() {
                self.transcript.push(match &incoming {
                    Incoming::Header(node) => format!("< (stream header) {node}"),
                    Incoming::Element(node) => format!("< {}", node.to_string().replace('\n', "\n< ")),
                    Incoming::End => "< </stream:stream>".into(),
                    Incoming::Closed(None) => "< (closed)".into(),
                    Incoming::Closed(Some(why)) => format!("< (closed: {why})"),
                });
                return Ok(Some(incoming));
            }
            if self.closed {
                return Ok(Some(Incoming::Closed(None)));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Ok(None);
            };
            self.read_some(left)?;
        }
    }

    fn read_some(&mut self, left: Duration) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        let outcome = match &mut self.transport {
            Transport::Plain(socket) => {
                socket.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
                socket.read(&mut buffer)
            }
            Transport::Tls(stream) => {
                stream.sock.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
                stream.read(&mut buffer)
            }
            Transport::Gone => return Err("the connection is gone".into()),
        };
        match outcome {
            Ok(0) => self.end(None),
            Ok(count) => self.reader.feed(&buffer[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                // A peer that closes while bytes are under way resets the connection; also closed, also without close_notify.
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => self.end(None),
                _ => self.end(Some(error.to_string())),
            },
        }
        Ok(())
    }

    fn end(&mut self, why: Option<String>) {
        self.closed = true;
        self.reader.ready.push_back(Incoming::Closed(why));
    }

    /// Puts back what came too early, in its order.
    pub(crate) fn put_back(&mut self, incoming: Vec<Incoming>) {
        for one in incoming.into_iter().rev() {
            self.reader.ready.push_front(one);
        }
    }

    pub(crate) fn next_element(&mut self, what: &str) -> Result<Node, String> {
        match self.next(Instant::now() + PATIENCE)? {
            Some(Incoming::Element(node)) => Ok(node),
            Some(Incoming::End) => Err(format!("expected {what}, the server ended the stream")),
            Some(Incoming::Closed(why)) => {
                Err(format!("expected {what}, the connection was closed {}", why.unwrap_or_default()))
            }
            Some(Incoming::Header(node)) => Err(format!("expected {what}, found a stream header: {node}")),
            None => Err(format!("expected {what}, nothing came for {} s", PATIENCE.as_secs())),
        }
    }

    /// Sends a stream header; what comes next is read as a new stream.
    pub(crate) fn send_header(&mut self) -> Result<(), String> {
        self.new_stream();
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xml:lang='en' xmlns='{CLIENT}' xmlns:stream='{STREAM}'>",
            escape(&self.domain)
        ))
    }

    /// The next bytes begin with a stream header. What was ready but not read stays.
    pub(crate) fn new_stream(&mut self) {
        self.reader.restart();
    }

    pub(crate) fn next_header(&mut self) -> Result<Node, String> {
        match self.next(Instant::now() + PATIENCE)? {
            Some(Incoming::Header(node)) => Ok(node),
            Some(Incoming::Element(node)) => Err(format!("expected a stream header, found {node}")),
            Some(Incoming::End | Incoming::Closed(_)) => Err("expected a stream header, the server closed".into()),
            None => Err("expected a stream header, nothing came".into()),
        }
    }

    /// Sends a header, reads the server's header and features.
    pub(crate) fn open_stream(&mut self) -> Result<Node, String> {
        self.send_header()?;
        self.next_header()?;
        let features = self.next_element("stream features")?;
        if !features.is(STREAM, "features") {
            return Err(format!("expected stream features, found {features}"));
        }
        Ok(features)
    }

    /// RFC 6120 §5.4, up to the handshake.
    pub(crate) fn negotiate_tls(&mut self) -> Result<(), String> {
        self.send(&format!("<starttls xmlns='{TLS}'/>"))?;
        let answer = self.next_element("<proceed/>")?;
        if !answer.is(TLS, "proceed") {
            return Err(format!("expected <proceed/>, found {answer}"));
        }
        self.start_tls()?;
        self.new_stream();
        Ok(())
    }

    /// From nothing to the features after SASL.
    pub(crate) fn log_in(&mut self, local: &str, how: &Login) -> Result<Node, String> {
        let mut features = self.open_stream()?;
        if how.tls {
            if features.child(TLS, "starttls").is_none() {
                return Err(format!("STARTTLS is not offered: {features}"));
            }
            self.negotiate_tls()?;
            features = self.open_stream()?;
        }
        let offered: Vec<String> = features
            .child(SASL, "mechanisms")
            .map(|list| list.children.iter().map(|mechanism| mechanism.text.trim().to_owned()).collect())
            .unwrap_or_default();
        let mechanism = match &how.mechanism {
            Some(wanted) if offered.contains(wanted) => wanted.as_str(),
            Some(wanted) => return Err(format!("{wanted} is not among the mechanisms offered: {offered:?}")),
            None => MECHANISMS
                .iter()
                .find(|known| offered.iter().any(|mechanism| mechanism == *known))
                .ok_or_else(|| format!("no mechanism in common with {offered:?}"))?,
        };
        let (mut exchange, first) = Exchange::start(mechanism, local, PASSWORD)?;
        self.send(&format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>"))?;
        loop {
            let answer = self.next_element("SASL's next step")?;
            match answer.name.1.as_str() {
                "challenge" => {
                    let response = exchange.respond(&answer.text, PASSWORD)?;
                    self.send(&format!("<response xmlns='{SASL}'>{response}</response>"))?;
                }
                "success" => {
                    exchange.finish(&answer.text)?;
                    break;
                }
                _ => return Err(format!("{mechanism}: login refused: {answer}")),
            }
        }
        self.open_stream()
    }

    /// RFC 6120 §7; gives the full JID.
    pub(crate) fn bind(&mut self, resource: Option<&str>) -> Result<String, String> {
        let resource =
            resource.map(|resource| format!("<resource>{}</resource>", escape(resource))).unwrap_or_default();
        self.send(&format!("<iq type='set' id='bind'><bind xmlns='{BIND}'>{resource}</bind></iq>"))?;
        let answer = self.next_element("the result of binding")?;
        answer
            .child(BIND, "bind")
            .filter(|_| answer.attr("type") == Some("result") && answer.attr("id") == Some("bind"))
            .and_then(|bind| bind.child(BIND, "jid"))
            .map(|jid| jid.text.trim().to_owned())
            .ok_or_else(|| format!("cannot bind: {answer}"))
    }

    /// Ends the connection without a word.
    pub(crate) fn drop_connection(&mut self) {
        let socket = match &self.transport {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => &stream.sock,
            Transport::Gone => return,
        };
        // An error only says that it is closed already.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        self.transport = Transport::Gone;
        self.closed = true;
        self.transcript.push("  (connection dropped)".into());
    }
}

fn tls_config() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// The server under test makes its own certificate: its signature is checked, its issuer is not.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
