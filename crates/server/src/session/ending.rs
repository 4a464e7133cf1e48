//! How a session loses its connection (XEP-0198 §5), finds another, and ends.

use std::future::poll_fn;
use std::sync::Arc;

use magpie_proto::{StreamCondition, StreamError};
use tokio::time::Instant;
use tracing::info;

use super::{Flow, Session, Takeover, negotiation};
use crate::mailbox::{Addressee, Delivery, InSpool, Mail};
use crate::modules::client_state::ClientState;
use crate::news;
use crate::pipeline::{self, Left};

/// A takeover, with what is to be done after it.
pub(super) struct Resumption {
    pub(super) takeover: Box<Takeover>,
    pub(super) mail: std::vec::IntoIter<Mail>,
    /// The session ends with this.
    pub(super) end: Option<Box<StreamError>>,
}

impl Session {
    pub(super) fn is_resumable(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.is_resumable())
    }

    pub(super) fn fail(&mut self, error: StreamError) -> Flow {
        self.server.deps.metrics.stream_error(error.condition.name());
        info!(jid = %self.handle.jid, %error, "stream ended");
        if let Some(connection) = &mut self.connection {
            connection.fail(error);
        }
        Flow::End
    }

    /// XEP-0045 §11.2: the server stops, and nobody will resume the session. Its client hears that it is in no room any more before the
    /// stream ends; the rooms hear of it when the session has.
    pub(super) fn say_farewell(&mut self) {
        if self.is_stalled() {
            return;
        }
        self.become_active();
        for farewell in self.server.modules.muc.farewells(&self.server, &self.handle) {
            self.write(Delivery::to(farewell, Addressee::Session));
        }
    }

    pub(super) fn detach(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abandon();
        }
        self.since = Instant::now();
        self.probed = false;
        self.become_active();
        info!(jid = %self.handle.jid, "session detached");
        self.push_missed();
        let Self { server, handle, acks, .. } = self;
        if let Some(acks) = acks {
            acks.detached(&server.deps.metrics);
        }
        server.registry().with(&handle.account, |account| {
            let Some(account) = account else { return };
            if let Some(resource) = account.resource(handle.id) {
                resource.set_detached(true);
            }
            // From here on what is routed to it is kept; what came before is kept now.
            let unacked = acks.iter_mut().flat_map(|acks| acks.outbound.unacked_mut());
            unacked.for_each(|delivery| server.modules.offline.keep_held(handle, account, delivery));
            handle.mailbox.for_each_delivery(|delivery| server.modules.offline.keep_held(handle, account, delivery));
        });
    }

    /// Has the client told of the messages that it does not have, as it seems, and was not told of (XEP-0357).
    pub(super) fn push_missed(&mut self) {
        let Self { server, handle, acks, .. } = self;
        let pushes = server.registry().with(&handle.account, |account| account.is_some_and(|account| account.pushes));
        let Some(acks) = acks.as_mut().filter(|_| pushes && !*server.stopping().borrow()) else { return };
        let mut missed = |delivery: &mut Delivery| {
            if delivery.spool != InSpool::Never && !std::mem::replace(&mut delivery.pushed, true) {
                server.modules.push.message_missed(server, handle, &delivery.stanza);
            }
        };
        acks.outbound.unacked_mut().for_each(&mut missed);
        handle.mailbox.for_each_delivery(missed);
    }

    /// What waited for the client to be active waits for its acknowledgement now; a resumed client is active (XEP-0352 §5).
    pub(super) fn become_active(&mut self) {
        for delivery in self.client_state.give_back() {
            self.write(delivery);
        }
        self.client_state = ClientState::default();
    }

    pub(super) async fn resume(&mut self, takeover: Box<Takeover>) {
        let Takeover { mut connection, previd, h, .. } = *takeover;
        let Some(acks) = &mut self.acks else { return };
        match acks.acknowledge(h) {
            Ok(acknowledged) => self.acknowledged(&acknowledged),
            Err(error) => {
                self.server.deps.metrics.stream_error(error.condition.name());
                connection.fail(error);
                tokio::spawn(connection.close());
                return;
            }
        }
        let old = self.connection.take();
        // What waited for the client to be active, and what is still to be said about stanzas that came before, goes to the new
        // connection with all else that is unacknowledged: nothing may come before `<resumed/>`.
        self.become_active();
        if let Some(mut old) = old {
            old.fail(StreamError::new(StreamCondition::Conflict, "resumed by another connection"));
            // Mostly it is dead, and its last words are not waited for.
            tokio::spawn(old.close());
        }
        // Nothing is written meanwhile, so that whoever waits for room in the mailbox shall not.
        self.server.registry().with_resource(&self.handle, |resource| resource.set_detached(true));
        // The count that the client is told must hold, so what is owed is paid first.
        self.pay().await;
        self.since = Instant::now();
        self.probed = false;
        self.server.registry().with_resource(&self.handle, |resource| resource.set_detached(false));
        if let Some(acks) = &mut self.acks {
            connection.resumed(&self.handle.jid, &previd, acks.inbound.handled());
            acks.resumed();
            for delivery in acks.outbound.unacked() {
                connection.write(|out| delivery.stanza.write(delivery.to.instead(&self.handle), out));
            }
        }
        self.connection = Some(connection);
        info!(jid = %self.handle.jid, resumed = true, "session resumed");
    }

    /// Goes over to another connection, and takes the mail that came after it.
    pub(super) async fn resume_amid(&mut self, resumption: Resumption) -> Flow {
        let Resumption { takeover, mail, mut end } = resumption;
        self.resume(takeover).await;
        for next in mail {
            if let Some(takeover) = self.open(next, &mut end) {
                self.resume(takeover).await;
            }
        }
        self.mail_taken(end)
    }

    /// Waits until everything that was taken in is handled, and what was promised for it is kept.
    pub(super) async fn pay(&mut self) {
        if let Some(work) = self.work.take() {
            let (position, promise) = work.await;
            self.owe(position, promise);
        }
        while !self.promises.is_empty() {
            let outcome = poll_fn(|context| self.poll_promise(context, false)).await;
            self.promise_kept(outcome);
        }
    }

    /// `lost`: the connection is gone, and nothing more can be written.
    pub(super) async fn end(mut self: Box<Self>, lost: bool) {
        if !lost && self.acks.is_none() && !self.unflushed.is_empty() {
            // What was given to the socket so far is not given to another session. The last words alone wait for `close_notify`.
            let _ = self.flush();
        }
        let mut left = self.leave(lost);
        self.pay().await;
        self.forget(&mut left);
        if let Some(mut connection) = self.connection.take() {
            connection.end();
            let sent = connection.close().await;
            self.written(sent);
        }
        let resource = left.resource.take();
        pipeline::session_has_left(&self.server, &self.handle, left).await;
        if !self.unflushed.is_empty() {
            let unwritten = self.unflushed.drain(..).map(|(_, delivery)| delivery).collect();
            let left = pipeline::session_leaves(&self.server, &self.handle, unwritten);
            pipeline::session_has_left(&self.server, &self.handle, left).await;
        }
        if let Some(resource) = resource {
            news::session_ended(&self.server, resource).await;
        }
    }

    /// Hands on what the client does not have, but for what is still written to its socket.
    pub(super) fn leave(&mut self, lost: bool) -> Left {
        self.left = true;
        let mut undelivered = Vec::new();
        if let Some(acks) = &mut self.acks {
            undelivered.extend(std::mem::take(&mut acks.outbound).into_unacked());
        }
        if lost {
            undelivered.extend(self.unflushed.drain(..).map(|(_, delivery)| delivery));
            // Should the peer still read, it must not get what others get now.
            if let Some(connection) = self.connection.take_if(|_| !undelivered.is_empty()) {
                connection.abandon();
            }
        }
        undelivered.extend(self.client_state.give_back());
        pipeline::session_leaves(&self.server, &self.handle, undelivered)
    }

    /// With all that it owed settled, the session cannot be resumed any more.
    pub(super) fn forget(&self, left: &mut Left) {
        if let Some(acks) = &self.acks {
            self.server.modules.stream_management.forget(acks);
        }
        for takeover in left.takeovers.drain(..) {
            negotiation::refuse_takeover(&self.server, takeover);
        }
    }
}

impl Drop for Session {
    /// A session whose task ends before its time, by a panic, leaves nothing behind either.
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut left = self.leave(true);
        let (server, handle) = (Arc::clone(&self.server), Arc::clone(&self.handle));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.forget(&mut left);
            runtime.spawn(async move {
                let resource = left.resource.take();
                pipeline::session_has_left(&server, &handle, left).await;
                if let Some(resource) = resource {
                    news::session_ended(&server, resource).await;
                }
            });
        }
    }
}
