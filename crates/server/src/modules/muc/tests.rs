//! A room as a value, without a runtime, a socket or a store.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::muc::Affiliation;
use magpie_proto::xeps::muc_config::{RoomConfig, Whois};
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition};

use super::occupants::Seat;
use super::relaying::Relayed;
use super::room::{Change, Outcome, Outside, Room, STANDINGS_MAX, Standing};
use super::throttling::Pace;

/// Writes down what a room does.
pub(super) struct Written {
    pub now: i64,
    pub sent: Vec<(String, Stanza)>,
    pub out: Vec<Stanza>,
    pub kept: Vec<String>,
    pub changes: Vec<Change>,
    pub woken: Vec<BareJid>,
    pub pace: Pace,
}

impl Outside for Written {
    fn now(&self) -> DateTime {
        DateTime::from_unix_millis(self.now)
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn send(&mut self, seat: &Seat, stanza: &Stanza) {
        self.sent.push((seat.jid.to_bare().local().unwrap().to_owned(), stanza.clone()));
    }

    fn send_kept(&mut self, seat: &Seat, stanza: &Stanza) {
        self.send(seat, stanza);
    }

    fn send_out(&mut self, stanza: Stanza) {
        self.out.push(stanza);
    }

    fn send_private(&mut self, seats: &[Seat], stanza: &Stanza) {
        seats.iter().for_each(|seat| self.out.push(stanza.with(Attr::To, Some(seat.jid.as_str()))));
    }

    fn keep(&mut self, message: Stanza, also: Option<&Element>) -> Stanza {
        self.kept.push(also.map_or_else(|| message.clone(), |also| message.with_child(also)).text().to_owned());
        message.with_child(&Element::new("stanza-id", "urn:xmpp:sid:0").with_attr("id", self.kept.len().to_string()))
    }

    fn wake(&mut self, account: &BareJid, _nick: Option<&str>, _message: &Stanza) {
        self.woken.push(account.clone());
    }

    fn change(&mut self, change: Change) {
        self.changes.push(change);
    }
}

pub(super) struct Scene {
    pub room: Room,
    pub written: Written,
}

const ROOM: &str = "coven@chat.shakespeare.example";

pub(super) fn full(who: &str) -> FullJid {
    FullJid::parse(&format!("{who}@shakespeare.example/desktop")).unwrap()
}

pub(super) fn bare(who: &str) -> BareJid {
    full(who).to_bare()
}

pub(super) fn stanza(xml: &str) -> Stanza {
    Stanza::parse(xml.as_bytes()).unwrap()
}

impl Scene {
    /// A room of crone's.
    pub(super) fn new(config: RoomConfig) -> Self {
        let mut room = Room::new(BareJid::parse(ROOM).unwrap(), config, [1; 16]);
        room.restore(bare("crone"), Standing { affiliation: Affiliation::Owner, ..Standing::default() });
        let written = Written {
            now: 1_800_000_000_000,
            sent: vec![],
            out: vec![],
            kept: vec![],
            changes: vec![],
            woken: vec![],
            pace: Pace::default(),
        };
        Self { room, written }
    }

    /// A room in which these are, with their names for nicknames.
    pub(super) fn with(config: RoomConfig, names: &[&str]) -> Self {
        let mut scene = Self::new(config);
        names.iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.written.sent.clear();
        scene
    }

    pub(super) fn presence(&mut self, who: &str, nick: &str, xml: &str) -> Outcome {
        let seat = Seat { jid: full(who), session: None };
        self.room.presence(seat, Some(nick), &stanza(xml), &mut self.written)
    }

    pub(super) fn enters(&mut self, who: &str, nick: &str) -> Outcome {
        self.presence(who, nick, "<presence><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    }

    pub(super) fn says(&mut self, who: &str, body: &str) -> Outcome {
        let message = stanza(&format!("<message type='groupchat' id='1' to='{ROOM}'><body>{body}</body></message>"));
        self.room.groupchat(&full(who), &message, &mut self.written)
    }

    pub(super) fn admin(&mut self, who: &str, item: &str) -> Outcome {
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
        self.room.moderate(&full(who).into(), &query, &mut self.written)
    }

    /// What was sent since the last look: for each stanza to whom, from which nickname, and what says what it is.
    pub(super) fn sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.written.sent).iter().map(|(to, stanza)| summary(to, stanza)).collect()
    }
}

/// `crone < third: unavailable none/none 303,110`
fn summary(to: &str, stanza: &Stanza) -> String {
    let from = stanza.from().unwrap_or_default();
    let from = from.rsplit_once('/').map_or("room", |(_, nick)| nick);
    let mut line = format!("{to} < {from}:");
    if let Some(kind) = stanza.type_().filter(|kind| kind == "unavailable") {
        let _ = write!(line, " {kind}");
    }
    for child in stanza.children() {
        let element = child.element();
        match child.name {
            "body" => drop(write!(line, " '{}'", element.text())),
            "subject" => drop(write!(line, " subject '{}'", element.text())),
            "delay" => line.push_str(" (before)"),
            "x" => {
                if let Some(item) = element.children().find(|child| child.name() == "item") {
                    let attr = |name| item.attr(name).unwrap_or("-");
                    let _ = write!(line, " {}/{}", attr("affiliation"), attr("role"));
                    let jid = item.attr("jid").map(|jid| format!(" {}", jid.split_once('@').unwrap().0));
                    line.push_str(&jid.unwrap_or_default());
                    line.push_str(&item.attr("nick").map(|nick| format!(" now {nick}")).unwrap_or_default());
                }
                let codes = element.children().filter_map(|child| child.attr("code")).collect::<Vec<_>>().join(",");
                if !codes.is_empty() {
                    let _ = write!(line, " {codes}");
                }
            }
            _ => {}
        }
    }
    line
}

pub(super) fn condition(outcome: Outcome) -> StanzaCondition {
    outcome.unwrap_err().condition
}

#[test]
fn who_enters_is_told_of_the_others_of_itself_of_what_was_said_and_of_the_subject_in_this_order() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
    scene.says("crone", "Thrice the brinded cat hath mew'd.").unwrap();
    scene.sent();
    scene.enters("hag", "third").unwrap();
    assert_eq!(
        scene.sent(),
        [
            "crone < third: none/participant hag",
            "hag < crone: owner/moderator",
            "hag < third: none/participant 110,170",
            "hag < crone: 'Thrice the brinded cat hath mew'd.' (before)",
            "hag < room: subject ''",
        ]
    );
}

#[test]
fn addresses_are_for_moderators_unless_the_room_is_non_anonymous() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "second"]);
    scene.enters("hag", "third").unwrap();
    let shown = scene.sent();
    assert!(shown.contains(&"crone < third: none/participant hag".to_owned()), "{shown:?}");
    assert!(shown.contains(&"second < third: none/participant".to_owned()), "{shown:?}");
    let open = RoomConfig { whois: Whois::Anyone, ..RoomConfig::default() };
    let mut scene = Scene::with(open, &["crone", "second"]);
    scene.enters("hag", "third").unwrap();
    let shown = scene.sent();
    assert!(shown.contains(&"second < third: none/participant hag".to_owned()), "{shown:?}");
    assert!(shown.contains(&"hag < third: none/participant hag 110,100,170".to_owned()), "{shown:?}");
}

#[test]
fn who_may_not_enter_is_told_why() {
    let mut scene = Scene::new(RoomConfig { members_only: true, ..RoomConfig::default() });
    assert_eq!(condition(scene.enters("hag", "third")), StanzaCondition::RegistrationRequired);
    scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Outcast, ..Standing::default() });
    assert_eq!(condition(scene.enters("hag", "third")), StanzaCondition::Forbidden);
    let mut scene = Scene::new(RoomConfig { password: Some("cauldronburn".into()), ..RoomConfig::default() });
    assert_eq!(condition(scene.enters("hag", "third")), StanzaCondition::NotAuthorized);
    let with = |password: &str| {
        format!("<presence><x xmlns='http://jabber.org/protocol/muc'><password>{password}</password></x></presence>")
    };
    assert_eq!(condition(scene.presence("hag", "third", &with("cauldron"))), StanzaCondition::NotAuthorized);
    scene.presence("hag", "third", &with("cauldronburn")).unwrap();
    // §7.2.5: nor is an owner exempt.
    assert_eq!(condition(scene.enters("crone", "first")), StanzaCondition::NotAuthorized);
    scene.presence("crone", "first", &with("cauldronburn")).unwrap();
    let mut scene = Scene::with(RoomConfig { occupants_max: 1, ..RoomConfig::default() }, &["hag"]);
    assert_eq!(condition(scene.enters("second", "second")), StanzaCondition::ServiceUnavailable);
    // §7.2.9: owners and admins always.
    scene.enters("crone", "first").unwrap();
    scene.room.locked = true;
    assert_eq!(condition(scene.enters("second", "second")), StanzaCondition::ItemNotFound);
}

#[test]
fn a_new_room_opens_as_it_is_unless_its_owner_asks_for_its_form() {
    let new = || {
        let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
        scene.room.locked = true;
        scene.room.opens_at = Some(DateTime::from_unix_millis(scene.written.now + 10_000));
        assert_eq!(condition(scene.enters("hag", "third")), StanzaCondition::ItemNotFound);
        scene
    };
    // Its owner talks, names what it is about, or invites.
    let mut scene = new();
    scene.says("crone", "When shall we three meet again?").unwrap();
    scene.enters("hag", "third").unwrap();
    assert!(scene.written.changes.contains(&Change::Record));
    let mut scene = new();
    let subject = stanza(&format!("<message type='groupchat' to='{ROOM}'><subject>Fire Burn</subject></message>"));
    scene.room.groupchat(&full("crone"), &subject, &mut scene.written).unwrap();
    scene.enters("hag", "third").unwrap();
    let mut scene = new();
    let invitation = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='hag@shakespeare.example'/></x>";
    let invitation = stanza(&format!("<message to='{ROOM}'>{invitation}</message>"));
    scene.room.asked_by_message(&full("crone"), &invitation, &mut scene.written).unwrap();
    scene.enters("hag", "third").unwrap();
    // Or says nothing.
    let mut scene = new();
    scene.written.now += 10_000;
    scene.enters("hag", "third").unwrap();
    // Who has asked for the form is waited for.
    let mut scene = new();
    scene.room.configuration(&full("crone").into()).unwrap();
    scene.says("crone", "When shall we three meet again?").unwrap();
    scene.written.now += 3_600_000;
    assert_eq!(condition(scene.enters("hag", "third")), StanzaCondition::ItemNotFound);
}

#[test]
fn a_new_room_is_none_when_its_maker_goes_before_it_has_said_what_it_is_to_be() {
    // Whether it asked for the form, and for how long it was there.
    for (asked, millis, given_up) in [(false, 0, true), (true, 3_600_000, true), (false, 10_000, false)] {
        let mut scene = Scene::new(RoomConfig::default());
        scene.room.locked = true;
        scene.room.opens_at = Some(DateTime::from_unix_millis(scene.written.now + 10_000));
        scene.enters("crone", "crone").unwrap();
        let second = FullJid::parse("crone@shakespeare.example/phone").unwrap();
        let enter = stanza("<presence><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        let seat = Seat { jid: second.clone(), session: None };
        scene.room.presence(seat, Some("crone"), &enter, &mut scene.written).unwrap();
        if asked {
            scene.room.configuration(&full("crone").into()).unwrap();
        }
        scene.written.now += millis;
        let gone = stanza("<presence type='unavailable'/>");
        scene.room.leave(&second, &gone, &[], &mut scene.written);
        assert!(!scene.written.changes.contains(&Change::Destroyed));
        scene.written.sent.clear();
        scene.room.leave(&full("crone"), &gone, &[], &mut scene.written);
        assert!(scene.written.changes.contains(&Change::Destroyed));
        let told: Vec<bool> = scene.written.sent.iter().map(|(_, told)| told.text().contains("<destroy/>")).collect();
        assert_eq!(told, [given_up], "{asked} {millis}");
    }
}

#[test]
fn who_enters_with_another_nickname_where_it_is_already_is_told_all_again() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    scene.enters("hag", "oldhag").unwrap();
    assert_eq!(
        scene.sent(),
        [
            "crone < hag: unavailable none/participant hag now oldhag 303",
            "hag < hag: unavailable none/participant now oldhag 303,110",
            "crone < oldhag: none/participant hag",
            "hag < crone: owner/moderator",
            "hag < oldhag: none/participant 110,170",
            "hag < room: subject ''",
        ]
    );
}

#[test]
fn who_moderates_does_so_from_wherever_it_asks_and_an_admin_need_not_be_there() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag", "second"]);
    scene.admin("crone", "<item nick='hag' role='moderator'/>").unwrap();
    let elsewhere = Jid::parse("hag@shakespeare.example/phone").unwrap();
    let query = |item: &str| {
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        Element::parse(query.as_bytes(), "jabber:client").unwrap()
    };
    scene.room.moderate(&elsewhere, &query("<item nick='second' role='visitor'/>"), &mut scene.written).unwrap();
    // §9.8: but the list of moderators is for admins.
    let list = |scene: &Scene, who: &Jid, role: &str| scene.room.list(who, &query(&format!("<item role='{role}'/>"))).is_ok();
    assert!(list(&scene, &elsewhere, "visitor") && !list(&scene, &elsewhere, "moderator"));
    scene.room.restore(bare("hecate"), Standing { affiliation: Affiliation::Admin, ..Standing::default() });
    scene.admin("hecate", "<item nick='hag' role='none'/>").unwrap();
    assert!(list(&scene, &full("hecate").into(), "moderator"));
    assert_eq!(condition(scene.admin("hag", "<item nick='second' role='participant'/>")), StanzaCondition::Forbidden);
}

#[test]
fn a_nickname_is_one_accounts_in_whatever_way_it_is_written() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
    scene.enters("hag", "Third Witch").unwrap();
    for same in ["Third Witch", "third witch", "Third  Witch", "ｔｈｉｒｄ ｗｉｔｃｈ", "Third\u{a0}Witch"] {
        // What the address itself makes of it comes first.
        let Ok(address) = scene.room.address.with_resource(same) else { continue };
        let nick = address.resource().to_owned();
        assert_eq!(condition(scene.enters("second", &nick)), StanzaCondition::Conflict, "{same}");
    }
    assert_eq!(condition(scene.enters("second", " ")), StanzaCondition::JidMalformed);
    scene.enters("second", "Second Witch").unwrap();
    // A nickname that a member has reserved is not for others, though its owner is not there.
    let reserved = Standing { affiliation: Affiliation::Member, nick: Some("Hecate".into()), ..Standing::default() };
    scene.room.restore(bare("hecate"), reserved);
    assert_eq!(condition(scene.enters("macbeth", "HECATE")), StanzaCondition::Conflict);
    scene.enters("hecate", "hecate").unwrap();
}

#[test]
fn sessions_of_one_account_share_a_nickname_and_the_last_to_leave_takes_it_along() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    let second = Seat { jid: FullJid::parse("hag@shakespeare.example/phone").unwrap(), session: None };
    let enter = stanza("<presence><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    scene.room.presence(second.clone(), Some("hag"), &enter, &mut scene.written).unwrap();
    // Both know that it is their own.
    assert_eq!(scene.sent()[..2], ["hag < hag: none/participant 110", "crone < hag: none/participant hag"]);
    scene.says("crone", "Double, double").unwrap();
    assert_eq!(scene.sent().iter().filter(|line| line.starts_with("hag <")).count(), 2);
    let gone = stanza("<presence type='unavailable'/>");
    scene.room.presence(second, Some("hag"), &gone, &mut scene.written).unwrap();
    assert_eq!(scene.sent(), ["hag < hag: unavailable none/none 110"]);
    scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
    assert_eq!(scene.sent(), ["hag < hag: unavailable none/none 110", "crone < hag: unavailable none/none hag"]);
}

#[test]
fn another_nickname_is_told_as_a_leave_and_an_entrance() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    scene.presence("hag", "oldhag", "<presence/>").unwrap();
    assert_eq!(
        scene.sent(),
        [
            "crone < hag: unavailable none/participant hag now oldhag 303",
            "hag < hag: unavailable none/participant now oldhag 303,110",
            "crone < oldhag: none/participant hag",
            "hag < oldhag: none/participant 110",
        ]
    );
    assert_eq!(condition(scene.presence("hag", "CRONE", "<presence/>")), StanzaCondition::Conflict);
}

#[test]
fn a_message_reaches_everybody_with_its_id_and_the_archive_once() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    let forged = format!(
        "<message type='groupchat' id='x1' to='{ROOM}' from='hag@shakespeare.example/desktop'><body>Fire burn</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='forged'/>\
         <occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>\
         <x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></message>"
    );
    scene.room.groupchat(&full("hag"), &stanza(&forged), &mut scene.written).unwrap();
    assert_eq!((scene.written.sent.len(), scene.written.kept.len()), (2, 1));
    for (_, message) in &scene.written.sent {
        assert!(!message.text().contains("forged") && !message.text().contains("307"), "{}", message.text());
        assert_eq!((message.id().as_deref(), message.from().as_deref()), (Some("x1"), Some(&*format!("{ROOM}/hag"))));
        assert!(message.child("stanza-id", "urn:xmpp:sid:0").is_some());
        assert!(message.child("occupant-id", "urn:xmpp:occupant-id:0").is_some() && message.to().is_none());
    }
    assert_eq!(condition(scene.says("macbeth", "Is this a dagger")), StanzaCondition::NotAcceptable);
}

#[test]
fn visitors_of_a_moderated_room_hear_until_they_are_given_voice() {
    let mut scene = Scene::with(RoomConfig { moderated: true, ..RoomConfig::default() }, &["crone", "hag"]);
    assert_eq!(condition(scene.says("hag", "x")), StanzaCondition::Forbidden);
    scene.admin("crone", "<item nick='hag' role='participant'/>").unwrap();
    assert_eq!(scene.sent(), ["crone < hag: none/participant hag", "hag < hag: none/participant 110"]);
    scene.says("hag", "x").unwrap();
    assert_eq!(condition(scene.admin("hag", "<item nick='crone' role='visitor'/>")), StanzaCondition::Forbidden);
}

#[test]
fn who_is_kicked_or_banned_is_out_and_who_is_banned_stays_out() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    scene.admin("crone", "<item nick='hag' role='none'><reason>Avaunt</reason></item>").unwrap();
    assert_eq!(
        scene.sent(),
        ["hag < hag: unavailable none/none 110,307", "crone < hag: unavailable none/none hag 307"]
    );
    scene.enters("hag", "hag").unwrap();
    scene.sent();
    scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='outcast'/>").unwrap();
    assert_eq!(
        scene.sent(),
        ["hag < hag: unavailable outcast/none 110,301", "crone < hag: unavailable outcast/none hag 301"]
    );
    assert_eq!(condition(scene.enters("hag", "somebody")), StanzaCondition::Forbidden);
    assert!(scene.written.changes.contains(&Change::Standing(bare("hag"))));
}

#[test]
fn a_room_keeps_an_owner_and_a_request_is_done_whole_or_not_at_all() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    let last = scene.admin("crone", "<item jid='crone@shakespeare.example' affiliation='none'/>");
    assert_eq!(condition(last), StanzaCondition::Conflict);
    let items = "<item jid='hag@shakespeare.example' affiliation='member'/><item nick='nobody' role='none'/>";
    assert_eq!(condition(scene.admin("crone", items)), StanzaCondition::ItemNotFound);
    assert_eq!(scene.room.affiliation(&bare("hag")), Affiliation::None);
}

#[test]
fn the_lists_of_a_room_have_an_end_and_whoever_is_in_them_can_still_be_moved() {
    let mut scene = Scene::with(RoomConfig { members_only: true, ..RoomConfig::default() }, &["crone"]);
    (2..STANDINGS_MAX).for_each(|n| {
        let banned = Standing { affiliation: Affiliation::Outcast, ..Standing::default() };
        scene.room.restore(bare(&format!("witch{n}")), banned);
    });
    let both = "<item jid='hag@shakespeare.example' affiliation='member'/><item jid='x@y.example' affiliation='outcast'/>";
    assert_eq!(condition(scene.admin("crone", both)), StanzaCondition::ResourceConstraint);
    scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='member'/>").unwrap();
    let query = "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>\
                 <field var='muc#register_roomnick'><value>x</value></field></x></query>";
    let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
    let asks = scene.room.register(&full("second").into(), &query, &mut scene.written);
    assert_eq!(condition(asks), StanzaCondition::ResourceConstraint);
    let invite = "<message><x xmlns='http://jabber.org/protocol/muc#user'><invite to='second@y.example'/></x></message>";
    let invited = scene.room.asked_by_message(&full("crone"), &stanza(invite), &mut scene.written);
    assert_eq!(condition(invited.map(drop)), StanzaCondition::ResourceConstraint);
    scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='admin'/>").unwrap();
    scene.admin("crone", "<item jid='witch2@shakespeare.example' affiliation='none'/>").unwrap();
    scene.admin("crone", "<item jid='second@y.example' affiliation='member'/>").unwrap();
}

#[test]
fn a_room_that_does_not_last_ends_with_its_last_occupant() {
    for (persistent, ends) in [(false, true), (true, false)] {
        let mut scene = Scene::with(RoomConfig { persistent, ..RoomConfig::default() }, &["crone", "hag"]);
        for who in ["crone", "hag"] {
            assert!(!scene.written.changes.contains(&Change::Destroyed));
            scene.presence(who, who, "<presence type='unavailable'/>").unwrap();
        }
        assert_eq!(scene.written.changes.contains(&Change::Destroyed), ends);
    }
}

#[test]
fn an_iq_finds_its_way_to_an_occupant_and_back_and_a_ping_to_oneself_tells_whether_one_is_there() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    let ping = stanza("<iq type='get' id='p' to='x'><ping xmlns='urn:xmpp:ping'/></iq>");
    let relay = |scene: &mut Scene, who: &str, nick: &str, iq: &Stanza| {
        scene.room.relay(&full(who), nick, iq, &mut scene.written)
    };
    assert_eq!(relay(&mut scene, "hag", "hag", &ping), Ok(Relayed::Here));
    assert_eq!(relay(&mut scene, "macbeth", "hag", &ping).unwrap_err().condition, StanzaCondition::NotAcceptable);
    assert_eq!(relay(&mut scene, "hag", "nobody", &ping).unwrap_err().condition, StanzaCondition::ItemNotFound);
    let version = stanza("<iq type='get' id='v1' to='x'><query xmlns='jabber:iq:version'/></iq>");
    assert_eq!(relay(&mut scene, "hag", "crone", &version), Ok(Relayed::Passed));
    let (to, passed) = scene.written.sent.pop().unwrap();
    assert_eq!((&*to, passed.from().as_deref()), ("crone", Some(&*format!("{ROOM}/hag"))));
    let answer = passed.reply("result", true, None);
    relay(&mut scene, "crone", "hag", &answer).unwrap();
    let (to, answer) = scene.written.sent.pop().unwrap();
    assert_eq!((&*to, answer.id().as_deref()), ("hag", Some("v1")));
    // An answer that nobody asked for.
    relay(&mut scene, "crone", "hag", &stanza("<iq type='result' id='AAAAAAAAv1'/>")).unwrap();
    assert!(scene.written.sent.is_empty());
}

#[test]
fn private_messages_go_to_one_occupant_as_the_room_lets() {
    use magpie_proto::xeps::muc_config::AllowPm;
    let message = stanza("<message type='chat' id='1'><body>psst</body></message>");
    for (allow_pm, between, to_moderator) in [
        (AllowPm::Anyone, true, true),
        (AllowPm::Participants, true, true),
        (AllowPm::Moderators, false, true),
        (AllowPm::None, false, false),
    ] {
        let mut scene = Scene::with(RoomConfig { allow_pm, ..RoomConfig::default() }, &["crone", "hag", "second"]);
        let sent =
            |scene: &mut Scene, nick| scene.room.private(&full("hag"), nick, &message, &mut scene.written).is_ok();
        assert_eq!((sent(&mut scene, "second"), sent(&mut scene, "crone")), (between, to_moderator), "{allow_pm:?}");
        assert!(scene.written.out.iter().all(|message| message.from().as_deref() == Some(&*format!("{ROOM}/hag"))));
    }
}

#[test]
fn slow_mode_lets_an_occupant_speak_again_after_a_while() {
    let mut scene = Scene::with(RoomConfig { slow_mode_seconds: 10, ..RoomConfig::default() }, &["crone", "hag"]);
    scene.says("hag", "one").unwrap();
    assert_eq!(condition(scene.says("hag", "two")), StanzaCondition::PolicyViolation);
    scene.written.now += 10_000;
    scene.says("hag", "two").unwrap();
    scene.says("crone", "three").unwrap();
    scene.says("crone", "four").unwrap();
}

#[test]
fn a_room_remembers_as_many_messages_as_fit() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
    for number in 0..5 {
        scene.says("crone", &format!("{number}{}", "x".repeat(300_000))).unwrap();
    }
    let remembered: Vec<String> = scene
        .room
        .history
        .iter()
        .map(|said| said.message.child("body", "jabber:client").unwrap().element().text()[..1].to_owned())
        .collect();
    assert_eq!(remembered, ["2", "3", "4"]);
}

#[test]
fn an_invitation_to_a_members_only_room_makes_a_member() {
    let mut scene = Scene::with(RoomConfig { members_only: true, ..RoomConfig::default() }, &["crone"]);
    let invite = stanza(
        "<message><x xmlns='http://jabber.org/protocol/muc#user'><invite to='hecate@shakespeare.example'>\
         <reason>Come</reason></invite></x></message>",
    );
    assert_eq!(scene.room.asked_by_message(&full("crone"), &invite, &mut scene.written), Ok(true));
    assert_eq!(scene.room.affiliation(&bare("hecate")), Affiliation::Member);
    let sent = &scene.written.out[0];
    assert_eq!(sent.to().as_deref(), Some("hecate@shakespeare.example"));
    assert!(sent.child("x", "jabber:x:conference").is_some(), "{}", sent.text());
    scene.enters("hecate", "hecate").unwrap();
}

#[test]
fn a_configuration_that_shuts_occupants_out_removes_them() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
    let form = RoomConfig { members_only: true, ..RoomConfig::default() };
    let form = form.form(magpie_proto::xeps::data_forms::FormKind::Submit).element();
    let query = Element::new("query", "http://jabber.org/protocol/muc#owner").with(form);
    let refused = scene.room.configure(&Jid::from(full("hag")), &query, &mut scene.written);
    assert_eq!(condition(refused), StanzaCondition::Forbidden);
    scene.room.configure(&Jid::from(full("crone")), &query, &mut scene.written).unwrap();
    assert_eq!(
        scene.sent(),
        ["hag < hag: unavailable none/none 110,322", "crone < hag: unavailable none/none hag 322", "crone < room: 104"]
    );
}

#[test]
fn a_member_whose_session_ends_stays_in_a_room_that_lasts_and_one_who_leaves_does_not() {
    let gone = "<presence type='unavailable'/>";
    for (leaves, persistent, member, woken) in
        [(false, true, true, true), (true, true, true, false), (false, false, true, false), (false, true, false, false)]
    {
        let mut scene = Scene::new(RoomConfig { persistent, ..RoomConfig::default() });
        if member {
            scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        }
        scene.enters("crone", "crone").unwrap();
        scene.enters("hag", "hag").unwrap();
        match leaves {
            true => scene.presence("hag", "hag", gone).unwrap(),
            false => scene.room.leave(&full("hag"), &stanza(gone), &[], &mut scene.written),
        }
        scene.says("crone", "When shall we three meet again").unwrap();
        assert_eq!(scene.written.woken == [bare("hag")], woken, "{leaves} {persistent} {member}");
        // Who is there again hears it, and whoever is banned is out for good.
        scene.written.woken.clear();
        scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='outcast'/>").unwrap();
        scene.says("crone", "In thunder, lightning, or in rain?").unwrap();
        assert!(scene.written.woken.is_empty());
    }
}
