//! XEP-0372: References
//!
//! Of these what a message mentions: addresses in URIs.

use crate::Jid;
use crate::xml::Stanza;

/// The namespace.
pub const NS: &str = "urn:xmpp:reference:0";

/// Whom a message mentions (§3.2), in its order. What is no URI of an address mentions nobody.
pub fn mentioned(message: &Stanza) -> impl Iterator<Item = Jid> {
    let references = message.children().filter(|child| child.is("reference", NS)).map(|child| child.element());
    references.filter(|reference| reference.attr("type") == Some("mention")).filter_map(|reference| {
        let uri = reference.attr("uri")?;
        address(uri)
    })
}

/// The address that a URI of RFC 5122 names.
fn address(uri: &str) -> Option<Jid> {
    let path = uri.strip_prefix("xmpp:")?.split(['?', '#']).next()?;
    Jid::parse(&decoded(path)?).ok()
}

/// Without percent-encoding. `None`: it is none.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let [high, low] = [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                u8::try_from(high? * 16 + low?).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_mentions_the_addresses_of_its_uris_and_nothing_else() {
        let reference = |kind: &str, uri: &str| format!("<reference xmlns='{NS}' type='{kind}' uri='{uri}'/>");
        let references = [
            reference("mention", "xmpp:juliet@a.example?message"),
            reference("data", "xmpp:nurse@a.example"),
            reference("mention", "https://a.example"),
            reference("mention", "xmpp:%"),
            reference("mention", "xmpp:play@r.example/%e5%96%9c%E9%B9%8A"),
        ];
        let message = Stanza::parse(format!("<message>{}</message>", references.concat()).as_bytes()).unwrap();
        let found: Vec<String> = mentioned(&message).map(|jid| jid.to_string()).collect();
        assert_eq!(found, ["juliet@a.example", "play@r.example/喜鹊"]);
    }
}
