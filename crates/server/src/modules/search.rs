//! XEP-0431: Full Text Search in MAM
//!
//! A query of the archive may name words that a message must have: in its bodies and subjects, in any language, whatever their case
//! and accents. What is in quotation marks, or has no space in it, is found as it stands. The store has an index for it, which is filled in
//! the background; what it has not got yet is looked through, so that a message can be found as soon as it is kept.

use std::ops::ControlFlow;

use magpie_proto::xeps::mam::{self, ArchiveQuery};
use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Page, Search, SearchEnd, Searched, Words, WordsError};

use super::archive::{self, ARCHIVE, Archived, Found, MessageArchive, PAGE_BYTES, Range};
use super::offline::refusal;
use super::{About, Module};
use crate::accounts;
use crate::server::Deps;

/// The module.
pub struct FullTextSearch {
    deps: Deps,
}

impl Module for FullTextSearch {
    const ABOUT: &'static [About] = &[About {
        xep: Some(431),
        title: "Full Text Search in MAM",
        version: "0.2.0",
        host_features: &[],
        account_features: &[mam::NS_FULLTEXT],
    }];

    fn new(deps: &Deps) -> Self {
        let search = Self { deps: deps.clone() };
        if deps.archives() {
            // From here on it is filled.
            search.index();
        }
        search
    }
}

impl FullTextSearch {
    fn index(&self) -> Search<Archived> {
        self.deps.store.search(ARCHIVE)
    }

    /// A page of the messages that have the words.
    pub(super) async fn find(
        &self,
        archive: &MessageArchive,
        account: &BareJid,
        query: &ArchiveQuery,
        text: &str,
    ) -> Result<Found, StanzaError> {
        let words = words(text)?;
        let owner = accounts::owner(account);
        let Range { after, before, backwards, max } = archive.range(account, &owner, query).await?;
        if max == 0 {
            return Ok(Found::default());
        }
        let with = query.filter.with.as_ref();
        let topic = with.map(|with| with.to_bare().to_string());
        let exact = with.filter(|with| with.resource().is_some());
        let page = Page { topic, after, before, backwards, limit: max };
        let (mut found, mut bytes) = (Found::default(), 0);
        let index = self.index();
        let end = index.find(&owner, &words, &page, |id, Archived(message)| {
            if !archive::matches(&message, account, exact) {
                return ControlFlow::Continue(());
            }
            if found.messages.len() == max || bytes >= PAGE_BYTES {
                return ControlFlow::Break(());
            }
            bytes += message.bytes().len();
            found.messages.push((id, message));
            ControlFlow::Continue(())
        });
        match end.await.map_err(refusal)? {
            SearchEnd::Complete => found.complete = true,
            SearchEnd::Exhausted if found.messages.is_empty() => {
                let text = "there is too much to look through: ask for more words, for one contact or for a shorter time";
                return Err(StanzaError::new(StanzaCondition::PolicyViolation, text));
            }
            // The client goes on after the last of them.
            SearchEnd::Exhausted | SearchEnd::Stopped => {}
        }
        Ok(found.in_order(backwards))
    }
}

/// What is searched for.
pub(super) fn words(text: &str) -> Result<Words, StanzaError> {
    Words::parse(text).map_err(|error| {
        let condition = match error {
            WordsError::None => StanzaCondition::BadRequest,
            WordsError::TooMany => StanzaCondition::PolicyViolation,
        };
        StanzaError::new(condition, error.to_string())
    })
}

/// The bodies and subjects of a message. Of an encrypted one they are a notice for who cannot read it.
pub(super) fn text(message: &Stanza) -> String {
    let mut text = String::new();
    if message.children().any(|child| ENCRYPTED.iter().any(|(name, ns)| child.is(name, ns))) {
        return text;
    }
    for child in message.children() {
        if ["body", "subject"].iter().any(|name| child.is(name, ns::CLIENT)) {
            text.push_str(&child.element().text());
            text.push('\n');
        }
    }
    text
}

/// What stands in an encrypted message: OMEMO (XEP-0384, both kinds), OpenPGP (XEP-0373, XEP-0027), Explicit Message Encryption
/// (XEP-0380) for all others.
const ENCRYPTED: [(&str, &str); 5] = [
    ("encrypted", "eu.siacs.conversations.axolotl"),
    ("encrypted", "urn:xmpp:omemo:2"),
    ("openpgp", "urn:xmpp:openpgp:0"),
    ("x", "jabber:x:encrypted"),
    ("encryption", "urn:xmpp:eme:0"),
];

impl Searched for Archived {
    fn text(&self, out: &mut String) {
        out.push_str(&text(&self.0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text_of(inner: &str) -> String {
        text(&Stanza::parse(format!("<message>{inner}</message>").as_bytes()).unwrap())
    }

    #[test]
    fn bodies_and_subjects_are_searched_as_they_are_read() {
        let inner = "<subject>Balcony</subject><body>a &lt; b</body><body xml:lang='ja'>明日</body><x xmlns='urn:x'><body>no</body></x>";
        assert_eq!(text_of(inner), "Balcony\na < b\n明日\n");
        assert_eq!(text_of("<body xmlns='urn:x'>no</body><received xmlns='urn:xmpp:receipts' id='1'/>"), "");
    }

    #[test]
    fn of_an_encrypted_message_there_is_nothing_to_search() {
        for (name, ns) in ENCRYPTED {
            assert_eq!(text_of(&format!("<body>You cannot read this</body><{name} xmlns='{ns}'/>")), "", "{ns}");
        }
    }

    #[test]
    fn what_cannot_be_searched_for_is_refused() {
        let condition = |text: &str| words(text).unwrap_err().condition;
        assert_eq!(condition("*"), StanzaCondition::BadRequest);
        assert_eq!(condition(&"word ".repeat(10_000)), StanzaCondition::PolicyViolation);
    }
}
