//! One authentication, from `<auth/>` to success or failure, without I/O.
//!
//! An unknown user, and one without keys for the hash, take the same steps as a known one with a wrong
//! password, and the peer sees the same bytes.

use std::fmt;

use super::ht::{TokenMechanism, TokenProof};
use super::offer::{ChannelBindings, Mechanism, Offer};
use super::plain::{self, PlainMessage};
use super::scram::{self, BindingFlag, ClientFinal, ClientFirst};
use super::{Hash, SaslFailure, ScramKeys};
use crate::jid::{BareJid, parse_domain};

/// Who has authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An account of the domain, by its prepared localpart.
    Account(String),
    /// Nobody in particular; the server makes up a localpart.
    Anonymous,
}

/// What must happen next.
pub enum Step {
    /// Send this challenge (raw bytes, to be base64-encoded) and hand the response to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Fetch the keys of this account (prepared localpart) for this hash, or of any hash where it is `None`, and call [`Exchange::keys`].
    /// For an unknown account, or one without that hash, give [`ScramKeys::fake`] and `known = false`. Where any hash does, choose
    /// it for known and fake keys by the same rule, or the time of the password check tells them apart.
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
    /// Look whether the client has the token that it was given, and call [`Exchange::token_checked`].
    CheckToken {
        /// prepared localpart
        username: String,
        /// what it says
        proof: Box<TokenProof>,
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
        /// whom the peer claimed to be: a prepared localpart
        username: Option<String>,
    },
}

impl fmt::Debug for Step {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge(data) => f.debug_tuple("Challenge").field(&data.escape_ascii().to_string()).finish(),
            Self::FindKeys { username, hash } => {
                f.debug_struct("FindKeys").field("username", username).field("hash", hash).finish()
            }
            Self::CheckPassword { keys, .. } => {
                f.debug_struct("CheckPassword").field("keys", keys).finish_non_exhaustive()
            }
            Self::CheckToken { username, proof } => {
                f.debug_struct("CheckToken").field("username", username).field("proof", proof).finish()
            }
            Self::Success { identity, .. } => {
                f.debug_struct("Success").field("identity", identity).finish_non_exhaustive()
            }
            Self::Failure { failure, username } => {
                f.debug_struct("Failure").field("failure", failure).field("username", username).finish()
            }
        }
    }
}

/// One exchange. Made anew for each `<auth/>`.
///
/// A call that the last [`Step`] did not ask for ends the exchange: in `malformed-request` where the peer spoke,
/// in `temporary-auth-failure` where the caller did.
pub struct Exchange {
    domain: String,
    bindings: ChannelBindings,
    has_plus: bool,
    /// XEP-0474: the lists of what was offered, to be hashed.
    lists: Option<Vec<u8>>,
    /// Whom the stream header is from, where an authorization identity must be the same.
    from: Option<BareJid>,
    /// Whom the peer claims to be: a prepared localpart.
    username: Option<String>,
    state: State,
}

enum State {
    /// An empty challenge was sent, since `<auth/>` had no initial response.
    AwaitsInitial {
        mechanism: Mechanism,
        nonce: String,
    },
    ScramAwaitsKeys(Scram),
    ScramAwaitsFinal {
        scram: Scram,
        keys: ScramKeys,
        known: bool,
        server_first: String,
    },
    PlainAwaitsKeys {
        password: String,
    },
    PlainAwaitsCheck {
        known: bool,
    },
    TokenAwaitsCheck,
    Over,
}

/// What the client's first message of SCRAM leaves behind.
struct Scram {
    hash: Hash,
    /// `client-first-message-bare`
    client_first_bare: String,
    /// The client's and the server's nonce.
    nonce: String,
    /// `cbind-input`: what `c=` must say.
    binding: Vec<u8>,
}

impl Exchange {
    /// Begins. `initial` is the decoded initial response; `None` where `<auth/>` was empty, `Some(b"")` for `=`.
    /// `nonce` is fresh randomness, printable without comma.
    pub fn start(offer: &Offer, mechanism: &str, initial: Option<&[u8]>, nonce: String) -> (Self, Step) {
        let mut exchange = Self::new(offer);
        let step = match Mechanism::parse(mechanism) {
            // RFC 6120 §6.5.9: it is known, and could be used here if it were strong enough.
            Some(mechanism @ (Mechanism::Plain | Mechanism::Scram { plus: false, .. })) if !offer.has(mechanism) => {
                exchange.fail(SaslFailure::MechanismTooWeak)
            }
            Some(mechanism) if !offer.has(mechanism) => exchange.fail(SaslFailure::InvalidMechanism),
            None => exchange.fail(SaslFailure::InvalidMechanism),
            Some(mechanism) => match initial {
                Some(initial) => exchange.initial(mechanism, initial, nonce),
                // Clients send no trace, and XEP-0175 §4 lets them in at once.
                None if mechanism == Mechanism::Anonymous => exchange.initial(mechanism, b"", nonce),
                None => {
                    exchange.state = State::AwaitsInitial { mechanism, nonce };
                    Step::Challenge(Vec::new())
                }
            },
        };
        (exchange, step)
    }

    /// Begins one by which the peer shows that it has a token (XEP-0484). It is over in one step: there must be an initial response.
    pub fn start_token(offer: &Offer, mechanism: TokenMechanism, initial: Option<&[u8]>) -> (Self, Step) {
        let mut exchange = Self::new(offer);
        let step =
            exchange.token(mechanism, initial.unwrap_or_default()).unwrap_or_else(|failure| exchange.fail(failure));
        (exchange, step)
    }

    fn new(offer: &Offer) -> Self {
        Self {
            domain: offer.domain.clone(),
            bindings: offer.bindings.clone(),
            has_plus: offer.has_plus(),
            lists: offer.protected.then(|| offer.downgrade_protection()),
            from: offer.from.clone(),
            username: None,
            state: State::Over,
        }
    }

    /// The peer's response to a challenge, decoded.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        match self.take() {
            State::AwaitsInitial { mechanism, nonce } => self.initial(mechanism, response, nonce),
            State::ScramAwaitsFinal { scram, keys, known, server_first } => {
                self.scram_final(&scram, &keys, known, &server_first, response)
            }
            _ => self.fail(SaslFailure::MalformedRequest),
        }
    }

    /// Answer to [`Step::FindKeys`]. With `known` false the exchange runs on and ends in `not-authorized`.
    pub fn keys(&mut self, keys: ScramKeys, known: bool) -> Step {
        match self.take() {
            State::ScramAwaitsKeys(scram) if scram.hash == keys.hash => {
                let mut server_first = scram::server_first(&scram.nonce, &keys.salt, keys.iterations);
                if let Some(lists) = &self.lists {
                    server_first.push_str(&scram::downgrade_protection(scram.hash.digest(lists).as_ref()));
                }
                let challenge = server_first.clone().into_bytes();
                self.state = State::ScramAwaitsFinal { scram, keys, known, server_first };
                Step::Challenge(challenge)
            }
            State::PlainAwaitsKeys { password } => {
                self.state = State::PlainAwaitsCheck { known };
                Step::CheckPassword { keys: Box::new(keys), password }
            }
            _ => self.fail(SaslFailure::TemporaryAuthFailure),
        }
    }

    /// Answer to [`Step::CheckPassword`].
    pub fn password_checked(&mut self, right: bool) -> Step {
        match self.take() {
            State::PlainAwaitsCheck { known } if known && right => self.succeed(None),
            State::PlainAwaitsCheck { .. } => self.fail(SaslFailure::NotAuthorized),
            _ => self.fail(SaslFailure::TemporaryAuthFailure),
        }
    }

    /// Answer to [`Step::CheckToken`]: what the server has to say, or why the token is not good.
    pub fn token_checked(&mut self, outcome: Result<Vec<u8>, SaslFailure>) -> Step {
        match (self.take(), outcome) {
            (State::TokenAwaitsCheck, Ok(data)) => self.succeed(Some(data)),
            (State::TokenAwaitsCheck, Err(failure)) => self.fail(failure),
            _ => self.fail(SaslFailure::TemporaryAuthFailure),
        }
    }

    fn token(&mut self, mechanism: TokenMechanism, initial: &[u8]) -> Result<Step, SaslFailure> {
        let data = mechanism.data(&self.bindings).ok_or(SaslFailure::InvalidMechanism)?;
        let (name, proof) = TokenProof::parse(mechanism, data, initial).ok_or(SaslFailure::MalformedRequest)?;
        let username = self.identify(&name, None)?;
        self.state = State::TokenAwaitsCheck;
        Ok(Step::CheckToken { username, proof: Box::new(proof) })
    }

    fn initial(&mut self, mechanism: Mechanism, initial: &[u8], nonce: String) -> Step {
        let next = match mechanism {
            Mechanism::Scram { hash, plus } => self.scram_first(hash, plus, initial, &nonce),
            Mechanism::Plain => self.plain(initial),
            Mechanism::Anonymous if plain::is_trace(initial) => {
                return Step::Success { identity: Identity::Anonymous, data: None };
            }
            Mechanism::Anonymous => Err(SaslFailure::MalformedRequest),
        };
        next.unwrap_or_else(|failure| self.fail(failure))
    }

    fn plain(&mut self, initial: &[u8]) -> Result<Step, SaslFailure> {
        let message = PlainMessage::parse(initial).ok_or(SaslFailure::MalformedRequest)?;
        let username = self.identify(message.authcid, message.authzid)?;
        self.state = State::PlainAwaitsKeys { password: message.password.to_owned() };
        Ok(Step::FindKeys { username, hash: None })
    }

    fn scram_first(&mut self, hash: Hash, plus: bool, message: &[u8], nonce: &str) -> Result<Step, SaslFailure> {
        let message = ClientFirst::parse(message).ok_or(SaslFailure::MalformedRequest)?;
        let username = self.identify(&message.username, message.authzid.as_deref())?;
        let data = match (message.flag, plus) {
            // No guess at a password: older clients try each -PLUS mechanism with `tls-unique`, which TLS 1.3 does not have.
            (BindingFlag::Bound(name), true) => self.bindings.get(name).ok_or(SaslFailure::InvalidMechanism)?,
            // Somebody took the -PLUS mechanisms out of the features on their way (RFC 5802 §6).
            (BindingFlag::NotOffered, _) if self.has_plus => return Err(SaslFailure::NotAuthorized),
            (BindingFlag::NotOffered | BindingFlag::Unsupported, false) => &[],
            // The flag contradicts the mechanism's name.
            _ => return Err(SaslFailure::MalformedRequest),
        };
        self.state = State::ScramAwaitsKeys(Scram {
            hash,
            client_first_bare: message.bare.to_owned(),
            nonce: [message.nonce, nonce].concat(),
            binding: [message.gs2_header.as_bytes(), data].concat(),
        });
        Ok(Step::FindKeys { username, hash: Some(hash) })
    }

    fn scram_final(
        &mut self,
        scram: &Scram,
        keys: &ScramKeys,
        known: bool,
        server_first: &str,
        response: &[u8],
    ) -> Step {
        let Some(message) = ClientFinal::parse(response).filter(|message| message.proof.len() == keys.hash.bytes())
        else {
            return self.fail(SaslFailure::MalformedRequest);
        };
        let auth_message = [&scram.client_first_bare, server_first, message.without_proof].join(",");
        let proven = keys.check_proof(auth_message.as_bytes(), &message.proof);
        if known && proven && message.nonce == scram.nonce && message.binding == scram.binding {
            let signature = keys.server_signature(auth_message.as_bytes());
            self.succeed(Some(scram::server_final(signature.as_ref()).into_bytes()))
        } else {
            self.fail(SaslFailure::NotAuthorized)
        }
    }

    /// The localpart of the account that the peer wants to be, remembered and returned.
    ///
    /// `user@domain` is taken for `user` where the domain is the one served, since users type their address and a
    /// localpart has no `@`; with another domain, or with a name that no account can have, nobody is authorized.
    /// The authorization identity, where there is one, must be the same account's bare JID (RFC 6120 §6.3.8).
    fn identify(&mut self, authcid: &str, authzid: Option<&str>) -> Result<String, SaslFailure> {
        let local = match authcid.rsplit_once('@') {
            Some((local, domain)) if parse_domain(domain).is_ok_and(|domain| domain == self.domain) => local,
            _ => authcid,
        };
        let account = BareJid::from_parts(Some(local), &self.domain).or_else(|_| {
            // A name that servers of RFC 6122's time folded into one that still can be: `ﬁnn` was stored as `finn`.
            let folded = BareJid::legacy_candidates(&format!("{local}@{}", self.domain));
            folded.into_iter().next().ok_or(SaslFailure::NotAuthorized)
        })?;
        let username = account.local().ok_or(SaslFailure::NotAuthorized)?.to_owned();
        self.username = Some(username.clone());
        match authzid {
            Some(authzid) if BareJid::parse(authzid).as_ref() != Ok(&account) => Err(SaslFailure::InvalidAuthzid),
            Some(_) if self.from.as_ref().is_some_and(|from| *from != account) => Err(SaslFailure::InvalidAuthzid),
            _ => Ok(username),
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over)
    }

    fn succeed(&mut self, data: Option<Vec<u8>>) -> Step {
        match self.username.take() {
            Some(username) => Step::Success { identity: Identity::Account(username), data },
            None => self.fail(SaslFailure::TemporaryAuthFailure),
        }
    }

    fn fail(&mut self, failure: SaslFailure) -> Step {
        self.state = State::Over;
        Step::Failure { failure, username: self.username.take() }
    }
}

impl fmt::Debug for Exchange {
    /// Without nonce, keys and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("domain", &self.domain)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
