//! XEP-0160: Best Practices for Handling Offline Messages
//!
//! The spool: messages that the server has promised to keep, until the recipient's client has them. A message waits here
//! while its recipient is away, and also while it is on its way to a session, where the sender was or will be told
//! that it arrived (XEP-0198). It leaves when the recipient's client acknowledges it, or, without
//! XEP-0198, when it was written to the socket. The one surprising thing: which entries are on their way is
//! known in memory alone, so that after a crash all of them count as offline messages.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::delay::{self, Delay};
use magpie_proto::xeps::hints::{self, Hints};
use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use magpie_proto::xml::{Kind, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Log, LogId, Record, Store, StoreError, Ticket};
use parking_lot::{Mutex, MutexGuard};

use super::{About, Module, stanza_ids};
use crate::accounts;
use crate::mailbox::{Delivery, InSpool, Mail};
use crate::registry::{Account, Flight, Registry, SessionHandle};
use crate::server::{Deps, now};

/// Entries fetched from the store at a time, at most.
pub const CHUNK: usize = 64;

/// Bytes of messages given to a session at a time; the last of them may go beyond.
const CHUNK_BYTES: usize = 512 * 1024;

/// A message in the spool.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// When it arrived, since 1970.
    pub received: Duration,
    /// The message, canonical.
    pub stanza: Stanza,
}

impl Record for Spooled {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.received.as_millis() as u64).to_be_bytes());
        out.extend_from_slice(self.stanza.bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (millis, stanza) = bytes.split_first_chunk()?;
        let received = Duration::from_millis(u64::from_be_bytes(*millis));
        Some(Self { received, stanza: Stanza::parse(stanza).ok()? })
    }
}

impl Spooled {
    /// The message as it is delivered late, with the time of its arrival (XEP-0203).
    pub fn delayed(&self, host: &BareJid) -> Stanza {
        let stamp = DateTime::from_unix_millis(self.received.as_millis() as i64);
        self.stanza.with_child(&Delay::new(stamp, host.clone()).with_reason("Offline Storage").element())
    }
}

/// The module.
pub struct Offline {
    store: Store,
    spool: Log<Spooled>,
    registry: Arc<Registry>,
    deps: Deps,
    counts: Counts,
}

/// One step of fetching: what to deliver, and whether there may be more.
#[derive(Debug)]
pub struct Chunk {
    /// Messages that this session now holds, oldest first.
    pub messages: Vec<(LogId, Stanza)>,
    /// Where to go on; `None` at the end.
    pub after: Option<LogId>,
}

impl Module for Offline {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(160),
            title: "Best Practices for Handling Offline Messages",
            version: "1.0.1",
            host_features: &["msgoffline"],
            account_features: &[],
        },
        About {
            xep: Some(203),
            title: "Delayed Delivery",
            version: "2.0",
            host_features: &["urn:xmpp:delay"],
            account_features: &[],
        },
    ];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            spool: deps.store.log("spool"),
            registry: Arc::clone(&deps.registry),
            deps: deps.clone(),
            counts: Counts::new(),
        }
    }
}

impl Offline {
    /// Whether a message is worth keeping for an account that is away (§3): one with a body or another payload that a person or device misses, no
    /// chat state alone, no headline, error or groupchat message, none that forbids it (XEP-0334).
    pub fn is_storable(message: &Stanza) -> bool {
        let hints = Hints::of(message);
        if message.kind() != Kind::Message || hints.no_store {
            return false;
        }
        match message.type_().as_deref() {
            Some("error" | "headline" | "groupchat") => false,
            _ => {
                hints.store
                    || message.children().any(|child| {
                        !matches!(
                            child.ns,
                            // Chat states, thread ids and hints are worth nothing later; a carbon has its own original.
                            ns::CHAT_STATES | hints::NS | "urn:xmpp:carbons:2"
                        ) && !child.is("thread", ns::CLIENT)
                            && !child.is("delay", delay::NS)
                            && !child.is("origin-id", stanza_ids::NS)
                    })
            }
        }
    }

    /// Whether one more message may be kept for the account.
    pub async fn has_room(&self, account: &BareJid) -> Result<bool, StanzaError> {
        let max = self.deps.config.load().limits.offline_messages_max;
        if let Some(count) = self.counts.get(account) {
            return Ok(count < max);
        }
        let owner = accounts::owner(account);
        let count = self.spool.count(&owner).await.map_err(refusal)?;
        // Another sender may have counted, and kept something, meanwhile.
        Ok(self.counts.get_or_insert(account, count) < max)
    }

    /// Whether one more message may be kept, as far as is known without asking the store. Under the registry's lock for the
    /// account this is exact: whoever else wants to keep one waits.
    pub fn is_full(&self, account: &BareJid) -> bool {
        let max = self.deps.config.load().limits.offline_messages_max;
        self.counts.get(account).is_some_and(|count| count >= max)
    }

    /// The next place in every spool: a message keeps the place at which it was routed, whenever it is written there.
    pub fn place(&self) -> LogId {
        self.store.next_id()
    }

    /// Puts a message into the spool. Called under the registry's lock for the account, so that a session that
    /// becomes available sees it one way or the other. `flight`: the sessions to which it is on its way.
    pub fn keep(&self, name: &BareJid, account: &mut Account, place: LogId, message: &Stanza, flight: Flight) -> Ticket {
        let mut batch = Batch::new();
        // The place tells when it was routed, except after the clock went back.
        let received = Duration::from_millis(place.millis()).min(now());
        let spooled = Spooled { received, stanza: message.clone() };
        self.spool.append(&mut batch, &accounts::owner(name), place, &spooled);
        self.counts.change(name, |count| count.saturating_add(1));
        // A session that has it may say so soon, and then it need not be written. One that awaits it reads it there.
        if flight.holders.is_empty() || !flight.awaiting.is_empty() {
            let ticket = self.store.commit(batch);
            if !flight.is_over() {
                account.in_flight.insert(place, flight);
            }
            return ticket;
        }
        let (ticket, withdrawal) = self.store.commit_later(batch);
        account.in_flight.insert(place, Flight { withdrawal: Some(withdrawal), ..flight });
        ticket
    }

    /// A message that a session has in memory alone goes into the spool too. Called under the registry's lock for the account.
    pub fn keep_held(&self, session: &SessionHandle, account: &mut Account, delivery: &mut Delivery) {
        if let InSpool::Place(place) = delivery.spool {
            // Nobody was promised that it is kept.
            drop(self.keep(&session.account, account, place, &delivery.stanza, Flight::to(session.id)));
            delivery.spool = InSpool::Kept(place);
        }
    }

    /// The session's client has these messages: they leave the spool.
    pub fn discharge(&self, session: &SessionHandle, ids: &[LogId]) {
        if ids.is_empty() {
            return;
        }
        let mut owner = None;
        self.registry.with_any(&session.account, |account| {
            let fetching = account.resources.iter().any(|resource| resource.fetching);
            let mut batch = Batch::new();
            let mut gone = 0;
            for id in ids {
                // Where it is not there another session's client was faster.
                let Entry::Occupied(mut flight) = account.in_flight.entry(*id) else { continue };
                flight.get_mut().leave(session.id);
                flight.get_mut().received = true;
                if flight.get().awaiting.is_empty() {
                    let withdrawal = flight.remove().withdrawal;
                    gone += 1;
                    if withdrawal.is_some_and(|withdrawal| self.store.withdraw(withdrawal)) {
                        continue;
                    }
                    let owner = owner.get_or_insert_with(|| accounts::owner(&session.account));
                    self.spool.delete(&mut batch, owner, *id);
                    // A reader's snapshot may be older than the deletion.
                    if fetching {
                        account.discharged.get_or_insert_default().insert(*id);
                    }
                }
            }
            if !batch.is_empty() {
                // Before anybody else may begin to read: who does waits until it is settled. Nobody else waits for it: should
                // it fail, the messages come once more.
                drop(self.store.commit_later(batch));
            }
            if gone > 0 {
                self.count_gone(&session.account, gone);
            }
        });
    }

    /// A session that is not available yet has found these messages, oldest first, in its archive (XEP-0313 §6.1.1): those that wait for nobody else
    /// leave the spool. Where the session does not get to read them, the archive still has them.
    pub async fn found_elsewhere(&self, session: &SessionHandle, found: &[LogId]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(()) };
        let is_away = self.registry.with_resource(session, |resource| !resource.is_available() && !resource.fetching);
        if is_away != Some(true) {
            return Ok(());
        }
        let owner = accounts::owner(&session.account);
        let mut waiting = Vec::new();
        let mut after = first.0.checked_sub(1).map(LogId);
        loop {
            let rows = self.spool.range(&owner, after, CHUNK).await?;
            let more = rows.len() == CHUNK;
            after = rows.last().map(|(id, _)| *id);
            waiting.extend(rows.into_iter().map(|(id, _)| id).filter(|id| found.binary_search(id).is_ok()));
            if !more || after >= Some(*last) {
                break;
            }
        }
        self.registry.with_any(&session.account, |account| {
            waiting.retain(|id| !account.in_flight.contains_key(id));
            let mut batch = Batch::new();
            waiting.iter().for_each(|id| self.spool.delete(&mut batch, &owner, *id));
            if account.resources.iter().any(|resource| resource.fetching) {
                account.discharged.get_or_insert_default().extend(&waiting);
            }
            if !batch.is_empty() {
                // As where a client acknowledges: should it fail, the messages come once more.
                drop(self.store.commit_later(batch));
                self.count_gone(&session.account, waiting.len() as u64);
            }
        });
        Ok(())
    }

    /// Messages that were taken back (XEP-0424) wait no more, unless they are on their way. Called under the registry's lock for the account.
    pub fn take_back(&self, name: &BareJid, account: &mut Account, places: &[LogId]) {
        let owner = accounts::owner(name);
        let fetching = account.resources.iter().any(|resource| resource.fetching);
        let mut batch = Batch::new();
        for place in places.iter().filter(|place| !account.in_flight.contains_key(*place)) {
            self.spool.delete(&mut batch, &owner, *place);
            // A reader's snapshot may be older than the deletion.
            if fetching {
                account.discharged.get_or_insert_default().insert(*place);
            }
        }
        // Should it fail, they come as they were, and what takes them back after them.
        drop(self.store.commit_later(batch));
        // Which of them waited is not known.
        self.counts.remove(name);
    }

    fn count_gone(&self, account: &BareJid, gone: u64) {
        self.counts.change(account, |count| count.saturating_sub(gone));
    }

    /// A session ends without its client having these messages: they wait in the spool for the next one, at the places at which they
    /// were routed. Called under the registry's lock for the account, which the session has left. Returns what is
    /// written for that.
    pub fn leave(&self, session: &SessionHandle, account: &mut Account, undelivered: &[Delivery]) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        let mut waiting = session.mailbox.is_overflown();
        for delivery in undelivered {
            match delivery.spool {
                InSpool::Never => {}
                InSpool::Place(place) => {
                    tickets.push(self.keep(&session.account, account, place, &delivery.stanza, Flight::default()));
                    waiting = true;
                }
                InSpool::Kept(id) => {
                    if let Some(flight) = account.in_flight.get_mut(&id) {
                        flight.holders.retain(|holder| *holder != session.id);
                    }
                }
            }
        }
        let owner = accounts::owner(&session.account);
        let mut batch = Batch::new();
        let mut received = 0;
        let fetching = account.resources.iter().any(|resource| resource.fetching);
        account.in_flight.retain(|id, flight| {
            flight.awaiting.retain(|awaiting| *awaiting != session.id);
            let gone = match flight.received {
                true => flight.awaiting.is_empty(),
                false => flight.is_over(),
            };
            if gone && flight.received {
                received += 1;
                self.spool.delete(&mut batch, &owner, *id);
                if fetching {
                    account.discharged.get_or_insert_default().insert(*id);
                }
            }
            waiting |= gone && !flight.received;
            !gone
        });
        if received > 0 {
            tickets.push(self.store.commit(batch));
            self.count_gone(&session.account, received);
        }
        let willing = account.resources.iter_mut().filter(|other| other.is_available() && other.priority >= 0);
        if waiting && let Some(heir) = willing.max_by_key(|other| other.priority) {
            // In the same breath: what is routed to it from here on comes after them.
            heir.fetching = true;
            // A session in the registry takes mail.
            let _ = heir.session.mailbox.put(Mail::LookIntoSpool);
        }
        tickets
    }

    /// Fetches the next messages, at most `limit`, for a session that is `fetching`, and claims them for it.
    pub async fn fetch(
        &self,
        session: Arc<SessionHandle>,
        after: Option<LogId>,
        limit: usize,
    ) -> Result<Chunk, StoreError> {
        let owner = accounts::owner(&session.account);
        if after.is_none() {
            // What was committed before this is visible to the read that follows; what became of it is no matter.
            let _ = self.store.settled().await;
        }
        let rows = self.spool.range(&owner, after, CHUNK).await?;
        let mut more = rows.len() == CHUNK;
        let host = session.account.to_domain();
        let (mut last, mut bytes) = (after, 0);
        let messages = self.registry.with(&session.account, |account| {
            let mut claimed = Vec::new();
            // A session that was replaced meanwhile takes nothing more.
            let Some(account) = account else { return claimed };
            if account.resource(session.id).is_none() {
                return claimed;
            }
            for (id, spooled) in rows {
                if claimed.len() >= limit || bytes >= CHUNK_BYTES {
                    more = true;
                    break;
                }
                last = Some(id);
                if account.discharged.as_ref().is_some_and(|discharged| discharged.contains(&id)) {
                    continue;
                }
                match account.in_flight.entry(id) {
                    Entry::Vacant(free) => {
                        free.insert(Flight::to(session.id));
                    }
                    Entry::Occupied(mut flight) if flight.get().awaiting.contains(&session.id) => {
                        let flight = flight.get_mut();
                        flight.awaiting.retain(|awaiting| *awaiting != session.id);
                        flight.holders.push(session.id);
                    }
                    Entry::Occupied(_) => continue,
                }
                bytes += spooled.stanza.bytes().len();
                claimed.push((id, spooled.delayed(&host)));
            }
            claimed
        });
        Ok(Chunk { messages, after: last.filter(|_| more) })
    }

    /// Those of these messages, in order, that wait in the account's spool, as they are delivered late.
    pub async fn spooled(&self, account: &BareJid, ids: &[LogId]) -> Result<HashMap<LogId, Stanza>, StoreError> {
        let mut found = HashMap::new();
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(found) };
        let (owner, host) = (accounts::owner(account), account.to_domain());
        let mut after = first.0.checked_sub(1).map(LogId);
        loop {
            let rows = self.spool.range(&owner, after, CHUNK).await?;
            let more = rows.len() == CHUNK;
            after = rows.last().map(|(id, _)| *id);
            let wanted = rows.into_iter().filter(|(id, _)| ids.binary_search(id).is_ok());
            found.extend(wanted.map(|(id, spooled)| (id, spooled.delayed(&host))));
            if !more || after >= Some(*last) {
                return Ok(found);
            }
        }
    }

    /// With all sessions of the account saved: what a client of it has had is kept for those that await it, and no longer for those that
    /// have it too.
    pub fn delete_received(&self, batch: &mut Batch, name: &BareJid, account: &Account) {
        let owner = accounts::owner(name);
        let received = account.in_flight.iter().filter(|(_, flight)| flight.received && flight.awaiting.is_empty());
        received.for_each(|(id, _)| self.spool.delete(batch, &owner, *id));
    }

    /// Something that was counted could not be kept.
    pub fn count_again(&self) {
        self.counts.clear();
    }

    /// How many messages wait for the account, those on their way included.
    pub async fn waiting(&self, account: &BareJid) -> Result<u64, StoreError> {
        match self.counts.get(account) {
            Some(count) => Ok(count),
            None => self.spool.count(&accounts::owner(account)).await,
        }
    }

    /// Deletes everything that is kept for an account.
    pub fn forget(&self, account: &BareJid) {
        self.counts.remove(account);
    }
}

/// Accounts whose number of spooled messages is remembered, so that a flood to one does not count its rows each time.
const COUNTS_MAX: usize = 65_536;

/// Each message asks for its recipient's: under one lock all of them would meet.
const COUNTS_SHARDS: usize = 64;

/// How many messages are in the spools of accounts, as far as they were counted.
struct Counts {
    shards: [Mutex<HashMap<BareJid, u64>>; COUNTS_SHARDS],
    hasher: DefaultHashBuilder,
}

impl Counts {
    fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: DefaultHashBuilder::default() }
    }

    fn shard(&self, account: &BareJid) -> MutexGuard<'_, HashMap<BareJid, u64>> {
        self.shards[self.hasher.hash_one(account) as usize % COUNTS_SHARDS].lock()
    }

    fn get(&self, account: &BareJid) -> Option<u64> {
        self.shard(account).get(account).copied()
    }

    fn change(&self, account: &BareJid, change: impl FnOnce(u64) -> u64) {
        if let Some(count) = self.shard(account).get_mut(account) {
            *count = change(*count);
        }
    }

    fn get_or_insert(&self, account: &BareJid, count: u64) -> u64 {
        let mut shard = self.shard(account);
        if shard.len() >= COUNTS_MAX / COUNTS_SHARDS {
            shard.clear();
        }
        *shard.entry(account.clone()).or_insert(count)
    }

    fn remove(&self, account: &BareJid) {
        self.shard(account).remove(account);
    }

    fn clear(&self) {
        self.shards.iter().for_each(|shard| shard.lock().clear());
    }
}

/// What the sender is told when the store does not answer.
pub fn refusal(error: StoreError) -> StanzaError {
    tracing::error!(%error, "the store refused");
    match error {
        StoreError::Full => StanzaError::new(StanzaCondition::ResourceConstraint, "the server's storage is full"),
        _ => StanzaCondition::InternalServerError.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn storable(xml: &str) -> bool {
        Offline::is_storable(&Stanza::parse(xml.as_bytes()).unwrap())
    }

    #[test]
    fn a_body_is_kept_and_a_chat_state_alone_is_not() {
        assert!(storable("<message type='chat'><body>x</body></message>"));
        assert!(storable("<message><body>x</body></message>"));
        assert!(!storable(
            "<message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/><thread>x</thread></message>"
        ));
    }

    #[test]
    fn headlines_errors_and_groupchat_are_not_kept() {
        for kind in ["headline", "error", "groupchat"] {
            assert!(!storable(&format!("<message type='{kind}'><body>x</body></message>")), "{kind}");
        }
    }

    #[test]
    fn a_sender_may_forbid_keeping() {
        assert!(!storable("<message><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>"));
        assert!(storable("<message><store xmlns='urn:xmpp:hints'/></message>"));
    }

    #[test]
    fn receipts_are_kept() {
        assert!(storable("<message><received xmlns='urn:xmpp:receipts' id='x'/></message>"));
    }
}
