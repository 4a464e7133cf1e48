//! What the server keeps instead of a password: SCRAM keys (RFC 5802 §3).

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

/// Which keys a new password gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramPolicy {
    /// Hash and PBKDF2 rounds, at least 4096 (RFC 5802 §5.1).
    pub hashes: Vec<(Hash, u32)>,
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

/// All that the store keeps of an account's password.
#[derive(Clone, PartialEq, Eq)]
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

impl Credentials {
    /// Derives keys for each hash of the policy. Costs about 0.4 ms a hash per 4096 rounds.
    /// `salts` yields fresh random salts, one a hash.
    pub fn derive(
        _password: &str,
        _policy: &ScramPolicy,
        _salts: impl FnMut() -> [u8; 16],
    ) -> Result<Self, PasswordError> {
        todo!()
    }
    /// The keys for one hash.
    pub fn get(&self, hash: Hash) -> Option<&ScramKeys> {
        self.keys.iter().find(|keys| keys.hash == hash)
    }
    /// The form in which they are stored: versioned, compact.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
    /// Reads [`Credentials::encode`]'s form; `None` where the bytes are corrupt.
    pub fn decode(_bytes: &[u8]) -> Option<Self> {
        todo!()
    }
}

impl ScramKeys {
    /// Stable keys for a user who does not exist, so that salts do not tell who does. No password matches.
    pub fn fake(_secret: &[u8; 32], _username: &str, _hash: Hash, _iterations: u32) -> Self {
        todo!()
    }
    /// Whether the password is the one these keys were derived from. Slow: belongs on a blocking pool. Constant-time compare.
    pub fn check_password(&self, _password: &str) -> bool {
        todo!()
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
