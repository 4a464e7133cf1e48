//! XEP-0045 §10.1.3, `muc#roomconfig_presencebroadcast` and `muc#roomconfig_whois`: who sees whom, and what follows when that changes.

use magpie_proto::xeps::muc::{self, Item, Role};
use magpie_proto::xeps::muc_config::RoomConfig;
use magpie_proto::xml::Stanza;

use super::occupants::Occupant;
use super::room::{Outside, Room, unavailable};

/// Presences that another configuration sends to those who are there. In a room where it would be more, who enters later sees it
/// as it is.
const SHOWN_ANEW_MAX: usize = 50_000;

impl Room {
    /// An occupant is not seen any more, though it is there.
    fn hide(&self, hidden: &Occupant, out: &mut impl Outside) {
        let item = |with_address| Item { role: Some(Role::None), ..Self::item(hidden, with_address) };
        let forms = [false, true].map(|shown| unavailable(hidden).with_child(&muc::user(Some(&item(shown)), &[])));
        self.tell_others(hidden, &forms, out);
    }

    fn tell_others(&self, of: &Occupant, forms: &[Stanza; 2], out: &mut impl Outside) {
        for other in self.occupants.iter().filter(|other| other.address != of.address) {
            let presence = &forms[usize::from(self.sees_addresses(other))];
            other.seats.iter().for_each(|seat| out.send(seat, presence));
        }
    }

    /// What follows for who sees whom from another role.
    pub(super) fn after_role(&self, nick: &str, before: Role, out: &mut impl Outside) {
        let Some(occupant) = self.occupants.named(nick) else { return };
        if self.config.broadcast.has(before) && !self.config.broadcast.has(occupant.role) {
            self.hide(occupant, out);
        }
        // §5.1.1: who moderates knows addresses, also of those who were there before.
        if occupant.role == Role::Moderator && before != Role::Moderator && !self.config.non_anonymous() {
            for other in self.occupants.iter().filter(|other| other.address != occupant.address) {
                if self.config.broadcast.has(other.role) {
                    occupant.seats.iter().for_each(|seat| out.send(seat, &other.shown[1]));
                }
            }
        }
    }

    /// The room was configured otherwise: those who were hidden are shown, those who were shown are hidden, and where addresses are no
    /// secret any more those who did not see them do.
    pub(super) fn show_anew(&self, before: &RoomConfig, out: &mut impl Outside) {
        let opened = self.config.non_anonymous() && !before.non_anonymous();
        let now = &self.config;
        let changes = |occupant: &&Occupant| {
            let (was, is) = (before.broadcast.has(occupant.role), now.broadcast.has(occupant.role));
            was != is || is && opened
        };
        let sessions: usize = self.occupants.iter().map(|occupant| occupant.seats.len()).sum();
        if self.occupants.iter().filter(changes).count() * sessions > SHOWN_ANEW_MAX {
            return;
        }
        for occupant in self.occupants.iter().filter(changes) {
            match (before.broadcast.has(occupant.role), now.broadcast.has(occupant.role)) {
                (true, false) => self.hide(occupant, out),
                (false, _) => self.tell_others(occupant, &occupant.shown, out),
                (true, true) => {
                    let blind = |other: &&Occupant| other.role != Role::Moderator && other.address != occupant.address;
                    for other in self.occupants.iter().filter(blind) {
                        other.seats.iter().for_each(|seat| out.send(seat, &occupant.shown[1]));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::data_forms::FormKind;
    use magpie_proto::xeps::muc_config::{Roles, Whois};
    use magpie_proto::xml::Element;

    use super::super::tests::{Scene, full};
    use super::*;

    impl Scene {
        fn configures(&mut self, config: &RoomConfig) {
            let query = Element::new("query", muc::NS_OWNER).with(config.form(FormKind::Submit).element());
            self.room.configure(&full("crone").into(), &query, &mut self.written).unwrap();
        }
    }

    fn only_moderators() -> RoomConfig {
        RoomConfig { broadcast: Roles::default().with(Role::Moderator), ..RoomConfig::default() }
    }

    #[test]
    fn who_is_hidden_by_another_configuration_has_gone_for_the_others_and_comes_again_when_it_is_shown() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        scene.configures(&only_moderators());
        assert_eq!(scene.sent(), ["crone < room: 104", "hag < room: 104", "crone < hag: unavailable none/none hag"]);
        scene.configures(&RoomConfig::default());
        assert_eq!(scene.sent(), ["crone < room: 104", "hag < room: 104", "crone < hag: none/participant hag"]);
    }

    #[test]
    fn where_addresses_are_no_secret_any_more_those_who_are_there_learn_them_after_the_warning() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag", "second"]);
        scene.configures(&RoomConfig { whois: Whois::Anyone, ..RoomConfig::default() });
        assert_eq!(
            scene.sent(),
            [
                "crone < room: 172",
                "hag < room: 172",
                "second < room: 172",
                "hag < crone: owner/moderator crone",
                "second < crone: owner/moderator crone",
                "second < hag: none/participant hag",
                "hag < second: none/participant second",
            ]
        );
        scene.configures(&RoomConfig::default());
        assert_eq!(scene.sent(), ["crone < room: 173", "hag < room: 173", "second < room: 173"]);
    }

    #[test]
    fn who_crosses_the_line_between_shown_and_hidden_by_another_role_comes_and_goes() {
        let mut scene = Scene::with(only_moderators(), &["crone", "hag", "second"]);
        scene.admin("crone", "<item nick='hag' role='moderator'/>").unwrap();
        let shown = scene.sent();
        assert!(shown.contains(&"second < hag: none/moderator".to_owned()), "{shown:?}");
        scene.admin("crone", "<item nick='hag' role='participant'/>").unwrap();
        assert_eq!(
            scene.sent(),
            [
                "hag < hag: none/participant 110",
                "crone < hag: unavailable none/none hag",
                "second < hag: unavailable none/none",
            ]
        );
        // Nothing is told twice of who was hidden and stays so.
        scene.admin("crone", "<item nick='hag' role='visitor'/>").unwrap();
        assert_eq!(scene.sent(), ["hag < hag: none/visitor 110"]);
    }

    #[test]
    fn visitors_who_may_speak_are_shown_or_hidden_as_participants_are() {
        let visitors = Roles::default().with(Role::Moderator).with(Role::Visitor);
        let moderated = RoomConfig { moderated: true, broadcast: visitors, ..RoomConfig::default() };
        let mut scene = Scene::with(moderated.clone(), &["crone", "hag"]);
        scene.configures(&RoomConfig { moderated: false, ..moderated });
        let sent = scene.sent();
        assert_eq!(sent[2..], ["hag < hag: none/participant 110", "crone < hag: unavailable none/none hag"]);
    }

    #[test]
    fn in_a_room_of_very_many_only_who_enters_later_sees_it() {
        let names: Vec<String> = (0..300).map(|n| format!("witch{n}")).collect();
        let mut scene = Scene::with(RoomConfig::default(), &["crone"]);
        names.iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.sent();
        scene.configures(&only_moderators());
        assert_eq!(scene.sent().len(), 301);
        scene.enters("late", "late").unwrap();
        assert_eq!(scene.sent().iter().filter(|line| line.contains("witch")).count(), 0);
    }
}
