//! XEP-0045 §10: configuring and destroying a room.

use std::time::Duration;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::muc::{self, Affiliation, Role, Status};
use magpie_proto::xeps::muc_config;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};

use super::room::{Change, Deed, Outcome, Outside, Room, unavailable};

/// Characters of a reason.
const REASON_MAX: usize = 1024;

/// How long a new room waits for its owner to ask for its form. Clients that configure rooms do so at once; others never do, and
/// whoever they invite would be refused (§10.1.1 leaves the time to us).
pub(super) const LOCKED_MAX: Duration = Duration::from_secs(10);

impl Room {
    fn check_owner(&self, from: &Jid) -> Outcome {
        match self.affiliation(&from.to_bare()) {
            Affiliation::Owner => Ok(()),
            _ => Err(StanzaCondition::Forbidden.into()),
        }
    }

    /// `muc#owner` get: the form.
    pub fn configuration(&mut self, from: &Jid) -> Outcome<Element> {
        self.check_owner(from)?;
        // Who fills it in is waited for.
        self.opens_at = None;
        let list = |var: &str, label: &str, affiliation| {
            let mut jids: Vec<&str> = self
                .standings()
                .filter(|(_, standing)| standing.affiliation == affiliation)
                .map(|(jid, _)| jid.as_str())
                .collect();
            jids.sort_unstable();
            Field::new(FieldType::JidMulti, format!("muc#roomconfig_{var}")).with_label(label).with_values(jids)
        };
        let form = self
            .config
            .form(FormKind::Form)
            .with_title(format!("Configuration of {}", self.address))
            .with(list("roomadmins", "Admins", Affiliation::Admin))
            .with(list("roomowners", "Owners", Affiliation::Owner));
        Ok(Element::new("query", muc::NS_OWNER).with(form.element()))
    }

    /// `muc#owner` set: configures, or destroys.
    pub fn configure(&mut self, from: &Jid, query: &Element, out: &mut impl Outside) -> Outcome {
        self.check_owner(from)?;
        if let Some(destroy) = query.child("destroy", muc::NS_OWNER) {
            return self.destroy(destroy, out);
        }
        let form = Form::of(query).ok_or(StanzaCondition::BadRequest)?;
        match form.kind {
            FormKind::Cancel => {
                // §10.1.3: a room that was never configured is none.
                if self.locked {
                    self.end(&Element::new("destroy", muc::NS_USER), out);
                }
                Ok(())
            }
            FormKind::Submit => self.submit(&form, out),
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    fn submit(&mut self, form: &Form, out: &mut impl Outside) -> Outcome {
        let refuse =
            |error: muc_config::ConfigError| StanzaError::new(StanzaCondition::NotAcceptable, error.to_string());
        let submitted = self.config.with(form).map_err(refuse)?;
        // §10.5: before anything is done.
        if submitted.owners.as_ref().is_some_and(Vec::is_empty) {
            return Err(StanzaError::new(StanzaCondition::Conflict, "a room needs an owner"));
        }
        let listed = [&submitted.owners, &submitted.admins].into_iter().flatten().flatten();
        self.check_standings(listed.filter(|jid| self.standing(&jid.to_bare()).is_none()).count())?;
        let before = std::mem::replace(&mut self.config, submitted.config);
        let was_locked = std::mem::replace(&mut self.locked, false);
        out.change(Change::Record);
        if was_locked || before.persistent != self.config.persistent {
            self.keep_standings(out);
        }
        self.replace_lists(submitted.owners, submitted.admins, out);
        self.after_configuration(&before, out);
        Ok(())
    }

    /// What was not kept so far is from now on.
    fn keep_standings(&mut self, out: &mut impl Outside) {
        self.versions.numbers().for_each(|number| out.change(Change::Version(number)));
        let accounts: Vec<BareJid> = self.standings().map(|(jid, _)| jid.clone()).collect();
        for account in accounts {
            out.change(Change::Standing(account.clone()));
            let inside = self.occupants.has_account(&account);
            self.stay(&account, inside, out);
        }
    }

    /// A new room of which nobody has said anything for long enough opens.
    pub(super) fn open_in_time(&mut self, out: &mut impl Outside) {
        if self.opens_at.is_some_and(|at| at.unix_millis() <= out.now().unix_millis()) {
            self.take_as_it_is(out);
        }
    }

    /// §10.1.2: a new room is open as it is, unless its owner has asked for its form: who uses it has nothing to say of it.
    pub(super) fn take_as_it_is(&mut self, out: &mut impl Outside) {
        if self.locked && self.opens_at.is_some() {
            self.locked = false;
            out.change(Change::Record);
            self.keep_standings(out);
        }
    }

    /// §10.2: the form has the whole list of owners, of admins, or both. Who is no owner any more is an admin unless a list says
    /// otherwise, and who is no admin any more is a member where only members are let in.
    fn replace_lists(&mut self, owners: Option<Vec<Jid>>, admins: Option<Vec<Jid>>, out: &mut impl Outside) {
        let [owners, admins] = [owners, admins].map(|list| list.map(|list| list.iter().map(Jid::to_bare).collect::<Vec<_>>()));
        let is_in = |list: &Option<Vec<BareJid>>, account: &BareJid| list.as_ref().map(|list| list.contains(account));
        let less = if self.config.members_only { Affiliation::Member } else { Affiliation::None };
        let owns = |account: &BareJid| is_in(&owners, account).unwrap_or(self.affiliation(account) == Affiliation::Owner);
        let made = owners.iter().flatten().map(|account| (account.clone(), Affiliation::Owner));
        let made = made.chain(
            admins.iter().flatten().filter(|account| !owns(account)).map(|account| (account.clone(), Affiliation::Admin)),
        );
        let high = self.standings().filter(|(_, standing)| standing.affiliation >= Affiliation::Admin);
        let dropped = high.filter_map(|(account, standing)| {
            let now = match (standing.affiliation, is_in(&owners, account), is_in(&admins, account)) {
                (Affiliation::Owner, Some(false), None) => Affiliation::Admin,
                (Affiliation::Owner, Some(false), Some(false)) | (Affiliation::Admin, None | Some(false), Some(false)) => less,
                _ => return None,
            };
            Some((account.clone(), now))
        });
        let changes: Vec<(BareJid, Affiliation)> = made.chain(dropped).collect();
        for (account, affiliation) in changes {
            self.change_affiliation(&account, affiliation, None, None, out);
        }
    }

    /// §10.2.1: what follows from another configuration for who is there.
    fn after_configuration(&mut self, before: &muc_config::RoomConfig, out: &mut impl Outside) {
        let now = &self.config;
        let mut statuses = Vec::new();
        if before.archived != now.archived {
            statuses.push(if now.archived { Status::Logged } else { Status::NotLogged });
        }
        if before.whois != now.whois {
            statuses.push(if now.non_anonymous() { Status::NowNonAnonymous } else { Status::NowSemiAnonymous });
        }
        let same = muc_config::RoomConfig { archived: before.archived, whois: before.whois, ..now.clone() };
        if same != *before {
            statuses.push(Status::ConfigurationChanged);
        }
        // What one may ask for has changed: nobody goes on from what it knew (XEP-0463).
        let listed_to_others = before.whois != now.whois
            || before.moderated != now.moderated
            || before.member_list != now.member_list;
        let shut_out = now.members_only && !before.members_only;
        let voiced = before.moderated != now.moderated;
        if listed_to_others {
            self.turn_version(None, out);
        }
        if shut_out {
            let strangers = self.occupants.iter().filter(|occupant| occupant.affiliation < Affiliation::Member);
            let strangers: Vec<String> = strangers.map(|occupant| occupant.nick().to_owned()).collect();
            for nick in &strangers {
                self.remove(nick, &Deed { statuses: &[Status::MembersOnly], ..Deed::default() }, out);
            }
        }
        if !statuses.is_empty() {
            let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address);
            let message = Stanza::new(&message.with_attr("type", "groupchat").with(muc::user(None, &statuses)));
            self.broadcast(&message, out);
        }
        self.show_anew(before, out);
        if voiced {
            self.review_voices(out);
        }
    }

    /// §10.9: everybody is told, with where to go instead.
    pub fn destroy(&mut self, destroy: &Element, out: &mut impl Outside) -> Outcome {
        let alternate = destroy.attr("jid").map(Jid::parse).transpose().map_err(|_| StanzaCondition::JidMalformed)?;
        let mut said = Element::new("destroy", muc::NS_USER);
        if let Some(alternate) = &alternate {
            said.set_attr("jid", alternate);
        }
        for kept in ["password", "reason"] {
            let text = destroy.child(kept, muc::NS_OWNER).map(Element::text);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                let text: String = text.chars().take(REASON_MAX).collect();
                said.push(Element::new(kept, muc::NS_USER).with_text(text));
            }
        }
        self.end(&said, out);
        Ok(())
    }

    /// The room is no more. `said`: `<destroy/>`, as its occupants get it.
    pub(super) fn end(&mut self, said: &Element, out: &mut impl Outside) {
        let nicks: Vec<String> = self.occupants.iter().map(|occupant| occupant.nick().to_owned()).collect();
        // Each is told of itself alone: that all go, all know.
        for nick in &nicks {
            if let Some(mut gone) = self.occupants.remove(nick) {
                gone.affiliation = Affiliation::None;
                let item = Self::item(&gone, false);
                let item = muc::Item { role: Some(Role::None), ..item };
                let presence =
                    unavailable(&gone).with_child(&muc::user(Some(&item), &[Status::Own]).with(said.clone()));
                gone.seats.iter().for_each(|seat| out.send(seat, &presence));
            }
        }
        out.change(Change::Destroyed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::room::Standing;
    use super::super::tests::{Scene, bare, full};
    use super::*;

    #[test]
    fn who_stands_in_the_lists_of_a_form_no_more_is_less_and_not_shut_out() {
        use Affiliation::{Admin, Member, None as Nothing, Owner};
        // Whether only members enter, what hag is, the lists of owners and admins, what hag is then.
        for (members_only, before, owners, admins, after) in [
            (false, Owner, Some(&["crone"][..]), None, Admin),
            (false, Owner, Some(&["crone"]), Some(&["hag"][..]), Admin),
            (false, Owner, Some(&["crone"]), Some(&[]), Nothing),
            (true, Owner, Some(&["crone"]), Some(&[]), Member),
            (false, Owner, None, Some(&[]), Owner),
            (false, Owner, None, Some(&["hag"]), Owner),
            (false, Admin, None, Some(&[]), Nothing),
            (true, Admin, None, Some(&[]), Member),
            (false, Admin, Some(&["crone"]), None, Admin),
            (false, Admin, Some(&["crone", "hag"]), Some(&[]), Owner),
            (false, Member, Some(&["crone", "hag"]), None, Owner),
            (false, Member, Some(&["crone"]), Some(&[]), Member),
        ] {
            let mut scene = Scene::new(RoomConfig { members_only, ..RoomConfig::default() });
            scene.room.restore(bare("hag"), Standing { affiliation: before, ..Standing::default() });
            ["crone", "hag"].iter().for_each(|name| scene.enters(name, name).unwrap());
            let mut form = Form::typed(FormKind::Submit, muc::ROOM_CONFIG);
            for (var, list) in [("owners", owners), ("admins", admins)] {
                form.fields.extend(list.map(|list| {
                    let field = Field::new(FieldType::JidMulti, format!("muc#roomconfig_room{var}"));
                    field.with_values(list.iter().map(|name| bare(name).to_string()))
                }));
            }
            let query = Element::new("query", muc::NS_OWNER).with(form.element());
            scene.sent();
            scene.room.configure(&full("crone").into(), &query, &mut scene.written).unwrap();
            assert_eq!(scene.room.affiliation(&bare("hag")), after, "{members_only} {before:?} {owners:?} {admins:?}");
            // Everybody hears of it once, and nobody goes.
            let told = scene.sent().iter().filter(|line| line.starts_with("crone < hag:")).count();
            assert_eq!((told, scene.room.occupants.len()), (usize::from(before != after), 2));
        }
    }
}
