//! Fuzz targets as plain functions: `cargo xtask fuzz` and tests call them on stable, and so does `cargo fuzz` on nightly.

mod grammar;
mod mutate;
mod run;
mod terms;
mod tokenizer;

pub use grammar::Grammar;
pub use mutate::{Language, Mutator};
pub use run::{Fuzzer, TARGETS, Target, smallest};
pub use terms::{bytes, compressed, json, terms, text, ways_round};
pub use tokenizer::tokenizer_against_rxml;
