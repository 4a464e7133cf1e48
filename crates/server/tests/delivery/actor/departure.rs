//! How a device goes: in peace, without a word, or for the last time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use magpie_server::accounts::owner;
use magpie_server::modules::offline::Spooled;
use magpie_store::Store;
use tokio::time::Instant;

use super::super::client::{Heard, PATIENCE, Wire, name};
use super::super::ledger::Acks;
use super::{Actor, Habit, Live, Logged, SM, address, says_up_to, user};

impl Actor {
    /// Closes the stream and reads to its end.
    pub(super) async fn close(&mut self) {
        if self.habit() == Habit::Calm || self.dice.percent(70) {
            self.acknowledge_all().await;
        }
        if let Some(live) = &self.live {
            self.world.ledger.lock().closes(live.session.key);
        }
        self.say("</stream:stream>").await;
        let end = Instant::now() + PATIENCE;
        while let Some(live) = &mut self.live {
            match live.wire.hear(end).await {
                Heard::Element(element) if element.starts_with("</stream:stream") => {
                    let mut live = self.live.take().expect("it was there a moment ago");
                    let acked = live.session.acked;
                    self.certain_up_to(&mut live.session, acked);
                    let mut ledger = self.world.ledger.lock();
                    for message in live.session.outbound.iter().filter_map(|(message, _)| *message) {
                        ledger.handled(message);
                    }
                    ledger.over(live.session.key);
                }
                // After the end it says nothing more, and so acknowledges nothing.
                Heard::Element(element) if name(&element) == "r" => {}
                Heard::Element(element) => {
                    self.handle(&element).await;
                }
                Heard::Closed => self.lose(),
                Heard::Nothing => {
                    let key = live.session.key;
                    self.complain(format!("session {key} is not closed in time"));
                    self.lose();
                }
            }
        }
    }

    async fn acknowledge_all(&mut self) {
        let Some(live) = self.live.as_mut().filter(|live| live.session.managed) else { return };
        live.session.acked = live.session.count;
        says_up_to(&self.world, &live.session, live.session.count);
        live.wire.send(&format!("<a xmlns='{SM}' h='{}'/>", live.session.count)).await;
    }

    /// Has the moment noted at which the server no longer has the session; until then it may write to its dead socket.
    fn watch_end(&self, session: &Logged) {
        let Some(server) = &self.world.server else { return };
        let (account, key) = (address(self.account), session.key);
        let sessions = server.deps.registry.sessions(&account);
        let id = sessions.iter().find(|other| other.jid.to_string() == session.jid).map(|session| session.id);
        let (world, server) = (Arc::clone(&self.world), Arc::clone(server));
        tokio::spawn(async move {
            while server.deps.registry.sessions(&account).iter().any(|other| Some(other.id) == id) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.ledger.lock().noticed(key);
        });
    }

    /// Drops the connection.
    pub(super) fn lose(&mut self) {
        let Some(live) = self.live.take() else { return };
        self.world.ledger.lock().dropped(live.session.key);
        self.watch_end(&live.session);
        self.detached = live.session.sm_id.is_some().then_some(live.session);
    }

    /// Comes once more, takes all there is, acknowledges it and goes.
    pub async fn drain(mut self, store: Option<&Store>) {
        let (spool, owner) = (store.map(|store| store.log::<Spooled>("spool")), owner(&address(self.account)));
        let Some(mut wire) = Wire::login(self.world.address, &user(self.account)).await else {
            return self.complain("the last login fails".into());
        };
        if wire.bind("last").await.is_none() {
            return self.complain("the last binding fails".into());
        }
        let key = self.world.ledger.lock().binds(self.account, Acks::Managed);
        wire.send(&format!("<enable xmlns='{SM}'/>")).await;
        if wire.expect("<enabled").await.is_none() {
            return self.complain("the last session cannot be managed".into());
        }
        let session = Logged {
            key,
            jid: format!("{}/last", address(self.account)),
            managed: true,
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
        self.live = Some(Live { wire, session });
        self.world.ledger.lock().sends_presence(key);
        self.send_stanza(None, "<presence/>".into()).await;
        let end = Instant::now() + Duration::from_secs(5);
        let (mut before, mut quiet) = (0, Instant::now());
        loop {
            if !self.listen(Instant::now() + Duration::from_millis(50)).await {
                return self.complain(format!("the last session is ended: {}", self.last_words));
            }
            self.acknowledge_all().await;
            self.request().await;
            let count = self.live.as_ref().map_or(0, |live| live.session.count);
            let sure = self.live.as_ref().is_some_and(|live| live.session.unsure.is_empty() && count > 0);
            if before != count {
                (before, quiet) = (count, Instant::now());
            }
            let empty = match &spool {
                Some(spool) => spool.count(&owner).await.is_ok_and(|count| count == 0),
                // Elsewhere: when nothing has come for a while.
                None => quiet.elapsed() > Duration::from_millis(400),
            };
            if (sure && empty) || Instant::now() > end {
                break;
            }
        }
        self.close().await;
    }
}
