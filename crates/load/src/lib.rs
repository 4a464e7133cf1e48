//! A load generator for XMPP servers, and a side-by-side comparison of them.

pub mod measure;
pub mod report;
pub mod result;
