//! XEP-0045: Multi-User Chat
//!
//! The words of the protocol. What a room is configured with is in [`super::muc_config`].

use crate::{Element, Jid};

/// The namespace of what enters a room, and the feature.
pub const NS: &str = "http://jabber.org/protocol/muc";
/// The namespace of what a room says to users.
pub const NS_USER: &str = "http://jabber.org/protocol/muc#user";
/// The namespace of what moderators and admins ask.
pub const NS_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// The namespace of what owners ask.
pub const NS_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// The type of forms that configure a room.
pub const ROOM_CONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";
/// The type of forms that describe a room (§6.4).
pub const ROOM_INFO: &str = "http://jabber.org/protocol/muc#roominfo";
/// The type of forms by which voice is asked for (§7.13).
pub const REQUEST: &str = "http://jabber.org/protocol/muc#request";
/// The type of forms by which a user registers with a room (§7.10).
pub const REGISTER: &str = "http://jabber.org/protocol/muc#register";
/// The node of service discovery under which a room tells a user's reserved nickname (§7.12).
pub const RESERVED_NICK_NODE: &str = "x-roomuser-item";
/// The node of service discovery under which a room tells what it passes on (§18.1.1).
pub const TRAFFIC_NODE: &str = "http://jabber.org/protocol/muc#traffic";
/// The feature of a service, or a room, that passes messages on with the ids that they were sent with (§7.4).
pub const STABLE_ID: &str = "http://jabber.org/protocol/muc#stable_id";
/// The node of service discovery under which a client tells in which rooms it is (§6.7).
pub const ROOMS_NODE: &str = "http://jabber.org/protocol/muc#rooms";
/// XEP-0249: Direct MUC Invitations
pub const NS_INVITE: &str = "jabber:x:conference";

words! {
    /// §5.2: what a user is to a room, for as long as somebody does not change it. In the order of the hierarchy.
    #[derive(Default, PartialOrd, Ord)]
    Affiliation {
        /// Banned.
        Outcast = "outcast",
        /// Nothing.
        #[default]
        None = "none",
        /// Lets into members-only rooms, and speak in moderated ones.
        Member = "member",
        /// Bans, makes members and moderators.
        Admin = "admin",
        /// Configures and destroys.
        Owner = "owner",
    }
}

words! {
    /// §5.1: what an occupant may do while it is in the room. In the order of the hierarchy.
    #[derive(Default, PartialOrd, Ord)]
    Role {
        /// Not in the room.
        #[default]
        None = "none",
        /// Hears.
        Visitor = "visitor",
        /// Speaks.
        Participant = "participant",
        /// Kicks, gives and takes voice.
        Moderator = "moderator",
    }
}

/// §12 and §16.6.2: what a status code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// Everybody may see everybody's address.
    NonAnonymousRoom = 100,
    /// The user's affiliation changed while it was not in the room.
    AffiliationChanged = 101,
    /// The room shows unavailable members.
    ShowsUnavailable = 102,
    /// The room does not show unavailable members.
    HidesUnavailable = 103,
    /// The configuration changed in a way that is not about privacy.
    ConfigurationChanged = 104,
    /// The presence is the recipient's own.
    Own = 110,
    /// The room is logged.
    Logged = 170,
    /// The room is not logged any more.
    NotLogged = 171,
    /// The room is non-anonymous now.
    NowNonAnonymous = 172,
    /// The room is semi-anonymous now.
    NowSemiAnonymous = 173,
    /// The room was just made.
    Created = 201,
    /// The room gave or changed the nickname.
    NickAssigned = 210,
    /// Banned.
    Banned = 301,
    /// The occupant has another nickname now.
    NewNick = 303,
    /// Kicked.
    Kicked = 307,
    /// Removed because the affiliation changed.
    NoLongerMember = 321,
    /// Removed because the room is members-only now.
    MembersOnly = 322,
    /// Removed because the service stops.
    Shutdown = 332,
    /// Removed because the client answered with an error.
    ErrorReply = 333,
}

impl Status {
    /// `<status/>`
    pub fn element(self) -> Element {
        Element::new("status", NS_USER).with_attr("code", (self as u16).to_string())
    }
}

/// `<item/>` in `muc#user` and `muc#admin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// `affiliation`
    pub affiliation: Option<Affiliation>,
    /// `role`
    pub role: Option<Role>,
    /// `jid`
    pub jid: Option<Jid>,
    /// `nick`
    pub nick: Option<String>,
    /// `<reason/>`
    pub reason: Option<String>,
    /// `jid` of `<actor/>`, left out where it is to be hidden.
    pub actor_jid: Option<Jid>,
    /// `nick` of `<actor/>`
    pub actor_nick: Option<String>,
}

/// An `<item/>` of which a part is not what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// No such affiliation.
    #[error("there is no such affiliation")]
    Affiliation,
    /// No such role.
    #[error("there is no such role")]
    Role,
    /// The `jid` is no address.
    #[error("the jid is no address")]
    Jid,
}

impl Item {
    /// Reads one from a request.
    pub fn parse(item: &Element) -> Result<Self, ItemError> {
        let word = |name| item.attr(name).map(str::to_owned);
        Ok(Self {
            affiliation: item
                .attr("affiliation")
                .map(|word| Affiliation::parse(word).ok_or(ItemError::Affiliation))
                .transpose()?,
            role: item.attr("role").map(|word| Role::parse(word).ok_or(ItemError::Role)).transpose()?,
            jid: item.attr("jid").map(|jid| Jid::parse(jid).map_err(|_| ItemError::Jid)).transpose()?,
            nick: word("nick"),
            reason: item.child("reason", item.ns()).map(Element::text).filter(|reason| !reason.is_empty()),
            actor_jid: None,
            actor_nick: None,
        })
    }

    /// As an element of one of the two namespaces.
    pub fn element(&self, ns: &str) -> Element {
        let mut item = Element::new("item", ns);
        if let Some(affiliation) = self.affiliation {
            item.set_attr("affiliation", affiliation.name());
        }
        if let Some(role) = self.role {
            item.set_attr("role", role.name());
        }
        if let Some(jid) = &self.jid {
            item.set_attr("jid", jid);
        }
        if let Some(nick) = &self.nick {
            item.set_attr("nick", nick);
        }
        if self.actor_jid.is_some() || self.actor_nick.is_some() {
            let mut actor = Element::new("actor", ns);
            if let Some(jid) = &self.actor_jid {
                actor.set_attr("jid", jid);
            }
            if let Some(nick) = &self.actor_nick {
                actor.set_attr("nick", nick);
            }
            item.push(actor);
        }
        match &self.reason {
            Some(reason) => item.with(Element::new("reason", ns).with_text(reason.as_str())),
            None => item,
        }
    }
}

/// `<x/>` in `muc#user`, with an item and what its status codes say.
pub fn user(item: Option<&Item>, statuses: &[Status]) -> Element {
    Element::new("x", NS_USER)
        .with_all(item.map(|item| item.element(NS_USER)))
        .with_all(statuses.iter().map(|status| status.element()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn affiliations_and_roles_are_in_the_order_of_their_hierarchies() {
        assert!(Affiliation::ALL.is_sorted() && Role::ALL.is_sorted());
        assert_eq!((Affiliation::default(), Role::default()), (Affiliation::None, Role::None));
    }

    #[test]
    fn an_item_is_read_as_it_is_written_but_for_who_acted() {
        let item = Item {
            affiliation: Some(Affiliation::Member),
            role: Some(Role::Visitor),
            jid: Some(Jid::parse("hag66@shakespeare.example/pda").unwrap()),
            nick: Some("third witch".into()),
            reason: Some("a <reason>".into()),
            ..Item::default()
        };
        assert_eq!(Item::parse(&item.element(NS_ADMIN)), Ok(item.clone()));
        let acted = Item { actor_nick: Some("crone".into()), ..item.clone() };
        assert_eq!(Item::parse(&acted.element(NS_USER)), Ok(item));
        let wrong = |name, value| Item::parse(&Element::new("item", NS_ADMIN).with_attr(name, value));
        assert_eq!(wrong("affiliation", "friend"), Err(ItemError::Affiliation));
        assert_eq!(wrong("role", "Owner"), Err(ItemError::Role));
        assert_eq!(wrong("jid", "@"), Err(ItemError::Jid));
    }
}
