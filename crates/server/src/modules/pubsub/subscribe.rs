//! XEP-0060 §6: subscribing, and what a subscriber asks for.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, NS_EVENT, SUBSCRIBE_AUTHORIZATION, SubscriptionState, error};
use magpie_proto::xml::{Attr, Stanza};
use magpie_proto::{BareJid, Element, Jid, StanzaCondition, StanzaError, ns};

use super::node::{Node, SubscriptionChange};
use super::notify::message;
use super::storage::Place;
use super::{NODES_ASKED_MAX, Pubsub, node_name, options};
use crate::requests::{Reply, Request};
use crate::server::{Server, random_text};

impl Pubsub {
    /// §6.1
    pub(super) async fn subscribe(
        &self,
        request: &Request,
        place: &Place,
        payload: &Element,
        subscribe: &Element,
    ) -> Reply {
        let name = node_name(subscribe)?;
        let jid = jid_of(subscribe)?;
        // §6.3.6
        let chosen = payload.child("options", NS).map(options::read).transpose()?.flatten();
        let server = &request.server;
        let asker = self.asker(server, place, &request.from).await?;
        let turn = self.turn(place).await;
        let mut node = self.existing(place, name).await?;
        let is_new = node.require_subscription(&asker.jid.to_bare(), &jid).is_err();
        let state = node.subscribe(&asker, &jid)?;
        if let Some(deliver) = chosen {
            node.deliver_to(&jid, deliver);
        }
        self.save(&request.server, place, name, &node).await?;
        drop(turn);
        let subscription = subscription(NS, Some(name), &jid, state);
        request.answer(Some(&Element::new("pubsub", NS).with(subscription)));
        if !is_new {
            return Ok(None);
        }
        match state {
            SubscriptionState::Pending => self.ask_owners(server, place, name, &node, &jid).await,
            _ => {
                self.tell_owners(server, place, name, &node, &SubscriptionChange { jid: jid.clone(), state }).await;
                self.send_last_to(server, place, name, &node, &jid).await;
            }
        }
        Ok(None)
    }

    /// §6.2
    pub(super) async fn unsubscribe(&self, request: &Request, place: &Place, unsubscribe: &Element) -> Reply {
        let name = node_name(unsubscribe)?;
        let jid = jid_of(unsubscribe)?;
        let turn = self.turn(place).await;
        let mut node = self.existing(place, name).await?;
        node.unsubscribe(&request.from.to_bare(), &jid)?;
        self.save(&request.server, place, name, &node).await?;
        drop(turn);
        request.answer(None);
        let change = SubscriptionChange { jid, state: SubscriptionState::None };
        self.tell_owners(&request.server, place, name, &node, &change).await;
        Ok(None)
    }

    /// §5.6: the asker's subscriptions here, or at one node.
    pub(super) async fn own_subscriptions(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let who = request.from.to_bare();
        let mut found = Element::new("subscriptions", NS);
        for (name, node) in self.asked_nodes(place, &who, asked).await? {
            let own = node.subscriptions().filter(|(jid, _)| jid.to_bare() == who);
            found = found.with_all(own.map(|(jid, state)| subscription(NS, Some(&name), jid, state)));
        }
        if let Some(name) = asked.attr("node") {
            found.set_attr("node", name);
        }
        Ok(Some(Element::new("pubsub", NS).with(found)))
    }

    /// §5.7: the asker's affiliations here, or with one node.
    pub(super) async fn own_affiliations(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let who = request.from.to_bare();
        let mut found = Element::new("affiliations", NS);
        for (name, node) in self.asked_nodes(place, &who, asked).await? {
            let own = node.affiliations().find(|(jid, _)| **jid == who);
            let element = |affiliation: &str| {
                Element::new("affiliation", NS).with_attr("node", &name).with_attr("affiliation", affiliation)
            };
            found = found.with_all(own.map(|(_, affiliation)| element(affiliation.name())));
        }
        if let Some(name) = asked.attr("node") {
            found.set_attr("node", name);
        }
        Ok(Some(Element::new("pubsub", NS).with(found)))
    }

    async fn asked_nodes(
        &self,
        place: &Place,
        who: &BareJid,
        asked: &Element,
    ) -> Result<Vec<(String, Node)>, StanzaError> {
        match asked.attr("node") {
            Some(name) => Ok(vec![(name.to_owned(), self.existing(place, name).await?)]),
            None => self.storage.nodes_of(place, who, NODES_ASKED_MAX).await,
        }
    }

    /// §8.6: the owners are asked whether somebody may subscribe.
    async fn ask_owners(&self, server: &Arc<Server>, place: &Place, name: &str, node: &Node, jid: &Jid) {
        let message = Self::approval_request(place, name, jid);
        for owner in node.owners() {
            self.send(server, place, &owner.clone().into(), &message).await;
        }
    }

    /// What asks an owner.
    pub(super) fn approval_request(place: &Place, name: &str, jid: &Jid) -> Stanza {
        let form = Form::typed(FormKind::Form, SUBSCRIBE_AUTHORIZATION)
            .with_title("Subscription request")
            .with(Field::new(FieldType::TextSingle, "pubsub#node").with_label("Node").with_value(name))
            .with(Field::new(FieldType::JidSingle, "pubsub#subscriber_jid").with_label("Who").with_value(jid.as_str()))
            .with(Field::new(FieldType::Boolean, "pubsub#allow").with_label("Allow").with_bool(false));
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", &place.address)
            .with_attr("id", random_text(9))
            .with(form.element());
        Stanza::new(&message)
    }

    /// §8.6: an owner has decided.
    pub(super) async fn authorized(&self, server: &Arc<Server>, place: &Place, message: &Stanza) {
        let (Some(form), Some(from)) = (
            message.child("x", magpie_proto::xeps::data_forms::NS).and_then(|child| Form::parse(&child.element())),
            message.attr(Attr::From).and_then(|from| Jid::parse(&from).ok()),
        ) else {
            return;
        };
        let allow = form.field("pubsub#allow").and_then(Field::boolean);
        let jid = form.value("pubsub#subscriber_jid").and_then(|jid| Jid::parse(jid).ok());
        let (Some(allow), Some(jid), Some(name)) = (allow, jid, form.value("pubsub#node")) else { return };
        if form.kind != FormKind::Submit || form.form_type() != Some(SUBSCRIBE_AUTHORIZATION) {
            return;
        }
        let turn = self.turn(place).await;
        let Ok(Some(mut node)) = self.storage.node(place, name).await else { return };
        if node.require_owner(&from.to_bare()).is_err() {
            return;
        }
        let Some(change) = node.decide(&jid, allow) else { return };
        if self.save(server, place, name, &node).await.is_err() {
            return;
        }
        drop(turn);
        self.tell_subscriber(server, place, name, &node, &change).await;
        if allow {
            self.send_last_to(server, place, name, &node, &jid).await;
        }
    }

    /// §8.8.4: whoever it concerns hears how its subscription stands.
    pub(super) async fn tell_subscriber(
        &self,
        server: &Arc<Server>,
        place: &Place,
        name: &str,
        node: &Node,
        change: &SubscriptionChange,
    ) {
        let event = subscription(NS_EVENT, Some(name), &change.jid, change.state);
        self.send(server, place, &change.jid, &message(place, node, &event)).await;
    }

    /// §6.1.8: owners hear of subscribers who come and go, where the node says so.
    async fn tell_owners(
        &self,
        server: &Arc<Server>,
        place: &Place,
        name: &str,
        node: &Node,
        change: &SubscriptionChange,
    ) {
        if !node.config.notify_sub {
            return;
        }
        let event = subscription(NS_EVENT, Some(name), &change.jid, change.state);
        let message = message(place, node, &event);
        for owner in node.owners() {
            self.send(server, place, &owner.clone().into(), &message).await;
        }
    }
}

/// Whether a message is an owner's decision on a subscription.
pub fn is_decision(message: &Stanza) -> bool {
    let form = message.child("x", magpie_proto::xeps::data_forms::NS);
    form.is_some_and(|form| form.text().contains(SUBSCRIBE_AUTHORIZATION))
}

/// `<subscription/>`
pub(super) fn subscription(ns: &str, node: Option<&str>, jid: &Jid, state: SubscriptionState) -> Element {
    let mut element = Element::new("subscription", ns);
    if let Some(node) = node {
        element.set_attr("node", node);
    }
    element.with_attr("jid", jid).with_attr("subscription", state.name())
}

pub(super) fn jid_of(element: &Element) -> Result<Jid, StanzaError> {
    let jid = element.attr("jid").ok_or_else(|| error(StanzaCondition::BadRequest, "jid-required"))?;
    Jid::parse(jid).map_err(|_| error(StanzaCondition::BadRequest, "invalid-jid"))
}
