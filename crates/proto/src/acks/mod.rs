//! XEP-0198: acknowledgements as values.
//!
//! [`Outbound`] keeps what the peer has not acknowledged; [`Inbound`] counts what the peer may be told was handled. Both
//! counters run modulo 2^32 (§4) and live as long as the session, over every stream that resumes it.

mod elements;

use std::collections::VecDeque;
use std::collections::vec_deque::{self, Drain};

pub use elements::{ManagementError, StreamManagement};

use crate::{Element, StreamCondition, StreamError, ns};

/// The stanzas sent and not yet acknowledged, oldest first. `T` is whatever must be sent again or handed on if the peer never
/// acknowledges it.
#[derive(Clone, Debug)]
pub struct Outbound<T> {
    unacked: VecDeque<T>,
    /// How many were acknowledged since the counter started. Wider than the wire's counter, so that a repeated ack can be told
    /// from an impossible one.
    acked: u64,
}

impl<T> Outbound<T> {
    /// Nothing sent.
    pub fn new() -> Self {
        Self { unacked: VecDeque::new(), acked: 0 }
    }

    /// The queue of a session that is taken up again elsewhere: what is unacknowledged, after so many that were (see
    /// [`Self::acked_ever`]).
    pub fn restored(acked: u64, unacked: impl IntoIterator<Item = T>) -> Self {
        Self { unacked: unacked.into_iter().collect(), acked }
    }

    /// A stanza is sent.
    pub fn push(&mut self, item: T) {
        self.unacked.push_back(item);
    }

    /// The peer says that it handled `h` stanzas: in `<a/>`, `<resume/>` or `<resumed/>`. Yields those that this settles, oldest
    /// first, and forgets them, whether they are looked at or not.
    ///
    /// An ack that repeats or lags behind an earlier one settles nothing.
    pub fn ack(&mut self, h: u32) -> Result<Drain<'_, T>, AckTooHigh> {
        let ahead = h.wrapping_sub(self.acked());
        let behind = self.acked().wrapping_sub(h);
        let settled = match usize::try_from(ahead) {
            Ok(settled) if settled <= self.unacked.len() => settled,
            // Half the range is as far back as modular arithmetic can see.
            _ if behind <= u32::MAX / 2 && u64::from(behind) <= self.acked => 0,
            _ => return Err(AckTooHigh { sent: self.sent(), h }),
        };
        self.acked += settled as u64;
        Ok(self.unacked.drain(..settled))
    }

    /// What is not acknowledged, oldest first: what a resumed stream sends again.
    pub fn unacked(&self) -> vec_deque::Iter<'_, T> {
        self.unacked.iter()
    }

    /// What is not acknowledged, oldest first, to be changed in place.
    pub fn unacked_mut(&mut self) -> vec_deque::IterMut<'_, T> {
        self.unacked.iter_mut()
    }

    /// The same as [`Self::unacked`].
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.unacked.iter()
    }

    /// The session ends: what was never acknowledged, oldest first, for whoever takes care of it now (§4).
    pub fn into_unacked(self) -> VecDeque<T> {
        self.unacked
    }

    /// How many are not acknowledged.
    pub fn len(&self) -> usize {
        self.unacked.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// How many were sent, modulo 2^32.
    pub fn sent(&self) -> u32 {
        (self.acked + self.unacked.len() as u64) as u32
    }

    /// How many the peer has acknowledged, modulo 2^32.
    pub fn acked(&self) -> u32 {
        self.acked as u32
    }

    /// How many the peer has acknowledged since the counter started.
    pub fn acked_ever(&self) -> u64 {
        self.acked
    }

    /// Gives back the memory that the queue holds beyond its items. For a session that falls idle.
    pub fn shrink_to_fit(&mut self) {
        self.unacked.shrink_to_fit();
    }
}

impl<T> Default for Outbound<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T> IntoIterator for &'a Outbound<T> {
    type Item = &'a T;
    type IntoIter = vec_deque::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The peer acknowledged more than it was sent (§6). The stream ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{h} stanzas acknowledged, {sent} sent")]
pub struct AckTooHigh {
    /// How many were sent, modulo 2^32.
    pub sent: u32,
    /// How many the peer says it handled.
    pub h: u32,
}

impl AckTooHigh {
    /// `<handled-count-too-high/>`, for a stream error of `undefined-condition`.
    pub fn element(&self) -> Element {
        Element::new("handled-count-too-high", ns::SM)
            .with_attr("h", self.h.to_string())
            .with_attr("send-count", self.sent.to_string())
    }
}

impl From<AckTooHigh> for StreamError {
    fn from(error: AckTooHigh) -> Self {
        Self::new(StreamCondition::UndefinedCondition, error.to_string()).with_application(error.element())
    }
}

/// The stanzas received, and which of them are settled: what the server promised to do with them is done, and durable.
///
/// Stanzas settle in any order, but an ack speaks of all that came before it, so that only the settled ones before the first
/// pending one count as handled.
#[derive(Clone, Debug, Default)]
pub struct Inbound {
    received: u64,
    /// Which are pending, in order. Empty nearly always, and then without memory of its own.
    pending: VecDeque<Position>,
}

/// Which stanza of a session it was, counted from 0 and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Inbound {
    /// Nothing received.
    pub fn new() -> Self {
        Self::default()
    }

    /// The count of a session that is taken up again elsewhere: so many were received, all of them settled.
    pub fn restored(received: u64) -> Self {
        Self { received, pending: VecDeque::new() }
    }

    /// How many were received since the counter started, settled or not.
    pub fn received_ever(&self) -> u64 {
        self.received
    }

    /// A stanza came that is settled later, by its position.
    pub fn received(&mut self) -> Position {
        let position = Position(self.received);
        self.received += 1;
        self.pending.push_back(position);
        position
    }

    /// A stanza came with which nothing durable is to be done.
    pub fn received_settled(&mut self) {
        self.received += 1;
    }

    /// What was promised for the stanza is done. Whether more count as handled than before. Settling a stanza twice is
    /// settling it once.
    pub fn settle(&mut self, position: Position) -> bool {
        let Ok(at) = self.pending.binary_search(&position) else { return false };
        self.pending.remove(at);
        if self.pending.is_empty() {
            self.pending.shrink_to(PENDING_CAPACITY_KEPT);
        }
        at == 0
    }

    /// The `h` to send: how many were received before the first that is pending, modulo 2^32.
    pub fn handled(&self) -> u32 {
        self.pending.front().map_or(self.received, |first| first.0) as u32
    }

    /// How many were received, settled or not, modulo 2^32: once [`Self::handled`] has come so far, everything before this moment
    /// is settled.
    pub fn count(&self) -> u32 {
        self.received as u32
    }

    /// Whether nothing is pending.
    pub fn all_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Gives back the memory that nothing pending needs. For a session that falls idle.
    pub fn shrink_to_fit(&mut self) {
        self.pending.shrink_to_fit();
    }
}

/// How many places survive a burst, so that one stanza after the other does not allocate each time.
const PENDING_CAPACITY_KEPT: usize = 8;

#[cfg(test)]
mod tests;
