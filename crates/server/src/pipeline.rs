//! THE order in which things are done to a stanza, one short function a path, each step with its reason.

mod asking;
mod iqs;
mod leaving;

use std::borrow::Cow;
use std::sync::Arc;

use magpie_proto::xml::{Attr, Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};
use magpie_store::LogId;

use crate::mailbox::{Addressee, Delivery, InSpool, Mail};
use crate::modules::offline::{Offline, refusal};
use crate::modules::{archive, blocking, carbons, pubsub, stanza_ids};
use crate::promise::Promise;
use crate::registry::{Account, Flight, Resource, SessionHandle, SessionId};
use crate::router::{self, Destination, MessageType, PresenceType, Route, Target};
use crate::server::Server;
use crate::services::Service;

use asking::{Asked, ask, changes_archive};
use iqs::{send_iq_now, user_sends_iq};
pub use leaving::{Left, session_has_left, session_leaves};

/// A stanza from a local session, on its way out.
#[derive(Clone)]
pub struct Outgoing {
    /// The server.
    pub server: Arc<Server>,
    /// Who sends.
    pub session: Arc<SessionHandle>,
    /// The stanza, its `from` stamped.
    pub stanza: Stanza,
    /// Whether the sender will be told that it was handled (XEP-0198), so that it must be kept from now on.
    pub acknowledged: bool,
}

/// A local session sends a stanza that needs nothing from the store, as most messages and many IQs do. `None`: it is for
/// [`user_sends`], and nothing has been done to it.
pub fn user_sends_now(
    server: &Arc<Server>,
    session: &Arc<SessionHandle>,
    stanza: &Stanza,
    acknowledged: bool,
) -> Option<Promise> {
    let kind = stanza.kind();
    if !matches!(kind, Kind::Message | Kind::Iq) || kind == Kind::Message && pubsub::says_displayed(stanza) {
        return None;
    }
    let to = match stanza.to() {
        Some(to) => Jid::parse(&to).ok().filter(|_| to.is_ascii())?,
        None => session.account.clone().into(),
    };
    let sent = match kind {
        Kind::Message => send_message(server, session, stanza, &to, acknowledged, None),
        _ => send_iq_now(server, session, stanza, &to),
    };
    match sent {
        Ok(promise) => Some(promise),
        Err(Stop::Refused(error)) => Some(refused(session, stanza, &error)),
        Err(Stop::AskStore) => None,
    }
}

/// A local session sends a message, presence or IQ.
pub async fn user_sends(mut outgoing: Outgoing) -> Promise {
    let sent = match recipient(&outgoing).await {
        Err(error) => Err(error),
        Ok(to) => match outgoing.stanza.kind() {
            Kind::Message => {
                // Before it is stored, copied or delivered: it is for the sender's own clients (XEP-0490 §4.2).
                outgoing = outgoing.server.clone().modules.pubsub.take_displayed(outgoing).await;
                user_sends_message(&outgoing, &to).await
            }
            Kind::Presence => user_sends_presence(&outgoing, &to).await,
            Kind::Iq => user_sends_iq(&outgoing, &to).await,
            Kind::Other => Ok(Promise::kept()),
        },
    };
    sent.unwrap_or_else(|error| refused(&outgoing.session, &outgoing.stanza, &error))
}

fn refused(session: &SessionHandle, stanza: &Stanza, error: &StanzaError) -> Promise {
    if let Some(reply) = error.reply_to(stanza) {
        session.send(reply);
    }
    Promise::kept()
}

/// Whom it is for: the sender's own account where no `to` says otherwise (RFC 6120 §10.3). A `to` that is no address is the
/// sender's mistake (§8.1.1.1).
async fn recipient(outgoing: &Outgoing) -> Result<Jid, StanzaError> {
    let Some(to) = outgoing.stanza.to() else { return Ok(outgoing.session.account.clone().into()) };
    let jid = match Jid::parse(&to) {
        Ok(jid) if to.is_ascii() || !outgoing.server.serves(jid.domain()) => return Ok(jid),
        Ok(jid) => jid,
        // What could be an address once may still be somebody's.
        Err(_) => match BareJid::legacy_candidates(&to).into_iter().next() {
            Some(folded) => folded.into(),
            None => return Err(StanzaCondition::JidMalformed.into()),
        },
    };
    let (account, given) = (jid.to_bare(), jid.resource());
    let meant = outgoing.server.account_meant(&account).await.map_err(refusal)?;
    match given {
        _ if meant == account => Ok(jid),
        Some(resource) => Ok(meant.with_resource(resource).map_err(|_| StanzaCondition::JidMalformed)?.into()),
        None => Ok(meant.into()),
    }
}

fn destination<'a>(server: &Server, session: &SessionHandle, stanza: &Stanza, to: &'a Jid) -> Destination<'a> {
    let named = stanza.has(Attr::To).then_some(to);
    router::destination(stanza.kind(), named, &session.jid, |domain| server.serves(domain))
}

/// Why a stanza is not through.
enum Stop {
    Refused(StanzaError),
    /// Nothing has been done to it, since what must be known of its recipient is not at hand.
    AskStore,
}

impl From<StanzaError> for Stop {
    fn from(error: StanzaError) -> Self {
        Self::Refused(error)
    }
}

impl From<StanzaCondition> for Stop {
    fn from(condition: StanzaCondition) -> Self {
        Self::Refused(condition.into())
    }
}

async fn user_sends_message(outgoing: &Outgoing, to: &Jid) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, acknowledged } = outgoing;
    if let Destination::Service(Service::Muc) = destination(server, session, stanza, to) {
        // Before anybody gets it, as below.
        server.modules.blocking.refuse_sent(session, to)?;
        return server.modules.muc.user_sends_message(outgoing, to).await;
    }
    let send = |asked| send_message(server, session, stanza, to, *acknowledged, asked);
    match send(None) {
        Ok(promise) => Ok(promise),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::AskStore) => {
            let sender = (!session.anonymous).then_some(&session.account);
            knowing(send(Some(ask(server, &to.to_bare(), stanza, sender).await?)))
        }
    }
}

/// The end of a stanza whose recipient the store was asked about.
fn knowing<T>(sent: Result<T, Stop>) -> Result<T, StanzaError> {
    sent.map_err(|stop| match stop {
        Stop::Refused(error) => error,
        Stop::AskStore => StanzaCondition::InternalServerError.into(),
    })
}

fn send_message(
    server: &Arc<Server>,
    session: &Arc<SessionHandle>,
    stanza: &Stanza,
    to: &Jid,
    acknowledged: bool,
    asked: Option<Asked>,
) -> Result<Promise, Stop> {
    let copies = match session.is_unobserved() {
        true => false,
        false => server.registry().with(&session.account, |account| {
            // Before anything is stored or copied: a message to a blocked contact never happened (XEP-0191 §3.3).
            blocking::refuse_sent_by(account.as_deref(), session, to)?;
            Ok::<_, Stop>(account.is_some_and(|account| look_at_sender(account, session)))
        })?,
    };
    // Before anybody reads it: an id in the sender's name is the server's to give (XEP-0359 §3).
    let stanza = &*stanza_ids::without_claims(stanza, &session.account);
    let sender = (!session.anonymous).then_some(&session.account);
    let promise = match destination(server, session, stanza, to) {
        // What the account itself asked its user is answered to it (XEP-0060 §8.6).
        Destination::OwnAccount if to.resource().is_none() && pubsub::is_decision(stanza) => {
            server.modules.pubsub.receive_message(server, &session.account, stanza);
            Promise::kept()
        }
        Destination::OwnAccount | Destination::LocalAccount { .. } | Destination::Broadcast => {
            receive_message(server, to, &[], stanza, sender, acknowledged, asked)?
        }
        Destination::LocalHost { .. } => host_receives_message(stanza)?,
        Destination::Service(Service::Muc) => {
            server.modules.muc.user_sends_now(server, session, to, stanza).ok_or(Stop::AskStore)??
        }
        Destination::Service(service) => service.receive_message(server, to, stanza)?,
        Destination::Remote { .. } => return Err(StanzaCondition::RemoteServerNotFound.into()),
    };
    // After the recipient has it: a copy of a message that was refused would say that it was sent.
    if copies {
        match &promise.archived {
            Some(kept) if kept.of_sender => {
                let stamped = server.modules.archive.stamped(stanza, &session.account, kept.place);
                carbons::copy_sent(server, session, &stamped, to);
            }
            _ => carbons::copy_sent(server, session, stanza, to),
        }
    }
    Ok(promise)
}

/// Whether other sessions of the sender's account want copies. Where they do not and it blocks nobody, its next message need not
/// ask.
pub(crate) fn look_at_sender(account: &Account, sender: &SessionHandle) -> bool {
    let copies = carbons::are_wanted(account, sender);
    if !copies && blocking::blocks_nobody(account) {
        account.remember_unobserved(sender);
    }
    copies
}

/// A message reaches a local account, from a local session or from elsewhere.
///
/// `acknowledged`: the sender will be told that it arrived, so it is kept on disk until the recipient has it.
pub async fn account_receives_message(
    server: &Arc<Server>,
    to: &Jid,
    message: &Stanza,
    acknowledged: bool,
) -> Result<Promise, StanzaError> {
    sessions_receive_message(server, to, &[], message, acknowledged).await
}

/// The same for several sessions of the account, as the private message to an occupant is who is in a room with some: it is one message,
/// whoever of them gets it. `to`: one of them.
pub async fn sessions_receive_message(
    server: &Arc<Server>,
    to: &Jid,
    others: &[SessionId],
    message: &Stanza,
    acknowledged: bool,
) -> Result<Promise, StanzaError> {
    let receive = |asked| receive_message(server, to, others, message, None, acknowledged, asked);
    match receive(None) {
        Ok(promise) => Ok(promise),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::AskStore) => knowing(receive(Some(ask(server, &to.to_bare(), message, None).await?))),
    }
}

fn receive_message(
    server: &Arc<Server>,
    to: &Jid,
    others: &[SessionId],
    message: &Stanza,
    sender: Option<&BareJid>,
    acknowledged: bool,
    asked: Option<Asked>,
) -> Result<Promise, Stop> {
    let account = to.to_bare();
    // Before it is stored or copied: so is an id in the recipient's name (XEP-0359 §3).
    let message = &*stanza_ids::without_claims(message, &account);
    let storable = Offline::is_storable(message);
    if asked.is_none() {
        let prefers = |account| server.modules.archive_preferences.has(account);
        if changes_archive(message) || storable && (prefers(&account) || sender.is_some_and(prefers)) {
            return Err(Stop::AskStore);
        }
    }
    let incoming = Incoming { account: &account, to, others, message, sender, storable, acknowledged };
    match asked {
        Some(asked) => Ok(server.registry().with_any(&account, |entry| incoming.route(server, entry, &asked))?),
        None => server.registry().with(&account, |entry| {
            // Who is logged in exists, and one visit tells the rest.
            let entry = entry.filter(|entry| !entry.resources.is_empty()).ok_or(Stop::AskStore)?;
            let blocked = entry.blocked().ok_or(Stop::AskStore)?;
            // As in `ask`.
            blocked.refuse_received(&account, message)?;
            if storable && may_need_room(Some(entry)) {
                return Err(Stop::AskStore);
            }
            Ok(incoming.route(server, entry, &Asked::nothing())?)
        }),
    }
}

/// A message at its recipient's.
struct Incoming<'a> {
    account: &'a BareJid,
    to: &'a Jid,
    /// Sessions that get it besides.
    others: &'a [SessionId],
    message: &'a Stanza,
    /// The account of this server that sends it, for its own archive.
    sender: Option<&'a BareJid>,
    storable: bool,
    acknowledged: bool,
}

impl Incoming<'_> {
    /// Under the registry's lock.
    fn route(&self, server: &Arc<Server>, entry: &mut Account, asked: &Asked) -> Result<Promise, StanzaError> {
        let Self { account, to, message, storable, .. } = *self;
        let offline = &server.modules.offline;
        let kind = MessageType::parse(message.type_().as_deref());
        let target = to.resource().map_or(Target::Bare, Target::Full);
        let has_room = || asked.room && !offline.is_full(account);
        match router::route_message(kind, storable, asked.exists, target, entry.resources.iter().map(as_routed)) {
            Route::Sessions(sessions) if is_fetching(entry, &sessions) && !has_room() => Err(too_many_waiting()),
            Route::Sessions(mut sessions) => {
                let here = |id: &SessionId| entry.resources.iter().any(|resource| resource.session.id == *id);
                for other in self.others.iter().filter(|id| here(id)) {
                    if !sessions.contains(other) {
                        sessions.push(*other);
                    }
                }
                // Before anybody has it: what a session gets, its account's other devices find in the archive.
                let (kept, stamped) = self.archive(server, entry, asked);
                let place = kept.as_ref().map_or_else(|| offline.place(), |kept| kept.place);
                let promise = self.deliver(server, entry, &stamped, place, &sessions);
                // Once it is decided who gets the message itself: the others get copies.
                carbons::copy_received(entry, account, &stamped, &sessions);
                Ok(promise.archived(kept, message))
            }
            Route::Offline if !has_room() => Err(too_many_waiting()),
            Route::Offline => {
                server.deps.metrics.routed_offline();
                let (kept, stamped) = self.archive(server, entry, asked);
                let place = kept.as_ref().map_or_else(|| offline.place(), |kept| kept.place);
                let ticket = offline.keep(account, entry, place, &stamped, Flight::default());
                // Once it is kept: who is woken by it finds it.
                server.modules.push.message_waits(server, account, entry, &stamped);
                Ok(Promise::of(ticket, message).archived(kept, message))
            }
            Route::Refuse(condition) => {
                server.deps.metrics.routed_refused();
                Err(condition.into())
            }
            Route::Drop | Route::Server if !asked.changes.is_empty() => {
                // What it says of older messages holds though nobody gets it.
                let (kept, _) = self.archive(server, entry, asked);
                Ok(Promise::kept().archived(kept, message))
            }
            Route::Drop | Route::Server => Ok(Promise::kept()),
        }
    }
}

impl<'a> Incoming<'a> {
    /// Puts the message into the archives, and gives it as its recipient sees it: with its id there.
    fn archive(&self, server: &Server, entry: &mut Account, asked: &Asked) -> (Option<archive::Kept>, Cow<'a, Stanza>) {
        // An account that ends with its session has no archive.
        let lasts = !entry.resources.iter().any(|resource| resource.session.anonymous);
        let archive = &server.modules.archive;
        let recipient = (lasts && asked.archives.recipient).then_some(self.account);
        let sender = self.sender.filter(|_| asked.archives.sender);
        let kept = archive.keep(self.message, self.storable, recipient, sender, self.to, &asked.changes);
        // What the recipient has not got by now it need not get.
        let places = asked.changes.tombstones.places(self.account);
        if !places.is_empty() {
            server.modules.offline.take_back(self.account, entry, &places);
        }
        let stamped = match &kept {
            Some(kept) if kept.of_recipient => Cow::Owned(archive.stamped(self.message, self.account, kept.place)),
            _ => Cow::Borrowed(self.message),
        };
        (kept, stamped)
    }

    /// Puts the message, as its recipient sees it, into the mailboxes of the sessions that the router chose, and into the spool where it must be kept.
    fn deliver(
        &self,
        server: &Arc<Server>,
        entry: &mut Account,
        message: &Stanza,
        place: LogId,
        sessions: &[SessionId],
    ) -> Promise {
        let Self { account, storable, acknowledged, .. } = *self;
        let offline = &server.modules.offline;
        let mut flight = Flight::default();
        let mut detached = false;
        for resource in entry.resources.iter().filter(|resource| sessions.contains(&resource.session.id)) {
            // A session that is still fetching gets it from the spool, in its turn.
            match storable && resource.fetching {
                true => flight.awaiting.push(resource.session.id),
                false => flight.holders.push(resource.session.id),
            }
            detached |= resource.detached;
        }
        // Of several sessions one is enough that has it, which only the spool can tell.
        let kept = storable && (acknowledged || detached || sessions.len() > 1 || !flight.awaiting.is_empty());
        let spool = match (storable, kept) {
            (false, _) => InSpool::Never,
            (true, false) => InSpool::Place(place),
            (true, true) => InSpool::Kept(place),
        };
        server.deps.metrics.routed_delivered();
        for resource in entry.resources.iter().filter(|resource| sessions.contains(&resource.session.id)) {
            let session = &resource.session;
            if flight.awaiting.contains(&session.id) {
                // It sees the entry in its next look. A session in the registry takes mail.
                let _ = session.mailbox.put(Mail::LookIntoSpool);
                continue;
            }
            // Whose client is away is told of it below.
            let pushed = resource.detached;
            if !session.mailbox.deliver(Delivery {
                stanza: message.clone(),
                to: if self.others.is_empty() { Addressee::OfStanza } else { Addressee::Session },
                spool,
                pushed,
                shared: false,
            }) {
                // It takes no more and is ending: then the others have it, or it waits.
                flight.leave(session.id);
            }
        }
        let promise = match kept || (storable && flight.is_over()) {
            // Whoever is told that it arrived must not lose it with the recipient's session; better an error for a message that is
            // there.
            true => Promise::of(offline.keep(account, entry, place, message, flight), message),
            false => Promise::kept(),
        };
        if entry.pushes && storable {
            // Once it is kept, as above.
            server.modules.push.message_came(server, account, entry, message);
        }
        promise
    }
}

fn too_many_waiting() -> StanzaError {
    StanzaError::new(StanzaCondition::ResourceConstraint, "the recipient has too many messages waiting")
}

/// Whether a storable message to the account may have to wait in the spool: no session takes it, or one that still fetches.
fn may_need_room(account: Option<&mut Account>) -> bool {
    let Some(account) = account else { return true };
    account.resources.iter().any(|resource| resource.fetching)
        || !account.available().any(|resource| resource.priority >= 0)
}

fn is_fetching(account: &Account, sessions: &[SessionId]) -> bool {
    account.resources.iter().any(|resource| resource.fetching && sessions.contains(&resource.session.id))
}

fn as_routed(resource: &Resource) -> router::Resource<'_, SessionId> {
    router::Resource {
        session: resource.session.id,
        name: resource.session.jid.resource(),
        priority: resource.is_available().then_some(resource.priority),
    }
}

/// A message to the server itself: nobody reads there (RFC 6121 §8.3).
pub(crate) fn host_receives_message(message: &Stanza) -> Result<Promise, StanzaError> {
    match MessageType::parse(message.type_().as_deref()) {
        MessageType::Headline | MessageType::Error => Ok(Promise::kept()),
        _ => Err(StanzaCondition::ServiceUnavailable.into()),
    }
}

async fn user_sends_presence(outgoing: &Outgoing, to: &Jid) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, .. } = outgoing;
    let kind = PresenceType::parse(stanza.type_().as_deref()).ok_or(StanzaCondition::BadRequest)?;
    let directed = stanza.has(Attr::To);
    let stanza = match kind {
        // Before it is kept and sent: whoever asks later sees the same (XEP-0153 §4.1).
        PresenceType::Available => &*server.modules.vcard.add_photo(session, stanza),
        _ => stanza,
    };
    match kind {
        PresenceType::Available if !directed => {
            let promise = server.modules.presence.user_is_available(server, session, stanza).await?;
            // After the presence of its contacts: what they publish is theirs (XEP-0163 §4.3.4).
            server.modules.caps.session_shows(server, session, stanza).await;
            Ok(promise)
        }
        PresenceType::Unavailable if !directed => {
            server.modules.caps.session_ended(session.id);
            server.modules.presence.user_is_unavailable(server, session, stanza).await
        }
        PresenceType::Subscription(kind) if directed => {
            // A request to a blocked contact goes nowhere (XEP-0191 §3.3).
            server.modules.blocking.refuse_sent(session, to)?;
            server.modules.roster.user_sends_subscription(server, session, kind, stanza, to).await
        }
        PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error if directed => {
            // Directed presence would show a blocked contact what blocking hides (XEP-0191 §3.3).
            server.modules.blocking.refuse_sent(session, to)?;
            server.modules.presence.user_sends_directed(server, session, kind, stanza, to).await
        }
        _ => Err(StanzaCondition::BadRequest.into()),
    }
}
