//! Runs `cargo fuzz run --fuzz-dir fuzz/libfuzz tokenizer fuzz/corpus/tokenizer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| magpie_fuzz::tokenizer_against_rxml(data));
