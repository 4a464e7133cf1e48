//! One task per session: it selects an input and applies it.
//!
//! A session outlives its connection where its client asked for that (XEP-0198): the task goes on without one, and
//! a new connection is handed over to it. While a stanza is being handled (a store read, a roster change) the session takes no
//! further input, so that order is kept, but still writes what others send it.

mod allowance;
mod connection;
mod ending;
mod fetching;
mod inline;
mod negotiation;
mod saved;
#[cfg(test)]
mod sizes;
mod sleep;
mod turns;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use magpie_proto::acks::{Position, StreamManagement};
use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::stream::Event;
use magpie_proto::xml::{Kind, Stanza};
use magpie_proto::{BareJid, StreamCondition, StreamError, ns};
use magpie_store::{LogId, StoreError};
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use allowance::Allowance;
pub use connection::{Connection, Counts};
use ending::Resumption;
use inline::Beginning;
pub use negotiation::{Gate, serve};
pub(crate) use sleep::{Asleep, save_all, wake_all};
use turns::Timer;

use crate::accounts::Proof;
use crate::mailbox::{Delivery, InSpool, Mail};
use crate::modules::client_state::ClientState;
use crate::modules::offline::Chunk;
use crate::modules::stream_management::{Acks, Answer};
use crate::pipeline::{self, Outgoing};
use crate::promise::Promise;
use crate::registry::SessionHandle;
use crate::server::Server;

/// Seconds that a silent peer has to answer when it is asked whether it is there, and no more than it may be silent.
const PROBE_SECONDS_MAX: u64 = 60;

/// Seconds without a word, and no more than half of those that a peer may be silent, after which an inactive client is told by a push
/// (XEP-0357) of what it has not acknowledged.
const DOUBT_SECONDS_MAX: u64 = 30;

/// Bytes waiting for the socket above which a session takes nothing more from its mailbox or the spool.
const UNSENT_BYTES_HIGH: usize = 64 * 1024;

/// A new connection for a session that lost its own (XEP-0198 §5).
#[derive(Debug)]
pub struct Takeover {
    /// The connection; its stream waits for an answer to `<resume/>`.
    pub connection: Connection,
    /// The SM-ID, to be repeated.
    pub previd: String,
    /// How many of our stanzas the client has handled.
    pub h: u32,
    /// The account that it authenticated as.
    pub account: BareJid,
    /// XEP-0388: what else it wanted inline, should the session be over.
    pub inline: Option<Box<Authenticate>>,
    /// On what its authentication rests.
    pub proof: Option<Proof>,
}

/// Stanzas whose promises wait for the store above which a session reads no further.
const PROMISES_MAX: usize = 1024;

/// Whether the session goes on.
enum Flow {
    On,
    /// The connection is gone; the session may wait for another.
    Detach,
    /// The session is over.
    End,
    /// The server stops, and the session waits for the next start.
    Sleep,
}

/// What became of a turn.
enum Turn {
    Flow(Flow),
    /// A new connection takes the session over, which takes its time.
    Resume(Box<Resumption>),
}

/// What became of an event of the stream.
enum Taken {
    /// It is handled.
    All(Flow),
    /// A stanza that needs more than this moment.
    Begun(Work<(Option<Position>, Promise)>),
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A bound session. Each field but the first three is what a resume must find again.
pub struct Session {
    server: Arc<Server>,
    handle: Arc<SessionHandle>,
    /// `None` while the session waits to be resumed.
    connection: Option<Connection>,
    /// XEP-0198, once enabled.
    acks: Option<Box<Acks>>,
    /// XEP-0352
    client_state: ClientState,
    /// The stanza that is being handled.
    work: Option<Work<(Option<Position>, Promise)>>,
    /// What must be durable before stanzas count as handled, in the order in which they came.
    promises: VecDeque<(Option<Position>, Promise)>,
    /// A look into the spool.
    fetch: Option<Work<Result<Chunk, StoreError>>>,
    /// Where the next look begins, and whether one more must follow.
    fetch_next: Option<Option<LogId>>,
    /// Without XEP-0198: what is not written to the socket yet, with the place on the wire up to which that must come.
    unflushed: SmallVec<[(u64, Delivery); 1]>,
    /// When the peer was last heard, or the connection was lost.
    since: Instant,
    /// Whether the peer was asked if it is there.
    probed: bool,
    /// How fast the peer may send.
    allowance: Allowance,
    /// Whether what its client does not have was handed on.
    left: bool,
}

impl Session {
    fn new(
        server: Arc<Server>,
        handle: Arc<SessionHandle>,
        connection: Option<Connection>,
        beginning: Beginning,
    ) -> Box<Self> {
        let Beginning { acks, client_state } = beginning;
        Box::new(Self {
            server,
            handle,
            connection,
            acks,
            client_state,
            work: None,
            promises: VecDeque::new(),
            fetch: None,
            fetch_next: None,
            unflushed: SmallVec::new(),
            since: Instant::now(),
            probed: false,
            allowance: Allowance::default(),
            left: false,
        })
    }

    /// Runs the session to its end.
    pub async fn run(mut self: Box<Self>) {
        if *self.server.stopping().borrow() {
            // Whoever told the sessions to end may have looked before this one was there.
            let _ = self.handle.mailbox.put(Mail::End(StreamCondition::SystemShutdown.into()));
        }
        let sleep = pin!(sleep_until(self.deadline()));
        let mut timer = Timer { sleep, armed: false };
        let lost = loop {
            // What ended the turns may have brought the deadline nearer.
            timer.armed = false;
            let flow = match poll_fn(|context| self.poll_turns(context, &mut timer)).await {
                Turn::Flow(flow) => flow,
                Turn::Resume(resumption) => Box::pin(self.resume_amid(*resumption)).await,
            };
            match flow {
                Flow::On => {}
                Flow::Detach if self.is_resumable() => self.detach(),
                Flow::Detach => break true,
                Flow::End => break false,
                Flow::Sleep => return Box::pin(self.sleep()).await,
            }
        };
        Box::pin(self.end(lost)).await;
    }

    // Input.

    fn read(&mut self) -> Flow {
        let Some(connection) = &mut self.connection else { return Flow::On };
        match connection.read() {
            Ok(0) => Flow::On,
            Ok(bytes) => {
                self.since = Instant::now();
                self.probed = false;
                self.allowance.spend(bytes, self.server.limits().bytes_per_second_max(), self.since);
                Flow::On
            }
            Err(error) => {
                debug!(jid = %self.handle.jid, %error, "connection lost");
                Flow::Detach
            }
        }
    }

    /// Handles what comes next of what was read, or begins to.
    fn take_event(&mut self) -> Option<Taken> {
        if !self.may_take_input() {
            return None;
        }
        Some(match self.connection.as_mut().and_then(Connection::next_event)? {
            Event::Stanza(stanza) => return Some(self.begin(stanza)),
            Event::Nonza(element) => Taken::All(self.handle_nonza(&element)),
            Event::Failed(error) => {
                self.server.deps.metrics.stream_error(error.condition.name());
                info!(jid = %self.handle.jid, %error, "stream refused");
                Taken::All(Flow::End)
            }
            // The rest belongs to negotiation and cannot follow it.
            _ => Taken::All(Flow::End),
        })
    }

    /// A stanza at a time, and no more than the store keeps up with.
    fn may_take_input(&self) -> bool {
        self.work.is_none() && self.promises.len() < PROMISES_MAX
    }

    /// Handles the stanza, or begins to where the store must be asked.
    fn begin(&mut self, stanza: Stanza) -> Taken {
        let position = self.acks.as_mut().map(|acks| acks.inbound.received());
        self.server.deps.metrics.stanza_in(stanza.kind());
        if let Some(promise) = pipeline::user_sends_now(&self.server, &self.handle, &stanza, self.acks.is_some()) {
            self.owe(position, promise);
            return Taken::All(Flow::On);
        }
        let outgoing = Outgoing {
            server: Arc::clone(&self.server),
            session: Arc::clone(&self.handle),
            stanza,
            acknowledged: self.acks.is_some(),
        };
        Taken::Begun(Box::pin(async move { (position, pipeline::user_sends(outgoing).await) }))
    }

    fn work_on(&mut self, mut work: Work<(Option<Position>, Promise)>, context: &mut Context<'_>) {
        // Most stanzas need nothing from the store and are through at the first poll.
        match work.as_mut().poll(context) {
            Poll::Ready((position, promise)) => self.owe(position, promise),
            Poll::Pending => self.work = Some(work),
        }
    }

    fn handle_nonza(&mut self, element: &Stanza) -> Flow {
        // Answers to these do not wait in the mailbox.
        let max = self.server.limits().unsent_bytes_max();
        let unsent = |session: &Self| session.connection.as_ref().map_or(0, Connection::unsent_bytes);
        // What the socket was not offered yet does not count.
        if unsent(self) > max && (!matches!(self.flush(), Flow::On) || unsent(self) > max) {
            warn!(jid = %self.handle.jid, "the peer does not read");
            return Flow::Detach;
        }
        match (element.name(), element.ns()) {
            (_, ns::SM) => match Acks::handle(&mut self.acks, element, &self.server, &self.handle) {
                Answer::Nothing => {}
                Answer::Write(answer) => self.write_nonza(&answer),
                Answer::Acknowledged(deliveries) => self.acknowledged(&deliveries),
                Answer::Fail(error) => return self.fail(error),
            },
            (_, crate::modules::client_state::NS) => {
                for delivery in self.client_state.handle(element) {
                    self.write(delivery);
                }
            }
            _ => return self.fail(StreamCondition::UnsupportedStanzaType.into()),
        }
        Flow::On
    }

    // Promises.

    fn owe(&mut self, position: Option<Position>, promise: Promise) {
        match promise.parts() {
            // The stanza counts as handled with the last.
            (Some(first), Some(last)) => self.promises.extend([(None, first), (position, last)]),
            (Some(only), None) | (None, Some(only)) => self.promises.push_back((position, only)),
            (None, None) => self.settle(position),
        }
    }

    /// Settles what needs no more waiting.
    fn look_at_promises(&mut self) {
        while let Some(outcome) = self.promises.front().and_then(|(_, promise)| promise.ticket.as_ref()?.outcome()) {
            self.promise_kept(outcome);
        }
    }

    /// The oldest promise; `quietly`: only what the store says of it, and not that the recipient has the message.
    fn poll_promise(&mut self, context: &mut Context<'_>, quietly: bool) -> Poll<Result<(), StoreError>> {
        match self.promises.front_mut().and_then(|(_, promise)| promise.ticket.as_mut()) {
            Some(ticket) if quietly => ticket.poll_quietly(context),
            Some(ticket) => Pin::new(ticket).poll(context),
            None => Poll::Pending,
        }
    }

    fn promise_kept(&mut self, outcome: Result<(), StoreError>) {
        let Some((position, promise)) = self.promises.pop_front() else { return };
        if let Err(error) = outcome {
            warn!(jid = %self.handle.jid, %error, "a stanza could not be kept");
            self.server.modules.offline.count_again();
            if let Some(refusal) = promise.refusal() {
                // Not by way of the mailbox: the stanza counts as handled from here on.
                self.deliver(Delivery::new(refusal));
            }
            if let (true, Some((_, last))) = (promise.has_more, self.promises.front_mut()) {
                last.say_nothing();
            }
        }
        self.settle(position);
    }

    fn settle(&mut self, position: Option<Position>) {
        if let (Some(acks), Some(position)) = (&mut self.acks, position) {
            acks.inbound.settle(position);
        }
    }

    /// Tells the client what was handled, once everything that was to be said about it is on its way.
    fn answer_requests(&mut self) {
        if !self.acks.as_ref().is_some_and(|acks| acks.owes()) || self.is_stalled() || !self.handle.mailbox.is_empty() {
            return;
        }
        if let Some(answer) = self.acks.as_mut().and_then(|acks| acks.answer_due()) {
            self.write_management(&answer);
        }
    }

    // Output.

    fn open_all(&mut self, mail: Vec<Mail>) -> Turn {
        let mut mail = mail.into_iter();
        let mut end = None;
        while let Some(next) = mail.next() {
            if let Some(takeover) = self.open(next, &mut end) {
                return Turn::Resume(Box::new(Resumption { takeover, mail, end }));
            }
        }
        Turn::Flow(self.mail_taken(end))
    }

    fn mail_taken(&mut self, end: Option<Box<StreamError>>) -> Flow {
        if let Some(error) = end {
            let stops = error.condition == StreamCondition::SystemShutdown;
            let sleeps = stops && self.is_resumable();
            if stops && !sleeps {
                self.say_farewell();
            }
            let over = self.fail(*error);
            return if sleeps { Flow::Sleep } else { over };
        }
        if self.is_abandoned() && self.handle.mailbox.is_half_full() {
            // In time: the other half is for what comes until the client is back.
            warn!(jid = %self.handle.jid, "the peer does not read");
            return Flow::Detach;
        }
        match &self.acks {
            Some(acks) if acks.outbound.len() > self.server.limits().unacked_stanzas_max() => {
                self.fail(StreamError::new(StreamCondition::PolicyViolation, "too many unacknowledged stanzas"))
            }
            _ => Flow::On,
        }
    }

    /// Does what the mail says, but for a takeover, which takes its time. `end`: the session ends with this.
    fn open(&mut self, mail: Mail, end: &mut Option<Box<StreamError>>) -> Option<Box<Takeover>> {
        match mail {
            Mail::Deliver(delivery) => self.deliver(delivery),
            Mail::LookIntoSpool => self.fetch_again(),
            Mail::Resume(takeover) if end.is_some() => negotiation::refuse_takeover(&self.server, *takeover),
            Mail::Resume(takeover) => return Some(takeover),
            // Not before the rest is where the end finds it.
            Mail::End(error) => *end = Some(Box::new(error)),
        }
        None
    }

    /// Whether what there is for the peer has to wait.
    fn is_stalled(&self) -> bool {
        if self.connection.as_ref().is_some_and(|connection| connection.unsent_bytes() > UNSENT_BYTES_HIGH) {
            return true;
        }
        self.acks.as_ref().is_some_and(|acks| {
            let limits = self.server.limits();
            acks.unacked_bytes() > limits.unsent_bytes_max() || acks.outbound.len() > limits.unacked_stanzas_max() / 2
        })
    }

    /// Whether the connection of a session that can be resumed moves nothing any more.
    fn is_abandoned(&self) -> bool {
        let expected = self.acks.as_ref().is_some_and(|acks| acks.is_resumable() && !acks.is_just_back());
        expected && self.connection.is_some() && self.is_stalled()
    }

    /// What can wait for an inactive client waits (XEP-0352); the rest is written.
    fn deliver(&mut self, delivery: Delivery) {
        if self.client_state.is_active() {
            return self.write(delivery);
        }
        for delivery in self.client_state.pass(delivery) {
            self.write(delivery);
        }
    }

    fn write(&mut self, delivery: Delivery) {
        self.server.deps.metrics.stanza_out(delivery.stanza.kind());
        if let Some(connection) = &mut self.connection {
            connection.write(|out| delivery.stanza.write(delivery.to.instead(&self.handle), out));
        }
        match &mut self.acks {
            Some(acks) => {
                if !self.client_state.is_active() && delivery.spool != InSpool::Never && !delivery.pushed {
                    acks.set_may_have_missed(true);
                }
                acks.sent(delivery);
            }
            None if delivery.stanza.kind() != Kind::Presence => self.unflushed.push((u64::MAX, delivery)),
            None => {}
        }
    }

    fn write_nonza(&mut self, element: &Stanza) {
        if let Some(connection) = &mut self.connection {
            connection.write(|out| element.write(None, out));
        }
    }

    fn write_management(&mut self, element: &StreamManagement) {
        if let Some(connection) = &mut self.connection {
            connection.write(|out| element.write(out));
        }
    }

    fn flush(&mut self) -> Flow {
        self.answer_requests();
        let Some(connection) = &mut self.connection else { return Flow::On };
        if let Some(request) = self.acks.as_mut().and_then(|acks| acks.request_due()) {
            connection.write(|out| request.write(out));
        }
        if connection.flush().is_err() {
            return Flow::Detach;
        }
        if !self.unflushed.is_empty() {
            let (sent, queued) = connection.progress();
            self.unflushed.iter_mut().rev().take_while(|(end, _)| *end == u64::MAX).for_each(|(end, _)| *end = queued);
            self.written(sent);
        }
        Flow::On
    }

    /// Without XEP-0198: the socket took so much of the stream.
    fn written(&mut self, sent: u64) {
        let written = self.unflushed.iter().take_while(|(end, _)| *end <= sent).count();
        let kept = |(_, delivery): &(u64, Delivery)| delivery.spool.kept();
        let ids: SmallVec<[LogId; 8]> = self.unflushed[..written].iter().filter_map(kept).collect();
        match written == self.unflushed.len() {
            true => self.unflushed = SmallVec::new(),
            false => drop(self.unflushed.drain(..written)),
        }
        self.server.modules.offline.discharge(&self.handle, &ids);
    }

    fn acknowledged(&self, deliveries: &[Delivery]) {
        let ids: Vec<LogId> = deliveries.iter().filter_map(|delivery| delivery.spool.kept()).collect();
        self.server.modules.offline.discharge(&self.handle, &ids);
    }

    // Time.

    fn deadline(&self) -> Instant {
        let limits = &self.server.config().limits;
        let seconds = match (&self.connection, self.probed) {
            (None, _) => self.acks.as_ref().map_or(0, |acks| acks.resume_seconds),
            (Some(_), false) => limits.idle_seconds_max,
            (Some(_), true) => limits.idle_seconds_max + PROBE_SECONDS_MAX.min(limits.idle_seconds_max),
        };
        match self.may_sleep() {
            true => self.since + Duration::from_secs(seconds.min(DOUBT_SECONDS_MAX).min(limits.idle_seconds_max / 2)),
            false => self.since + Duration::from_secs(seconds),
        }
    }

    /// XEP-0357: whether the client said that nobody looks, and has not acknowledged what was written to it since.
    fn may_sleep(&self) -> bool {
        self.connection.is_some()
            && !self.client_state.is_active()
            && self.acks.as_ref().is_some_and(|acks| acks.may_have_missed())
    }

    fn overdue(&mut self) -> Flow {
        if self.connection.is_none() {
            debug!(jid = %self.handle.jid, "not resumed in time");
            return Flow::End;
        }
        if self.may_sleep() {
            self.push_missed();
            if let Some(acks) = &mut self.acks {
                acks.set_may_have_missed(false);
            }
            return Flow::On;
        }
        if self.probed {
            info!(jid = %self.handle.jid, "the peer does not answer");
            return match self.is_resumable() {
                true => Flow::Detach,
                false => self.fail(StreamCondition::ConnectionTimeout.into()),
            };
        }
        self.probed = true;
        match &mut self.acks {
            Some(acks) => {
                let request = acks.request();
                self.write_management(&request);
            }
            None => {
                let ping = crate::modules::ping::ask(&self.handle);
                self.write(Delivery::new(ping));
            }
        }
        Flow::On
    }
}
