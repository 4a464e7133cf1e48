//! Invariant 1: what the server owes before it may acknowledge a stanza.

use magpie_proto::{Stanza, StanzaCondition, StanzaError};
use magpie_store::Ticket;

/// What must be on disk before a stanza counts as handled (XEP-0198), unless its recipient has it before.
#[must_use = "a promise that nobody keeps is a lost message"]
#[derive(Default)]
pub struct Promise {
    /// Resolves when it is durable, or needed no more. `None`: nothing had to be kept.
    pub ticket: Option<Ticket>,
    /// The stanza, of which the sender hears if it cannot be kept.
    stanza: Option<Stanza>,
}

impl Promise {
    /// Nothing had to be kept.
    pub fn kept() -> Self {
        Self::default()
    }

    /// What the ticket stands for has to be kept for this stanza.
    pub fn of(ticket: Ticket, stanza: &Stanza) -> Self {
        Self { ticket: Some(ticket), stanza: Some(stanza.clone()) }
    }

    /// The error that the sender gets if it cannot be kept, where the stanza may be answered. Made only then: nearly every
    /// promise is kept.
    pub fn refusal(&self) -> Option<Stanza> {
        StanzaError::from(StanzaCondition::ResourceConstraint).reply_to(self.stanza.as_ref()?)
    }
}
