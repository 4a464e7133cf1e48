//! TCP.
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::watch;

/// A listener.
pub struct Listener(tokio::net::TcpListener);

/// A place among an address's connections.
pub struct Admission;

#[allow(missing_docs)]
impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let std = std::net::TcpListener::bind(address)?;
        std.set_nonblocking(true)?;
        Ok(Self(tokio::net::TcpListener::from_std(std)?))
    }
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
    pub async fn run(
        self,
        _per_address_max: impl Fn() -> usize + Send + 'static,
        mut stopping: watch::Receiver<bool>,
        accept: impl Fn(TcpStream, SocketAddr, Admission) + Send + 'static,
    ) {
        loop {
            tokio::select! {
                accepted = self.0.accept() => if let Ok((socket, peer)) = accepted { accept(socket, peer, Admission) },
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }
}
