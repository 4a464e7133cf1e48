//! Input that means harm: whatever comes, an error or a term, in time and memory that its length bounds.

#![allow(clippy::unwrap_used)]

mod generate;

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use generate::Random;
use magpie_etf::{DecodeError, Decoder, Encoder, Limits, Reason, TermKind, decode, encode, json, text};
use proptest::prelude::*;

fn reason(bytes: &[u8]) -> Reason {
    decode(bytes).unwrap_err().reason
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(size: u32, stream: &[u8]) -> Vec<u8> {
    [&[131, 80], &size.to_be_bytes()[..], stream].concat()
}

/// Far more than it takes, and far less than what grows by the square.
fn soon(what: impl FnOnce()) {
    let began = Instant::now();
    what();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_term_that_is_cut_at_any_byte_is_truncated() {
    let mut whole = 0;
    for seed in 0..400 {
        let bytes = generate::term(&mut Random(seed));
        let Ok(tape) = decode(&bytes) else { continue };
        whole += 1;
        assert_eq!(tape.used(), bytes.len(), "seed {seed}");
        for length in 0..bytes.len() {
            let error = decode(&bytes[..length]).unwrap_err();
            assert_eq!(error.reason, Reason::Truncated, "seed {seed} cut at {length}");
            assert!(error.offset <= length);
        }
    }
    assert!(whole > 100, "{whole}");
}

#[test]
fn a_length_that_claims_more_than_there_is_takes_no_memory() {
    for tag in [105, 108, 109, 116] {
        assert_eq!(reason(&[131, tag, 255, 255, 255, 255, 106]), Reason::Truncated);
    }
    assert_eq!(reason(&[131, 111, 255, 255, 255, 255, 0, 1]), Reason::Truncated);
    // Each claims all that follows.
    soon(|| {
        let mut bytes = vec![131];
        for nth in 0..200_000u32 {
            bytes.push(105);
            bytes.extend((1_000_000 - 5 * nth - 5).to_be_bytes());
        }
        assert_eq!(reason(&bytes), Reason::Truncated);
    });
}

#[test]
fn a_hundred_thousand_nested_containers_are_read_printed_compared_and_written() {
    soon(|| {
        let mut tuples = vec![131];
        (0..100_000).for_each(|_| tuples.extend([104, 1]));
        tuples.push(106);
        let mut lists = vec![131];
        (0..100_000).for_each(|_| lists.extend([108, 0, 0, 0, 1]));
        lists.push(106);
        lists.resize(lists.len() + 100_000, 106);
        for bytes in [tuples, lists] {
            let tape = decode(&bytes).unwrap();
            assert_eq!(encode(tape.root()), bytes);
            assert_eq!(tape, tape.clone());
            assert_eq!(text::parse(&tape.root().to_string()).unwrap(), tape);
            assert_eq!(text::parse(&text::pretty(tape.root(), true)).unwrap(), tape);
            assert_eq!(json::from_json(&json::to_json(tape.root(), json::Mode::Lossless)).unwrap(), tape);
            assert!(magpie_etf::serde::from_term::<serde_json::Value>(tape.root()).is_err(), "serde has a limit");
        }
    });
}

/// Takes so many bytes.
struct Room(usize);

impl std::fmt::Write for Room {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

#[test]
fn deep_terms_indent_by_256_columns_at_most_and_can_be_stopped() {
    soon(|| {
        let levels = 10_000;
        let tuples = [&[131][..], &[104, 2, 97, 1].repeat(levels), &[106]].concat();
        let maps = [&[131][..], &[116, 0, 0, 0, 1, 97, 1].repeat(levels), &[106]].concat();
        let tails = [&[131][..], &[108, 0, 0, 0, 1, 97, 1, 104, 1].repeat(levels), &[106]].concat();
        let keys = [&[131][..], &[116, 0, 0, 0, 1].repeat(levels), &[106], &[119, 1, 97].repeat(levels)].concat();
        for bytes in [tuples, maps, tails, keys] {
            let tape = decode(&bytes).unwrap();
            let lines = text::pretty(tape.root(), true);
            assert!(lines.len() < levels * 300, "{}", lines.len());
            assert!(lines.contains(&" ".repeat(256)));
            assert!(!lines.contains(&" ".repeat(257)));
            assert_eq!(text::parse(&lines).unwrap(), tape);
            assert!(text::write_pretty(&mut Room(lines.len()), tape.root(), true).is_ok());
            assert!(text::write_pretty(&mut Room(lines.len() - 1), tape.root(), true).is_err());
        }
    });
}

#[test]
fn what_is_written_does_not_depend_on_the_room_that_is_there() {
    let mut terms: Vec<Vec<u8>> = (0..300).map(|seed| generate::term(&mut Random(seed))).collect();
    let text = vec![200; 70_000];
    for (tag, size) in [(109, 70_000u32), (109, 1_500), (109, 300), (111, 70_000), (77, 70_000), (108, 70_000)] {
        let parts = match tag {
            108 => [&text.iter().flat_map(|byte| [97, *byte]).collect::<Vec<u8>>()[..], &[106]].concat(),
            111 => [&[1], &text[..]].concat(),
            77 => [&[5], &text[..]].concat(),
            _ => text[..size as usize].to_vec(),
        };
        let term = [&[tag], &size.to_be_bytes()[..], &parts].concat();
        terms.push([&[131, 104, 3], &term[..], &term, &[97, 7]].concat());
    }
    terms.push([&[131, 104, 2, 107, 255, 255], &text[..65_535], &[97, 7]].concat());
    for bytes in terms {
        let Ok(tape) = decode(&bytes) else { continue };
        let written = encode(tape.root());
        assert_eq!(decode(&written).unwrap(), tape);
        for capacity in (0..80).chain([written.len() - 1, written.len(), written.len() + 1, 2 * written.len()]) {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.extend_from_slice(b"before");
            magpie_etf::Encoder::default().encode_into(tape.root(), &mut buffer).unwrap();
            assert_eq!(buffer, [b"before", &written[..]].concat());
        }
    }
}

#[test]
fn a_depth_may_be_limited() {
    let mut decoder = Decoder::new(Limits { depth_max: 2, ..Limits::default() });
    assert!(decoder.decode(&[131, 104, 1, 104, 1, 106]).is_ok());
    let error = decoder.decode(&[131, 104, 1, 104, 1, 104, 1, 106]).unwrap_err();
    assert_eq!(error, DecodeError { offset: 5, reason: Reason::TooDeep(2), inflated: false });
}

#[test]
fn a_compressed_term_inflates_to_what_it_says_and_no_further() {
    let zeros = [&[109, 0, 16, 0, 0][..], &vec![0; 1 << 20]].concat();
    let stream = zlib(&zeros);
    let size = zeros.len() as u32;
    let whole = compressed(size, &stream);
    let tape = decode(&whole).unwrap();
    assert_eq!(tape.used(), whole.len());
    assert_eq!(tape.root().as_binary().unwrap().len(), 1 << 20);
    assert_eq!(decode(&[&whole[..], b"more"].concat()).unwrap().used(), whole.len());
    for wrong in [size - 1, size + 1, 7, 0] {
        assert_eq!(reason(&compressed(wrong, &stream)), Reason::Compressed, "{wrong}");
    }
    assert_eq!(reason(&compressed(100 << 20, &zlib(b"j"))), Reason::Compressed);
    assert_eq!(reason(&compressed(u32::MAX, &stream)), Reason::InflatedTooLarge(256 << 20));
    let mut decoder = Decoder::new(Limits { inflated_bytes_max: 1 << 20, ..Limits::default() });
    assert_eq!(decoder.decode(&whole).unwrap_err().reason, Reason::InflatedTooLarge(1 << 20));
    for length in 0..whole.len() {
        assert!(decode(&whole[..length]).is_err(), "cut at {length}");
    }
    // One in another, and a version byte inside.
    assert_eq!(reason(&compressed(whole.len() as u32 - 1, &zlib(&whole[1..]))), Reason::Tag(80));
    let error = decode(&compressed(2, &zlib(&[104, 1]))).map(drop).unwrap_err();
    assert_eq!(error, DecodeError { offset: 0, reason: Reason::Truncated, inflated: true });
}

#[test]
fn keys_that_come_twice_are_found_in_whatever_form_they_come() {
    let twice = |first: &[u8], second: &[u8]| {
        let bytes = [&[131, 116, 0, 0, 0, 2], first, &[106], second, &[106]].concat();
        decode(&bytes).map(drop)
    };
    let same: &[(&[u8], &[u8])] = &[
        (&[97, 1], &[98, 0, 0, 0, 1]),
        (&[97, 1], &[110, 3, 0, 1, 0, 0]),
        (&[100, 0, 1, 0xe4], &[119, 2, 0xc3, 0xa4]),
        (&[107, 0, 2, 1, 2], &[108, 0, 0, 0, 2, 97, 1, 97, 2, 106]),
        (&[108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2], &[107, 0, 2, 1, 2]),
        (&[106], &[107, 0, 0]),
        (&[109, 0, 0, 0, 1, 5], &[77, 0, 0, 0, 1, 8, 5]),
        (&[77, 0, 0, 0, 1, 1, 0x80], &[77, 0, 0, 0, 1, 1, 0xff]),
        (&[70, 0, 0, 0, 0, 0, 0, 0, 0], &[70, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        (&[104, 1, 97, 1], &[105, 0, 0, 0, 1, 97, 1]),
        // The order of a map's pairs does not matter.
        (&[116, 0, 0, 0, 2, 97, 1, 106, 97, 2, 97, 3], &[116, 0, 0, 0, 2, 97, 2, 97, 3, 97, 1, 106]),
    ];
    for (first, second) in same {
        assert_eq!(twice(first, second).unwrap_err().reason, Reason::DuplicateKey, "{first:?} {second:?}");
        assert_eq!(twice(second, first).unwrap_err().reason, Reason::DuplicateKey, "{second:?} {first:?}");
    }
    let different: &[(&[u8], &[u8])] = &[
        (&[97, 1], &[70, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        (&[119, 1, 97], &[109, 0, 0, 0, 1, 97]),
        (&[107, 0, 2, 1, 2], &[108, 0, 0, 0, 1, 97, 1, 97, 2]),
        (&[104, 0], &[116, 0, 0, 0, 0]),
        (&[116, 0, 0, 0, 2, 97, 1, 106, 97, 2, 97, 3], &[116, 0, 0, 0, 2, 97, 1, 97, 3, 97, 2, 106]),
    ];
    for (first, second) in different {
        assert_eq!(twice(first, second), Ok(()), "{first:?} {second:?}");
    }
}

#[test]
fn large_maps_and_maps_as_keys_of_maps_take_no_time_by_the_square() {
    soon(|| {
        let count = 200_000u32;
        let mut bytes = [&[131, 116], &count.to_be_bytes()[..]].concat();
        for key in 0..count {
            bytes.push(98);
            bytes.extend(key.to_be_bytes());
            bytes.push(106);
        }
        assert!(decode(&bytes).is_ok());
        let last = bytes.len() - 2;
        bytes[last - 3..=last].copy_from_slice(&[0, 0, 0, 7]);
        assert_eq!(reason(&bytes), Reason::DuplicateKey);
    });
    soon(|| {
        // Each level's first key is the next level, and it has twenty others.
        let levels = 20_000;
        let mut bytes = vec![131];
        (0..levels).for_each(|_| bytes.extend([116, 0, 0, 0, 21]));
        bytes.push(106);
        for _ in 0..levels {
            bytes.extend([106]);
            (0..20).for_each(|key| bytes.extend([97, key, 106]));
        }
        assert!(decode(&bytes).is_ok());
    });
}

#[test]
fn a_million_atoms_take_what_their_bytes_take() {
    soon(|| {
        let mut bytes = [&[131, 108], &1_000_000u32.to_be_bytes()[..]].concat();
        for nth in 0..1_000_000 {
            let name = format!("atom{nth}");
            bytes.extend([119, name.len() as u8]);
            bytes.extend(name.bytes());
        }
        bytes.push(106);
        let tape = decode(&bytes).unwrap();
        let TermKind::List(elements) = tape.root().kind() else { panic!() };
        assert_eq!(elements.len(), 1_000_000);
    });
}

#[test]
fn huge_numbers_and_deep_text_are_read_in_linear_time() {
    soon(|| {
        let digits = "9".repeat(2_000_000);
        assert!(text::parse(&digits).is_err());
        assert!(json::from_json(&digits).is_err());
        let written = format!("16#{digits}");
        assert_eq!(text::parse(&written).unwrap().root().to_string(), written);
        for part in ["[", "{", "#{", "[1|[", "{\"a\":", "{\"$tuple\":[", "{\"$map\":[["] {
            assert!(text::parse(&part.repeat(300_000)).is_err());
            assert!(json::from_json(&part.repeat(300_000)).is_err());
        }
    });
}

#[test]
fn what_otp_refuses_has_its_reason_and_offset() {
    let cases: &[(&[u8], usize, Reason)] = &[
        (&[], 0, Reason::Truncated),
        (&[131], 1, Reason::Truncated),
        (&[130, 97, 1], 0, Reason::Version(130)),
        (&[131, 104, 2, 97, 1, 131, 97, 1], 5, Reason::Tag(131)),
        (&[131, 117, 0, 0, 0, 0], 1, Reason::OldFun),
        (&[131, 82, 0], 1, Reason::Distribution(82)),
        (&[131, 70, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], 1, Reason::Float),
        (&[131, 119, 2, 0xed, 0xa0], 1, Reason::Utf8),
        (&[131, 77, 0, 0, 0, 1, 9, 1], 1, Reason::Bits),
        (&[131, 77, 0, 0, 0, 0, 8], 1, Reason::Bits),
        (&[131, 103, 119, 1, 97, 0, 0, 0, 1, 0, 0, 0, 1, 4], 1, Reason::Creation),
        (&[131, 90, 0, 6, 119, 1, 97], 1, Reason::ReferenceWords),
        (&[131, 113, 97, 1], 2, Reason::Expected("an atom")),
        (&[131, 113, 119, 1, 97, 119, 1, 97, 98, 0, 0, 1, 0], 8, Reason::Arity),
    ];
    for (bytes, offset, reason) in cases {
        let error = decode(bytes).unwrap_err();
        assert_eq!((error.offset, error.reason), (*offset, *reason), "{bytes:?}");
    }
    let long = [&[131, 118, 2, 0], &"ä".repeat(256).into_bytes()[..]].concat();
    assert_eq!(reason(&long), Reason::AtomTooLong);
    let error = Decoder::default().decode_all(&[131, 97, 1, 9]).unwrap_err();
    assert_eq!(error, DecodeError { offset: 3, reason: Reason::Trailing, inflated: false });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_term_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[131], &bytes[..]].concat());
    }

    #[test]
    fn a_term_is_the_same_after_every_way_round(seed in any::<u64>(), damages in 0..3u8) {
        let mut random = Random(seed);
        let mut bytes = generate::term(&mut random);
        for _ in 0..damages {
            if !bytes.is_empty() {
                generate::damage(&mut random, &mut bytes);
            }
        }
        if let Ok(tape) = decode(&bytes) {
            let again = encode(tape.root());
            prop_assert_eq!(&decode(&again).unwrap(), &tape);
            prop_assert_eq!(&encode(decode(&again).unwrap().root()), &again);
            let text = json::to_json(tape.root(), json::Mode::Lossless);
            prop_assert_eq!(encode(json::from_json(&text).unwrap().root()), again);
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
            let readable = json::to_json(tape.root(), json::Mode::Readable);
            serde_json::from_str::<serde_json::Value>(&readable).unwrap();
        }
    }

    #[test]
    fn any_text_is_a_term_or_an_error(text in "[\\[\\]{}#<>=|,a\"'\\\\$0-9.:/ \\n-]{0,60}") {
        let _ = text::parse(&text);
        let _ = json::from_json(&text);
        let _ = text::consult(&text).count();
    }
}

#[test]
fn a_tape_that_would_be_larger_than_it_may_is_refused_and_so_is_the_text() {
    let nils = 1_000_000usize;
    let size = u32::try_from(nils).unwrap().to_be_bytes();
    let list = [&[131, 108][..], &size, &vec![106; nils + 1]].concat();
    let deep = [&[131][..], &[104, 1].repeat(nils), &[106]].concat();
    for (bytes, tape_bytes) in [(&list, 16 * nils), (&deep, 80 * nils)] {
        let mut decoder = Decoder::new(Limits { tape_bytes_max: 64 << 10, ..Limits::default() });
        let refused = decoder.decode(bytes).err().unwrap();
        assert_eq!(refused.reason, Reason::TapeTooLarge(64 << 10));
        decoder.limit_tape(2 * tape_bytes);
        let tape = decoder.decode(bytes).unwrap();
        let root = tape.root();
        for mode in [json::Mode::Lossless, json::Mode::Readable] {
            let whole = json::to_json(root, mode);
            let mut text = String::new();
            assert!(json::write_json_within(root, mode, whole.len() - 1, &mut text).is_err());
            assert!(text.len() < whole.len() + 16, "{} bytes", text.len());
            assert!(json::from_json_within(&whole, 64 << 10).err().unwrap().is_too_large);
        }
        let line = text::line(root, true);
        assert!(text::parse_within(&line, 64 << 10).err().unwrap().is_too_large);
        assert!(text::parse_within(&line, 100 * nils).is_ok());
        assert!(text::write_pretty_within(&mut String::new(), root, true, line.len() - 1).is_err());
    }
    // A binary of what takes six bytes each in JSON.
    let zeros = [&[131, 109][..], &size, &vec![0; nils]].concat();
    let tape = magpie_etf::decode(&zeros).unwrap();
    let mut text = String::new();
    assert!(json::write_json_within(tape.root(), json::Mode::Lossless, 5 * nils, &mut text).is_err());
    assert_eq!(text.len(), 0);
    assert!(json::write_json_within(tape.root(), json::Mode::Lossless, 6 * nils + 2, &mut text).is_ok());
}

#[test]
fn maps_in_the_keys_of_maps_are_sorted_once_each_and_without_recursion() {
    fn map(first: &[u8], second: &[u8]) -> Vec<u8> {
        [&[116, 0, 0, 0, 2][..], first, &[97, 0], second, &[97, 0]].concat()
    }
    // Each of two maps in each other, up to a difference at the bottom: to sort each for each comparison takes 4^16 steps.
    fn double(levels: u32, number: u8) -> Vec<u8> {
        if levels == 0 {
            return vec![97, number];
        }
        map(&double(levels - 1, number + 1), &double(levels - 1, number))
    }
    let deterministic = Encoder { deterministic: true, ..Encoder::default() };
    let encoded = |term: &[u8]| {
        let bytes = [&[131][..], term].concat();
        let tape = decode(&bytes).unwrap();
        let mut sorted = Vec::new();
        deterministic.encode_into(tape.root(), &mut sorted).unwrap();
        assert!(tape.root() == decode(&sorted).unwrap().root());
        sorted
    };
    let doubled = double(16, 0);
    assert_eq!(encoded(&doubled).len(), doubled.len() + 1);
    // One map in the key of the next.
    let levels = 50_000;
    let small = map(&[97, 1], &[97, 2]);
    let behind = [&[97, 0][..], &small, &[97, 0]].concat();
    let deep = [&[116, 0, 0, 0, 2].repeat(levels)[..], &map(&[97, 3], &[97, 4]), &behind.repeat(levels)].concat();
    assert_eq!(encoded(&deep).len(), deep.len() + 1);
}
