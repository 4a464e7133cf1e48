//! A seeded hash of terms, so that the keys of a map can be told apart in time that no input chooses.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

/// Two random words of this process.
#[derive(Clone, Copy)]
pub(crate) struct Seed(u64, u64);

impl Seed {
    pub(crate) fn of_process() -> Self {
        static SEED: OnceLock<Seed> = OnceLock::new();
        *SEED.get_or_init(|| {
            let random = RandomState::new();
            Self(random.hash_one(1u8), random.hash_one(2u8) | 1)
        })
    }

    /// Mixes two words into one; the order matters.
    #[inline]
    pub(crate) fn mix(self, a: u64, b: u64) -> u64 {
        let product = u128::from(a ^ self.0) * u128::from(b.rotate_left(29) ^ self.1);
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// A word with what kind of thing it stands for.
    #[inline]
    pub(crate) fn word(self, domain: u64, value: u64) -> u64 {
        self.mix(value, domain.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[inline]
    pub(crate) fn bytes(self, domain: u64, bytes: &[u8]) -> u64 {
        let mut hash = self.word(domain, bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = self.mix(hash, u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = 0;
            for &byte in rest {
                last = last << 8 | u64::from(byte);
            }
            hash = self.mix(hash, last);
        }
        hash
    }
}

/// Finds two equal hashes among those of one map.
#[derive(Default)]
pub(crate) struct Duplicates {
    table: Vec<u64>,
}

impl Duplicates {
    /// The index of a hash that came before.
    pub(crate) fn find(&mut self, hashes: &[u64]) -> Option<usize> {
        if hashes.len() <= 12 {
            return (1..hashes.len()).find(|&at| hashes[..at].contains(&hashes[at]));
        }
        // At most half full, zero is empty; the hashes are seeded, so that nobody can choose a long row.
        let slots = (hashes.len() * 2).next_power_of_two();
        self.table.clear();
        self.table.resize(slots, 0);
        let mask = slots - 1;
        for (index, &hash) in hashes.iter().enumerate() {
            let hash = hash.max(1);
            let mut slot = (hash >> 7) as usize & mask;
            loop {
                match self.table[slot] {
                    0 => break self.table[slot] = hash,
                    there if there == hash => return Some(index),
                    _ => slot = (slot + 1) & mask,
                }
            }
        }
        None
    }
}
