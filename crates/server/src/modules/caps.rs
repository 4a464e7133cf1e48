//! XEP-0115: Entity Capabilities
//!
//! A host shows in its stream features a hash of what service discovery says of it, so that a client which knows the hash need not
//! ask. What clients put into their own presence passes through unchanged.

use std::sync::Arc;

use arc_swap::ArcSwap;
use magpie_proto::xeps::caps::{Caps, NS};
use magpie_proto::xml::Element;
use parking_lot::Mutex;

use super::{About, Module, disco};
use crate::config::Config;
use crate::server::Deps;

/// Names the software (§4).
const NODE: &str = "urn:magpie";

/// The module.
pub struct Capabilities {
    config: Arc<ArcSwap<Config>>,
    /// What was hashed last, and for which configuration.
    known: Mutex<Option<(Arc<Config>, Caps)>>,
}

impl Module for Capabilities {
    const ABOUT: &'static [About] = &[About {
        xep: Some(115),
        title: "Entity Capabilities",
        version: "1.6.0",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { config: Arc::clone(&deps.config), known: Mutex::default() }
    }

    fn stream_features(&self, _domain: &str) -> Vec<Element> {
        vec![self.of_host().element()]
    }
}

impl Capabilities {
    /// The capabilities of a served domain; all of them are alike. Computed anew after a reload.
    pub fn of_host(&self) -> Caps {
        let config = self.config.load_full();
        let mut known = self.known.lock();
        match &*known {
            Some((of, caps)) if Arc::ptr_eq(of, &config) => caps.clone(),
            _ => {
                let caps = Caps::describing(NODE, &disco::host_info(&config))
                    .expect("a host has one identity and one form, and each feature once");
                *known = Some((config, caps.clone()));
                caps
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Contact;

    fn with(config: Config) -> Capabilities {
        Capabilities { config: Arc::new(ArcSwap::from_pointee(config)), known: Mutex::default() }
    }

    #[test]
    fn the_hash_is_proved_by_what_service_discovery_answers() {
        let contact = Contact { admin: vec!["xmpp:admin@example.org".into()], ..Contact::default() };
        let config = Config { contact, ..Config::default() };
        assert!(with(config.clone()).of_host().is_proved_by(&disco::host_info(&config)));
        assert!(!with(Config::default()).of_host().is_proved_by(&disco::host_info(&config)));
    }

    #[test]
    fn a_reload_that_changes_the_answer_changes_the_hash() {
        let capabilities = with(Config::default());
        let before = capabilities.of_host();
        assert_eq!(capabilities.of_host(), before);
        let contact = Contact { abuse: vec!["mailto:abuse@example.org".into()], ..Contact::default() };
        let config = Config { contact, ..Config::default() };
        capabilities.config.store(Arc::new(config.clone()));
        assert_ne!(capabilities.of_host(), before);
        assert!(capabilities.of_host().is_proved_by(&disco::host_info(&config)));
    }
}
