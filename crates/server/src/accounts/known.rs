//! RFC 6120 §6: credentials that were read a short while ago, so that a login asks the store once at most.
//!
//! Whatever changes credentials says so here in the same breath in which it hands the change to the store: from then on, until
//! the store has settled it, nothing is remembered, and what was read before is not taken for what is there afterwards. Where
//! several nodes share a store, each must hear of the others' changes, or remember nothing.

use std::sync::Arc;

use hashbrown::HashMap;
use magpie_proto::BareJid;
use magpie_proto::sasl::Credentials;
use magpie_store::Ticket;
use parking_lot::Mutex;

/// Accounts that are remembered, each with less than half a kilobyte.
const ACCOUNTS_MAX: usize = 8192;

/// What is known of credentials without asking the store.
#[derive(Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those asked for lately, and those asked for before: when the first are too many they take the place of the second.
    ///
    /// In the form in which they are stored: read out they are seven small pieces of memory, which stay between all that comes
    /// and goes with sessions.
    young: HashMap<BareJid, Arc<[u8]>>,
    old: HashMap<BareJid, Arc<[u8]>>,
    /// How many changes there were.
    changes: u64,
    /// Changes that the store has not settled yet.
    under_way: Vec<Ticket>,
}

/// A look into the store that has not begun: what it finds may be remembered, unless there is a change meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Look(Option<u64>);

impl Known {
    /// The credentials, where they are remembered.
    pub(super) fn get(&self, account: &BareJid) -> Option<Credentials> {
        Credentials::decode(&self.stored(account)?)
    }

    fn stored(&self, account: &BareJid) -> Option<Arc<[u8]>> {
        let mut state = self.0.lock();
        if let Some(found) = state.young.get(account) {
            return Some(Arc::clone(found));
        }
        let (account, found) = state.old.remove_entry(account)?;
        state.put(account, Arc::clone(&found));
        Some(found)
    }

    /// Before the store is asked.
    pub(super) fn look(&self) -> Look {
        let mut state = self.0.lock();
        Look(state.is_settled().then_some(state.changes))
    }

    /// What the store answered.
    pub(super) fn found(&self, look: Look, account: &BareJid, credentials: &Credentials) {
        let stored = credentials.encode().into();
        let mut state = self.0.lock();
        if look.0 == Some(state.changes) && state.is_settled() {
            state.put(account.clone(), stored);
        }
    }

    /// Hands a change of these accounts' credentials to the store by `commit`, which gives the ticket of the change and one
    /// that resolves when it is settled.
    pub(super) fn change<'a>(
        &self,
        accounts: impl Iterator<Item = &'a BareJid>,
        commit: impl FnOnce() -> (Ticket, Ticket),
    ) -> Ticket {
        let mut state = self.0.lock();
        for account in accounts {
            state.young.remove(account);
            state.old.remove(account);
        }
        state.changes += 1;
        let (ticket, settled) = commit();
        state.under_way.push(settled);
        state.is_settled();
        ticket
    }

    /// The store says that it has something else.
    pub(super) fn forget(&self, account: &BareJid) {
        let mut state = self.0.lock();
        state.young.remove(account);
        state.old.remove(account);
    }
}

impl State {
    fn is_settled(&mut self) -> bool {
        self.under_way.retain(|ticket| ticket.outcome().is_none());
        self.under_way.is_empty()
    }

    fn put(&mut self, account: BareJid, stored: Arc<[u8]>) {
        if self.young.len() >= ACCOUNTS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(account, stored);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use magpie_store::{Batch, Faults, Store};

    fn juliet() -> BareJid {
        BareJid::parse("juliet@example.org").unwrap()
    }

    fn nothing() -> Credentials {
        Credentials { keys: Vec::new() }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let known = Known::default();
        let look = known.look();
        known.change([&juliet()].into_iter(), || (Ticket::done(), Ticket::done()));
        known.found(look, &juliet(), &nothing());
        assert!(known.get(&juliet()).is_none());
        known.found(known.look(), &juliet(), &nothing());
        assert!(known.get(&juliet()).is_some());
        known.change([&juliet()].into_iter(), || (Ticket::done(), Ticket::done()));
        assert!(known.get(&juliet()).is_none());
    }

    #[test]
    fn while_a_change_is_on_its_way_to_the_disk_nothing_is_remembered() {
        let faults = Faults::new();
        let store = Store::memory_with(faults.clone());
        let number = store.value::<Vec<u8>>("number");
        let known = Known::default();
        faults.hold_commits();
        let ticket = known.change([&juliet()].into_iter(), || {
            let mut batch = Batch::new();
            number.put(&mut batch, "juliet", &vec![1]);
            (store.commit(batch), store.settled())
        });
        // Begun after the change, and answered with what was there before it.
        let look = known.look();
        faults.release();
        assert_eq!(ticket.wait(), Ok(()));
        store.settled().wait().unwrap();
        known.found(look, &juliet(), &nothing());
        assert!(known.get(&juliet()).is_none());
        known.found(known.look(), &juliet(), &nothing());
        assert!(known.get(&juliet()).is_some());
    }

    #[test]
    fn memory_is_bounded_and_who_comes_back_is_remembered() {
        let known = Known::default();
        for n in 0..3 * ACCOUNTS_MAX {
            let account = BareJid::parse(&format!("{n}@example.org")).unwrap();
            known.found(known.look(), &account, &nothing());
            known.found(known.look(), &juliet(), &nothing());
            assert!(known.get(&juliet()).is_some());
        }
        let state = known.0.lock();
        assert!(state.young.len() + state.old.len() <= ACCOUNTS_MAX);
    }
}
