//! XEP-0060 §5 and §6.5: what is there, and items of it.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::disco::{Identity, Info, Item as DiscoItem, Items};
use magpie_proto::xeps::pubsub::{META_DATA, NS};
use magpie_proto::xeps::result_sets::{self, Page, PageAnswer, PageEnds, PageRequest};
use magpie_proto::{Element, StanzaCondition, StanzaError, ns};

use super::node::Node;
use super::storage::{Part, Place, Placed};
use super::{NODES_ASKED_MAX, Pubsub, node_name};
use crate::requests::{Reply, Request};

/// Items of one answer, however many are asked for.
const PAGE_MAX: usize = 512;

/// Items of a node of which each page says how many are before it.
const INDEXED_MAX: u64 = 1000;

/// Ids of items in one answer to disco#items.
const IDS_MAX: usize = 1000;

impl Pubsub {
    /// §6.5
    pub(super) async fn items(&self, request: &Request, place: &Place, payload: &Element, items: &Element) -> Reply {
        let name = node_name(items)?;
        let asker = self.asker(&request.server, place, &request.from).await?;
        let node = match self.storage.node(place, name).await? {
            Some(node) => node,
            None => {
                self.import(request, place, name).await?;
                self.existing(place, name).await?
            }
        };
        node.may_read(&asker)?;
        if !node.config.persist {
            return Err(magpie_proto::xeps::pubsub::unsupported("persistent-items"));
        }
        let ids: Vec<&str> = items.children().filter(|child| child.is("item", NS)).filter_map(|i| i.attr("id")).collect();
        let mut found = Element::new("items", NS).with_attr("node", name);
        let bytes_max = request.server.config().limits.stanza_bytes_max;
        if !ids.is_empty() {
            // Those that were left out would be taken for gone.
            let too_many = || StanzaError::new(StanzaCondition::PolicyViolation, "ask for fewer items at once");
            if ids.len() > PAGE_MAX {
                return Err(too_many());
            }
            let mut bytes = 0;
            for id in ids {
                let placed = self.storage.item(place, name, &node, id).await?;
                let item = placed.map(|placed| placed.item.element(NS, true));
                let alone = bytes == 0;
                bytes += item.as_ref().map_or(0, |item| item.to_xml(ns::CLIENT).len());
                if bytes > bytes_max && !alone {
                    return Err(too_many());
                }
                found = found.with_all(item);
            }
            return Ok(Some(Element::new("pubsub", NS).with(found)));
        }
        let max = match items.attr("max_items") {
            None => None,
            Some(max) => Some(max.parse::<u64>().map_err(|_| StanzaCondition::BadRequest)?),
        };
        let paged = page_of(payload)?;
        let (placed, set) = self.page(place, name, &node, max, paged, bytes_max).await?;
        found = found.with_all(placed.iter().map(|placed| placed.item.element(NS, true)));
        Ok(Some(Element::new("pubsub", NS).with(found).with_all(set.map(|set| set.element()))))
    }

    /// Items of a node, and between which of all they lie, where that was asked or where they are not all.
    async fn page(
        &self,
        place: &Place,
        name: &str,
        node: &Node,
        max: Option<u64>,
        paged: Option<PageRequest>,
        bytes_max: usize,
    ) -> Result<(Vec<Placed>, Option<PageAnswer>), StanzaError> {
        // Without a page the newest are wanted (§6.5.7).
        let page = paged.as_ref().map_or(&Page::Last, |paged| &paged.page);
        let at = |id: &str| {
            let id = id.to_owned();
            async move { self.storage.item(place, name, node, &id).await?.ok_or(StanzaError::from(StanzaCondition::ItemNotFound)) }
        };
        let part = match page {
            Page::First => Part::After(None),
            Page::After(id) => Part::After(Some(at(id).await?)),
            Page::Last => Part::Before(None),
            Page::Before(id) => Part::Before(Some(at(id).await?)),
            Page::Index(_) => return Err(StanzaCondition::FeatureNotImplemented.into()),
        };
        let wanted = [max, paged.as_ref().and_then(|paged| paged.max)].into_iter().flatten().min();
        let limit = wanted.unwrap_or(u64::MAX).min(PAGE_MAX as u64) as usize;
        let mut items = self.storage.items(place, name, node, &part, limit).await?;
        // An answer is no larger than a stanza may be.
        let size = |placed: &Placed| placed.item.element(NS, true).to_xml(ns::CLIENT).len();
        let mut room = bytes_max;
        let mut fits = |placed: &Placed| {
            let size = size(placed);
            let first = room == bytes_max;
            room = room.saturating_sub(size);
            first || room > 0
        };
        match part {
            Part::After(_) => {
                let count = items.iter().take_while(|placed| fits(placed)).count();
                items.truncate(count);
            }
            Part::Before(_) => {
                let count = items.iter().rev().take_while(|placed| fits(placed)).count();
                items.drain(..items.len() - count);
            }
        }
        let count = self.storage.count(place, name, node).await?;
        let whole = count <= items.len() as u64 || max.is_some();
        if paged.is_none() && whole {
            return Ok((items, None));
        }
        let index = match (page, items.first()) {
            (Page::First, _) => Some(0),
            (Page::Last, _) => Some(count.saturating_sub(items.len() as u64)),
            // In a large node nobody counts what is before it (XEP-0059 §2.6: it may be left out).
            (_, Some(first)) if count <= INDEXED_MAX => Some(self.storage.index(place, name, node, first).await?),
            _ => None,
        };
        let ends = items.first().zip(items.last()).map(|(first, last)| PageEnds {
            index,
            first: first.item.id().to_owned(),
            last: last.item.id().to_owned(),
        });
        Ok((items, Some(PageAnswer { ends, count: Some(count) })))
    }

    /// §5.3: what a node is.
    pub async fn node_info(&self, request: &Request, place: &Place, name: &str) -> Result<Info, StanzaError> {
        let node = self.existing(place, name).await?;
        let asker = self.asker(&request.server, place, &request.from).await?;
        if place.personal && node.may_read(&asker).is_err() && node.affiliation(&request.from.to_bare()) == Default::default() {
            // Whether there is such a node is nobody's business who may not see it.
            return Err(StanzaCondition::ItemNotFound.into());
        }
        let count = self.storage.count(place, name, &node).await?;
        Ok(Info {
            node: Some(name.to_owned()),
            identities: vec![Identity::new("pubsub", "leaf")],
            features: vec![NS.to_owned()],
            forms: vec![meta_data(&node, count)],
        })
    }

    /// §5.2: the nodes that the asker may see, after the one that the page names.
    pub async fn node_items(
        &self,
        request: &Request,
        place: &Place,
    ) -> Result<(Vec<DiscoItem>, Option<PageAnswer>), StanzaError> {
        let asker = self.asker(&request.server, place, &request.from).await?;
        let paged = page_of(&request.payload())?;
        let after = match paged.as_ref().map(|paged| &paged.page) {
            None | Some(Page::First) => None,
            Some(Page::After(name)) => Some(name.clone()),
            Some(_) => return Err(StanzaCondition::FeatureNotImplemented.into()),
        };
        let limit = paged.as_ref().and_then(|paged| paged.max).unwrap_or(u64::MAX).min(NODES_ASKED_MAX as u64);
        let nodes = self.storage.nodes(place, after.as_deref(), limit as usize).await?;
        let names: Vec<&String> = nodes.iter().map(|(name, _)| name).collect();
        let ends = names.first().zip(names.last()).map(|(first, last)| PageEnds {
            first: (*first).clone(),
            index: None,
            last: (*last).clone(),
        });
        let set = (paged.is_some() || nodes.len() == NODES_ASKED_MAX).then_some(PageAnswer { ends, count: None });
        let seen = nodes.iter().filter(|(_, node)| !place.personal || node.may_read(&asker).is_ok());
        let items = seen.map(|(name, node)| {
            let item = DiscoItem::new(place.address.clone()).with_node(name);
            if node.config.title.is_empty() { item } else { item.with_name(&node.config.title) }
        });
        Ok((items.collect(), set))
    }

    /// §5.5: the ids of a node's items.
    pub async fn item_names(&self, request: &Request, place: &Place, name: &str) -> Reply {
        let asker = self.asker(&request.server, place, &request.from).await?;
        let node = self.existing(place, name).await?;
        node.may_read(&asker)?;
        let mut paged = page_of(&request.payload())?;
        if let Some(paged) = &mut paged {
            paged.max = Some(paged.max.unwrap_or(IDS_MAX as u64).min(IDS_MAX as u64));
        }
        let (found, set) = self.page(place, name, &node, None, paged, usize::MAX).await?;
        let item = |placed: &Placed| DiscoItem::new(place.address.clone()).with_name(placed.item.id());
        let items = Items { node: Some(name.to_owned()), items: found.iter().map(item).collect() };
        Ok(Some(items.element().with_all(set.map(|set| set.element()))))
    }
}

/// §5.4
fn meta_data(node: &Node, items: u64) -> Form {
    let config = &node.config;
    let text = |var: &str, value: &str| Field::new(FieldType::TextSingle, format!("pubsub#{var}")).with_value(value);
    let owners = Field::new(FieldType::JidMulti, "pubsub#owner").with_values(node.owners().map(ToString::to_string));
    let mut form = Form::typed(FormKind::Result, META_DATA);
    for (var, value) in [
        ("title", config.title.as_str()),
        ("description", &config.description),
        ("type", &config.payload_type),
        ("language", &config.language),
    ] {
        if !value.is_empty() {
            form = form.with(text(var, value));
        }
    }
    let max = config.max_items.map_or_else(|| "max".to_owned(), |max| max.to_string());
    form.with(text("access_model", config.access.name()))
        .with(text("publish_model", config.publish.name()))
        .with(text("max_items", &max))
        .with(text("num_items", &items.to_string()))
        .with(text("num_subscribers", &node.subscriptions().count().to_string()))
        .with(owners)
}

fn page_of(payload: &Element) -> Result<Option<PageRequest>, StanzaError> {
    let wrong = |wrong: result_sets::PageError| StanzaError::new(StanzaCondition::BadRequest, wrong.to_string());
    PageRequest::of(payload).map_err(wrong)
}

