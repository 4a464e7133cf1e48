//! RFC 5802 and RFC 4616: the client's half of SCRAM and PLAIN.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::connection::PASSWORD;

/// The mechanisms that the harness speaks, best first.
pub(crate) const MECHANISMS: &[&str] = &["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];

/// One exchange.
pub(crate) enum Exchange {
    Plain,
    Scram { hash: Hash, first_bare: String, nonce: String, signature: Vec<u8> },
}

#[derive(Clone, Copy)]
pub(crate) struct Hash {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

impl Exchange {
    /// The exchange and its first message.
    pub(crate) fn start(mechanism: &str, user: &str, password: &str) -> Result<(Self, String), String> {
        if mechanism == "PLAIN" {
            return Ok((Self::Plain, BASE64.encode(format!("\0{user}\0{password}"))));
        }
        let hash = Hash::parse(mechanism.strip_prefix("SCRAM-").unwrap_or(mechanism))?;
        let mut random = [0; 18];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| "no randomness")?;
        let nonce = BASE64.encode(random);
        let first_bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        let first = BASE64.encode(format!("n,,{first_bare}"));
        Ok((Self::Scram { hash, first_bare, nonce, signature: Vec::new() }, first))
    }

    /// The answer to a challenge.
    pub(crate) fn respond(&mut self, challenge: &str, password: &str) -> Result<String, String> {
        let Self::Scram { hash, first_bare, nonce, signature } = self else {
            return Err("PLAIN has no challenge".into());
        };
        let server_first = decode(challenge)?;
        let server_nonce = field(&server_first, "r=")?;
        if !server_nonce.starts_with(nonce.as_str()) || server_nonce.len() == nonce.len() {
            return Err("the server's nonce does not extend the client's".into());
        }
        let salt = BASE64.decode(field(&server_first, "s=")?).map_err(|error| error.to_string())?;
        let rounds = field(&server_first, "i=")?.parse().map_err(|_| "the round count is no positive number")?;
        let salted = hash.salted(password, &salt, rounds);
        let client_key = hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest, &client_key);
        let without_proof = format!("c=biws,r={server_nonce}");
        let auth_message = format!("{first_bare},{server_first},{without_proof}");
        let client_signature = hash.sign(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&client_signature).map(|(a, b)| a ^ b).collect();
        *signature = hash.sign(&hash.sign(&salted, b"Server Key"), auth_message.as_bytes());
        Ok(BASE64.encode(format!("{without_proof},p={}", BASE64.encode(proof))))
    }

    /// Whether the server knew the password too.
    pub(crate) fn finish(&self, success: &str) -> Result<(), String> {
        let Self::Scram { signature, .. } = self else { return Ok(()) };
        let expected = format!("v={}", BASE64.encode(signature));
        match decode(success)? {
            found if found == expected => Ok(()),
            found => Err(format!("the server's signature is wrong: {found}")),
        }
    }
}

/// The answer to a challenge of SCRAM that followed this `client-first-message-bare`; both messages are base64.
pub(crate) fn respond(hash: &str, first_bare: &str, challenge: &str) -> Result<String, String> {
    let (hash, first_bare) = (Hash::parse(hash)?, first_bare.to_owned());
    let nonce = field(&first_bare, "r=")?.to_owned();
    Exchange::Scram { hash, first_bare, nonce, signature: Vec::new() }.respond(challenge, PASSWORD)
}

/// RFC 5802 §3: SaltedPassword, in base64 as the salt is.
pub(crate) fn salted(hash: &str, salt: &str, rounds: &str) -> Result<String, String> {
    let salt = BASE64.decode(salt).map_err(|error| error.to_string())?;
    let rounds = rounds.parse().map_err(|_| "the round count is no positive number")?;
    Ok(BASE64.encode(Hash::parse(hash)?.salted(PASSWORD, &salt, rounds)))
}

impl Hash {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "SHA-1" => Self {
                digest: &digest::SHA1_FOR_LEGACY_USE_ONLY,
                hmac: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA1,
            },
            "SHA-256" => Self { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 },
            "SHA-512" => Self { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 },
            other => return Err(format!("the harness does not speak {other}")),
        })
    }

    fn salted(self, password: &str, salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, rounds, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, key), message).as_ref().to_vec()
    }
}

fn decode(text: &str) -> Result<String, String> {
    let bytes = BASE64.decode(text.trim()).map_err(|error| format!("not base64: {text}: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

fn field<'a>(message: &'a str, name: &str) -> Result<&'a str, String> {
    message
        .split(',')
        .find_map(|part| part.strip_prefix(name))
        .ok_or_else(|| format!("the server's message has no {name}: {message}"))
}
