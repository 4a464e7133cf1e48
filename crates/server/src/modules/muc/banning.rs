//! Addresses that no room of a service lets in: accounts, and whole domains.
//!
//! Administrators change the list while the server runs, and whoever is in a room and on it is out at once, with status 301.

use hashbrown::HashMap;
use magpie_proto::xeps::muc::Status;
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Map, Record, Store, StoreError};
use parking_lot::RwLock;

use super::Muc;
use super::room::{Deed, Outcome, Outside, Room};
use super::rooms::Act;
use crate::accounts;
use crate::modules::offline::refusal;

/// Addresses on the list of one service.
pub const BANNED_MAX: u64 = 10_000;

/// Why an address is on the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// For those who are shut out.
    pub reason: Option<String>,
}

impl Record for Ban {
    fn encode(&self, out: &mut Vec<u8>) {
        let reason = self.reason.as_deref().map(|reason| Element::new("reason", ns::CLIENT).with_text(reason));
        Element::new("ban", ns::CLIENT).with_all(reason).write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ban = Element::parse(bytes, ns::CLIENT).ok()?;
        Some(Self { reason: ban.child("reason", ns::CLIENT).map(Element::text) })
    }
}

/// The rows: each belongs to a service.
#[derive(Clone)]
pub struct BanBook {
    store: Store,
    bans: Map<Ban>,
}

impl BanBook {
    /// Those of this store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), bans: store.map("rooms-bans") }
    }

    /// All of a service, by address.
    pub async fn list(&self, service: &BareJid) -> Result<Vec<(String, Ban)>, StoreError> {
        self.bans.list(&accounts::owner(service)).await
    }

    /// Puts an address on the list. `false`: it is full.
    pub async fn add(&self, service: &BareJid, address: &BareJid, ban: &Ban) -> Result<bool, StoreError> {
        let owner = accounts::owner(service);
        if self.bans.count(&owner, "", None).await? >= BANNED_MAX {
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.bans.put(&mut batch, &owner, address.as_str(), ban);
        self.store.commit(batch).await.map(|()| true)
    }

    /// Takes an address from it; whether it was there.
    pub async fn remove(&self, service: &BareJid, address: &BareJid) -> Result<bool, StoreError> {
        let owner = accounts::owner(service);
        let there = self.bans.get(&owner, address.as_str()).await?.is_some();
        let mut batch = Batch::new();
        self.bans.delete(&mut batch, &owner, address.as_str());
        self.store.commit(batch).await.map(|()| there)
    }
}

/// The lists as they are in force. One that nobody asked for yet is in the store alone.
pub struct Bans {
    book: BanBook,
    known: RwLock<HashMap<BareJid, HashMap<BareJid, Ban>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Bans {
    /// Those of this store.
    pub fn new(store: &Store) -> Self {
        Self { book: BanBook::new(store), known: RwLock::default(), turn: tokio::sync::Mutex::default() }
    }

    async fn look(&self, service: &BareJid) -> Outcome {
        if self.known.read().contains_key(service) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.look_again(service).await.map_err(refusal)
    }

    async fn look_again(&self, service: &BareJid) -> Result<(), StoreError> {
        let bans = self.book.list(service).await?.into_iter();
        let bans = bans.filter_map(|(address, ban)| Some((BareJid::parse(&address).ok()?, ban))).collect();
        self.known.write().insert(service.clone(), bans);
        Ok(())
    }

    /// Whether an account may enter rooms of the service.
    ///
    /// # Errors
    /// `forbidden`, as where the room itself has banned it.
    pub async fn check(&self, service: &BareJid, account: &BareJid) -> Outcome {
        self.look(service).await?;
        match self.known.read().get(service).and_then(|bans| found(bans, account)) {
            None => Ok(()),
            Some(ban) => {
                let reason = ban.reason.as_deref().unwrap_or("you may not enter rooms here");
                Err(StanzaError::new(StanzaCondition::Forbidden, reason))
            }
        }
    }
}

/// The ban of an account, or of its domain.
fn found<'a>(bans: &'a HashMap<BareJid, Ban>, account: &BareJid) -> Option<&'a Ban> {
    match bans.is_empty() {
        true => None,
        false => bans.get(account).or_else(|| bans.get(&account.to_domain())),
    }
}

impl Room {
    /// Takes out whoever is on the list, and out of those who stay while their clients sleep.
    pub(super) fn shut_out(
        &mut self,
        banned: impl Fn(&BareJid) -> bool,
        reason: Option<&str>,
        out: &mut impl Outside,
    ) -> usize {
        let gone = self.occupants.iter().filter(|occupant| banned(&occupant.account));
        let gone: Vec<String> = gone.map(|occupant| occupant.nick().to_owned()).collect();
        let staying: Vec<BareJid> = self.stays().filter(|account| banned(account)).cloned().collect();
        staying.iter().for_each(|account| self.stay(account, false, out));
        for nick in &gone {
            self.remove(nick, &Deed { statuses: &[Status::Banned], reason, ..Deed::default() }, out);
        }
        gone.len()
    }
}

impl Muc {
    /// Puts an address on the list of a service, and takes out of its rooms who is on it: how many. `None`: the list is full.
    pub async fn ban(&self, service: &BareJid, address: &BareJid, ban: &Ban) -> Result<Option<usize>, StoreError> {
        {
            let _turn = self.bans.turn.lock().await;
            if !self.bans.book.add(service, address, ban).await? {
                return Ok(None);
            }
            self.bans.look_again(service).await?;
        }
        // Whoever enters from here on is refused.
        let banned =
            |account: &BareJid| account == address || address.local().is_none() && account.domain() == address.domain();
        let mut gone = 0;
        for room in self.rooms.awake_of(service) {
            let act = |room: &mut Room, out: &mut Act<'_>| room.shut_out(banned, ban.reason.as_deref(), out);
            gone += self.rooms.with_awake(&room, false, act).map_or(0, |(gone, _)| gone);
        }
        if address.local().is_some() {
            for (room, _) in self
                .rooms
                .storage
                .rooms_of(address)
                .await?
                .into_iter()
                .filter(|(room, _)| room.domain() == service.domain())
            {
                let act = |room: &mut Room, out: &mut Act<'_>| Ok(room.shut_out(banned, ban.reason.as_deref(), out));
                // One that is no more holds nobody.
                gone += self.rooms.with(&room, act).await.map_or(0, |(gone, _)| gone);
            }
        }
        Ok(Some(gone))
    }

    /// Takes an address from the list; whether it was there.
    pub async fn unban(&self, service: &BareJid, address: &BareJid) -> Result<bool, StoreError> {
        let _turn = self.bans.turn.lock().await;
        let there = self.bans.book.remove(service, address).await?;
        self.bans.look_again(service).await?;
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc::Affiliation;
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::room::{Change, Standing};
    use super::super::tests::{Scene, bare};
    use super::*;

    #[test]
    fn an_account_is_on_the_list_by_its_address_or_its_domain() {
        let of = |addresses: &[&str]| -> HashMap<BareJid, Ban> {
            addresses.iter().map(|address| (BareJid::parse(address).unwrap(), Ban::default())).collect()
        };
        for (list, banned) in [
            (&["hag@shakespeare.example"][..], true),
            (&["shakespeare.example"], true),
            (&["example", "second@shakespeare.example"], false),
            (&[], false),
        ] {
            assert_eq!(found(&of(list), &bare("hag")).is_some(), banned, "{list:?}");
        }
    }

    #[test]
    fn who_is_on_the_list_is_taken_out_with_all_its_clients_and_does_not_stay() {
        let mut scene = Scene::new(RoomConfig { persistent: true, ..RoomConfig::default() });
        scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        ["crone", "hag"].iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.sent();
        let gone = scene.room.shut_out(|account| *account == bare("hag"), Some("spam"), &mut scene.written);
        assert_eq!(gone, 1);
        assert_eq!(
            scene.sent(),
            ["hag < hag: unavailable member/none 110,301", "crone < hag: unavailable member/none hag 301"]
        );
        assert!(!scene.room.has_stay(&bare("hag")) && scene.written.changes.contains(&Change::Stay(bare("hag"))));
    }

    #[test]
    fn a_ban_is_read_as_it_is_written() {
        for ban in [Ban::default(), Ban { reason: Some("spam & more".into()) }] {
            let mut bytes = Vec::new();
            ban.encode(&mut bytes);
            assert_eq!(Ban::decode(&bytes), Some(ban));
        }
    }
}
