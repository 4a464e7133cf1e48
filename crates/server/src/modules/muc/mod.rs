//! XEP-0045: Multi-User Chat
//!
//! Rooms at `conference.DOMAIN`. `room.rs` and what stands beside it is a room as a value; `rooms.rs` has those that are awake,
//! `storage.rs` their rows. A room that nobody is in takes no memory.

pub mod activity;
mod asking;
pub mod avatars;
pub mod banning;
mod entering;
pub mod forgetting;
pub mod hats;
mod inviting;
pub mod mentioning;
mod moderating;
pub mod occupant_ids;
pub mod occupants;
mod owning;
pub mod privileges;
pub mod registering;
pub mod relaying;
pub mod retracting;
pub mod room;
pub mod rooms;
pub mod searching;
mod showing;
mod slow_mode;
pub mod storage;
pub mod talking;
pub mod throttling;
mod unread;
pub mod versioning;
mod voicing;

#[cfg(test)]
mod registries;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use magpie_proto::xeps::disco::{self, Identity, Info, Items};
use magpie_proto::xeps::mam;
use magpie_proto::xeps::muc::{self, Affiliation};
use magpie_proto::xeps::muc_config::RoomConfig;
use magpie_proto::xeps::result_sets::{self, Page, PageAnswer, PageEnds, PageRequest};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use self::activity::Activity;
use self::banning::Bans;
use self::occupants::Seat;
use self::registering::NS_REGISTER;
use self::relaying::Relayed;
use self::room::{Outcome, Room, Standing};
use self::rooms::{Left, Rooms};
use self::throttling::Takers;
use super::archive::MessageArchive;
use super::offline::refusal;
use super::pubsub::InRoom;
use super::{About, Module, adhoc, ping, retraction, vcard};
use crate::mailbox::{Addressee, Delivery};
use crate::pipeline::{Outgoing, host_receives_message, sessions_receive_message};
use crate::promise::Promise;
use crate::registry::{SessionHandle, SessionId};
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server, now, random_bytes, random_text};
use crate::services::Service;

/// Rooms in one answer to disco#items.
const LISTED_MAX: usize = 200;

/// The module.
pub struct Muc {
    rooms: Rooms,
    archive: Arc<MessageArchive>,
    bans: Bans,
    makers: Takers,
    registrations: Takers,
    invitations: Takers,
    searches: Takers,
    activity: Activity,
}

impl Module for Muc {
    const ABOUT: &'static [About] = &[
        of_rooms(45, "Multi-User Chat", "1.35.5"),
        of_rooms(249, "Direct MUC Invitations", "1.2"),
        of_rooms(410, "MUC Self-Ping (Schrödinger's Chat)", "1.1.0"),
        of_rooms(425, "Moderated Message Retraction", "0.3.0"),
        of_rooms(500, "MUC Slow Mode", "0.1.1"),
        of_rooms(486, "MUC Avatars", "0.1.0"),
        of_rooms(502, "MUC Activity Indicator", "0.1.0"),
        of_rooms(317, "Hats", "0.3.1"),
        of_rooms(452, "MUC Mention Notifications", "0.2.2"),
        of_rooms(433, "Extended Channel Search", "0.1.0"),
        of_rooms(463, "MUC Affiliations Versioning", "0.2.0"),
        of_rooms(421, "Occupant identifiers for semi-anonymous MUCs", "1.0.1"),
    ];

    fn new(deps: &Deps) -> Self {
        let archive = Arc::new(MessageArchive::new(deps));
        Self {
            rooms: Rooms::new(deps, Arc::clone(&archive)),
            archive,
            bans: Bans::new(&deps.store),
            makers: Takers::default(),
            registrations: Takers::default(),
            invitations: Takers::default(),
            searches: Takers::default(),
            activity: Activity::default(),
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        let service = To::Service(Service::Muc);
        requests.own(service, Verb::Get, ("query", disco::NS_INFO), self, Self::info);
        requests.own(service, Verb::Get, ("query", disco::NS_ITEMS), self, Self::items);
        requests.own(service, Verb::Get, ("query", muc::NS_ADMIN), self, Self::admin_get);
        requests.own(service, Verb::Set, ("query", muc::NS_ADMIN), self, Self::admin_set);
        requests.own(service, Verb::Get, ("query", muc::NS_OWNER), self, Self::owner_get);
        requests.own(service, Verb::Set, ("query", muc::NS_OWNER), self, Self::owner_set);
        requests.own(service, Verb::Get, ("query", NS_REGISTER), self, Self::register_get);
        requests.own(service, Verb::Set, ("query", NS_REGISTER), self, Self::register_set);
        requests.own(service, Verb::Set, ("query", mam::NS), self, Self::archive_query);
        requests.own(service, Verb::Get, ("query", mam::NS), self, Self::archive_form);
        requests.own(service, Verb::Get, ("metadata", mam::NS), self, Self::archive_metadata);
        requests.own(service, Verb::Set, ("moderate", retracting::NS_MODERATE), self, Self::moderate);
        requests.own(service, Verb::Get, ("vCard", vcard::NS), self, Self::vcard_get);
        requests.own(service, Verb::Set, ("vCard", vcard::NS), self, Self::vcard_set);
        requests.own(service, Verb::Get, ("search", searching::NS), self, Self::search);
        requests.own(service, Verb::Set, ("command", adhoc::NS), self, Self::command);
        requests.own_now(service, Verb::Get, ("ping", ping::NS), self, |_, _| Ok(None));
    }
}

const fn of_rooms(xep: u16, title: &'static str, version: &'static str) -> About {
    About { xep: Some(xep), title, version, host_features: &[], account_features: &[] }
}

// Stanzas to rooms and occupants.

impl Muc {
    /// The rooms, for administrators.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// A message for everybody in a room that is awake, as nearly all are. `None`: it is for [`Muc::user_sends_message`], and nothing
    /// has been done to it.
    pub fn user_sends_now(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        to: &Jid,
        message: &Stanza,
    ) -> Option<Outcome<Promise>> {
        let is_groupchat = message.type_().as_deref() == Some("groupchat");
        let asks_store = retraction::takes_back(message) || unread::is_marker(message) || mentioning::refers(message);
        if to.resource().is_some() || to.local().is_none() || !is_groupchat || asks_store {
            return None;
        }
        let address = to.to_bare();
        let (done, left) =
            self.rooms.with_awake(&address, false, |room, out| room.groupchat(&session.jid, message, out))?;
        wake(server, &address, &left);
        Some(done.map(|()| promise(left, message)))
    }

    /// A message from a local session to a room or an occupant.
    pub async fn user_sends_message(&self, outgoing: &Outgoing, to: &Jid) -> Outcome<Promise> {
        let Outgoing { server, session, stanza: message, acknowledged } = outgoing;
        if to.local().is_none() {
            return host_receives_message(message);
        }
        let (address, from) = (to.to_bare(), &session.jid);
        let kind = message.type_();
        if to.resource().is_none() && kind.as_deref() == Some("groupchat") && retraction::takes_back(message) {
            return Ok(promise(self.retract(server, &address, from, message).await?, message));
        }
        self.check_inviter(&session.account, message)?;
        let ((), left) = self
            .rooms
            .with(&address, |room, out| match (to.resource(), kind.as_deref()) {
                (_, Some("error")) => {
                    room.answered_with_error(from, message, out);
                    Ok(())
                }
                (Some(nick), _) => room.private(from, nick, message, out),
                (None, Some("groupchat")) => room.groupchat(from, message, out),
                (None, _) => match room.asked_by_message(from, message, out)? {
                    true => Ok(()),
                    false => Err(StanzaError::new(
                        StanzaCondition::BadRequest,
                        "messages for everybody are of type groupchat",
                    )),
                },
            })
            .await?;
        wake(server, &address, &left);
        for stanza in &left.out {
            match deliver(server, stanza, &left.others, *acknowledged).await {
                // What everybody has got was sent, whoever else does not take it.
                Err(_) if mentioning::is_forward(stanza) => {}
                delivered => delivered?,
            }
        }
        if to.resource().is_none() && unread::is_marker(message) {
            let read = self.displayed(&session.account, &address, message).await.map_err(refusal)?;
            return Ok(promise(Left { ticket: read, ..left }, message));
        }
        Ok(promise(left, message))
    }

    /// Presence from a local session to a nickname; what is refused is answered.
    pub async fn user_sends_presence(&self, session: &Arc<SessionHandle>, to: &Jid, presence: &Stanza) -> Promise {
        self.take_presence(session, to, presence).await.unwrap_or_else(|error| {
            let is_update = presence.child("x", muc::NS).is_none() && to.resource().is_some();
            if is_update && error.condition == StanzaCondition::NotAcceptable {
                session.send(not_there(to));
            } else if let Some(error) = error.reply_to(presence) {
                session.send(refused(&error));
            }
            Promise::kept()
        })
    }

    async fn take_presence(&self, session: &Arc<SessionHandle>, to: &Jid, presence: &Stanza) -> Outcome<Promise> {
        if to.local().is_none() {
            return Ok(Promise::kept());
        }
        let (address, seat) = (to.to_bare(), Seat { jid: session.jid.clone(), session: Some(Arc::clone(session)) });
        let enters = !presence.has(magpie_proto::xml::Attr::Type) && presence.child("x", muc::NS).is_some();
        if enters {
            self.bans.check(&address.to_domain(), &session.account).await?;
        }
        let founder = session.account.clone();
        let make = || match enters && to.resource().is_some() {
            true => {
                self.rooms.check_maker(&self.makers, &founder)?;
                Ok(found(address.clone(), founder))
            }
            false => Err(match presence.type_() {
                None if to.resource().is_none() => StanzaCondition::JidMalformed.into(),
                None => room::not_an_occupant(),
                Some(_) => StanzaCondition::ItemNotFound.into(),
            }),
        };
        let act = |room: &mut Room, out: &mut rooms::Act<'_>| room.presence(seat, to.resource(), presence, out);
        match self.rooms.with_or_new(&address, enters, make, act).await {
            Ok(((), left)) => Ok(promise(left, presence)),
            // Who leaves where it is not has nothing to be told.
            Err(_) if !enters && presence.has(magpie_proto::xml::Attr::Type) => Ok(Promise::kept()),
            Err(error) => Err(error),
        }
    }

    /// Whether a session is in a room.
    pub fn has(&self, jid: &FullJid, to: &Jid) -> bool {
        let has = self.rooms.with_awake(&to.to_bare(), false, |room, _| room.occupants.seated(jid).is_some());
        has.is_some_and(|(has, _)| has)
    }

    /// A session is over, or says to everybody that it is gone, and was in the room.
    pub fn session_left(&self, server: &Server, jid: &FullJid, to: &Jid, presence: &Stanza) {
        let statuses: &[muc::Status] = if *server.stopping().borrow() { &[muc::Status::Shutdown] } else { &[] };
        let _ = self.rooms.with_awake(&to.to_bare(), false, |room, out| room.leave(jid, presence, statuses, out));
    }

    /// §11.2: what a session gets from its rooms when the server stops, if it is none of those that are resumed afterwards.
    pub fn farewells(&self, server: &Server, session: &SessionHandle) -> Vec<Stanza> {
        let directed = server.registry().with_resource(session, |resource| resource.directed.clone()).flatten();
        let rooms = directed.into_iter().flat_map(|directed| *directed);
        let rooms = rooms.filter(|to| server.service_at(to.domain()) == Some(Service::Muc));
        let farewell = |to: Jid| self.rooms.with_awake(&to.to_bare(), false, |room, _| room.farewell(&session.jid))?.0;
        rooms.filter_map(farewell).collect()
    }

    /// A session of before a restart waits for its client again: it is in the rooms in which it was. From a room that did not last it
    /// hears that it is out.
    pub async fn session_returns(&self, server: &Server, session: &Arc<SessionHandle>, presence: &Stanza) {
        let directed = server.registry().with_resource(session, |resource| resource.directed.clone()).flatten();
        for to in directed.into_iter().flat_map(|directed| *directed) {
            let Some(nick) = to.resource().filter(|_| server.service_at(to.domain()) == Some(Service::Muc)) else {
                continue;
            };
            let seat = Seat { jid: session.jid.clone(), session: Some(Arc::clone(session)) };
            let act = |room: &mut Room, _: &mut rooms::Act<'_>| Ok(room.sit_again(seat, nick, presence));
            let banned = self.bans.check(&to.to_bare().to_domain(), &session.account).await.is_err();
            if banned || !matches!(self.rooms.with(&to.to_bare(), act).await, Ok((true, _))) {
                let gone = Element::new("presence", ns::CLIENT).with_attr("from", &to).with_attr("type", "unavailable");
                let item = muc::Item {
                    affiliation: Some(Affiliation::None),
                    role: Some(muc::Role::None),
                    ..muc::Item::default()
                };
                let gone = gone.with(muc::user(Some(&item), &[muc::Status::Own, muc::Status::Shutdown]));
                session.mailbox.deliver(Delivery::to(Stanza::new(&gone), Addressee::Session));
            }
        }
    }

    /// An IQ to an occupant from a local session. `false`: its owner is to be asked, as for one to a room.
    pub fn relay(&self, session: &SessionHandle, iq: &Stanza, to: &Jid) -> Outcome<bool> {
        let nick = to.resource().unwrap_or_default();
        let relayed = self.rooms.with_awake(&to.to_bare(), false, |room, out| room.relay(&session.jid, nick, iq, out));
        match relayed {
            Some((Ok(Relayed::Passed), _)) => Ok(true),
            Some((Ok(Relayed::Here), _)) => {
                session.send(crate::requests::result(iq, None));
                Ok(true)
            }
            Some((Ok(Relayed::ByServer), _)) => Ok(false),
            Some((Err(error), _)) => Err(error),
            None => Err(relaying::is_not_there(iq)),
        }
    }
}

/// The error that answers somebody's presence, with what says that it is from a room, as the examples of §7.2 have it: clients know by
/// this what was refused.
fn refused(error: &Stanza) -> Stanza {
    let payload = error.children().next().map(|child| child.element());
    let bare = error.without_children(|_| true).with_child(&Element::new("x", muc::NS));
    payload.map_or_else(|| bare.clone(), |payload| bare.with_child(&payload))
}

/// §7.2.18: the answer to presence of a client that believes it is in a room, and is not.
fn not_there(to: &Jid) -> Stanza {
    let item = muc::Item {
        affiliation: Some(Affiliation::None),
        role: Some(muc::Role::None),
        reason: Some("You are not in the room.".to_owned()),
        ..muc::Item::default()
    };
    let x = muc::user(Some(&item), &[muc::Status::Own, muc::Status::Kicked, muc::Status::ErrorReply]);
    let presence = Element::new("presence", ns::CLIENT).with_attr("from", to).with_attr("type", "unavailable");
    Stanza::new(&presence.with(x))
}

/// A new room, which is its maker's and locked until it says what it is to be.
fn found(address: BareJid, founder: BareJid) -> Room {
    let mut room = Room::new(address, RoomConfig::default(), random_bytes());
    room.locked = true;
    room.opens_at = Some((now() + owning::LOCKED_MAX).into());
    room.restore(founder, Standing { affiliation: Affiliation::Owner, ..Standing::default() });
    room
}

/// Members whose clients sleep are told of a message, as they want to be (XEP-0357, XEP-0492).
fn wake(server: &Arc<Server>, room: &BareJid, left: &Left) {
    let Some(message) = &left.news else { return };
    for (account, nickname) in &left.sleepers {
        let at = InRoom { room, private: left.private, nickname: nickname.as_deref() };
        server.modules.push.message_in_room(server, account, &at, message);
    }
}

fn promise(left: Left, stanza: &Stanza) -> Promise {
    let Left { kept, ticket, .. } = left;
    let promise = match ticket {
        Some(ticket) => Promise::of(ticket, stanza),
        None => Promise::kept(),
    };
    promise.archived(kept, stanza)
}

/// Delivers what a room sends to others than its occupants for nobody who waits for it: who cannot be reached is not.
async fn send_out(server: &Arc<Server>, left: &Left) {
    for stanza in &left.out {
        let _ = hand_over(server, stanza, &[], false).await;
    }
}

/// Delivers what a room sends to others than its occupants, and waits until it is kept.
async fn deliver(server: &Arc<Server>, stanza: &Stanza, others: &[SessionId], acknowledged: bool) -> Outcome {
    let (archived, kept) = hand_over(server, stanza, others, acknowledged).await?.parts();
    for part in [archived, kept].into_iter().flatten() {
        if let Some(ticket) = part.ticket {
            ticket.await.map_err(refusal)?;
        }
    }
    Ok(())
}

async fn hand_over(
    server: &Arc<Server>,
    stanza: &Stanza,
    others: &[SessionId],
    acknowledged: bool,
) -> Outcome<Promise> {
    let Some(to) = stanza.to().and_then(|to| Jid::parse(&to).ok()) else { return Ok(Promise::kept()) };
    if !server.serves(to.domain()) {
        return Err(StanzaCondition::RemoteServerNotFound.into());
    }
    let account = to.to_bare();
    if to.resource().is_none() && !server.account_exists(&account).await? {
        return Err(StanzaCondition::ItemNotFound.into());
    }
    sessions_receive_message(server, &to, others, stanza, acknowledged).await
}

// Requests.

impl Muc {
    async fn info(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        let node = payload.attr("node");
        if request.to.local().is_none() {
            return match node {
                None => Ok(Some(info_of_service().element())),
                Some(_) => Err(StanzaCondition::ItemNotFound.into()),
            };
        }
        let act =
            |room: &mut Room, _: &mut rooms::Act<'_>| Ok((room.info(&request.from, node)?, activity::is_told(room)));
        let ((mut info, tells_activity), _) = self.rooms.with(&request.to, act).await?;
        if tells_activity && node.is_none() {
            self.tell_activity(&request.to, &mut info).await.map_err(refusal)?;
        }
        Ok(Some(info.element()))
    }

    async fn items(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        if request.to.local().is_some() {
            let commands = payload.attr("node") == Some(adhoc::NS);
            let act = |room: &mut Room, _: &mut rooms::Act<'_>| match commands {
                true => room.check_seen(&request.from).map(|()| room.hat_commands(&request.from)),
                false => room.items(&request.from),
            };
            return Ok(Some(self.rooms.with(&request.to, act).await?.0.element()));
        }
        match payload.attr("node") {
            None => self.listed(&request.to, &payload).await,
            Some(_) => Err(StanzaCondition::ItemNotFound.into()),
        }
    }

    /// §6.3: the rooms that are listed, in pages.
    async fn listed(&self, service: &BareJid, payload: &Element) -> Reply {
        let asked = PageRequest::of(payload)
            .map_err(|error| StanzaError::new(StanzaCondition::BadRequest, error.to_string()))?;
        let max = asked.as_ref().and_then(|asked| asked.max).map_or(LISTED_MAX, |max| (max as usize).min(LISTED_MAX));
        let storage = &self.rooms.storage;
        let rows = match asked.as_ref().map(|asked| &asked.page) {
            None | Some(Page::First) => storage.listed(service, None, max).await,
            Some(Page::After(name)) => storage.listed(service, Some(name), max).await,
            Some(Page::Last) => storage.listed_back(service, None, max).await,
            Some(Page::Before(name)) => storage.listed_back(service, Some(name), max).await,
            Some(Page::Index(_)) => return Err(StanzaCondition::FeatureNotImplemented.into()),
        };
        let rows = rows.map_err(refusal)?.into_iter();
        let mut rows: Vec<(String, String)> = rows.map(|(local, listed)| (local, listed.name)).collect();
        // Those that do not last stand in no store.
        let page = asked.as_ref().map(|asked| &asked.page);
        rows.extend(self.rooms.passing(service, page, max));
        rows.sort_unstable();
        match page {
            Some(Page::Last | Page::Before(_)) => drop(rows.drain(..rows.len().saturating_sub(max))),
            _ => rows.truncate(max),
        }
        let count =
            storage.count_listed(service, None).await.map_err(refusal)? + self.rooms.count_passing(service, None);
        let ends = match (rows.first(), rows.last()) {
            (Some((first, _)), Some((last, _))) => {
                let index = storage.count_listed(service, Some(first)).await.map_err(refusal)?
                    + self.rooms.count_passing(service, Some(first));
                Some(PageEnds { first: first.clone(), index: Some(index), last: last.clone() })
            }
            _ => None,
        };
        let whole = asked.is_none() && rows.len() as u64 == count;
        let items = rows.into_iter().filter_map(|(local, name)| {
            let address = BareJid::from_parts(Some(&local), service.domain()).ok()?;
            let name = if name.is_empty() { local } else { name };
            Some(disco::Item::new(address).with_name(name))
        });
        let items = Items { node: None, items: items.collect() };
        let set = (!whole).then(|| PageAnswer { ends, count: Some(count) }.element());
        Ok(Some(items.element().with_all(set)))
    }

    async fn admin_get(self: Arc<Self>, request: Request) -> Reply {
        let (list, _) = self.rooms.with(&request.to, |room, _| room.list(&request.from, &request.payload())).await?;
        Ok(Some(list))
    }

    async fn admin_set(self: Arc<Self>, request: Request) -> Reply {
        let act = |room: &mut Room, out: &mut rooms::Act<'_>| room.moderate(&request.from, &request.payload(), out);
        let ((), mut left) = self.rooms.with(&request.to, act).await?;
        self.invite_some(&request, &mut left.out);
        send_out(&request.server, &left).await;
        durable(left).await
    }

    async fn owner_get(self: Arc<Self>, request: Request) -> Reply {
        let (form, _) = self.rooms.with(&request.to, |room, _| room.configuration(&request.from)).await?;
        Ok(Some(form))
    }

    async fn owner_set(self: Arc<Self>, request: Request) -> Reply {
        let act = |room: &mut Room, out: &mut rooms::Act<'_>| room.configure(&request.from, &request.payload(), out);
        let ((), left) = self.rooms.with(&request.to, act).await?;
        durable(left).await
    }

    /// Commands of rooms: those for hats.
    async fn command(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        let id = payload.attr("sessionid").filter(|id| !id.is_empty()).map_or_else(|| random_text(12), str::to_owned);
        let act = |room: &mut Room, out: &mut rooms::Act<'_>| room.hat_command(&request.from, &payload, &id, out);
        let (answer, left) = self.rooms.with(&request.to, act).await?;
        durable(left).await?;
        Ok(Some(answer))
    }

    /// Whether who asks may read what was said.
    async fn check_reader(&self, request: &Request) -> Outcome {
        let account = request.from.to_bare();
        self.bans.check(&request.to.to_domain(), &account).await?;
        let act = |room: &mut Room, _: &mut rooms::Act<'_>| match (room.config.archived, room.may_read(&account)) {
            (false, _) => Err(StanzaCondition::ServiceUnavailable.into()),
            (true, false) => Err(StanzaCondition::Forbidden.into()),
            (true, true) => Ok(()),
        };
        self.rooms.with(&request.to, act).await.map(|_| ())
    }

    async fn archive_query(self: Arc<Self>, request: Request) -> Reply {
        self.check_reader(&request).await?;
        self.archive.answer(&request, &request.to).await
    }

    async fn archive_form(self: Arc<Self>, request: Request) -> Reply {
        self.check_reader(&request).await?;
        Ok(Some(mam::form_answer()))
    }

    async fn archive_metadata(self: Arc<Self>, request: Request) -> Reply {
        self.check_reader(&request).await?;
        Ok(Some(self.archive.ends(&request.to).await.map_err(refusal)?))
    }
}

/// What is answered once it is on disk.
async fn durable(left: Left) -> Reply {
    match left.ticket {
        Some(ticket) => ticket.await.map_err(refusal).map(|()| None),
        None => Ok(None),
    }
}

/// §6.2: what the service is.
fn info_of_service() -> Info {
    let features = [
        disco::NS_INFO,
        disco::NS_ITEMS,
        muc::NS,
        muc::STABLE_ID,
        result_sets::NS,
        mam::NS,
        vcard::NS,
        searching::NS,
        ping::NS,
    ];
    Info {
        identities: vec![Identity::new("conference", "text").with_name(Service::Muc.title())],
        features: features.into_iter().map(str::to_owned).collect(),
        ..Info::default()
    }
}
