//! RFC 6121 §3 and appendix A: the states of a presence subscription.
//!
//! Two pure functions say what a subscription stanza does to the state between the owner of a roster and one
//! contact: [`outbound`] for a stanza that the owner sends, [`inbound`] for one that arrives from the contact. A third,
//! [`removal`], says what the removal of a roster item entails (§2.5.2). The session performs what they return.

use serde::{Deserialize, Serialize};

/// RFC 6121 §2.1.2.5: who sees whose presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscription {
    /// Neither sees the other.
    #[default]
    None,
    /// The owner sees the contact.
    To,
    /// The contact sees the owner.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }

    /// Does the owner see the contact?
    pub fn has_to(self) -> bool {
        matches!(self, Self::To | Self::Both)
    }

    /// Does the contact see the owner?
    pub fn has_from(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }

    fn new(to: bool, from: bool) -> Self {
        match (to, from) {
            (false, false) => Self::None,
            (true, false) => Self::To,
            (false, true) => Self::From,
            (true, true) => Self::Both,
        }
    }
}

/// Appendix A.1: the state between the owner of a roster and a contact.
///
/// A request is pending only in a direction that is not subscribed, so these are the appendix's nine states, each with
/// or without pre-approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// Who sees whose presence.
    #[serde(default)]
    pub subscription: Subscription,
    /// The owner has asked and got no answer: `ask='subscribe'`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending_out: bool,
    /// The contact has asked and got no answer. A client never sees it in its roster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending_in: bool,
    /// The owner has approved the contact's request before it came (§3.4).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
}

impl State {
    /// The parts that a roster item shows to a client; a change of them is pushed.
    pub fn shown(self) -> (Subscription, bool, bool) {
        (self.subscription, self.pending_out, self.approved)
    }

    /// The same without what cannot be: a request that is pending where the subscription is there already. Foreign
    /// rosters can say so.
    pub fn normalized(self) -> Self {
        Self {
            pending_out: self.pending_out && !self.subscription.has_to(),
            pending_in: self.pending_in && !self.subscription.has_from(),
            ..self
        }
    }

    fn with_to(self, to: bool) -> Self {
        Self { subscription: Subscription::new(to, self.subscription.has_from()), pending_out: false, ..self }
    }

    fn with_from(self, from: bool) -> Self {
        Self { subscription: Subscription::new(self.subscription.has_to(), from), pending_in: false, ..self }
    }
}

/// RFC 6121 §3: the stanzas that manage a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionStanza {
    /// `subscribe`: the sender wants to see the recipient's presence.
    Subscribe,
    /// `subscribed`: the sender lets the recipient see its presence.
    Subscribed,
    /// `unsubscribe`: the sender no longer wants to see the recipient's presence.
    Unsubscribe,
    /// `unsubscribed`: the sender refuses or ends the recipient's subscription.
    Unsubscribed,
}

impl SubscriptionStanza {
    /// Reads the `type` attribute of a presence stanza.
    pub fn parse(attribute: &str) -> Option<Self> {
        match attribute {
            "subscribe" => Some(Self::Subscribe),
            "subscribed" => Some(Self::Subscribed),
            "unsubscribe" => Some(Self::Unsubscribe),
            "unsubscribed" => Some(Self::Unsubscribed),
            _ => None,
        }
    }

    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// The presence of each of the owner's available resources that the contact must be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announce {
    /// None.
    #[default]
    Nothing,
    /// Their current presence: the contact may see it from now on (§3.1.5). Sent after the subscription stanza.
    Available,
    /// `unavailable`: the contact may see it no longer (§3.2.2, §3.3.3). Sent before the subscription stanza.
    Unavailable,
}

/// What a stanza that the owner sends does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The new state.
    pub state: State,
    /// Whether the stanza goes to the contact, from the owner's bare JID to the contact's.
    pub route: bool,
    /// Whether the roster item as clients see it changed: push it to the interested resources.
    pub push: bool,
    /// Presence that the contact must be sent.
    pub announce: Announce,
}

/// What a stanza that arrives from the contact does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The new state. Where `pending_in` became true, the stanza is kept and delivered again at each login until it is answered (§3.1.3).
    pub state: State,
    /// Whether the stanza is delivered: `subscribe` to the owner's available resources, the others to the interested ones.
    pub deliver: bool,
    /// What the server answers for the owner, from bare JID to bare JID.
    pub auto_reply: Option<SubscriptionStanza>,
    /// Whether the roster item as clients see it changed: push it to the interested resources.
    pub push: bool,
    /// Presence that the contact must be sent.
    pub announce: Announce,
}

/// Appendix A.2 and §3.4.2: the owner sends `stanza`.
pub fn outbound(old: State, stanza: SubscriptionStanza) -> Outbound {
    let subscribed = old.subscription.has_from();
    let (state, route, announce) = match stanza {
        // A.2.1. Routed even where nothing changes: the contact's server may have lost the state, and answers.
        SubscriptionStanza::Subscribe => {
            (State { pending_out: !old.subscription.has_to(), ..old }, true, Announce::Nothing)
        }
        // A.2.2
        SubscriptionStanza::Unsubscribe => (old.with_to(false), true, Announce::Nothing),
        // A.2.3
        SubscriptionStanza::Subscribed if old.pending_in => (old.with_from(true), true, Announce::Available),
        SubscriptionStanza::Subscribed if subscribed => (old, false, Announce::Nothing),
        // §3.4.2: nobody has asked yet, so it approves in advance, and the contact does not learn of it.
        SubscriptionStanza::Subscribed => (State { approved: true, ..old }, false, Announce::Nothing),
        // A.2.4. It also takes a pre-approval back, which alone the contact does not learn (§3.2.2).
        SubscriptionStanza::Unsubscribed => (
            State { approved: false, ..old.with_from(false) },
            subscribed || old.pending_in,
            if subscribed { Announce::Unavailable } else { Announce::Nothing },
        ),
    };
    Outbound { state, route, push: state.shown() != old.shown(), announce }
}

/// Appendix A.3 and §3.4.2: `stanza` arrives from the contact.
pub fn inbound(old: State, stanza: SubscriptionStanza) -> Inbound {
    let subscribed = old.subscription.has_from();
    let mut result = Inbound { state: old, deliver: false, auto_reply: None, push: false, announce: Announce::Nothing };
    match stanza {
        // A.3.1: the contact's server has forgotten what it was granted, or the owner has approved in advance. The
        // approval stays until the owner takes it back. Presence follows as after any approval (§3.1.5).
        SubscriptionStanza::Subscribe if subscribed || old.approved => {
            result.state = old.with_from(true);
            result.auto_reply = Some(SubscriptionStanza::Subscribed);
            result.announce = Announce::Available;
        }
        // A request that waits already is not shown twice.
        SubscriptionStanza::Subscribe => {
            result.deliver = !old.pending_in;
            result.state.pending_in = true;
        }
        // A.3.2
        SubscriptionStanza::Unsubscribe => {
            result.deliver = subscribed || old.pending_in;
            result.state = old.with_from(false);
            if subscribed {
                result.announce = Announce::Unavailable;
            }
        }
        // A.3.3: only an answer to a request counts; nobody may put himself into a roster.
        SubscriptionStanza::Subscribed if old.pending_out => {
            result.deliver = true;
            result.state = old.with_to(true);
        }
        SubscriptionStanza::Subscribed => {}
        // A.3.4
        SubscriptionStanza::Unsubscribed => {
            result.deliver = old.pending_out || old.subscription.has_to();
            result.state = old.with_to(false);
        }
    }
    result.push = result.state.shown() != old.shown();
    result
}

/// What the removal of a roster item entails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Send `unsubscribe` to the contact: the owner sees it, or has asked to.
    pub unsubscribe: bool,
    /// Send `unsubscribed` to the contact: it sees the owner, or has asked to.
    pub unsubscribed: bool,
    /// Presence that the contact must be sent, before `unsubscribed`.
    pub announce: Announce,
}

/// §2.5.2: what the contact is sent when the owner removes the item. Requests that wait are taken back and refused too: an
/// answer to them would find no item.
pub fn removal(state: State) -> Removal {
    Removal {
        unsubscribe: state.subscription.has_to() || state.pending_out,
        unsubscribed: state.subscription.has_from() || state.pending_in,
        announce: if state.subscription.has_from() { Announce::Unavailable } else { Announce::Nothing },
    }
}

#[cfg(test)]
mod tests;
