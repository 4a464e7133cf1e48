//! XEP-0045 §7.4, §7.5, §8.1: messages to everybody, to one occupant, and the subject.

use magpie_proto::xeps::hints::Hints;
use magpie_proto::xeps::muc::{self, Affiliation, Role};
use magpie_proto::xeps::muc_config::AllowPm;
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{FullJid, StanzaCondition, StanzaError, ns};

use super::occupant_ids;
use super::occupants::{Occupant, Seat};
use super::room::{Outcome, Outside, Room, Said, Subject, as_occupant};
use crate::modules::stanza_ids;

/// Messages that a room remembers for who enters.
pub const HISTORY_MAX: usize = 100;

/// Bytes of them; the last message is remembered however long it is.
const HISTORY_BYTES_MAX: usize = 1024 * 1024;

impl Room {
    /// A message for everybody.
    pub fn groupchat(&mut self, from: &FullJid, message: &Stanza, out: &mut impl Outside) -> Outcome {
        self.occupant(from)?;
        self.take_as_it_is(out);
        let occupant = self.occupant(from)?;
        let is_subject = message.child("subject", ns::CLIENT).is_some()
            && message.child("body", ns::CLIENT).is_none()
            && message.child("thread", ns::CLIENT).is_none();
        if is_subject {
            return self.set_subject(from, message, out);
        }
        // §7.4: visitors hear.
        if occupant.role < Role::Participant {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.check_pace(from, out)?;
        let occupant = self.occupant(from)?;
        let now = out.now();
        let said = self.as_said(occupant, message);
        self.check_slow_mode(from, &said, now)?;
        let said = match self.config.archived && is_kept(&said) {
            true => out.keep(said, self.who(from).as_ref()),
            false => said,
        };
        self.broadcast(&said, out);
        self.wake_sleepers(&said, out);
        self.forward_mentions(&said, out);
        if said.child("body", ns::CLIENT).is_some() && !Hints::of(&said).no_store {
            self.remember(Said { at: now, message: said });
        }
        Ok(())
    }

    /// Who sent a message, for the archive of a room where that is no secret (XEP-0313 §5.1.1).
    fn who(&self, from: &FullJid) -> Option<Element> {
        let sender = self.occupants.seated(from).filter(|_| self.config.non_anonymous())?;
        let item = muc::Item { jid: Some(from.clone().into()), ..Self::item(sender, false) };
        Some(muc::user(Some(&item), &[]))
    }

    /// Members whose clients sleep are in the room, too.
    fn wake_sleepers(&self, said: &Stanza, out: &mut impl Outside) {
        if self.stays.is_empty() || said.child("body", ns::CLIENT).is_none() {
            return;
        }
        for account in self.stays.iter().filter(|account| !self.occupants.has_account(account)) {
            out.wake(account, self.standing(account).and_then(|standing| standing.nick.as_deref()), said);
        }
        for occupant in self.occupants.iter().filter(|occupant| occupant.seats.iter().all(Seat::sleeps)) {
            out.wake(&occupant.account, Some(occupant.nick()), said);
        }
    }

    /// A message as everybody gets it: with no id in the room's name (XEP-0359 §3).
    fn as_said(&self, occupant: &Occupant, message: &Stanza) -> Stanza {
        let message = stanza_ids::without_claims(message, &self.address);
        as_occupant(&message, &occupant.address, &occupant.id)
    }

    /// A message as everybody would get it.
    pub fn said_by(&self, from: &FullJid, message: &Stanza) -> Outcome<Stanza> {
        Ok(self.as_said(self.occupant(from)?, message))
    }

    /// Messages that were taken back, by their ids in the archive, are not told to who enters.
    pub fn forget_said(&mut self, ids: &[String]) {
        self.history.retain(|said| {
            let id = said.message.child("stanza-id", stanza_ids::NS).map(|child| child.element());
            let id = id.as_ref().and_then(|id| id.attr("id"));
            !id.is_some_and(|id| ids.iter().any(|gone| gone == id))
        });
    }

    /// For who enters later.
    pub fn remember(&mut self, said: Said) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(said);
        let bytes = |said: &Said| said.message.text().len();
        let mut all: usize = self.history.iter().map(bytes).sum();
        while all > HISTORY_BYTES_MAX && self.history.len() > 1 {
            all -= self.history.pop_front().as_ref().map_or(0, bytes);
        }
    }

    /// §8.1: moderators may, and others where the room is configured so.
    fn set_subject(&mut self, from: &FullJid, message: &Stanza, out: &mut impl Outside) -> Outcome {
        let occupant = self.occupant(from)?;
        let may = occupant.role == Role::Moderator || self.config.change_subject && occupant.role >= Role::Participant;
        if !may {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.check_pace(from, out)?;
        let said = self.as_said(self.occupant(from)?, message);
        let said = if self.config.archived { out.keep(said, self.who(from).as_ref()) } else { said };
        self.broadcast(&said, out);
        // One that was taken away is one, too: who enters is told when (§7.2.15).
        self.subject = Some(Subject { message: said.with(Attr::Id, None), at: out.now() });
        out.change(super::room::Change::Record);
        Ok(())
    }

    /// §7.5: a private message.
    pub fn private(&mut self, from: &FullJid, nick: &str, message: &Stanza, out: &mut impl Outside) -> Outcome {
        self.occupant(from)?;
        self.check_pace(from, out)?;
        let sender = self.occupant(from)?;
        if message.type_().as_deref() == Some("groupchat") {
            return Err(StanzaError::new(StanzaCondition::BadRequest, "messages for everybody go to the room itself"));
        }
        let may = match self.config.allow_pm {
            AllowPm::Anyone => true,
            AllowPm::Participants => sender.role >= Role::Participant,
            AllowPm::Moderators => sender.role == Role::Moderator,
            AllowPm::None => false,
        };
        // Whoever may not write to each other can always write to those who watch over the room.
        let target = self.occupants.named(nick).filter(|target| target.nick() == nick);
        let target = target.ok_or(StanzaCondition::ItemNotFound)?;
        if !may && (self.config.allow_pm == AllowPm::None || target.role < Role::Moderator) {
            return Err(StanzaCondition::Forbidden.into());
        }
        let message = as_occupant(message, &sender.address, &sender.id).with_child(&Element::new("x", muc::NS_USER));
        out.send_private(&target.seats, &message);
        Ok(())
    }

    /// Whether an account may read the room's archive.
    pub fn may_read(&self, account: &magpie_proto::BareJid) -> bool {
        self.occupants.has_account(account)
            || self.admits(account) && (self.affiliation(account) >= Affiliation::Member || !self.config.members_only)
    }
}

/// Whether a message is worth keeping: it says something, or changes what was said. Chat states alone are not.
pub fn is_kept(message: &Stanza) -> bool {
    let hints = Hints::of(message);
    if hints.no_store || hints.no_permanent_store {
        return false;
    }
    hints.store
        || message.children().any(|child| {
            !matches!(child.ns, ns::CHAT_STATES | magpie_proto::xeps::hints::NS | occupant_ids::NS | stanza_ids::NS)
                && !child.is("thread", ns::CLIENT)
        })
}
