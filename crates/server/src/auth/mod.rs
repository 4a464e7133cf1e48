//! RFC 6120 §6: who may log in, and how often one may try.

mod throttle;

pub use throttle::{LoginThrottle, RetryAfter};
