//! XEP-0357: Push Notifications
//!
//! A client that will not always be there names a service which can wake its device. When a message waits for that client (it is away,
//! its session waits to be resumed, or it sleeps and its socket looks dead) the service is told, once for each message; what a
//! connected client gets needs no push. While a service has not answered, what comes for the account gathers, and is told at once. Services
//! are reached on this server only. The one surprising thing: a device is the resource that asked for the push.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magpie_proto::error::ErrorType;
use magpie_proto::xeps::data_forms::Form;
use magpie_proto::xeps::encryption;
use magpie_proto::xeps::push::{NS, NS_OPTIONS, Summary, shortened};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Record, Store, StoreError, Value};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::offline::refusal;
use super::{About, Module};
use crate::accounts;
use crate::config;
use crate::registry::{Account, Registry, SessionHandle};
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server, now};

/// Services and nodes of one account.
const DEVICES_MAX: usize = 16;

/// Bytes of a node's name, and of the form that a service wants to be shown.
const NODE_BYTES_MAX: usize = 1023;
const OPTIONS_BYTES_MAX: usize = 4096;

/// Messages of one account that wait for the answer of a service; of more the newest count.
const WAITING_MAX: usize = 64;

/// How long a service has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Errors in a row that may pass, and for how many seconds, before a device is given up.
const FAILURES_MAX: u32 = 10;
const FAILING_SECONDS_MAX: u64 = 24 * 60 * 60;

/// How often a change is tried again that another one came before.
const ATTEMPTS_MAX: usize = 8;

/// With what the ids of questions to services begin.
const QUESTION: &str = "push:";

/// Accounts read at a time when the server starts.
const PAGE: usize = 1024;

/// Where a client is to be woken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    /// The service's address.
    service: String,
    node: String,
    /// The form with which the service lets things be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<String>,
    /// The resource of the client that asked for it.
    resource: String,
    /// Errors in a row, and when the first of them came, in seconds since 1970.
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    failing_since: u64,
}

/// Those of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Devices(Vec<Device>);

impl Record for Devices {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings and numbers always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The module.
pub struct Push {
    store: Store,
    kept: Value<Devices>,
    registry: Arc<Registry>,
    /// The accounts that have devices; `None` where those were not read yet.
    accounts: RwLock<HashMap<BareJid, Option<Arc<Devices>>>>,
    /// What a service is to be told, by account. Whoever puts the first in sees to it that it is.
    waiting: Mutex<HashMap<BareJid, Vec<Waiting>>>,
    /// Questions to services that are not answered.
    asked: Mutex<HashMap<String, Asked>>,
    next: AtomicU64,
}

/// A message that waits.
struct Waiting {
    message: Stanza,
    due: Due,
}

/// Which devices are to be woken.
enum Due {
    /// Those of clients that have no connection, of which these are not.
    AllBut(Vec<String>),
    /// That of this resource.
    Only(String),
}

struct Asked {
    /// In whose name.
    host: BareJid,
    service: Jid,
    answer: oneshot::Sender<Outcome>,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pushed,
    /// It may go better another time.
    Failed,
    /// The service does not want it.
    Refused,
}

impl Module for Push {
    const ABOUT: &'static [About] = &[About {
        xep: Some(357),
        title: "Push Notifications",
        version: "0.4.1",
        host_features: &[],
        account_features: &[NS],
    }];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            kept: deps.store.value("push"),
            registry: Arc::clone(&deps.registry),
            accounts: RwLock::default(),
            waiting: Mutex::default(),
            asked: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::OwnAccount, Verb::Set, ("enable", NS), self, Self::enable);
        requests.own(To::OwnAccount, Verb::Set, ("disable", NS), self, Self::disable);
    }
}

// What clients ask for.

impl Push {
    async fn enable(self: Arc<Self>, request: Request) -> Reply {
        let (session, payload) = (request.session()?, request.payload());
        if session.anonymous {
            return Err(StanzaCondition::NotAllowed.into());
        }
        let (service, node) = place(&payload)?;
        let service = service.ok_or(StanzaCondition::BadRequest)?;
        if !request.server.serves(service.domain()) && request.server.service_at(service.domain()).is_none() {
            // Better now than a device that is never woken.
            let text = "push services on other servers cannot be reached";
            return Err(StanzaError::new(StanzaCondition::RemoteServerNotFound, text));
        }
        let options = Form::of(&payload).filter(|form| form.form_type() == Some(NS_OPTIONS));
        let options = options.map(|form| form.element().to_xml(ns::CLIENT));
        let node = node.unwrap_or_default();
        if node.len() > NODE_BYTES_MAX || options.as_ref().is_some_and(|options| options.len() > OPTIONS_BYTES_MAX) {
            return Err(StanzaCondition::NotAcceptable.into());
        }
        let device = Device {
            service: service.to_string(),
            node,
            options,
            resource: session.jid.resource().to_owned(),
            failures: 0,
            failing_since: 0,
        };
        let enable = |devices: &mut Devices| {
            devices.0.retain(|other| (&other.service, &other.node) != (&device.service, &device.node));
            devices.0.push(device.clone());
            devices.0.len() <= DEVICES_MAX
        };
        match self.change(&session.account, enable).await.map_err(refusal)? {
            true => Ok(None),
            false => Err(StanzaError::new(StanzaCondition::ResourceConstraint, "too many push services")),
        }
    }

    async fn disable(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        let (service, node) = place(&request.payload())?;
        let service = service.ok_or(StanzaCondition::BadRequest)?.to_string();
        let disable = |devices: &mut Devices| {
            let named = |device: &Device| node.as_ref().is_none_or(|node| *node == device.node);
            devices.0.retain(|device| device.service != service || !named(device));
            true
        };
        self.change(&session.account, disable).await.map_err(refusal)?;
        Ok(None)
    }

    /// Changes the devices of an account, on disk when this returns. Whether it did: not where the change says no.
    async fn change(&self, account: &BareJid, change: impl Fn(&mut Devices) -> bool) -> Result<bool, StoreError> {
        let owner = accounts::owner(account);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.kept.get(&owner).await?;
            let mut after = before.clone().unwrap_or_default();
            if !change(&mut after) {
                return Ok(false);
            }
            let mut batch = Batch::new();
            self.kept.expect(&mut batch, &owner, before.as_ref());
            match after.0.is_empty() {
                true => self.kept.delete(&mut batch, &owner),
                false => self.kept.put(&mut batch, &owner, &after),
            }
            match self.store.commit(batch).await {
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.know(account, after);
                    return Ok(true);
                }
            }
        }
        Err(StoreError::Conflict)
    }

    fn know(&self, account: &BareJid, devices: Devices) {
        let has = !devices.0.is_empty();
        let mut accounts = self.accounts.write();
        match has {
            true => drop(accounts.insert(account.clone(), Some(Arc::new(devices)))),
            false => drop(accounts.remove(account)),
        }
        drop(accounts);
        self.registry.with(account, |account| account.map(|account| account.pushes = has));
    }

    /// Learns which accounts have devices, when the server starts.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let owners = self.kept.owners("", after.as_deref(), PAGE).await?;
            let Some(last) = owners.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut accounts = self.accounts.write();
            for (host, local) in owners.iter().filter_map(|owner| owner.split_once('/')) {
                accounts.extend(BareJid::from_parts(Some(local), host).ok().map(|account| (account, None)));
            }
        }
    }

    /// The account has a session now: what is asked for each message is at hand from here on.
    pub async fn session_bound(&self, account: &BareJid) -> Result<(), StoreError> {
        if self.accounts.read().contains_key(account) {
            self.devices(account).await?;
            self.registry.with(account, |account| account.map(|account| account.pushes = true));
        }
        Ok(())
    }

    /// The account is gone.
    pub fn forget(&self, account: &BareJid) {
        self.accounts.write().remove(account);
    }

    async fn devices(&self, account: &BareJid) -> Result<Arc<Devices>, StoreError> {
        match self.accounts.read().get(account) {
            None => return Ok(Arc::default()),
            Some(Some(known)) => return Ok(Arc::clone(known)),
            Some(None) => {}
        }
        let read = Arc::new(self.kept.get(&accounts::owner(account)).await?.unwrap_or_default());
        let mut accounts = self.accounts.write();
        let known = accounts.get_mut(account).map(|known| known.get_or_insert(read));
        Ok(known.map_or_else(Arc::default, |known| Arc::clone(known)))
    }
}

/// Service and node that a request names.
fn place(payload: &Element) -> Result<(Option<Jid>, Option<String>), StanzaError> {
    let jid = payload.attr("jid").map(|jid| Jid::parse(jid).map_err(|_| StanzaCondition::JidMalformed)).transpose()?;
    Ok((jid, payload.attr("node").map(str::to_owned)))
}

// What happens to messages.
impl Push {
    /// A message is kept for an account without a session that takes it.
    pub fn message_waits(&self, server: &Arc<Server>, account: &BareJid, entry: &Account, message: &Stanza) {
        if self.accounts.read().contains_key(account) && is_worth_waking(message) {
            self.tell(server, account, Waiting { message: message.clone(), due: Due::AllBut(connected(entry)) });
        }
    }

    /// A message came to sessions of an account that has devices. Under the registry's lock for it.
    pub fn message_came(&self, server: &Arc<Server>, account: &BareJid, entry: &Account, message: &Stanza) {
        if !is_worth_waking(message) {
            return;
        }
        let connected = connected(entry);
        let is_due = |device: &Device| !connected.contains(&device.resource);
        let due = match self.accounts.read().get(account) {
            None => false,
            Some(None) => true,
            Some(Some(devices)) => devices.0.iter().any(is_due),
        };
        if due {
            self.tell(server, account, Waiting { message: message.clone(), due: Due::AllBut(connected) });
        }
    }

    /// A session's client does not have this message, of which no push told it when it came.
    pub fn message_missed(&self, server: &Arc<Server>, session: &SessionHandle, message: &Stanza) {
        if self.accounts.read().contains_key(&session.account) && is_worth_waking(message) {
            let due = Due::Only(session.jid.resource().to_owned());
            self.tell(server, &session.account, Waiting { message: message.clone(), due });
        }
    }

    fn tell(&self, server: &Arc<Server>, account: &BareJid, waiting: Waiting) {
        // What somebody sends from one device to another is no news.
        if waiting.message.from().and_then(|from| Jid::parse(&from).ok()).is_some_and(|from| from.to_bare() == *account) {
            return;
        }
        let mut all = self.waiting.lock();
        if let Some(gathered) = all.get_mut(account) {
            if gathered.len() >= WAITING_MAX {
                gathered.remove(0);
            }
            return gathered.push(waiting);
        }
        all.insert(account.clone(), vec![waiting]);
        let (server, account) = (Arc::clone(server), account.clone());
        tokio::spawn(async move { server.modules.push.tell_all(&server, &account).await });
    }

    async fn tell_all(&self, server: &Arc<Server>, account: &BareJid) {
        loop {
            let gathered = {
                let mut all = self.waiting.lock();
                match all.get_mut(account).map(std::mem::take) {
                    Some(gathered) if !gathered.is_empty() => gathered,
                    _ => return drop(all.remove(account)),
                }
            };
            match self.devices(account).await {
                Ok(devices) => {
                    for device in &devices.0 {
                        self.wake(server, account, device, &gathered).await;
                    }
                }
                Err(error) => warn!(%error, %account, "push services cannot be read"),
            }
        }
    }

    /// Tells one service of the newest message that is due there.
    async fn wake(&self, server: &Arc<Server>, account: &BareJid, device: &Device, gathered: &[Waiting]) {
        let is_due = |waiting: &&Waiting| match &waiting.due {
            Due::AllBut(connected) => !connected.contains(&device.resource),
            Due::Only(resource) => *resource == device.resource,
        };
        let Some(newest) = gathered.iter().rev().find(is_due) else { return };
        let is_back = self.registry.with(account, |entry| {
            entry.and_then(|entry| entry.named(&device.resource).map(|resource| !resource.detached))
        });
        // Whoever came meanwhile gets it. Only a session that looks dead is told though it is there.
        if is_back == Some(true) && matches!(newest.due, Due::AllBut(_)) {
            return;
        }
        let Ok(service) = Jid::parse(&device.service) else { return };
        let count = server.modules.offline.waiting(account).await.unwrap_or(0);
        let summary = summary(&server.config().push, count.max(1), &newest.message);
        let outcome = self.publish(server, account, &service, device, &summary).await;
        self.note(account, device, outcome).await;
    }

    async fn publish(
        &self,
        server: &Arc<Server>,
        account: &BareJid,
        service: &Jid,
        device: &Device,
        summary: &Summary,
    ) -> Outcome {
        let id = format!("{QUESTION}{}", self.next.fetch_add(1, Ordering::Relaxed));
        let host = account.to_domain();
        let options = device.options.as_deref().and_then(|xml| Element::parse(xml.as_bytes(), ns::CLIENT).ok());
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("from", &host)
            .with_attr("to", service)
            .with_attr("type", "set")
            .with_attr("id", &id)
            .with(summary.publication(&device.node, options));
        let iq = Stanza::new(&iq);
        let Some(resource) = service.resource() else {
            // Services and accounts of this server answer at once.
            let query = Query { server, session: None, from: &host.clone().into(), to: &service.to_bare(), stanza: &iq };
            return server.requests.answer(&query).await.map_or(Outcome::Failed, |answer| outcome_of(&answer));
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked { host, service: service.clone(), answer };
        self.asked.lock().insert(id.clone(), asked);
        let sent = self.registry.with(&service.to_bare(), |entry| {
            entry.and_then(|entry| entry.named(resource)).is_some_and(|resource| resource.session.send(iq))
        });
        let outcome = match sent {
            true => tokio::time::timeout(ANSWER_MAX, answered).await.ok().and_then(Result::ok),
            false => None,
        };
        self.asked.lock().remove(&id);
        outcome.unwrap_or(Outcome::Failed)
    }

    /// Somebody answers something that the server asked, perhaps this.
    pub fn hear_answer(&self, query: &Query<'_>) {
        let Some(id) = query.stanza.id().filter(|id| id.starts_with(QUESTION)) else { return };
        let mut asked = self.asked.lock();
        // Nobody answers for another.
        if asked.get(&*id).is_some_and(|asked| asked.service == *query.from && asked.host == *query.to)
            && let Some(asked) = asked.remove(&*id)
        {
            // Who does not wait any more has taken it for lost.
            let _ = asked.answer.send(outcome_of(query.stanza));
        }
    }

    async fn note(&self, account: &BareJid, device: &Device, outcome: Outcome) {
        if outcome == Outcome::Pushed && device.failures == 0 {
            return;
        }
        let now = now().as_secs();
        let note = |devices: &mut Devices| {
            let same = |other: &Device| (&other.service, &other.node) == (&device.service, &device.node);
            let Some(index) = devices.0.iter().position(same) else { return false };
            let one = &mut devices.0[index];
            if !one.is_worth_keeping(outcome, now) {
                devices.0.remove(index);
            }
            true
        };
        if let Err(error) = self.change(account, note).await {
            warn!(%error, %account, "what a push service answered is not kept");
        }
        if outcome == Outcome::Refused {
            info!(%account, service = device.service, "a push service refused: it is asked no more");
        }
    }
}

impl Device {
    /// Counts what came of a push. Whether the device is to be tried again.
    fn is_worth_keeping(&mut self, outcome: Outcome, now: u64) -> bool {
        match outcome {
            Outcome::Refused => return false,
            Outcome::Pushed => (self.failures, self.failing_since) = (0, 0),
            Outcome::Failed => {
                if self.failures == 0 {
                    self.failing_since = now;
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        self.failures <= FAILURES_MAX || now < self.failing_since + FAILING_SECONDS_MAX
    }
}

/// The resources that have a connection.
fn connected(entry: &Account) -> Vec<String> {
    let connected = entry.resources.iter().filter(|resource| !resource.detached);
    connected.map(|resource| resource.session.jid.resource().to_owned()).collect()
}

fn outcome_of(answer: &Stanza) -> Outcome {
    if answer.type_().as_deref() == Some("result") {
        return Outcome::Pushed;
    }
    let error = answer.child("error", ns::CLIENT).map(|error| error.element());
    let has = |condition: StanzaCondition| {
        error.as_ref().is_some_and(|error| error.child(condition.name(), ns::STANZA_ERRORS).is_some())
    };
    let waits = error.as_ref().and_then(|error| error.attr("type")) == Some(ErrorType::Wait.name());
    let passes = [
        StanzaCondition::ServiceUnavailable,
        StanzaCondition::RecipientUnavailable,
        StanzaCondition::RemoteServerTimeout,
        StanzaCondition::InternalServerError,
        StanzaCondition::ResourceConstraint,
    ];
    if waits || passes.into_iter().any(has) { Outcome::Failed } else { Outcome::Refused }
}

/// Whether somebody would want to be woken for it: for what people say, and for calls. Not for chat states, receipts, markers, and not for
/// the exchange of keys.
fn is_worth_waking(message: &Stanza) -> bool {
    if matches!(message.type_().as_deref(), Some("error" | "headline")) {
        return false;
    }
    let has_text = message.child("body", ns::CLIENT).is_some_and(|body| !body.element().text().is_empty());
    has_text || encryption::has_payload(message) || message.child("propose", "urn:xmpp:jingle-message:0").is_some()
}

/// What a service is told.
fn summary(config: &config::Push, count: u64, message: &Stanza) -> Summary {
    let body = message.child("body", ns::CLIENT).filter(|_| config.body && !encryption::is_encrypted(message));
    let body = body.map(|body| shortened(body.element().text())).filter(|body| !body.is_empty());
    let text = || Some(config.text.clone()).filter(|text| !text.is_empty());
    let sender = message.from().filter(|_| config.sender);
    Summary { count, sender: sender.map(|from| from.into_owned()), body: body.or_else(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse(xml.as_bytes()).unwrap()
    }

    #[test]
    fn words_and_calls_are_worth_waking_somebody_and_states_and_keys_are_not() {
        for worth in [
            "<message><body>x</body></message>",
            "<message type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='c'/></message>",
            "<message type='chat'><encrypted xmlns='urn:xmpp:omemo:2'><header/><payload>x</payload></encrypted></message>",
        ] {
            assert!(is_worth_waking(&stanza(worth)), "{worth}");
        }
        for not in [
            "<message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
            "<message><received xmlns='urn:xmpp:receipts' id='x'/></message>",
            "<message type='chat'><body/></message>",
            "<message type='error'><body>x</body></message>",
            "<message type='chat'><encrypted xmlns='urn:xmpp:omemo:2'><header/></encrypted></message>",
        ] {
            assert!(!is_worth_waking(&stanza(not)), "{not}");
        }
    }

    #[test]
    fn a_service_is_told_what_the_operator_lets_it_know_and_of_an_encrypted_message_no_word() {
        let said = |config: &config::Push, xml: &str| {
            let summary = summary(config, 3, &stanza(xml));
            [summary.sender, summary.body]
        };
        let plain = "<message from='romeo@example.org/a'><body>hi</body></message>";
        let all = config::Push { sender: true, body: true, text: String::new() };
        assert_eq!(said(&config::Push::default(), plain), [None, Some("New message".to_owned())]);
        assert_eq!(said(&config::Push { text: String::new(), ..config::Push::default() }, plain), [None, None]);
        assert_eq!(said(&all, plain), [Some("romeo@example.org/a".to_owned()), Some("hi".to_owned())]);
        let encrypted = "<message from='a@b/c'><body>hi</body><encryption xmlns='urn:xmpp:eme:0' namespace='x'/></message>";
        assert_eq!(said(&all, encrypted)[1], None);
    }

    #[test]
    fn a_service_that_fails_for_a_day_is_given_up_and_one_that_recovers_begins_anew() {
        let device = || serde_json::from_str::<Device>(r#"{"service":"a@b/c","node":"n","resource":"r"}"#).unwrap();
        let mut failing = device();
        for n in 0..100 {
            assert!(failing.is_worth_keeping(Outcome::Failed, 1000 + n), "{n}");
        }
        assert!(!failing.is_worth_keeping(Outcome::Failed, 1000 + FAILING_SECONDS_MAX));
        let mut seldom = device();
        assert!(seldom.is_worth_keeping(Outcome::Failed, 1000));
        assert!(seldom.is_worth_keeping(Outcome::Failed, 1000 + 9 * FAILING_SECONDS_MAX), "twice is not often");
        assert!(failing.is_worth_keeping(Outcome::Pushed, 2000) && failing == device());
        assert!(!device().is_worth_keeping(Outcome::Refused, 0));
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_do_not() {
        let outcome = |kind: &str, condition: &str| {
            outcome_of(&stanza(&format!(
                "<iq type='error'><error type='{kind}'><{condition} xmlns='{}'/></error></iq>",
                ns::STANZA_ERRORS
            )))
        };
        assert_eq!(outcome("cancel", "item-not-found"), Outcome::Refused);
        assert_eq!(outcome("auth", "forbidden"), Outcome::Refused);
        assert_eq!(outcome("wait", "policy-violation"), Outcome::Failed);
        assert_eq!(outcome("cancel", "service-unavailable"), Outcome::Failed);
        assert_eq!(outcome_of(&stanza("<iq type='result'/>")), Outcome::Pushed);
    }
}
