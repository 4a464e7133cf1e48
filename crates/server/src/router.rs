//! RFC 6121 §8: where a stanza goes.
//!
//! Pure functions from what a stanza is, whom it is for and which resources the account has to a [`Route`].
//! Nothing is stored, sent or awaited here, and `to` is never rewritten: a message to a bare JID reaches every
//! session with the bare JID still in it (§8.5.2.1.1).
//!
//! Where the document leaves a choice, the choice is made once, beside its rule, with the reason.

use magpie_proto::{FullJid, Jid, Kind, StanzaCondition};
use smallvec::SmallVec;

use crate::services::Service;
use crate::subscription::SubscriptionStanza;

/// RFC 6121 §5.2.2: the `type` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// `normal`, none, or one that nobody knows
    Normal,
    /// `chat`
    Chat,
    /// `groupchat`
    Groupchat,
    /// `headline`
    Headline,
    /// `error`
    Error,
}

impl MessageType {
    /// Reads the attribute; an absent or unknown value means [`MessageType::Normal`], as §5.2.2 demands.
    pub fn parse(attribute: Option<&str>) -> Self {
        match attribute {
            Some("chat") => Self::Chat,
            Some("groupchat") => Self::Groupchat,
            Some("headline") => Self::Headline,
            Some("error") => Self::Error,
            _ => Self::Normal,
        }
    }
}

/// RFC 6121 §4.7.1: the `type` of a presence stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceType {
    /// no `type`
    Available,
    /// `unavailable`
    Unavailable,
    /// `subscribe`, `subscribed`, `unsubscribe`, `unsubscribed`
    Subscription(SubscriptionStanza),
    /// `probe`
    Probe,
    /// `error`
    Error,
}

impl PresenceType {
    /// Reads the attribute; `None` for a value that the document does not define, which is a `bad-request`.
    pub fn parse(attribute: Option<&str>) -> Option<Self> {
        match attribute {
            None => Some(Self::Available),
            Some("unavailable") => Some(Self::Unavailable),
            Some("probe") => Some(Self::Probe),
            Some("error") => Some(Self::Error),
            Some(other) => SubscriptionStanza::parse(other).map(Self::Subscription),
        }
    }
}

/// RFC 6120 §8.2.3: the `type` of an IQ stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IqType {
    /// `get`
    Get,
    /// `set`
    Set,
    /// `result`
    Result,
    /// `error`
    Error,
}

impl IqType {
    /// Reads the attribute; `None` where it is absent or unknown, which is a `bad-request`.
    pub fn parse(attribute: Option<&str>) -> Option<Self> {
        match attribute {
            Some("get") => Some(Self::Get),
            Some("set") => Some(Self::Set),
            Some("result") => Some(Self::Result),
            Some("error") => Some(Self::Error),
            _ => None,
        }
    }
}

/// A connected resource of the account that a stanza is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a, T> {
    /// What the caller delivers to.
    pub session: T,
    /// The resourcepart, prepared.
    pub name: &'a str,
    /// The priority of its presence (§4.7.2.3). `None`: connected, but not available.
    pub priority: Option<i8>,
}

/// Which part of a local account a stanza is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The account: `to` is a bare JID.
    Bare,
    /// One resource of it: `to` is a full JID with this resourcepart, prepared.
    Full(&'a str),
}

/// What becomes of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<T> {
    /// Deliver it to these sessions, at least one.
    Sessions(SmallVec<[T; 2]>),
    /// Keep it until the account becomes available (XEP-0160), or refuse it with `service-unavailable`
    /// where it cannot be kept.
    Offline,
    /// The server acts for the account: it answers the IQ, runs the subscription rules (§3), or answers the probe (§4.3.2).
    Server,
    /// Return this error to the sender.
    Refuse(StanzaCondition),
    /// Ignore it in silence.
    Drop,
}

impl<T> Route<T> {
    fn sessions(sessions: impl IntoIterator<Item = T>, otherwise: Self) -> Self {
        let sessions: SmallVec<[T; 2]> = sessions.into_iter().collect();
        if sessions.is_empty() { otherwise } else { Self::Sessions(sessions) }
    }

    fn unavailable() -> Self {
        Self::Refuse(StanzaCondition::ServiceUnavailable)
    }
}

/// A message for a local account (§8.5).
///
/// `storable` says whether the message is worth keeping for later: chat states, or a message that asks not to be
/// stored (XEP-0334), are not.
pub fn route_message<'a, T>(
    kind: MessageType,
    storable: bool,
    account_exists: bool,
    target: Target<'_>,
    resources: impl Iterator<Item = Resource<'a, T>> + Clone,
) -> Route<T> {
    if !account_exists {
        // §8.5.1 allows silence or an error: the error, because a person who mistypes an address should learn it.
        return if kind == MessageType::Error { Route::Drop } else { Route::unavailable() };
    }
    if let Target::Full(name) = target {
        // §8.5.3.1: the resource is named, so neither its priority nor the message's type matters.
        if let Some(resource) = resources.clone().find(|resource| resource.name == name) {
            return Route::Sessions(SmallVec::from_iter([resource.session]));
        }
        return match kind {
            // §8.5.3.2.1: the conversation goes on with whichever device is there.
            MessageType::Chat => message_to_account(kind, storable, resources),
            // Silence or an error: the error. To a sender it is the difference between lost and known to be lost,
            // and a room learns by it that the occupant is gone.
            MessageType::Normal | MessageType::Groupchat => Route::unavailable(),
            // Silence or an error: silence. A headline expects no reply.
            MessageType::Headline | MessageType::Error => Route::Drop,
        };
    }
    message_to_account(kind, storable, resources)
}

/// §8.5.2: a message for a bare JID, or a chat message that falls back to one.
fn message_to_account<'a, T>(
    kind: MessageType,
    storable: bool,
    resources: impl Iterator<Item = Resource<'a, T>> + Clone,
) -> Route<T> {
    // §8.5.2.2.1: silence where nobody is there, though the document would have an error for what is not kept. An
    // error to each chat state would tell any stranger when the account comes and goes.
    let nobody = || if storable { Route::Offline } else { Route::Drop };
    // A resource with a negative priority never gets what is for the account (§8.5.2.1.1).
    let willing = resources.filter(|resource| resource.priority.is_some_and(|priority| priority >= 0));
    match kind {
        // The "most available" or all: all. A single message starts no conversation that one device could own.
        MessageType::Normal => Route::sessions(willing.map(|resource| resource.session), nobody()),
        // The "most available", or all that opted in: every resource that shares the highest priority. Message
        // carbons (XEP-0280) are the opt-in, and bring it to the others in a wrapper.
        MessageType::Chat => {
            let highest = willing.clone().filter_map(|resource| resource.priority).max();
            let top = willing.filter(|resource| resource.priority == highest);
            Route::sessions(top.map(|resource| resource.session), nobody())
        }
        MessageType::Headline => Route::sessions(willing.map(|resource| resource.session), Route::Drop),
        MessageType::Groupchat => Route::unavailable(),
        MessageType::Error => Route::Drop,
    }
}

/// Presence for a local account (§8.5).
pub fn route_presence<'a, T>(
    kind: PresenceType,
    account_exists: bool,
    target: Target<'_>,
    mut resources: impl Iterator<Item = Resource<'a, T>>,
) -> Route<T> {
    if !account_exists {
        return match kind {
            // §8.5.1 allows silence or `unsubscribed`: the latter, which is what a stranger hears from an account that
            // exists (§4.3.2), so that a probe cannot tell which accounts there are.
            PresenceType::Probe => Route::Server,
            _ => Route::Drop,
        };
    }
    match (target, kind) {
        (_, PresenceType::Probe) => Route::Server,
        (Target::Bare, PresenceType::Subscription(_)) => Route::Server,
        // §8.5.2.1.2: to all available resources, whatever their priority. An error answers a subscription stanza,
        // which goes out from the bare JID: every device may show it.
        (Target::Bare, PresenceType::Available | PresenceType::Unavailable | PresenceType::Error) => Route::sessions(
            resources.filter(|resource| resource.priority.is_some()).map(|resource| resource.session),
            Route::Drop,
        ),
        (Target::Full(name), PresenceType::Subscription(stanza)) => {
            // §8.5.3.2.2: a request is for the account, whatever resource it names; the others are not, unless the
            // resource is there (§8.5.3.1).
            if stanza == SubscriptionStanza::Subscribe || resources.any(|resource| resource.name == name) {
                Route::Server
            } else {
                Route::Drop
            }
        }
        (Target::Full(name), PresenceType::Available | PresenceType::Unavailable | PresenceType::Error) => {
            Route::sessions(
                resources.find(|resource| resource.name == name).map(|resource| resource.session),
                Route::Drop,
            )
        }
    }
}

/// An IQ stanza for a local account (§8.5).
///
/// `presence_shared` says whether the sender may see the recipient's presence: it belongs to the same account, is
/// subscribed to it ("from" or "both"), or was sent directed presence by that resource. Others may not ask a resource
/// anything, because the answer itself would tell that the resource is there (§8.5.3.1).
pub fn route_iq<'a, T>(
    kind: IqType,
    account_exists: bool,
    target: Target<'_>,
    presence_shared: bool,
    mut resources: impl Iterator<Item = Resource<'a, T>>,
) -> Route<T> {
    let request = matches!(kind, IqType::Get | IqType::Set);
    // RFC 6120 §8.3.1: a reply that reaches nobody ends there; an error to it could go round in circles.
    let nobody = || if request { Route::unavailable() } else { Route::Drop };
    if !account_exists {
        return nobody();
    }
    match target {
        // §8.5.2.1.3: never to a resource. A reply here answers what the server asked for the account.
        Target::Bare => Route::Server,
        Target::Full(_) if request && !presence_shared => nobody(),
        Target::Full(name) => match resources.find(|resource| resource.name == name) {
            Some(resource) => Route::Sessions(SmallVec::from_iter([resource.session])),
            None => nobody(),
        },
    }
}

/// Whom a stanza from a session of a local account is for (RFC 6120 §10.3 to §10.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// Presence without `to`: the sender's own availability, broadcast to its subscribers (RFC 6121 §4.2.2).
    Broadcast,
    /// The sender's own account: no `to` on a message or IQ stanza, or its bare JID.
    OwnAccount,
    /// An account of a served domain, or one of its resources; the sender's other resources and itself included.
    LocalAccount {
        /// Localpart.
        local: &'a str,
        /// The served domain.
        domain: &'a str,
        /// The account or a resource of it.
        target: Target<'a>,
    },
    /// A served domain itself, with or without a resource (RFC 6121 §8.3).
    LocalHost {
        /// The served domain.
        domain: &'a str,
    },
    /// A service of this server, or somebody who lives there.
    Service(Service),
    /// Any other domain: another server.
    Remote {
        /// The domain.
        domain: &'a str,
    },
}

/// Whom a stanza is for that a session sent. `own` is the session's address; `is_local_host` knows the domains that have accounts.
pub fn destination<'a>(
    kind: Kind,
    to: Option<&'a Jid>,
    own: &FullJid,
    is_local_host: impl Fn(&str) -> bool,
) -> Destination<'a> {
    let Some(to) = to else {
        return match kind {
            Kind::Presence => Destination::Broadcast,
            // RFC 6120 §10.3.1 and §10.3.3: as if it were for the sender's own bare JID.
            Kind::Message | Kind::Iq | Kind::Other => Destination::OwnAccount,
        };
    };
    let domain = to.domain();
    if !is_local_host(domain) {
        return Service::at(domain, is_local_host).map_or(Destination::Remote { domain }, Destination::Service);
    }
    match (to.local(), to.resource()) {
        (None, _) => Destination::LocalHost { domain },
        (local, None) if local == own.local() && domain == own.domain() => Destination::OwnAccount,
        (Some(local), None) => Destination::LocalAccount { local, domain, target: Target::Bare },
        (Some(local), Some(resource)) => Destination::LocalAccount { local, domain, target: Target::Full(resource) },
    }
}

#[cfg(test)]
mod tests;
