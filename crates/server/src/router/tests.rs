#![allow(clippy::unwrap_used)]

use super::MessageType::{Chat, Error, Groupchat, Headline, Normal};
use super::Target::{Bare, Full};
use super::*;

/// The resources of an account: a name and a priority each. The session is the name.
type Resources = &'static [(&'static str, Option<i8>)];

const NOBODY: Resources = &[];
const CONNECTED: Resources = &[("balcony", None)];
const NEGATIVE: Resources = &[("balcony", Some(-1))];
const ONE: Resources = &[("balcony", Some(0))];
const MANY: Resources =
    &[("balcony", Some(5)), ("orchard", Some(0)), ("tomb", Some(-5)), ("cell", None), ("garden", Some(5))];

fn resources(list: Resources) -> impl Iterator<Item = Resource<'static, &'static str>> + Clone {
    list.iter().map(|&(name, priority)| Resource { session: name, name, priority })
}

fn message(kind: MessageType, target: Target<'_>, list: Resources) -> Route<&'static str> {
    route_message(kind, true, true, target, resources(list))
}

fn to(sessions: &[&'static str]) -> Route<&'static str> {
    Route::Sessions(sessions.iter().copied().collect())
}

/// One cell of the table of §8.5.4, with the alternative taken where it has two.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// Silently ignored.
    S,
    /// An error to the sender.
    E,
    /// Stored offline.
    O,
    /// Delivered to the resource in `to`, or to the only one there is.
    D,
    /// Delivered to the most available resources.
    M,
    /// Delivered to all resources with a non-negative priority.
    A,
}

#[test]
fn every_row_of_the_table_of_8_5_4_holds() {
    use Cell::{A, D, E, M, O, S};
    /// Account exists, resources, `to`, then the cells of normal, chat, groupchat and headline.
    type Row = (bool, Resources, Target<'static>, [Cell; 4]);
    const ROWS: &[Row] = &[
        // Account does not exist
        (false, NOBODY, Bare, [E, E, E, E]),
        (false, NOBODY, Full("balcony"), [E, E, E, E]),
        // Account exists, but no active resources
        (true, NOBODY, Bare, [O, O, E, S]),
        (true, NOBODY, Full("balcony"), [E, O, E, S]),
        // One or more negative resources, but none that is not negative
        (true, NEGATIVE, Bare, [O, O, E, S]),
        (true, NEGATIVE, Full("balcony"), [D, D, D, D]),
        (true, NEGATIVE, Full("attic"), [E, O, E, S]),
        // One resource that is not negative
        (true, ONE, Bare, [D, D, E, D]),
        (true, ONE, Full("balcony"), [D, D, D, D]),
        (true, ONE, Full("attic"), [E, D, E, S]),
        // More than one resource that is not negative
        (true, MANY, Bare, [A, M, E, A]),
        (true, MANY, Full("balcony"), [D, D, D, D]),
        (true, MANY, Full("attic"), [E, M, E, S]),
    ];
    for &(exists, list, target, cells) in ROWS {
        for (kind, cell) in [Normal, Chat, Groupchat, Headline].into_iter().zip(cells) {
            let expected = match cell {
                S => Route::Drop,
                E => Route::Refuse(StanzaCondition::ServiceUnavailable),
                O => Route::Offline,
                D => to(&["balcony"]),
                M => to(&["balcony", "garden"]),
                A => to(&["balcony", "orchard", "garden"]),
            };
            let found = route_message(kind, true, exists, target, resources(list));
            assert_eq!(found, expected, "{kind:?} to {target:?}, exists: {exists}, {list:?}");
        }
    }
}

#[test]
fn an_error_is_delivered_to_the_resource_that_it_names_and_else_ignored() {
    for list in [NOBODY, CONNECTED, NEGATIVE, ONE, MANY] {
        assert_eq!(message(Error, Bare, list), Route::Drop, "{list:?}");
        assert_eq!(message(Error, Full("attic"), list), Route::Drop, "{list:?}");
    }
    assert_eq!(message(Error, Full("balcony"), MANY), to(&["balcony"]));
    assert_eq!(route_message(Error, true, false, Bare, resources(NOBODY)), Route::Drop);
    assert_eq!(route_message(Error, true, false, Full("balcony"), resources(NOBODY)), Route::Drop);
}

#[test]
fn chat_to_a_bare_jid_with_only_negative_priorities_goes_offline() {
    assert_eq!(message(Chat, Bare, NEGATIVE), Route::Offline);
}

#[test]
fn a_connected_resource_that_is_not_available_gets_only_what_names_it() {
    for kind in [Normal, Chat] {
        assert_eq!(message(kind, Bare, CONNECTED), Route::Offline, "{kind:?}");
    }
    assert_eq!(message(Headline, Bare, CONNECTED), Route::Drop);
    assert_eq!(message(Chat, Full("attic"), CONNECTED), Route::Offline);
    for kind in [Normal, Chat, Groupchat, Headline, Error] {
        assert_eq!(message(kind, Full("balcony"), CONNECTED), to(&["balcony"]), "{kind:?}");
    }
}

#[test]
fn a_resource_with_a_negative_priority_gets_nothing_that_is_for_the_account() {
    for kind in [Normal, Chat, Groupchat, Headline, Error] {
        for target in [Bare, Full("attic")] {
            if let Route::Sessions(sessions) = message(kind, target, MANY) {
                assert!(!sessions.contains(&"tomb") && !sessions.contains(&"cell"), "{kind:?} to {target:?}");
            }
        }
    }
}

#[test]
fn what_is_not_worth_keeping_is_dropped_only_where_it_would_be_kept() {
    for kind in [Normal, Chat] {
        assert_eq!(route_message(kind, false, true, Bare, resources(NOBODY)), Route::Drop, "{kind:?}");
        assert_eq!(route_message(kind, false, true, Bare, resources(ONE)), to(&["balcony"]), "{kind:?}");
    }
    assert_eq!(route_message(Chat, false, true, Full("attic"), resources(NEGATIVE)), Route::Drop);
    let refused = Route::Refuse(StanzaCondition::ServiceUnavailable);
    assert_eq!(route_message(Groupchat, false, true, Bare, resources(NOBODY)), refused);
    assert_eq!(route_message(Chat, false, false, Bare, resources(NOBODY)), refused);
}

#[test]
fn resourceparts_are_compared_with_case() {
    assert_eq!(message(Chat, Full("Orchard"), MANY), to(&["balcony", "garden"]));
    assert_eq!(message(Chat, Full("orchard"), MANY), to(&["orchard"]));
}

#[test]
fn an_absent_or_unknown_message_type_is_normal() {
    let cases = [
        (None, Normal),
        (Some("normal"), Normal),
        (Some("chat"), Chat),
        (Some("groupchat"), Groupchat),
        (Some("headline"), Headline),
        (Some("error"), Error),
        (Some("telegram"), Normal),
        (Some("Chat"), Normal),
        (Some(""), Normal),
    ];
    for (attribute, kind) in cases {
        assert_eq!(MessageType::parse(attribute), kind, "{attribute:?}");
    }
}

#[test]
fn an_unknown_presence_or_iq_type_is_none() {
    let subscription = |stanza| Some(PresenceType::Subscription(stanza));
    let presence = [
        (None, Some(PresenceType::Available)),
        (Some("unavailable"), Some(PresenceType::Unavailable)),
        (Some("probe"), Some(PresenceType::Probe)),
        (Some("error"), Some(PresenceType::Error)),
        (Some("subscribe"), subscription(SubscriptionStanza::Subscribe)),
        (Some("subscribed"), subscription(SubscriptionStanza::Subscribed)),
        (Some("unsubscribe"), subscription(SubscriptionStanza::Unsubscribe)),
        (Some("unsubscribed"), subscription(SubscriptionStanza::Unsubscribed)),
        (Some("available"), None),
        (Some("invisible"), None),
        (Some(""), None),
    ];
    for (attribute, kind) in presence {
        assert_eq!(PresenceType::parse(attribute), kind, "{attribute:?}");
    }
    let iq = [
        (Some("get"), Some(IqType::Get)),
        (Some("set"), Some(IqType::Set)),
        (Some("result"), Some(IqType::Result)),
        (Some("error"), Some(IqType::Error)),
        (Some("subscribe"), None),
        (None, None),
    ];
    for (attribute, kind) in iq {
        assert_eq!(IqType::parse(attribute), kind, "{attribute:?}");
    }
}

const SUBSCRIPTION: [PresenceType; 4] = [
    PresenceType::Subscription(SubscriptionStanza::Subscribe),
    PresenceType::Subscription(SubscriptionStanza::Subscribed),
    PresenceType::Subscription(SubscriptionStanza::Unsubscribe),
    PresenceType::Subscription(SubscriptionStanza::Unsubscribed),
];
const NOTIFICATION: [PresenceType; 3] = [PresenceType::Available, PresenceType::Unavailable, PresenceType::Error];

fn presence(kind: PresenceType, target: Target<'_>, list: Resources) -> Route<&'static str> {
    route_presence(kind, true, target, resources(list))
}

#[test]
fn presence_for_an_account_that_does_not_exist_is_ignored_but_a_probe_is_answered() {
    for target in [Bare, Full("balcony")] {
        for kind in NOTIFICATION.into_iter().chain(SUBSCRIPTION) {
            assert_eq!(route_presence(kind, false, target, resources(NOBODY)), Route::Drop, "{kind:?} to {target:?}");
        }
        assert_eq!(route_presence(PresenceType::Probe, false, target, resources(NOBODY)), Route::Server);
    }
}

#[test]
fn presence_for_a_bare_jid_reaches_every_available_resource_whatever_its_priority() {
    for kind in NOTIFICATION {
        assert_eq!(presence(kind, Bare, MANY), to(&["balcony", "orchard", "tomb", "garden"]), "{kind:?}");
        assert_eq!(presence(kind, Bare, NEGATIVE), to(&["balcony"]), "{kind:?}");
        assert_eq!(presence(kind, Bare, CONNECTED), Route::Drop, "{kind:?}");
        assert_eq!(presence(kind, Bare, NOBODY), Route::Drop, "{kind:?}");
    }
}

#[test]
fn presence_for_a_full_jid_reaches_that_resource_alone() {
    for kind in NOTIFICATION {
        assert_eq!(presence(kind, Full("tomb"), MANY), to(&["tomb"]), "{kind:?}");
        assert_eq!(presence(kind, Full("cell"), MANY), to(&["cell"]), "{kind:?}");
        assert_eq!(presence(kind, Full("attic"), MANY), Route::Drop, "{kind:?}");
    }
}

#[test]
fn the_server_runs_subscriptions_and_probes_for_the_account() {
    for list in [NOBODY, CONNECTED, NEGATIVE, ONE, MANY] {
        for kind in SUBSCRIPTION.into_iter().chain([PresenceType::Probe]) {
            assert_eq!(presence(kind, Bare, list), Route::Server, "{kind:?} with {list:?}");
        }
        assert_eq!(presence(PresenceType::Probe, Full("attic"), list), Route::Server, "{list:?}");
    }
}

#[test]
fn only_a_request_counts_among_subscription_stanzas_to_a_resource_that_is_not_there() {
    let [request, others @ ..] = SUBSCRIPTION;
    assert_eq!(presence(request, Full("attic"), ONE), Route::Server);
    for kind in others {
        assert_eq!(presence(kind, Full("attic"), ONE), Route::Drop, "{kind:?}");
        assert_eq!(presence(kind, Full("balcony"), ONE), Route::Server, "{kind:?}");
    }
}

const REFUSED: Route<&str> = Route::Refuse(StanzaCondition::ServiceUnavailable);

#[test]
fn an_iq_for_a_bare_jid_never_reaches_a_resource() {
    for kind in [IqType::Get, IqType::Set, IqType::Result, IqType::Error] {
        for list in [NOBODY, ONE, MANY] {
            for shared in [false, true] {
                assert_eq!(route_iq(kind, true, Bare, shared, resources(list)), Route::Server, "{kind:?}");
            }
        }
    }
}

#[test]
fn an_iq_for_a_full_jid_reaches_that_resource_or_is_refused() {
    for kind in [IqType::Get, IqType::Set] {
        assert_eq!(route_iq(kind, true, Full("tomb"), true, resources(MANY)), to(&["tomb"]), "{kind:?}");
        assert_eq!(route_iq(kind, true, Full("cell"), true, resources(MANY)), to(&["cell"]), "{kind:?}");
        assert_eq!(route_iq(kind, true, Full("attic"), true, resources(MANY)), REFUSED, "{kind:?}");
    }
}

#[test]
fn a_stranger_cannot_tell_a_resource_that_is_there_from_one_that_is_not() {
    for kind in [IqType::Get, IqType::Set] {
        assert_eq!(route_iq(kind, true, Full("orchard"), false, resources(MANY)), REFUSED, "{kind:?}");
        assert_eq!(route_iq(kind, true, Full("attic"), false, resources(MANY)), REFUSED, "{kind:?}");
        assert_eq!(route_iq(kind, false, Full("attic"), false, resources(NOBODY)), REFUSED, "{kind:?}");
        assert_eq!(route_iq(kind, false, Bare, false, resources(NOBODY)), REFUSED, "{kind:?}");
    }
}

#[test]
fn a_reply_reaches_the_resource_that_asked_and_else_ends() {
    for kind in [IqType::Result, IqType::Error] {
        assert_eq!(route_iq(kind, true, Full("tomb"), false, resources(MANY)), to(&["tomb"]), "{kind:?}");
        assert_eq!(route_iq(kind, true, Full("attic"), false, resources(MANY)), Route::Drop, "{kind:?}");
        assert_eq!(route_iq(kind, false, Full("attic"), false, resources(NOBODY)), Route::Drop, "{kind:?}");
        assert_eq!(route_iq(kind, false, Bare, false, resources(NOBODY)), Route::Drop, "{kind:?}");
    }
}

fn own() -> FullJid {
    FullJid::parse("juliet@capulet.example/balcony").unwrap()
}

fn is_local(domain: &str) -> bool {
    ["capulet.example", "verona.example"].contains(&domain)
}

#[test]
fn a_stanza_without_to_is_for_the_own_account_and_presence_is_broadcast() {
    assert_eq!(destination(Kind::Message, None, &own(), is_local), Destination::OwnAccount);
    assert_eq!(destination(Kind::Iq, None, &own(), is_local), Destination::OwnAccount);
    assert_eq!(destination(Kind::Presence, None, &own(), is_local), Destination::Broadcast);
}

#[test]
fn an_address_tells_account_host_and_elsewhere() {
    let account = |local, domain, target| Destination::LocalAccount { local, domain, target };
    let cases = [
        ("juliet@capulet.example", Destination::OwnAccount),
        ("juliet@capulet.example/balcony", account("juliet", "capulet.example", Full("balcony"))),
        ("juliet@capulet.example/garden", account("juliet", "capulet.example", Full("garden"))),
        ("nurse@capulet.example", account("nurse", "capulet.example", Bare)),
        ("juliet@verona.example", account("juliet", "verona.example", Bare)),
        ("nurse@verona.example/hall", account("nurse", "verona.example", Full("hall"))),
        ("capulet.example", Destination::LocalHost { domain: "capulet.example" }),
        ("verona.example/hall", Destination::LocalHost { domain: "verona.example" }),
        ("montague.example", Destination::Remote { domain: "montague.example" }),
        ("romeo@montague.example/orchard", Destination::Remote { domain: "montague.example" }),
        ("room@rooms.capulet.example", Destination::Remote { domain: "rooms.capulet.example" }),
    ];
    for kind in [Kind::Message, Kind::Presence, Kind::Iq] {
        for (text, expected) in cases {
            let jid = Jid::parse(text).unwrap();
            assert_eq!(destination(kind, Some(&jid), &own(), is_local), expected, "{kind:?} to {text}");
        }
    }
}
