//! One connection of a session: as small as can be while it is idle.

use std::collections::VecDeque;
use std::net::TcpStream;

use crate::client::negotiation::Negotiation;
use crate::client::splitter::Splitter;
use crate::engine::tls::Tls;

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It has no connection.
    #[default]
    Down,
    /// The connection is being made.
    Connecting,
    /// From the connection to a session that is ready.
    Negotiating,
    /// The session is ready.
    Up,
    /// The end of the stream was sent.
    Closing,
}

/// A session and its connection.
#[derive(Debug, Default)]
pub struct Connection {
    pub(super) socket: Option<TcpStream>,
    /// Counts connections of this session, so that news of an earlier one is known as such.
    pub(super) generation: u32,
    pub(super) stage: Stage,
    /// Until the session is ready.
    pub(super) negotiation: Option<Box<Negotiation>>,
    pub(super) tls: Option<Box<Tls>>,
    /// Bytes of an element that is not complete.
    pub(super) partial: Option<Box<Partial>>,
    /// What the socket did not take. Boxed, since it is rarely there and a session is to be small.
    #[allow(clippy::box_collection)]
    pub(super) unsent: Option<Box<Vec<u8>>>,
    pub(super) acks: Option<Box<Acks>>,
    pub(super) resumed: bool,
    /// The full address, escaped; empty until bound.
    pub(super) jid: Box<str>,
}

/// Bytes of an element that is not complete.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) bytes: Vec<u8>,
    pub(super) splitter: Splitter,
}

/// XEP-0198: both counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// What the server calls the stream.
    pub stream: String,
    /// Stanzas that were sent.
    pub sent: u32,
    /// Stanzas that the server has.
    pub acknowledged: u32,
    /// Stanzas that were received.
    pub received: u32,
    /// Requests that are not answered: what was sent before each, and when it was asked, in microseconds.
    pub(super) asked: VecDeque<(u32, u64)>,
}

impl Acks {
    /// Stanzas that the server has not acknowledged.
    pub fn unacknowledged(&self) -> u32 {
        self.sent.wrapping_sub(self.acknowledged)
    }
}

impl Connection {
    /// What the session is doing.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The full address, escaped as in an attribute; empty before there was a session.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// Whether the stream that is there was resumed.
    pub fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// The counters of XEP-0198 where it is on.
    pub fn acks(&self) -> Option<&Acks> {
        self.acks.as_deref()
    }
}
