//! RFC 6120 §4: streams as state machines.

mod client;
mod event;
mod features;

pub use client::ClientStream;
pub use event::{Acceptance, After, Event, Opening, ResumeFailure};
pub use features::{StartTls, StreamLimits};

#[cfg(test)]
mod tests;
