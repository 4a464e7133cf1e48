//! The page and the command, on runs made up.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::result::{Cpu, Latency, Memory, Sample};

/// Parameters from JSON.
pub(super) fn parameters(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

/// A run of pairs in which a message costs the server `us` microseconds.
pub(super) fn pairs(server: &str, us: f64, extra: Value) -> Run {
    let mut all = parameters(json!({"connections": 200, "security": "plain", "acks": false, "carbons": false}));
    all.extend(parameters(extra));
    Run {
        scenario: "pairs".into(),
        server: server.into(),
        parameters: all,
        started: 1_795_541_460,
        seconds: 10.0,
        unit: "message".into(),
        operations: 200_000,
        latency: Some(latency(us * 40.0)),
        server_cpu: Some(Cpu { user: us * 0.15, system: us * 0.05 }),
        client_cpu: Cpu { user: 0.8, system: 0.4 },
        series: (1..=12_u32)
            .map(|second| Sample {
                second: f64::from(second),
                operations: 20_000 + u64::from(second % 3) * 700,
                server_cpu: us * 0.02,
                server_memory: 30_000_000 + u64::from(second) * 1000,
                sessions: 200,
                p99_us: Some(us * 90.0 + f64::from(second % 4) * us),
            })
            .collect(),
        ..Run::default()
    }
}

/// A run of idle sessions of `bytes` each.
pub(super) fn idle(server: &str, sessions: u64, bytes: u64, extra: Value) -> Run {
    let mut all = parameters(json!({"connections": sessions, "security": "plain", "contacts": 20}));
    all.extend(parameters(extra));
    let with = 20_000_000 + sessions * bytes;
    let (kernel_before, kernel_with) = (50_000_000, 50_000_000 + sessions * 8_400);
    Run {
        scenario: "idle".into(),
        server: server.into(),
        parameters: all,
        seconds: 5.0,
        unit: "session".into(),
        memory: Some(Memory { sessions, before: 20_000_000, with, after: None, kernel_before, kernel_with }),
        figures: BTreeMap::from([("login_seconds".to_owned(), sessions as f64 / 5_000.0)]),
        ..Run::default()
    }
}

fn latency(middle: f64) -> Latency {
    use base64::Engine;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

    let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    for n in 1..=200_000_u64 {
        // A tail as servers have it: rare ones are much slower.
        let rarity = 200_000.0 / n as f64;
        histogram.record((middle * rarity.powf(0.35)) as u64).unwrap();
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
    let at = |percentile| (percentile, histogram.value_at_percentile(percentile) as f64);
    Latency {
        count: histogram.len(),
        mean_us: histogram.mean(),
        percentiles_us: [0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0].map(at).to_vec(),
        histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
    }
}

/// What a comparison may give.
pub(super) fn comparison() -> Vec<Run> {
    let mut runs = Vec::new();
    for (server, us) in [("relay", 6.5), ("Magpie", 9.8), ("ejabberd", 67.0), ("Prosody", 76.0), ("jabberd2", 87.0)] {
        runs.push(pairs(server, us, json!({})));
        runs.push(pairs(server, us * 1.08, json!({})));
    }
    for (server, bytes) in [("Magpie", 3_900), ("ejabberd", 52_600), ("Prosody", 35_900), ("jabberd2", 33_400)] {
        let mut run = idle(server, 19_000, bytes, json!({"rounds": 10}));
        for round in 1..=10 {
            run.figures
                .insert(format!("round_{round:02}_bytes_per_session"), bytes as f64 * (1.0 + f64::from(round) * 0.004));
        }
        runs.push(run);
    }
    runs[3].errors.insert("stream ended: <policy-violation/>".into(), 12);
    runs
}

/// Whether a real parser takes it.
pub(super) fn well_formed(xml: &str) -> Result<usize, String> {
    use rxml::Parse;

    let mut parser = rxml::Parser::default();
    let mut bytes = xml.as_bytes();
    let mut events = 0;
    loop {
        match parser.parse(&mut bytes, true) {
            Ok(Some(_)) => events += 1,
            Ok(None) => return Ok(events),
            Err(error) => {
                return Err(format!(
                    "{error:?} at …{}…",
                    &xml[xml.len() - bytes.len()..].chars().take(80).collect::<String>()
                ));
            }
        }
    }
}

fn page(runs: &[Run]) -> String {
    let machine = html::Machine { processor: "A & B".into(), cores: 2, memory: 24 << 30, kernel: "Linux 6.18".into() };
    html::Page { title: "Servers <here>", runs, goals: true, machine }.render().unwrap()
}

#[test]
fn the_parser_of_these_tests_refuses_what_is_not_well_formed() {
    assert!(well_formed("<a><b/>x</a>").unwrap() >= 4);
    assert!(well_formed("<a><b></a>").is_err());
    assert!(well_formed("<a>&nbsp;</a>").is_err());
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    let page = page(&comparison());
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    assert!(well_formed(body).unwrap() > 1_000);
    assert!(page.contains("Servers &lt;here&gt;") && page.contains("A &amp; B"));
    for foreign in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_page_has_every_figure_of_the_tables_and_every_parameter() {
    let runs = comparison();
    let page = page(&runs);
    for table in [table::runs(&runs), table::goals(&goals::judge(&runs))] {
        for cell in table.rows().iter().flatten() {
            assert!(page.contains(&html::escaped(cell)), "{cell}");
        }
    }
    for run in &runs {
        for (name, value) in &run.parameters {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert!(page.contains(&format!("{name} {value}")), "{name}");
        }
        for name in run.figures.keys() {
            assert!(page.contains(name.as_str()), "{name}");
        }
    }
    assert!(page.contains("12 × stream ended: &lt;policy-violation/&gt;"));
    assert!(!page.contains("No errors."));
    let clean: Vec<Run> = runs.into_iter().filter(|run| run.errors.is_empty()).collect();
    assert!(self::page(&clean).contains("No errors."));
}

#[test]
fn a_result_is_one_run_or_a_list_and_what_is_wrong_is_said() {
    // Numbers that JSON's decimal digits hold exactly.
    let run = pairs("Magpie", 10.0, json!({}));
    let one = serde_json::to_string(&run).unwrap();
    assert_eq!(parse(&one).unwrap(), std::slice::from_ref(&run));
    assert_eq!(parse(&format!(" [{one},{one}]")).unwrap(), [run.clone(), run]);
    assert!(parse("[{\"scenarios\": 1}]").unwrap_err().to_string().contains("scenarios"));
    let error = read(Path::new("/nonexistent/run.json")).unwrap_err();
    assert!(error.starts_with("/nonexistent/run.json: "), "{error}");
}

#[test]
fn the_command_writes_the_page_and_each_plot() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("runs.json"), folder.path().join("page.html"));
    std::fs::write(&json, serde_json::to_string(&comparison()).unwrap()).unwrap();
    let plots = folder.path().join("plots");
    let args = Args {
        files: vec![json],
        html: Some(html.clone()),
        plots: Some(plots.clone()),
        title: "T".into(),
        goals: true,
        markdown: true,
    };
    run(&args).unwrap();
    assert!(std::fs::read_to_string(html).unwrap().ends_with("</body></html>\n"));
    let mut names: Vec<String> =
        std::fs::read_dir(plots).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.contains(&"pairs-200-connections-cpu-each.svg".to_owned()), "{names:?}");
    assert!(names.contains(&"idle-19000-connections-20-contacts-churn.svg".to_owned()), "{names:?}");
    if let Some(kept) = std::env::var_os("MAGPIE_LOAD_EXAMPLE_PAGE") {
        std::fs::create_dir_all(&kept).unwrap();
        run(&Args { html: Some(Path::new(&kept).join("page.html")), plots: Some(kept.into()), ..args }).unwrap();
    }
}
