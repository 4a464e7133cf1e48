//! XEP-0227 §4.10: the nodes of an account (XEP-0163), with their configuration and with their items.
//!
//! Both are written to the store at once, not with the batch: what may be in a node depends on what is there.

use std::collections::HashSet;

use magpie_proto::xeps::data_forms::{Form, FormKind};
use magpie_proto::xeps::pubsub::{Affiliation, NODE_CONFIG, NS, NS_OWNER, SubscriptionState};
use magpie_proto::xeps::pubsub_config::{AccessModel, ConfigError, NodeConfig};
use magpie_proto::{BareJid, Element, Jid, StanzaCondition, StanzaError};
use magpie_store::{Store, StoreError};

use super::{Exporting, Import, Importing, Part, Piece};
use crate::modules::pubsub::node::Node;
use crate::modules::pubsub::storage::{Item, Part as Items, Storage};
use crate::modules::pubsub::{Place, options};

/// Nodes read at a time.
const NODES: usize = 16;

/// Items read at a time.
const ITEMS: usize = 128;

/// Bytes of items in one element, about: a node with more has several. It is less than an importer takes for one.
const ELEMENT_BYTES: usize = 1024 * 1024;

/// Between the name of a node and the id of an item.
const END: char = '\u{1}';

/// What the nodes are.
pub(super) struct Configurations;

impl Part for Configurations {
    fn name(&self) -> &'static str {
        "nodes"
    }

    fn container(&self) -> Option<(&'static str, &'static str)> {
        Some(("pubsub", NS_OWNER))
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, after: Option<String>) -> Exporting<'a> {
        Box::pin(async move {
            let found = Storage::new(store).nodes(&Place::account(account), after.as_deref(), NODES).await;
            let nodes = found.map_err(unavailable)?;
            let next = nodes.last().filter(|_| nodes.len() == NODES).map(|(name, _)| name.clone());
            let elements = nodes.iter().flat_map(|(name, node)| configuration(account, name, node)).collect();
            Ok(Piece { elements, next })
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, .. }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("pubsub", NS_OWNER) {
            return None;
        }
        Some(Box::pin(async move {
            let (storage, place) = (Storage::new(store), Place::account(account));
            let mut wrong = Vec::new();
            for child in element.children() {
                let name = child.attr("node").unwrap_or_default();
                let known = storage.node(&place, name).await.map_err(unavailable)?;
                let is_new = known.is_none();
                let mut node = known.unwrap_or_else(|| Node::new(account.clone(), NodeConfig::personal()));
                match (child.name(), is_new) {
                    _ if name.is_empty() => wrong.push(format!("<{}/> of no node", child.name())),
                    ("configure", _) => configure(&mut node, child, name, &mut wrong),
                    ("affiliations" | "subscriptions", false) => entities(&mut node, child, name, &mut wrong),
                    _ => {
                        wrong.push(format!("<{}/> of the node \"{name}\"", child.name()));
                        continue;
                    }
                }
                if name.is_empty() {
                    continue;
                }
                let mut change = storage.change(&place);
                let room = if is_new { change.room_for_node().await } else { Ok(()) };
                let put = match room {
                    Ok(()) => change.put_node(name, &node).await,
                    refused => refused,
                };
                let put = match put {
                    Ok(()) => change.commit().await,
                    refused => refused,
                };
                refused(put, || format!("the node \"{name}\""), &mut wrong)?;
            }
            Ok(wrong)
        }))
    }
}

fn configuration(account: &BareJid, name: &str, node: &Node) -> Vec<Element> {
    let of = |element: &str| Element::new(element, NS_OWNER).with_attr("node", name);
    let mut elements = vec![of("configure").with(node.config.form(FormKind::Form).element())];
    let others = node.affiliations().filter(|(jid, affiliation)| *jid != account || *affiliation != Affiliation::Owner);
    let affiliations: Vec<Element> = others
        .map(|(jid, affiliation)| {
            let element = Element::new("affiliation", NS_OWNER).with_attr("jid", jid);
            element.with_attr("affiliation", affiliation.name())
        })
        .collect();
    let subscriptions: Vec<Element> = node
        .subscriptions()
        .map(|(jid, state)| {
            let options = options::exported(node.delivers_to(jid));
            let options = options.map(|form| Element::new("options", NS_OWNER).with(form));
            let element = Element::new("subscription", NS_OWNER).with_attr("jid", jid);
            element.with_attr("subscription", state.name()).with_all(options)
        })
        .collect();
    for (element, entities) in [("affiliations", affiliations), ("subscriptions", subscriptions)] {
        if !entities.is_empty() {
            elements.push(of(element).with_all(entities));
        }
    }
    elements
}

/// What is not known here is left out, as the document wants; but nobody is let in by that.
fn configure(node: &mut Node, configure: &Element, name: &str, wrong: &mut Vec<String>) {
    let Some(form) = Form::of(configure) else { return };
    for field in form.fields {
        let var = field.var.clone().unwrap_or_default();
        // Servers that keep no value for a field write it without.
        if field.value().is_none_or(str::is_empty) {
            continue;
        }
        match node.config.with(&Form::new(FormKind::Submit).with(field), NODE_CONFIG) {
            Ok(config) => node.config = config,
            Err(ConfigError::Unknown(_)) => {}
            Err(_) => {
                if var == "pubsub#access_model" {
                    node.config.access = AccessModel::Whitelist;
                }
                wrong.push(format!("{var} of the node \"{name}\""));
            }
        }
    }
}

fn entities(node: &mut Node, element: &Element, name: &str, wrong: &mut Vec<String>) {
    for child in element.children() {
        let jid = child.attr("jid").and_then(|jid| Jid::parse(jid).ok());
        let affiliation = child.attr("affiliation").and_then(Affiliation::parse);
        // Prosody 0.12 names the attribute after its value.
        let subscription = child.attr("subscription").or_else(|| child.attr("subscribed"));
        let subscription = subscription.and_then(SubscriptionState::parse);
        let set = match (jid, affiliation, subscription) {
            (Some(jid), Some(affiliation), _) if child.name() == "affiliation" => {
                node.set_affiliation(&jid.to_bare(), affiliation).is_ok()
            }
            (Some(jid), _, Some(state)) if child.name() == "subscription" => {
                let set = node.set_subscription(&jid, state).is_ok();
                // Where the options of a subscription stand the document does not say; Prosody has them here.
                if let Some(options) = child.children().find(|child| child.name() == "options") {
                    let (deliver, others) = options::imported(options);
                    node.deliver_to(&jid, deliver.unwrap_or(true));
                    wrong.extend(others.iter().map(|var| format!("{var} of {jid} at the node \"{name}\"")));
                }
                set
            }
            _ => false,
        };
        if !set {
            wrong.push(format!("somebody among the {} of the node \"{name}\"", element.name()));
        }
    }
}

/// What is in the nodes.
pub(super) struct Published;

impl Part for Published {
    fn name(&self) -> &'static str {
        "items of nodes"
    }

    fn container(&self) -> Option<(&'static str, &'static str)> {
        Some(("pubsub", NS))
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, after: Option<String>) -> Exporting<'a> {
        Box::pin(async move { export(&Storage::new(store), account, after).await.map_err(unavailable) })
    }

    fn import<'a>(&'a self, Import { store, account, element, .. }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("pubsub", NS) {
            return None;
        }
        Some(Box::pin(async move {
            let (storage, place) = (Storage::new(store), Place::account(account));
            let mut wrong = Vec::new();
            for items in element.children() {
                let name = items.attr("node").unwrap_or_default();
                let node = match items.is("items", NS) {
                    true => storage.node(&place, name).await.map_err(unavailable)?,
                    false => None,
                };
                let Some(node) = node else {
                    wrong.push(format!("<{}/> of the node \"{name}\", which is not configured", items.name()));
                    continue;
                };
                let done = publish(&storage, &place, account, name, &node, items).await;
                refused(done, || format!("items of the node \"{name}\""), &mut wrong)?;
            }
            Ok(wrong)
        }))
    }
}

/// One element: of a node, or of a part of one.
async fn export(storage: &Storage, account: &BareJid, after: Option<String>) -> Result<Piece, StanzaError> {
    let place = Place::account(account);
    let after = after.unwrap_or_default();
    let (name, last) = after.split_once(END).map_or((after.as_str(), None), |(name, last)| (name, Some(last)));
    let within = match last {
        // The rest of a node, if that is still there.
        Some(_) => storage.node(&place, name).await?.map(|node| (name.to_owned(), node)),
        None => storage.nodes(&place, Some(name).filter(|name| !name.is_empty()), 1).await?.pop(),
    };
    let Some((name, node)) = within else { return Ok(Piece::default()) };
    let mut from = match last {
        Some(last) => storage.item(&place, &name, &node, last).await?,
        None => None,
    };
    let mut element = Element::new("items", NS).with_attr("node", &name);
    let mut bytes = 0;
    loop {
        let found = storage.items(&place, &name, &node, &Items::After(from.take()), ITEMS).await?;
        let more = found.len() == ITEMS;
        for placed in found {
            let mut item = placed.item.element(NS, true);
            if let Some(publisher) = placed.item.publisher().filter(|publisher| publisher != account) {
                item.set_attr("publisher", publisher);
            }
            bytes += item.to_xml(NS).len();
            element.push(item);
            from = Some(placed);
            if bytes >= ELEMENT_BYTES {
                let next = from.map(|placed| format!("{name}{END}{}", placed.item.id()));
                return Ok(Piece { elements: vec![element], next });
            }
        }
        if !more {
            return Ok(Piece { elements: vec![element], next: Some(name) });
        }
    }
}

async fn publish(
    storage: &Storage,
    place: &Place,
    account: &BareJid,
    name: &str,
    node: &Node,
    items: &Element,
) -> Result<(), StanzaError> {
    let mut change = storage.change(place);
    let named = |item: &&Element| item.is("item", NS) && item.attr("id").is_some_and(|id| !id.is_empty());
    let mut items: Vec<&Element> = items.children().filter(named).collect();
    // Of those with one id the last counts.
    let mut seen = HashSet::new();
    items.reverse();
    items.retain(|item| seen.insert(item.attr("id")));
    for item in items.into_iter().rev() {
        let id = item.attr("id").unwrap_or_default();
        let publisher = item.attr("publisher").and_then(|jid| Jid::parse(jid).ok()).map(|jid| jid.to_bare());
        let publisher = publisher.unwrap_or_else(|| account.clone());
        change.publish(name, node, &Item::new(id, &publisher, item.children().next())).await?;
    }
    change.commit().await?;
    // All of them came at once: the oldest make room now.
    let mut change = storage.change(place);
    change.shrink(name, node).await?;
    change.commit().await
}

/// What the place cannot take is left out; a store that fails is no matter of what is imported.
fn refused(
    done: Result<(), StanzaError>,
    what: impl Fn() -> String,
    wrong: &mut Vec<String>,
) -> Result<(), StoreError> {
    match done {
        Ok(()) => Ok(()),
        Err(error) if error.condition == StanzaCondition::InternalServerError => Err(unavailable(error)),
        Err(error) => {
            let why = error.text.as_deref().unwrap_or(error.condition.name());
            wrong.push(format!("{}: {why}", what()));
            Ok(())
        }
    }
}

fn unavailable(error: StanzaError) -> StoreError {
    StoreError::Backend(error.text.map_or_else(|| "nodes cannot be read".to_owned(), String::from))
}
