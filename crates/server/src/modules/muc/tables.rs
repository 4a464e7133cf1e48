//! The tables of XEP-0045 §5, cell by cell, by what a room does. `registries.rs` has the others.

#![allow(clippy::unwrap_used)]

use magpie_proto::xeps::data_forms::FormKind;
use magpie_proto::xeps::muc::{self, Affiliation, Role};
use magpie_proto::xeps::muc_config::{Roles, RoomConfig, Whois};
use magpie_proto::xml::Element;

use super::privileges::default_role;
use super::room::{Change, Outcome, Standing};
use super::tests::{Scene, bare, full, stanza};

const AWAY: &str = "<presence><show>away</show></presence>";

impl Scene {
    pub(super) fn stands(&mut self, who: &str, affiliation: Affiliation) {
        let standing = Standing { affiliation, ..Standing::default() };
        match affiliation {
            Affiliation::None => assert!(self.room.standing(&bare(who)).is_none()),
            _ => self.room.restore(bare(who), standing),
        }
    }

    fn role(&self, nick: &str) -> Option<Role> {
        self.room.occupants.named(nick).map(|occupant| occupant.role)
    }

    pub(super) fn owner_sets(&mut self, who: &str, child: Element) -> Outcome {
        let query = Element::new("query", muc::NS_OWNER).with(child);
        self.room.configure(&full(who).into(), &query, &mut self.written)
    }

    fn lists(&self, who: &str, item: &str) -> bool {
        let query = format!("<query xmlns='{}'>{item}</query>", muc::NS_ADMIN);
        let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
        self.room.list(&full(who).into(), &query).is_ok()
    }

    pub(super) fn asks_by_message(&mut self, who: &str, child: &str) -> bool {
        let message = stanza(&format!("<message>{child}</message>"));
        self.room.asked_by_message(&full(who), &message, &mut self.written) == Ok(true)
    }

    /// Whether somebody has got something from a nickname since the last look.
    fn has_got(&mut self, who: &str, from: &str) -> bool {
        self.sent().iter().any(|line| line.starts_with(&format!("{who} < {from}:")))
    }
}

/// A moderated room of crone's, in which hag has this role and no affiliation; a visitor and a participant are there as well.
pub(super) fn with_hag(role: Role) -> Scene {
    let config = RoomConfig { moderated: true, change_subject: true, ..RoomConfig::default() };
    let mut scene = Scene::with(config, &["crone", "visitor", "participant"]);
    scene.admin("crone", "<item nick='participant' role='participant'/>").unwrap();
    if role != Role::None {
        scene.enters("hag", "hag").unwrap();
        scene.admin("crone", &format!("<item nick='hag' role='{}'/>", role.name())).unwrap();
    }
    scene.sent();
    scene
}

/// Whether hag can do something.
type Attempt = fn(&mut Scene) -> bool;

/// A privilege, in which room, and which affiliations have it.
type AffiliationRow = (&'static str, fn() -> RoomConfig, Attempt, [Option<bool>; 5]);

#[test]
fn privileges_of_roles_are_those_of_5_1_1() {
    let table: [(&str, Attempt, [bool; 4]); 13] = [
        // none, visitor, participant, moderator
        ("present in room", |scene| scene.role("hag").is_some(), [false, true, true, true]),
        (
            "receive messages",
            |scene| scene.says("crone", "x").is_ok() && scene.has_got("hag", "crone"),
            [false, true, true, true],
        ),
        (
            "receive occupant presence",
            |scene| scene.presence("crone", "crone", AWAY).is_ok() && scene.has_got("hag", "crone"),
            [false, true, true, true],
        ),
        (
            "broadcast presence to all",
            |scene| scene.presence("hag", "hag", AWAY).is_ok() && scene.has_got("visitor", "hag"),
            [false, true, true, true],
        ),
        (
            "change availability status",
            |scene| {
                let _ = scene.presence("hag", "hag", AWAY);
                scene.written.sent.iter().any(|(to, shown)| to == "crone" && shown.text().contains("away"))
            },
            [false, true, true, true],
        ),
        (
            "change room nickname",
            |scene| scene.presence("hag", "oldhag", "<presence/>").is_ok() && scene.role("oldhag").is_some(),
            [false, true, true, true],
        ),
        (
            "send private messages",
            |scene| {
                let message = stanza("<message type='chat'><body>psst</body></message>");
                scene.room.private(&full("hag"), "visitor", &message, &mut scene.written).is_ok()
            },
            [false, true, true, true],
        ),
        (
            "invite other users",
            |scene| {
                let to = "<invite to='hecate@shakespeare.example'/>";
                scene.asks_by_message("hag", &format!("<x xmlns='{}'>{to}</x>", muc::NS_USER))
            },
            [false, true, true, true],
        ),
        ("send messages to all", |scene| scene.says("hag", "x").is_ok(), [false, false, true, true]),
        (
            "modify subject, where the room lets participants",
            |scene| {
                let subject = stanza("<message type='groupchat'><subject>Fire</subject></message>");
                scene.room.groupchat(&full("hag"), &subject, &mut scene.written).is_ok()
            },
            [false, false, true, true],
        ),
        (
            "kick participants and visitors",
            |scene| {
                scene.admin("hag", "<item nick='participant' role='none'/>").is_ok()
                    && scene.admin("hag", "<item nick='visitor' role='none'/>").is_ok()
            },
            [false, false, false, true],
        ),
        (
            "grant voice",
            |scene| scene.admin("hag", "<item nick='visitor' role='participant'/>").is_ok(),
            [false, false, false, true],
        ),
        (
            "revoke voice",
            |scene| scene.admin("hag", "<item nick='participant' role='visitor'/>").is_ok(),
            [false, false, false, true],
        ),
    ];
    for (privilege, attempt, expected) in table {
        let found = [Role::None, Role::Visitor, Role::Participant, Role::Moderator].map(|role| attempt(&mut with_hag(role)));
        assert_eq!(found, expected, "{privilege}");
    }
}

#[test]
fn presence_is_broadcast_for_the_roles_that_the_configuration_names() {
    let roles = [Role::Visitor, Role::Participant, Role::Moderator];
    for shown in 0..1 << roles.len() {
        let named: Vec<Role> = (0..roles.len()).filter(|n| shown & (1 << n) != 0).map(|n| roles[n]).collect();
        for role in roles {
            let mut scene = with_hag(role);
            scene.room.config.broadcast = named.iter().fold(Roles::default(), |roles, role| roles.with(*role));
            scene.presence("hag", "hag", AWAY).unwrap();
            let sent = scene.sent();
            let told = |who: &str| sent.iter().any(|line| line.starts_with(&format!("{who} < hag:")));
            assert!(told("hag"), "{role:?} {named:?}");
            assert_eq!(["visitor", "participant", "crone"].map(told), [named.contains(&role); 3], "{role:?} {named:?}");
            scene.enters("late", "late").unwrap();
            assert_eq!(scene.has_got("late", "hag"), named.contains(&role), "{role:?} {named:?}");
            scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
            assert_eq!(scene.has_got("late", "hag"), named.contains(&role), "{role:?} {named:?}");
        }
    }
}

#[test]
fn users_enter_with_the_initial_roles_of_5_1_2() {
    use Role::{Moderator, Participant, Visitor};
    let room = RoomConfig::default;
    for (config, expected) in [
        // none, member, admin, owner; `None`: it does not enter
        (RoomConfig { moderated: true, ..room() }, [Some(Visitor), Some(Participant), Some(Moderator), Some(Moderator)]),
        (room(), [Some(Participant), Some(Participant), Some(Moderator), Some(Moderator)]),
        (RoomConfig { members_only: true, ..room() }, [None, Some(Participant), Some(Moderator), Some(Moderator)]),
        (RoomConfig { members_only: false, ..room() }, [Some(Participant), Some(Participant), Some(Moderator), Some(Moderator)]),
    ] {
        let affiliations = [Affiliation::None, Affiliation::Member, Affiliation::Admin, Affiliation::Owner];
        let found = affiliations.map(|affiliation| {
            let mut scene = Scene::new(config.clone());
            scene.stands("hag", affiliation);
            let _ = scene.enters("hag", "hag");
            scene.role("hag")
        });
        assert_eq!(found, expected, "{config:?}");
    }
    assert_eq!(default_role(Affiliation::Outcast, false), Role::None);
}

#[test]
fn roles_are_changed_by_whom_5_1_3_says() {
    use Role::{Moderator, None as Nobody, Participant, Visitor};
    /// Who makes an occupant what it is not.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum By {
        /// A moderator, or an admin or owner.
        Moderator,
        /// An admin or owner.
        Admin,
    }
    for (from, to, by) in [
        (Visitor, Nobody, By::Moderator),
        (Visitor, Participant, By::Moderator),
        (Visitor, Moderator, By::Admin),
        (Participant, Nobody, By::Moderator),
        (Participant, Visitor, By::Moderator),
        (Participant, Moderator, By::Admin),
        (Moderator, Nobody, By::Admin),
        (Moderator, Visitor, By::Admin),
        (Moderator, Participant, By::Admin),
    ] {
        for (affiliation, role) in [
            (Affiliation::None, Visitor),
            (Affiliation::None, Participant),
            (Affiliation::None, Moderator),
            (Affiliation::Member, Moderator),
            (Affiliation::Admin, Moderator),
            (Affiliation::Owner, Moderator),
        ] {
            let mut scene = with_hag(from);
            scene.stands("second", affiliation);
            scene.enters("second", "second").unwrap();
            scene.admin("crone", &format!("<item nick='second' role='{}'/>", role.name())).unwrap();
            let changed = scene.admin("second", &format!("<item nick='hag' role='{}'/>", to.name())).is_ok();
            let may = role == Moderator && (by == By::Moderator || affiliation >= Affiliation::Admin);
            assert_eq!(changed, may, "{affiliation:?} {role:?}: {from:?} to {to:?}");
            assert_eq!(scene.role("hag"), if may { Some(to).filter(|to| *to != Nobody) } else { Some(from) });
        }
        // The first column once more: everybody goes by itself.
        let mut scene = with_hag(from);
        scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
        assert_eq!(scene.role("hag"), None);
    }
}

#[test]
fn privileges_of_affiliations_are_those_of_5_2_1() {
    fn open() -> RoomConfig {
        RoomConfig { whois: Whois::Anyone, ..RoomConfig::default() }
    }
    fn closed() -> RoomConfig {
        RoomConfig { members_only: true, ..RoomConfig::default() }
    }
    let (no, yes, not_said) = (Some(false), Some(true), None);
    let table: [AffiliationRow; 12] = [
        // outcast, none, member, admin, owner
        ("enter open room", open, |scene| scene.enters("hag", "hag").is_ok(), [no, yes, yes, yes, yes]),
        (
            "register with open room",
            open,
            |scene| {
                let form = "<x xmlns='jabber:x:data' type='submit'><field var='muc#register_roomnick'><value>x</value></field></x>";
                let query = format!("<query xmlns='jabber:iq:register'>{form}</query>");
                let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
                scene.room.register(&full("hag").into(), &query, &mut scene.written).is_ok()
                    && scene.room.affiliation(&bare("hag")) == Affiliation::Member
            },
            [no, yes, not_said, not_said, not_said],
        ),
        ("retrieve member list", open, |scene| scene.lists("hag", "<item affiliation='member'/>"), [no, no, yes, yes, yes]),
        (
            "the same where addresses are secret",
            RoomConfig::default,
            |scene| scene.lists("hag", "<item affiliation='member'/>"),
            [no, no, no, yes, yes],
        ),
        ("enter members-only room", closed, |scene| scene.enters("hag", "hag").is_ok(), [no, no, yes, yes, yes]),
        (
            "ban members and unaffiliated users",
            open,
            |scene| {
                scene.admin("hag", "<item jid='member@shakespeare.example' affiliation='outcast'/>").is_ok()
                    && scene.admin("hag", "<item jid='nobody@shakespeare.example' affiliation='outcast'/>").is_ok()
            },
            [no, no, no, yes, yes],
        ),
        (
            "edit member list",
            open,
            |scene| {
                scene.admin("hag", "<item jid='nobody@shakespeare.example' affiliation='member'/>").is_ok()
                    && scene.admin("hag", "<item jid='member@shakespeare.example' affiliation='none'/>").is_ok()
            },
            [no, no, no, yes, yes],
        ),
        (
            "assign and remove moderator role",
            open,
            |scene| {
                scene.enters("second", "second").unwrap();
                ["moderator", "participant"].iter().all(|role| {
                    scene.admin("hag", &format!("<item nick='second' role='{role}'/>")).is_ok()
                })
            },
            [no, no, no, yes, yes],
        ),
        (
            "edit admin list",
            open,
            |scene| scene.admin("hag", "<item jid='nobody@shakespeare.example' affiliation='admin'/>").is_ok(),
            [no, no, no, no, yes],
        ),
        (
            "edit owner list",
            open,
            |scene| scene.admin("hag", "<item jid='nobody@shakespeare.example' affiliation='owner'/>").is_ok(),
            [no, no, no, no, yes],
        ),
        (
            "change room configuration",
            open,
            |scene| {
                let form = RoomConfig { moderated: true, ..open() }.form(FormKind::Submit).element();
                scene.owner_sets("hag", form).is_ok() && scene.room.config.moderated
            },
            [no, no, no, no, yes],
        ),
        (
            "destroy room",
            open,
            |scene| {
                scene.owner_sets("hag", Element::new("destroy", muc::NS_OWNER)).is_ok()
                    && scene.written.changes.contains(&Change::Destroyed)
            },
            [no, no, no, no, yes],
        ),
    ];
    for (privilege, config, attempt, expected) in table {
        for (affiliation, expected) in Affiliation::ALL.iter().zip(expected) {
            let mut scene = Scene::new(config());
            scene.stands("hag", *affiliation);
            scene.stands("member", Affiliation::Member);
            let found = attempt(&mut scene);
            assert_eq!(found, expected.unwrap_or(found), "{privilege}: {affiliation:?}");
        }
    }
}

#[test]
fn affiliations_are_changed_by_whom_5_2_2_says() {
    use Affiliation::{Admin, Member, None as Nothing, Outcast, Owner};
    for (from, row) in [
        // to outcast, none, member, admin, owner: the least of those who may
        (Outcast, [None, Some(Admin), Some(Admin), Some(Owner), Some(Owner)]),
        (Nothing, [Some(Admin), None, Some(Admin), Some(Owner), Some(Owner)]),
        (Member, [Some(Admin), Some(Admin), None, Some(Owner), Some(Owner)]),
        (Admin, [Some(Owner), Some(Owner), Some(Owner), None, Some(Owner)]),
        (Owner, [Some(Owner), Some(Owner), Some(Owner), Some(Owner), None]),
    ] {
        for (to, least) in Affiliation::ALL.iter().zip(row) {
            let Some(least) = least else { continue };
            for actor in Affiliation::ALL {
                let mut scene = Scene::new(RoomConfig::default());
                scene.stands("hag", from);
                scene.stands("second", *actor);
                let item = format!("<item jid='hag@shakespeare.example' affiliation='{}'/>", to.name());
                let changed = scene.admin("second", &item).is_ok();
                assert_eq!(changed, *actor >= least, "{actor:?}: {from:?} to {to:?}");
                let now = if changed { *to } else { from };
                assert_eq!(scene.room.affiliation(&bare("hag")), now, "{actor:?}: {from:?} to {to:?}");
            }
        }
    }
}
