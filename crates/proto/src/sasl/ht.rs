//! draft-schmaus-kitten-sasl-ht: `HT-SHA-256-*`, mechanisms for tokens, of one message each way.

use aws_lc_rs::{constant_time, hmac};

use super::ChannelBindings;

/// What a token's mechanism binds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenMechanism {
    /// `HT-SHA-256-EXPR`: `tls-exporter`
    Exporter,
    /// `HT-SHA-256-ENDP`: `tls-server-end-point`
    EndPoint,
    /// `HT-SHA-256-NONE`: nothing
    None,
}

impl TokenMechanism {
    /// Every one, strongest first. `tls-unique` is none: TLS 1.3 has no such thing.
    pub const ALL: [Self; 3] = [Self::Exporter, Self::EndPoint, Self::None];

    /// Registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exporter => "HT-SHA-256-EXPR",
            Self::EndPoint => "HT-SHA-256-ENDP",
            Self::None => "HT-SHA-256-NONE",
        }
    }

    /// By registered name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// What it binds to on a connection; `None` where that is not to be had.
    pub fn data(self, bindings: &ChannelBindings) -> Option<&[u8]> {
        match self {
            Self::Exporter => bindings.tls_exporter.as_ref().map(<[u8; 32]>::as_slice),
            Self::EndPoint => bindings.tls_server_end_point.as_deref(),
            Self::None => Some(&[]),
        }
    }
}

/// What a client says to show that it has a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenProof {
    /// By which mechanism.
    pub mechanism: TokenMechanism,
    hashed: Box<[u8]>,
    data: Box<[u8]>,
}

impl TokenProof {
    /// The name of the user and the proof; `None` where the message breaks the grammar.
    pub(super) fn parse(mechanism: TokenMechanism, data: &[u8], message: &[u8]) -> Option<(String, Self)> {
        let end = message.iter().position(|byte| *byte == 0)?;
        let username = std::str::from_utf8(&message[..end]).ok().filter(|name| !name.is_empty())?;
        Some((username.to_owned(), Self { mechanism, hashed: message[end + 1..].into(), data: data.into() }))
    }

    /// Where it was made with this token, what shows that the server has it too. Constant-time compare.
    pub fn check(&self, token: &str) -> Option<Vec<u8>> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let sign = |who: &[u8]| hmac::sign(&key, &[who, &self.data].concat());
        let right = constant_time::verify_slices_are_equal(sign(b"Initiator").as_ref(), &self.hashed).is_ok();
        right.then(|| sign(b"Responder").as_ref().to_vec())
    }
}

impl std::fmt::Debug for TokenProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenProof").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(token: &str, data: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let hashed = hmac::sign(&key, &[b"Initiator", data].concat());
        [b"juliet\0", hashed.as_ref()].concat()
    }

    #[test]
    fn a_proof_is_good_for_its_token_and_its_connection_alone() {
        let (name, proof) = TokenProof::parse(TokenMechanism::Exporter, b"here", &message("t", b"here")).unwrap();
        assert_eq!(name, "juliet");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"t");
        assert_eq!(proof.check("t").unwrap(), hmac::sign(&key, b"Responderhere").as_ref());
        assert!(proof.check("other").is_none());
        let (_, elsewhere) = TokenProof::parse(TokenMechanism::Exporter, b"there", &message("t", b"here")).unwrap();
        assert!(elsewhere.check("t").is_none());
    }

    #[test]
    fn a_message_has_a_name_and_a_hash() {
        for wrong in [&b""[..], b"juliet", b"\0hash", b"\xff\0hash"] {
            assert!(TokenProof::parse(TokenMechanism::None, b"", wrong).is_none(), "{wrong:?}");
        }
        // Short and long hashes are wrong ones.
        for hash in [&b""[..], &[0; 31], &[0; 33]] {
            let (_, proof) = TokenProof::parse(TokenMechanism::None, b"", &[b"a\0", hash].concat()).unwrap();
            assert!(proof.check("t").is_none());
        }
    }

    #[test]
    fn names_parse_back_and_a_binding_that_is_not_there_is_none() {
        for mechanism in TokenMechanism::ALL {
            assert_eq!(TokenMechanism::parse(mechanism.name()), Some(mechanism));
        }
        assert_eq!(TokenMechanism::parse("HT-SHA-256-UNIQ"), None);
        let bindings = ChannelBindings { tls_exporter: None, tls_server_end_point: Some(vec![1]) };
        let there = TokenMechanism::ALL.map(|mechanism| mechanism.data(&bindings).is_some());
        assert_eq!(there, [false, true, true]);
    }
}
