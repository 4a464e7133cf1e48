#![allow(clippy::unwrap_used)]

use super::SubscriptionStanza::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use super::*;

const fn state(subscription: Subscription, pending_out: bool, pending_in: bool) -> State {
    State { subscription, pending_out, pending_in, approved: false }
}

const NONE: State = state(Subscription::None, false, false);
const NONE_OUT: State = state(Subscription::None, true, false);
const NONE_IN: State = state(Subscription::None, false, true);
const NONE_OUT_IN: State = state(Subscription::None, true, true);
const TO: State = state(Subscription::To, false, false);
const TO_IN: State = state(Subscription::To, false, true);
const FROM: State = state(Subscription::From, false, false);
const FROM_OUT: State = state(Subscription::From, true, false);
const BOTH: State = state(Subscription::Both, false, false);

/// Appendix A.1, in its order.
const STATES: [State; 9] = [NONE, NONE_OUT, NONE_IN, NONE_OUT_IN, TO, TO_IN, FROM, FROM_OUT, BOTH];

const fn approved(state: State) -> State {
    State { approved: true, ..state }
}

/// A row: may the stanza pass, and the new state where it changes.
type Row = (bool, Option<State>);
const PASS: Row = (true, None);
const STOP: Row = (false, None);
const fn pass(state: State) -> Row {
    (true, Some(state))
}

#[test]
fn every_row_of_appendix_a_2_holds() {
    let tables: [(SubscriptionStanza, [Row; 9]); 4] = [
        // A.2.1
        (Subscribe, [pass(NONE_OUT), PASS, pass(NONE_OUT_IN), PASS, PASS, PASS, pass(FROM_OUT), PASS, PASS]),
        // A.2.2
        (Unsubscribe, [PASS, pass(NONE), PASS, pass(NONE_IN), pass(NONE), pass(NONE_IN), PASS, pass(FROM), pass(FROM)]),
        // A.2.3, without the pre-approval that §3.4.2 adds where it does not pass
        (Subscribed, [STOP, STOP, pass(FROM), pass(FROM_OUT), STOP, pass(BOTH), STOP, STOP, STOP]),
        // A.2.4
        (Unsubscribed, [STOP, STOP, pass(NONE), pass(NONE_OUT), STOP, pass(TO), pass(NONE), pass(NONE_OUT), pass(TO)]),
    ];
    for (stanza, rows) in tables {
        for (old, (route, new)) in STATES.into_iter().zip(rows) {
            let found = outbound(old, stanza);
            assert_eq!(found.route, route, "{stanza:?} in {old:?}");
            let found = State { approved: false, ..found.state };
            assert_eq!(found, new.unwrap_or(old), "{stanza:?} in {old:?}");
        }
    }
}

#[test]
fn every_row_of_appendix_a_3_holds() {
    let tables: [(SubscriptionStanza, [Row; 9]); 4] = [
        // A.3.1
        (Subscribe, [pass(NONE_IN), pass(NONE_OUT_IN), STOP, STOP, pass(TO_IN), STOP, STOP, STOP, STOP]),
        // A.3.2
        (Unsubscribe, [STOP, STOP, pass(NONE), pass(NONE_OUT), STOP, pass(TO), pass(NONE), pass(NONE_OUT), pass(TO)]),
        // A.3.3
        (Subscribed, [STOP, pass(TO), STOP, pass(TO_IN), STOP, STOP, STOP, pass(BOTH), STOP]),
        // A.3.4
        (
            Unsubscribed,
            [STOP, pass(NONE), STOP, pass(NONE_IN), pass(NONE), pass(NONE_IN), STOP, pass(FROM), pass(FROM)],
        ),
    ];
    for (stanza, rows) in tables {
        for (old, (deliver, new)) in STATES.into_iter().zip(rows) {
            let found = inbound(old, stanza);
            assert_eq!((found.deliver, found.state), (deliver, new.unwrap_or(old)), "{stanza:?} in {old:?}");
        }
    }
}

#[test]
fn approval_in_advance_is_noted_where_nobody_has_asked_and_the_contact_is_not_subscribed() {
    for old in [NONE, NONE_OUT, TO] {
        let found = outbound(old, Subscribed);
        let expected = Outbound { state: approved(old), route: false, push: true, announce: Announce::Nothing };
        assert_eq!(found, expected, "{old:?}");
        assert!(!outbound(approved(old), Subscribed).push, "a second approval changes nothing: {old:?}");
    }
    for old in [NONE_IN, NONE_OUT_IN, TO_IN, FROM, FROM_OUT, BOTH] {
        assert!(!outbound(old, Subscribed).state.approved, "{old:?}");
    }
}

#[test]
fn a_request_approved_in_advance_is_answered_by_the_server_and_not_shown() {
    for (old, new) in [(NONE, FROM), (NONE_OUT, FROM_OUT), (TO, BOTH)] {
        let expected = Inbound {
            state: approved(new),
            deliver: false,
            auto_reply: Some(Subscribed),
            push: true,
            announce: Announce::Available,
        };
        assert_eq!(inbound(approved(old), Subscribe), expected, "{old:?}");
    }
}

#[test]
fn a_request_from_a_subscriber_is_answered_by_the_server_and_changes_nothing() {
    for old in [FROM, FROM_OUT, BOTH] {
        let found = inbound(old, Subscribe);
        assert_eq!(found.state, old);
        assert_eq!(found.auto_reply, Some(Subscribed), "{old:?}");
        assert!(!found.deliver && !found.push, "{old:?}");
    }
}

#[test]
fn nothing_but_a_request_is_answered_by_the_server() {
    for old in STATES.into_iter().chain(STATES.map(approved)) {
        for stanza in [Subscribed, Unsubscribe, Unsubscribed] {
            assert_eq!(inbound(old, stanza).auto_reply, None, "{stanza:?} in {old:?}");
        }
    }
}

#[test]
fn unsubscribed_takes_a_pre_approval_back_without_telling_the_contact() {
    for old in [NONE, NONE_OUT, TO] {
        let found = outbound(approved(old), Unsubscribed);
        assert_eq!(found, Outbound { state: old, route: false, push: true, announce: Announce::Nothing }, "{old:?}");
    }
    for (old, new) in [(FROM, NONE), (FROM_OUT, NONE_OUT), (BOTH, TO)] {
        let found = outbound(approved(old), Unsubscribed);
        assert_eq!(found, Outbound { state: new, route: true, push: true, announce: Announce::Unavailable }, "{old:?}");
    }
}

#[test]
fn the_contact_cannot_take_a_pre_approval_back() {
    for old in STATES {
        for stanza in [Subscribe, Subscribed, Unsubscribe, Unsubscribed] {
            assert!(inbound(approved(old), stanza).state.approved, "{stanza:?} in {old:?}");
        }
    }
}

#[test]
fn a_push_follows_exactly_what_a_client_can_see() {
    // A request that comes, waits or is refused is not in the roster, so it is not pushed (§3.1.3).
    for (old, stanza) in [(NONE, Subscribe), (NONE_OUT, Subscribe), (TO, Subscribe), (NONE_IN, Unsubscribe)] {
        let found = inbound(old, stanza);
        assert_ne!(found.state, old, "{stanza:?} in {old:?}");
        assert!(!found.push, "{stanza:?} in {old:?}");
    }
    for old in [NONE_IN, NONE_OUT_IN, TO_IN] {
        assert!(!outbound(old, Unsubscribed).push, "{old:?}");
    }
    // `ask` and `subscription` are.
    assert!(outbound(NONE, Subscribe).push);
    assert!(!outbound(NONE_OUT, Subscribe).push);
    assert!(outbound(NONE_OUT, Unsubscribe).push);
    assert!(outbound(NONE_IN, Subscribed).push);
    assert!(outbound(FROM, Unsubscribed).push);
    assert!(inbound(NONE_OUT, Subscribed).push);
    assert!(inbound(NONE_OUT, Unsubscribed).push);
    assert!(inbound(BOTH, Unsubscribe).push);
}

#[test]
fn the_contact_learns_of_presence_when_it_is_approved_and_of_its_end_when_it_is_not() {
    for old in STATES {
        let had = old.subscription.has_from();
        for stanza in [Subscribe, Subscribed, Unsubscribe, Unsubscribed] {
            let found = outbound(old, stanza);
            let has = found.state.subscription.has_from();
            let expected = match (had, has) {
                (false, true) => Announce::Available,
                (true, false) => Announce::Unavailable,
                _ => Announce::Nothing,
            };
            assert_eq!(found.announce, expected, "outbound {stanza:?} in {old:?}");
        }
        let unsubscribed = inbound(old, Unsubscribe).announce;
        assert_eq!(unsubscribed, if had { Announce::Unavailable } else { Announce::Nothing }, "{old:?}");
        assert_eq!(inbound(old, Subscribed).announce, Announce::Nothing, "{old:?}");
        assert_eq!(inbound(old, Unsubscribed).announce, Announce::Nothing, "{old:?}");
    }
}

#[test]
fn no_stanza_leads_out_of_the_nine_states() {
    for old in STATES.into_iter().chain(STATES.map(approved)) {
        for stanza in [Subscribe, Subscribed, Unsubscribe, Unsubscribed] {
            for new in [outbound(old, stanza).state, inbound(old, stanza).state] {
                assert!(STATES.contains(&State { approved: false, ..new }), "{stanza:?} in {old:?} gives {new:?}");
            }
        }
    }
}

#[test]
fn two_servers_that_run_the_rules_agree() {
    // The owner's state and the contact's are mirror images after each exchange.
    let mirrored = |a: State, b: State| {
        a.subscription.has_to() == b.subscription.has_from()
            && a.subscription.has_from() == b.subscription.has_to()
            && a.pending_out == b.pending_in
            && a.pending_in == b.pending_out
    };
    for old in STATES {
        let mut here = old;
        let mut there = state(
            Subscription::new(old.subscription.has_from(), old.subscription.has_to()),
            old.pending_in,
            old.pending_out,
        );
        for stanza in [Subscribe, Subscribed, Unsubscribe, Unsubscribed, Subscribed, Subscribe] {
            let sent = outbound(here, stanza);
            here = sent.state;
            if sent.route {
                let arrived = inbound(there, stanza);
                there = arrived.state;
                if let Some(reply) = arrived.auto_reply {
                    here = inbound(here, reply).state;
                }
            }
            assert!(mirrored(here, there), "{stanza:?} from {old:?}: {here:?} and {there:?}");
        }
    }
}

#[test]
fn removal_ends_what_is_subscribed_and_what_is_pending() {
    let cases = [
        (NONE, false, false),
        (NONE_OUT, true, false),
        (NONE_IN, false, true),
        (NONE_OUT_IN, true, true),
        (TO, true, false),
        (TO_IN, true, true),
        (FROM, false, true),
        (FROM_OUT, true, true),
        (BOTH, true, true),
    ];
    for (old, unsubscribe, unsubscribed) in cases {
        let announce = if old.subscription.has_from() { Announce::Unavailable } else { Announce::Nothing };
        assert_eq!(removal(old), Removal { unsubscribe, unsubscribed, announce }, "{old:?}");
        assert_eq!(removal(approved(old)), removal(old), "a pre-approval is nobody's business: {old:?}");
    }
}

#[test]
fn normalization_drops_a_pending_request_where_the_subscription_is_there() {
    for old in STATES.into_iter().chain(STATES.map(approved)) {
        assert_eq!(old.normalized(), old);
    }
    assert_eq!(state(Subscription::Both, true, true).normalized(), BOTH);
    assert_eq!(state(Subscription::To, true, true).normalized(), TO_IN);
    assert_eq!(state(Subscription::From, true, true).normalized(), FROM_OUT);
}

#[test]
fn names_are_read_as_they_are_written() {
    for stanza in [Subscribe, Subscribed, Unsubscribe, Unsubscribed] {
        assert_eq!(SubscriptionStanza::parse(stanza.name()), Some(stanza));
    }
    assert_eq!(SubscriptionStanza::parse("probe"), None);
    assert_eq!(SubscriptionStanza::parse("Subscribe"), None);
}
