//! XEP-0313: Message Archive Management
//!
//! Every account's messages, kept for as long as the operator says. A message between two accounts of this server is written once for
//! both, in the batch that the sender's acknowledgement waits for, and before anybody has it. Ids are those of the store's
//! archive with a tag that only this server can make, so that an id that was made up, or is another account's, is known
//! for one without a look into the store.

use std::sync::Arc;

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::delay::Delay;
use magpie_proto::xeps::forwarding::Forwarded;
use magpie_proto::xeps::hints::Hints;
use magpie_proto::xeps::mam::{self, ArchiveQuery, Filter, QueryError};
use magpie_proto::xeps::result_sets::{self, PageAnswer, PageEnds, PageRequest};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{Archive, Batch, Effect, Filing, LogId, Page, Record, Store, StoreError, Ticket, Topic};
use tracing::warn;

use super::archive_ids::Ids;
use super::bind2::Binding;
use super::offline::refusal;
use super::retraction::Tombstones;
use super::{About, Module, inbox, search, stanza_ids};
use crate::accounts;
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::Deps;

/// The name of the archive in the store.
pub const ARCHIVE: &str = "messages";

/// Messages on a page where the client does not say.
pub const PAGE: usize = 50;

/// Messages on a page at most. The same for the ids of one query.
pub const PAGE_MAX: usize = 250;

/// Bytes of messages on a page; the last of them may go beyond. The rest is on the next.
pub const PAGE_BYTES: usize = 512 * 1024;

/// Messages looked at in one visit to the store for a filter that it has no index for.
const SCANNED: usize = 500;

/// Messages of a conversation among which one is looked for by the id that its sender gave it: the newest.
pub const LOOKED_BACK: usize = 1000;

/// Messages in the first visit to the store for that, since nearly always it is one of the last, and in any.
const LOOKED_BACK_AT_ONCE: [usize; 2] = [16, 128];

/// A message in the archive, as it was received.
#[derive(Clone, Debug)]
pub struct Archived(pub Stanza);

impl Record for Archived {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Stanza::parse(bytes).ok().map(Self)
    }
}

/// The module.
pub struct MessageArchive {
    store: Store,
    archive: Archive<Archived>,
    ids: Ids,
    deps: Deps,
}

impl Module for MessageArchive {
    const ABOUT: &'static [About] = &[About {
        xep: Some(313),
        title: "Message Archive Management",
        version: "1.1.3",
        host_features: &[],
        account_features: &[mam::NS, mam::NS_EXTENDED, mam::NS_GROUPCHAT_FIELD],
    }];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            archive: deps.store.archive(ARCHIVE),
            ids: Ids::new(&deps.secret),
            deps: deps.clone(),
        }
    }

    /// XEP-0386 §3.2: what the archive has at the moment of binding, so that the client knows what to ask for.
    async fn bound(&self, binding: &mut Binding<'_>) -> Vec<Element> {
        if binding.session.anonymous || !self.deps.archives() {
            return Vec::new();
        }
        match self.ends(&binding.session.account).await {
            Ok(metadata) => vec![metadata],
            Err(error) => {
                warn!(%error, account = %binding.session.account, "the archive cannot be read");
                Vec::new()
            }
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Set, ("query", mam::NS), self, Self::query);
        requests.own_now(To::OwnAccount, Verb::Get, ("query", mam::NS), self, |_, _| Ok(Some(mam::form_answer())));
        requests.own(To::OwnAccount, Verb::Get, ("metadata", mam::NS), self, Self::metadata);
        for (verb, name) in [(Verb::Set, "query"), (Verb::Get, "query"), (Verb::Get, "metadata")] {
            requests.own_now(To::Account, verb, (name, mam::NS), self, |_, _| Err(StanzaCondition::Forbidden.into()));
        }
    }
}

/// What a message does to what is in archives already.
#[derive(Debug, Default)]
pub struct Changes {
    /// What it takes back (XEP-0424).
    pub tombstones: Tombstones,
    /// Whose conversation it reads, which, and up to where (XEP-0333).
    pub displayed: Option<(String, String, LogId)>,
}

impl Changes {
    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.tombstones.0.is_empty() && self.displayed.is_none()
    }
}

/// A message that was put into archives: its place in them, and what resolves once it is on disk.
#[derive(Debug)]
pub struct Kept {
    /// Its place in all of them.
    pub place: LogId,
    /// Whether its recipient's is one of them.
    pub of_recipient: bool,
    /// Whether its sender's is one of them.
    pub of_sender: bool,
    /// Resolves when it is durable.
    pub ticket: Ticket,
}

// Keeping.

impl MessageArchive {
    /// A step: puts a message that its recipient will get, now or later, into the archives of both. `storable`: it is worth keeping
    /// for who is away. `sender`: the account of this server that sends it. `changes`: what else is written, also where the message is in
    /// no archive.
    ///
    /// Called under the registry's lock for the recipient, so that ids have the order in which sessions get the messages.
    pub fn keep(
        &self,
        message: &Stanza,
        storable: bool,
        recipient: Option<&BareJid>,
        sender: Option<&BareJid>,
        to: &Jid,
        changes: &Changes,
    ) -> Option<Kept> {
        let storable = storable && !Hints::of(message).no_permanent_store;
        if !self.deps.archives() || !storable && changes.is_empty() {
            return None;
        }
        let [recipient, sender] = [recipient, sender].map(|account| account.filter(|_| storable));
        let itself = recipient.is_some() && recipient == sender;
        let is_instant = inbox::is_instant(message);
        let [was_read, is_new] = [Effect::Read, Effect::New].map(|effect| if is_instant { effect } else { Effect::None });
        let sent = sender.map(|account| (accounts::owner(account), to.to_bare().to_string(), was_read));
        let received = recipient.filter(|_| !itself).map(|account| {
            let from = message.from().and_then(|from| Jid::parse(&from).ok());
            let contact = from.map_or_else(|| account.to_domain(), |from| from.to_bare());
            (accounts::owner(account), contact.to_string(), is_new)
        });
        let filings: smallvec::SmallVec<[Filing<'_>; 2]> = [&received, &sent]
            .into_iter()
            .flatten()
            .map(|(owner, topic, effect)| Filing { owner, topic, effect: *effect })
            .collect();
        if filings.is_empty() && changes.is_empty() {
            return None;
        }
        let mut batch = Batch::new();
        self.archive.append(&mut batch, None, &filings, &Archived(message.clone()));
        self.bury(&mut batch, &changes.tombstones);
        if let Some((owner, topic, up_to)) = &changes.displayed {
            self.archive.read(&mut batch, owner, topic, *up_to);
        }
        let (place, ticket) = self.store.commit_placed(batch);
        Some(Kept { place, of_recipient: recipient.is_some(), of_sender: sender.is_some(), ticket })
    }

    /// Puts a message into the archive of a room; `also` stands beside what was said in the archive alone, `tombstones` take the place of what
    /// it takes back.
    ///
    /// Called under the room's lock, so that ids have the order in which occupants get the messages.
    pub fn keep_in_room(
        &self,
        message: &Stanza,
        also: Option<&Element>,
        room: &BareJid,
        tombstones: &Tombstones,
    ) -> Option<Kept> {
        if !self.deps.archives() {
            return None;
        }
        let (owner, mut batch) = (accounts::owner(room), Batch::new());
        let filing = Filing { owner: &owner, topic: room.as_str(), effect: Effect::None };
        let message = also.map_or_else(|| message.clone(), |also| message.with_child(also));
        self.archive.append(&mut batch, None, &[filing], &Archived(message));
        self.bury(&mut batch, tombstones);
        let (place, ticket) = self.store.commit_placed(batch);
        Some(Kept { place, of_sender: false, of_recipient: false, ticket })
    }

    fn bury(&self, batch: &mut Batch, tombstones: &Tombstones) {
        for (owner, place, tombstone) in &tombstones.0 {
            self.archive.take_back(batch, owner, *place, tombstone);
        }
    }

    /// Whether anything is in the archive.
    pub async fn has_any(&self, account: &BareJid) -> Result<bool, StoreError> {
        Ok(self.archive.ends(&accounts::owner(account)).await?.is_some())
    }

    /// The message with its id in the account's archive (XEP-0359).
    pub fn stamped(&self, message: &Stanza, account: &BareJid, place: LogId) -> Stanza {
        message.with_child(&stanza_ids::stanza_id(account, &self.id(account, place)))
    }

    /// The id of a message in the account's archive: 22 characters.
    pub fn id(&self, account: &BareJid, place: LogId) -> String {
        self.ids.id(account, place)
    }

    /// The place of the message with this id, unless the id was not made here for this account.
    pub fn place(&self, account: &BareJid, id: &str) -> Option<LogId> {
        self.ids.place(account, id)
    }

    /// The account has read a conversation up to here.
    pub fn read(&self, account: &BareJid, contact: &BareJid, up_to: LogId) -> Ticket {
        let mut batch = Batch::new();
        self.archive.read(&mut batch, &accounts::owner(account), contact.as_str(), up_to);
        self.store.commit(batch)
    }

    /// The conversations of an account, the one with the newest message first.
    pub async fn conversations(&self, account: &BareJid) -> Result<Vec<(String, Topic)>, StoreError> {
        self.catch_up().await;
        self.archive.topics(&accounts::owner(account)).await
    }

    /// One of them.
    pub async fn conversation(&self, account: &BareJid, contact: &BareJid) -> Result<Option<Topic>, StoreError> {
        self.catch_up().await;
        self.archive.topic(&accounts::owner(account), contact.as_str()).await
    }

    /// Looks at the messages of a conversation from the newest back, until `enough` says so, and at no more than `max`.
    pub async fn look_back(
        &self,
        account: &BareJid,
        contact: &BareJid,
        max: usize,
        mut enough: impl FnMut(LogId, &Stanza) -> bool,
    ) -> Result<(), StoreError> {
        self.catch_up().await;
        let (owner, topic) = (accounts::owner(account), Some(contact.to_string()));
        let [mut limit, limit_max] = LOOKED_BACK_AT_ONCE;
        let (mut before, mut looked) = (None, 0);
        while looked < max {
            limit = limit.min(max - looked);
            let page = Page { topic: topic.clone(), before, backwards: true, limit, ..Page::default() };
            let entries = self.archive.page(&owner, page).await?;
            if entries.iter().any(|(place, Archived(message))| enough(*place, message)) || entries.len() < limit {
                break;
            }
            before = entries.last().map(|(place, _)| *place);
            looked += limit;
            limit = limit_max;
        }
        Ok(())
    }

    /// The message at a place of the account's archive.
    pub async fn at(&self, account: &BareJid, place: LogId) -> Result<Option<Stanza>, StoreError> {
        self.catch_up().await;
        let found = self.archive.entries(&accounts::owner(account), vec![place]).await?;
        Ok(found.into_iter().next().map(|(_, Archived(message))| message))
    }
}

// Asking.

/// A page as it is sent.
#[derive(Default)]
pub(super) struct Found {
    /// In order of time.
    pub(super) messages: Vec<(LogId, Stanza)>,
    /// Whether there is no more in the direction in which the client goes.
    pub(super) complete: bool,
    count: Option<u64>,
}

/// A part of the archive, and how it is read.
pub(super) struct Range {
    pub(super) after: Option<LogId>,
    pub(super) before: Option<LogId>,
    /// The newest of it.
    pub(super) backwards: bool,
    /// So many.
    pub(super) max: usize,
}

impl MessageArchive {
    async fn query(self: Arc<Self>, request: Request) -> Reply {
        self.answer(&request, &request.to).await
    }

    /// Answers a query to the archive of an account or a room, which who asks may read.
    pub async fn answer(&self, request: &Request, account: &BareJid) -> Reply {
        let session = request.session()?;
        let query = ArchiveQuery::parse(&request.payload()).map_err(|error| {
            let condition = match error {
                QueryError::UnknownField(_) => StanzaCondition::FeatureNotImplemented,
                _ => StanzaCondition::BadRequest,
            };
            StanzaError::new(condition, error.to_string())
        })?;
        self.catch_up().await;
        let mut found = match (query.filter.ids.is_empty(), &query.filter.text) {
            (true, None) => self.find(account, &query).await?,
            (true, Some(text)) => request.server.modules.search.find(self, account, &query, text).await?,
            (false, _) => self.find_ids(account, &query.filter).await?,
        };
        let id = |place| self.id(account, place);
        let ends = match (found.messages.first(), found.messages.last()) {
            (Some((first, _)), Some((last, _))) => {
                Some(PageEnds { first: id(*first), index: None, last: id(*last) })
            }
            _ => None,
        };
        let places: Vec<LogId> = found.messages.iter().map(|(place, _)| *place).collect();
        if query.flip {
            found.messages.reverse();
        }
        for (place, message) in &found.messages {
            let wrapper = Element::new("message", ns::CLIENT).with_attr("from", account).with_attr("to", &session.jid);
            let result = self.result(account, query.queryid.as_deref(), *place, message);
            session.send(Stanza::new(&wrapper.with(result)));
        }
        // What a client has from here it need not get again when it becomes available.
        if *account == session.account {
            let offline = &request.server.modules.offline;
            offline.found_elsewhere(session, &places).await.map_err(refusal)?;
        }
        let answer = PageAnswer { ends, count: found.count };
        Ok(Some(mam::fin(&answer, found.complete)))
    }

    /// A session may have a message whose batch is still on its way to the disk: its id must be known.
    async fn catch_up(&self) {
        // What became of it is said to whoever sent it.
        let _ = self.store.settled().await;
    }

    /// The messages with these ids; all of them must be there (§4.1.3).
    async fn find_ids(&self, account: &BareJid, filter: &Filter) -> Result<Found, StanzaError> {
        if filter.ids.len() > PAGE_MAX {
            let text = format!("at most {PAGE_MAX} ids are answered at once");
            return Err(StanzaError::new(StanzaCondition::PolicyViolation, text));
        }
        let words = filter.text.as_deref().map(search::words).transpose()?;
        let places: Option<Vec<LogId>> = filter.ids.iter().map(|id| self.place(account, id)).collect();
        let mut places = places.ok_or(StanzaCondition::ItemNotFound)?;
        places.sort_unstable();
        places.dedup();
        let wanted = places.len();
        let messages = self.archive.entries(&accounts::owner(account), places).await.map_err(refusal)?;
        if messages.len() < wanted {
            return Err(StanzaCondition::ItemNotFound.into());
        }
        let matching = messages.into_iter().map(|(id, Archived(message))| (id, message));
        let matching = matching.filter(|(id, message)| {
            matches(message, account, filter.with.as_ref())
                && is_within(*id, filter.start, filter.end)
                && words.as_ref().is_none_or(|words| words.are_in(&search::text(message)))
        });
        Ok(Found { messages: matching.collect(), complete: true, count: Some(wanted as u64) })
    }

    async fn find(&self, account: &BareJid, query: &ArchiveQuery) -> Result<Found, StanzaError> {
        let filter = &query.filter;
        let owner = accounts::owner(account);
        let Range { mut after, mut before, backwards, max } = self.range(account, &owner, query).await?;
        let topic = filter.with.as_ref().map(|with| with.to_bare().to_string());
        let count = self.count(&owner, filter, topic.as_deref()).await?;
        if max == 0 {
            return Ok(Found { count, ..Found::default() });
        }
        let exact = filter.with.as_ref().filter(|with| with.resource().is_some());
        let mut found = Found { count, ..Found::default() };
        let mut bytes = 0;
        // One visit where the store's index tells all, more where it has to be looked at each message.
        loop {
            let limit = if exact.is_some() { SCANNED } else { max + 1 - found.messages.len() };
            let page = Page { topic: topic.clone(), after, before, backwards, limit };
            let entries = self.archive.page(&owner, page).await.map_err(refusal)?;
            let last = entries.len() < limit;
            for (id, Archived(message)) in entries {
                if backwards { before = Some(id) } else { after = Some(id) }
                if !matches(&message, account, exact) {
                    continue;
                }
                if found.messages.len() == max || bytes >= PAGE_BYTES {
                    return Ok(found.in_order(backwards));
                }
                bytes += message.bytes().len();
                found.messages.push((id, message));
            }
            if last {
                found.complete = true;
                return Ok(found.in_order(backwards));
            }
        }
    }

    /// Which part of the archive a query asks for.
    pub(super) async fn range(
        &self,
        account: &BareJid,
        owner: &str,
        query: &ArchiveQuery,
    ) -> Result<Range, StanzaError> {
        let filter = &query.filter;
        let asked = query.page.clone().unwrap_or(PageRequest { max: None, page: result_sets::Page::First });
        let max = asked.max.map_or(PAGE, |max| usize::try_from(max).unwrap_or(usize::MAX).min(PAGE_MAX));
        let (after, before) = (filter.after_id.clone(), filter.before_id.clone());
        let (mut later, mut earlier, mut backwards) = (None, None, false);
        match asked.page {
            result_sets::Page::First => {}
            result_sets::Page::After(id) => later = Some(id),
            result_sets::Page::Last => backwards = true,
            result_sets::Page::Before(id) => (earlier, backwards) = (Some(id), true),
            result_sets::Page::Index(_) => {
                let text = "pages of an archive are asked for by ids";
                return Err(StanzaError::new(StanzaCondition::FeatureNotImplemented, text));
            }
        }
        // All that are named must be there, and all of them bind.
        let named: Vec<&String> = [&after, &before, &later, &earlier].into_iter().flatten().collect();
        self.check(account, owner, &named).await?;
        let place = |id: Option<String>| id.and_then(|id| self.place(account, &id));
        let start = filter.start.map(|start| LogId::at_millis(millis(start))).and_then(|id| id.0.checked_sub(1)).map(LogId);
        let end = filter.end.map(|end| LogId::at_millis(millis(end) + 1));
        let after = [place(after), place(later), start].into_iter().flatten().max();
        let before = [place(before), place(earlier), end].into_iter().flatten().min();
        Ok(Range { after, before, backwards, max })
    }

    /// Whether the ids are those of messages in the archive (§4.1.3, §4.3.2).
    async fn check(&self, account: &BareJid, owner: &str, ids: &[&String]) -> Result<(), StanzaError> {
        if ids.is_empty() {
            return Ok(());
        }
        let places: Option<Vec<LogId>> = ids.iter().map(|id| self.place(account, id)).collect();
        let mut places = places.ok_or(StanzaCondition::ItemNotFound)?;
        places.sort_unstable();
        places.dedup();
        let wanted = places.len();
        let there = self.archive.entries(owner, places).await.map_err(refusal)?.len();
        if there == wanted { Ok(()) } else { Err(StanzaCondition::ItemNotFound.into()) }
    }

    /// How many messages match, where that is known without counting them.
    async fn count(&self, owner: &str, filter: &Filter, topic: Option<&str>) -> Result<Option<u64>, StanzaError> {
        let plain = Filter { with: None, include_groupchat: None, ..filter.clone() } == Filter::default();
        let bare = filter.with.as_ref().is_none_or(|with| with.resource().is_none());
        if !plain || !bare {
            return Ok(None);
        }
        Ok(Some(match topic {
            Some(topic) => self.archive.topic(owner, topic).await.map_err(refusal)?.map_or(0, |topic| topic.count),
            None => self.archive.topics(owner).await.map_err(refusal)?.iter().map(|(_, topic)| topic.count).sum(),
        }))
    }

    /// A message as it is answered to a query (§4.2).
    pub fn result(&self, account: &BareJid, queryid: Option<&str>, place: LogId, message: &Stanza) -> Element {
        let delay = Delay { stamp: time(place), from: None, reason: None };
        let forwarded = Forwarded { delay: Some(delay), stanza: message.clone() };
        mam::result(queryid, &self.id(account, place), forwarded.element())
    }

    async fn metadata(self: Arc<Self>, request: Request) -> Reply {
        Ok(Some(self.ends(&request.session()?.account).await.map_err(refusal)?))
    }

    /// The first and the last message of an archive, as they are told.
    pub async fn ends(&self, account: &BareJid) -> Result<Element, StoreError> {
        let owner = accounts::owner(account);
        self.catch_up().await;
        let ends = self.archive.ends(&owner).await?;
        let ends = ends.map(|(first, last)| [first, last].map(|place| (self.id(account, place), time(place))));
        Ok(mam::metadata(ends.as_ref().map(|ends| ends.each_ref().map(|(id, time)| (id.as_str(), *time)))))
    }
}

impl Found {
    pub(super) fn in_order(mut self, backwards: bool) -> Self {
        if backwards {
            self.messages.reverse();
        }
        self
    }
}

/// Whether the message is to or from the address. A bare one stands for all its resources.
pub(super) fn matches(message: &Stanza, account: &BareJid, with: Option<&Jid>) -> bool {
    let Some(with) = with else { return true };
    let is = |address: Option<&str>| match address.map(Jid::parse) {
        Some(Ok(address)) if with.resource().is_some() => address == *with,
        Some(Ok(address)) => address.to_bare() == with.to_bare(),
        _ => with.resource().is_none() && with.to_bare() == *account,
    };
    let (from, to) = (message.from(), message.to());
    // Every message is to or from the account itself.
    match with.to_bare() == *account && with.resource().is_none() {
        true => is(from.as_deref()) && is(to.as_deref()),
        false => is(from.as_deref()) || is(to.as_deref()),
    }
}

fn is_within(id: LogId, start: Option<DateTime>, end: Option<DateTime>) -> bool {
    start.is_none_or(|start| id.millis() >= millis(start)) && end.is_none_or(|end| id.millis() <= millis(end))
}

/// Nothing was archived before 1970.
fn millis(time: DateTime) -> u64 {
    u64::try_from(time.unix_millis()).unwrap_or(0)
}

fn time(place: LogId) -> DateTime {
    DateTime::from_unix_millis(i64::try_from(place.millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bare(jid: &str) -> BareJid {
        BareJid::parse(jid).unwrap()
    }

    #[test]
    fn a_message_is_with_either_side_by_either_kind_of_address() {
        let juliet = bare("juliet@capulet.example");
        let is_with = |from: &str, to: &str, with: &str| {
            let to = if to.is_empty() { String::new() } else { format!("to='{to}'") };
            let message = Stanza::parse(format!("<message from='{from}' {to}/>").as_bytes()).unwrap();
            matches(&message, &juliet, Some(&Jid::parse(with).unwrap()))
        };
        let (romeo, balcony) = ("romeo@montague.example/orchard", "juliet@capulet.example/balcony");
        assert!(is_with(romeo, balcony, "romeo@montague.example"));
        assert!(is_with(romeo, balcony, romeo));
        assert!(is_with(balcony, "romeo@montague.example", "romeo@montague.example"));
        assert!(!is_with(balcony, "romeo@montague.example", romeo));
        assert!(!is_with(romeo, balcony, "nurse@capulet.example"));
        // One's own address stands for what one wrote to oneself.
        assert!(is_with(balcony, "juliet@capulet.example", "juliet@capulet.example"));
        assert!(is_with(balcony, "", "juliet@capulet.example"));
        assert!(!is_with(romeo, balcony, "juliet@capulet.example"));
    }
}
