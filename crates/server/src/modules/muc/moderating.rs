//! XEP-0045 §8 and §9: roles and affiliations, and the lists of who has them.

use magpie_proto::xeps::muc::{self, Affiliation, Item, Role, Status};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use super::occupants::{Occupant, key};
use super::privileges::{Rank, default_role, may_change_affiliation, may_change_role};
use super::room::{Deed, Outcome, Outside, Room};

/// Items of one request.
const ITEMS_MAX: usize = 1000;

impl Room {
    /// `muc#admin` get: the list of those with a role or an affiliation.
    pub fn list(&self, from: &Jid, query: &Element) -> Outcome<Element> {
        let items = items(query)?;
        let Rank { affiliation, role } = self.rank_of(from);
        let mut answer = Element::new("query", muc::NS_ADMIN);
        for item in &items {
            match (item.affiliation, item.role) {
                (Some(Affiliation::None), None) => return Err(StanzaCondition::BadRequest.into()),
                (Some(wanted), None) => {
                    if !self.may_list(affiliation, role, wanted) {
                        return Err(StanzaCondition::Forbidden.into());
                    }
                    let mut found: Vec<_> =
                        self.standings().filter(|(_, standing)| standing.affiliation == wanted).collect();
                    found.sort_unstable_by_key(|(jid, _)| *jid);
                    answer = answer.with_all(found.into_iter().map(|(jid, standing)| {
                        let item = Item {
                            affiliation: Some(wanted),
                            jid: Some(jid.clone().into()),
                            nick: standing.nick.clone(),
                            reason: standing.reason.clone(),
                            ..Item::default()
                        };
                        item.element(muc::NS_ADMIN)
                    }));
                }
                (None, Some(wanted)) if wanted != Role::None => {
                    // §8.5; §9.8: who moderates is for admins to know.
                    if role != Role::Moderator || wanted == Role::Moderator && affiliation < Affiliation::Admin {
                        return Err(StanzaCondition::Forbidden.into());
                    }
                    let found = self.occupants.iter().filter(|occupant| occupant.role == wanted);
                    answer = answer.with_all(found.map(|occupant| {
                        let item = Item { nick: Some(occupant.nick().to_owned()), ..Self::item(occupant, true) };
                        item.element(muc::NS_ADMIN)
                    }));
                }
                _ => return Err(StanzaCondition::BadRequest.into()),
            }
        }
        Ok(answer)
    }

    /// Whether somebody may know who has an affiliation.
    pub(super) fn may_list(&self, affiliation: Affiliation, role: Role, wanted: Affiliation) -> bool {
        match wanted {
            // §9.5: members may know each other where addresses are no secret.
            Affiliation::Member | Affiliation::Admin | Affiliation::Owner
                if self.config.non_anonymous() && affiliation < Affiliation::Admin =>
            {
                // Who is not there is what it would be.
                let role = role.max(default_role(affiliation, self.config.moderated));
                (affiliation >= Affiliation::Member || role == Role::Moderator) && self.config.member_list.has(role)
            }
            Affiliation::Admin | Affiliation::Owner if self.config.non_anonymous() => true,
            Affiliation::Member | Affiliation::Outcast => affiliation >= Affiliation::Admin,
            // §10.5, §10.8
            Affiliation::Admin | Affiliation::Owner => affiliation == Affiliation::Owner,
            Affiliation::None => false,
        }
    }

    /// `muc#admin` set: changes roles and affiliations. All or nothing: what may not be is found out before anything is done.
    pub fn moderate(&mut self, from: &Jid, query: &Element, out: &mut impl Outside) -> Outcome {
        let items = items(query)?;
        let rank = self.rank_of(from);
        for item in &items {
            self.check_change(from, rank, item)?;
        }
        let is_new = |item: &&Item| {
            item.affiliation.is_some_and(|to| to != Affiliation::None)
                && self.meant(item).is_some_and(|account| self.standing(&account).is_none())
        };
        self.check_standings(items.iter().filter(is_new).count())?;
        let actor = from.to_full().and_then(|jid| self.occupants.seated(&jid)).map(|actor| actor.nick().to_owned());
        for item in items {
            let reason = item.reason.as_deref();
            match (item.role, item.affiliation) {
                (Some(role), _) => {
                    let nick = item.nick.as_deref().unwrap_or_default();
                    self.change_role(nick, role, actor.as_deref(), reason, out);
                }
                (None, Some(affiliation)) => {
                    if let Some(account) = self.meant(&item) {
                        let was_nothing = self.affiliation(&account) == Affiliation::None;
                        self.change_affiliation(&account, affiliation, actor.as_deref(), reason, out);
                        if was_nothing && affiliation == Affiliation::Member {
                            self.invite_member(&account, &from.to_bare(), out);
                        }
                        self.reserve(&account, item.nick.as_deref().filter(|_| item.jid.is_some()), out);
                    }
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Whose affiliation an item is about: an address, or the account of who has a nickname.
    fn meant(&self, item: &Item) -> Option<BareJid> {
        let by_nick = || self.occupants.named(item.nick.as_deref()?).map(|occupant| occupant.account.clone());
        item.jid.as_ref().map(Jid::to_bare).or_else(by_nick)
    }

    fn check_change(&self, from: &Jid, rank: Rank, item: &Item) -> Outcome {
        let Rank { affiliation, role } = rank;
        match (item.role, item.affiliation) {
            (Some(to), None) => {
                let nick = item.nick.as_deref().ok_or(StanzaCondition::BadRequest)?;
                if role != Role::Moderator {
                    return Err(StanzaCondition::Forbidden.into());
                }
                let target = self.occupants.named(nick).ok_or(StanzaCondition::ItemNotFound)?;
                let target = Rank { affiliation: target.affiliation, role: target.role };
                match target.role == to || may_change_role(rank, target, to) {
                    true => Ok(()),
                    false => Err(StanzaCondition::NotAllowed.into()),
                }
            }
            (None, Some(to)) => {
                if affiliation < Affiliation::Admin {
                    return Err(StanzaCondition::Forbidden.into());
                }
                let account = self.meant(item).ok_or(match &item.nick {
                    Some(_) => StanzaCondition::ItemNotFound,
                    None => StanzaCondition::BadRequest,
                })?;
                if let Some(nick) = item.nick.as_deref().filter(|nick| item.jid.is_some() && !nick.is_empty()) {
                    self.check_free(&account, nick)?;
                }
                let before = self.affiliation(&account);
                if before != to && !may_change_affiliation(affiliation, before, to) {
                    // §9.1: nobody bans somebody higher; §10.3 to §10.8: the lists of admins and owners are for owners to change.
                    let condition = match to {
                        Affiliation::Outcast => StanzaCondition::NotAllowed,
                        _ => StanzaCondition::Forbidden,
                    };
                    return Err(condition.into());
                }
                // §9.1: nobody bans itself; §10.4: a room has an owner.
                if account == from.to_bare() && to == Affiliation::Outcast {
                    return Err(StanzaCondition::Conflict.into());
                }
                let mut owners = self.standings().filter(|(_, standing)| standing.affiliation == Affiliation::Owner);
                if before == Affiliation::Owner && to != Affiliation::Owner && owners.all(|(jid, _)| *jid == account) {
                    return Err(StanzaError::new(StanzaCondition::Conflict, "a room needs an owner"));
                }
                Ok(())
            }
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }

    fn change_role(
        &mut self,
        nick: &str,
        role: Role,
        actor: Option<&str>,
        reason: Option<&str>,
        out: &mut impl Outside,
    ) {
        if role == Role::None {
            return self.remove(nick, &Deed { statuses: &[Status::Kicked], reason, actor, versions: None }, out);
        }
        let Some(occupant) = self.occupants.named_mut(nick).filter(|occupant| occupant.role != role) else { return };
        let before = std::mem::replace(&mut occupant.role, role);
        let account = occupant.account.clone();
        self.keep_voice(&account, role, out);
        self.refresh(nick);
        self.show_acted(nick, &Deed { reason, actor, ..Deed::default() }, out);
        self.after_role(nick, before, out);
    }

    /// A moderator gives an occupant another role.
    pub(super) fn set_role(
        &mut self,
        from: &FullJid,
        nick: &str,
        role: Role,
        actor: Option<&str>,
        reason: Option<&str>,
        out: &mut impl Outside,
    ) -> Outcome {
        let item = Item { role: Some(role), nick: Some(nick.to_owned()), ..Item::default() };
        let from = Jid::from(from.clone());
        self.check_change(&from, self.rank_of(&from), &item)?;
        self.change_role(nick, role, actor, reason, out);
        Ok(())
    }

    /// Gives an account another affiliation, and its occupants what follows: a role, or the way out.
    pub(super) fn change_affiliation(
        &mut self,
        account: &BareJid,
        affiliation: Affiliation,
        actor: Option<&str>,
        reason: Option<&str>,
        out: &mut impl Outside,
    ) {
        let before = self.affiliation(account);
        if before == affiliation {
            return;
        }
        self.set_standing(account, affiliation, reason, out);
        let versions = self.turn_version(Some((account, before)), out);
        let deed = Deed { reason, actor, versions: Some(&versions), ..Deed::default() };
        let nicks = self.concerned_by(account, affiliation);
        let shut_out = match affiliation {
            Affiliation::Outcast => Some(Status::Banned),
            Affiliation::None if self.config.members_only => Some(Status::NoLongerMember),
            _ => None,
        };
        let mut shown = false;
        for nick in &nicks {
            let Some(occupant) = self.occupants.named_mut(nick) else { continue };
            let role = occupant.role;
            if let Some(status) = shut_out {
                shown |= self.config.broadcast.has(role);
                self.remove(nick, &Deed { statuses: &[status], ..deed }, out);
                continue;
            }
            let usual = default_role(affiliation, self.config.moderated);
            // What an affiliation gives is had at once; what another gave before stays, but for moderators who were that by theirs.
            occupant.role = match before >= Affiliation::Admin {
                true => usual,
                false => role.max(usual),
            };
            shown |= self.config.broadcast.has(occupant.role);
            self.refresh(nick);
            self.show_acted(nick, &deed, out);
            self.after_role(nick, role, out);
        }
        if !shown {
            self.tell_affiliation(account, affiliation, versions, out);
        }
    }

    /// The nicknames of the occupants that the affiliation of an address is about: its own, and where it is a domain that is banned those
    /// of all there who are nothing by themselves.
    pub(super) fn concerned_by(&self, account: &BareJid, affiliation: Affiliation) -> Vec<String> {
        let domain = account.local().is_none() && affiliation == Affiliation::Outcast;
        let is_concerned = |occupant: &&Occupant| {
            occupant.account == *account
                || domain
                    && occupant.account.domain() == account.domain()
                    && self.affiliation(&occupant.account) <= Affiliation::None
        };
        self.occupants.iter().filter(is_concerned).map(|occupant| occupant.nick().to_owned()).collect()
    }

    /// §9.3: occupants hear of the affiliation of somebody who is not there, or not seen, where they may see addresses.
    fn tell_affiliation(
        &self,
        account: &BareJid,
        affiliation: Affiliation,
        versions: Element,
        out: &mut impl Outside,
    ) {
        let item = Item {
            affiliation: Some(affiliation),
            role: Some(Role::None),
            jid: Some(account.clone().into()),
            ..Item::default()
        };
        let message = Element::new("message", ns::CLIENT).with_attr("from", &self.address);
        let message = Stanza::new(&message.with(muc::user(Some(&item), &[]).with(versions)));
        let others = self.occupants.iter().filter(|occupant| occupant.account != *account);
        for occupant in others.filter(|occupant| self.sees_addresses(occupant)) {
            occupant.seats.iter().for_each(|seat| out.send(seat, &message));
        }
    }

    /// Whether a nickname, or one that looks the same, is reserved for another account.
    pub(super) fn is_reserved_from(&self, account: &BareJid, nick: &str) -> bool {
        let reserved = self.reserved.get_or_init(|| {
            let held = self.standings().filter(|(_, standing)| !standing.asks());
            held.filter_map(|(account, standing)| Some((key(standing.nick.as_deref()?), account.clone()))).collect()
        });
        reserved.get(&key(nick)).is_some_and(|holder| holder != account)
    }

    /// Whether a nickname can be reserved for an account: it is one, and no other's.
    pub(super) fn check_free(&self, account: &BareJid, nick: &str) -> Outcome {
        let address = self.address_of(nick)?;
        let taken = self.is_reserved_from(account, address.resource())
            || self.occupants.named(nick).is_some_and(|occupant| occupant.account != *account);
        if taken { Err(StanzaCondition::Conflict.into()) } else { Ok(()) }
    }

    /// Reserves a nickname for a member (§9.5); an empty one takes the reservation back.
    pub(super) fn reserve(&mut self, account: &BareJid, nick: Option<&str>, out: &mut impl Outside) {
        let Some(nick) = nick else { return };
        let nick = self.address_of(nick).ok().map(|address| address.resource().to_owned());
        self.reserved.take();
        if let Some(standing) = self.standings.get_mut(account) {
            standing.nick = nick;
            out.change(super::room::Change::Standing(account.clone()));
        }
    }
}

fn items(query: &Element) -> Outcome<Vec<Item>> {
    let items: Vec<&Element> = query.children().filter(|child| child.is("item", muc::NS_ADMIN)).collect();
    if items.is_empty() {
        return Err(StanzaCondition::BadRequest.into());
    }
    if items.len() > ITEMS_MAX {
        let text = format!("at most {ITEMS_MAX} items are changed at once");
        return Err(StanzaError::new(StanzaCondition::PolicyViolation, text));
    }
    let parse =
        |item| Item::parse(item).map_err(|error| StanzaError::new(StanzaCondition::BadRequest, error.to_string()));
    items.into_iter().map(parse).collect()
}
