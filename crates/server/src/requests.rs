//! THE owners: which module answers which IQ. Two owners of one request are a start-up error.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use magpie_proto::xml::{Attr, Element, Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};

use crate::registry::SessionHandle;
use crate::server::Server;

/// Whom an IQ must address for its owner to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// The sender's own account: no `to`, or its own bare JID.
    OwnAccount,
    /// Another local account's bare JID.
    Account,
    /// A served domain.
    Host,
}

/// Get or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `type='get'`
    Get,
    /// `type='set'`
    Set,
}

/// An IQ that a module owns.
#[derive(Clone)]
pub struct Request {
    /// The server.
    pub server: Arc<Server>,
    /// The asking session, where it is local.
    pub session: Option<Arc<SessionHandle>>,
    /// Who asks.
    pub from: Jid,
    /// The account or host that is asked, as a bare JID.
    pub to: BareJid,
    /// How `to` relates to the sender.
    pub target: To,
    /// Get or set.
    pub verb: Verb,
    /// The payload.
    pub payload: Element,
    /// The whole stanza.
    pub stanza: Stanza,
    answered: Arc<AtomicBool>,
}

impl Request {
    /// Answers now, for a module that has more to send after its answer. What it returns is not sent any more.
    pub fn answer(&self, payload: Option<Element>) {
        if let Some(session) = &self.session {
            self.answered.store(true, Ordering::Relaxed);
            session.send(result(&self.stanza, payload));
        }
    }

    /// The asking session. Requests to the own account always have one.
    pub fn session(&self) -> Result<&Arc<SessionHandle>, StanzaError> {
        self.session.as_ref().ok_or_else(|| StanzaCondition::Forbidden.into())
    }
}

/// What a module answers: the payload of the result (or none), or the error.
pub type Reply = Result<Option<Element>, StanzaError>;

type Owner = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Two modules want one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two modules own {verb:?} {{{ns}}}{name} to {target:?}")]
pub struct TwoOwners {
    target: To,
    verb: Verb,
    name: &'static str,
    ns: &'static str,
}

/// The table of owners.
#[derive(Default)]
pub struct Requests {
    owners: HashMap<(To, Verb, &'static str, &'static str), Owner>,
    conflicts: Vec<TwoOwners>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.owners.keys()).finish()
    }
}

impl Requests {
    /// `module` answers `verb` with the payload `name` in `ns` to `target`.
    pub fn own<M, F>(
        &mut self,
        target: To,
        verb: Verb,
        (name, ns): (&'static str, &'static str),
        module: &Arc<M>,
        answer: fn(Arc<M>, Request) -> F,
    ) where
        M: Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let module = Arc::clone(module);
        let owner: Owner = Arc::new(move |request| Box::pin(answer(Arc::clone(&module), request)));
        if self.owners.insert((target, verb, name, ns), owner).is_some() {
            self.conflicts.push(TwoOwners { target, verb, name, ns });
        }
    }

    /// The table, if every request has one owner.
    pub fn checked(mut self) -> Result<Self, TwoOwners> {
        match self.conflicts.pop() {
            Some(conflict) => Err(conflict),
            None => Ok(self),
        }
    }

    /// Answers an IQ to an account or a host: the reply to send back, if one is due (RFC 6120 §8.2.3).
    pub async fn answer(
        &self,
        server: &Arc<Server>,
        session: Option<Arc<SessionHandle>>,
        from: Jid,
        to: BareJid,
        iq: Stanza,
    ) -> Option<Stanza> {
        let verb = match iq.type_().as_deref() {
            Some("get") => Verb::Get,
            Some("set") => Verb::Set,
            // Answers to questions that the server asked (a ping) need no answer.
            Some("result" | "error") => return None,
            _ => return StanzaError::from(StanzaCondition::BadRequest).reply_to(&iq),
        };
        let target = if to.local().is_none() {
            To::Host
        } else if session.as_ref().is_some_and(|session| session.account == to) {
            To::OwnAccount
        } else {
            To::Account
        };
        let answered = Arc::new(AtomicBool::new(false));
        let reply = match self.find(&iq, target, verb) {
            Ok((owner, payload)) => {
                let request = Request {
                    server: Arc::clone(server),
                    session,
                    from,
                    to,
                    target,
                    verb,
                    payload,
                    stanza: iq.clone(),
                    answered: Arc::clone(&answered),
                };
                owner(request).await
            }
            Err(error) => Err(error),
        };
        match reply {
            _ if answered.load(Ordering::Relaxed) => None,
            Ok(payload) => Some(result(&iq, payload)),
            Err(error) => error.reply_to(&iq),
        }
    }

    fn find(&self, iq: &Stanza, target: To, verb: Verb) -> Result<(Owner, Element), StanzaError> {
        // §8.2.3: an id, and exactly one payload.
        let mut children = iq.children();
        let (Some(payload), None, Some(_)) = (children.next(), children.next(), iq.attr(Attr::Id)) else {
            return Err(StanzaCondition::BadRequest.into());
        };
        let key = (target, verb, payload.name, payload.ns);
        // The table's keys live for ever; the borrow of this lookup need not.
        let owner = self.owners.get(&key).ok_or(StanzaCondition::ServiceUnavailable)?;
        Ok((Arc::clone(owner), payload.element()))
    }
}

/// The result of an IQ.
pub fn result(iq: &Stanza, payload: Option<Element>) -> Stanza {
    debug_assert_eq!(iq.kind(), Kind::Iq);
    let mut result = Element::new("iq", ns::CLIENT).with_attr("type", "result");
    if let Some(id) = iq.attr(Attr::Id) {
        result = result.with_attr("id", id);
    }
    if let Some(to) = iq.to() {
        result = result.with_attr("from", to);
    }
    if let Some(from) = iq.from() {
        result = result.with_attr("to", from);
    }
    Stanza::new(&match payload {
        Some(payload) => result.with(payload),
        None => result,
    })
}
