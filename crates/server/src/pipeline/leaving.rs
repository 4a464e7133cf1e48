//! A session ends: what its client does not have waits for the next, and requests that it will not answer are answered.

use std::sync::Arc;

use magpie_proto::xml::{Kind, Stanza};
use magpie_proto::{Jid, StanzaCondition, StanzaError};
use magpie_store::Ticket;
use tracing::info;

use crate::mailbox::{Delivery, InSpool, Mail};
use crate::registry::{Resource, SessionHandle};
use crate::server::Server;
use crate::session::Takeover;

/// What is left of a session that has ended.
pub struct Left {
    /// What the registry knew of it; `None` where it was replaced.
    pub resource: Option<Resource>,
    /// Connections that wanted to resume it.
    pub takeovers: Vec<Takeover>,
    /// What its client does not have.
    undelivered: Vec<Delivery>,
    tickets: Vec<Ticket>,
}

/// A session ends: from here on it is in no route, and what its client does not have waits in the spool, but for `still_writing`
/// messages, which it hands on later. One breath for both, so that nothing comes between.
pub fn session_leaves(server: &Arc<Server>, session: &SessionHandle, mut undelivered: Vec<Delivery>) -> Left {
    let mut takeovers = Vec::new();
    let taken = server.registry().remove(session, |account| {
        for mail in session.mailbox.close() {
            match mail {
                Mail::Deliver(delivery) => undelivered.push(delivery),
                Mail::Resume(takeover) => takeovers.push(*takeover),
                Mail::LookIntoSpool | Mail::End(_) => {}
            }
        }
        server.modules.offline.leave(session, account, &undelivered)
    });
    let (resource, tickets) = taken;
    if !*server.stopping().borrow() {
        let missed = undelivered.iter().filter(|delivery| delivery.spool != InSpool::Never && !delivery.pushed);
        missed.for_each(|delivery| server.modules.push.message_missed(server, session, &delivery.stanza));
    }
    info!(jid = %session.jid, undelivered = undelivered.len(), "session ended");
    Left { resource, takeovers, undelivered, tickets }
}

/// The rest of what a session leaves behind: requests that it will not answer are answered (XEP-0198 §8), and what it leaves
/// is on disk.
pub async fn session_has_left(server: &Arc<Server>, session: &SessionHandle, left: Left) {
    let Left { undelivered, tickets, .. } = left;
    for delivery in undelivered {
        let stanza = &delivery.stanza;
        match stanza.kind() {
            Kind::Iq => bounce(server, stanza, &StanzaCondition::ServiceUnavailable.into()),
            // Its account ends with it, and with the account its spool.
            Kind::Message if session.anonymous && delivery.spool != InSpool::Never => {
                bounce(server, stanza, &StanzaCondition::ServiceUnavailable.into());
            }
            _ => {}
        }
    }
    // Together: one by one they would cost as many writes to the disk.
    for ticket in tickets {
        if let Err(error) = ticket.await {
            tracing::error!(%error, account = %session.account, "a message could not be kept");
        }
    }
}

/// Sends an error back to whoever sent the stanza.
fn bounce(server: &Arc<Server>, stanza: &Stanza, error: &StanzaError) {
    let Some(reply) = error.reply_to(stanza) else { return };
    let Some(to) = reply.to().and_then(|to| Jid::parse(&to).ok()) else { return };
    server.registry().with(&to.to_bare(), |entry| {
        let resource = to.resource().unwrap_or_default();
        if let Some(resource) = entry.and_then(|entry| entry.named(resource).map(|r| Arc::clone(&r.session))) {
            resource.send(reply);
        }
    });
}
