//! Erlang's terms for programs in other languages: read where an Erlang system keeps them, and turned into JSON and back.
//!
//! `docs/terms-service.md` has the routes and the rules. This crate knows Erlang's terms and the web, and nothing of XMPP.

pub mod bert;
pub mod config;
mod convert;
mod counters;
pub mod functions;
pub mod http;
mod idle;
mod problem;
mod select;
pub mod service;
pub mod sources;
mod tapes;
mod tls;
mod turns;

pub use counters::Family;
pub use service::{Misconfigured, Service};
