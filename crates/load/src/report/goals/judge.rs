//! A verdict for each goal, from runs of Magpie, its peers and the floor.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Bound, Case, FLOOR, Figure, GOALS, MAGPIE, Measure, Selection, Unit, Want, capacity, elsewhere, had_its_processors,
    is_of_many,
};
use crate::report::units;
use crate::result::Run;

/// The rate of the floor's run may differ so much from that of Magpie's.
const SAME_RATE: f64 = 0.05;
/// Of a run's operations so many may go wrong.
const ERRORS_MAX: f64 = 0.01;

/// The median of some runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub runs: usize,
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    Met,
    /// A run that it takes is not there.
    NotMeasured,
    /// It is not.
    Missed,
}

/// A case and what was found.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The row's `what`.
    pub what: &'static str,
    /// The case.
    pub case: Case,
    /// Magpie's figure.
    pub measured: Option<Spread>,
    /// The best of the others, and who it is.
    pub peer: Option<(String, Spread)>,
    /// The bare relay's.
    pub floor: Option<Spread>,
    /// Whether it is reached.
    pub verdict: Verdict,
    /// Why not, in a few words, and how the figure was come by where it was not simply counted.
    pub why: String,
}

/// Judges all goals, case by case, in the table's order.
pub fn judge(runs: &[Run]) -> Vec<Judged> {
    GOALS.iter().flat_map(|goal| goal.cases.iter().map(|case| judge_case(goal.what, case, runs))).collect()
}

impl Spread {
    /// Of these values; none of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max, runs: values.len() })
    }
}

fn judge_case(what: &'static str, case: &Case, runs: &[Run]) -> Judged {
    let own = of_server(runs, MAGPIE);
    let measured = measure(&case.measure, &own);
    let peers: BTreeSet<&str> =
        runs.iter().map(|run| run.server.as_str()).filter(|server| ![MAGPIE, FLOOR].contains(server)).collect();
    // Where more is better, as of everything that is counted, the best peer is the one with the most.
    let more = case.unit == Unit::Count
        || case.bounds.iter().any(|bound| matches!(bound, Bound::AtLeast(_) | Bound::MoreThanPeer(_)));
    let figures = peers.iter().filter_map(|peer| Some((*peer, measure(&case.measure, &valid(runs, peer))?)));
    let by_median = |a: &(&str, Spread), b: &(&str, Spread)| a.1.median.total_cmp(&b.1.median);
    let peer = if more { figures.max_by(by_median) } else { figures.min_by(by_median) };
    let peer = peer.map(|(name, spread)| (name.to_owned(), spread));
    let floor = floor(&case.measure, &own, &valid(runs, FLOOR));

    let mut verdict = Verdict::Met;
    let mut why = Vec::new();
    match measured {
        None => {
            let reason = elsewhere(what, case.name).unwrap_or("no run of Magpie");
            (verdict, why) = (Verdict::NotMeasured, vec![reason.to_owned()]);
        }
        Some(measured) => {
            for bound in case.bounds {
                let (so, reason) = check(*bound, measured.median, peer.as_ref(), floor, case, &own);
                verdict = verdict.max(so);
                why.extend(reason);
            }
        }
    }
    let wrong = selected(&case.measure, &own).find_map(too_many_errors);
    if let Some(errors) = wrong {
        verdict = Verdict::Missed;
        why.push(errors);
    }
    let is_computed = |run: &Run| had_its_processors(run) == Some(false);
    if matches!(case.measure, Measure::Capacity(..)) && selected(&case.measure, &own).any(is_computed) {
        why.push(
            "computed (extrapolated) from CPU time per message: the client took a part of the processors".to_owned(),
        );
    }
    let many = selected(&case.measure, &own).filter(|run| is_of_many(run)).map(|run| run.started).max();
    if let Some(started) = many.filter(|_| measured.is_some()) {
        let command = if measures_rooms(&case.measure) { "many-rooms" } else { "many" };
        why.push(format!("by `magpie-load {command}`, {}", units::day(started)));
    }
    Judged { what, case: *case, measured, peer, floor, verdict, why: why.join("; ") }
}

fn check(
    bound: Bound,
    measured: f64,
    peer: Option<&(String, Spread)>,
    floor: Option<Spread>,
    case: &Case,
    own: &[&Run],
) -> (Verdict, Option<String>) {
    let missing = |what: &str| (Verdict::NotMeasured, Some(format!("no run of {what}")));
    let held = |so: bool, why: String| if so { (Verdict::Met, None) } else { (Verdict::Missed, Some(why)) };
    match bound {
        Bound::Reported => (Verdict::Met, None),
        Bound::AtMost(limit) => held(measured <= limit, format!("{:.2} times the limit", measured / limit)),
        Bound::AtLeast(limit) => held(measured >= limit, format!("{:.2} of what it takes", measured / limit)),
        Bound::TimesFloor(times) => match floor {
            Some(floor) => {
                held(measured <= times * floor.median, format!("{:.2} times the floor", measured / floor.median))
            }
            None => missing("the relay"),
        },
        Bound::LessThanPeer(times) => match peer {
            Some((name, peer)) => {
                let ratio = peer.median / measured;
                held(measured * times <= peer.median, format!("{ratio:.2} times less than {name}"))
            }
            None => missing("a peer"),
        },
        Bound::MoreThanPeer(times) => match peer {
            Some((name, peer)) => {
                held(measured >= times * peer.median, format!("{:.2} times {name}", measured / peer.median))
            }
            None => missing("a peer"),
        },
        Bound::HalfOfMaximum => half_of_maximum(case, own),
    }
}

/// That the rate of the open loop is half of what the closed loop reached.
fn half_of_maximum(case: &Case, own: &[&Run]) -> (Verdict, Option<String>) {
    let Measure::Of((scenario, wants), _) = case.measure else { return (Verdict::Met, None) };
    let closed: Vec<(&str, Want)> = wants
        .iter()
        .map(|&(name, want)| if name == "loop" { (name, Want::Text("closed")) } else { (name, want) })
        .collect();
    let maximum = own.iter().filter(|run| run.scenario == scenario && fits(run, &closed)).map(|run| run.rate());
    let Some(maximum) = Spread::of(maximum.collect()) else {
        return (Verdict::NotMeasured, Some("no closed loop to take the maximum from".to_owned()));
    };
    let Some(rate) = Spread::of(selected(&case.measure, own).map(|run| run.rate()).collect()) else {
        return (Verdict::NotMeasured, None);
    };
    let share = rate.median / maximum.median;
    let why = format!("{:.0} % of the maximum, not half", share * 100.0);
    // More than half is harder, so it would not be held against it.
    if share >= 0.45 { (Verdict::Met, None) } else { (Verdict::NotMeasured, Some(why)) }
}

fn of_server<'a>(runs: &'a [Run], server: &str) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.server == server).collect()
}

/// The runs of a server in which not much went wrong.
fn valid<'a>(runs: &'a [Run], server: &str) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.server == server && too_many_errors(run).is_none()).collect()
}

fn selected<'a>(measure: &Measure, runs: &'a [&'a Run]) -> impl Iterator<Item = &'a Run> {
    let (first, second) = match *measure {
        Measure::Of(selection, _) => (selection, selection),
        Measure::Ratio(first, second, _) | Measure::Capacity(first, second) => (first, second),
    };
    let among = |run: &Run, (scenario, wants): Selection| run.scenario == scenario && fits(run, wants);
    runs.iter().copied().filter(move |run| among(run, first) || among(run, second))
}

fn measures_rooms(measure: &Measure) -> bool {
    matches!(measure, Measure::Of(("rooms-idle", _), _))
}

fn figures(runs: &[&Run], (scenario, wants): Selection, figure: Figure) -> Option<Spread> {
    let fitting = runs.iter().filter(|run| run.scenario == scenario && fits(run, wants));
    Spread::of(fitting.filter_map(|run| figure(run)).filter(|value| value.is_finite()).collect())
}

fn measure(measure: &Measure, runs: &[&Run]) -> Option<Spread> {
    let (above, below, figure) = match *measure {
        Measure::Of(selection, figure) => return figures(runs, selection, figure),
        Measure::Capacity(above, below) => (above, below, capacity as Figure),
        Measure::Ratio(above, below, figure) => (above, below, figure),
    };
    let (above, below) = (figures(runs, above, figure)?, figures(runs, below, figure)?);
    (below.min > 0.0).then(|| Spread {
        median: above.median / below.median,
        min: above.min / below.max,
        max: above.max / below.min,
        runs: above.runs.min(below.runs),
    })
}

/// The relay's figure: what it does not know (TLS, acks, contacts) is not asked of it, but the rate is Magpie's. Of its runs in
/// the same row, if there are any: another row had another moment of a machine that is not always as fast.
fn floor(measure: &Measure, own: &[&Run], relay: &[&Run]) -> Option<Spread> {
    let Measure::Of((scenario, wants), figure) = *measure else { return None };
    let wants: Vec<(&str, Want)> =
        wants.iter().copied().filter(|(name, _)| ["connections", "loop", "cores"].contains(name)).collect();
    let rates: Vec<f64> = selected(measure, own).filter_map(|run| number(run, "rate")).collect();
    let same_rate = |run: &Run| match number(run, "rate") {
        None => rates.is_empty(),
        Some(rate) => rates.iter().any(|own| (rate - own).abs() <= SAME_RATE * own),
    };
    let rows: BTreeSet<&str> = selected(measure, own).filter_map(Run::row).collect();
    let beside: Vec<&Run> =
        relay.iter().copied().filter(|run| run.row().is_some_and(|row| rows.contains(row))).collect();
    [&beside, relay].into_iter().find_map(|relay| {
        let fitting = relay.iter().filter(|run| run.scenario == scenario && fits(run, &wants) && same_rate(run));
        Spread::of(fitting.filter_map(|run| figure(run)).filter(|value| value.is_finite()).collect())
    })
}

fn number(run: &Run, name: &str) -> Option<f64> {
    run.parameters.get(name)?.as_f64()
}

fn fits(run: &Run, wants: &[(&str, Want)]) -> bool {
    wants.iter().all(|(name, want)| {
        let value = run.parameters.get(*name).filter(|value| !value.is_null()).cloned();
        let value = value.unwrap_or_else(|| when_absent(run, name));
        match want {
            Want::Number(wanted) => value.as_f64() == Some(*wanted),
            Want::AtLeast(wanted) => value.as_f64().is_some_and(|value| value >= *wanted),
            Want::Flag(wanted) => value.as_bool() == Some(*wanted),
            Want::Text(wanted) => value.as_str().is_some_and(|text| text.to_ascii_lowercase().starts_with(wanted)),
            Want::Other(wanted) => value.as_str().is_some_and(|text| text != *wanted),
        }
    })
}

fn when_absent(run: &Run, name: &str) -> Value {
    match name {
        "security" => "plain".into(),
        "loop" => if number(run, "rate").is_some() { "open" } else { "closed" }.into(),
        "acks" | "carbons" | "archive" | "sasl2" | "fast" => false.into(),
        "tls_resumed" => run.parameters.get("resumed").cloned().unwrap_or(Value::Bool(false)),
        "rounds" => 1.into(),
        "cores" => "all".into(),
        "measured_by" => "scenario".into(),
        "connections_wanted" => run.parameters.get("connections").cloned().unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

/// That more than 1 % of a run's operations went wrong, with the most frequent reason; such a run has no figures.
pub fn too_many_errors(run: &Run) -> Option<String> {
    let errors: u64 = run.errors.values().sum();
    let (what, _) = run.errors.iter().max_by_key(|(_, count)| **count)?;
    let whole = (run.operations + errors) as f64;
    (errors as f64 > ERRORS_MAX * whole).then(|| format!("{errors} errors, most of them: {what}"))
}
