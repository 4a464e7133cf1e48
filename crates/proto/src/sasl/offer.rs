//! RFC 6120 §6.3.3: the mechanisms that one stream offers, and what they bind to.

use super::{Hash, TokenMechanism};
use crate::BareJid;

/// A mechanism, by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `SCRAM-…`, `SCRAM-…-PLUS`
    Scram {
        /// which hash
        hash: Hash,
        /// with channel binding
        plus: bool,
    },
    /// `PLAIN` (RFC 4616)
    Plain,
    /// `ANONYMOUS` (RFC 4505)
    Anonymous,
}

impl Mechanism {
    /// Every mechanism that is implemented, strongest first.
    pub const ALL: [Self; 8] = [
        Self::Scram { hash: Hash::Sha512, plus: true },
        Self::Scram { hash: Hash::Sha256, plus: true },
        Self::Scram { hash: Hash::Sha1, plus: true },
        Self::Scram { hash: Hash::Sha512, plus: false },
        Self::Scram { hash: Hash::Sha256, plus: false },
        Self::Scram { hash: Hash::Sha1, plus: false },
        Self::Plain,
        Self::Anonymous,
    ];

    /// Registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scram { hash: Hash::Sha1, plus: false } => "SCRAM-SHA-1",
            Self::Scram { hash: Hash::Sha1, plus: true } => "SCRAM-SHA-1-PLUS",
            Self::Scram { hash: Hash::Sha256, plus: false } => "SCRAM-SHA-256",
            Self::Scram { hash: Hash::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Self::Scram { hash: Hash::Sha512, plus: false } => "SCRAM-SHA-512",
            Self::Scram { hash: Hash::Sha512, plus: true } => "SCRAM-SHA-512-PLUS",
            Self::Plain => "PLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// By registered name. Names are upper case (RFC 4422 §3.1), so case counts.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    fn is_plus(self) -> bool {
        matches!(self, Self::Scram { plus: true, .. })
    }
}

/// Channel binding data of the connection under the stream; empty without TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// `tls-exporter` (RFC 9266), with TLS 1.3 or with the extended master secret.
    pub tls_exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4): hash of the server's certificate.
    pub tls_server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// Whether there is nothing to bind to.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The data of one type, by its registered name.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, data)| data)
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let exporter = self.tls_exporter.as_ref().map(|data| ("tls-exporter", data.as_slice()));
        let end_point = self.tls_server_end_point.as_ref().map(|data| ("tls-server-end-point", data.as_slice()));
        exporter.into_iter().chain(end_point)
    }
}

/// What is offered on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The served domain, for the check of authorization identities.
    pub domain: String,
    /// The mechanisms, strongest first, as they stand in the stream features. -PLUS only where a channel binding is there.
    pub mechanisms: Vec<Mechanism>,
    /// What can be bound to.
    pub bindings: ChannelBindings,
    /// XEP-0388 §4.4: whom the stream header is from; an authorization identity must be the same.
    pub from: Option<BareJid>,
    /// XEP-0474: whether SCRAM tells the client what was offered, so that nobody in between can have taken the best away. RFC 5802 §5.1 has
    /// clients pass over attributes that they do not know; few do not, rsasl 2 among them.
    pub protected: bool,
}

impl Offer {
    /// SCRAM for each of the hashes, with -PLUS where there is something to bind to, then PLAIN, then ANONYMOUS,
    /// where wanted. `domain` is prepared, as [`crate::jid::parse_domain`] gives it.
    pub fn new(
        domain: impl Into<String>,
        bindings: ChannelBindings,
        hashes: &[Hash],
        plain: bool,
        anonymous: bool,
    ) -> Self {
        let can_bind = !bindings.is_empty();
        let mechanisms = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| match mechanism {
                Mechanism::Scram { hash, plus } => hashes.contains(hash) && (can_bind || !plus),
                Mechanism::Plain => plain,
                Mechanism::Anonymous => anonymous,
            })
            .collect();
        Self { domain: domain.into(), mechanisms, bindings, from: None, protected: false }
    }

    /// The mechanisms of tokens (XEP-0484) that this connection can be had by, strongest first.
    pub fn token_mechanisms(bindings: &ChannelBindings) -> Vec<TokenMechanism> {
        TokenMechanism::ALL.into_iter().filter(|mechanism| mechanism.data(bindings).is_some()).collect()
    }

    /// Names of the channel binding types, for XEP-0440's `<sasl-channel-binding/>`.
    pub fn binding_types(&self) -> impl Iterator<Item = &'static str> {
        self.bindings.iter().map(|(name, _)| name)
    }

    /// XEP-0474 §5.1: what is hashed, so that a client can see whether the lists that it was shown are those that were sent.
    pub(super) fn downgrade_protection(&self) -> Vec<u8> {
        let join = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names.join("\u{1e}")
        };
        let mut text = join(self.mechanisms.iter().map(|mechanism| mechanism.name()).collect());
        if !self.bindings.is_empty() {
            text.push('\u{1f}');
            text.push_str(&join(self.binding_types().collect()));
        }
        text.into_bytes()
    }

    /// The hashes with which SCRAM is on offer, strongest first.
    pub(super) fn hashes(&self) -> impl Iterator<Item = Hash> {
        self.mechanisms.iter().filter_map(|mechanism| match mechanism {
            Mechanism::Scram { hash, plus: false } => Some(*hash),
            _ => None,
        })
    }

    /// Whether the mechanism is one of those.
    pub(super) fn has(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(&mechanism)
    }

    /// Whether a client that could bind had something to choose (RFC 5802 §6, flag `y`).
    pub(super) fn has_plus(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.is_plus())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(offer: &Offer) -> Vec<&'static str> {
        offer.mechanisms.iter().map(|mechanism| mechanism.name()).collect()
    }

    #[test]
    fn strongest_mechanisms_stand_first_and_plus_needs_a_binding() {
        let hashes = [Hash::Sha1, Hash::Sha256, Hash::Sha512];
        let bindings = ChannelBindings { tls_exporter: Some([7; 32]), tls_server_end_point: Some(vec![9; 32]) };
        let offer = Offer::new("example.com", bindings, &hashes, true, false);
        assert_eq!(
            names(&offer),
            [
                "SCRAM-SHA-512-PLUS",
                "SCRAM-SHA-256-PLUS",
                "SCRAM-SHA-1-PLUS",
                "SCRAM-SHA-512",
                "SCRAM-SHA-256",
                "SCRAM-SHA-1",
                "PLAIN"
            ]
        );
        assert_eq!(offer.binding_types().collect::<Vec<_>>(), ["tls-exporter", "tls-server-end-point"]);

        let without_tls = Offer::new("example.com", ChannelBindings::default(), &[Hash::Sha256], false, false);
        assert_eq!(names(&without_tls), ["SCRAM-SHA-256"]);
        assert_eq!(without_tls.binding_types().count(), 0);

        let anonymous = Offer::new("guests.example.com", ChannelBindings::default(), &[], false, true);
        assert_eq!(names(&anonymous), ["ANONYMOUS"]);
    }

    #[test]
    fn what_is_hashed_against_downgrades_is_sorted_and_names_bindings_where_there_are_some() {
        let bindings = ChannelBindings { tls_exporter: Some([7; 32]), tls_server_end_point: Some(vec![9; 32]) };
        let mut offer = Offer::new("example.org", bindings, &[Hash::Sha1], false, false);
        // The example of XEP-0474 §5.3, whose hash it names too.
        let text = offer.downgrade_protection();
        assert_eq!(text, b"SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point");
        offer.bindings = ChannelBindings::default();
        assert_eq!(offer.downgrade_protection(), b"SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS");
    }

    #[test]
    fn every_name_parses_back_and_case_counts() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(mechanism.name()).unwrap(), mechanism);
        }
        assert_eq!(Mechanism::parse("plain"), None);
        assert_eq!(Mechanism::parse("SCRAM-SHA-224"), None);
    }
}
