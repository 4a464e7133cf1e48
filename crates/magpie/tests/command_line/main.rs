//! The command line as a person or a script meets it: exit codes, texts, JSON documents.

#![allow(clippy::unwrap_used)]

mod accounts;
mod administration;
mod configuration;
mod folder;
mod import;
mod portable;
mod running;
mod session;
mod terms;
