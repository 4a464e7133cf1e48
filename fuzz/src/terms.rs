//! Erlang's terms: whatever is read is the same after every way round.
//!
//! Each target gives a number that tells kinds of outcomes apart, so that inputs with an outcome of a new kind are kept.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::mem::discriminant;

use magpie_etf::{Decoder, Encoder, Limits, MinorVersion, Tape, TermKind, decode, encode, json, text};

/// All the targets below, on the same input.
pub fn terms(data: &[u8]) {
    for target in [bytes, ways_round, compressed, text, json] {
        target(data);
    }
}

/// Reads `data` as bytes of terms, under limits and without.
pub fn bytes(data: &[u8]) -> u64 {
    let mut decoder = Decoder::new(Limits { inflated_bytes_max: 1 << 16, depth_max: 50, ..Limits::default() });
    let limited = decoder.decode(data).map(|tape| tape.used());
    let whole = Decoder::default().decode_all(data).is_ok();
    match decode(data) {
        Ok(tape) => {
            assert!(tape.used() <= data.len());
            assert_eq!(whole, tape.used() == data.len());
            assert!(limited.is_err() || limited == Ok(tape.used()));
            kinds(&tape)
        }
        Err(error) => {
            assert!(limited.is_err() && !whole);
            assert!(error.inflated || error.offset <= data.len());
            kind_of(&error.to_string())
        }
    }
}

/// Decodes, encodes in every form, and decodes again.
pub fn ways_round(data: &[u8]) -> u64 {
    decode(data).map_or(0, |tape| all_ways(&tape))
}

/// Puts `data` in a zlib stream, and reads it as what it claims to be.
pub fn compressed(data: &[u8]) -> u64 {
    let raw = bytes(&[&[131, 80][..], data].concat());
    let Some((&claim, term)) = data.split_first() else { return raw };
    let mut flat = Vec::new();
    let encoder = Encoder { compressed: Some(claim % 10), ..Encoder::default() };
    if let Ok(tape) = decode(&[&[131][..], term].concat()) {
        encoder.encode_into(tape.root(), &mut flat).expect("it is smaller than 4 GiB");
        assert_eq!(decode(&flat).expect("what was compressed is read"), tape);
    }
    // A claim that is wrong by as much as the first byte says, and a stream with as many bytes cut off.
    let mut wrong = flat.clone();
    if let Some(size) = wrong.get_mut(5).filter(|_| flat.get(1) == Some(&80)) {
        *size = size.wrapping_add(claim);
        assert!(claim == 0 || decode(&wrong).is_err());
        assert!(decode(&flat[..flat.len().saturating_sub(1 + usize::from(claim))]).is_err());
    }
    raw.wrapping_add(u64::from(flat.get(1).copied().unwrap_or(0)))
}

/// Reads `data` as Erlang's text.
pub fn text(data: &[u8]) -> u64 {
    let Ok(written) = str::from_utf8(data) else { return 0 };
    let mut outcome = 0u64;
    for term in text::consult(written) {
        outcome = outcome.rotate_left(7);
        match term {
            Ok(tape) => {
                outcome ^= all_ways(&tape);
                for printed in
                    [tape.root().to_string(), text::line(tape.root(), true), text::pretty(tape.root(), false)]
                {
                    let again = text::parse(&printed).expect("what was read as text is printed as text");
                    assert_eq!(again, tape, "{printed}");
                }
            }
            Err(error) => {
                assert!(written.is_char_boundary(error.offset), "byte {}", error.offset);
                outcome ^= kind_of(&error.reason);
            }
        }
    }
    outcome
}

/// Reads `data` as JSON.
pub fn json(data: &[u8]) -> u64 {
    let Ok(written) = str::from_utf8(data) else { return 0 };
    match json::from_json(written) {
        Ok(tape) => all_ways(&tape),
        Err(error) => kind_of(&error.to_string()),
    }
}

fn all_ways(tape: &Tape<'_>) -> u64 {
    let bytes = encode(tape.root());
    let again = decode(&bytes).expect("what was written is read");
    assert_eq!(again.used(), bytes.len());
    assert_eq!(again, *tape);
    assert_eq!(encode(again.root()), bytes);
    let lossless = json::to_json(tape.root(), json::Mode::Lossless);
    let back = json::from_json(&lossless).expect("what was written as JSON is read");
    assert_eq!(encode(back.root()), bytes, "{lossless}");
    let _ = json::to_json(tape.root(), json::Mode::Readable);
    let mut sorted = Vec::new();
    for minor_version in [MinorVersion::Zero, MinorVersion::One, MinorVersion::Two] {
        sorted.clear();
        let encoder = Encoder { minor_version, deterministic: true, ..Encoder::default() };
        encoder.encode_into(tape.root(), &mut sorted).expect("nothing is compressed");
        let again = decode(&sorted).expect("what was sorted is read");
        assert_eq!(again, *tape);
        assert_eq!(encode(again.into_owned().root()).len(), bytes.len());
    }
    let line = text::line(tape.root(), true);
    let lines = text::pretty(tape.root(), true);
    let is_flat = |text: &str| text.chars().filter(|c| !matches!(c, ' ' | '\n')).collect::<String>();
    assert_eq!(is_flat(&lines), is_flat(&line));
    kinds(tape)
}

/// Which kinds of terms lie in which.
fn kinds(tape: &Tape<'_>) -> u64 {
    let mut found = BTreeSet::new();
    let mut rest = vec![(0, tape.root())];
    while let Some((outer, term)) = rest.pop() {
        let kind = term.kind();
        let hash = hash(&(outer, discriminant(&kind)));
        found.insert(hash);
        let inner = hash % 64;
        match kind {
            TermKind::Tuple(elements) | TermKind::List(elements) => rest.extend(elements.take(20).map(|e| (inner, e))),
            TermKind::ImproperList(elements, tail) => {
                rest.extend(elements.take(20).map(|e| (inner, e)));
                rest.push((inner, tail));
            }
            TermKind::Map(pairs) => rest.extend(pairs.take(20).flat_map(|(key, value)| [(inner, key), (63, value)])),
            TermKind::Function(function) => rest.extend(function.free.take(20).map(|e| (inner, e))),
            _ => {}
        }
        if found.len() > 6 {
            break;
        }
    }
    hash(&found)
}

/// An error without its numbers.
fn kind_of(error: &str) -> u64 {
    hash(&error.replace(|c: char| c.is_ascii_digit(), ""))
}

fn hash(what: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
