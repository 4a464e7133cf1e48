//! The floor: one thread that answers each request with the same bytes, and looks no further than for its end.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Options of `magpie-load terms-floor`.
#[derive(Clone, Debug, clap::Args)]
pub struct FloorOptions {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
}

const ANSWER: &[u8] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\n\r\nabcd你好321".as_bytes();

const LISTENER: Token = Token(usize::MAX);

/// Answers until it is ended.
pub fn floor(options: &FloorOptions) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(options.listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = [0; 16 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    let token = Token(connections.len());
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    socket.set_nodelay(true)?;
                    connections.push(Some(socket));
                }
            } else if let Some(place) = connections.get_mut(event.token().0)
                && place.as_mut().is_some_and(|socket| turn(socket, &mut buffer).is_err())
            {
                *place = None;
            }
        }
    }
}

/// A request comes in one piece: whoever asks the floor sends it so.
fn turn(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) if buffer[..count].ends_with(b"\r\n\r\n") => socket.write_all(ANSWER)?,
            Ok(_) => return Err(ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
