//! XEP-0092: Software Version
//!
//! Says that a host runs Magpie, and which version. The operating system is nobody's business (§5).

use std::sync::Arc;

use magpie_proto::xml::Element;

use super::{About, Module};
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::Deps;

const NS: &str = "jabber:iq:version";

/// The module.
pub struct SoftwareVersion;

impl Module for SoftwareVersion {
    const ABOUT: &'static [About] = &[About {
        xep: Some(92),
        title: "Software Version",
        version: "1.1",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own_now(To::Host, Verb::Get, ("query", NS), self, Self::answer);
    }
}

impl SoftwareVersion {
    fn answer(&self, _query: &Query<'_>) -> Reply {
        Ok(Some(query()))
    }
}

fn query() -> Element {
    Element::new("query", NS)
        .with(Element::new("name", NS).with_text("Magpie"))
        .with(Element::new("version", NS).with_text(env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_version_are_told_and_the_operating_system_is_not() {
        let xml = query().to_xml(NS);
        let expected = format!("<query><name>Magpie</name><version>{}</version></query>", env!("CARGO_PKG_VERSION"));
        assert_eq!(xml, expected);
    }
}
