//! A change of one place: nodes, items and what is made of them elsewhere become durable together. What is about to change is seen
//! by whoever asks the change, and by nobody else.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use magpie_proto::xeps::pubsub_config::WhenFull;
use magpie_proto::{Element, StanzaCondition, StanzaError};
use magpie_store::Batch;

use super::{CHUNK, END, ITEMS_MAX, Item, Node, Part, Place, Placed, Storage, key, oldest_alive, order};
use crate::modules::offline::refusal;
use crate::modules::vcard::Vcard;

/// What is about to change in one place, together.
pub struct Change<'a> {
    storage: &'a Storage,
    place: &'a Place,
    batch: Batch,
    /// Items that come, and keys of those that go.
    items: BTreeMap<String, Option<Item>>,
    /// Under which keys the items with these ids will lie.
    ids: HashMap<String, Option<String>>,
    nodes: BTreeMap<String, Option<Node>>,
    /// How many items more each node has.
    counts: BTreeMap<String, i64>,
    /// Bytes of all items, once they are known.
    bytes: Option<u64>,
    bytes_changed: bool,
    vcard: Option<Vcard>,
    news: Vec<News>,
}

/// What others are told once a change is on disk.
pub enum News {
    /// Something happened at a node.
    Event {
        /// Its name.
        name: String,
        /// As it was then.
        node: Arc<Node>,
        /// What happened.
        event: Element,
    },
    /// The account has another vCard, maybe with another picture.
    Vcard,
}

/// A change that is to be written.
pub struct Finished {
    /// What, but for the vCard.
    pub batch: Batch,
    /// The account's vCard, where it is another one.
    pub vcard: Option<Vcard>,
    /// Who is told of what, in this order.
    pub news: Vec<News>,
    /// Whether a node comes, goes or is configured.
    pub nodes: bool,
}

/// An item without its payload.
struct Lying {
    key: String,
    id: String,
    bytes: u64,
}

impl From<Placed> for Lying {
    fn from(Placed { key, item }: Placed) -> Self {
        Self { key, id: item.id().to_owned(), bytes: item.bytes() }
    }
}

impl<'a> Change<'a> {
    pub(super) fn new(storage: &'a Storage, place: &'a Place) -> Self {
        Self {
            storage,
            place,
            batch: Batch::new(),
            items: BTreeMap::new(),
            ids: HashMap::new(),
            nodes: BTreeMap::new(),
            counts: BTreeMap::new(),
            bytes: None,
            bytes_changed: false,
            vcard: None,
            news: Vec::new(),
        }
    }

    /// Where it is.
    pub fn place(&self) -> &'a Place {
        self.place
    }

    /// For what belongs to other modules and becomes durable with the rest.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Whoever wants to know is told of it when all is on disk.
    pub fn tell(&mut self, name: &str, node: &Arc<Node>, event: Element) {
        self.news.push(News::Event { name: name.to_owned(), node: Arc::clone(node), event });
    }

    /// The account's vCard is another one from then on.
    pub fn put_vcard(&mut self, vcard: Vcard) {
        self.vcard = Some(vcard);
        self.news.push(News::Vcard);
    }

    /// A node.
    pub async fn node(&self, name: &str) -> Result<Option<Node>, StanzaError> {
        match self.nodes.get(name) {
            Some(node) => Ok(node.clone()),
            None => self.storage.node(self.place, name).await,
        }
    }

    /// The item with an id.
    pub async fn item(&self, name: &str, node: &Node, id: &str) -> Result<Option<Item>, StanzaError> {
        match self.ids.get(&key(name, id)) {
            Some(place) => Ok(place.as_ref().and_then(|place| self.items.get(place).cloned().flatten())),
            None => Ok(self.storage.item(self.place, name, node, id).await?.map(|placed| placed.item)),
        }
    }

    /// The oldest items of a node.
    pub async fn items(&self, name: &str, node: &Node, limit: usize) -> Result<Vec<Item>, StanzaError> {
        let limit_of_old = limit + self.of(name).filter(|(_, item)| item.is_none()).count();
        let old = self.storage.items(self.place, name, node, &Part::After(None), limit_of_old).await?;
        let old = old.into_iter().filter(|placed| !self.items.contains_key(&placed.key)).map(|placed| placed.item);
        Ok(old.chain(self.of(name).filter_map(|(_, item)| item.clone())).take(limit).collect())
    }

    /// The item that was published last.
    pub async fn last(&self, name: &str, node: &Node) -> Result<Option<Item>, StanzaError> {
        if let Some(newest) = self.of(name).filter_map(|(_, item)| item.as_ref()).next_back() {
            return Ok(Some(newest.clone()));
        }
        let gone = self.of(name).count();
        let old = self.storage.items(self.place, name, node, &Part::Before(None), gone + 1).await?;
        Ok(old.into_iter().rfind(|placed| !self.items.contains_key(&placed.key)).map(|placed| placed.item))
    }

    /// What happens to items of a node, in their order.
    fn of(&self, name: &str) -> impl DoubleEndedIterator<Item = (&String, &Option<Item>)> {
        let prefix = key(name, "");
        let end = format!("{name}{}", char::from_u32(END as u32 + 1).expect("is a character"));
        self.items.range(prefix..end)
    }

    /// Whether one node more may be here.
    pub async fn room_for_node(&self) -> Result<(), StanzaError> {
        let new = self.nodes.values().filter(|node| node.is_some()).count() as u64;
        let count = self.storage.nodes.count(&self.place.owner, "", None).await.map_err(refusal)?;
        match count + new >= self.place.nodes_max() {
            true => Err(StanzaError::new(StanzaCondition::ResourceConstraint, "there are too many nodes")),
            false => Ok(()),
        }
    }

    /// Stores a node as it is now.
    pub async fn put_node(&mut self, name: &str, node: &Node) -> Result<(), StanzaError> {
        self.name_entities(name, Some(node)).await?;
        self.storage.nodes.put(&mut self.batch, &self.place.owner, name, node);
        self.nodes.insert(name.to_owned(), Some(node.clone()));
        Ok(())
    }

    /// Deletes a node with all its items.
    pub async fn delete_node(&mut self, name: &str) -> Result<(), StanzaError> {
        self.purge(name).await?;
        self.counts.remove(name);
        self.storage.counts.delete(&mut self.batch, &self.place.owner, name);
        self.name_entities(name, None).await?;
        self.storage.nodes.delete(&mut self.batch, &self.place.owner, name);
        self.nodes.insert(name.to_owned(), None);
        Ok(())
    }

    /// Writes down who has to do with a service's node from now on.
    async fn name_entities(&mut self, name: &str, node: Option<&Node>) -> Result<(), StanzaError> {
        if self.place.personal {
            return Ok(());
        }
        let before = self.node(name).await?;
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
        let all = self.oldest(name, usize::MAX).await?;
        self.take_all(name, &all).await
    }

    /// Publishes an item in place of one with the same id, the newest from now on. Gives the ids of those that had to make room.
    /// Where that is refused nothing of it happens.
    pub async fn publish(&mut self, name: &str, node: &Node, item: &Item) -> Result<Vec<String>, StanzaError> {
        let (leaving, told) = match self.placed(name, item.id()).await? {
            Some(old) => (vec![Lying::from(old)], 0..0),
            None => self.make_room(name, node).await?,
        };
        let freed: u64 = leaving.iter().map(|lying| lying.bytes).sum();
        let before = self.bytes().await?;
        let after = (before + item.bytes()).saturating_sub(freed);
        if after > before && after > self.place.bytes_max() {
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint, "all items together are too large"));
        }
        self.take_all(name, &leaving).await?;
        let place = key(name, &order(self.storage.store.next_id()));
        let id = key(name, item.id());
        self.storage.items.put(&mut self.batch, &self.place.owner, &place, item);
        self.storage.ids.put(&mut self.batch, &self.place.owner, &id, &place);
        self.set_bytes(after);
        self.count(name, 1);
        self.ids.insert(id, Some(place.clone()));
        self.items.insert(place, Some(item.clone()));
        Ok(leaving[told].iter().map(|lying| lying.id.clone()).collect())
    }

    /// The item with an id, where it lies, also if it has expired.
    async fn placed(&self, name: &str, id: &str) -> Result<Option<Placed>, StanzaError> {
        let id = key(name, id);
        let place = match self.ids.get(&id) {
            Some(place) => place.clone(),
            None => self.storage.ids.get(&self.place.owner, &id).await.map_err(refusal)?,
        };
        let Some(key) = place else { return Ok(None) };
        let item = match self.items.get(&key) {
            Some(item) => item.clone(),
            None => self.storage.items.get(&self.place.owner, &key).await.map_err(refusal)?,
        };
        Ok(item.map(|item| Placed { key, item }))
    }

    /// The oldest items of a node that must go until one more has room, with some of those that have expired; and of which of them
    /// others are told.
    async fn make_room(&self, name: &str, node: &Node) -> Result<(Vec<Lying>, Range<usize>), StanzaError> {
        let (expired, count) = self.expired_and_alive(name, node).await?;
        let max = node.config.max_items.map_or(ITEMS_MAX, u64::from).clamp(1, ITEMS_MAX);
        if count >= max && node.config.when_full == WhenFull::Reject {
            return Err(magpie_proto::xeps::pubsub::error(StanzaCondition::NotAllowed, "max-items-exceeded"));
        }
        let too_many = (count + 1).saturating_sub(max);
        let cleared = if too_many > 0 { expired } else { expired.min(CHUNK as u64) };
        let leaving = self.oldest(name, (cleared + too_many) as usize).await?;
        let told = match node.config.when_full {
            WhenFull::DiscardOldest => 0..0,
            _ => leaving.len().min(cleared as usize)..leaving.len(),
        };
        Ok((leaving, told))
    }

    /// Changes how many items a node may have, or how old.
    pub async fn shrink(&mut self, name: &str, node: &Node) -> Result<(), StanzaError> {
        let (expired, count) = self.expired_and_alive(name, node).await?;
        let max = node.config.max_items.map_or(ITEMS_MAX, u64::from).min(ITEMS_MAX);
        let leaving = self.oldest(name, (expired + count.saturating_sub(max)) as usize).await?;
        self.take_all(name, &leaving).await
    }

    async fn expired_and_alive(&self, name: &str, node: &Node) -> Result<(u64, u64), StanzaError> {
        let mut expired = self.storage.expired(self.place, name, node).await?;
        if expired > 0 {
            let alive = oldest_alive(name, node);
            expired = expired.saturating_sub(self.of(name).filter(|(key, _)| **key <= alive).count() as u64);
        }
        let all = self.storage.count_all(self.place, name).await?;
        let all = all.saturating_add_signed(self.counts.get(name).copied().unwrap_or_default());
        Ok((expired, all.saturating_sub(expired)))
    }

    /// The oldest items of a node; where they lie, for their payloads may be too much for the memory.
    async fn oldest(&self, name: &str, count: usize) -> Result<Vec<Lying>, StanzaError> {
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < count {
            let limit = (count - found.len()).min(CHUNK);
            let oldest = self.storage.items.range(&self.place.owner, &key(name, ""), after.as_deref(), limit).await;
            let oldest = oldest.map_err(refusal)?;
            let Some((last, _)) = oldest.last() else { break };
            after = Some(last.clone());
            let old = oldest.into_iter().filter(|(key, _)| !self.items.contains_key(key));
            found.extend(old.map(|(key, item)| Lying::from(Placed { key, item })));
        }
        let left = count - found.len();
        if left > 0 {
            let new = self.of(name).filter_map(|(key, item)| Some(Placed { key: key.clone(), item: item.clone()? }));
            found.extend(new.take(left).map(Lying::from));
        }
        Ok(found)
    }

    /// Removes one item.
    pub async fn remove(&mut self, name: &str, id: &str) -> Result<(), StanzaError> {
        let lying: Vec<Lying> = self.placed(name, id).await?.map(Lying::from).into_iter().collect();
        self.take_all(name, &lying).await
    }

    async fn take_all(&mut self, name: &str, all: &[Lying]) -> Result<(), StanzaError> {
        for Lying { key: place, id, bytes } in all {
            let after = self.bytes().await?.saturating_sub(*bytes);
            self.set_bytes(after);
            self.count(name, -1);
            let id = key(name, id);
            self.storage.items.delete(&mut self.batch, &self.place.owner, place);
            self.storage.ids.delete(&mut self.batch, &self.place.owner, &id);
            self.ids.insert(id, None);
            self.items.insert(place.clone(), None);
        }
        Ok(())
    }

    fn count(&mut self, name: &str, more: i64) {
        *self.counts.entry(name.to_owned()).or_default() += more;
    }

    /// Bytes of all items, with what is about to change.
    async fn bytes(&mut self) -> Result<u64, StanzaError> {
        if let Some(bytes) = self.bytes {
            return Ok(bytes);
        }
        let stored = self.storage.bytes.get(&self.place.owner).await.map_err(refusal)?;
        let bytes = stored.and_then(|text| text.parse().ok()).unwrap_or_default();
        self.bytes = Some(bytes);
        Ok(bytes)
    }

    fn set_bytes(&mut self, bytes: u64) {
        self.bytes_changed |= self.bytes != Some(bytes);
        self.bytes = Some(bytes);
    }

    /// Nothing more changes.
    pub async fn finish(mut self) -> Result<Finished, StanzaError> {
        let (storage, owner) = (self.storage, &self.place.owner);
        for (name, more) in self.counts.iter().filter(|(_, more)| **more != 0) {
            let count = storage.count_all(self.place, name).await?.saturating_add_signed(*more);
            storage.counts.put(&mut self.batch, owner, name, &count.to_string());
        }
        if let Some(bytes) = self.bytes.filter(|_| self.bytes_changed) {
            storage.bytes.put(&mut self.batch, owner, &bytes.to_string());
        }
        Ok(Finished { batch: self.batch, vcard: self.vcard, news: self.news, nodes: !self.nodes.is_empty() })
    }

    /// Resolves when the nodes and items of an account that is not there yet are on disk.
    pub async fn commit(self) -> Result<(), StanzaError> {
        let storage = self.storage;
        storage.store.commit(self.finish().await?.batch).await.map_err(refusal)
    }
}
