//! Appended entries that are deleted again within their commit group: they need never reach the disk.
//!
//! This is what makes a spool cheap: a message for a session that is online is kept until its client has acknowledged it,
//! which mostly happens before the disk was ready for it.

use std::collections::HashSet;

use crate::batch::{Batch, Operation};
use crate::ids::LogId;

/// Where in the group they are, as (batch, operation), in order.
///
/// The deletions stay: an entry of an earlier group may have the same id. A batch that may fail by a precondition
/// cancels only what it appended itself.
pub(crate) fn cancelled(batches: &[Batch]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut later = Deleted::default();
    for (index, batch) in batches.iter().enumerate().rev() {
        let mut own = Deleted::default();
        for (place, operation) in batch.operations().enumerate().rev() {
            if later.has(&operation) || own.has(&operation) {
                found.push((index, place));
            } else if batch.has_conditions() {
                own.add(&operation);
            } else {
                later.add(&operation);
            }
        }
    }
    found.reverse();
    found
}

/// What a later operation deletes.
#[derive(Default)]
struct Deleted<'a> {
    entries: HashSet<(&'static str, &'a str, LogId)>,
    logs: HashSet<(&'static str, &'a str)>,
    owners: HashSet<&'a str>,
}

impl<'a> Deleted<'a> {
    fn add(&mut self, operation: &Operation<'a>) {
        match *operation {
            Operation::LogDelete { name, owner, id } => drop(self.entries.insert((name, owner, id))),
            Operation::LogClear { name, owner } => drop(self.logs.insert((name, owner))),
            Operation::Erase { owner } => drop(self.owners.insert(owner)),
            _ => {}
        }
    }

    fn has(&self, operation: &Operation<'a>) -> bool {
        let Operation::LogAppend { name, owner, id, .. } = *operation else { return false };
        self.entries.contains(&(name, owner, id)) || self.logs.contains(&(name, owner)) || self.owners.contains(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "log";

    fn append(batch: &mut Batch, owner: &str, id: u64) {
        batch.append(LOG, owner, LogId(id), &Vec::<u8>::new());
    }

    fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
        let mut batch = Batch::new();
        fill(&mut batch);
        batch
    }

    #[test]
    fn a_later_deletion_cancels_and_an_earlier_one_does_not() {
        let group = [
            batch(|batch| batch.delete_from_log(LOG, "ann", LogId(1))),
            batch(|batch| {
                append(batch, "ann", 1);
                append(batch, "ann", 2);
                append(batch, "bob", 1);
            }),
            batch(|batch| batch.delete_from_log(LOG, "ann", LogId(1))),
            batch(|batch| batch.delete_from_log("other", "ann", LogId(2))),
            batch(|batch| append(batch, "ann", 1)),
        ];
        assert_eq!(cancelled(&group), [(1, 0)]);
    }

    #[test]
    fn clearing_and_erasing_cancel_all_they_reach() {
        let group = [
            batch(|batch| ["ann", "bob", "eve"].iter().for_each(|owner| append(batch, owner, 1))),
            batch(|batch| batch.clear_log(LOG, "ann")),
            batch(|batch| batch.erase("eve")),
        ];
        assert_eq!(cancelled(&group), [(0, 0), (0, 2)]);
    }

    #[test]
    fn a_batch_that_may_fail_cancels_only_its_own() {
        let group = [
            batch(|batch| append(batch, "ann", 1)),
            batch(|batch| {
                batch.expect_value("value", "ann", None::<&Vec<u8>>);
                append(batch, "ann", 2);
                batch.delete_from_log(LOG, "ann", LogId(1));
                batch.delete_from_log(LOG, "ann", LogId(2));
            }),
        ];
        assert_eq!(cancelled(&group), [(1, 1)]);
    }
}
