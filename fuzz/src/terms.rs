//! Erlang's terms: whatever is read is the same after every way round.

use magpie_etf::{Encoder, Tape, decode, encode, json, text};

/// Reads `data` as a term, as JSON and as Erlang's text, and panics where a way round changes it.
pub fn terms(data: &[u8]) {
    if let Ok(tape) = decode(data) {
        assert!(tape.used() <= data.len());
        ways_round(&tape);
    }
    let Ok(written) = str::from_utf8(data) else { return };
    if let Ok(tape) = json::from_json(written) {
        ways_round(&tape);
    }
    for tape in text::consult(written).map_while(Result::ok) {
        ways_round(&tape);
        let again = text::parse(&tape.root().to_string()).expect("what was read as text is printed as text");
        assert_eq!(again, tape);
    }
}

fn ways_round(tape: &Tape<'_>) {
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
    let encoder = Encoder { deterministic: true, compressed: Some(1), ..Encoder::default() };
    encoder.encode_into(tape.root(), &mut sorted).expect("it is smaller than 4 GiB");
    assert_eq!(decode(&sorted).expect("what was compressed is read"), *tape);
    let _ = text::line(tape.root(), true);
}
