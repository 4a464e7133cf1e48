//! XEP-0388: the Extensible SASL Profile on a client's stream.
//!
//! The exchanges are those of RFC 6120; what differs are the elements, that no stream restarts afterwards, and that what the client
//! wanted inline is done before it is told of its success. The caller does it, and says by which of
//! [`ClientStream::succeeded`], [`ClientStream::bound_inline`] and [`ClientStream::resumed`] it ended.

use super::{ClientStream, Negotiation, State};
use crate::sasl::sasl2::{self, Authenticate, Request};
use crate::sasl::{Exchange, SaslFailure, Step, TokenMechanism, TokenProof, UpgradeTask};
use crate::stream::event::{Acceptance, After, Event};
use crate::stream::features::{self, StartTls};
use crate::xml::{Element, Stanza};
use crate::{BareJid, FullJid, StreamCondition, StreamError, ns};

/// A success of which the peer has not been told.
#[derive(Debug)]
pub(super) struct Success {
    /// What the mechanism has to say.
    data: Option<Vec<u8>>,
    after: After,
    additions: Vec<Element>,
}

/// XEP-0480: what the peer has yet to do.
#[derive(Debug)]
pub(super) struct Task {
    task: Box<UpgradeTask>,
    /// Whether it was told of what the keys are made.
    begun: bool,
}

impl Negotiation {
    /// The features, and what they are called (XEP-0509), which is of use to SASL2 alone.
    pub(super) fn name_features(&mut self, features: Element, acceptance: &Acceptance) -> Element {
        if acceptance.inline.is_none() {
            return features;
        }
        let version = features::config_version(&features);
        let element =
            Element::new("config-version", ns::PIPELINING).with_attr("scheme", "opaque").with_attr("value", &version);
        self.config_version = Some(version);
        features.with(element)
    }
}

impl ClientStream {
    /// An element of SASL2 before authentication.
    pub(super) fn authenticate2(
        &mut self,
        element: &Stanza,
        starttls: StartTls,
        nonce: &mut dyn FnMut() -> String,
    ) -> Option<Event> {
        let running = self.state == State::Authenticating && self.negotiation().sasl2.is_some();
        if let Some(task) = self.negotiation().task.take() {
            return self.go_on(task, Request::parse(element));
        }
        match Request::parse(element) {
            Some(Ok(Request::Authenticate(request))) if !running => {
                if let Some(failed) = self.count_attempt() {
                    return Some(failed);
                }
                let negotiation = self.negotiation();
                let from = negotiation.from.clone().filter(|from| from.local().is_some());
                let mechanism = request.mechanism.clone();
                let initial = request.initial.clone();
                let by_token = request.wanted("fast", ns::FAST).and_then(|_| TokenMechanism::parse(&mechanism));
                negotiation.sasl2 = Some(request);
                let Some(acceptance) = &mut negotiation.acceptance else {
                    return Some(self.failed(StreamCondition::NotAuthorized.into()));
                };
                if starttls == StartTls::Required || acceptance.inline.is_none() {
                    return self.fail_authentication(SaslFailure::EncryptionRequired, None, mechanism);
                }
                if negotiation.early
                    && let Some(failure) = self.refusal_of_early(by_token)
                {
                    return self.fail_authentication(failure, None, mechanism);
                }
                let negotiation = self.negotiation();
                let Some(acceptance) = &mut negotiation.acceptance else {
                    return Some(self.failed(StreamCondition::NotAuthorized.into()));
                };
                if let Some(meant) =
                    negotiation.sasl2.as_ref().and_then(|sasl2| sasl2.wanted("config-version", ns::PIPELINING))
                    && meant.attr("value") != negotiation.config_version.as_deref()
                {
                    return Some(self.fail_mismatch(mechanism));
                }
                acceptance.offer.from = from;
                acceptance.offer.protected = true;
                let offer = &acceptance.offer;
                let (exchange, step) = match by_token {
                    Some(by_token) => Exchange::start_token(offer, by_token, initial.as_deref()),
                    None => Exchange::start(offer, &mechanism, initial.as_deref(), nonce()),
                };
                negotiation.exchange = Some((exchange, mechanism));
                self.step(step)
            }
            Some(Ok(Request::Response(response))) if running => self.exchange(|exchange| exchange.respond(&response)),
            Some(Ok(Request::Abort)) if running => {
                self.step(Step::Failure { failure: SaslFailure::Aborted, username: None })
            }
            Some(Err(failure)) if running || element.name() == "authenticate" => {
                // Counts as any other attempt does.
                if let Some(failed) = self.count_attempt() {
                    return Some(failed);
                }
                self.negotiation().sasl2.get_or_insert_default();
                self.step(Step::Failure { failure, username: None })
            }
            // §2.4: nothing else may come while authentication is in progress.
            _ => Some(self.failed(StreamCondition::NotAuthorized.into())),
        }
    }

    /// Answers [`Event::Authenticated`], or [`Event::Upgraded`], where the account lacks keys that the peer can give (XEP-0480): it is
    /// asked for them, and is not told of its success yet.
    pub fn ask_for_keys(&mut self, task: UpgradeTask) {
        let negotiation = self.negotiation();
        task.announcement(negotiation.success.take().as_deref()).write(ns::STREAM, &mut self.output);
        let negotiation = self.negotiation();
        negotiation.task = Some(Task { task: Box::new(task), begun: false });
        negotiation.sasl2 = Some(Box::default());
        self.state = State::Authenticating;
    }

    /// The peer says something while a task is to be done.
    fn go_on(&mut self, mut task: Task, request: Option<Result<Request, SaslFailure>>) -> Option<Event> {
        let failure = match request {
            Some(Ok(Request::Next(name))) if !task.begun && task.task.is_called(&name) => {
                task.task.question().write(ns::STREAM, &mut self.output);
                task.begun = true;
                self.negotiation().task = Some(task);
                return None;
            }
            Some(Ok(Request::TaskData(answer))) if task.begun => match task.task.keys(&answer) {
                Ok(keys) => {
                    self.state = State::Waiting;
                    return Some(Event::Upgraded { keys });
                }
                Err(failure) => failure,
            },
            Some(Ok(Request::Next(_))) => SaslFailure::MalformedRequest,
            Some(Ok(Request::Abort)) => SaslFailure::Aborted,
            // XEP-0388 §2.4: nothing else may come while authentication is in progress.
            _ => return Some(self.failed(StreamCondition::NotAuthorized.into())),
        };
        self.step(Step::Failure { failure, username: None })
    }

    /// XEP-0509 §2.2: the peer had other features in mind. No guess, and no reason to let it wait.
    fn fail_mismatch(&mut self, mechanism: String) -> Event {
        self.negotiation().sasl2 = None;
        let mismatch = Element::new("config-version-mismatch", ns::PIPELINING);
        sasl2::failure(SaslFailure::Aborted).with(mismatch).write(ns::STREAM, &mut self.output);
        self.state = State::Negotiating;
        Event::AuthenticationFailed { failure: SaslFailure::Aborted, username: None, mechanism }
    }

    /// Why nobody may log in so by what may have been sent before (XEP-0484 §3.4): a token without a count, or no token.
    fn refusal_of_early(&mut self, by_token: Option<TokenMechanism>) -> Option<SaslFailure> {
        let request = self.negotiation().sasl2.as_deref();
        match (by_token, request.and_then(count)) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some(SaslFailure::MalformedRequest),
            // The same is good once the handshake has ended.
            (None, _) => Some(SaslFailure::TemporaryAuthFailure),
        }
    }

    pub(super) fn check_token(&mut self, username: String, proof: Box<TokenProof>) -> Event {
        self.state = State::Waiting;
        let request = self.negotiation().sasl2.as_deref();
        let device = request.and_then(|request| request.user_agent.id.clone());
        let count = request.and_then(count);
        Event::CheckToken { username, device, proof, count }
    }

    /// Answers [`Event::CheckToken`]: what the server has to say, or why the token is not good.
    pub fn token_checked(&mut self, outcome: Result<Vec<u8>, SaslFailure>) -> Option<Event> {
        self.exchange(|exchange| exchange.token_checked(outcome))
    }

    /// Answers [`Event::Authenticated`] where the peer has spoken SASL2: the peer is not told yet. What it wanted inline is to be done
    /// now, and one of the methods that end it is to be called.
    pub fn authenticated_inline(&mut self, account: BareJid, after: After) {
        self.tokenizer.set_limits(after.xml);
        let negotiation = self.negotiation();
        negotiation.account = Some(account);
        negotiation.exchange = None;
        let data = negotiation.success.take();
        negotiation.success2 = Some(Box::new(Success { data, after, additions: Vec::new() }));
    }

    /// Puts something into the coming `<success/>`.
    pub fn add_to_success(&mut self, addition: Element) {
        if let Some(success) = &mut self.negotiation().success2 {
            success.additions.push(addition);
        }
    }

    /// Ends an authentication without a resource: the peer may bind one now.
    pub fn succeeded(&mut self) {
        let Some(account) = self.negotiation().account.clone() else { return };
        self.write_success(account.as_str(), true);
        self.state = State::Negotiating;
    }

    /// Ends an authentication that bound a resource (XEP-0386): stanzas are stamped with this address from now on. `bound`: what
    /// stands in `<bound/>`.
    pub fn bound_inline(&mut self, jid: &FullJid, bound: Vec<Element>) {
        self.add_to_success(Element::new("bound", ns::BIND2).with_all(bound));
        self.write_success(jid.as_str(), false);
        self.establish(jid);
    }

    /// Whether the peer waits for `<success/>`.
    pub(super) fn owes_success(&mut self) -> bool {
        self.negotiation().success2.is_some()
    }

    /// `<success/>` and, at once (§2.6.1), what can be had from here on.
    pub(super) fn write_success(&mut self, address: &str, binding: bool) {
        let negotiation = self.negotiation();
        negotiation.sasl2 = None;
        let Some(success) = negotiation.success2.take() else { return };
        let Success { data, after, additions } = *success;
        sasl2::success(data.as_deref(), address, additions).write(ns::STREAM, &mut self.output);
        let features = match binding {
            true => features::after_authentication(&after.features, after.limits),
            false => features::after_binding(&after.features, after.limits),
        };
        self.write_features(&features);
    }

    /// One more attempt to authenticate; the end of the stream where it is one too many.
    pub(super) fn count_attempt(&mut self) -> Option<Event> {
        let negotiation: &mut Negotiation = self.negotiation();
        negotiation.attempts = negotiation.attempts.saturating_add(1);
        (negotiation.attempts > super::ATTEMPTS_MAX)
            .then(|| self.failed(StreamError::new(StreamCondition::PolicyViolation, "too many attempts")))
    }
}

/// XEP-0484 §3.4: how often the peer has logged in with its token, as it says.
fn count(request: &Authenticate) -> Option<u64> {
    request.wanted("fast", ns::FAST)?.attr("count")?.parse().ok()
}
