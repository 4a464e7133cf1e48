//! RFC 6120 §8.1: the stanza that answers another.

use super::super::index::{Index, Span};
use super::{Attr, Element, Stanza, as_text, ns};

impl Stanza {
    /// The stanza of this `type` that answers: the same kind and id, the addresses swapped, and the payload its only child.
    /// `named`: it comes from the address that was asked, where one was; otherwise it names none.
    pub fn reply(&self, type_: &str, named: bool, payload: Option<&Element>) -> Self {
        debug_assert!(!type_.contains(['\'', '&', '<', '>']), "{type_:?} is a word of the RFCs");
        let asked = self.raw(Attr::To).filter(|_| named);
        let attributes = [
            (Attr::Type, " type='", Some(type_)),
            (Attr::Id, " id='", self.raw(Attr::Id)),
            (Attr::From, " from='", asked),
            (Attr::To, " to='", self.raw(Attr::From)),
        ];
        // Without a payload the answer is hardly longer than the question.
        let mut text = String::with_capacity(self.text().len() + 16);
        text.push('<');
        text.push_str(self.name());
        let mut index = Index::empty();
        let fits = index.set_tag(self.kind(), Span::new(1, text.len()), Span::default(), text.len() as u32);
        for (attr, opening, value) in attributes {
            if let Some(value) = value {
                text.push_str(opening);
                let start = text.len();
                text.push_str(value);
                index.set_attr(attr, Span::new(start, text.len()), value.contains('&'));
                text.push('\'');
            }
        }
        if let Some(payload) = payload {
            let mut bytes = text.into_bytes();
            bytes.push(b'>');
            payload.write(ns::CLIENT, &mut bytes);
            self.push_closing(&mut bytes);
            return Self::from_canonical(as_text(&bytes), None);
        }
        text.push_str("/>");
        match fits && text.len() <= Index::BYTES_MAX {
            true => Self::indexed(&text, index, None),
            false => Self::from_canonical(&text, None),
        }
    }

    /// An attribute's value as it stands in canonical text, and may be copied to others.
    fn raw(&self, attr: Attr) -> Option<&str> {
        self.has(attr).then(|| self.index().attr(attr).of(self.text()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reply(stanza: &str, type_: &str, named: bool, payload: Option<&Element>) -> Stanza {
        let reply = Stanza::parse(stanza.as_bytes()).unwrap().reply(type_, named, payload);
        // The same as if somebody had sent it.
        let parsed = Stanza::parse(reply.bytes()).unwrap();
        assert_eq!(format!("{reply:?}"), format!("{parsed:?}"));
        reply
    }

    #[test]
    fn an_answer_has_the_id_and_the_addresses_the_other_way_round() {
        let iq = "<iq from='a@b/c' to='d@e/f' id='1' type='get' xml:lang='en'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert_eq!(reply(iq, "result", true, None).text(), "<iq type='result' id='1' from='d@e/f' to='a@b/c'/>");
        let payload = Element::new("query", "jabber:iq:version").with_text("1 < 2");
        assert_eq!(
            reply(iq, "result", true, Some(&payload)).text(),
            "<iq type='result' id='1' from='d@e/f' to='a@b/c'>\
             <query xmlns='jabber:iq:version'>1 &lt; 2</query></iq>"
        );
    }

    #[test]
    fn what_was_not_there_is_not_there_and_what_is_no_address_is_not_named() {
        assert_eq!(reply("<iq type='get'><x/></iq>", "error", true, None).text(), "<iq type='error'/>");
        let message = reply("<message from='a@b/c' to='@' id='1'/>", "error", false, None);
        assert_eq!(message.text(), "<message type='error' id='1' to='a@b/c'/>");
    }

    #[test]
    fn an_answer_that_is_long_is_one_too() {
        let id = "x".repeat(70_000);
        let long = reply(&format!("<iq id='{id}' from='a@b/c' type='get'><x/></iq>"), "result", true, None);
        assert_eq!((long.id().as_deref(), long.to().as_deref()), (Some(&*id), Some("a@b/c")));
    }

    #[test]
    fn values_stay_escaped() {
        let iq = "<iq id='&apos;&lt;&amp;&#x9;' from='a@b/&gt;&apos;' type='get'><x/></iq>";
        let reply = reply(iq, "result", true, None);
        assert_eq!(reply.text(), "<iq type='result' id='&apos;&lt;&amp;&#9;' to='a@b/&gt;&apos;'/>");
        assert_eq!((reply.id().as_deref(), reply.to().as_deref()), (Some("'<&\t"), Some("a@b/>'")));
    }
}
