//! Nodes and items in the store. Every row belongs to the account or service whose nodes they are.
//!
//! Items lie in the order in which they were published, under the node's name and the id of the moment, so that the newest and the
//! oldest are found without looking at the others; beside them is which item has which id.

use std::collections::BTreeMap;

use magpie_proto::xeps::pubsub::NS;
use magpie_proto::{BareJid, Element, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, LogId, Map, Record, Store, StoreError, Value};

use super::greeting::Greetings;
use super::node::Node;
use crate::accounts;
use crate::modules::offline::refusal;
use crate::server::now;

/// Between a node's name and what follows it in a key: no XML has this character.
const END: char = '\u{1}';

/// Items of one node, whatever its configuration says; `max` is this many.
pub const ITEMS_MAX: u64 = 10_000;

/// Nodes of an account; one more is `resource-constraint`.
pub const NODES_MAX: u64 = 500;

/// Nodes of a service.
pub const SERVICE_NODES_MAX: u64 = 100_000;

/// Bytes of all items of an account together; more is `resource-constraint`.
pub const BYTES_MAX: u64 = 64 << 20;

/// Bytes of all items of a service.
pub const SERVICE_BYTES_MAX: u64 = 4 << 30;

/// Items that are read at a time to be removed.
const CHUNK: usize = 128;

/// An account or a service that has nodes.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub address: BareJid,
    /// Whether it is an account.
    pub personal: bool,
    owner: String,
}

impl Place {
    /// An account (XEP-0163).
    pub fn account(address: &BareJid) -> Self {
        Self { owner: accounts::owner(address), address: address.clone(), personal: true }
    }

    /// A service.
    pub fn service(address: &BareJid) -> Self {
        let address = address.to_domain();
        Self { owner: accounts::owner(&address), address, personal: false }
    }

    /// Of all rows.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    fn nodes_max(&self) -> u64 {
        if self.personal { NODES_MAX } else { SERVICE_NODES_MAX }
    }

    fn bytes_max(&self) -> u64 {
        if self.personal { BYTES_MAX } else { SERVICE_BYTES_MAX }
    }
}

/// A published item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item(Element);

impl Item {
    /// An item with what was published in it.
    pub fn new(id: &str, publisher: &BareJid, payload: Option<&Element>) -> Self {
        let item = Element::new("item", NS).with_attr("id", id).with_attr("publisher", publisher);
        Self(item.with_all(payload.cloned()))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.0.attr("id").unwrap_or_default()
    }

    /// Who published it.
    pub fn publisher(&self) -> Option<BareJid> {
        Some(Jid::parse(self.0.attr("publisher")?).ok()?.to_bare())
    }

    /// What was published.
    pub fn payload(&self) -> Option<&Element> {
        self.0.children().next()
    }

    /// As it is shown to who asks, in `NS` or `NS_EVENT`.
    pub fn element(&self, ns: &str, with_payload: bool) -> Element {
        let payload = self.payload().filter(|_| with_payload);
        Element::new("item", ns).with_attr("id", self.id()).with_all(payload.cloned())
    }

    fn bytes(&self) -> u64 {
        self.0.to_xml(ns::CLIENT).len() as u64
    }
}

impl Record for Item {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Element::parse(bytes, ns::CLIENT).ok().map(Self)
    }
}

/// An item and where it lies.
#[derive(Clone, Debug)]
pub struct Placed {
    key: String,
    /// The item.
    pub item: Item,
}

/// The rows.
pub struct Storage {
    store: Store,
    nodes: Map<Node>,
    /// Of services, which have too many nodes to look through: who has to do with which node.
    entities: Map<String>,
    items: Map<Item>,
    /// Under which key the item with an id lies.
    ids: Map<String>,
    /// How many items a node has, so that nobody counts a large one. Where there is no row they are counted.
    counts: Map<String>,
    /// Bytes of all items.
    bytes: Value<String>,
    /// What of them is remembered.
    pub(super) greetings: Greetings,
}

/// Which items of a node, by place.
#[derive(Clone, Debug)]
pub enum Part {
    /// The oldest after this one.
    After(Option<Placed>),
    /// The newest before this one.
    Before(Option<Placed>),
}

impl Storage {
    /// In this store.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            nodes: store.map("pubsub-nodes"),
            entities: store.map("pubsub-entities"),
            items: store.map("pubsub-items"),
            ids: store.map("pubsub-ids"),
            counts: store.map("pubsub-counts"),
            bytes: store.value("pubsub-bytes"),
            greetings: Greetings::default(),
        }
    }

    /// A node.
    pub async fn node(&self, place: &Place, name: &str) -> Result<Option<Node>, StanzaError> {
        if name.is_empty() {
            return Ok(None);
        }
        self.nodes.get(&place.owner, name).await.map_err(refusal)
    }

    /// Nodes in the order of their names, after the one with this name.
    pub async fn nodes(
        &self,
        place: &Place,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Node)>, StanzaError> {
        self.nodes.range(&place.owner, "", after, limit).await.map_err(refusal)
    }

    /// Nodes with which somebody is affiliated or to which it is subscribed, in the order of their names; of an account all nodes.
    pub async fn nodes_of(&self, place: &Place, who: &BareJid, limit: usize) -> Result<Vec<(String, Node)>, StanzaError> {
        if place.personal {
            return self.nodes(place, None, limit).await;
        }
        let named = self.entities.range(&place.owner, &key(who.as_str(), ""), None, limit).await.map_err(refusal)?;
        let mut nodes = Vec::with_capacity(named.len());
        for (_, name) in named {
            nodes.extend(self.node(place, &name).await?.map(|node| (name, node)));
        }
        Ok(nodes)
    }

    /// The item with an id.
    pub async fn item(&self, place: &Place, name: &str, node: &Node, id: &str) -> Result<Option<Placed>, StanzaError> {
        let Some(key) = self.ids.get(&place.owner, &key(name, id)).await.map_err(refusal)? else { return Ok(None) };
        if key <= oldest_alive(name, node) {
            return Ok(None);
        }
        let item = self.items.get(&place.owner, &key).await.map_err(refusal)?;
        Ok(item.map(|item| Placed { key, item }))
    }

    /// Items of a node in the order of publication.
    pub async fn items(
        &self,
        place: &Place,
        name: &str,
        node: &Node,
        part: &Part,
        limit: usize,
    ) -> Result<Vec<Placed>, StanzaError> {
        let (prefix, alive) = (key(name, ""), oldest_alive(name, node));
        let found = match part {
            Part::After(after) => {
                let after = after.as_ref().map_or(&alive, |after| (&after.key).max(&alive));
                self.items.range(&place.owner, &prefix, Some(after), limit).await
            }
            Part::Before(before) => {
                let before = before.as_ref().map(|before| before.key.as_str());
                let mut found = self.items.range_back(&place.owner, &prefix, before, limit).await;
                if let Ok(found) = &mut found {
                    found.retain(|(key, _)| *key > alive);
                    found.reverse();
                }
                found
            }
        };
        Ok(found.map_err(refusal)?.into_iter().map(|(key, item)| Placed { key, item }).collect())
    }

    /// The item that was published last.
    pub async fn last(&self, place: &Place, name: &str, node: &Node) -> Result<Option<Item>, StanzaError> {
        Ok(self.items(place, name, node, &Part::Before(None), 1).await?.pop().map(|placed| placed.item))
    }

    /// How many items a node has.
    pub async fn count(&self, place: &Place, name: &str, node: &Node) -> Result<u64, StanzaError> {
        let all = self.count_all(place, name).await?;
        Ok(all.saturating_sub(self.expired(place, name, node).await?))
    }

    async fn count_all(&self, place: &Place, name: &str) -> Result<u64, StanzaError> {
        let known = self.counts.get(&place.owner, name).await.map_err(refusal)?;
        match known.and_then(|count| count.parse().ok()) {
            Some(count) => Ok(count),
            None => self.items.count(&place.owner, &key(name, ""), None).await.map_err(refusal),
        }
    }

    /// How many items come before this one.
    pub async fn index(&self, place: &Place, name: &str, node: &Node, placed: &Placed) -> Result<u64, StanzaError> {
        let before = self.items.count(&place.owner, &key(name, ""), Some(&placed.key)).await.map_err(refusal)?;
        Ok(before.saturating_sub(self.expired(place, name, node).await?))
    }

    /// How many items have expired that nobody has cleared away yet.
    async fn expired(&self, place: &Place, name: &str, node: &Node) -> Result<u64, StanzaError> {
        if node.config.expire_seconds.is_none() {
            return Ok(0);
        }
        let alive = oldest_alive(name, node);
        self.items.count(&place.owner, &key(name, ""), Some(&alive)).await.map_err(refusal)
    }

    /// Begins a change.
    pub fn change<'a>(&'a self, place: &'a Place) -> Change<'a> {
        Change { storage: self, place, batch: Batch::new(), added: 0, removed: 0, items: BTreeMap::new(), nodes: false }
    }
}

/// What is about to change in one place, together.
pub struct Change<'a> {
    storage: &'a Storage,
    place: &'a Place,
    batch: Batch,
    added: u64,
    removed: u64,
    /// How many items more each node has.
    items: BTreeMap<String, i64>,
    /// Whether a node comes, goes or is configured.
    nodes: bool,
}

impl Change<'_> {
    /// Stores a node as it is now. One that was not there counts against how many there may be.
    pub async fn put_node(&mut self, name: &str, node: &Node, is_new: bool) -> Result<(), StanzaError> {
        if is_new {
            let count = self.storage.nodes.count(&self.place.owner, "", None).await.map_err(refusal)?;
            if count >= self.place.nodes_max() {
                return Err(StanzaError::new(StanzaCondition::ResourceConstraint, "there are too many nodes"));
            }
        }
        self.name_entities(name, Some(node)).await?;
        self.storage.nodes.put(&mut self.batch, &self.place.owner, name, node);
        self.nodes = true;
        Ok(())
    }

    /// Deletes a node with all its items.
    pub async fn delete_node(&mut self, name: &str) -> Result<(), StanzaError> {
        self.purge(name).await?;
        self.items.remove(name);
        self.storage.counts.delete(&mut self.batch, &self.place.owner, name);
        self.name_entities(name, None).await?;
        self.storage.nodes.delete(&mut self.batch, &self.place.owner, name);
        self.nodes = true;
        Ok(())
    }

    /// Writes down who has to do with a service's node from now on.
    async fn name_entities(&mut self, name: &str, node: Option<&Node>) -> Result<(), StanzaError> {
        if self.place.personal {
            return Ok(());
        }
        let before = self.storage.node(self.place, name).await?;
        let [before, after] = [before.as_ref(), node].map(|node| node.map(Node::entities).unwrap_or_default());
        let (entities, owner) = (&self.storage.entities, &self.place.owner);
        for gone in before.difference(&after) {
            entities.delete(&mut self.batch, owner, &key(gone.as_str(), name));
        }
        for new in after.difference(&before) {
            entities.put(&mut self.batch, owner, &key(new.as_str(), name), &name.to_owned());
        }
        Ok(())
    }

    /// Deletes all items of a node.
    pub async fn purge(&mut self, name: &str) -> Result<(), StanzaError> {
        self.remove_oldest(name, usize::MAX).await.map(drop)
    }

    /// Publishes an item in place of one with the same id, the newest from now on. Gives the ids of those that had to make room.
    pub async fn publish(&mut self, name: &str, node: &Node, item: &Item) -> Result<Vec<String>, StanzaError> {
        let storage = self.storage;
        let id_key = key(name, item.id());
        let old = storage.ids.get(&self.place.owner, &id_key).await.map_err(refusal)?;
        let replaces = old.is_some();
        if let Some(old) = old {
            if let Some(item) = storage.items.get(&self.place.owner, &old).await.map_err(refusal)? {
                self.removed += item.bytes();
            }
            storage.items.delete(&mut self.batch, &self.place.owner, &old);
            self.count(name, -1);
        }
        let gone = match replaces {
            true => Vec::new(),
            false => self.make_room(name, node).await?,
        };
        let place = key(name, &order(storage.store.next_id()));
        self.added += item.bytes();
        self.count(name, 1);
        storage.items.put(&mut self.batch, &self.place.owner, &place, item);
        storage.ids.put(&mut self.batch, &self.place.owner, &id_key, &place);
        Ok(gone)
    }

    /// Removes the oldest items of a node until one more has room, and some of those that have expired. Gives the ids of the former.
    async fn make_room(&mut self, name: &str, node: &Node) -> Result<Vec<String>, StanzaError> {
        use magpie_proto::xeps::pubsub_config::WhenFull;
        let expired = self.storage.expired(self.place, name, node).await?;
        let count = self.storage.count(self.place, name, node).await?;
        let max = node.config.max_items.map_or(ITEMS_MAX, u64::from).clamp(1, ITEMS_MAX);
        if count >= max && node.config.when_full == WhenFull::Reject {
            return Err(magpie_proto::xeps::pubsub::error(StanzaCondition::NotAllowed, "max-items-exceeded"));
        }
        let too_many = (count + 1).saturating_sub(max);
        let cleared = if too_many > 0 { expired } else { expired.min(CHUNK as u64) };
        let mut gone = self.remove_oldest(name, (cleared + too_many) as usize).await?;
        gone.drain(..gone.len().min(cleared as usize));
        if node.config.when_full == WhenFull::DiscardOldest {
            gone.clear();
        }
        Ok(gone)
    }

    /// Changes how many items a node may have, or how old.
    pub async fn shrink(&mut self, name: &str, node: &Node) -> Result<(), StanzaError> {
        let expired = self.storage.expired(self.place, name, node).await?;
        let count = self.storage.count(self.place, name, node).await?;
        let max = node.config.max_items.map_or(ITEMS_MAX, u64::from).min(ITEMS_MAX);
        self.remove_oldest(name, (expired + count.saturating_sub(max)) as usize).await.map(drop)
    }

    async fn remove_oldest(&mut self, name: &str, count: usize) -> Result<Vec<String>, StanzaError> {
        let (mut gone, mut after) = (Vec::new(), None);
        while gone.len() < count {
            let limit = (count - gone.len()).min(CHUNK);
            let oldest = self.storage.items.range(&self.place.owner, &key(name, ""), after.as_deref(), limit).await;
            let oldest = oldest.map_err(refusal)?;
            let Some((last, _)) = oldest.last() else { break };
            after = Some(last.clone());
            for (key, item) in oldest {
                gone.push(item.id().to_owned());
                self.remove(name, &Placed { key, item });
            }
        }
        Ok(gone)
    }

    /// Removes one item.
    pub fn remove(&mut self, name: &str, placed: &Placed) {
        self.removed += placed.item.bytes();
        self.count(name, -1);
        self.storage.items.delete(&mut self.batch, &self.place.owner, &placed.key);
        self.storage.ids.delete(&mut self.batch, &self.place.owner, &key(name, placed.item.id()));
    }

    fn count(&mut self, name: &str, more: i64) {
        *self.items.entry(name.to_owned()).or_default() += more;
    }

    /// Resolves when all of it is on disk.
    pub async fn commit(mut self) -> Result<(), StanzaError> {
        let storage = self.storage;
        for (name, more) in self.items.iter().filter(|(_, more)| **more != 0) {
            let count = storage.count_all(self.place, name).await?.saturating_add_signed(*more);
            storage.counts.put(&mut self.batch, &self.place.owner, name, &count.to_string());
        }
        if self.added != self.removed {
            let before = storage.bytes.get(&self.place.owner).await.map_err(refusal)?;
            let before: u64 = before.and_then(|text| text.parse().ok()).unwrap_or_default();
            let after = (before + self.added).saturating_sub(self.removed);
            if self.added > self.removed && after > self.place.bytes_max() {
                return Err(StanzaError::new(StanzaCondition::ResourceConstraint, "all items together are too large"));
            }
            storage.bytes.put(&mut self.batch, &self.place.owner, &after.to_string());
        }
        let done = storage.store.commit(self.batch).await.map_err(|error: StoreError| refusal(error));
        if self.nodes {
            storage.greetings.forget(&self.place.owner);
        }
        done
    }
}

fn key(name: &str, rest: &str) -> String {
    format!("{name}{END}{rest}")
}

/// Sixteen digits, so that the order of the text is that of the numbers.
fn order(id: LogId) -> String {
    format!("{:016x}", id.0)
}

/// Up to this key items have expired.
fn oldest_alive(name: &str, node: &Node) -> String {
    match node.config.expire_seconds {
        None => key(name, ""),
        Some(seconds) => {
            let millis = (now().as_millis() as u64).saturating_sub(u64::from(seconds) * 1000);
            key(name, &order(LogId::at_millis(millis)))
        }
    }
}
