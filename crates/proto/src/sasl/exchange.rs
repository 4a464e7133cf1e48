//! One authentication, from `<auth/>` to success or failure, without I/O.

use super::{Hash, SaslFailure, ScramKeys};

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
    /// Registered name.
    pub fn name(self) -> &'static str {
        todo!()
    }
    /// By registered name.
    pub fn parse(_name: &str) -> Option<Self> {
        todo!()
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

/// What is offered on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The served domain, for the check of authorization identities.
    pub domain: String,
    /// The mechanisms, strongest first, as they stand in the stream features. -PLUS only where a channel binding is there.
    pub mechanisms: Vec<Mechanism>,
    /// What can be bound to.
    pub bindings: ChannelBindings,
}

impl Offer {
    /// Names of the channel binding types, for XEP-0440's `<sasl-channel-binding/>`.
    pub fn binding_types(&self) -> impl Iterator<Item = &'static str> {
        std::iter::empty()
    }
}

/// Who has authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An account of the domain, by its prepared localpart.
    Account(String),
    /// Nobody in particular; the server makes up a localpart.
    Anonymous,
}

/// What must happen next.
#[derive(Debug)]
pub enum Step {
    /// Send this challenge (raw bytes, to be base64-encoded) and hand the response to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Fetch the keys of this account (prepared localpart) for this hash, or of any hash where it is `None`, and call [`Exchange::keys`].
    /// For an unknown account, or one without that hash, give [`ScramKeys::fake`] and `known = false`.
    FindKeys {
        /// prepared localpart
        username: String,
        /// which hash, or any
        hash: Option<Hash>,
    },
    /// Call [`ScramKeys::check_password`] where it blocks nobody, then [`Exchange::password_checked`].
    CheckPassword {
        /// against these keys
        keys: Box<ScramKeys>,
        /// this password
        password: String,
    },
    /// Authenticated, and the authorization identity is the account's own.
    Success {
        /// who
        identity: Identity,
        /// additional data with success
        data: Option<Vec<u8>>,
    },
    /// Refused. `username` where one was named, for throttling and the log.
    Failure {
        /// the condition to send
        failure: SaslFailure,
        /// whom the peer claimed to be
        username: Option<String>,
    },
}

/// One exchange. Made anew for each `<auth/>`.
#[derive(Debug)]
pub struct Exchange {}

impl Exchange {
    /// Begins. `initial` is the decoded initial response; `None` where `<auth/>` was empty, `Some(b"")` for `=`.
    /// `nonce` is fresh randomness, printable without comma.
    pub fn start(_offer: &Offer, _mechanism: &str, _initial: Option<&[u8]>, _nonce: String) -> (Self, Step) {
        todo!()
    }
    /// The peer's response to a challenge, decoded.
    pub fn respond(&mut self, _response: &[u8]) -> Step {
        todo!()
    }
    /// Answer to [`Step::FindKeys`]. With `known` false the exchange runs on and ends in `not-authorized`.
    pub fn keys(&mut self, _keys: ScramKeys, _known: bool) -> Step {
        todo!()
    }
    /// Answer to [`Step::CheckPassword`].
    pub fn password_checked(&mut self, _right: bool) -> Step {
        todo!()
    }
}
