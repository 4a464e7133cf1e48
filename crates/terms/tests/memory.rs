//! What streams take of memory. A file of its own, as a process has but one peak: its tests take turns.

#![allow(clippy::unwrap_used)]

mod client;

use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use client::{prefixed, start};
use magpie_terms::config::Terms;

const STREAM: &str = "Content-Type: application/x-erlang-binary-stream\r\n";

static TURN: Mutex<()> = Mutex::new(());

/// A term of so many bytes and a few: a binary of text.
fn text_of(bytes: usize) -> Vec<u8> {
    [&[131, 109][..], &u32::try_from(bytes).unwrap().to_be_bytes(), &vec![b'x'; bytes]].concat()
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_long_stream_takes_no_more_memory_than_a_short_one() {
    const STREAM_BYTES: usize = 96 << 20;
    let _turn = TURN.lock().unwrap();
    let service = start(Terms::default());
    let item = prefixed([&text_of(10_000)[..]]);
    let block = item.repeat(100);
    let blocks = STREAM_BYTES / block.len();
    let mut socket = service.connect();
    let before = peak_memory();
    let length = blocks * block.len();
    let head = format!(
        "POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n{STREAM}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    for _ in 0..blocks {
        socket.write_all(&block).unwrap();
    }
    assert!(reading.join().unwrap() > STREAM_BYTES / 10 * 9);
    let grown = peak_memory() - before;
    assert!(grown < 16 << 20, "{} KiB more for a stream of {} MiB", grown >> 10, STREAM_BYTES >> 20);
}

#[test]
fn who_reads_nothing_of_the_answer_stops_the_stream() {
    let _turn = TURN.lock().unwrap();
    let service = start(Terms { idle_seconds_max: 1, ..Terms::default() });
    let mut socket = service.connect();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let block = prefixed([&text_of(10_000)[..]]).repeat(100);
    let length = 1usize << 34;
    let head = format!("POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{STREAM}\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let before = peak_memory();
    // What the system buffers goes out; then nothing moves, and the connection is closed.
    let mut sent = 0;
    while socket.write_all(&block).is_ok() {
        sent += block.len();
        assert!(sent < 1 << 28, "the stream is taken though nobody reads the answer");
    }
    assert!(peak_memory() - before < 16 << 20);
}
