//! RFC 6120 §4 to §7: a client's stream from its header to a session that is ready.
//!
//! Answers are looked at only as far as a client must: which feature is there, was it granted, what is the address.

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::sasl::{self, Keys, Mechanism, SaslError, Scram, Token};
use super::splitter::{attribute, first_child, name, text_of};

mod inline;

pub use inline::Login;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Not at all.
    #[default]
    Plain,
    /// RFC 6120 §5.
    Starttls,
    /// XEP-0368.
    Tls,
}

/// What every session of a run is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The domain that is logged in to.
    pub domain: String,
    /// How the connection is protected.
    pub security: Security,
    /// How the client proves who it is.
    pub mechanism: Mechanism,
    /// By which profile of SASL.
    #[serde(default)]
    pub login: Login,
    /// XEP-0198: acknowledgements, and a stream that can be resumed.
    pub acks: bool,
    /// XEP-0280: copies of what other sessions of the account send and receive.
    pub carbons: bool,
    /// RFC 6121 §2.2: asks for the roster.
    pub roster: bool,
    /// RFC 6121 §4.2: becomes available.
    pub presence: bool,
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The part before the `@`.
    pub username: String,
    /// Its password.
    pub password: String,
    /// The resource that is asked for.
    pub resource: String,
}

/// The place of a stream that broke, to be resumed (XEP-0198 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// What the server called the stream.
    pub id: String,
    /// Stanzas that were received on it.
    pub received: u32,
}

/// What the one who feeds the negotiation does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Waits for more.
    Wait,
    /// Makes the connection a TLS connection, then calls [`Negotiation::open`].
    StartTls,
    /// Has a session.
    Ready(Box<Ready>),
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Its full address, escaped as in an attribute; empty where a stream was resumed.
    pub jid: String,
    /// Acknowledgements are on, and the stream can be resumed by this name.
    pub stream: Option<String>,
    /// A stream was resumed, of which the server has received so many stanzas.
    pub resumed: Option<u32>,
    /// Stanzas sent since acknowledgements were asked for.
    pub sent: u32,
    /// Stanzas received since they are on.
    pub received: u32,
    /// With what the account logs in the next time (XEP-0484).
    pub token: Option<Token>,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RFC 6120 §6.5.
    #[error("the server refuses the login of {0}: {1}")]
    Login(String, String),
    /// RFC 6120 §4.9.
    #[error("stream error {0}")]
    Stream(String),
    /// The server does not offer what was asked for.
    #[error("the server does not offer {0}")]
    NotOffered(String),
    /// An answer that says no, or is none.
    #[error("the server answers {0} with {1}")]
    Answer(&'static str, String),
    /// SCRAM failed.
    #[error(transparent)]
    Sasl(#[from] SaslError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Features,
    Proceed,
    Authenticated,
    /// What was on offer comes behind a login that did not wait for it.
    FeaturesBehind,
    /// A login that does all at once.
    Inline,
    Resumed,
    Bound,
    Session,
    Last,
}

/// A stream that is not ready yet.
#[derive(Debug)]
pub struct Negotiation {
    account: Account,
    step: Step,
    encrypted: bool,
    authenticated: bool,
    scram: Option<Scram>,
    token: Option<Token>,
    resumption: Option<Resumption>,
    offers_acks: bool,
    needs_session: bool,
    /// Answers that are still to come in the last step.
    waiting: u8,
    ready: Ready,
}

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
const ACKS: &str = "urn:xmpp:sm:3";

impl Negotiation {
    /// Begins; [`open`](Self::open) is to be called once the connection is there, and protected where TLS comes first.
    pub fn new(account: Account, resumption: Option<Resumption>) -> Self {
        Self {
            account,
            step: Step::Features,
            encrypted: false,
            authenticated: false,
            scram: None,
            token: None,
            resumption,
            offers_acks: false,
            needs_session: false,
            waiting: 0,
            ready: Ready::default(),
        }
    }

    /// The account has a token, by which it logs in (XEP-0484).
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// The connection is protected from now on.
    pub fn protect(&mut self) {
        self.encrypted = true;
    }

    /// Sends the header.
    pub fn open(&mut self, profile: &Profile, out: &mut Vec<u8>) {
        self.step = Step::Features;
        put(
            out,
            &[
                "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='",
                &profile.domain,
                "'>",
            ],
        );
        if self.encrypted || profile.security != Security::Starttls {
            self.log_in_by_token(profile, out);
        }
    }

    /// An element came.
    pub fn element(
        &mut self,
        profile: &Profile,
        keys: &mut Keys,
        element: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Next, Refusal> {
        if name(element).ends_with(b"error") && name(element).starts_with(b"stream") {
            return Err(Refusal::Stream(condition(element)));
        }
        match self.step {
            Step::Features => self.features(profile, element, out)?,
            Step::Proceed if name(element) == b"proceed" => return Ok(Next::StartTls),
            Step::Proceed => return Err(answer("STARTTLS", element)),
            Step::Authenticated => self.authenticate(profile, keys, element, out)?,
            Step::FeaturesBehind if name(element).ends_with(b"features") => self.step = Step::Inline,
            Step::FeaturesBehind => return Err(answer("the header", element)),
            Step::Inline => self.inline(profile, keys, element, out)?,
            Step::Resumed => self.resumed(element, out)?,
            Step::Bound => self.bound(profile, element, out)?,
            // Others are free to write as soon as there is an address.
            Step::Session if name(element) != b"iq" => {}
            Step::Session => {
                granted("the session", element)?;
                self.last(profile, out);
            }
            Step::Last => self.granted_last(element)?,
        }
        match self.step == Step::Last && self.waiting == 0 {
            true => Ok(Next::Ready(Box::new(std::mem::take(&mut self.ready)))),
            false => Ok(Next::Wait),
        }
    }

    fn features(&mut self, profile: &Profile, features: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if !name(features).ends_with(b"features") {
            return Err(answer("the header", features));
        }
        let offers = |what: &str| memmem::find(features, what.as_bytes()).is_some();
        if profile.security == Security::Starttls && !self.encrypted {
            if !offers(TLS) {
                return Err(Refusal::NotOffered("STARTTLS".into()));
            }
            put(out, &["<starttls xmlns='", TLS, "'/>"]);
            self.step = Step::Proceed;
            return Ok(());
        }
        if !self.authenticated {
            return match profile.login {
                Login::Sasl => self.login(profile, features, out),
                Login::Sasl2 | Login::Fast => self.log_in_inline(profile, features, out),
            };
        }
        self.offers_acks = offers(ACKS);
        self.needs_session = requires_session(features);
        if let Some(Resumption { id, received }) = &self.resumption {
            put(out, &["<resume xmlns='", ACKS, "' previd='", id, "' h='", &received.to_string(), "'/>"]);
            self.step = Step::Resumed;
        } else {
            self.bind(out);
        }
        Ok(())
    }

    fn login(&mut self, profile: &Profile, features: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mechanism = profile.mechanism;
        if memmem::find(features, format!(">{}<", mechanism.name()).as_bytes()).is_none() {
            let hint = if memmem::find(features, TLS.as_bytes()).is_some() { " without TLS" } else { "" };
            return Err(Refusal::NotOffered(format!("the mechanism {}{hint}", mechanism.name())));
        }
        let Account { username, password, .. } = &self.account;
        let first = match mechanism {
            Mechanism::Plain => sasl::plain(username, password),
            _ => self.scram.insert(Scram::new(mechanism, username, sasl::nonce())).first(),
        };
        put(out, &["<auth xmlns='", SASL, "' mechanism='", mechanism.name(), "'>", &first, "</auth>"]);
        self.step = Step::Authenticated;
        Ok(())
    }

    fn authenticate(
        &mut self,
        profile: &Profile,
        keys: &mut Keys,
        element: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Account { username, password, .. } = &self.account;
        let text = |tag| text_of(element, tag).unwrap_or_default();
        match (name(element), &mut self.scram) {
            // Some servers send their last message as a challenge of its own (RFC 6120 §6.4.3).
            (b"challenge", Some(scram)) if scram.is_answered() => {
                scram.verify(text("challenge"))?;
                put(out, &["<response xmlns='", SASL, "'/>"]);
                return Ok(());
            }
            (b"challenge", Some(scram)) => {
                let response = scram.answer(keys, password, text("challenge"))?;
                put(out, &["<response xmlns='", SASL, "'>", &response, "</response>"]);
                return Ok(());
            }
            (b"success", scram) => {
                if let Some(scram) = scram
                    && !scram.is_verified()
                {
                    scram.verify(text("success"))?;
                }
            }
            (b"failure", _) => return Err(Refusal::Login(username.clone(), condition(element))),
            _ => return Err(answer("the login", element)),
        }
        self.authenticated = true;
        self.open(profile, out);
        Ok(())
    }

    fn resumed(&mut self, element: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        match name(element) {
            b"resumed" => {
                let count = attribute(element, b"h").and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
                let id = self.resumption.take().map(|resumption| resumption.id);
                self.ready = Ready { stream: id, resumed: Some(count.unwrap_or_default()), ..Ready::default() };
                self.step = Step::Last;
            }
            b"failed" => {
                self.resumption = None;
                self.bind(out);
            }
            _ => return Err(answer("<resume/>", element)),
        }
        Ok(())
    }

    fn bind(&mut self, out: &mut Vec<u8>) {
        put(
            out,
            &[
                "<iq type='set' id='bind'><bind xmlns='",
                BIND,
                "'><resource>",
                &self.account.resource,
                "</resource></bind></iq>",
            ],
        );
        self.step = Step::Bound;
    }

    fn bound(&mut self, profile: &Profile, element: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        granted("bind", element)?;
        let jid = text_of(element, "jid").ok_or_else(|| answer("bind", element))?;
        self.ready.jid = String::from_utf8_lossy(jid).into_owned();
        if self.needs_session {
            put(out, &["<iq type='set' id='session'><session xmlns='", SESSION, "'/></iq>"]);
            self.step = Step::Session;
        } else {
            self.last(profile, out);
        }
        Ok(())
    }

    /// All at once, as clients that care for round trips do.
    fn last(&mut self, profile: &Profile, out: &mut Vec<u8>) {
        self.step = Step::Last;
        if profile.acks {
            put(out, &["<enable xmlns='", ACKS, "' resume='true'/>"]);
            self.waiting += 1;
        }
        self.ready.sent = u32::from(profile.carbons) + u32::from(profile.roster) + u32::from(profile.presence);
        if profile.carbons {
            put(out, &["<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"]);
            self.waiting += 1;
        }
        if profile.roster {
            put(out, &["<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"]);
            self.waiting += 1;
        }
        if profile.presence {
            put(out, &["<presence/>"]);
        }
    }

    fn granted_last(&mut self, element: &[u8]) -> Result<(), Refusal> {
        if self.ready.stream.is_some() {
            self.ready.received += u32::from(is_stanza(element));
        }
        match name(element) {
            b"enabled" => self.ready.stream = Some(text(attribute(element, b"id").unwrap_or_default())),
            b"failed" => return Err(answer("<enable/>", element)),
            b"iq" if attribute(element, b"id") == Some(b"carbons") => granted("carbons", element)?,
            b"iq" if attribute(element, b"id") == Some(b"roster") => granted("the roster", element)?,
            // Others are free to write already.
            _ => return Ok(()),
        }
        self.waiting = self.waiting.saturating_sub(1);
        Ok(())
    }
}

/// Whether XEP-0198 counts this element.
pub fn is_stanza(element: &[u8]) -> bool {
    matches!(name(element), b"message" | b"presence" | b"iq")
}

/// RFC 3921 §3: the feature is there, and not marked as optional.
fn requires_session(features: &[u8]) -> bool {
    let Some(found) = memmem::find(features, SESSION.as_bytes()) else { return false };
    let rest = &features[found..];
    let tag_end = memchr::memchr(b'>', rest).unwrap_or(rest.len());
    if rest[..tag_end].ends_with(b"/") {
        return true;
    }
    let end = memmem::find(rest, b"</session").unwrap_or(rest.len());
    memmem::find(&rest[..end], b"<optional").is_none()
}

fn granted(what: &'static str, element: &[u8]) -> Result<(), Refusal> {
    match (name(element), attribute(element, b"type")) {
        (b"iq", Some(b"result")) => Ok(()),
        (b"iq", Some(b"error")) => {
            let error = memmem::find(element, b"<error").map_or(element, |found| &element[found..]);
            Err(Refusal::Answer(what, condition(error)))
        }
        _ => Err(answer(what, element)),
    }
}

fn answer(what: &'static str, element: &[u8]) -> Refusal {
    let shown = &element[..element.len().min(200)];
    Refusal::Answer(what, text(shown))
}

/// The condition of an error, with its text.
pub(crate) fn condition(error: &[u8]) -> String {
    let condition = text(first_child(error).unwrap_or(b"no condition"));
    match text_of(error, "text") {
        Some(said) if !said.is_empty() => format!("{condition} ({})", text(said)),
        _ => condition,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
