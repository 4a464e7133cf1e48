//! XEP-0441: Message Archive Management Preferences
//!
//! An account says whose messages are archived: everybody's, nobody's, those of its contacts, with lists of those who are an exception. Most accounts
//! say nothing and have everything archived. Who has said something is known in memory, so that the way of a message
//! asks no store; what it said is read when it is needed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use magpie_proto::xeps::mam::NS;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};
use magpie_store::{Batch, Record, Store, StoreError, Value};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::offline::refusal;
use super::{About, Module};
use crate::accounts;
use crate::requests::{Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};

/// Addresses in both lists together; one more is `resource-constraint`.
const ITEMS_MAX: usize = 1000;

/// Bytes of the addresses in both lists; more is `resource-constraint`.
const BYTES_MAX: usize = 64 * 1024;

/// Accounts whose preferences are kept in memory; with one more they are read anew.
const CACHED_MAX: usize = 1024;

/// Accounts read at a time when the server starts.
const LOADED_AT_ONCE: usize = 1000;

/// What an account wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    otherwise: Otherwise,
    always: BTreeSet<Jid>,
    never: BTreeSet<Jid>,
}

/// What happens to messages with somebody in neither list (§2.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Otherwise {
    #[default]
    Always,
    Never,
    Roster,
}

/// Of which sides of a message the archives are to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The recipient's.
    pub recipient: bool,
    /// The sender's.
    pub sender: bool,
}

impl Default for Sides {
    fn default() -> Self {
        Self { recipient: true, sender: true }
    }
}

/// The module.
pub struct ArchivePreferences {
    store: Store,
    stored: Value<Preferences>,
    deps: Deps,
    /// Whether `known` has anybody.
    any: AtomicBool,
    /// Everybody who has preferences, with those that were read.
    known: RwLock<Known>,
}

impl Module for ArchivePreferences {
    const ABOUT: &'static [About] = &[About {
        xep: Some(441),
        title: "Message Archive Management Preferences",
        version: "0.2.0",
        host_features: &[],
        account_features: &[],
    }];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            stored: deps.store.value("archive-preferences"),
            deps: deps.clone(),
            any: AtomicBool::new(false),
            known: RwLock::default(),
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Get, ("prefs", NS), self, Self::get);
        requests.own(To::OwnAccount, Verb::Set, ("prefs", NS), self, Self::set);
        for verb in [Verb::Get, Verb::Set] {
            requests.own_now(To::Account, verb, ("prefs", NS), self, |_, _| Err(StanzaCondition::Forbidden.into()));
        }
    }
}

/// Everybody who has preferences, with those that were read.
#[derive(Default)]
struct Known {
    accounts: HashMap<BareJid, Option<Arc<Preferences>>>,
    read: usize,
}

impl ArchivePreferences {
    /// Looks when the server starts who has preferences.
    pub async fn load(&self, hosts: &[String]) -> Result<(), StoreError> {
        for host in hosts {
            let prefix = accounts::host_prefix(host);
            let mut after: Option<String> = None;
            loop {
                let owners = self.stored.owners(&prefix, after.as_deref(), LOADED_AT_ONCE).await?;
                let named = owners.iter().filter_map(|owner| BareJid::from_parts(owner.strip_prefix(&prefix), host).ok());
                named.for_each(|account| self.known.write().remember(account, None));
                after = match owners.len() == LOADED_AT_ONCE {
                    true => owners.last().cloned(),
                    false => break,
                };
            }
        }
        self.any.store(!self.known.read().accounts.is_empty(), Ordering::Release);
        Ok(())
    }

    /// Whether the account has preferences, so that [`ArchivePreferences::choose`] must be asked.
    pub fn has(&self, account: &BareJid) -> bool {
        self.any.load(Ordering::Acquire) && self.known.read().accounts.contains_key(account)
    }

    /// In whose archives a message is to be (§2.3): that of its recipient and of `sender`, its sender's where that is an account of this server.
    pub async fn choose(
        &self,
        server: &Server,
        message: &Stanza,
        recipient: &BareJid,
        sender: Option<&BareJid>,
    ) -> Result<Sides, StoreError> {
        let (from, to) = (message.from(), message.to());
        let sender = match sender {
            Some(sender) => self.keeps(server, sender, to.as_deref()).await?,
            None => true,
        };
        Ok(Sides { recipient: self.keeps(server, recipient, from.as_deref()).await?, sender })
    }

    async fn keeps(&self, server: &Server, account: &BareJid, target: Option<&str>) -> Result<bool, StoreError> {
        if !self.has(account) {
            return Ok(true);
        }
        let preferences = self.of(account).await?;
        // Without an address it is to or from the account itself.
        let target = target.and_then(|target| Jid::parse(target).ok()).unwrap_or_else(|| account.clone().into());
        if let Some(listed) = preferences.listed(&target) {
            return Ok(listed);
        }
        Ok(match preferences.otherwise {
            Otherwise::Always => true,
            Otherwise::Never => false,
            Otherwise::Roster => {
                let contact = target.to_bare();
                let item = server.modules.roster.of(account).await?.get(&contact);
                contact == *account || item.is_some_and(|item| item.listed)
            }
        })
    }

    async fn of(&self, account: &BareJid) -> Result<Arc<Preferences>, StoreError> {
        match self.known.read().accounts.get(account) {
            Some(Some(preferences)) => return Ok(Arc::clone(preferences)),
            Some(None) => {}
            None => return Ok(Arc::default()),
        }
        let preferences = Arc::new(self.stored.get(&accounts::owner(account)).await?.unwrap_or_default());
        let mut known = self.known.write();
        // Whoever changed them meanwhile knows better.
        if let Some(None) = known.accounts.get(account) {
            known.remember(account.clone(), Some(Arc::clone(&preferences)));
        }
        Ok(preferences)
    }

    /// An account may have come with preferences.
    pub fn look_again(&self, account: &BareJid) {
        self.known.write().remember(account.clone(), None);
        self.any.store(true, Ordering::Release);
    }

    /// An account is gone.
    pub fn forget(&self, account: &BareJid) {
        self.known.write().accounts.remove(account);
    }

    async fn get(self: Arc<Self>, request: Request) -> Reply {
        let account = &self.may(&request)?;
        Ok(Some(self.of(account).await.map_err(refusal)?.element()))
    }

    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let account = &self.may(&request)?;
        let preferences = Preferences::parse(&request.payload())?;
        let (answer, owner) = (preferences.element(), accounts::owner(account));
        let ticket = {
            // In one breath, so that what is known and what is stored have the same order.
            let mut known = self.known.write();
            let mut batch = Batch::new();
            match preferences == Preferences::default() {
                true => {
                    self.stored.delete(&mut batch, &owner);
                    known.accounts.remove(account);
                }
                false => {
                    self.stored.put(&mut batch, &owner, &preferences);
                    known.remember(account.clone(), Some(Arc::new(preferences)));
                    self.any.store(true, Ordering::Release);
                }
            }
            self.store.commit(batch)
        };
        if let Err(error) = ticket.await {
            // What is stored is what it was.
            self.look_again(account);
            return Err(refusal(error));
        }
        Ok(Some(answer))
    }

    fn may(&self, request: &Request) -> Result<BareJid, StanzaError> {
        let session = request.session()?;
        match self.deps.archives() && !session.anonymous {
            true => Ok(session.account.clone()),
            false => Err(StanzaCondition::FeatureNotImplemented.into()),
        }
    }
}

impl Known {
    fn remember(&mut self, account: BareJid, preferences: Option<Arc<Preferences>>) {
        if preferences.is_some() {
            if self.read == CACHED_MAX {
                self.accounts.values_mut().for_each(|read| *read = None);
                self.read = 0;
            }
            self.read += 1;
        }
        self.accounts.insert(account, preferences);
    }
}

impl Preferences {
    /// Parses `<prefs/>`.
    pub fn parse(prefs: &Element) -> Result<Self, StanzaError> {
        let otherwise = match prefs.attr("default") {
            Some("always") => Otherwise::Always,
            Some("never") => Otherwise::Never,
            Some("roster") => Otherwise::Roster,
            _ => {
                let text = "the default is always, never or roster";
                return Err(StanzaError::new(StanzaCondition::BadRequest, text));
            }
        };
        let list = |name| {
            let items = prefs.child(name, NS).into_iter().flat_map(Element::children).filter(|child| child.is("jid", NS));
            items.map(|item| Jid::parse(item.text().trim())).collect::<Result<BTreeSet<Jid>, _>>()
        };
        let malformed = |_| StanzaError::from(StanzaCondition::JidMalformed);
        let (mut always, never) = (list("always").map_err(malformed)?, list("never").map_err(malformed)?);
        always.retain(|jid| !never.contains(jid));
        let all = || always.iter().chain(&never);
        if all().count() > ITEMS_MAX || all().map(|jid| jid.as_str().len()).sum::<usize>() > BYTES_MAX {
            let text = format!("at most {ITEMS_MAX} addresses can be listed");
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint, text));
        }
        Ok(Self { otherwise, always, never })
    }

    /// As `<prefs/>`.
    pub fn element(&self) -> Element {
        let otherwise = match self.otherwise {
            Otherwise::Always => "always",
            Otherwise::Never => "never",
            Otherwise::Roster => "roster",
        };
        let list = |name, jids: &BTreeSet<Jid>| {
            let jids = jids.iter().map(|jid| Element::new("jid", NS).with_text(jid.as_str()));
            Element::new(name, NS).with_all(jids)
        };
        Element::new("prefs", NS)
            .with_attr("default", otherwise)
            .with(list("always", &self.always))
            .with(list("never", &self.never))
    }

    /// Whether the lists say that messages with the address are archived or not (§2.3): the address as it is before its bare form.
    fn listed(&self, target: &Jid) -> Option<bool> {
        [target.clone(), Jid::from(target.to_bare())].iter().find_map(|jid| {
            match (self.never.contains(jid), self.always.contains(jid)) {
                (true, _) => Some(false),
                (_, true) => Some(true),
                _ => None,
            }
        })
    }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored {
    default: Otherwise,
    always: Vec<String>,
    never: Vec<String>,
}

impl Record for Preferences {
    fn encode(&self, out: &mut Vec<u8>) {
        let list = |jids: &BTreeSet<Jid>| jids.iter().map(|jid| jid.as_str().to_owned()).collect();
        let stored = Stored { default: self.otherwise, always: list(&self.always), never: list(&self.never) };
        serde_json::to_writer(out, &stored).expect("strings always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let Stored { default, always, never } = serde_json::from_slice(bytes).ok()?;
        let list = |jids: Vec<String>| jids.iter().filter_map(|jid| Jid::parse(jid).ok()).collect();
        Some(Self { otherwise: default, always: list(always), never: list(never) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use magpie_proto::ns;

    use super::*;

    fn parse(xml: &str) -> Result<Preferences, StanzaCondition> {
        let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        Preferences::parse(&element).map_err(|error| error.condition)
    }

    fn jids(count: usize) -> String {
        (0..count).map(|n| format!("<jid>a{n}@x</jid>")).collect()
    }

    #[test]
    fn preferences_are_kept_as_they_were_set_and_never_is_stronger() {
        let set = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>a@x</jid><jid>b@x/r</jid></always>\
                   <never><jid>a@x</jid></never></prefs>";
        let kept = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>b@x/r</jid></always>\
                    <never><jid>a@x</jid></never></prefs>";
        let preferences = parse(set).unwrap();
        let mut stored = Vec::new();
        preferences.encode(&mut stored);
        let read = Preferences::decode(&stored).unwrap();
        assert_eq!(read, preferences);
        assert_eq!(read.element().to_xml(ns::CLIENT), kept);
    }

    #[test]
    fn a_full_address_is_compared_whole_and_before_the_bare_one() {
        let preferences = parse(
            "<prefs xmlns='urn:xmpp:mam:2' default='never'><always><jid>a@x</jid><jid>b@x/r</jid></always>\
             <never><jid>a@x/r</jid></never></prefs>",
        );
        let listed = |jid: &str| preferences.as_ref().unwrap().listed(&Jid::parse(jid).unwrap());
        assert_eq!(["a@x", "a@x/q", "a@x/r"].map(listed), [Some(true), Some(true), Some(false)]);
        assert_eq!(["b@x", "b@x/q", "b@x/r", "x"].map(listed), [None, None, Some(true), None]);
    }

    #[test]
    fn what_is_no_preference_or_too_long_is_refused() {
        let prefs = |attrs: &str, lists: &str| parse(&format!("<prefs xmlns='urn:xmpp:mam:2' {attrs}>{lists}</prefs>"));
        assert_eq!(prefs("", ""), Err(StanzaCondition::BadRequest));
        assert_eq!(prefs("default='sometimes'", ""), Err(StanzaCondition::BadRequest));
        assert_eq!(prefs("default='always'", "<never><jid>@</jid></never>"), Err(StanzaCondition::JidMalformed));
        assert_eq!(prefs("default='always'", ""), Ok(Preferences::default()));
        assert!(prefs("default='always'", &format!("<never>{}</never>", jids(ITEMS_MAX))).is_ok());
        let too_many = prefs("default='always'", &format!("<never>{}</never>", jids(ITEMS_MAX + 1)));
        assert_eq!(too_many, Err(StanzaCondition::ResourceConstraint));
        let long: String = (0..70).map(|n| format!("<jid>{}{n}@x</jid>", "a".repeat(1000))).collect();
        assert_eq!(prefs("default='always'", &format!("<always>{long}</always>")), Err(StanzaCondition::ResourceConstraint));
    }

    #[test]
    fn what_was_read_of_many_accounts_is_read_again() {
        let mut known = Known::default();
        for n in 0..=CACHED_MAX {
            known.remember(BareJid::parse(&format!("a{n}@x")).unwrap(), Some(Arc::default()));
        }
        assert_eq!(known.accounts.len(), CACHED_MAX + 1);
        assert_eq!(known.accounts.values().filter(|read| read.is_some()).count(), 1);
    }
}
