//! XEP-0060 §8: what owners do with their nodes.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Form, FormKind};
use magpie_proto::xeps::pubsub::{
    Affiliation, NODE_CONFIG, NS, NS_EVENT, NS_OWNER, SubscriptionState, error, unsupported,
};
use magpie_proto::xeps::pubsub_config::{AccessModel, ConfigError, NodeConfig};
use magpie_proto::{BareJid, Element, Jid, StanzaCondition, StanzaError};

use super::node::{Node, SubscriptionChange};
use super::publish::NAME_BYTES_MAX;
use super::storage::{ITEMS_MAX, Place};
use super::subscribe::subscription;
use super::{Pubsub, bookmarks, displayed, node_name, vcard4};
use crate::requests::{Reply, Request};
use crate::server::{Server, random_text};

/// Bytes of the texts of one configuration, names of groups included; more are `not-acceptable`.
const CONFIG_BYTES_MAX: usize = 8192;

impl Pubsub {
    /// §8.1
    pub(super) async fn create(&self, request: &Request, place: &Place, payload: &Element, create: &Element) -> Reply {
        let creator = request.from.to_bare();
        if !Self::may_create(&request.server, place, &creator) {
            return Err(StanzaCondition::Forbidden.into());
        }
        let instant = create.attr("node").is_none_or(str::is_empty);
        let name = match create.attr("node") {
            Some(name) if name.len() > NAME_BYTES_MAX => {
                return Err(StanzaError::new(StanzaCondition::NotAcceptable, "the node's name is too long"));
            }
            Some(name) if !instant => name.to_owned(),
            // §8.1.2: an instant node.
            _ => random_text(12),
        };
        let config = Self::defaults(place, &name);
        let config = match payload.child("configure", NS).and_then(Form::of) {
            Some(form) => configured(&config, &form)?,
            None => config,
        };
        Self::check_config(place, &config)?;
        let turn = self.turn(place).await;
        if self.storage.node(place, &name).await?.is_some() {
            return Err(StanzaCondition::Conflict.into());
        }
        let mut change = self.storage.change(place);
        change.room_for_node().await?;
        change.put_node(&name, &Node::new(creator, config)).await?;
        self.commit(&request.server, change).await?.tell_nobody();
        drop(turn);
        let created = Element::new("create", NS).with_attr("node", &name);
        Ok(instant.then(|| Element::new("pubsub", NS).with(created)))
    }

    /// Whether somebody may create nodes here: the account, or any user of this server at a service.
    pub(super) fn may_create(server: &Server, place: &Place, who: &BareJid) -> bool {
        match place.personal {
            true => *who == place.address,
            false => who.local().is_some() && server.serves(who.domain()),
        }
    }

    /// What a new node is configured with. Some names are so personal that nobody else may see them by mistake, also where the client
    /// forgets to say so.
    pub(super) fn defaults(place: &Place, name: &str) -> NodeConfig {
        if !place.personal {
            return NodeConfig::general();
        }
        match name {
            bookmarks::ALL => NodeConfig { access: AccessModel::Whitelist, ..NodeConfig::personal() },
            bookmarks::EACH | vcard4::CONTACTS | displayed::NODE => displayed::configuration(),
            vcard4::NODE => vcard4::configuration(),
            _ => NodeConfig::personal(),
        }
    }

    /// What cannot be here.
    pub(super) fn check_config(place: &Place, config: &NodeConfig) -> Result<(), StanzaError> {
        let refuse = |text: String| Err(StanzaError::new(StanzaCondition::NotAcceptable, text));
        if !place.personal && matches!(config.access, AccessModel::Presence | AccessModel::Roster) {
            return refuse("a service has no roster".to_owned());
        }
        let texts = [&config.title, &config.description, &config.payload_type, &config.language];
        if texts.into_iter().chain(&config.groups).map(String::len).sum::<usize>() > CONFIG_BYTES_MAX {
            return refuse(format!("the texts of a configuration may have {CONFIG_BYTES_MAX} bytes"));
        }
        if config.max_items.is_some_and(|max| u64::from(max) > ITEMS_MAX) {
            return refuse(format!("a node may have {ITEMS_MAX} items"));
        }
        Ok(())
    }

    /// §8.2.1
    pub(super) async fn configuration(&self, request: &Request, place: &Place, configure: &Element) -> Reply {
        let name = node_name(configure)?;
        let node = self.owned(request, place, name).await?;
        let form = node.config.form(FormKind::Form).element();
        let configure = Element::new("configure", NS_OWNER).with_attr("node", name).with(form);
        Ok(Some(Element::new("pubsub", NS_OWNER).with(configure)))
    }

    /// §8.3
    pub(super) fn default_configuration(place: &Place) -> Reply {
        let form = Self::defaults(place, "").form(FormKind::Form).element();
        Ok(Some(Element::new("pubsub", NS_OWNER).with(Element::new("default", NS_OWNER).with(form))))
    }

    /// §8.2.4
    pub(super) async fn configure(&self, request: &Request, place: &Place, configure: &Element) -> Reply {
        let name = node_name(configure)?;
        let turn = self.turn(place).await;
        let mut node = self.owned(request, place, name).await?;
        let form = Form::of(configure);
        let form = form.ok_or_else(|| StanzaError::new(StanzaCondition::BadRequest, "there is no form"))?;
        if form.kind == FormKind::Cancel {
            return Ok(None);
        }
        node.config = configured(&node.config, &form)?;
        Self::check_config(place, &node.config)?;
        let mut change = self.storage.change(place);
        change.put_node(name, &node).await?;
        change.shrink(name, &node).await?;
        if node.config.notify_config {
            let mut event = Element::new("configuration", NS_EVENT).with_attr("node", name);
            if node.config.payloads {
                event.push(node.config.form(FormKind::Result).element());
            }
            change.tell(name, &Arc::new(node), event);
        }
        let kept = self.commit(&request.server, change).await?;
        drop(turn);
        request.answer(None);
        kept.tell(&request.server).await;
        Ok(None)
    }

    /// §8.4
    pub(super) async fn delete(&self, request: &Request, place: &Place, delete: &Element) -> Reply {
        let name = node_name(delete)?;
        let turn = self.turn(place).await;
        let node = self.owned(request, place, name).await?;
        let mut change = self.storage.change(place);
        change.delete_node(name).await?;
        if node.config.notify_delete {
            let redirect = delete.child("redirect", NS_OWNER).and_then(|redirect| redirect.attr("uri"));
            let redirect = redirect.map(|uri| Element::new("redirect", NS_EVENT).with_attr("uri", uri));
            let event = Element::new("delete", NS_EVENT).with_attr("node", name).with_all(redirect);
            change.tell(name, &Arc::new(node), event);
        }
        self.convert(&request.server, &mut change, name).await?;
        let kept = self.commit(&request.server, change).await?;
        drop(turn);
        request.answer(None);
        kept.tell(&request.server).await;
        Ok(None)
    }

    /// §8.5
    pub(super) async fn purge(&self, request: &Request, place: &Place, purge: &Element) -> Reply {
        let name = node_name(purge)?;
        let turn = self.turn(place).await;
        let node = self.owned(request, place, name).await?;
        if !node.config.persist {
            return Err(unsupported("persistent-items"));
        }
        let mut change = self.storage.change(place);
        change.purge(name).await?;
        if node.config.notify_retract {
            change.tell(name, &Arc::new(node), Element::new("purge", NS_EVENT).with_attr("node", name));
        }
        self.convert(&request.server, &mut change, name).await?;
        let kept = self.commit(&request.server, change).await?;
        drop(turn);
        request.answer(None);
        kept.tell(&request.server).await;
        Ok(None)
    }

    /// §8.8.1
    pub(super) async fn all_subscriptions(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let name = node_name(asked)?;
        let node = self.owned(request, place, name).await?;
        let all = node.subscriptions().map(|(jid, state)| subscription(NS_OWNER, None, jid, state));
        let all = Element::new("subscriptions", NS_OWNER).with_attr("node", name).with_all(all);
        Ok(Some(Element::new("pubsub", NS_OWNER).with(all)))
    }

    /// §8.8.2
    pub(super) async fn set_subscriptions(&self, request: &Request, place: &Place, set: &Element) -> Reply {
        let name = node_name(set)?;
        let turn = self.turn(place).await;
        let mut node = self.owned(request, place, name).await?;
        let mut changes = Vec::new();
        for child in set.children().filter(|child| child.is("subscription", NS_OWNER)) {
            let jid = jid_of(child)?;
            let state = child.attr("subscription").and_then(SubscriptionState::parse);
            let state = state.filter(|state| *state != SubscriptionState::Unconfigured);
            let state = state.ok_or(StanzaCondition::BadRequest)?;
            if node.set_subscription(&jid, state)? {
                changes.push(SubscriptionChange { jid, state });
            }
        }
        self.save(&request.server, place, name, &node).await?;
        drop(turn);
        request.answer(None);
        for change in &changes {
            self.tell_subscriber(&request.server, place, name, &node, change).await;
        }
        Ok(None)
    }

    /// §8.9.1
    pub(super) async fn all_affiliations(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let name = node_name(asked)?;
        let node = self.owned(request, place, name).await?;
        let all = node.affiliations().map(|(jid, affiliation)| {
            Element::new("affiliation", NS_OWNER).with_attr("jid", jid).with_attr("affiliation", affiliation.name())
        });
        let all = Element::new("affiliations", NS_OWNER).with_attr("node", name).with_all(all);
        Ok(Some(Element::new("pubsub", NS_OWNER).with(all)))
    }

    /// §8.9.2
    pub(super) async fn set_affiliations(&self, request: &Request, place: &Place, set: &Element) -> Reply {
        let name = node_name(set)?;
        let turn = self.turn(place).await;
        let mut node = self.owned(request, place, name).await?;
        let mut ended = Vec::new();
        for child in set.children().filter(|child| child.is("affiliation", NS_OWNER)) {
            let jid = jid_of(child)?.to_bare();
            let affiliation = child.attr("affiliation").and_then(Affiliation::parse);
            let affiliation = affiliation.ok_or(StanzaCondition::BadRequest)?;
            if place.personal && jid == place.address && affiliation != Affiliation::Owner {
                return Err(StanzaError::new(StanzaCondition::NotAcceptable, "the account owns its nodes"));
            }
            ended.extend(node.set_affiliation(&jid, affiliation)?);
        }
        self.save(&request.server, place, name, &node).await?;
        drop(turn);
        request.answer(None);
        for change in &ended {
            self.tell_subscriber(&request.server, place, name, &node, change).await;
        }
        Ok(None)
    }

    /// A node that the asker owns.
    async fn owned(&self, request: &Request, place: &Place, name: &str) -> Result<Node, StanzaError> {
        let node = self.existing(place, name).await?;
        node.require_owner(&request.from.to_bare())?;
        Ok(node)
    }
}

fn configured(config: &NodeConfig, form: &Form) -> Result<NodeConfig, StanzaError> {
    if form.value("pubsub#node_type") == Some("collection") {
        // XEP-0248 §6.1.3.1: there are none.
        return Err(unsupported("collections"));
    }
    config.with(form, NODE_CONFIG).map_err(|wrong| match wrong {
        ConfigError::FormType => StanzaError::new(StanzaCondition::BadRequest, wrong.to_string()),
        // §8.1.3: the service cannot do what is asked.
        ConfigError::Unknown(_) | ConfigError::Value(_) => {
            StanzaError::new(StanzaCondition::NotAcceptable, wrong.to_string())
        }
    })
}

fn jid_of(child: &Element) -> Result<Jid, StanzaError> {
    let jid = child.attr("jid").and_then(|jid| Jid::parse(jid).ok());
    jid.ok_or_else(|| error(StanzaCondition::BadRequest, "invalid-jid"))
}
