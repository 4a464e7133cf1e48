//! Who is connected where: the only way by which code reaches sessions.
//!
//! Accounts are spread over shards, each under its own lock. What happens to one account (a routing decision and
//! the puts that follow from it, a change of presence, a change of the roster) happens under its shard's lock and is short; nothing
//! awaits there. A registry that spans nodes can take this one's place.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use magpie_proto::{BareJid, FullJid, Stanza};
use magpie_store::{LogId, Withdrawal};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::mailbox::{Delivery, Mail, Mailbox};
use crate::modules::blocking::BlockList;
use crate::roster::Roster;

/// Enough that two cores or two hundred rarely meet at one lock.
const SHARDS: usize = 256;

/// Names one session for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A session as others see it: where to put its mail.
#[derive(Debug)]
pub struct SessionHandle {
    /// Its id.
    pub id: SessionId,
    /// Its address.
    pub jid: FullJid,
    /// The account, once, for lookups.
    pub account: BareJid,
    /// Its mail.
    pub mailbox: Mailbox,
    /// Whether the account is made up and ends with the session (RFC 4505).
    pub anonymous: bool,
    /// Whether its account has no part in the messages it sends, so that it need not be looked up for each: see
    /// [`Account::remember_unobserved`].
    unobserved: AtomicBool,
    /// Whether its connection is gone and it may be resumed, for those who reach it without the registry.
    detached: AtomicBool,
}

impl SessionHandle {
    /// A session at `jid`, that is in no registry yet.
    pub fn new(id: SessionId, jid: FullJid, mailbox: Mailbox, anonymous: bool) -> Self {
        // The account of the address, so that both are one text.
        Self {
            id,
            account: jid.to_bare(),
            jid,
            mailbox,
            anonymous,
            unobserved: AtomicBool::new(false),
            detached: AtomicBool::new(false),
        }
    }

    /// Whether its account has no part in the messages it sends, as was remembered and has not changed.
    pub fn is_unobserved(&self) -> bool {
        self.unobserved.load(Ordering::Acquire)
    }

    /// XEP-0198: whether its connection is gone and it may be resumed, as was a moment ago.
    pub fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Puts a stanza into the session's mailbox; whether it was taken.
    pub fn send(&self, stanza: Stanza) -> bool {
        self.mailbox.deliver(Delivery::new(stanza))
    }
}

/// What the registry knows of one session: each field is set by the module that is named.
#[derive(Debug)]
pub struct Resource {
    /// The session.
    pub session: Arc<SessionHandle>,
    /// RFC 6121 §4: the last available presence, stamped; `None` while unavailable.
    pub presence: Option<Stanza>,
    /// RFC 6121 §4.7.2.3: its priority. Meaningless while unavailable.
    pub priority: i8,
    /// RFC 6121 §2.2: asked for the roster, and so gets pushes.
    pub interested: bool,
    /// RFC 6121 §4.6: where directed presence went, to be told of the end.
    pub directed: Option<Box<HashSet<magpie_proto::Jid>>>,
    /// XEP-0280: asked for copies.
    carbons: bool,
    /// XEP-0191: asked for the block list, and so gets pushes.
    pub block_pushes: bool,
    /// XEP-0198: its connection is gone and it may be resumed.
    pub detached: bool,
    /// XEP-0160: it is fetching the spool; messages for it go there, so that their order is kept.
    pub fetching: bool,
}

impl Resource {
    /// Whether it has sent available presence.
    pub fn is_available(&self) -> bool {
        self.presence.is_some()
    }

    /// XEP-0198: its connection is gone and it may be resumed, or it is there again.
    pub fn set_detached(&mut self, detached: bool) {
        self.detached = detached;
        self.session.detached.store(detached, Ordering::Relaxed);
    }

    /// XEP-0280: whether it asked for copies.
    pub fn wants_carbons(&self) -> bool {
        self.carbons
    }
}

/// A spool entry on its way: nobody else takes it from the spool.
#[derive(Debug, Default)]
pub struct Flight {
    /// The sessions that have it, in their mailboxes or unacknowledged.
    pub holders: SmallVec<[SessionId; 2]>,
    /// The sessions that will find it in the spool, in its turn.
    pub awaiting: SmallVec<[SessionId; 2]>,
    /// Whether a session's client has it: the entry stays only for those that await it.
    pub received: bool,
    /// Takes it back before it is written, where that was in no hurry.
    pub withdrawal: Option<Withdrawal>,
}

impl Flight {
    /// On its way to this session alone.
    pub fn to(session: SessionId) -> Self {
        Self { holders: SmallVec::from_iter([session]), ..Self::default() }
    }

    /// The session has to do with it no more. Whether that leaves it without any.
    pub fn leave(&mut self, session: SessionId) -> bool {
        self.holders.retain(|holder| *holder != session);
        self.awaiting.retain(|awaiting| *awaiting != session);
        self.is_over()
    }

    /// Whether it is on its way to nobody.
    pub fn is_over(&self) -> bool {
        self.holders.is_empty() && self.awaiting.is_empty()
    }
}

/// What the registry knows of one account with sessions.
#[derive(Debug, Default)]
pub struct Account {
    /// Its sessions, in order of binding.
    pub resources: SmallVec<[Resource; 1]>,
    /// Its roster, as the store has it or will have it.
    pub roster: Option<Arc<Roster>>,
    /// XEP-0191: its block list.
    blocked: Option<Arc<BlockList>>,
    /// XEP-0153: the hash of the picture in its vCard, empty where that has none; `None` where there is no vCard.
    pub photo: Option<Arc<str>>,
    /// Spool entries that are on their way to sessions.
    pub in_flight: HashMap<LogId, Flight>,
    /// Spool entries given up while a session was reading the spool: its snapshot may still show them.
    pub discharged: Option<Box<HashSet<LogId>>>,
    /// XEP-0357: whether it has devices that are to be woken.
    pub pushes: bool,
    /// How many tasks are changing the account without a session of it: it stays until they are through.
    pub pins: u32,
}

impl Account {
    /// The session's entry.
    pub fn resource(&mut self, id: SessionId) -> Option<&mut Resource> {
        self.resources.iter_mut().find(|resource| resource.session.id == id)
    }

    /// The entry of the session with this resourcepart.
    pub fn named(&self, resourcepart: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.session.jid.resource() == resourcepart)
    }

    /// XEP-0191: its block list, where it was loaded.
    pub fn blocked(&self) -> Option<&Arc<BlockList>> {
        self.blocked.as_ref()
    }

    /// Sets the block list.
    pub fn set_blocked(&mut self, list: Arc<BlockList>) {
        self.blocked = Some(list);
        self.observe();
    }

    /// XEP-0280: the session asks for copies, or for none.
    pub fn set_carbons(&mut self, id: SessionId, wanted: bool) {
        if let Some(resource) = self.resource(id) {
            resource.carbons = wanted;
        }
        self.observe();
    }

    /// Remembers with one of its sessions that the account has no part in the messages that it sends, until its block list, what its
    /// sessions ask for, or the sessions change.
    pub fn remember_unobserved(&self, sender: &SessionHandle) {
        // A session that was replaced is told of no change any more.
        let is_here = self.resources.iter().any(|resource| resource.session.id == sender.id);
        sender.unobserved.store(is_here, Ordering::Release);
    }

    /// See [`Account::remember_unobserved`].
    fn observe(&self) {
        self.resources.iter().for_each(|resource| resource.session.unobserved.store(false, Ordering::Release));
    }

    /// The available resources.
    pub fn available(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|resource| resource.is_available())
    }

    fn is_needed(&self) -> bool {
        // A session that is out of the registry has its messages until it hands them on.
        !self.resources.is_empty() || self.pins > 0 || !self.in_flight.is_empty()
    }
}

/// An account is on the heap: a map is up to half empty, and what is empty in it costs as much as what is not.
type Shard = HashMap<BareJid, Box<Account>>;

/// All sessions of this node.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            next: AtomicU64::new(1),
        }
    }
}

/// Why a session cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The account has as many sessions as it may.
    TooMany,
}

impl Registry {
    /// A session id that was never given before.
    pub fn next_id(&self) -> SessionId {
        SessionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn shard(&self, account: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(account) as usize;
        &self.shards[hash % SHARDS]
    }

    /// Looks at, and changes, what is known of an account. `None` while it has no session. Keep it short.
    pub fn with<R>(&self, account: &BareJid, f: impl FnOnce(Option<&mut Account>) -> R) -> R {
        self.with_address(account.as_str(), f)
    }

    /// As [`Registry::with`], by the text of the account's address.
    pub fn with_address<R>(&self, account: &str, f: impl FnOnce(Option<&mut Account>) -> R) -> R {
        f(self.shard(account).lock().get_mut(account).map(|account| &mut **account))
    }

    /// As [`Registry::with`], for an account that may have no session; it is forgotten again if it has none afterwards.
    pub fn with_any<R>(&self, account: &BareJid, f: impl FnOnce(&mut Account) -> R) -> R {
        let mut shard = self.shard(account.as_str()).lock();
        let entry = shard.entry(account.clone()).or_default();
        let result = f(entry);
        if entry.in_flight.is_empty() {
            entry.in_flight.shrink_to_fit();
        }
        if !entry.is_needed() {
            shard.remove(account);
            // What many left behind goes back; not so soon that the next one to come makes it grow again.
            if shard.len() < shard.capacity() / 8 {
                let room = 2 * shard.len();
                shard.shrink_to(room);
            }
        }
        result
    }

    /// Changes one session's entry, if it is there.
    pub fn with_resource<R>(&self, session: &SessionHandle, f: impl FnOnce(&mut Resource) -> R) -> Option<R> {
        self.with(&session.account, |account| account.and_then(|account| account.resource(session.id)).map(f))
    }

    /// Adds a bound session. A session that has the resource already is taken out and given back: the newer one wins (RFC 6120 §7.7.2.2).
    pub fn add(&self, session: &Arc<SessionHandle>, sessions_max: usize) -> Result<Option<Resource>, AddError> {
        let mut shard = self.shard(session.account.as_str()).lock();
        let account = shard.entry(session.account.clone()).or_default();
        let same = account.resources.iter().position(|other| other.session.jid == session.jid);
        if same.is_none() && account.resources.len() >= sessions_max {
            return Err(AddError::TooMany);
        }
        let replaced = same.map(|index| account.resources.remove(index));
        account.resources.push(Resource {
            session: Arc::clone(session),
            presence: None,
            priority: 0,
            interested: false,
            directed: None,
            carbons: false,
            block_pushes: false,
            detached: false,
            fetching: false,
        });
        account.observe();
        if let Some(replaced) = &replaced {
            replaced.session.unobserved.store(false, Ordering::Release);
        }
        Ok(replaced)
    }

    /// Takes a session out: `None` where it was replaced before. `then` sees the account without it, in the same breath.
    pub fn remove<R>(&self, session: &SessionHandle, then: impl FnOnce(&mut Account) -> R) -> (Option<Resource>, R) {
        self.with_any(&session.account, |account| {
            let index = account.resources.iter().position(|resource| resource.session.id == session.id);
            let resource = index.map(|index| account.resources.remove(index));
            session.unobserved.store(false, Ordering::Release);
            if !account.resources.iter().any(|resource| resource.fetching) {
                account.discharged = None;
            }
            (resource, then(account))
        })
    }

    /// The sessions of an account.
    pub fn sessions(&self, account: &BareJid) -> Vec<Arc<SessionHandle>> {
        self.with(account, |account| {
            account.map_or_else(Vec::new, |account| account.resources.iter().map(|r| Arc::clone(&r.session)).collect())
        })
    }

    /// How many accounts it holds anything of: 0 once all sessions are over.
    pub fn accounts(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Every session of this node; for shutdown and the console.
    pub fn all(&self) -> Vec<Arc<SessionHandle>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for account in shard.lock().values() {
                all.extend(account.resources.iter().map(|resource| Arc::clone(&resource.session)));
            }
        }
        all
    }

    /// Tells every session of an account but one to end.
    pub fn end_others(&self, account: &BareJid, but: Option<SessionId>, error: &magpie_proto::StreamError) {
        for session in self.sessions(account).into_iter().filter(|session| Some(session.id) != but) {
            // A session that is gone already needs no telling.
            let _ = session.mailbox.put(Mail::End(error.clone()));
        }
    }

    /// Tells every session of an account to end.
    pub fn end(&self, account: &BareJid, error: &magpie_proto::StreamError) {
        self.end_others(account, None, error);
    }

    /// Keeps what is known of an account, sessions or not, until the guard is dropped: for a change that the store must see
    /// before anybody reads the account from there again.
    pub fn pin(self: &Arc<Self>, account: &BareJid) -> Pin {
        self.shard(account.as_str()).lock().entry(account.clone()).or_default().pins += 1;
        Pin { registry: Arc::clone(self), account: account.clone() }
    }
}

/// Keeps an account in the registry.
#[derive(Debug)]
pub struct Pin {
    registry: Arc<Registry>,
    account: BareJid,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.registry.with_any(&self.account, |account| account.pins -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pipeline;

    #[test]
    fn what_many_accounts_took_is_given_back_when_they_are_gone() {
        let registry = Arc::new(Registry::default());
        let pins: Vec<Pin> =
            (0..20_000).map(|n| registry.pin(&BareJid::parse(&format!("user{n}@capulet.example")).unwrap())).collect();
        let room = |registry: &Registry| registry.shards.iter().map(|shard| shard.lock().capacity()).sum::<usize>();
        assert!(room(&registry) >= 20_000);
        drop(pins);
        assert_eq!((registry.accounts(), room(&registry) < 2_000), (0, true));
    }

    #[test]
    fn an_account_that_begins_to_block_or_a_session_that_wants_copies_is_seen_with_the_next_message() {
        let registry = Registry::default();
        let session = |jid: &str| {
            Arc::new(SessionHandle::new(registry.next_id(), FullJid::parse(jid).unwrap(), Mailbox::new(1000), false))
        };
        let (one, other) = (session("a@capulet.example/1"), session("a@capulet.example/2"));
        let look = |session: &SessionHandle| {
            registry.with(&session.account, |account| {
                account.is_some_and(|account| pipeline::look_at_sender(account, session))
            })
        };
        registry.add(&one, 9).unwrap();
        assert!(!look(&one) && !one.is_unobserved(), "the block list is not known");
        let set = |list: BlockList| registry.with(&one.account, |account| account.unwrap().set_blocked(Arc::new(list)));
        set(BlockList::default());
        assert!(!look(&one) && one.is_unobserved());
        set(BlockList::of(BareJid::parse("b@capulet.example").unwrap().into()));
        assert!(!one.is_unobserved() && !look(&one) && !one.is_unobserved());
        set(BlockList::default());
        assert!(!look(&one) && one.is_unobserved());

        registry.add(&other, 9).unwrap();
        assert!(!one.is_unobserved() && !look(&one) && one.is_unobserved());
        registry.with(&one.account, |account| account.unwrap().set_carbons(other.id, true));
        assert!(!one.is_unobserved() && look(&one) && !one.is_unobserved());
        assert!(!look(&other) && other.is_unobserved(), "its own copies are none");
        registry.remove(&other, |_| ());
        assert!(!other.is_unobserved() && !look(&other) && !other.is_unobserved(), "it is told of nothing any more");
        assert!(!look(&one) && one.is_unobserved());
    }
}
