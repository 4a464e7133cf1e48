//! One coordinate for both kinds of axis, with ticks at round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// Values that lie further apart than this are shown on a logarithmic axis.
const FAR_APART: f64 = 20.0;

/// What stands at an axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured, with its unit where the numbers do not carry one.
    pub name: String,
    /// How a number is written.
    pub write: fn(f64) -> String,
    kind: Kind,
    /// By how much a unit is larger than the next smaller one.
    base: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AsValuesDemand,
    Linear,
    FromZero,
    Logarithmic,
}

/// An axis with its range.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) logarithmic: bool,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// Linear, or logarithmic where values lie far apart.
    pub fn new(name: &str, write: fn(f64) -> String) -> Self {
        Self { name: name.to_owned(), write, kind: Kind::AsValuesDemand, base: 1000.0 }
    }

    /// Logarithmic always.
    pub fn logarithmic(name: &str, write: fn(f64) -> String) -> Self {
        Self { kind: Kind::Logarithmic, ..Self::new(name, write) }
    }

    /// Linear always.
    #[must_use]
    pub fn linear(self) -> Self {
        Self { kind: Kind::Linear, ..self }
    }

    /// Linear, and 0 is always on it.
    #[must_use]
    pub fn from_zero(self) -> Self {
        Self { kind: Kind::FromZero, ..self }
    }

    /// Bytes: ticks are round in KiB, MiB or GiB.
    #[must_use]
    pub fn binary(self) -> Self {
        Self { base: 1024.0, ..self }
    }

    /// Which holds all these values, and some air above.
    pub(super) fn scale(&self, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let high = values.clone().fold(0.0, f64::max);
        let low = values.clone().fold(f64::INFINITY, f64::min).min(high);
        let positive = values.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min).min(high);
        let demanded = positive > 0.0 && low > 0.0 && high / positive > FAR_APART;
        // Round in the unit in which the greatest is written.
        let one = if high >= 1.0 { self.base.powf((high.ln() / self.base.ln()).floor()) } else { 1.0 };
        match self.kind {
            Kind::Logarithmic if high > 0.0 => Scale::logarithmic(positive, high),
            Kind::AsValuesDemand if demanded => Scale::logarithmic(positive / 1.3, high * 1.3),
            Kind::Linear => Scale::linear(low.min(0.0), high, one),
            _ => Scale::linear(0.0, high * 1.12, one),
        }
    }
}

impl Scale {
    fn linear(low: f64, high: f64, one: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let rough = (high - low) / one / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough) * one;
        let (first, last) = ((low / step).ceil() as i64, (high / step * 1.000_001).floor() as i64);
        Self { logarithmic: false, low, high, ticks: (first..=last).map(|tick| tick as f64 * step).collect() }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low * 10.0 };
        let decades = (high / low).log10();
        let between: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let ticks = powers.flat_map(|power| between.iter().map(move |one| one * 10_f64.powi(power)));
        let ticks = ticks.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect();
        Self { logarithmic: true, low, high, ticks }
    }

    /// Where a value lies: 0 at the low end, 1 at the high.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (self.place(*value) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis() -> Axis {
        Axis::new("values", |value| value.to_string())
    }

    #[test]
    fn peers_far_away_ask_for_a_logarithmic_axis_and_neighbours_do_not() {
        assert!(axis().scale([6.5, 140.0].into_iter()).logarithmic);
        assert!(!axis().scale([6.5, 87.0].into_iter()).logarithmic);
        // Nothing has no place on a logarithmic axis.
        assert!(!axis().scale([0.0, 6.5, 500.0].into_iter()).logarithmic);
        assert!(!axis().linear().scale([1.0, 500.0].into_iter()).logarithmic);
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::linear(0.0, 87.0, 1.0).ticks, [0.0, 20.0, 40.0, 60.0, 80.0]);
        let bytes = axis().binary().linear().scale([0.0, 3.0 * 1024.0].into_iter());
        assert_eq!(bytes.ticks, [0.0, 512.0, 1024.0, 1536.0, 2048.0, 2560.0, 3072.0]);
        assert_eq!(Scale::logarithmic(3.0, 150.0).ticks, [5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(Scale::logarithmic(1.0, 100_000.0).ticks.len(), 6);
        assert_eq!(Scale::linear(0.0, 0.0, 1.0).ticks.first(), Some(&0.0));
    }

    #[test]
    fn a_decade_is_as_long_as_the_next() {
        let scale = Scale::logarithmic(1.0, 100.0);
        assert_eq!([scale.map(&1.0, (0, 200)), scale.map(&10.0, (0, 200)), scale.map(&100.0, (0, 200))], [0, 100, 200]);
    }
}
