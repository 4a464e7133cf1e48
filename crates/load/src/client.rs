//! A client's side of a stream, as values without I/O.

pub mod negotiation;
pub mod sasl;
pub mod splitter;
