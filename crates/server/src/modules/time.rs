//! XEP-0202: Entity Time
//!
//! Tells what time it is for a host: UTC, as in every other stamp that the server writes.

use std::sync::Arc;
use std::time::SystemTime;

use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xml::Element;

use super::{About, Module};
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::Deps;

const NS: &str = "urn:xmpp:time";

/// The module.
pub struct EntityTime;

impl Module for EntityTime {
    const ABOUT: &'static [About] = &[About {
        xep: Some(202),
        title: "Entity Time",
        version: "2.0",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own_now(To::Host, Verb::Get, ("time", NS), self, Self::answer);
    }
}

impl EntityTime {
    fn answer(&self, _query: &Query<'_>) -> Reply {
        Ok(Some(time(SystemTime::now().into())))
    }
}

/// `Z` is the offset that XEP-0082 §3.2 writes for UTC.
fn time(now: DateTime) -> Element {
    Element::new("time", NS)
        .with(Element::new("tzo", NS).with_text("Z"))
        .with(Element::new("utc", NS).with_text(now.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_utc_and_the_offset_says_so() {
        let xml = time(DateTime::from_unix(1_166_551_115, 0)).to_xml(NS);
        assert_eq!(xml, "<time><tzo>Z</tzo><utc>2006-12-19T17:58:35Z</utc></time>");
    }
}
