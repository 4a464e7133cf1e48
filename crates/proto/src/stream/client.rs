//! RFC 6120 §4–§7: a client's stream as the server sees it, without I/O.
//!
//! Bytes go in by [`ClientStream::next`], which yields events one at a time; what is to be written is collected and
//! taken by [`ClientStream::take_output`]. Where the stream needs something that is not its own (a host's
//! policy, keys, a resource) it yields an event and waits for the matching answer; feed it no
//! bytes until then. The state of negotiation is boxed and dropped when a resource is bound.

mod authentication;
mod binding;
mod sasl2;

use super::event::{Acceptance, Event, Opening, ResumeFailure};
use super::features::{self, StartTls};
use crate::sasl::Exchange;
use crate::sasl::sasl2::Authenticate;
use crate::xml::{Element, Kind, Stanza, StreamHeader, Token, Tokenizer, XmlLimits};
use crate::{BareJid, Jid, StanzaCondition, StanzaError, StreamCondition, StreamError, ns};

/// Wrong passwords on one stream after which it ends: RFC 6120 §6.4.5 allows two to five retries.
const AUTHENTICATION_FAILURES_MAX: u8 = 6;

/// Attempts to authenticate on one stream, whatever becomes of them; one more ends it. Each may cost a look into the store.
const ATTEMPTS_MAX: u8 = 32;

/// The receiving side of one client-to-server stream.
#[derive(Debug)]
pub struct ClientStream {
    tokenizer: Tokenizer,
    output: Vec<u8>,
    state: State,
    /// The state of negotiation; gone once a resource is bound.
    negotiation: Option<Box<Negotiation>>,
    /// Whether our header was written since the last (re)start.
    header_sent: bool,
    /// Whether nothing has come since the last restart.
    restarted: bool,
    /// The language of stanzas that name none (§8.1.5).
    lang: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A header must come next.
    Header,
    /// The caller owes an answer.
    Waiting,
    /// Features were sent; the peer chooses.
    Negotiating,
    /// A SASL response must come next.
    Authenticating,
    /// A resource is bound.
    Bound,
    /// Our closing tag was written.
    Closed,
}

#[derive(Debug, Default)]
struct Negotiation {
    secure: bool,
    /// XEP-0484: whether the peer's bytes are early data of TLS.
    early: bool,
    account: Option<BareJid>,
    acceptance: Option<Acceptance>,
    exchange: Option<(Exchange, String)>,
    success: Option<Vec<u8>>,
    /// XEP-0388: what the peer asked for, while it authenticates by that profile.
    sasl2: Option<Box<Authenticate>>,
    /// XEP-0388: a success of which the peer has not been told.
    success2: Option<Box<sasl2::Success>>,
    /// XEP-0480: what the peer has yet to do.
    task: Option<sasl2::Task>,
    /// XEP-0509: what the features are called that the peer was shown.
    config_version: Option<String>,
    /// Wrong passwords.
    failures: u8,
    /// Attempts to authenticate.
    attempts: u8,
    bind_id: Option<String>,
    domain: Option<String>,
    /// Whom the peer's last header claimed to be from, as it is repeated to it (§4.7.2).
    from: Option<BareJid>,
    /// From which the ids of this connection's streams are made.
    id: String,
    streams: u8,
    host: String,
}

impl ClientStream {
    /// A stream on a fresh connection; `secure` where TLS is in place already (XEP-0368).
    ///
    /// `id` is fresh and unguessable (§4.7.3), printable without XML's special characters; `host` speaks for the server until the peer has named a served domain.
    pub fn new(limits: XmlLimits, secure: bool, id: String, host: String) -> Self {
        Self {
            tokenizer: Tokenizer::new(limits),
            output: Vec::new(),
            state: State::Header,
            negotiation: Some(Box::new(Negotiation { secure, id, host, ..Negotiation::default() })),
            header_sent: false,
            restarted: false,
            lang: None,
        }
    }

    /// Whether there is something to take.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes what is to be written. Leaves no buffer behind.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether our closing tag was written: nothing more may be.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the caller owes an answer to the last event.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether a resource is bound.
    pub fn is_bound(&self) -> bool {
        self.state == State::Bound
    }

    /// Takes bytes from the front of `input` up to the next event. `nonce` yields fresh printable randomness for SASL.
    pub fn next(&mut self, input: &mut &[u8], nonce: &mut dyn FnMut() -> String) -> Option<Event> {
        while !matches!(self.state, State::Waiting | State::Closed) {
            if self.restarted {
                // Some clients end `<auth/>` with a newline, which then precedes the next stream's XML declaration.
                *input = input.trim_ascii_start();
                if input.is_empty() {
                    return None;
                }
                self.restarted = false;
            }
            let token = match self.tokenizer.next(input) {
                Ok(Some(token)) => token,
                Ok(None) => return None,
                Err(error) => return Some(self.failed(error.into())),
            };
            let event = match token {
                Token::StreamStart(header) => Some(self.header(*header)),
                Token::StreamEnd => Some(self.close()),
                Token::Stanza(stanza) if self.state == State::Bound => Some(self.established(stanza)),
                Token::Stanza(stanza) => self.negotiate(&stanza, nonce),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Whether the next bytes are early data of TLS (RFC 8446 §2.3): anybody may have sent them again. Nobody logs in by them but with a
    /// token and a count (XEP-0484 §3.4, XEP-0388 §3).
    pub fn set_early(&mut self, early: bool) {
        if let Some(negotiation) = &mut self.negotiation {
            negotiation.early = early;
        }
    }

    /// Ends the stream with an error, of which the peer is told (§4.9.1.1), preceded by our header where it has not been sent.
    pub fn fail(&mut self, error: StreamError) -> StreamError {
        if self.state != State::Closed {
            if !self.header_sent {
                self.write_header();
            }
            error.write(&mut self.output);
            self.output.extend_from_slice(b"</stream:stream>");
            self.state = State::Closed;
        }
        error
    }

    /// Ends the stream in peace (§4.4).
    pub fn close(&mut self) -> Event {
        if self.state != State::Closed {
            if !self.header_sent {
                self.write_header();
            }
            self.output.extend_from_slice(b"</stream:stream>");
            self.state = State::Closed;
        }
        Event::Closed
    }

    /// Answers [`Event::Opened`].
    pub fn accept(&mut self, acceptance: Acceptance) {
        self.negotiation().domain = Some(acceptance.domain.clone());
        self.write_header();
        self.tokenizer.set_limits(acceptance.xml);
        let negotiation = self.negotiation();
        let features = match negotiation.account {
            None => negotiation.name_features(features::before_authentication(&acceptance), &acceptance),
            Some(_) => features::after_authentication(&acceptance.features, acceptance.limits),
        };
        negotiation.acceptance = Some(acceptance);
        self.write_features(&features);
        self.state = State::Negotiating;
    }

    /// Answers [`Event::StartTls`]: a new header must come (§5.4.3.3).
    pub fn tls_started(&mut self) {
        let negotiation = self.negotiation();
        negotiation.secure = true;
        // §5.4.3.3: what was said in clear does not count.
        negotiation.exchange = None;
        negotiation.sasl2 = None;
        self.restart();
    }

    /// Answers [`Event::Register`] with the result or the error; the peer may go on.
    pub fn registration_answered(&mut self, answer: Option<&Stanza>) {
        if let Some(answer) = answer {
            answer.write(None, &mut self.output);
        }
        self.state = State::Negotiating;
    }

    fn header(&mut self, header: StreamHeader) -> Event {
        // First, since an error too is preceded by a header that says so.
        let from = header.from.as_deref().and_then(|from| Jid::parse(from).ok());
        self.negotiation().from = from.map(|from| from.to_bare());
        // §4.8.1: the stream element's namespace is fixed; §4.8.2: so is the content's.
        if header.ns != ns::STREAM || header.name != "stream" {
            return self.failed(StreamCondition::InvalidNamespace.into());
        }
        if header.content_ns != ns::CLIENT {
            let text = "this port serves clients: the default namespace must be jabber:client";
            return self.failed(StreamError::new(StreamCondition::InvalidNamespace, text));
        }
        // §4.7.5: no version means 0.9, which has no features and no SASL.
        let major = header.version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major.is_none_or(|major| major < 1) {
            let text = "XMPP 1.0 is required";
            return self.failed(StreamError::new(StreamCondition::UnsupportedVersion, text));
        }
        self.lang = header.lang.as_deref().filter(|lang| !lang.is_empty()).map(Box::from);
        let negotiation = self.negotiation();
        // The host cannot change between the streams of one connection (§4.7.2).
        if let (Some(before), Some(now)) = (&negotiation.domain, &header.to)
            && negotiation.account.is_some()
            && !before.eq_ignore_ascii_case(now)
            && crate::jid::parse_domain(now).as_ref() != Ok(before)
        {
            return self.failed(StreamCondition::HostUnknown.into());
        }
        let opening = Opening {
            to: header.to,
            from: header.from,
            lang: header.lang,
            account: negotiation.account.clone(),
            secure: negotiation.secure,
        };
        self.state = State::Waiting;
        Event::Opened(opening)
    }

    fn negotiate(&mut self, element: &Stanza, nonce: &mut dyn FnMut() -> String) -> Option<Event> {
        let secure = self.negotiation().secure;
        let starttls = self.negotiation().acceptance.as_ref().map_or(StartTls::No, |acceptance| acceptance.starttls);
        let authenticated = self.negotiation().account.is_some();
        if element.ns() == ns::SASL2 && !authenticated {
            return self.authenticate2(element, starttls, nonce);
        }
        if self.negotiation().early && !authenticated {
            let text = "as early data of TLS there may be a login with a token, and what is said after it";
            return Some(self.failed(StreamError::new(StreamCondition::PolicyViolation, text)));
        }
        // XEP-0388 §2.4: nothing else may come while it is in progress.
        if self.state == State::Authenticating && self.negotiation().sasl2.is_some() {
            return Some(self.failed(StreamCondition::NotAuthorized.into()));
        }
        match (element.name(), element.ns()) {
            ("starttls", ns::TLS) => {
                if secure || starttls == StartTls::No || authenticated {
                    Element::new("failure", ns::TLS).write(ns::STREAM, &mut self.output);
                    return Some(self.close());
                }
                Element::new("proceed", ns::TLS).write(ns::STREAM, &mut self.output);
                self.state = State::Waiting;
                Some(Event::StartTls)
            }
            (_, ns::SASL) if !authenticated => self.authenticate(element, starttls, nonce),
            ("iq", ns::CLIENT) if authenticated => self.bind(element),
            ("iq", ns::CLIENT)
                if self.state == State::Negotiating && starttls != StartTls::Required && asks_to_register(element) =>
            {
                self.register(element)
            }
            ("resume", ns::SM) if authenticated => {
                let resume = element.element();
                let h = resume.attr("h").and_then(|h| h.parse().ok());
                let (Some(previd), Some(h)) = (resume.attr("previd"), h) else {
                    self.resume_failed(&ResumeFailure { condition: StanzaCondition::BadRequest, h: None });
                    return None;
                };
                self.state = State::Waiting;
                Some(Event::Resume { previd: previd.to_owned(), h })
            }
            // XEP-0198 §3: stream management can be enabled only after a resource is bound.
            (_, ns::SM) if authenticated => {
                self.resume_failed(&ResumeFailure { condition: StanzaCondition::UnexpectedRequest, h: None });
                None
            }
            // §4.9.3.12: whatever else comes before authentication or binding is not authorized.
            _ if element.kind() != Kind::Other || !authenticated => {
                Some(self.failed(StreamCondition::NotAuthorized.into()))
            }
            _ => Some(self.failed(StreamCondition::UnsupportedStanzaType.into())),
        }
    }

    fn register(&mut self, iq: &Stanza) -> Option<Event> {
        if self.negotiation().acceptance.as_ref().is_some_and(|acceptance| acceptance.registration) {
            self.state = State::Waiting;
            return Some(Event::Register(iq.clone()));
        }
        // XEP-0077 §3.1 asks for this answer rather than for the end of the stream. It is not given for ever.
        if let Some(answer) = StanzaError::from(StanzaCondition::ServiceUnavailable).reply_to(iq) {
            answer.write(None, &mut self.output);
        }
        self.count_failure()
    }

    fn restart(&mut self) {
        self.tokenizer.restart();
        self.state = State::Header;
        self.header_sent = false;
        self.restarted = true;
    }

    fn failed(&mut self, error: StreamError) -> Event {
        Event::Failed(self.fail(error))
    }

    fn write(&mut self, element: &Element) {
        element.write(ns::CLIENT, &mut self.output);
    }

    fn write_header(&mut self) {
        let negotiation = self.negotiation();
        negotiation.streams = negotiation.streams.wrapping_add(1);
        let id = format!("{}{}", negotiation.id, negotiation.streams);
        let from = negotiation.domain.as_ref().unwrap_or(&negotiation.host);
        let mut header = Element::new("stream", ns::CLIENT).with_attr("from", from);
        // §4.7.2: `to` where the peer said who it is, and only there.
        if let Some(to) = &negotiation.from {
            header.set_attr("to", to);
        }
        let header =
            header.with_attr("id", id).with_attr("version", "1.0").with_attr("xml:lang", "en").to_xml(ns::CLIENT);
        // The element is written empty: `<stream …/>`. Its attributes, escaped, are what the header needs.
        let attributes = header.trim_start_matches("<stream").trim_end_matches("/>");
        self.output.extend_from_slice(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='");
        self.output.extend_from_slice(ns::STREAM.as_bytes());
        self.output.push(b'\'');
        self.output.extend_from_slice(attributes.as_bytes());
        self.output.push(b'>');
        self.header_sent = true;
    }

    /// Stream features with the prefix that RFC 6120 shows: some clients look for `stream:features` by its name.
    fn write_features(&mut self, features: &Element) {
        self.output.extend_from_slice(b"<stream:features>");
        for feature in features.children() {
            feature.write(ns::STREAM, &mut self.output);
        }
        self.output.extend_from_slice(b"</stream:features>");
    }

    fn negotiation(&mut self) -> &mut Negotiation {
        self.negotiation.get_or_insert_default()
    }
}

/// Whether a stanza is a question or a wish about registration (XEP-0077), or shows an invite for it (XEP-0445).
fn asks_to_register(iq: &Stanza) -> bool {
    matches!(iq.type_().as_deref(), Some("get" | "set"))
        && (iq.child("query", ns::REGISTER).is_some() || iq.child("preauth", ns::INVITE_TOKEN).is_some())
}
