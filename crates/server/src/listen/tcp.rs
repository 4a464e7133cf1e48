//! RFC 6120 §3: TCP connections are accepted, within limits.
//!
//! The loop survives whatever `accept` may say: a peer that was gone already concerns nobody, and a system without file
//! descriptors is given time.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Listen;

/// Connections that the system may hold until they are accepted; it lowers this to its own limit.
const BACKLOG: i32 = 4096;

/// How long the loop waits before it tries again when the system has no room.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a lasting failure, or refused connections, are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address. `[::]` takes IPv4 connections as well, unless `ipv4_apart`: another listener has their port. On a
    /// system without IPv6 it takes IPv4 connections alone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(listen: &Listen, ipv4_apart: bool) -> io::Result<Self> {
        let wanted = listen.address;
        let both = wanted.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !ipv4_apart;
        let socket = match bind(wanted, both) {
            Err(error) if both && is_without_ipv6(&error) => {
                tracing::info!(address = %wanted, "the system has no IPv6; takes IPv4 connections");
                bind((Ipv4Addr::UNSPECIFIED, wanted.port()).into(), false)
            }
            bound => bound,
        };
        let socket = TcpListener::from_std(socket?.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `stop` holds `true` or its sender is gone, and hands each to `serve`, which must not block.
    /// Whoever serves the connection keeps the [`Admitted`] until it is over.
    pub async fn run(
        self,
        admission: Arc<Admission>,
        mut stop: watch::Receiver<bool>,
        serve: impl Fn(TcpStream, SocketAddr, Admitted),
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
                Ok((socket, peer)) => match admission.admit(peer.ip()) {
                    Ok(admitted) => serve(socket, peer, admitted),
                    Err(refused) => {
                        drop(socket);
                        if let Some(times) = refusals.log() {
                            tracing::warn!(address = %self.address, %peer, times, "connections refused: {refused}");
                        }
                    }
                },
                Err(error) if concerns_one_peer(&error) => {
                    tracing::debug!(address = %self.address, %error, "connection lost before it was accepted");
                }
                Err(error) => {
                    if let Some(times) = failures.log() {
                        tracing::error!(address = %self.address, %error, times, "connections cannot be accepted");
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
        f.debug_struct("Listener").field("address", &self.address).finish()
    }
}

/// The limits on connections, over all listeners.
pub struct Admission {
    per_address_max: AtomicUsize,
    unauthenticated_max: AtomicUsize,
    unauthenticated: Box<dyn Fn() -> usize + Send + Sync>,
    refused: Box<dyn Fn() + Send + Sync>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `connections_per_address_max`
    #[error("too many from one address")]
    Address,
    /// `unauthenticated_max`
    #[error("too many that have not authenticated")]
    Unauthenticated,
}

impl Admission {
    /// `unauthenticated` tells how many connections have not authenticated yet; `refused` is called for each connection that
    /// is closed at once.
    pub fn new(
        unauthenticated: impl Fn() -> usize + Send + Sync + 'static,
        refused: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            per_address_max: AtomicUsize::new(0),
            unauthenticated_max: AtomicUsize::new(usize::MAX),
            unauthenticated: Box::new(unauthenticated),
            refused: Box::new(refused),
            by_address: Mutex::default(),
        })
    }

    /// Sets the limits, at the start and when the configuration is loaded again. `connections_per_address_max` 0 is none;
    /// connections that were accepted without it are not counted.
    pub fn set_limits(&self, connections_per_address_max: usize, unauthenticated_max: usize) {
        self.per_address_max.store(connections_per_address_max, Ordering::Relaxed);
        self.unauthenticated_max.store(unauthenticated_max, Ordering::Relaxed);
    }

    /// Counts a connection, unless it is one too many. IPv6 addresses are counted by their first 64 bits, because whoever has
    /// one such address has all of them.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Refused> {
        let result = self.count(subscriber(address));
        if result.is_err() {
            (self.refused)();
        }
        result
    }

    fn count(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Refused> {
        if (self.unauthenticated)() >= self.unauthenticated_max.load(Ordering::Relaxed) {
            return Err(Refused::Unauthenticated);
        }
        let max = self.per_address_max.load(Ordering::Relaxed);
        if max == 0 {
            return Ok(Admitted { counted: None });
        }
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(address).or_insert(0);
        if *count >= max {
            return Err(Refused::Address);
        }
        *count += 1;
        Ok(Admitted { counted: Some((Arc::clone(self), address)) })
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("addresses", &self.by_address.lock().len()).finish_non_exhaustive()
    }
}

/// A connection that counts for its address until this value is dropped.
#[must_use]
#[derive(Debug)]
pub struct Admitted {
    counted: Option<(Arc<Admission>, IpAddr)>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some((admission, address)) = self.counted.take() else { return };
        let mut by_address = admission.by_address.lock();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
        // The table of a flood is not kept for ever.
        if by_address.capacity() > 1024 && by_address.len() < by_address.capacity() / 8 {
            by_address.shrink_to_fit();
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

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
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
