//! Rooms in the store. Every row belongs to the room, but for the list of those that are shown, which is the service's.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::xeps::data_forms::Form;
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::{Affiliation, Item, NS_ADMIN, Role};
use magpie_proto::xeps::muc_config::RoomConfig;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, ns};
use magpie_store::{Batch, LogId, Map, Record, Store, StoreError, Value};

use super::hats::Hats;
use super::room::{Change, Room, Standing, Subject};
use super::versioning::{CHANGES_MAX, Turn};
use crate::accounts;
use crate::modules::vcard::Vcard;

/// What is kept of a room in one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    config: RoomConfig,
    secret: [u8; 16],
    subject: Option<Subject>,
}

impl RoomRecord {
    fn of(room: &Room) -> Self {
        Self { config: room.config.clone(), secret: room.secret, subject: room.subject.clone() }
    }
}

impl Record for RoomRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(self.secret);
        let subject = self.subject.as_ref().map(|subject| {
            let at = subject.at.unix_millis().to_string();
            Element::new("subject", ns::CLIENT).with_attr("at", at).with(subject.message.element())
        });
        let room = Element::new("room", ns::CLIENT).with_attr("secret", secret);
        room.with(self.config.differences().element()).with_all(subject).write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let room = Element::parse(bytes, ns::CLIENT).ok()?;
        let subject = match room.child("subject", ns::CLIENT) {
            None => None,
            Some(subject) => Some(Subject {
                at: DateTime::from_unix_millis(subject.attr("at")?.parse().ok()?),
                message: Stanza::new(subject.children().next()?),
            }),
        };
        Some(Self {
            config: RoomConfig::default().with(&Form::of(&room)?).ok()?.config,
            secret: BASE64_URL_SAFE_NO_PAD.decode(room.attr("secret")?).ok()?.try_into().ok()?,
            subject,
        })
    }
}

impl Record for Standing {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { affiliation, nick, reason, voice } = self.clone();
        let role = voice.map(|speaks| if speaks { Role::Participant } else { Role::Visitor });
        let item = Item { affiliation: Some(affiliation), role, nick, reason, ..Item::default() };
        item.element(NS_ADMIN).write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let item = Item::parse(&Element::parse(bytes, ns::CLIENT).ok()?).ok()?;
        let voice = item.role.map(|role| role >= Role::Participant);
        Some(Self { affiliation: item.affiliation?, nick: item.nick, reason: item.reason, voice })
    }
}

/// What is told of a room to who looks for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its name; empty where it has none.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The language.
    pub language: String,
    /// Whether everybody may enter.
    pub open: bool,
    /// Whether occupants see each other's addresses.
    pub non_anonymous: bool,
}

impl Listed {
    /// Of a room.
    pub fn of(room: &Room) -> Self {
        let config = &room.config;
        Self {
            name: config.name.clone(),
            description: config.description.clone(),
            language: config.language.clone(),
            open: !config.members_only && config.password.is_none(),
            non_anonymous: config.non_anonymous(),
        }
    }
}

impl Record for Listed {
    fn encode(&self, out: &mut Vec<u8>) {
        let flag = |is: bool| if is { "1" } else { "0" };
        Element::new("listed", ns::CLIENT)
            .with_attr("name", &self.name)
            .with_attr("description", &self.description)
            .with_attr("language", &self.language)
            .with_attr("open", flag(self.open))
            .with_attr("non-anonymous", flag(self.non_anonymous))
            .write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let listed = Element::parse(bytes, ns::CLIENT).ok()?;
        let text = |name| listed.attr(name).map(str::to_owned);
        Some(Self {
            name: text("name")?,
            description: text("description")?,
            language: text("language")?,
            open: listed.attr("open") == Some("1"),
            non_anonymous: listed.attr("non-anonymous") == Some("1"),
        })
    }
}

/// The rows.
pub struct Storage {
    store: Store,
    rooms: Value<RoomRecord>,
    standings: Map<Standing>,
    /// Who stays in a room without a session.
    stays: Map<String>,
    /// The rooms in which an account stays, and how far it has read each: the other side of it.
    stays_of: Map<String>,
    /// The rooms to which an account is more than nothing and not banned, so that they are found when it is removed.
    affiliated: Map<String>,
    /// The rooms of a service that are listed.
    listed: Map<Listed>,
    /// The vCards of rooms, and apart from them the hashes of their pictures (XEP-0486).
    vcards: Value<Vcard>,
    hats: Value<Hats>,
    avatars: Value<String>,
    /// The last changes of affiliations, by their numbers (XEP-0463).
    turns: Map<Turn>,
}

impl Storage {
    /// In this store.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            rooms: store.value("rooms"),
            standings: store.map("room-standings"),
            stays: store.map("room-stays"),
            stays_of: store.map("rooms-of"),
            affiliated: store.map("rooms-affiliated"),
            listed: store.map("rooms-listed"),
            vcards: store.value("room-vcards"),
            hats: store.value("room-hats"),
            avatars: store.value("room-avatars"),
            turns: store.map("room-affiliation-turns"),
        }
    }

    /// Reads a room, after what was to be written before.
    pub async fn read(&self, address: &BareJid) -> Result<Option<Room>, StoreError> {
        // What became of it is said to whoever changed it.
        let _ = self.store.settled().await;
        let wanted = [
            self.rooms.wanted(),
            self.standings.wanted(),
            self.stays.wanted(),
            self.avatars.wanted(),
            self.hats.wanted(),
            self.turns.wanted(),
        ];
        let rows = self.store.read(&accounts::owner(address), &wanted).await?;
        let Some(RoomRecord { config, secret, subject }) = self.rooms.found(&rows)? else { return Ok(None) };
        let mut room = Room::new(address.clone(), config, secret);
        room.subject = subject;
        room.stored = true;
        room.hats = self.hats.found(&rows)?.map(Box::new);
        let avatars = self.avatars.found(&rows)?.unwrap_or_default();
        room.avatars = avatars.split_ascii_whitespace().map(Into::into).collect();
        for (account, standing) in self.standings.found(&rows)? {
            if let Ok(account) = BareJid::parse(&account) {
                room.restore(account, standing);
            }
        }
        for (account, _) in self.stays.found(&rows)? {
            if let Ok(account) = BareJid::parse(&account) {
                room.restore_stay(account);
            }
        }
        for (number, turn) in self.turns.found(&rows)? {
            if let Ok(number) = number.parse() {
                room.versions.restore(number, turn);
            }
        }
        Ok(Some(room))
    }

    /// Adds all that has changed of a room to a batch.
    pub fn write_all(&self, batch: &mut Batch, room: &Room, changes: &[Change]) {
        match changes.contains(&Change::Destroyed) {
            true => self.write(batch, room, &Change::Destroyed),
            false => changes.iter().for_each(|change| self.write(batch, room, change)),
        }
    }

    /// Adds what has changed of a room to a batch.
    pub fn write(&self, batch: &mut Batch, room: &Room, change: &Change) {
        let owner = accounts::owner(&room.address);
        let (service, name) = (accounts::owner(&room.address.to_domain()), room.address.local().unwrap_or_default());
        match change {
            Change::Destroyed => {
                self.listed.delete(batch, &service, name);
                self.forget_accounts(batch, room);
                batch.erase(&owner);
            }
            // What ends with its last occupant is not kept, or not any more.
            Change::Record if !room.lasts() => {
                self.rooms.delete(batch, &owner);
                self.forget_accounts(batch, room);
                self.standings.clear(batch, &owner);
                self.turns.clear(batch, &owner);
                self.hats.delete(batch, &owner);
                self.listed.delete(batch, &service, name);
            }
            Change::Standing(_) | Change::Stay(_) | Change::Version(_) if !room.lasts() => {}
            Change::Record => {
                self.rooms.put(batch, &owner, &RoomRecord::of(room));
                // Those of before it was to last.
                self.write_hats(batch, &owner, room);
                match room.is_listed() {
                    true => self.listed.put(batch, &service, name, &Listed::of(room)),
                    false => self.listed.delete(batch, &service, name),
                }
            }
            Change::Hats if !room.lasts() => {}
            Change::Hats => self.write_hats(batch, &owner, room),
            Change::Vcard(Some(vcard)) => {
                self.vcards.put(batch, &owner, &Vcard::new(vcard.as_ref().clone()));
                self.avatars.put(batch, &owner, &room.avatars.join(" "));
            }
            Change::Vcard(None) => {
                self.vcards.delete(batch, &owner);
                self.avatars.delete(batch, &owner);
            }
            Change::Standing(account) => {
                let (of_account, address) = (accounts::owner(account), room.address.as_str());
                match room.standing(account) {
                    Some(standing) => self.standings.put(batch, &owner, account.as_str(), standing),
                    None => self.standings.delete(batch, &owner, account.as_str()),
                }
                match room.standing(account).is_some_and(|standing| standing.affiliation != Affiliation::Outcast) {
                    true => self.affiliated.put(batch, &of_account, address, &String::new()),
                    false => self.affiliated.delete(batch, &of_account, address),
                }
            }
            Change::Version(number) => {
                if let Some(turn) = room.versions.turn(*number) {
                    self.turns.put(batch, &owner, &key_of(*number), turn);
                }
                if let Some(forgotten) = number.checked_sub(CHANGES_MAX as u64) {
                    self.turns.delete(batch, &owner, &key_of(forgotten));
                }
            }
            Change::Stay(account) => {
                let of_account = accounts::owner(account);
                match room.has_stay(account) {
                    true => {
                        self.stays.put(batch, &owner, account.as_str(), &String::new());
                        // What was said before it came is not unread.
                        self.put_read(batch, account, &room.address, self.store.next_id());
                    }
                    false => {
                        self.stays.delete(batch, &owner, account.as_str());
                        self.stays_of.delete(batch, &of_account, room.address.as_str());
                    }
                }
            }
        }
    }

    fn write_hats(&self, batch: &mut Batch, owner: &str, room: &Room) {
        if let Some(hats) = &room.hats {
            self.hats.put(batch, owner, hats);
        }
    }

    /// The vCard of a room.
    pub async fn vcard(&self, address: &BareJid) -> Result<Option<Element>, StoreError> {
        Ok(self.vcards.get(&accounts::owner(address)).await?.map(Vcard::into_element))
    }

    /// The rooms of a service that last, in the order of their localparts.
    pub async fn all_of(
        &self,
        service: &BareJid,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BareJid>, StoreError> {
        let prefix = accounts::owner(service);
        let after = after.map(|local| format!("{prefix}{local}"));
        let owners = self.rooms.owners(&prefix, after.as_deref(), limit).await?;
        let locals = owners.iter().filter_map(|owner| owner.strip_prefix(&prefix));
        Ok(locals.filter_map(|local| BareJid::from_parts(Some(local), service.domain()).ok()).collect())
    }

    /// Takes a room out of the lists of accounts.
    fn forget_accounts(&self, batch: &mut Batch, room: &Room) {
        self.stays.clear(batch, &accounts::owner(&room.address));
        for account in room.stays() {
            self.stays_of.delete(batch, &accounts::owner(account), room.address.as_str());
        }
        for (account, _) in room.standings() {
            self.affiliated.delete(batch, &accounts::owner(account), room.address.as_str());
        }
    }

    /// The rooms that last and to which an account is more than nothing, and not banned.
    pub async fn rooms_with(&self, account: &BareJid) -> Result<Vec<BareJid>, StoreError> {
        let _ = self.store.settled().await;
        let rooms = self.affiliated.list(&accounts::owner(account)).await?;
        Ok(rooms.into_iter().filter_map(|(room, _)| BareJid::parse(&room).ok()).collect())
    }

    /// The rooms in which an account stays, and how far it has read them.
    pub async fn rooms_of(&self, account: &BareJid) -> Result<Vec<(BareJid, LogId)>, StoreError> {
        let rooms = self.stays_of.list(&accounts::owner(account)).await?;
        Ok(rooms.into_iter().filter_map(|(room, read)| Some((BareJid::parse(&room).ok()?, place(&read)))).collect())
    }

    /// How far an account has read a room, if it stays there.
    pub async fn read_up_to(&self, account: &BareJid, room: &BareJid) -> Result<Option<LogId>, StoreError> {
        let read = self.stays_of.get(&accounts::owner(account), room.as_str()).await?;
        Ok(read.map(|read| place(&read)))
    }

    /// Writes how far an account that stays in a room has read it.
    pub fn put_read(&self, batch: &mut Batch, account: &BareJid, room: &BareJid, read: LogId) {
        self.stays_of.put(batch, &accounts::owner(account), room.as_str(), &read.0.to_string());
    }

    /// With which the ids of occupants of a room are made.
    pub async fn secret(&self, room: &BareJid) -> Result<Option<[u8; 16]>, StoreError> {
        Ok(self.rooms.get(&accounts::owner(room)).await?.map(|room| room.secret))
    }

    /// Listed rooms of a service, by their localparts, after this one.
    pub async fn listed(
        &self,
        service: &BareJid,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Listed)>, StoreError> {
        self.listed.range(&accounts::owner(service), "", after, limit).await
    }

    /// The same backwards, before this one.
    pub async fn listed_back(
        &self,
        service: &BareJid,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Listed)>, StoreError> {
        self.listed.range_back(&accounts::owner(service), "", before, limit).await
    }

    /// How many rooms are listed, and how many of them before this one.
    pub async fn count_listed(&self, service: &BareJid, before: Option<&str>) -> Result<u64, StoreError> {
        self.listed.count(&accounts::owner(service), "", before).await
    }
}

/// The key of a change, so that they stand in their order.
fn key_of(number: u64) -> String {
    format!("{number:020}")
}

/// A place in a room's archive, as it is written.
fn place(text: &str) -> LogId {
    LogId(text.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn again<T: Record>(record: &T) -> T {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        T::decode(&bytes).unwrap()
    }

    #[test]
    fn a_room_is_read_as_it_is_written() {
        let message = "<message from='coven@chat.shakespeare.example/thirdwitch' type='groupchat'><subject>Fire &lt;Burn&gt;</subject></message>";
        let subject = Subject {
            message: Stanza::parse(message.as_bytes()).unwrap(),
            at: DateTime::from_unix_millis(1_800_000_000_123),
        };
        let config = RoomConfig {
            name: "A Dark Cave".into(),
            persistent: true,
            password: Some("x".into()),
            ..RoomConfig::default()
        };
        for subject in [None, Some(subject)] {
            let record = RoomRecord { config: config.clone(), secret: [7; 16], subject };
            assert_eq!(again(&record), record);
        }
        // A million rooms are a million of these.
        let mut bytes = Vec::new();
        let usual = RoomConfig { persistent: true, name: "coven".into(), ..RoomConfig::default() };
        RoomRecord { config: usual, secret: [7; 16], subject: None }.encode(&mut bytes);
        assert!(bytes.len() < 300, "{}", String::from_utf8_lossy(&bytes));
        let description = "Eye of newt & \"toe of frog\"\n'Wool of bat'".into();
        let listed = Listed { name: "A Dark <Cave>".into(), description, open: true, ..Listed::default() };
        assert_eq!(again(&listed), listed);
        let banned = Standing { affiliation: Affiliation::Outcast, reason: Some("Treason & more".into()), ..Standing::default() };
        for voice in [None, Some(true), Some(false)] {
            let standing = Standing { voice, ..banned.clone() };
            assert_eq!(again(&standing), standing);
        }
        assert_eq!(RoomRecord::decode(b"<room/>"), None);
    }
}
