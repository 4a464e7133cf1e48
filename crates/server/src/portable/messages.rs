//! XEP-0227 §4.5: messages that wait for their recipient, each with the time of its arrival.

use std::time::Duration;

use magpie_proto::BareJid;
use magpie_proto::xeps::delay::{self, Delay};
use magpie_proto::xml::{Kind, Stanza};
use magpie_store::{LogId, Store};

use super::{Exporting, Import, Importing, NS, Part, Piece, left_out};
use crate::accounts::owner;
use crate::modules::offline::Spooled;
use crate::server::now;

/// Messages read at a time.
const PAGE: usize = 64;

/// The spool.
pub(super) struct OfflineMessages;

impl Part for OfflineMessages {
    fn name(&self) -> &'static str {
        "offline messages"
    }

    fn container(&self) -> Option<(&'static str, &'static str)> {
        Some(("offline-messages", NS))
    }

    fn export<'a>(&'a self, store: &'a Store, account: &'a BareJid, after: Option<String>) -> Exporting<'a> {
        Box::pin(async move {
            let after = after.and_then(|after| after.parse().ok()).map(LogId);
            let rows = store.log::<Spooled>("spool").range(&owner(account), after, PAGE).await?;
            let next = rows.last().filter(|_| rows.len() == PAGE).map(|(id, _)| id.0.to_string());
            let host = account.to_domain();
            let elements = rows.iter().map(|(_, spooled)| spooled.delayed(&host).element()).collect();
            Ok(Piece { elements, next })
        })
    }

    fn import<'a>(&'a self, Import { store, account, element, batch }: Import<'a>) -> Option<Importing<'a>> {
        if !element.is("offline-messages", NS) {
            return None;
        }
        let (spool, owner) = (store.log::<Spooled>("spool"), owner(account));
        let mut wrong = Vec::new();
        for child in element.children() {
            let stanza = Stanza::new(child);
            if stanza.kind() != Kind::Message {
                wrong.push(format!("<{}/> among the offline messages", child.name()));
                continue;
            }
            let spooled = spooled(account, &stanza);
            let place = store.next_id_at(spooled.received.as_millis() as u64);
            spool.append(batch, &owner, place, &spooled);
        }
        left_out(wrong)
    }
}

/// A message as it arrived: the delay that a server added when it put it by says when that was.
fn spooled(account: &BareJid, message: &Stanza) -> Spooled {
    let host = account.domain();
    let ours =
        |delay: &Delay| delay.from.as_ref().is_some_and(|from| from.as_str() == host || *from == *account.as_str());
    let delays: Vec<Delay> = Delay::all_of(message).collect();
    // The last one is its own; another server may have signed with no name at all.
    let mine = delays.iter().rposition(ours).or_else(|| delays.iter().rposition(|delay| delay.from.is_none()));
    let Some(mine) = mine else { return Spooled { received: now(), stanza: message.clone() } };
    let received = Duration::from_millis(delays[mine].stamp.unix_millis().max(0) as u64);
    let mut index = 0;
    let stanza = message.without_children(|child| {
        let delays = child.is("delay", delay::NS) && Delay::parse(&child.element()).is_some();
        let drop = delays && index == mine;
        index += usize::from(delays);
        drop
    });
    Spooled { received, stanza }
}
