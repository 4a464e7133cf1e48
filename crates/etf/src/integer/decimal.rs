//! Decimal digits of long numbers: a number is divided in two halves of digits, and these again, so that nearly all of the work is
//! multiplication of words (Knuth, The Art of Computer Programming 2, §4.3.1, algorithm D, and §4.4).

use std::sync::OnceLock;

/// A part has 19 digits.
const STEP: u64 = 10_000_000_000_000_000_000;

/// Numbers of up to so many parts, as a power of 2, are divided by one word after the other.
const SHORT: usize = 3;

/// Powers of [`STEP`] that are needed for 4096 bytes, by the powers of 2.
const POWERS: usize = 10;

/// A power of [`STEP`], shifted until its highest bit is set.
struct Power {
    words: Vec<u64>,
    shift: u32,
}

fn powers() -> &'static [Power] {
    static ALL: OnceLock<Vec<Power>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut power = vec![STEP];
        (0..POWERS)
            .map(|_| {
                let square = squared(&power);
                let words = std::mem::replace(&mut power, square);
                let shift = words.last().map_or(0, |word| word.leading_zeros());
                Power { words: shifted(&words, shift), shift }
            })
            .collect()
    })
}

/// In parts of 19 digits, the lowest first; words have the lowest first too, and are at most 512.
pub(super) fn parts(words: Vec<u64>) -> Vec<u64> {
    // A part is a little less than a word.
    let count = words.len() + 1 + words.len() / 32;
    let level = count.next_power_of_two().ilog2() as usize;
    let mut parts = Vec::with_capacity(1 << level);
    split(words, level.min(POWERS), &mut parts);
    while parts.last() == Some(&0) {
        parts.pop();
    }
    parts
}

/// Appends 2^`level` parts.
fn split(mut words: Vec<u64>, level: usize, parts: &mut Vec<u64>) {
    if level <= SHORT {
        parts.extend((0..1 << level).map(|_| divide_by_step(&mut words)));
        return;
    }
    let power = &powers()[level - 1];
    let mut rest = shifted(&words, power.shift);
    let quotient = divide(&mut rest, &power.words);
    split(unshifted(rest, power.shift), level - 1, parts);
    split(quotient, level - 1, parts);
}

/// Gives the remainder.
fn divide_by_step(words: &mut Vec<u64>) -> u64 {
    let mut rest = 0u64;
    for word in words.iter_mut().rev() {
        let value = u128::from(rest) << 64 | u128::from(*word);
        *word = (value / u128::from(STEP)) as u64;
        rest = (value % u128::from(STEP)) as u64;
    }
    trim(words);
    rest
}

/// Gives the quotient, and leaves the remainder. The divisor has two words or more, and its highest bit is set.
fn divide(words: &mut Vec<u64>, divisor: &[u64]) -> Vec<u64> {
    let length = divisor.len();
    if words.len() < length {
        return Vec::new();
    }
    words.push(0);
    let mut quotient = vec![0; words.len() - length];
    let (high, second) = (u128::from(divisor[length - 1]), u128::from(divisor[length - 2]));
    for at in (0..quotient.len()).rev() {
        let there = &mut words[at..=at + length];
        let top = u128::from(there[length]) << 64 | u128::from(there[length - 1]);
        let (mut digit, mut rest) = (top / high, top % high);
        while digit >> 64 != 0 || digit * second > (rest << 64 | u128::from(there[length - 2])) {
            digit -= 1;
            rest += high;
            if rest >> 64 != 0 {
                break;
            }
        }
        if subtract(there, divisor, digit) {
            digit -= 1;
            add(there, divisor);
        }
        quotient[at] = digit as u64;
    }
    words.truncate(length);
    trim(&mut quotient);
    quotient
}

/// Takes `digit` times the divisor away; whether that was too much.
fn subtract(words: &mut [u64], divisor: &[u64], digit: u128) -> bool {
    let (mut carry, mut borrow) = (0, false);
    for (word, part) in words.iter_mut().zip(divisor) {
        let product = digit * u128::from(*part) + carry;
        carry = product >> 64;
        (*word, borrow) = less(*word, product as u64, borrow);
    }
    let last = &mut words[divisor.len()];
    (*last, borrow) = less(*last, carry as u64, borrow);
    borrow
}

/// Adds the divisor; what it carries makes good what was borrowed.
fn add(words: &mut [u64], divisor: &[u64]) {
    let mut carry = 0;
    for (word, part) in words.iter_mut().zip(divisor) {
        let sum = u128::from(*word) + u128::from(*part) + carry;
        *word = sum as u64;
        carry = sum >> 64;
    }
    let last = &mut words[divisor.len()];
    *last = last.wrapping_add(carry as u64);
}

/// The difference, and whether more was borrowed.
fn less(value: u64, other: u64, borrow: bool) -> (u64, bool) {
    let (value, first) = value.overflowing_sub(other);
    let (value, second) = value.overflowing_sub(u64::from(borrow));
    (value, first | second)
}

fn squared(words: &[u64]) -> Vec<u64> {
    let mut square = vec![0; 2 * words.len()];
    for (at, factor) in words.iter().enumerate() {
        let mut carry = 0;
        for (place, word) in square[at..].iter_mut().zip(words) {
            let value = u128::from(*factor) * u128::from(*word) + u128::from(*place) + carry;
            *place = value as u64;
            carry = value >> 64;
        }
        square[at + words.len()] = carry as u64;
    }
    trim(&mut square);
    square
}

fn shifted(words: &[u64], shift: u32) -> Vec<u64> {
    let mut low = 0;
    let mut all: Vec<u64> = Vec::with_capacity(words.len() + 1);
    for word in words {
        let wide = u128::from(*word) << shift;
        all.push(wide as u64 | low);
        low = (wide >> 64) as u64;
    }
    all.push(low);
    trim(&mut all);
    all
}

fn unshifted(mut words: Vec<u64>, shift: u32) -> Vec<u64> {
    let mut high = 0;
    for word in words.iter_mut().rev() {
        let wide = u128::from(high) << 64 | u128::from(*word);
        high = *word;
        *word = (wide >> shift) as u64;
    }
    trim(&mut words);
    words
}

fn trim(words: &mut Vec<u64>) {
    while words.last() == Some(&0) {
        words.pop();
    }
}
