//! Nodes and items in the store. Every row belongs to the account or service whose nodes they are.
//!
//! Items lie in the order in which they were published, under the node's name and the id of the moment, so that the newest and the
//! oldest are found without looking at the others; beside them is which item has which id.

mod change;

use magpie_proto::xeps::pubsub::NS;
use magpie_proto::{BareJid, Element, Jid, StanzaError, ns};
use magpie_store::{LogId, Map, Record, Store, Value};

pub use self::change::{Change, Finished, News};
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
        Change::new(self, place)
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
