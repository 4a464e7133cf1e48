//! Integers of any size.

mod decimal;

use std::cmp::Ordering;
use std::fmt;

/// An integer: of 64 bits, or a sign and a magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer<'a>(Form<'a>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    Small(i64),
    /// Below zero, and the magnitude: little endian, its last byte not 0, more than `Small` holds.
    Big(bool, &'a [u8]),
}

impl From<i64> for Integer<'_> {
    fn from(value: i64) -> Self {
        Self(Form::Small(value))
    }
}

impl<'a> Integer<'a> {
    pub(crate) fn big(negative: bool, magnitude: &'a [u8]) -> Self {
        Self(Form::Big(negative, magnitude))
    }

    /// The integer, or whether it is below zero and its magnitude.
    pub(crate) fn parts(self) -> Result<i64, (bool, &'a [u8])> {
        match self.0 {
            Form::Small(value) => Ok(value),
            Form::Big(negative, magnitude) => Err((negative, magnitude)),
        }
    }

    /// The integer if 64 bits hold it.
    pub fn to_i64(self) -> Option<i64> {
        match self.0 {
            Form::Small(value) => Some(value),
            Form::Big(..) => None,
        }
    }

    /// The integer if 128 bits hold it.
    pub fn to_i128(self) -> Option<i128> {
        match self.0 {
            Form::Small(value) => Some(value.into()),
            Form::Big(negative, magnitude) => {
                let value = little(magnitude)?;
                if negative { 0i128.checked_sub_unsigned(value) } else { value.try_into().ok() }
            }
        }
    }

    /// The integer if it is not below zero and 128 bits hold it.
    pub fn to_u128(self) -> Option<u128> {
        match self.0 {
            Form::Small(value) => value.try_into().ok(),
            Form::Big(true, _) => None,
            Form::Big(false, magnitude) => little(magnitude),
        }
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        match self.0 {
            Form::Small(value) => value < 0,
            Form::Big(negative, _) => negative,
        }
    }

    /// The magnitude of what 64 bits do not hold, little endian.
    pub(crate) fn magnitude(self) -> Option<&'a [u8]> {
        match self.0 {
            Form::Small(_) => None,
            Form::Big(_, magnitude) => Some(magnitude),
        }
    }

    pub(crate) fn order(self, other: Self) -> Ordering {
        match (self.0, other.0) {
            (Form::Small(a), Form::Small(b)) => a.cmp(&b),
            (Form::Small(_), Form::Big(negative, _)) => {
                if negative {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Form::Big(negative, _), Form::Small(_)) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Form::Big(a_negative, a), Form::Big(b_negative, b)) => {
                let magnitudes = a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()));
                match (a_negative, b_negative) {
                    (false, false) => magnitudes,
                    (true, true) => magnitudes.reverse(),
                    (a, b) => b.cmp(&a),
                }
            }
        }
    }
}

fn little(magnitude: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
    Some(u128::from_le_bytes(bytes))
}

/// Decimal digits take more time the longer a number is: what is longer is written in base 16, as Erlang reads it too.
const DECIMAL_BYTES_MAX: usize = 4096;
/// The same for reading.
const DIGITS_MAX: usize = 10_000;

/// In decimal digits; in base 16 behind `16#` if it has more than 4096 bytes.
impl fmt::Display for Integer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, magnitude) = match self.0 {
            Form::Small(value) => return write!(f, "{value}"),
            Form::Big(negative, magnitude) => (negative, magnitude),
        };
        if negative {
            f.write_str("-")?;
        }
        if magnitude.len() > DECIMAL_BYTES_MAX {
            f.write_str("16#")?;
            return hexadecimal(magnitude, f);
        }
        let parts = decimal::parts(words(magnitude));
        let (first, rest) = parts.split_last().expect("a big integer is not 0");
        write!(f, "{first}")?;
        rest.iter().rev().try_for_each(|part| write!(f, "{part:019}"))
    }
}

fn words(magnitude: &[u8]) -> Vec<u64> {
    let eights = magnitude.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    eights.collect()
}

fn hexadecimal(magnitude: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (first, rest) = magnitude.split_last().expect("a big integer is not 0");
    write!(f, "{first:X}")?;
    rest.iter().rev().try_for_each(|byte| write!(f, "{byte:02X}"))
}

/// Digits of a base (2 to 36), without a sign, to a magnitude, little endian; nothing if there is another character,
/// or too many digits.
pub(crate) fn magnitude(digits: &str, base: u32) -> Option<Vec<u8>> {
    let bytes = digits.as_bytes();
    if bytes.is_empty() {
        return None;
    }
    if base == 16 {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = bytes.rchunks(2).map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            [low] => digit(low),
            _ => None,
        });
        return pairs.collect();
    }
    if bytes.len() > DIGITS_MAX {
        return None;
    }
    // Twelve digits of base 36 fit into a word.
    let mut words: Vec<u64> = Vec::new();
    for chunk in bytes.chunks(12) {
        let (mut carry, mut scale) = (0u64, 1u64);
        for &byte in chunk {
            let digit = char::from(byte).to_digit(base)?;
            carry = carry * u64::from(base) + u64::from(digit);
            scale *= u64::from(base);
        }
        for word in &mut words {
            let value = u128::from(*word) * u128::from(scale) + u128::from(carry);
            *word = value as u64;
            carry = (value >> 64) as u64;
        }
        if carry != 0 {
            words.push(carry);
        }
    }
    Some(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tape::trimmed;

    #[test]
    fn digits_of_any_base_give_the_magnitude_whose_digits_they_are() {
        for digits in
            ["18446744073709551616", "340282366920938463463374607431768211455", &format!("9{}", "0".repeat(400))]
        {
            let magnitude = magnitude(digits, 10).unwrap();
            assert_eq!(Integer::big(false, trimmed(&magnitude)).to_string(), digits);
        }
        assert_eq!(trimmed(&magnitude("zz", 36).unwrap()), [(35 * 36 + 35) as u8, ((35 * 36 + 35) >> 8) as u8]);
        assert_eq!(magnitude("1FF", 16).unwrap(), [255, 1]);
        assert_eq!(magnitude("12x", 10), None);
        assert_eq!(magnitude("", 10), None);
    }

    #[test]
    fn decimal_digits_of_any_length_are_those_from_which_the_magnitude_was_read() {
        for length in (1..10_000).step_by(431).chain([19, 20, 38, 39, 607, 608, 609, 1216, 2432, 4864, 9728, 9863]) {
            let digits: String = (0..length).map(|at| char::from(b'1' + (at * at % 9) as u8)).collect();
            let round = format!("1{}", "0".repeat(length - 1));
            let nines = "9".repeat(length);
            for digits in [digits, round, nines] {
                let magnitude = magnitude(&digits, 10).unwrap();
                let magnitude = trimmed(&magnitude);
                if magnitude.len() <= DECIMAL_BYTES_MAX {
                    assert_eq!(Integer::big(false, magnitude).to_string(), digits);
                }
            }
        }
    }

    #[test]
    fn a_huge_integer_is_written_in_base_16_in_linear_time() {
        let magnitude = vec![0xab; 1 << 20];
        assert!(Integer::big(true, &magnitude).to_string().starts_with("-16#ABAB"));
    }
}
