//! Counters.

use std::sync::atomic::{AtomicUsize, Ordering};

use magpie_proto::Kind;

/// Counters.
#[derive(Debug, Default)]
pub struct Metrics {
    negotiating: AtomicUsize,
}

#[allow(missing_docs)]
impl Metrics {
    pub fn negotiating(self: &std::sync::Arc<Self>) -> NegotiatingGuard {
        self.negotiating.fetch_add(1, Ordering::Relaxed);
        NegotiatingGuard(std::sync::Arc::clone(self))
    }
    pub fn negotiating_now(&self) -> usize {
        self.negotiating.load(Ordering::Relaxed)
    }
    pub fn stanza_in(&self, _kind: Kind) {}
    pub fn stanza_out(&self, _kind: Kind) {}
    pub fn routed_offline(&self) {}
    pub fn routed_refused(&self) {}
    pub fn routed_delivered(&self) {}
    pub fn stream_error(&self, _condition: &'static str) {}
    pub fn authentication(&self, _mechanism: &str, _success: bool) {}
    pub fn session_began(&self) {}
    pub fn session_ended(&self) {}
}

/// One.
pub struct NegotiatingGuard(std::sync::Arc<Metrics>);

impl Drop for NegotiatingGuard {
    fn drop(&mut self) {
        self.0.negotiating.fetch_sub(1, Ordering::Relaxed);
    }
}
