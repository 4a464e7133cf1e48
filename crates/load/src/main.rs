//! `magpie-load`: the command line.

fn main() {}
