//! What the server keeps instead of a password: SCRAM keys (RFC 5802 §3).

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};

use crate::precis::{self, PrecisError};

/// Bytes of the salts that are made here.
const SALT_BYTES: usize = 16;
/// Bytes of a password, before and after preparation.
const PASSWORD_BYTES_MAX: usize = 1023;
/// PBKDF2 rounds below which keys are not made (RFC 5802 §5.1, RFC 7677 §4).
pub const ITERATIONS_MIN: u32 = 4096;

/// A hash function that SCRAM is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hash {
    /// SCRAM-SHA-1 (RFC 5802)
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677)
    Sha256,
    /// SCRAM-SHA-512 (draft-melnikov-scram-sha-512)
    Sha512,
}

impl Hash {
    /// Every hash, weakest first.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// As it is written in the configuration: `sha-1`, `sha-256`, `sha-512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }

    /// By its [`Hash::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Bytes of its output, and so of StoredKey, ServerKey and proof.
    pub(super) fn bytes(self) -> usize {
        self.digest_algorithm().output_len()
    }

    fn digest_algorithm(self) -> &'static digest::Algorithm {
        self.hmac_algorithm().digest_algorithm()
    }

    fn hmac_algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2_algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    pub(super) fn digest(self, data: &[u8]) -> digest::Digest {
        digest::digest(self.digest_algorithm(), data)
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac_algorithm(), key), data)
    }

    /// `Hi()` of RFC 5802 §2.2.
    pub(super) fn salted_password(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let mut salted = vec![0; self.bytes()];
        pbkdf2::derive(self.pbkdf2_algorithm(), iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    /// How it stands in stored keys. Never renumber.
    fn code(self) -> u8 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha512 => 3,
        }
    }
}

/// Which keys a new password gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramPolicy {
    /// Hash and PBKDF2 rounds, at least 4096 (RFC 5802 §5.1).
    pub hashes: Vec<(Hash, u32)>,
}

impl Default for ScramPolicy {
    /// All three hashes with 4096 rounds, the least that the RFCs allow.
    ///
    /// Every login costs the client these rounds, and the server too with PLAIN. More of them for one hash win nothing
    /// while another is kept with fewer: a thief of the keys attacks the cheapest. An operator whose clients
    /// all know SCRAM-SHA-256 does better to drop SHA-1 and raise the rounds (XEP-0438 §7 names 10 000).
    fn default() -> Self {
        Self { hashes: Hash::ALL.map(|hash| (hash, ITERATIONS_MIN)).to_vec() }
    }
}

/// The keys of one account for one hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// For which hash.
    pub hash: Hash,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// Salt.
    pub salt: Box<[u8]>,
    /// StoredKey
    pub stored_key: Box<[u8]>,
    /// ServerKey
    pub server_key: Box<[u8]>,
}

impl ScramKeys {
    /// Keys that another server made, whatever their rounds. `None` where a key has not the length of the hash, or where there
    /// is no salt, or one of more than 65535 bytes, or no round.
    pub fn new(hash: Hash, iterations: u32, salt: &[u8], stored_key: &[u8], server_key: &[u8]) -> Option<Self> {
        let keys =
            Self { hash, iterations, salt: salt.into(), stored_key: stored_key.into(), server_key: server_key.into() };
        keys.are_valid().then_some(keys)
    }

    /// Stable keys for a user who does not exist, so that salts do not tell who does. No password matches.
    pub fn fake(secret: &[u8; 32], username: &str, hash: Hash, iterations: u32) -> Self {
        // A username has no NUL, so no two of these inputs are the same.
        let input = ["salt", hash.name(), username].join("\0");
        let drawn = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), input.as_bytes());
        let drawn = drawn.as_ref();
        // Only the salt is ever shown. Nobody knows of what these keys would be the hash.
        let key = || drawn[drawn.len() - hash.bytes()..].into();
        Self { hash, iterations, salt: drawn[..SALT_BYTES].into(), stored_key: key(), server_key: key() }
    }

    /// Whether the password is the one these keys were derived from. Slow: belongs on a blocking pool. Constant-time compare.
    pub fn check_password(&self, password: &str) -> bool {
        let (Ok(password), Some(iterations)) = (prepare(password), NonZeroU32::new(self.iterations)) else {
            return false;
        };
        let salted = self.hash.salted_password(&password, &self.salt, iterations);
        self.is_client_key(self.hash.hmac(&salted, b"Client Key").as_ref())
    }

    /// From a prepared password (RFC 5802 §3).
    pub(super) fn derive(hash: Hash, iterations: NonZeroU32, salt: &[u8], prepared: &str) -> Self {
        Self::keyed(hash, iterations.get(), salt, &hash.salted_password(prepared, salt, iterations))
    }

    /// Of a SaltedPassword (RFC 5802 §3) that somebody else has made; `None` where it has not the length of the hash.
    pub(super) fn of_salted(hash: Hash, iterations: u32, salt: &[u8], salted: &[u8]) -> Option<Self> {
        (salted.len() == hash.bytes()).then(|| Self::keyed(hash, iterations, salt, salted))
    }

    fn keyed(hash: Hash, iterations: u32, salt: &[u8], salted: &[u8]) -> Self {
        let client_key = hash.hmac(salted, b"Client Key");
        Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: hash.digest(client_key.as_ref()).as_ref().into(),
            server_key: hash.hmac(salted, b"Server Key").as_ref().into(),
        }
    }

    /// Whether the proof shows knowledge of the password, for this AuthMessage (RFC 5802 §3).
    pub(super) fn check_proof(&self, auth_message: &[u8], proof: &[u8]) -> bool {
        let signature = self.hash.hmac(&self.stored_key, auth_message);
        if proof.len() != self.hash.bytes() {
            return false;
        }
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        self.is_client_key(&client_key)
    }

    /// ServerSignature for this AuthMessage (RFC 5802 §3).
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> hmac::Tag {
        self.hash.hmac(&self.server_key, auth_message)
    }

    fn is_client_key(&self, client_key: &[u8]) -> bool {
        let stored_key = self.hash.digest(client_key);
        constant_time::verify_slices_are_equal(stored_key.as_ref(), &self.stored_key).is_ok()
    }

    fn are_valid(&self) -> bool {
        self.iterations != 0
            && (1..=usize::from(u16::MAX)).contains(&self.salt.len())
            && self.stored_key.len() == self.hash.bytes()
            && self.server_key.len() == self.hash.bytes()
    }
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// All that the store keeps of an account's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// One entry a hash.
    pub keys: Vec<ScramKeys>,
}

/// A password that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty after preparation.
    #[error("the password is empty")]
    Empty,
    /// A character that the OpaqueString profile (RFC 8265 §4) forbids.
    #[error("the password has a character that is not allowed")]
    Forbidden,
    /// More than 1023 bytes.
    #[error("the password is longer than 1023 bytes")]
    TooLong,
}

/// The first byte of stored credentials.
const ENCODING: u8 = 1;

impl Credentials {
    /// Derives keys for each hash of the policy; fewer than 4096 rounds are raised to 4096. Costs about 0.4 ms a hash per 4096 rounds.
    /// `salts` yields fresh random salts, one a hash.
    pub fn derive(
        password: &str,
        policy: &ScramPolicy,
        mut salts: impl FnMut() -> [u8; 16],
    ) -> Result<Self, PasswordError> {
        let password = prepare(password)?;
        let keys = policy.hashes.iter().map(|&(hash, iterations)| {
            let iterations = NonZeroU32::new(iterations.max(ITERATIONS_MIN)).expect("the minimum is greater than zero");
            ScramKeys::derive(hash, iterations, &salts(), &password)
        });
        Ok(Self { keys: keys.collect() })
    }

    /// The keys for one hash.
    pub fn get(&self, hash: Hash) -> Option<&ScramKeys> {
        self.keys.iter().find(|keys| keys.hash == hash)
    }

    /// The form in which they are stored: versioned, compact. Keys that [`ScramKeys::new`] would refuse are left out:
    /// nobody can log in with them.
    ///
    /// A version byte, then for each hash: its code, rounds (4 bytes), length of the salt (2 bytes), salt, StoredKey, ServerKey.
    /// Numbers are big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![ENCODING];
        for keys in self.keys.iter().filter(|keys| keys.are_valid()) {
            let salt_bytes = u16::try_from(keys.salt.len()).expect("valid keys have a salt of at most 65535 bytes");
            out.push(keys.hash.code());
            out.extend_from_slice(&keys.iterations.to_be_bytes());
            out.extend_from_slice(&salt_bytes.to_be_bytes());
            out.extend_from_slice(&keys.salt);
            out.extend_from_slice(&keys.stored_key);
            out.extend_from_slice(&keys.server_key);
        }
        out
    }

    /// Reads [`Credentials::encode`]'s form; `None` where the bytes are corrupt.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[ENCODING])?;
        let mut keys = Vec::new();
        while let Some((&code, after)) = rest.split_first() {
            let hash = Hash::ALL.into_iter().find(|hash| hash.code() == code)?;
            let (&iterations, after) = after.split_first_chunk()?;
            let (&salt_bytes, after) = after.split_first_chunk()?;
            let (salt, after) = after.split_at_checked(usize::from(u16::from_be_bytes(salt_bytes)))?;
            let (stored_key, after) = after.split_at_checked(hash.bytes())?;
            let (server_key, after) = after.split_at_checked(hash.bytes())?;
            keys.push(ScramKeys::new(hash, u32::from_be_bytes(iterations), salt, stored_key, server_key)?);
            rest = after;
        }
        Some(Self { keys })
    }
}

/// The length is checked first, so that nobody makes us normalize a megabyte.
fn prepare(password: &str) -> Result<Cow<'_, str>, PasswordError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong);
    }
    match precis::opaque_string(password) {
        Ok(prepared) if prepared.len() > PASSWORD_BYTES_MAX => Err(PasswordError::TooLong),
        Ok(prepared) => Ok(prepared),
        Err(PrecisError::Empty) => Err(PasswordError::Empty),
        Err(_) => Err(PasswordError::Forbidden),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn credentials(password: &str) -> Credentials {
        let mut seed = 0;
        Credentials::derive(password, &ScramPolicy::default(), || {
            seed += 1;
            [seed; 16]
        })
        .unwrap()
    }

    #[test]
    fn a_password_is_checked_against_each_hash() {
        let credentials = credentials("pencil");
        assert_eq!(credentials.keys.len(), 3);
        for hash in Hash::ALL {
            let keys = credentials.get(hash).unwrap();
            assert_eq!(keys.iterations, 4096);
            assert!(keys.check_password("pencil"));
            assert!(!keys.check_password("Pencil"));
            assert!(!keys.check_password(""));
        }
        assert_ne!(credentials.keys[0].salt, credentials.keys[1].salt);
    }

    #[test]
    fn too_few_rounds_are_raised_and_more_are_kept() {
        let policy = ScramPolicy { hashes: vec![(Hash::Sha1, 1), (Hash::Sha256, 5000)] };
        let credentials = Credentials::derive("pencil", &policy, || [3; 16]).unwrap();
        assert_eq!(credentials.keys.iter().map(|keys| keys.iterations).collect::<Vec<_>>(), [4096, 5000]);
        assert!(credentials.keys[1].check_password("pencil"));
    }

    #[test]
    fn passwords_that_cannot_be_are_refused() {
        let derive = |password: &str| Credentials::derive(password, &ScramPolicy::default(), || [0; 16]).map(drop);
        assert_eq!(derive(""), Err(PasswordError::Empty));
        assert_eq!(derive("a\u{7}b"), Err(PasswordError::Forbidden));
        assert_eq!(derive(&"x".repeat(1024)), Err(PasswordError::TooLong));
        assert_eq!(derive(&"x".repeat(1023)), Ok(()));
    }

    #[test]
    fn a_composed_and_a_decomposed_password_are_the_same() {
        assert!(credentials("caf\u{e9}").keys[1].check_password("cafe\u{301}"));
    }

    #[test]
    fn stored_credentials_read_back_and_corrupt_ones_do_not() {
        let credentials = credentials("pencil");
        let bytes = credentials.encode();
        assert_eq!(bytes.len(), 1 + 3 * (1 + 4 + 2 + 16) + 2 * (20 + 32 + 64));
        assert!(Credentials::decode(&bytes).unwrap() == credentials);

        let ends_of_keys = [1, 64, 151, 302];
        for length in 0..bytes.len() {
            assert_eq!(Credentials::decode(&bytes[..length]).is_some(), ends_of_keys.contains(&length), "{length}");
        }
        assert!(Credentials::decode(&[&bytes[..], b"x"].concat()).is_none());
        for (at, wrong) in [(0, 2), (1, 9)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert!(Credentials::decode(&bytes).is_none());
        }
    }

    #[test]
    fn keys_of_wrong_shape_are_refused_and_not_stored() {
        assert!(ScramKeys::new(Hash::Sha1, 4096, b"salt", &[1; 20], &[2; 20]).is_some());
        assert!(ScramKeys::new(Hash::Sha1, 0, b"salt", &[1; 20], &[2; 20]).is_none());
        assert!(ScramKeys::new(Hash::Sha1, 4096, b"", &[1; 20], &[2; 20]).is_none());
        assert!(ScramKeys::new(Hash::Sha1, 4096, b"salt", &[1; 32], &[2; 20]).is_none());
        assert!(ScramKeys::new(Hash::Sha256, 4096, b"salt", &[1; 32], &[2; 20]).is_none());
        assert!(ScramKeys::new(Hash::Sha1, 4096, &vec![0; 65536], &[1; 20], &[2; 20]).is_none());

        let mut broken = credentials("pencil");
        broken.keys[0].stored_key = Box::new([]);
        let stored = Credentials::decode(&broken.encode()).unwrap();
        assert_eq!(stored.keys.iter().map(|keys| keys.hash).collect::<Vec<_>>(), [Hash::Sha256, Hash::Sha512]);
    }

    #[test]
    fn fake_keys_are_stable_and_differ_by_user_hash_and_secret() {
        let fake = |secret: u8, username, hash| ScramKeys::fake(&[secret; 32], username, hash, 4096);
        let romeo = fake(1, "romeo", Hash::Sha256);
        assert!(romeo == fake(1, "romeo", Hash::Sha256));
        assert!(romeo.are_valid());
        assert_eq!(romeo.salt.len(), 16);
        for other in [fake(1, "juliet", Hash::Sha256), fake(1, "romeo", Hash::Sha512), fake(2, "romeo", Hash::Sha256)] {
            assert_ne!(romeo.salt, other.salt);
            assert_ne!(romeo.stored_key, other.stored_key);
        }
        assert!(!romeo.check_password(""));
        assert!(!romeo.check_password("pencil"));
    }

    #[test]
    fn debug_tells_no_key() {
        let credentials =
            Credentials { keys: vec![ScramKeys::new(Hash::Sha1, 4096, &[201; 16], &[202; 20], &[203; 20]).unwrap()] };
        let text = format!("{credentials:?}");
        assert!(text.contains("Sha1"));
        for secret in ["201", "202", "203"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn names_of_hashes_parse_back() {
        for hash in Hash::ALL {
            assert_eq!(Hash::parse(hash.name()), Some(hash));
        }
        assert_eq!(Hash::parse("md5"), None);
    }
}
