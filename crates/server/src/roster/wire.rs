//! RFC 6121 §2.1: the roster on the wire.

use super::{BareJid, Element, Item, Jid, Push, Roster, RosterLimits, RosterSet, StanzaCondition, ns};
use crate::subscription::SubscriptionStanza;

impl RosterSet {
    /// Reads the `<query/>` of a roster set by the account `owner`, and refuses what §2.1.5 and §2.3.3 refuse.
    ///
    /// What else the item says (`subscription` other than "remove", `ask`, `approved`) is the server's to decide and ignored.
    pub fn parse(query: &Element, owner: &BareJid, limits: &RosterLimits) -> Result<Self, StanzaCondition> {
        let mut items = query.children().filter(|child| child.is("item", ns::ROSTER));
        let (Some(item), None) = (items.next(), items.next()) else {
            return Err(StanzaCondition::BadRequest);
        };
        let jid = Jid::parse(item.attr("jid").ok_or(StanzaCondition::BadRequest)?)
            .map_err(|_| StanzaCondition::JidMalformed)?;
        // §2.1.2.3: a contact, not a device of it. Subscriptions are between bare JIDs, so a full one would never match.
        if jid.resource().is_some() {
            return Err(StanzaCondition::BadRequest);
        }
        let jid = jid.to_bare();
        if item.attr("subscription") == Some("remove") {
            return Ok(Self::Remove { jid });
        }
        // An account sees its own resources without a subscription (§4.2.2); one to itself would answer itself.
        if jid == *owner {
            return Err(StanzaCondition::NotAllowed);
        }
        let name = item.attr("name").filter(|name| !name.is_empty());
        if name.is_some_and(|name| name.len() > limits.name_bytes_max) {
            return Err(StanzaCondition::NotAcceptable);
        }
        Ok(Self::Update { jid, name: name.map(str::to_owned), groups: groups(item, limits)? })
    }
}

fn groups(item: &Element, limits: &RosterLimits) -> Result<Vec<String>, StanzaCondition> {
    let mut groups: Vec<String> = Vec::new();
    for group in item.children().filter(|child| child.is("group", ns::ROSTER)) {
        let group = group.text();
        if group.is_empty() || group.len() > limits.group_bytes_max || groups.len() == limits.groups_max {
            return Err(StanzaCondition::NotAcceptable);
        }
        if groups.contains(&group) {
            return Err(StanzaCondition::BadRequest);
        }
        groups.push(group);
    }
    Ok(groups)
}

impl Item {
    /// The `<item/>` that a client sees.
    pub fn element(&self) -> Element {
        let mut item = Element::new("item", ns::ROSTER).with_attr("jid", &self.jid);
        if let Some(name) = &self.name {
            item = item.with_attr("name", name);
        }
        item = item.with_attr("subscription", self.state.subscription.name());
        if self.state.pending_out {
            item = item.with_attr("ask", SubscriptionStanza::Subscribe.name());
        }
        if self.state.approved {
            item = item.with_attr("approved", "true");
        }
        item.with_all(self.groups.iter().map(|group| Element::new("group", ns::ROSTER).with_text(group)))
    }
}

impl Push {
    /// The `<query/>` of the push, with the version (§2.6.3).
    pub fn query(&self) -> Element {
        query(self.version).with(self.item.clone())
    }
}

impl Roster {
    /// The `<query/>` with the whole roster and its version (§2.1.4, §2.6.3).
    pub fn query(&self) -> Element {
        query(self.version()).with_all(self.listed().map(|item| item.element()))
    }
}

fn query(version: u64) -> Element {
    Element::new("query", ns::ROSTER).with_attr("ver", version.to_string())
}

/// §2.5.2: the `<item/>` that tells of a removal.
pub(super) fn removed(jid: &str) -> Element {
    Element::new("item", ns::ROSTER).with_attr("jid", jid).with_attr("subscription", "remove")
}

/// The `subscribe` stanza with nothing in it but who asks whom.
pub(super) fn bare_request(contact: &BareJid, owner: &BareJid) -> String {
    Element::new("presence", ns::CLIENT)
        .with_attr("from", contact)
        .with_attr("to", owner)
        .with_attr("type", SubscriptionStanza::Subscribe.name())
        .to_xml(ns::CLIENT)
}
