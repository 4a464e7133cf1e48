//! XEP-0060: Publish-Subscribe, XEP-0163: Personal Eventing Protocol
//!
//! Nodes with items at every account and at the service of each domain. `node.rs` is a node as a value: who may do what. `storage.rs` has the
//! rows. A change of a place waits for those before it and is on disk before anybody hears of it.

mod avatar;
mod bookmarks;
mod displayed;
mod greeting;
pub mod node;
mod notification_settings;
mod notify;
pub mod options;
mod owner;
mod pending;
pub mod publish;
mod retrieve;
pub mod storage;
mod subscribe;
mod vcard4;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use magpie_proto::xeps::pubsub::{NS, NS_OWNER, error};
use magpie_proto::xeps::{disco, result_sets};
use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, Element, StanzaCondition, StanzaError};
use tokio::sync::{Mutex, MutexGuard};

use self::node::Node;
use self::storage::{Change, Finished, News, Storage};
pub use self::displayed::says_displayed;
pub use self::notification_settings::{InRoom, Wishes};
pub use self::storage::Place;
pub use self::subscribe::is_decision;
use super::{About, Module, adhoc};
use crate::modules::offline::refusal;
use crate::modules::vcard::Shown;
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};
use crate::services::Service;

/// Places that may change at the same time.
const TURNS: usize = 64;

/// Nodes of one answer.
const NODES_ASKED_MAX: usize = 500;

/// What a session wants to be notified of without a subscription: names of nodes.
pub type Interests = BTreeSet<Box<str>>;

/// The features of XEP-0060 §10 that accounts and services have. Of the access models the default one is a feature.
const FEATURES: &[&str] = &[
    NS,
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-and-configure",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    pending::GET_PENDING,
    "http://jabber.org/protocol/pubsub#instant-nodes",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#manage-subscriptions",
    "http://jabber.org/protocol/pubsub#member-affiliation",
    "http://jabber.org/protocol/pubsub#meta-data",
    "http://jabber.org/protocol/pubsub#modify-affiliations",
    "http://jabber.org/protocol/pubsub#multi-items",
    "http://jabber.org/protocol/pubsub#outcast-affiliation",
    "http://jabber.org/protocol/pubsub#persistent-items",
    "http://jabber.org/protocol/pubsub#publish",
    "http://jabber.org/protocol/pubsub#publish-node-full",
    "http://jabber.org/protocol/pubsub#publish-only-affiliation",
    "http://jabber.org/protocol/pubsub#publish-options",
    "http://jabber.org/protocol/pubsub#publisher-affiliation",
    "http://jabber.org/protocol/pubsub#purge-nodes",
    "http://jabber.org/protocol/pubsub#retract-items",
    "http://jabber.org/protocol/pubsub#retrieve-affiliations",
    "http://jabber.org/protocol/pubsub#retrieve-default",
    "http://jabber.org/protocol/pubsub#retrieve-default-sub",
    "http://jabber.org/protocol/pubsub#retrieve-items",
    "http://jabber.org/protocol/pubsub#retrieve-subscriptions",
    "http://jabber.org/protocol/pubsub#rsm",
    "http://jabber.org/protocol/pubsub#subscribe",
    "http://jabber.org/protocol/pubsub#subscription-notifications",
    "http://jabber.org/protocol/pubsub#subscription-options",
    result_sets::NS,
];

/// The module.
pub struct Pubsub {
    storage: Storage,
    turns: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Module for Pubsub {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(60),
            title: "Publish-Subscribe",
            version: "1.30.0",
            host_features: &[],
            account_features: FEATURES,
        },
        About {
            xep: Some(163),
            title: "Personal Eventing Protocol",
            version: "1.2.2",
            host_features: &[],
            account_features: &[
                "http://jabber.org/protocol/pubsub#access-presence",
                "http://jabber.org/protocol/pubsub#auto-subscribe",
                "http://jabber.org/protocol/pubsub#filtered-notifications",
                "http://jabber.org/protocol/pubsub#last-published",
                "http://jabber.org/protocol/pubsub#presence-subscribe",
            ],
        },
        About {
            xep: Some(59),
            title: "Result Set Management",
            version: "1.0",
            host_features: &[],
            account_features: &[result_sets::NS],
        },
        account(84, "User Avatar", "1.1.4", &[]),
        About {
            xep: Some(292),
            title: "vCard4 Over XMPP",
            version: "0.12.0",
            host_features: &[vcard4::NS_VCARD],
            account_features: &[vcard4::NS_VCARD],
        },
        account(398, "User Avatar to vCard-Based Avatars Conversion", "1.0.0", &["urn:xmpp:pep-vcard-conversion:0"]),
        account(48, "Bookmarks", "1.2", &[]),
        account(
            402,
            "PEP Native Bookmarks",
            "1.2.0",
            &["urn:xmpp:bookmarks:1#compat", "urn:xmpp:bookmarks:1#compat-pep"],
        ),
        account(411, "Bookmarks Conversion", "1.1.0", &["urn:xmpp:bookmarks-conversion:0"]),
        account(490, "Message Displayed Synchronization", "1.0.1", &[displayed::ASSIST]),
        account(492, "Chat notification settings", "0.2.0", &[]),
        account(222, "Persistent Storage of Public Data via PubSub", "1.0", &[]),
        account(223, "Persistent Storage of Private Data via PubSub", "1.1.1", &[]),
    ];

    fn new(deps: &Deps) -> Self {
        Self {
            storage: Storage::new(&deps.store),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        for target in [To::OwnAccount, To::Account, To::Service(Service::Pubsub)] {
            requests.own(target, Verb::Get, ("pubsub", NS), self, Self::get);
            requests.own(target, Verb::Set, ("pubsub", NS), self, Self::set);
            requests.own(target, Verb::Get, ("pubsub", NS_OWNER), self, Self::owner_get);
            requests.own(target, Verb::Set, ("pubsub", NS_OWNER), self, Self::owner_set);
        }
        for target in [To::OwnAccount, To::Service(Service::Pubsub)] {
            requests.own(target, Verb::Set, ("command", adhoc::NS), self, Self::command);
        }
        requests.own_now(To::Host, Verb::Get, ("vcard", vcard4::NS_VCARD), self, Self::vcard4_of_host);
        let service = To::Service(Service::Pubsub);
        requests.own(service, Verb::Get, ("query", disco::NS_INFO), self, Self::info_of_service);
        requests.own(service, Verb::Get, ("query", disco::NS_ITEMS), self, Self::items_of_service);
    }
}

const fn account(
    xep: u16,
    title: &'static str,
    version: &'static str,
    account_features: &'static [&'static str],
) -> About {
    About { xep: Some(xep), title, version, host_features: &[], account_features }
}

impl Pubsub {
    async fn get(self: Arc<Self>, request: Request) -> Reply {
        let (place, payload) = (place(&request), request.payload());
        let asked = action(&payload)?;
        match asked.name() {
            "items" => self.items(&request, &place, &payload, asked).await,
            "subscriptions" => self.own_subscriptions(&request, &place, asked).await,
            "affiliations" => self.own_affiliations(&request, &place, asked).await,
            "options" => self.options(&request, &place, asked).await,
            "default" => Self::default_options(asked),
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let (place, payload) = (place(&request), request.payload());
        let asked = action(&payload)?;
        match asked.name() {
            "publish" => self.publish(&request, &place, &payload, asked).await,
            "retract" => self.retract(&request, &place, asked).await,
            "subscribe" => self.subscribe(&request, &place, &payload, asked).await,
            "unsubscribe" => self.unsubscribe(&request, &place, asked).await,
            "create" => self.create(&request, &place, &payload, asked).await,
            "options" => self.set_options(&request, &place, asked).await,
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    async fn owner_get(self: Arc<Self>, request: Request) -> Reply {
        let (place, payload) = (place(&request), request.payload());
        let asked = action(&payload)?;
        match asked.name() {
            "configure" => self.configuration(&request, &place, asked).await,
            "default" => Self::default_configuration(&place),
            "subscriptions" => self.all_subscriptions(&request, &place, asked).await,
            "affiliations" => self.all_affiliations(&request, &place, asked).await,
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    async fn owner_set(self: Arc<Self>, request: Request) -> Reply {
        let (place, payload) = (place(&request), request.payload());
        let asked = action(&payload)?;
        match asked.name() {
            "configure" => self.configure(&request, &place, asked).await,
            "delete" => self.delete(&request, &place, asked).await,
            "purge" => self.purge(&request, &place, asked).await,
            "subscriptions" => self.set_subscriptions(&request, &place, asked).await,
            "affiliations" => self.set_affiliations(&request, &place, asked).await,
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    async fn info_of_service(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        if let Some(node) = payload.attr("node") {
            if node == pending::GET_PENDING {
                return Ok(Some(Self::command_info().element()));
            }
            return Ok(Some(self.node_info(&request, &place(&request), node).await?.element()));
        }
        let own = [disco::NS_INFO, disco::NS_ITEMS, adhoc::NS, "http://jabber.org/protocol/pubsub#access-open"];
        let features = own.iter().chain(FEATURES);
        let info = disco::Info {
            identities: vec![disco::Identity::new("pubsub", "service").with_name("Publish-Subscribe")],
            features: features.map(|feature| (*feature).to_owned()).collect(),
            ..disco::Info::default()
        };
        Ok(Some(info.element()))
    }

    async fn items_of_service(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        if let Some(node) = payload.attr("node") {
            if node == adhoc::NS {
                return Ok(Some(Self::commands(&request).element()));
            }
            return self.item_names(&request, &place(&request), node).await;
        }
        let (items, set) = self.node_items(&request, &place(&request)).await?;
        Ok(Some(disco::Items { node: None, items }.element().with_all(set.map(|set| set.element()))))
    }

    /// A change to a node that has its like elsewhere, where the account is the owner of both: the same change makes the other one of it.
    async fn convert(&self, server: &Server, change: &mut Change<'_>, name: &str) -> Result<(), StanzaError> {
        match name {
            _ if !change.place().personal => Ok(()),
            avatar::METADATA => self.avatar_published(server, change).await,
            vcard4::NODE => self.vcard4_published(server, change).await,
            bookmarks::EACH => self.bookmarks_changed(server, change).await,
            bookmarks::ALL => self.bookmarks_replaced(server, change).await,
            _ => Ok(()),
        }
    }

    /// Items of a node are asked for that is not there: what it would have may be elsewhere, from before there were nodes.
    async fn import(&self, request: &Request, place: &Place, name: &str) -> Result<(), StanzaError> {
        let imports = match name {
            vcard4::NODE => place.personal,
            bookmarks::ALL | bookmarks::EACH => place.personal && request.from.to_bare() == place.address,
            _ => false,
        };
        if !imports {
            return Ok(());
        }
        let turn = self.turn(place).await;
        let mut change = self.storage.change(place);
        if change.node(name).await?.is_some() {
            // Somebody else's question was faster.
            return Ok(());
        }
        match name {
            vcard4::NODE => self.import_vcard(&request.server, &mut change).await?,
            _ => self.import_bookmarks(&request.server, &mut change, name).await?,
        }
        let kept = self.commit(&request.server, change).await?;
        drop(turn);
        kept.tell(&request.server).await;
        Ok(())
    }

    /// A message to a place: an owner's decision on a subscription is taken; what else comes nobody reads.
    pub fn receive_message(self: &Arc<Self>, server: &Arc<Server>, to: &BareJid, message: &Stanza) {
        if !is_decision(message) {
            return;
        }
        let place = if server.serves(to.domain()) { Place::account(to) } else { Place::service(to) };
        let (this, server, message) = (Arc::clone(self), Arc::clone(server), message.clone());
        tokio::spawn(async move { this.authorized(&server, &place, &message).await });
    }

    /// Until it is dropped nobody else changes the place.
    async fn turn(&self, place: &Place) -> MutexGuard<'_, ()> {
        self.turns[self.hasher.hash_one(place.owner()) as usize % TURNS].lock().await
    }

    async fn existing(&self, place: &Place, name: &str) -> Result<Node, StanzaError> {
        self.storage.node(place, name).await?.ok_or_else(|| StanzaCondition::ItemNotFound.into())
    }

    async fn save(&self, server: &Server, place: &Place, name: &str, node: &Node) -> Result<(), StanzaError> {
        let mut change = self.storage.change(place);
        change.put_node(name, node).await?;
        self.commit(server, change).await.map(Kept::tell_nobody)
    }

    /// Writes a change: when this is done, what was asked for and what is made of it are on disk together.
    async fn commit(&self, server: &Server, change: Change<'_>) -> Result<Kept, StanzaError> {
        let place = change.place().clone();
        let Finished { batch, vcard, news, nodes } = change.finish().await?;
        let (ticket, shown) = match &vcard {
            Some(vcard) => {
                let (ticket, shown) = server.modules.vcard.commit(&place.address, vcard, batch);
                (ticket, Some(shown))
            }
            None => (server.deps.store.commit(batch), None),
        };
        let done = ticket.await.map_err(refusal);
        if nodes {
            self.storage.greetings.forget(place.owner());
        }
        done.map(|()| Kept { place, news, shown })
    }
}

/// A change that is on disk. Who made it is answered, then others are told.
#[must_use = "others wait to be told"]
pub struct Kept {
    place: Place,
    news: Vec<News>,
    shown: Option<Shown>,
}

impl Kept {
    /// Tells everybody who wants to know.
    pub async fn tell(self, server: &Arc<Server>) {
        for news in &self.news {
            match news {
                News::Event { name, node, event } => {
                    server.modules.pubsub.notify(server, &self.place, name, node, event).await;
                }
                News::Vcard => {
                    if let Some(shown) = &self.shown {
                        server.modules.vcard.show(server, &self.place.address, shown).await;
                    }
                }
            }
        }
    }

    /// There is nobody who would want to know.
    fn tell_nobody(self) {
        debug_assert!(self.news.is_empty());
    }
}

fn place(request: &Request) -> Place {
    match request.target {
        To::Service(_) => Place::service(&request.to),
        _ => Place::account(&request.to),
    }
}

/// What is asked: the first child, which is what the others belong to.
fn action(payload: &Element) -> Result<&Element, StanzaError> {
    let asked = payload.children().find(|child| child.ns() == payload.ns());
    asked.ok_or_else(|| StanzaCondition::BadRequest.into())
}

fn node_name(element: &Element) -> Result<&str, StanzaError> {
    let name = element.attr("node").filter(|name| !name.is_empty());
    name.ok_or_else(|| error(StanzaCondition::BadRequest, "nodeid-required"))
}
