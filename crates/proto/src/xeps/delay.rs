//! XEP-0203: Delayed Delivery
//!
//! When a stanza was first sent, where it arrives later than that.

use super::date_time::DateTime;
use crate::xml::Stanza;
use crate::{Element, Jid};

/// The namespace.
pub const NS: &str = "urn:xmpp:delay";

/// `<delay/>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// When the stanza was sent.
    pub stamp: DateTime,
    /// Who delayed it: a server, a room.
    pub from: Option<Jid>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// `<delay/>`, for a stanza that is held up since `stamp`.
pub fn element(from: Option<&str>, stamp: impl Into<DateTime>, reason: Option<&str>) -> Element {
    let mut element = Element::new("delay", NS);
    if let Some(from) = from {
        element.set_attr("from", from);
    }
    element.set_attr("stamp", stamp.into().to_string());
    match reason {
        Some(reason) => element.with_text(reason),
        None => element,
    }
}

impl Delay {
    /// A delay since `stamp`, by `from`.
    pub fn new(stamp: DateTime, from: impl Into<Jid>) -> Self {
        Self { stamp, from: Some(from.into()), reason: None }
    }

    /// With a reason for people.
    pub fn with_reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// As an element.
    pub fn element(&self) -> Element {
        element(self.from.as_ref().map(Jid::as_str), self.stamp, self.reason.as_deref())
    }

    /// Parses the element; `None` where it is another one, or has no stamp. A `from` that is no address is left out.
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is("delay", NS) {
            return None;
        }
        Some(Self {
            stamp: element.attr("stamp")?.trim().parse().ok()?,
            from: element.attr("from").and_then(|from| Jid::parse(from).ok()),
            reason: Some(element.text()).filter(|reason| !reason.is_empty()),
        })
    }

    /// All delays of a stanza, in order: every entity that held it up adds its own (§4).
    pub fn all_of(stanza: &Stanza) -> impl Iterator<Item = Self> {
        stanza.children().filter(|child| child.is("delay", NS)).filter_map(|child| Self::parse(&child.element()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;

    #[test]
    fn a_delay_is_written_and_read() {
        let stamp = DateTime::from_unix(1_031_699_305, 0);
        let delay = Delay::new(stamp, Jid::parse("capulet.example").unwrap()).with_reason("Offline Storage");
        let xml =
            "<delay xmlns='urn:xmpp:delay' from='capulet.example' stamp='2002-09-10T23:08:25Z'>Offline Storage</delay>";
        assert_eq!(delay.element().to_xml(ns::CLIENT), xml);
        assert_eq!(Delay::parse(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()), Some(delay));
    }

    #[test]
    fn every_delay_of_a_stanza_is_found_and_what_is_none_is_passed_over() {
        let stanza = Stanza::parse(
            b"<message><delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:01Z' from='@'/><delay xmlns='urn:xmpp:delay'/>\
              <delay xmlns='urn:other' stamp='1970-01-01T00:00:02Z'/><delay xmlns='urn:xmpp:delay' stamp='yesterday'/>\
              <delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:03.5Z'/></message>",
        )
        .unwrap();
        let delays: Vec<_> = Delay::all_of(&stanza).collect();
        assert_eq!(delays.iter().map(|delay| delay.stamp.unix_millis()).collect::<Vec<_>>(), [1000, 3500]);
        assert_eq!((&delays[0].from, &delays[0].reason), (&None, &None));
    }
}
