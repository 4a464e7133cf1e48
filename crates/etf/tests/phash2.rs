//! `erlang:phash2/1` of OTP itself, on terms from seeds.

#![allow(clippy::unwrap_used)]

mod erl;
mod generate;

use erl::Erl;
use generate::Random;
use magpie_etf::{Decoder, Reason, Tape, decode, encode, text};

/// `MAGPIE_ETF_TERMS` may ask for more.
fn terms() -> u64 {
    std::env::var("MAGPIE_ETF_TERMS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

/// False if OTP does not read the term.
fn check(erl: &mut Erl, tape: &Tape<'_>, bytes: &[u8], shown: &str) -> bool {
    let Ok(theirs) = erl.ask("phash2", bytes).try_into() else { return false };
    assert_eq!(tape.root().phash2(), Some(u32::from_be_bytes(theirs)), "{}, {shown}", tape.root());
    true
}

#[test]
fn terms_of_every_form_hash_as_in_otp() {
    let mut erl = Erl::start();
    let mut taken = 0;
    for seed in 0..terms() {
        let bytes = generate::term(&mut Random(seed));
        if let Ok(tape) = decode(&bytes) {
            taken += u64::from(check(&mut erl, &tape, &bytes, &format!("seed {seed}")));
        }
    }
    assert!(taken > terms() / 2, "{taken} taken");
    erl.ask("seed", &13u64.to_be_bytes());
    for nth in 0..terms() / 4 {
        let bytes = erl.parts("make", b"").unwrap().swap_remove(1);
        assert!(check(&mut erl, &decode(&bytes).unwrap(), &bytes, &format!("term {nth}")));
    }
}

#[test]
fn integers_at_the_limits_of_their_forms_and_lists_of_every_shape_hash_as_in_otp() {
    let mut erl = Erl::start();
    let mut texts: Vec<String> = Vec::new();
    for bits in [8u32, 27, 28, 31, 32, 59, 60, 63, 64, 95, 96, 127, 128] {
        for offset in [-1i8, 0, 1] {
            let value = magpie_etf::text::parse(&format!("16#{:X}", 1u128.checked_shl(bits).unwrap_or(0))).unwrap();
            let digits = value.root().to_string();
            let last: i64 = digits[digits.len() - 1..].parse().unwrap();
            let moved = last + i64::from(offset);
            if (0..10).contains(&moved) {
                let moved = format!("{}{moved}", &digits[..digits.len() - 1]);
                texts.extend([moved.clone(), format!("-{moved}"), format!("{{a,{moved},-{moved}}}")]);
            }
        }
    }
    let lists = ["[1,2,3,4,5|a]", "[1,2,3,4|5]", "[1,a,2,3]", "[a|b]", "[[],[],1,2]", "[300,1,2,3]", "[-1]", "{[],[]}"];
    texts.extend(lists.map(str::to_owned));
    texts.extend(
        ["0.0", "-0.0", "{}", "#{}", "#{a=>#{}}", "'\u{e4}\u{3b1}'", "<<>>", "<<0:1>>", "{<<1:7>>,<<>>}"]
            .map(str::to_owned),
    );
    texts.push(format!("\"{}\"", "x".repeat(1001)));
    texts.push(format!("#{{{}}}", (0..100).map(|n| format!("{n}=>[a,{n}]")).collect::<Vec<_>>().join(",")));
    for written in texts {
        let tape = text::parse(&written).unwrap();
        assert!(check(&mut erl, &tape, &encode(tape.root()), &written));
    }
}

#[test]
fn a_term_nested_a_million_deep_hashes_without_recursion() {
    let depth = 1_000_000;
    let mut bytes = vec![131];
    bytes.extend([104, 1].repeat(depth));
    bytes.push(106);
    assert!(decode(&bytes).unwrap().root().phash2().is_some());
}

#[test]
fn a_part_of_a_term_decodes_where_it_begins() {
    let tape = text::parse("{a,[1,2],#{}}").unwrap();
    let bytes = encode(tape.root());
    let mut decoder = Decoder::default();
    let mut at = 3;
    for wanted in ["a", "[1,2]", "#{}"] {
        let part = decoder.decode_part(&bytes, at).unwrap();
        assert_eq!(part.root().to_string(), wanted);
        at = part.used();
    }
    assert_eq!(at, bytes.len());
    for at in [bytes.len(), usize::MAX] {
        assert_eq!(decoder.decode_part(&bytes, at).unwrap_err().reason, Reason::Truncated);
    }
}
