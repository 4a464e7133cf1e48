//! XEP-0049: Private XML Storage
//!
//! A user's clients keep elements here, by name and namespace, for the user alone: old bookmarks (XEP-0048), notes to
//! contacts, settings. A set replaces the elements that it names and leaves the others.

use std::collections::HashMap;
use std::sync::Arc;

use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Map, Store};

use super::{About, Module};
use crate::accounts;
use crate::modules::offline::refusal;
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::Deps;

const NS: &str = "jabber:iq:private";

/// XEP-0048: has a home at a node, too.
const BOOKMARKS: &str = "storage:bookmarks";

/// Elements of one account; one more is `resource-constraint`.
const ELEMENTS_MAX: usize = 256;

/// Elements of the largest size that fit together.
const LARGEST_MAX: usize = 16;

/// The module.
pub struct Private {
    store: Store,
    elements: Map<String>,
    deps: Deps,
}

impl Module for Private {
    const ABOUT: &'static [About] = &[About {
        xep: Some(49),
        title: "Private XML Storage",
        version: "1.2",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { store: deps.store.clone(), elements: deps.store.map("private"), deps: deps.clone() }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        let query = ("query", NS);
        requests.own(To::OwnAccount, Verb::Get, query, self, Self::get);
        requests.own(To::OwnAccount, Verb::Set, query, self, Self::set);
        for verb in [Verb::Get, Verb::Set] {
            requests.own_now(To::Account, verb, query, self, Self::refuse);
        }
    }
}

/// Under which key an element is stored; as an importer must write it, too.
pub fn key(name: &str, ns: &str) -> String {
    format!("{{{ns}}}{name}")
}

impl Private {
    async fn get(self: Arc<Self>, request: Request) -> Reply {
        let account = &request.session()?.account;
        let owner = accounts::owner(account);
        let query = request.payload();
        let wanted = wanted(&query)?;
        if wanted.is_empty() {
            return Err(StanzaError::new(StanzaCondition::BadRequest, "name the element that you want"));
        }
        let mut found = Element::new("query", NS);
        for element in wanted {
            let stored = self.elements.get(&owner, &key(element.name(), element.ns())).await.map_err(refusal)?;
            let mut stored = stored.and_then(|xml| Element::parse(xml.as_bytes(), ns::CLIENT).ok());
            if stored.is_none() && element.is("storage", BOOKMARKS) {
                // They may have come by nodes alone, from another server.
                stored = request.server.modules.pubsub.bookmarks_of(account).await?;
            }
            // What was never stored comes back as it was asked for.
            found.push(stored.unwrap_or_else(|| Element::new(element.name(), element.ns())));
        }
        Ok(Some(found))
    }

    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let owner = accounts::owner(&request.session()?.account);
        let query = request.payload();
        let wanted = wanted(&query)?;
        if wanted.is_empty() {
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, "there is no element to store"));
        }
        let bytes_max = self.deps.config.load().limits.stored_bytes_max;
        let stored = self.elements.list(&owner).await.map_err(refusal)?;
        let mut bytes: HashMap<String, usize> = stored.into_iter().map(|(key, xml)| (key, xml.len())).collect();
        let mut batch = Batch::new();
        for element in &wanted {
            let xml = element.to_xml(ns::CLIENT);
            if xml.len() > bytes_max {
                let text = format!("an element may have {bytes_max} bytes");
                return Err(StanzaError::new(StanzaCondition::PolicyViolation, text));
            }
            let key = key(element.name(), element.ns());
            self.elements.put(&mut batch, &owner, &key, &xml);
            bytes.insert(key, xml.len());
        }
        let all_max = bytes_max.saturating_mul(LARGEST_MAX);
        if bytes.len() > ELEMENTS_MAX || bytes.values().sum::<usize>() > all_max {
            let text = format!("an account may store {ELEMENTS_MAX} elements with {all_max} bytes together");
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint, text));
        }
        // Of several the last one is what is stored.
        match wanted.iter().rfind(|element| element.is("storage", BOOKMARKS)) {
            None => self.store.commit(batch).await.map_err(refusal)?,
            Some(bookmarks) => {
                // Who keeps them at a node finds them there as soon as it is answered (XEP-0411 §3).
                let (server, account) = (&request.server, &request.session()?.account);
                let kept = server.modules.pubsub.store_bookmarks(server, account, bookmarks, batch).await?;
                request.answer(None);
                kept.tell(server).await;
            }
        }
        Ok(None)
    }

    /// The account's bookmarks of XEP-0048.
    pub async fn bookmarks(&self, account: &BareJid) -> Result<Option<Element>, StanzaError> {
        let stored = self.elements.get(&accounts::owner(account), &key("storage", BOOKMARKS)).await.map_err(refusal)?;
        Ok(stored.and_then(|xml| Element::parse(xml.as_bytes(), ns::CLIENT).ok()))
    }

    /// Stores bookmarks that came another way, with what else is in the batch; no more of them than a client may store.
    pub fn put_bookmarks(&self, batch: &mut Batch, account: &BareJid, storage: &Element) {
        let xml = storage.to_xml(ns::CLIENT);
        if xml.len() > self.deps.config.load().limits.stored_bytes_max {
            tracing::debug!(%account, bytes = xml.len(), "bookmarks are too large for private storage");
            return;
        }
        self.elements.put(batch, &accounts::owner(account), &key("storage", BOOKMARKS), &xml);
    }

    /// Somebody else's (§2.3).
    fn refuse(&self, _query: &Query<'_>) -> Reply {
        Err(StanzaCondition::Forbidden.into())
    }
}

/// The elements of a query, none of them in a namespace that is reserved (§2.3).
fn wanted(query: &Element) -> Result<Vec<&Element>, StanzaError> {
    let wanted: Vec<&Element> = query.children().collect();
    let reserved = |ns: &str| ns.starts_with("jabber:") || ns.starts_with("http://jabber.org/") || ns == "vcard-temp";
    match wanted.iter().find(|element| reserved(element.ns()) || element.ns().is_empty()) {
        Some(element) => {
            let text = format!("nothing can be stored in the namespace '{}'", element.ns());
            Err(StanzaError::new(StanzaCondition::NotAcceptable, text))
        }
        None => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(children: &str) -> Element {
        Element::parse(format!("<query xmlns='{NS}'>{children}</query>").as_bytes(), ns::CLIENT).unwrap()
    }

    #[test]
    fn elements_of_any_namespace_of_their_own_can_be_stored() {
        let query = query("<storage xmlns='storage:bookmarks'/><roster xmlns='roster:delimiter'>::</roster>");
        let names: Vec<&str> = wanted(&query).unwrap().iter().map(|element| element.name()).collect();
        assert_eq!(names, ["storage", "roster"]);
    }

    #[test]
    fn reserved_namespaces_are_not_acceptable() {
        for child in [
            "<inherited/>",
            "<nothing xmlns=''/>",
            "<a xmlns='jabber:iq:roster'/>",
            "<vCard xmlns='vcard-temp'/>",
            "<fine xmlns='a:b'/><x xmlns='http://jabber.org/protocol/muc'/>",
        ] {
            assert_eq!(wanted(&query(child)).unwrap_err().condition, StanzaCondition::NotAcceptable, "{child}");
        }
    }

    #[test]
    fn a_key_says_name_and_namespace_for_no_name_has_a_brace() {
        assert_eq!(key("storage", "storage:bookmarks"), "{storage:bookmarks}storage");
        assert_eq!(key("b", "a}c").rsplit_once('}'), Some(("{a}c", "b")));
    }
}
