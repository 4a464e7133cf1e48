//! Tables, letter by letter.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::super::goals::judge;
use super::super::tests::{idle, pairs};
use super::*;

fn spaced(text: &str) -> String {
    text.replace('\u{202f}', " ")
}

fn some_runs() -> Vec<Run> {
    let mut failing = pairs("ejabberd", 67.0, json!({}));
    failing.errors.insert("login refused".into(), 3);
    vec![
        pairs("relay", 6.5, json!({"seed": 1})),
        pairs("Magpie", 9.0, json!({"seed": 1})),
        idle("Magpie", 19_000, 4_096, json!({"security": "tls"})),
        failing,
        pairs("relay", 7.5, json!({"seed": 2})),
        pairs("Magpie", 10.0, json!({"seed": 2})),
    ]
}

#[test]
fn the_text_table_stands_side_by_side_with_medians_and_ratios() {
    let text = spaced(&runs(&some_runs()).text());
    let head: Vec<&str> =
        text.lines().next().unwrap().split("  ").map(str::trim).filter(|name| !name.is_empty()).collect();
    let names = [
        "scenario",
        "server",
        "runs",
        "per second",
        "p50",
        "p99",
        "CPU each",
        "by relay",
        "client CPU",
        "memory/session",
        "kernel/session",
        "errors",
    ];
    assert_eq!(head, names);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[2].starts_with("pairs, 200 connections") && lines[2].contains("7 µs (6.5–7.5)"), "{text}");
    assert!(lines[3].contains("Magpie") && lines[3].contains("9.5 µs (9–10)") && lines[3].contains("1.36 ×"), "{text}");
    assert!(lines[4].contains("ejabberd") && lines[4].contains("9.57 ×") && lines[4].ends_with('3'), "{text}");
    assert!(lines[5].contains("idle, 19 000 connections, TLS, 20 contacts") && lines[5].contains("4 KiB"), "{text}");
}

#[test]
fn the_relay_stands_beside_the_row_in_which_it_ran() {
    let tls = json!({"row": "pairs-200-tls", "security": "tls"});
    let runs = [
        pairs("relay", 6.0, json!({"row": "pairs-200"})),
        pairs("Magpie", 9.0, json!({"row": "pairs-200"})),
        pairs("relay", 8.0, json!({"row": "pairs-200-tls"})),
        pairs("Magpie", 16.0, tls.clone()),
        pairs("ejabberd", 80.0, tls),
    ];
    let text = spaced(&super::runs(&runs).text());
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert!(lines[1].contains("Magpie") && lines[1].contains("1.50 ×"), "{text}");
    assert!(lines[2].starts_with("pairs, 200 connections, TLS  relay") && lines[2].contains("8 µs"), "{text}");
    assert!(lines[3].contains("Magpie") && lines[3].contains("2.00 ×"), "{text}");
    assert!(lines[4].contains("ejabberd") && lines[4].contains("10.00 ×"), "{text}");
}

#[test]
fn rooms_stand_apart_by_their_occupants_and_their_archive() {
    let room = |occupants: u32, archive: bool| {
        let extra = json!({"connections": occupants, "occupants": occupants, "archive": archive, "called": "load7-"});
        Run { scenario: "rooms".into(), unit: "delivery".into(), ..pairs("Magpie", 3.5, extra) }
    };
    let runs = [room(200, false), room(200, true), room(5_000, false)];
    let text = spaced(&super::runs(&runs).text());
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert!(lines[0].starts_with("rooms, 200 connections  ") && lines[0].contains("3.5 µs"), "{text}");
    assert!(lines[1].starts_with("rooms, 200 connections, archive"), "{text}");
    assert!(lines[2].starts_with("rooms, 5 000 connections"), "{text}");
    let goals = spaced(&goals(&judge(&runs)).text());
    let line = |start: &str| goals.lines().find(|line| line.contains(start)).unwrap().to_owned();
    assert!(
        line("CPU per delivery in a room").contains("≤ 4 µs") && line("A million persistent").contains("many-rooms")
    );
}

#[test]
fn a_column_is_as_wide_as_its_widest_cell_and_numbers_stand_right() {
    let mut table = Table::new(&["name", ">number", "nothing"]);
    table.row(vec!["a".into(), "12".into()]);
    table.row(vec!["long|er".into(), "1 234 567".into()]);
    let text = "\
name        number
──────────────────
a               12
long|er  1 234 567
";
    assert_eq!(table.text(), text);
    let markdown = "\
| name    |    number |
|---------|----------:|
| a       |        12 |
| long\\|er | 1 234 567 |
";
    assert_eq!(table.markdown(), markdown);
}

#[test]
fn the_goals_table_has_a_line_for_each_case_and_says_no_in_capitals() {
    let text = spaced(&goals(&judge(&some_runs())).text());
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let cpu = line("CPU per 1:1 message");
    assert!(
        cpu.contains("≤ 1.6 × floor, ≤ best peer / 6") && cpu.contains("67 µs ejabberd") && cpu.contains(" yes"),
        "{cpu}"
    );
    assert!(line("A million idle sessions").contains("not measured"), "{text}");
    assert!(text.contains("4 KiB"), "{text}");
}

#[test]
fn what_matters_is_in_the_label_and_what_does_not_is_not() {
    let run = pairs(
        "x",
        1.0,
        json!({"security": "starttls", "acks": true, "rate": 10_000.0, "seed": 7, "mechanism": "plain", "cores": 2}),
    );
    assert_eq!(label(&run), "pairs, 200 connections, STARTTLS, open loop at 10\u{202f}000/s, acks, 2 cores");
}
