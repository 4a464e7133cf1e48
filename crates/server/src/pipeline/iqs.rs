//! The order in which things are done to an IQ that a local session sends (RFC 6121 §8.5).

use std::sync::Arc;

use magpie_proto::xml::Stanza;
use magpie_proto::{Jid, StanzaCondition, StanzaError};

use super::{Outgoing, Stop, destination, knowing};
use crate::modules::blocking::BlockList;
use crate::modules::offline::refusal;
use crate::modules::{last, presence};
use crate::promise::Promise;
use crate::registry::{Account, SessionHandle};
use crate::requests::{Query, TakesTime};
use crate::router::{self, Destination, IqType, Route, Target};
use crate::server::Server;
use crate::services::Service;

pub(super) async fn user_sends_iq(outgoing: &Outgoing, to: &Jid) -> Result<Promise, StanzaError> {
    let Outgoing { server, session, stanza, .. } = outgoing;
    let account = to.to_bare();
    let passed = match pass_iq(server, session, stanza, to, None) {
        Err(Stop::AskStore) => {
            let list = server.modules.blocking.of(&account).await.map_err(refusal)?;
            pass_iq(server, session, stanza, to, Some(&list))
        }
        passed => passed,
    };
    if let Passed::ForServer = knowing(passed)? {
        let from = Jid::from(session.jid.clone());
        let query = Query { server, session: Some(session), from: &from, to: &account, stanza };
        if let Some(reply) = server.requests.answer(&query).await {
            session.send(reply);
        }
    }
    Ok(Promise::kept())
}

pub(super) fn send_iq_now(
    server: &Arc<Server>,
    session: &Arc<SessionHandle>,
    iq: &Stanza,
    to: &Jid,
) -> Result<Promise, Stop> {
    if let Passed::ForServer = pass_iq(server, session, iq, to, None)? {
        let (from, account) = (Jid::from(session.jid.clone()), to.to_bare());
        let query = Query { server, session: Some(session), from: &from, to: &account, stanza: iq };
        if let Some(reply) = server.requests.answer_now(&query).map_err(|TakesTime| Stop::AskStore)? {
            session.send(reply);
        }
    }
    Ok(Promise::kept())
}

/// What became of an IQ that may pass.
enum Passed {
    /// It went where it belongs.
    Through,
    /// Its owner answers it: see [`crate::requests`].
    ForServer,
}

/// An IQ from a local session. `list`: the block list of whom it is for, where the store was asked.
fn pass_iq(
    server: &Server,
    session: &SessionHandle,
    iq: &Stanza,
    to: &Jid,
    list: Option<&BlockList>,
) -> Result<Passed, Stop> {
    match destination(server, session, iq, to) {
        Destination::LocalAccount { target, .. } => {
            // A blocked contact is asked nothing and answered nothing (XEP-0191 §3.3).
            server.modules.blocking.refuse_sent(session, to)?;
            if let Target::Full(resource) = target {
                return receive_iq(server, session, iq, to, resource, list).map(|()| Passed::Through);
            }
            // What the server knows of an account it tells to no one whom the account blocks (XEP-0191 §3.2).
            let account = to.to_bare();
            match list {
                Some(list) => list.refuse_received(&account, iq)?,
                None => server.registry().with(&account, |entry| {
                    Ok::<_, Stop>(at_hand(entry.as_deref())?.1.refuse_received(&account, iq)?)
                })?,
            }
        }
        Destination::Service(Service::Muc) if to.resource().is_some() => {
            server.modules.blocking.refuse_sent(session, to)?;
            if server.modules.muc.relay(session, iq, to)? {
                return Ok(Passed::Through);
            }
        }
        Destination::Remote { .. } => return Err(StanzaCondition::RemoteServerNotFound.into()),
        _ => {}
    }
    Ok(Passed::ForServer)
}

/// An account whose block list need not be asked for.
fn at_hand(entry: Option<&Account>) -> Result<(&Account, &BlockList), Stop> {
    let entry = entry.ok_or(Stop::AskStore)?;
    Ok((entry, entry.blocked().ok_or(Stop::AskStore)?))
}

/// An IQ reaches a local account's session.
fn receive_iq(
    server: &Server,
    sender: &SessionHandle,
    iq: &Stanza,
    to: &Jid,
    resource: &str,
    list: Option<&BlockList>,
) -> Result<(), Stop> {
    let account = to.to_bare();
    let kind = IqType::parse(iq.type_().as_deref()).ok_or(StanzaCondition::BadRequest)?;
    let route = |entry: &Account, list: &BlockList| {
        match list.refuse_received(&account, iq) {
            Ok(()) => {}
            // Replies from a blocked contact are dropped in silence (XEP-0191 §3.2).
            Err(_) if matches!(kind, IqType::Result | IqType::Error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let seen = presence::is_shared(entry, &account, resource, &sender.jid.clone().into());
        // Whatever else strangers may ask (XEP-0012 §4): the same answer whether somebody is there or not.
        if !seen && last::is_asked_by(iq) {
            return Err(StanzaCondition::Forbidden.into());
        }
        let shared = seen || server.config().privacy.strangers_may_ask;
        let resources = entry.resources.iter().map(|resource| router::Resource {
            session: &resource.session,
            name: resource.session.jid.resource(),
            priority: None,
        });
        // Whether the account exists makes no difference where nobody is there.
        match router::route_iq(kind, true, Target::Full(resource), shared, resources) {
            Route::Sessions(sessions) if !sessions[0].send(iq.clone()) => {
                Err(StanzaCondition::ServiceUnavailable.into())
            }
            Route::Refuse(condition) => Err(condition.into()),
            Route::Sessions(_) | Route::Offline | Route::Server | Route::Drop => Ok(()),
        }
    };
    let sent = match list {
        Some(list) => server.registry().with_any(&account, |entry| route(entry, list)),
        None => server.registry().with(&account, |entry| {
            let (entry, list) = at_hand(entry.as_deref())?;
            Ok::<_, Stop>(route(entry, list))
        })?,
    };
    Ok(sent?)
}
