#![allow(clippy::unwrap_used)]
use magpie_proto::StanzaCondition::{self, BadRequest, Forbidden, NotAllowed, NotAuthorized, UnexpectedRequest};

use super::*;

fn bare(jid: &str) -> BareJid {
    BareJid::parse(jid).unwrap()
}

fn jid(jid: &str) -> Jid {
    Jid::parse(jid).unwrap()
}

fn node(access: AccessModel) -> Node {
    let groups = vec!["friends".to_owned()];
    let mut node = Node::new(bare("owner@a"), NodeConfig { access, groups, ..NodeConfig::personal() });
    for affiliation in ["publisher", "publish-only", "member", "outcast"] {
        node.set_affiliation(&bare(&format!("{affiliation}@a")), Affiliation::parse(affiliation).unwrap()).unwrap();
    }
    node
}

fn condition<T: std::fmt::Debug>(result: Result<T, StanzaError>) -> (StanzaCondition, String) {
    let error = result.unwrap_err();
    (error.condition, error.application.map(|element| element.name().to_owned()).unwrap_or_default())
}

/// A stranger, one who sees the owner's presence, one who is in the group.
fn askers() -> [Asker; 3] {
    let stranger = Asker::stranger(jid("x@a"));
    let seeing = Asker { sees_presence: true, groups: vec!["work".into()], ..stranger.clone() };
    let friend = Asker { groups: vec!["friends".into()], ..seeing.clone() };
    [stranger, seeing, friend]
}

#[test]
fn each_access_model_lets_in_whom_it_names_and_tells_the_others_why() {
    let presence = (NotAuthorized, "presence-subscription-required".to_owned());
    let roster = (NotAuthorized, "not-in-roster-group".to_owned());
    let whitelist = (NotAllowed, "closed-node".to_owned());
    let authorize = (NotAuthorized, "not-subscribed".to_owned());
    let table = [
        (AccessModel::Open, [None, None, None]),
        (AccessModel::Presence, [Some(presence), None, None]),
        (AccessModel::Roster, [Some(roster.clone()), Some(roster), None]),
        (AccessModel::Authorize, [Some(authorize.clone()), Some(authorize.clone()), Some(authorize)]),
        (AccessModel::Whitelist, [Some(whitelist.clone()), Some(whitelist.clone()), Some(whitelist)]),
    ];
    for (access, refused) in table {
        for (asker, refused) in askers().iter().zip(refused) {
            let read = node(access).may_read(asker);
            match refused {
                None => assert_eq!(read, Ok(()), "{access:?} {asker:?}"),
                Some(refused) => assert_eq!(condition(read), refused, "{access:?} {asker:?}"),
            }
        }
    }
}

#[test]
fn affiliations_do_what_table_1_says_whatever_the_access_model() {
    for access in [AccessModel::Open, AccessModel::Presence, AccessModel::Authorize, AccessModel::Whitelist] {
        // subscribe, retrieve, publish
        for (who, reads, publishes) in [
            ("owner", true, true),
            ("publisher", true, true),
            ("publish-only", false, true),
            ("member", true, false),
            ("outcast", false, false),
        ] {
            let mut node = node(access);
            let address = format!("{who}@a");
            let asker = Asker { sees_presence: true, ..Asker::stranger(jid(&address)) };
            assert_eq!(node.may_read(&asker).is_ok(), reads, "{who} reads {access:?}");
            assert_eq!(node.may_publish(&bare(&address)).is_ok(), publishes, "{who} publishes {access:?}");
            let subscribed = node.subscribe(&asker, &jid(&address));
            match reads {
                true => assert_eq!(subscribed, Ok(SubscriptionState::Subscribed), "{who} {access:?}"),
                false => assert_eq!(condition(subscribed).0, Forbidden, "{who} {access:?}"),
            }
            assert_eq!(node.require_owner(&bare(&address)).is_ok(), who == "owner");
        }
    }
}

#[test]
fn the_publish_model_decides_for_those_who_are_no_publishers() {
    let mut node = node(AccessModel::Open);
    let (asker, who) = (Asker::stranger(jid("x@a")), bare("x@a"));
    assert!(node.may_publish(&who).is_err());
    node.config.publish = PublishModel::Subscribers;
    assert!(node.may_publish(&who).is_err());
    node.subscribe(&asker, &jid("x@a/r")).unwrap();
    assert!(node.may_publish(&who).is_ok());
    node.unsubscribe(&who, &jid("x@a/r")).unwrap();
    node.config.publish = PublishModel::Open;
    assert!(node.may_publish(&who).is_ok() && node.may_publish(&bare("outcast@a")).is_err());
}

#[test]
fn a_subscription_that_needs_an_owner_waits_for_one() {
    let mut node = node(AccessModel::Authorize);
    let (asker, to) = (Asker::stranger(jid("x@a")), jid("x@a"));
    assert_eq!(node.subscribe(&asker, &to), Ok(SubscriptionState::Pending));
    assert_eq!(condition(node.subscribe(&asker, &to)), (NotAuthorized, "pending-subscription".into()));
    assert_eq!(condition(node.may_read(&asker)), (NotAuthorized, "not-subscribed".into()));
    let change = |state| Some(SubscriptionChange { jid: to.clone(), state });
    assert_eq!(node.decide(&to, true), change(SubscriptionState::Subscribed));
    assert_eq!((node.may_read(&asker), node.decide(&to, true)), (Ok(()), None));
    node.unsubscribe(&bare("x@a"), &to).unwrap();
    node.subscribe(&asker, &to).unwrap();
    assert_eq!(node.decide(&to, false), change(SubscriptionState::None));
    assert_eq!(node.subscriptions().count(), 0);
}

#[test]
fn nobody_subscribes_or_unsubscribes_somebody_else() {
    let mut node = node(AccessModel::Open);
    let asker = Asker::stranger(jid("x@a/r"));
    assert_eq!(condition(node.subscribe(&asker, &jid("y@a"))), (BadRequest, "invalid-jid".into()));
    assert_eq!(condition(node.unsubscribe(&bare("x@a"), &jid("y@a"))).0, Forbidden);
    assert_eq!(condition(node.unsubscribe(&bare("x@a"), &jid("x@a"))), (UnexpectedRequest, "not-subscribed".into()));
    assert_eq!(node.subscribe(&asker, &jid("x@a")), Ok(SubscriptionState::Subscribed));
    assert_eq!(node.subscribe(&asker, &jid("x@a")), Ok(SubscriptionState::Subscribed), "again is no mistake");
    node.config.subscribe = false;
    assert_eq!(condition(node.subscribe(&asker, &jid("x@a/r"))), (NotAllowed, "unsupported".into()));
}

#[test]
fn an_outcast_loses_its_subscriptions_and_the_last_owner_stays() {
    let mut node = node(AccessModel::Open);
    let asker = Asker::stranger(jid("x@a"));
    for address in ["x@a", "x@a/1"] {
        node.subscribe(&asker, &jid(address)).unwrap();
    }
    assert_eq!(node.set_affiliation(&bare("x@a"), Affiliation::Outcast).unwrap().len(), 2);
    assert_eq!(node.subscriptions().count(), 0);
    assert_eq!(condition(node.set_affiliation(&bare("owner@a"), Affiliation::Member)).0, StanzaCondition::NotAcceptable);
    node.set_affiliation(&bare("x@a"), Affiliation::Owner).unwrap();
    assert_eq!(node.set_affiliation(&bare("owner@a"), Affiliation::None), Ok(Vec::new()));
}

#[test]
fn a_publisher_takes_back_its_own_items_and_an_owner_all() {
    let node = node(AccessModel::Open);
    let (publisher, other) = (bare("publisher@a"), bare("publish-only@a"));
    assert!(node.may_retract(&publisher, Some(&publisher)).is_ok());
    assert!(node.may_retract(&publisher, Some(&other)).is_err());
    assert!(node.may_retract(&publisher, None).is_err());
    assert!(node.may_retract(&bare("owner@a"), Some(&other)).is_ok());
    assert!(node.may_retract(&bare("member@a"), Some(&bare("member@a"))).is_err());
}

#[test]
fn a_node_has_room_for_so_many_and_no_more() {
    let mut node = node(AccessModel::Open);
    for n in 0..ENTITIES_MAX {
        assert!(node.set_subscription(&jid(&format!("u{n}@a")), SubscriptionState::Subscribed).unwrap());
    }
    let more = node.set_subscription(&jid("more@a"), SubscriptionState::Subscribed);
    assert_eq!(condition(more).0, StanzaCondition::ResourceConstraint);
    assert_eq!(node.set_subscription(&jid("u1@a"), SubscriptionState::Subscribed), Ok(false));
}

#[test]
fn a_node_is_stored_as_it_is() {
    let mut node = node(AccessModel::Roster);
    node.set_subscription(&jid("x@a/'<&"), SubscriptionState::Pending).unwrap();
    node.set_subscription(&jid("y@a"), SubscriptionState::Subscribed).unwrap();
    node.deliver_to(&jid("y@a"), false);
    let mut bytes = Vec::new();
    node.encode(&mut bytes);
    assert_eq!(Node::decode(&bytes), Some(node));
    assert_eq!(Node::decode(b"<node/>"), None);
}

#[test]
fn what_a_subscriber_chose_ends_with_its_subscription() {
    let mut node = node(AccessModel::Open);
    let subscriber = jid("x@a");
    node.set_subscription(&subscriber, SubscriptionState::Subscribed).unwrap();
    node.deliver_to(&subscriber, false);
    assert!(!node.delivers_to(&subscriber));
    node.set_subscription(&subscriber, SubscriptionState::None).unwrap();
    let mut bytes = Vec::new();
    node.encode(&mut bytes);
    let mut node = Node::decode(&bytes).unwrap();
    node.set_subscription(&subscriber, SubscriptionState::Subscribed).unwrap();
    assert!(node.delivers_to(&subscriber));
}
