#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::StanzaCondition;
use crate::xml::Stanza;

fn outbound(acked: u64, items: impl IntoIterator<Item = u64>) -> Outbound<u64> {
    Outbound::restored(acked, items)
}

fn inbound(received: u64) -> Inbound {
    Inbound::restored(received)
}

fn acked(outbound: &mut Outbound<u64>, h: u32) -> Result<Vec<u64>, AckTooHigh> {
    outbound.ack(h).map(Iterator::collect)
}

#[test]
fn an_ack_settles_what_was_sent_before_it() {
    let mut out = outbound(0, [10, 11, 12]);
    assert_eq!(acked(&mut out, 0), Ok(vec![]));
    assert_eq!(acked(&mut out, 2), Ok(vec![10, 11]));
    assert_eq!((out.len(), out.acked(), out.sent()), (1, 2, 3));
    assert_eq!(out.unacked().copied().collect::<Vec<_>>(), [12]);
    out.push(13);
    assert_eq!(acked(&mut out, 4), Ok(vec![12, 13]));
    assert!(out.is_empty());
}

#[test]
fn an_ack_of_more_than_was_sent_is_refused_and_changes_nothing() {
    let mut out = outbound(0, 0..8);
    let error = AckTooHigh { sent: 8, h: 10 };
    assert_eq!(acked(&mut out, 10), Err(error));
    assert_eq!(acked(&mut out, u32::MAX), Err(AckTooHigh { sent: 8, h: u32::MAX }));
    assert_eq!((out.len(), out.acked()), (8, 0));
    assert_eq!(
        error.element().to_xml(ns::CLIENT),
        "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/>"
    );
    assert_eq!(StreamError::from(error).condition, StreamCondition::UndefinedCondition);
}

#[test]
fn an_ack_that_lags_behind_settles_nothing() {
    let mut out = outbound(7, [7]);
    assert_eq!(acked(&mut out, 7), Ok(vec![]));
    assert_eq!(acked(&mut out, 0), Ok(vec![]));
    assert_eq!(acked(&mut out, u32::MAX), Err(AckTooHigh { sent: 8, h: u32::MAX }));
    assert_eq!(out.len(), 1);
}

#[test]
fn the_counter_of_the_sent_goes_from_its_maximum_to_zero() {
    let mut out = outbound(u64::from(u32::MAX) - 1, 0..4);
    assert_eq!(out.sent(), 2);
    assert_eq!(acked(&mut out, u32::MAX), Ok(vec![0]));
    assert_eq!(acked(&mut out, 3), Err(AckTooHigh { sent: 2, h: 3 }));
    assert_eq!(acked(&mut out, 1), Ok(vec![1, 2]));
    assert_eq!(acked(&mut out, u32::MAX), Ok(vec![]));
    assert_eq!(acked(&mut out, 2), Ok(vec![3]));
}

#[test]
fn an_ack_that_nobody_looks_at_still_settles() {
    let mut out = outbound(0, 0..3);
    drop(out.ack(2).unwrap());
    assert_eq!((out.len(), out.acked()), (1, 2));
    assert_eq!(out.into_unacked(), [2]);
}

#[test]
fn only_what_is_settled_without_a_gap_counts_as_handled() {
    let mut received = inbound(0);
    received.received_settled();
    let (first, second) = (received.received(), received.received());
    received.received_settled();
    assert_eq!((received.handled(), received.pending()), (1, 2));
    assert!(!received.settle(second));
    assert_eq!((received.handled(), received.all_settled()), (1, false));
    assert!(received.settle(first));
    assert_eq!((received.handled(), received.all_settled()), (4, true));
    assert!(!received.settle(first));
    assert_eq!(received.handled(), 4);
}

#[test]
fn the_counter_of_the_received_goes_from_its_maximum_to_zero() {
    let mut received = inbound(u64::from(u32::MAX));
    assert_eq!(received.handled(), u32::MAX);
    let position = received.received();
    assert_eq!(received.handled(), u32::MAX);
    received.settle(position);
    assert_eq!(received.handled(), 0);
}

#[test]
fn a_stanza_that_stays_pending_does_not_make_the_others_cost_memory() {
    let mut received = inbound(0);
    let stuck = received.received();
    for _ in 0..100_000 {
        let position = received.received();
        received.settle(position);
        received.received_settled();
    }
    assert_eq!((received.handled(), received.pending()), (0, 1));
    assert!(received.pending.capacity() < 16);
    received.settle(stuck);
    assert_eq!(received.handled(), 200_001);
}

#[test]
fn an_idle_session_keeps_no_queue() {
    let (mut out, mut received) = (outbound(0, 0..1000), inbound(0));
    let positions: Vec<_> = (0..1000).map(|_| received.received()).collect();
    positions.into_iter().rev().for_each(|position| {
        received.settle(position);
    });
    drop(out.ack(1000).unwrap());
    out.shrink_to_fit();
    received.shrink_to_fit();
    assert_eq!((out.unacked.capacity(), received.pending.capacity()), (0, 0));
}

fn near_a_turn() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..5_u64,
        (0..8_u64).prop_map(|more| (1 << 32) - 4 + more),
        (0..8_u64).prop_map(|more| (2 << 32) - 4 + more)
    ]
}

#[derive(Clone, Debug)]
enum Sent {
    Push,
    Ack(i64),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![Just(Sent::Push), (-6..12_i64).prop_map(Sent::Ack)]
}

#[derive(Clone, Debug)]
enum Got {
    Pending,
    Settled,
    Settle(prop::sample::Index),
}

fn got() -> impl Strategy<Value = Got> {
    prop_oneof![Just(Got::Pending), Just(Got::Settled), any::<prop::sample::Index>().prop_map(Got::Settle)]
}

proptest! {
    /// The model numbers every stanza with an integer that never wraps, and keeps them all.
    #[test]
    fn the_sent_agree_with_a_model_that_never_wraps(start in near_a_turn(), steps in prop::collection::vec(sent(), 0..60)) {
        let mut out = outbound(start, []);
        let (mut model_acked, mut model_sent) = (start, start);
        for step in steps {
            match step {
                Sent::Push => {
                    out.push(model_sent);
                    model_sent += 1;
                }
                // An ack of this many more, or fewer, than the last.
                Sent::Ack(distance) => {
                    let Some(count) = model_acked.checked_add_signed(distance) else { continue };
                    let result = acked(&mut out, count as u32);
                    if count > model_sent {
                        prop_assert_eq!(result, Err(AckTooHigh { sent: model_sent as u32, h: count as u32 }));
                    } else {
                        prop_assert_eq!(result, Ok((model_acked..count).collect::<Vec<_>>()));
                        model_acked = model_acked.max(count);
                    }
                }
            }
            prop_assert_eq!(out.unacked().copied().collect::<Vec<_>>(), (model_acked..model_sent).collect::<Vec<_>>());
            prop_assert_eq!((out.acked(), out.sent()), (model_acked as u32, model_sent as u32));
        }
    }

    /// The model keeps one flag for each stanza and counts them anew each time.
    #[test]
    fn the_received_agree_with_a_model_of_flags(start in near_a_turn(), steps in prop::collection::vec(got(), 0..80)) {
        let mut received = inbound(start);
        let (mut flags, mut positions) = (Vec::new(), Vec::new());
        let prefix = |flags: &[bool]| flags.iter().take_while(|&&settled| settled).count() as u64;
        for step in steps {
            match step {
                Got::Pending => {
                    positions.push((flags.len(), received.received()));
                    flags.push(false);
                }
                Got::Settled => {
                    received.received_settled();
                    flags.push(true);
                }
                Got::Settle(_) if positions.is_empty() => {}
                Got::Settle(index) => {
                    let (at, position) = *index.get(&positions);
                    let before = prefix(&flags);
                    flags[at] = true;
                    prop_assert_eq!(received.settle(position), prefix(&flags) > before);
                }
            }
            prop_assert_eq!(received.handled(), (start + prefix(&flags)) as u32);
            prop_assert_eq!(received.count(), (start + flags.len() as u64) as u32);
            prop_assert_eq!(received.pending(), flags.iter().filter(|&&settled| !settled).count());
            prop_assert_eq!(received.all_settled(), flags.iter().all(|&settled| settled));
        }
        prop_assert!(positions.is_sorted_by(|(_, one), (_, other)| one < other));
    }
}

fn parsed(xml: &str) -> Result<StreamManagement, ManagementError> {
    StreamManagement::parse(&Stanza::parse(xml.as_bytes()).unwrap())
}

#[test]
fn each_element_is_read_and_written() {
    use StreamManagement as S;
    let (h, previd) = (u32::MAX, "some-long-sm-id".to_owned());
    for (element, xml) in [
        (S::Enable { resume: false, max_seconds: None }, "<enable xmlns='urn:xmpp:sm:3'/>"),
        (S::Enable { resume: true, max_seconds: Some(600) }, "<enable xmlns='urn:xmpp:sm:3' resume='true' max='600'/>"),
        (S::Enabled { resume: false, id: None, max_seconds: None, location: None }, "<enabled xmlns='urn:xmpp:sm:3'/>"),
        (
            S::Enabled {
                resume: true,
                id: Some(previd.clone()),
                max_seconds: Some(300),
                location: Some("[2001:db8::1]:9222".to_owned()),
            },
            "<enabled xmlns='urn:xmpp:sm:3' id='some-long-sm-id' resume='true' max='300' location='[2001:db8::1]:9222'/>",
        ),
        (S::Request, "<r xmlns='urn:xmpp:sm:3'/>"),
        (S::Ack { h: 0 }, "<a xmlns='urn:xmpp:sm:3' h='0'/>"),
        (
            S::Resume { h, previd: previd.clone() },
            "<resume xmlns='urn:xmpp:sm:3' h='4294967295' previd='some-long-sm-id'/>",
        ),
        (S::Resumed { h, previd }, "<resumed xmlns='urn:xmpp:sm:3' h='4294967295' previd='some-long-sm-id'/>"),
        (S::Failed { condition: None, h: None }, "<failed xmlns='urn:xmpp:sm:3'/>"),
        (
            S::Failed { condition: Some(StanzaCondition::ItemNotFound), h: Some(5) },
            "<failed xmlns='urn:xmpp:sm:3' h='5'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        ),
    ] {
        assert_eq!(parsed(xml), Ok(element.clone()), "{xml}");
        assert_eq!(element.stanza().text(), xml);
        let mut written = Vec::new();
        element.write(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), xml);
    }
}

#[test]
fn each_spelling_of_a_value_is_read() {
    use StreamManagement as S;
    let enable = |resume, max_seconds| Ok(S::Enable { resume, max_seconds });
    for ack in ["<a h='7' xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h=' 7 ' other='x'>text</a>"] {
        assert_eq!(parsed(ack), Ok(S::Ack { h: 7 }), "{ack}");
    }
    assert_eq!(parsed("<enable xmlns='urn:xmpp:sm:3' resume='1'/>"), enable(true, None));
    assert_eq!(parsed("<enable xmlns='urn:xmpp:sm:3' resume='0' max='007'/>"), enable(false, Some(7)));
    assert_eq!(parsed("<enable xmlns='urn:xmpp:sm:3' max='99999999999'/>"), enable(false, Some(u32::MAX)));
    for condition in
        ["<unheard-of xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>", "<item-not-found xmlns='urn:other'/>"]
    {
        let failed = parsed(&format!("<failed xmlns='urn:xmpp:sm:3'>{condition}</failed>"));
        assert_eq!(failed, Ok(S::Failed { condition: None, h: None }));
    }
}

#[test]
fn what_is_malformed_names_its_attribute() {
    for (xml, attribute) in [
        ("<a xmlns='urn:xmpp:sm:3'/>", "h"),
        ("<a xmlns='urn:xmpp:sm:3' h=''/>", "h"),
        ("<a xmlns='urn:xmpp:sm:3' h='-1'/>", "h"),
        ("<a xmlns='urn:xmpp:sm:3' h='4294967296'/>", "h"),
        ("<resume xmlns='urn:xmpp:sm:3' previd='x'/>", "h"),
        ("<resume xmlns='urn:xmpp:sm:3' h='1'/>", "previd"),
        ("<failed xmlns='urn:xmpp:sm:3' h='x'/>", "h"),
        ("<enable xmlns='urn:xmpp:sm:3' resume='yes'/>", "resume"),
        ("<enable xmlns='urn:xmpp:sm:3' max='-5'/>", "max"),
    ] {
        assert_eq!(parsed(xml), Err(ManagementError::Attribute(attribute)), "{xml}");
    }
    for xml in ["<r/>", "<a xmlns='urn:xmpp:sm:2' h='1'/>", "<sm xmlns='urn:xmpp:sm:3'/>", "<message/>"] {
        assert_eq!(parsed(xml), Err(ManagementError::Unknown), "{xml}");
    }
}
