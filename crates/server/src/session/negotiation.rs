//! RFC 6120 §4–§7: from a fresh connection to a bound session.
//!
//! Answers what the stream asks: whether the host is served, which keys an account has, whether a resource is free. All of its state is
//! dropped when the session begins.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::sasl::SaslFailure;
use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::stream::{ClientStream, Event};
use magpie_proto::{BareJid, StreamCondition, StreamError};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::inline::Beginning;
use super::{Connection, Counts, Session, Takeover, UNSENT_BYTES_HIGH};
use crate::accounts::Proof;
use crate::config::TlsMode;
use crate::listen::transport::Transport;
use crate::mailbox::Mail;
use crate::metrics::Counted;
use crate::modules::fast::Device;
use crate::modules::invites::Invite;
use crate::modules::register::Stranger;
use crate::modules::sasl_upgrade::Upgrade;
use crate::registry::SessionHandle;
use crate::server::{Server, random_text};

mod authentication;
mod binding;
mod opening;

pub(super) use opening::after_auth;
use opening::before_auth;

/// What a listener demands of the connections that come in by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Whether STARTTLS must be used.
    pub tls: TlsMode,
    /// Whether TLS comes first (XEP-0368).
    pub direct: bool,
}

/// Serves one connection from its first byte to its last.
///
/// Negotiation and session are on the heap each for its own time, so that the task keeps no room for either.
pub fn serve(
    server: Arc<Server>,
    transport: Transport,
    gate: Gate,
    counts: Counts,
    negotiating: Counted,
) -> impl Future<Output = ()> + Send {
    let limits = server.config().limits.clone();
    let host = server.config().domains.first().cloned().unwrap_or_default();
    let stream = ClientStream::new(before_auth(&limits), gate.direct, random_text(12), host);
    let connection = Connection::new(transport, stream, server.buffers(), counts);
    go_on(Negotiation::new(&server, gate, connection, negotiating))
}

fn go_on(negotiation: Box<Negotiation>) -> impl Future<Output = ()> + Send {
    let negotiation = Box::pin(negotiation.run());
    async {
        if let Some(session) = negotiation.await {
            Box::pin(session.run()).await;
        }
    }
}

/// A session that has ended cannot take a connection over: its client must bind anew.
pub(super) fn refuse_takeover(server: &Arc<Server>, mut takeover: Takeover) {
    let failure = server.modules.stream_management.failure(&takeover.account, &takeover.previd);
    takeover.connection.resume_failed(&failure);
    let gate = Gate { tls: TlsMode::Optional, direct: false };
    let mut negotiation = Negotiation::new(server, gate, takeover.connection, server.deps.metrics.negotiating());
    negotiation.domain = takeover.account.domain().to_owned();
    negotiation.account = Some(takeover.account);
    negotiation.inline = takeover.inline;
    negotiation.proof = takeover.proof;
    let running = server.running();
    tokio::spawn(async {
        // A server that stops waits for what runs; it does not wait for more to begin.
        match running {
            Some(_running) => go_on(negotiation).await,
            None => drop(negotiation.connection.close().await),
        }
    });
}

pub(super) struct Negotiation {
    pub(super) server: Arc<Server>,
    pub(super) gate: Gate,
    pub(super) connection: Connection,
    deadline: Instant,
    pub(super) domain: String,
    pub(super) account: Option<BareJid>,
    /// XEP-0388: what is still to be done of what the client wanted inline.
    pub(super) inline: Option<Box<Authenticate>>,
    /// The account whose keys are being checked.
    pub(super) meant: Option<BareJid>,
    /// Whether it was made when fewer hashes were configured.
    lacks_keys: bool,
    /// On what its authentication rests.
    pub(super) proof: Option<Proof>,
    /// XEP-0484: the tokens of the client that has shown one.
    pub(super) tokens: Option<Box<Device>>,
    /// XEP-0480: what it does before it is told of its success.
    upgrade: Option<Box<Upgrade>>,
    pub(super) anonymous: bool,
    /// By which mechanism it authenticated, for the log.
    pub(super) mechanism: String,
    /// Whether an account was made on this stream (XEP-0077).
    registered: bool,
    /// The invite that was shown on it (XEP-0445).
    invite: Option<Box<Invite>>,
    pub(super) address: IpAddr,
    _negotiating: Counted,
}

/// Where negotiation stands after an event.
pub(super) enum Next {
    /// It goes on.
    More,
    /// A session begins.
    Bound(Arc<SessionHandle>, Beginning),
    /// A session that waits for a connection shall have this one.
    Resume { handle: Arc<SessionHandle>, previd: String, h: u32 },
    /// The connection is over.
    Over,
}

impl Negotiation {
    fn new(server: &Arc<Server>, gate: Gate, connection: Connection, negotiating: Counted) -> Box<Self> {
        let seconds = server.config().limits.login_seconds_max;
        Box::new(Self {
            server: Arc::clone(server),
            gate,
            deadline: Instant::now() + Duration::from_secs(seconds),
            domain: String::new(),
            account: None,
            inline: None,
            meant: None,
            lacks_keys: false,
            proof: None,
            tokens: None,
            upgrade: None,
            anonymous: false,
            mechanism: String::new(),
            registered: false,
            invite: None,
            address: connection.transport.peer().ip(),
            _negotiating: negotiating,
            connection,
        })
    }

    pub(super) async fn run(mut self: Box<Self>) -> Option<Box<Session>> {
        loop {
            let next = match self.inline.take() {
                Some(request) => Box::pin(self.bind_inline(request)).await,
                None => match self.next_event().await {
                    Some(event) => self.handle(event).await,
                    None => break,
                },
            };
            match next {
                Next::More => {}
                Next::Bound(handle, beginning) => {
                    return Some(Session::new(self.server, handle, Some(self.connection), beginning));
                }
                Next::Resume { handle, previd, h } => {
                    let Some(account) = self.account.clone() else { break };
                    let (inline, proof) = (self.inline.take(), self.proof.take());
                    let takeover = Takeover { connection: self.connection, previd, h, account, inline, proof };
                    match handle.mailbox.put(Mail::Resume(Box::new(takeover))) {
                        // It ended just now.
                        Err(Mail::Resume(takeover)) => {
                            let Takeover { connection, previd, account, inline, proof, .. } = *takeover;
                            self.connection = connection;
                            (self.inline, self.proof) = (inline, proof);
                            self.connection
                                .resume_failed(&self.server.modules.stream_management.failure(&account, &previd));
                        }
                        _ => return None,
                    }
                }
                Next::Over => break,
            }
        }
        Box::pin(self.connection.close()).await;
        None
    }

    /// The next event; `None` when the connection is over.
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.connection.next_event() {
                return Some(event);
            }
            let flushed = self.connection.flush().ok()?;
            if flushed && self.connection.stream.is_closed() {
                return None;
            }
            // A peer that never lets the socket run dry is out of time as any other.
            if Instant::now() >= self.deadline {
                self.time_out();
                return None;
            }
            tokio::task::coop::consume_budget().await;
            // A peer that does not read the answers asks nothing more.
            let read = self.connection.unsent_bytes() <= UNSENT_BYTES_HIGH;
            let mut stopping = self.server.stopping();
            let ready = tokio::select! {
                ready = timeout_at(self.deadline, self.connection.ready(read)) => ready,
                _ = stopping.wait_for(|stopping| *stopping) => {
                    self.fail(StreamCondition::SystemShutdown.into());
                    return None;
                }
            };
            match ready {
                Ok(Ok(())) if !read => {}
                Ok(Ok(())) => {
                    if let Err(error) = self.connection.read() {
                        debug!(address = %self.address, %error, "connection lost before a session");
                        return None;
                    }
                    self.connection.stream.set_early(self.connection.transport.is_early());
                }
                Ok(Err(_)) => return None,
                Err(_) => {
                    self.time_out();
                    return None;
                }
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Next {
        match event {
            Event::Opened(opening) => self.open(opening),
            Event::StartTls => {
                // `<proceed/>` must be on its way in clear before the first record.
                if !Box::pin(self.write_out()).await {
                    return Next::Over;
                }
                let config = self.server.certificates().server_config(Some(&self.domain));
                match self.connection.start_tls(config) {
                    Ok(()) => self.connection.stream.tls_started(),
                    Err(error) => {
                        info!(address = %self.address, %error, "TLS cannot start");
                        return Next::Over;
                    }
                }
            }
            Event::FindKeys { username, hash } => return Box::pin(self.find_keys(&username, hash)).await,
            Event::CheckPassword { keys, password } => return Box::pin(self.check_password(keys, password)).await,
            Event::CheckToken { username, device, proof, count } => {
                let outcome = Box::pin(self.check_token(&username, device.as_deref(), &proof, count)).await;
                let event = self.connection.stream.token_checked(outcome);
                return self.then(event).await;
            }
            Event::Authenticated { identity, mechanism, request } => {
                return self.authenticated(identity, &mechanism, request).await;
            }
            Event::Upgraded { keys } => return Box::pin(self.upgraded(keys)).await,
            Event::AuthenticationFailed { failure, username, mechanism } => {
                self.upgrade = None;
                info!(address = %self.address, domain = %self.domain, username, mechanism, failure = failure.name(), "authentication failed");
                self.server.deps.metrics.authentication(&mechanism, false);
                if failure == SaslFailure::NotAuthorized {
                    // A name that no account can have counts for the address alone.
                    let account = username.map_or_else(String::new, |username| self.account_name(&username));
                    self.server.throttle().failed(&account, self.address, std::time::Instant::now());
                }
            }
            Event::Register(iq) => {
                let mut stranger = Stranger {
                    domain: self.domain.clone(),
                    address: self.address,
                    registered: self.registered,
                    invite: self.invite.take(),
                };
                let answer =
                    Box::pin(self.server.modules.register.answer_stranger(&self.server, &mut stranger, &iq)).await;
                self.registered = stranger.registered;
                self.invite = stranger.invite;
                self.connection.stream.registration_answered(answer.as_ref());
            }
            Event::Bind { resource } => return Box::pin(self.bind(resource)).await,
            Event::Resume { previd, h } => return self.resume(previd, h),
            Event::Failed(error) => {
                self.server.deps.metrics.stream_error(error.condition.name());
                info!(address = %self.address, domain = %self.domain, %error, "stream refused");
                return Next::Over;
            }
            Event::Closed | Event::Stanza(_) | Event::Nonza(_) => {
                return Next::Over;
            }
        }
        Next::More
    }

    /// An answer to the stream may be an event at once.
    async fn then(&mut self, event: Option<Event>) -> Next {
        match event {
            Some(event) => Box::pin(self.handle(event)).await,
            None => Next::More,
        }
    }

    pub(super) fn account_name(&self, username: &str) -> String {
        format!("{username}@{}", self.domain)
    }

    fn time_out(&mut self) {
        self.fail(StreamError::new(StreamCondition::ConnectionTimeout, "login took too long"));
    }

    pub(super) fn fail(&mut self, error: StreamError) {
        self.server.deps.metrics.stream_error(error.condition.name());
        self.connection.fail(error);
    }

    /// Writes all that is queued; whether the peer still takes it.
    async fn write_out(&mut self) -> bool {
        loop {
            match self.connection.flush() {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
            match timeout_at(self.deadline, self.connection.ready(false)).await {
                Ok(Ok(())) => {}
                _ => return false,
            }
        }
    }
}
