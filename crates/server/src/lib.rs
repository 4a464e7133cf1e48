//! The server: hosts, sessions, routing, XEP modules, administration. Joins `magpie-proto` and `magpie-store`.

pub mod accounts;
pub mod admin;
pub mod auth;
pub mod config;
pub mod listen;
pub mod mailbox;
pub mod metrics;
pub mod modules;
pub mod news;
pub mod pipeline;
pub mod portable;
pub mod promise;
pub mod registry;
pub mod requests;
pub mod retention;
pub mod roster;
pub mod router;
pub mod server;
pub mod services;
pub mod session;
pub mod subscription;
pub mod terms;

pub use server::{Server, StartError};
