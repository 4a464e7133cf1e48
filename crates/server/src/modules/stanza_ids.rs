//! XEP-0359: Unique and Stable Stanza IDs
//!
//! An id that names an account or its domain as its maker must come from this server, so one that arrives from elsewhere is
//! taken out. `<origin-id/>` and the ids of others pass through. The ids that are given are those of the archive.

use std::borrow::Cow;

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid};

use super::{About, Module};
use crate::server::Deps;

/// The namespace.
pub const NS: &str = "urn:xmpp:sid:0";

/// The module: an entry in the list, since what it does is a step.
pub struct StanzaIds;

impl Module for StanzaIds {
    const ABOUT: &'static [About] = &[About {
        xep: Some(359),
        title: "Unique and Stable Stanza IDs",
        version: "0.7.0",
        host_features: &[],
        account_features: &[NS],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }
}

/// `<stanza-id/>`: the id that the account's archive gave.
pub fn stanza_id(by: &BareJid, id: &str) -> Element {
    Element::new("stanza-id", NS).with_attr("by", by).with_attr("id", id)
}

/// A step: the message without ids that claim to be the account's, or its domain's (§3, rule 3).
pub fn without_claims<'a>(message: &'a Stanza, account: &BareJid) -> Cow<'a, Stanza> {
    // Hardly any message carries one, and the index shows that.
    if message.child("stanza-id", NS).is_none() {
        return Cow::Borrowed(message);
    }
    let [account, domain] = [Jid::from(account.clone()), Jid::from(account.to_domain())];
    Cow::Owned(message.without_children(|child| {
        child.is("stanza-id", NS) && {
            // Compared as addresses, so that another spelling is no way around.
            let by = child.element().attr("by").and_then(|by| Jid::parse(by).ok());
            by.is_some_and(|by| by == account || by == domain)
        }
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stripped(children: &str) -> String {
        let message = Stanza::parse(format!("<message>{children}</message>").as_bytes()).unwrap();
        let stripped = without_claims(&message, &BareJid::parse("juliet@example.org").unwrap()).into_owned();
        String::from_utf8(stripped.bytes().to_vec()).unwrap()
    }

    fn id(by: &str) -> String {
        format!("<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='{by}'/>")
    }

    #[test]
    fn an_id_in_the_name_of_the_account_or_its_domain_is_taken_out_however_it_is_spelt() {
        for by in ["juliet@example.org", "Juliet@EXAMPLE.org", "example.org"] {
            assert_eq!(stripped(&format!("<body>x</body>{}", id(by))), "<message><body>x</body></message>", "{by}");
        }
    }

    #[test]
    fn the_ids_of_others_and_of_the_sender_pass() {
        for kept in [
            id("room@rooms.example.org"),
            id("juliet@example.org/balcony"),
            "<origin-id xmlns='urn:xmpp:sid:0' id='2'/>".to_owned(),
            "<stanza-id xmlns='urn:other' by='example.org'/>".to_owned(),
        ] {
            assert_eq!(stripped(&kept), format!("<message>{kept}</message>"));
        }
        assert_eq!(stripped(&(id("example.org") + &id("example.net"))), format!("<message>{}</message>", id("example.net")));
    }
}
