//! RFC 6120 §6: who may log in, and how often one may try.

mod passwords;
mod registrations;
mod throttle;

pub use passwords::CheckedPasswords;
pub use registrations::RegistrationThrottle;
pub use throttle::{LoginThrottle, RetryAfter};
