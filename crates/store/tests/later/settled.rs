//! Who waits until the store has settled what was committed so far reads all that is kept of it, whatever becomes of the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use magpie_store::{Batch, Faults, Map, Store, StoreError, Ticket, Value, Withdrawal};
use proptest::prelude::*;

use crate::{FOREVER, OWNER, Subject, block_on};

const A_WHILE: Duration = Duration::from_millis(30);

#[test]
fn with_nothing_queued_there_is_nothing_to_wait_for() {
    let subject = Subject::new(FOREVER);
    assert_eq!(subject.store.settled().outcome(), Some(Ok(())));
    let (_, withdrawal) = subject.later("1");
    assert!(subject.store.withdraw(withdrawal));
    assert_eq!(subject.store.settled().outcome(), Some(Ok(())));
    assert_eq!(Store::memory().settled().outcome(), Some(Ok(())));
}

#[test]
fn what_lingers_is_hurried_and_seen_by_the_read_that_follows() {
    let subject = Subject::new(FOREVER);
    let (first, _) = subject.later("1");
    let (second, _) = subject.later("2");
    subject.store.settled().wait().unwrap();
    assert_eq!([first.outcome(), second.outcome()], [Some(Ok(())), Some(Ok(()))]);
    assert_eq!(subject.texts(), ["1", "2"]);
    let (after, _) = subject.later("3");
    std::thread::sleep(A_WHILE);
    assert_eq!(after.outcome(), None, "what comes after is in no hurry");
}

#[test]
fn the_last_that_is_withdrawn_settles_nothing_of_what_came_before_it() {
    let subject = Subject::new(FOREVER);
    subject.faults.hold_commits();
    let held = subject.now("1");
    std::thread::sleep(A_WHILE);
    let (before, _) = subject.later("2");
    let (last, withdrawal) = subject.later("3");
    let settled = subject.store.settled();
    assert!(subject.store.withdraw(withdrawal));
    assert_eq!(last.outcome(), Some(Ok(())));
    std::thread::sleep(A_WHILE);
    assert_eq!((held.outcome(), before.outcome(), settled.outcome()), (None, None, None));
    subject.faults.release();
    settled.wait().unwrap();
    assert_eq!((held.outcome(), before.outcome()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(subject.texts(), ["1", "2"]);
}

#[test]
fn what_the_writer_has_in_its_hands_is_waited_for_though_the_queue_is_empty() {
    let subject = Subject::new(FOREVER);
    subject.faults.hold_commits();
    let held = subject.now("1");
    std::thread::sleep(A_WHILE);
    let settled = subject.store.settled();
    std::thread::sleep(A_WHILE);
    assert_eq!((held.outcome(), settled.outcome()), (None, None));
    subject.faults.release();
    settled.wait().unwrap();
    assert_eq!(subject.texts(), ["1"]);
}

#[test]
fn batches_that_fail_are_settled_and_waiting_for_them_takes_no_fault_and_writes_nothing() {
    let subject = Subject::new(FOREVER);
    subject.faults.fail_commits(1, StoreError::Full);
    let (failing, _) = subject.later("1");
    let (kept, _) = subject.later("2");
    subject.store.settled().wait().unwrap();
    assert_eq!((failing.outcome(), kept.outcome()), (Some(Err(StoreError::Full)), Some(Ok(()))));
    assert_eq!(subject.texts(), ["2"]);
    subject.faults.fail_commits(usize::MAX, StoreError::Full);
    drop(subject.now("3"));
    subject.store.settled().wait().unwrap();
    assert_eq!(subject.texts(), ["2"]);
    let statistics = subject.store.statistics();
    assert_eq!((statistics.batches, statistics.rows, statistics.errors), (1, 1, 2));
    assert_eq!((statistics.queued_batches, statistics.queued_bytes), (0, 0));
}

#[test]
fn who_waits_takes_no_waker_from_who_committed() {
    let subject = Subject::new(FOREVER);
    subject.faults.hold_commits();
    let (ticket, settled) = (subject.now("1"), subject.store.settled());
    let other = subject.store.settled();
    block_on(async {
        let all = async { (ticket.await, settled.await, other.await) };
        let release = async {
            tokio::task::yield_now().await;
            subject.faults.release();
        };
        assert_eq!(tokio::join!(all, release).0, (Ok(()), Ok(()), Ok(())));
    });
}

#[test]
fn a_store_that_closes_leaves_nobody_waiting() {
    let subject = Subject::new(FOREVER);
    subject.faults.hold_commits();
    let (ticket, settled) = (subject.later("1").0, subject.store.settled());
    subject.store.close();
    assert_eq!((ticket.outcome(), settled.outcome()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(subject.store.settled().outcome(), Some(Ok(())));
}

#[test]
fn what_is_read_together_is_what_is_read_alone_and_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::open(dir.path()).unwrap(), Store::memory(), Store::memory_with(Faults::new())] {
        let value: Value<String> = store.value("value");
        let (map, other): (Map<String>, Map<String>) = (store.map("map"), store.map("other"));
        let wanted = [value.wanted(), map.wanted()];
        let empty = block_on(store.read(OWNER, &wanted)).unwrap();
        assert_eq!((value.found(&empty), map.found(&empty)), (Ok(None), Ok(vec![])));
        assert!(matches!(other.found(&empty), Err(StoreError::Backend(_))), "it was not asked for");

        let over = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (store, value, map, over) = (store.clone(), store.value("value"), store.map("map"), Arc::clone(&over));
            move || {
                for number in 1u32.. {
                    let number = number.to_string();
                    let mut batch = Batch::new();
                    value.put(&mut batch, OWNER, &number);
                    map.put(&mut batch, OWNER, "one", &number);
                    map.put(&mut batch, OWNER, "two", &number);
                    map.put(&mut batch, "bob", "one", &"0".to_owned());
                    store.commit(batch).wait().unwrap();
                    if over.load(SeqCst) {
                        return number;
                    }
                }
                String::new()
            }
        });
        for _ in 0..200 {
            let rows = block_on(store.read(OWNER, &wanted)).unwrap();
            if let Some(number) = value.found(&rows).unwrap() {
                assert_eq!(map.found(&rows), Ok(vec![("one".to_owned(), number.clone()), ("two".to_owned(), number)]));
            }
        }
        over.store(true, SeqCst);
        let last = writer.join().unwrap();
        let rows = block_on(store.read(OWNER, &wanted)).unwrap();
        assert_eq!(value.found(&rows), Ok(Some(last)));
        store.close();
        assert_eq!(block_on(store.read(OWNER, &wanted)).err(), Some(StoreError::Closed));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Now,
    Later,
    Withdraw(prop::sample::Index),
    Pause,
    Fail,
    Settled,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Now),
        8 => Just(Step::Later),
        4 => any::<prop::sample::Index>().prop_map(Step::Withdraw),
        1 => Just(Step::Pause),
        1 => Just(Step::Fail),
        3 => Just(Step::Settled),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn once_settled_each_batch_has_its_outcome_and_what_is_kept_is_there(steps in prop::collection::vec(step(), 0..40)) {
        let subject = Subject::new(Duration::from_millis(2));
        let mut batches: Vec<(String, Ticket, Option<Withdrawal>)> = Vec::new();
        let mut withdrawn = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let text = number.to_string();
            match step {
                Step::Now => batches.push((text.clone(), subject.now(&text), None)),
                Step::Later => {
                    let (ticket, withdrawal) = subject.later(&text);
                    batches.push((text, ticket, Some(withdrawal)));
                }
                Step::Withdraw(_) if batches.is_empty() => {}
                Step::Withdraw(index) => {
                    let (text, _, withdrawal) = index.get_mut(&mut batches);
                    if withdrawal.take().is_some_and(|withdrawal| subject.store.withdraw(withdrawal)) {
                        withdrawn.push(text.clone());
                    }
                }
                Step::Pause => std::thread::sleep(Duration::from_millis(3)),
                Step::Fail => subject.faults.fail_commits(2, StoreError::Full),
                Step::Settled => {
                    subject.store.settled().wait().unwrap();
                    prop_assert!(batches.iter().all(|(_, ticket, _)| ticket.outcome().is_some()));
                    let kept = batches.iter().filter(|(text, ticket, _)| {
                        ticket.outcome() == Some(Ok(())) && !withdrawn.contains(text)
                    });
                    prop_assert_eq!(subject.texts(), kept.map(|(text, ..)| text.clone()).collect::<Vec<_>>());
                }
            }
        }
    }
}
