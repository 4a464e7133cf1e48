//! XEP-0198: Stream Management
//!
//! Acknowledges what was handled and lets a client come back to its session. A stanza counts as handled only once what the
//! server promised for it is on disk: see `promise.rs`. The session itself waits for its client, without a connection;
//! this module finds it by its SM-ID.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use magpie_proto::acks::{Inbound, Outbound, StreamManagement as Management};
use magpie_proto::stream::ResumeFailure;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StreamCondition, StreamError, ns};
use parking_lot::Mutex;

use super::bind2::Binding;
use super::{About, Module};
use crate::metrics::{Counted, Metrics};
use crate::mailbox::Delivery;
use crate::registry::SessionHandle;
use crate::server::{Deps, Server, random_text};

/// Stanzas written since the last request after which another is sent, though no answer came.
const UNREQUESTED_MAX: u32 = 64;

/// Sessions that are over, of which their clients can still learn what was handled. The oldest are forgotten first.
const ENDED_MAX: usize = 4096;

/// The module: sessions that may be resumed.
pub struct StreamManagement {
    sessions: Mutex<HashMap<Box<str>, Weak<SessionHandle>>>,
    ended: Mutex<VecDeque<Ended>>,
}

/// A session that can be resumed no more (§5).
#[derive(Debug)]
struct Ended {
    account: BareJid,
    /// The SM-ID.
    id: Box<str>,
    /// How many stanzas of its client were handled.
    h: u32,
}

impl Module for StreamManagement {
    const ABOUT: &'static [About] = &[About {
        xep: Some(198),
        title: "Stream Management",
        version: "1.6.3",
        host_features: &[],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self { sessions: Mutex::default(), ended: Mutex::default() }
    }

    fn inline_features(&self) -> Vec<Element> {
        vec![Element::new("sm", ns::SM)]
    }

    const BIND_FEATURES: &'static [&'static str] = &[ns::SM];

    async fn bound(&self, binding: &mut Binding<'_>) -> Vec<Element> {
        let Some(enable) = binding.request.child("enable", ns::SM) else { return Vec::new() };
        let (acks, enabled) = Acks::enable(enable, binding.server, binding.session);
        binding.acks = Some(Box::new(acks));
        vec![enabled.element()]
    }
}

impl StreamManagement {
    /// The account's session with this SM-ID.
    pub fn find(&self, account: &BareJid, id: &str) -> Option<Arc<SessionHandle>> {
        let session = self.sessions.lock().get(id)?.upgrade()?;
        (session.account == *account).then_some(session)
    }

    /// A session that is over, with all that it owed settled, cannot be resumed.
    pub fn forget(&self, acks: &Acks) {
        let Some(id) = &acks.id else { return };
        let session = self.sessions.lock().remove(id);
        if let Some(session) = session.and_then(|session| session.upgrade()) {
            self.remember(Ended { account: session.account.clone(), id: id.clone(), h: acks.inbound.handled() });
        }
    }

    fn remember(&self, ended: Ended) {
        let mut all = self.ended.lock();
        if all.len() >= ENDED_MAX {
            all.pop_front();
        }
        all.push_back(ended);
    }

    /// Why the account's session with this SM-ID cannot be resumed: it is not known, or not any more. The count of one that
    /// is over tells its client which stanzas need not be sent again (§5).
    pub fn failure(&self, account: &BareJid, id: &str) -> ResumeFailure {
        let ended = self.ended.lock();
        let ended = ended.iter().rev().find(|ended| *ended.id == *id && ended.account == *account);
        ResumeFailure { condition: StanzaCondition::ItemNotFound, h: ended.map(|ended| ended.h) }
    }
}

/// What a session does with an element of stream management.
pub enum Answer {
    /// Nothing.
    Nothing,
    /// Write this.
    Write(Stanza),
    /// The client has these.
    Acknowledged(Vec<Delivery>),
    /// End the stream.
    Fail(StreamError),
}

/// The acknowledgements of one session.
#[derive(Debug)]
pub struct Acks {
    /// The SM-ID, where the session can be resumed.
    id: Option<Box<str>>,
    /// What the client has not acknowledged yet.
    pub outbound: Outbound<Delivery>,
    /// What the client sent, and how much of it is handled.
    pub inbound: Inbound,
    /// Bytes of what the client has not acknowledged yet.
    unacked_bytes: usize,
    /// Seconds for which the session waits without a connection.
    pub resume_seconds: u64,
    /// The counts at which the oldest and the newest request of the client that is not answered are to be answered. The oldest
    /// is not forgotten for the newest: a client that asks without a pause would never hear.
    owed: Option<(u32, u32)>,
    /// Stanzas written since the last request.
    unrequested: u32,
    /// Whether a request is unanswered.
    requested: bool,
    /// Whether the client has acknowledged nothing since it came back.
    back: bool,
    /// XEP-0357: whether something was written that the client may sleep through, and was not told of.
    unpushed: bool,
    /// Counts the session among those that wait without a connection, while it does.
    waiting: Option<Counted>,
}

impl Acks {
    /// Handles `<enable/>`, `<r/>` and `<a/>` of a bound session.
    pub fn handle(
        acks: &mut Option<Box<Self>>,
        element: &Stanza,
        server: &Server,
        session: &Arc<SessionHandle>,
    ) -> Answer {
        match (element.name(), acks) {
            ("enable", acks @ None) => {
                let (enabled, answer) = Self::enable(&element.element(), server, session);
                *acks = Some(Box::new(enabled));
                Answer::Write(answer)
            }
            // §3: once a stream. The text would have a stream error here, its example this; and §6 demands an answer.
            ("enable" | "resume", Some(_)) => Answer::Write(failed(StanzaCondition::UnexpectedRequest)),
            ("resume", None) => Answer::Write(failed(StanzaCondition::UnexpectedRequest)),
            ("r", Some(acks)) => {
                let count = acks.inbound.count();
                acks.owed = Some((acks.owed.map_or(count, |(oldest, _)| oldest), count));
                Answer::Nothing
            }
            ("a", Some(acks)) => match Management::parse(element) {
                Ok(Management::Ack { h }) => match acks.acknowledge(h) {
                    Ok(deliveries) => Answer::Acknowledged(deliveries),
                    Err(error) => Answer::Fail(error),
                },
                _ => Answer::Fail(StreamError::new(StreamCondition::BadFormat, "an acknowledgement without h")),
            },
            ("r" | "a", None) => Answer::Write(failed(StanzaCondition::UnexpectedRequest)),
            _ => Answer::Fail(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    fn enable(enable: &Element, server: &Server, session: &Arc<SessionHandle>) -> (Self, Stanza) {
        let wanted = matches!(enable.attr("resume"), Some("true" | "1"));
        let seconds_max = server.config().limits.resume_seconds_max;
        // A client may want to be forgotten sooner than the server would.
        let resume_seconds = match enable.attr("max").and_then(|max| max.parse::<u64>().ok()) {
            Some(max) => max.min(seconds_max),
            None => seconds_max,
        };
        let mut enabled = Element::new("enabled", ns::SM);
        // Who has no account cannot prove to be the same later.
        let id = (wanted && resume_seconds > 0 && !session.anonymous).then(|| random_text(18).into_boxed_str());
        if let Some(id) = &id {
            enabled.set_attr("id", id);
            enabled.set_attr("resume", "true");
            enabled.set_attr("max", resume_seconds.to_string());
            let sessions = &server.modules.stream_management.sessions;
            sessions.lock().insert(id.clone(), Arc::downgrade(session));
        }
        (Self::new(id, resume_seconds), Stanza::new(&enabled))
    }

    /// The acknowledgements of a session that waits, as they were before a restart: `unacked` was written to it, and the counts are
    /// those of what the client sent and of what it has acknowledged.
    pub fn restored(
        server: &Server,
        session: &Arc<SessionHandle>,
        id: String,
        unacked: Vec<Delivery>,
        (received, acked): (u64, u64),
        resume_seconds: u64,
    ) -> Self {
        let id = id.into_boxed_str();
        server.modules.stream_management.sessions.lock().insert(id.clone(), Arc::downgrade(session));
        Self {
            unacked_bytes: unacked.iter().map(Delivery::cost).sum(),
            outbound: Outbound::restored(acked, unacked),
            inbound: Inbound::restored(received),
            waiting: Some(server.deps.metrics.waiting()),
            ..Self::new(Some(id), resume_seconds)
        }
    }

    fn new(id: Option<Box<str>>, resume_seconds: u64) -> Self {
        Self {
            id,
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            unacked_bytes: 0,
            resume_seconds,
            owed: None,
            unrequested: 0,
            requested: false,
            back: false,
            unpushed: false,
            waiting: None,
        }
    }

    /// The SM-ID, where the session can be resumed.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the session outlives its connection.
    pub fn is_resumable(&self) -> bool {
        self.id.is_some()
    }

    /// Whether the client has come back and had no time yet to acknowledge what waited for it.
    pub fn is_just_back(&self) -> bool {
        self.back
    }

    /// Bytes that wait for an acknowledgement.
    pub fn unacked_bytes(&self) -> usize {
        self.unacked_bytes
    }

    /// XEP-0357: whether the client has not acknowledged something that it may sleep through.
    pub fn may_have_missed(&self) -> bool {
        self.unpushed && !self.outbound.is_empty()
    }

    /// XEP-0357: whether from now on it may have. `true` where it is inactive and a message is written.
    pub fn set_may_have_missed(&mut self, may: bool) {
        self.unpushed = may;
    }

    /// A stanza was written.
    pub fn sent(&mut self, delivery: Delivery) {
        self.unacked_bytes += delivery.cost();
        self.outbound.push(delivery);
        self.unrequested += 1;
    }

    /// The client has handled `h` stanzas. Gives back what it thereby acknowledges; a count that is too high ends the stream (§4).
    pub fn acknowledge(&mut self, h: u32) -> Result<Vec<Delivery>, StreamError> {
        self.requested = false;
        self.back = false;
        match self.outbound.ack(h) {
            Ok(acknowledged) => {
                let acknowledged: Vec<Delivery> = acknowledged.collect();
                self.unacked_bytes -= acknowledged.iter().map(Delivery::cost).sum::<usize>();
                Ok(acknowledged)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The answer to a request of the client, once all that came before it is handled.
    pub fn answer_due(&mut self) -> Option<Management> {
        let (oldest, newest) = self.owed?;
        let handled = self.inbound.handled();
        // Counts wrap at 2^32 (§4).
        let is_handled = |count: u32| handled.wrapping_sub(count) as i32 >= 0;
        if !is_handled(oldest) {
            return None;
        }
        self.owed = (!is_handled(newest)).then_some((newest, newest));
        Some(Management::Ack { h: handled })
    }

    /// Whether a request of the client waits for its answer.
    pub fn owes(&self) -> bool {
        self.owed.is_some()
    }

    /// A request, where stanzas were written and none is on its way. A client that reads much is thus asked once a round trip,
    /// and one that reads little at once: what it acknowledges soon need not be written to the disk.
    pub fn request_due(&mut self) -> Option<Management> {
        let due = self.unrequested > 0 && (!self.requested || self.unrequested >= UNREQUESTED_MAX);
        due.then(|| self.request())
    }

    /// A request in any case.
    pub fn request(&mut self) -> Management {
        self.requested = true;
        self.unrequested = 0;
        Management::Request
    }

    /// The session has lost its connection.
    pub fn detached(&mut self, metrics: &Arc<Metrics>) {
        self.waiting = Some(metrics.waiting());
    }

    /// The session has a new connection, to which what is unacknowledged is written again.
    pub fn resumed(&mut self) {
        self.waiting = None;
        self.owed = None;
        self.requested = false;
        self.back = true;
        self.unrequested = u32::try_from(self.outbound.len()).unwrap_or(u32::MAX);
    }
}

fn failed(condition: StanzaCondition) -> Stanza {
    Stanza::new(&Element::new("failed", ns::SM).with(Element::new(condition.name(), ns::STANZA_ERRORS)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_comes_too_late_learns_how_much_was_handled_of_the_own_session_alone() {
        let module = StreamManagement { sessions: Mutex::default(), ended: Mutex::default() };
        let [juliet, romeo] = ["juliet@example.org", "romeo@example.org"].map(|jid| BareJid::parse(jid).unwrap());
        module.remember(Ended { account: juliet.clone(), id: "a".into(), h: 7 });
        assert_eq!(module.failure(&juliet, "a").h, Some(7));
        assert_eq!(module.failure(&juliet, "b").h, None);
        assert_eq!(module.failure(&romeo, "a").h, None);
        for _ in 0..ENDED_MAX {
            module.remember(Ended { account: romeo.clone(), id: "c".into(), h: 1 });
        }
        assert_eq!(module.failure(&juliet, "a").h, None);
        assert_eq!(module.ended.lock().len(), ENDED_MAX);
    }
}
