//! RFC 6121 §2 and §3: Roster, and the subscriptions that stand in it
//!
//! The roster of an account with sessions is in the registry; a change is made there, under the account's lock, and handed to
//! the store in the same breath, so that rows, pushes and versions have one order. An account without sessions is brought in for the
//! time of the change. `roster.rs` has the roster as a value, `subscription.rs` the state machine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use magpie_proto::xml::{Attr, Element, Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Map, Rows, Store, StoreError, Ticket, Value, Wanted};
use tokio::task::JoinSet;

use super::{About, Module};
use crate::accounts;
use crate::mailbox::Delivery;
use crate::modules::offline::refusal;
use crate::promise::Promise;
use crate::registry::{self, Account, Registry, SessionHandle};
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::roster::{Item, Journal, Push, Roster, RosterLimits, RosterSet, Since};
use crate::server::{Deps, Server, random_text};
use crate::subscription::{self, Announce, Removal, SubscriptionStanza};

/// Contacts of a removed account that are told at the same time: each waits for the disk.
const CANCELLED_AT_ONCE_MAX: usize = 64;

/// The module.
pub struct RosterModule {
    store: Store,
    items: Map<Item>,
    journals: Value<Journal>,
    registry: Arc<Registry>,
    deps: Deps,
}

impl Module for RosterModule {
    const ABOUT: &'static [About] = &[About {
        xep: None,
        title: "RFC 6121: Instant Messaging and Presence",
        version: "2011",
        host_features: &[ns::ROSTER],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            items: deps.store.map("roster"),
            journals: deps.store.value("roster-journal"),
            registry: Arc::clone(&deps.registry),
            deps: deps.clone(),
        }
    }

    fn stream_features(&self, _domain: &str) -> Vec<Element> {
        vec![Element::new("ver", ns::ROSTER_VERSIONING), Element::new("sub", ns::PRE_APPROVAL)]
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Get, ("query", ns::ROSTER), self, Self::get);
        requests.own(To::OwnAccount, Verb::Set, ("query", ns::ROSTER), self, Self::set);
        for verb in [Verb::Get, Verb::Set] {
            requests.own_now(To::Account, verb, ("query", ns::ROSTER), self, Self::refuse);
        }
    }
}

/// A change that was made to a roster, and is on its way to the store.
struct Changed<R> {
    result: R,
    ticket: Ticket,
    /// Keeps the roster in the registry until the store has it.
    _pin: registry::Pin,
}

impl<R> Changed<R> {
    /// Waits until the store has it.
    async fn kept(self) -> Result<(), StanzaError> {
        self.ticket.await.map_err(refusal)
    }
}

impl RosterModule {
    /// Brings the roster of an account into the registry, where the account is there.
    pub async fn load_into_registry(&self, account: &BareJid) -> Result<(), StoreError> {
        if self.registry.with(account, |account| account.is_none_or(|account| account.roster.is_some())) {
            return Ok(());
        }
        let rows = self.store.read(&accounts::owner(account), &self.wanted()).await?;
        self.bring(account, &rows)
    }

    /// What must be read to know the roster of an account.
    pub fn wanted(&self) -> [Wanted; 2] {
        [self.journals.wanted(), self.items.wanted()]
    }

    /// Brings the roster that was read into the registry, where the account is there and has none.
    pub fn bring(&self, account: &BareJid, rows: &Rows) -> Result<(), StoreError> {
        let (journal, items) = (self.journals.found(rows)?, self.items.found(rows)?);
        let first_version = self.store.next_id().0;
        let roster = Roster::load(journal, items.into_iter().map(|(_, item)| item), first_version);
        self.registry.with(account, |account| {
            if let Some(account) = account {
                // Somebody who was faster may have changed it already.
                account.roster.get_or_insert_with(|| Arc::new(roster));
            }
        });
        Ok(())
    }

    /// The roster of an account.
    pub async fn of(&self, account: &BareJid) -> Result<Arc<Roster>, StoreError> {
        let _pin = self.registry.pin(account);
        self.load_into_registry(account).await?;
        let roster = self.registry.with(account, |account| account.and_then(|account| account.roster.clone()));
        roster.ok_or(StoreError::Closed)
    }

    /// Changes what concerns one contact. `change` runs under the account's lock and sends what must be in step with it.
    async fn change<R>(
        &self,
        account: &BareJid,
        contact: &BareJid,
        change: impl FnOnce(&mut Roster, &RosterLimits) -> Result<R, StanzaCondition>,
        tell: impl FnOnce(&R, &Account),
    ) -> Result<Changed<R>, StanzaError> {
        let pin = self.registry.pin(account);
        self.load_into_registry(account).await.map_err(refusal)?;
        let limits = self.limits();
        let owner = accounts::owner(account);
        let (result, ticket) = self.registry.with(account, |entry| {
            let Some((entry, known)) = entry.and_then(|entry| entry.roster.clone().map(|roster| (entry, roster))) else {
                return Err(StanzaCondition::InternalServerError);
            };
            let mut roster = Roster::clone(&known);
            let result = change(&mut roster, &limits)?;
            let mut batch = Batch::new();
            if roster != *known {
                match roster.get(contact) {
                    Some(item) => self.items.put(&mut batch, &owner, contact.as_str(), &item),
                    None => self.items.delete(&mut batch, &owner, contact.as_str()),
                }
                if roster.version() != known.version() {
                    self.journals.put(&mut batch, &owner, roster.journal());
                }
            }
            entry.roster = Some(Arc::new(roster));
            tell(&result, entry);
            Ok((result, self.store.commit(batch)))
        })?;
        Ok(Changed { result, ticket, _pin: pin })
    }

    /// Waits until the store has a change, and takes it back where the store does not.
    async fn settle<R>(&self, account: &BareJid, contact: &BareJid, changed: Changed<R>) -> Result<(), StanzaError> {
        let Err(error) = changed.ticket.await else { return Ok(()) };
        if let Err(error) = self.read_again(account, contact).await {
            tracing::error!(%error, %account, "the roster that is shown is not the one that is kept");
        }
        Err(refusal(error))
    }

    /// Puts the roster as the store has it in place of the one in the registry, and shows the contact as it is there.
    async fn read_again(&self, account: &BareJid, contact: &BareJid) -> Result<(), StoreError> {
        let owner = accounts::owner(account);
        loop {
            let shown = self.registry.with(account, |account| account.and_then(|account| account.roster.clone()));
            let Some(shown) = shown else { return Ok(()) };
            // Later changes are settled when this is, well or badly, so that what is read has them or never will.
            let mut barrier = Batch::new();
            self.items.delete(&mut barrier, &owner, "");
            let _ = self.store.commit(barrier).await;
            let journal = self.journals.get(&owner).await?;
            let items = self.items.list(&owner).await?;
            let kept = Roster::load(journal, items.into_iter().map(|(_, item)| item), self.store.next_id().0);
            let replaced = self.registry.with(account, |entry| {
                let Some(entry) = entry else { return true };
                let unchanged = entry.roster.as_ref().is_some_and(|roster| Arc::ptr_eq(roster, &shown));
                if unchanged {
                    let push = kept.push(contact);
                    entry.roster = Some(Arc::new(kept));
                    push_to_interested(entry, &push);
                }
                unchanged
            });
            if replaced {
                return Ok(());
            }
        }
    }

    fn limits(&self) -> RosterLimits {
        RosterLimits { items_max: self.deps.config.load().limits.roster_items_max, ..RosterLimits::default() }
    }

    async fn get(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        let query = request.payload();
        let ver = query.attr("ver");
        // Under one lock: no push falls between the answer and the interest in pushes.
        let since = self.registry.with(&session.account, |account| {
            let account = account?;
            account.resource(session.id)?.interested = true;
            let roster = account.roster.clone()?;
            let since = roster.since(ver);
            if let Since::Full = since {
                return Some(Some(roster.query()));
            }
            request.answer(None);
            if let Since::Delta(pushes) = since {
                for push in &pushes {
                    session.send(push_to(session, push));
                }
            }
            Some(None)
        });
        since.ok_or_else(|| StanzaCondition::InternalServerError.into())
    }

    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        let account = &session.account;
        match RosterSet::parse(&request.payload(), account, &self.limits())? {
            RosterSet::Update { jid, name, groups } => {
                let contact = jid.clone();
                let changed = self.change(
                    account,
                    &contact,
                    |roster, limits| roster.update(jid, name, groups, limits),
                    |push, account| push_to_interested(account, push),
                );
                self.settle(account, &contact, changed.await?).await?;
            }
            RosterSet::Remove { jid } => {
                let changed = self.change(
                    account,
                    &jid,
                    |roster, _| roster.remove(&jid),
                    |(_, push), account| push_to_interested(account, push),
                );
                let Changed { result: (removal, _), ticket, _pin } = changed.await?;
                let kept = self.settle(account, &jid, Changed { result: (), ticket, _pin }).await;
                if kept.is_ok() {
                    self.cancel(&request.server, account, &jid, removal).await;
                }
                kept?;
            }
        }
        Ok(None)
    }

    /// Somebody else's (§2.3.3), whether there is such an account or not.
    fn refuse(&self, _query: &Query<'_>) -> Reply {
        Err(StanzaCondition::Forbidden.into())
    }

    /// The account will be removed: as if every contact were removed from the roster (§2.5.2), without pushes, since nobody
    /// keeps it. The store is left to the removal.
    pub async fn cancel_all(&self, server: &Arc<Server>, account: &BareJid) -> Result<(), StoreError> {
        let _pin = self.registry.pin(account);
        self.load_into_registry(account).await?;
        let empty = Arc::new(Roster::new(self.store.next_id().0));
        let roster = self.registry.with(account, |account| account?.roster.replace(empty));
        let Some(roster) = roster else { return Ok(()) };
        let mut under_way = JoinSet::new();
        for item in roster.all() {
            if under_way.len() >= CANCELLED_AT_ONCE_MAX {
                under_way.join_next().await;
            }
            let (server, account, contact, state) = (Arc::clone(server), account.clone(), item.jid, item.state);
            under_way.spawn(async move {
                let roster = &server.modules.roster;
                roster.cancel(&server, &account, &contact, subscription::removal(state)).await;
            });
        }
        while under_way.join_next().await.is_some() {}
        Ok(())
    }

    /// Reads the roster of an account from the store again.
    pub async fn reload(&self, account: &BareJid) -> Result<(), StoreError> {
        self.registry.with(account, |account| {
            if let Some(account) = account {
                account.roster = None;
            }
        });
        self.load_into_registry(account).await
    }

    /// What a contact is told that was removed from the roster (§2.5.2).
    async fn cancel(&self, server: &Arc<Server>, account: &BareJid, contact: &BareJid, removal: Removal) {
        self.announce(server, account, contact, removal.announce).await;
        if removal.unsubscribe {
            self.send(server, account, contact, SubscriptionStanza::Unsubscribe).await;
        }
        if removal.unsubscribed {
            self.send(server, account, contact, SubscriptionStanza::Unsubscribed).await;
        }
    }

    /// A session sends `subscribe`, `subscribed`, `unsubscribe` or `unsubscribed` (§3).
    pub async fn user_sends_subscription(
        &self,
        server: &Arc<Server>,
        session: &SessionHandle,
        kind: SubscriptionStanza,
        stanza: &Stanza,
        to: &Jid,
    ) -> Result<Promise, StanzaError> {
        let changed = self.account_sends_subscription(server, &session.account, kind, stanza, &to.to_bare()).await?;
        Ok(changed.map_or_else(Promise::kept, |changed| Promise::of(changed.ticket, stanza)))
    }

    /// Each of two accounts of this server becomes the other's contact: it approves of the other, then asks it (§3.4, §3.1).
    pub async fn befriend(&self, server: &Arc<Server>, one: &BareJid, other: &BareJid) -> Result<(), StanzaError> {
        for kind in [SubscriptionStanza::Subscribed, SubscriptionStanza::Subscribe] {
            for (account, contact) in [(one, other), (other, one)] {
                let stanza = subscription_stanza(account, contact, kind);
                if let Some(changed) = self.account_sends_subscription(server, account, kind, &stanza, contact).await? {
                    changed.kept().await?;
                }
            }
        }
        Ok(())
    }

    async fn account_sends_subscription(
        &self,
        server: &Arc<Server>,
        account: &BareJid,
        kind: SubscriptionStanza,
        stanza: &Stanza,
        contact: &BareJid,
    ) -> Result<Option<Changed<()>>, StanzaError> {
        if contact == account {
            return Ok(None);
        }
        if !server.serves(contact.domain()) {
            return Err(StanzaCondition::RemoteServerNotFound.into());
        }
        let changed = self.change(
            account,
            contact,
            |roster, limits| {
                let outbound = roster.send(contact, kind, limits)?;
                let push = outbound.push.then(|| roster.push(contact));
                Ok((outbound, push))
            },
            |(_, push), account| {
                if let Some(push) = push {
                    push_to_interested(account, push);
                }
            },
        );
        let Changed { result: (outbound, _), ticket, _pin } = changed.await?;
        if outbound.announce == Announce::Unavailable {
            self.announce(server, account, contact, outbound.announce).await;
        }
        if outbound.route {
            // §3.1.2: from bare JID to bare JID.
            let stanza = stanza.with(Attr::From, Some(account.as_str())).with(Attr::To, Some(contact.as_str()));
            self.account_receives_subscription(server, contact, account, kind, stanza).await;
        }
        if outbound.announce == Announce::Available {
            self.announce(server, account, contact, outbound.announce).await;
        }
        Ok(Some(Changed { result: (), ticket, _pin }))
    }

    /// A subscription stanza reaches a local account.
    pub fn account_receives_subscription<'a>(
        &'a self,
        server: &'a Arc<Server>,
        account: &'a BareJid,
        from: &'a BareJid,
        kind: SubscriptionStanza,
        stanza: Stanza,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        // The answer to one may be another, so the future refers to itself.
        Box::pin(async move {
            if let Err(error) = self.receive(server, account, from, kind, stanza).await {
                tracing::debug!(%account, %from, kind = kind.name(), %error, "subscription stanza dropped");
            }
        })
    }

    async fn receive(
        &self,
        server: &Arc<Server>,
        account: &BareJid,
        from: &BareJid,
        kind: SubscriptionStanza,
        stanza: Stanza,
    ) -> Result<(), StanzaError> {
        // §8.5.1: there is nobody; silence. A blocked contact hears as little (XEP-0191 §3.2).
        let blocked = server.modules.blocking.blocks(account, &from.clone().into()).await.map_err(refusal)?;
        if blocked || !server.account_exists(account).await? {
            return Ok(());
        }
        // An invite is an answer before the question (XEP-0379 §3.5).
        let invited = kind == SubscriptionStanza::Subscribe
            && server.modules.invites.redeem(account, from, &stanza).await.map_err(refusal)?;
        let approved = match invited {
            true => {
                let approve =
                    |roster: &mut Roster, limits: &RosterLimits| roster.send(from, SubscriptionStanza::Subscribed, limits);
                Some(self.change(account, from, approve, |_, _| {}).await?)
            }
            false => None,
        };
        let text = stanza.text().to_owned();
        let changed = self.change(
            account,
            from,
            |roster, limits| {
                let inbound = roster.receive(from, kind, &text, limits)?;
                let push = inbound.push.then(|| roster.push(from));
                Ok((inbound, push))
            },
            |(inbound, push), entry| {
                if inbound.deliver {
                    if kind == SubscriptionStanza::Subscribe {
                        server.modules.push.request_waits(server, account, entry, &stanza);
                    }
                    for resource in &entry.resources {
                        // §3.1.3: a request is for whoever is there; the rest is for whoever has the roster.
                        let wanted = match kind {
                            SubscriptionStanza::Subscribe => resource.is_available(),
                            _ => resource.interested,
                        };
                        if wanted {
                            resource.session.send(stanza.clone());
                        }
                    }
                }
                if let Some(push) = push {
                    push_to_interested(entry, push);
                }
            },
        );
        let Changed { result: (inbound, _), ticket, _pin } = changed.await?;
        if inbound.announce == Announce::Unavailable {
            self.announce(server, account, from, inbound.announce).await;
        }
        if let Some(reply) = inbound.auto_reply {
            self.send(server, account, from, reply).await;
        }
        if inbound.announce == Announce::Available {
            self.announce(server, account, from, inbound.announce).await;
        }
        if let Some(approved) = approved {
            approved.kept().await?;
            let kind = SubscriptionStanza::Subscribe;
            let stanza = subscription_stanza(account, from, kind);
            if let Some(changed) = self.account_sends_subscription(server, account, kind, &stanza, from).await? {
                changed.kept().await?;
            }
        }
        ticket.await.map_err(refusal)
    }

    /// Sends a subscription stanza in the account's name.
    pub async fn send(&self, server: &Arc<Server>, account: &BareJid, contact: &BareJid, kind: SubscriptionStanza) {
        let stanza = subscription_stanza(account, contact, kind);
        if server.serves(contact.domain()) {
            self.account_receives_subscription(server, contact, account, kind, stanza).await;
        }
    }

    async fn announce(&self, server: &Arc<Server>, account: &BareJid, contact: &BareJid, announce: Announce) {
        let contact = Jid::from(contact.clone());
        match announce {
            Announce::Nothing => {}
            Announce::Available => server.modules.presence.send_available(server, account, &contact).await,
            Announce::Unavailable => server.modules.presence.send_unavailable(server, account, &contact).await,
        }
    }
}

fn subscription_stanza(account: &BareJid, contact: &BareJid, kind: SubscriptionStanza) -> Stanza {
    let stanza = Element::new("presence", ns::CLIENT)
        .with_attr("from", account)
        .with_attr("to", contact)
        .with_attr("type", kind.name())
        .with_attr("id", random_text(6));
    let stanza = Stanza::new(&stanza);
    debug_assert_eq!(stanza.kind(), Kind::Presence);
    stanza
}

fn push_to_interested(account: &Account, push: &Push) {
    for resource in account.resources.iter().filter(|resource| resource.interested) {
        resource.session.mailbox.deliver(Delivery::new(push_to(&resource.session, push)));
    }
}

/// §2.1.6: a roster push.
fn push_to(session: &SessionHandle, push: &Push) -> Stanza {
    Stanza::new(
        &Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", random_text(6))
            .with_attr("to", session.jid.as_str())
            .with(push.query()),
    )
}
