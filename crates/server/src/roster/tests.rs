#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::subscription::Subscription;
use crate::subscription::SubscriptionStanza::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};

const START: u64 = 1_000;

fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn romeo() -> BareJid {
    jid("romeo@montague.example")
}

fn nurse() -> BareJid {
    jid("nurse@capulet.example")
}

fn juliet() -> BareJid {
    jid("juliet@capulet.example")
}

fn limits() -> RosterLimits {
    RosterLimits::default()
}

fn roster() -> Roster {
    Roster::new(START)
}

fn add(roster: &mut Roster, contact: BareJid) -> Push {
    roster.update(contact, None, Vec::new(), &limits()).unwrap()
}

/// Reads a roster set from its `<query/>`.
fn parse(content: &str) -> Result<RosterSet, StanzaCondition> {
    let query = format!("<query xmlns='jabber:iq:roster'>{content}</query>");
    RosterSet::parse(&Element::parse(query.as_bytes(), ns::CLIENT).unwrap(), &juliet(), &limits())
}

fn listed(roster: &Roster) -> Vec<String> {
    roster.listed().map(|item| item.jid.to_string()).collect()
}

fn xml(element: &Element) -> String {
    element.to_xml(ns::ROSTER)
}

/// The contacts that a difference tells of, in its order, with their `subscription`.
fn told(since: Since) -> Vec<(u64, String, String)> {
    let Since::Delta(pushes) = since else { panic!("no difference: {since:?}") };
    let attr = |push: &Push, name| push.item.attr(name).unwrap().to_owned();
    pushes.iter().map(|push| (push.version, attr(push, "jid"), attr(push, "subscription"))).collect()
}

// Roster sets

#[test]
fn a_roster_set_gives_jid_name_and_groups_and_nothing_else() {
    let set = parse(
        "<item jid='Romeo@Montague.example' name='Romeo' subscription='both' ask='subscribe' approved='true'>\
         <group>Friends</group><group>Lovers &amp; more</group></item>",
    );
    let groups = vec!["Friends".to_owned(), "Lovers & more".to_owned()];
    assert_eq!(set, Ok(RosterSet::Update { jid: romeo(), name: Some("Romeo".to_owned()), groups }));
}

#[test]
fn a_roster_set_may_name_a_domain() {
    let set = parse("<item jid='gateway.example'/>");
    assert_eq!(set, Ok(RosterSet::Update { jid: jid("gateway.example"), name: None, groups: Vec::new() }));
}

#[test]
fn an_empty_name_is_no_name() {
    let set = parse("<item jid='romeo@montague.example' name=''/>");
    assert_eq!(set, Ok(RosterSet::Update { jid: romeo(), name: None, groups: Vec::new() }));
}

#[test]
fn a_removal_needs_nothing_but_the_jid() {
    let removal = Ok(RosterSet::Remove { jid: romeo() });
    assert_eq!(parse("<item jid='romeo@montague.example' subscription='remove'/>"), removal);
    // The rest of the item is about to go, so its faults do not matter.
    assert_eq!(parse("<item jid='romeo@montague.example' subscription='remove'><group/></item>"), removal);
    // What an older server let in can be thrown out.
    let own = parse("<item jid='juliet@capulet.example' subscription='remove'/>");
    assert_eq!(own, Ok(RosterSet::Remove { jid: juliet() }));
}

#[test]
fn a_roster_set_with_a_fault_is_refused_with_the_error_of_2_3_3() {
    use StanzaCondition::{BadRequest, JidMalformed, NotAcceptable, NotAllowed};
    let item = |content: &str| format!("<item jid='romeo@montague.example'>{content}</item>");
    let long = "x".repeat(limits().group_bytes_max + 1);
    let many: String = (0..=limits().groups_max).map(|number| format!("<group>{number}</group>")).collect();
    let cases = [
        (String::new(), BadRequest),
        ("<item/>".to_owned(), BadRequest),
        ("<item xmlns='urn:example' jid='romeo@montague.example'/>".to_owned(), BadRequest),
        (item("") + "<item jid='nurse@capulet.example'/>", BadRequest),
        (item("<group>Friends</group><group>Friends</group>"), BadRequest),
        ("<item jid='romeo@montague.example/orchard'/>".to_owned(), BadRequest),
        ("<item jid='@montague.example'/>".to_owned(), JidMalformed),
        ("<item jid=''/>".to_owned(), JidMalformed),
        ("<item jid='juliet@capulet.example'/>".to_owned(), NotAllowed),
        (item("<group/>"), NotAcceptable),
        (item("<group></group>"), NotAcceptable),
        (item(&format!("<group>{long}</group>")), NotAcceptable),
        (format!("<item jid='romeo@montague.example' name='{long}'/>"), NotAcceptable),
        (item(&many), NotAcceptable),
    ];
    for (content, condition) in cases {
        assert_eq!(parse(&content), Err(condition), "{content}");
    }
}

#[test]
fn names_and_groups_may_be_as_long_and_as_many_as_the_limits_say() {
    let longest = "x".repeat(limits().name_bytes_max);
    let many: String = (0..limits().groups_max).map(|number| format!("<group>{number}</group>")).collect();
    let set = parse(&format!("<item jid='romeo@montague.example' name='{longest}'>{many}</item>")).unwrap();
    let RosterSet::Update { name, groups, .. } = set else { panic!("{set:?}") };
    assert_eq!(name, Some(longest));
    assert_eq!(groups.len(), limits().groups_max);
}

// Items

#[test]
fn an_item_shows_subscription_ask_approved_and_groups() {
    let mut item = Item::new(romeo());
    assert_eq!(xml(&item.element()), "<item jid='romeo@montague.example' subscription='none'/>");
    item.name = Some("Romeo & co".to_owned());
    item.groups = vec!["Friends".to_owned(), "Lovers".to_owned()];
    item.state = State { subscription: Subscription::From, pending_out: true, pending_in: false, approved: true };
    assert_eq!(
        xml(&item.element()),
        "<item jid='romeo@montague.example' name='Romeo &amp; co' subscription='from' ask='subscribe' approved='true'>\
         <group>Friends</group><group>Lovers</group></item>"
    );
}

#[test]
fn an_item_never_shows_that_the_contact_asks() {
    let mut item = Item::new(romeo());
    let before = item.element();
    item.state.pending_in = true;
    item.request = Some("<presence type='subscribe'/>".to_owned());
    assert_eq!(item.element(), before);
}

#[test]
fn a_stored_item_is_read_as_it_was_written() {
    let mut item = Item::new(romeo());
    let mut bytes = Vec::new();
    item.encode(&mut bytes);
    assert_eq!(Item::decode(&bytes), Some(item.clone()));
    item.name = Some("Romeo \"the\" \u{1F339}".to_owned());
    item.groups = vec!["Friends\n".to_owned()];
    item.state = State { subscription: Subscription::To, pending_out: false, pending_in: true, approved: true };
    item.request = Some("<presence type='subscribe'><status>O</status></presence>".to_owned());
    item.changed = u64::MAX;
    bytes.clear();
    item.encode(&mut bytes);
    assert_eq!(Item::decode(&bytes), Some(item));
}

#[test]
fn the_stored_form_of_an_item_stays_readable() {
    let stored = br#"{"jid":"romeo@montague.example","name":"Romeo","groups":["Friends"],
        "state":{"subscription":"to","pending_in":true},"listed":true,"request":"<presence/>","changed":7}"#;
    let expected = Item {
        jid: romeo(),
        name: Some("Romeo".to_owned()),
        groups: vec!["Friends".to_owned()],
        state: State { subscription: Subscription::To, pending_out: false, pending_in: true, approved: false },
        listed: true,
        request: Some("<presence/>".to_owned()),
        changed: 7,
    };
    assert_eq!(Item::decode(stored), Some(expected));
    let journal = br#"{"version":9,"oldest":3,"removed":[[5,"nurse@capulet.example"]]}"#;
    let expected = Journal { version: 9, oldest: 3, removed: VecDeque::from([(5, nurse().to_string())]) };
    assert_eq!(Journal::decode(journal), Some(expected.clone()));
    let mut bytes = Vec::new();
    expected.encode(&mut bytes);
    assert_eq!(Journal::decode(&bytes), Some(expected));
}

#[test]
fn a_stored_item_that_is_none_is_corrupt_and_an_impossible_state_is_mended() {
    for bytes in [&b""[..], b"{}", b"{\"jid\":\"@\"}", b"{\"jid\":\"romeo@montague.example/orchard\"}", b"\xff"] {
        assert_eq!(Item::decode(bytes), None, "{bytes:?}");
    }
    let impossible =
        br#"{"jid":"romeo@montague.example","state":{"subscription":"both","pending_out":true,"pending_in":true}}"#;
    let state = Item::decode(impossible).unwrap().state;
    assert_eq!(state, State { subscription: Subscription::Both, ..State::default() });
}

// Changes

#[test]
fn an_update_replaces_name_and_groups_and_leaves_the_subscription() {
    let mut roster = roster();
    roster.update(romeo(), Some("R".to_owned()), vec!["Friends".to_owned()], &limits()).unwrap();
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    let push = roster.update(romeo(), None, vec!["Lovers".to_owned()], &limits()).unwrap();
    assert_eq!(
        xml(&push.item),
        "<item jid='romeo@montague.example' subscription='none' ask='subscribe'><group>Lovers</group></item>"
    );
    assert_eq!(push, roster.push(&romeo()));
}

#[test]
fn each_change_that_clients_see_has_a_version_of_its_own() {
    let mut roster = roster();
    assert_eq!(roster.version(), START);
    assert_eq!(add(&mut roster, romeo()).version, START + 1);
    assert_eq!(add(&mut roster, romeo()).version, START + 2);
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    assert_eq!(roster.push(&romeo()).version, START + 3);
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert_eq!(roster.version(), START + 3, "a request is not seen");
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    assert_eq!(roster.version(), START + 3, "a repeated request changes nothing");
    let (_, push) = roster.remove(&romeo()).unwrap();
    assert_eq!((push.version, roster.version()), (START + 4, START + 4));
}

#[test]
fn a_full_roster_takes_no_new_item_but_changes_to_the_old_ones() {
    let limits = RosterLimits { items_max: 1, ..limits() };
    let mut roster = roster();
    add(&mut roster, romeo());
    let before = roster.clone();
    let refused = StanzaCondition::ResourceConstraint;
    assert_eq!(roster.update(nurse(), None, Vec::new(), &limits), Err(refused));
    assert_eq!(roster.send(&nurse(), Subscribe, &limits), Err(refused));
    assert_eq!(roster.send(&nurse(), Subscribed, &limits), Err(refused));
    assert_eq!(roster, before);
    roster.update(romeo(), Some("R".to_owned()), Vec::new(), &limits).unwrap();
    roster.send(&romeo(), Subscribe, &limits).unwrap();
    roster.remove(&romeo()).unwrap();
    roster.update(nurse(), None, Vec::new(), &limits).unwrap();
}

#[test]
fn a_stanza_that_changes_nothing_creates_no_item() {
    let mut roster = roster();
    roster.send(&romeo(), Unsubscribe, &limits()).unwrap();
    roster.send(&romeo(), Unsubscribed, &limits()).unwrap();
    for stanza in [Subscribed, Unsubscribe, Unsubscribed] {
        roster.receive(&romeo(), stanza, "", &limits()).unwrap();
    }
    assert_eq!(roster.get(&romeo()), None);
    assert_eq!(roster.version(), START);
}

#[test]
fn the_owner_s_request_and_its_pre_approval_create_an_item() {
    let mut roster = roster();
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    roster.send(&nurse(), Subscribed, &limits()).unwrap();
    assert_eq!(listed(&roster), ["nurse@capulet.example", "romeo@montague.example"]);
    assert_eq!(
        xml(&roster.query()),
        "<query ver='1002'><item jid='nurse@capulet.example' subscription='none' approved='true'/>\
         <item jid='romeo@montague.example' subscription='none' ask='subscribe'/></query>"
    );
}

#[test]
fn a_refused_contact_stays_in_the_roster() {
    let mut roster = roster();
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    roster.receive(&romeo(), Unsubscribed, "", &limits()).unwrap();
    assert_eq!(listed(&roster), ["romeo@montague.example"]);
    assert_eq!(roster.state(&romeo()), State::default());
}

// Requests

#[test]
fn a_stranger_that_asks_is_kept_but_not_shown_until_it_is_approved() {
    let mut roster = roster();
    let request = "<presence from='romeo@montague.example' type='subscribe'><status>O</status></presence>";
    let result = roster.receive(&romeo(), Subscribe, request, &limits()).unwrap();
    assert!(result.deliver && !result.push);
    assert!(listed(&roster).is_empty());
    assert_eq!(xml(&roster.query()), "<query ver='1000'/>");
    let waiting: Vec<_> = roster.requests(&juliet()).collect();
    assert_eq!(waiting, [(romeo(), request.to_owned())]);

    let result = roster.send(&romeo(), Subscribed, &limits()).unwrap();
    assert!(result.route && result.push);
    assert_eq!(xml(&roster.push(&romeo()).item), "<item jid='romeo@montague.example' subscription='from'/>");
    assert_eq!(roster.requests(&juliet()).count(), 0);
    assert_eq!(roster.get(&romeo()).unwrap().request, None);
}

#[test]
fn a_stranger_that_is_refused_or_gives_up_leaves_nothing_behind() {
    let mut roster = roster();
    let empty = roster.clone();
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert!(roster.get(&romeo()).is_some());
    roster.send(&romeo(), Unsubscribed, &limits()).unwrap();
    assert_eq!(roster, empty);
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    roster.receive(&romeo(), Unsubscribe, "", &limits()).unwrap();
    assert_eq!(roster, empty);
}

#[test]
fn a_contact_that_the_owner_added_stays_in_sight_while_it_asks() {
    let mut roster = roster();
    add(&mut roster, romeo());
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert_eq!(listed(&roster), ["romeo@montague.example"]);
    roster.send(&romeo(), Unsubscribed, &limits()).unwrap();
    assert_eq!(listed(&roster), ["romeo@montague.example"]);
}

#[test]
fn the_first_request_is_the_one_that_is_kept() {
    let mut roster = roster();
    roster.receive(&romeo(), Subscribe, "<presence id='1'/>", &limits()).unwrap();
    let again = roster.receive(&romeo(), Subscribe, "<presence id='2'/>", &limits()).unwrap();
    assert!(!again.deliver);
    assert_eq!(roster.get(&romeo()).unwrap().request.as_deref(), Some("<presence id='1'/>"));
}

#[test]
fn of_a_request_that_is_too_long_only_the_asking_is_kept() {
    let mut roster = roster();
    let long = format!("<presence><status>{}</status></presence>", "x".repeat(limits().request_bytes_max));
    roster.receive(&romeo(), Subscribe, &long, &limits()).unwrap();
    assert_eq!(roster.get(&romeo()).unwrap().request, None);
    let owner = juliet();
    let (who, stanza) = roster.requests(&owner).next().unwrap();
    assert_eq!(who, romeo());
    assert_eq!(stanza, "<presence from='romeo@montague.example' to='juliet@capulet.example' type='subscribe'/>");
}

#[test]
fn strangers_cannot_fill_the_store_with_requests() {
    let limits = RosterLimits { requests_max: 2, ..limits() };
    let mut roster = roster();
    add(&mut roster, nurse());
    for number in 0..2 {
        roster.receive(&jid(&format!("stranger{number}@montague.example")), Subscribe, "", &limits).unwrap();
    }
    let before = roster.clone();
    assert_eq!(roster.receive(&romeo(), Subscribe, "", &limits), Err(StanzaCondition::ResourceConstraint));
    assert_eq!(roster.receive(&nurse(), Subscribe, "", &limits), Err(StanzaCondition::ResourceConstraint));
    assert_eq!(roster, before);
    roster.send(&jid("stranger0@montague.example"), Unsubscribed, &limits).unwrap();
    roster.receive(&romeo(), Subscribe, "", &limits).unwrap();
}

// Removal

#[test]
fn removal_says_what_the_contact_is_sent_and_pushes_remove() {
    let mut roster = roster();
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    roster.receive(&romeo(), Subscribed, "", &limits()).unwrap();
    let (removal, push) = roster.remove(&romeo()).unwrap();
    assert!(removal.unsubscribe && !removal.unsubscribed);
    assert_eq!(xml(&push.item), "<item jid='romeo@montague.example' subscription='remove'/>");
    assert_eq!(push, roster.push(&romeo()));
    assert_eq!(roster.get(&romeo()), None);
}

#[test]
fn what_clients_do_not_see_cannot_be_removed() {
    let mut roster = roster();
    assert_eq!(roster.remove(&romeo()), Err(StanzaCondition::ItemNotFound));
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert_eq!(roster.remove(&romeo()), Err(StanzaCondition::ItemNotFound));
    assert!(roster.state(&romeo()).pending_in);
}

#[test]
fn removal_takes_a_pre_approval_with_it() {
    let mut roster = roster();
    roster.send(&romeo(), Subscribed, &limits()).unwrap();
    roster.remove(&romeo()).unwrap();
    let result = roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert_eq!(result.auto_reply, None);
    assert!(result.deliver);
}

// Versions

#[test]
fn a_client_that_knows_the_version_is_told_nothing() {
    let mut roster = roster();
    assert_eq!(roster.since(Some("1000")), Since::UpToDate);
    add(&mut roster, romeo());
    assert_eq!(roster.since(Some("1001")), Since::UpToDate);
}

#[test]
fn a_client_that_knows_no_version_or_a_foreign_one_gets_the_whole_roster() {
    let mut roster = roster();
    add(&mut roster, romeo());
    for ver in [None, Some(""), Some("ver7"), Some("-1"), Some("999"), Some("1002"), Some("99999999999999999999999")] {
        assert_eq!(roster.since(ver), Since::Full, "{ver:?}");
    }
}

#[test]
fn a_difference_tells_the_last_state_of_each_item_in_the_order_of_changes() {
    let mut roster = roster();
    add(&mut roster, romeo());
    add(&mut roster, nurse());
    let tybalt = jid("tybalt@capulet.example");
    add(&mut roster, tybalt.clone());
    roster.remove(&nurse()).unwrap();
    roster.send(&romeo(), Subscribe, &limits()).unwrap();
    roster.receive(&romeo(), Subscribed, "", &limits()).unwrap();

    let entry = |version, jid: &BareJid, subscription: &str| (version, jid.to_string(), subscription.to_owned());
    let all = [entry(1003, &tybalt, "none"), entry(1004, &nurse(), "remove"), entry(1006, &romeo(), "to")];
    assert_eq!(told(roster.since(Some("1000"))), all);
    assert_eq!(told(roster.since(Some("1003"))), all[1..]);
    assert_eq!(told(roster.since(Some("1005"))), all[2..]);
}

#[test]
fn an_item_that_came_back_is_told_once() {
    let mut roster = roster();
    add(&mut roster, romeo());
    roster.remove(&romeo()).unwrap();
    add(&mut roster, romeo());
    assert_eq!(told(roster.since(Some("1001"))), [(1003, romeo().to_string(), "none".to_owned())]);
    roster.remove(&romeo()).unwrap();
    assert_eq!(told(roster.since(Some("1001"))), [(1004, romeo().to_string(), "remove".to_owned())]);
    // Its request as a stranger is no news for the client, the removal still is.
    roster.receive(&romeo(), Subscribe, "", &limits()).unwrap();
    assert_eq!(told(roster.since(Some("1001"))), [(1004, romeo().to_string(), "remove".to_owned())]);
}

#[test]
fn forgotten_removals_lead_to_the_whole_roster() {
    let mut roster = roster();
    for number in 0..=Journal::REMOVED_MAX {
        let contact = jid(&format!("contact{number}@montague.example"));
        add(&mut roster, contact.clone());
        roster.remove(&contact).unwrap();
    }
    // The first removal, in version 1002, is the one that is forgotten.
    assert_eq!(roster.journal().removed.len(), Journal::REMOVED_MAX);
    assert_eq!(roster.since(Some("1001")), Since::Full);
    assert_eq!(told(roster.since(Some("1002"))).len(), Journal::REMOVED_MAX);
}

#[test]
fn a_difference_leads_to_the_roster_that_the_whole_would_give() {
    // A client that follows differences, from every version on, sees what a new client sees.
    let contacts = [romeo(), nurse(), jid("tybalt@capulet.example")];
    let mut roster = roster();
    let mut history: Vec<(u64, BTreeMap<String, String>)> = Vec::new();
    let view = |roster: &Roster| -> BTreeMap<String, String> {
        roster.listed().map(|item| (item.jid.to_string(), xml(&item.element()))).collect()
    };
    let mut seed = 7_u64;
    for _ in 0..300 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let contact = &contacts[(seed >> 33) as usize % contacts.len()];
        match (seed >> 40) % 10 {
            0 => drop(add(&mut roster, contact.clone())),
            1 => drop(roster.remove(contact)),
            choice @ 2..=5 => {
                let stanza = [Subscribe, Subscribed, Unsubscribe, Unsubscribed][choice as usize - 2];
                roster.send(contact, stanza, &limits()).unwrap();
            }
            choice => {
                let stanza = [Subscribe, Subscribed, Unsubscribe, Unsubscribed][choice as usize - 6];
                roster.receive(contact, stanza, "", &limits()).unwrap();
            }
        }
        history.push((roster.version(), view(&roster)));
        for (version, known) in &history {
            let mut known = known.clone();
            match roster.since(Some(&version.to_string())) {
                Since::UpToDate => {}
                Since::Full => continue,
                Since::Delta(pushes) => {
                    for push in pushes {
                        let contact = push.item.attr("jid").unwrap().to_owned();
                        if push.item.attr("subscription") == Some("remove") {
                            known.remove(&contact);
                        } else {
                            known.insert(contact, xml(&push.item));
                        }
                    }
                }
            }
            assert_eq!(known, view(&roster), "from version {version}");
        }
    }
    assert!(roster.version() > START + 100, "the steps must do something");
    assert!(matches!(roster.since(Some("1001")), Since::Delta(_)), "the differences must be tested");
}

#[test]
fn a_roster_from_the_store_is_the_one_that_was_stored() {
    let mut roster = roster();
    add(&mut roster, romeo());
    add(&mut roster, nurse());
    roster.remove(&nurse()).unwrap();
    roster.receive(&jid("tybalt@capulet.example"), Subscribe, "<presence/>", &limits()).unwrap();
    let mut bytes = Vec::new();
    roster.journal().encode(&mut bytes);
    let journal = Journal::decode(&bytes);
    assert!(journal.is_some());
    let items = roster.all().map(|item| {
        let mut bytes = Vec::new();
        item.encode(&mut bytes);
        Item::decode(&bytes).unwrap()
    });
    assert_eq!(Roster::load(journal, items, 5_000), roster);
    assert_eq!(Roster::load(None, [], 5_000).version(), 5_000);
}

#[test]
fn a_push_carries_its_version() {
    let mut roster = roster();
    let push = add(&mut roster, romeo());
    assert_eq!(
        push.query().to_xml(ns::CLIENT),
        "<query xmlns='jabber:iq:roster' ver='1001'><item jid='romeo@montague.example' subscription='none'/></query>"
    );
}

#[test]
fn a_roster_whose_texts_are_too_long_together_takes_no_more_until_some_are_shorter() {
    let mut roster = Roster::new(1);
    let limits = RosterLimits { bytes_max: 40, ..RosterLimits::default() };
    let jid = |text: &str| BareJid::parse(text).unwrap();
    let groups = || vec!["x".repeat(16)];
    roster.update(jid("a@b"), None, groups(), &limits).unwrap();
    roster.update(jid("c@d"), None, groups(), &limits).unwrap();
    assert_eq!(roster.update(jid("e@f"), None, Vec::new(), &limits), Err(StanzaCondition::ResourceConstraint));
    // What an item had counts no more when it is replaced.
    roster.update(jid("a@b"), Some("a".into()), Vec::new(), &limits).unwrap();
    roster.update(jid("e@f"), None, Vec::new(), &limits).unwrap();
}

#[test]
fn who_missed_too_much_gets_the_whole_roster() {
    let mut roster = Roster::new(1);
    for count in 0..=Roster::DELTA_MAX {
        let jid = BareJid::parse(&format!("{count}@example.org")).unwrap();
        roster.update(jid, None, Vec::new(), &RosterLimits::default()).unwrap();
    }
    assert_eq!(roster.since(Some("1")), Since::Full);
    assert!(matches!(roster.since(Some("2")), Since::Delta(pushes) if pushes.len() == Roster::DELTA_MAX));
}
