//! XEP-0388 §2.6: what a client wants done within its authentication: a session to be taken up again (XEP-0198 §9.2), or a resource
//! (XEP-0386).

use std::sync::Arc;

use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::sasl::{ChannelBindings, Offer};
use magpie_proto::stream::{After, ResumeFailure, StreamLimits};
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaCondition, StreamCondition, StreamError, ns};
use tracing::{info, warn};

use super::negotiation::{Negotiation, Next, after_auth};
use crate::modules::bind2::{self, Binding};
use crate::modules::client_state::ClientState;
use crate::modules::fast::Fast;
use crate::modules::stream_management::Acks;
use crate::registry::SessionHandle;

/// With what a session begins that was not bound by an IQ.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) acks: Option<Box<Acks>>,
    pub(super) client_state: ClientState,
}

impl Negotiation {
    /// What can be had within authentication on this connection.
    pub(super) fn inline_features(&self, bindings: &ChannelBindings, anonymous: bool) -> Vec<Element> {
        let mut features = self.server.modules.inline_features();
        if !anonymous {
            let early = self.gate.direct && self.server.config().auth.early_data;
            features.push(Fast::feature(&Offer::token_mechanisms(bindings), early));
        }
        features
    }

    /// Sees to tokens, and looks whether a session is to be taken up again; whatever comes of it, the rest is done by
    /// [`Negotiation::bind_inline`].
    pub(super) async fn resume_inline(&mut self, account: BareJid, request: Box<Authenticate>) -> Next {
        let after = self.after();
        self.connection.stream.authenticated_inline(account.clone(), after);
        self.account = Some(account);
        if !self.anonymous {
            self.settle_tokens(&request).await;
        }
        let resume = request.wanted("resume", ns::SM).map(asked_of);
        self.inline = Some(request);
        match resume {
            None => Next::More,
            Some(Some((previd, h))) => self.resume(previd, h),
            Some(None) => {
                let failure = ResumeFailure { condition: StanzaCondition::BadRequest, h: None };
                self.connection.resume_failed(&failure);
                Next::More
            }
        }
    }

    /// Does what is left, and tells the client of its success.
    pub(super) async fn bind_inline(&mut self, request: Box<Authenticate>) -> Next {
        let Some(account) = self.account.clone() else { return Next::Over };
        let Some(bind) = request.wanted("bind", ns::BIND2) else {
            self.connection.stream.succeeded();
            return Next::More;
        };
        let user_agent = request.user_agent.id.as_deref().filter(|_| !self.anonymous);
        let id = bind2::device_id(&self.server, &account, user_agent);
        let tag = bind.child("tag", ns::BIND2).map(Element::text);
        let Some(jid) = bind2::address(&account, tag.as_deref(), &id) else { return Next::Over };
        let handle = match self.begin(jid).await {
            Ok(handle) => handle,
            Err(None) => return Next::More,
            Err(Some(error)) => {
                let condition = match error.condition {
                    StanzaCondition::ResourceConstraint => StreamCondition::ResourceConstraint,
                    _ => StreamCondition::InternalServerError,
                };
                self.fail(StreamError::new(condition, "the session cannot begin"));
                return Next::More;
            }
        };
        if user_agent.is_some() {
            bind2::end_earlier(&self.server, &handle, &id);
        }
        let beginning = self.bound(&handle, bind).await;
        info!(
            jid = %handle.jid,
            address = %self.address,
            mechanism = self.mechanism,
            software = request.user_agent.software,
            resumed = false,
            "session bound"
        );
        Next::Bound(handle, beginning)
    }

    async fn settle_tokens(&mut self, request: &Authenticate) {
        let checked = self.tokens.take().map(|tokens| *tokens);
        let (Some(account), Some(proof)) = (&self.account, &self.proof) else { return };
        let offered = Offer::token_mechanisms(&self.connection.transport.bindings(self.server.certificates()));
        match self.server.modules.fast.settle(account, request, &offered, proof, checked).await {
            Ok(token) => token.into_iter().for_each(|token| self.connection.stream.add_to_success(token)),
            // A client without a token has its password.
            Err(error) => warn!(%error, %account, "tokens cannot be read or written"),
        }
    }

    async fn bound(&mut self, handle: &Arc<SessionHandle>, request: &Element) -> Beginning {
        let server = Arc::clone(&self.server);
        let mut binding =
            Binding { server: &server, session: handle, request, acks: None, client_state: ClientState::default() };
        let answers = server.modules.bound(&mut binding).await;
        let Binding { acks, client_state, .. } = binding;
        self.connection.stream.bound_inline(&handle.jid, answers);
        Beginning { acks, client_state }
    }

    fn after(&self) -> After {
        let limits = &self.server.config().limits;
        After {
            features: self.server.stream_features(&self.domain),
            limits: StreamLimits { bytes_max: limits.stanza_bytes_max, idle_seconds: Some(limits.idle_seconds_max) },
            xml: after_auth(limits),
        }
    }
}

/// SM-ID and count of a `<resume/>`; `None` where one is missing.
fn asked_of(resume: &Element) -> Option<(String, u32)> {
    Some((resume.attr("previd")?.to_owned(), resume.attr("h")?.parse().ok()?))
}
