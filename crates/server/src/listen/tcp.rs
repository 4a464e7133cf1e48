//! RFC 6120 §3: TCP connections are accepted, within limits.
//!
//! The loop survives whatever `accept` may say: a peer that was gone already concerns nobody, and a system without file
//! descriptors is given time.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Connections that the system may hold until they are accepted; it lowers this to its own limit.
const BACKLOG: i32 = 4096;

/// How long the loop waits before it tries again when the system has no room.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a lasting failure, or refused connections, are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    addresses: Arc<Addresses>,
}

impl Listener {
    /// Binds the address. `[::]` takes IPv4 connections as well, unless another listener has their address.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let both = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let socket = match bind(address, both) {
            Err(error) if both && error.kind() == io::ErrorKind::AddrInUse => {
                let socket = bind(address, false);
                if socket.is_ok() {
                    tracing::warn!(%address, "takes IPv6 connections only: the IPv4 address is in use");
                }
                socket
            }
            bound => bound,
        }?;
        Ok(Self { socket: TcpListener::from_std(socket.into())?, addresses: Arc::default() })
    }

    /// Counts the connections of an address together with those of other listeners.
    pub fn sharing(self, addresses: &Arc<Addresses>) -> Self {
        Self { addresses: Arc::clone(addresses), ..self }
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    ///
    /// # Errors
    /// From the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections until `stop` holds `true` or its sender is gone, and hands each to `serve`, which must not block.
    /// Whoever serves a connection keeps its [`Admission`] until it is over. An address gets `per_address_max` of them, without
    /// limit where that is 0.
    pub async fn run(
        self,
        per_address_max: impl Fn() -> usize,
        mut stop: watch::Receiver<bool>,
        serve: impl Fn(TcpStream, SocketAddr, Admission),
    ) {
        let mut failures = Rare::default();
        let mut refusals = Rare::default();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => match self.addresses.admit(peer.ip(), per_address_max()) {
                    Some(admission) => serve(socket, peer, admission),
                    None => {
                        drop(socket);
                        if let Some(times) = refusals.log() {
                            tracing::warn!(%peer, times, "too many connections from one address");
                        }
                    }
                },
                Err(error) if concerns_one_peer(&error) => {
                    tracing::debug!(%error, "connection lost before it was accepted");
                }
                Err(error) => {
                    if let Some(times) = failures.log() {
                        tracing::error!(address = ?self.address(), %error, times, "connections cannot be accepted");
                    }
                    tokio::select! {
                        biased;
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// How many connections each address has.
#[derive(Default)]
pub struct Addresses {
    connections: Mutex<HashMap<IpAddr, usize>>,
    metrics: Option<Arc<Metrics>>,
}

impl Addresses {
    /// No connections; those that are refused are counted in the metrics.
    pub fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::default(), metrics: Some(Arc::clone(metrics)) })
    }

    /// Counts a connection, unless the address has `max` already. Without a limit (0) nothing is counted. IPv6 addresses are
    /// counted by their first 64 bits, because whoever has one such address has all of them.
    pub fn admit(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Admission> {
        if max == 0 {
            return Some(Admission { counted: None });
        }
        let address = subscriber(address);
        let mut connections = self.connections.lock();
        let count = connections.entry(address).or_insert(0);
        if *count >= max {
            if let Some(metrics) = &self.metrics {
                metrics.connection_refused();
            }
            return None;
        }
        *count += 1;
        Some(Admission { counted: Some((Arc::clone(self), address)) })
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("addresses", &self.connections.lock().len()).finish_non_exhaustive()
    }
}

/// A connection that counts for its address until this value is dropped.
#[must_use]
#[derive(Debug)]
pub struct Admission {
    counted: Option<(Arc<Addresses>, IpAddr)>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some((addresses, address)) = self.counted.take() else { return };
        let mut connections = addresses.connections.lock();
        if let Some(count) = connections.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&address);
            }
        }
        // The table of a flood is not kept for ever.
        if connections.capacity() > 1024 && connections.len() < connections.capacity() / 8 {
            connections.shrink_to_fit();
        }
    }
}

/// What happens often and is logged rarely.
#[derive(Default)]
struct Rare {
    logged: Option<Instant>,
    times: u64,
}

impl Rare {
    /// How many times it has happened since it was logged last, if it is time to log it again.
    fn log(&mut self) -> Option<u64> {
        self.times += 1;
        let now = Instant::now();
        if self.logged.is_some_and(|logged| now < logged + LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

fn bind(address: SocketAddr, both: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this would let another process take the port away.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!both)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Errors that `accept` passes on from the connection it wanted to accept (accept(2)); the next one may be well.
fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    ) || is_protocol_error(error)
}

#[cfg(unix)]
fn is_protocol_error(error: &io::Error) -> bool {
    // EPERM is how a firewall refuses.
    let codes = [rustix::io::Errno::PROTO, rustix::io::Errno::NOPROTOOPT, rustix::io::Errno::PERM];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

#[cfg(not(unix))]
fn is_protocol_error(_: &io::Error) -> bool {
    false
}

/// Whom an address belongs to.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests;
