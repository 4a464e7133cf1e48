//! RFC 6120 §7: Resource Binding
//!
//! Binding belongs to the stream's negotiation. What is left for a bound session is to be told that one stream has one
//! resource, and to answer the step that RFC 3921 demanded after binding, which does nothing.

use std::sync::Arc;

use magpie_proto::{StanzaCondition, StanzaError, ns};

use super::{About, Module};
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::Deps;

/// The module.
pub struct Bind;

impl Module for Bind {
    const ABOUT: &'static [About] = &[];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        for target in [To::Host, To::OwnAccount] {
            requests.own_now(target, Verb::Set, ("bind", ns::BIND), self, Self::refuse);
            requests.own_now(target, Verb::Set, ("session", ns::SESSION), self, Self::agree);
        }
    }
}

impl Bind {
    fn refuse(&self, _query: &Query<'_>) -> Reply {
        Err(StanzaError::new(StanzaCondition::NotAllowed, "a stream has one resource"))
    }

    fn agree(&self, _query: &Query<'_>) -> Reply {
        Ok(None)
    }
}
