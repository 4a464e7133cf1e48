//! A running `erl` that answers what tests and benchmarks ask.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

pub(crate) struct Erl {
    child: Child,
    socket: Option<TcpStream>,
}

impl Erl {
    /// Starts it; without `erl` this says what to install.
    pub(crate) fn start() -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/erl/oracle.erl");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let run = format!(
            "try {{ok, M, Code}} = compile:file({source:?}, [binary]), \
             {{module, M}} = code:load_binary(M, {source:?}, Code), M:main({port}) \
             catch C:E -> io:format(\"~p~n\", [{{C, E}}]), halt(1) end."
        );
        let child = Command::new("erl").args(["-noinput", "+S", "1:1", "-eval", &run]).stdin(Stdio::null()).spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("missing: erl\n  apt-get update && apt-get install --no-install-recommends erlang-base")
            }
            Err(error) => panic!("erl does not start: {error}"),
        };
        let (socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
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
