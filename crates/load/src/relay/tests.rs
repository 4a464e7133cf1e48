//! The relay over real sockets.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{BUFFER_BYTES, ECHO, Relay};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(threads: usize) -> SocketAddr {
    let relay = Relay::bind("127.0.0.1:0".parse().unwrap(), threads).unwrap();
    let address = relay.address();
    thread::spawn(move || relay.run());
    address
}

fn connect(address: SocketAddr, pair: u32) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&pair.to_be_bytes()).unwrap();
    socket
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    socket.read_exact(&mut got).unwrap();
    assert!(got == bytes, "other bytes came");
}

#[test]
fn what_one_end_sends_arrives_at_the_other_as_it_is_and_nowhere_else() {
    for threads in [1, 3] {
        let address = start(threads);
        let mut ends: Vec<_> = (0..8).map(|pair| (connect(address, pair), connect(address, pair))).collect();
        for len in [1, 200, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
            for (pair, (one, other)) in ends.iter_mut().enumerate() {
                one.write_all(&pattern(len, pair as u8)).unwrap();
                other.write_all(&pattern(len, !(pair as u8))).unwrap();
            }
            for (pair, (one, other)) in ends.iter_mut().enumerate() {
                expect(other, &pattern(len, pair as u8));
                expect(one, &pattern(len, !(pair as u8)));
            }
        }
    }
}

#[test]
fn a_number_with_the_highest_bit_gets_its_own_bytes_back() {
    let address = start(2);
    for pair in [ECHO, ECHO | 1] {
        let mut end = connect(address, pair);
        end.write_all(b"who is there").unwrap();
        expect(&mut end, b"who is there");
    }
}

#[test]
fn a_number_may_come_byte_by_byte_and_bytes_may_follow_before_the_partner_comes() {
    let address = start(1);
    let mut one = TcpStream::connect(address).unwrap();
    one.set_nodelay(true).unwrap();
    for byte in 7u32.to_be_bytes() {
        one.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    one.write_all(b"early").unwrap();
    thread::sleep(Duration::from_millis(20));
    let mut other = connect(address, 7);
    expect(&mut other, b"early");
}

#[test]
fn an_end_that_does_not_read_stops_the_other_and_loses_nothing() {
    let address = start(1);
    let (mut one, mut other) = (connect(address, 1), connect(address, 1));
    // Joined for certain, so that the sender stops for the right reason.
    one.write_all(b"x").unwrap();
    expect(&mut other, b"x");

    one.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let part = pattern(64 * 1024, 3);
    let mut sent = 0;
    loop {
        match one.write(&part[sent % part.len()..]) {
            Ok(written) => sent += written,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                break;
            }
        }
        assert!(sent < 256 << 20, "somebody keeps what nobody reads");
    }
    assert!(sent > BUFFER_BYTES);
    one.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    other.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
    assert!(got.iter().enumerate().all(|(at, byte)| *byte == part[at % part.len()]));
}

#[test]
fn an_end_that_has_said_all_can_still_hear() {
    let address = start(1);
    let (mut one, mut other) = (connect(address, 1), connect(address, 1));
    one.write_all(b"last").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    other.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"last");
    other.write_all(b"answer").unwrap();
    drop(other);
    let mut got = Vec::new();
    one.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"answer");
}

#[test]
fn a_number_can_be_used_again_when_its_pair_is_complete_or_gone() {
    let address = start(1);
    let mut gone = connect(address, 5);
    gone.shutdown(Shutdown::Write).unwrap();
    assert_eq!(gone.read(&mut [0]).unwrap(), 0);
    let (mut one, mut other) = (connect(address, 5), connect(address, 5));
    one.write_all(b"first").unwrap();
    expect(&mut other, b"first");
    let (mut third, mut fourth) = (connect(address, 5), connect(address, 5));
    third.write_all(b"second").unwrap();
    expect(&mut fourth, b"second");
}
