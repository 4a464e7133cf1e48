//! XEP-0357: Push Notifications
//!
//! A client that will not always be there names a service which can wake its device. When a message waits for that client (it is away,
//! its session waits to be resumed, or it sleeps and its socket looks dead) the service is told, once for each message; what a
//! connected client gets needs no push. So it is of requests for a subscription, and of what is said in rooms, as far as the user wants that
//! (XEP-0492). While a service has not answered, what comes for the account gathers, and is told at once. Services
//! are reached on this server only. The one surprising thing: a device is the resource that asked for the push.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magpie_proto::error::ErrorType;
use magpie_proto::xeps::data_forms::Form;
use magpie_proto::xeps::encryption;
use magpie_proto::xeps::push::{NS, NS_OPTIONS, Summary, shortened};
use magpie_proto::xml::{Element, Kind, Stanza};
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::StoreError;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::offline::refusal;
use super::pubsub::{InRoom, Wishes};
use super::push_devices::{Device, Outcome, PushDevices};
use super::{About, Module};
use crate::config;
use crate::registry::{Account, Registry, SessionHandle};
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server, now};

/// Bytes of a node's name, and of the form that a service wants to be shown.
const NODE_BYTES_MAX: usize = 1023;
const OPTIONS_BYTES_MAX: usize = 4096;

/// Messages of one account that wait for the answer of a service; of more the newest count.
const WAITING_MAX: usize = 64;

/// How long a service has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// With what the ids of questions to services begin.
const QUESTION: &str = "push:";

/// The module.
pub struct Push {
    devices: PushDevices,
    registry: Arc<Registry>,
    /// What a service is to be told, by account. Whoever puts the first in sees to it that it is.
    waiting: Mutex<HashMap<BareJid, Vec<Waiting>>>,
    /// Questions to services that are not answered.
    asked: Mutex<HashMap<String, Asked>>,
    next: AtomicU64,
}

/// A message that waits, or a request for a subscription.
struct Waiting {
    stanza: Stanza,
    due: Due,
    /// Where it was said.
    room: Option<Room>,
}

/// What is known of a room: see [`InRoom`].
struct Room {
    address: BareJid,
    private: bool,
    nickname: Option<String>,
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
            devices: PushDevices::new(&deps.store, &deps.registry),
            registry: Arc::clone(&deps.registry),
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
        let resource = session.jid.resource().to_owned();
        let device = Device::new(service.to_string(), node, options, resource);
        match self.devices.enable(&session.account, &device).await.map_err(refusal)? {
            true => Ok(None),
            false => Err(StanzaError::new(StanzaCondition::ResourceConstraint, "too many push services")),
        }
    }

    async fn disable(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        let (service, node) = place(&request.payload())?;
        let service = service.ok_or(StanzaCondition::BadRequest)?.to_string();
        self.devices.disable(&session.account, &service, node.as_deref()).await.map_err(refusal)?;
        Ok(None)
    }
}

/// Service and node that a request names.
fn place(payload: &Element) -> Result<(Option<Jid>, Option<String>), StanzaError> {
    let jid = payload.attr("jid").map(|jid| Jid::parse(jid).map_err(|_| StanzaCondition::JidMalformed)).transpose()?;
    Ok((jid, payload.attr("node").map(str::to_owned)))
}

// What there is to tell.

impl Push {
    /// Learns who is to be woken, when the server starts.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.devices.load().await
    }

    /// The account has a session now.
    pub async fn session_bound(&self, account: &BareJid) -> Result<(), StoreError> {
        self.devices.session_bound(account).await
    }

    /// The account is gone.
    pub fn forget(&self, account: &BareJid) {
        self.devices.forget(account);
    }

    /// A message is kept for an account without a session that takes it.
    pub fn message_waits(&self, server: &Arc<Server>, account: &BareJid, entry: &Account, message: &Stanza) {
        if self.devices.has_any(account) && is_worth_waking(message) {
            self.tell(server, account, Waiting::new(message, Due::AllBut(connected(entry))));
        }
    }

    /// A message came to sessions of an account that has devices. Under the registry's lock for it.
    pub fn message_came(&self, server: &Arc<Server>, account: &BareJid, entry: &Account, message: &Stanza) {
        if is_worth_waking(message) {
            self.tell_others(server, account, connected(entry), message, None);
        }
    }

    /// A session's client does not have this message, of which no push told it when it came.
    pub fn message_missed(&self, server: &Arc<Server>, session: &SessionHandle, message: &Stanza) {
        if self.devices.has_any(&session.account) && is_worth_waking(message) {
            let due = Due::Only(session.jid.resource().to_owned());
            self.tell(server, &session.account, Waiting::new(message, due));
        }
    }

    /// Somebody asks to see the account's presence, and the request waits for an answer. Under the registry's lock for the account.
    pub fn request_waits(&self, server: &Arc<Server>, account: &BareJid, entry: &Account, request: &Stanza) {
        if self.devices.has_any(account) {
            self.tell_others(server, account, connected(entry), request, None);
        }
    }

    /// Something is said in a room of which the account is a member without being there, or where its client is away. Wakes those of its
    /// devices whose clients have no connection, as far as the account wants that: see [`InRoom`]. For each message once, and not for who
    /// said it. Costs a look into memory where the account has no devices. Not under the registry's lock.
    pub fn message_in_room(&self, server: &Arc<Server>, account: &BareJid, at: &InRoom<'_>, message: &Stanza) {
        if !self.devices.has_any(account) || !is_worth_waking(message) {
            return;
        }
        let connected = self.registry.with(account, |entry| entry.map(|entry| connected(entry)).unwrap_or_default());
        self.tell_others(server, account, connected, message, Some(at));
    }

    /// Tells those whose clients are not connected.
    fn tell_others(
        &self,
        server: &Arc<Server>,
        account: &BareJid,
        connected: Vec<String>,
        stanza: &Stanza,
        at: Option<&InRoom<'_>>,
    ) {
        if self.devices.may_have(account, |device| !connected.contains(&device.resource)) {
            let room = at.map(Room::of);
            self.tell(server, account, Waiting { room, ..Waiting::new(stanza, Due::AllBut(connected)) });
        }
    }

    fn tell(&self, server: &Arc<Server>, account: &BareJid, waiting: Waiting) {
        // What somebody sends from one device to another is no news.
        if waiting.stanza.from().and_then(|from| Jid::parse(&from).ok()).is_some_and(|from| from.to_bare() == *account) {
            return;
        }
        let mut all = self.waiting.lock();
        if let Some(gathered) = all.get_mut(account) {
            return gather(gathered, waiting);
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
            let wanted = wanted(server, account, gathered).await;
            match self.devices.of(account).await {
                Ok(devices) => {
                    for device in &devices.0 {
                        self.wake(server, account, device, &wanted).await;
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
        let mut summary = summary(&server.config().push, count, &newest.stanza);
        if is_request(&newest.stanza)
            && let Ok(roster) = server.modules.roster.of(account).await
        {
            summary.requests = roster.requests(account).count() as u64;
        }
        let outcome = self.publish(server, account, &service, device, &summary).await;
        if let Err(error) = self.devices.note(account, device, outcome, now().as_secs()).await {
            warn!(%error, %account, "what a push service answered is not kept");
        }
        if outcome == Outcome::Refused {
            info!(%account, service = device.service, "a push service refused: it is asked no more");
        }
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
}

impl Waiting {
    fn new(stanza: &Stanza, due: Due) -> Self {
        Self { stanza: stanza.clone(), due, room: None }
    }
}

impl Room {
    fn of(at: &InRoom<'_>) -> Self {
        let nickname = at.nickname.map(str::to_owned);
        Self { address: at.room.clone(), private: at.private, nickname }
    }

    fn at(&self) -> InRoom<'_> {
        InRoom { room: &self.address, private: self.private, nickname: self.nickname.as_deref() }
    }
}

/// One more to tell. Where there are too many the oldest goes: one of a room, if there is any, of which nobody may want to be told.
fn gather(gathered: &mut Vec<Waiting>, waiting: Waiting) {
    if gathered.len() >= WAITING_MAX {
        gathered.remove(gathered.iter().position(|waiting| waiting.room.is_some()).unwrap_or(0));
    }
    gathered.push(waiting);
}

/// Without what is said in rooms of which the account does not want to be told.
async fn wanted(server: &Server, account: &BareJid, gathered: Vec<Waiting>) -> Vec<Waiting> {
    let mut known: HashMap<BareJid, Wishes> = HashMap::new();
    let mut wanted = Vec::with_capacity(gathered.len());
    for waiting in gathered {
        let is_wanted = match &waiting.room {
            None => true,
            Some(room) => {
                let wishes = match known.remove(&room.address) {
                    Some(wishes) => wishes,
                    None => wishes(server, account, &room.address).await,
                };
                let is_wanted = wishes.include(account, &room.at(), &waiting.stanza);
                known.insert(room.address.clone(), wishes);
                is_wanted
            }
        };
        if is_wanted {
            wanted.push(waiting);
        }
    }
    wanted
}

async fn wishes(server: &Server, account: &BareJid, room: &BareJid) -> Wishes {
    server.modules.pubsub.wishes(account, room).await.unwrap_or_else(|error| {
        warn!(%error, %account, %room, "whether to tell of a room cannot be read");
        Wishes::default()
    })
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

fn is_request(stanza: &Stanza) -> bool {
    stanza.kind() == Kind::Presence
}

/// What a service is told: of so many messages that wait, and of this one, or of a request.
fn summary(config: &config::Push, waiting: u64, message: &Stanza) -> Summary {
    // One that is not kept for who is away, as in a room, counts too.
    let count = if is_request(message) { waiting } else { waiting.max(1) };
    let body = message.child("body", ns::CLIENT).filter(|_| config.body && !encryption::is_encrypted(message));
    let body = body.map(|body| shortened(body.element().text())).filter(|body| !body.is_empty());
    let text = || Some(config.text.clone()).filter(|text| !text.is_empty());
    let sender = message.from().filter(|_| config.sender && !is_request(message));
    Summary { count, requests: 0, sender: sender.map(|from| from.into_owned()), body: body.or_else(text) }
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
    fn of_a_request_a_service_is_told_that_there_is_one_and_neither_who_asks_nor_what_is_said() {
        let all = config::Push { sender: true, body: true, text: "News".to_owned() };
        let request = stanza("<presence type='subscribe' from='romeo@example.org'><status>hi</status></presence>");
        let expected = Summary { count: 0, requests: 0, sender: None, body: Some("News".to_owned()) };
        assert_eq!(summary(&all, 0, &request), expected);
        assert_eq!(summary(&all, 3, &request).count, 3);
    }

    #[test]
    fn of_what_gathers_the_oldest_is_dropped_and_of_rooms_first() {
        let waiting = |id: usize, of_room: bool| {
            let message = stanza(&format!("<message id='{id}'/>"));
            let room = Room { address: BareJid::parse("room@rooms.example").unwrap(), private: true, nickname: None };
            Waiting { room: of_room.then_some(room), ..Waiting::new(&message, Due::AllBut(Vec::new())) }
        };
        let mut gathered = Vec::new();
        for id in 0..WAITING_MAX {
            gather(&mut gathered, waiting(id, id == 1 || id == 5));
        }
        for id in WAITING_MAX..WAITING_MAX + 3 {
            gather(&mut gathered, waiting(id, false));
        }
        let ids: Vec<usize> = gathered.iter().map(|waiting| waiting.stanza.id().unwrap().parse().unwrap()).collect();
        let expected = (0..WAITING_MAX + 3).filter(|id| ![0, 1, 5].contains(id));
        assert_eq!(ids, expected.collect::<Vec<_>>());
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
