//! Reading and writing terms side by side: Magpie, OTP (timed inside `erl`), eetf, erltf.
//!
//! Prints a table; times are the best of some rounds. Needs Debian's erlang-base.

#![allow(clippy::unwrap_used)]

#[path = "../tests/erl/mod.rs"]
mod erl;

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use erl::Erl;
use magpie_etf::{Builder, Decoder, Encoder, MinorVersion, Tape, decode};

const ROUNDS: u32 = 15;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut erl = Erl::start();
    println!(
        "{:<15} {:>7}  {:>11} {:>11} {:>11} {:>11} {:>11}",
        "", "bytes", "Magpie", "OTP", "eetf", "erltf", "memcpy"
    );
    for (name, builder) in documents() {
        if !asked.is_empty() && !asked.iter().any(|word| word == name) {
            continue;
        }
        let built = builder.finish().unwrap();
        // The bytes are OTP's own.
        let bytes = erl.parts("read", &magpie_etf::encode(built.root())).unwrap().swap_remove(5);
        let times = (20_000_000 / bytes.len().max(500)).clamp(5, 20_000) as u32;
        let asked = [&ROUNDS.to_be_bytes(), &times.to_be_bytes(), &bytes[..]].concat();
        let answer = erl.ask("time", &asked);
        let otp = |at: usize| u64::from_be_bytes(answer[at..at + 8].try_into().unwrap()) as f64;
        Document { name, built: &built, bytes: &bytes, times, otp_read: otp(0), otp_write: otp(8) }.rows();
    }
}

struct Document<'a> {
    name: &'a str,
    built: &'a Tape<'a>,
    bytes: &'a [u8],
    times: u32,
    otp_read: f64,
    otp_write: f64,
}

impl Document<'_> {
    fn rows(&self) {
        let Self { name, bytes, times, .. } = *self;
        let mut decoder = Decoder::default();
        let [ours, eetf, erltf] = best([
            (times, &mut || {
                let tape = decoder.decode(black_box(bytes)).unwrap();
                black_box(&tape);
                decoder.reuse(tape);
            }),
            (times / 4, &mut || drop(black_box(eetf::Term::decode(black_box(bytes)).unwrap()))),
            (times / 4, &mut || drop(black_box(erltf::decode(black_box(bytes)).unwrap()))),
        ]);
        row(&format!("{name} read"), bytes.len(), ours, &[Some(self.otp_read), Some(eetf), Some(erltf), None]);

        let tape = decode(bytes).unwrap();
        let eetf_term = eetf::Term::decode(bytes).unwrap();
        let erltf_term = erltf::decode(bytes).unwrap();
        let encoder = Encoder { minor_version: MinorVersion::One, ..Encoder::default() };
        let into = |tape: &Tape<'_>, written: &mut Vec<u8>| {
            encoder.encode_into(black_box(tape.root()), written).unwrap();
            black_box(&written);
        };
        let eetf_into = |written: &mut Vec<u8>| {
            black_box(&eetf_term).encode(&mut *written).unwrap();
            black_box(&written);
        };
        let erltf_into = |written: &mut Vec<u8>| {
            erltf::encoder::encode_to_writer(black_box(&erltf_term), written).unwrap();
            black_box(&written);
        };
        let copy_into = |written: &mut Vec<u8>| {
            written.extend_from_slice(black_box(bytes));
            black_box(&written);
        };

        // Each into memory of its own.
        let [ours, built, eetf, erltf, copy] = best([
            (times, &mut || into(&tape, &mut Vec::new())),
            (times, &mut || into(self.built, &mut Vec::new())),
            (times, &mut || eetf_into(&mut Vec::new())),
            (times, &mut || drop(black_box(erltf::encode(black_box(&erltf_term)).unwrap()))),
            (times, &mut || copy_into(&mut Vec::new())),
        ]);
        let others = [Some(self.otp_write), Some(eetf), Some(erltf), Some(copy)];
        row(&format!("{name} write"), bytes.len(), ours, &others);
        row("  built by us", bytes.len(), built, &others);

        // All into the same memory.
        let buffer = &RefCell::new(Vec::with_capacity(2 * bytes.len()));
        let again = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut written = buffer.borrow_mut();
            written.clear();
            write(&mut written);
        };
        let [ours, built, eetf, erltf, copy] = best([
            (times, &mut || again(&|written| into(&tape, written))),
            (times, &mut || again(&|written| into(self.built, written))),
            (times, &mut || again(&eetf_into)),
            (times, &mut || again(&erltf_into)),
            (times, &mut || again(&copy_into)),
        ]);
        let others = [None, Some(eetf), Some(erltf), Some(copy)];
        row("  same buffer", bytes.len(), ours, &others);
        row("  built by us", bytes.len(), built, &others);
    }
}

fn row(name: &str, bytes: usize, ours: f64, others: &[Option<f64>]) {
    print!("{name:<15} {bytes:>7}  {:>8.2} µs", ours / 1000.0);
    for other in others {
        match other {
            Some(other) => print!(" {:>8.2} µs", other / 1000.0),
            None => print!(" {:>11}", "-"),
        }
    }
    let ratio = |other: &Option<f64>| other.map_or("    -".to_owned(), |other| format!("{:>5.2}", other / ours));
    println!("   times {}", others.iter().map(ratio).collect::<Vec<_>>().join(" "));
}

/// What is run, and how often in a round.
type Run<'a> = (u32, &'a mut dyn FnMut());

/// Nanoseconds for one of each. They take turns, so that what else the machine does is the same for all.
fn best<const N: usize>(mut runs: [Run<'_>; N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for ((times, run), best) in runs.iter_mut().zip(&mut best) {
            let times = (*times).max(1);
            let began = Instant::now();
            (0..times).for_each(|_| run());
            *best = best.min(began.elapsed().as_nanos() as f64 / f64::from(times));
        }
    }
    best
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
