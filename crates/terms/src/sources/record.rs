//! Tuples as `term_to_binary` wrote them, of which only the key is decoded.

use magpie_etf::{DecodeError, Decoder, Reason, Tape};

const VERSION: u8 = 131;
const SMALL_TUPLE: u8 = 104;
const LARGE_TUPLE: u8 = 105;
const LIST: u8 = 108;
const NIL: u8 = 106;

/// Where the elements begin, and how many there are; none if it is no tuple.
pub(super) fn tuple(bytes: &[u8], at: usize) -> Option<(usize, u32)> {
    match bytes.get(at..)? {
        [SMALL_TUPLE, arity, ..] => Some((at + 2, u32::from(*arity))),
        [LARGE_TUPLE, a, b, c, d, ..] => Some((at + 5, u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// The element at a position, counted from 1; none if the term is no tuple, or has it not.
pub(super) fn element<'a>(
    decoder: &mut Decoder,
    bytes: &'a [u8],
    position: u32,
) -> Result<Option<Tape<'a>>, DecodeError> {
    if bytes.first() != Some(&VERSION) {
        let reason = bytes.first().map_or(Reason::Truncated, |&version| Reason::Version(version));
        return Err(DecodeError { offset: 0, reason, inflated: false });
    }
    let Some((mut at, arity)) = tuple(bytes, 1).filter(|(_, arity)| (1..=*arity).contains(&position)) else {
        return Ok(None);
    };
    debug_assert!(arity >= position);
    for _ in 1..position {
        let before = decoder.decode_part(bytes, at)?;
        at = before.used();
        decoder.reuse(before);
    }
    decoder.decode_part(bytes, at).map(Some)
}

/// The list of terms, each of which must be whole.
pub(super) fn list(decoder: &mut Decoder, terms: &[Vec<u8>]) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = vec![VERSION, LIST];
    bytes.extend((terms.len() as u32).to_be_bytes());
    for term in terms {
        let tape = decoder.decode_all(term)?;
        if term.get(1) == Some(&80) {
            bytes.extend_from_slice(&magpie_etf::encode(tape.root())[1..]);
        } else {
            bytes.extend_from_slice(&term[1..]);
        }
        decoder.reuse(tape);
    }
    bytes.push(NIL);
    Ok(bytes)
}
