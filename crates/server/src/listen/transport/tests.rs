#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::thread;

use rustls::client::ClientConnection;
use rustls::{ClientConfig, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::*;
use crate::listen::certificates::{Certificates, end_point_binding};

const SOON: Duration = Duration::from_millis(50);

/// A transport and the socket at its other end.
async fn pair(buffers: &Buffers) -> (Transport, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    (Transport::plain(socket, peer, buffers.clone()), client)
}

/// Certificates for localhost, and a client that trusts them.
fn certificates(versions: &[&'static rustls::SupportedProtocolVersion]) -> (Arc<Certificates>, Arc<ClientConfig>) {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::load(folder.path(), &["localhost".into()], &[]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("certs/localhost.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (certificates, Arc::new(client))
}

fn tls_client(socket: StdStream, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, StdStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket)
}

/// Reads until there are `bytes` bytes, as a session would, and writes what is unsent meanwhile.
async fn read(transport: &mut Transport, bytes: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    while plain.len() < bytes {
        transport.ready(true).await.unwrap();
        let outcome = transport.try_read(&mut plain).unwrap();
        assert_ne!(outcome, ReadOutcome::Closed);
        transport.try_flush().unwrap();
    }
    plain
}

async fn flush(transport: &mut Transport) {
    while !transport.try_flush().unwrap() {
        transport.ready(false).await.unwrap();
    }
}

#[tokio::test]
async fn clear_bytes_go_both_ways_and_the_end_is_seen() {
    let buffers = Buffers::default();
    let (mut transport, mut client) = pair(&buffers).await;
    client.write_all(b"<stream>").unwrap();
    assert_eq!(read(&mut transport, 8).await, b"<stream>");
    let mut plain = Vec::new();
    assert_eq!(transport.try_read(&mut plain).unwrap(), ReadOutcome::WouldBlock);
    transport.queue(b"<fea");
    transport.queue_with(|out| out.extend_from_slice(b"tures/>"));
    assert_eq!(transport.unsent_bytes(), 11);
    flush(&mut transport).await;
    let mut heard = [0; 11];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"<features/>");
    let (certificates, _) = certificates(&[&rustls::version::TLS13]);
    assert!(transport.bindings(&certificates) == ChannelBindings::default() && !transport.is_encrypted());
    client.shutdown(Shutdown::Write).unwrap();
    transport.ready(true).await.unwrap();
    assert_eq!(transport.try_read(&mut plain).unwrap(), ReadOutcome::Closed);
    assert_eq!(transport.try_read(&mut plain).unwrap(), ReadOutcome::Closed);
    assert!(timeout(SOON, transport.ready(true)).await.is_ok());
}

#[tokio::test]
async fn a_short_read_forgets_readiness_but_no_bytes() {
    let buffers = Buffers::default();
    let (mut transport, mut client) = pair(&buffers).await;
    for round in 0..200_u8 {
        client.write_all(&[round; 10]).unwrap();
        assert_eq!(read(&mut transport, 10).await, [round; 10]);
        // Nothing was left, and the runtime knows that without asking the system.
        if round % 50 == 0 {
            assert!(timeout(SOON, transport.ready(true)).await.is_err());
        }
    }
    // The end may come together with the last bytes.
    client.write_all(b"bye").unwrap();
    drop(client);
    assert_eq!(read(&mut transport, 3).await, b"bye");
    timeout(Duration::from_secs(5), transport.ready(true)).await.unwrap().unwrap();
    assert_eq!(transport.try_read(&mut Vec::new()).unwrap(), ReadOutcome::Closed);
}

#[tokio::test]
async fn without_wish_to_read_and_nothing_unsent_there_is_nothing_to_wait_for() {
    let buffers = Buffers::default();
    let (mut transport, mut client) = pair(&buffers).await;
    client.write_all(b"x").unwrap();
    transport.ready(true).await.unwrap();
    assert!(timeout(SOON, transport.ready(false)).await.is_err());
    transport.queue(b"y");
    assert!(timeout(SOON, transport.ready(false)).await.is_ok());
    assert_eq!(read(&mut transport, 1).await, b"x");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_seen_in_the_unsent_bytes() {
    let buffers = Buffers::default();
    let (mut transport, mut client) = pair(&buffers).await;
    let chunk = vec![b'a'; 64 * 1024];
    let mut queued = 0;
    while transport.unsent_bytes() < 256 * 1024 {
        transport.queue(&chunk);
        queued += chunk.len();
        transport.try_flush().unwrap();
        tokio::task::yield_now().await;
    }
    assert!(timeout(SOON, transport.ready(false)).await.is_err());
    let reader = thread::spawn(move || {
        let mut heard = vec![0; queued];
        client.read_exact(&mut heard).unwrap();
        heard
    });
    flush(&mut transport).await;
    assert!(reader.join().unwrap().iter().all(|&byte| byte == b'a'));
    assert_eq!((transport.unsent_bytes(), transport.idle_heap(), buffers.in_use()), (0, 0, 0));
}

#[tokio::test]
async fn starttls_then_tls_and_the_bindings_of_both_ends_agree() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (certificates, client_config) = certificates(&[version]);
        let buffers = Buffers::default();
        let (mut transport, mut socket) = pair(&buffers).await;
        let client = thread::spawn(move || {
            socket.write_all(b"<starttls/>").unwrap();
            let mut proceed = [0; 10];
            socket.read_exact(&mut proceed).unwrap();
            assert_eq!(&proceed, b"<proceed/>");
            let mut tls = tls_client(socket, &client_config);
            tls.write_all(b"<stream>").unwrap();
            tls.flush().unwrap();
            let mut features = [0; 11];
            tls.read_exact(&mut features).unwrap();
            assert_eq!(&features, b"<features/>");
            let exporter = tls.conn.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
            let end_point = end_point_binding(&tls.conn.peer_certificates().unwrap()[0]);
            tls.conn.send_close_notify();
            tls.flush().unwrap();
            (exporter, end_point)
        });
        read(&mut transport, 11).await;
        transport.queue(b"<proceed/>");
        // Not flushed: it must go out in clear all the same.
        transport.start_tls(certificates.server_config(Some("localhost"))).unwrap();
        assert!(transport.is_handshaking());
        transport.queue(b"nothing can be said now");
        flush(&mut transport).await;
        assert_eq!(read(&mut transport, 8).await, b"<stream>");
        assert!(transport.is_encrypted());
        assert_eq!(transport.server_name(), Some("localhost"));
        transport.queue_with(|out| out.extend_from_slice(b"<features/>"));
        assert!(transport.unsent_bytes() > 11);
        flush(&mut transport).await;
        let bindings = transport.bindings(&certificates);
        loop {
            transport.ready(true).await.unwrap();
            match transport.try_read(&mut Vec::new()).unwrap() {
                ReadOutcome::Closed => break,
                outcome => assert_eq!(outcome, ReadOutcome::WouldBlock),
            }
        }
        assert_eq!((transport.idle_heap(), buffers.in_use()), (0, 0));
        let (exporter, end_point) = client.join().unwrap();
        assert_eq!(bindings.tls_server_end_point, end_point);
        assert_eq!(bindings.tls_server_end_point, certificates.end_point_binding("localhost"));
        assert_eq!(bindings.tls_exporter, (*version == rustls::version::TLS13).then_some(exporter));
        assert!(transport.start_tls(certificates.server_config(None)).is_err());
    }
}

#[tokio::test]
async fn an_idle_tls_connection_holds_no_buffer_but_for_half_a_record() {
    let (certificates, client_config) = certificates(&[&rustls::version::TLS13]);
    let buffers = Buffers::default();
    let (transport, socket) = pair(&buffers).await;
    let (socket_, peer) = (transport.socket, transport.peer);
    let mut transport = Transport::tls(socket_, peer, buffers.clone(), certificates.direct_tls_config());
    let mut tls = tls_client(socket, &client_config);
    let client = thread::spawn(move || {
        tls.write_all(b"<stream>").unwrap();
        tls.flush().unwrap();
        tls
    });
    read(&mut transport, 8).await;
    let mut tls = client.join().unwrap();
    assert_eq!((transport.idle_heap(), buffers.in_use()), (0, 0));
    assert!(buffers.pooled() > 0);

    // A record comes in two halves.
    let mut record = Vec::new();
    tls.conn.writer().write_all(b"<message/>").unwrap();
    tls.conn.write_tls(&mut record).unwrap();
    tls.sock.write_all(&record[..7]).unwrap();
    transport.ready(true).await.unwrap();
    let mut plain = Vec::new();
    assert_eq!(transport.try_read(&mut plain).unwrap(), ReadOutcome::WouldBlock);
    assert_eq!(buffers.in_use(), 1);
    assert!(transport.idle_heap() > 0);
    tls.sock.write_all(&record[7..]).unwrap();
    assert_eq!(read(&mut transport, 10).await, b"<message/>");
    assert_eq!((transport.idle_heap(), buffers.in_use()), (0, 0));
}

#[tokio::test]
async fn megabytes_go_both_ways_under_tls() {
    let (certificates, client_config) = certificates(&[&rustls::version::TLS13]);
    let buffers = Buffers::default();
    let (mut transport, socket) = pair(&buffers).await;
    transport.start_tls(certificates.server_config(None)).unwrap();
    let data: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 253) as u8).collect();
    let sent = data.clone();
    let client = thread::spawn(move || {
        let mut tls = tls_client(socket, &client_config);
        tls.write_all(&sent).unwrap();
        tls.flush().unwrap();
        let mut heard = vec![0; sent.len()];
        tls.read_exact(&mut heard).unwrap();
        heard
    });
    assert!(read(&mut transport, data.len()).await == data);
    for chunk in data.chunks(100_000) {
        transport.queue(chunk);
    }
    flush(&mut transport).await;
    assert!(client.join().unwrap() == data);
    assert_eq!(buffers.in_use(), 0);
    // The wire carries more than the plaintext, but not much more.
    for bytes in [buffers.received_bytes(), buffers.sent_bytes()] {
        assert!((2_000_000..2_020_000).contains(&bytes), "{bytes}");
    }
}

#[tokio::test]
async fn clear_bytes_where_tls_should_begin_end_the_connection_with_an_alert() {
    let (certificates, _) = certificates(&[&rustls::version::TLS13]);
    let buffers = Buffers::default();
    let (mut transport, mut client) = pair(&buffers).await;
    transport.start_tls(certificates.server_config(None)).unwrap();
    client.write_all(b"<auth mechanism='PLAIN'>injected</auth>").unwrap();
    transport.ready(true).await.unwrap();
    let mut plain = Vec::new();
    let error = transport.try_read(&mut plain).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(plain.is_empty());
    assert!(transport.try_read(&mut plain).is_err());
    transport.queue(b"</stream:stream>");
    let reader = thread::spawn(move || {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        heard
    });
    transport.close().await;
    let heard = reader.join().unwrap();
    assert_eq!((heard.len(), heard[0]), (7, 21));
    assert_eq!(buffers.in_use(), 0);
}

#[tokio::test]
async fn close_writes_what_is_left_and_says_close_notify() {
    let (certificates, client_config) = certificates(&[&rustls::version::TLS13]);
    let buffers = Buffers::default();
    let (mut transport, socket) = pair(&buffers).await;
    transport.start_tls(certificates.server_config(None)).unwrap();
    let client = thread::spawn(move || {
        let mut tls = tls_client(socket, &client_config);
        tls.write_all(b"x").unwrap();
        tls.flush().unwrap();
        let mut heard = Vec::new();
        // Without close_notify this is an error.
        tls.read_to_end(&mut heard).unwrap();
        heard
    });
    read(&mut transport, 1).await;
    transport.queue(b"</stream:stream>");
    let begun = Instant::now();
    transport.close().await;
    assert!(begun.elapsed() < LINGER_TIME_MAX, "the peer closed at once");
    assert_eq!(client.join().unwrap(), b"</stream:stream>");
    assert_eq!(buffers.in_use(), 0);
}

#[tokio::test]
async fn close_waits_no_longer_than_it_says() {
    let buffers = Buffers::default();
    let (mut transport, client) = pair(&buffers).await;
    while transport.unsent_bytes() < 1024 {
        transport.queue(&[b'a'; 64 * 1024]);
        transport.try_flush().unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let begun = Instant::now();
    transport.close().await;
    assert_eq!(begun.elapsed().as_secs(), FLUSH_TIME_MAX.as_secs());
    drop(client);

    tokio::time::resume();
    let (transport, client) = pair(&buffers).await;
    tokio::time::pause();
    let begun = Instant::now();
    transport.close().await;
    assert_eq!(begun.elapsed().as_secs(), LINGER_TIME_MAX.as_secs());
    drop(client);
    assert_eq!(buffers.in_use(), 0);
}

#[tokio::test]
async fn what_a_peer_says_while_its_connection_closes_takes_no_buffer() {
    let buffers = Buffers::default();
    let (transport, mut client) = pair(&buffers).await;
    client.write_all(&[b'a'; 16 * 1024]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    transport.close().await;
    assert_eq!((buffers.received_bytes(), buffers.pooled()), (16 * 1024, 0));
}

#[tokio::test]
async fn a_lost_peer_is_an_error_of_the_flush() {
    let buffers = Buffers::default();
    let (mut transport, client) = pair(&buffers).await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let mut failed = false;
    for _ in 0..100 {
        transport.queue(b"anybody there?");
        failed |= transport.try_flush().is_err();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(failed);
    assert_eq!((transport.unsent_bytes(), buffers.in_use()), (0, 0));
}

#[test]
fn a_transport_is_small() {
    assert!(size_of::<Transport>() <= 144, "{}", size_of::<Transport>());
    assert!(size_of::<Tls>() <= 136, "{}", size_of::<Tls>());
}
