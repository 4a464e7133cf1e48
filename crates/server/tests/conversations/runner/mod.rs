//! The runner of conversations: a client of its own that shares no protocol code with the server.

pub(crate) mod connection;
mod ejabberd;
pub(crate) mod pattern;
pub(crate) mod perform;
mod rooms;
pub(crate) mod sasl;
pub(crate) mod script;
pub(crate) mod servers;
pub(crate) mod xml;
