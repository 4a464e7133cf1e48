//! The server: hosts, sessions, routing, XEP modules, administration. Joins `magpie-proto` and `magpie-store`.

pub mod accounts;
pub mod admin;
pub mod config;
pub mod listen;
pub mod roster;
pub mod router;
pub mod subscription;
