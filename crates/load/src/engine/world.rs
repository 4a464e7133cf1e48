//! The sessions of a worker, and everything a scenario can do with them.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

use super::connection::{Connection, Stage};
use super::recorder::Recorder;
use super::tls::{TlsClient, TlsError};
use crate::client::negotiation::{Negotiation, Resumption, Security};
use crate::client::sasl::{Keys, Token};
use crate::plan::{Plan, Protocol};

/// Bytes that wait for one socket; what a scenario would send beyond them is an error of the run.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// Stanzas after which a client asks whether they came (XEP-0198 §4); what Conversations and Gajim do is in this order.
const STANZAS_PER_REQUEST: u32 = 5;

/// Bytes that are read at a time.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Why a session is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// It could not be made; the text says why.
    NotReady(String),
    /// It was ready and was lost; the text says why.
    Lost(String),
    /// It was ended here, and the server agreed.
    Ended,
}

/// The sessions of a worker. Times are microseconds.
pub struct World {
    /// What the worker was asked to do.
    pub plan: Plan,
    /// What was measured.
    pub recorder: Recorder,
    /// When the last wake-up was.
    pub now: u64,
    /// Logins that ended well.
    pub logins: u64,
    /// Handshakes of TLS that were resumed ones.
    pub resumed_handshakes: u64,
    pub(super) epoll: OwnedFd,
    pub(super) sessions: Vec<Connection>,
    pub(super) up: u32,
    pub(super) keys: Keys,
    pub(super) tls: Option<TlsClient>,
    /// Sessions that ended and of which the scenario does not know.
    pub(super) ended: Vec<(u32, Down)>,
    pub(super) scenario_due: u64,
    /// What is read, and what is written: one buffer each for all sessions.
    pub(super) input: Vec<u8>,
    pub(super) plain: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) records: Vec<u8>,
    /// The session whose input is being looked at: what it says is written when all of it was seen.
    pub(super) current: Option<u32>,
    /// Logins under way, oldest first, with the time until which they may last.
    pub(super) logging_in: VecDeque<(u32, u32, u64)>,
    pub(super) connecting: u32,
    wanted: VecDeque<Range<u32>>,
    connect_next: u64,
    resumptions: HashMap<u32, Resumption>,
    /// With what sessions log in the next time (XEP-0484).
    pub(super) tokens: HashMap<u32, Token>,
}

impl World {
    /// Of a worker that has done nothing yet.
    pub fn new(plan: Plan) -> Result<Self, WorldError> {
        let tls = match plan.profile.security {
            Security::Plain => None,
            _ => Some(TlsClient::new(&plan.trust, &plan.profile.domain)?),
        };
        let mut sessions = Vec::new();
        sessions.resize_with(plan.sessions as usize, Connection::default);
        Ok(Self {
            plan,
            recorder: Recorder::new(),
            now: 0,
            logins: 0,
            resumed_handshakes: 0,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?,
            sessions,
            up: 0,
            keys: Keys::default(),
            tls,
            ended: Vec::new(),
            scenario_due: u64::MAX,
            input: vec![0; READ_BYTES],
            plain: Vec::new(),
            out: Vec::new(),
            records: Vec::new(),
            current: None,
            logging_in: VecDeque::new(),
            connecting: 0,
            wanted: VecDeque::new(),
            connect_next: 0,
            resumptions: HashMap::new(),
            tokens: HashMap::new(),
        })
    }

    /// The clock, microseconds; the same for all processes of the machine.
    pub fn micros(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
    }

    /// The session called `who`.
    pub fn session(&self, who: u32) -> &Connection {
        &self.sessions[who as usize]
    }

    /// Sessions of this worker, there or not.
    pub fn len(&self) -> u32 {
        self.sessions.len() as u32
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Sessions that are ready.
    pub fn up(&self) -> u32 {
        self.up
    }

    /// Whether any session has a connection, or waits for one.
    pub fn has_connections(&self) -> bool {
        self.sessions.iter().any(|session| session.socket.is_some())
    }

    /// Brings these sessions up, at the rate that the plan allows.
    pub fn connect(&mut self, who: Range<u32>) {
        if who.start < who.end {
            self.wanted.push_back(who);
        }
    }

    /// Brings a session back into the stream that broke (XEP-0198 §5).
    pub fn resume(&mut self, who: u32, resumption: Resumption) {
        self.resumptions.insert(who, resumption);
        self.connect(who..who + 1);
    }

    /// Lets the scenario be asked at once what is due.
    pub fn wake_scenario(&mut self) {
        self.scenario_due = 0;
    }

    /// Gives up bringing sessions up.
    pub fn stop_connecting(&mut self) {
        self.wanted.clear();
    }

    /// Sends one stanza. With acknowledgements it is counted, and now and then the server is asked.
    pub fn stanza(&mut self, who: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let now = self.micros();
        let asks = self.sessions[who as usize].acks.as_mut().is_some_and(|acks| {
            acks.sent = acks.sent.wrapping_add(1);
            let asks = acks.sent % STANZAS_PER_REQUEST == 0;
            if asks {
                acks.asked.push_back((acks.sent, now));
            }
            asks
        });
        self.send(who, |out| {
            write(out);
            if asks {
                out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
            }
        });
    }

    /// Sends what is not counted as a stanza.
    pub fn send(&mut self, who: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if self.current == Some(who) {
            write(&mut self.out);
            return;
        }
        let kept = self.out.len();
        let mut out = std::mem::take(&mut self.out);
        write(&mut out);
        self.flush(who, &out[kept..]);
        out.truncate(kept);
        self.out = out;
    }

    /// Ends a session as RFC 6120 §4.4 asks for.
    pub fn end(&mut self, who: u32) {
        if self.sessions[who as usize].stage != Stage::Up {
            return;
        }
        if self.plan.protocol == Protocol::Raw {
            self.close(who, Down::Ended);
            return;
        }
        self.send(who, |out| out.extend_from_slice(b"</stream:stream>"));
        let deadline = self.now + self.plan.login_seconds_max * 1_000_000;
        let session = &mut self.sessions[who as usize];
        if session.stage == Stage::Up {
            session.stage = Stage::Closing;
            self.up -= 1;
            self.logging_in.push_back((who, session.generation, deadline));
        }
    }

    /// Drops a session's connection without a word; it keeps what it needs to resume.
    pub fn drop_connection(&mut self, who: u32) {
        if self.sessions[who as usize].socket.is_some() {
            self.close(who, Down::Ended);
        }
    }

    /// When something is due that no socket will tell.
    pub(super) fn next_due(&self) -> u64 {
        let connect = match self.wanted.is_empty() || self.connecting >= self.plan.connecting_max {
            true => u64::MAX,
            false => self.connect_next,
        };
        let deadline = self.logging_in.front().map_or(u64::MAX, |(_, _, deadline)| *deadline);
        connect.min(deadline).min(self.scenario_due)
    }

    /// Begins the connections that are due, and gives up the logins that took too long.
    pub(super) fn connect_due(&mut self) {
        while let Some(&(who, generation, deadline)) = self.logging_in.front() {
            let session = &self.sessions[who as usize];
            let over = session.generation != generation || matches!(session.stage, Stage::Up | Stage::Down);
            if !over && deadline > self.now {
                break;
            }
            self.logging_in.pop_front();
            if !over {
                let seconds = self.plan.login_seconds_max;
                let (why, text) = match self.sessions[who as usize].stage {
                    Stage::Closing => ("the end of the stream", Down::Lost as fn(String) -> Down),
                    _ => ("a login", Down::NotReady as fn(String) -> Down),
                };
                self.close(who, text(format!("no answer: {why} took more than {seconds} s")));
            }
        }
        while self.connecting < self.plan.connecting_max && self.connect_next <= self.now {
            let Some(range) = self.wanted.front_mut() else { break };
            let who = range.start;
            range.start += 1;
            if range.start >= range.end {
                self.wanted.pop_front();
            }
            self.begin_connection(who);
            if self.plan.connect_rate > 0.0 {
                let gap = (1e6 / self.plan.connect_rate) as u64;
                // A short delay is caught up with, a long one is not: the rate is a bound.
                self.connect_next = (self.connect_next + gap).max(self.now.saturating_sub(10_000));
            }
        }
    }

    fn begin_connection(&mut self, who: u32) {
        let (address, source) = self.plan.route(who);
        let session = &mut self.sessions[who as usize];
        if session.stage != Stage::Down {
            return;
        }
        session.generation = session.generation.wrapping_add(1);
        session.stage = Stage::Connecting;
        self.connecting += 1;
        self.logging_in.push_back((who, session.generation, self.now + self.plan.login_seconds_max * 1_000_000));
        if self.plan.protocol == Protocol::Xmpp {
            let resumption = self.resumptions.remove(&who);
            // One that is refused is not shown again.
            let token = self.tokens.remove(&who);
            let negotiation = Negotiation::new(self.plan.account(who), resumption).with_token(token);
            session.negotiation = Some(Box::new(negotiation));
        }
        let data = u64::from(session.generation) << 32 | u64::from(who);
        match socket(address, source) {
            Ok(socket) => {
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                let watched = epoll::add(&self.epoll, &socket, EventData::new_u64(data), flags);
                session.socket = Some(socket);
                if let Err(error) = watched {
                    self.close(who, Down::NotReady(error.to_string()));
                }
            }
            Err(error) => self.close(who, Down::NotReady(connect_error(address, &error))),
        }
    }

    /// Writes to the socket; what it does not take waits.
    pub(super) fn flush(&mut self, who: u32, bytes: &[u8]) {
        let session = &mut self.sessions[who as usize];
        if bytes.is_empty() || session.socket.is_none() {
            return;
        }
        let mut records = std::mem::take(&mut self.records);
        let bytes = match &mut session.tls {
            None => bytes,
            Some(tls) => {
                records.clear();
                if let Err(error) = tls.write(bytes, &mut records) {
                    self.fail(who, error.to_string());
                    return;
                }
                &records
            }
        };
        self.write(who, bytes);
        self.records = records;
    }

    /// As [`flush`](Self::flush), of what needs no protection any more.
    pub(super) fn write(&mut self, who: u32, bytes: &[u8]) {
        let session = &mut self.sessions[who as usize];
        let Some(mut socket) = session.socket.as_ref() else { return };
        if let Some(unsent) = &mut session.unsent {
            if unsent.len() + bytes.len() > UNSENT_BYTES_MAX {
                self.fail(who, "the server does not read what is sent".into());
            } else {
                unsent.extend_from_slice(bytes);
            }
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match socket.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    session.unsent = Some(Box::new(rest.to_vec()));
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail(who, error.to_string());
                    return;
                }
            }
        }
    }

    /// The connection broke.
    pub(super) fn fail(&mut self, who: u32, why: String) {
        let down = match self.sessions[who as usize].stage {
            Stage::Up => Down::Lost(why),
            Stage::Closing => Down::Ended,
            _ => Down::NotReady(why),
        };
        self.close(who, down);
    }

    /// Ends the connection; the scenario is told later.
    pub(super) fn close(&mut self, who: u32, why: Down) {
        let session = &mut self.sessions[who as usize];
        match session.stage {
            Stage::Down => return,
            Stage::Connecting | Stage::Negotiating => self.connecting -= 1,
            Stage::Up => self.up -= 1,
            Stage::Closing => {}
        }
        if let Some(socket) = session.socket.take()
            && session.stage == Stage::Closing
        {
            // Both sides are done: without this the port of each login is taken for a minute.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
        }
        session.stage = Stage::Down;
        (session.negotiation, session.tls, session.partial, session.unsent) = (None, None, None, None);
        self.ended.push((who, why));
    }
}

/// Why a worker cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no more.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn socket(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// What a person can do about it.
pub(super) fn connect_error(address: SocketAddr, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::ConnectionRefused => ": does the server run there?",
        io::ErrorKind::AddrNotAvailable => ": all ports of this source address are taken; give more with --sources",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            ": raise the limit of open files (ulimit -n), or give more --processes"
        }
        _ => "",
    };
    format!("cannot connect to {address}: {error}{help}")
}
