//! Several things of one owner in one visit to a reader.
//!
//! A visit wakes a thread and is waited for, which costs more than what is read there. Who needs several shapes of an owner at
//! once says which, and takes each from what came back. All of them are of one moment.

use std::fmt;

use crate::error::StoreError;

/// One thing to be read with others: see [`Store::read`](crate::Store::read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(pub(crate) Want);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// A value.
    Value(&'static str),
    /// All entries of a map.
    Map(&'static str),
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Value(Option<Vec<u8>>),
    Map(Vec<(String, Vec<u8>)>),
}

/// What was read together of one owner.
pub struct Rows {
    wanted: Vec<Wanted>,
    found: Vec<Found>,
}

impl Rows {
    pub(crate) fn new(wanted: Vec<Wanted>, found: Vec<Found>) -> Self {
        Self { wanted, found }
    }

    /// Fails where it was not asked for, which is a mistake in the program that shows at the first try.
    pub(crate) fn get(&self, want: Want) -> Result<&Found, StoreError> {
        let place = self.wanted.iter().position(|wanted| wanted.0 == want);
        place
            .and_then(|place| self.found.get(place))
            .ok_or_else(|| StoreError::Backend(format!("{want:?} was not read")))
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
