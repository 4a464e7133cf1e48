//! The floor: a relay without XML, as little work as a program on epoll can do for a message.
//!
//! A client first sends four bytes, the number of its pair in network order. Two connections with the same number are
//! joined, and a number whose highest bit is set joins a connection with itself. From then on all bytes are passed on as they
//! are. Where the other end does not take them, nothing more is read: what is held for it never exceeds one buffer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

/// Bytes of one read, and the most that is held for an end that does not take them.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// A pair number with this bit joins a connection with itself.
pub const ECHO: u32 = 1 << 31;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Connections that come faster than they are accepted.
const BACKLOG: i32 = 4096;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Options of `magpie-load relay`.
#[derive(Clone, Debug, clap::Args)]
pub struct RelayOptions {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Threads among which pairs are spread by their number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
}

/// Runs a relay until the process ends; prints its address when it accepts connections.
pub fn relay(options: &RelayOptions) -> io::Result<Infallible> {
    let relay = Relay::bind(options.listen, usize::from(options.threads))?;
    println!("{}", relay.address());
    io::stdout().flush()?;
    relay.run()
}

/// A relay that listens.
pub struct Relay {
    address: SocketAddr,
    workers: Vec<Worker>,
}

impl Relay {
    /// Listens at the address, to be served by so many threads, at least one.
    pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let address = listener.local_addr()?;

        let mut polls = Vec::new();
        let mut doors = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..threads.max(1) {
            let poll = Poll::new()?;
            let (sender, receiver) = mpsc::channel();
            doors.push(Door { waker: Arc::new(Waker::new(poll.registry(), WAKER)?), sender });
            inboxes.push(receiver);
            polls.push(poll);
        }
        polls[0].registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut listener = Some(listener);
        let workers = polls
            .into_iter()
            .zip(inboxes)
            .enumerate()
            .map(|(number, (poll, inbox))| Worker {
                number,
                poll,
                listener: listener.take(),
                inbox,
                doors: doors.clone(),
                ends: Vec::new(),
                free: Vec::new(),
                ended: Vec::new(),
                waiting: HashMap::new(),
                buffer: vec![0; BUFFER_BYTES].into(),
                spare: Vec::new(),
            })
            .collect();
        Ok(Self { address, workers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends; the first worker is the calling thread.
    pub fn run(self) -> io::Result<Infallible> {
        let mut workers = self.workers.into_iter();
        let first = workers.next().expect("there is at least one worker");
        for worker in workers {
            thread::Builder::new().name(format!("relay-{}", worker.number)).spawn(move || {
                let Err(error) = worker.run();
                eprintln!("relay: a thread ended: {error}");
            })?;
        }
        first.run()
    }
}

/// How a connection gets to the worker that has its pair.
#[derive(Clone)]
struct Door {
    waker: Arc<Waker>,
    sender: Sender<(u32, TcpStream)>,
}

struct Worker {
    number: usize,
    poll: Poll,
    /// The first worker accepts.
    listener: Option<TcpListener>,
    inbox: Receiver<(u32, TcpStream)>,
    doors: Vec<Door>,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
    /// Places that become free when the events at hand are done, so that none of them meets another connection.
    ended: Vec<usize>,
    /// The first end of a pair, until the second comes.
    waiting: HashMap<u32, usize>,
    buffer: Box<[u8]>,
    /// Buffers for ends that do not take their bytes.
    spare: Vec<Vec<u8>>,
}

struct End {
    socket: TcpStream,
    state: State,
    /// What was read from here and the partner has not taken yet; nothing more is read while there is any.
    held: Option<Held>,
    /// The peer sends no more.
    read_closed: bool,
}

struct Held {
    bytes: Vec<u8>,
    written: usize,
}

#[derive(Clone, Copy)]
enum State {
    /// So many bytes of the pair's number were read.
    Naming {
        number: [u8; 4],
        read: usize,
    },
    /// Nothing is read before the partner is there.
    Waiting(u32),
    Joined(usize),
}

impl Worker {
    fn run(mut self) -> io::Result<Infallible> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {
                        while let Ok((pair, socket)) = self.inbox.try_recv() {
                            if let Some(place) = self.add(socket, State::Waiting(pair)) {
                                self.join(place, pair);
                            }
                        }
                    }
                    Token(place) => self.woken(place, event),
                }
            }
            self.free.append(&mut self.ended);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let Some(listener) = &self.listener else { return Ok(()) };
            match listener.accept() {
                Ok((socket, _)) => {
                    if socket.set_nodelay(true).is_ok()
                        && let Some(place) = self.add(socket, State::Naming { number: [0; 4], read: 0 })
                    {
                        self.name(place);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// None when the connection cannot be watched, which drops it.
    fn add(&mut self, mut socket: TcpStream, state: State) -> Option<usize> {
        let place = self.free.pop().unwrap_or(self.ends.len());
        if self.poll.registry().register(&mut socket, Token(place), BOTH).is_err() {
            self.free.extend((place < self.ends.len()).then_some(place));
            return None;
        }
        if place == self.ends.len() {
            self.ends.push(None);
        }
        self.ends[place] = Some(End { socket, state, held: None, read_closed: false });
        Some(place)
    }

    fn woken(&mut self, place: usize, event: &mio::event::Event) {
        let Some(end) = &self.ends[place] else { return };
        match end.state {
            State::Naming { .. } => self.name(place),
            // Nobody will ever read what it sent.
            State::Waiting(_) if event.is_read_closed() => self.end(place),
            State::Waiting(_) => {}
            State::Joined(partner) => {
                // Room here is room for what was read there.
                if event.is_writable() && self.holds(partner) {
                    self.pass(partner, place, true);
                }
                if event.is_readable() && self.ends[place].is_some() && !self.holds(place) {
                    self.pass(place, partner, event.is_read_closed());
                }
            }
        }
    }

    fn holds(&self, place: usize) -> bool {
        self.ends[place].as_ref().is_some_and(|end| end.held.is_some())
    }

    /// Reads the number of the pair, and no byte after it.
    fn name(&mut self, place: usize) {
        loop {
            let Some(end) = &mut self.ends[place] else { return };
            let State::Naming { number, read } = &mut end.state else { return };
            match end.socket.read(&mut number[*read..]) {
                Ok(0) => return self.end(place),
                Ok(more) => *read += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.end(place),
            }
            if *read == number.len() {
                let pair = u32::from_be_bytes(*number);
                end.state = State::Waiting(pair);
                return self.place(place, pair);
            }
        }
    }

    /// Gives the connection to the worker of its pair.
    fn place(&mut self, place: usize, pair: u32) {
        let owner = pair as usize % self.doors.len();
        if owner == self.number {
            return self.join(place, pair);
        }
        let Some(mut end) = self.ends[place].take() else { return };
        self.ended.push(place);
        if self.poll.registry().deregister(&mut end.socket).is_ok()
            && self.doors[owner].sender.send((pair, end.socket)).is_ok()
        {
            // A worker that cannot be woken has ended and said so.
            let _ = self.doors[owner].waker.wake();
        }
    }

    fn join(&mut self, place: usize, pair: u32) {
        let partner = if pair & ECHO != 0 {
            place
        } else if let Some(partner) = self.waiting.remove(&pair) {
            partner
        } else {
            self.waiting.insert(pair, place);
            return;
        };
        for (one, other) in [(place, partner), (partner, place)] {
            if let Some(end) = &mut self.ends[one] {
                end.state = State::Joined(other);
            }
        }
        // What came while they waited gave its edge already.
        self.pass(place, partner, true);
        if place != partner {
            self.pass(partner, place, true);
        }
    }

    /// Passes on what `from` has sent, until it has no more or `to` takes no more.
    ///
    /// A read that does not fill the buffer took all there was, and what comes later gives an edge of its own; `to_the_end`
    /// reads until the system says so, where the edge of an end of stream may be part of the one at hand.
    fn pass(&mut self, from: usize, to: usize, to_the_end: bool) {
        if !self.write_held(from, to) {
            return;
        }
        loop {
            let Some(end) = &mut self.ends[from] else { return };
            if end.read_closed {
                return;
            }
            let read = match end.socket.read(&mut self.buffer) {
                Ok(0) => return self.read_closed(from, to),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.end(from),
            };
            let Some(other) = &mut self.ends[to] else { return };
            let written = match other.socket.write(&self.buffer[..read]) {
                Ok(written) => written,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
                Err(_) => return self.end(from),
            };
            if written < read {
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.extend_from_slice(&self.buffer[written..read]);
                if let Some(end) = &mut self.ends[from] {
                    end.held = Some(Held { bytes, written: 0 });
                }
                if !self.write_held(from, to) {
                    return;
                }
            } else if read < BUFFER_BYTES && !to_the_end {
                return;
            }
        }
    }

    /// Whether nothing is held any more.
    fn write_held(&mut self, from: usize, to: usize) -> bool {
        loop {
            let Some(end) = &mut self.ends[from] else { return false };
            let Some(mut held) = end.held.take() else { return true };
            let Some(other) = &mut self.ends[to] else { return false };
            match other.socket.write(&held.bytes[held.written..]) {
                Ok(written) => held.written += written,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    let again = error.kind() == io::ErrorKind::Interrupted;
                    if let Some(end) = &mut self.ends[from] {
                        end.held = Some(held);
                    }
                    if again {
                        continue;
                    }
                    return false;
                }
                Err(_) => {
                    self.end(from);
                    return false;
                }
            }
            if held.written == held.bytes.len() {
                held.bytes.clear();
                self.spare.push(held.bytes);
            } else if let Some(end) = &mut self.ends[from] {
                end.held = Some(held);
            }
        }
    }

    /// `from` sends no more, and `to` has all of it.
    fn read_closed(&mut self, from: usize, to: usize) {
        if let Some(end) = &mut self.ends[from] {
            end.read_closed = true;
        }
        match &mut self.ends[to] {
            Some(other) if !other.read_closed && other.socket.shutdown(Shutdown::Write).is_ok() => {}
            // Both have said all, or the other is gone.
            _ => self.end(from),
        }
    }

    /// Closes the connection and its partner.
    fn end(&mut self, place: usize) {
        let Some(end) = self.ends[place].take() else { return };
        self.ended.push(place);
        match end.state {
            State::Joined(partner) => self.end(partner),
            State::Waiting(pair) => {
                self.waiting.remove(&pair);
            }
            State::Naming { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
