//! The fuzz targets on stable: a corpus, and streams from fixed seeds.

#![allow(clippy::unwrap_used)]

use std::panic::catch_unwind;

use magpie_fuzz::{Grammar, tokenizer_against_rxml};
use magpie_proto::xml::{Token, Tokenizer, XmlLimits};

/// About ten seconds without optimization. `MAGPIE_FUZZ_STREAMS` may ask for more.
const STREAMS: u64 = 20_000;

#[test]
fn the_tokenizer_agrees_with_rxml_on_the_corpus() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/tokenizer");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        tokenizer_against_rxml(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 10, "the corpus is there");
}

#[test]
fn the_tokenizer_agrees_with_rxml_on_streams_from_seeds() {
    let asked = std::env::var("MAGPIE_FUZZ_STREAMS").ok().and_then(|count| count.parse().ok());
    for seed in 0..asked.unwrap_or(STREAMS) {
        let stream = Grammar::new(seed).stream();
        if catch_unwind(|| tokenizer_against_rxml(&stream)).is_err() {
            panic!("seed {seed}: {:?}", String::from_utf8_lossy(&stream));
        }
    }
}

/// Or else the test above would test little.
#[test]
fn many_streams_from_seeds_are_taken_and_many_refused() {
    let (mut stanzas, mut refused) = (0, 0);
    for seed in 0..2_000 {
        let stream = Grammar::new(seed).stream();
        let mut rest = &stream[..];
        let mut tokenizer = Tokenizer::new(XmlLimits::default());
        loop {
            match tokenizer.next(&mut rest) {
                Ok(Some(Token::Stanza(_))) => stanzas += 1,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!(stanzas > 800, "{stanzas} stanzas");
    assert!(refused > 500 && refused < 1_700, "{refused} refused");
}
