//! The goals of group chat.

use super::Bound::{AtLeast, AtMost, Reported};
use super::Want::{self, Flag, Number};
use super::{CPU, Case, Goal, Measure, ONE_SERVER, RATE, SEVERAL, Selection, Unit, cpu};
use crate::result::Run;
use crate::scenarios::room_fill::FILLED;
use crate::scenarios::rooms_idle::{BYTES, MADE};

/// Of a server that has no rooms: from its start to the first login, seconds.
pub const START_EMPTY: &str = "start_empty_seconds";

/// The same of one that has those of the run.
pub const START_WITH_ROOMS: &str = "start_seconds";

/// A room of so many, with its archive or without.
macro_rules! room {
    ($occupants:literal, $archive:literal) => {
        ("rooms", &[("occupants", Number($occupants)), ("archive", Flag($archive))])
    };
}

const fn with_archive(name: &'static str, with: Selection, without: Selection) -> Case {
    Case { name, measure: Measure::Ratio(with, without, CPU), unit: Unit::Times, bounds: &[AtMost(1.3)] }
}

pub(super) const SAID: Goal = Goal {
    what: "CPU per delivery in a room",
    cases: &[
        cpu("200 occupants", room!(200.0, false), &[AtMost(4.0)]),
        cpu("1 000 occupants", room!(1000.0, false), &[AtMost(4.0)]),
        cpu("5 000 occupants", room!(5000.0, false), &[AtMost(4.0)]),
    ],
};

pub(super) const ARCHIVED: Goal = Goal {
    what: "CPU per delivery with the room's archive, by that without",
    cases: &[
        with_archive("200 occupants", room!(200.0, true), room!(200.0, false)),
        with_archive("1 000 occupants", room!(1000.0, true), room!(1000.0, false)),
        with_archive("5 000 occupants", room!(5000.0, true), room!(5000.0, false)),
    ],
};

const FULL: Selection = ("room-fill", &[("occupants", Number(1000.0))]);

pub(super) const FILL: Goal = Goal {
    what: "A room of 1 000 filled from empty",
    cases: &[
        Case {
            name: "until each has seen each",
            measure: Measure::Of(FULL, |run| run.figures.get(FILLED).copied()),
            unit: Unit::Seconds,
            bounds: &[AtMost(2.0)],
        },
        cpu("CPU per presence", FULL, &[Reported]),
    ],
};

const SOME: Selection = ("rooms-idle", &[ONE_SERVER]);

pub(super) const AT_REST: Goal = Goal {
    what: "Persistent rooms that nobody is in",
    cases: &[
        Case { name: "memory of each", measure: Measure::Of(SOME, bytes), unit: Unit::Bytes, bounds: &[AtMost(100.0)] },
        Case { name: "made a second", measure: Measure::Of(SOME, RATE), unit: Unit::Count, bounds: &[Reported] },
        Case {
            name: "start with them, more than without",
            measure: Measure::Of(SOME, start_seconds_more),
            unit: Unit::Seconds,
            bounds: &[AtMost(1.0)],
        },
    ],
};

const MANY: Selection = ("rooms-idle", &[SEVERAL, ("rooms", Want::AtLeast(1_000_000.0))]);

pub(super) const MILLION: Goal = Goal {
    what: "A million persistent rooms",
    cases: &[
        Case {
            name: "rooms",
            measure: Measure::Of(MANY, |run| run.figures.get(MADE).copied()),
            unit: Unit::Count,
            bounds: &[AtLeast(1_000_000.0)],
        },
        Case { name: "memory of each", measure: Measure::Of(MANY, bytes), unit: Unit::Bytes, bounds: &[AtMost(100.0)] },
        Case {
            name: "start with them, more than without",
            measure: Measure::Of(MANY, start_seconds_more),
            unit: Unit::Seconds,
            bounds: &[AtMost(1.0)],
        },
        Case { name: "made a second", measure: Measure::Of(MANY, RATE), unit: Unit::Count, bounds: &[Reported] },
    ],
};

fn bytes(run: &Run) -> Option<f64> {
    run.figures.get(BYTES).copied()
}

/// What a start takes longer with rooms than without any; less than nothing where it happened to take less.
fn start_seconds_more(run: &Run) -> Option<f64> {
    Some(run.figures.get(START_WITH_ROOMS)? - run.figures.get(START_EMPTY)?)
}
