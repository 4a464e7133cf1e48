//! The targets for Erlang's terms on stable: a corpus, and inputs from fixed seeds that begin as it does.

#![allow(clippy::unwrap_used)]

use magpie_fuzz::{Fuzzer, Language, TARGETS, Target, smallest, terms};

/// Some seconds without optimization, for each target. `MAGPIE_FUZZ_TERMS` may ask for more.
const TERMS: u64 = 3_000;

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/terms");
    let files = std::fs::read_dir(folder).unwrap();
    let mut corpus: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    corpus.sort();
    corpus
}

#[test]
fn terms_of_the_corpus_are_the_same_after_every_way_round() {
    let corpus = corpus();
    assert!(corpus.len() >= 8, "the corpus is there");
    corpus.iter().for_each(|bytes| terms(bytes));
}

#[test]
fn every_target_takes_what_is_made_from_seeds_and_finds_many_outcomes() {
    let asked = std::env::var("MAGPIE_FUZZ_TERMS").ok().and_then(|count| count.parse().ok());
    for target in TARGETS.iter().filter(|target| target.name != "tokenizer") {
        let mut fuzzer = Fuzzer::new(*target, corpus(), 1);
        for nth in 0..asked.unwrap_or(TERMS) {
            let input = fuzzer.input();
            assert!(fuzzer.run(input.clone()), "{} panics on input {nth}: {input:?}", target.name);
        }
        assert!(fuzzer.outcomes() > 20, "{} has {} kinds of outcomes", target.name, fuzzer.outcomes());
    }
}

#[test]
fn an_input_that_panics_is_made_small() {
    fn run(data: &[u8]) -> u64 {
        assert!(!data.windows(2).any(|two| two == b"ab"));
        0
    }
    let target = Target { name: "ab", language: Language::Json, run };
    assert_eq!(smallest(target, [&[0; 100][..], b"ab", &[1; 333]].concat()), b"ab");
}
