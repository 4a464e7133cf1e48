//! XEP-0227 §4.4, §4.8, §4.9: roster, privacy lists (as which a block list is written), requests of strangers.

use magpie_proto::{BareJid, Element, Jid, ns};
use magpie_store::Store;

use super::{Exporting, Import, Importing, NS, Part, Piece, left_out, whole};
use crate::accounts::owner;
use crate::roster::Item;
use crate::subscription::{State, Subscription};

/// The roster, and the requests that wait for an answer.
pub(super) struct Contacts;

impl Part for Contacts {
    fn name(&self) -> &'static str {
        "roster"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let items = store.map::<Item>("roster").list(&owner(account)).await?;
            let items = || items.iter().map(|(_, item)| item);
            let listed: Vec<Element> = items().filter(|item| item.listed).map(Item::element).collect();
            let mut elements = Vec::new();
            if !listed.is_empty() {
                elements.push(Element::new("query", ns::ROSTER).with_all(listed));
            }
            elements.extend(items().filter(|item| item.state.pending_in).map(|item| {
                let kept = item.request.as_ref().and_then(|xml| Element::parse(xml.as_bytes(), ns::CLIENT).ok());
                kept.unwrap_or_else(|| {
                    Element::new("presence", ns::CLIENT).with_attr("type", "subscribe").with_attr("from", &item.jid)
                })
            }));
            Ok(Piece::from(elements))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        // Prosody writes requests without a namespace of their own.
        let is_request = element.is("presence", ns::CLIENT) || element.is("presence", NS);
        if is_request && element.attr("type") == Some("subscribe") {
            return Some(Box::pin(async {
                let Some(from) = element.attr("from").and_then(|from| Jid::parse(from).ok()) else {
                    return Ok(vec!["a request of nobody".to_owned()]);
                };
                let (rosters, owner, from) = (store.map::<Item>("roster"), owner(account), from.to_bare());
                let known = rosters.get(&owner, from.as_str()).await?;
                let mut item = known.unwrap_or_else(|| Item { listed: false, ..Item::new(from.clone()) });
                item.state = State { pending_in: true, ..item.state }.normalized();
                let request = match element.ns() == ns::CLIENT {
                    true => element.clone(),
                    false => {
                        Element::new("presence", ns::CLIENT).with_attr("type", "subscribe").with_attr("from", &from)
                    }
                };
                item.request = Some(request.to_xml(ns::CLIENT)).filter(|_| item.state.pending_in);
                rosters.put(batch, &owner, from.as_str(), &item);
                Ok(Vec::new())
            }));
        }
        if !element.is("query", ns::ROSTER) {
            return None;
        }
        let (rosters, owner) = (store.map::<Item>("roster"), owner(account));
        let mut wrong = Vec::new();
        for child in element.children().filter(|child| child.is("item", ns::ROSTER)) {
            match item(child) {
                Some(item) if item.jid != *account => rosters.put(batch, &owner, item.jid.as_str(), &item),
                // Some servers keep an account in its own roster.
                Some(_) => {}
                None => wrong.push(format!("the contact \"{}\"", child.attr("jid").unwrap_or_default())),
            }
        }
        left_out(wrong)
    }
}

fn item(element: &Element) -> Option<Item> {
    let jid = Jid::parse(element.attr("jid")?).ok()?.to_bare();
    let subscription = match element.attr("subscription") {
        Some("to") => Subscription::To,
        Some("from") => Subscription::From,
        Some("both") => Subscription::Both,
        None | Some("none") => Subscription::None,
        Some(_) => return None,
    };
    let state = State {
        subscription,
        pending_out: element.attr("ask") == Some("subscribe"),
        approved: matches!(element.attr("approved"), Some("true" | "1")),
        pending_in: false,
    };
    let mut groups: Vec<String> = Vec::new();
    for group in element.children().filter(|child| child.is("group", ns::ROSTER)).map(Element::text) {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    let name = element.attr("name").filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Item { name, groups, state: state.normalized(), ..Item::new(jid) })
}

const NS_PRIVACY: &str = "jabber:iq:privacy";
const NS_BLOCKING: &str = "urn:xmpp:blocking";

/// The name of the privacy list that stands for a block list.
const LIST: &str = "blocked";

/// The block list, as XEP-0191 §5 maps it to a privacy list.
pub(super) struct Blocked;

impl Part for Blocked {
    fn name(&self) -> &'static str {
        "block list"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let blocked = store.map::<String>("blocked").list(&owner(account)).await?;
            if blocked.is_empty() {
                return Ok(Piece::default());
            }
            let items = (1..).zip(&blocked).map(|(order, (jid, _))| {
                Element::new("item", NS_PRIVACY)
                    .with_attr("type", "jid")
                    .with_attr("value", jid)
                    .with_attr("action", "deny")
                    .with_attr("order", order.to_string())
            });
            let query = Element::new("query", NS_PRIVACY)
                .with(Element::new("default", NS_PRIVACY).with_attr("name", LIST))
                .with(Element::new("list", NS_PRIVACY).with_attr("name", LIST).with_all(items));
            Ok(Piece::from(vec![query]))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        let (lists, owner) = (store.map::<String>("blocked"), owner(account));
        let mut wrong = Vec::new();
        let mut block = |address: Option<&str>| match address.map(Jid::parse) {
            Some(Ok(jid)) => {
                lists.put(batch, &owner, jid.as_str(), &String::new());
                true
            }
            _ => false,
        };
        if element.is("blocklist", NS_BLOCKING) {
            for item in element.children().filter(|child| child.is("item", NS_BLOCKING)) {
                if !block(item.attr("jid")) {
                    wrong.push("a blocked address that is none".to_owned());
                }
            }
            return left_out(wrong);
        }
        if !element.is("query", NS_PRIVACY) {
            return None;
        }
        let default = element.child("default", NS_PRIVACY).and_then(|default| default.attr("name"));
        for list in element.children().filter(|child| child.is("list", NS_PRIVACY)) {
            let name = list.attr("name").unwrap_or_default();
            if default != Some(name) {
                wrong.push(format!("the privacy list \"{name}\", which is not the default one"));
                continue;
            }
            for item in list.children().filter(|child| child.is("item", NS_PRIVACY)) {
                let denies = item.attr("action") == Some("deny");
                let plain = item.attr("type") == Some("jid") && item.children().next().is_none();
                // A rule that allows everybody else is what a block list ends with.
                let allows_all = !denies && item.attr("type").is_none();
                if !(allows_all || denies && plain && block(item.attr("value"))) {
                    wrong.push(format!("a rule of the privacy list \"{name}\" that is no block"));
                }
            }
        }
        if wrong.is_empty() { whole() } else { left_out(wrong) }
    }
}
