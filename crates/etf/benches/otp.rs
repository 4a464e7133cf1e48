//! Reading and writing terms side by side: Magpie, OTP (timed inside `erl`), eetf, erltf.
//!
//! Prints a table; times are the best of some rounds. Needs Debian's erlang-base.

#![allow(clippy::unwrap_used)]

#[path = "../tests/erl/mod.rs"]
mod erl;

use std::hint::black_box;
use std::time::Instant;

use erl::Erl;
use magpie_etf::{Builder, Decoder, Encoder, MinorVersion, decode};

const ROUNDS: u32 = 15;

fn main() {
    let mut erl = Erl::start();
    println!("{:<10} {:>8}  {:>11} {:>11} {:>11} {:>11}   times OTP", "", "bytes", "Magpie", "OTP", "eetf", "erltf");
    for (name, builder) in documents() {
        // The bytes are OTP's own.
        let bytes = erl.parts("read", &magpie_etf::encode(builder.finish().unwrap().root())).unwrap().swap_remove(5);
        let times = (20_000_000 / bytes.len().max(500)).clamp(5, 20_000) as u32;
        let asked = [&ROUNDS.to_be_bytes(), &times.to_be_bytes(), &bytes[..]].concat();
        let answer = erl.ask("time", &asked);
        let otp = |at: usize| u64::from_be_bytes(answer[at..at + 8].try_into().unwrap()) as f64;

        let mut decoder = Decoder::default();
        let ours = best(times, || {
            let tape = decoder.decode(black_box(&bytes)).unwrap();
            black_box(&tape);
            decoder.reuse(tape);
        });
        let eetf = best(times / 4, || drop(black_box(eetf::Term::decode(black_box(&bytes[..])).unwrap())));
        let erltf = best(times / 4, || drop(black_box(erltf::decode(black_box(&bytes)).unwrap())));
        row(&format!("{name} read"), bytes.len(), ours, otp(0), eetf, erltf);

        let tape = decode(&bytes).unwrap();
        let encoder = Encoder { minor_version: MinorVersion::One, ..Encoder::default() };
        let ours = best(times, || {
            let mut written = Vec::new();
            encoder.encode_into(black_box(tape.root()), &mut written).unwrap();
            black_box(&written);
        });
        let term = eetf::Term::decode(&bytes[..]).unwrap();
        let eetf = best(times / 4, || {
            let mut written = Vec::new();
            black_box(&term).encode(&mut written).unwrap();
            black_box(&written);
        });
        let term = erltf::decode(&bytes).unwrap();
        let erltf = best(times / 4, || drop(black_box(erltf::encode(black_box(&term)).unwrap())));
        row(&format!("{name} write"), bytes.len(), ours, otp(8), eetf, erltf);
    }
}

fn row(name: &str, bytes: usize, ours: f64, otp: f64, eetf: f64, erltf: f64) {
    let shown = |nanoseconds: f64| format!("{:.2} µs", nanoseconds / 1000.0);
    println!(
        "{name:<13} {bytes:>8}  {:>11} {:>11} {:>11} {:>11}   {:.2} (eetf {:.1}, erltf {:.1})",
        shown(ours),
        shown(otp),
        shown(eetf),
        shown(erltf),
        otp / ours,
        eetf / ours,
        erltf / ours
    );
}

/// Nanoseconds for one.
fn best(times: u32, mut run: impl FnMut()) -> f64 {
    let times = times.max(1);
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        (0..times).for_each(|_| run());
        began.elapsed().as_nanos() as f64 / f64::from(times)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn documents() -> Vec<(&'static str, Builder)> {
    vec![("record", record()), ("binaries", binaries()), ("tuples", tuples()), ("map", map())]
}

/// About 320 bytes: a record with a map in it.
fn record() -> Builder {
    let mut builder = Builder::new();
    builder.begin_tuple();
    builder.atom("user").unwrap();
    builder.integer(1_234_567);
    builder.binary(b"juliet@capulet.example");
    builder.begin_map();
    for (name, value) in [
        ("city", "Verona"),
        ("country", "Italy"),
        ("house", "Capulet"),
        ("language", "it"),
        ("street", "Via Cappello 23"),
    ] {
        builder.atom(name).unwrap();
        builder.binary(value.as_bytes());
    }
    builder.end().unwrap();
    builder.float(0.75).unwrap();
    builder.begin_list();
    ["available", "subscribed", "verified"].iter().for_each(|name| builder.atom(name).unwrap());
    builder.end().unwrap();
    builder.integer(1_764_000_000_000);
    builder.bytes(b"a string of characters");
    builder.atom("undefined").unwrap();
    builder.begin_tuple();
    [2026, 11, 29, 13, 45, 10].iter().for_each(|number| builder.integer(*number));
    builder.end().unwrap();
    builder.end().unwrap();
    builder
}

/// 64 KiB: a map of 64 binaries.
fn binaries() -> Builder {
    let mut builder = Builder::new();
    builder.begin_map();
    for nth in 0..64u32 {
        builder.binary(format!("part-{nth:04}").as_bytes());
        builder.binary(&vec![nth as u8; 1000]);
    }
    builder.end().unwrap();
    builder
}

/// 1 MB: a list of tuples.
fn tuples() -> Builder {
    let mut builder = Builder::new();
    builder.begin_list();
    for nth in 0..20_000i64 {
        builder.begin_tuple();
        builder.atom("entry").unwrap();
        builder.integer(nth * 7);
        builder.binary(format!("user{nth}").as_bytes());
        builder.float(nth as f64 / 8.0).unwrap();
        builder.atom(if nth % 2 == 0 { "true" } else { "false" }).unwrap();
        builder.end().unwrap();
    }
    builder.end().unwrap();
    builder
}

/// 1 MB: a map of 40 000 keys.
fn map() -> Builder {
    let mut builder = Builder::new();
    builder.begin_map();
    for nth in 0..40_000i64 {
        builder.binary(format!("session:{nth}").as_bytes());
        builder.integer(nth * 1_000);
    }
    builder.end().unwrap();
    builder
}
