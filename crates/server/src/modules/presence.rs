//! RFC 6121 §4: Presence
//!
//! Who is available, and who is told of it. A broadcast shares one stanza among all its recipients; only the address is
//! written anew for each. Both ends of a local subscription are in one server, so that a probe (§4.3) is a look into the registry.

use std::sync::Arc;
use std::time::Duration;

use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{About, Module};
use crate::mailbox::{Addressee, Delivery, Mail};
use crate::modules::blocking::BlockList;
use crate::modules::offline::refusal;
use crate::news;
use crate::promise::Promise;
use crate::registry::{Account, Resource, SessionHandle};
use crate::roster::Roster;
use crate::router::{self, PresenceType, Route, Target};
use crate::server::{Deps, Server};
use crate::services::Service;
use crate::subscription::{Subscription, SubscriptionStanza};

/// Addresses that directed presence of one session is remembered for; one more is `resource-constraint`.
const DIRECTED_MAX: usize = 1024;

/// How long a session that becomes available may take to read who of its contacts is there.
const GREETING_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a session is left to write before the next look.
const GREETING_PAUSE: Duration = Duration::from_millis(5);

/// The module.
pub struct Presence;

impl Module for Presence {
    const ABOUT: &'static [About] = &[];

    fn new(_deps: &Deps) -> Self {
        Self
    }
}

/// What a session must be told when it becomes available.
struct Arrival {
    roster: Arc<Roster>,
    blocked: Arc<BlockList>,
    others: Vec<Stanza>,
}

impl Presence {
    /// Presence without `to` and `type`: the session is available, or shows something new (§4.2, §4.4).
    pub async fn user_is_available(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        stanza: &Stanza,
    ) -> Result<Promise, StanzaError> {
        let priority = priority(stanza)?;
        let arrival = server.registry().with(&session.account, |account| {
            let account = account?;
            let others = account.available().filter(|other| other.session.id != session.id);
            let others: Vec<Stanza> = others.filter_map(|other| other.presence.clone()).collect();
            let roster = account.roster.clone()?;
            let blocked = account.blocked().cloned().unwrap_or_default();
            let resource = account.resource(session.id)?;
            let initial = !resource.is_available();
            let willing = !initial && resource.priority >= 0;
            resource.presence = Some(stanza.clone());
            resource.priority = priority;
            if priority >= 0 && !willing {
                // In the same breath: whatever is routed from here on finds the session, or the spool before it looks.
                resource.fetching = true;
                let _ = session.mailbox.put(Mail::LookIntoSpool);
            }
            Some((Arrival { roster, blocked, others }, initial))
        });
        let Some((arrival, initial)) = arrival else { return Ok(Promise::kept()) };
        self.broadcast(server, session, &arrival.roster, stanza);
        if initial {
            self.greet(server, session, arrival).await;
            news::session_available(server, session);
        }
        Ok(Promise::kept())
    }

    /// `unavailable` without `to`: the session goes, though its stream may stay (§4.5).
    pub async fn user_is_unavailable(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        stanza: &Stanza,
    ) -> Result<Promise, StanzaError> {
        let gone = server.registry().with(&session.account, |account| {
            let account = account?;
            let roster = account.roster.clone();
            let resource = account.resource(session.id)?;
            let was_available = resource.presence.take().is_some();
            Some((roster, was_available, resource.directed.take()))
        });
        if let Some((roster, was_available, directed)) = gone {
            let directed = directed.map(|directed| directed.into_iter().collect::<Vec<_>>()).unwrap_or_default();
            self.tell_of_end(server, session, roster, was_available, &directed, stanza).await;
            if was_available {
                // §4.5.2: the session that goes is told too, though it is not available any more.
                session.mailbox.deliver(Delivery::to(stanza.clone(), Addressee::Account));
            }
        }
        Ok(Promise::kept())
    }

    /// A session is over; what it did not say itself the server says for it (§4.5.3).
    pub async fn session_ended(&self, server: &Arc<Server>, resource: &Resource) {
        let session = &resource.session;
        let directed = resource.directed.as_ref().map(|directed| directed.iter().cloned().collect::<Vec<_>>());
        let directed = directed.unwrap_or_default();
        if !resource.is_available() && directed.is_empty() {
            return;
        }
        let roster = match server.modules.roster.of(&session.account).await {
            Ok(roster) => Some(roster),
            Err(error) => {
                tracing::error!(%error, account = %session.account, "the roster cannot be read");
                None
            }
        };
        let stanza = unavailable(&session.jid);
        self.tell_of_end(server, session, roster, resource.is_available(), &directed, &stanza).await;
    }

    async fn tell_of_end(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        roster: Option<Arc<Roster>>,
        was_available: bool,
        directed: &[Jid],
        stanza: &Stanza,
    ) {
        let roster = roster.filter(|_| was_available);
        if let Some(roster) = &roster {
            self.broadcast(server, session, roster, stanza);
        }
        for to in directed {
            // Who has subscribed since, or is the user, has just been told (§4.6.3).
            let bare = to.to_bare();
            if roster.as_ref().is_none_or(|roster| !sees(roster, &bare) && bare != session.account) {
                self.deliver(server, stanza, &session.jid, to);
            }
        }
        if was_available && current(server, &session.account).is_empty() {
            news::account_left(server, session, stanza).await;
        }
    }

    /// Presence with `to`: to somebody in particular, subscribed or not (§4.6), or a question (§4.3).
    pub async fn user_sends_directed(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        kind: PresenceType,
        stanza: &Stanza,
        to: &Jid,
    ) -> Result<Promise, StanzaError> {
        let contact = to.to_bare();
        let service = server.service_at(contact.domain());
        if service.is_some_and(|service| service != Service::Muc) {
            // A service that needs no presence.
            return Ok(Promise::kept());
        }
        if service.is_none() && !server.serves(contact.domain()) {
            return Err(StanzaCondition::RemoteServerNotFound.into());
        }
        if kind == PresenceType::Probe {
            if service.is_some() {
                return Ok(Promise::kept());
            }
            self.answer_probe(server, &Jid::from(session.jid.clone()), &contact).await;
            return Ok(Promise::kept());
        }
        let remembered = server.registry().with(&session.account, |account| {
            let Some(account) = account else { return true };
            let subscribed = account.roster.as_ref().is_some_and(|roster| sees(roster, &contact));
            let Some(resource) = account.resource(session.id) else { return true };
            match kind {
                // A subscriber hears of the end as it is (§4.6.3).
                PresenceType::Available if !subscribed => {
                    let directed = resource.directed.get_or_insert_default();
                    let room = directed.contains(to) || directed.len() < DIRECTED_MAX;
                    if room {
                        directed.insert(to.clone());
                    }
                    room
                }
                PresenceType::Unavailable => {
                    if let Some(directed) = &mut resource.directed {
                        directed.remove(to);
                    }
                    true
                }
                _ => true,
            }
        });
        if !remembered {
            return Err(StanzaCondition::ResourceConstraint.into());
        }
        if service.is_some() {
            let promise = server.modules.muc.user_sends_presence(session, to, stanza).await;
            if kind == PresenceType::Available && !server.modules.muc.has(&session.jid, to) {
                self.forget_directed(server, session, to);
            }
            return Ok(promise);
        }
        self.deliver(server, stanza, &session.jid, to);
        Ok(Promise::kept())
    }

    fn forget_directed(&self, server: &Server, session: &SessionHandle, to: &Jid) {
        server.registry().with_resource(session, |resource| resource.directed.as_mut().map(|directed| directed.remove(to)));
    }

    /// What the account's sessions show has changed without them: their presence is sent again where `change` gives another.
    pub async fn show_again(
        &self,
        server: &Arc<Server>,
        account: &BareJid,
        change: impl Fn(&Stanza) -> Option<Stanza>,
    ) {
        let changed = server.registry().with(account, |account| {
            let account = account?;
            let roster = account.roster.clone()?;
            let changed = account.resources.iter_mut().filter_map(|resource| {
                let changed = change(resource.presence.as_ref()?)?;
                resource.presence = Some(changed.clone());
                Some((Arc::clone(&resource.session), changed))
            });
            Some((roster, changed.collect::<Vec<_>>()))
        });
        let Some((roster, changed)) = changed else { return };
        for (session, presence) in changed {
            self.broadcast(server, &session, &roster, &presence);
        }
    }

    /// A contact is blocked: to it, the user goes away (XEP-0191 §3.3), from each resource whose presence it has.
    pub async fn hide_from(&self, server: &Arc<Server>, account: &BareJid, contact: &Jid) {
        for contact in self.seeing(server, account, contact) {
            self.send_unavailable(server, account, &contact).await;
        }
        let only = BlockList::of(contact.clone());
        let told = server.registry().with(account, |account| {
            let Some(account) = account else { return Vec::new() };
            let roster = account.roster.clone();
            let mut told = Vec::new();
            for resource in &mut account.resources {
                let available = resource.is_available();
                let Some(directed) = &mut resource.directed else { continue };
                for to in directed.extract_if(|to| only.blocks(to)) {
                    let subscribed = roster.as_ref().is_some_and(|roster| sees(roster, &to.to_bare()));
                    if !(available && subscribed) {
                        told.push((resource.session.jid.clone(), to));
                    }
                }
            }
            told
        });
        for (jid, to) in told {
            self.deliver(server, &unavailable(&jid), &jid, &to);
        }
    }

    /// A contact is unblocked: it sees the user again, and is seen.
    pub async fn show_to(&self, server: &Arc<Server>, account: &BareJid, contact: &Jid) {
        for contact in self.seeing(server, account, contact) {
            self.send_available(server, account, &contact).await;
        }
        let Some(roster) = roster(server, account) else { return };
        let (own, only) = (Jid::from(account.clone()), BlockList::of(contact.clone()));
        let mut room = String::new();
        for contact in roster.contacts(Subscription::has_to) {
            for (jid, presence) in shown_to(server, contact.address(&mut room), account) {
                if only.blocks(&jid.clone().into()) {
                    self.deliver(server, &presence, &jid, &own);
                }
            }
        }
    }

    /// Who of those for whom an entry of a block list stands may see the account's presence: a blocked domain stands for all
    /// contacts there.
    fn seeing(&self, server: &Server, account: &BareJid, contact: &Jid) -> Vec<Jid> {
        let Some(roster) = roster(server, account) else { return Vec::new() };
        let contacts: Vec<Jid> = match contact.local() {
            Some(_) => vec![contact.clone()],
            None => {
                let named = |jid: BareJid| match contact.resource() {
                    Some(resource) => jid.with_resource(resource).ok().map(Jid::from),
                    None => Some(jid.into()),
                };
                roster.contacts_of(contact.domain()).filter_map(named).collect()
            }
        };
        contacts.into_iter().filter(|contact| sees(&roster, &contact.to_bare())).collect()
    }

    /// Sends the current presence of each available resource of the account.
    pub async fn send_available(&self, server: &Arc<Server>, account: &BareJid, contact: &Jid) {
        for (jid, stanza) in current(server, account) {
            self.deliver(server, &stanza, &jid, contact);
        }
        server.modules.pubsub.greet_contact(server, account, &contact.to_bare()).await;
    }

    /// Sends `unavailable` from each available resource of the account.
    pub async fn send_unavailable(&self, server: &Arc<Server>, account: &BareJid, contact: &Jid) {
        for (jid, _) in current(server, account) {
            self.deliver(server, &unavailable(&jid), &jid, contact);
        }
    }

    /// Whether the account lets this one see its presence, and so what depends on that (§3.1). Nobody sees an account that is not there.
    pub async fn is_seen_by(&self, server: &Server, account: &BareJid, asker: &BareJid) -> Result<bool, StanzaError> {
        if asker == account {
            return Ok(true);
        }
        Ok(sees(&*server.modules.roster.of(account).await.map_err(refusal)?, asker))
    }

    /// §4.3.2: somebody asks whether the account is available.
    pub async fn answer_probe(&self, server: &Arc<Server>, from: &Jid, account: &BareJid) {
        let asker = from.to_bare();
        if asker != *account {
            // First: who is blocked hears nothing at all (XEP-0191 §3.2).
            if server.modules.blocking.blocks(account, from).await.unwrap_or(true) {
                return;
            }
            let exists = server.account_exists(account).await.unwrap_or(false);
            let allowed = match exists {
                true => match server.modules.roster.of(account).await {
                    Ok(roster) => sees(&roster, &asker),
                    Err(_) => return,
                },
                false => false,
            };
            if !allowed {
                // The answer would take back a request that waits for the contact, who then answers one that is gone. Seen
                // from the asker's side, so that it does not tell whether there is such a contact.
                let asks = server.modules.roster.of(&asker).await.is_ok_and(|roster| roster.state(account).pending_out);
                if asks {
                    return;
                }
                // An account that is not there and one that keeps to itself sound alike.
                server.modules.roster.send(server, account, &asker, SubscriptionStanza::Unsubscribed).await;
                return;
            }
        }
        let current = current(server, account);
        if current.is_empty() {
            let nobody = Element::new("presence", ns::CLIENT).with_attr("from", account).with_attr("type", "unavailable");
            Outgoing::new(server, &Stanza::new(&nobody), account.clone().into()).deliver_to(from);
        }
        for (jid, stanza) in current {
            self.deliver(server, &stanza, &jid, from);
        }
    }

    /// To all subscribers, and to the account's own available resources (§4.2.2, §4.4.2, §4.5.2).
    fn broadcast(&self, server: &Server, session: &SessionHandle, roster: &Roster, stanza: &Stanza) {
        let blocked = server
            .registry()
            .with(&session.account, |account| account.and_then(|account| account.blocked().cloned()))
            .unwrap_or_default();
        let outgoing = Outgoing::new(server, stanza, session.jid.clone().into());
        let mut room = String::new();
        for contact in roster.contacts(Subscription::has_from) {
            // A blocked contact sees nothing (XEP-0191 §3.3).
            if blocked.is_empty() || !blocked.blocks(&contact.jid().into()) {
                outgoing.deliver(contact.address(&mut room), Target::Bare);
            }
        }
        outgoing.deliver(session.account.as_str(), Target::Bare);
    }

    /// What a session that becomes available is told: who of its contacts is there (§4.3), its account's other resources, and who waits for an
    /// answer (§3.1.3).
    async fn greet(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, arrival: Arrival) {
        for other in arrival.others {
            session.mailbox.deliver(Delivery::to(other, Addressee::Session));
        }
        // From whom the user blocks nothing arrives, old requests included (XEP-0191 §3.2).
        let blocked = arrival.blocked;
        let deadline = Instant::now() + GREETING_WAIT_MAX;
        let mut room = String::new();
        for contact in arrival.roster.contacts(Subscription::has_to) {
            for (jid, presence) in shown_to(server, contact.address(&mut room), &session.account) {
                if !blocked.blocks(&jid.into()) {
                    until_room(server, session, deadline).await;
                    session.mailbox.deliver(Delivery::to(presence, Addressee::Session));
                }
            }
        }
        for (contact, request) in arrival.roster.requests(&session.account) {
            if blocked.blocks(&contact.clone().into()) {
                continue;
            }
            if let Ok(request) = Stanza::parse(request.as_bytes()) {
                until_room(server, session, deadline).await;
                session.send(request);
            }
        }
    }

    fn deliver(&self, server: &Server, stanza: &Stanza, from: &FullJid, to: &Jid) {
        if server.service_at(to.domain()) == Some(Service::Muc) {
            return server.modules.muc.session_left(server, from, to, stanza);
        }
        Outgoing::new(server, stanza, from.clone().into()).deliver_to(to);
    }
}

/// Presence on its way to local accounts or resources of them.
struct Outgoing<'a> {
    server: &'a Server,
    stanza: &'a Stanza,
    kind: PresenceType,
    from: Jid,
}

impl<'a> Outgoing<'a> {
    fn new(server: &'a Server, stanza: &'a Stanza, from: Jid) -> Self {
        let kind = PresenceType::parse(stanza.type_().as_deref()).unwrap_or(PresenceType::Available);
        Self { server, stanza, kind, from }
    }

    fn deliver_to(&self, to: &Jid) {
        self.deliver(to.to_bare().as_str(), to.resource().map_or(Target::Bare, Target::Full));
    }

    fn deliver(&self, account: &str, target: Target<'_>) {
        self.server.registry().with_address(account, |entry| {
            let Some(entry) = entry else { return };
            if entry.blocked().is_some_and(|list| list.blocks(&self.from)) && self.from.to_bare() != account {
                return;
            }
            let resources = entry.resources.iter().map(|resource| router::Resource {
                session: &resource.session,
                name: resource.session.jid.resource(),
                priority: resource.is_available().then_some(resource.priority),
            });
            if let Route::Sessions(sessions) = router::route_presence(self.kind, true, target, resources) {
                let to = match target {
                    Target::Bare => Addressee::Account,
                    Target::Full(_) => Addressee::Session,
                };
                for session in sessions {
                    session.mailbox.deliver(Delivery::to(self.stanza.clone(), to));
                }
            }
        });
    }
}

/// Whether the sender of an IQ may know that the resource is there (RFC 6121 §8.5.3.1): it belongs to the account, is subscribed, or was
/// sent directed presence.
pub fn is_shared(account: &Account, name: &BareJid, resource: &str, from: &Jid) -> bool {
    let bare = from.to_bare();
    bare == *name
        || account.roster.as_ref().is_some_and(|roster| sees(roster, &bare))
        || account.named(resource).and_then(|resource| resource.directed.as_ref()).is_some_and(|directed| {
            directed.contains(from) || directed.contains(&Jid::from(bare))
        })
}

/// Whether the contact may see the presence of the roster's owner.
fn sees(roster: &Roster, contact: &BareJid) -> bool {
    roster.state(contact).subscription.has_from()
}

/// Waits until the session has written some of what is in its mailbox: a roster can have more to tell than fits. Who does not
/// read is not waited for beyond the deadline, nor is a session that ends or has lost its connection.
async fn until_room(server: &Server, session: &SessionHandle, deadline: Instant) {
    let takes = || server.registry().with_resource(session, |resource| !resource.detached) == Some(true);
    while !session.mailbox.is_roomy() && Instant::now() < deadline && takes() {
        tokio::time::sleep(GREETING_PAUSE).await;
    }
}

fn roster(server: &Server, account: &BareJid) -> Option<Arc<Roster>> {
    server.registry().with(account, |account| account.and_then(|account| account.roster.clone()))
}

/// The presence of a contact's available resources, as far as the contact lets this account see it.
fn shown_to(server: &Server, contact: &str, account: &BareJid) -> SmallVec<[(FullJid, Stanza); 1]> {
    server.registry().with_address(contact, |contact| {
        let Some(contact) = contact else { return SmallVec::new() };
        let allowed = contact.roster.as_ref().is_some_and(|roster| sees(roster, account));
        let blocked = contact.blocked().is_some_and(|list| list.blocks(&account.clone().into()));
        match allowed && !blocked {
            true => contact.available().filter_map(with_address).collect(),
            false => SmallVec::new(),
        }
    })
}

fn with_address(resource: &Resource) -> Option<(FullJid, Stanza)> {
    Some((resource.session.jid.clone(), resource.presence.clone()?))
}

fn current(server: &Server, account: &BareJid) -> Vec<(FullJid, Stanza)> {
    server.registry().with(account, |account| {
        let Some(account) = account else { return Vec::new() };
        account.available().filter_map(with_address).collect()
    })
}

fn unavailable(jid: &FullJid) -> Stanza {
    let stanza = Element::new("presence", ns::CLIENT).with_attr("from", jid).with_attr("type", "unavailable");
    let stanza = Stanza::new(&stanza);
    debug_assert!(stanza.attr(Attr::From).is_some());
    stanza
}

/// §4.7.2.3: an integer from -128 to 127; none means 0.
fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    match stanza.child("priority", ns::CLIENT) {
        None => Ok(0),
        Some(child) => {
            let text = child.element().text();
            text.trim().parse().map_err(|_| StanzaError::new(StanzaCondition::BadRequest, "priority: -128 to 127"))
        }
    }
}
