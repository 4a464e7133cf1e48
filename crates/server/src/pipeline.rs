//! THE order in which things are done to a stanza, one short function a path, each step with its reason.

use std::sync::Arc;

use magpie_proto::xml::{Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};

use crate::mailbox::{Delivery, Mail};
use crate::modules::carbons;
use crate::modules::offline::Offline;
use crate::promise::Promise;
use crate::registry::{Account, Resource, SessionHandle};
use crate::router::{self, Destination, MessageType, Route, Target};
use crate::server::Server;

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

/// A local session sends a message, presence or IQ.
pub async fn user_sends(outgoing: Outgoing) -> Promise {
    outgoing.server.deps.metrics.stanza_in(outgoing.stanza.kind());
    let sent = match destination(&outgoing) {
        Err(error) => Err(error),
        Ok(to) => match outgoing.stanza.kind() {
            Kind::Message => user_sends_message(&outgoing, to).await,
            Kind::Presence => user_sends_presence(&outgoing, to).await,
            Kind::Iq => user_sends_iq(&outgoing, to).await,
            Kind::Other => Ok(Promise::kept()),
        },
    };
    sent.unwrap_or_else(|error| {
        if let Some(reply) = error.reply_to(&outgoing.stanza) {
            outgoing.session.send(reply);
        }
        Promise::kept()
    })
}

/// Where it goes. A `to` that is no address is the sender's mistake (RFC 6120 §8.1.1.1).
fn destination(outgoing: &Outgoing) -> Result<Destination, StanzaError> {
    let to = match outgoing.stanza.to() {
        Some(to) => Some(Jid::parse(&to).map_err(|_| StanzaCondition::JidMalformed)?),
        None => None,
    };
    Ok(router::destination(to, &outgoing.session.jid, |domain| outgoing.server.serves(domain)))
}

async fn user_sends_message(outgoing: &Outgoing, to: Destination) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, acknowledged } = outgoing;
    // Before anything is stored or copied: a message to a blocked contact never happened (XEP-0191 §3.3).
    server.modules.blocking.refuse_sent(session, &to)?;
    let promise = match &to {
        Destination::Account(jid) => account_receives_message(server, jid, stanza, *acknowledged).await?,
        Destination::Host(_) => host_receives_message(server, session, stanza),
        Destination::Remote(_) => return Err(StanzaCondition::RemoteServerNotFound.into()),
    };
    // After the recipient has it: a copy of a message that was refused would say that it was sent.
    carbons::copy_sent(server, session, stanza, &to);
    Ok(promise)
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
    let account = to.to_bare();
    let storable = Offline::is_storable(message);
    // Before anything is stored or copied: what a blocked contact sends never arrives (XEP-0191 §3.2).
    let exists = server.modules.blocking.refuse_received(&account, message).await?;
    // Counting may need the store, which cannot be asked under the registry's lock.
    let room = match storable && exists && !server.registry().with(&account, |account| takes_messages(account)) {
        true => server.modules.offline.has_room(&account).await?,
        false => true,
    };
    let kind = MessageType::parse(message.type_().as_deref());
    let target = match to.resource() {
        Some(resource) => Target::Full(resource),
        None => Target::Bare,
    };
    server.registry().with_any(&account, |entry| {
        let route = router::route_message(kind, storable, exists, target, entry.resources.iter().map(as_routed));
        match route {
            Route::Sessions(sessions) => {
                let promise = deliver(server, &account, entry, message, &sessions, storable, acknowledged);
                // Once it is decided who gets the message itself: the others get copies.
                carbons::copy_received(entry, &account, message, &sessions);
                Ok(promise)
            }
            Route::Offline if !room => Err(StanzaError::new(
                StanzaCondition::ResourceConstraint,
                "the recipient has too many messages waiting",
            )),
            Route::Offline => {
                server.deps.metrics.routed_offline();
                let (_, ticket) = server.modules.offline.keep(&account, entry, message, 0);
                Ok(Promise {
                    ticket: Some(ticket),
                    otherwise: StanzaError::from(StanzaCondition::ResourceConstraint).reply_to(message),
                })
            }
            Route::Refuse(condition) => {
                server.deps.metrics.routed_refused();
                Err(condition.into())
            }
            Route::Drop | Route::Server => Ok(Promise::kept()),
        }
    })
}

/// Whether a storable message to the account would find a session.
fn takes_messages(account: Option<&mut Account>) -> bool {
    account.is_some_and(|account| account.available().any(|resource| resource.priority >= 0))
}

fn as_routed(resource: &Resource) -> router::Resource<'_, usize> {
    router::Resource {
        session: resource.session.id.0 as usize,
        name: resource.session.jid.resource(),
        priority: resource.is_available().then_some(resource.priority),
    }
}

/// Puts a message into the mailboxes of the sessions that the router chose, and into the spool first where it must be kept.
fn deliver(
    server: &Arc<Server>,
    account: &BareJid,
    entry: &mut Account,
    message: &Stanza,
    sessions: &[usize],
    storable: bool,
    acknowledged: bool,
) -> Promise {
    let chosen = |resource: &&mut Resource| sessions.contains(&(resource.session.id.0 as usize));
    // A session that is still fetching gets it from the spool, in its turn.
    let fetching = storable && entry.resources.iter_mut().filter(chosen).any(|resource| resource.fetching);
    let detached = entry.resources.iter_mut().filter(chosen).all(|resource| resource.detached);
    let mut promise = Promise::kept();
    let mut spooled = None;
    if storable && (acknowledged || detached || fetching) {
        let holders = if fetching { 0 } else { u8::try_from(sessions.len()).unwrap_or(u8::MAX) };
        let (id, ticket) = server.modules.offline.keep(account, entry, message, holders);
        spooled = Some(id);
        promise.ticket = Some(ticket);
    }
    server.deps.metrics.routed_delivered();
    for resource in entry.resources.iter_mut().filter(chosen) {
        if fetching && resource.fetching {
            // It sees the entry in its next look.
            let _ = resource.session.mailbox.put(Mail::LookIntoSpool);
            continue;
        }
        if fetching {
            // The fetching session has the claim; this one gets the message besides.
            resource.session.mailbox.deliver(Delivery::new(message.clone()));
            continue;
        }
        if !resource.session.mailbox.deliver(Delivery { stanza: message.clone(), to: None, spooled }) {
            // It is ending. What is spooled stays there; the rest is kept now.
            match spooled {
                Some(id) => {
                    if let Some(holders) = entry.in_flight.get_mut(&id) {
                        *holders -= 1;
                        if *holders == 0 {
                            entry.in_flight.remove(&id);
                        }
                    }
                }
                None if storable && sessions.len() == 1 => {
                    let (_, ticket) = server.modules.offline.keep(account, entry, message, 0);
                    promise.ticket = Some(ticket);
                    break;
                }
                None => {}
            }
        }
    }
    promise
}

/// A message to the server itself: nobody reads there. Errors and headlines are swallowed, the rest is refused.
fn host_receives_message(_server: &Arc<Server>, session: &SessionHandle, message: &Stanza) -> Promise {
    if !matches!(MessageType::parse(message.type_().as_deref()), MessageType::Headline)
        && let Some(reply) = StanzaError::from(StanzaCondition::ServiceUnavailable).reply_to(message)
    {
        session.send(reply);
    }
    Promise::kept()
}

async fn user_sends_presence(outgoing: &Outgoing, to: Destination) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, .. } = outgoing;
    let kind = stanza.type_();
    match (stanza.to().is_some(), kind.as_deref()) {
        (false, None) => server.modules.presence.user_is_available(server, session, stanza).await,
        (false, Some("unavailable")) => server.modules.presence.user_is_unavailable(server, session, stanza).await,
        (true, Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed")) => {
            server.modules.roster.user_sends_subscription(server, session, stanza, &to).await
        }
        (true, None | Some("unavailable" | "probe" | "error")) => {
            // Directed presence to a blocked contact would show what blocking hides (XEP-0191 §3.3).
            server.modules.blocking.refuse_sent(session, &to)?;
            server.modules.presence.user_sends_directed(server, session, stanza, &to).await
        }
        _ => Err(StanzaCondition::BadRequest.into()),
    }
}

async fn user_sends_iq(outgoing: &Outgoing, to: Destination) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, .. } = outgoing;
    let from = Jid::from(session.jid.clone());
    let asked = match to {
        Destination::Host(jid) => jid.to_bare(),
        Destination::Account(jid) if jid.resource().is_none() => jid.to_bare(),
        Destination::Account(jid) => {
            // An IQ between users: a blocked contact gets nothing and is told nothing (XEP-0191 §3.3).
            server.modules.blocking.refuse_sent(session, &Destination::Account(jid.clone()))?;
            return account_receives_iq(server, &jid, stanza).await;
        }
        Destination::Remote(_) => return Err(StanzaCondition::RemoteServerNotFound.into()),
    };
    let reply = server.requests.answer(server, Some(Arc::clone(session)), from, asked, stanza.clone()).await;
    if let Some(reply) = reply {
        session.send(reply);
    }
    Ok(Promise::kept())
}

/// An IQ reaches a local account's session.
async fn account_receives_iq(server: &Arc<Server>, to: &Jid, iq: &Stanza) -> Result<Promise, StanzaError> {
    let account = to.to_bare();
    server.modules.blocking.refuse_received(&account, iq).await?;
    let resource = to.resource().unwrap_or_default();
    let delivered = server.registry().with(&account, |entry| {
        entry
            .and_then(|entry| entry.named(resource))
            .is_some_and(|resource| resource.session.mailbox.deliver(Delivery::new(iq.clone())))
    });
    // RFC 6121 §8.5.3.2.3: nobody there.
    if delivered { Ok(Promise::kept()) } else { Err(StanzaCondition::ServiceUnavailable.into()) }
}

/// A session has ended with stanzas that its client never acknowledged: they are routed again (XEP-0198 §8), except what is spooled, which waits there.
pub async fn session_leaves_undelivered(server: &Arc<Server>, session: &SessionHandle, undelivered: Vec<Delivery>) {
    let spooled: Vec<_> = undelivered.iter().filter_map(|delivery| delivery.spooled).collect();
    server.modules.offline.release(session, &spooled);
    for delivery in undelivered.into_iter().filter(|delivery| delivery.spooled.is_none()) {
        let stanza = delivery.stanza;
        match stanza.kind() {
            Kind::Message if Offline::is_storable(&stanza) => {
                let to = Jid::from(session.jid.clone());
                match account_receives_message(server, &to, &stanza, false).await {
                    Ok(promise) => {
                        if let Some(Err(error)) = keep(promise).await {
                            tracing::error!(%error, account = %session.account, "a message could not be kept");
                        }
                    }
                    Err(error) => bounce(server, &stanza, &error),
                }
            }
            Kind::Iq => bounce(server, &stanza, &StanzaCondition::ServiceUnavailable.into()),
            _ => {}
        }
    }
}

/// Sends an error back to whoever sent the stanza.
fn bounce(server: &Arc<Server>, stanza: &Stanza, error: &StanzaError) {
    let Some(reply) = error.reply_to(stanza) else { return };
    let Some(to) = reply.to().and_then(|to| Jid::parse(&to).ok()) else { return };
    server.registry().with(&to.to_bare(), |entry| {
        let resource = to.resource().unwrap_or_default();
        if let Some(resource) = entry.and_then(|entry| entry.named(resource).map(|r| Arc::clone(&r.session))) {
            resource.send(reply);
        }
    });
}

