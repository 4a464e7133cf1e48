//! XEP-0133 §4.3: accounts that exist and may not be used for now.
//!
//! They are few and every login asks, so all of them are known once one was asked for. Where several nodes share a store, each
//! must hear of the others' changes.

use std::collections::HashSet;

use magpie_proto::jid::BareJid;
use magpie_proto::sasl::Credentials;
use magpie_store::{Batch, Map, Store, StoreError, Value};
use parking_lot::RwLock;
use tokio::sync::OnceCell;

use super::{ATTEMPTS_MAX, AccountError, Accounts, Proof, StoredCredentials, host_prefix, owner};
use crate::server::now;

/// Of the rows in the store.
const NAME: &str = "disabled";

/// Accounts read from the store at a time.
const PAGE: usize = 1000;

/// The disabled accounts of a store.
pub(super) struct Disabled {
    /// Since when, in text: seconds since 1970.
    rows: Value<String>,
    /// Their owners.
    known: OnceCell<RwLock<HashSet<String>>>,
}

impl Disabled {
    pub(super) fn new(store: &Store) -> Self {
        Self { rows: store.value(NAME), known: OnceCell::new() }
    }

    async fn known(&self) -> Result<&RwLock<HashSet<String>>, StoreError> {
        self.known.get_or_try_init(|| self.read()).await
    }

    async fn read(&self) -> Result<RwLock<HashSet<String>>, StoreError> {
        let mut known = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            let owners = self.rows.owners("", after.as_deref(), PAGE).await?;
            let whole = owners.len() == PAGE;
            after = owners.last().cloned();
            known.extend(owners);
            if !whole {
                return Ok(RwLock::new(known));
            }
        }
    }

    fn note(&self, owner: String) {
        if let Some(known) = self.known.get() {
            known.write().insert(owner);
        }
    }

    /// The account is gone, and the row with it.
    pub(super) fn forget(&self, owner: &str) {
        if let Some(known) = self.known.get() {
            known.write().remove(owner);
        }
    }
}

impl Accounts {
    /// Whether the account may not be used for now.
    pub async fn is_disabled(&self, account: &BareJid) -> Result<bool, StoreError> {
        let known = self.inner.disabled.known().await?;
        let known = known.read();
        Ok(!known.is_empty() && known.contains(&owner(account)))
    }

    /// Whether the account is there, may be used, and has the password of the proof.
    pub async fn is_active(&self, account: &BareJid, proof: &Proof) -> Result<bool, StoreError> {
        let found = self.find(account).await?;
        Ok(found.is_some_and(|credentials| proof.holds(&credentials)) && !self.is_disabled(account).await?)
    }

    /// Lets nobody use the account; its data stay, but for the tokens that stand for its password.
    pub async fn disable(&self, account: &BareJid) -> Result<(), AccountError> {
        let disabled = &self.inner.disabled;
        let known = disabled.known().await?;
        let owner = owner(account);
        let since = now().as_secs().to_string();
        self.change(account, |batch| {
            disabled.rows.put(batch, &owner, &since);
            self.inner.tokens.clear(batch, &owner);
        })
        .await?;
        known.write().insert(owner);
        Ok(())
    }

    /// Erases what a disabled account has, but for its credentials and what is named, by shape.
    pub async fn empty(
        &self,
        account: &BareJid,
        kept_values: &[&'static str],
        kept_maps: &[&'static str],
    ) -> Result<(), AccountError> {
        let (store, owner) = (&self.inner.store, owner(account));
        let mut values: Vec<(Value<Vec<u8>>, Vec<u8>)> = Vec::new();
        for shape in kept_values.iter().map(|name| store.value::<Vec<u8>>(name)) {
            values.extend(shape.get(&owner).await?.map(|kept| (shape, kept)));
        }
        let mut entries: Vec<(Map<Vec<u8>>, String, Vec<u8>)> = Vec::new();
        for name in kept_maps {
            let shape = store.map::<Vec<u8>>(name);
            entries.extend(shape.list(&owner).await?.into_iter().map(|(key, kept)| (store.map(name), key, kept)));
        }
        let since = now().as_secs().to_string();
        let empty = |credentials: &Credentials, batch: &mut Batch| {
            batch.erase(&owner);
            self.inner.credentials.put(batch, &owner, &StoredCredentials(credentials.clone()));
            self.inner.disabled.rows.put(batch, &owner, &since);
            values.iter().for_each(|(shape, kept)| shape.put(batch, &owner, kept));
            entries.iter().for_each(|(shape, key, kept)| shape.put(batch, &owner, key, kept));
            true
        };
        let commit = |batch| self.commit([account].into_iter(), batch);
        self.change_by(account, ATTEMPTS_MAX, empty, commit).await.map(drop)
    }

    /// Puts it into the batch that an account is disabled which is not there yet. Once it is committed, tell
    /// [`Accounts::was_disabled`].
    pub fn disable_in(store: &Store, account: &BareJid, batch: &mut Batch) {
        store.value::<String>(NAME).put(batch, &owner(account), &now().as_secs().to_string());
    }

    /// What [`Accounts::disable_in`] says is committed.
    pub fn was_disabled(&self, account: &BareJid) {
        self.inner.disabled.note(owner(account));
    }

    /// Lets the account be used again.
    pub async fn enable(&self, account: &BareJid) -> Result<(), StoreError> {
        let disabled = &self.inner.disabled;
        let known = disabled.known().await?;
        let owner = owner(account);
        let mut batch = Batch::new();
        disabled.rows.delete(&mut batch, &owner);
        self.inner.store.commit(batch).await?;
        known.write().remove(&owner);
        Ok(())
    }

    /// As [`Accounts::list`], of those that are disabled.
    pub async fn list_disabled(
        &self,
        host: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BareJid>, StoreError> {
        let prefix = host_prefix(host);
        let after = after.map(|local| format!("{prefix}{local}"));
        let owners = self.inner.disabled.rows.owners(&prefix, after.as_deref(), limit).await?;
        let account = |owner: &String| BareJid::from_parts(owner.strip_prefix(&prefix), host);
        owners.iter().map(|owner| account(owner).map_err(|_| StoreError::Corrupt("disabled"))).collect()
    }

    /// How many accounts of the host are disabled.
    pub async fn count_disabled(&self, host: &str) -> Result<u64, StoreError> {
        self.inner.disabled.rows.count(&host_prefix(host)).await
    }
}
