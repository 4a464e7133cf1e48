//! RFC 4616, RFC 5802: a client's side of PLAIN and SCRAM.

use std::collections::HashMap;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// RFC 4616.
    #[default]
    Plain,
    /// RFC 5802.
    #[value(name = "scram-sha-1")]
    #[serde(rename = "scram-sha-1")]
    ScramSha1,
    /// RFC 7677.
    #[value(name = "scram-sha-256")]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
}

/// Why an exchange cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// A message that RFC 5802 does not allow.
    #[error("the server's SCRAM message makes no sense")]
    Message,
    /// The server does not know the password.
    #[error("the server's SCRAM signature is wrong: it does not know the password")]
    Signature,
    /// The server does not have the token.
    #[error("the server's answer to a token is wrong: it does not have it")]
    Token,
}

/// Keys by password and salt, so that a password is hashed once however often its account logs in, and once for all accounts
/// that share both (RFC 5802 §3: the name is no part of them).
#[derive(Debug, Default)]
pub struct Keys {
    known: HashMap<Secret, Derived>,
}

/// What keys are derived from.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Secret {
    mechanism: Mechanism,
    password: String,
    salt: Vec<u8>,
    rounds: NonZeroU32,
}

#[derive(Debug)]
struct Derived {
    client: Box<[u8]>,
    stored: Box<[u8]>,
    server: Box<[u8]>,
}

/// One SCRAM exchange.
#[derive(Clone, Debug)]
pub struct Scram {
    mechanism: Mechanism,
    first_bare: String,
    nonce: String,
    signature: Option<Vec<u8>>,
    verified: bool,
}

const GS2: &str = "n,,";

impl Mechanism {
    /// As the server offers it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// The one message of PLAIN, in base64.
pub fn plain(username: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{username}\0{password}"))
}

/// Which client of its user an account's is (XEP-0388 §2.3): the same whenever it logs in.
pub fn device_id(username: &str) -> String {
    let hash = digest::digest(&digest::SHA256, username.as_bytes());
    let hex: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A token that stands for a password (XEP-0484), to be used without channel binding.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// By which it is used.
    pub const MECHANISM: &str = "HT-SHA-256-NONE";

    /// As the server gave it.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The one message, in base64.
    pub fn first(&self, username: &str) -> String {
        STANDARD.encode([username.as_bytes(), b"\0", self.sign(b"Initiator").as_ref()].concat())
    }

    /// Whether the server has the token too; its answer is base64.
    pub fn verify(&self, answer: &[u8]) -> Result<(), SaslError> {
        let answer = STANDARD.decode(answer.trim_ascii()).map_err(|_| SaslError::Message)?;
        if answer == self.sign(b"Responder").as_ref() { Ok(()) } else { Err(SaslError::Token) }
    }

    fn sign(&self, who: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes()), who)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A nonce of 18 random bytes in base64.
pub fn nonce() -> String {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).expect("the system has randomness");
    STANDARD.encode(bytes)
}

impl Scram {
    /// A new exchange. `nonce` must be fresh and without commas.
    pub fn new(mechanism: Mechanism, username: &str, nonce: String) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self { mechanism, first_bare: format!("n={username},r={nonce}"), nonce, signature: None, verified: false }
    }

    /// The client's first message, in base64.
    pub fn first(&self) -> String {
        STANDARD.encode(format!("{GS2}{}", self.first_bare))
    }

    /// The answer to the server's first message, both in base64.
    pub fn answer(&mut self, keys: &mut Keys, password: &str, challenge: &[u8]) -> Result<String, SaslError> {
        let challenge = decoded(challenge)?;
        let field =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or(SaslError::Message);
        let (nonce, salt, rounds) = (field("r=")?, field("s=")?, field("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(SaslError::Message);
        }
        let salt = STANDARD.decode(salt).map_err(|_| SaslError::Message)?;
        let rounds: NonZeroU32 = rounds.parse().map_err(|_| SaslError::Message)?;
        let derived = keys.derived(Secret { mechanism: self.mechanism, password: password.to_owned(), salt, rounds });
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2));
        let signed = format!("{},{challenge},{without_proof}", self.first_bare);
        let algorithm = hmac_of(self.mechanism);
        let mac = |key: &[u8]| hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
        let proof: Vec<u8> =
            mac(&derived.stored).as_ref().iter().zip(&derived.client).map(|(one, other)| one ^ other).collect();
        self.signature = Some(mac(&derived.server).as_ref().to_vec());
        Ok(STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof))))
    }

    /// Whether the server's first message was answered.
    pub fn is_answered(&self) -> bool {
        self.signature.is_some()
    }

    /// Whether the server has proved that it knows the password.
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// Whether the server's last message, in base64, proves that it knows the password.
    pub fn verify(&mut self, last: &[u8]) -> Result<(), SaslError> {
        let last = decoded(last)?;
        let signature = last.split(',').find_map(|part| part.strip_prefix("v=")).ok_or(SaslError::Message)?;
        let signature = STANDARD.decode(signature).map_err(|_| SaslError::Message)?;
        self.verified = self.signature.as_deref() == Some(&signature[..]);
        if self.verified { Ok(()) } else { Err(SaslError::Signature) }
    }
}

impl Keys {
    fn derived(&mut self, secret: Secret) -> &Derived {
        self.known.entry(secret).or_insert_with_key(|Secret { mechanism, password, salt, rounds }| {
            let (algorithm, hash) = match mechanism {
                Mechanism::ScramSha256 => (pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
                _ => (pbkdf2::PBKDF2_HMAC_SHA1, &digest::SHA1_FOR_LEGACY_USE_ONLY),
            };
            let mut salted = vec![0; hash.output_len()];
            pbkdf2::derive(algorithm, *rounds, salt, password.as_bytes(), &mut salted);
            let salted = hmac::Key::new(hmac_of(*mechanism), &salted);
            let client = hmac::sign(&salted, b"Client Key");
            Derived {
                stored: digest::digest(hash, client.as_ref()).as_ref().into(),
                client: client.as_ref().into(),
                server: hmac::sign(&salted, b"Server Key").as_ref().into(),
            }
        })
    }
}

fn hmac_of(mechanism: Mechanism) -> hmac::Algorithm {
    match mechanism {
        Mechanism::ScramSha256 => hmac::HMAC_SHA256,
        _ => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
    }
}

fn decoded(base64: &[u8]) -> Result<String, SaslError> {
    let bytes = STANDARD.decode(base64.trim_ascii()).map_err(|_| SaslError::Message)?;
    String::from_utf8(bytes).map_err(|_| SaslError::Message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn exchange(mechanism: Mechanism, nonce: &str, challenge: &str) -> (String, Scram) {
        let mut scram = Scram::new(mechanism, "user", nonce.into());
        let answer = scram.answer(&mut Keys::default(), "pencil", STANDARD.encode(challenge).as_bytes()).unwrap();
        (decoded(answer.as_bytes()).unwrap(), scram)
    }

    #[test]
    fn the_example_of_rfc_5802_is_reproduced() {
        let nonce = "fyko+d2lbbFgONRv9qkxdawL";
        let challenge = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let (answer, mut scram) = exchange(Mechanism::ScramSha1, nonce, challenge);
        assert_eq!(decoded(scram.first().as_bytes()).unwrap(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(answer, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
        assert_eq!(scram.verify(STANDARD.encode("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").as_bytes()), Ok(()));
        let other = STANDARD.encode("v=rmF9pqV8S7suAoZWja4dJRkFsKA=");
        assert_eq!(scram.verify(other.as_bytes()), Err(SaslError::Signature));
    }

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, mut scram) = exchange(Mechanism::ScramSha256, nonce, challenge);
        assert!(answer.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        assert_eq!(scram.verify(STANDARD.encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").as_bytes()), Ok(()));
    }

    #[test]
    fn accounts_that_share_password_salt_and_rounds_share_their_keys() {
        let mut keys = Keys::default();
        let mut log_in = |username: &str, password: &str, salt: &str, rounds: u32| {
            let mut scram = Scram::new(Mechanism::ScramSha1, username, "abc".into());
            let challenge = STANDARD.encode(format!("r=abcd,s={},i={rounds}", STANDARD.encode(salt)));
            scram.answer(&mut keys, password, challenge.as_bytes()).unwrap();
            keys.known.len()
        };
        assert_eq!(log_in("user1", "secret", "salt", 1), 1);
        assert_eq!(log_in("user2", "secret", "salt", 1), 1);
        assert_eq!(log_in("user2", "another", "salt", 1), 2);
        assert_eq!(log_in("user2", "secret", "more salt", 1), 3);
        assert_eq!(log_in("user2", "secret", "salt", 2), 4);
    }

    #[test]
    fn a_challenge_without_the_clients_nonce_is_refused() {
        let mut scram = Scram::new(Mechanism::ScramSha1, "user", "abc".into());
        let challenge = STANDARD.encode("r=abd1,s=QSXCR+Q6sek8bf92,i=4096");
        let answer = scram.answer(&mut Keys::default(), "pencil", challenge.as_bytes());
        assert_eq!(answer, Err(SaslError::Message));
    }

    #[test]
    fn a_token_is_shown_by_both_and_a_device_is_always_the_same() {
        let token = Token::new("t".into());
        let message = STANDARD.decode(token.first("tim")).unwrap();
        assert!(message.starts_with(b"tim\0") && message.len() == 4 + 32);
        let right = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"t"), b"Responder");
        assert_eq!(token.verify(STANDARD.encode(right).as_bytes()), Ok(()));
        assert_eq!(token.verify(STANDARD.encode([0; 32]).as_bytes()), Err(SaslError::Token));
        assert_eq!(device_id("user1"), device_id("user1"));
        assert_ne!(device_id("user1"), device_id("user2"));
        let groups: Vec<usize> = device_id("user1").split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn plain_has_the_form_of_rfc_4616() {
        assert_eq!(STANDARD.decode(plain("tim", "tanstaaftanstaaf")).unwrap(), b"\0tim\0tanstaaftanstaaf");
    }
}
