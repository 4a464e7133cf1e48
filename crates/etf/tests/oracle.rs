//! What Erlang/OTP itself reads and writes, on terms from seeds.

#![allow(clippy::unwrap_used)]

mod erl;
mod generate;

use erl::Erl;
use generate::Random;
use magpie_etf::{DecodeError, Decoder, Encoder, MinorVersion, Reason, Tape, Term, TermKind, json, text};

/// `MAGPIE_ETF_TERMS` may ask for more.
fn terms() -> u64 {
    std::env::var("MAGPIE_ETF_TERMS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

fn encoded(tape: &Tape<'_>, encoder: Encoder) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.encode_into(tape.root(), &mut bytes).unwrap();
    bytes
}

const MINORS: [MinorVersion; 3] = [MinorVersion::Zero, MinorVersion::One, MinorVersion::Two];

/// What `written` of `oracle.erl` gives.
fn check_written(tape: &Tape<'_>, theirs: &[Vec<u8>], shown: &str) {
    for (at, minor_version) in MINORS.into_iter().enumerate() {
        let ours = encoded(tape, Encoder { minor_version, deterministic: true, ..Encoder::default() });
        assert_eq!(ours, theirs[at], "minor version {at} of {shown}, {}", tape.root());
    }
    let json = json::to_json(tape.root(), json::Mode::Lossless);
    let back = json::from_json(&json).unwrap_or_else(|error| panic!("{error} in {json}, {shown}"));
    let deterministic = Encoder { deterministic: true, ..Encoder::default() };
    assert_eq!(encoded(&back, deterministic), theirs[2], "{json}, {shown}");
    json::to_json(tape.root(), json::Mode::Readable);
    // Compression takes most of the time.
    let is_packed = theirs[2].len().is_multiple_of(4);
    for (level, theirs) in [1, 6, 9].into_iter().zip(&theirs[6..]).filter(|_| is_packed) {
        let encoder = Encoder { compressed: Some(level), deterministic: true, ..Encoder::default() };
        let ours = encoded(tape, encoder);
        let inflated = Decoder::default().decode_all(theirs).unwrap();
        assert_eq!(inflated, *tape, "{shown}");
        assert_eq!(Decoder::default().decode_all(&ours).unwrap(), *tape, "{shown}");
    }
}

#[test]
fn what_we_read_otp_reads_as_the_same_and_what_we_refuse_it_refuses() {
    let mut erl = Erl::start();
    let mut decoder = Decoder::default();
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..terms() {
        let mut random = Random(seed);
        let mut bytes = generate::term(&mut random);
        for _ in 0..random.below(3) {
            if !bytes.is_empty() {
                generate::damage(&mut random, &mut bytes);
            }
        }
        let shown = format!("seed {seed}: {bytes:?}");
        match (decoder.decode(&bytes), erl.parts("read", &bytes)) {
            (Ok(tape), Some(theirs)) => {
                taken += 1;
                assert_eq!(tape.used() as u32, u32::from_be_bytes(theirs[0][..].try_into().unwrap()), "{shown}");
                check_written(&tape, &theirs[1..], &shown);
                decoder.reuse(tape);
            }
            (Err(_), None) => refused += 1,
            // OTP 26 and later have it.
            (Ok(_), None) if bytes[1] == 121 => {}
            (Ok(tape), None) => panic!("we take {} as {}", shown, tape.root()),
            // Without a word OTP takes what lies behind for one, and may like it.
            (Err(DecodeError { reason: Reason::ReferenceWords, .. }), Some(_)) => {}
            (Err(error), Some(_)) => panic!("we refuse: {error}, {shown}"),
        }
    }
    assert!(taken > terms() / 4 && refused > terms() / 4, "{taken} taken, {refused} refused");
}

#[test]
fn what_otp_writes_we_read_and_write_as_the_same_bytes() {
    let mut erl = Erl::start();
    let mut decoder = Decoder::default();
    erl.ask("seed", &7u64.to_be_bytes());
    for nth in 0..terms() {
        let theirs = erl.parts("make", b"").unwrap();
        let shown = format!("term {nth}");
        for (at, minor_version) in MINORS.into_iter().enumerate() {
            let bytes = &theirs[4 + at];
            let tape = decoder.decode_all(bytes).unwrap();
            let ours = encoded(&tape, Encoder { minor_version, ..Encoder::default() });
            assert_eq!(ours, *bytes, "minor version {at} of {shown}, {}", tape.root());
            decoder.reuse(tape);
        }
        let tape = decoder.decode_all(&theirs[1]).unwrap();
        check_written(&tape, &theirs[1..], &shown);
    }
}

#[test]
fn terms_print_as_in_otp_and_what_is_printed_is_read_back() {
    let mut erl = Erl::start();
    let (mut compared, mut read) = (0, 0);
    erl.ask("seed", &11u64.to_be_bytes());
    for _ in 0..terms() / 4 {
        let bytes = erl.parts("make", b"").unwrap().swap_remove(6);
        let tape = magpie_etf::decode(&bytes).unwrap();
        let theirs = erl.parts("text", &bytes).unwrap();
        let ours = [
            text::plain(tape.root(), false),
            text::plain(tape.root(), true),
            text::line(tape.root(), false),
            text::line(tape.root(), true),
            text::pretty(tape.root(), false),
            text::pretty(tape.root(), true),
        ];
        // `io_lib` shows more than 32 keys in another order than `term_to_binary` writes them.
        if !has_large_map(tape.root()) {
            compared += 1;
            check_formats(&ours, &theirs);
        }
        let has_no_syntax = ["#Fun<", "#Ref<", "#Port<", "<0."].iter().any(|part| ours[1].contains(part));
        if !has_no_syntax {
            read += 1;
            for ours in &ours {
                let back = text::parse(ours).unwrap_or_else(|error| panic!("{error} in {ours}"));
                assert_eq!(back, tape, "{ours}");
                let scanned = erl.parts("scan", ours.as_bytes()).unwrap_or_else(|| panic!("OTP reads no {ours}"));
                let encoder = Encoder { deterministic: true, ..Encoder::default() };
                assert_eq!(encoded(&back, encoder), scanned[0], "{ours}");
            }
        }
    }
    assert!(compared > terms() / 8 && read > terms() / 20, "{compared} compared, {read} read");
}

#[test]
fn lines_are_broken_where_otp_breaks_them() {
    let mut erl = Erl::start();
    let (mut compared, mut broken) = (0, 0);
    erl.ask("seed", &13u64.to_be_bytes());
    for _ in 0..terms() / 2 {
        let theirs = erl.parts("lines", b"").unwrap();
        let tape = magpie_etf::decode(&theirs[0]).unwrap();
        if has_large_map(tape.root()) {
            continue;
        }
        compared += 1;
        broken += u64::from(theirs[1].contains(&b'\n'));
        for (unicode, theirs) in [(false, &theirs[1]), (true, &theirs[2])] {
            let ours = text::pretty(tape.root(), unicode);
            let theirs = String::from_utf8_lossy(theirs);
            assert_eq!(ours, theirs, "unicode {unicode}\n{ours}\n{theirs}\n{}", tape.root());
        }
    }
    assert!(compared > terms() / 4 && broken > terms() / 8, "{compared} compared, {broken} broken");
}

#[test]
fn lines_are_indented_as_otp_indents_them_up_to_256_columns() {
    let mut erl = Erl::start();
    for (level, columns) in
        [(&[108, 0, 0, 0, 2, 97, 1][..], 1), (&[104, 2, 119, 1, 97], 1), (&[116, 0, 0, 0, 1, 97, 1], 6)]
    {
        let bytes = |levels: usize| {
            let ends = if level[0] == 108 { levels } else { 0 };
            [&[131][..], &level.repeat(levels), &[106], &[106].repeat(ends)].concat()
        };
        let both = |bytes: &[u8], erl: &mut Erl| {
            let tape = magpie_etf::decode(bytes).unwrap();
            let theirs = erl.parts("text", bytes).unwrap().swap_remove(4);
            (text::pretty(tape.root(), false), String::from_utf8(theirs).unwrap())
        };
        let (ours, theirs) = both(&bytes(256 / columns), &mut erl);
        assert_eq!(ours, theirs);
        let (ours, theirs) = both(&bytes(256 / columns + 10), &mut erl);
        assert!(ours.len() < theirs.len());
        assert!(ours.lines().map(str::trim_start).eq(theirs.lines().map(str::trim_start)));
    }
}

fn check_formats(ours: &[String], theirs: &[Vec<u8>]) {
    for ((ours, theirs), format) in ours.iter().zip(theirs).zip(["~w", "~tw", "~0p", "~0tp", "~p", "~tp"]) {
        assert_eq!(*ours, String::from_utf8_lossy(theirs), "{format}");
    }
}

fn has_large_map(term: Term<'_>) -> bool {
    match term.kind() {
        TermKind::Tuple(elements) | TermKind::List(elements) => elements.into_iter().any(has_large_map),
        TermKind::ImproperList(mut elements, tail) => elements.any(has_large_map) || has_large_map(tail),
        TermKind::Map(pairs) => {
            pairs.len() > 32 || pairs.into_iter().any(|(key, value)| has_large_map(key) || has_large_map(value))
        }
        _ => false,
    }
}

#[test]
fn text_is_read_as_otp_reads_it() {
    let mut erl = Erl::start();
    let encoder = Encoder { deterministic: true, ..Encoder::default() };
    for written in [
        "[1|[2,3]]",
        "[1|[2|[3|4]]]",
        "[1|[]]",
        "[1|\"ab\"]",
        "\"ab\" \"cd\"",
        "{}",
        "#{}",
        "[]",
        "<<>>",
        "<<\"ab\",1:3>>",
        "<<\"ä\"/utf8>>",
        "<<\"ä\">>",
        "16#fF",
        "2#1010",
        "36#Zz",
        "1_000_000",
        "$a",
        "$\\n",
        "$\\x{4F60}",
        "'\\x41\\101'",
        "\"\\^A\\s\\d\"",
        "-5",
        "- 5",
        "+5",
        "1.5e-3",
        "-0.0",
        "fun lists:map/2",
        "'a b'",
        "fün",
        "#{a=>1,<<1>>=>#{}}",
        "% note\n{ a , % more\n b }",
        "'你好'",
        "\"你好\"",
        "[a|b]",
        "99999999999999999999999999",
        "true",
        "ok@x_Y1",
        "\"a\\\nb\"",
        "<<-1>>",
        "<<300>>",
        "<<5:16>>",
        "#{1=>2,1.0=>3}",
        // And what it refuses.
        "A",
        "[1,",
        "{a b}",
        "end",
        "#{a}",
        "#{a=>1,a=>2}x",
        "<<1",
        "'a",
        "\"a",
        "[1|2,3]",
        "37#1",
        "1e5",
        "a.b",
        "[,]",
        "{,}",
        "f(x)",
    ] {
        let ours = text::parse(written).ok().map(|tape| encoded(&tape, encoder));
        let theirs = erl.parts("scan", written.as_bytes()).map(|mut parts| parts.swap_remove(0));
        assert_eq!(ours, theirs, "{written}");
    }
}
