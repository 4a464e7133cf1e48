//! XEP-0198 over a restart: how sessions that can be resumed sleep while the server is not there.
//!
//! A server that stops ends the streams, and the sessions that nobody can resume. The others stay where others see them, so that
//! nobody is told that they went, and what still comes for them is not lost; when all else is over they are saved. The next start
//! takes them up before it listens: they wait for their clients as if only the connections had broken. What is read then is deleted
//! before anybody can resume it, so that no session is taken up twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use magpie_proto::{BareJid, Stanza, StreamCondition};
use magpie_store::{Batch, LogId, StoreError, Ticket};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::inline::Beginning;
use super::saved::{Flags, SavedDelivery, SavedSession, SavedSessions, SavedStanza};
use super::{Connection, Session};
use crate::accounts;
use crate::mailbox::{Delivery, InSpool, Mail, Mailbox};
use crate::modules::stream_management::Acks;
use crate::news;
use crate::pipeline;
use crate::registry::{Account, SessionHandle};
use crate::server::{Server, now};

/// The name of the shape in the store.
const SHAPE: &str = "sessions";

/// Memory that saved sessions may take on their way to the disk.
const UNSYNCED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one saved session besides its stanzas, about.
const SESSION_BYTES: usize = 256;

/// Accounts whose sessions are taken up together.
const ACCOUNTS_AT_ONCE: usize = 256;

/// A session that sleeps, and for how long it had been without a connection before.
pub(crate) struct Asleep {
    session: Box<Session>,
    waited: Duration,
}

impl Session {
    /// The server stops, and the client was told: without its connection the session sleeps until it is saved.
    pub(super) async fn sleep(mut self: Box<Self>) {
        let connection = self.connection.take();
        if connection.is_some() {
            self.detach();
        }
        let waited = self.since.elapsed();
        self.pay().await;
        if let Some(mut connection) = connection {
            connection.end();
            connection.close().await;
        }
        let server = Arc::clone(&self.server);
        server.asleep().push(Asleep { session: self, waited });
    }

    /// Whether it has nothing that it could be resumed with: something for it was refused, or it was told to end meanwhile.
    fn is_over(&self) -> bool {
        self.handle.mailbox.is_overflown()
            || self.handle.mailbox.has_end()
            || self.server.registry().with_resource(&self.handle, |_| ()).is_none()
    }

    /// What is to be saved of it, which is then no more its own. Under the registry's lock for the account.
    fn saved(&mut self, waited: Duration, account: &mut Account) -> Option<SavedSession> {
        let Self { server, handle, acks, .. } = self;
        let acks = acks.as_mut()?;
        let id = acks.id()?.to_owned();
        let mut mail = Vec::new();
        for left in handle.mailbox.close() {
            match left {
                Mail::Deliver(delivery) => mail.push(delivery),
                Mail::Resume(takeover) => stop(takeover.connection),
                Mail::LookIntoSpool | Mail::End(_) => {}
            }
        }
        let unacked = std::mem::take(&mut acks.outbound);
        let acked = unacked.acked_ever();
        let mut save = |mut delivery: Delivery| {
            server.modules.offline.keep_held(handle, account, &mut delivery);
            // What another client of the account has had is not there any more, or not for this one.
            let waits = |id: &LogId| account.in_flight.get(id).is_some_and(|flight| !flight.received);
            let spooled = delivery.spool.kept().filter(waits);
            let stanza = spooled.map_or(SavedStanza::Whole(delivery.stanza), SavedStanza::Spooled);
            SavedDelivery { to: delivery.to, pushed: delivery.pushed, stanza }
        };
        let unacked = unacked.into_unacked().into_iter().map(&mut save).collect();
        let mail = mail.into_iter().map(&mut save).collect();
        let awaiting = account.in_flight.iter().filter(|(_, flight)| flight.awaiting.contains(&handle.id));
        let awaiting = awaiting.map(|(id, flight)| (*id, flight.received)).collect();
        let resource = account.resource(handle.id)?;
        self.left = true;
        Some(SavedSession {
            resource: handle.jid.resource().to_owned(),
            id,
            received: acks.inbound.received_ever(),
            acked,
            resume_seconds: acks.resume_seconds,
            waited,
            saved: now(),
            presence: resource.presence.clone(),
            priority: resource.priority,
            flags: Flags {
                interested: resource.interested,
                carbons: resource.wants_carbons(),
                block_pushes: resource.block_pushes,
                fetching: resource.fetching,
            },
            directed: resource.directed.iter().flat_map(|directed| directed.iter().cloned()).collect(),
            awaiting,
            unacked,
            mail,
        })
    }
}

/// A connection that came for a session which sleeps already.
fn stop(mut connection: Connection) {
    connection.fail(StreamCondition::SystemShutdown.into());
    tokio::spawn(connection.close());
}

/// Saves the sessions that sleep; nothing else runs any more. Beyond the deadline the rest is not resumed, which loses no message.
pub(crate) async fn save_all(server: &Server, deadline: Instant) {
    let asleep = std::mem::take(&mut *server.asleep());
    let (over, asleep): (Vec<_>, Vec<_>) = asleep.into_iter().partition(|asleep| asleep.session.is_over());
    for over in over {
        Box::pin(over.session.end(true)).await;
    }
    let mut accounts: BTreeMap<BareJid, Vec<Asleep>> = BTreeMap::new();
    for asleep in asleep {
        accounts.entry(asleep.session.handle.account.clone()).or_default().push(asleep);
    }
    let count: usize = accounts.values().map(Vec::len).sum();
    match tokio::time::timeout_at(deadline, save(server, accounts)).await {
        Ok(Ok(())) if count > 0 => info!(sessions = count, "sessions saved"),
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(%error, sessions = count, "sessions could not be saved"),
        Err(_) => warn!(sessions = count, "sessions could not be saved in time"),
    }
}

async fn save(server: &Server, accounts: BTreeMap<BareJid, Vec<Asleep>>) -> Result<(), StoreError> {
    let shape = server.deps.store.value::<SavedSessions>(SHAPE);
    let mut unsynced: VecDeque<(usize, Ticket)> = VecDeque::new();
    let mut bytes = 0;
    for (account, mut sessions) in accounts {
        let mut batch = Batch::new();
        let saved = server.registry().with_any(&account, |entry| {
            let saved = sessions.iter_mut().filter_map(|asleep| asleep.session.saved(asleep.waited, entry));
            let saved: Vec<_> = saved.collect();
            server.modules.offline.delete_received(&mut batch, &account, entry);
            saved
        });
        let cost = saved.iter().map(cost).sum::<usize>();
        shape.put(&mut batch, &accounts::owner(&account), &SavedSessions(saved));
        // The writer gathers them: many accounts are few visits to the disk.
        unsynced.push_back((cost, server.deps.store.commit(batch)));
        bytes += cost;
        while bytes > UNSYNCED_BYTES_MAX
            && let Some((cost, ticket)) = unsynced.pop_front()
        {
            ticket.await?;
            bytes -= cost;
        }
    }
    for (_, ticket) in unsynced {
        ticket.await?;
    }
    Ok(())
}

fn cost(session: &SavedSession) -> usize {
    let whole = session.unacked.iter().chain(&session.mail).map(|delivery| match &delivery.stanza {
        SavedStanza::Whole(stanza) => stanza.bytes().len(),
        SavedStanza::Spooled(_) => size_of::<LogId>(),
    });
    SESSION_BYTES + whole.sum::<usize>()
}

/// Takes up the sessions that were saved, before anybody can connect.
pub(crate) async fn wake_all(server: &Arc<Server>) {
    if let Err(error) = try_wake_all(server).await {
        error!(%error, "sessions of before the restart are not resumed");
    }
}

async fn try_wake_all(server: &Arc<Server>) -> Result<(), StoreError> {
    let store = &server.deps.store;
    let shape = store.value::<SavedSessions>(SHAPE);
    let (mut after, mut saved, mut woken) = (None, 0, 0);
    loop {
        let owners = shape.owners("", after.as_deref(), ACCOUNTS_AT_ONCE).await?;
        let mut batch = Batch::new();
        let mut found = Vec::new();
        for owner in &owners {
            shape.delete(&mut batch, owner);
            match shape.get(owner).await {
                Ok(sessions) => found.extend(sessions.map(|sessions| (owner, sessions.0))),
                Err(error) => warn!(%error, owner, "what was saved of sessions is not resumed"),
            }
        }
        // Before anybody can resume them: a session of which the store still knew could be taken up once more.
        store.commit(batch).await?;
        for (owner, sessions) in found {
            saved += sessions.len();
            let account = owner.split_once('/').and_then(|(host, local)| BareJid::from_parts(Some(local), host).ok());
            if let Some(account) = account.filter(|account| server.serves(account.domain())) {
                woken += wake(server, &account, sessions).await?;
            }
        }
        match owners.into_iter().last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if saved > 0 {
        info!(sessions = woken, lost = saved - woken, "sessions wait for their clients again");
    }
    Ok(())
}

/// Takes up sessions of one account: how many.
async fn wake(server: &Arc<Server>, account: &BareJid, saved: Vec<SavedSession>) -> Result<usize, StoreError> {
    let mut ids: Vec<LogId> = saved.iter().flat_map(SavedSession::spooled).collect();
    ids.sort_unstable();
    ids.dedup();
    let spooled = server.modules.offline.spooled(account, &ids).await?;
    let accounts = &server.deps.accounts;
    let is_active = accounts.exists(account).await? && !accounts.is_disabled(account).await?;
    let mut sessions = Vec::new();
    for saved in saved {
        match rise(server, account, saved, &spooled).await? {
            Some(session) if is_active => sessions.push(session),
            // It ends as a session does, so that everybody hears of it.
            Some(session) => {
                let _ = session.handle.mailbox.put(Mail::End(StreamCondition::NotAuthorized.into()));
                sessions.push(session);
            }
            None => warn!(%account, "a session that was saved is not resumed"),
        }
    }
    let count = sessions.len();
    // Once all of them are there: one that ends at once leaves what it has to another.
    for session in sessions {
        let running = server.running();
        let run = session.run();
        tokio::spawn(async move {
            run.await;
            drop(running);
        });
    }
    Ok(count)
}

/// A session as it was, waiting for its client; `None` where something of it is not there.
async fn rise(
    server: &Arc<Server>,
    account: &BareJid,
    saved: SavedSession,
    spooled: &HashMap<LogId, Stanza>,
) -> Result<Option<Box<Session>>, StoreError> {
    let (held, waited): (Vec<LogId>, _) = (saved.spooled().collect(), saved.waited_at(now()));
    let delivery = |saved: SavedDelivery| {
        let (stanza, spool) = match saved.stanza {
            SavedStanza::Whole(stanza) => (stanza, InSpool::Never),
            SavedStanza::Spooled(id) => (spooled.get(&id)?.clone(), InSpool::Kept(id)),
        };
        Some(Delivery { stanza, to: saved.to, spool, pushed: saved.pushed, shared: false })
    };
    let (Some(unacked), Some(mail)) = (
        saved.unacked.into_iter().map(delivery).collect::<Option<Vec<_>>>(),
        saved.mail.into_iter().map(delivery).collect::<Option<Vec<_>>>(),
    ) else {
        return Ok(None);
    };
    let Ok(jid) = account.with_resource(&saved.resource) else { return Ok(None) };
    let limits = server.config().limits.clone();
    let mailbox = Mailbox::new(limits.unsent_bytes_max);
    let handle = Arc::new(SessionHandle::new(server.registry().next_id(), jid, mailbox, false));
    if server.registry().add(&handle, limits.sessions_per_account_max).is_err() {
        return Ok(None);
    }
    if let Err(error) = news::session_bound(server, &handle).await {
        let left = pipeline::session_leaves(server, &handle, Vec::new());
        pipeline::session_has_left(server, &handle, left).await;
        return Err(error);
    }
    let presence = saved.presence.clone();
    for delivery in mail {
        // What does not fit any more is as if it had come now.
        handle.mailbox.deliver(delivery);
    }
    server.registry().with_any(account, |entry| {
        entry.set_carbons(handle.id, saved.flags.carbons);
        for id in held {
            entry.in_flight.entry(id).or_default().holders.push(handle.id);
        }
        for (id, received) in saved.awaiting {
            let flight = entry.in_flight.entry(id).or_default();
            flight.awaiting.push(handle.id);
            flight.received |= received;
        }
        let Some(resource) = entry.resource(handle.id) else { return };
        resource.presence = saved.presence;
        resource.priority = saved.priority;
        resource.interested = saved.flags.interested;
        resource.block_pushes = saved.flags.block_pushes;
        resource.directed = (!saved.directed.is_empty()).then(|| Box::new(saved.directed.into_iter().collect()));
        resource.set_detached(true);
        // What came to the account while it could not be told is in the spool.
        if saved.flags.fetching || (resource.is_available() && resource.priority >= 0) {
            resource.fetching = true;
            let _ = handle.mailbox.put(Mail::LookIntoSpool);
        }
    });
    if let Some(presence) = &presence {
        server.modules.caps.session_returns(&handle, presence).await;
        server.modules.muc.session_returns(server, &handle, presence).await;
    }
    let resume_seconds = saved.resume_seconds.min(limits.resume_seconds_max);
    let acks = Acks::restored(server, &handle, saved.id, unacked, (saved.received, saved.acked), resume_seconds);
    let mut session = Session::new(
        Arc::clone(server),
        handle,
        None,
        Beginning { acks: Some(Box::new(acks)), ..Beginning::default() },
    );
    // A clock that began with the machine may know no moment that long ago.
    session.since = Instant::now().checked_sub(waited).unwrap_or(session.since);
    Ok(Some(session))
}
