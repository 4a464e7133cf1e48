//! A long stream of terms to lines of JSON: how fast, and with how much memory.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::servers::{RECORD_FILE, Server};
use crate::compare::CompareError;

/// What it took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Streamed {
    pub(super) sent_bytes: u64,
    pub(super) seconds: f64,
    /// The most memory that the server had in its life.
    pub(super) peak_bytes: u64,
}

/// Bytes that are written at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Sends so many bytes of records, reads what comes back, and looks at the server's memory.
pub(super) fn run(server: &Server, bytes: u64) -> Result<Streamed, CompareError> {
    // The record lies where the server was started.
    let setup = |error: io::Error| CompareError::Setup(format!("the stream: {error}"));
    let pid = server.pids().first().copied().unwrap_or_default();
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).map_err(setup)?;
    let record = fs::read(folder.join(RECORD_FILE)).map_err(setup)?;
    let item = [&(record.len() as u32).to_be_bytes()[..], &record].concat();
    let block = item.repeat(BLOCK_BYTES / item.len());
    let blocks = bytes.div_ceil(block.len() as u64);
    let sent_bytes = blocks * block.len() as u64;
    let lines = sent_bytes / item.len() as u64;
    let begun = Instant::now();
    let mut socket = TcpStream::connect(server.address).map_err(setup)?;
    let head = format!(
        "POST /terms/to-json?mode=readable HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {sent_bytes}\r\n\
         Content-Type: application/x-erlang-binary-stream\r\n\r\n"
    );
    let mut reader = socket.try_clone().map_err(setup)?;
    let reading = thread::spawn(move || -> io::Result<u64> {
        let mut buffer = vec![0; BLOCK_BYTES];
        let (mut ends, mut last) = (0, 0);
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                return Ok(ends);
            }
            // A line is an object; the line feeds of heads and chunks have no brace before them.
            for at in memchr::memchr_iter(b'\n', &buffer[..count]) {
                let before = if at == 0 { last } else { buffer[at - 1] };
                ends += u64::from(before == b'}');
            }
            last = buffer[count - 1];
        }
    });
    socket.write_all(head.as_bytes()).map_err(setup)?;
    for _ in 0..blocks {
        socket.write_all(&block).map_err(setup)?;
    }
    let ends = reading.join().expect("reading does not panic").map_err(setup)?;
    if ends != lines {
        return Err(CompareError::Setup(format!("of {lines} terms came {ends} lines")));
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(setup)?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(Streamed { sent_bytes, seconds: begun.elapsed().as_secs_f64(), peak_bytes: kilobytes.unwrap_or(0) * 1024 })
}
