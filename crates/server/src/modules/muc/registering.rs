//! XEP-0045 §7.10, §7.12, §9.9: registering with a room, which makes members and reserves nicknames. Where everybody may enter it is done
//! at once; where only members may, the room's admins are asked.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::muc::{self, Affiliation};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use super::room::{Change, Outcome, Outside, Room, Standing};
use super::rooms::Act;
use super::throttling::{REGISTRATIONS_PER_HOUR_MAX, Rate};
use super::{Muc, durable, send_out};
use crate::requests::{Reply, Request};
use crate::server::now;

/// XEP-0077: the namespace.
pub const NS_REGISTER: &str = "jabber:iq:register";

/// Requests of one room that wait for an answer.
const WAITING_MAX: usize = 100;

/// Admins and owners who are asked.
const ASKED_MAX: usize = 20;

/// Characters of what somebody says of itself, of each.
const SAID_CHARS_MAX: usize = 500;

const NICK: &str = "muc#register_roomnick";
const ALLOW: &str = "muc#register_allow";
const JID: &str = "muc#jid";

/// What somebody may say of itself to those who decide; nobody is asked for it.
const SAID: &[(&str, FieldType, &str)] = &[
    ("muc#register_first", FieldType::TextSingle, "Given name"),
    ("muc#register_last", FieldType::TextSingle, "Family name"),
    ("muc#register_url", FieldType::TextSingle, "Web page"),
    ("muc#register_email", FieldType::TextSingle, "Email address"),
    ("muc#register_faqentry", FieldType::TextMulti, "About"),
];

impl Room {
    /// The form, or under which nickname the user is registered.
    pub fn registration(&self, from: &Jid) -> Outcome<Element> {
        self.check_seen(from)?;
        let account = from.to_bare();
        let query = Element::new("query", NS_REGISTER);
        let nick = self.standing(&account).and_then(|standing| standing.nick.as_ref());
        let asks = self.standing(&account).is_some_and(Standing::asks);
        if let Some(nick) = nick.filter(|_| !asks) {
            let username = Element::new("username", NS_REGISTER).with_text(nick.as_str());
            return Ok(query.with(Element::new("registered", NS_REGISTER)).with(username));
        }
        self.check_may_register(&account)?;
        let field = Field::new(FieldType::TextSingle, NICK).with_label("Nickname").required();
        let field = nick.iter().fold(field, |field, nick| field.with_value(nick.as_str()));
        let instructions = match (asks, self.config.members_only && self.affiliation(&account) < Affiliation::Member) {
            (true, _) => "You have asked already, and wait for an answer.",
            (false, true) => "Choose the nickname that is to be yours. An admin of the room will let you in, or not.",
            (false, false) => "Choose the nickname that is to be yours.",
        };
        let form = Form::typed(FormKind::Form, muc::REGISTER)
            .with_title(format!("Registration with {}", self.address))
            .with_instructions(instructions)
            .with(field);
        Ok(query.with(form.element()))
    }

    fn check_may_register(&self, account: &BareJid) -> Outcome {
        match self.affiliation(account) {
            Affiliation::None if self.config.registration => Ok(()),
            Affiliation::None | Affiliation::Outcast => Err(StanzaCondition::NotAllowed.into()),
            _ => Ok(()),
        }
    }

    /// Registers, asks those who decide, or takes the registration back.
    pub fn register(&mut self, from: &Jid, query: &Element, out: &mut impl Outside) -> Outcome {
        self.check_seen(from)?;
        let account = from.to_bare();
        if query.child("remove", NS_REGISTER).is_some() {
            return self.unregister(&account, out);
        }
        self.check_may_register(&account)?;
        let form = Form::of(query).filter(|form| form.kind == FormKind::Submit);
        let form = form.ok_or(StanzaCondition::BadRequest)?;
        if form.form_type().is_some_and(|kind| kind != muc::REGISTER) {
            return Err(StanzaCondition::BadRequest.into());
        }
        let nick = form.value(NICK).map(str::trim).filter(|nick| !nick.is_empty());
        let nick = nick.ok_or_else(|| StanzaError::new(StanzaCondition::NotAcceptable, "a nickname is required"))?;
        self.check_free(&account, nick)?;
        let nick = nick.to_owned();
        if self.affiliation(&account) < Affiliation::Member {
            self.check_standings(usize::from(self.standing(&account).is_none()))?;
            if self.config.members_only {
                return self.ask_for(&account, &nick, &form, out);
            }
            self.change_affiliation(&account, Affiliation::Member, None, None, out);
        }
        self.reserve(&account, Some(&nick), out);
        Ok(())
    }

    fn unregister(&mut self, account: &BareJid, out: &mut impl Outside) -> Outcome {
        let standing = self.standings.get(account).filter(|standing| standing.nick.is_some());
        let standing = standing.ok_or(StanzaCondition::RegistrationRequired)?;
        let affiliation = standing.affiliation;
        self.drop_nick(account, out);
        // Registering made a member; what admins gave stays with admins and owners.
        if affiliation == Affiliation::Member {
            self.change_affiliation(account, Affiliation::None, None, None, out);
        }
        Ok(())
    }

    /// Takes the nickname that an account has reserved, or asks for.
    fn drop_nick(&mut self, account: &BareJid, out: &mut impl Outside) {
        self.reserved.take();
        let Some(standing) = self.standings.get_mut(account) else { return };
        standing.nick = None;
        if standing.is_nothing() {
            self.standings.remove(account);
        }
        out.change(Change::Standing(account.clone()));
    }

    /// Keeps a request, and tells those who decide. Who has asked for the same already waits.
    fn ask_for(&mut self, account: &BareJid, nick: &str, form: &Form, out: &mut impl Outside) -> Outcome {
        let known = self.standing(account).and_then(|standing| standing.nick.as_deref());
        if known == Some(nick) {
            return Ok(());
        }
        if known.is_none() && self.standings().filter(|(_, standing)| standing.asks()).count() >= WAITING_MAX {
            let text = "too many wait for an answer of this room's admins: try later";
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint, text));
        }
        self.standings.entry(account.clone()).or_default().nick = Some(nick.to_owned());
        out.change(Change::Standing(account.clone()));
        self.tell_deciders(&self.question(account, nick, form), out);
        Ok(())
    }

    /// §9.9: the form by which an admin lets somebody in. Its address is in it, and what it says of itself.
    fn question(&self, account: &BareJid, nick: &str, form: &Form) -> Stanza {
        let said = SAID.iter().filter_map(|(var, kind, label)| {
            let text: String = form.field(var)?.text().chars().take(SAID_CHARS_MAX).collect();
            let field = Field::new(*kind, *var).with_label(*label);
            (!text.is_empty()).then(|| field.with_values(text.lines()))
        });
        let mut question = Form::typed(FormKind::Form, muc::REGISTER)
            .with_title("Registration request")
            .with_instructions("Somebody asks to become a member of the room.")
            .with(Field::new(FieldType::JidSingle, JID).with_label("Address").with_value(account.as_str()))
            .with(Field::new(FieldType::TextSingle, NICK).with_label("Nickname").with_value(nick));
        question.fields.extend(said);
        let question =
            question.with(Field::new(FieldType::Boolean, ALLOW).with_label("Let it become a member").with_bool(false));
        let body = format!("{account} asks to become a member of the room {} as {nick}", self.address);
        let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address).with(question.element());
        Stanza::new(&message.with(Element::new("body", ns::CLIENT).with_text(body)))
    }

    /// To the room's admins and owners: in the room, and where they are not in it to their accounts.
    fn tell_deciders(&self, question: &Stanza, out: &mut impl Outside) {
        let mut deciders: Vec<&BareJid> = self
            .standings()
            .filter(|(account, standing)| standing.affiliation >= Affiliation::Admin && account.local().is_some())
            .map(|(account, _)| account)
            .collect();
        deciders.sort_unstable_by_key(|account| (!self.occupants.has_account(account), *account));
        for account in deciders.into_iter().take(ASKED_MAX) {
            match self.occupants.has_account(account) {
                true => self.occupants.of_account(account).for_each(|occupant| {
                    occupant.seats.iter().for_each(|seat| out.send(seat, question));
                }),
                false => out.send_out(question.with(magpie_proto::xml::Attr::To, Some(account.as_str()))),
            }
        }
    }

    /// §9.9: an admin lets somebody in, or does not. Whoever comes first decides.
    pub(super) fn decide(&mut self, from: &FullJid, form: &Form, out: &mut impl Outside) -> Outcome {
        if self.affiliation(&from.to_bare()) < Affiliation::Admin {
            return Err(StanzaCondition::Forbidden.into());
        }
        // "To skip this request, click the cancel button."
        if form.kind == FormKind::Cancel {
            return Ok(());
        }
        let nick = form.value(NICK).ok_or(StanzaCondition::BadRequest)?;
        let asked = form.value(JID).map(|jid| BareJid::parse(jid).map_err(|_| StanzaCondition::JidMalformed));
        let asked = asked.transpose()?;
        let waiting = |account: &BareJid, standing: &Standing| {
            let is_meant = asked.as_ref().is_none_or(|asked| asked == account);
            is_meant && standing.asks() && standing.nick.as_deref() == Some(nick)
        };
        let found = self.standings().find(|(account, standing)| waiting(account, standing));
        let Some(account) = found.map(|(account, _)| account.clone()) else {
            return Err(StanzaError::new(StanzaCondition::ItemNotFound, "nobody waits for that answer any more"));
        };
        if form.field(ALLOW).and_then(Field::boolean) != Some(true) {
            self.drop_nick(&account, out);
            return Ok(());
        }
        self.check_free(&account, nick)?;
        let decider = self.occupants.seated(from).map(|decider| decider.nick().to_owned());
        self.change_affiliation(&account, Affiliation::Member, decider.as_deref(), None, out);
        self.invite_member(&account, &from.to_bare(), out);
        Ok(())
    }
}

impl Muc {
    pub(super) async fn register_get(self: Arc<Self>, request: Request) -> Reply {
        let (form, _) = self.rooms.with(&request.to, |room, _| room.registration(&request.from)).await?;
        Ok(Some(form))
    }

    pub(super) async fn register_set(self: Arc<Self>, request: Request) -> Reply {
        let account = request.from.to_bare();
        self.bans.check(&request.to.to_domain(), &account).await?;
        let payload = request.payload();
        let rate = Rate::new(REGISTRATIONS_PER_HOUR_MAX, 60 * 60);
        let now_millis = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        let removes = payload.child("remove", NS_REGISTER).is_some();
        if !removes && self.registrations.take(&account, rate, now_millis).is_err() {
            let text = "you registered with many rooms: wait before you go on";
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint, text));
        }
        let act = |room: &mut Room, out: &mut Act<'_>| room.register(&request.from, &payload, out);
        let ((), left) = self.rooms.with(&request.to, act).await?;
        send_out(&request.server, &left).await;
        durable(left).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::tests::{Scene, bare, condition, full};
    use super::*;

    fn closed() -> Scene {
        Scene::new(RoomConfig { members_only: true, ..RoomConfig::default() })
    }

    impl Scene {
        fn registers(&mut self, who: &str, nick: &str) -> Outcome {
            let form = Form::typed(FormKind::Submit, muc::REGISTER)
                .with(Field::new(FieldType::TextSingle, NICK).with_value(nick))
                .with(Field::new(FieldType::TextMulti, "muc#register_faqentry").with_value("x".repeat(1000)));
            let query = Element::new("query", NS_REGISTER).with(form.element());
            self.room.register(&full(who).into(), &query, &mut self.written)
        }

        fn decides(&mut self, who: &str, about: &str, nick: &str, allow: bool) -> Outcome {
            let form = Form::typed(FormKind::Submit, muc::REGISTER)
                .with(Field::new(FieldType::JidSingle, JID).with_value(bare(about).as_str()))
                .with(Field::new(FieldType::TextSingle, NICK).with_value(nick))
                .with(Field::new(FieldType::Boolean, ALLOW).with_bool(allow));
            self.room.decide(&full(who), &form, &mut self.written)
        }
    }

    #[test]
    fn who_may_not_enter_waits_for_an_admin_who_lets_it_in_or_not() {
        let mut scene = closed();
        scene.enters("crone", "crone").unwrap();
        scene.written.sent.clear();
        scene.registers("hag", "Third").unwrap();
        let question = &scene.written.sent[0].1;
        assert_eq!((scene.written.sent.len(), scene.room.affiliation(&bare("hag"))), (1, Affiliation::None));
        let form = question.children().find(|child| child.name == "x").unwrap().element();
        let form = Form::parse(&form).unwrap();
        assert_eq!((form.value(JID), form.value(NICK)), (Some("hag@shakespeare.example"), Some("Third")));
        assert_eq!(form.value("muc#register_faqentry").map(str::len), Some(SAID_CHARS_MAX));
        // Who waits is told of once, has no nickname yet, and may not enter.
        scene.registers("hag", "Third").unwrap();
        assert_eq!(scene.written.sent.len(), 1);
        assert_eq!(condition(scene.enters("hag", "Third")), StanzaCondition::RegistrationRequired);
        assert!(scene.room.registration(&full("hag").into()).unwrap().child("registered", NS_REGISTER).is_none());
        assert_eq!(condition(scene.decides("hag", "hag", "Third", true)), StanzaCondition::Forbidden);
        assert_eq!(condition(scene.decides("crone", "hag", "Other", true)), StanzaCondition::ItemNotFound);
        scene.decides("crone", "hag", "Third", true).unwrap();
        assert_eq!(scene.room.standing(&bare("hag")).unwrap().nick.as_deref(), Some("Third"));
        assert_eq!(scene.written.out.last().unwrap().to().as_deref(), Some("hag@shakespeare.example"));
        scene.enters("hag", "Third").unwrap();
        scene.registers("macbeth", "King").unwrap();
        scene.decides("crone", "macbeth", "King", false).unwrap();
        assert!(scene.room.standing(&bare("macbeth")).is_none());
        assert_eq!(condition(scene.decides("crone", "macbeth", "King", true)), StanzaCondition::ItemNotFound);
    }

    #[test]
    fn a_nickname_that_somebody_only_asks_for_is_free_until_it_is_given() {
        let mut scene = closed();
        scene.room.restore(bare("second"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        scene.registers("hag", "Witch").unwrap();
        scene.enters("second", "witch").unwrap();
        assert_eq!(condition(scene.decides("crone", "hag", "Witch", true)), StanzaCondition::Conflict);
        // Whoever asked can think better of it.
        let remove = Element::new("query", NS_REGISTER).with(Element::new("remove", NS_REGISTER));
        scene.room.register(&full("hag").into(), &remove, &mut scene.written).unwrap();
        assert!(scene.room.standing(&bare("hag")).is_none());
        assert_eq!(condition(scene.decides("crone", "hag", "Witch", true)), StanzaCondition::ItemNotFound);
    }

    #[test]
    fn a_nickname_is_reserved_as_long_as_who_holds_it_is_a_member() {
        let mut scene = Scene::new(RoomConfig::default());
        let is_free = |scene: &mut Scene| scene.room.check_free(&bare("second"), "THIRD").is_ok();
        assert!(is_free(&mut scene));
        scene.registers("hag", "Third").unwrap();
        assert!(!is_free(&mut scene));
        scene.registers("hag", "Oldhag").unwrap();
        assert!(is_free(&mut scene));
        scene.registers("hag", "Third").unwrap();
        scene.admin("crone", "<item jid='hag@shakespeare.example' affiliation='outcast'/>").unwrap();
        assert!(is_free(&mut scene));
        let held = Standing { affiliation: Affiliation::Admin, nick: Some("third".into()), ..Standing::default() };
        scene.room.restore(bare("macbeth"), held);
        assert!(!is_free(&mut scene));
        let remove = Element::new("query", NS_REGISTER).with(Element::new("remove", NS_REGISTER));
        scene.room.register(&full("macbeth").into(), &remove, &mut scene.written).unwrap();
        assert!(is_free(&mut scene));
    }

    #[test]
    fn so_many_wait_for_an_answer_and_so_many_are_asked() {
        let mut scene = closed();
        for n in 0..30 {
            let admin = Standing { affiliation: Affiliation::Admin, ..Standing::default() };
            scene.room.restore(bare(&format!("admin{n}")), admin);
        }
        for n in 0..WAITING_MAX {
            scene.registers(&format!("witch{n}"), &format!("w{n}")).unwrap();
        }
        assert_eq!(scene.written.out.len(), WAITING_MAX * ASKED_MAX);
        assert_eq!(condition(scene.registers("hag", "Third")), StanzaCondition::ResourceConstraint);
        // Another nickname is another question, not another place.
        scene.registers("witch0", "first").unwrap();
        scene.decides("crone", "witch1", "w1", false).unwrap();
        scene.registers("hag", "Third").unwrap();
    }

    #[test]
    fn a_room_that_lets_nobody_register_says_so_but_to_members() {
        let mut scene = Scene::new(RoomConfig { registration: false, ..RoomConfig::default() });
        assert_eq!(condition(scene.registers("hag", "Third")), StanzaCondition::NotAllowed);
        scene.room.restore(bare("hag"), Standing { affiliation: Affiliation::Member, ..Standing::default() });
        scene.registers("hag", "Third").unwrap();
    }
}
