//! XEP-0227 §4.12: the message archive, each message with the time of its arrival; and the preferences for it (XEP-0441), of which
//! the document says nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xeps::delay::Delay;
use magpie_proto::xeps::forwarding::{self, Forwarded};
use magpie_proto::xeps::mam;
use magpie_proto::xml::{Kind, Stanza};
use magpie_proto::{BareJid, Element, Jid};
use magpie_store::{Effect, Filing, LogId, Page, Store};

use super::{Exporting, Import, Importing, Part, Piece, left_out, whole};
use crate::accounts::owner;
use crate::modules::archive::Archived;
use crate::modules::archive_preferences::Preferences;
use crate::server::now;

const NS: &str = "urn:xmpp:pie:0#mam";

/// Messages read at a time.
const PAGE: usize = 64;

/// Ids of one millisecond.
const WITHIN_MILLISECOND: u64 = 1 << 20;

/// The archive.
pub(super) struct Messages;

impl Part for Messages {
    fn name(&self) -> &'static str {
        "archive"
    }

    fn container(&self) -> Option<(&'static str, &'static str)> {
        Some(("archive", NS))
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, after: Option<String>) -> Exporting<'a> {
        Box::pin(async move {
            let after = after.and_then(|after| place_of(&after));
            let page = Page { after, limit: PAGE, ..Page::default() };
            let rows = store.archive::<Archived>("messages").page(&owner(account), page).await?;
            let next = rows.last().filter(|_| rows.len() == PAGE).map(|(place, _)| id_of(*place));
            let elements = rows.into_iter().map(|(place, Archived(stanza))| {
                let stamp = DateTime::from_unix_millis(place.millis() as i64);
                let delay = Delay { stamp, from: None, reason: None };
                mam::result(None, &id_of(place), Forwarded { delay: Some(delay), stanza }.element())
            });
            Ok(Piece { elements: elements.collect(), next })
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("archive", NS) {
            return None;
        }
        let (archive, owner) = (store.archive::<Archived>("messages"), owner(account));
        let mut wrong = Vec::new();
        for child in element.children() {
            let Some((place, stanza)) = result(child) else {
                wrong.push(format!("<{}/> in the archive that is no message with its time", child.name()));
                continue;
            };
            let contact = contact(account, &stanza).to_string();
            let filing = Filing { owner: &owner, topic: &contact, effect: Effect::None };
            archive.append(batch, Some(place), &[filing], &Archived(stanza));
        }
        left_out(wrong)
    }
}

/// A message and its place.
fn result(element: &Element) -> Option<(LogId, Stanza)> {
    if !element.is("result", mam::NS) {
        return None;
    }
    let Forwarded { delay, stanza } = Forwarded::parse(element.child("forwarded", forwarding::NS)?)?;
    // Whatever is archived from now on comes after it.
    let latest = (now().as_millis() as u64).saturating_sub(1);
    let stamp = u64::try_from(delay?.stamp.unix_millis()).ok()?.min(latest);
    if stanza.kind() != Kind::Message {
        return None;
    }
    // What was exported here goes where it was. Of others the order is that of the file: many have the same second.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let place = element.attr("id").and_then(place_of).filter(|place| place.millis() == stamp).unwrap_or_else(|| {
        LogId(LogId::at_millis(stamp).0 | (NEXT.fetch_add(1, Ordering::Relaxed) % WITHIN_MILLISECOND))
    });
    Some((place, stanza))
}

/// With whom the account spoke.
fn contact(account: &BareJid, message: &Stanza) -> BareJid {
    let bare = |address: Option<&str>| address.and_then(|address| Jid::parse(address).ok()).map(|jid| jid.to_bare());
    let (from, to) = (bare(message.from().as_deref()), bare(message.to().as_deref()));
    match from {
        Some(from) if from != *account => from,
        _ => to.unwrap_or_else(|| account.clone()),
    }
}

fn id_of(place: LogId) -> String {
    format!("{:016x}", place.0)
}

fn place_of(id: &str) -> Option<LogId> {
    let place = u64::from_str_radix(id, 16).ok().map(LogId).filter(|place| *place <= LogId::MAX);
    place.filter(|_| id.len() == 16)
}

/// What the account prefers.
pub(super) struct Preferred;

impl Part for Preferred {
    fn name(&self) -> &'static str {
        "archive preferences"
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, _: Option<String>) -> Exporting<'a> {
        Box::pin(async {
            let preferences = store.value::<Preferences>("archive-preferences").get(&owner(account)).await?;
            Ok(Piece::from(preferences.iter().map(Preferences::element).collect::<Vec<_>>()))
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("prefs", mam::NS) {
            return None;
        }
        match Preferences::parse(element) {
            Ok(preferences) => store.value("archive-preferences").put(batch, &owner(account), &preferences),
            Err(_) => return left_out(vec!["archive preferences that are none".to_owned()]),
        }
        whole()
    }
}
