//! XEP-0352: Client State Indication
//!
//! While a client says that nobody looks at it, what can wait waits: presence (the newest of each sender) and chat states. Anything
//! that matters releases it all, in order, so that the phone's radio wakes once.

use magpie_proto::ns;
use magpie_proto::xml::{Element, Kind, Stanza};

use super::bind2::Binding;
use super::{About, Module};
use crate::mailbox::Delivery;
use crate::server::Deps;

/// The namespace.
pub const NS: &str = "urn:xmpp:csi:0";

/// Stanzas held back at most; one more releases all of them.
const HELD_MAX: usize = 256;

/// Bytes of the stanzas held back at most; more releases all of them.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The module: an entry in the list, since the behaviour is each session's own.
pub struct ClientStateIndication;

impl Module for ClientStateIndication {
    const ABOUT: &'static [About] = &[About {
        xep: Some(352),
        title: "Client State Indication",
        version: "1.0.0",
        host_features: &[],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn stream_features(&self, _domain: &str) -> Vec<Element> {
        vec![Element::new("csi", NS)]
    }

    const BIND_FEATURES: &'static [&'static str] = &[NS];

    async fn bound(&self, binding: &mut Binding<'_>) -> Vec<Element> {
        binding.client_state.inactive = binding.request.child("inactive", NS).is_some();
        Vec::new()
    }
}

/// One session's state.
#[derive(Debug, Default)]
pub struct ClientState {
    inactive: bool,
    held: Vec<Delivery>,
}

impl ClientState {
    /// `<active/>` or `<inactive/>`. Gives back what is to be written now.
    pub fn handle(&mut self, element: &Stanza) -> Vec<Delivery> {
        match element.name() {
            "inactive" => {
                self.inactive = true;
                Vec::new()
            }
            "active" => {
                self.inactive = false;
                self.give_back()
            }
            _ => Vec::new(),
        }
    }

    /// Whether everything is to be written at once.
    pub fn is_active(&self) -> bool {
        !self.inactive
    }

    /// A stanza for the client. Gives back what is to be written now, in order.
    pub fn pass(&mut self, delivery: Delivery) -> Vec<Delivery> {
        if !self.inactive {
            return vec![delivery];
        }
        if !can_wait(&delivery.stanza) {
            let mut all = self.give_back();
            all.push(delivery);
            return all;
        }
        if delivery.stanza.kind() == Kind::Presence {
            let from = delivery.stanza.from();
            self.held.retain(|held| held.stanza.kind() != Kind::Presence || held.stanza.from() != from);
        }
        self.held.push(delivery);
        let bytes: usize = self.held.iter().map(|held| held.stanza.bytes().len()).sum();
        if self.held.len() > HELD_MAX || bytes > HELD_BYTES_MAX { self.give_back() } else { Vec::new() }
    }

    /// All that is held, oldest first.
    pub fn give_back(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.held)
    }
}

/// Whether nobody misses the stanza while nobody looks.
fn can_wait(stanza: &Stanza) -> bool {
    match stanza.kind() {
        // A subscription request is news; an error may answer something.
        Kind::Presence => matches!(stanza.type_().as_deref(), None | Some("unavailable")),
        Kind::Message => {
            stanza.type_().as_deref() != Some("error")
                && stanza.children().any(|child| child.ns == ns::CHAT_STATES)
                && stanza.children().all(|child| {
                    child.ns == ns::CHAT_STATES
                        || child.ns == "urn:xmpp:hints"
                        || child.name == "thread"
                })
        }
        Kind::Iq | Kind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn delivery(xml: &str) -> Delivery {
        Delivery::new(Stanza::parse(xml.as_bytes()).unwrap())
    }

    fn inactive() -> ClientState {
        let mut state = ClientState::default();
        state.handle(&Stanza::parse(b"<inactive xmlns='urn:xmpp:csi:0'/>").unwrap());
        state
    }

    #[test]
    fn an_active_client_gets_everything_at_once() {
        assert_eq!(ClientState::default().pass(delivery("<presence from='a@b/c'/>")).len(), 1);
    }

    #[test]
    fn presence_waits_for_an_inactive_client_and_only_the_newest_of_a_sender() {
        let mut state = inactive();
        assert!(state.pass(delivery("<presence from='a@b/c'/>")).is_empty());
        assert!(state.pass(delivery("<presence from='a@b/c' type='unavailable'/>")).is_empty());
        assert!(state.pass(delivery("<presence from='a@b/d'/>")).is_empty());
        let released = state.handle(&Stanza::parse(b"<active xmlns='urn:xmpp:csi:0'/>").unwrap());
        assert_eq!(released.len(), 2);
        assert_eq!(released[0].stanza.type_().as_deref(), Some("unavailable"));
    }

    #[test]
    fn stanzas_that_are_large_do_not_wait() {
        let mut state = inactive();
        assert!(state.pass(delivery("<presence from='a@b/c'/>")).is_empty());
        let status = "x".repeat(HELD_BYTES_MAX);
        let large = delivery(&format!("<presence from='a@b/d'><status>{status}</status></presence>"));
        assert_eq!(state.pass(large).len(), 2);
    }

    #[test]
    fn a_message_releases_what_waited_before_it() {
        let mut state = inactive();
        assert!(state.pass(delivery("<presence from='a@b/c'/>")).is_empty());
        let released = state.pass(delivery("<message from='a@b/c'><body>x</body></message>"));
        assert_eq!(released.iter().map(|d| d.stanza.kind()).collect::<Vec<_>>(), [Kind::Presence, Kind::Message]);
    }

    #[test]
    fn chat_states_wait_and_subscription_requests_do_not() {
        let mut state = inactive();
        let composing =
            "<message from='a@b/c'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert!(state.pass(delivery(composing)).is_empty());
        assert_eq!(state.pass(delivery("<presence from='a@b' type='subscribe'/>")).len(), 2);
    }
}
