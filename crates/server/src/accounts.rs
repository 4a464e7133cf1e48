//! RFC 6120 §6.3, RFC 5802 §3: the accounts of the served domains, and what is kept instead of their passwords.
//!
//! An account exists as long as it has credentials. All rows of an account, of every module, have the same
//! owner, which [`owner`] names; so removing an account is one erasure.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use magpie_proto::jid::BareJid;
use magpie_proto::sasl::{Credentials, Hash, PasswordError, ScramKeys, ScramPolicy};
use magpie_store::{Batch, Map, Record, Store, StoreError, Ticket, Value};
use tokio::sync::Semaphore;

mod disabled;
mod known;

use disabled::Disabled;
use known::Known;

/// The map of tokens that stand for an account's password (XEP-0484): they go with it.
pub const TOKENS: &str = "fast";

/// How often a change is tried again that another one overtook, before [`StoreError::Conflict`] is reported.
const ATTEMPTS_MAX: usize = 8;

/// The owner of every row of this account: `HOST/LOCALPART`.
///
/// Neither part can contain a slash (RFC 7622 §3.3.1), so the accounts of a host are exactly the owners that begin
/// with [`host_prefix`].
pub fn owner(account: &BareJid) -> String {
    // Needed for each message that is kept: formatting is ten times dearer.
    [account.domain(), "/", account.local().unwrap_or_default()].concat()
}

/// With what the owner of each account of the host begins: `HOST/`.
pub fn host_prefix(host: &str) -> String {
    format!("{host}/")
}

/// Derives credentials with fresh random salts. Blocks for about 0.4 ms a hash per 4096 rounds.
pub fn derive(password: &str, policy: &ScramPolicy) -> Result<Credentials, PasswordError> {
    let random = SystemRandom::new();
    Credentials::derive(password, policy, || {
        let mut salt = [0; 16];
        random.fill(&mut salt).expect("the system's random source works as long as the system does");
        salt
    })
}

/// Why an account could not be made, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// There is such an account already.
    #[error("the account exists already")]
    Exists,
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// The address of a domain, which is no account.
    #[error("an account needs a localpart, as in juliet@example.org")]
    NoLocalpart,
    /// The password cannot be one.
    #[error("{0}")]
    Password(#[from] PasswordError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What became of one account of [`Accounts::create_many`] or [`Accounts::replace_many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    Created,
    /// It was there and has the new credentials now.
    Replaced,
    /// It was there and is as it was.
    Exists,
    /// It has no localpart.
    NoLocalpart,
}

/// What the store keeps under `credentials`, one an account.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCredentials(pub Credentials);

impl Record for StoredCredentials {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Credentials::decode(bytes).map(Self)
    }
}

/// On what an authentication rests: keys that the account had when it was asked for them. It holds until the account has another password.
#[derive(Clone, Debug)]
pub struct Proof(Box<ScramKeys>);

impl Proof {
    /// Of the keys that a password was checked against, or of any of the account where a token stands for the password: it must be
    /// taken before the token is read.
    pub fn new(keys: ScramKeys) -> Self {
        Self(Box::new(keys))
    }

    /// Whether the account still has that password.
    pub fn holds(&self, credentials: &Credentials) -> bool {
        credentials.get(self.0.hash) == Some(&self.0)
    }
}

/// The accounts in a store. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    credentials: Value<StoredCredentials>,
    /// To be cleared: what is in it concerns the module alone.
    tokens: Map<Vec<u8>>,
    known: Known,
    disabled: Disabled,
    policy: ArcSwap<ScramPolicy>,
    /// One derivation a core: more would only wait for each other on more threads.
    derivations: Semaphore,
}

impl Accounts {
    /// The accounts of this store; new passwords get keys as the policy says.
    pub fn new(store: &Store, policy: ScramPolicy) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            inner: Arc::new(Inner {
                store: store.clone(),
                credentials: store.value("credentials"),
                tokens: store.map(TOKENS),
                known: Known::default(),
                disabled: Disabled::new(store),
                policy: ArcSwap::from_pointee(policy),
                derivations: Semaphore::new(cores),
            }),
        }
    }

    /// Where they are.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Which keys a new password gets.
    pub fn policy(&self) -> Arc<ScramPolicy> {
        self.inner.policy.load_full()
    }

    /// Changes which keys a new password gets; what is stored stays.
    pub fn set_policy(&self, policy: ScramPolicy) {
        self.inner.policy.store(Arc::new(policy));
    }

    /// The credentials; `None` where there is no such account.
    pub async fn find(&self, account: &BareJid) -> Result<Option<Credentials>, StoreError> {
        if account.local().is_none() {
            return Ok(None);
        }
        let known = &self.inner.known;
        if let Some(credentials) = known.get(account) {
            return Ok(Some(credentials));
        }
        let look = known.look();
        let Some(stored) = self.inner.credentials.get(&owner(account)).await? else { return Ok(None) };
        known.found(look, account, &stored.0);
        Ok(Some(stored.0))
    }

    /// Every batch that changes credentials is committed here, with the accounts that they are of.
    fn commit<'a>(&self, accounts: impl Iterator<Item = &'a BareJid>, batch: Batch) -> Ticket {
        let store = &self.inner.store;
        self.inner.known.change(accounts, || (store.commit(batch), store.settled()))
    }

    /// Whether there is such an account.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, StoreError> {
        Ok(self.find(account).await?.is_some())
    }

    /// Makes an account. Of two who make the same one at the same time, one gets [`AccountError::Exists`].
    pub async fn create(&self, account: &BareJid, password: &str) -> Result<(), AccountError> {
        self.create_with(account, password, |_| {}).await
    }

    /// As [`Accounts::create`], with more in the same transaction. Where that has preconditions which do not hold, it is
    /// [`StoreError::Conflict`].
    pub async fn create_with(
        &self,
        account: &BareJid,
        password: &str,
        more: impl FnOnce(&mut Batch),
    ) -> Result<(), AccountError> {
        if account.local().is_none() {
            return Err(AccountError::NoLocalpart);
        }
        // Before the derivation, which costs more than the look.
        if self.exists(account).await? {
            return Err(AccountError::Exists);
        }
        let credentials = StoredCredentials(self.derive(password, self.policy()).await?);
        let owner = owner(account);
        let mut batch = Batch::new();
        self.inner.credentials.expect(&mut batch, &owner, None);
        self.inner.credentials.put(&mut batch, &owner, &credentials);
        more(&mut batch);
        match self.commit([account].into_iter(), batch).await {
            Err(StoreError::Conflict) if self.exists(account).await? => Err(AccountError::Exists),
            outcome => Ok(outcome?),
        }
    }

    /// Gives the account another password. Tokens that stand for the old one are good no more.
    pub async fn set_password(&self, account: &BareJid, password: &str) -> Result<(), AccountError> {
        if !self.exists(account).await? {
            return Err(AccountError::NotFound);
        }
        let credentials = StoredCredentials(self.derive(password, self.policy()).await?);
        let owner = owner(account);
        let put = |_: &Credentials, batch: &mut Batch| {
            self.inner.credentials.put(batch, &owner, &credentials);
            self.inner.tokens.clear(batch, &owner);
            true
        };
        self.change_by(account, ATTEMPTS_MAX, put, |batch| self.commit([account].into_iter(), batch)).await.map(drop)
    }

    /// Makes the keys that the policy asks for and the account lacks, from its password. Does nothing where it has another by now.
    pub async fn renew_keys(&self, account: &BareJid, password: &str, proof: &Proof) -> Result<(), AccountError> {
        let Some(found) = self.find(account).await? else { return Err(AccountError::NotFound) };
        let policy = self.policy();
        let lacks = |hash: Hash| found.get(hash).is_none();
        let missing = policy.hashes.iter().copied().filter(|(hash, _)| lacks(*hash)).collect();
        let made = self.derive(password, Arc::new(ScramPolicy { hashes: missing })).await?;
        self.add_keys(account, made.keys, proof).await.map(drop)
    }

    /// Adds keys for hashes that the account has none for. Whether it has them now: not where the password is another than that
    /// of the proof.
    pub async fn add_keys(&self, account: &BareJid, keys: Vec<ScramKeys>, proof: &Proof) -> Result<bool, AccountError> {
        let owner = owner(account);
        let put = |found: &Credentials, batch: &mut Batch| {
            let mut with = found.clone();
            with.keys.extend(keys.iter().filter(|keys| found.get(keys.hash).is_none()).cloned());
            self.inner.credentials.put(batch, &owner, &StoredCredentials(with));
            proof.holds(found)
        };
        self.change_by(account, ATTEMPTS_MAX, put, |batch| self.commit([account].into_iter(), batch)).await
    }

    /// Removes the account with all that any module keeps of it.
    pub async fn remove(&self, account: &BareJid) -> Result<(), AccountError> {
        let owner = owner(account);
        let erase = |_: &Credentials, batch: &mut Batch| {
            batch.erase(&owner);
            true
        };
        self.change_by(account, ATTEMPTS_MAX, erase, |batch| self.commit([account].into_iter(), batch)).await?;
        self.inner.disabled.forget(&owner);
        Ok(())
    }

    /// Deletes all that any module keeps of an address that has no credentials (RFC 4505). Nobody waits for it.
    pub fn erase(&self, address: &BareJid) {
        let owner = owner(address);
        let mut batch = Batch::new();
        // Somebody may just be making an account of it.
        self.inner.credentials.expect(&mut batch, &owner, None);
        batch.erase(&owner);
        drop(self.commit([address].into_iter(), batch));
    }

    /// Accounts of the host in byte order of their localparts, after the localpart `after`, at most `limit`.
    pub async fn list(&self, host: &str, after: Option<&str>, limit: usize) -> Result<Vec<BareJid>, StoreError> {
        let prefix = host_prefix(host);
        let after = after.map(|local| format!("{prefix}{local}"));
        let owners = self.inner.credentials.owners(&prefix, after.as_deref(), limit).await?;
        owners
            .iter()
            .map(|owner| {
                let local = owner.strip_prefix(&prefix);
                BareJid::from_parts(local, host).map_err(|_| StoreError::Corrupt("credentials"))
            })
            .collect()
    }

    /// How many accounts the host has.
    pub async fn count(&self, host: &str) -> Result<u64, StoreError> {
        self.inner.credentials.count(&host_prefix(host)).await
    }

    /// Makes accounts in one transaction, of credentials that were derived before; leaves those that exist.
    /// The answer has one entry an account, in the same order.
    pub async fn create_many(&self, accounts: Vec<(BareJid, Credentials)>) -> Result<Vec<Written>, StoreError> {
        self.write_many(accounts, false).await
    }

    /// As [`Accounts::create_many`], but those that exist get the new credentials. Of an account that is there
    /// twice the last entry stays.
    pub async fn replace_many(&self, accounts: Vec<(BareJid, Credentials)>) -> Result<Vec<Written>, StoreError> {
        self.write_many(accounts, true).await
    }

    async fn write_many(
        &self,
        accounts: Vec<(BareJid, Credentials)>,
        replace: bool,
    ) -> Result<Vec<Written>, StoreError> {
        let (addresses, accounts): (Vec<_>, Vec<_>) = accounts
            .into_iter()
            .map(|(account, credentials)| {
                let owner = account.local().is_some().then(|| owner(&account));
                (account, (owner, StoredCredentials(credentials)))
            })
            .unzip();
        let mut attempt = 1;
        loop {
            let (batch, written) = self.plan_many(&accounts, replace).await?;
            match self.commit(addresses.iter(), batch).await {
                Err(StoreError::Conflict) if attempt < ATTEMPTS_MAX => attempt += 1,
                outcome => return outcome.map(|()| written),
            }
        }
    }

    async fn plan_many(
        &self,
        accounts: &[(Option<String>, StoredCredentials)],
        replace: bool,
    ) -> Result<(Batch, Vec<Written>), StoreError> {
        let mut batch = Batch::new();
        let mut written = Vec::with_capacity(accounts.len());
        // An owner's last row is put once, so that the preconditions hold for what was there before the batch.
        let mut puts: BTreeMap<&str, &StoredCredentials> = BTreeMap::new();
        for (owner, credentials) in accounts {
            let Some(owner) = owner else {
                written.push(Written::NoLocalpart);
                continue;
            };
            let outcome = if puts.contains_key(owner.as_str()) {
                if replace { Written::Replaced } else { Written::Exists }
            } else {
                match self.inner.credentials.get(owner).await? {
                    None => {
                        self.inner.credentials.expect(&mut batch, owner, None);
                        Written::Created
                    }
                    Some(stored) if replace => {
                        self.inner.credentials.expect(&mut batch, owner, Some(&stored));
                        Written::Replaced
                    }
                    Some(_) => Written::Exists,
                }
            };
            if outcome != Written::Exists {
                puts.insert(owner, credentials);
            }
            written.push(outcome);
        }
        for (owner, credentials) in puts {
            self.inner.tokens.clear(&mut batch, owner);
            self.inner.credentials.put(&mut batch, owner, credentials);
        }
        Ok((batch, written))
    }

    /// Commits a change of an account that is there, and is still the same when the change becomes durable; so nothing is
    /// written for an account that is being removed. What is changed is not the credentials.
    pub async fn change(&self, account: &BareJid, change: impl Fn(&mut Batch)) -> Result<(), AccountError> {
        let change = |_: &Credentials, batch: &mut Batch| {
            change(batch);
            true
        };
        self.change_by(account, ATTEMPTS_MAX, change, |batch| self.inner.store.commit(batch)).await.map(drop)
    }

    /// As [`Accounts::change`], once, and only while the proof holds: whether it did. The change may have preconditions of its own;
    /// where one does not hold it is [`StoreError::Conflict`].
    pub async fn change_while(
        &self,
        account: &BareJid,
        proof: &Proof,
        change: impl Fn(&mut Batch),
    ) -> Result<bool, AccountError> {
        let change = |found: &Credentials, batch: &mut Batch| {
            change(batch);
            proof.holds(found)
        };
        self.change_by(account, 1, change, |batch| self.inner.store.commit(batch)).await
    }

    /// `change` says whether the batch is to be committed after all.
    async fn change_by(
        &self,
        account: &BareJid,
        attempts: usize,
        change: impl Fn(&Credentials, &mut Batch) -> bool,
        commit: impl Fn(Batch) -> Ticket,
    ) -> Result<bool, AccountError> {
        if account.local().is_none() {
            return Err(AccountError::NotFound);
        }
        let owner = owner(account);
        let mut attempt = 1;
        loop {
            let Some(found) = self.find(account).await? else {
                return Err(AccountError::NotFound);
            };
            let mut batch = Batch::new();
            let stored = StoredCredentials(found);
            self.inner.credentials.expect(&mut batch, &owner, Some(&stored));
            if !change(&stored.0, &mut batch) {
                return Ok(false);
            }
            match commit(batch).await {
                Err(StoreError::Conflict) => {
                    self.inner.known.forget(account);
                    if attempt == attempts {
                        return Err(StoreError::Conflict.into());
                    }
                    attempt += 1;
                }
                outcome => return Ok(outcome.map(|()| true)?),
            }
        }
    }

    async fn derive(&self, password: &str, policy: Arc<ScramPolicy>) -> Result<Credentials, PasswordError> {
        let _turn = self.inner.derivations.acquire().await.expect("the semaphore is never closed");
        let password = password.to_owned();
        tokio::task::spawn_blocking(move || derive(&password, &policy))
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
    }
}

#[cfg(test)]
mod tests;
