//! THE owners: which module answers which IQ. Two owners of one request are a start-up error.

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{Equivalent, HashMap};
use magpie_proto::xml::{Attr, Element, Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};

use crate::registry::SessionHandle;
use crate::server::Server;
use crate::services::Service;

/// Whom an IQ must address for its owner to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The sender's own account: no `to`, or its own bare JID.
    OwnAccount,
    /// Another local account's bare JID.
    Account,
    /// A served domain.
    Host,
    /// A service, whatever stands before its domain.
    Service(Service),
}

/// Get or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `type='get'`
    Get,
    /// `type='set'`
    Set,
}

/// An IQ to an account or a host, as it stands before an owner who answers at once.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// The asking session, where it is local.
    pub session: Option<&'a Arc<SessionHandle>>,
    /// Who asks.
    pub from: &'a Jid,
    /// The account or host that is asked, as a bare JID.
    pub to: &'a BareJid,
    /// The whole stanza.
    pub stanza: &'a Stanza,
}

impl<'a> Query<'a> {
    /// The payload, parsed anew each time.
    pub fn payload(&self) -> Element {
        payload(self.stanza)
    }

    /// The asking session. Requests to the own account always have one.
    pub fn session(&self) -> Result<&'a Arc<SessionHandle>, StanzaError> {
        self.session.ok_or_else(|| StanzaCondition::Forbidden.into())
    }

    fn target(&self) -> To {
        if self.session.is_some_and(|session| session.account == *self.to) {
            return To::OwnAccount;
        }
        match (self.server.service_at(self.to.domain()), self.to.local()) {
            (Some(service), _) => To::Service(service),
            (None, None) => To::Host,
            (None, Some(_)) => To::Account,
        }
    }
}

/// An IQ that a module owns which may take its time.
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
    /// The whole stanza.
    pub stanza: Stanza,
    answered: Arc<AtomicBool>,
}

impl Request {
    fn new(query: &Query<'_>) -> Self {
        Self {
            server: Arc::clone(query.server),
            session: query.session.cloned(),
            from: query.from.clone(),
            to: query.to.clone(),
            target: query.target(),
            stanza: query.stanza.clone(),
            answered: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Answers now, for a module that has more to send after its answer. What it returns is not sent any more.
    pub fn answer(&self, payload: Option<&Element>) {
        if let Some(session) = &self.session {
            self.answered.store(true, Ordering::Relaxed);
            session.send(result(&self.stanza, payload));
        }
    }

    /// The payload, parsed anew each time.
    pub fn payload(&self) -> Element {
        payload(&self.stanza)
    }

    /// The asking session. Requests to the own account always have one.
    pub fn session(&self) -> Result<&Arc<SessionHandle>, StanzaError> {
        self.session.as_ref().ok_or_else(|| StanzaCondition::Forbidden.into())
    }
}

fn payload(stanza: &Stanza) -> Element {
    stanza.children().next().expect("an owner is found by the payload").element()
}

/// What a module answers: the payload of the result (or none), or the error.
pub type Reply = Result<Option<Element>, StanzaError>;

enum Owner {
    Now(Box<dyn Fn(&Query<'_>) -> Reply + Send + Sync>),
    Later(Box<dyn Fn(Request) -> Later + Send + Sync>),
}

type Later = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The owner of a request takes its time, and has not been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakesTime;

/// Two modules want one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two modules own {verb:?} {{{ns}}}{name} to {target:?}")]
pub struct TwoOwners {
    target: To,
    verb: Verb,
    name: &'static str,
    ns: &'static str,
}

/// By what an owner is found.
#[derive(Debug, PartialEq, Eq)]
struct Key<'a> {
    target: To,
    verb: Verb,
    name: &'a str,
    ns: &'a str,
}

impl Hash for Key<'_> {
    /// A namespace has few owners: the rest is for the comparison.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ns.hash(state);
    }
}

/// A key whose text lives no longer than the stanza.
#[derive(Hash)]
struct Wanted<'a>(Key<'a>);

impl Equivalent<Key<'static>> for Wanted<'_> {
    fn equivalent(&self, key: &Key<'static>) -> bool {
        self.0 == *key
    }
}

/// The table of owners.
#[derive(Default)]
pub struct Requests {
    owners: HashMap<Key<'static>, Owner>,
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
        payload: (&'static str, &'static str),
        module: &Arc<M>,
        answer: fn(Arc<M>, Request) -> F,
    ) where
        M: Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let module = Arc::clone(module);
        let owner = move |request| Box::pin(answer(Arc::clone(&module), request)) as _;
        self.insert(target, verb, payload, Owner::Later(Box::new(owner)));
    }

    /// As [`Requests::own`], for an answer that waits for nothing and so costs no task its turn.
    pub fn own_now<M: Send + Sync + 'static>(
        &mut self,
        target: To,
        verb: Verb,
        payload: (&'static str, &'static str),
        module: &Arc<M>,
        answer: fn(&M, &Query<'_>) -> Reply,
    ) {
        let module = Arc::clone(module);
        self.insert(target, verb, payload, Owner::Now(Box::new(move |query| answer(&module, query))));
    }

    fn insert(&mut self, target: To, verb: Verb, (name, ns): (&'static str, &'static str), owner: Owner) {
        if self.owners.insert(Key { target, verb, name, ns }, owner).is_some() {
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
    pub async fn answer(&self, query: &Query<'_>) -> Option<Stanza> {
        match self.find(query) {
            Ok(Owner::Now(owner)) => reply(query.stanza, owner(query)),
            Ok(Owner::Later(owner)) => {
                let request = Request::new(query);
                let answered = Arc::clone(&request.answered);
                let answer = owner(request).await;
                if answered.load(Ordering::Relaxed) { None } else { reply(query.stanza, answer) }
            }
            Err(refused) => refused,
        }
    }

    /// As [`Requests::answer`], where that is possible without waiting.
    pub fn answer_now(&self, query: &Query<'_>) -> Result<Option<Stanza>, TakesTime> {
        match self.find(query) {
            Ok(Owner::Now(owner)) => Ok(reply(query.stanza, owner(query))),
            Ok(Owner::Later(_)) => Err(TakesTime),
            Err(refused) => Ok(refused),
        }
    }

    /// Who answers; otherwise what is to be said of it, if anything is.
    fn find(&self, query: &Query<'_>) -> Result<&Owner, Option<Stanza>> {
        let iq = query.stanza;
        let refuse = |condition| Err(StanzaError::from(condition).reply_to(iq));
        let verb = match iq.type_().as_deref() {
            Some("get") => Verb::Get,
            Some("set") => Verb::Set,
            // Answers to questions that the server asked (a ping) need no answer.
            Some("result" | "error") => {
                query.server.modules.caps.hear_answer(query);
                query.server.modules.push.hear_answer(query);
                return Err(None);
            }
            _ => return refuse(StanzaCondition::BadRequest),
        };
        // §8.2.3: an id, and exactly one payload.
        let mut children = iq.children();
        let (Some(payload), None, true) = (children.next(), children.next(), iq.has(Attr::Id)) else {
            return refuse(StanzaCondition::BadRequest);
        };
        let key = Key { target: query.target(), verb, name: payload.name, ns: payload.ns };
        match self.owners.get(&Wanted(key)) {
            Some(owner) => Ok(owner),
            None => refuse(StanzaCondition::ServiceUnavailable),
        }
    }
}

fn reply(iq: &Stanza, reply: Reply) -> Option<Stanza> {
    match reply {
        Ok(payload) => Some(result(iq, payload.as_ref())),
        Err(error) => error.reply_to(iq),
    }
}

/// The result of an IQ.
pub fn result(iq: &Stanza, payload: Option<&Element>) -> Stanza {
    debug_assert_eq!(iq.kind(), Kind::Iq);
    iq.reply("result", true, payload)
}
