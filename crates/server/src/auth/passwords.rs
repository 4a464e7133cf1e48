//! RFC 4616 with RFC 5802 §3: passwords that were checked a short while ago, so that a client which logs in with PLAIN again and again
//! does not cost PBKDF2's rounds each time.
//!
//! What is kept is an HMAC of the password and the key that it was checked against, under a secret of this process: it is good
//! for nothing once the password is changed, and nowhere else. Only right passwords are kept, so that guessing stays as dear.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use magpie_proto::sasl::ScramKeys;
use parking_lot::Mutex;

/// Passwords that are remembered, each with some 40 bytes.
const PASSWORDS_MAX: usize = 16_384;

/// How long one is remembered that is not used: this time at least, twice as long at most.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

type Tag = [u8; 32];

/// Passwords that were right.
pub struct CheckedPasswords {
    secret: hmac::Key,
    tags: Mutex<Tags>,
}

/// Those used lately, and those used before.
struct Tags {
    young: HashSet<Tag>,
    old: HashSet<Tag>,
    since: Instant,
}

impl CheckedPasswords {
    /// None yet. `secret` is fresh and random.
    pub fn new(secret: &[u8; 32], now: Instant) -> Self {
        let tags = Tags { young: HashSet::new(), old: HashSet::new(), since: now };
        Self { secret: hmac::Key::new(hmac::HMAC_SHA256, secret), tags: Mutex::new(tags) }
    }

    /// Whether this password was right for these keys a short while ago.
    pub fn knows(&self, keys: &ScramKeys, password: &str, now: Instant) -> bool {
        let tag = self.tag(keys, password);
        let mut tags = self.tags.lock();
        tags.make_room(now);
        if tags.old.remove(&tag) {
            tags.young.insert(tag);
        }
        tags.young.contains(&tag)
    }

    /// This password is right for these keys.
    pub fn remember(&self, keys: &ScramKeys, password: &str, now: Instant) {
        let tag = self.tag(keys, password);
        let mut tags = self.tags.lock();
        tags.make_room(now);
        tags.young.insert(tag);
    }

    /// The key has a fixed length for its hash, and its salt makes it the account's own.
    fn tag(&self, keys: &ScramKeys, password: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(keys.hash.name().as_bytes());
        context.update(&keys.stored_key);
        context.update(password.as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl Tags {
    fn make_room(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= 2 * REMEMBERED {
            self.young.clear();
        }
        if age >= REMEMBERED || self.young.len() >= PASSWORDS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use magpie_proto::sasl::Hash;

    fn keys(stored: u8) -> ScramKeys {
        ScramKeys::new(Hash::Sha256, 4096, b"salt", &[stored; 32], &[0; 32]).unwrap()
    }

    #[test]
    fn a_password_is_known_for_the_keys_that_it_was_right_for_and_no_others() {
        let now = Instant::now();
        let checked = CheckedPasswords::new(&[1; 32], now);
        assert!(!checked.knows(&keys(1), "pencil", now));
        checked.remember(&keys(1), "pencil", now);
        assert!(checked.knows(&keys(1), "pencil", now));
        assert!(!checked.knows(&keys(1), "pencil ", now));
        assert!(!checked.knows(&keys(2), "pencil", now), "after a change of the password");
    }

    #[test]
    fn one_that_is_not_used_is_forgotten_and_one_that_is_used_is_not() {
        let start = Instant::now();
        let checked = CheckedPasswords::new(&[1; 32], start);
        checked.remember(&keys(1), "used", start);
        checked.remember(&keys(1), "unused", start);
        for hours in 1..=3 {
            assert!(checked.knows(&keys(1), "used", start + hours * REMEMBERED));
        }
        assert!(!checked.knows(&keys(1), "unused", start + 3 * REMEMBERED));
        assert!(!checked.knows(&keys(1), "used", start + 9 * REMEMBERED));
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let checked = CheckedPasswords::new(&[1; 32], now);
        for n in 0..2 * PASSWORDS_MAX {
            checked.remember(&keys(1), &n.to_string(), now);
        }
        let tags = checked.tags.lock();
        assert!(tags.young.len() + tags.old.len() <= PASSWORDS_MAX);
    }
}
