//! RFC 6120 §6: SASL as a server offers it: SCRAM (RFC 5802, 7677) with channel binding, PLAIN, ANONYMOUS.
//!
//! [`Exchange`] is a value: it asks for keys and for slow password checks, and is told the answers.
//!
//! Passwords are prepared by OpaqueString (RFC 8265 §4), which normalizes with NFC; RFC 5802 names its
//! predecessor SASLprep, which normalizes with NFKC. The two differ only for a password with
//! compatibility characters (`ﬁ`, `①`, half-width kana): a client that still prepares it with SASLprep
//! cannot log in with SCRAM, but can with PLAIN, where the server prepares.

mod credentials;
mod exchange;
mod failure;
mod ht;
mod offer;
mod plain;
pub mod sasl2;
mod scram;
pub mod upgrade;
pub mod xml;

#[cfg(test)]
mod interop;

pub use credentials::{Credentials, Hash, ITERATIONS_MIN, PasswordError, ScramKeys, ScramPolicy};
pub use exchange::{Exchange, Identity, Step};
pub use failure::SaslFailure;
pub use ht::{TokenMechanism, TokenProof};
pub use offer::{ChannelBindings, Mechanism, Offer};
pub use upgrade::UpgradeTask;
