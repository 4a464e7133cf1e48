//! XEP-0386: Bind 2
//!
//! Binds a resource within authentication and does what the client wants done at once, so that nothing is missed in between. A
//! module takes part by [`Module::BIND_FEATURES`] and [`Module::bound`]. A client that says who it is (XEP-0388's `<user-agent/>`) has the
//! same resource whenever it comes with the same tag, and what it left behind ends when it comes again.
//!
//! Offline messages are sent as to any session, though §3.2 would have the archive give them: what the archive does not keep would be lost.

use std::sync::Arc;

use magpie_proto::xml::Element;
use magpie_proto::{BareJid, FullJid, StreamCondition, StreamError, ns};

use super::{About, Module, Modules};
use crate::mailbox::Mail;
use crate::modules::client_state::ClientState;
use crate::modules::stream_management::Acks;
use crate::registry::SessionHandle;
use crate::server::{Deps, Server, random_text};

/// Characters of a tag that are taken.
const TAG_CHARS_MAX: usize = 64;

/// The module.
pub struct Bind2;

impl Module for Bind2 {
    const ABOUT: &'static [About] = &[About {
        xep: Some(386),
        title: "Bind 2",
        version: "1.1.0",
        host_features: &[],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn inline_features(&self) -> Vec<Element> {
        let each = Modules::bind_features().map(|name| Element::new("feature", ns::BIND2).with_attr("var", name));
        vec![Element::new("bind", ns::BIND2).with(Element::new("inline", ns::BIND2).with_all(each))]
    }
}

/// A resource that was just bound, in the registry, whose session has not begun: nothing was written to it yet.
pub struct Binding<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// The session.
    pub session: &'a Arc<SessionHandle>,
    /// `<bind/>`, with what the client wants.
    pub request: &'a Element,
    /// XEP-0198: the session begins with these.
    pub acks: Option<Box<Acks>>,
    /// XEP-0352: the session begins in this state.
    pub client_state: ClientState,
}

/// The address that a client gets: `TAG/ID`, where the ID is the device's own, or any.
pub fn address(account: &BareJid, tag: Option<&str>, id: &str) -> Option<FullJid> {
    let tag: String = tag.unwrap_or_default().trim().chars().take(TAG_CHARS_MAX).collect();
    let tagged = (!tag.is_empty()).then(|| account.with_resource(&format!("{tag}/{id}")).ok()).flatten();
    // A tag that no resource can have is no reason to send the client away.
    tagged.or_else(|| account.with_resource(id).ok())
}

/// What stands for a device in its resources: nobody learns the device's own id from it (§3.2.1).
pub fn device_id(server: &Server, account: &BareJid, user_agent: Option<&str>) -> String {
    match user_agent {
        Some(user_agent) => server.device_tag(account, user_agent),
        None => random_text(9),
    }
}

/// Whether a session is of the device for which this id stands.
pub fn is_of(session: &SessionHandle, id: &str) -> bool {
    let resource = session.jid.resource();
    resource == id || resource.strip_suffix(id).is_some_and(|tag| tag.ends_with('/'))
}

/// §3.2: ends the sessions that the same client left behind under another tag.
pub fn end_earlier(server: &Server, session: &SessionHandle, id: &str) {
    for other in server.registry().sessions(&session.account) {
        if is_of(&other, id) && other.id != session.id {
            let error = StreamError::new(StreamCondition::Conflict, "the client has come again");
            // A session that is ending by itself needs no telling.
            let _ = other.mailbox.put(Mail::End(error));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_the_tag_before_the_id_and_does_without_one_that_cannot_be() {
        let account = BareJid::parse("juliet@example.org").unwrap();
        let resource = |tag| address(&account, tag, "id").unwrap().resource().to_owned();
        assert_eq!(resource(None), "id");
        assert_eq!(resource(Some(" ")), "id");
        assert_eq!(resource(Some("Balcony 2")), "Balcony 2/id");
        assert_eq!(resource(Some("a\u{7}b")), "id");
        assert_eq!(resource(Some(&"x".repeat(5000))).len(), TAG_CHARS_MAX + 3);
    }
}
