//! A running `erl` that answers what tests and benchmarks ask.

#![allow(dead_code, clippy::unwrap_used)]

mod start;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;

pub(crate) struct Erl {
    child: Child,
    socket: Option<TcpStream>,
}

impl Erl {
    /// Starts it; without `erl` this says what to install.
    pub(crate) fn start() -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/erl/oracle.erl");
        let (child, socket) = start::start(source, &["+S", "1:1"]);
        Self { child, socket: Some(socket) }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, verb: &str, rest: &[u8]) -> Vec<u8> {
        let request = [&((verb.len() + rest.len()) as u32).to_be_bytes()[..], verb.as_bytes(), rest].concat();
        let socket = self.socket.as_mut().unwrap();
        socket.write_all(&request).unwrap();
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut answer).unwrap();
        answer
    }

    /// Asks, for an answer in parts; nothing if it was refused.
    pub(crate) fn parts(&mut self, verb: &str, rest: &[u8]) -> Option<Vec<Vec<u8>>> {
        let answer = self.ask(verb, rest);
        let mut left = &answer[..];
        let mut parts = Vec::new();
        while let Some((length, rest)) = left.split_first_chunk::<4>() {
            let (part, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            parts.push(part.to_vec());
            left = rest;
        }
        (!parts.is_empty()).then_some(parts)
    }
}

impl Drop for Erl {
    fn drop(&mut self) {
        // It ends with its connection.
        self.socket = None;
        let _ = self.child.wait();
    }
}
