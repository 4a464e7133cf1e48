//! XEP-0045 §7.2 to §7.7 and §7.14: entering a room, changing what one shows, another nickname, and leaving.

use magpie_proto::error::ErrorType;
use magpie_proto::precis::nickname_key;
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::delay;
use magpie_proto::xeps::muc::{self, Affiliation, Item, Role, Status};
use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::{FullJid, StanzaCondition, StanzaError, ns};

use super::occupants::{Entrance, Occupant, Seat, key};
use super::room::{Deed, Outcome, Outside, Room, as_occupant, not_an_occupant, unavailable};

/// What who enters wants of what was said before (§7.2.14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HistoryWanted {
    chars_max: Option<usize>,
    stanzas_max: Option<usize>,
    since: Option<DateTime>,
}

impl HistoryWanted {
    /// Of `<history/>`; what is no number or time there is as if it were not.
    fn parse(history: Option<&Element>, now: DateTime) -> Self {
        let Some(history) = history else { return Self::default() };
        let number = |name| history.attr(name).and_then(|text| text.trim().parse::<u32>().ok());
        let stamp = history.attr("since").and_then(|text| text.parse::<DateTime>().ok());
        let seconds =
            number("seconds").map(|seconds| DateTime::from_unix_millis(now.unix_millis() - i64::from(seconds) * 1000));
        Self {
            chars_max: number("maxchars").map(|max| max as usize),
            stanzas_max: number("maxstanzas").map(|max| max as usize),
            since: [stamp, seconds].into_iter().flatten().max(),
        }
    }
}

impl Room {
    /// A presence for the room, or for a nickname in it.
    pub fn presence(&mut self, seat: Seat, nick: Option<&str>, presence: &Stanza, out: &mut impl Outside) -> Outcome {
        match presence.type_().as_deref() {
            None => match nick {
                Some(nick) => self.available(seat, nick, presence, out),
                // §7.2.1: a nickname has to be wanted.
                None => Err(StanzaCondition::JidMalformed.into()),
            },
            Some("unavailable") => {
                let account = seat.jid.to_bare();
                self.leave(&seat.jid, presence, &[], out);
                // Who says so to the room has left it, and does not only sleep.
                if !self.occupants.has_account(&account) {
                    self.stay(&account, false, out);
                }
                Ok(())
            }
            Some("error") => {
                self.answered_with_error(&seat.jid, presence, out);
                Ok(())
            }
            // Subscriptions and probes: a room has no roster.
            Some(_) => Ok(()),
        }
    }

    fn available(&mut self, seat: Seat, nick: &str, presence: &Stanza, out: &mut impl Outside) -> Outcome {
        let wants_in = presence.child("x", muc::NS);
        match self.occupants.seated(&seat.jid) {
            None => match wants_in {
                Some(x) => self.enter(seat, nick, presence, &x.element(), out),
                // A client that believes it is there, and is not: it must enter (§7.2.18 lets us do without the old protocol).
                None => Err(not_an_occupant()),
            },
            Some(occupant) => {
                let is_other = occupant.nick() != nick;
                self.check_pace(&seat.jid, out)?;
                if is_other {
                    self.change_nick(&seat.jid, nick, out)?;
                }
                // §7.7; a client that has lost what it knew enters where it is already, and is told all again (§17.3).
                self.takes_presence(nick, presence);
                match wants_in {
                    None => self.show(nick, &[], out),
                    Some(_) => {
                        self.show_to_others(nick, &seat, out);
                        self.welcome(&seat, nick, presence, out);
                    }
                }
                Ok(())
            }
        }
    }

    fn takes_presence(&mut self, nick: &str, presence: &Stanza) {
        if let Some(occupant) = self.occupants.named_mut(nick) {
            occupant.presence = as_occupant(presence, &occupant.address, &occupant.id);
        }
        self.refresh(nick);
    }

    /// Whether the nickname may be had by an account; `sharing`: whether it has it already.
    fn check_nick(&self, seat: &Seat, nick: &str) -> Outcome<bool> {
        nickname_key(nick).map_err(|error| StanzaError::new(StanzaCondition::JidMalformed, error.to_string()))?;
        let account = seat.jid.to_bare();
        match self.occupants.named(nick) {
            Some(occupant) if occupant.account == account => Ok(true),
            Some(_) => Err(StanzaCondition::Conflict.into()),
            None if self.is_reserved_from(&account, nick) => Err(StanzaCondition::Conflict.into()),
            None => Ok(false),
        }
    }

    fn enter(&mut self, seat: Seat, nick: &str, presence: &Stanza, x: &Element, out: &mut impl Outside) -> Outcome {
        let account = seat.jid.to_bare();
        let affiliation = self.affiliation(&account);
        if affiliation == Affiliation::Outcast {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.open_in_time(out);
        if self.locked && affiliation != Affiliation::Owner {
            return Err(StanzaCondition::ItemNotFound.into());
        }
        if self.config.members_only && affiliation < Affiliation::Member {
            return Err(StanzaCondition::RegistrationRequired.into());
        }
        // §7.2.5 exempts nobody: an owner who does not know it finds it in the form.
        if let Some(secret) = &self.config.password {
            let given = x.child("password", muc::NS).map(Element::text).unwrap_or_default();
            let same = aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), secret.as_bytes()).is_ok();
            if !same {
                return Err(StanzaCondition::NotAuthorized.into());
            }
        }
        let sharing = self.check_nick(&seat, nick)?;
        if sharing {
            let nick =
                self.occupants.named(nick).map_or_else(|| nick.to_owned(), |occupant| occupant.nick().to_owned());
            self.occupants.share(&nick, seat.clone());
            self.takes_presence(&nick, presence);
            self.show_to_others(&nick, &seat, out);
            self.welcome(&seat, &nick, presence, out);
            return Ok(());
        }
        if self.occupants.len() >= self.config.occupants_max as usize && affiliation < Affiliation::Admin {
            return Err(
                StanzaError::new(StanzaCondition::ServiceUnavailable, "the room is full").with_type(ErrorType::Wait)
            );
        }
        let address = self.address_of(nick)?;
        if affiliation < Affiliation::Member {
            self.check_entrances(out)?;
        }
        let id = self.occupant_id(&account);
        let role = self.entrance_role(&account, affiliation);
        let shown = as_occupant(presence, &address, &id);
        let entrance = Entrance { address, seat: seat.clone(), role, affiliation, presence: shown, id };
        self.occupants.add(entrance.into());
        self.stay(&account, true, out);
        self.refresh(nick);
        self.show_to_others(nick, &seat, out);
        self.welcome(&seat, nick, presence, out);
        Ok(())
    }

    /// A session that was in the room before the server was restarted, and knows what it knew then: it is there again, and nobody
    /// need be told. Whether it may be.
    pub fn sit_again(&mut self, seat: Seat, nick: &str, presence: &Stanza) -> bool {
        let account = seat.jid.to_bare();
        let affiliation = self.affiliation(&account);
        let shut_out =
            affiliation == Affiliation::Outcast || self.config.members_only && affiliation < Affiliation::Member;
        if shut_out || self.locked {
            return false;
        }
        match self.check_nick(&seat, nick) {
            Ok(true) => self.occupants.share(nick, seat),
            Ok(false) => {
                let Ok(address) = self.address_of(nick) else { return false };
                let id = self.occupant_id(&account);
                let role = self.entrance_role(&account, affiliation);
                let presence = as_occupant(presence, &address, &id);
                self.occupants.add(Entrance { address, seat, role, affiliation, presence, id }.into());
                self.refresh(nick);
            }
            Err(_) => return false,
        }
        true
    }

    /// To everybody but one session.
    fn show_to_others(&self, nick: &str, but: &Seat, out: &mut impl Outside) {
        let Some(occupant) = self.occupants.named(nick) else { return };
        if occupant.seats.len() > 1 {
            let own = Self::presence_of(occupant, self.sees_addresses(occupant), &[Status::Own]);
            occupant.seats.iter().filter(|seat| seat.jid != but.jid).for_each(|seat| out.send(seat, &own));
        }
        if !self.config.broadcast.has(occupant.role) {
            return;
        }
        for other in self.occupants.iter().filter(|other| other.address != occupant.address) {
            let presence = &occupant.shown[usize::from(self.sees_addresses(other))];
            other.seats.iter().for_each(|seat| out.send(seat, presence));
        }
    }

    /// §7.1: what who enters gets, in its order: the others, itself, what was said before, the subject. `entrance`: with which it enters.
    fn welcome(&mut self, seat: &Seat, nick: &str, entrance: &Stanza, out: &mut impl Outside) {
        self.tell_affiliations(seat, nick, entrance, out);
        let Some(occupant) = self.occupants.named(nick) else { return };
        let with_addresses = self.sees_addresses(occupant);
        for other in self.occupants.iter().filter(|other| other.address != occupant.address) {
            if self.config.broadcast.has(other.role) {
                out.send_kept(seat, &other.shown[usize::from(with_addresses)]);
            }
        }
        let mut statuses = vec![Status::Own];
        statuses.extend(self.config.non_anonymous().then_some(Status::NonAnonymousRoom));
        statuses.extend(self.config.archived.then_some(Status::Logged));
        statuses.extend(self.locked.then_some(Status::Created));
        let own = muc::user(Some(&Self::item(occupant, with_addresses)), &statuses).with(self.stated_version());
        out.send(seat, &occupant.presence.with_child(&own));
        let x = entrance.child("x", muc::NS).map(|x| x.element());
        let wanted = HistoryWanted::parse(x.as_ref().and_then(|x| x.child("history", muc::NS)), out.now());
        self.tell_history(seat, wanted, out);
        self.tell_subject(seat, out);
    }

    fn tell_history(&self, seat: &Seat, wanted: HistoryWanted, out: &mut impl Outside) {
        let mut room = wanted.chars_max.unwrap_or(usize::MAX);
        let max = wanted.stanzas_max.unwrap_or(usize::MAX).min(self.config.history_max as usize);
        let since = |at: DateTime| wanted.since.is_none_or(|since| at.unix_millis() >= since.unix_millis());
        let mut told = Vec::new();
        for said in self.history.iter().rev().take(max).take_while(|said| since(said.at)) {
            let message = said.message.with_child(&delay::element(Some(self.address.as_str()), said.at, None));
            // §7.2.14: characters of whole stanzas.
            let chars = message.text().chars().count();
            if chars > room {
                break;
            }
            room -= chars;
            told.push(message);
        }
        told.iter().rev().for_each(|message| out.send(seat, message));
    }

    /// §7.2.15: the subject ends what who enters is told, even if there is none.
    pub(super) fn tell_subject(&self, seat: &Seat, out: &mut impl Outside) {
        let message = match &self.subject {
            Some(subject) => subject.message.with_child(&delay::element(Some(self.address.as_str()), subject.at, None)),
            None => {
                let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address);
                Stanza::new(&message.with_attr("type", "groupchat").with(Element::new("subject", ns::CLIENT)))
            }
        };
        out.send(seat, &message);
    }

    fn change_nick(&mut self, jid: &FullJid, nick: &str, out: &mut impl Outside) -> Outcome {
        let Some(occupant) = self.occupants.seated(jid) else { return Err(not_an_occupant()) };
        let old = occupant.nick().to_owned();
        let seat = Seat { jid: jid.clone(), session: None };
        // Another spelling of one's own is another nickname, too.
        if self.check_nick(&seat, nick)? && key(nick) != key(&old) {
            return Err(StanzaCondition::Conflict.into());
        }
        let address = self.address_of(nick)?;
        let before = unavailable(occupant);
        let form = |occupant: &Occupant, with_address: bool, own: bool| {
            let item = Item { nick: Some(nick.to_owned()), ..Self::item(occupant, with_address) };
            let statuses: &[Status] = if own { &[Status::NewNick, Status::Own] } else { &[Status::NewNick] };
            before.with_child(&muc::user(Some(&item), statuses))
        };
        let shown = self.config.broadcast.has(occupant.role);
        let forms = [false, true].map(|with_address| form(occupant, with_address, false));
        for other in self.occupants.iter().filter(|other| shown && other.address != occupant.address) {
            let presence = &forms[usize::from(self.sees_addresses(other))];
            other.seats.iter().for_each(|seat| out.send(seat, presence));
        }
        let own = form(occupant, self.sees_addresses(occupant), true);
        occupant.seats.iter().for_each(|seat| out.send(seat, &own));
        self.occupants.rename(&old, address);
        Ok(())
    }

    /// §7.14: a session leaves, or is gone. `presence`: with which it says so. Whether its account stays without it is another matter.
    /// §10.1.3: a room that its maker leaves before it has said what the room is to be is none.
    pub fn leave(&mut self, jid: &FullJid, presence: &Stanza, statuses: &[Status], out: &mut impl Outside) {
        let Some(occupant) = self.occupants.seated(jid) else { return };
        let is_last = self.occupants.len() == 1 && occupant.seats.len() == 1;
        let (address, id) = (occupant.address.clone(), occupant.id.clone());
        let seat = occupant.seats.iter().find(|seat| seat.jid == *jid).cloned();
        self.open_in_time(out);
        if self.locked && is_last {
            return self.end(&Element::new("destroy", muc::NS_USER), out);
        }
        let presence = as_occupant(presence, &address, &id);
        match self.occupants.leave(jid) {
            Some(gone) => {
                self.say_gone(&gone, &presence, &Deed { statuses, ..Deed::default() }, out);
                self.after_leaving(out);
            }
            // The others of its account stay, and nobody else need know.
            None => {
                let item = Item {
                    affiliation: Some(self.affiliation(&jid.to_bare())),
                    role: Some(Role::None),
                    ..Item::default()
                };
                let all: Vec<Status> = [Status::Own].iter().chain(statuses).copied().collect();
                let own = presence.with_child(&muc::user(Some(&item), &all));
                seat.iter().for_each(|seat| out.send(seat, &own));
            }
        }
    }

    /// §11.2: what a session gets whose client is in no room any more because the server stops.
    pub fn farewell(&self, jid: &FullJid) -> Option<Stanza> {
        let occupant = self.occupants.seated(jid)?;
        let item = Item { role: Some(Role::None), ..Self::item(occupant, self.sees_addresses(occupant)) };
        Some(unavailable(occupant).with_child(&muc::user(Some(&item), &[Status::Own, Status::Shutdown])))
    }

    /// §11.1, §18.1.2: a client that answers the room with an error of delivery is not there any more. Other errors say that it is.
    pub fn answered_with_error(&mut self, jid: &FullJid, error: &Stanza, out: &mut impl Outside) {
        let Some(occupant) = self.occupants.seated(jid).filter(|_| is_of_delivery(error)) else { return };
        let presence = unavailable(occupant).with(Attr::Id, None);
        self.leave(jid, &presence, &[Status::ErrorReply], out);
    }
}

/// Whether an error says that its sender was not reached. One that says nothing at all does.
fn is_of_delivery(stanza: &Stanza) -> bool {
    let error = stanza.children().find(|child| child.name == "error").map(|error| error.element());
    let condition = error.as_ref().and_then(|error| error.children().find(|child| child.ns() == ns::STANZA_ERRORS && child.name() != "text"));
    condition.is_none_or(|condition| {
        matches!(
            condition.name(),
            "gone"
                | "internal-server-error"
                | "item-not-found"
                | "jid-malformed"
                | "recipient-unavailable"
                | "redirect"
                | "remote-server-not-found"
                | "remote-server-timeout"
                | "service-unavailable"
        )
    })
}
