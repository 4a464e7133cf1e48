//! RFC 6120 §4.9.3 and §6.5: `docs/stream-errors.md` says of each condition when it is sent, and names tests that are there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use magpie_proto::StreamCondition;
use magpie_proto::sasl::SaslFailure;

struct Row {
    condition: String,
    sent: String,
    tests: Vec<String>,
}

#[test]
fn every_condition_has_a_row_with_a_test_that_is_there_or_a_reason() {
    let page = fs::read_to_string(root().join("docs/stream-errors.md")).unwrap();
    let (streams, sasl) = page.split_once("## SASL").unwrap();
    let (streams, sasl) = (rows(streams), rows(sasl));
    assert_eq!(names(&streams), StreamCondition::NAMES);
    assert_eq!(names(&sasl), SaslFailure::ALL.map(SaslFailure::name));

    let sources = sources(&root().join("crates"));
    for row in streams.iter().chain(&sasl) {
        // What cannot be brought about from outside has a reason instead.
        if row.tests.is_empty() {
            let reason = row.sent.starts_with("never: ") || row.sent.contains("which no known input does");
            assert!(reason, "{} has neither a test nor a reason", row.condition);
        }
        for test in &row.tests {
            if test.ends_with(".txt") {
                let file = root().join("crates/server/tests/conversations").join(test);
                let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {error}"));
                assert!(text.contains(&row.condition), "{test} does not speak of {}", row.condition);
            } else {
                assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows(part: &str) -> Vec<Row> {
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, condition, sent, tests, _] = cells[..] else { panic!("{line}") };
        Row { condition: quoted(condition).remove(0), sent: sent.to_owned(), tests: quoted(tests) }
    })
    .collect()
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.condition.as_str()).collect()
}

/// All Rust of the workspace, in one.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    all
}
