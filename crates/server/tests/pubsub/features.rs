//! XEP-0060 §10, XEP-0163 §7: each feature that an account or a service advertises is shown to work, and nothing is advertised that is
//! not shown.

use std::collections::BTreeSet;

use super::*;

const EVENT: &str = "http://jabber.org/protocol/pubsub#event";

/// Two people, and a place that is the first one's account or the service.
struct Scene {
    romeo: Client,
    juliet: Client,
    place: &'static str,
    personal: bool,
    nodes: u32,
}

impl Scene {
    fn pubsub(&mut self, kind: &str, payload: &str) -> String {
        ask(&mut self.romeo, kind, Some(self.place), &format!("<pubsub xmlns='{PUBSUB}'>{payload}</pubsub>"))
    }

    fn owner(&mut self, kind: &str, payload: &str) -> String {
        ask(&mut self.romeo, kind, Some(self.place), &format!("<pubsub xmlns='{PUBSUB}#owner'>{payload}</pubsub>"))
    }

    fn juliet(&mut self, kind: &str, payload: &str) -> String {
        ask(&mut self.juliet, kind, Some(self.place), &format!("<pubsub xmlns='{PUBSUB}'>{payload}</pubsub>"))
    }

    /// A new node that anybody may read, with three items.
    fn node(&mut self, fields: &[(&str, &str)]) -> String {
        self.nodes += 1;
        let node = format!("n{}", self.nodes);
        let all = [&[("access_model", "open"), ("max_items", "max")], fields].concat();
        done(&create(&mut self.romeo, Some(self.place), &node, &all));
        for id in ["1", "2", "3"] {
            done(&self.publish(&node, id));
        }
        node
    }

    fn publish(&mut self, node: &str, id: &str) -> String {
        self.pubsub("set", &format!("<publish node='{node}'><item id='{id}'><a xmlns='b'/></item></publish>"))
    }

    fn affiliate(&mut self, node: &str, affiliation: &str) {
        let affiliation = format!("<affiliation jid='juliet@localhost' affiliation='{affiliation}'/>");
        done(&self.owner("set", &format!("<affiliations node='{node}'>{affiliation}</affiliations>")));
    }

    fn subscribe(&mut self, node: &str) -> String {
        self.juliet("set", &format!("<subscribe node='{node}' jid='juliet@localhost'/>"))
    }

    fn heard(&mut self, parts: &[&str]) -> String {
        let place = format!("from='{}'", self.place);
        self.juliet.wait_for(&[&["<message", EVENT, &place], parts].concat())
    }

    fn items(&mut self, node: &str) -> String {
        self.juliet("get", &format!("<items node='{node}'/>"))
    }

    fn default_access(&mut self) -> String {
        let form = self.owner("get", "<default/>");
        let field = form.split("<field").find(|field| field.contains("'pubsub#access_model'")).unwrap();
        field.split("<value>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    }

    /// Fails unless what the feature promises is had.
    fn show(&mut self, feature: &str) {
        match feature {
            "access-open" | "access-presence" => assert_eq!(self.default_access(), &feature["access-".len()..]),
            "auto-create" => done(&self.publish("made by publishing", "1")),
            "config-node" | "create-and-configure" => {
                let node = self.node(&[("title", "before")]);
                assert!(self.owner("get", &format!("<configure node='{node}'/>")).contains("<value>before</value>"));
                let after = configured(&[("title", "after")]);
                done(&self.owner("set", &format!("<configure node='{node}'>{after}</configure>")));
                assert!(self.owner("get", &format!("<configure node='{node}'/>")).contains("<value>after</value>"));
            }
            "config-node-max" => drop(self.node(&[("max_items", "max"), ("item_expire", "max")])),
            "create-nodes" | "persistent-items" | "retrieve-items" | "publish" | "multi-items" | "item-ids" => {
                let node = self.node(&[]);
                let items = self.items(&node);
                assert!(["1", "2", "3"].iter().all(|id| items.contains(&format!("<item id='{id}'>"))), "{items}");
            }
            "delete-items" | "retract-items" => {
                let node = self.node(&[]);
                done(&self.subscribe(&node));
                done(&self.pubsub("set", &format!("<retract node='{node}' notify='true'><item id='2'/></retract>")));
                self.heard(&[&format!("<items node='{node}'><retract id='2'/></items>")]);
                assert!(!self.items(&node).contains("<item id='2'>"));
            }
            "delete-nodes" => {
                let node = self.node(&[]);
                done(&self.owner("set", &format!("<delete node='{node}'/>")));
                refused(&self.items(&node), &["item-not-found"]);
            }
            "instant-nodes" => assert!(self.pubsub("set", "<create/>").contains("<create node='")),
            "meta-data" => {
                let node = self.node(&[("title", "T")]);
                let query = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
                let info = ask(&mut self.juliet, "get", Some(self.place), &query);
                assert!(info.contains("#meta-data") && info.contains("<value>T</value>"), "{info}");
            }
            "publish-node-full" => {
                let node = self.node(&[("max_items", "3"), ("publish_node_full", "reject")]);
                refused(&self.publish(&node, "4"), &["max-items-exceeded"]);
                let node = self.node(&[("max_items", "3"), ("publish_node_full", "retract-oldest")]);
                done(&self.subscribe(&node));
                done(&self.publish(&node, "4"));
                self.heard(&["<retract id='1'/>"]);
            }
            "publish-options" => {
                let node = self.node(&[]);
                let options = configured(&[("access_model", "authorize")]).replace("node_config", "publish-options");
                let item = format!("<publish node='{node}'><item><a xmlns='b'/></item></publish>");
                let publish = format!("{item}<publish-options>{options}</publish-options>");
                refused(&self.pubsub("set", &publish), &["conflict", "precondition-not-met"]);
            }
            "purge-nodes" => {
                let node = self.node(&[]);
                done(&self.owner("set", &format!("<purge node='{node}'/>")));
                assert!(!self.items(&node).contains("<item "));
            }
            "retrieve-default" => assert!(self.owner("get", "<default/>").contains("pubsub#max_items")),
            "rsm" => {
                let node = self.node(&[]);
                let set = "<set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set>";
                let page = self.juliet("get", &format!("<items node='{node}'/>{set}"));
                assert!(page.contains("<first index='2'>3</first>"), "{page}");
            }
            _ => self.show_of_people(feature),
        }
    }

    /// Features that are about who is what to a node.
    fn show_of_people(&mut self, feature: &str) {
        match feature {
            "auto-subscribe" | "presence-subscribe" | "filtered-notifications" => {
                // Without a subscription, since she sees his presence and says that she wants it; what she does not name does not come.
                done(&self.publish("urn:b", "1"));
                done(&self.publish("urn:a", feature));
                let next = self.heard(&[]);
                assert!(next.contains(&format!("<items node='urn:a'><item id='{feature}'>")), "{next}");
            }
            "get-pending" => {
                let node = self.node(&[("access_model", "authorize")]);
                assert!(self.subscribe(&node).contains("subscription='pending'"));
                self.romeo.wait_for(&["<message", "subscribe_authorization"]);
                let form = configured(&[("node", &node)]).replace("node_config", "subscribe_authorization");
                let start = format!("<command xmlns='http://jabber.org/protocol/commands' node='{PUBSUB}#get-pending'");
                let waiting = ask(&mut self.romeo, "set", Some(self.place), &format!("{start}/>"));
                assert!(waiting.contains(&format!("<value>{node}</value></option>")), "{waiting}");
                done(&ask(&mut self.romeo, "set", Some(self.place), &format!("{start}>{form}</command>")));
                self.romeo.wait_for(&["<message", "subscribe_authorization", "<value>juliet@localhost</value>"]);
            }
            "last-published" => {
                done(&self.publish("urn:a", "last"));
                self.heard(&["id='last'"]);
                self.juliet.send("<presence type='unavailable'/>");
                come_and_want(&mut self.juliet, "again");
                self.heard(&["id='last'"]);
            }
            "manage-subscriptions" | "subscription-notifications" => {
                let node = self.node(&[]);
                let subscription = |state| {
                    format!(
                        "<subscriptions node='{node}'><subscription jid='juliet@localhost' subscription='{state}'/></subscriptions>"
                    )
                };
                for state in ["subscribed", "none"] {
                    done(&self.owner("set", &subscription(state)));
                    self.heard(&[&format!(
                        "<subscription node='{node}' jid='juliet@localhost' subscription='{state}'/>"
                    )]);
                }
            }
            "member-affiliation" | "modify-affiliations" | "outcast-affiliation" => {
                let node = self.node(&[("access_model", "whitelist")]);
                refused(&self.items(&node), &["closed-node"]);
                self.affiliate(&node, "member");
                done(&self.items(&node));
                self.affiliate(&node, "outcast");
                refused(&self.items(&node), &["forbidden"]);
            }
            "publisher-affiliation" | "publish-only-affiliation" => {
                let node = self.node(&[]);
                let publish = format!("<publish node='{node}'><item id='j'><a xmlns='b'/></item></publish>");
                refused(&self.juliet("set", &publish), &["forbidden"]);
                self.affiliate(&node, feature.strip_suffix("-affiliation").unwrap());
                done(&self.juliet("set", &publish));
                match feature {
                    "publisher-affiliation" => done(&self.items(&node)),
                    _ => refused(&self.items(&node), &["forbidden"]),
                }
            }
            "retrieve-affiliations" => {
                let node = self.node(&[]);
                self.affiliate(&node, "member");
                let known = self.juliet("get", "<affiliations/>");
                assert!(known.contains(&format!("<affiliation node='{node}' affiliation='member'/>")), "{known}");
            }
            "retrieve-default-sub" => assert!(self.juliet("get", "<default/>").contains("pubsub#deliver")),
            "subscription-options" => {
                let node = self.node(&[]);
                done(&self.subscribe(&node));
                self.heard(&["<item id='3'>"]);
                for (deliver, id) in [("0", "silent"), ("1", "heard")] {
                    let form = configured(&[("deliver", deliver)]).replace("node_config", "subscribe_options");
                    let options = format!("<options node='{node}' jid='juliet@localhost'>{form}</options>");
                    done(&self.juliet("set", &options));
                    done(&self.publish(&node, id));
                }
                let next = self.heard(&[]);
                assert!(next.contains("<item id='heard'>"), "{next}");
            }
            "retrieve-subscriptions" | "subscribe" => {
                let node = self.node(&[]);
                done(&self.subscribe(&node));
                self.heard(&["<item id='3'>"]);
                done(&self.publish(&node, "4"));
                self.heard(&["<item id='4'>"]);
                let known = self.juliet("get", "<subscriptions/>");
                assert!(
                    known.contains(&format!("node='{node}' jid='juliet@localhost' subscription='subscribed'")),
                    "{known}"
                );
                done(&self.juliet("set", &format!("<unsubscribe node='{node}' jid='juliet@localhost'/>")));
                assert!(!self.juliet("get", "<subscriptions/>").contains(&format!("node='{node}'")));
            }
            other => panic!("nothing shows that {other} works"),
        }
    }

    fn features(&mut self) -> BTreeSet<String> {
        let info =
            ask(&mut self.romeo, "get", Some(self.place), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
        let features = info.split("<feature var='").skip(1).map(|rest| rest.split('\'').next().unwrap());
        features.filter_map(|feature| feature.strip_prefix(&format!("{PUBSUB}#"))).map(str::to_owned).collect()
    }
}

fn scene(host: &Host, place: &'static str) -> Scene {
    see_each_other(host, "romeo", "juliet");
    let (mut romeo, mut juliet) = (host.connect("romeo"), host.connect("juliet"));
    romeo.send("<presence/>");
    come_and_want(&mut juliet, "features");
    settle(host);
    Scene { romeo, juliet, place, personal: place != SERVICE, nodes: 0 }
}

/// What only accounts have, and only services.
const PERSONAL: [&str; 5] =
    ["access-presence", "auto-subscribe", "filtered-notifications", "last-published", "presence-subscribe"];

#[test]
fn every_feature_that_an_account_or_a_service_advertises_works() {
    for place in ["romeo@localhost", SERVICE] {
        let host = Host::start(&["romeo", "juliet"]);
        let mut scene = scene(&host, place);
        let features = scene.features();
        assert!(features.len() > 25, "{features:?}");
        for feature in &features {
            scene.show(feature);
        }
        assert!(PERSONAL.iter().all(|feature| features.contains(*feature) == scene.personal), "{features:?}");
        assert_eq!(features.contains("access-open"), !scene.personal);
    }
}
