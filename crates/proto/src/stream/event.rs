//! RFC 6120 §4–§7: what a client's stream asks and tells, and what it is answered.

use std::fmt;

use super::features::{StartTls, StreamLimits};
use crate::sasl::sasl2::Authenticate;
use crate::sasl::{Hash, Identity, Offer, SaslFailure, ScramKeys, TokenProof};
use crate::xml::{Element, Stanza, XmlLimits};
use crate::{BareJid, StanzaCondition, StreamError};

/// What happened, or what the stream needs to go on.
pub enum Event {
    /// A stream header came. Answer with [`super::ClientStream::accept`] or [`super::ClientStream::fail`].
    Opened(Opening),
    /// `<proceed/>` is in the output. Write it, start TLS on the connection, call [`super::ClientStream::tls_started`].
    StartTls,
    /// Answer with [`super::ClientStream::keys`] or [`super::ClientStream::refuse_authentication`].
    FindKeys {
        /// prepared localpart
        username: String,
        /// for which hash, or any
        hash: Option<Hash>,
    },
    /// Answer with [`super::ClientStream::password_checked`].
    CheckPassword {
        /// against these keys
        keys: Box<ScramKeys>,
        /// this password
        password: String,
    },
    /// XEP-0484: answer with [`super::ClientStream::token_checked`].
    CheckToken {
        /// prepared localpart
        username: String,
        /// the client's installation, where it says so
        device: Option<String>,
        /// what shows that it has a token
        proof: Box<TokenProof>,
        /// how often it has logged in with it, where it says so
        count: Option<u64>,
    },
    /// Answer with [`super::ClientStream::authenticated`], which sends `<success/>`; where there is a request, with
    /// [`super::ClientStream::authenticated_inline`] or [`super::ClientStream::ask_for_keys`].
    Authenticated {
        /// who
        identity: Identity,
        /// by which mechanism
        mechanism: String,
        /// XEP-0388: the request that began it
        request: Option<Box<Authenticate>>,
    },
    /// XEP-0480: the peer has given what these keys are made of. Answer with [`super::ClientStream::ask_for_keys`] where more are wanted, else
    /// with [`super::ClientStream::authenticated_inline`].
    Upgraded {
        /// for the account that has authenticated
        keys: ScramKeys,
    },
    /// `<failure/>` is in the output; the peer may try again.
    AuthenticationFailed {
        /// why
        failure: SaslFailure,
        /// whom it claimed to be, where it said so
        username: Option<String>,
        /// by which mechanism
        mechanism: String,
    },
    /// XEP-0077 §3.1: an IQ get or set about registration, before authentication, where the [`Acceptance`] allows it. Answer
    /// with [`super::ClientStream::registration_answered`].
    Register(Stanza),
    /// Answer with [`super::ClientStream::bound`] or [`super::ClientStream::bind_refused`].
    Bind {
        /// what the peer asked for
        resource: Option<String>,
    },
    /// XEP-0198 §5. Answer with [`super::ClientStream::resumed`] or [`super::ClientStream::resume_failed`].
    Resume {
        /// the SM-ID
        previd: String,
        /// how many stanzas of ours the peer handled
        h: u32,
    },
    /// A message, presence or IQ of a bound stream, stamped with the full JID.
    Stanza(Stanza),
    /// Any other element of a bound stream: acknowledgements, client state.
    Nonza(Stanza),
    /// The peer closed its stream; our closing tag is in the output. Nothing follows.
    Closed,
    /// A stream error and the closing tag are in the output. Nothing follows.
    Failed(StreamError),
}

impl fmt::Debug for Event {
    /// Without what may be a password: the one that is checked, or one in a stanza about registration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(opening) => f.debug_tuple("Opened").field(opening).finish(),
            Self::StartTls => f.write_str("StartTls"),
            Self::FindKeys { username, hash } => {
                f.debug_struct("FindKeys").field("username", username).field("hash", hash).finish()
            }
            Self::CheckPassword { keys, .. } => {
                f.debug_struct("CheckPassword").field("keys", keys).finish_non_exhaustive()
            }
            Self::CheckToken { username, .. } => {
                f.debug_struct("CheckToken").field("username", username).finish_non_exhaustive()
            }
            Self::Authenticated { identity, mechanism, .. } => {
                f.debug_struct("Authenticated").field("identity", identity).field("mechanism", mechanism).finish()
            }
            Self::Upgraded { keys } => f.debug_struct("Upgraded").field("keys", keys).finish(),
            Self::AuthenticationFailed { failure, username, mechanism } => f
                .debug_struct("AuthenticationFailed")
                .field("failure", failure)
                .field("username", username)
                .field("mechanism", mechanism)
                .finish(),
            Self::Register(_) => f.write_str("Register(..)"),
            Self::Bind { resource } => f.debug_struct("Bind").field("resource", resource).finish(),
            Self::Resume { previd, h } => f.debug_struct("Resume").field("previd", previd).field("h", h).finish(),
            Self::Stanza(stanza) => f.debug_tuple("Stanza").field(&stanza.kind()).finish(),
            Self::Nonza(element) => f.debug_tuple("Nonza").field(&element.name()).finish(),
            Self::Closed => f.write_str("Closed"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// A stream header, as far as it concerns the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// `to`: the host that the peer wants.
    pub to: Option<String>,
    /// `from`: whom it claims to be.
    pub from: Option<String>,
    /// `xml:lang`: the default language of its stanzas.
    pub lang: Option<String>,
    /// The account, after authentication.
    pub account: Option<BareJid>,
    /// Whether TLS is in place.
    pub secure: bool,
}

/// The server's answer to a stream header.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// `from` of our header: the served domain.
    pub domain: String,
    /// STARTTLS.
    pub starttls: StartTls,
    /// SASL. Not used once the peer is authenticated.
    pub offer: Offer,
    /// XEP-0474: whether SCRAM tells the peer what was offered where it speaks the profile of RFC 6120; by that of XEP-0388 it does.
    pub protected: bool,
    /// XEP-0388: whether that profile is on offer, and what can be had inline.
    pub inline: Option<Vec<Element>>,
    /// Whether strangers may make accounts (XEP-0077). Not used once the peer is authenticated.
    pub registration: bool,
    /// Whether some of them are invited, and so may show a token (XEP-0445). Not used once the peer is authenticated.
    pub invites: bool,
    /// Further features after authentication.
    pub features: Vec<Element>,
    /// Limits to advertise and, by `xml`, to keep.
    pub limits: StreamLimits,
    /// Limits to keep from here on.
    pub xml: XmlLimits,
}

/// XEP-0388: what holds once a peer has authenticated without a new stream.
#[derive(Clone, Debug)]
pub struct After {
    /// Further features.
    pub features: Vec<Element>,
    /// Limits to advertise and, by `xml`, to keep.
    pub limits: StreamLimits,
    /// Limits to keep from here on.
    pub xml: XmlLimits,
}

/// XEP-0198 §5: why a stream cannot be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeFailure {
    /// `item-not-found` mostly.
    pub condition: StanzaCondition,
    /// How many stanzas of the peer the server had handled, where it still knows.
    pub h: Option<u32>,
}
