//! A load generator for XMPP servers, and a side-by-side comparison of them.

pub mod cli;
pub mod client;
pub mod compare;
pub mod crew;
pub mod engine;
pub mod file;
pub mod many;
pub mod measure;
pub mod plan;
pub mod relay;
pub mod report;
pub mod result;
pub mod scenarios;
pub mod terms;
pub mod worker;
