//! XEP-0045 §7.10, §7.12: registering with a room, which makes members and reserves nicknames.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::muc::{self, Affiliation};
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};

use super::room::{Change, Outcome, Outside, Room};

/// XEP-0077: the namespace.
pub const NS_REGISTER: &str = "jabber:iq:register";

impl Room {
    /// The form, or under which nickname the user is registered.
    pub fn registration(&self, from: &Jid) -> Outcome<Element> {
        let account = from.to_bare();
        let query = Element::new("query", NS_REGISTER);
        if let Some(nick) = self.standing(&account).and_then(|standing| standing.nick.as_ref()) {
            let username = Element::new("username", NS_REGISTER).with_text(nick.as_str());
            return Ok(query.with(Element::new("registered", NS_REGISTER)).with(username));
        }
        self.check_may_register(&account)?;
        let nick = Field::new(FieldType::TextSingle, "muc#register_roomnick").with_label("Nickname").required();
        let form = Form::typed(FormKind::Form, muc::REGISTER)
            .with_title(format!("Registration with {}", self.address))
            .with_instructions("Choose the nickname that is to be yours.")
            .with(nick);
        Ok(query.with(form.element()))
    }

    fn check_may_register(&self, account: &BareJid) -> Outcome {
        match self.affiliation(account) {
            Affiliation::Outcast => Err(StanzaCondition::Forbidden.into()),
            // §7.10: who may not enter cannot let itself in.
            Affiliation::None if self.config.members_only => Err(StanzaCondition::NotAllowed.into()),
            _ => Ok(()),
        }
    }

    /// Registers, or takes the registration back.
    pub fn register(&mut self, from: &Jid, query: &Element, out: &mut impl Outside) -> Outcome {
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
        let nick = form.value("muc#register_roomnick").map(str::trim).filter(|nick| !nick.is_empty());
        let nick = nick.ok_or_else(|| StanzaError::new(StanzaCondition::NotAcceptable, "a nickname is required"))?;
        self.check_free(&account, nick)?;
        let nick = nick.to_owned();
        if self.affiliation(&account) < Affiliation::Member {
            self.change_affiliation(&account, Affiliation::Member, None, None, out);
        }
        self.reserve(&account, Some(&nick), out);
        Ok(())
    }

    fn unregister(&mut self, account: &BareJid, out: &mut impl Outside) -> Outcome {
        let standing = self.standings.get_mut(account).filter(|standing| standing.nick.is_some());
        let standing = standing.ok_or(StanzaCondition::RegistrationRequired)?;
        standing.nick = None;
        let affiliation = standing.affiliation;
        out.change(Change::Standing(account.clone()));
        // Registering made a member; what admins gave stays with admins and owners.
        if affiliation == Affiliation::Member {
            self.change_affiliation(account, Affiliation::None, None, None, out);
        }
        Ok(())
    }
}
