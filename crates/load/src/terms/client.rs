//! One thread that asks on many connections at once, with nothing between it and the sockets.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const BUFFER_BYTES: usize = 64 << 10;

/// Longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked, and how often.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) request: Vec<u8>,
    /// What each answer has in it.
    pub(super) expected: &'static str,
    pub(super) connections: usize,
    pub(super) warmup: Duration,
    pub(super) time: Duration,
}

/// What was answered.
pub(super) struct Answered {
    pub(super) count: u64,
    pub(super) time: Duration,
    /// Microseconds.
    pub(super) latency: Histogram<u64>,
}

struct Connection {
    socket: TcpStream,
    answer: Vec<u8>,
    sent: usize,
    asked: Instant,
}

impl Load {
    /// Asks until the time is over. `at_bounds` is called when counting begins and when it ends.
    pub(super) fn run(&self, mut at_bounds: impl FnMut()) -> io::Result<Answered> {
        let mut poll = Poll::new()?;
        let mut connections = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let mut socket = TcpStream::connect(self.address)?;
            poll.registry().register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection { socket, answer: Vec::new(), sent: 0, asked: Instant::now() });
        }
        let mut events = Events::with_capacity(self.connections);
        let mut buffer = vec![0; BUFFER_BYTES];
        let begin = Instant::now() + self.warmup;
        let end = begin + self.time;
        let mut counting = false;
        let mut count = 0;
        let mut latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(io::Error::other)?;
        loop {
            poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer"));
            }
            let now = Instant::now();
            if !counting && now >= begin {
                counting = true;
                at_bounds();
            }
            if now >= end {
                at_bounds();
                return Ok(Answered { count, time: now - begin, latency });
            }
            for event in &events {
                let connection = &mut connections[event.token().0];
                while connection.turn(self, &mut buffer)? {
                    if counting {
                        count += 1;
                        let waited = connection.asked.elapsed().as_micros();
                        latency.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
                    }
                    connection.answer.clear();
                    connection.sent = 0;
                }
            }
        }
    }
}

impl Connection {
    /// Sends what is to be sent, and reads. Whether an answer is whole.
    fn turn(&mut self, load: &Load, buffer: &mut [u8]) -> io::Result<bool> {
        if self.sent == 0 {
            self.asked = Instant::now();
        }
        while self.sent < load.request.len() {
            match self.socket.write(&load.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if is_whole(&self.answer) {
                return if is_right(&self.answer, load.expected) {
                    Ok(true)
                } else {
                    Err(io::Error::other(format!(
                        "an answer that is not right: {}",
                        String::from_utf8_lossy(&self.answer)
                    )))
                };
            }
        }
    }
}

/// Whether an answer has come to its end, as its head says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    match length(head) {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    }
}

fn length(head: &[u8]) -> Option<usize> {
    let named = |line: &&[u8]| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
    let line = head.split(|byte| *byte == b'\n').find(named)?;
    str::from_utf8(&line[15..]).ok()?.trim().parse().ok()
}

/// Whether it says what it should. Chunks may cut it anywhere, but servers have no reason to cut what is so short.
fn is_right(answer: &[u8], expected: &str) -> bool {
    answer.starts_with(b"HTTP/1.1 200") && memchr::memmem::find(answer, expected.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_by_its_length_or_its_last_chunk() {
        let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        for answer in [&sized[..], chunked] {
            assert!(is_whole(answer) && is_right(answer, "ab"));
            assert!((0..answer.len()).all(|cut| !is_whole(&answer[..cut])));
        }
        assert!(!is_right(b"HTTP/1.1 500 No\r\n\r\nab", "ab"));
    }
}
