//! RFC 6120 §4–§7: from a fresh connection to a bound session.
//!
//! Answers what the stream asks: whether the host is served, which keys an account has, whether a resource is free. All of its state is
//! dropped when the session begins.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::sasl::{ChannelBindings, Credentials, Hash, Identity, Offer, SaslFailure};
use magpie_proto::stream::{Acceptance, ClientStream, Event, Opening, StartTls, StreamLimits};
use magpie_proto::xml::XmlLimits;
use magpie_proto::{BareJid, FullJid, StanzaCondition, StanzaError, StreamCondition, StreamError, jid};
use magpie_store::StoreError;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::inline::Beginning;
use super::{Connection, Counts, Session, Takeover, UNSENT_BYTES_HIGH};
use crate::config::{Limits, TlsMode};
use crate::listen::transport::Transport;
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::Counted;
use crate::modules::invites::Invite;
use crate::modules::register::Stranger;
use crate::news;
use crate::pipeline;
use crate::registry::SessionHandle;
use crate::server::{Server, random_text};

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
    gate: Gate,
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
                    let inline = self.inline.take();
                    let takeover = Takeover { connection: self.connection, previd, h, account, inline };
                    match handle.mailbox.put(Mail::Resume(Box::new(takeover))) {
                        // It ended just now.
                        Err(Mail::Resume(takeover)) => {
                            let Takeover { connection, previd, account, inline, .. } = *takeover;
                            self.connection = connection;
                            self.inline = inline;
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
            Event::CheckPassword { keys, password } => {
                let right = Box::pin(self.server.check_password(keys, password.clone())).await;
                if let (true, true, Some(account)) = (right, self.lacks_keys, self.meant.clone()) {
                    // The password is here now and will not be again: the account gets what SCRAM asks for next time.
                    let server = Arc::clone(&self.server);
                    tokio::spawn(async move {
                        if let Err(error) = server.deps.accounts.renew_keys(&account, &password).await {
                            info!(%account, %error, "the account still lacks keys");
                        }
                    });
                }
                let event = self.connection.stream.password_checked(right);
                return self.then(event).await;
            }
            Event::CheckToken { username, device, proof, count } => {
                let outcome = Box::pin(self.check_token(&username, device.as_deref(), &proof, count)).await;
                let event = self.connection.stream.token_checked(outcome);
                return self.then(event).await;
            }
            Event::Authenticated { identity, mechanism, request } => {
                return self.authenticated(identity, &mechanism, request).await;
            }
            Event::AuthenticationFailed { failure, username, mechanism } => {
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

    fn open(&mut self, opening: Opening) {
        let config = self.server.config();
        // §4.7.2: a client that names no host gets that of its account, or the one whose certificate it was shown, or the
        // only one there is.
        let account = || opening.account.as_ref().map(|account| account.domain().to_owned());
        let shown = || self.connection.server_name().map(str::to_owned);
        let named = opening.to.clone().or_else(account).or_else(shown);
        let domain = match (named, config.domains.as_slice()) {
            (Some(named), _) => jid::parse_domain(&named).unwrap_or(named),
            (None, [only]) => only.clone(),
            (None, _) => {
                drop(config);
                self.fail(StreamError::new(StreamCondition::HostUnknown, "the stream header names no host"));
                return;
            }
        };
        if let Some(moved) = config.moved.iter().find(|moved| moved.domain == domain) {
            let error = StreamCondition::SeeOtherHost(moved.to.clone()).into();
            drop(config);
            self.fail(error);
            return;
        }
        if !config.domains.contains(&domain) {
            drop(config);
            info!(address = %self.address, domain, "host unknown");
            self.fail(StreamCondition::HostUnknown.into());
            return;
        }
        self.domain.clone_from(&domain);
        let secure = opening.secure;
        let optional = self.gate.tls == TlsMode::Optional;
        let starttls = match (secure, optional) {
            (true, _) => StartTls::No,
            (false, true) => StartTls::Optional,
            (false, false) => StartTls::Required,
        };
        let anonymous = config.auth.anonymous.contains(&domain);
        let invites = !anonymous && self.server.modules.invites.are_open(&domain);
        let hashes: Vec<Hash> = config.auth.hashes.iter().filter_map(|name| Hash::parse(name)).collect();
        let plain = config.auth.plain && (secure || optional);
        // Who has logged in is offered no mechanism.
        let bindings = match opening.account {
            Some(_) => ChannelBindings::default(),
            None => self.connection.transport.bindings(self.server.certificates()),
        };
        let bytes_max = match opening.account {
            Some(_) => config.limits.stanza_bytes_max,
            None => config.limits.stanza_bytes_max_before_auth,
        };
        // Who does not log in is not waited for as long as who has (XEP-0478 §2).
        let idle_seconds = match opening.account {
            Some(_) => config.limits.idle_seconds_max,
            None => config.limits.idle_seconds_max.min(config.limits.login_seconds_max),
        };
        let acceptance = Acceptance {
            // XEP-0388 §3: never in clear.
            inline: secure.then(|| self.inline_features(&bindings, anonymous)),
            offer: match anonymous {
                true => Offer::new(&domain, bindings, &[], false, true),
                false => Offer::new(&domain, bindings, &hashes, plain, false),
            },
            domain,
            starttls,
            registration: config.registration.open && !anonymous || invites,
            invites,
            features: match opening.account {
                Some(_) => self.server.stream_features(&self.domain),
                None => Vec::new(),
            },
            limits: StreamLimits { bytes_max, idle_seconds: Some(idle_seconds) },
            xml: match opening.account {
                Some(_) => after_auth(&config.limits),
                None => before_auth(&config.limits),
            },
        };
        drop(config);
        self.connection.stream.accept(acceptance);
    }

    async fn find_keys(&mut self, username: &str, hash: Option<Hash>) -> Next {
        let name = self.account_name(username);
        if self.server.throttle().check(&name, self.address, std::time::Instant::now()).is_err() {
            info!(address = %self.address, account = name, "authentication throttled");
            self.connection.stream.refuse_authentication(SaslFailure::TemporaryAuthFailure);
            return Next::More;
        }
        let found = match BareJid::from_parts(Some(username), &self.domain) {
            Ok(account) => self.find_credentials(account).await,
            Err(_) => Ok(None),
        };
        let found = match found {
            Ok(Some(_)) if self.is_disabled().await => {
                info!(address = %self.address, account = name, "the account is disabled");
                self.connection.stream.refuse_authentication(SaslFailure::AccountDisabled);
                return Next::More;
            }
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "credentials cannot be read");
                self.connection.stream.refuse_authentication(SaslFailure::TemporaryAuthFailure);
                return Next::More;
            }
        };
        let keys = found.as_ref().and_then(|credentials| match hash {
            Some(hash) => credentials.get(hash).cloned(),
            // PLAIN: the strongest that is there.
            None => credentials.keys.iter().max_by_key(|keys| keys.hash).cloned(),
        });
        let policy = self.server.deps.accounts.policy();
        self.lacks_keys = found
            .as_ref()
            .is_some_and(|credentials| policy.hashes.iter().any(|(hash, _)| credentials.get(*hash).is_none()));
        if found.is_some() && keys.is_none() {
            warn!(
                account = name,
                ?hash,
                "the account has no keys for this hash: log in with PLAIN once, or set the password again"
            );
        }
        // Made in any case: the time that it takes would tell who has an account.
        let fake = self.server.fake_keys(&name, hash);
        let event = match keys {
            Some(keys) => self.connection.stream.keys(keys, true),
            None => self.connection.stream.keys(fake, false),
        };
        self.then(event).await
    }

    /// Whether the account that is meant may not be used for now.
    pub(super) async fn is_disabled(&self) -> bool {
        let Some(account) = &self.meant else { return false };
        // Where the store does not say, the session will not be bound.
        self.server.deps.accounts.is_disabled(account).await.unwrap_or(false)
    }

    /// The credentials of the account that is meant, which is remembered.
    async fn find_credentials(&mut self, named: BareJid) -> Result<Option<Credentials>, StoreError> {
        let account = self.server.account_meant(&named).await?;
        let found = self.server.deps.accounts.find(&account).await;
        self.meant = Some(account);
        found
    }

    async fn authenticated(&mut self, identity: Identity, mechanism: &str, request: Option<Box<Authenticate>>) -> Next {
        let local = match identity {
            Identity::Account(named) => match self.meant.take().as_ref().and_then(BareJid::local) {
                Some(local) => local.to_owned(),
                None => named,
            },
            Identity::Anonymous => {
                self.anonymous = true;
                random_text(12).to_ascii_lowercase()
            }
        };
        let Ok(account) = BareJid::from_parts(Some(&local), &self.domain) else {
            self.fail(StreamCondition::InternalServerError.into());
            return Next::More;
        };
        if !self.anonymous {
            self.server.throttle().succeeded(account.as_str(), self.address, std::time::Instant::now());
        }
        self.server.deps.metrics.authentication(mechanism, true);
        debug!(address = %self.address, %account, mechanism, "authenticated");
        self.mechanism = mechanism.to_owned();
        if let Some(request) = request {
            return Box::pin(self.resume_inline(account, request)).await;
        }
        self.connection.stream.authenticated(account.clone());
        self.account = Some(account);
        Next::More
    }

    async fn bind(&mut self, resource: Option<String>) -> Next {
        let Some(account) = self.account.clone() else { return Next::Over };
        let jid: Result<FullJid, _> = match &resource {
            Some(resource) => account.with_resource(resource),
            None => account.with_resource(&random_text(9)),
        };
        let Ok(jid) = jid else {
            self.connection.stream.bind_refused(&StanzaCondition::BadRequest.into());
            return Next::More;
        };
        match self.begin(jid).await {
            Ok(handle) => {
                self.connection.stream.bound(&handle.jid);
                info!(jid = %handle.jid, address = %self.address, mechanism = self.mechanism, resumed = false, "session bound");
                Next::Bound(handle, Beginning::default())
            }
            Err(Some(error)) => {
                self.connection.stream.bind_refused(&error);
                Next::More
            }
            Err(None) => Next::More,
        }
    }

    /// Puts a session with this address into the registry. Where that cannot be, why; `None` where the stream has ended for it.
    pub(super) async fn begin(&mut self, jid: FullJid) -> Result<Arc<SessionHandle>, Option<StanzaError>> {
        let limits = self.server.config().limits.clone();
        let mailbox = Mailbox::new(limits.unsent_bytes_max);
        let handle = Arc::new(SessionHandle::new(self.server.registry().next_id(), jid, mailbox, self.anonymous));
        match self.server.registry().add(&handle, limits.sessions_per_account_max) {
            Ok(Some(replaced)) => {
                let text = "replaced by a newer session with the same resource";
                let error = StreamError::new(StreamCondition::Conflict, text);
                // A session that is ending by itself needs no telling.
                let _ = replaced.session.mailbox.put(Mail::End(error));
                news::session_ended(&self.server, replaced).await;
            }
            Ok(None) => {}
            Err(_) => {
                return Err(Some(StanzaError::new(StanzaCondition::ResourceConstraint, "too many sessions")));
            }
        }
        // An account that was removed or disabled since it authenticated has no sessions. Looked at now, when a removal would find this one.
        if !self.anonymous && !self.server.deps.accounts.is_active(&handle.account).await.unwrap_or(false) {
            let left = pipeline::session_leaves(&self.server, &handle, Vec::new());
            pipeline::session_has_left(&self.server, &handle, left).await;
            self.fail(StreamCondition::NotAuthorized.into());
            return Err(None);
        }
        if let Err(error) = news::session_bound(&self.server, &handle).await {
            tracing::error!(%error, account = %handle.account, "the account cannot be read");
            let left = pipeline::session_leaves(&self.server, &handle, Vec::new());
            pipeline::session_has_left(&self.server, &handle, left).await;
            return Err(Some(StanzaCondition::InternalServerError.into()));
        }
        Ok(handle)
    }

    pub(super) fn resume(&mut self, previd: String, h: u32) -> Next {
        let Some(account) = &self.account else { return Next::Over };
        let stream_management = &self.server.modules.stream_management;
        match stream_management.find(account, &previd) {
            Some(handle) => {
                info!(jid = %handle.jid, address = %self.address, mechanism = self.mechanism, "session asked for again");
                Next::Resume { handle, previd, h }
            }
            None => {
                self.connection.resume_failed(&stream_management.failure(account, &previd));
                Next::More
            }
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

fn before_auth(limits: &Limits) -> XmlLimits {
    XmlLimits { stanza_bytes_max: limits.stanza_bytes_max_before_auth, ..after_auth(limits) }
}

pub(super) fn after_auth(limits: &Limits) -> XmlLimits {
    XmlLimits {
        stanza_bytes_max: limits.stanza_bytes_max,
        depth_max: limits.depth_max,
        attributes_max: limits.attributes_max,
        elements_max: limits.elements_max,
    }
}
