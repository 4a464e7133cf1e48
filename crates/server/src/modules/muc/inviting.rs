//! XEP-0045 §7.8.2: invitations through the room, and refusals of them; and what else is asked of a room by a message.

use magpie_proto::xeps::data_forms::Form;
use magpie_proto::xeps::muc::{self, Affiliation};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use super::Muc;
use super::room::{Change, Outcome, Outside, Room, Standing};
use super::throttling::{INVITATIONS_PER_HOUR_MAX, Rate};
use crate::requests::Request;
use crate::server::now;

/// Invitations in one message.
const INVITED_MAX: usize = 20;

impl Room {
    /// A message to the room itself that is not for everybody. `false`: it is none that a room knows.
    pub fn asked_by_message(&mut self, from: &FullJid, message: &Stanza, out: &mut impl Outside) -> Outcome<bool> {
        if let Some(x) = message.child("x", muc::NS_USER).map(|x| x.element()) {
            let invitations: Vec<&Element> = x.children().filter(|child| child.is("invite", muc::NS_USER)).collect();
            if !invitations.is_empty() {
                self.invite(from, &invitations, out)?;
                return Ok(true);
            }
            if let Some(decline) = x.child("decline", muc::NS_USER) {
                self.decline(from, decline, out)?;
                return Ok(true);
            }
        }
        let form = message.children().find(|child| child.is("x", magpie_proto::xeps::data_forms::NS));
        let form = form.and_then(|form| Form::parse(&form.element()));
        let Some(form) = form else { return Ok(false) };
        match form.form_type() {
            Some(muc::REQUEST) => self.voice(from, &form, out)?,
            Some(muc::REGISTER) => self.decide(from, &form, out)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn invite(&mut self, from: &FullJid, invitations: &[&Element], out: &mut impl Outside) -> Outcome {
        self.occupant(from)?;
        self.take_as_it_is(out);
        let affiliation = self.occupant(from)?.affiliation;
        // §5.1.1: visitors, too; §9.5: where it makes members, only those who may do that.
        let may = !self.config.members_only
            || affiliation >= Affiliation::Admin
            || self.config.allow_invites && affiliation == Affiliation::Member;
        if !may {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.check_pace(from, out)?;
        if invitations.len() > INVITED_MAX {
            let text = format!("at most {INVITED_MAX} can be invited at once");
            return Err(StanzaError::new(StanzaCondition::PolicyViolation, text));
        }
        let invited: Option<Vec<Jid>> =
            invitations.iter().map(|invite| invite.attr("to").and_then(|to| Jid::parse(to).ok())).collect();
        let invited = invited.ok_or(StanzaCondition::JidMalformed)?;
        if self.config.members_only {
            let is_new = |to: &&Jid| self.standing(&to.to_bare()).is_none();
            self.check_standings(invited.iter().filter(is_new).count())?;
        }
        for (to, invite) in invited.iter().zip(invitations) {
            // §7.8.2: in a members-only room who is invited becomes a member, unless it is banned.
            let account = to.to_bare();
            if self.config.members_only && self.affiliation(&account) == Affiliation::None {
                self.change_affiliation(&account, Affiliation::Member, None, None, out);
            }
            out.send_out(self.invitation(to, &from.clone().into(), Some(invite)));
        }
        Ok(())
    }

    /// An invitation through the room: `invite` is what the inviter said.
    fn invitation(&self, to: &Jid, from: &Jid, invite: Option<&Element>) -> Stanza {
        let kept = |name| invite.and_then(|invite| invite.child(name, muc::NS_USER));
        let passed = Element::new("invite", muc::NS_USER)
            .with_attr("from", from)
            .with_all(kept("reason").cloned())
            .with_all(kept("continue").cloned());
        let password = self
            .config
            .password
            .as_deref()
            .map(|password| Element::new("password", muc::NS_USER).with_text(password));
        let mut direct = Element::new("x", muc::NS_INVITE).with_attr("jid", &self.address);
        if let Some(reason) = kept("reason").map(Element::text) {
            direct.set_attr("reason", reason);
        }
        let text = format!("{} invites you to the room {}", from.to_bare(), self.address);
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", &self.address)
            .with_attr("to", to)
            .with(Element::new("x", muc::NS_USER).with(passed).with_all(password))
            .with(direct)
            .with(Element::new("body", ns::CLIENT).with_text(text));
        Stanza::new(&message)
    }

    /// §9.5: who was made a member of a room for members alone, and is not in it, is invited.
    pub(super) fn invite_member(&self, account: &BareJid, by: &BareJid, out: &mut impl Outside) {
        if self.config.members_only && account.local().is_some() && !self.occupants.has_account(account) {
            out.send_out(self.invitation(&account.clone().into(), &by.clone().into(), None));
        }
    }

    fn decline(&mut self, from: &FullJid, decline: &Element, out: &mut impl Outside) -> Outcome {
        let to = decline.attr("to").and_then(|to| Jid::parse(to).ok()).ok_or(StanzaCondition::JidMalformed)?;
        // Only to who is in the room: a room is no way to write to others unseen.
        let account = to.to_bare();
        let inviter = match to.to_full() {
            Some(full) if full.to_bare() == self.address => self.occupants.named(full.resource()),
            Some(full) => self.occupants.seated(&full),
            None => self.occupants.of_account(&account).next(),
        };
        let inviter = inviter.ok_or(StanzaCondition::ItemNotFound)?;
        let declined = Element::new("decline", muc::NS_USER).with_attr("from", from.to_bare());
        let declined = declined.with_all(decline.child("reason", muc::NS_USER).cloned());
        let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address);
        let message = Stanza::new(&message.with(Element::new("x", muc::NS_USER).with(declined)));
        inviter.seats.iter().for_each(|seat| out.send(seat, &message));
        Ok(())
    }

    /// Gives an account an affiliation; occupants are not told by this.
    pub(super) fn set_standing(
        &mut self,
        account: &BareJid,
        affiliation: Affiliation,
        reason: Option<&str>,
        out: &mut impl Outside,
    ) {
        let nick = self.standings.get(account).and_then(|standing| standing.nick.clone());
        // Who is banned, or no more than nothing, gives its nickname back.
        let nick = nick.filter(|_| affiliation >= Affiliation::Member);
        self.reserved.take();
        let standing = Standing { affiliation, nick, reason: reason.map(str::to_owned), voice: None };
        match standing.is_nothing() {
            true => drop(self.standings.remove(account)),
            false => drop(self.standings.insert(account.clone(), standing)),
        }
        let concerned: Vec<String> = self.concerned_by(account, affiliation);
        for nick in &concerned {
            if let Some(occupant) = self.occupants.named_mut(nick) {
                occupant.affiliation = affiliation;
            }
        }
        out.change(Change::Standing(account.clone()));
        let inside = self.stays.contains(account) || self.occupants.has_account(account);
        self.stay(account, inside, out);
    }
}

impl Muc {
    /// Takes as many invitations as an account may send now, and no more than it wants to.
    fn take_invitations(&self, account: &BareJid, wanted: usize) -> usize {
        let rate = Rate::new(INVITATIONS_PER_HOUR_MAX, 60 * 60);
        let now_millis = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        (0..wanted).take_while(|_| self.invitations.take(account, rate, now_millis).is_ok()).count()
    }

    /// Whether an account may send the invitations that a message has, if it has any.
    pub(super) fn check_inviter(&self, account: &BareJid, message: &Stanza) -> Outcome {
        let Some(x) = message.child("x", muc::NS_USER) else { return Ok(()) };
        let wanted = x.element().children().filter(|child| child.is("invite", muc::NS_USER)).count().min(INVITED_MAX);
        match self.take_invitations(account, wanted) == wanted {
            true => Ok(()),
            false => Err(StanzaError::new(StanzaCondition::ResourceConstraint, "you invited many: wait before you go on")),
        }
    }

    /// Of the invitations that follow from a change of affiliations those are sent that its author may send. It is told how many are not.
    pub(super) fn invite_some(&self, request: &Request, invitations: &mut Vec<Stanza>) {
        let wanted = invitations.len();
        invitations.truncate(self.take_invitations(&request.from.to_bare(), wanted));
        if invitations.len() < wanted {
            let not = wanted - invitations.len();
            let text = format!("{not} of {wanted} new members were not invited: you invited many in the last hour");
            let message = Element::new("message", ns::CLIENT).with_attr("from", &request.to).with_attr("to", &request.from);
            invitations.push(Stanza::new(&message.with(Element::new("body", ns::CLIENT).with_text(text))));
        }
    }
}
