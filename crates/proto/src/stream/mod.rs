//! RFC 6120 §4: streams as state machines.

mod client;
mod features;

pub use client::{Acceptance, ClientStream, Event, Opening, ResumeFailure};
pub use features::{StartTls, StreamLimits};

#[cfg(test)]
mod tests;
