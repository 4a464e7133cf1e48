//! The turns of a session: what it waits for, and the order in which it looks at what there is.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use magpie_proto::{StreamCondition, StreamError};
use tokio::time::{Instant, Sleep};
use tracing::warn;

use super::{Connection, Flow, Session, Taken, Turn, UNSENT_BYTES_HIGH};

/// Stanzas whose promises wait above which the session looks after them though its client does not ask for the count.
const PROMISES_QUIET_MAX: usize = 16;

/// When the session looks after a peer that is silent. Its sleep ends too soon rather than being set with each read.
pub(super) struct Timer<'a> {
    pub(super) sleep: Pin<&'a mut Sleep>,
    /// Whether the sleep wakes the session.
    pub(super) armed: bool,
}

impl Session {
    /// Turns, until one of them needs more than this function. Not a future with what it waits for inside: that would be a
    /// third of an idle session's memory.
    pub(super) fn poll_turns(&mut self, context: &mut Context<'_>, timer: &mut Timer<'_>) -> Poll<Turn> {
        loop {
            ready!(poll_budget(context));
            match ready!(self.poll_turn(context, timer)) {
                Turn::Flow(Flow::On) => {}
                turn => return Poll::Ready(turn),
            }
        }
    }

    /// One turn: take in what is there, do all that can be done, then wait. Each wake-up is to cost one turn, whatever it was for.
    fn poll_turn(&mut self, context: &mut Context<'_>, timer: &mut Timer<'_>) -> Poll<Turn> {
        let (flow, listening) = self.poll_read(context);
        if let Flow::Detach | Flow::End = flow {
            return Poll::Ready(Turn::Flow(flow));
        }
        if let flow @ (Flow::Detach | Flow::End) = ready!(self.poll_input(context)) {
            return Poll::Ready(Turn::Flow(flow));
        }
        // After the input, so that the answer to a stanza is written before it counts as handled.
        if self.handle.mailbox.is_overflown() {
            // What was refused is lost to this session, so that it cannot be resumed as if nothing were missing.
            warn!(jid = %self.handle.jid, "mailbox overflown");
            let text = "the peer does not read fast enough";
            return Poll::Ready(Turn::Flow(self.fail(StreamError::new(StreamCondition::PolicyViolation, text))));
        }
        let taken = match self.is_stalled() {
            false => self.handle.mailbox.take(UNSENT_BYTES_HIGH, context.waker()),
            true => self.handle.mailbox.take_urgent(context.waker()),
        };
        match self.open_all(taken.mail) {
            Turn::Flow(Flow::On) => {}
            turn => return Poll::Ready(turn),
        }
        self.look_at_promises();
        if let flow @ (Flow::Detach | Flow::End) = self.flush() {
            return Poll::Ready(Turn::Flow(flow));
        }
        // What had to wait until the socket took the rest need not wait any more.
        self.look_into_spool();
        if taken.more && !self.is_stalled() {
            return Poll::Ready(Turn::Flow(Flow::On));
        }
        self.poll_wait(context, timer, listening).map(Turn::Flow)
    }

    /// `listening`: this turn waits for the socket already.
    fn poll_wait(&mut self, context: &mut Context<'_>, timer: &mut Timer<'_>, listening: bool) -> Poll<Flow> {
        // What comes first ends by itself: each stanza and each look has one end.
        if let Some(work) = &mut self.work
            && let Poll::Ready((position, promise)) = work.as_mut().poll(context)
        {
            self.work = None;
            self.owe(position, promise);
            return Poll::Ready(Flow::On);
        }
        if !self.promises.is_empty() {
            // Until its client asks for the count, or many have gathered, the session need not hear of each message that arrived.
            let quietly =
                self.promises.len() < PROMISES_QUIET_MAX && !self.acks.as_ref().is_some_and(|acks| acks.owes());
            if let Poll::Ready(outcome) = self.poll_promise(context, quietly) {
                self.promise_kept(outcome);
                return Poll::Ready(Flow::On);
            }
        }
        if let Some(fetch) = &mut self.fetch
            && let Poll::Ready(chunk) = fetch.as_mut().poll(context)
        {
            self.fetch = None;
            self.fetched(chunk);
            return Poll::Ready(Flow::On);
        }
        let pause = self.allowance.wait(self.since);
        if let Some(connection) = &self.connection
            && !(listening && connection.unsent_bytes() == 0)
            && let Poll::Ready(ready) = connection.poll_ready(context, self.may_take_input() && pause.is_none())
        {
            return Poll::Ready(if ready.is_ok() { Flow::On } else { Flow::Detach });
        }
        // Mail wakes the session: see the look into the mailbox.
        self.poll_timer(context, timer, pause)
    }

    /// Each read moves the deadline: a timer that ends too soon looks again, so that a turn need not set it anew.
    fn poll_timer(&mut self, context: &mut Context<'_>, timer: &mut Timer<'_>, pause: Option<Instant>) -> Poll<Flow> {
        // But one that a client sleeps through comes nearer.
        if timer.armed && pause.is_none() && !timer.sleep.is_elapsed() && !self.may_sleep() {
            return Poll::Pending;
        }
        let deadline = pause.unwrap_or_else(|| self.deadline());
        if timer.sleep.deadline() > deadline || timer.sleep.is_elapsed() {
            timer.sleep.as_mut().reset(deadline);
        }
        timer.armed = true;
        ready!(timer.sleep.as_mut().poll(context));
        Poll::Ready(match pause {
            None if deadline <= Instant::now() => self.overdue(),
            _ => Flow::On,
        })
    }

    /// Reads where there is something to read. Whether there is nothing and the session will be woken when there is.
    fn poll_read(&mut self, context: &mut Context<'_>) -> (Flow, bool) {
        // What was read before comes first: a session that had to give way in the midst of it has the rest.
        let has_input = self.connection.as_ref().is_some_and(Connection::has_input);
        if has_input || !self.may_take_input() || self.allowance.wait(self.since).is_some() {
            return (Flow::On, false);
        }
        match self.connection.as_ref().map(|connection| connection.poll_ready(context, true)) {
            Some(Poll::Ready(Ok(()))) => (self.read(), false),
            Some(Poll::Ready(Err(_))) => (Flow::Detach, false),
            Some(Poll::Pending) => (Flow::On, true),
            None => (Flow::On, false),
        }
    }

    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Flow> {
        while let Some(taken) = self.take_event() {
            match taken {
                Taken::All(Flow::On) => {}
                Taken::All(flow) => return Poll::Ready(flow),
                Taken::Begun(work) => self.work_on(work, context),
            }
            // A peer whose socket is never empty is not the only one on this thread.
            ready!(poll_budget(context));
        }
        Poll::Ready(Flow::On)
    }
}

/// Pending where the task has done as much as one task may at a time; it is woken again.
fn poll_budget(context: &mut Context<'_>) -> Poll<()> {
    pin!(tokio::task::coop::consume_budget()).poll(context)
}
