//! A running `erl` that evaluates what tests ask for.

#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../etf/tests/erl/start.rs"]
mod start;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;

use magpie_etf::{Tape, TermKind};
use magpie_terms::config::{KeyKind, SourceKind, TermSource};

pub(crate) struct Erl {
    child: Child,
    socket: Option<TcpStream>,
}

impl Erl {
    /// Starts it; without `erl`, or without an application that is wanted, this says what to install.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/erl/files.erl");
        let (child, socket) = start::start(source, &[&["+S", "2:2"], arguments].concat());
        Self { child, socket: Some(socket) }
    }

    /// The value of an expression.
    pub(crate) fn value(&mut self, expression: &str) -> Tape<'static> {
        let socket = self.socket.as_mut().unwrap();
        let request = [&(expression.len() as u32).to_be_bytes()[..], expression.as_bytes()].concat();
        socket.write_all(&request).unwrap();
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut answer).unwrap();
        let tape = magpie_etf::decode(&answer).unwrap().into_owned();
        let failed = tape.root().as_tuple().and_then(|mut parts| parts.next()?.as_atom()) == Some("failed");
        assert!(!failed, "{expression}: {}", tape.root());
        tape
    }

    /// Evaluates an expression whose value must be `ok`.
    pub(crate) fn run(&mut self, expression: &str) {
        let value = self.value(expression);
        assert_eq!(value.root().as_atom(), Some("ok"), "{expression}: {}", value.root());
    }

    /// The keys of these numbers as text.
    pub(crate) fn keys(&mut self, numbers: &str) -> Vec<String> {
        let value = self.value(&format!("files:texts({numbers})"));
        elements(&value)
            .into_iter()
            .map(|text| String::from_utf8(text.as_binary().unwrap().to_vec()).unwrap())
            .collect()
    }

    /// For each key the objects as `term_to_binary` has them.
    pub(crate) fn objects(&mut self, expression: &str) -> Vec<Vec<Vec<u8>>> {
        let value = self.value(expression);
        let objects = |term: magpie_etf::Term<'_>| match term.kind() {
            TermKind::List(objects) => objects.map(|object| object.as_binary().unwrap().to_vec()).collect(),
            _ => Vec::new(),
        };
        elements(&value).into_iter().map(objects).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Erl {
    fn drop(&mut self) {
        // It ends with its connection.
        self.socket = None;
        let _ = self.child.wait();
    }
}

fn elements<'t>(tape: &'t Tape<'_>) -> Vec<magpie_etf::Term<'t>> {
    match tape.root().kind() {
        TermKind::List(elements) => elements.collect(),
        TermKind::Nil => Vec::new(),
        kind => panic!("a list is wanted: {kind:?}"),
    }
}

pub(crate) fn source(kind: SourceKind, path: &Path) -> TermSource {
    TermSource {
        name: String::new(),
        kind,
        path: path.to_owned(),
        url: String::new(),
        query: String::new(),
        suffix: String::new(),
        key: KeyKind::Term,
    }
}

/// What a source is expected to give: the object of a set, the list of those of a bag.
pub(crate) fn expected(objects: &[Vec<u8>], is_bag: bool) -> Option<Tape<'static>> {
    let bytes = match objects {
        [] => return None,
        [object] if !is_bag => object.clone(),
        objects => {
            let mut bytes = vec![131, 108];
            bytes.extend((objects.len() as u32).to_be_bytes());
            objects.iter().for_each(|object| bytes.extend_from_slice(&object[1..]));
            bytes.push(106);
            bytes
        }
    };
    Some(magpie_etf::decode(&bytes).unwrap().into_owned())
}
