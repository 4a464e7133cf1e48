//! XEP-0160 in a session: fetching the account's spool, as fast as the peer keeps up.

use std::sync::Arc;
use std::time::Duration;

use magpie_store::StoreError;
use tracing::warn;

use super::Session;
use crate::mailbox::{Addressee, Delivery, InSpool, Mail};
use crate::modules::offline::Chunk;

/// When a spool that could not be read is read again.
const SPOOL_RETRY_AFTER: Duration = Duration::from_secs(5);

impl Session {
    /// A look into the spool from its beginning, now or after the one that is under way.
    pub(super) fn fetch_again(&mut self) {
        self.fetch_next = Some(None);
        self.server.registry().with_resource(&self.handle, |resource| resource.fetching = true);
    }

    /// Fetches the next messages where the peer keeps up with them.
    pub(super) fn look_into_spool(&mut self) {
        if self.fetch_next.is_none() || self.fetch.is_some() || self.is_stalled() || self.connection.is_none() {
            return;
        }
        let unacked = self.acks.as_ref().map_or(0, |acks| acks.outbound.len());
        // One more, and it waits for the client's acknowledgement.
        let room = self.server.limits().unacked_stanzas_max() / 2 + 1;
        if let Some(after) = self.fetch_next.take() {
            let server = Arc::clone(&self.server);
            let handle = Arc::clone(&self.handle);
            self.fetch =
                Some(Box::pin(async move { server.modules.offline.fetch(handle, after, room - unacked).await }));
        }
    }

    pub(super) fn fetched(&mut self, chunk: Result<Chunk, StoreError>) {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                // What comes from now on is delivered meanwhile: better out of order than late without end.
                warn!(jid = %self.handle.jid, %error, "the spool cannot be read");
                let session = Arc::downgrade(&self.handle);
                tokio::spawn(async move {
                    tokio::time::sleep(SPOOL_RETRY_AFTER).await;
                    if let Some(session) = session.upgrade() {
                        // A session that is gone leaves the messages to the next one.
                        let _ = session.mailbox.put(Mail::LookIntoSpool);
                    }
                });
                Chunk { messages: Vec::new(), after: None }
            }
        };
        for (id, stanza) in chunk.messages {
            // What waited there has been pushed, as far as it was worth that.
            let spool = InSpool::Kept(id);
            self.deliver(Delivery { stanza, to: Addressee::OfStanza, spool, pushed: true, shared: false });
        }
        if self.fetch_next.is_some() {
            return;
        }
        if chunk.after.is_some() {
            self.fetch_next = Some(chunk.after);
            return;
        }
        // Whoever routed a message into the spool meanwhile did so under the same lock and left mail.
        let again = self.server.registry().with(&self.handle.account, |account| {
            let Some(account) = account else { return false };
            let again = self.handle.mailbox.has_look_into_spool();
            if let Some(resource) = account.resource(self.handle.id) {
                resource.fetching = again;
            }
            if !account.resources.iter().any(|resource| resource.fetching) {
                account.discharged = None;
            }
            again
        });
        if again {
            self.fetch_next = Some(None);
        }
    }
}
