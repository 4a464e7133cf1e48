//! The scenario file: phases one after another, each a mix of scenarios at the same time.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::cli::{Options, lead};
use crate::crew::{Crew, Order, Together, WAITED_IN_VAIN};
use crate::result::Run;
use crate::scenarios::Work;

/// A whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The server, the accounts and all else that has an option on the command line, by the option's name.
    #[serde(default)]
    pub target: Options,
    /// What is done, one after another.
    pub phase: Vec<Phase>,
}

/// What is done at the same time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Stands in the results.
    pub name: String,
    /// Sessions of the whole mix, in place of the target's.
    pub connections: Option<u32>,
    /// Seconds that do not count, in place of the target's.
    pub warmup: Option<f64>,
    /// Seconds that count, in place of the target's.
    pub seconds: Option<f64>,
    /// The scenarios.
    pub mix: Vec<Part>,
}

/// One scenario of a mix.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its share of the sessions; the shares need not add up to 1.
    #[serde(default = "one")]
    pub share: f64,
    /// The scenario with its options: `{ pairs = { rate = 500.0 } }`.
    pub scenario: Work,
}

fn one() -> f64 {
    1.0
}

/// Runs all phases of a file.
pub fn run(path: &Path) -> Result<Vec<Run>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let file = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut runs = Vec::new();
    for phase in &file.phase {
        runs.extend(run_phase(orders(&file.target, phase)?)?);
    }
    Ok(runs)
}

/// A file's text. The error says where, and what was perhaps meant.
pub fn parse(text: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| match meant(error.message()) {
        Some(meant) => format!("{error}did you mean `{meant}`?"),
        None => error.to_string(),
    })?;
    for phase in &file.phase {
        if phase.mix.is_empty() || phase.mix.iter().any(|part| part.share <= 0.0 || !part.share.is_finite()) {
            return Err(format!("phase `{}`: each mix needs scenarios, and each scenario a share above 0", phase.name));
        }
    }
    Ok(file)
}

/// Of what an error says is expected, what is most like what was found.
fn meant(message: &str) -> Option<&str> {
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next()?;
    names
        .map(|name| (strsim::jaro_winkler(found, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

/// One order per scenario of a phase, each with accounts of its own.
fn orders(target: &Options, phase: &Phase) -> Result<Vec<Order>, String> {
    let all: f64 = phase.mix.iter().map(|part| part.share).sum();
    let connections = f64::from(phase.connections.unwrap_or(target.connections));
    let mut first = target.first_account;
    let mut orders = Vec::new();
    for part in &phase.mix {
        let options = Options {
            connections: ((connections * part.share / all).round() as u32).max(1),
            warmup: phase.warmup.unwrap_or(target.warmup),
            seconds: phase.seconds.unwrap_or(target.seconds),
            first_account: first,
            ..target.clone()
        };
        let mut order = options.order(part.scenario.clone())?;
        order.parameters.insert("phase".into(), phase.name.clone().into());
        first += order.plan.sessions;
        orders.push(order);
    }
    Ok(orders)
}

fn run_phase(orders: Vec<Order>) -> Result<Vec<Run>, String> {
    let together = Arc::new(Together::new(orders.len()));
    let one = |order: Order| {
        let work = order.plan.work.clone();
        let mut crew = Crew::start(order).map_err(|error| error.to_string())?;
        crew.together = Some(Arc::clone(&together));
        lead(&work, &mut crew)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            orders.into_iter().map(|order| scope.spawn(|| one(order).inspect_err(|_| together.give_up()))).collect();
        let runs: Vec<Result<Run, String>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        // Who failed says more than who waited for it.
        let failed = runs.iter().filter_map(|run| run.as_ref().err()).find(|error| !error.contains(WAITED_IN_VAIN));
        match failed {
            Some(error) => Err(error.clone()),
            None => runs.into_iter().collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_example_is_understood_and_splits_its_sessions() {
        let file = parse(include_str!("../examples/evening.toml")).unwrap();
        let orders = orders(&file.target, &file.phase[1]).unwrap();
        let sessions: Vec<_> = orders.iter().map(|order| (order.plan.accounts.first, order.plan.sessions)).collect();
        assert_eq!(sessions, [(1, 800), (801, 200)]);
        assert_eq!(orders[1].parameters["phase"], "evening");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_what_was_meant() {
        let error = parse("[target]\ndomian = 'a'\n[[phase]]\nname = 'x'\nmix = []\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("did you mean `domain`?"), "{error}");
        let error = parse("[[phase]]\nname = 'x'\nmix = [{ scenario = { pairs = { byte = 3 } } }]\n").unwrap_err();
        assert!(error.contains("did you mean `bytes`?"), "{error}");
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        assert!(parse("[[phase]]\nname = 'x'\nmix = [{ share = 0.0, scenario = { idle = {} } }]").is_err());
    }
}
