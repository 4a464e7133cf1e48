//! What a hostile or broken peer can do to a running server: each test is a promise of `docs/limits.md`.
//!
//! The server is the real binary with a configuration whose limits are small, on ports that the system chooses. The client
//! knows no more of XMPP than it needs to misbehave, and shares no code with the server.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod client;
mod flood;
mod malformed;
mod server;
mod silence;
mod slow;
mod states;
mod stop;
