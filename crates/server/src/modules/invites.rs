//! XEP-0379: Pre-Authenticated Roster Subscription, XEP-0401: Easy User Onboarding, XEP-0445: Pre-Authenticated In-Band Registration
//!
//! An invite is a link with a token. Whoever has it may make an account though registration is closed, or become the contact of the
//! one who invites, or both. `register.rs` and `roster.rs` ask here what a token is worth; it is spent in the same transaction
//! as the account is made, so that it makes no more accounts than it may.

use std::collections::HashMap;
use std::sync::Arc;

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Map, Record, Store, StoreError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{About, Module};
use crate::modules::offline::refusal;
use crate::server::{Deps, Server, now, random_text};

/// The namespace of `<preauth/>`.
pub const NS: &str = ns::INVITE_TOKEN;

/// Invites of one domain that can be used; one more is refused.
pub const INVITES_MAX: usize = 10_000;

/// Those of one user; one more is refused.
pub const INVITES_OF_USER_MAX: usize = 100;

/// Characters of a token: more than 128 bits.
const TOKEN_CHARS: usize = 24;

/// How long an invite is kept that has expired, for those who have shown it: longer than a login may take.
const KEPT_SECONDS: u64 = 60 * 60;

/// How often a spending is tried again that another one overtook.
const ATTEMPTS_MAX: usize = 8;

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// What its holder shows.
    pub token: String,
    /// The domain that it is for.
    pub host: String,
    /// The username of the account, where that is not for its holder to choose. Nobody else gets it meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The account that invites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inviter: Option<String>,
    /// Whether it is an invitation to become the inviter's contact: then that is what its link asks for first.
    #[serde(default)]
    pub as_contact: bool,
    /// Whether its holder may make an account.
    pub registers: bool,
    /// Accounts of this server that the new account has as contacts from its first moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
    /// Seconds since 1970 when it was made.
    pub created: u64,
    /// When it is worth nothing any more.
    pub expires: u64,
    /// How often it can be used yet.
    pub uses: u32,
}

impl Record for Invite {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings, numbers and flags always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Invite {
    /// A token that was never given.
    pub fn fresh_token() -> String {
        let mut token = String::new();
        while token.len() < TOKEN_CHARS {
            token.extend(random_text(TOKEN_CHARS).chars().filter(char::is_ascii_alphanumeric));
        }
        token.truncate(TOKEN_CHARS);
        token
    }

    /// The link (XEP-0401 §5.1, §5.4).
    pub fn uri(&self) -> String {
        let Self { token, host, .. } = self;
        let at_host = |local: &Option<String>| match local {
            Some(local) => format!("{}@{}", escaped(local), escaped(host)),
            None => escaped(host),
        };
        match self.inviter.as_ref().filter(|_| self.as_contact).and_then(|inviter| BareJid::parse(inviter).ok()) {
            Some(inviter) => {
                let ibr = if self.registers { ";ibr=y" } else { "" };
                format!("xmpp:{}?roster;preauth={token}{ibr}", at_host(&inviter.local().map(str::to_owned)))
            }
            None => format!("xmpp:{}?register;preauth={token}", at_host(&self.username)),
        }
    }

    /// The web page that says the same, by the pattern of the configuration; `None` where there is none.
    pub fn page(&self, pattern: &str) -> Option<String> {
        let page = pattern.replace("{token}", &self.token).replace("{uri}", &escaped(&self.uri()));
        (!pattern.is_empty()).then_some(page)
    }

    fn is_live(&self, now: u64) -> bool {
        self.uses > 0 && now < self.expires
    }
}

/// RFC 5122 §2.2: what may stand in a part of an address, and in the parameter of a web page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                use std::fmt::Write;
                write!(out, "%{byte:02X}").expect("a String takes everything");
            }
        }
    }
    out
}

/// Why an invite cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Too many can be used already.
    #[error("there are {0} invites already that can be used")]
    TooMany(usize),
    /// Another one is for the same name.
    #[error("there is an invite for this username already")]
    Reserved,
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The invites in a store, by domain.
#[derive(Clone)]
pub struct InviteBook {
    store: Store,
    invites: Map<Invite>,
}

impl InviteBook {
    /// Those of this store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), invites: store.map("invites") }
    }

    /// Those of the domain that can be used, the oldest first.
    pub async fn list(&self, host: &str) -> Result<Vec<Invite>, StoreError> {
        let now = now().as_secs();
        let all = self.invites.list(host).await?.into_iter().map(|(_, invite)| invite);
        let mut live: Vec<Invite> = all.filter(|invite| invite.is_live(now)).collect();
        live.sort_by(|one, other| (one.created, &one.token).cmp(&(other.created, &other.token)));
        Ok(live)
    }

    /// Keeps an invite, and drops those of its domain that have expired. `by_user`: the inviter is no administrator.
    pub async fn make(&self, invite: &Invite, by_user: bool) -> Result<(), InviteError> {
        let now = now().as_secs();
        let (mut live, mut of_user) = (0, 0);
        let mut batch = Batch::new();
        for (token, other) in self.invites.list(&invite.host).await? {
            if !other.is_live(now) {
                // Who has shown it in time may be choosing a password.
                if other.expires.saturating_add(KEPT_SECONDS) < now {
                    self.invites.delete(&mut batch, &invite.host, &token);
                }
                continue;
            }
            if invite.username.is_some() && other.username == invite.username {
                return Err(InviteError::Reserved);
            }
            live += 1;
            of_user += usize::from(other.inviter.is_some() && other.inviter == invite.inviter);
        }
        if live >= INVITES_MAX {
            return Err(InviteError::TooMany(live));
        }
        if by_user && of_user >= INVITES_OF_USER_MAX {
            return Err(InviteError::TooMany(of_user));
        }
        self.invites.put(&mut batch, &invite.host, &invite.token, invite);
        Ok(self.store.commit(batch).await?)
    }

    /// The invite of this token, where it can be used.
    pub async fn find(&self, host: &str, token: &str) -> Result<Option<Invite>, StoreError> {
        if token.len() != TOKEN_CHARS {
            return Ok(None);
        }
        let found = self.invites.get(host, token).await?;
        Ok(found.filter(|invite| invite.is_live(now().as_secs())))
    }

    /// Whether the username is kept for whoever has another token.
    pub async fn is_reserved(&self, host: &str, username: &str, token: Option<&str>) -> Result<bool, StoreError> {
        let live = self.list(host).await?;
        let others = live.iter().filter(|invite| token != Some(invite.token.as_str()));
        Ok(others.into_iter().any(|invite| invite.username.as_deref() == Some(username)))
    }

    /// Takes an invite back; whether there was one.
    pub async fn revoke(&self, host: &str, token: &str) -> Result<bool, StoreError> {
        let Some(found) = self.invites.get(host, token).await? else { return Ok(false) };
        let mut batch = Batch::new();
        self.invites.expect(&mut batch, host, token, Some(&found));
        self.invites.delete(&mut batch, host, token);
        match self.store.commit(batch).await {
            Err(StoreError::Conflict) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// The invite as it is now, where its holder may still use it: what was not expired when it was shown is not expired later
    /// (XEP-0445 §4).
    pub async fn again(&self, invite: &Invite) -> Result<Option<Invite>, StoreError> {
        let found = self.invites.get(&invite.host, &invite.token).await?;
        Ok(found.filter(|found| found.uses > 0))
    }

    /// Uses the invite once, in a transaction that fails where somebody else did so meanwhile.
    pub fn spend(&self, batch: &mut Batch, invite: &Invite) {
        let Invite { host, token, uses, .. } = invite;
        self.invites.expect(batch, host, token, Some(invite));
        match uses {
            0 | 1 => self.invites.delete(batch, host, token),
            uses => self.invites.put(batch, host, token, &Invite { uses: uses - 1, ..invite.clone() }),
        }
    }

    /// Takes back what an account has invited that is gone.
    pub async fn forget(&self, account: &BareJid) -> Result<(), StoreError> {
        let host = account.domain();
        let mut batch = Batch::new();
        for (token, invite) in self.invites.list(host).await? {
            if invite.inviter.as_deref() == Some(account.as_str()) {
                self.invites.delete(&mut batch, host, &token);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.store.commit(batch).await }
    }
}

/// The module.
pub struct Invites {
    book: InviteBook,
    /// Until when strangers may have an invite with which to make an account, by domain.
    open_until: Mutex<HashMap<String, u64>>,
}

impl Module for Invites {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(379),
            title: "Pre-Authenticated Roster Subscription",
            version: "0.3.3",
            host_features: &[],
            account_features: &[],
        },
        About {
            xep: Some(401),
            title: "Easy User Onboarding",
            version: "0.6.0",
            host_features: &[],
            account_features: &[],
        },
        About {
            xep: Some(445),
            title: "Pre-Authenticated In-Band Registration",
            version: "0.2.0",
            host_features: &[],
            account_features: &[],
        },
    ];

    fn new(deps: &Deps) -> Self {
        Self { book: InviteBook::new(&deps.store), open_until: Mutex::default() }
    }
}

impl Invites {
    /// The invites.
    pub fn book(&self) -> &InviteBook {
        &self.book
    }

    /// Looks when the server starts which domains strangers have invites for.
    pub async fn load(&self, hosts: &[String]) -> Result<(), StoreError> {
        for host in hosts {
            for invite in self.book.list(host).await? {
                self.invite_made(&invite);
            }
        }
        Ok(())
    }

    /// Hears of a new invite.
    pub fn invite_made(&self, invite: &Invite) {
        if invite.registers {
            let mut open_until = self.open_until.lock();
            let until = open_until.entry(invite.host.clone()).or_default();
            *until = invite.expires.max(*until);
        }
    }

    /// Whether strangers may have an invite with which to make an account, so that the domain says that it takes them.
    pub fn are_open(&self, host: &str) -> bool {
        self.open_until.lock().get(host).is_some_and(|until| now().as_secs() < *until)
    }

    /// A stranger shows a token before it registers (XEP-0445 §4).
    pub async fn shown(&self, host: &str, preauth: &Element) -> Result<Invite, StanzaError> {
        let token = preauth.attr("token").unwrap_or_default();
        let found = self.book.find(host, token).await.map_err(refusal)?;
        found.filter(|invite| invite.registers).ok_or_else(|| {
            StanzaError::new(StanzaCondition::ItemNotFound, "the provided token is invalid or expired")
        })
    }

    /// An account was made by an invite: the contacts that it was promised are its contacts now.
    pub async fn account_made(&self, server: &Arc<Server>, account: &BareJid, invite: &Invite) {
        for contact in invite.contacts.iter().filter_map(|contact| BareJid::parse(contact).ok()) {
            if let Err(error) = server.modules.roster.befriend(server, account, &contact).await {
                info!(%account, %contact, %error, "the contact of an invite was not added");
            }
        }
    }

    /// A request to see the account's presence arrives with a token: whether the account has given it away, and so has
    /// approved of the request already (XEP-0379 §3.5). The token is spent then.
    pub async fn redeem(&self, account: &BareJid, from: &BareJid, request: &Stanza) -> Result<bool, StoreError> {
        let Some(preauth) = request.child("preauth", NS) else { return Ok(false) };
        let token = preauth.element().attr("token").unwrap_or_default().to_owned();
        for _ in 0..ATTEMPTS_MAX {
            let found = self.book.find(account.domain(), &token).await?;
            let invites = |invite: &Invite| invite.as_contact && invite.inviter.as_deref() == Some(account.as_str());
            let Some(invite) = found.filter(invites) else { return Ok(false) };
            let mut batch = Batch::new();
            self.book.spend(&mut batch, &invite);
            match self.book.store.commit(batch).await {
                Err(StoreError::Conflict) => {}
                outcome => {
                    outcome?;
                    info!(%account, %from, "contact invited");
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn invite(token: &str) -> Invite {
        Invite {
            token: token.repeat(TOKEN_CHARS),
            host: "example.org".into(),
            username: None,
            inviter: None,
            as_contact: false,
            registers: true,
            contacts: Vec::new(),
            created: 0,
            expires: u64::MAX,
            uses: 1,
        }
    }

    #[test]
    fn links_say_what_the_documents_say_and_escape_what_an_address_may_have() {
        let token = "t".repeat(TOKEN_CHARS);
        let plain = invite("t");
        assert_eq!(plain.uri(), format!("xmpp:example.org?register;preauth={token}"));
        let named = Invite { username: Some("d'artagnan".into()), ..plain.clone() };
        assert_eq!(named.uri(), format!("xmpp:d%27artagnan@example.org?register;preauth={token}"));
        let contact = Invite { inviter: Some("romeo@example.org".into()), as_contact: true, ..plain.clone() };
        assert_eq!(contact.uri(), format!("xmpp:romeo@example.org?roster;preauth={token};ibr=y"));
        let other = Invite { registers: false, ..contact };
        assert_eq!(other.uri(), format!("xmpp:romeo@example.org?roster;preauth={token}"));
        assert_eq!(plain.page(""), None);
        assert_eq!(plain.page("https://example.org/i/{token}"), Some(format!("https://example.org/i/{token}")));
        let page = plain.page("https://example.org/#{uri}").unwrap();
        assert_eq!(page, format!("https://example.org/#xmpp%3Aexample.org%3Fregister%3Bpreauth%3D{token}"));
    }

    #[test]
    fn tokens_are_alphanumeric_and_no_two_are_the_same() {
        let (one, other) = (Invite::fresh_token(), Invite::fresh_token());
        assert!(one.len() == TOKEN_CHARS && one.chars().all(|char| char.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn of_two_who_spend_the_last_use_one_fails() {
        let book = InviteBook::new(&Store::memory());
        let two = Invite { uses: 2, ..invite("a") };
        book.make(&two, false).await.unwrap();
        let spend = async |invite: Invite| {
            let mut batch = Batch::new();
            book.spend(&mut batch, &invite);
            book.store.commit(batch).await
        };
        assert_eq!(spend(two.clone()).await, Ok(()));
        assert_eq!(spend(two.clone()).await, Err(StoreError::Conflict));
        let last = book.again(&two).await.unwrap().unwrap();
        assert_eq!(last.uses, 1);
        assert_eq!(spend(last.clone()).await, Ok(()));
        assert_eq!(spend(last).await, Err(StoreError::Conflict));
        assert_eq!(book.find("example.org", &two.token).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_has_expired_is_worth_nothing_and_goes_with_the_next_one_that_is_made() {
        let book = InviteBook::new(&Store::memory());
        let old = Invite { expires: 1, username: Some("juliet".into()), ..invite("a") };
        book.make(&old, false).await.unwrap();
        assert_eq!(book.find("example.org", &old.token).await.unwrap(), None);
        assert!(!book.is_reserved("example.org", "juliet", None).await.unwrap());
        book.make(&invite("b"), false).await.unwrap();
        assert_eq!(book.invites.list("example.org").await.unwrap().len(), 1);
        // Whoever has shown it in time may still use it, unless it is gone.
        assert_eq!(book.again(&invite("b")).await.unwrap(), Some(invite("b")));
        assert_eq!(book.again(&old).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_username_is_kept_for_one_token_and_a_user_has_so_many_invites() {
        let book = InviteBook::new(&Store::memory());
        let named = Invite { username: Some("juliet".into()), ..invite("a") };
        book.make(&named, false).await.unwrap();
        assert!(book.is_reserved("example.org", "juliet", None).await.unwrap());
        assert!(!book.is_reserved("example.org", "juliet", Some(&named.token)).await.unwrap());
        let again = Invite { token: Invite::fresh_token(), ..named };
        assert_eq!(book.make(&again, false).await, Err(InviteError::Reserved));
        let of_romeo = || Invite { token: Invite::fresh_token(), inviter: Some("romeo@example.org".into()), ..invite("b") };
        for _ in 0..INVITES_OF_USER_MAX {
            book.make(&of_romeo(), true).await.unwrap();
        }
        assert_eq!(book.make(&of_romeo(), true).await, Err(InviteError::TooMany(INVITES_OF_USER_MAX)));
        assert_eq!(book.make(&of_romeo(), false).await, Ok(()));
        book.forget(&BareJid::parse("romeo@example.org").unwrap()).await.unwrap();
        assert_eq!(book.list("example.org").await.unwrap().len(), 1);
    }
}
