//! An XMPP session by hand, to see what commands do to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A stream on a listener that does without TLS.
pub(crate) struct Session {
    stream: TcpStream,
    /// What came and was not waited for yet.
    rest: String,
}

impl Session {
    /// Opens a stream to `localhost`.
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut session = Self { stream, rest: String::new() };
        session.start();
        session
    }

    fn start(&mut self) {
        self.send(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>",
        );
        self.wait_for("</stream:features>");
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads up to this text, and gives what came until then.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.rest.find(text) {
                let rest = self.rest.split_off(at + text.len());
                return std::mem::replace(&mut self.rest, rest);
            }
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).unwrap();
            assert!(read > 0, "the stream ended without {text}: {}", self.rest);
            self.rest.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
    }

    /// Tries PLAIN with a base64 message; whether it succeeded.
    pub(crate) fn log_in(&mut self, message: &str) -> bool {
        self.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>"));
        let answer = self.wait_for("urn:ietf:params:xml:ns:xmpp-sasl");
        if !answer.contains("<success") {
            return false;
        }
        self.wait_for(">");
        self.start();
        self.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        self.wait_for("</iq>");
        true
    }
}
