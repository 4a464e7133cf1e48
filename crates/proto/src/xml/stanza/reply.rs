//! RFC 6120 §8.1: the stanza that answers another.

use super::{Attr, Element, Stanza, ns};

impl Stanza {
    /// The stanza of this `type` that answers: the same kind and id, the addresses swapped, and the payload its only child.
    /// `named`: it comes from the address that was asked, where one was; otherwise it names none.
    pub fn reply(&self, type_: &str, named: bool, payload: Option<&Element>) -> Self {
        debug_assert!(!type_.contains(['\'', '&', '<', '>']), "{type_:?} is a word of the RFCs");
        let id = (" id='", self.raw(Attr::Id));
        let from = (" from='", self.raw(Attr::To).filter(|_| named));
        let to = (" to='", self.raw(Attr::From));
        let attributes = [(" type='", Some(type_)), id, from, to];
        let mut bytes = Vec::with_capacity(head_bytes(self.name(), &attributes));
        bytes.push(b'<');
        bytes.extend_from_slice(self.name().as_bytes());
        for (opening, value) in attributes {
            if let Some(value) = value {
                bytes.extend_from_slice(opening.as_bytes());
                bytes.extend_from_slice(value.as_bytes());
                bytes.push(b'\'');
            }
        }
        match payload {
            None => bytes.extend_from_slice(b"/>"),
            Some(payload) => {
                bytes.push(b'>');
                payload.write(ns::CLIENT, &mut bytes);
                self.push_closing(&mut bytes);
            }
        }
        Self::from_canonical(bytes, None)
    }

    /// An attribute's value as it stands in canonical bytes, and may be copied to others.
    fn raw(&self, attr: Attr) -> Option<&str> {
        let span = self.index.attr(attr);
        (!span.is_none()).then(|| span.str_of(&self.bytes))
    }
}

/// Bytes of a stanza with these attributes and no child.
fn head_bytes(name: &str, attributes: &[(&str, Option<&str>)]) -> usize {
    let attributes = attributes.iter().filter_map(|(opening, value)| Some(opening.len() + (*value)?.len() + 1));
    "</>".len() + name.len() + attributes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reply(stanza: &str, type_: &str, named: bool, payload: Option<&Element>) -> Stanza {
        let reply = Stanza::parse(stanza.as_bytes()).unwrap().reply(type_, named, payload);
        // The same as if somebody had sent it.
        let parsed = Stanza::parse(reply.bytes()).unwrap();
        assert_eq!((parsed.bytes(), parsed.kind(), parsed.id()), (reply.bytes(), reply.kind(), reply.id()));
        reply
    }

    fn text(stanza: &Stanza) -> &str {
        std::str::from_utf8(stanza.bytes()).unwrap()
    }

    #[test]
    fn an_answer_has_the_id_and_the_addresses_the_other_way_round() {
        let iq = "<iq from='a@b/c' to='d@e/f' id='1' type='get' xml:lang='en'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert_eq!(text(&reply(iq, "result", true, None)), "<iq type='result' id='1' from='d@e/f' to='a@b/c'/>");
        let payload = Element::new("query", "jabber:iq:version").with_text("1 < 2");
        assert_eq!(
            text(&reply(iq, "result", true, Some(&payload))),
            "<iq type='result' id='1' from='d@e/f' to='a@b/c'>\
             <query xmlns='jabber:iq:version'>1 &lt; 2</query></iq>"
        );
    }

    #[test]
    fn what_was_not_there_is_not_there_and_what_is_no_address_is_not_named() {
        assert_eq!(text(&reply("<iq type='get'><x/></iq>", "error", true, None)), "<iq type='error'/>");
        let message = reply("<message from='a@b/c' to='@' id='1'/>", "error", false, None);
        assert_eq!(text(&message), "<message type='error' id='1' to='a@b/c'/>");
    }

    #[test]
    fn values_stay_escaped() {
        let iq = "<iq id='&apos;&lt;&amp;&#x9;' from='a@b/&gt;&apos;' type='get'><x/></iq>";
        let reply = reply(iq, "result", true, None);
        assert_eq!(text(&reply), "<iq type='result' id='&apos;&lt;&amp;&#9;' to='a@b/&gt;&apos;'/>");
        assert_eq!((reply.id().as_deref(), reply.to().as_deref()), (Some("'<&\t"), Some("a@b/>'")));
    }
}
