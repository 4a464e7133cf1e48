//! XEP-0484: Fast Authentication Streamlining Tokens
//!
//! A client that says who it is (XEP-0388's `<user-agent/>`) gets a token, with which it logs in by one message. A client has two at
//! most: the one that it used last, and one that it was given since. A change of the password or the account's end takes them all.

use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::sasl::{SaslFailure, TokenMechanism, TokenProof};
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, ns};
use magpie_store::{Batch, Map, Record, Store, StoreError};

use super::{About, Module};
use crate::accounts::{self, Accounts};
use crate::server::{Deps, now, random_text};

/// How long a token is good for that is not used.
const TOKEN_SECONDS: u64 = 30 * 24 * 60 * 60;

/// How long before its end a token is replaced.
const ROTATION_SECONDS: u64 = 15 * 24 * 60 * 60;

/// Clients of one account that have tokens; of more, those go first whose tokens end first.
const DEVICES_MAX: usize = 64;

/// How tokens stand in the store; never renumber.
const ENCODING: u8 = 1;

/// The module.
pub struct Fast {
    tokens: Map<Device>,
    store: Store,
    accounts: Accounts,
}

impl Module for Fast {
    const ABOUT: &'static [About] = &[About {
        xep: Some(484),
        title: "Fast Authentication Streamlining Tokens",
        version: "0.2.0",
        host_features: &[],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self { tokens: deps.store.map(accounts::TOKENS), store: deps.store.clone(), accounts: deps.accounts.clone() }
    }
}

/// A token, and what it is good for.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    secret: String,
    mechanism: TokenMechanism,
    /// Seconds since 1970.
    expires: u64,
    /// The highest count of a login with it (§3.4).
    count: u64,
}

/// The tokens of one client.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Device {
    current: Option<Token>,
    new: Option<Token>,
}

impl Device {
    /// Whether the proof is good now, and what the server says then. The device is changed as far as the store must know.
    fn check(&mut self, proof: &TokenProof, count: Option<u64>, now: u64) -> Result<Vec<u8>, SaslFailure> {
        let slots = [&self.new, &self.current];
        let found = slots.into_iter().position(|slot| slot.as_ref().is_some_and(|token| proof.check(&token.secret).is_some()));
        let slot = match found {
            Some(0) => &mut self.new,
            Some(_) => &mut self.current,
            None => return Err(SaslFailure::NotAuthorized),
        };
        let Some(token) = slot else { return Err(SaslFailure::NotAuthorized) };
        // §3.4: it is good for the mechanism alone that it was asked for.
        if token.mechanism != proof.mechanism {
            return Err(SaslFailure::NotAuthorized);
        }
        if token.expires <= now {
            return Err(SaslFailure::CredentialsExpired);
        }
        if let Some(count) = count {
            // Somebody says again what was said before.
            if count <= token.count {
                return Err(SaslFailure::NotAuthorized);
            }
            token.count = count;
        }
        let answer = proof.check(&token.secret).ok_or(SaslFailure::NotAuthorized)?;
        if found == Some(0) {
            self.current = self.new.take();
        }
        Ok(answer)
    }

    fn expires(&self) -> u64 {
        [&self.current, &self.new].into_iter().flatten().map(|token| token.expires).max().unwrap_or(0)
    }

    /// Whether the token in use ends soon.
    fn is_due(&self, now: u64) -> Option<TokenMechanism> {
        let token = self.current.as_ref()?;
        (token.expires < now + ROTATION_SECONDS).then_some(token.mechanism)
    }
}

impl Record for Device {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ENCODING);
        for slot in [&self.current, &self.new] {
            let Some(token) = slot else {
                out.push(0);
                continue;
            };
            out.push(match token.mechanism {
                TokenMechanism::None => 1,
                TokenMechanism::EndPoint => 2,
                TokenMechanism::Exporter => 3,
            });
            out.extend_from_slice(&token.expires.to_be_bytes());
            out.extend_from_slice(&token.count.to_be_bytes());
            // Ours are of 43 characters.
            out.push(u8::try_from(token.secret.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(token.secret.as_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[ENCODING])?;
        let mut slot = || {
            let (&code, after) = rest.split_first()?;
            rest = after;
            let mechanism = match code {
                0 => return Some(None),
                1 => TokenMechanism::None,
                2 => TokenMechanism::EndPoint,
                3 => TokenMechanism::Exporter,
                _ => return None,
            };
            let (&expires, after) = rest.split_first_chunk()?;
            let (&count, after) = after.split_first_chunk()?;
            let (&length, after) = after.split_first()?;
            let (secret, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            let secret = std::str::from_utf8(secret).ok()?.to_owned();
            let (expires, count) = (u64::from_be_bytes(expires), u64::from_be_bytes(count));
            Some(Some(Token { secret, mechanism, expires, count }))
        };
        let (current, new) = (slot()?, slot()?);
        rest.is_empty().then_some(Self { current, new })
    }
}

impl Fast {
    /// The feature, with the mechanisms that a connection can be had by.
    pub fn feature(mechanisms: &[TokenMechanism]) -> Element {
        let each = mechanisms.iter().map(|mechanism| Element::new("mechanism", ns::FAST).with_text(mechanism.name()));
        Element::new("fast", ns::FAST).with_all(each)
    }

    /// Whether the client has the token that it was given, and what the server says then. What becomes of the token thereby is on
    /// disk when this returns.
    pub async fn check(
        &self,
        account: &BareJid,
        device: Option<&str>,
        proof: &TokenProof,
        count: Option<u64>,
    ) -> Result<Vec<u8>, SaslFailure> {
        let refuse = |error: StoreError| {
            tracing::error!(%error, %account, "tokens cannot be read or written");
            SaslFailure::TemporaryAuthFailure
        };
        let Some(device) = device else { return Err(SaslFailure::NotAuthorized) };
        let owner = accounts::owner(account);
        let Some(before) = self.tokens.get(&owner, device).await.map_err(refuse)? else {
            return Err(SaslFailure::NotAuthorized);
        };
        let mut after = before.clone();
        let answer = after.check(proof, count, now().as_secs())?;
        if after != before {
            let mut batch = Batch::new();
            // Of two that say the same at the same time one is too late.
            self.tokens.expect(&mut batch, &owner, device, Some(&before));
            self.tokens.put(&mut batch, &owner, device, &after);
            match self.store.commit(batch).await {
                Err(StoreError::Conflict) => return Err(SaslFailure::NotAuthorized),
                outcome => outcome.map_err(refuse)?,
            }
        }
        Ok(answer)
    }

    /// What is to be done about tokens once the account has authenticated: one is taken back, or given. What is given is on disk.
    pub async fn settle(
        &self,
        account: &BareJid,
        request: &Authenticate,
        offered: &[TokenMechanism],
    ) -> Result<Option<Element>, StoreError> {
        let Some(id) = request.user_agent.id.as_deref() else { return Ok(None) };
        let by_token = TokenMechanism::parse(&request.mechanism).is_some();
        let fast = request.wanted("fast", ns::FAST).filter(|_| by_token);
        let asked = request.wanted("request-token", ns::FAST).and_then(|wish| TokenMechanism::parse(wish.attr("mechanism")?));
        let asked = asked.filter(|mechanism| offered.contains(mechanism));
        if fast.is_none() && asked.is_none() {
            return Ok(None);
        }
        let owner = accounts::owner(account);
        let before = self.tokens.get(&owner, id).await?;
        let mut device = before.clone().unwrap_or_default();
        let now = now().as_secs();
        let invalidate = fast.is_some_and(|fast| matches!(fast.attr("invalidate"), Some("1" | "true")));
        if invalidate {
            device = Device::default();
        }
        let due = fast.filter(|_| !invalidate).and_then(|_| device.is_due(now));
        let given = asked.or(due).map(|mechanism| Token {
            secret: random_text(32),
            mechanism,
            expires: now + TOKEN_SECONDS,
            count: 0,
        });
        // §3.5: one that was given and not used goes.
        if given.is_some() {
            device.new.clone_from(&given);
        }
        if before.as_ref() == Some(&device) {
            return Ok(None);
        }
        let put = |batch: &mut Batch| match device == Device::default() {
            true => self.tokens.delete(batch, &owner, id),
            false => self.tokens.put(batch, &owner, id, &device),
        };
        let mut extra = Vec::new();
        if before.is_none() {
            extra = self.too_many(&owner).await?;
        }
        let changed = self.accounts.change(account, |batch| {
            extra.iter().for_each(|key| self.tokens.delete(batch, &owner, key));
            put(batch);
        });
        match changed.await {
            Ok(()) => {}
            Err(accounts::AccountError::Store(error)) => return Err(error),
            // It was removed meanwhile, and is told so when it binds.
            Err(_) => return Ok(None),
        }
        Ok(given.map(|token| {
            let expiry = DateTime::from_unix(i64::try_from(token.expires).unwrap_or(i64::MAX), 0);
            Element::new("token", ns::FAST).with_attr("expiry", expiry.to_string()).with_attr("token", token.secret)
        }))
    }

    /// Which clients of an account have to give way to one more.
    async fn too_many(&self, owner: &str) -> Result<Vec<String>, StoreError> {
        let mut all = self.tokens.list(owner).await?;
        all.sort_by_key(|(_, device)| std::cmp::Reverse(device.expires()));
        Ok(all.into_iter().skip(DEVICES_MAX - 1).map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use magpie_proto::sasl::{ChannelBindings, Exchange, Offer, Step};

    fn token(secret: &str, mechanism: TokenMechanism, expires: u64) -> Token {
        Token { secret: secret.into(), mechanism, expires, count: 0 }
    }

    fn proof(secret: &str, mechanism: TokenMechanism) -> TokenProof {
        use aws_lc_rs::hmac;
        let bindings = ChannelBindings { tls_exporter: Some([7; 32]), tls_server_end_point: None };
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let hashed = hmac::sign(&key, &[b"Initiator", mechanism.data(&bindings).unwrap()].concat());
        let offer = Offer::new("example.org", bindings, &[], false, false);
        let message = [b"juliet\0", hashed.as_ref()].concat();
        match Exchange::start_token(&offer, mechanism, Some(&message)) {
            (_, Step::CheckToken { proof, .. }) => *proof,
            (_, step) => panic!("{step:?}"),
        }
    }

    const NONE: TokenMechanism = TokenMechanism::None;

    #[test]
    fn the_old_token_is_good_until_the_new_one_is_used() {
        let mut device = Device { current: Some(token("old", NONE, 9)), new: Some(token("new", NONE, 9)) };
        assert!(device.check(&proof("old", NONE), None, 1).is_ok());
        assert!(device.check(&proof("other", NONE), None, 1).is_err());
        assert!(device.check(&proof("new", NONE), None, 1).is_ok());
        assert_eq!(device.check(&proof("old", NONE), None, 1), Err(SaslFailure::NotAuthorized));
        assert!(device.check(&proof("new", NONE), None, 1).is_ok() && device.new.is_none());
    }

    #[test]
    fn a_token_is_good_for_its_mechanism_and_its_time() {
        let mut device = Device { current: Some(token("t", TokenMechanism::Exporter, 9)), new: None };
        assert!(device.check(&proof("t", TokenMechanism::Exporter), None, 8).is_ok());
        assert_eq!(device.check(&proof("t", NONE), None, 8), Err(SaslFailure::NotAuthorized));
        let late = device.check(&proof("t", TokenMechanism::Exporter), None, 9);
        assert_eq!(late, Err(SaslFailure::CredentialsExpired));
    }

    #[test]
    fn a_count_only_rises() {
        let mut device = Device { current: Some(token("t", NONE, 9)), new: None };
        let mut log_in = |count| device.check(&proof("t", NONE), count, 1).is_ok();
        assert_eq!([Some(0), Some(1), Some(1), None, Some(7), Some(6), Some(8)].map(&mut log_in), [
            false, true, false, true, true, false, true
        ]);
    }

    #[test]
    fn a_token_in_use_is_due_when_it_ends_soon() {
        let mut device = Device { current: Some(token("t", NONE, ROTATION_SECONDS + 100)), new: None };
        assert_eq!((device.is_due(100), device.is_due(101)), (None, Some(NONE)));
        device.current = None;
        assert_eq!(device.is_due(101), None);
    }

    #[test]
    fn what_is_stored_reads_back_and_corrupt_bytes_do_not() {
        let device = Device { current: Some(token("a", NONE, 1)), new: Some(token("b", TokenMechanism::EndPoint, 2)) };
        for device in [Device::default(), Device { new: None, ..device.clone() }, device] {
            let mut bytes = Vec::new();
            device.encode(&mut bytes);
            assert!(Device::decode(&bytes).unwrap() == device);
            assert!((0..bytes.len()).all(|end| Device::decode(&bytes[..end]).is_none()));
            assert!(Device::decode(&[&bytes[..], b"x"].concat()).is_none());
        }
    }
}
