//! XEP-0045 §5.1, §7.13, §8.3 to §8.6: voice. It is asked for, and what moderators gave or took outlasts the visit, so that nobody has it
//! back, or loses it, by leaving and entering again.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::muc::{self, Affiliation, Role};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, StanzaCondition, StanzaError, ns};

use super::privileges::default_role;
use super::room::{Change, Outcome, Outside, Room, STANDINGS_MAX};

/// Accounts in the lists of a room up to which those are added of which it knows nothing but their voice: moderators leave room for what
/// admins do.
const VOICED_MAX: usize = STANDINGS_MAX / 2;

impl Room {
    /// §5.1.2: the role with which an account enters: that of its affiliation, but for voice that a moderator gave or took.
    pub(super) fn entrance_role(&self, account: &BareJid, affiliation: Affiliation) -> Role {
        let usual = default_role(affiliation, self.config.moderated);
        let voice = self.standing(account).and_then(|standing| standing.voice);
        match (usual, voice) {
            (Role::Visitor | Role::Participant, Some(true)) => Role::Participant,
            (Role::Visitor | Role::Participant, Some(false)) => Role::Visitor,
            _ => usual,
        }
    }

    /// A moderator gave an occupant this role. What its affiliation gives anyhow is not kept, and nobody stays a moderator by a role.
    pub(super) fn keep_voice(&mut self, account: &BareJid, role: Role, out: &mut impl Outside) {
        let usual = default_role(self.affiliation(account), self.config.moderated);
        let speaks = role >= Role::Participant;
        let voice = Some(speaks).filter(|speaks| *speaks != (usual >= Role::Participant));
        let known = self.standings.get(account);
        if known.and_then(|standing| standing.voice) == voice || known.is_none() && self.standings.len() >= VOICED_MAX {
            return;
        }
        let standing = self.standings.entry(account.clone()).or_default();
        standing.voice = voice;
        if standing.is_nothing() {
            self.standings.remove(account);
        }
        out.change(Change::Standing(account.clone()));
    }

    /// The room is moderated, or is so no more. Where it is not, everybody speaks again; where it is, what everybody has need not be kept.
    pub(super) fn review_voices(&mut self, out: &mut impl Outside) {
        let moderated = self.config.moderated;
        let is_over = |affiliation, speaks| !moderated || speaks == (default_role(affiliation, true) >= Role::Participant);
        self.standings.retain(|account, standing| {
            if standing.voice.is_some_and(|speaks| is_over(standing.affiliation, speaks)) {
                standing.voice = None;
                out.change(Change::Standing(account.clone()));
            }
            !standing.is_nothing()
        });
        if moderated {
            return;
        }
        let visitors = self.occupants.iter().filter(|occupant| occupant.role == Role::Visitor);
        let visitors: Vec<String> = visitors.map(|occupant| occupant.nick().to_owned()).collect();
        for nick in &visitors {
            if let Some(occupant) = self.occupants.named_mut(nick) {
                occupant.role = default_role(occupant.affiliation, false);
            }
            self.refresh(nick);
            self.show(nick, &[], out);
            self.after_role(nick, Role::Visitor, out);
        }
    }

    /// §7.13 and §8.6: an occupant asks for voice, or a moderator answers.
    pub(super) fn voice(&mut self, from: &FullJid, form: &Form, out: &mut impl Outside) -> Outcome {
        let occupant = self.occupant(from)?;
        let allow = form.field("muc#request_allow").and_then(Field::boolean);
        if occupant.role == Role::Moderator {
            let actor = occupant.nick().to_owned();
            let nick = form.value("muc#roomnick").ok_or(StanzaCondition::BadRequest)?.to_owned();
            // The nickname may be another's meanwhile.
            let asked = form
                .value("muc#jid")
                .map(|jid| FullJid::parse(jid).map_err(|_| StanzaCondition::BadRequest))
                .transpose()?;
            if asked.is_some_and(|jid| self.occupants.seated(&jid).is_none_or(|asked| asked.nick() != nick)) {
                return Err(StanzaCondition::ItemNotFound.into());
            }
            if allow == Some(true) {
                self.set_role(from, &nick, Role::Participant, Some(&actor), None, out)?;
            }
            return Ok(());
        }
        if !self.config.voice_requests {
            return Err(StanzaCondition::Forbidden.into());
        }
        if occupant.role != Role::Visitor {
            return Err(StanzaError::new(StanzaCondition::NotAllowed, "only visitors need to ask for voice"));
        }
        let request = Form::typed(FormKind::Form, muc::REQUEST)
            .with_title("Voice request")
            .with_instructions("Somebody asks to be allowed to speak.")
            .with(
                Field::new(FieldType::ListSingle, "muc#role")
                    .with_label("Requested role")
                    .with_value(Role::Participant.name())
                    .with_option(Role::Participant.name(), Role::Participant.name()),
            )
            .with(Field::new(FieldType::JidSingle, "muc#jid").with_label("Address").with_value(from.as_str()))
            .with(Field::new(FieldType::TextSingle, "muc#roomnick").with_label("Nickname").with_value(occupant.nick()))
            .with(Field::new(FieldType::Boolean, "muc#request_allow").with_label("Allow to speak").with_bool(false));
        let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address).with(request.element());
        let message = Stanza::new(&message);
        for moderator in self.occupants.iter().filter(|other| other.role == Role::Moderator) {
            moderator.seats.iter().for_each(|seat| out.send(seat, &message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::room::Standing;
    use super::super::tests::{Scene, bare, condition, full};
    use super::*;

    impl Scene {
        fn gives(&mut self, nick: &str, role: &str) {
            self.admin("crone", &format!("<item nick='{nick}' role='{role}'/>")).unwrap();
        }

        /// Leaves, and comes back.
        fn returns(&mut self, who: &str) -> Role {
            self.presence(who, who, "<presence type='unavailable'/>").unwrap();
            self.enters(who, who).unwrap();
            self.room.occupants.named(who).unwrap().role
        }

        fn becomes(&mut self, config: &RoomConfig) {
            let query = Element::new("query", muc::NS_OWNER).with(config.form(FormKind::Submit).element());
            self.room.configure(&full("crone").into(), &query, &mut self.written).unwrap();
        }
    }

    fn moderated() -> RoomConfig {
        RoomConfig { moderated: true, ..RoomConfig::default() }
    }

    #[test]
    fn voice_that_a_moderator_gave_or_took_outlasts_the_visit() {
        for (moderated, member, given, then) in [
            (true, false, "participant", Role::Participant),
            (true, true, "visitor", Role::Visitor),
            (false, false, "visitor", Role::Visitor),
            // Who moderated by a role alone still speaks.
            (true, false, "moderator", Role::Participant),
            (false, false, "moderator", Role::Participant),
            // A kick takes no voice.
            (true, false, "none", Role::Visitor),
            (false, false, "none", Role::Participant),
        ] {
            let mut scene = Scene::new(RoomConfig { moderated, persistent: true, ..RoomConfig::default() });
            if member {
                scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
            }
            ["crone", "hag"].iter().for_each(|name| scene.enters(name, name).unwrap());
            scene.gives("hag", given);
            assert_eq!(scene.returns("hag"), then, "{moderated} {member} {given}");
        }
    }

    #[test]
    fn voice_is_of_an_account_whatever_its_nickname() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        scene.gives("hag", "visitor");
        scene.presence("hag", "hag", "<presence type='unavailable'/>").unwrap();
        scene.enters("hag", "somebody").unwrap();
        assert_eq!(condition(scene.says("hag", "x")), StanzaCondition::Forbidden);
    }

    #[test]
    fn what_goes_without_saying_is_not_kept() {
        let mut scene = Scene::with(moderated(), &["crone", "hag"]);
        scene.gives("hag", "participant");
        assert_eq!(scene.room.standing(&bare("hag")).unwrap().voice, Some(true));
        assert!(scene.written.changes.contains(&Change::Standing(bare("hag"))));
        scene.gives("hag", "visitor");
        assert!(scene.room.standing(&bare("hag")).is_none());
    }

    #[test]
    fn voice_ends_with_the_affiliation_in_which_it_was_given() {
        let mut scene = Scene::with(moderated(), &["crone", "hag"]);
        scene.gives("hag", "participant");
        for affiliation in ["member", "none"] {
            scene.admin("crone", &format!("<item jid='hag@shakespeare.example' affiliation='{affiliation}'/>")).unwrap();
        }
        assert_eq!(scene.returns("hag"), Role::Visitor);
        assert!(scene.room.standing(&bare("hag")).is_none());
    }

    #[test]
    fn in_a_room_that_is_moderated_no_more_everybody_speaks_and_in_one_that_is_now_nobody_lost_it_by_that() {
        let mut scene = Scene::new(moderated());
        scene.room.restore(bare("member"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        ["crone", "hag", "member"].iter().for_each(|name| scene.enters(name, name).unwrap());
        scene.gives("hag", "participant");
        scene.gives("member", "visitor");
        scene.becomes(&RoomConfig::default());
        assert_eq!((scene.returns("hag"), scene.returns("member")), (Role::Participant, Role::Participant));
        assert!(scene.room.standing(&bare("hag")).is_none());
        ["hag", "member"].iter().for_each(|nick| scene.gives(nick, "visitor"));
        scene.becomes(&moderated());
        // What the one has by what it is now is not kept; the other was told to be silent.
        assert!(scene.room.standing(&bare("hag")).is_none());
        assert_eq!((scene.returns("hag"), scene.returns("member")), (Role::Visitor, Role::Visitor));
    }

    #[test]
    fn moderators_do_not_fill_the_lists_of_a_room() {
        let mut scene = Scene::with(moderated(), &["crone", "hag"]);
        (1..VOICED_MAX).for_each(|n| {
            scene.room.restore(bare(&format!("witch{n}")), Standing { voice: Some(true), ..Standing::default() });
        });
        scene.gives("hag", "participant");
        assert!(scene.room.standing(&bare("hag")).is_none());
        scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='outcast'/>").unwrap();
    }

    #[test]
    fn who_asks_to_become_a_member_keeps_its_voice_until_it_is_one() {
        let mut scene = Scene::with(moderated(), &["crone", "hag"]);
        scene.gives("hag", "participant");
        scene.becomes(&RoomConfig { members_only: true, ..moderated() });
        let form = "<x xmlns='jabber:x:data' type='submit'><field var='muc#register_roomnick'><value>x</value></field></x>";
        let query = format!("<query xmlns='jabber:iq:register'>{form}</query>");
        let query = Element::parse(query.as_bytes(), "jabber:client").unwrap();
        scene.room.register(&full("hag").into(), &query, &mut scene.written).unwrap();
        let standing = scene.room.standing(&bare("hag")).unwrap();
        assert!(standing.asks() && standing.voice == Some(true));
    }
}
