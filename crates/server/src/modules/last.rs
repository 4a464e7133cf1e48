//! XEP-0012: Last Activity
//!
//! Tells those who may see an account's presence how long it has been away and what it said when it left, and anybody how long a host
//! has been up. Departures are written together, some seconds later: a crash loses those of its last seconds, and then the
//! departure before them is told. Being connected without being available does not count as being there: it shows in presence to nobody either.

use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, ns};
use magpie_store::{Record, Store, StoreError, Value};
use parking_lot::Mutex;

use super::{About, Module};
use crate::accounts::{self, AccountError, Accounts};
use crate::modules::offline::refusal;
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, now};

const NS: &str = "jabber:iq:last";

/// Bytes of a status that are kept; of a longer one nothing is.
const STATUS_BYTES_MAX: usize = 4096;

/// How long a departure waits for others, so that they are written together.
const WRITTEN_AFTER: Duration = Duration::from_secs(5);

/// Departures that wait; one more is written at once, and the session that ends waits for it.
const WAITING_MAX: usize = 65_536;

/// Departures that are given to the store at once.
const WRITTEN_AT_ONCE: usize = 128;

/// When an account was last available.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Departure {
    /// Since 1970, in whole seconds.
    at: Duration,
    /// What it said when it left.
    status: String,
}

impl Record for Departure {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.as_secs().to_be_bytes());
        out.extend_from_slice(self.status.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (seconds, status) = bytes.split_first_chunk()?;
        let at = Duration::from_secs(u64::from_be_bytes(*seconds));
        Some(Self { at, status: String::from_utf8(status.to_vec()).ok()? })
    }
}

impl Departure {
    fn new(at: Duration, presence: &Stanza) -> Self {
        let status = presence.child("status", ns::CLIENT).map(|status| status.element().text()).unwrap_or_default();
        Self { at, status: if status.len() > STATUS_BYTES_MAX { String::new() } else { status } }
    }

    fn query(&self, now: Duration) -> Element {
        // A clock that was set back is no reason for a negative answer.
        query(now.saturating_sub(self.at)).with_text(self.status.as_str())
    }
}

/// When the account was last available, as the store has it; `None` where that is not known.
pub async fn departure(store: &Store, account: &BareJid) -> Result<Option<Duration>, StoreError> {
    let departure = store.value::<Departure>("last").get(&accounts::owner(account)).await?;
    Ok(departure.map(|departure| departure.at))
}

/// Whether an IQ asks for this, and so is for those alone who may see the presence of whom it asks (§4).
pub fn is_asked_by(iq: &Stanza) -> bool {
    iq.type_().as_deref() == Some("get") && iq.child("query", NS).is_some()
}

/// The module.
pub struct LastActivity {
    started: Instant,
    accounts: Accounts,
    departures: Value<Departure>,
    /// Those that are not written yet.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    departures: HashMap<BareJid, Departure>,
    /// Whether a task will write them.
    is_written: bool,
}

impl Module for LastActivity {
    const ABOUT: &'static [About] = &[About {
        xep: Some(12),
        title: "Last Activity",
        version: "2.0",
        host_features: &[NS],
        account_features: &[NS],
    }];

    fn new(deps: &Deps) -> Self {
        Self { started: Instant::now(), accounts: deps.accounts.clone(), departures: deps.store.value("last"), waiting: Mutex::default() }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own_now(To::Host, Verb::Get, ("query", NS), self, Self::of_host);
        requests.own(To::OwnAccount, Verb::Get, ("query", NS), self, Self::of_account);
        requests.own(To::Account, Verb::Get, ("query", NS), self, Self::of_account);
    }
}

impl LastActivity {
    /// Hears that the last available resource of an account is gone, with the presence that said so.
    pub async fn account_left(self: &Arc<Self>, account: &BareJid, presence: &Stanza) {
        if let Err(departure) = self.put_by(account, Departure::new(now(), presence)) {
            self.keep(account, &departure).await;
        }
    }

    /// Gives the departure back where too many wait.
    fn put_by(self: &Arc<Self>, account: &BareJid, departure: Departure) -> Result<(), Departure> {
        let mut waiting = self.waiting.lock();
        if waiting.departures.len() >= WAITING_MAX && !waiting.departures.contains_key(account) {
            return Err(departure);
        }
        waiting.departures.insert(account.clone(), departure);
        if !std::mem::replace(&mut waiting.is_written, true) {
            tokio::spawn(Arc::clone(self).write_all());
        }
        Ok(())
    }

    /// Writes what waits every few seconds until nothing does.
    async fn write_all(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WRITTEN_AFTER).await;
            self.write().await;
            let mut waiting = self.waiting.lock();
            if waiting.departures.is_empty() {
                *waiting = Waiting::default();
                return;
            }
        }
    }

    /// Writes the departures that wait now.
    pub async fn write(&self) {
        let waiting: Vec<_> = self.waiting.lock().departures.clone().into_iter().collect();
        for some in waiting.chunks(WRITTEN_AT_ONCE) {
            // Begun together, they meet in the store's queue and share a transaction.
            let mut writes: Vec<_> =
                some.iter().map(|(account, departure)| Box::pin(self.keep_waiting(account, departure))).collect();
            poll_fn(|context| {
                writes.retain_mut(|write| write.as_mut().poll(context).is_pending());
                if writes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        let mut still = self.waiting.lock();
        for (account, departure) in waiting {
            // Until now it was told from here. One that has left again since waits for its turn.
            if still.departures.get(&account) == Some(&departure) {
                still.departures.remove(&account);
            }
        }
    }

    /// Unless it is no longer true.
    async fn keep_waiting(&self, account: &BareJid, departure: &Departure) {
        let waits = self.waiting.lock().departures.get(account) == Some(departure);
        if waits {
            self.keep(account, departure).await;
        }
    }

    async fn keep(&self, account: &BareJid, departure: &Departure) {
        let owner = accounts::owner(account);
        // Only while there is such an account: the session of a removed one ends after its rows are gone.
        match self.accounts.change(account, |batch| self.departures.put(batch, &owner, departure)).await {
            Ok(()) | Err(AccountError::NotFound) => {}
            Err(error) => tracing::warn!(%error, %account, "the time of leaving could not be kept"),
        }
    }

    /// Hears that an account was removed: another of the same name has not left yet.
    pub fn forget(&self, account: &BareJid) {
        self.waiting.lock().departures.remove(account);
    }

    async fn departure(&self, account: &BareJid) -> Result<Option<Departure>, StoreError> {
        let waiting = self.waiting.lock().departures.get(account).cloned();
        match waiting {
            Some(departure) => Ok(Some(departure)),
            None => self.departures.get(&accounts::owner(account)).await,
        }
    }

    fn of_host(&self, _query: &Query<'_>) -> Reply {
        Ok(Some(query(self.started.elapsed())))
    }

    async fn of_account(self: Arc<Self>, request: Request) -> Reply {
        let Request { server, from, to, target, .. } = &request;
        if !server.modules.presence.is_seen_by(server, to, &from.to_bare()).await? {
            return Err(StanzaCondition::Forbidden.into());
        }
        // Who asks for the own account is there.
        let available = *target == To::OwnAccount
            || server.registry().with(to, |account| account.is_some_and(|account| account.available().next().is_some()));
        if available {
            return Ok(Some(query(Duration::ZERO)));
        }
        match self.departure(to).await.map_err(refusal)? {
            Some(departure) => Ok(Some(departure.query(now()))),
            // It was never seen to leave.
            None => Err(StanzaCondition::ItemNotFound.into()),
        }
    }
}

fn query(ago: Duration) -> Element {
    Element::new("query", NS).with_attr("seconds", ago.as_secs().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use magpie_proto::sasl::{Hash, ScramPolicy};
    use magpie_store::Store;

    fn left(presence: &str) -> Departure {
        Departure::new(Duration::from_secs(1_000), &Stanza::parse(presence.as_bytes()).unwrap())
    }

    #[test]
    fn who_left_is_told_of_with_the_seconds_since_and_the_last_words() {
        let left = left("<presence type='unavailable'><status>Heading Home</status></presence>");
        let xml = left.query(Duration::from_millis(1_903_900)).to_xml(NS);
        assert_eq!(xml, "<query seconds='903'>Heading Home</query>");
    }

    #[test]
    fn without_a_word_and_with_too_many_there_are_none() {
        assert_eq!(left("<presence type='unavailable'/>").query(Duration::from_secs(1_001)).to_xml(NS), "<query seconds='1'/>");
        let longest = "x".repeat(STATUS_BYTES_MAX);
        assert_eq!(left(&format!("<presence><status>{longest}</status></presence>")).status, longest);
        assert_eq!(left(&format!("<presence><status>{longest}x</status></presence>")).status, "");
    }

    #[test]
    fn a_clock_that_was_set_back_counts_as_no_time() {
        assert_eq!(left("<presence/>").query(Duration::ZERO).attr("seconds"), Some("0"));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_account_that_was_removed_while_it_was_there() {
        let store = Store::memory();
        let accounts = Accounts::new(&store, ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] });
        let departures = store.value("last");
        let waiting = Mutex::default();
        let last = Arc::new(LastActivity { started: Instant::now(), accounts, departures, waiting });
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let leaving = Stanza::parse(b"<presence type='unavailable'><status>bye</status></presence>").unwrap();
        let owner = accounts::owner(&juliet);

        last.accounts.create(&juliet, "secret").await.unwrap();
        last.account_left(&juliet, &leaving).await;
        assert_eq!(last.departure(&juliet).await.unwrap().unwrap().status, "bye", "before it is written");
        last.write().await;
        assert!(last.waiting.lock().departures.is_empty());
        assert_eq!(last.departures.get(&owner).await.unwrap().unwrap().status, "bye");
        assert_eq!(last.departure(&juliet).await.unwrap().unwrap().status, "bye", "after it was written");

        last.accounts.remove(&juliet).await.unwrap();
        last.account_left(&juliet, &leaving).await;
        last.write().await;
        assert_eq!(last.departures.get(&owner).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_new_account_has_not_left_with_the_words_of_the_one_before() {
        let store = Store::memory();
        let accounts = Accounts::new(&store, ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] });
        let (departures, waiting) = (store.value("last"), Mutex::default());
        let last = Arc::new(LastActivity { started: Instant::now(), accounts, departures, waiting });
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let leaving = Stanza::parse(b"<presence type='unavailable'/>").unwrap();

        last.accounts.create(&juliet, "secret").await.unwrap();
        last.account_left(&juliet, &leaving).await;
        last.accounts.remove(&juliet).await.unwrap();
        last.forget(&juliet);
        last.accounts.create(&juliet, "another").await.unwrap();
        last.write().await;
        assert_eq!(last.departure(&juliet).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn departures_are_written_some_seconds_later_by_themselves() {
        let store = Store::memory();
        let accounts = Accounts::new(&store, ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] });
        let (departures, waiting) = (store.value("last"), Mutex::default());
        let last = Arc::new(LastActivity { started: Instant::now(), accounts, departures, waiting });
        let leaving = Stanza::parse(b"<presence type='unavailable'/>").unwrap();
        for round in 0..2 {
            let account = BareJid::parse(&format!("user{round}@example.org")).unwrap();
            last.accounts.create(&account, "secret").await.unwrap();
            last.account_left(&account, &leaving).await;
            assert_eq!(last.departures.get(&accounts::owner(&account)).await.unwrap(), None);
            tokio::time::sleep(WRITTEN_AFTER + Duration::from_secs(1)).await;
            assert!(last.departures.get(&accounts::owner(&account)).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn beyond_the_limit_of_those_that_wait_one_is_written_at_once() {
        let store = Store::memory();
        let accounts = Accounts::new(&store, ScramPolicy { hashes: vec![(Hash::Sha1, 4096)] });
        let (departures, waiting) = (store.value("last"), Mutex::default());
        let last = Arc::new(LastActivity { started: Instant::now(), accounts, departures, waiting });
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let owner = accounts::owner(&juliet);
        let leaving = Stanza::parse(b"<presence type='unavailable'><status>bye</status></presence>").unwrap();
        last.accounts.create(&juliet, "secret").await.unwrap();
        let numbered = |n| BareJid::parse(&format!("{n}@example.org")).unwrap();
        let others = (0..WAITING_MAX).map(|n| (numbered(n), Departure::new(now(), &leaving)));
        last.waiting.lock().departures.extend(others);

        last.account_left(&juliet, &leaving).await;
        assert_eq!(last.waiting.lock().departures.len(), WAITING_MAX);
        assert_eq!(last.departures.get(&owner).await.unwrap().unwrap().status, "bye");
        // Who waits already takes no more room.
        last.account_left(&numbered(7), &Stanza::parse(b"<presence type='unavailable'/>").unwrap()).await;
        assert_eq!(last.departure(&numbered(7)).await.unwrap().unwrap().status, "");
        assert_eq!(last.waiting.lock().departures.len(), WAITING_MAX);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let left = left("<presence><status>Ciao, 再见</status></presence>");
        let mut bytes = Vec::new();
        left.encode(&mut bytes);
        assert_eq!(Departure::decode(&bytes), Some(left));
        assert_eq!(Departure::decode(&bytes[..7]), None);
    }
}
