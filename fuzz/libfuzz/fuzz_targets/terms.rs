//! Runs `cargo fuzz run --fuzz-dir fuzz/libfuzz terms fuzz/corpus/terms`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| magpie_fuzz::terms(data));
