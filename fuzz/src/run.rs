//! Runs a target on inputs without end, and keeps those whose outcome is of a new kind.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::mutate::{Language, Mutator};

/// A target: what it is called, what it reads, and what it does, which gives a number for the kind of its outcome.
#[derive(Clone, Copy)]
pub struct Target {
    /// For the command line.
    pub name: &'static str,
    /// What its input is.
    pub language: Language,
    /// Panics where something is wrong.
    pub run: fn(&[u8]) -> u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "bytes", language: Language::Bytes, run: crate::terms::bytes },
    Target { name: "ways-round", language: Language::Bytes, run: crate::terms::ways_round },
    Target { name: "compressed", language: Language::Bare, run: crate::terms::compressed },
    Target { name: "text", language: Language::Erlang, run: crate::terms::text },
    Target { name: "json", language: Language::Json, run: crate::terms::json },
    Target { name: "tokenizer", language: Language::Xml, run: tokenizer },
];

fn tokenizer(data: &[u8]) -> u64 {
    crate::tokenizer_against_rxml(data);
    0
}

/// How many inputs are kept; a new one takes the place of any.
const KEPT_MAX: usize = 4_000;

/// A target with what has been found.
pub struct Fuzzer {
    target: Target,
    mutator: Mutator,
    kept: Vec<Vec<u8>>,
    outcomes: HashSet<u64>,
}

impl Fuzzer {
    /// Begins with a corpus. The same seed makes the same inputs.
    pub fn new(target: Target, corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        let mutator = Mutator::new(target.language, seed);
        Self { target, mutator, kept: corpus, outcomes: HashSet::new() }
    }

    /// How many kinds of outcomes there were.
    pub fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = match self.kept.len() {
            0 => self.mutator.fresh(),
            _ if self.mutator.below(4) == 0 => self.mutator.fresh(),
            count => self.kept[self.mutator.below(count)].clone(),
        };
        for _ in 0..self.mutator.below(5) {
            let other = self.mutator.below(self.kept.len() + 1);
            let other = self.kept.get(other).map_or(&[][..], |other| other);
            self.mutator.change(&mut input, other);
        }
        input
    }

    /// Runs the target; gives whether it panicked not.
    pub fn run(&mut self, input: Vec<u8>) -> bool {
        let Some(outcome) = outcome(self.target, &input) else { return false };
        if self.outcomes.insert(outcome) {
            if self.kept.len() < KEPT_MAX {
                self.kept.push(input);
            } else {
                let at = self.mutator.below(KEPT_MAX);
                self.kept[at] = input;
            }
        }
        true
    }
}

fn outcome(target: Target, input: &[u8]) -> Option<u64> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).ok()
}

/// The input without what it need not have to panic.
pub fn smallest(target: Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + length).min(input.len()));
            if outcome(target, &shorter).is_none() { input = shorter } else { at += length }
        }
        length /= 2;
    }
    input
}
