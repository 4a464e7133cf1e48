//! Invariant 1: what the server owes before it may acknowledge a stanza.

use magpie_proto::{Stanza, StanzaCondition, StanzaError};
use magpie_store::Ticket;

use crate::modules::archive;

/// What must be on disk before a stanza counts as handled (XEP-0198), unless its recipient has it before.
#[must_use = "a promise that nobody keeps is a lost message"]
#[derive(Default)]
pub struct Promise {
    /// Resolves when it is durable, or needed no more. `None`: nothing had to be kept.
    pub ticket: Option<Ticket>,
    /// Where the message is in the archives of both sides, with what resolves when it is durable there.
    pub archived: Option<archive::Kept>,
    /// Whether the next promise is the other part of this one's stanza.
    pub has_more: bool,
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
        Self { ticket: Some(ticket), stanza: Some(stanza.clone()), ..Self::default() }
    }

    /// It also has to be in the archive.
    pub fn archived(self, kept: Option<archive::Kept>, stanza: &Stanza) -> Self {
        match kept {
            Some(kept) => Self { archived: Some(kept), stanza: Some(stanza.clone()), ..self },
            None => self,
        }
    }

    /// What must be durable one after the other: first what is in the archive, then the rest.
    pub fn parts(self) -> (Option<Self>, Option<Self>) {
        let Self { ticket, archived, stanza, .. } = self;
        let has_more = ticket.is_some();
        let of = |ticket, has_more, stanza| Self { ticket: Some(ticket), has_more, stanza, archived: None };
        let first = archived.map(|kept| of(kept.ticket, has_more, stanza.clone()));
        (first, ticket.map(|ticket| of(ticket, false, stanza)))
    }

    /// The sender was told already that the stanza is not kept.
    pub fn say_nothing(&mut self) {
        self.stanza = None;
    }

    /// The error that the sender gets if it cannot be kept, where the stanza may be answered. Made only then: nearly every
    /// promise is kept.
    pub fn refusal(&self) -> Option<Stanza> {
        StanzaError::from(StanzaCondition::ResourceConstraint).reply_to(self.stanza.as_ref()?)
    }
}
