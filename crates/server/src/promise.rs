//! Invariant 1: what the server owes before it may acknowledge a stanza.

use magpie_proto::Stanza;
use magpie_store::Ticket;

/// What must be on disk before a stanza counts as handled (XEP-0198).
#[must_use = "a promise that nobody keeps is a lost message"]
#[derive(Default)]
pub struct Promise {
    /// Resolves when it is durable. `None`: nothing had to be kept.
    pub ticket: Option<Ticket>,
    /// The error that the sender gets if it cannot be kept.
    pub otherwise: Option<Stanza>,
}

impl Promise {
    /// Nothing had to be kept.
    pub fn kept() -> Self {
        Self::default()
    }
}
