//! XEP-0060 §7: publishing items and taking them back.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::Form;
use magpie_proto::xeps::pubsub::{NS, NS_EVENT, PUBLISH_OPTIONS, error};
use magpie_proto::xeps::pubsub_config::NodeConfig;
use magpie_proto::{BareJid, Element, StanzaCondition, StanzaError, ns};

use super::node::Node;
use super::storage::{Change, Item, Place};
use super::{Kept, Pubsub, displayed, node_name};
use crate::requests::{Reply, Request};
use crate::server::{Server, random_text};

/// Items of one publication; more are `not-acceptable`.
const ITEMS_AT_ONCE_MAX: usize = 32;

/// Bytes of an id or a node's name; a longer one is `not-acceptable`.
pub const NAME_BYTES_MAX: usize = 1023;

/// What a notification takes besides what it notifies of, two of the longest addresses among it.
const ENVELOPE_BYTES: usize = 2 * 3071 + 256;

impl Pubsub {
    /// §7.1
    pub(super) async fn publish(
        &self,
        request: &Request,
        place: &Place,
        payload: &Element,
        publish: &Element,
    ) -> Reply {
        let name = node_name(publish)?;
        let options = payload.child("publish-options", NS).map(options_form).transpose()?;
        let publisher = request.from.to_bare();
        let items: Vec<&Element> = publish.children().filter(|child| child.is("item", NS)).collect();
        if items.len() > ITEMS_AT_ONCE_MAX {
            return Err(error(StanzaCondition::NotAcceptable, "max-items-exceeded"));
        }
        let (ids, kept) =
            self.publish_items(&request.server, place, name, &publisher, &items, options.as_ref()).await?;
        if place.personal && name == displayed::NODE {
            displayed::read(&request.server, &place.address, &items).await;
        }
        let ids = ids.iter().map(|id| Element::new("item", NS).with_attr("id", id));
        let publish = Element::new("publish", NS).with_attr("node", name).with_all(ids);
        request.answer(Some(&Element::new("pubsub", NS).with(publish)));
        kept.tell(&request.server).await;
        Ok(None)
    }

    /// Publishes on behalf of somebody, with what is made of it elsewhere: the items' ids.
    pub(super) async fn publish_items(
        &self,
        server: &Arc<Server>,
        place: &Place,
        name: &str,
        publisher: &BareJid,
        items: &[&Element],
        options: Option<&Form>,
    ) -> Result<(Vec<String>, Kept), StanzaError> {
        let _turn = self.turn(place).await;
        let mut change = self.storage.change(place);
        let ids = self.put_items(server, &mut change, name, publisher, items, options).await?;
        self.convert(server, &mut change, name).await?;
        Ok((ids, self.commit(server, change).await?))
    }

    /// Publishes what follows of the change, as the account itself: in place of what the place cannot take stays what was there.
    pub(super) async fn put_copy(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        name: &str,
        item: &Element,
        options: Option<&Form>,
    ) -> Result<(), StanzaError> {
        let account = &change.place().address;
        match self.put_items(server, change, name, account, &[item], options).await {
            Err(error) if error.condition == StanzaCondition::InternalServerError => Err(error),
            Err(error) => {
                tracing::debug!(%error, %account, name, "a copy was not published");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Puts a publication into a change: the items' ids. Of a single item that is refused nothing is in it.
    async fn put_items(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        name: &str,
        publisher: &BareJid,
        items: &[&Element],
        options: Option<&Form>,
    ) -> Result<Vec<String>, StanzaError> {
        let place = change.place();
        let (node, is_new) = match change.node(name).await? {
            Some(node) => {
                meets(&node.config, options)?;
                (node, false)
            }
            None => (self.created_for(server, place, name, publisher, options)?, true),
        };
        node.may_publish(publisher)?;
        let bytes_max = server.config().limits.stored_bytes_max;
        let bytes_max = node.config.payload_bytes_max.map_or(bytes_max, |max| bytes_max.min(max as usize));
        let persists = node.config.persist && node.config.max_items != Some(0);
        if items.is_empty() && (persists || node.config.payloads) {
            return Err(error(StanzaCondition::BadRequest, "item-required"));
        }
        let items = items.iter().map(|item| checked(item, publisher, &node, persists, bytes_max));
        let items: Vec<Item> = items.collect::<Result<_, _>>()?;
        let stanza_bytes_max = server.config().limits.stanza_bytes_max;
        if items.iter().any(|item| event_bytes(name, item) > stanza_bytes_max) {
            return Err(error(StanzaCondition::NotAcceptable, "payload-too-big"));
        }
        if is_new {
            change.room_for_node().await?;
        }
        let mut gone = Vec::new();
        for item in items.iter().filter(|_| persists) {
            gone.extend(change.publish(name, &node, item).await?);
        }
        if is_new {
            change.put_node(name, &node).await?;
        }
        let node = Arc::new(node);
        if !gone.is_empty() {
            change.tell(name, &node, retracted(name, &gone));
        }
        if items.is_empty() {
            change.tell(name, &node, published(name, &[], false));
        }
        for item in &items {
            change.tell(name, &node, published(name, &[item], node.config.payloads));
        }
        Ok(items.iter().map(|item| item.id().to_owned()).collect())
    }

    /// §7.1.4: a node comes into being with the first publication, where the publisher may create it.
    fn created_for(
        &self,
        server: &Server,
        place: &Place,
        name: &str,
        publisher: &BareJid,
        options: Option<&Form>,
    ) -> Result<Node, StanzaError> {
        if !Self::may_create(server, place, publisher) {
            return Err(StanzaCondition::ItemNotFound.into());
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, "the node's name is too long"));
        }
        let config = Self::defaults(place, name);
        let config = match options {
            Some(form) => config.with(form, PUBLISH_OPTIONS).map_err(|wrong| invalid_options(&wrong.to_string()))?,
            None => config,
        };
        Self::check_config(place, &config)?;
        Ok(Node::new(publisher.clone(), config))
    }

    /// §7.2
    pub(super) async fn retract(&self, request: &Request, place: &Place, retract: &Element) -> Reply {
        let name = node_name(retract)?;
        let asker = request.from.to_bare();
        let mut ids = retract.children().filter(|child| child.is("item", NS));
        let (Some(item), None) = (ids.next(), ids.next()) else {
            return Err(error(StanzaCondition::BadRequest, "item-required"));
        };
        let id = item.attr("id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| error(StanzaCondition::BadRequest, "item-required"))?;
        let turn = self.turn(place).await;
        let node = self.existing(place, name).await?;
        if !node.config.persist {
            let unsupported = magpie_proto::xeps::pubsub::unsupported("persistent-items");
            return Err(unsupported);
        }
        let placed = self.storage.item(place, name, &node, id).await?;
        node.may_retract(&asker, placed.as_ref().and_then(|placed| placed.item.publisher()).as_ref())?;
        placed.ok_or(StanzaCondition::ItemNotFound)?;
        let mut change = self.storage.change(place);
        change.remove(name, id).await?;
        let asked = matches!(retract.attr("notify"), Some("1" | "true"));
        if asked || node.config.notify_retract {
            change.tell(name, &Arc::new(node), retracted(name, &[id.to_owned()]));
        }
        self.convert(&request.server, &mut change, name).await?;
        let kept = self.commit(&request.server, change).await?;
        drop(turn);
        request.answer(None);
        kept.tell(&request.server).await;
        Ok(None)
    }
}

/// What subscribers are told of publications.
pub(super) fn published(name: &str, items: &[&Item], with_payload: bool) -> Element {
    let items = items.iter().map(|item| item.element(NS_EVENT, with_payload));
    Element::new("items", NS_EVENT).with_attr("node", name).with_all(items)
}

/// What a notification of an item takes at most.
fn event_bytes(name: &str, item: &Item) -> usize {
    published(name, &[item], true).to_xml(ns::CLIENT).len() + ENVELOPE_BYTES
}

/// What subscribers are told of items that are gone.
pub(super) fn retracted(name: &str, ids: &[String]) -> Element {
    let ids = ids.iter().map(|id| Element::new("retract", NS_EVENT).with_attr("id", id));
    Element::new("items", NS_EVENT).with_attr("node", name).with_all(ids)
}

fn options_form(options: &Element) -> Result<Form, StanzaError> {
    let form = Form::of(options).ok_or_else(|| invalid_options("there is no form"))?;
    match form.form_type() {
        Some(PUBLISH_OPTIONS) => Ok(form),
        _ => Err(invalid_options("the form is of another type")),
    }
}

/// §7.1.5: each field is a condition.
fn meets(config: &NodeConfig, options: Option<&Form>) -> Result<(), StanzaError> {
    let Some(form) = options else { return Ok(()) };
    match config.with(form, PUBLISH_OPTIONS) {
        Ok(wanted) if wanted == *config => Ok(()),
        Ok(_) => Err(error(StanzaCondition::Conflict, "precondition-not-met")),
        Err(wrong) => Err(invalid_options(&wrong.to_string())),
    }
}

fn invalid_options(text: &str) -> StanzaError {
    StanzaError { text: Some(text.into()), ..error(StanzaCondition::BadRequest, "invalid-options") }
}

/// §7.1.3: an item as it may be published at this node.
fn checked(
    item: &Element,
    publisher: &BareJid,
    node: &Node,
    persists: bool,
    bytes_max: usize,
) -> Result<Item, StanzaError> {
    let mut payloads = item.children();
    let payload = match (payloads.next(), payloads.next()) {
        (Some(payload), None) => Some(payload),
        (None, _) if !persists && !node.config.payloads => None,
        (None, _) => return Err(error(StanzaCondition::BadRequest, "payload-required")),
        (Some(_), Some(_)) => return Err(error(StanzaCondition::BadRequest, "invalid-payload")),
    };
    if payload.is_some_and(|payload| payload.to_xml(ns::CLIENT).len() > bytes_max) {
        return Err(error(StanzaCondition::NotAcceptable, "payload-too-big"));
    }
    let id = match item.attr("id").filter(|id| !id.is_empty()) {
        Some(id) if id.len() > NAME_BYTES_MAX => {
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, "the id is too long"));
        }
        Some(id) => id.to_owned(),
        None => random_text(12),
    };
    Ok(Item::new(&id, publisher, payload))
}
