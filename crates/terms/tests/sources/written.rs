//! Terms as a live `erl` writes them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names, and what they are in Erlang.
const TERMS: &[(&str, &str)] = &[
    ("romeo", r#"#{age => 16, name => <<"Romeo Montague">>}"#),
    ("juliet", r#"{user, <<"朱丽叶"/utf8>>, [balcony, 13.5]}"#),
    ("key", "{user, #{b => 2.5, a => ok}}"),
    ("long", "binary:copy(<<0>>, 200000)"),
];

/// The term `key`, otherwise written.
pub(crate) const KEY: &str = "{ user, #{a=>ok, b => 2.5} }";
pub(crate) const ROMEO: &str = r#"#{age => 16,name => <<"Romeo Montague">>}"#;
pub(crate) const JULIET: &str = "{user,<<230,156,177,228,184,189,229,143,182>>,[balcony,13.5]}";

/// What `term_to_binary` makes of the term with this name.
pub(crate) fn term(name: &str) -> &'static [u8] {
    static WRITTEN: OnceLock<BTreeMap<&str, Vec<u8>>> = OnceLock::new();
    &WRITTEN.get_or_init(write)[name]
}

fn write() -> BTreeMap<&'static str, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let lines = TERMS.iter().map(|(name, term)| {
        let path = folder.path().join(name);
        format!("ok = file:write_file({:?}, term_to_binary({term}))", path.to_str().unwrap())
    });
    let run = format!("{}, halt(0).", lines.collect::<Vec<_>>().join(", "));
    let status = Command::new("erl").args(["-noinput", "+S", "1:1", "-eval", &run]).stdin(Stdio::null()).status();
    let status = status.expect("missing: erl\n  apt-get update && apt-get install --no-install-recommends erlang-base");
    assert!(status.success(), "erl: {status}");
    TERMS.iter().map(|(name, _)| (*name, std::fs::read(folder.path().join(name)).unwrap())).collect()
}
