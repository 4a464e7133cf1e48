//! XEP-0380: Explicit Message Encryption, and by what encrypted messages are known without it.

use crate::xml::Stanza;

const MARKS: [(&str, &str); 5] = [
    ("encryption", "urn:xmpp:eme:0"),
    ("encrypted", "eu.siacs.conversations.axolotl"),
    ("encrypted", "urn:xmpp:omemo:2"),
    ("openpgp", "urn:xmpp:openpgp:0"),
    ("x", "jabber:x:encrypted"),
];

/// Whether a message, or a part of it, can only be read by its recipient: what it has in clear beside that tells the others so.
pub fn is_encrypted(message: &Stanza) -> bool {
    MARKS.iter().any(|(name, ns)| message.child(name, ns).is_some())
}

/// Whether something is said in an encrypted part: keys are exchanged by messages that say nothing (XEP-0384 §5.5).
pub fn has_payload(message: &Stanza) -> bool {
    message.child("openpgp", "urn:xmpp:openpgp:0").is_some()
        || ["eu.siacs.conversations.axolotl", "urn:xmpp:omemo:2"].iter().any(|ns| {
            message.child("encrypted", ns).is_some_and(|encrypted| encrypted.element().child("payload", ns).is_some())
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn encrypted_messages_are_known_by_each_mark_and_plain_ones_have_none() {
        let message = |children: &str| Stanza::parse(format!("<message>{children}</message>").as_bytes()).unwrap();
        for (name, ns) in MARKS {
            assert!(is_encrypted(&message(&format!("<body>x</body><{name} xmlns='{ns}'/>"))), "{ns}");
        }
        assert!(!is_encrypted(&message("<body>x</body><x xmlns='jabber:x:oob'/>")));
        assert!(has_payload(&message("<encrypted xmlns='urn:xmpp:omemo:2'><payload>x</payload></encrypted>")));
        assert!(!has_payload(&message("<encrypted xmlns='urn:xmpp:omemo:2'><header/></encrypted>")));
    }
}
