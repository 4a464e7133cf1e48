//! One device of an account: it comes, goes, loses its connection, returns, sends and acknowledges, as its dice say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::BareJid;
use magpie_server::server::Server;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::{Heard, PATIENCE, Wire, attribute, name};
use super::ledger::{Acks, Ledger, MessageKey, SessionKey};

mod departure;

const SM: &str = "urn:xmpp:sm:3";

/// SplitMix64.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How the devices of an account behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// XEP-0198 always; connections break.
    Managed,
    /// Never XEP-0198; streams are always closed in order.
    Plain,
    /// One session at a time that never loses anything: order must be strict.
    Calm,
    /// Anything.
    Wild,
}

/// What all actors of a run share.
pub struct World {
    pub address: SocketAddr,
    pub ledger: Mutex<Ledger>,
    pub habits: Vec<Habit>,
    /// Bytes of a large message; 0: none are.
    pub large: usize,
    /// The server, where it runs in this process.
    pub server: Option<Arc<Server>>,
    /// Whether the server stops and comes back while everybody acts.
    pub restarts: bool,
}

/// How long a device waits before it tries again to reach a server that restarts.
const RETRY_AFTER: Duration = Duration::from_millis(50);

pub fn user(account: usize) -> String {
    format!("user{account}")
}

pub fn address(account: usize) -> BareJid {
    BareJid::from_parts(Some(&user(account)), "localhost").expect("it is an address")
}

/// A bound session whose connection is there.
struct Live {
    wire: Wire,
    session: Logged,
}

/// What outlives the connection.
struct Logged {
    key: SessionKey,
    jid: String,
    managed: bool,
    sm_id: Option<String>,
    /// Stanzas that came.
    count: u32,
    /// Messages that came and are not yet known to be acknowledged, with their counts.
    unsure: VecDeque<(u32, MessageKey)>,
    /// The count that was acknowledged last.
    acked: u32,
    /// The counts acknowledged before each `<r/>` that is not answered yet.
    requests: VecDeque<u32>,
    /// What was sent and not acknowledged, oldest first.
    outbound: VecDeque<(Option<MessageKey>, String)>,
    /// Stanzas that the server acknowledged.
    handled: u32,
    owes_ack: bool,
    /// Whether the server has stopped since it was last resumed.
    stopped: bool,
}

pub struct Actor {
    world: Arc<World>,
    account: usize,
    device: usize,
    dice: Dice,
    live: Option<Live>,
    detached: Option<Logged>,
    /// With what the server ended the last stream that it ended.
    last_words: String,
}

impl Actor {
    pub fn new(world: &Arc<World>, account: usize, device: usize, dice: Dice) -> Self {
        Self { world: Arc::clone(world), account, device, dice, live: None, detached: None, last_words: String::new() }
    }

    fn habit(&self) -> Habit {
        self.world.habits[self.account]
    }

    pub async fn act(mut self, actions: usize) {
        for _ in 0..actions {
            match &self.live {
                None => self.act_offline().await,
                Some(_) => self.act_online().await,
            }
        }
        match self.live.is_some()
            && (self.habit() == Habit::Plain || self.habit() == Habit::Calm || self.dice.percent(50))
        {
            true => self.close().await,
            false => self.lose(),
        }
    }

    async fn act_offline(&mut self) {
        match self.dice.below(10) {
            0..2 => tokio::time::sleep(Duration::from_millis(self.dice.below(100))).await,
            2 if self.detached.is_some() && self.habit() != Habit::Calm => {
                // Until it is too late for a resumption, or nearly.
                tokio::time::sleep(Duration::from_millis(700 + self.dice.below(500))).await;
            }
            3..8 if self.detached.is_some() => self.resume().await,
            _ if self.detached.is_some() && self.habit() == Habit::Calm => self.resume().await,
            _ => self.bind().await,
        }
    }

    async fn act_online(&mut self) {
        let until = Instant::now() + Duration::from_millis(self.dice.below(12));
        if !self.listen(until).await {
            return;
        }
        let calm = matches!(self.habit(), Habit::Calm);
        match self.dice.below(24) {
            0..12 => self.send_messages().await,
            12..14 => self.request().await,
            14..16 => self.acknowledge().await,
            16 => self.say("<inactive xmlns='urn:xmpp:csi:0'/>").await,
            17 => self.say("<active xmlns='urn:xmpp:csi:0'/>").await,
            18 if !calm => self.change_presence().await,
            19 if !calm || self.dice.percent(30) => self.close().await,
            20 => self.take_over().await,
            21..23 if self.may_drop() => self.lose(),
            _ => {}
        }
    }

    fn may_drop(&self) -> bool {
        let managed = self.live.as_ref().is_some_and(|live| live.session.sm_id.is_some());
        match self.habit() {
            Habit::Plain => false,
            Habit::Calm => managed,
            Habit::Managed | Habit::Wild => true,
        }
    }

    async fn say(&mut self, text: &str) {
        if let Some(live) = &mut self.live {
            live.wire.send(text).await;
        }
    }

    // Coming.

    async fn log_in(&self) -> Option<Wire> {
        loop {
            match Wire::login(self.world.address, &user(self.account)).await {
                None if self.world.restarts => tokio::time::sleep(RETRY_AFTER).await,
                wire => return wire,
            }
        }
    }

    async fn bind(&mut self) {
        let Some(mut wire) = self.log_in().await else { return };
        let resource = match self.dice.percent(70) || self.habit() == Habit::Calm {
            true => format!("device{}", self.device),
            false => "shared".to_owned(),
        };
        if wire.bind(&resource).await.is_none() {
            return;
        }
        let managed = match self.habit() {
            Habit::Managed | Habit::Calm => true,
            Habit::Plain => false,
            Habit::Wild => self.dice.percent(60),
        };
        self.detached = None;
        let key = self.world.ledger.lock().binds(self.account, if managed { Acks::Managed } else { Acks::None });
        let mut session = Logged {
            key,
            jid: format!("{}/{resource}", address(self.account)),
            managed,
            sm_id: None,
            count: 0,
            unsure: VecDeque::new(),
            acked: 0,
            requests: VecDeque::new(),
            outbound: VecDeque::new(),
            handled: 0,
            owes_ack: false,
            stopped: false,
        };
        if managed {
            let resume = if self.habit() == Habit::Calm || self.dice.percent(85) { " resume='true'" } else { "" };
            wire.send(&format!("<enable xmlns='{SM}'{resume}/>")).await;
            // A message to the full JID may come before, and counts for no session then.
            let end = Instant::now() + PATIENCE;
            loop {
                match wire.hear(end).await {
                    Heard::Element(element) if name(&element) == "enabled" => {
                        session.sm_id = attribute(&element, "id").map(str::to_owned);
                        break;
                    }
                    Heard::Element(element) => early(&self.world, key, &element),
                    Heard::Nothing | Heard::Closed => {
                        self.world.ledger.lock().dropped(key);
                        return;
                    }
                }
            }
        }
        self.live = Some(Live { wire, session });
        if self.habit() == Habit::Calm || self.dice.percent(90) {
            self.change_presence().await;
        }
    }

    async fn change_presence(&mut self) {
        let Some(live) = &self.live else { return };
        self.world.ledger.lock().sends_presence(live.session.key);
        let priority = match self.dice.below(10) {
            _ if self.world.habits[self.account] == Habit::Calm => Some(0),
            0..5 => Some(0),
            5..7 => Some(5),
            7..9 => Some(-1),
            _ => None,
        };
        let stanza = match priority {
            Some(priority) => format!("<presence><priority>{priority}</priority></presence>"),
            None => "<presence type='unavailable'/>".to_owned(),
        };
        self.send_stanza(None, stanza).await;
    }

    async fn resume(&mut self) {
        let Some(mut wire) = self.log_in().await else { return };
        let Some(session) = self.detached.take() else { return };
        if let Some(session) = self.resume_on(&mut wire, session).await {
            self.live = Some(Live { wire, session });
            self.resend().await;
        }
    }

    /// Resumes on a fresh connection; where that fails, the session is lost.
    async fn resume_on(&mut self, wire: &mut Wire, mut session: Logged) -> Option<Logged> {
        let previd = session.sm_id.clone()?;
        wire.send(&format!("<resume xmlns='{SM}' previd='{previd}' h='{}'/>", session.count)).await;
        session.acked = session.count;
        says_up_to(&self.world, &session, session.count);
        let end = Instant::now() + PATIENCE;
        let answer = match wire.hear(end).await {
            Heard::Element(element) => element,
            other => {
                self.complain(format!("no answer to <resume/> of session {}: {other:?}", session.key));
                return None;
            }
        };
        match name(&answer) {
            "resumed" => {
                let (count, h) = (session.count, number(&answer));
                self.certain_up_to(&mut session, count);
                self.handled_up_to(&mut session, h);
                session.requests.clear();
                session.owes_ack = false;
                if std::mem::take(&mut session.stopped) {
                    self.world.ledger.lock().resumed_over_restarts += 1;
                }
                Some(session)
            }
            "failed" => {
                self.world.ledger.lock().ended(session.key);
                None
            }
            // The server stops.
            "stream:error" => {
                self.world.ledger.lock().dropped(session.key);
                session.stopped = true;
                self.detached = self.world.restarts.then_some(session);
                None
            }
            _ => {
                self.complain(format!("{answer} in answer to <resume/> of session {}", session.key));
                None
            }
        }
    }

    /// A resumption while the old connection is alive.
    async fn take_over(&mut self) {
        if self.live.as_ref().is_none_or(|live| live.session.sm_id.is_none()) {
            return;
        }
        let Some(mut wire) = self.log_in().await else { return };
        let Some(Live { wire: old, session }) = self.live.take() else { return };
        let resumed = self.resume_on(&mut wire, session).await;
        drop(old);
        if let Some(session) = resumed {
            self.live = Some(Live { wire, session });
            self.resend().await;
        }
    }

    /// What the server has not handled is sent again.
    async fn resend(&mut self) {
        let Some(live) = &mut self.live else { return };
        let text: String = live.session.outbound.iter().map(|(_, stanza)| stanza.as_str()).collect();
        live.wire.send(&text).await;
    }

    // Being there.

    async fn send_stanza(&mut self, message: Option<MessageKey>, stanza: String) {
        let Some(live) = &mut self.live else { return };
        live.wire.send(&stanza).await;
        live.session.outbound.push_back((message, stanza));
    }

    async fn send_messages(&mut self) {
        let Some(live) = &self.live else { return };
        let from = live.session.key;
        let to = self.dice.below(self.world.habits.len() as u64) as usize;
        let resource = match self.dice.below(10) {
            0..6 => String::new(),
            6..8 => format!("/device{}", self.dice.below(2)),
            _ => "/shared".to_owned(),
        };
        for _ in 0..1 + self.dice.below(5) {
            let key = self.world.ledger.lock().sends(from, to);
            let body = match self.world.large > 0 && self.dice.percent(20) {
                true => "x".repeat(self.world.large),
                false => "x".to_owned(),
            };
            let address = format!("{}@localhost{resource}", user(to));
            let stanza = format!("<message to='{address}' type='chat' id='m{key}'><body>{body}</body></message>");
            self.send_stanza(Some(key), stanza).await;
        }
    }

    async fn request(&mut self) {
        let Some(live) = self.live.as_mut().filter(|live| live.session.managed) else { return };
        live.session.requests.push_back(live.session.acked);
        live.wire.send(&format!("<r xmlns='{SM}'/>")).await;
    }

    async fn acknowledge(&mut self) {
        let early = self.dice.percent(20);
        let Some(live) = self.live.as_mut().filter(|live| live.session.managed) else { return };
        let session = &mut live.session;
        // Sometimes what was said already, or not all.
        let h = if early { session.acked + (session.count - session.acked) / 2 } else { session.count };
        session.acked = h;
        session.owes_ack = h < session.count;
        says_up_to(&self.world, session, h);
        live.wire.send(&format!("<a xmlns='{SM}' h='{h}'/>")).await;
    }

    /// Reads for a while; whether the session is still there.
    async fn listen(&mut self, until: Instant) -> bool {
        loop {
            let Some(live) = &mut self.live else { return false };
            match live.wire.hear(until).await {
                Heard::Nothing => return true,
                Heard::Element(element) => {
                    if !self.handle(&element).await {
                        return false;
                    }
                }
                Heard::Closed => {
                    self.lose();
                    return false;
                }
            }
        }
    }

    /// Whether the session goes on.
    async fn handle(&mut self, element: &str) -> bool {
        let Some(live) = &mut self.live else { return false };
        match name(element) {
            "message" | "presence" | "iq" => {
                live.session.count += 1;
                let count = live.session.count;
                let key = live.session.key;
                if name(element) == "presence" && attribute(element, "from") == Some(&*live.session.jid) {
                    self.world.ledger.lock().sees_presence(key);
                }
                match message_key(element) {
                    Some((message, true)) => self.world.ledger.lock().refused(message),
                    Some((message, false)) => {
                        if live.session.managed {
                            live.session.unsure.push_back((count, message));
                        }
                        self.world.ledger.lock().receives(key, message);
                    }
                    None => {}
                }
            }
            "r" => match self.dice.percent(60) {
                true => self.acknowledge().await,
                false => live.session.owes_ack = true,
            },
            "a" => {
                let h = number(element);
                let mut live = self.live.take().expect("it was there a moment ago");
                self.handled_up_to(&mut live.session, h);
                if let Some(certain) = live.session.requests.pop_front() {
                    self.certain_up_to(&mut live.session, certain);
                }
                self.live = Some(live);
            }
            "stream:error" if self.world.restarts && element.contains("<system-shutdown ") => {
                live.session.stopped = true;
                self.lose();
                return false;
            }
            "stream:error" => {
                // All that the server wrote has come; nothing comes after.
                self.world.ledger.lock().ended(live.session.key);
                element.clone_into(&mut self.last_words);
                self.live = None;
                return false;
            }
            "/stream:stream" => {
                self.lose();
                return false;
            }
            _ => {}
        }
        true
    }

    fn handled_up_to(&self, session: &mut Logged, h: u32) {
        let mut ledger = self.world.ledger.lock();
        while session.handled < h {
            let Some((message, _)) = session.outbound.pop_front() else {
                ledger.complaints.push(format!("session {}: {h} handled, {} sent", session.key, session.handled));
                return;
            };
            session.handled += 1;
            if let Some(message) = message {
                ledger.handled(message);
            }
        }
    }

    fn certain_up_to(&self, session: &mut Logged, count: u32) {
        let mut ledger = self.world.ledger.lock();
        while let Some((_, message)) = session.unsure.pop_front_if(|(at, _)| *at <= count) {
            ledger.certain(session.key, message);
        }
    }

    fn complain(&self, text: String) {
        self.world.ledger.lock().complaints.push(text);
    }
}

/// What the client acknowledges now; the server may never hear it.
fn says_up_to(world: &World, session: &Logged, count: u32) {
    let mut ledger = world.ledger.lock();
    for (_, message) in session.unsure.iter().take_while(|(at, _)| *at <= count) {
        ledger.says(session.key, *message);
    }
}

/// A stanza that comes between binding and `<enabled/>`: without XEP-0198, written is received.
fn early(world: &World, key: SessionKey, element: &str) {
    match message_key(element) {
        Some((message, true)) => world.ledger.lock().refused(message),
        Some((message, false)) => {
            let mut ledger = world.ledger.lock();
            ledger.receives(key, message);
            ledger.certain(key, message);
        }
        None => {}
    }
}

/// Which message it is, and whether it comes back as an error.
fn message_key(element: &str) -> Option<(MessageKey, bool)> {
    if name(element) != "message" {
        return None;
    }
    let key = attribute(element, "id")?.strip_prefix('m')?.parse().ok()?;
    Some((key, attribute(element, "type") == Some("error")))
}

fn number(element: &str) -> u32 {
    attribute(element, "h").and_then(|h| h.parse().ok()).expect("it has a count")
}
