//! XEP-0357: Push Notifications, which devices are to be woken.
//!
//! Which accounts have any is known in memory, so that the way of a message to all others asks no store. A device whose service refuses is given
//! up; one whose service fails is given up when it has failed for a day.

use std::collections::HashMap;
use std::sync::Arc;

use magpie_proto::BareJid;
use magpie_store::{Batch, Record, Store, StoreError, Value};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::accounts;
use crate::registry::Registry;

/// Services and nodes of one account.
const DEVICES_MAX: usize = 16;

/// Errors in a row that may pass, and for how many seconds, before a device is given up.
const FAILURES_MAX: u32 = 10;
const FAILING_SECONDS_MAX: u64 = 24 * 60 * 60;

/// How often a change is tried again that another one came before.
const ATTEMPTS_MAX: usize = 8;

/// Accounts read at a time when the server starts.
const PAGE: usize = 1024;

/// Where a client is to be woken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    /// The service's address.
    pub(super) service: String,
    /// What the service calls the device.
    pub(super) node: String,
    /// The form with which the service lets things be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<String>,
    /// The resource of the client that asked for it.
    pub(super) resource: String,
    /// Errors in a row, and when the first of them came, in seconds since 1970.
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    failing_since: u64,
}

/// Those of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Devices(pub(super) Vec<Device>);

impl Record for Devices {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings and numbers always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service has it.
    Pushed,
    /// It may go better another time.
    Failed,
    /// The service does not want it.
    Refused,
}

/// The devices of all accounts.
pub(super) struct PushDevices {
    store: Store,
    kept: Value<Devices>,
    registry: Arc<Registry>,
    /// The accounts that have devices; `None` where those were not read yet.
    accounts: RwLock<HashMap<BareJid, Option<Arc<Devices>>>>,
}

impl PushDevices {
    /// Those that this store has.
    pub(super) fn new(store: &Store, registry: &Arc<Registry>) -> Self {
        let kept = store.value("push");
        Self { store: store.clone(), kept, registry: Arc::clone(registry), accounts: RwLock::default() }
    }

    /// Learns which accounts have devices, when the server starts.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let owners = self.kept.owners("", after.as_deref(), PAGE).await?;
            let Some(last) = owners.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut accounts = self.accounts.write();
            for (host, local) in owners.iter().filter_map(|owner| owner.split_once('/')) {
                accounts.extend(BareJid::from_parts(Some(local), host).ok().map(|account| (account, None)));
            }
        }
    }

    /// Whether the account has any: known without the store.
    pub(super) fn has_any(&self, account: &BareJid) -> bool {
        self.accounts.read().contains_key(account)
    }

    /// Whether the account may have one that is so: known without the store.
    pub(super) fn may_have(&self, account: &BareJid, is_so: impl Fn(&Device) -> bool) -> bool {
        match self.accounts.read().get(account) {
            None => false,
            Some(None) => true,
            Some(Some(devices)) => devices.0.iter().any(is_so),
        }
    }

    /// The account has a session now: what is asked for each message is at hand from here on.
    pub(super) async fn session_bound(&self, account: &BareJid) -> Result<(), StoreError> {
        if self.has_any(account) {
            self.of(account).await?;
            self.registry.with(account, |account| account.map(|account| account.pushes = true));
        }
        Ok(())
    }

    /// Those of one account.
    pub(super) async fn of(&self, account: &BareJid) -> Result<Arc<Devices>, StoreError> {
        match self.accounts.read().get(account) {
            None => return Ok(Arc::default()),
            Some(Some(known)) => return Ok(Arc::clone(known)),
            Some(None) => {}
        }
        let read = Arc::new(self.kept.get(&accounts::owner(account)).await?.unwrap_or_default());
        let mut accounts = self.accounts.write();
        let known = accounts.get_mut(account).map(|known| known.get_or_insert(read));
        Ok(known.map_or_else(Arc::default, |known| Arc::clone(known)))
    }

    /// One more, or what is known of one anew (§5): `false` where there are too many.
    pub(super) async fn enable(&self, account: &BareJid, device: &Device) -> Result<bool, StoreError> {
        let enable = |devices: &mut Devices| {
            devices.0.retain(|other| !other.is(device));
            devices.0.push(device.clone());
            devices.0.len() <= DEVICES_MAX
        };
        self.change(account, enable).await
    }

    /// A node of a service, or all of them, is asked no more (§6).
    pub(super) async fn disable(&self, account: &BareJid, service: &str, node: Option<&str>) -> Result<(), StoreError> {
        let disable = |devices: &mut Devices| {
            let named = |device: &Device| device.service == service && node.is_none_or(|node| node == device.node);
            devices.0.retain(|device| !named(device));
            true
        };
        self.change(account, disable).await.map(drop)
    }

    /// Counts what came of a push at this time, in seconds since 1970 (§7.1).
    pub(super) async fn note(
        &self,
        account: &BareJid,
        device: &Device,
        outcome: Outcome,
        now: u64,
    ) -> Result<(), StoreError> {
        if outcome == Outcome::Pushed && device.failures == 0 {
            return Ok(());
        }
        let note = |devices: &mut Devices| {
            let Some(index) = devices.0.iter().position(|other| other.is(device)) else { return false };
            if !devices.0[index].is_worth_keeping(outcome, now) {
                devices.0.remove(index);
            }
            true
        };
        self.change(account, note).await.map(drop)
    }

    /// The account is gone.
    pub(super) fn forget(&self, account: &BareJid) {
        self.accounts.write().remove(account);
    }

    /// Changes the devices of an account, on disk when this returns. Whether it did: not where the change says no.
    async fn change(&self, account: &BareJid, change: impl Fn(&mut Devices) -> bool) -> Result<bool, StoreError> {
        let owner = accounts::owner(account);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.kept.get(&owner).await?;
            let mut after = before.clone().unwrap_or_default();
            if !change(&mut after) {
                return Ok(false);
            }
            let mut batch = Batch::new();
            self.kept.expect(&mut batch, &owner, before.as_ref());
            match after.0.is_empty() {
                true => self.kept.delete(&mut batch, &owner),
                false => self.kept.put(&mut batch, &owner, &after),
            }
            match self.store.commit(batch).await {
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.know(account, after);
                    return Ok(true);
                }
            }
        }
        Err(StoreError::Conflict)
    }

    fn know(&self, account: &BareJid, devices: Devices) {
        let has = !devices.0.is_empty();
        let mut accounts = self.accounts.write();
        match has {
            true => drop(accounts.insert(account.clone(), Some(Arc::new(devices)))),
            false => drop(accounts.remove(account)),
        }
        drop(accounts);
        self.registry.with(account, |account| account.map(|account| account.pushes = has));
    }
}

impl Device {
    /// One that has not failed yet.
    pub(super) fn new(service: String, node: String, options: Option<String>, resource: String) -> Self {
        Self { service, node, options, resource, failures: 0, failing_since: 0 }
    }

    /// Whether both are one node of one service.
    fn is(&self, other: &Self) -> bool {
        (&self.service, &self.node) == (&other.service, &other.node)
    }

    /// Counts what came of a push. Whether the device is to be tried again.
    fn is_worth_keeping(&mut self, outcome: Outcome, now: u64) -> bool {
        match outcome {
            Outcome::Refused => return false,
            Outcome::Pushed => (self.failures, self.failing_since) = (0, 0),
            Outcome::Failed => {
                if self.failures == 0 {
                    self.failing_since = now;
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        self.failures <= FAILURES_MAX || now < self.failing_since + FAILING_SECONDS_MAX
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn device(node: &str) -> Device {
        Device::new("push@example.org/app".into(), node.into(), None, "phone".into())
    }

    fn juliet() -> BareJid {
        BareJid::parse("juliet@example.org").unwrap()
    }

    /// As after a start of the server.
    async fn loaded(store: &Store) -> PushDevices {
        let devices = PushDevices::new(store, &Arc::default());
        devices.load().await.unwrap();
        devices
    }

    #[test]
    fn a_service_that_fails_for_a_day_is_given_up_and_one_that_recovers_begins_anew() {
        let mut failing = device("n");
        for n in 0..100 {
            assert!(failing.is_worth_keeping(Outcome::Failed, 1000 + n), "{n}");
        }
        assert!(!failing.is_worth_keeping(Outcome::Failed, 1000 + FAILING_SECONDS_MAX));
        let mut seldom = device("n");
        assert!(seldom.is_worth_keeping(Outcome::Failed, 1000));
        assert!(seldom.is_worth_keeping(Outcome::Failed, 1000 + 9 * FAILING_SECONDS_MAX), "twice is not often");
        assert!(failing.is_worth_keeping(Outcome::Pushed, 2000) && failing == device("n"));
        assert!(!device("n").is_worth_keeping(Outcome::Refused, 0));
    }

    #[tokio::test]
    async fn a_device_whose_service_answers_errors_is_given_up_alone_and_no_start_brings_it_back() {
        let store = Store::memory();
        let (devices, account) = (loaded(&store).await, juliet());
        for node in ["failing", "refusing", "good"] {
            assert!(devices.enable(&account, &device(node)).await.unwrap());
        }
        let nodes = |devices: Arc<Devices>| devices.0.iter().map(|device| device.node.clone()).collect::<Vec<_>>();
        let begin = 1_800_000_000;
        for n in 0..u64::from(FAILURES_MAX) {
            devices.note(&account, &device("failing"), Outcome::Failed, begin + n).await.unwrap();
        }
        // What was counted outlives the server.
        let devices = loaded(&store).await;
        devices.note(&account, &device("failing"), Outcome::Failed, begin + FAILING_SECONDS_MAX - 1).await.unwrap();
        assert_eq!(nodes(devices.of(&account).await.unwrap()), ["failing", "refusing", "good"]);
        devices.note(&account, &device("failing"), Outcome::Failed, begin + FAILING_SECONDS_MAX).await.unwrap();
        devices.note(&account, &device("refusing"), Outcome::Refused, begin).await.unwrap();
        devices.note(&account, &device("good"), Outcome::Pushed, begin).await.unwrap();
        for devices in [&devices, &loaded(&store).await] {
            assert_eq!(nodes(devices.of(&account).await.unwrap()), ["good"]);
        }
        // One that was given up is not counted on.
        devices.note(&account, &device("failing"), Outcome::Failed, begin + FAILING_SECONDS_MAX).await.unwrap();
        assert_eq!(nodes(devices.of(&account).await.unwrap()), ["good"]);
    }

    #[tokio::test]
    async fn an_account_has_so_many_devices_and_one_that_it_knows_can_always_be_enabled_anew() {
        let store = Store::memory();
        let (devices, account) = (loaded(&store).await, juliet());
        assert!(!devices.has_any(&account));
        for n in 0..DEVICES_MAX {
            assert!(devices.enable(&account, &device(&n.to_string())).await.unwrap());
        }
        assert!(!devices.enable(&account, &device("one more")).await.unwrap());
        let laptop = Device { resource: "laptop".into(), ..device("3") };
        assert!(devices.enable(&account, &laptop).await.unwrap());
        assert_eq!(devices.of(&account).await.unwrap().0.len(), DEVICES_MAX);
        assert!(devices.may_have(&account, |device| device.resource == "laptop"));
        devices.disable(&account, &laptop.service, Some("3")).await.unwrap();
        assert!(!devices.may_have(&account, |device| device.resource == "laptop"));
        assert!(devices.enable(&account, &device("one more")).await.unwrap());
        devices.disable(&account, &laptop.service, None).await.unwrap();
        assert!(!devices.has_any(&account) && !loaded(&store).await.has_any(&account));
    }
}
