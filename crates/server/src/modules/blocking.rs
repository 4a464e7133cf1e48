//! XEP-0191: Blocking Command
//!
//! A user's list of addresses from which nothing arrives and to which nothing goes. A blocked contact sees the user as
//! offline. The list of an account with sessions is in the registry, so that the way of a stanza asks no store.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use magpie_proto::xml::{Element, Kind, Stanza};
use magpie_proto::error::ErrorType;
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Map, Rows, Store, StoreError, Wanted};

use super::{About, Module};
use crate::accounts;
use crate::modules::offline::refusal;
use crate::registry::{Account, Registry, SessionHandle};
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::Deps;

const NS: &str = "urn:xmpp:blocking";

/// Addresses in one list; one more is `resource-constraint`.
const ITEMS_MAX: usize = 10_000;

/// Bytes of the addresses in one list, which a client is sent at once; more is `resource-constraint`.
const BYTES_MAX: usize = 1024 * 1024;

/// An account's block list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList(BTreeSet<Jid>);

impl BlockList {
    /// A list with one entry.
    pub fn of(jid: Jid) -> Self {
        Self(BTreeSet::from([jid]))
    }

    /// Whether it blocks nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list of those who block nobody, which is one for all of them.
    fn empty() -> Arc<Self> {
        static EMPTY: LazyLock<Arc<BlockList>> = LazyLock::new(Arc::default);
        Arc::clone(&EMPTY)
    }

    /// As [`Blocking::refuse_received`], where the list is at hand.
    pub fn refuse_received(&self, account: &BareJid, stanza: &Stanza) -> Result<(), StanzaError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(from) = stanza.from().and_then(|from| Jid::parse(&from).ok()) else { return Ok(()) };
        match from.to_bare() != *account && self.blocks(&from) {
            true => Err(StanzaCondition::ServiceUnavailable.into()),
            false => Ok(()),
        }
    }

    /// Whether the address is blocked: itself, its bare JID, its domain with that resource, or its domain (§5 with XEP-0016 §2.1's order).
    pub fn blocks(&self, jid: &Jid) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let bare = jid.to_bare();
        let domain = bare.to_domain();
        let domain_resource = jid.resource().and_then(|resource| domain.with_resource(resource).ok());
        self.0.contains(jid)
            || self.0.contains(&Jid::from(bare))
            || domain_resource.is_some_and(|jid| self.0.contains(&Jid::from(jid)))
            || self.0.contains(&Jid::from(domain))
    }
}

/// The module.
pub struct Blocking {
    store: Store,
    lists: Map<String>,
    registry: Arc<Registry>,
}

impl Module for Blocking {
    const ABOUT: &'static [About] = &[About {
        xep: Some(191),
        title: "Blocking Command",
        version: "1.3",
        host_features: &[NS],
        account_features: &[NS],
    }];

    fn new(deps: &Deps) -> Self {
        Self { store: deps.store.clone(), lists: deps.store.map("blocked"), registry: Arc::clone(&deps.registry) }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Get, ("blocklist", NS), self, Self::list);
        requests.own(To::OwnAccount, Verb::Set, ("block", NS), self, Self::block);
        requests.own(To::OwnAccount, Verb::Set, ("unblock", NS), self, Self::unblock);
    }
}

impl Blocking {
    /// What must be read to know the list of an account.
    pub fn wanted(&self) -> Wanted {
        self.lists.wanted()
    }

    /// Brings the list of an account with a new session into the registry.
    pub fn bring(&self, account: &BareJid, rows: &Rows) -> Result<(), StoreError> {
        let list = of_rows(self.lists.found(rows)?);
        self.registry.with(account, |account| {
            if let Some(account) = account {
                // A session that was faster may have changed it already.
                if account.blocked().is_none() {
                    account.set_blocked(list);
                }
            }
        });
        Ok(())
    }

    async fn load(&self, account: &BareJid) -> Result<Arc<BlockList>, StoreError> {
        Ok(of_rows(self.lists.list(&accounts::owner(account)).await?))
    }

    fn cached(&self, account: &BareJid) -> Option<Arc<BlockList>> {
        self.registry.with(account, |account| account.and_then(|account| account.blocked().cloned()))
    }

    /// The list of an account.
    pub async fn of(&self, account: &BareJid) -> Result<Arc<BlockList>, StoreError> {
        match self.cached(account) {
            Some(list) => Ok(list),
            None => self.load(account).await,
        }
    }

    /// Whether the account blocks the address.
    pub async fn blocks(&self, account: &BareJid, jid: &Jid) -> Result<bool, StoreError> {
        Ok(self.of(account).await?.blocks(jid))
    }

    /// A step: what the user sends to a blocked contact goes nowhere, and the user is told (§3.3).
    pub fn refuse_sent(&self, session: &SessionHandle, to: &Jid) -> Result<(), StanzaError> {
        self.registry.with(&session.account, |account| refuse_sent_by(account.as_deref(), session, to))
    }

    /// A step: what a blocked contact sends to the account looks to it as if nobody were there (§3.2).
    pub async fn refuse_received(&self, account: &BareJid, stanza: &Stanza) -> Result<(), StanzaError> {
        self.of(account).await.map_err(refusal)?.refuse_received(account, stanza)
    }

    async fn list(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        // From now on this session hears of changes.
        self.registry.with_resource(session, |resource| resource.block_pushes = true);
        let list = self.of(&session.account).await.map_err(refusal)?;
        let items = list.0.iter().map(|jid| Element::new("item", NS).with_attr("jid", jid));
        Ok(Some(Element::new("blocklist", NS).with_all(items)))
    }

    async fn block(self: Arc<Self>, request: Request) -> Reply {
        let jids = items(&request.payload())?;
        if jids.is_empty() {
            return Err(StanzaCondition::BadRequest.into());
        }
        let done = self.change(&request, &jids, true).await?;
        // Once it is blocked, whatever becomes of what is said of it (XEP-0377 §6).
        let (server, session) = (&request.server, request.session()?);
        server.modules.reports.blocked(server, &session.account, &request.payload()).await;
        Ok(done)
    }

    async fn unblock(self: Arc<Self>, request: Request) -> Reply {
        let jids = items(&request.payload())?;
        self.change(&request, &jids, false).await
    }

    /// Blocks or unblocks; no address at all means to unblock every one.
    async fn change(&self, request: &Request, jids: &[Jid], block: bool) -> Reply {
        let session = request.session()?;
        let owner = accounts::owner(&session.account);
        let (ticket, changed) = self.registry.with(&session.account, |account| {
            let Some(account) = account else { return Err(StanzaCondition::Conflict) };
            let mut list = account.blocked().map(|list| (**list).clone()).unwrap_or_default();
            let all: Vec<Jid> = if jids.is_empty() { list.0.iter().cloned().collect() } else { jids.to_vec() };
            let mut batch = Batch::new();
            let mut changed = Vec::new();
            for jid in all {
                let differs = if block { list.0.insert(jid.clone()) } else { list.0.remove(&jid) };
                if !differs {
                    continue;
                }
                match block {
                    true => self.lists.put(&mut batch, &owner, jid.as_str(), &String::new()),
                    false => self.lists.delete(&mut batch, &owner, jid.as_str()),
                }
                changed.push(jid);
            }
            let bytes = || list.0.iter().map(|jid| jid.as_str().len()).sum::<usize>();
            if block && (list.0.len() > ITEMS_MAX || bytes() > BYTES_MAX) {
                return Err(StanzaCondition::ResourceConstraint);
            }
            account.set_blocked(Arc::new(list));
            for resource in account.resources.iter().filter(|resource| resource.block_pushes) {
                resource.session.send(push(&resource.session, jids, block));
            }
            Ok((self.store.commit(batch), changed))
        })?;
        ticket.await.map_err(refusal)?;
        let presence = &request.server.modules.presence;
        for jid in &changed {
            match block {
                true => presence.hide_from(&request.server, &session.account, jid).await,
                false => presence.show_to(&request.server, &session.account, jid).await,
            }
        }
        Ok(None)
    }
}

fn items(payload: &Element) -> Result<Vec<Jid>, StanzaError> {
    let items = payload.children().filter(|child| child.is("item", NS));
    let jids: Result<Vec<Jid>, _> = items.map(|item| Jid::parse(item.attr("jid").unwrap_or_default())).collect();
    jids.map_err(|_| StanzaCondition::JidMalformed.into())
}

fn push(session: &SessionHandle, jids: &[Jid], block: bool) -> Stanza {
    let name = if block { "block" } else { "unblock" };
    let payload = Element::new(name, NS).with_all(jids.iter().map(|jid| Element::new("item", NS).with_attr("jid", jid)));
    let iq = Element::new("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", crate::server::random_text(6))
        .with_attr("to", session.jid.as_str())
        .with(payload);
    let iq = Stanza::new(&iq);
    debug_assert_eq!(iq.kind(), Kind::Iq);
    iq
}

fn of_rows(rows: Vec<(String, String)>) -> Arc<BlockList> {
    if rows.is_empty() {
        return BlockList::empty();
    }
    Arc::new(BlockList(rows.iter().filter_map(|(jid, _)| Jid::parse(jid).ok()).collect()))
}

/// Whether the account is known to block nobody, so that [`refuse_sent_by`] has nothing to say.
pub fn blocks_nobody(account: &Account) -> bool {
    account.blocked().is_some_and(|list| list.is_empty())
}

/// As [`Blocking::refuse_sent`], where the sender's account is at hand.
pub fn refuse_sent_by(account: Option<&Account>, session: &SessionHandle, to: &Jid) -> Result<(), StanzaError> {
    let blocks = account.and_then(Account::blocked).is_some_and(|blocked| blocked.blocks(to));
    // Nobody can be shut out of the own account.
    if !blocks || to.to_bare() == session.account {
        return Ok(());
    }
    let blocked = Element::new("blocked", "urn:xmpp:blocking:errors");
    Err(StanzaError::from(StanzaCondition::NotAcceptable).with_type(ErrorType::Cancel).with_application(blocked))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(jids: &[&str]) -> BlockList {
        BlockList(jids.iter().map(|jid| Jid::parse(jid).unwrap()).collect())
    }

    fn blocks(list: &BlockList, jid: &str) -> bool {
        list.blocks(&Jid::parse(jid).unwrap())
    }

    #[test]
    fn a_bare_jid_blocks_all_its_resources_and_a_full_jid_only_itself() {
        let list = list(&["a@example.org", "b@example.org/x"]);
        assert!(blocks(&list, "a@example.org"));
        assert!(blocks(&list, "a@example.org/x"));
        assert!(blocks(&list, "b@example.org/x"));
        assert!(!blocks(&list, "b@example.org"));
        assert!(!blocks(&list, "c@example.org"));
    }

    #[test]
    fn a_domain_blocks_everybody_there_and_a_domain_with_resource_only_that_resource() {
        let list = list(&["example.org", "example.net/x"]);
        assert!(blocks(&list, "anyone@example.org/y"));
        assert!(blocks(&list, "example.org"));
        assert!(blocks(&list, "example.net/x"));
        assert!(!blocks(&list, "example.net"));
        assert!(!blocks(&list, "sub.example.org"));
    }
}
