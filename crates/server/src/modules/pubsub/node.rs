//! XEP-0060 §4: a node as a value: who may do what to it, and what becomes of it then. Items are elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use magpie_proto::xeps::data_forms::{Form, FormKind};
use magpie_proto::xeps::pubsub::{Affiliation, NODE_CONFIG, SubscriptionState, error};
use magpie_proto::xeps::pubsub_config::{AccessModel, NodeConfig, PublishModel};
use magpie_proto::{BareJid, Element, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::Record;

/// Affiliations and subscriptions of one node, each; one more is `resource-constraint`.
pub const ENTITIES_MAX: usize = 5000;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is configured with.
    pub config: NodeConfig,
    affiliations: BTreeMap<BareJid, Affiliation>,
    subscriptions: BTreeMap<Jid, SubscriptionState>,
    /// Subscribers that are not notified, by their own wish. It is stored with the subscription, and ends with it.
    silent: BTreeSet<Jid>,
}

/// Who asks, as far as access depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its address.
    pub jid: Jid,
    /// Whether it may see the presence of the account whose node it is.
    pub sees_presence: bool,
    /// The groups of that account's roster in which it stands.
    pub groups: Vec<String>,
}

impl Asker {
    /// Somebody of whom no roster says anything.
    pub fn stranger(jid: impl Into<Jid>) -> Self {
        Self { jid: jid.into(), sees_presence: false, groups: Vec::new() }
    }

    fn bare(&self) -> BareJid {
        self.jid.to_bare()
    }
}

/// What an owner's decision or a change of affiliation did to somebody, who has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Whose subscription it is.
    pub jid: Jid,
    /// How it stands now.
    pub state: SubscriptionState,
}

impl Node {
    /// A node with one owner.
    pub fn new(owner: BareJid, config: NodeConfig) -> Self {
        let affiliations = BTreeMap::from([(owner, Affiliation::Owner)]);
        Self { config, affiliations, subscriptions: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// What somebody is to the node.
    pub fn affiliation(&self, jid: &BareJid) -> Affiliation {
        self.affiliations.get(jid).copied().unwrap_or_default()
    }

    /// Everybody who is affiliated.
    pub fn affiliations(&self) -> impl Iterator<Item = (&BareJid, Affiliation)> {
        self.affiliations.iter().map(|(jid, affiliation)| (jid, *affiliation))
    }

    /// All subscriptions, pending ones included.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&Jid, SubscriptionState)> {
        self.subscriptions.iter().map(|(jid, state)| (jid, *state))
    }

    /// Everybody who is affiliated or subscribed.
    pub fn entities(&self) -> BTreeSet<BareJid> {
        self.affiliations.keys().cloned().chain(self.subscriptions.keys().map(Jid::to_bare)).collect()
    }

    /// The owners.
    pub fn owners(&self) -> impl Iterator<Item = &BareJid> {
        self.affiliations().filter(|(_, affiliation)| *affiliation == Affiliation::Owner).map(|(jid, _)| jid)
    }

    fn state_of(&self, asker: &BareJid) -> SubscriptionState {
        let of = |(jid, state): (&Jid, SubscriptionState)| (jid.to_bare() == *asker).then_some(state);
        let states: Vec<_> = self.subscriptions().filter_map(of).collect();
        let found = [SubscriptionState::Subscribed, SubscriptionState::Pending];
        found.into_iter().find(|state| states.contains(state)).unwrap_or_default()
    }

    /// §8: only an owner may.
    pub fn require_owner(&self, asker: &BareJid) -> Result<(), StanzaError> {
        match self.affiliation(asker) {
            Affiliation::Owner => Ok(()),
            _ => Err(StanzaCondition::Forbidden.into()),
        }
    }

    /// §4.5 as far as it decides without a subscription: whether the asker would be let in.
    fn admits(&self, asker: &Asker) -> Result<(), StanzaError> {
        match self.affiliation(&asker.bare()) {
            Affiliation::Outcast | Affiliation::PublishOnly => return Err(StanzaCondition::Forbidden.into()),
            Affiliation::Owner | Affiliation::Publisher | Affiliation::Member => return Ok(()),
            Affiliation::None => {}
        }
        let refused = |specific| Err(error(StanzaCondition::NotAuthorized, specific));
        match self.config.access {
            AccessModel::Open | AccessModel::Authorize => Ok(()),
            AccessModel::Presence if asker.sees_presence => Ok(()),
            AccessModel::Presence => refused("presence-subscription-required"),
            AccessModel::Roster if asker.groups.iter().any(|group| self.config.groups.contains(group)) => Ok(()),
            AccessModel::Roster => refused("not-in-roster-group"),
            AccessModel::Whitelist => Err(error(StanzaCondition::NotAllowed, "closed-node")),
        }
    }

    /// §6.5: whether the asker may retrieve items, and be notified of them.
    pub fn may_read(&self, asker: &Asker) -> Result<(), StanzaError> {
        self.admits(asker)?;
        let affiliated = self.affiliation(&asker.bare()) != Affiliation::None;
        let subscribed = self.state_of(&asker.bare()) == SubscriptionState::Subscribed;
        match self.config.access {
            AccessModel::Authorize if !affiliated && !subscribed => {
                Err(error(StanzaCondition::NotAuthorized, "not-subscribed"))
            }
            _ => Ok(()),
        }
    }

    /// §7.1: whether the asker may publish.
    pub fn may_publish(&self, asker: &BareJid) -> Result<(), StanzaError> {
        let allowed = match self.affiliation(asker) {
            Affiliation::Owner | Affiliation::Publisher | Affiliation::PublishOnly => true,
            Affiliation::Outcast => false,
            Affiliation::Member | Affiliation::None => match self.config.publish {
                PublishModel::Publishers => false,
                PublishModel::Subscribers => self.state_of(asker) == SubscriptionState::Subscribed,
                PublishModel::Open => true,
            },
        };
        if allowed { Ok(()) } else { Err(StanzaCondition::Forbidden.into()) }
    }

    /// §7.2: whether the asker may take back an item that `publisher` published.
    pub fn may_retract(&self, asker: &BareJid, publisher: Option<&BareJid>) -> Result<(), StanzaError> {
        match self.affiliation(asker) {
            Affiliation::Owner => Ok(()),
            Affiliation::Outcast => Err(StanzaCondition::Forbidden.into()),
            // A publisher takes back what is its own, others nothing that they could not publish.
            _ if publisher.is_some_and(|publisher| publisher == asker) => self.may_publish(asker),
            _ => Err(StanzaCondition::Forbidden.into()),
        }
    }

    /// §6.1: somebody subscribes an address of its own: how the subscription stands now.
    pub fn subscribe(&mut self, asker: &Asker, jid: &Jid) -> Result<SubscriptionState, StanzaError> {
        if jid.to_bare() != asker.bare() {
            return Err(error(StanzaCondition::BadRequest, "invalid-jid"));
        }
        if !self.config.subscribe {
            let unsupported = magpie_proto::xeps::pubsub::unsupported("subscribe");
            return Err(StanzaError { condition: StanzaCondition::NotAllowed, ..unsupported });
        }
        self.admits(asker)?;
        match self.subscriptions.get(jid) {
            Some(SubscriptionState::Pending) => {
                return Err(error(StanzaCondition::NotAuthorized, "pending-subscription"));
            }
            Some(state) => return Ok(*state),
            None => {}
        }
        let affiliated = self.affiliation(&asker.bare()) != Affiliation::None;
        let state = match self.config.access {
            AccessModel::Authorize if !affiliated => SubscriptionState::Pending,
            _ => SubscriptionState::Subscribed,
        };
        self.set_subscription(jid, state)?;
        Ok(state)
    }

    /// §6.2: somebody ends a subscription of its own.
    pub fn unsubscribe(&mut self, asker: &BareJid, jid: &Jid) -> Result<(), StanzaError> {
        if jid.to_bare() != *asker {
            return Err(StanzaCondition::Forbidden.into());
        }
        match self.subscriptions.remove(jid) {
            Some(_) => Ok(()),
            None => Err(error(StanzaCondition::UnexpectedRequest, "not-subscribed")),
        }
    }

    /// §6.3.4: whether somebody has a subscription, which is its own.
    pub fn require_subscription(&self, asker: &BareJid, jid: &Jid) -> Result<(), StanzaError> {
        if jid.to_bare() != *asker {
            return Err(StanzaCondition::Forbidden.into());
        }
        match self.subscriptions.contains_key(jid) {
            true => Ok(()),
            false => Err(error(StanzaCondition::UnexpectedRequest, "not-subscribed")),
        }
    }

    /// §6.3: whether a subscriber wants to be notified.
    pub fn delivers_to(&self, jid: &Jid) -> bool {
        !self.silent.contains(jid)
    }

    /// §6.3.5: a subscriber says whether it wants to be.
    pub fn deliver_to(&mut self, jid: &Jid, deliver: bool) {
        match deliver {
            true => self.silent.remove(jid),
            false => self.silent.insert(jid.clone()),
        };
    }

    /// §8.8: an owner sets a subscription. Whether that changed it.
    pub fn set_subscription(&mut self, jid: &Jid, state: SubscriptionState) -> Result<bool, StanzaError> {
        if state == SubscriptionState::None {
            return Ok(self.subscriptions.remove(jid).is_some());
        }
        if self.subscriptions.len() >= ENTITIES_MAX && !self.subscriptions.contains_key(jid) {
            return Err(StanzaCondition::ResourceConstraint.into());
        }
        Ok(self.subscriptions.insert(jid.clone(), state) != Some(state))
    }

    /// §8.6: an owner decides on a subscription that waits. `None`: none waits.
    pub fn decide(&mut self, jid: &Jid, allow: bool) -> Option<SubscriptionChange> {
        if self.subscriptions.get(jid) != Some(&SubscriptionState::Pending) {
            return None;
        }
        let state = if allow { SubscriptionState::Subscribed } else { SubscriptionState::None };
        match allow {
            true => drop(self.subscriptions.insert(jid.clone(), state)),
            false => drop(self.subscriptions.remove(jid)),
        }
        Some(SubscriptionChange { jid: jid.clone(), state })
    }

    /// §8.9: an owner sets an affiliation. An outcast loses its subscriptions, which are given back.
    pub fn set_affiliation(
        &mut self,
        jid: &BareJid,
        affiliation: Affiliation,
    ) -> Result<Vec<SubscriptionChange>, StanzaError> {
        let last_owner = self.owners().all(|owner| owner == jid);
        if last_owner && affiliation != Affiliation::Owner {
            // §8.9.2.1: somebody must be able to change it back.
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, "a node has at least one owner"));
        }
        if affiliation == Affiliation::None {
            self.affiliations.remove(jid);
        } else {
            if self.affiliations.len() >= ENTITIES_MAX && !self.affiliations.contains_key(jid) {
                return Err(StanzaCondition::ResourceConstraint.into());
            }
            self.affiliations.insert(jid.clone(), affiliation);
        }
        let mut ended = Vec::new();
        if affiliation == Affiliation::Outcast {
            self.subscriptions.retain(|subscriber, _| {
                let stays = subscriber.to_bare() != *jid;
                if !stays {
                    ended.push(SubscriptionChange { jid: subscriber.clone(), state: SubscriptionState::None });
                }
                stays
            });
        }
        Ok(ended)
    }
}

const NS: &str = "urn:magpie:node";

impl Record for Node {
    fn encode(&self, out: &mut Vec<u8>) {
        let affiliation = |(jid, affiliation): (&BareJid, Affiliation)| {
            Element::new("a", NS).with_attr("jid", jid).with_attr("is", affiliation.name())
        };
        let subscription = |(jid, state): (&Jid, SubscriptionState)| {
            let element = Element::new("s", NS).with_attr("jid", jid).with_attr("is", state.name());
            if self.delivers_to(jid) { element } else { element.with_attr("deliver", "0") }
        };
        Element::new("node", NS)
            .with(self.config.form(FormKind::Submit).element())
            .with_all(self.affiliations().map(affiliation))
            .with_all(self.subscriptions().map(subscription))
            .write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let element = Element::parse(bytes, ns::CLIENT).ok()?;
        let config = NodeConfig::personal().with(&Form::of(&element)?, NODE_CONFIG).ok()?;
        let (mut affiliations, mut subscriptions, mut silent) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for child in element.children().filter(|child| child.ns() == NS) {
            let (jid, is) = (Jid::parse(child.attr("jid")?).ok()?, child.attr("is")?);
            match child.name() {
                "a" => drop(affiliations.insert(jid.to_bare(), Affiliation::parse(is)?)),
                _ => {
                    if child.attr("deliver") == Some("0") {
                        silent.insert(jid.clone());
                    }
                    subscriptions.insert(jid, SubscriptionState::parse(is)?);
                }
            }
        }
        Some(Self { config, affiliations, subscriptions, silent })
    }
}

#[cfg(test)]
mod tests;
