//! A time as the `id` of a stanza: microseconds of the engine's clock, in 16 hexadecimal digits.

/// Digits of a time.
pub const TIME_DIGITS: usize = 16;

/// As `id` of a stanza.
pub fn hexadecimal(time: u64) -> [u8; TIME_DIGITS] {
    let mut digits = [0; TIME_DIGITS];
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(time >> (60 - 4 * index)) as usize & 15];
    }
    digits
}

/// The time in an `id`; none in those of others.
pub fn time(id: &[u8]) -> Option<u64> {
    if id.len() != TIME_DIGITS {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_way() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(time(&hexadecimal(value)), Some(value));
        }
        assert_eq!(time(b"12"), None);
        assert_eq!(time(b"roster-roster-ro"), None);
    }
}
