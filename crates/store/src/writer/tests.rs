//! The queue and its thread, with backends that do as a test wants.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::batch::Operation;

const BOUNDS: Bounds = Bounds { bytes_max: 1 << 20, linger: Duration::from_millis(40), at_rest: None };

fn start(commit: impl Commit + 'static) -> (Writer, Faults) {
    let faults = Faults::new();
    (Writer::start(Box::new(commit), BOUNDS, faults.clone(), Arc::default()).unwrap(), faults)
}

fn numbered(number: u64, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.append("log", "", LogId(number), &vec![0u8; bytes]);
    batch
}

struct Panics;

impl Commit for Panics {
    fn commit(&mut self, _: &[Batch]) -> Outcome {
        panic!("as a test wants it");
    }
}

#[test]
fn a_writer_that_dies_leaves_no_ticket_unanswered() {
    let (writer, faults) = start(Panics);
    faults.hold_commits();
    let tickets: Vec<_> = (0..5).map(|number| writer.commit(numbered(number, 1))).collect();
    faults.release();
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait(), Err(StoreError::Closed)));
    assert_eq!(writer.commit(numbered(9, 1)).wait(), Err(StoreError::Closed));
    writer.close();
    assert_eq!((writer.statistics().queued_batches, writer.statistics().queued_bytes), (0, 0));
}

/// Keeps the numbers in each group, and fails those that are a multiple of 3.
struct Keeps(Arc<Mutex<Vec<Vec<u64>>>>);

impl Commit for Keeps {
    fn commit(&mut self, batches: &[Batch]) -> Outcome {
        let number = |batch: &Batch| match batch.operations().next() {
            Some(Operation::LogAppend { id, .. }) => id.0,
            other => panic!("{other:?}"),
        };
        let numbers: Vec<_> = batches.iter().map(number).collect();
        let outcome = |number: &u64| if number.is_multiple_of(3) { Err(StoreError::Conflict) } else { Ok(()) };
        let outcome = Outcome::Each(numbers.iter().map(outcome).collect());
        self.0.lock().push(numbers);
        outcome
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn groups_keep_the_order_lose_nothing_and_answer_each(sizes in proptest::collection::vec(0..2000usize, 0..60), held in any::<bool>()) {
        let groups = Arc::default();
        let (writer, faults) = start(Keeps(Arc::clone(&groups)));
        if held {
            faults.hold_commits();
        }
        let commit = |(number, bytes): (usize, &usize)| (number, writer.commit(numbered(number as u64, *bytes)));
        let tickets: Vec<_> = sizes.iter().enumerate().map(commit).collect();
        faults.release();
        for (number, ticket) in tickets {
            prop_assert_eq!(ticket.wait(), if number % 3 == 0 { Err(StoreError::Conflict) } else { Ok(()) });
        }
        writer.close();
        let groups = groups.lock();
        prop_assert!(!held || groups.len() <= 2, "{groups:?}");
        prop_assert_eq!(groups.concat(), (0..sizes.len() as u64).collect::<Vec<_>>());
    }
}

/// Says each commit and each rest.
struct Says(std::sync::mpsc::Sender<&'static str>);

impl Commit for Says {
    fn commit(&mut self, _: &[Batch]) -> Outcome {
        self.0.send("commit").unwrap();
        Outcome::Committed
    }

    fn rest(&mut self) -> Rest {
        self.0.send("rest").unwrap();
        Rest::Done
    }
}

#[test]
fn a_writer_rests_once_after_its_last_group() {
    let (says, said) = std::sync::mpsc::channel();
    let (writer, _) = start(Says(says));
    let said = || said.recv_timeout(REST * 3).ok();
    assert_eq!(said(), Some("rest"));
    for _ in 0..2 {
        assert_eq!(writer.commit(numbered(1, 1)).wait(), Ok(()));
        assert_eq!((said(), said()), (Some("commit"), Some("rest")));
    }
    assert_eq!(said(), None);
}

#[test]
fn a_group_that_would_be_too_large_leaves_the_rest_to_the_next() {
    let groups = Arc::default();
    let faults = Faults::new();
    let keeps = Box::new(Keeps(Arc::clone(&groups)));
    let writer =
        Writer::start(keeps, Bounds { bytes_max: usize::MAX, ..BOUNDS }, faults.clone(), Arc::default()).unwrap();
    faults.hold_commits();
    for number in 0..5 {
        drop(writer.commit(numbered(number, GROUP_BYTES_MAX / 2)));
    }
    faults.release();
    writer.close();
    assert!(groups.lock().iter().all(|group| group.len() == 1), "{:?}", groups.lock());
}
