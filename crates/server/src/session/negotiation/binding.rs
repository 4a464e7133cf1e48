//! RFC 6120 §7, XEP-0198 §5: a resource for the client, or the session that it had.

use std::sync::Arc;

use magpie_proto::{BareJid, FullJid, StanzaCondition, StanzaError, StreamCondition, StreamError};
use tracing::info;

use super::{Negotiation, Next};
use crate::mailbox::{Mail, Mailbox};
use crate::news;
use crate::pipeline;
use crate::registry::SessionHandle;
use crate::server::random_text;
use crate::session::inline::Beginning;

impl Negotiation {
    pub(super) async fn bind(&mut self, resource: Option<String>) -> Next {
        let Some(account) = self.account.clone() else { return Next::Over };
        let jid: Result<FullJid, _> = match &resource {
            Some(resource) => account.with_resource(resource),
            None => account.with_resource(&random_text(9)),
        };
        let Ok(jid) = jid else {
            self.connection.stream.bind_refused(&StanzaCondition::BadRequest.into());
            return Next::More;
        };
        match self.begin(jid).await {
            Ok(handle) => {
                self.connection.stream.bound(&handle.jid);
                info!(jid = %handle.jid, address = %self.address, mechanism = self.mechanism, resumed = false, "session bound");
                Next::Bound(handle, Beginning::default())
            }
            Err(Some(error)) => {
                self.connection.stream.bind_refused(&error);
                Next::More
            }
            Err(None) => Next::More,
        }
    }

    /// Puts a session with this address into the registry. Where that cannot be, why; `None` where the stream has ended for it.
    pub(in crate::session) async fn begin(&mut self, jid: FullJid) -> Result<Arc<SessionHandle>, Option<StanzaError>> {
        let limits = self.server.config().limits.clone();
        let mailbox = Mailbox::new(limits.unsent_bytes_max);
        let handle = Arc::new(SessionHandle::new(self.server.registry().next_id(), jid, mailbox, self.anonymous));
        match self.server.registry().add(&handle, limits.sessions_per_account_max) {
            Ok(Some(replaced)) => {
                let text = "replaced by a newer session with the same resource";
                let error = StreamError::new(StreamCondition::Conflict, text);
                // A session that is ending by itself needs no telling.
                let _ = replaced.session.mailbox.put(Mail::End(error));
                news::session_ended(&self.server, replaced).await;
            }
            Ok(None) => {}
            Err(_) => {
                return Err(Some(StanzaError::new(StanzaCondition::ResourceConstraint, "too many sessions")));
            }
        }
        // An account that was removed or disabled since it authenticated has no sessions, and none that knows only an earlier password.
        // Looked at now, when such a change would find this one.
        if !self.anonymous && !self.may_begin(&handle.account).await {
            let left = pipeline::session_leaves(&self.server, &handle, Vec::new());
            pipeline::session_has_left(&self.server, &handle, left).await;
            self.fail(StreamCondition::NotAuthorized.into());
            return Err(None);
        }
        if let Err(error) = news::session_bound(&self.server, &handle).await {
            tracing::error!(%error, account = %handle.account, "the account cannot be read");
            let left = pipeline::session_leaves(&self.server, &handle, Vec::new());
            pipeline::session_has_left(&self.server, &handle, left).await;
            return Err(Some(StanzaCondition::InternalServerError.into()));
        }
        Ok(handle)
    }

    async fn may_begin(&self, account: &BareJid) -> bool {
        let Some(proof) = &self.proof else { return false };
        self.server.deps.accounts.is_active(account, proof).await.unwrap_or(false)
    }

    pub(in crate::session) fn resume(&mut self, previd: String, h: u32) -> Next {
        let Some(account) = &self.account else { return Next::Over };
        let stream_management = &self.server.modules.stream_management;
        match stream_management.find(account, &previd) {
            Some(handle) => {
                info!(jid = %handle.jid, address = %self.address, mechanism = self.mechanism, "session asked for again");
                Next::Resume { handle, previd, h }
            }
            None => {
                self.connection.resume_failed(&stream_management.failure(account, &previd));
                Next::More
            }
        }
    }
}
