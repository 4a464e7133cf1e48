//! Bytes in groups of eight or sixteen, which a processor looks at as cheaply as at one.

/// How far it is to the first byte that a value may not have as it is, or that hardly any value has.
#[inline(never)]
pub(super) fn value_len(input: &[u8], seen: &mut u64) -> Option<usize> {
    let marks = |group| below(b'-', group) | below(4, group ^ (LOW * u64::from(b'<')));
    find(input, seen, marks, |byte| byte < b'-' || byte ^ b'<' < 4)
}

/// How far it is to the first byte that text may not have as it is.
#[inline(never)]
pub(super) fn text_len(input: &[u8], seen: &mut u64) -> Option<usize> {
    // Most of a long text is settled by sixteen bytes at a time, without asking where in them.
    let mut rest = input;
    while let Some((run, after)) = rest.split_first_chunk::<16>() {
        // As a signed number, what is beyond ASCII is below the space too.
        let may_be_special = |byte: u8| ((byte as i8) < b' ' as i8) | (byte | 2 == b'>') | (byte == b'&');
        if run.iter().fold(false, |any, &byte| any | may_be_special(byte)) {
            break;
        }
        rest = after;
    }
    let marks = |group| below(b' ', group) | equal(group | (LOW * 2), b'>') | equal(group, b'&');
    Some(input.len() - rest.len() + find(rest, seen, marks, |byte| byte < b' ' || byte | 2 == b'>' || byte == b'&')?)
}

/// How far it is to the first byte that is special, eight at a time by their marks. Notes all the bytes in `seen`.
#[inline(always)]
fn find(input: &[u8], seen: &mut u64, marks: impl Fn(u64) -> u64, is_special: impl Fn(u8) -> bool) -> Option<usize> {
    let mut all = *seen;
    let mut at = 0;
    while let Some((group, _)) = input[at..].split_first_chunk::<8>() {
        let group = u64::from_le_bytes(*group);
        all |= group;
        let found = marks(group) & !group & HIGH;
        if found != 0 {
            *seen = all;
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    *seen = all;
    Some(at + find_in_short(&input[at..], seen, is_special)?)
}

#[inline(never)]
fn find_in_short(input: &[u8], seen: &mut u64, is_special: impl Fn(u8) -> bool) -> Option<usize> {
    input.iter().position(|&byte| {
        *seen |= u64::from(byte);
        is_special(byte)
    })
}

const LOW: u64 = 0x0101_0101_0101_0101;
/// The high bit of each byte: set in what is beyond ASCII.
pub(super) const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks, by its high bit, each byte that equals the ASCII character `byte`. Two kinds of bytes may be marked too: those
/// beyond ASCII, which [`find`] takes out again, and those above one that is marked rightly.
#[inline(always)]
fn equal(group: u64, byte: u8) -> u64 {
    (group ^ (LOW * byte as u64)).wrapping_sub(LOW)
}

/// Marks the characters below `limit` in the same way.
#[inline(always)]
fn below(limit: u8, group: u64) -> u64 {
    group.wrapping_sub(LOW * limit as u64)
}

/// Marks the lower-case letters of ASCII, with ones in each bit below the highest.
#[inline(always)]
pub(super) fn letters(group: u64) -> u64 {
    let low = group & !HIGH;
    let from_a = low + LOW * (0x80 - b'a') as u64;
    let after_z = low + LOW * (0x80 - (b'z' + 1)) as u64;
    (from_a & !after_z & !group) | !HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place of runs that are and are not full groups, with the same byte or one beyond ASCII behind it.
    #[test]
    fn the_first_special_byte_is_found_wherever_it_is() {
        let value = |byte: u8| byte < b'-' || matches!(byte, b'<' | b'=' | b'>' | b'?');
        let text = |byte: u8| byte < b' ' || matches!(byte, b'<' | b'>' | b'&');
        for byte in 0..=255 {
            for (at, len) in (0..40).flat_map(|len| (0..len).map(move |at| (at, len))) {
                for behind in [b'a', byte, 0x80] {
                    let mut input = [vec![b'a'; at], vec![behind; len - at]].concat();
                    input[at] = byte;
                    let (mut seen, mut seen_text) = (0, 0);
                    assert_eq!(value_len(&input, &mut seen), input.iter().position(|&b| value(b)), "{input:?}");
                    assert_eq!(text_len(&input, &mut seen_text), input.iter().position(|&b| text(b)), "{input:?}");
                    if !value(byte) {
                        assert_eq!(seen & HIGH != 0, byte >= 0x80 || (behind >= 0x80 && at + 1 < len), "{input:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lower_case_letters_are_marked_and_nothing_else() {
        for byte in 0..=255_u8 {
            let marked = letters(u64::from_le_bytes([b'a', byte, b'z', byte, b'm', byte, byte, b'b']));
            let is_letter = byte.is_ascii_lowercase();
            let expected = [true, is_letter, true, is_letter, true, is_letter, is_letter, true];
            assert_eq!(marked.to_le_bytes().map(|byte| byte == 0xFF), expected, "{byte}");
        }
    }
}
