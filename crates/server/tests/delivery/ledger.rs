//! What was sent, received and acknowledged, written down as it happens; and the checks of it, apart from those who act.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A session, in order of binding.
pub type SessionKey = usize;

/// A message, in order of sending.
pub type MessageKey = u64;

/// Order of events: what has the smaller one happened before.
pub type Tick = u64;

/// How sure a receiver is of what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// It acknowledges (XEP-0198).
    Managed,
    /// What is written to its socket counts as received.
    None,
}

/// A message.
#[derive(Debug)]
pub struct Sent {
    pub from: SessionKey,
    pub to: usize,
    pub at: Tick,
    /// When the sender was told that it was handled.
    pub handled: Option<Tick>,
    /// The sender was told by an error that it did not arrive.
    pub refused: bool,
}

/// A session.
#[derive(Debug)]
pub struct Bound {
    pub account: usize,
    pub acks: Acks,
    pub at: Tick,
    /// When it was surely over; `None` where the client cannot know.
    pub over: Option<Tick>,
    /// The first moment at which the server may have ended it.
    pub ends: Option<Tick>,
    /// Its socket was dropped while the server might have been writing to it.
    pub dropped: Option<Tick>,
    /// When the server had surely noticed that.
    pub noticed: Option<Tick>,
    /// From when it said that it takes what is for the account, until when the server knew.
    pub presences: Vec<(Tick, Option<Tick>)>,
    /// What came, in order.
    pub received: Vec<(MessageKey, Tick)>,
    /// What the client said that it has, whether or not the server heard it.
    pub said: HashSet<MessageKey>,
    /// What the server surely knows to have come.
    pub certain: HashMap<MessageKey, Tick>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger {
    clock: Tick,
    pub sent: BTreeMap<MessageKey, Sent>,
    pub sessions: Vec<Bound>,
    /// What an actor saw that must not be.
    pub complaints: Vec<String>,
    pub resumed_over_restarts: usize,
}

impl Ledger {
    pub fn tick(&mut self) -> Tick {
        self.clock += 1;
        self.clock
    }

    pub fn binds(&mut self, account: usize, acks: Acks) -> SessionKey {
        let at = self.tick();
        let (presences, received, said, certain) = Default::default();
        self.sessions.push(Bound {
            account,
            acks,
            at,
            over: None,
            ends: None,
            dropped: None,
            noticed: None,
            presences,
            received,
            said,
            certain,
        });
        self.sessions.len() - 1
    }

    pub fn sends(&mut self, from: SessionKey, to: usize) -> MessageKey {
        let at = self.tick();
        let key = self.sent.len() as MessageKey;
        self.sent.insert(key, Sent { from, to, at, handled: None, refused: false });
        key
    }

    pub fn sends_presence(&mut self, session: SessionKey) {
        let now = self.tick();
        self.sessions[session].presences.push((now, None));
    }

    /// The server shows a session its own presence.
    pub fn sees_presence(&mut self, session: SessionKey) {
        let now = self.tick();
        if let Some((_, seen)) = self.sessions[session].presences.iter_mut().find(|(_, seen)| seen.is_none()) {
            *seen = Some(now);
        }
    }

    pub fn handled(&mut self, message: MessageKey) {
        let now = self.tick();
        let sent = self.sent.get_mut(&message).expect("it was sent");
        sent.handled.get_or_insert(now);
    }

    pub fn refused(&mut self, message: MessageKey) {
        self.sent.get_mut(&message).expect("it was sent").refused = true;
    }

    pub fn receives(&mut self, session: SessionKey, message: MessageKey) {
        let now = self.tick();
        self.sessions[session].received.push((message, now));
        if self.sessions[session].acks == Acks::None {
            self.certain(session, message);
        }
    }

    pub fn says(&mut self, session: SessionKey, message: MessageKey) {
        self.sessions[session].said.insert(message);
    }

    pub fn certain(&mut self, session: SessionKey, message: MessageKey) {
        let now = self.tick();
        self.sessions[session].said.insert(message);
        self.sessions[session].certain.entry(message).or_insert(now);
    }

    /// The client begins to close it.
    pub fn closes(&mut self, session: SessionKey) {
        let now = self.tick();
        self.sessions[session].ends.get_or_insert(now);
    }

    /// The server ended it, who knows when.
    pub fn ended(&mut self, session: SessionKey) {
        self.sessions[session].ends = Some(self.sessions[session].at);
        self.over(session);
    }

    pub fn over(&mut self, session: SessionKey) {
        let now = self.tick();
        self.sessions[session].over.get_or_insert(now);
    }

    pub fn dropped(&mut self, session: SessionKey) {
        let now = self.tick();
        self.sessions[session].dropped = Some(now);
        self.sessions[session].ends.get_or_insert(now);
    }

    pub fn noticed(&mut self, session: SessionKey) {
        let now = self.tick();
        self.sessions[session].noticed = Some(now);
    }

    /// Nobody reads any more.
    pub fn all_dropped(&mut self) {
        for session in 0..self.sessions.len() {
            if self.sessions[session].over.is_none() {
                self.dropped(session);
            }
        }
    }

    pub fn handled_count(&self) -> usize {
        self.sent.values().filter(|sent| sent.handled.is_some()).count()
    }

    fn of(&self, account: usize) -> impl Iterator<Item = (SessionKey, &Bound)> {
        self.sessions.iter().enumerate().filter(move |(_, session)| session.account == account)
    }

    /// Enough happened.
    pub fn check_it_proves_something(&self, handled_min: usize, wrong: &mut Vec<String>) {
        let handled = self.handled_count();
        if handled < handled_min {
            wrong.push(format!("only {handled} messages were acknowledged, which proves little"));
        }
    }

    /// What was acknowledged to its sender arrived. `killed`: the server was, and promises nothing of what came without XEP-0198.
    pub fn check_none_lost(&self, killed: bool, wrong: &mut Vec<String>) {
        for (key, sent) in self.sent.iter().filter(|(_, sent)| sent.handled.is_some() && !sent.refused) {
            if killed && self.sessions[sent.from].acks == Acks::None {
                continue;
            }
            let arrived = self.of(sent.to).any(|(_, session)| session.said.contains(key));
            // What was written to a socket without XEP-0198 and never read is nobody's fault, be it that the server had not heard of
            // its end yet.
            let excused = self.of(sent.to).any(|(_, session)| {
                let lost = session.acks == Acks::None && session.dropped.is_some();
                lost && session.noticed.is_none_or(|noticed| noticed > sent.at)
            });
            if !arrived && !excused {
                let seen: Vec<_> = self.of(sent.to).filter(|(_, s)| s.received.iter().any(|(m, _)| m == key)).collect();
                let seen: Vec<_> = seen.iter().map(|(key, _)| key).collect();
                wrong.push(format!("lost: message {key} {sent:?}, seen unacknowledged by {seen:?}"));
            }
        }
    }

    /// No session, over all its connections, is given a message twice.
    pub fn check_once_a_session(&self, wrong: &mut Vec<String>) {
        for (key, session) in self.sessions.iter().enumerate() {
            let mut seen = HashSet::new();
            for (message, _) in session.received.iter().filter(|(message, _)| !seen.insert(*message)) {
                wrong.push(format!("twice: message {message} {:?} to session {key}", self.sent[message]));
            }
        }
    }

    /// Of two sessions that both acknowledged a message, both were there when it was routed.
    pub fn check_once_an_account(&self, wrong: &mut Vec<String>) {
        for (message, sent) in &self.sent {
            let Some(handled) = sent.handled else { continue };
            let holders: Vec<_> = self.of(sent.to).filter(|(_, s)| s.certain.contains_key(message)).collect();
            let late = holders.iter().filter(|(_, session)| session.at > handled).map(|(key, _)| key);
            let late: Vec<_> = late.collect();
            if holders.len() > 1 && !late.is_empty() {
                let all: Vec<_> = holders.iter().map(|(key, s)| (key, s.acks, s.at, s.certain[message])).collect();
                wrong.push(format!(
                    "again: message {message} {sent:?} acknowledged by {all:?}, bound after it: {late:?}"
                ));
            }
        }
    }

    /// Messages of one session to one account come in order to each session, but for what another session left behind, and
    /// for what waited until the session took what is for the account.
    pub fn check_order(&self, wrong: &mut Vec<String>) {
        for (key, session) in self.sessions.iter().enumerate() {
            let mut latest: HashMap<SessionKey, MessageKey> = HashMap::new();
            for (message, at) in &session.received {
                let sent = &self.sent[message];
                let before = latest.entry(sent.from).or_insert(*message);
                if *before > *message && !self.may_be_late(key, sent.at, *at) {
                    wrong.push(format!("order: message {message} {sent:?} after {before} to session {key}"));
                }
                *before = (*before).max(*message);
            }
        }
    }

    /// Whether another session of the account may have had the message first, or the spool.
    fn may_be_late(&self, session: SessionKey, sent: Tick, received: Tick) -> bool {
        let mut presences = self.sessions[session].presences.iter();
        if presences.any(|(said, seen)| *said < received && seen.is_none_or(|seen| seen > sent)) {
            return true;
        }
        self.of(self.sessions[session].account).any(|(other, bound)| {
            other != session
                && bound.at < received
                && bound.over.is_none_or(|over| over > sent)
                // One that was there until after it cannot have left it behind.
                && bound.ends.is_some_and(|end| end < received)
        })
    }
}
