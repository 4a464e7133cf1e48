//! Fuzz targets as plain functions: `cargo fuzz` calls them, and so do tests on stable.

mod grammar;
mod tokenizer;

pub use grammar::Grammar;
pub use tokenizer::tokenizer_against_rxml;
