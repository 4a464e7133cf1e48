//! Fuzz targets as plain functions: `cargo fuzz` calls them, and so do tests on stable.

mod grammar;
mod terms;
mod tokenizer;

pub use grammar::Grammar;
pub use terms::terms;
pub use tokenizer::tokenizer_against_rxml;
