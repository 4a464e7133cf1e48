//! XEP-0297: Stanza Forwarding
//!
//! A stanza inside another one: in carbons, in results of the archive.

use super::delay::Delay;
use crate::xml::{Kind, Stanza};
use crate::{Element, ns};

/// The namespace.
pub const NS: &str = "urn:xmpp:forward:0";

/// `<forwarded/>`
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// When whoever forwards it received it.
    pub delay: Option<Delay>,
    /// What is forwarded.
    pub stanza: Stanza,
}

/// `<forwarded/>` around a stanza, which keeps its namespace (§3.1), and the moment at which it came.
pub fn forwarded(stanza: &Stanza, delay: Option<&Delay>) -> Element {
    Element::new("forwarded", NS).with_all(delay.map(Delay::element)).with(stanza.element())
}

impl Forwarded {
    /// The stanza, with no word on when it came.
    pub fn new(stanza: Stanza) -> Self {
        Self { delay: None, stanza }
    }

    /// With the moment at which it came.
    pub fn with_delay(self, delay: Delay) -> Self {
        Self { delay: Some(delay), ..self }
    }

    /// As an element.
    pub fn element(&self) -> Element {
        forwarded(&self.stanza, self.delay.as_ref())
    }

    /// Parses the element; `None` where it is another one, or has not exactly one stanza.
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is("forwarded", NS) {
            return None;
        }
        let is_stanza =
            |child: &&Element| child.ns() == ns::CLIENT && matches!(child.name(), "message" | "presence" | "iq");
        let mut stanzas = element.children().filter(is_stanza);
        let (Some(stanza), None) = (stanzas.next(), stanzas.next()) else { return None };
        let stanza = Stanza::new(stanza);
        debug_assert_ne!(stanza.kind(), Kind::Other);
        Some(Self { delay: element.children().find_map(Delay::parse), stanza })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Jid;
    use crate::xeps::date_time::DateTime;

    #[test]
    fn a_forwarded_stanza_keeps_its_namespace_and_its_bytes() {
        let bytes = b"<message to='romeo@example.net' type='chat'><body>O &lt;Romeo&gt;</body></message>";
        let delay = Delay::new(DateTime::from_unix(1_278_803_305, 0), Jid::parse("example.net").unwrap());
        let element = Forwarded::new(Stanza::parse(bytes).unwrap()).with_delay(delay.clone()).element();
        assert_eq!(
            element.to_xml(ns::CLIENT),
            "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' from='example.net' \
             stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' to='romeo@example.net' type='chat'>\
             <body>O &lt;Romeo&gt;</body></message></forwarded>"
        );
        let forwarded = Forwarded::parse(&element).unwrap();
        assert_eq!(forwarded.stanza.bytes(), bytes);
        assert_eq!(forwarded.delay, Some(delay));
    }

    #[test]
    fn what_does_not_forward_one_stanza_is_refused() {
        for xml in [
            "<forwarded xmlns='urn:xmpp:forward:0'/>",
            "<forwarded xmlns='urn:other'><message xmlns='jabber:client'/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><message/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><query xmlns='jabber:client'/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client'/><iq xmlns='jabber:client'/></forwarded>",
        ] {
            assert!(Forwarded::parse(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()).is_none(), "{xml}");
        }
    }
}
