#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::net::TcpStream as StdStream;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::config::{ListenKind, TlsMode};

const LONG: Duration = Duration::from_secs(10);

fn listen(address: &str) -> Listen {
    Listen { address: address.parse().unwrap(), kind: ListenKind::C2s, tls: TlsMode::Required, force: false }
}

struct Running {
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<(TcpStream, SocketAddr, Admitted)>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(address: &str, admission: &Arc<Admission>) -> Self {
        let listener = Listener::bind(&listen(address), false).unwrap();
        let address = listener.address();
        let (sender, accepted) = mpsc::unbounded_channel();
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(listener.run(Arc::clone(admission), stopping, move |socket, peer, admitted| {
            sender.send((socket, peer, admitted)).unwrap();
        }));
        Self { address, accepted, stop, task }
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr, Admitted) {
        timeout(LONG, self.accepted.recv()).await.unwrap().unwrap()
    }
}

fn unlimited() -> Arc<Admission> {
    Admission::new(|| 0, || {})
}

/// Whether the other side closes the connection without a word.
async fn is_closed(mut client: StdStream) -> bool {
    client.set_read_timeout(Some(LONG)).unwrap();
    tokio::task::spawn_blocking(move || match client.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn connections_are_handed_over_until_it_is_stopped() {
    let mut running = Running::start("127.0.0.1:0", &unlimited());
    for _ in 0..3 {
        let client = StdStream::connect(running.address).unwrap();
        let (_, peer, _admitted) = running.next().await;
        assert_eq!(peer, client.local_addr().unwrap());
    }
    running.stop.send(true).unwrap();
    timeout(LONG, running.task).await.unwrap().unwrap();
    assert!(StdStream::connect(running.address).is_err());
}

#[tokio::test]
async fn it_stops_when_nobody_can_tell_it_to_any_more() {
    let running = Running::start("127.0.0.1:0", &unlimited());
    drop(running.stop);
    timeout(LONG, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_address_gets_no_more_connections_than_it_may_have() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let admission = Admission::new(
        || 0,
        move || {
            counter.fetch_add(1, Ordering::Relaxed);
        },
    );
    admission.set_limits(2, 100);
    let mut running = Running::start("127.0.0.1:0", &admission);
    let _clients = [StdStream::connect(running.address).unwrap(), StdStream::connect(running.address).unwrap()];
    let (first, second) = (running.next().await, running.next().await);
    assert!(is_closed(StdStream::connect(running.address).unwrap()).await);
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    // The connection counts for as long as it is served, not for as long as its socket is held.
    let (socket, _, admitted) = first;
    drop(socket);
    assert!(is_closed(StdStream::connect(running.address).unwrap()).await);
    drop(admitted);
    let _client = StdStream::connect(running.address).unwrap();
    let third = running.next().await;
    drop((second, third));
    assert!(admission.by_address.lock().is_empty());
}

#[tokio::test]
async fn too_many_that_have_not_authenticated_are_refused() {
    let unauthenticated = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&unauthenticated);
    let admission = Admission::new(move || counter.load(Ordering::Relaxed), || {});
    admission.set_limits(0, 5);
    let mut running = Running::start("127.0.0.1:0", &admission);
    unauthenticated.store(5, Ordering::Relaxed);
    assert!(is_closed(StdStream::connect(running.address).unwrap()).await);
    unauthenticated.store(4, Ordering::Relaxed);
    let client = StdStream::connect(running.address).unwrap();
    assert_eq!(running.next().await.1, client.local_addr().unwrap());
}

#[test]
fn an_ipv6_subscriber_is_counted_once() {
    let admission = unlimited();
    admission.set_limits(1, 100);
    let admit = |address: &str| admission.admit(address.parse().unwrap());
    let _first = admit("2001:db8::1").unwrap();
    assert_eq!(admit("2001:db8::ffff:1").unwrap_err(), Refused::Address);
    let _elsewhere = admit("2001:db8:0:1::1").unwrap();
    let _mapped = admit("::ffff:192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").unwrap_err(), Refused::Address);
    let _other = admit("192.0.2.2").unwrap();
}

#[test]
fn the_table_of_a_flood_shrinks_again() {
    let admission = unlimited();
    admission.set_limits(1, 100);
    let flood: Vec<_> = (0..100_000_u32).map(|bits| admission.admit(IpAddr::V4(bits.into())).unwrap()).collect();
    assert!(admission.by_address.lock().capacity() >= 100_000);
    drop(flood);
    assert!(admission.by_address.lock().capacity() <= 1024);
}

#[tokio::test]
async fn the_unspecified_ipv6_address_takes_both_unless_ipv4_is_apart() {
    let Ok(listener) = Listener::bind(&listen("[::]:0"), false) else {
        // This system has no IPv6, which the next line would show if it had.
        assert!(std::net::UdpSocket::bind("[::]:0").is_err());
        return;
    };
    let port = listener.address().port();
    let clients = (StdStream::connect(("127.0.0.1", port)), StdStream::connect(("::1", port)));
    assert!(clients.0.is_ok() && clients.1.is_ok());
    drop((listener, clients));

    let four = Listener::bind(&listen("0.0.0.0:0"), false).unwrap();
    let error = Listener::bind(&listen(&format!("[::]:{}", four.address().port())), false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let six = Listener::bind(&listen(&format!("[::]:{}", four.address().port())), true).unwrap();
    assert!(StdStream::connect(("::1", six.address().port())).is_ok());
}

#[tokio::test]
async fn an_address_is_bound_once() {
    let first = Listener::bind(&listen("127.0.0.1:0"), false).unwrap();
    let error = Listener::bind(&listen(&first.address().to_string()), false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_port_can_be_bound_again_at_once_after_a_restart() {
    let mut running = Running::start("127.0.0.1:0", &unlimited());
    let client = StdStream::connect(running.address).unwrap();
    // The side that closes first is left in TIME-WAIT.
    drop(running.next().await);
    assert!(is_closed(client).await);
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
    assert!(Listener::bind(&listen(&running.address.to_string()), false).is_ok());
}

#[test]
fn what_concerns_one_peer_does_not_stop_the_others() {
    assert!(concerns_one_peer(&io::ErrorKind::ConnectionAborted.into()));
    assert!(concerns_one_peer(&io::Error::from(rustix::io::Errno::PROTO)));
    for lasting in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS] {
        assert!(!concerns_one_peer(&io::Error::from(lasting)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_failure_is_logged_once_a_second() {
    let mut rare = Rare::default();
    let mut logged = Vec::new();
    for _ in 0..25 {
        logged.extend(rare.log());
        tokio::time::advance(PAUSE).await;
    }
    assert_eq!(logged, [1, 10, 10]);
}
