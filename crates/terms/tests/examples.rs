//! The programs of `examples/terms` read what a live `erl` wrote.

#![allow(clippy::unwrap_used)]

mod client;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use client::start_with;
use magpie_terms::config::{KeyKind, SourceKind, TermSource, Terms};
use magpie_terms::functions::Functions;
use magpie_terms::sources::{Limits, Source, directory};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/terms");

const EXPECTED: &str = "\
Juliet is 13 and has 2 addresses
the second is 朱丽叶@capulet.example
user 43: no-such-key: there is no term under this key
1 login
2 message
3 logout
";

#[test]
fn go_and_python_read_what_erl_wrote_and_streams_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let (terms, events) = (folder.path().join("terms"), folder.path().join("events.bin"));
    run("erlang-base", Command::new("escript").arg("write.escript").arg(&terms).arg(&events));
    let source = TermSource {
        name: String::new(),
        kind: SourceKind::Directory,
        path: terms,
        url: String::new(),
        query: String::new(),
        suffix: String::new(),
        key: KeyKind::Guess,
    };
    let source = directory::open(&source, Limits { bytes_max: 1 << 20, seconds_max: 5 }).unwrap();
    let sources: Vec<(String, Arc<dyn Source>)> = vec![(String::new(), Arc::new(source))];
    let service = start_with(Terms::default(), Functions::default(), sources);
    let address = format!("http://{}", service.http);

    let go = folder.path().join("read_terms");
    let cache = folder.path().join("cache");
    run("golang-go", Command::new("go").args(["build", "-o"]).arg(&go).arg("main.go").env("GOCACHE", cache));
    let in_go = |events: &Path| run("golang-go", Command::new(&go).arg(&address).arg(events));
    let in_python =
        |events: &Path| run("python3", Command::new("python3").arg("read_terms.py").arg(&address).arg(events));
    assert_eq!(in_go(&events), EXPECTED);
    assert_eq!(in_python(&events), EXPECTED);

    // More than what lies between two programs that wait for one another.
    let once = std::fs::read(&events).unwrap();
    let long = folder.path().join("long.bin");
    std::fs::write(&long, once.repeat(200_000)).unwrap();
    let lines = EXPECTED.lines().count() - 3 + 3 * 200_000;
    assert_eq!(in_go(&long).lines().count(), lines);
    assert_eq!(in_python(&long).lines().count(), lines);
}

/// What a program prints; it must end well.
fn run(package: &str, command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(EXAMPLES).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}\n  apt-get update && apt-get install --no-install-recommends {package}")
    });
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
