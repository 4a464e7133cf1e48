//! XEP-0430: Inbox
//!
//! A client asks for its account's conversations, the last active first, each with its last message and how many are unread. The counts are
//! kept with the archive, in the same batch as what changes them: a message to the account makes one more unread; one that it
//! sends, or a displayed marker (XEP-0333), makes what is before it read. Receipts, reactions, corrections and
//! retractions are no instant messages and change nothing.

use std::sync::Arc;

use magpie_proto::xeps::result_sets::{Page, PageAnswer, PageEnds, PageRequest};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{LogId, StoreError, Ticket, Topic};

use super::archive::{MessageArchive, PAGE, PAGE_BYTES, PAGE_MAX};
use super::offline::refusal;
use super::{About, Module};
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};
use crate::services::Service;

const NS: &str = "urn:xmpp:inbox:1";
const NS_MARKERS: &str = "urn:xmpp:chat-markers:0";

/// Messages of a conversation among which its last instant one is looked for: the newest.
const LOOKED_BACK: usize = 32;

/// The module.
pub struct Inbox {
    deps: Deps,
}

impl Module for Inbox {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(430),
            title: "Inbox",
            version: "0.2.0",
            host_features: &[],
            account_features: &[NS],
        },
        About {
            xep: Some(333),
            title: "Displayed Markers",
            version: "1.0.0",
            host_features: &[],
            account_features: &[],
        },
    ];

    fn new(deps: &Deps) -> Self {
        Self { deps: deps.clone() }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Get, ("inbox", NS), self, Self::list);
        requests.own_now(To::Account, Verb::Get, ("inbox", NS), self, |_, _| Err(StanzaCondition::Forbidden.into()));
    }
}

/// Whether the message is one that people read: with a text, in the open or encrypted, that is not about another message alone.
pub fn has_content(message: &Stanza) -> bool {
    let mut content = false;
    for child in message.children() {
        content |= match (child.name, child.ns) {
            ("body", ns::CLIENT) | ("openpgp", "urn:xmpp:openpgp:0") | ("x", "jabber:x:encrypted") => true,
            // Without a payload it is about keys.
            ("encrypted", "eu.siacs.conversations.axolotl" | "urn:xmpp:omemo:2") => child.text().contains("<payload"),
            ("retract", "urn:xmpp:message-retract:1") | ("reactions", "urn:xmpp:reactions:0") => return false,
            _ => false,
        };
    }
    content
}

/// Whether the message begins as an unread one: a correction is of one that did.
pub fn is_instant(message: &Stanza) -> bool {
    has_content(message) && message.child("replace", "urn:xmpp:message-correct:0").is_none()
}

/// Whether the message says that others were read. `acknowledged` is of older versions of XEP-0333, and XEP-0430 names it.
pub fn is_marker(name: &str, ns: &str) -> bool {
    ns == NS_MARKERS && matches!(name, "displayed" | "acknowledged")
}

impl Inbox {
    /// Up to where an account has read a conversation when it sends this marker; `None` where that changes nothing, or the message
    /// that it names is none of the unread ones.
    pub async fn displayed(
        &self,
        server: &Server,
        marker: &Stanza,
        account: &BareJid,
        contact: &BareJid,
    ) -> Result<Option<LogId>, StoreError> {
        let named = marker.children().find(|child| is_marker(child.name, child.ns));
        let id = named.and_then(|named| Some(named.element().attr("id")?.to_owned()));
        let (Some(id), true) = (id, self.deps.archives()) else { return Ok(None) };
        let archive = &server.modules.archive;
        let mut unread = archive.conversation(account, contact).await?.map_or(0, |topic| topic.new);
        if unread == 0 {
            return Ok(None);
        }
        let mut place = archive.place(account, &id);
        if place.is_none() {
            let is_of_contact = |message: &Stanza| {
                let from = message.from().and_then(|from| Jid::parse(&from).ok());
                from.is_some_and(|from| from.to_bare() == *contact)
            };
            let look = |at, message: &Stanza| {
                if is_of_contact(message) {
                    if message.id().as_deref() == Some(&id) {
                        place = Some(at);
                    }
                    unread -= u64::from(is_instant(message)).min(unread);
                }
                // All before the first unread one is read already.
                place.is_some() || unread == 0
            };
            archive.look_back(account, contact, super::archive::LOOKED_BACK, look).await?;
        }
        Ok(place)
    }

    /// An account has read a conversation up to the message with this id in its archive, as another way than a marker told. `None`: there is no
    /// such id.
    pub fn read(&self, server: &Server, account: &BareJid, contact: &BareJid, stanza_id: &str) -> Option<Ticket> {
        let archive = &server.modules.archive;
        archive.place(account, stanza_id).map(|up_to| archive.read(account, contact, up_to))
    }

    async fn list(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        if !self.deps.archives() {
            return Err(StanzaCondition::FeatureNotImplemented.into());
        }
        let wanted = Wanted::parse(&request.payload())?;
        let (account, archive) = (&session.account, &request.server.modules.archive);
        let mut all = archive.conversations(account).await.map_err(refusal)?;
        // Rooms have archives of their own.
        let rooms = request.server.modules.muc.conversations(account).await.map_err(refusal)?;
        if !rooms.is_empty() {
            all.extend(rooms.into_iter().map(|(room, topic)| (room.to_string(), topic)));
            all.sort_by_key(|(_, topic)| std::cmp::Reverse(topic.last));
        }
        let totals = Totals::of(&all);
        let listed: Vec<&(String, Topic)> = all.iter().filter(|(_, topic)| !wanted.unread_only || topic.new > 0).collect();
        let page = wanted.page(&listed, |id| archive.place(account, id))?;
        let queryid = request.stanza.id();
        let (mut sent, mut bytes) = (0, 0);
        for (contact, topic) in &listed[page.clone()] {
            let room = BareJid::parse(contact).ok().filter(|contact| request.server.service_at(contact.domain()) == Some(Service::Muc));
            let owner = room.as_ref().unwrap_or(account);
            let id = archive.id(owner, topic.last);
            let entry = Element::new("entry", NS)
                .with_attr("jid", contact)
                .with_attr("unread", topic.new.to_string())
                .with_attr("id", &id);
            let last = match wanted.messages {
                true => last_message(archive, owner, contact).await.map_err(refusal)?,
                false => None,
            };
            let result = last.map(|(place, message)| archive.result(owner, queryid.as_deref(), place, &message));
            let message = Element::new("message", ns::CLIENT).with_attr("from", account).with_attr("to", &session.jid);
            let message = Stanza::new(&message.with(entry).with_all(result));
            bytes += message.bytes().len();
            sent += 1;
            session.send(message);
            // The rest is on the next page.
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        let sent = page.start..page.start + sent;
        let id = |index: usize| archive.id(account, listed[index].1.last);
        let ends = (!sent.is_empty()).then(|| PageEnds {
            first: id(sent.start),
            index: Some(sent.start as u64),
            last: id(sent.end - 1),
        });
        let answer = PageAnswer { ends, count: Some(listed.len() as u64) };
        Ok(Some(totals.fin().with(answer.element())))
    }
}

/// The newest message of a conversation that people read.
async fn last_message(
    archive: &MessageArchive,
    account: &BareJid,
    contact: &str,
) -> Result<Option<(LogId, Stanza)>, StoreError> {
    let Ok(contact) = BareJid::parse(contact) else { return Ok(None) };
    let mut found = None;
    let look = |place, message: &Stanza| {
        if has_content(message) {
            found = Some((place, message.clone()));
        }
        found.is_some()
    };
    archive.look_back(account, &contact, LOOKED_BACK, look).await?;
    Ok(found)
}

/// What a client asks for.
struct Wanted {
    unread_only: bool,
    messages: bool,
    page: PageRequest,
}

impl Wanted {
    fn parse(inbox: &Element) -> Result<Self, StanzaError> {
        let flag = |name, otherwise| match inbox.attr(name) {
            None => Ok(otherwise),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(StanzaError::new(StanzaCondition::BadRequest, format!("{name} is true or false"))),
        };
        let page = PageRequest::of(inbox)
            .map_err(|error| StanzaError::new(StanzaCondition::BadRequest, error.to_string()))?
            .unwrap_or(PageRequest { max: None, page: Page::First });
        Ok(Self { unread_only: flag("unread-only", false)?, messages: flag("messages", true)?, page })
    }

    /// Which of those that are listed, the newest first. An item is named by the id of its last message, and what comes after it is older, also
    /// when its conversation has gone on meanwhile.
    fn page(
        &self,
        listed: &[&(String, Topic)],
        place: impl Fn(&str) -> Option<LogId>,
    ) -> Result<std::ops::Range<usize>, StanzaError> {
        let max = self.page.max.map_or(PAGE, |max| usize::try_from(max).unwrap_or(usize::MAX).min(PAGE_MAX));
        let place = |id: &str| place(id).ok_or_else(|| StanzaError::from(StanzaCondition::ItemNotFound));
        let forwards = |start: usize| start.min(listed.len())..start.saturating_add(max).min(listed.len());
        let backwards = |end: usize| end.saturating_sub(max)..end;
        Ok(match &self.page.page {
            Page::First => forwards(0),
            Page::Index(index) => forwards(usize::try_from(*index).unwrap_or(usize::MAX)),
            Page::After(id) => {
                let place = place(id)?;
                forwards(listed.partition_point(|(_, topic)| topic.last >= place))
            }
            Page::Last => backwards(listed.len()),
            Page::Before(id) => {
                let place = place(id)?;
                backwards(listed.partition_point(|(_, topic)| topic.last > place))
            }
        })
    }
}

/// What the whole inbox has.
#[derive(Debug, PartialEq, Eq)]
struct Totals {
    total: u64,
    unread: u64,
    all_unread: u64,
}

impl Totals {
    fn of(all: &[(String, Topic)]) -> Self {
        Self {
            total: all.len() as u64,
            unread: all.iter().filter(|(_, topic)| topic.new > 0).count() as u64,
            all_unread: all.iter().map(|(_, topic)| topic.new).sum(),
        }
    }

    fn fin(&self) -> Element {
        Element::new("fin", NS)
            .with_attr("total", self.total.to_string())
            .with_attr("unread", self.unread.to_string())
            .with_attr("all-unread", self.all_unread.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn instant(children: &str) -> bool {
        is_instant(&Stanza::parse(format!("<message>{children}</message>").as_bytes()).unwrap())
    }

    #[test]
    fn an_instant_message_has_a_text_and_is_not_about_another() {
        let body = "<body>x</body>";
        assert!(instant(body));
        assert!(instant(&format!("{body}<markable xmlns='urn:xmpp:chat-markers:0'/><request xmlns='urn:xmpp:receipts'/>")));
        for other in [
            "",
            "<received xmlns='urn:xmpp:receipts' id='x'/>",
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>",
            "<body>x</body><retract xmlns='urn:xmpp:message-retract:1' id='x'/>",
            "<retracted xmlns='urn:xmpp:message-retract:1' id='x'/>",
            "<body>x</body><reactions xmlns='urn:xmpp:reactions:0' id='x'/>",
            "<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='x'/>",
        ] {
            assert!(!instant(other), "{other}");
        }
    }

    #[test]
    fn an_encrypted_message_counts_if_it_has_more_than_keys() {
        for ns in ["eu.siacs.conversations.axolotl", "urn:xmpp:omemo:2"] {
            assert!(instant(&format!("<encrypted xmlns='{ns}'><header/><payload>x</payload></encrypted>")));
            assert!(!instant(&format!("<encrypted xmlns='{ns}'><header/></encrypted>")));
        }
        assert!(instant("<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>"));
    }

    #[test]
    fn pages_go_from_the_newest_to_the_oldest_and_back() {
        let topics: Vec<(String, Topic)> =
            [9, 7, 5, 3].map(|last| (format!("a{last}@x"), Topic { last: LogId(last), count: 1, new: 0 })).into();
        let listed: Vec<&(String, Topic)> = topics.iter().collect();
        let page = |set: &str| {
            let inbox = format!("<inbox xmlns='{NS}'><set xmlns='http://jabber.org/protocol/rsm'>{set}</set></inbox>");
            let wanted = Wanted::parse(&Element::parse(inbox.as_bytes(), ns::CLIENT).unwrap()).unwrap();
            wanted.page(&listed, |id| id.parse().ok().map(LogId)).map_err(|error| error.condition)
        };
        assert_eq!(page(""), Ok(0..4));
        assert_eq!(page("<max>2</max>"), Ok(0..2));
        assert_eq!(page("<max>2</max><after>7</after>"), Ok(2..4));
        // Its conversation has gone on, or is gone: what is older comes.
        assert_eq!(page("<max>2</max><after>8</after>"), Ok(1..3));
        assert_eq!(page("<max>2</max><before/>"), Ok(2..4));
        assert_eq!(page("<max>2</max><before>5</before>"), Ok(0..2));
        assert_eq!(page("<max>1</max><before>5</before>"), Ok(1..2));
        assert_eq!(page("<max>2</max><index>3</index>"), Ok(3..4));
        assert_eq!(page("<max>2</max><index>9</index>"), Ok(4..4));
        assert_eq!(page("<max>0</max>"), Ok(0..0));
        assert_eq!(page("<after>made-up</after>"), Err(StanzaCondition::ItemNotFound));
    }

    #[test]
    fn the_totals_are_those_of_the_whole_inbox() {
        let topic = |new| ("a@x".to_owned(), Topic { last: LogId(1), count: 9, new });
        let totals = Totals::of(&[topic(0), topic(2), topic(4)]);
        assert_eq!(totals, Totals { total: 3, unread: 2, all_unread: 6 });
        let fin = "<fin xmlns='urn:xmpp:inbox:1' total='3' unread='2' all-unread='6'/>";
        assert_eq!(totals.fin().to_xml(ns::CLIENT), fin);
    }
}
