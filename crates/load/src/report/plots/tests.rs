//! Plots are XML, say what they show, and leave out what nobody measured.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::super::tests::{comparison, idle, pairs, well_formed};
use super::*;

fn all(runs: &[Run]) -> Vec<(String, String)> {
    let page = super::super::html::Page { title: "", runs, goals: false, machine: Default::default() };
    page.plots().unwrap()
}

#[test]
fn every_plot_is_well_formed_and_named() {
    let plots = all(&comparison());
    assert_eq!(plots.len(), 8, "{:?}", plots.iter().map(|plot| &plot.0).collect::<Vec<_>>());
    for (name, svg) in &plots {
        assert!(well_formed(svg).unwrap() > 20, "{name}");
        assert!(svg.contains("<title>") && svg.starts_with("<svg "), "{name}");
    }
}

#[test]
fn bars_carry_their_values_and_the_floor_its_name() {
    let runs = [pairs("relay", 6.5, json!({})), pairs("Magpie", 9.8, json!({})), pairs("ejabberd", 67.0, json!({}))];
    let plots = all(&runs);
    let (_, svg) = plots.iter().find(|(name, _)| name.ends_with("cpu-each")).unwrap();
    for text in ["6.5 µs", "9.8 µs", "67 µs", "the bare relay: 6.5 µs", "Magpie", "ejabberd"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn rooms_are_drawn_by_deliveries_and_by_the_last_who_had_a_message() {
    let room = |server: &str, us: f64| Run {
        scenario: "rooms".into(),
        unit: "delivery".into(),
        ..pairs(server, us, json!({"occupants": 200, "archive": true}))
    };
    let plots = all(&[room("Magpie", 3.5), room("ejabberd", 29.0)]);
    let of = |kind: &str| {
        &plots.iter().find(|(name, _)| name == &format!("rooms-200-connections-archive-{kind}")).unwrap().1
    };
    assert!(of("cpu-each").contains("CPU of the server for each delivery") && of("latency").contains("ejabberd"));
    assert!(of("throughput").contains("deliveries a second"));
}

#[test]
fn memory_is_stacked_with_the_kernel_above() {
    let plots = all(&[idle("Magpie", 1_000, 4_096, json!({}))]);
    let (_, svg) = plots.iter().find(|(name, _)| name.ends_with("memory-each")).unwrap();
    assert!(svg.contains("4 KiB + 8.2 KiB"), "{svg}");
    assert!(!plots.iter().any(|(name, _)| name.ends_with("churn") || name.ends_with("cpu-each")));
}

#[test]
fn latencies_a_hundred_times_apart_are_drawn_logarithmically() {
    let near = all(&[pairs("Magpie", 9.0, json!({}))]);
    let apart = all(&[pairs("Magpie", 9.0, json!({})), pairs("Prosody", 900.0, json!({}))]);
    let p99 = |plots: &[(String, String)]| plots.iter().find(|(name, _)| name.ends_with("p99")).unwrap().1.clone();
    assert!(!p99(&near).contains("logarithmic"));
    assert!(p99(&apart).contains("logarithmic"));
}

#[test]
fn a_histogram_that_cannot_be_read_leaves_the_percentiles() {
    let mut run = pairs("Magpie", 9.0, json!({}));
    assert!(curve(&run).len() > 100);
    run.latency.as_mut().unwrap().histogram = "not base64".into();
    let points = curve(&run);
    assert_eq!(points.len(), 7);
    assert_eq!((points[0].0, points[2].0, points[6].0), (1.0, 10.0, 200_000.0));
}
