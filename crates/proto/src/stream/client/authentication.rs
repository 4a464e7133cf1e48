//! RFC 6120 §6: the exchanges of SASL on a client's stream, whichever profile they are spoken in.

use super::{AUTHENTICATION_FAILURES_MAX, ClientStream, State};
use crate::sasl::sasl2 as sasl2_xml;
use crate::sasl::xml::{self as sasl_xml, Request};
use crate::sasl::{Exchange, SaslFailure, ScramKeys, Step};
use crate::stream::event::Event;
use crate::stream::features::StartTls;
use crate::xml::Stanza;
use crate::{BareJid, StreamCondition, StreamError, ns};

impl ClientStream {
    /// Answers [`Event::FindKeys`]; `known` is false where the keys are fake.
    pub fn keys(&mut self, keys: ScramKeys, known: bool) -> Option<Event> {
        self.exchange(|exchange| exchange.keys(keys, known))
    }

    /// Answers [`Event::CheckPassword`].
    pub fn password_checked(&mut self, right: bool) -> Option<Event> {
        self.exchange(|exchange| exchange.password_checked(right))
    }

    /// Answers [`Event::FindKeys`] where the server does not want to look: throttled, or the store is down.
    pub fn refuse_authentication(&mut self, failure: SaslFailure) -> Event {
        self.step(Step::Failure { failure, username: None }).unwrap_or(Event::Closed)
    }

    /// Answers [`Event::Authenticated`] with the account: sends `<success/>`, and a new header must come (§6.4.6).
    pub fn authenticated(&mut self, account: BareJid) {
        let negotiation = self.negotiation();
        negotiation.account = Some(account);
        negotiation.exchange = None;
        let data = negotiation.success.take();
        sasl_xml::success(data.as_deref()).write(ns::STREAM, &mut self.output);
        self.restart();
    }

    pub(super) fn count_failure(&mut self) -> Option<Event> {
        let negotiation = self.negotiation();
        negotiation.failures = negotiation.failures.saturating_add(1);
        (negotiation.failures >= AUTHENTICATION_FAILURES_MAX)
            .then(|| self.failed(StreamError::new(StreamCondition::PolicyViolation, "too many failed attempts")))
    }

    pub(super) fn authenticate(
        &mut self,
        element: &Stanza,
        starttls: StartTls,
        nonce: &mut dyn FnMut() -> String,
    ) -> Option<Event> {
        let running = self.state == State::Authenticating;
        if element.name() == "auth"
            && let Some(failed) = self.count_attempt()
        {
            return Some(failed);
        }
        match Request::parse(element) {
            Some(Ok(Request::Auth { mechanism, .. })) if starttls == StartTls::Required => {
                self.fail_authentication(SaslFailure::EncryptionRequired, None, mechanism)
            }
            Some(Ok(Request::Auth { mechanism, initial })) => {
                let Some(acceptance) = &mut self.negotiation().acceptance else {
                    return Some(self.failed(StreamCondition::NotAuthorized.into()));
                };
                acceptance.offer.from = None;
                acceptance.offer.protected = acceptance.protected;
                let (exchange, step) = Exchange::start(&acceptance.offer, &mechanism, initial.as_deref(), nonce());
                self.negotiation().exchange = Some((exchange, mechanism));
                self.step(step)
            }
            Some(Ok(Request::Response(response))) if running => self.exchange(|exchange| exchange.respond(&response)),
            Some(Ok(Request::Abort)) if running => {
                self.step(Step::Failure { failure: SaslFailure::Aborted, username: None })
            }
            Some(Err(failure)) => self.step(Step::Failure { failure, username: None }),
            _ => Some(self.failed(StreamCondition::NotAuthorized.into())),
        }
    }

    pub(super) fn exchange(&mut self, advance: impl FnOnce(&mut Exchange) -> Step) -> Option<Event> {
        match &mut self.negotiation().exchange {
            Some((exchange, _)) => {
                let step = advance(exchange);
                self.step(step)
            }
            None => Some(self.failed(StreamCondition::NotAuthorized.into())),
        }
    }

    pub(super) fn step(&mut self, step: Step) -> Option<Event> {
        match step {
            Step::Challenge(data) => {
                let challenge = match self.negotiation().sasl2 {
                    Some(_) => sasl2_xml::challenge(&data),
                    None => sasl_xml::challenge(&data),
                };
                challenge.write(ns::STREAM, &mut self.output);
                self.state = State::Authenticating;
                None
            }
            Step::FindKeys { username, hash } => {
                self.state = State::Waiting;
                Some(Event::FindKeys { username, hash })
            }
            Step::CheckPassword { keys, password } => {
                self.state = State::Waiting;
                Some(Event::CheckPassword { keys, password })
            }
            Step::CheckToken { username, proof } => Some(self.check_token(username, proof)),
            Step::Success { identity, data } => {
                self.state = State::Waiting;
                let negotiation = self.negotiation();
                negotiation.success = data;
                let mechanism = negotiation.exchange.take().map(|(_, mechanism)| mechanism).unwrap_or_default();
                let request = negotiation.sasl2.take();
                Some(Event::Authenticated { identity, mechanism, request })
            }
            Step::Failure { failure, username } => {
                let mechanism = self.negotiation().exchange.take().map(|(_, mechanism)| mechanism).unwrap_or_default();
                self.fail_authentication(failure, username, mechanism)
            }
        }
    }

    pub(super) fn fail_authentication(
        &mut self,
        failure: SaslFailure,
        username: Option<String>,
        mechanism: String,
    ) -> Option<Event> {
        let element = match self.negotiation().sasl2.take() {
            Some(_) => sasl2_xml::failure(failure),
            None => sasl_xml::failure(failure, None),
        };
        element.write(ns::STREAM, &mut self.output);
        self.state = State::Negotiating;
        let negotiation = self.negotiation();
        // A mechanism or message that the server does not take is no guess at a password.
        negotiation.failures = negotiation.failures.saturating_add(u8::from(failure == SaslFailure::NotAuthorized));
        if negotiation.failures >= AUTHENTICATION_FAILURES_MAX {
            self.fail(StreamError::new(StreamCondition::PolicyViolation, "too many failed authentications"));
        }
        Some(Event::AuthenticationFailed { failure, username, mechanism })
    }
}
