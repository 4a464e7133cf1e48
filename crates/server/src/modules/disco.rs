//! XEP-0030: Service Discovery
//!
//! Answers for hosts and for accounts what they are, what they understand and what belongs to them. The features are those that the
//! modules state in their `ABOUT`, so that no list is kept here. What depends on an account's presence is told to those who may see it.

use std::sync::Arc;

use magpie_proto::xeps::disco::{Identity, Info, Item, Items, NS_INFO, NS_ITEMS};
use magpie_proto::{BareJid, Element, StanzaCondition, StanzaError};

use super::archive::MessageArchive;
use super::inbox::Inbox;
use super::retraction::Retraction;
use super::search::FullTextSearch;
use super::stanza_ids::StanzaIds;
use super::{About, Module, Modules, contact, pubsub};
use crate::config::Config;
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};
use crate::services::Service;

/// The module.
pub struct Disco;

impl Module for Disco {
    const ABOUT: &'static [About] = &[About {
        xep: Some(30),
        title: "Service Discovery",
        version: "2.5.0",
        host_features: &[NS_INFO, NS_ITEMS],
        account_features: &[NS_INFO, NS_ITEMS],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        let (info, items) = (("query", NS_INFO), ("query", NS_ITEMS));
        requests.own_now(To::Host, Verb::Get, info, self, Self::info_of_host);
        requests.own_now(To::Host, Verb::Get, items, self, Self::items_of_host);
        for target in [To::OwnAccount, To::Account] {
            requests.own(target, Verb::Get, info, self, Self::info_of_account);
            requests.own(target, Verb::Get, items, self, Self::items_of_account);
        }
    }
}

impl Disco {
    fn info_of_host(&self, query: &Query<'_>) -> Reply {
        let mut info = host_info(&query.server.config());
        if let Some(node) = query.payload().attr("node") {
            if let Some(command) = query.server.modules.adhoc.info(query, node) {
                return Ok(Some(command?.element()));
            }
            // The nodes that stand for all of this are asked by those who saw them in the stream features (XEP-0115 §6.2, XEP-0390 §5.2).
            if !query.server.modules.caps.of_host().stands_for(node) {
                return Err(StanzaCondition::ItemNotFound.into());
            }
            info.node = Some(node.to_owned());
        }
        Ok(Some(info.element()))
    }

    fn items_of_host(&self, query: &Query<'_>) -> Reply {
        let payload = query.payload();
        if let Some(commands) = payload.attr("node").and_then(|node| query.server.modules.adhoc.items(query, node)) {
            return Ok(Some(commands.element()));
        }
        refuse_node(&payload)?;
        let services = Service::ALL.iter().filter_map(|service| {
            let address = service.address(query.to.domain())?;
            query.server.service_at(address.domain())?;
            Some(Item::new(address).with_name(service.title()))
        });
        Ok(Some(Items { node: None, items: services.collect() }.element()))
    }

    async fn info_of_account(self: Arc<Self>, request: Request) -> Reply {
        let sees = sees(&request).await?;
        let unseen = StanzaError::from(StanzaCondition::ServiceUnavailable);
        let payload = request.payload();
        if let Some(node) = payload.attr("node") {
            let place = pubsub::Place::account(&request.to);
            let info = request.server.modules.pubsub.node_info(&request, &place, node).await;
            // §8: an account that is not there and one that keeps to itself sound alike, whatever the node.
            return info.map(|info| Some(info.element())).map_err(|error| if sees { error } else { unseen });
        }
        match sees {
            true => {
                let anonymous = is_anonymous(&request.server, &request.to);
                Ok(Some(account_info(anonymous, !anonymous && request.server.deps.archives()).element()))
            }
            false => Err(unseen),
        }
    }

    async fn items_of_account(self: Arc<Self>, request: Request) -> Reply {
        let sees = sees(&request).await?;
        let (payload, place) = (request.payload(), pubsub::Place::account(&request.to));
        if let Some(node) = payload.attr("node") {
            let names = request.server.modules.pubsub.item_names(&request, &place, node).await;
            // §8: here what sounds alike is an empty answer.
            let nothing = || Some(Items { node: Some(node.to_owned()), items: Vec::new() }.element());
            return if sees { names } else { names.or_else(|_| Ok(nothing())) };
        }
        let (nodes, set) = request.server.modules.pubsub.node_items(&request, &place).await?;
        let mut items: Vec<Item> = request.server.registry().with(&request.to, |account| {
            let resources = account.into_iter().flat_map(|account| account.available()).filter(|_| sees);
            resources.map(|resource| Item::new(resource.session.jid.clone())).collect()
        });
        items.extend(nodes);
        Ok(Some(Items { node: None, items }.element().with_all(set.map(|set| set.element()))))
    }
}

/// What every served domain is and understands.
pub fn host_info(config: &Config) -> Info {
    Info {
        node: None,
        identities: vec![Identity::new("server", "im").with_name("Magpie")],
        features: features(|about| about.host_features),
        forms: contact::form(&config.contact).into_iter().collect(),
    }
}

/// `archives`: whether the account's messages are archived.
fn account_info(anonymous: bool, archives: bool) -> Info {
    let of_archive = |about: &About| [MessageArchive::ABOUT, FullTextSearch::ABOUT, Retraction::ABOUT, Inbox::ABOUT, StanzaIds::ABOUT].concat().contains(about);
    Info {
        identities: vec![
            Identity::new("account", if anonymous { "anonymous" } else { "registered" }),
            Identity::new("pubsub", "pep"),
        ],
        features: features(|about| if archives || !of_archive(about) { about.account_features } else { &[] }),
        ..Info::default()
    }
}

/// Each feature once: two modules may need to advertise the same one.
fn features(of: impl Fn(&About) -> &'static [&'static str]) -> Vec<String> {
    let mut features: Vec<&str> = Modules::ABOUT.iter().copied().flatten().flat_map(of).copied().collect();
    features.sort_unstable();
    features.dedup();
    features.into_iter().map(str::to_owned).collect()
}

async fn sees(request: &Request) -> Result<bool, StanzaError> {
    request.server.modules.presence.is_seen_by(&request.server, &request.to, &request.from.to_bare()).await
}

fn is_anonymous(server: &Server, account: &BareJid) -> bool {
    server.registry().with(account, |account| {
        account.is_some_and(|account| account.resources.iter().any(|resource| resource.session.anonymous))
    })
}

fn refuse_node(payload: &Element) -> Result<(), StanzaCondition> {
    match payload.attr("node") {
        Some(_) => Err(StanzaCondition::ItemNotFound),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_advertises_what_each_module_states_and_each_feature_once() {
        let info = host_info(&Config::default());
        let stated = Modules::ABOUT.iter().copied().flatten().flat_map(|about| about.host_features);
        for feature in stated {
            assert_eq!(info.features.iter().filter(|var| var == feature).count(), 1, "{feature}");
        }
        assert!(info.has(NS_INFO) && info.has("urn:xmpp:ping"));
        assert_eq!(info.identities, [Identity::new("server", "im").with_name("Magpie")]);
    }

    #[test]
    fn an_account_does_not_advertise_what_only_the_host_does() {
        let info = account_info(false, true);
        assert!(info.has("urn:xmpp:ping") && !info.has("msgoffline"));
        let pep = Identity::new("pubsub", "pep");
        assert_eq!(info.identities, [Identity::new("account", "registered"), pep.clone()]);
        assert_eq!(account_info(true, false).identities, [Identity::new("account", "anonymous"), pep]);
    }
}
