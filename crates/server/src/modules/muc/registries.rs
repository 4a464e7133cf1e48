//! The other tables of XEP-0045 and what it registers (§16), by what a room does.

#![allow(clippy::unwrap_used)]

use magpie_proto::xeps::data_forms::{Form, FormKind};
use magpie_proto::xeps::muc::{self, Affiliation, Role};
use magpie_proto::xeps::muc_config::{RoomConfig, Whois};
use magpie_proto::xml::Element;
use magpie_proto::{Jid, StanzaCondition};

use super::room::Standing;
use super::tables::with_hag;
use super::tests::{Scene, bare, condition, full, stanza};
use super::throttling::Takers;
use crate::config;

#[test]
fn history_is_cut_by_the_attributes_of_7_2_14() {
    let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
    for body in ["one", "two", "three"] {
        scene.written.now += 60_000;
        scene.says("crone", body).unwrap();
    }
    scene.written.now += 60_000;
    let mut told = |attributes: &str| {
        scene.sent();
        let x = format!("<x xmlns='{}'><history {attributes}/></x>", muc::NS);
        scene.presence("hag", "hag", &format!("<presence>{x}</presence>")).unwrap();
        let history: Vec<_> = scene.written.sent.iter().filter(|(_, sent)| sent.child("body", "jabber:client").is_some()).collect();
        let chars: usize = history.iter().map(|(_, sent)| sent.text().chars().count()).sum();
        (history.len(), chars)
    };
    let (all, chars) = told("");
    assert_eq!(all, 3);
    for (attributes, expected) in [
        ("maxchars='0'".to_owned(), 0),
        (format!("maxchars='{chars}'"), 3),
        (format!("maxchars='{}'", chars - 1), 2),
        ("maxstanzas='2'".to_owned(), 2),
        ("seconds='60'".to_owned(), 1),
        ("since='2027-01-15T08:02:00Z'".to_owned(), 2),
        ("since='1970-01-01T00:00:00Z'".to_owned(), 3),
        // Any combination, the smallest of them.
        (format!("maxchars='{chars}' maxstanzas='2' seconds='60'"), 1),
    ] {
        assert_eq!(told(&attributes).0, expected, "{attributes}");
    }
}

#[test]
fn who_may_not_enter_gets_the_errors_of_7_2_17() {
    use StanzaCondition as Condition;
    let room = RoomConfig::default;
    let entered = |config: RoomConfig, prepare: fn(&mut Scene)| {
        let mut scene = Scene::new(config);
        prepare(&mut scene);
        condition(scene.enters("hag", "third"))
    };
    let takers = Takers::default();
    let made_by_admins = config::Rooms { made_by: config::RoomMakers::Admins, ..config::Rooms::default() };
    let reserve = |scene: &mut Scene| {
        let nick = Some("Third".to_owned());
        scene.room.restore(bare("second"), Standing { affiliation: Affiliation::Member, nick, ..Standing::default() });
    };
    for (expected, found) in [
        (Condition::NotAuthorized, entered(RoomConfig { password: Some("x".into()), ..room() }, |_| {})),
        (Condition::Forbidden, entered(room(), |scene| scene.stands("hag", Affiliation::Outcast))),
        (Condition::ItemNotFound, entered(room(), |scene| scene.room.locked = true)),
        (Condition::NotAllowed, condition(takers.make_room(&bare("hag"), false, &made_by_admins, 0))),
        (Condition::RegistrationRequired, entered(RoomConfig { members_only: true, ..room() }, |_| {})),
        (Condition::Conflict, entered(room(), |scene| scene.enters("second", "third").unwrap())),
        (Condition::Conflict, entered(room(), reserve)),
        (
            Condition::ServiceUnavailable,
            entered(RoomConfig { occupants_max: 1, ..room() }, |scene| scene.enters("second", "second").unwrap()),
        ),
    ] {
        assert_eq!(found, expected);
    }
    // `not-acceptable`: whoever has reserved a nickname may have another all the same.
    let mut scene = Scene::new(room());
    reserve(&mut scene);
    scene.enters("second", "another").unwrap();
}

#[test]
fn status_codes_of_16_6_2_are_said_where_the_registry_says() {
    let room = RoomConfig::default;
    let open = || RoomConfig { whois: Whois::Anyone, ..room() };
    let closed = || RoomConfig { members_only: true, ..room() };
    let becomes = |from: RoomConfig, to: RoomConfig| {
        let mut scene = Scene::with(from, &["crone", "hag"]);
        scene.owner_sets("crone", to.form(FormKind::Submit).element()).unwrap();
        scene
    };
    let enters = |config: RoomConfig, locked: bool| {
        let mut scene = Scene::new(config);
        scene.room.locked = locked;
        scene.enters("crone", "crone").unwrap();
        scene
    };
    let acted = |config: RoomConfig, item: &str| {
        let mut scene = Scene::new(config);
        scene.stands("hag", Affiliation::Member);
        ["crone", "hag"].iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.admin("crone", item).unwrap();
        scene
    };
    let leaves = |status| {
        let mut scene = Scene::with(room(), &["crone", "hag"]);
        scene.room.leave(&full("hag"), &stanza("<presence type='unavailable'/>"), &[status], &mut scene.written);
        scene
    };
    let fails = || {
        let mut scene = Scene::with(room(), &["crone", "hag"]);
        scene.room.answered_with_error(&full("hag"), &stanza("<message type='error'/>"), &mut scene.written);
        scene
    };
    let renamed = || {
        let mut scene = Scene::with(room(), &["crone", "hag"]);
        scene.presence("hag", "oldhag", "<presence/>").unwrap();
        scene
    };
    let hag = "jid='hag@shakespeare.example'";
    for (code, name, scene) in [
        (100, "presence", enters(open(), false)),
        (104, "message", becomes(room(), RoomConfig { moderated: true, ..room() })),
        (110, "presence", enters(room(), false)),
        (170, "presence", enters(room(), false)),
        (170, "message", becomes(RoomConfig { archived: false, ..room() }, room())),
        (171, "message", becomes(room(), RoomConfig { archived: false, ..room() })),
        (172, "message", becomes(room(), open())),
        (173, "message", becomes(open(), room())),
        (201, "presence", enters(room(), true)),
        (301, "presence", acted(room(), &format!("<item {hag} affiliation='outcast'/>"))),
        (303, "presence", renamed()),
        (307, "presence", acted(room(), "<item nick='hag' role='none'/>")),
        (321, "presence", acted(closed(), &format!("<item {hag} affiliation='none'/>"))),
        (322, "presence", becomes(room(), closed())),
        (332, "presence", leaves(muc::Status::Shutdown)),
        (333, "presence", fails()),
    ] {
        let says = |line: &(String, magpie_proto::Stanza)| {
            line.1.name() == name && line.1.text().contains(&format!("<status code='{code}'/>"))
        };
        let sent = &scene.written.sent;
        assert!(sent.iter().any(says), "{code}: {:?}", sent.iter().map(|(_, stanza)| stanza.text()).collect::<Vec<_>>());
    }
    let farewell = Scene::with(room(), &["crone"]).room.farewell(&full("crone")).unwrap();
    assert!(farewell.text().contains("<status code='110'/><status code='332'/>"), "{}", farewell.text());
    // 101 may be sent to who is not there, 102 and 103 are of rooms that show who is not, 210 of those that change nicknames: no room
    // here does.
}

#[test]
fn fields_of_16_5_are_those_of_the_forms() {
    let vars = |form: &Form| form.fields.iter().filter_map(|field| field.var.clone()).collect::<Vec<_>>();
    let scene = Scene::with(RoomConfig { pubsub: "xmpp:x?;node=y".into(), ..RoomConfig::default() }, &["crone"]);
    let mut room = scene.room;
    let form = room.configuration(&Jid::from(full("crone"))).unwrap();
    let configured = vars(&Form::of(&form).unwrap());
    for var in [
        "allowpm", "allowinvites", "changesubject", "enablelogging", "getmemberlist", "lang", "pubsub", "maxusers", "membersonly",
        "moderatedroom", "passwordprotectedroom", "persistentroom", "presencebroadcast", "publicroom", "roomadmins", "roomdesc",
        "roomname", "roomowners", "roomsecret", "whois",
    ] {
        assert!(configured.contains(&format!("muc#roomconfig_{var}")), "{var}");
    }
    assert!(configured.contains(&"muc#maxhistoryfetch".to_owned()));
    let mut written = super::tests::Scene::new(RoomConfig::default()).written;
    let subject = stanza("<message type='groupchat'><subject>Fire</subject></message>");
    room.groupchat(&full("crone"), &subject, &mut written).unwrap();
    room.config.whois = Whois::Anyone;
    let info = room.info(&Jid::from(full("crone")), None).unwrap();
    let told = vars(&info.forms[0]);
    // `ldapgroup` and `logs`: there are none.
    for var in ["contactjid", "description", "lang", "occupants", "subject", "subjectmod"] {
        assert!(told.contains(&format!("muc#roominfo_{var}")), "{var}");
    }
    assert!(told.contains(&"muc#maxhistoryfetch".to_owned()));
    // What an admin is asked: of who wants to become a member all that it says of itself, of who wants to speak who it is.
    let mut scene = Scene::with(RoomConfig { members_only: true, ..RoomConfig::default() }, &["crone"]);
    let said = ["first", "last", "roomnick", "url", "email", "faqentry"];
    let fields: String =
        said.iter().map(|var| format!("<field var='muc#register_{var}'><value>x</value></field>")).collect();
    let query = format!("<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>{fields}</x></query>");
    let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
    scene.room.register(&full("hag").into(), &query, &mut scene.written).unwrap();
    let asked = |scene: &Scene| {
        let (_, message) = scene.written.sent.iter().rfind(|(to, _)| to == "crone").unwrap();
        vars(&message.children().find_map(|child| Form::parse(&child.element())).unwrap())
    };
    for var in said.iter().chain(&["allow"]) {
        assert!(asked(&scene).contains(&format!("muc#register_{var}")), "{var}");
    }
    let mut scene = with_hag(Role::Visitor);
    let request = "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>\
                   <field var='muc#role'><value>participant</value></field>";
    assert!(scene.asks_by_message("hag", &format!("<x xmlns='jabber:x:data' type='submit'>{request}</x>")));
    for var in ["muc#role", "muc#jid", "muc#roomnick", "muc#request_allow"] {
        assert!(asked(&scene).contains(&var.to_owned()), "{var}");
    }
}

#[test]
fn features_of_16_3_say_what_a_room_is() {
    let room = RoomConfig::default;
    for (config, feature) in [
        (RoomConfig { public: false, ..room() }, "muc_hidden"),
        (RoomConfig { members_only: true, ..room() }, "muc_membersonly"),
        (RoomConfig { moderated: true, ..room() }, "muc_moderated"),
        (RoomConfig { whois: Whois::Anyone, ..room() }, "muc_nonanonymous"),
        (room(), "muc_open"),
        (RoomConfig { password: Some("x".into()), ..room() }, "muc_passwordprotected"),
        (RoomConfig { persistent: true, ..room() }, "muc_persistent"),
        (room(), "muc_public"),
        (room(), "muc_semianonymous"),
        (room(), "muc_temporary"),
        (room(), "muc_unmoderated"),
        (room(), "muc_unsecured"),
        (room(), "http://jabber.org/protocol/muc#register"),
        (room(), "http://jabber.org/protocol/muc#roomconfig"),
        (room(), "http://jabber.org/protocol/muc#roominfo"),
        (room(), "http://jabber.org/protocol/muc#stable_id"),
    ] {
        let info = Scene::new(config.clone()).room.info(&Jid::from(full("crone")), None).unwrap();
        assert!(info.features.iter().any(|told| told == feature), "{feature}");
        let opposite = match feature {
            "muc_hidden" => "muc_public",
            "muc_membersonly" => "muc_open",
            "muc_moderated" => "muc_unmoderated",
            "muc_nonanonymous" => "muc_semianonymous",
            "muc_passwordprotected" => "muc_unsecured",
            "muc_persistent" => "muc_temporary",
            _ => continue,
        };
        assert!(!info.features.iter().any(|told| told == opposite), "{opposite}");
    }
    let info = Scene::new(RoomConfig { registration: false, ..room() }).room.info(&Jid::from(full("crone")), None).unwrap();
    assert!(!info.features.iter().any(|told| told == muc::REGISTER));
}
