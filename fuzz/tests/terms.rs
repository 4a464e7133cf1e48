//! The target for Erlang's terms on stable: a corpus, and bytes from fixed seeds that begin as it does.

#![allow(clippy::unwrap_used)]

use std::panic::catch_unwind;

use magpie_fuzz::terms;

/// Some seconds without optimization. `MAGPIE_FUZZ_TERMS` may ask for more.
const TERMS: u64 = 20_000;

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
fn damaged_terms_are_refused_or_the_same_after_every_way_round() {
    let corpus = corpus();
    let asked = std::env::var("MAGPIE_FUZZ_TERMS").ok().and_then(|count| count.parse().ok());
    for seed in 0..asked.unwrap_or(TERMS) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |end: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % end.max(1)
        };
        let mut bytes = corpus[random(corpus.len())].clone();
        for _ in 0..=random(4) {
            let other = &corpus[random(corpus.len())];
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = random(256) as u8,
                2 => drop(bytes.splice(at..at, other[random(other.len())..].iter().copied())),
                _ => bytes.insert(at, random(256) as u8),
            }
        }
        bytes.truncate(4_000);
        if catch_unwind(|| terms(&bytes)).is_err() {
            panic!("seed {seed}: {bytes:?}");
        }
    }
}
