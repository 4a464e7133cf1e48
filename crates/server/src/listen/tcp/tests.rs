#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::net::TcpStream as StdStream;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(10);

fn bind(address: &str) -> io::Result<Listener> {
    Listener::bind(address.parse().unwrap())
}

struct Running {
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<(TcpStream, SocketAddr, Admission)>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(listener: Listener, per_address_max: usize) -> Self {
        let address = listener.address().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(listener.run(
            move || per_address_max,
            stopping,
            move |socket, peer, admission| sender.send((socket, peer, admission)).unwrap(),
        ));
        Self { address, accepted, stop, task }
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr, Admission) {
        timeout(LONG, self.accepted.recv()).await.unwrap().unwrap()
    }
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
    let mut running = Running::start(bind("127.0.0.1:0").unwrap(), 0);
    for _ in 0..3 {
        let client = StdStream::connect(running.address).unwrap();
        let (_, peer, _admission) = running.next().await;
        assert_eq!(peer, client.local_addr().unwrap());
    }
    running.stop.send(true).unwrap();
    timeout(LONG, running.task).await.unwrap().unwrap();
    assert!(StdStream::connect(running.address).is_err());
}

#[tokio::test]
async fn it_stops_when_nobody_can_tell_it_to_any_more() {
    let running = Running::start(bind("127.0.0.1:0").unwrap(), 0);
    drop(running.stop);
    timeout(LONG, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_address_gets_no_more_connections_than_it_may_have_over_all_listeners() {
    let addresses = Addresses::new(&Metrics::new());
    let listener = || bind("127.0.0.1:0").unwrap().sharing(&addresses);
    let (mut running, mut other) = (Running::start(listener(), 2), Running::start(listener(), 2));
    let _clients = [StdStream::connect(running.address).unwrap(), StdStream::connect(other.address).unwrap()];
    let (first, second) = (running.next().await, other.next().await);
    assert!(is_closed(StdStream::connect(running.address).unwrap()).await);
    // The connection counts for as long as it is served, not for as long as its socket is held.
    let (socket, _, admission) = first;
    drop(socket);
    assert!(is_closed(StdStream::connect(other.address).unwrap()).await);
    drop(admission);
    let _client = StdStream::connect(running.address).unwrap();
    let third = running.next().await;
    drop((second, third));
    assert!(addresses.connections.lock().is_empty());
}

#[test]
fn an_ipv6_subscriber_is_counted_once() {
    let addresses = Arc::<Addresses>::default();
    let admit = |address: &str| addresses.admit(address.parse().unwrap(), 1);
    let _first = admit("2001:db8::1").unwrap();
    assert!(admit("2001:db8::ffff:1").is_none());
    let _elsewhere = admit("2001:db8:0:1::1").unwrap();
    let _mapped = admit("::ffff:192.0.2.1").unwrap();
    assert!(admit("192.0.2.1").is_none());
    let _other = admit("192.0.2.2").unwrap();
}

#[test]
fn the_table_of_a_flood_shrinks_again() {
    let addresses = Arc::<Addresses>::default();
    let flood: Vec<_> = (0..100_000_u32).map(|bits| addresses.admit(IpAddr::V4(bits.into()), 1).unwrap()).collect();
    assert!(addresses.connections.lock().capacity() >= 100_000);
    drop(flood);
    assert!(addresses.connections.lock().capacity() <= 1024);
}

#[tokio::test]
async fn the_unspecified_ipv6_address_takes_both_unless_ipv4_has_a_listener() {
    let Ok(listener) = bind("[::]:0") else {
        // This system has no IPv6, which the next line would show if it had.
        assert!(std::net::UdpSocket::bind("[::]:0").is_err());
        return;
    };
    let port = listener.address().unwrap().port();
    let clients = (StdStream::connect(("127.0.0.1", port)), StdStream::connect(("::1", port)));
    assert!(clients.0.is_ok() && clients.1.is_ok());
    drop((listener, clients));

    let four = bind("0.0.0.0:0").unwrap();
    let six = bind(&format!("[::]:{}", four.address().unwrap().port())).unwrap();
    assert!(StdStream::connect(("::1", six.address().unwrap().port())).is_ok());
}

#[tokio::test]
async fn an_address_is_bound_once() {
    let first = bind("127.0.0.1:0").unwrap();
    let error = Listener::bind(first.address().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_port_can_be_bound_again_at_once_after_a_restart() {
    let mut running = Running::start(bind("127.0.0.1:0").unwrap(), 0);
    let client = StdStream::connect(running.address).unwrap();
    // The side that closes first is left in TIME-WAIT.
    drop(running.next().await);
    assert!(is_closed(client).await);
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
    assert!(Listener::bind(running.address).is_ok());
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
