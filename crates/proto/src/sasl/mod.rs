//! RFC 6120 §6: SASL as a server offers it: SCRAM (RFC 5802, 7677) with channel binding, PLAIN, ANONYMOUS.
//!
//! [`Exchange`] is a value: it asks for keys and for slow password checks, and is told the answers.

mod credentials;
mod exchange;
mod failure;

pub use credentials::{Credentials, Hash, PasswordError, ScramKeys, ScramPolicy};
pub use exchange::{ChannelBindings, Exchange, Identity, Mechanism, Offer, Step};
pub use failure::SaslFailure;
