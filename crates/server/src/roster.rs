//! RFC 6121 §2: the roster as a value.
//!
//! A [`Roster`] is what an account knows of its contacts: the items that clients see, and beside them the requests of
//! strangers that wait for an answer, which clients must not see in the roster (§3.1.3). It applies the rules of
//! [`crate::subscription`], counts versions (§2.6) and says what to push; the session stores and sends.
//!
//! In the store a roster is one [`Item`] a contact and one [`Journal`]. After each change the caller writes the item of the
//! contact concerned, or deletes it where [`Roster::get`] no longer finds it, and the journal.

use std::collections::VecDeque;

use magpie_proto::{BareJid, Element, Jid, StanzaCondition, ns};
use magpie_store::Record;
use serde::{Deserialize, Serialize};

use crate::subscription::{self, Inbound, Outbound, Removal, State, Subscription, SubscriptionStanza};

mod packed;
mod wire;

use packed::{Entry, Packed};

/// What one roster may hold; more is refused with the error that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterLimits {
    /// Items that clients see; one more is `resource-constraint`.
    pub items_max: usize,
    /// Requests of strangers that wait for an answer; one more is `resource-constraint` to the stranger.
    pub requests_max: usize,
    /// Bytes of a request that is kept whole; of a longer one only who asks is kept.
    pub request_bytes_max: usize,
    /// Bytes of an item's name; a longer one is `not-acceptable`.
    pub name_bytes_max: usize,
    /// Bytes of a group's name; a longer one is `not-acceptable`.
    pub group_bytes_max: usize,
    /// Groups of an item; one more is `not-acceptable`.
    pub groups_max: usize,
    /// Bytes of all addresses, names and groups together, as a client is sent them at once; more is `resource-constraint`.
    pub bytes_max: usize,
}

impl Default for RosterLimits {
    fn default() -> Self {
        Self {
            items_max: 5_000,
            requests_max: 1_000,
            request_bytes_max: 4_096,
            name_bytes_max: 1_023,
            group_bytes_max: 1_023,
            groups_max: 64,
            bytes_max: 2 * 1024 * 1024,
        }
    }
}

/// One contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Who.
    #[serde(with = "jid_text")]
    pub jid: BareJid,
    /// What the owner calls it, never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The owner's groups for it, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Who sees whose presence.
    #[serde(default)]
    pub state: State,
    /// Whether clients see it. A stranger's request does not put it into the roster, but a contact whom the owner has
    /// added stays there while its request waits.
    #[serde(default)]
    pub listed: bool,
    /// The `subscribe` stanza that waits, as XML; `None` where none waits or it was too long to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The version of the roster in which clients last saw it change.
    #[serde(default)]
    pub changed: u64,
}

impl Item {
    /// An item that only its JID sets apart from nothing: the start for an importer. It is listed.
    pub fn new(jid: BareJid) -> Self {
        Self { listed: true, ..Self::unlisted(jid) }
    }

    #[cfg(test)]
    fn text_bytes(&self) -> usize {
        text_bytes(&self.jid, self.name.as_deref(), &self.groups)
    }

    fn unlisted(jid: BareJid) -> Self {
        Self { jid, name: None, groups: Vec::new(), state: State::default(), listed: false, request: None, changed: 0 }
    }
}

fn text_bytes(jid: &BareJid, name: Option<&str>, groups: &[String]) -> usize {
    jid.as_str().len() + name.map_or(0, str::len) + groups.iter().map(String::len).sum::<usize>()
}

impl Record for Item {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings, numbers and flags always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let item: Self = serde_json::from_slice(bytes).ok()?;
        Some(Self { state: item.state.normalized(), ..item })
    }
}

/// The stored form of an address.
mod jid_text {
    use std::borrow::Cow;

    use magpie_proto::BareJid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(jid: &BareJid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(jid.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BareJid, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        BareJid::parse(&text).map_err(D::Error::custom)
    }
}

/// The versions of a roster, and which items were removed in them: the part of it that belongs to no item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The current version. It grows by one with each change that clients see.
    version: u64,
    /// The oldest version whose changes are all known.
    oldest: u64,
    /// The items removed since then and in which version, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    removed: VecDeque<(u64, String)>,
}

impl Journal {
    /// How many removals are remembered. A client that missed more gets the whole roster.
    pub const REMOVED_MAX: usize = 256;

    fn new(first_version: u64) -> Self {
        Self { version: first_version, oldest: first_version, removed: VecDeque::new() }
    }

    fn next(&mut self, jid: &BareJid) -> u64 {
        // What happens now to the item replaces the memory of an earlier removal.
        self.removed.retain(|(_, removed)| removed != jid.as_str());
        self.version += 1;
        self.version
    }

    fn remove(&mut self, jid: &BareJid) {
        let version = self.next(jid);
        self.removed.push_back((version, jid.as_str().to_owned()));
        if self.removed.len() > Self::REMOVED_MAX
            && let Some((forgotten, _)) = self.removed.pop_front()
        {
            self.oldest = self.oldest.max(forgotten);
        }
    }
}

impl Record for Journal {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings and numbers always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// A roster set, read and checked (§2.1.5, §2.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterSet {
    /// Add the item, or update its name and groups.
    Update {
        /// Who.
        jid: BareJid,
        /// The new name; `None` takes it away.
        name: Option<String>,
        /// The new groups, each once.
        groups: Vec<String>,
    },
    /// Remove the item.
    Remove {
        /// Who.
        jid: BareJid,
    },
}

/// What a client that knows some version of the roster must be told (§2.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The whole roster: [`Roster::query`].
    Full,
    /// An empty result, then a push for each of these, in this order: [`Push::query`].
    Delta(Vec<Push>),
    /// An empty result.
    UpToDate,
}

/// What a roster push tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The version of the roster in which it changed.
    pub version: u64,
    /// The `<item/>`.
    pub item: Element,
}

/// A contact, where it stands in the roster.
pub struct Contact<'a> {
    entry: Entry<'a>,
    shared_domain: &'a str,
}

impl Contact<'_> {
    /// Its address.
    pub fn jid(&self) -> BareJid {
        self.entry.jid()
    }

    /// The text of its address, for which `room` may be used: for a look-up that needs no address of its own.
    pub fn address<'b>(&'b self, room: &'b mut String) -> &'b str {
        self.entry.address(self.shared_domain, room)
    }
}

/// The roster of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    items: Packed,
    journal: Journal,
}

impl Roster {
    /// With how many pushes a client is brought up to date at most.
    pub const DELTA_MAX: usize = 256;

    /// An empty roster.
    ///
    /// `first_version` must be larger than every version that an earlier roster of the same address can have had, or a client
    /// that remembers a deleted account would take the difference for the whole: an id that grows with time will do.
    pub fn new(first_version: u64) -> Self {
        Self { items: Packed::default(), journal: Journal::new(first_version) }
    }

    /// A roster from the store. Where the journal is not there, the roster begins at `first_version` (see [`Roster::new`]).
    pub fn load(journal: Option<Journal>, items: impl IntoIterator<Item = Item>, first_version: u64) -> Self {
        let mut items: Vec<Item> = items.into_iter().collect();
        items.sort_by(|one, other| one.jid.cmp(&other.jid));
        // Two rows of one contact, under an old form of its address and the new one, are one contact.
        items.dedup_by(|one, other| one.jid == other.jid);
        Self { items: Packed::new(&items), journal: journal.unwrap_or_else(|| Journal::new(first_version)) }
    }

    /// The versions, to be stored.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The current version, as in `ver`.
    pub fn version(&self) -> u64 {
        self.journal.version
    }

    /// What is kept of a contact, whether clients see it or not.
    pub fn get(&self, contact: &BareJid) -> Option<Item> {
        self.items.find(contact).map(|entry| entry.item())
    }

    /// The state between the owner and a contact.
    pub fn state(&self, contact: &BareJid) -> State {
        self.items.find(contact).map_or_else(State::default, |entry| entry.state())
    }

    /// All that is kept, in the order of the addresses.
    pub fn all(&self) -> impl Iterator<Item = Item> {
        self.items.iter().map(|entry| entry.item())
    }

    /// Those with whom the owner has such a subscription, in the order of their addresses.
    pub fn contacts(&self, which: fn(Subscription) -> bool) -> impl Iterator<Item = Contact<'_>> {
        let shared_domain = self.items.shared_domain();
        let entries = self.items.iter().filter(move |entry| which(entry.state().subscription));
        entries.map(move |entry| Contact { entry, shared_domain })
    }

    /// The addresses of those who are of the domain, in their order.
    pub fn contacts_of(&self, domain: &str) -> impl Iterator<Item = BareJid> {
        self.items.iter().filter(move |entry| entry.domain() == domain).map(|entry| entry.jid())
    }

    /// The items that clients see, in the order of the addresses.
    pub fn listed(&self) -> impl Iterator<Item = Item> {
        self.items.iter().filter(|entry| entry.listed()).map(|entry| entry.item())
    }

    /// The requests that wait for the owner's answer: who asks, and the stanza that each resource gets when it becomes
    /// available (§3.1.3). `owner` is the account's address.
    pub fn requests(&self, owner: &BareJid) -> impl Iterator<Item = (BareJid, String)> {
        self.items.iter().filter(|entry| entry.state().pending_in).map(move |entry| {
            let Item { jid, request, .. } = entry.item();
            let stanza = request.unwrap_or_else(|| wire::bare_request(&jid, owner));
            (jid, stanza)
        })
    }

    /// Adds an item or replaces its name and groups (§2.3, §2.4); the subscription is not the client's to set. Push the item.
    pub fn update(
        &mut self,
        jid: BareJid,
        name: Option<String>,
        groups: Vec<String>,
        limits: &RosterLimits,
    ) -> Result<Push, StanzaCondition> {
        self.room_for(&jid, limits)?;
        let old = self.items.find(&jid);
        let all: usize = self.items.iter().filter(|entry| entry.listed()).map(|entry| entry.text_bytes()).sum();
        let others = all - old.filter(|entry| entry.listed()).map_or(0, |entry| entry.text_bytes());
        if others + text_bytes(&jid, name.as_deref(), &groups) > limits.bytes_max {
            return Err(StanzaCondition::ResourceConstraint);
        }
        let version = self.journal.next(&jid);
        let old = old.map_or_else(|| Item::unlisted(jid.clone()), |entry| entry.item());
        let name = name.filter(|name| !name.is_empty());
        let item = Item { name, groups, listed: true, changed: version, ..old };
        let push = Push { version, item: item.element() };
        self.items.set(&jid, Some(item));
        Ok(push)
    }

    /// Removes an item (§2.5), and with it what was pending. Push the removal, and send what the [`Removal`] says.
    pub fn remove(&mut self, contact: &BareJid) -> Result<(Removal, Push), StanzaCondition> {
        // §2.5.3. A stranger that only asks is in no roster that the client could mean.
        let Some(entry) = self.items.find(contact).filter(|entry| entry.listed()) else {
            return Err(StanzaCondition::ItemNotFound);
        };
        let state = entry.state();
        self.items.set(contact, None);
        self.journal.remove(contact);
        Ok((subscription::removal(state), self.removal_push(contact)))
    }

    /// The owner sends a subscription stanza to the contact (§3). Where the result says so, push the item.
    pub fn send(
        &mut self,
        contact: &BareJid,
        stanza: SubscriptionStanza,
        limits: &RosterLimits,
    ) -> Result<Outbound, StanzaCondition> {
        let result = subscription::outbound(self.state(contact), stanza);
        if result.push {
            self.room_for(contact, limits)?;
        }
        self.apply(contact, result.state, result.push, None);
        Ok(result)
    }

    /// A subscription stanza arrives from the contact (§3); `text` is the stanza as XML, kept while it waits for an answer.
    /// Where the result says so, push the item.
    pub fn receive(
        &mut self,
        contact: &BareJid,
        stanza: SubscriptionStanza,
        text: &str,
        limits: &RosterLimits,
    ) -> Result<Inbound, StanzaCondition> {
        let old = self.state(contact);
        let result = subscription::inbound(old, stanza);
        let asks = result.state.pending_in && !old.pending_in;
        if asks {
            let waiting = self.items.iter().filter(|entry| entry.state().pending_in).count();
            if waiting >= limits.requests_max {
                return Err(StanzaCondition::ResourceConstraint);
            }
        }
        let request = (asks && text.len() <= limits.request_bytes_max).then_some(text);
        self.apply(contact, result.state, result.push, request);
        Ok(result)
    }

    /// The push for what a contact's item is now.
    pub fn push(&self, contact: &BareJid) -> Push {
        match self.get(contact).filter(|item| item.listed) {
            Some(item) => Push { version: item.changed, item: item.element() },
            None => self.removal_push(contact),
        }
    }

    /// What a client must be told that asks with `ver='…'` (§2.6.3); `None` where it sent no `ver`.
    pub fn since(&self, ver: Option<&str>) -> Since {
        let Some(known) = ver.and_then(|ver| ver.parse::<u64>().ok()) else {
            return Since::Full;
        };
        if known == self.version() {
            return Since::UpToDate;
        }
        if known > self.version() || known < self.journal.oldest {
            return Since::Full;
        }
        let changed = self.items.iter().filter(|entry| entry.listed() && entry.changed() > known);
        let removed = self.journal.removed.iter().filter(|(version, _)| *version > known);
        let mut pushes: Vec<Push> = changed
            .map(|entry| Push { version: entry.changed(), item: entry.item().element() })
            .chain(removed.map(|(version, jid)| Push { version: *version, item: wire::removed(jid) }))
            .collect();
        // §2.6.3 leaves the choice: so many pushes would be more than the roster itself.
        if pushes.len() > Self::DELTA_MAX {
            return Since::Full;
        }
        pushes.sort_by_key(|push| push.version);
        Since::Delta(pushes)
    }

    fn removal_push(&self, contact: &BareJid) -> Push {
        Push { version: self.version(), item: wire::removed(contact.as_str()) }
    }

    /// Refuses a new listed item where there are enough.
    fn room_for(&self, contact: &BareJid, limits: &RosterLimits) -> Result<(), StanzaCondition> {
        let listed = self.items.find(contact).is_some_and(|entry| entry.listed());
        if !listed && self.items.iter().filter(|entry| entry.listed()).count() >= limits.items_max {
            return Err(StanzaCondition::ResourceConstraint);
        }
        Ok(())
    }

    /// Puts the new state into the item, which comes and goes with it. `request`: a stanza that waits from now on.
    fn apply(&mut self, contact: &BareJid, state: State, shown: bool, request: Option<&str>) {
        let old = self.get(contact);
        if state == State::default() && !old.as_ref().is_some_and(|item| item.listed) {
            self.items.set(contact, None);
            return;
        }
        let mut item = old.unwrap_or_else(|| Item::unlisted(contact.clone()));
        item.state = state;
        match request {
            Some(request) => item.request = Some(request.to_owned()),
            None if !state.pending_in => item.request = None,
            None => {}
        }
        if shown {
            item.listed = true;
            item.changed = self.journal.next(contact);
        }
        self.items.set(contact, Some(item));
    }
}

#[cfg(test)]
mod tests;
