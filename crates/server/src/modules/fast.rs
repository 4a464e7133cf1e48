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
use serde::Serialize;

use super::{About, Module};
use crate::accounts::{self, AccountError, Accounts, Proof};
use crate::server::{Deps, now, random_text};

/// How long a token is good for that is not used.
const TOKEN_SECONDS: u64 = 30 * 24 * 60 * 60;

/// How long before its end a token is replaced.
const ROTATION_SECONDS: u64 = 15 * 24 * 60 * 60;

/// Clients of one account that have tokens; of more, those go first whose tokens end first.
const DEVICES_MAX: usize = 64;

/// How tokens stand in the store, without and with what the client says of itself; never renumber.
const ENCODING_OF_TOKENS: u8 = 1;
const ENCODING: u8 = 2;

/// How often a change is tried again that another one overtook.
const ATTEMPTS_MAX: usize = 8;

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
        Self::of(&deps.accounts)
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

impl Token {
    fn element(&self) -> Element {
        Element::new("token", ns::FAST).with_attr("expiry", date_time(self.expires)).with_attr("token", &self.secret)
    }
}

fn date_time(seconds: u64) -> String {
    DateTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX), 0).to_string()
}

/// The tokens of one client, and what it says of itself (XEP-0388 §2.3).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Device {
    current: Option<Token>,
    new: Option<Token>,
    software: Option<String>,
    device: Option<String>,
}

/// A client that has a token, for its user's eyes and the administrators'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its installation, by the id that it has given itself.
    pub client: String,
    /// What it calls itself.
    pub software: Option<String>,
    /// On what it runs.
    pub device: Option<String>,
    /// By which mechanism it logs in.
    pub mechanism: String,
    /// When its newest token was given.
    pub since: String,
    /// Until when that is good.
    pub until: String,
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

    fn is_empty(&self) -> bool {
        self.current.is_none() && self.new.is_none()
    }

    fn client(&self, id: String) -> Option<Client> {
        let token = self.new.as_ref().or(self.current.as_ref())?;
        Some(Client {
            client: id,
            software: self.software.clone(),
            device: self.device.clone(),
            mechanism: token.mechanism.name().to_owned(),
            since: date_time(token.expires.saturating_sub(TOKEN_SECONDS)),
            until: date_time(token.expires),
        })
    }

    fn expires(&self) -> u64 {
        [&self.current, &self.new].into_iter().flatten().map(|token| token.expires).max().unwrap_or(0)
    }

    /// Takes the token back with which the client came, or gives it one: because it asks, or because the one in use ends soon.
    fn settle(&mut self, fast: Option<&Element>, asked: Option<TokenMechanism>, now: u64) -> Option<Token> {
        let invalidate = fast.is_some_and(|fast| matches!(fast.attr("invalidate"), Some("1" | "true")));
        if invalidate {
            *self = Self::default();
        }
        let due = fast.and_then(|_| self.is_due(now));
        let mechanism = asked.or(due)?;
        let given = Token { secret: random_text(32), mechanism, expires: now + TOKEN_SECONDS, count: 0 };
        // §3.5: one that was given and not used goes.
        self.new = Some(given.clone());
        Some(given)
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
        for text in [&self.software, &self.device] {
            let text = text.as_deref().unwrap_or_default();
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&encoding, mut rest) = bytes.split_first()?;
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
        let mut text = || {
            let (&length, after) = rest.split_first_chunk()?;
            let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
            rest = after;
            let text = std::str::from_utf8(text).ok()?;
            Some((!text.is_empty()).then(|| text.to_owned()))
        };
        let (software, device) = match encoding {
            ENCODING => (text()?, text()?),
            ENCODING_OF_TOKENS => (None, None),
            _ => return None,
        };
        rest.is_empty().then_some(Self { current, new, software, device })
    }
}

impl Fast {
    /// The tokens of these accounts.
    pub fn of(accounts: &Accounts) -> Self {
        let store = accounts.store();
        Self { tokens: store.map(accounts::TOKENS), store: store.clone(), accounts: accounts.clone() }
    }

    /// The feature, with the mechanisms that a connection can be had by. `early`: whether this may be said in early data of TLS.
    pub fn feature(mechanisms: &[TokenMechanism], early: bool) -> Element {
        let each = mechanisms.iter().map(|mechanism| Element::new("mechanism", ns::FAST).with_text(mechanism.name()));
        let mut feature = Element::new("fast", ns::FAST).with_all(each);
        if early {
            feature.set_attr("tls-0rtt", "true");
        }
        feature
    }

    /// Whether the client has the token that it was given: what the server says then, and the client's tokens as they are now. What
    /// becomes of them is on disk when this returns.
    pub async fn check(
        &self,
        account: &BareJid,
        device: Option<&str>,
        proof: &TokenProof,
        count: Option<u64>,
    ) -> Result<(Vec<u8>, Device), SaslFailure> {
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
        Ok((answer, after))
    }

    /// What is to be done about tokens once the account has authenticated: one is taken back, or given. What is given is on disk. Whoever
    /// has authenticated by an earlier password, or by a token that is gone, gets none. `checked`: the tokens as [`Fast::check`] gave them.
    pub async fn settle(
        &self,
        account: &BareJid,
        request: &Authenticate,
        offered: &[TokenMechanism],
        proof: &Proof,
        mut checked: Option<Device>,
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
        for _ in 0..ATTEMPTS_MAX {
            let before = match checked.take() {
                Some(device) => Some(device),
                None => self.tokens.get(&owner, id).await?,
            };
            if by_token && before.is_none() {
                return Ok(None);
            }
            let now = now().as_secs();
            let mut after = before.clone().unwrap_or_default();
            let given = after.settle(fast, asked, now);
            if given.is_some() {
                (after.software, after.device) = (request.user_agent.software.clone(), request.user_agent.device.clone());
            }
            if before.as_ref() == Some(&after) {
                return Ok(None);
            }
            let extra = match before {
                None => self.too_many(&owner).await?,
                Some(_) => Vec::new(),
            };
            let changed = self.accounts.change_while(account, proof, |batch| {
                self.tokens.expect(batch, &owner, id, before.as_ref());
                extra.iter().for_each(|key| self.tokens.delete(batch, &owner, key));
                match after.is_empty() {
                    true => self.tokens.delete(batch, &owner, id),
                    false => self.tokens.put(batch, &owner, id, &after),
                }
            });
            match changed.await {
                Ok(true) => return Ok(given.map(|token| token.element())),
                Err(AccountError::Store(StoreError::Conflict)) => {}
                Err(AccountError::Store(error)) => return Err(error),
                // It has another password by now, or is removed, and is told so when it binds.
                Ok(false) | Err(_) => return Ok(None),
            }
        }
        Err(StoreError::Conflict)
    }

    /// The clients of an account that have tokens.
    pub async fn clients(&self, account: &BareJid) -> Result<Vec<Client>, StoreError> {
        let all = self.tokens.list(&accounts::owner(account)).await?;
        Ok(all.into_iter().filter_map(|(id, device)| device.client(id)).collect())
    }

    /// Takes the tokens of a client back, of all where none is named: of which. They are good for nothing when this returns.
    pub async fn revoke(&self, account: &BareJid, client: Option<&str>) -> Result<Vec<String>, StoreError> {
        let owner = accounts::owner(account);
        let all = self.tokens.list(&owner).await?;
        let named = all.into_iter().map(|(id, _)| id).filter(|id| client.is_none_or(|client| client == id));
        let named: Vec<String> = named.collect();
        let mut batch = Batch::new();
        named.iter().for_each(|id| self.tokens.delete(&mut batch, &owner, id));
        self.store.commit(batch).await?;
        Ok(named)
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
    use magpie_proto::sasl::{ChannelBindings, Exchange, Offer, ScramPolicy, Step};

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

    const PHONE: &str = "d4565fa7-4d72-4749-b3d3-740edbf87770";

    /// An account with a password, and what its login by that rests on.
    async fn account(accounts: &Accounts) -> (BareJid, Proof) {
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        accounts.create(&juliet, "secret").await.unwrap();
        (juliet.clone(), proof_of(accounts, &juliet).await)
    }

    async fn proof_of(accounts: &Accounts, account: &BareJid) -> Proof {
        Proof::new(accounts.find(account).await.unwrap().unwrap().keys[0].clone())
    }

    fn request(mechanism: &str, inline: &[Element]) -> Authenticate {
        let mut request = Authenticate { mechanism: mechanism.into(), inline: inline.to_vec(), ..Authenticate::default() };
        request.user_agent.id = Some(PHONE.into());
        request.user_agent.software = Some("Magpie Mobile".into());
        request
    }

    fn wish() -> Element {
        Element::new("request-token", ns::FAST).with_attr("mechanism", NONE.name())
    }

    fn secret(token: Option<Element>) -> String {
        token.unwrap().attr("token").unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_password_that_is_changed_while_a_client_logs_in_leaves_no_token_of_the_old_one() {
        let accounts = Accounts::new(&Store::memory(), ScramPolicy::default());
        let (fast, (juliet, by_old)) = (Fast::of(&accounts), account(&accounts).await);
        // By its password the client is in; only then the password is changed.
        accounts.set_password(&juliet, "another").await.unwrap();
        let settled = fast.settle(&juliet, &request("PLAIN", &[wish()]), &[NONE], &by_old, None).await.unwrap();
        assert_eq!(settled, None);
        assert!(fast.clients(&juliet).await.unwrap().is_empty());

        // The same where it came by a token.
        let by_new = proof_of(&accounts, &juliet).await;
        let token = secret(fast.settle(&juliet, &request("PLAIN", &[wish()]), &[NONE], &by_new, None).await.unwrap());
        fast.check(&juliet, Some(PHONE), &proof(&token, NONE), None).await.unwrap();
        accounts.set_password(&juliet, "a third").await.unwrap();
        let by_token = request(NONE.name(), &[Element::new("fast", ns::FAST), wish()]);
        assert_eq!(fast.settle(&juliet, &by_token, &[NONE], &by_new, None).await.unwrap(), None);
        let by_third = proof_of(&accounts, &juliet).await;
        assert_eq!(fast.settle(&juliet, &by_token, &[NONE], &by_third, None).await.unwrap(), None, "the token is gone");
        assert!(fast.clients(&juliet).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_token_that_ends_soon_is_replaced_once_its_successor_is_used() {
        let accounts = Accounts::new(&Store::memory(), ScramPolicy::default());
        let (fast, (juliet, by)) = (Fast::of(&accounts), account(&accounts).await);
        let ends = now().as_secs() + ROTATION_SECONDS - 60;
        let device = Device { current: Some(token("old", NONE, ends)), ..Device::default() };
        let mut batch = Batch::new();
        fast.tokens.put(&mut batch, &accounts::owner(&juliet), PHONE, &device);
        accounts.store().commit(batch).await.unwrap();
        let log_in = async |token: &str, count| {
            let (_, checked) = fast.check(&juliet, Some(PHONE), &proof(token, NONE), Some(count)).await?;
            let request = request(NONE.name(), &[Element::new("fast", ns::FAST).with_attr("count", count.to_string())]);
            Ok(fast.settle(&juliet, &request, &[NONE], &by, Some(checked)).await.unwrap())
        };
        let new = secret(log_in("old", 1).await.unwrap());
        // Its answer was lost: the client comes with the old one, and gets another.
        let newer = secret(log_in("old", 2).await.unwrap());
        assert_eq!(log_in(&new, 1).await, Err(SaslFailure::NotAuthorized), "it was given and not used");
        assert_eq!(log_in("old", 2).await, Err(SaslFailure::NotAuthorized), "a replay");
        // Counts begin anew with each token, and are kept.
        assert_eq!(log_in(&newer, 1).await, Ok(None));
        assert_eq!(log_in(&newer, 1).await, Err(SaslFailure::NotAuthorized), "a replay");
        assert_eq!(log_in("old", 9).await, Err(SaslFailure::NotAuthorized), "its successor was used");
        assert_eq!(log_in(&newer, 2).await, Ok(None));
    }

    #[tokio::test]
    async fn of_two_logins_with_one_count_at_the_same_time_one_is_a_replay() {
        let accounts = Accounts::new(&Store::memory(), ScramPolicy::default());
        let (fast, (juliet, by)) = (Fast::of(&accounts), account(&accounts).await);
        let token = secret(fast.settle(&juliet, &request("PLAIN", &[wish()]), &[NONE], &by, None).await.unwrap());
        let proof = proof(&token, NONE);
        let once = || fast.check(&juliet, Some(PHONE), &proof, Some(1));
        let (one, other) = tokio::join!(once(), once());
        assert!(one.is_ok() != other.is_ok());
    }

    #[tokio::test]
    async fn clients_with_tokens_are_listed_and_what_is_taken_back_is_good_no_more() {
        let accounts = Accounts::new(&Store::memory(), ScramPolicy::default());
        let (fast, (juliet, by)) = (Fast::of(&accounts), account(&accounts).await);
        let token = secret(fast.settle(&juliet, &request("PLAIN", &[wish()]), &[NONE], &by, None).await.unwrap());
        let listed = fast.clients(&juliet).await.unwrap();
        assert_eq!((listed.len(), listed[0].client.as_str()), (1, PHONE));
        assert_eq!(listed[0].software.as_deref(), Some("Magpie Mobile"));
        assert!(fast.revoke(&juliet, Some("another")).await.unwrap().is_empty());
        fast.check(&juliet, Some(PHONE), &proof(&token, NONE), None).await.unwrap();
        assert_eq!(fast.revoke(&juliet, Some(PHONE)).await.unwrap(), [PHONE]);
        let late = fast.check(&juliet, Some(PHONE), &proof(&token, NONE), None).await;
        assert_eq!(late.err(), Some(SaslFailure::NotAuthorized));
        assert!(fast.clients(&juliet).await.unwrap().is_empty());
    }

    #[test]
    fn the_old_token_is_good_until_the_new_one_is_used() {
        let mut device = Device { current: Some(token("old", NONE, 9)), new: Some(token("new", NONE, 9)), ..Device::default() };
        assert!(device.check(&proof("old", NONE), None, 1).is_ok());
        assert!(device.check(&proof("other", NONE), None, 1).is_err());
        assert!(device.check(&proof("new", NONE), None, 1).is_ok());
        assert_eq!(device.check(&proof("old", NONE), None, 1), Err(SaslFailure::NotAuthorized));
        assert!(device.check(&proof("new", NONE), None, 1).is_ok() && device.new.is_none());
    }

    #[test]
    fn a_token_is_good_for_its_mechanism_and_its_time() {
        let mut device = Device { current: Some(token("t", TokenMechanism::Exporter, 9)), ..Device::default() };
        assert!(device.check(&proof("t", TokenMechanism::Exporter), None, 8).is_ok());
        assert_eq!(device.check(&proof("t", NONE), None, 8), Err(SaslFailure::NotAuthorized));
        let late = device.check(&proof("t", TokenMechanism::Exporter), None, 9);
        assert_eq!(late, Err(SaslFailure::CredentialsExpired));
    }

    #[test]
    fn a_count_only_rises() {
        let mut device = Device { current: Some(token("t", NONE, 9)), ..Device::default() };
        let mut log_in = |count| device.check(&proof("t", NONE), count, 1).is_ok();
        assert_eq!([Some(0), Some(1), Some(1), None, Some(7), Some(6), Some(8)].map(&mut log_in), [
            false, true, false, true, true, false, true
        ]);
    }

    #[test]
    fn a_token_in_use_is_due_when_it_ends_soon() {
        let mut device = Device { current: Some(token("t", NONE, ROTATION_SECONDS + 100)), ..Device::default() };
        assert_eq!((device.is_due(100), device.is_due(101)), (None, Some(NONE)));
        device.current = None;
        assert_eq!(device.is_due(101), None);
    }

    #[test]
    fn what_is_stored_reads_back_and_corrupt_bytes_do_not() {
        let tokens = Device { current: Some(token("a", NONE, 1)), new: Some(token("b", TokenMechanism::EndPoint, 2)), ..Device::default() };
        let named = Device { software: Some("Gajim".into()), new: None, ..tokens.clone() };
        for device in [Device::default(), named, tokens] {
            let mut bytes = Vec::new();
            device.encode(&mut bytes);
            assert!(Device::decode(&bytes).unwrap() == device);
            assert!((0..bytes.len()).all(|end| Device::decode(&bytes[..end]).is_none()));
            assert!(Device::decode(&[&bytes[..], b"x"].concat()).is_none());
        }
    }

    #[test]
    fn tokens_from_before_clients_said_who_they_are_are_still_good() {
        let device = Device { current: Some(token("a", NONE, 1)), ..Device::default() };
        let mut bytes = Vec::new();
        device.encode(&mut bytes);
        bytes.truncate(bytes.len() - 4);
        bytes[0] = ENCODING_OF_TOKENS;
        assert!(Device::decode(&bytes).unwrap() == device);
    }
}
