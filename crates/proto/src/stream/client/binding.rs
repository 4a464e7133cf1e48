//! RFC 6120 §7, XEP-0198 §5: how a client's stream gets its address, and what it takes from then on.

use super::{ClientStream, State};
use crate::stream::event::{Event, ResumeFailure};
use crate::xml::{Attr, Element, Kind, Stanza};
use crate::{FullJid, Jid, StanzaError, StreamCondition, ns};

impl ClientStream {
    /// Answers [`Event::Bind`]: the result is in the output, stanzas are stamped with this address from now on.
    pub fn bound(&mut self, jid: &FullJid) {
        let id = self.negotiation().bind_id.take().unwrap_or_default();
        let bind = Element::new("bind", ns::BIND).with(Element::new("jid", ns::BIND).with_text(jid.as_str()));
        self.write(&Element::new("iq", ns::CLIENT).with_attr("type", "result").with_attr("id", id).with(bind));
        self.establish(jid);
    }

    /// Answers [`Event::Bind`] with an error (§7.6.2, §7.7.2); the peer may try again.
    pub fn bind_refused(&mut self, error: &StanzaError) {
        let id = self.negotiation().bind_id.take().unwrap_or_default();
        self.write(
            &Element::new("iq", ns::CLIENT).with_attr("type", "error").with_attr("id", id).with(error.element()),
        );
        self.state = State::Negotiating;
    }

    /// Answers [`Event::Resume`], or what was wanted inline: `<resumed/>` is in the output, and the session goes on.
    pub fn resumed(&mut self, jid: &FullJid, previd: &str, h: u32) {
        let resumed = Element::new("resumed", ns::SM).with_attr("previd", previd).with_attr("h", h.to_string());
        match self.owes_success() {
            true => {
                self.add_to_success(resumed);
                self.write_success(jid.as_str(), false);
            }
            false => self.write(&resumed),
        }
        self.establish(jid);
    }

    /// Answers [`Event::Resume`] with `<failed/>`; the peer may bind. Where it was wanted inline it stands in the coming `<success/>`.
    pub fn resume_failed(&mut self, failure: &ResumeFailure) {
        let mut failed = Element::new("failed", ns::SM).with(Element::new(failure.condition.name(), ns::STANZA_ERRORS));
        if let Some(h) = failure.h {
            failed.set_attr("h", h.to_string());
        }
        if self.owes_success() {
            self.add_to_success(failed);
            return;
        }
        self.write(&failed);
        self.state = State::Negotiating;
    }

    pub(super) fn bind(&mut self, iq: &Stanza) -> Option<Event> {
        let bind = iq.child("bind", ns::BIND);
        let (Some(bind), Some("set"), Some(id)) = (bind, iq.type_().as_deref(), iq.attr(Attr::Id)) else {
            return Some(self.failed(StreamCondition::NotAuthorized.into()));
        };
        let resource = bind.element().child("resource", ns::BIND).map(Element::text).filter(|text| !text.is_empty());
        let id = id.into_owned();
        self.negotiation().bind_id = Some(id);
        self.state = State::Waiting;
        Some(Event::Bind { resource })
    }

    pub(super) fn established(&mut self, stanza: Stanza) -> Event {
        match stanza.kind() {
            Kind::Other if stanza.ns() == ns::CLIENT || stanza.ns() == ns::STREAM => {
                self.failed(StreamCondition::UnsupportedStanzaType.into())
            }
            Kind::Other => Event::Nonza(stanza),
            // §8.1.2.1: a client speaks for itself alone.
            _ if self.is_forged(&stanza) => self.failed(StreamCondition::InvalidFrom.into()),
            _ => Event::Stanza(match &self.lang {
                Some(lang) if stanza.attr(Attr::Lang).is_none() => stanza.with(Attr::Lang, Some(lang)),
                _ => stanza,
            }),
        }
    }

    /// Whether `from` names somebody else than the session's own full or bare JID, which the stamp has replaced. Who writes to a room
    /// or an occupant of it may say by its name there who it is, as poezio does.
    fn is_forged(&self, stanza: &Stanza) -> bool {
        let Some(claimed) = stanza.claimed_from() else { return false };
        let (Ok(claimed), Some(Ok(own))) = (Jid::parse(claimed), stanza.from().map(|from| Jid::parse(&from))) else {
            return true;
        };
        let is_own = claimed == own || claimed == Jid::from(own.to_bare());
        let recipient = || stanza.to().and_then(|to| Jid::parse(&to).ok());
        !is_own && recipient().is_none_or(|to| to.to_bare() != claimed.to_bare())
    }

    pub(super) fn establish(&mut self, jid: &FullJid) {
        self.tokenizer.stamp_from(Some(jid.to_text()));
        self.negotiation = None;
        self.state = State::Bound;
    }
}
