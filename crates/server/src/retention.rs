//! For how long messages stay in archives: as the configuration says for a domain, or shorter, as was set for an account.
//!
//! What is too old for its domain goes by months, which are tables that are dropped. Within a month, what is too old for its account
//! goes row by row, some at a time, so that nobody waits long for the writer meanwhile.

use std::time::Duration;

use magpie_proto::BareJid;
use magpie_store::{Archive, Batch, LogId, Page, Store, StoreError, Value};
use tracing::{info, warn};

use crate::accounts;
use crate::config;
use crate::modules::archive::Archived;
use crate::server::{Deps, now};
use crate::services::Service;

/// How often the store forgets what is too old.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// Messages of one account that are deleted at a time.
const DELETED_AT_ONCE: usize = 1000;

/// Accounts looked up at a time.
const ACCOUNTS_AT_ONCE: usize = 1000;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// The ages that were set for accounts.
pub struct AccountAges {
    store: Store,
    days: Value<String>,
}

impl AccountAges {
    /// Those in the store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), days: store.value("archive-days") }
    }

    /// Days after which messages of the account are forgotten; `None`: as its domain's.
    pub async fn get(&self, account: &BareJid) -> Result<Option<u32>, StoreError> {
        Ok(self.days.get(&accounts::owner(account)).await?.and_then(|days| days.parse().ok()))
    }

    /// Sets them.
    pub async fn set(&self, account: &BareJid, days: Option<u32>) -> Result<(), StoreError> {
        let (mut batch, owner) = (Batch::new(), accounts::owner(account));
        match days {
            Some(days) => self.days.put(&mut batch, &owner, &days.to_string()),
            None => self.days.delete(&mut batch, &owner),
        }
        self.store.commit(batch).await
    }
}

/// Forgets what is too old.
pub struct Retention {
    store: Store,
    archive: Archive<Archived>,
    ages: AccountAges,
    deps: Deps,
}

impl Retention {
    /// Of this server.
    pub fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            archive: deps.store.archive("messages"),
            ages: AccountAges::new(&deps.store),
            deps: deps.clone(),
        }
    }

    /// Forgets now and then, for as long as the server runs.
    pub async fn run(self) {
        let mut again = tokio::time::interval(FORGET_EVERY);
        loop {
            again.tick().await;
            if let Err(error) = self.forget(now()).await {
                warn!(%error, "old messages stay in the archive for now");
            }
        }
    }

    /// Forgets what is too old at this time, since 1970.
    pub async fn forget(&self, now: Duration) -> Result<(), StoreError> {
        let config = self.deps.config.load_full();
        let mut batch = Batch::new();
        for domain in &config.domains {
            match config.archive.keep_days_of(domain) {
                0 => {}
                days => {
                    self.archive.forget(&mut batch, domain, before(now, days));
                    // Rooms are their domain's, as accounts are.
                    if let Some(rooms) = Service::Muc.address(domain) {
                        self.archive.forget(&mut batch, rooms.domain(), before(now, days));
                    }
                }
            }
        }
        self.store.commit(batch).await?;
        for domain in &config.domains {
            self.forget_of_accounts(domain, &config.archive, now).await?;
        }
        Ok(())
    }

    async fn forget_of_accounts(
        &self,
        domain: &str,
        archive: &config::Archive,
        now: Duration,
    ) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let prefix = accounts::host_prefix(domain);
            let owners = self.ages.days.owners(&prefix, after.as_deref(), ACCOUNTS_AT_ONCE).await?;
            for owner in &owners {
                let days = self.ages.days.get(owner).await?.and_then(|days| days.parse().ok()).unwrap_or(0);
                // A longer age than the domain's keeps nothing that is gone already.
                if days > 0 && (archive.keep_days_of(domain) == 0 || days < archive.keep_days_of(domain)) {
                    self.forget_of(owner, before(now, days)).await?;
                }
            }
            after = match owners.len() == ACCOUNTS_AT_ONCE {
                true => owners.last().cloned(),
                false => return Ok(()),
            };
        }
    }

    async fn forget_of(&self, owner: &str, before: LogId) -> Result<(), StoreError> {
        let mut steps = 0;
        loop {
            // One that only just came stays, and so does a store that deletes nothing: the next round is hours away.
            let oldest = self.archive.page(owner, Page { limit: 1, ..Page::default() }).await?;
            let Some((oldest, _)) = oldest.first().filter(|(oldest, _)| *oldest < before) else { break };
            let mut batch = Batch::new();
            self.archive.trim(&mut batch, owner, before, DELETED_AT_ONCE);
            self.store.commit(batch).await?;
            steps += 1;
            let still = self.archive.entries(owner, vec![*oldest]).await?;
            if !still.is_empty() {
                break;
            }
        }
        if steps > 0 {
            info!(owner, "old messages of the account are forgotten");
        }
        Ok(())
    }
}

fn before(now: Duration, days: u32) -> LogId {
    LogId::at_millis((now.as_millis() as u64).saturating_sub(u64::from(days) * DAY))
}
