//! What is withdrawn before the writer has begun with it is never written; everything else is, in its order.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use magpie_store::{Batch, Log, Options, Store, StoreError};
use proptest::prelude::*;

use crate::{FOREVER, OWNER, Subject, block_on, texts};

#[test]
fn what_is_withdrawn_in_time_is_never_written_and_counts_as_done() {
    let subject = Subject::new(FOREVER);
    let [(first, one), (second, _), (third, three)] = ["1", "2", "3"].map(|text| subject.later(text));
    assert!(subject.store.withdraw(one) && subject.store.withdraw(three));
    assert_eq!([first.outcome(), second.outcome(), third.outcome()], [Some(Ok(())), None, Some(Ok(()))]);
    assert_eq!(subject.store.statistics().queued_batches, 1);
    subject.now("4").wait().unwrap();
    assert_eq!(second.outcome(), Some(Ok(())));
    let statistics = subject.store.statistics();
    assert_eq!((statistics.withdrawn, statistics.batches, statistics.rows, statistics.groups), (2, 2, 2, 1));
    assert_eq!((statistics.queued_batches, statistics.queued_bytes), (0, 0));
    assert_eq!(subject.reopen(), ["2", "4"]);
}

#[test]
fn where_everything_is_withdrawn_the_disk_is_left_alone() {
    let subject = Subject::new(Duration::from_millis(5));
    for _ in 0..100 {
        let (ticket, withdrawal) = subject.later("x");
        assert!(subject.store.withdraw(withdrawal));
        assert_eq!(ticket.wait(), Ok(()));
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!((subject.store.statistics().groups, subject.store.statistics().withdrawn), (0, 100));
}

#[test]
fn what_the_writer_has_begun_with_cannot_be_withdrawn_and_a_deletion_comes_after_it() {
    let subject = Subject::new(Duration::ZERO);
    subject.faults.hold_commits();
    // The writer waits with the first of them in its hands.
    let first = subject.now("0");
    let (id, batch) = subject.append("1");
    let (ticket, withdrawal) = subject.store.commit_later(batch);
    let taken = subject.now("2");
    subject.faults.release();
    taken.wait().unwrap();
    assert!(!subject.store.withdraw(withdrawal));
    first.wait().unwrap();
    ticket.wait().unwrap();
    let mut deletion = Batch::new();
    subject.log.delete(&mut deletion, OWNER, id);
    drop(subject.store.commit_later(deletion));
    assert_eq!(subject.reopen(), ["0", "2"]);
}

#[test]
fn a_withdrawal_while_the_disk_is_stuck_reaches_what_the_writer_does_not_hold_yet() {
    let subject = Subject::new(Duration::from_millis(1));
    subject.faults.hold_commits();
    let (held, holding) = subject.later("0");
    // It is in the writer's hands once it can be withdrawn no more; another in its place can.
    std::thread::sleep(Duration::from_millis(200));
    assert!(!subject.store.withdraw(holding));
    assert_eq!(held.outcome(), None);
    let (waiting, withdrawal) = subject.later("1");
    std::thread::sleep(Duration::from_millis(20));
    assert!(subject.store.withdraw(withdrawal));
    assert_eq!(waiting.wait(), Ok(()));
    assert_eq!(held.outcome(), None);
    subject.faults.release();
    held.wait().unwrap();
    assert_eq!(subject.reopen(), ["0"]);
}

#[test]
fn a_batch_in_no_hurry_waits_for_its_time_and_no_longer() {
    let subject = Subject::new(Duration::from_millis(50));
    let begun = Instant::now();
    let (ticket, _withdrawal) = subject.later("x");
    ticket.wait().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[test]
fn a_batch_in_a_hurry_takes_along_what_came_before_it_and_not_what_comes_after() {
    let subject = Subject::new(FOREVER);
    let (before, _) = subject.later("1");
    subject.now("2").wait().unwrap();
    assert_eq!(before.outcome(), Some(Ok(())));
    let (after, _) = subject.later("3");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(after.outcome(), None);
    // Closing is a hurry too.
    assert_eq!(subject.reopen(), ["1", "2", "3"]);
}

#[test]
fn one_that_fails_says_so_and_a_withdrawn_one_neither_fails_nor_takes_the_place_of_one_that_does() {
    let subject = Subject::new(FOREVER);
    subject.faults.fail_commits(1, StoreError::Full);
    let (withdrawn, withdrawal) = subject.later("1");
    let (failing, too_late) = subject.later("2");
    assert!(subject.store.withdraw(withdrawal));
    subject.now("3").wait().unwrap();
    assert_eq!((withdrawn.outcome(), failing.outcome()), (Some(Ok(())), Some(Err(StoreError::Full))));
    assert!(!subject.store.withdraw(too_late));
    assert_eq!(subject.store.statistics().errors, 1);
    assert_eq!(subject.reopen(), ["3"]);
}

#[test]
fn a_precondition_of_what_is_withdrawn_is_never_checked() {
    let subject = Subject::new(FOREVER);
    let value = subject.store.value::<String>("value");
    let mut batch = Batch::new();
    value.expect(&mut batch, OWNER, Some(&"what is not there".to_owned()));
    value.put(&mut batch, OWNER, &"x".to_owned());
    let (ticket, withdrawal) = subject.store.commit_later(batch);
    assert!(subject.store.withdraw(withdrawal));
    assert_eq!(ticket.wait(), Ok(()));
    subject.now("1").wait().unwrap();
    assert_eq!(subject.store.statistics().conflicts, 0);
    assert_eq!(block_on(value.get(OWNER)), Ok(None));
}

#[test]
fn what_is_withdrawn_while_the_disk_is_stuck_fills_no_queue() {
    let subject = Subject::new(Duration::from_millis(1));
    subject.faults.hold_commits();
    let held = subject.now("held");
    let text = "x".repeat(1000);
    for _ in 0..20_000 {
        let (ticket, withdrawal) = subject.later(&text);
        assert_eq!(ticket.outcome(), None);
        assert!(subject.store.withdraw(withdrawal));
    }
    assert_eq!(subject.store.statistics().queued_batches, 1);
    // What is not withdrawn does.
    assert!((0..2000).any(|_| subject.later(&text).0.outcome() == Some(Err(StoreError::Full))));
    subject.faults.release();
    held.wait().unwrap();
    subject.settle();
    assert_eq!(subject.store.statistics().queued_bytes, 0);
}

#[test]
fn a_store_in_memory_has_written_before_it_can_be_asked() {
    let store = Store::memory();
    let log: Log<String> = store.log("log");
    let mut batch = Batch::new();
    log.append(&mut batch, OWNER, store.next_id(), &"x".to_owned());
    let (ticket, withdrawal) = store.commit_later(batch);
    assert_eq!(ticket.outcome(), Some(Ok(())));
    assert!(!store.withdraw(withdrawal));
    assert_eq!(block_on(log.count(OWNER)), Ok(1));
}

#[derive(Clone, Debug)]
enum Step {
    Now,
    Later,
    /// Takes one of those back that are there, or deletes it.
    Away(prop::sample::Index),
    Hold,
    Release,
    Pause,
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Now),
        8 => Just(Step::Later),
        8 => any::<prop::sample::Index>().prop_map(Step::Away),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        2 => Just(Step::Pause),
        1 => Just(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The model is a list: what was taken away is not in it, all else is, but for what failed.
    #[test]
    fn the_log_agrees_with_a_list_whenever_something_is_taken_away(steps in prop::collection::vec(step(), 0..60)) {
        let subject = Subject::new(Duration::from_millis(2));
        let (mut present, mut gone) = (Vec::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let text = number.to_string();
            match step {
                Step::Now => {
                    let (id, batch) = subject.append(&text);
                    present.push((id, text, subject.store.commit(batch), None));
                }
                Step::Later => {
                    let (id, batch) = subject.append(&text);
                    let (ticket, withdrawal) = subject.store.commit_later(batch);
                    present.push((id, text, ticket, Some(withdrawal)));
                }
                Step::Away(_) if present.is_empty() => {}
                Step::Away(index) => {
                    let (id, text, ticket, withdrawal) = present.remove(index.index(present.len()));
                    if withdrawal.is_some_and(|withdrawal| subject.store.withdraw(withdrawal)) {
                        prop_assert_eq!(ticket.outcome(), Some(Ok(())));
                    } else {
                        let mut deletion = Batch::new();
                        subject.log.delete(&mut deletion, OWNER, id);
                        gone.push((text, subject.store.commit_later(deletion).0));
                    }
                }
                Step::Hold => subject.faults.hold_commits(),
                Step::Release => subject.faults.release(),
                Step::Pause => std::thread::sleep(Duration::from_millis(3)),
                Step::Fail => subject.faults.fail_commits(2, StoreError::Full),
            }
        }
        subject.faults.release();
        let there: Vec<_> = present.into_iter().map(|(_, text, ticket, _)| (text, ticket.wait())).collect();
        let kept: Vec<_> = there.into_iter().filter(|(_, outcome)| outcome.is_ok()).map(|(text, _)| text).collect();
        // A deletion that failed leaves what it was to delete, if that did not fail too.
        let doubtful: Vec<_> =
            gone.into_iter().map(|(text, ticket)| (text, ticket.wait())).filter(|(_, outcome)| outcome.is_err()).collect();
        let found: Vec<_> = subject.reopen();
        let found = found.into_iter().filter(|text| !doubtful.iter().any(|(other, _)| other == text));
        prop_assert_eq!(found.collect::<Vec<_>>(), kept);
    }
}

const FOLDER: &str = "MAGPIE_STORE_WITHDRAWAL_FOLDER";

/// Appends numbers, withdraws every other, and prints what became of each. Never returns.
fn write_until_killed(dir: &Path) {
    let store = Store::open_with(dir, Options { linger: Duration::from_millis(2), ..Options::default() }).unwrap();
    let log: Log<String> = store.log("log");
    let (mut fresh, mut waiting) = (VecDeque::new(), VecDeque::new());
    for number in texts_end(&store).. {
        let mut batch = Batch::new();
        log.append(&mut batch, OWNER, store.next_id(), &number.to_string());
        fresh.push_back((number, store.commit_later(batch)));
        if fresh.len() == 5 {
            let (number, (ticket, withdrawal)) = fresh.pop_front().unwrap();
            match number % 2 == 0 && store.withdraw(withdrawal) {
                true => println!("withdrawn {number}"),
                false => waiting.push_back((number, ticket)),
            }
        }
        if waiting.len() == 100 {
            let (number, ticket) = waiting.pop_front().unwrap();
            ticket.wait().unwrap();
            println!("acknowledged {number}");
        }
    }
}

/// A number after all in the log.
fn texts_end(store: &Store) -> u64 {
    let log: Log<String> = store.log("log");
    let last = block_on(log.range_back(OWNER, None, 1)).unwrap();
    // Withdrawn ones may have been higher.
    last.first().map_or(0, |(_, number)| number.parse::<u64>().unwrap() + 1_000_000)
}

#[test]
fn after_a_kill_what_was_withdrawn_is_not_there_and_all_else_that_was_acknowledged_is() {
    const NAME: &str = "withdrawal::after_a_kill_what_was_withdrawn_is_not_there_and_all_else_that_was_acknowledged_is";
    // This test is its own child.
    if let Some(dir) = std::env::var_os(FOLDER) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut withdrawn) = (Vec::new(), Vec::new());
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| match line.split_once(' ') {
            Some(("acknowledged", number)) => acknowledged.push(number.to_owned()),
            Some(("withdrawn", number)) => withdrawn.push(number.to_owned()),
            _ => {}
        };
        lines.by_ref().take(200 * round).map_while(Result::ok).for_each(&mut note);
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(&mut note);
        child.wait().unwrap();
    }
    let found: std::collections::HashSet<_> = texts(dir.path()).into_iter().collect();
    assert!(acknowledged.len() > 100 && withdrawn.len() > 100, "{} {}", acknowledged.len(), withdrawn.len());
    let lost: Vec<_> = acknowledged.iter().filter(|number| !found.contains(*number)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let back: Vec<_> = withdrawn.iter().filter(|number| found.contains(*number)).collect();
    assert!(back.is_empty(), "{back:?}");
}
