//! What every user of the store relies on, on each backend.

#![allow(clippy::unwrap_used, missing_docs)]

mod folder;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use magpie_store::{
    Batch, Effect, Faults, Filing, Log, LogId, Map, OpenError, Options, Store, StoreError, Ticket, Value,
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs the test on a folder, on memory, and on memory behind a thread.
fn on_each_backend(test: impl Fn(&Store)) {
    let dir = tempfile::tempdir().unwrap();
    let stores = [Store::open(dir.path()).unwrap(), Store::memory(), Store::memory_with(Faults::new())];
    for store in stores {
        test(&store);
        store.close();
    }
}

fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    fill(&mut batch);
    batch
}

fn text(text: &str) -> String {
    text.to_string()
}

#[test]
fn a_read_after_the_ticket_sees_the_batch() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("value");
        let map: Map<String> = store.map("map");
        let log: Log<String> = store.log("log");
        let ids = [store.next_id(), store.next_id()];
        let written = batch(|batch| {
            value.put(batch, "ann", &text("a"));
            map.put(batch, "ann", "k2", &text("b"));
            map.put(batch, "ann", "k1", &text("c"));
            log.append(batch, "ann", ids[0], &text("d"));
            log.append(batch, "ann", ids[1], &text("e"));
        });
        store.commit(written).wait().unwrap();
        block_on(async {
            assert_eq!(value.get("ann").await, Ok(Some(text("a"))));
            assert_eq!(value.get("bob").await, Ok(None));
            assert_eq!(map.get("ann", "k1").await, Ok(Some(text("c"))));
            assert_eq!(map.list("ann").await, Ok(vec![(text("k1"), text("c")), (text("k2"), text("b"))]));
            assert_eq!(log.range("ann", None, 9).await, Ok(vec![(ids[0], text("d")), (ids[1], text("e"))]));
            assert_eq!(log.range("ann", Some(ids[0]), 9).await, Ok(vec![(ids[1], text("e"))]));
            assert_eq!(log.range("ann", None, 1).await, Ok(vec![(ids[0], text("d"))]));
            assert_eq!(log.range("ann", Some(LogId(u64::MAX)), 1).await, Ok(vec![]));
            assert_eq!(log.count("ann").await, Ok(2));
        });
    });
}

#[test]
fn names_keep_shapes_of_one_kind_apart() {
    on_each_backend(|store| {
        let (one, two) = (store.map::<String>("one"), store.map::<String>("two"));
        store.commit(batch(|batch| one.put(batch, "ann", "k", &text("1")))).wait().unwrap();
        store.commit(batch(|batch| two.clear(batch, "ann"))).wait().unwrap();
        block_on(async {
            assert_eq!(one.get("ann", "k").await, Ok(Some(text("1"))));
            assert_eq!(two.get("ann", "k").await, Ok(None));
        });
    });
}

#[test]
fn a_batch_whose_expectation_fails_writes_nothing_and_says_conflict() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("value");
        let map: Map<String> = store.map("map");
        let swap = |old: Option<&str>, new: &str| {
            let swap = batch(|batch| {
                map.put(batch, "ann", new, &text("seen"));
                value.put(batch, "ann", &text(new));
                value.expect(batch, "ann", old.map(text).as_ref());
            });
            store.commit(swap).wait()
        };
        assert_eq!(swap(Some("a"), "b"), Err(StoreError::Conflict));
        assert_eq!(swap(None, ""), Ok(()));
        assert_eq!(swap(None, "b"), Err(StoreError::Conflict));
        assert_eq!(swap(Some(""), "c"), Ok(()));
        let keyed = batch(|batch| map.expect(batch, "ann", "", Some(&text("unseen"))));
        assert_eq!(store.commit(keyed).wait(), Err(StoreError::Conflict));
        let keyed = batch(|batch| map.expect(batch, "ann", "b", None));
        assert_eq!(store.commit(keyed).wait(), Ok(()));
        let keys = block_on(map.list("ann")).unwrap().into_iter().map(|(key, _)| key);
        assert_eq!(keys.collect::<Vec<_>>(), ["", "c"]);
        let statistics = store.statistics();
        assert_eq!((statistics.batches, statistics.conflicts, statistics.errors), (3, 3, 0));
    });
}

#[test]
fn a_counter_that_many_increment_by_compare_and_swap_loses_none() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("counter");
        let increment = || {
            loop {
                let old = block_on(value.get("ann")).unwrap();
                let new = old.as_ref().map_or(1, |old| old.parse::<u32>().unwrap() + 1).to_string();
                let swap = batch(|batch| {
                    value.expect(batch, "ann", old.as_ref());
                    value.put(batch, "ann", &new);
                });
                match store.commit(swap).wait() {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error, StoreError::Conflict),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| increment()));
            }
        });
        assert_eq!(block_on(value.get("ann")), Ok(Some(text("40"))));
    });
}

#[test]
fn owners_come_in_byte_order_from_where_they_are_asked() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("value");
        let other: Value<String> = store.value("other");
        let owners = ["a/ann", "a/bob", "a/bob\0", "a/zoë", "a", "b/ann", "a/\u{10ffff}x", "a0"];
        let written = batch(|batch| {
            owners.iter().for_each(|owner| value.put(batch, owner, &text("")));
            other.put(batch, "a/eve", &text(""));
        });
        store.commit(written).wait().unwrap();
        block_on(async {
            let of_a = ["a/ann", "a/bob", "a/bob\0", "a/zoë", "a/\u{10ffff}x"].map(text).to_vec();
            assert_eq!(value.owners("a/", None, 9).await.unwrap(), of_a);
            assert_eq!(value.owners("a/", None, 2).await.unwrap(), of_a[..2]);
            assert_eq!(value.owners("a/", Some("a/bob"), 9).await.unwrap(), of_a[2..]);
            assert_eq!(value.owners("a/", Some("a/c"), 9).await.unwrap(), of_a[3..]);
            assert_eq!(value.owners("a/", Some("0"), 9).await.unwrap(), of_a);
            assert_eq!(value.owners("a/", Some("b"), 9).await.unwrap(), [""; 0]);
            assert_eq!(value.count("a/").await, Ok(5));
            assert_eq!(value.count("a/\u{10ffff}").await, Ok(1));
            assert_eq!(value.count("").await, Ok(8));
            assert_eq!(other.count("a").await, Ok(1));
        });
    });
}

#[test]
fn an_entry_appended_and_deleted_before_a_commit_never_reaches_the_disk() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let store = Store::open_with(dir.path(), Options { faults: faults.clone(), ..Options::default() }).unwrap();
    let log: Log<String> = store.log("spool");
    let old = store.next_id();
    store.commit(batch(|batch| log.append(batch, "ann", old, &text("old")))).wait().unwrap();
    faults.hold_commits();
    // The writer may already hold the first of them apart from the others.
    let first = store.commit(batch(|batch| log.delete(batch, "eve", old)));
    let mut tickets = Vec::new();
    for round in 0..10 {
        let id = if round == 0 { old } else { store.next_id() };
        tickets.push(store.commit(batch(|batch| log.append(batch, "ann", id, &text("new")))));
        tickets.push(store.commit(batch(|batch| log.delete(batch, "ann", id))));
    }
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_none()));
    faults.release();
    first.wait().unwrap();
    tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
    // The one that was there before is gone with its replacement.
    assert_eq!(block_on(log.count("ann")), Ok(0));
    let statistics = store.statistics();
    assert_eq!((statistics.rows_cancelled, statistics.rows), (10, 22));
}

#[test]
fn batches_that_gather_while_the_disk_is_slow_share_a_commit() {
    let faults = Faults::new();
    let store = Store::memory_with(faults.clone());
    let log: Log<String> = store.log("log");
    faults.hold_commits();
    let tickets: Vec<_> =
        (0..100).map(|_| store.commit(batch(|batch| log.append(batch, "ann", store.next_id(), &text("x"))))).collect();
    let queued = store.statistics();
    assert_eq!((queued.queued_batches, queued.batches), (100, 0));
    assert!(queued.queued_bytes > 100);
    faults.release();
    tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
    let done = store.statistics();
    assert_eq!((done.batches, done.rows, done.queued_batches, done.queued_bytes), (100, 100, 0, 0));
    assert!((1..=2).contains(&done.groups), "{done:?}");
    assert_eq!(done.commits.count(), done.groups);
}

#[test]
fn a_slow_store_is_slow_and_a_full_one_is_full() {
    let faults = Faults::new();
    let store = Store::memory_with(faults.clone());
    let value: Value<String> = store.value("value");
    let put = |owner: &str| store.commit(batch(|batch| value.put(batch, owner, &text("x"))));
    faults.slow_commits(Duration::from_millis(50));
    let begun = Instant::now();
    put("ann").wait().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
    faults.slow_commits(Duration::ZERO);
    faults.fail_commits(2, StoreError::Full);
    assert_eq!(
        [put("bob"), put("bob"), put("eve")].map(Ticket::wait),
        [Err(StoreError::Full), Err(StoreError::Full), Ok(())]
    );
    faults.fail_reads(1, StoreError::Backend(text("gone")));
    assert_eq!(block_on(value.get("ann")), Err(StoreError::Backend(text("gone"))));
    assert_eq!(block_on(value.owners("", None, 9)), Ok(vec![text("ann"), text("eve")]));
    assert_eq!(store.statistics().errors, 2);
}

#[test]
fn one_batch_that_fails_takes_no_other_of_its_group_with_it() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("value");
        let good = batch(|batch| value.put(batch, "ann", &text("x")));
        let bad = batch(|batch| {
            value.expect(batch, "bob", Some(&text("not there")));
            value.put(batch, "bob", &text("x"));
        });
        let last = batch(|batch| value.put(batch, "eve", &text("x")));
        let outcomes = [good, bad, last].map(|batch| store.commit(batch)).map(Ticket::wait);
        assert_eq!(outcomes, [Ok(()), Err(StoreError::Conflict), Ok(())]);
        assert_eq!(block_on(value.owners("", None, 9)), Ok(vec![text("ann"), text("eve")]));
    });
}

#[test]
fn a_database_at_its_limit_refuses_what_is_too_large_and_takes_the_rest() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let options = Options { database_bytes_max: Some(256 * 1024), faults: faults.clone(), ..Options::default() };
    let store = Store::open_with(dir.path(), options).unwrap();
    let log: Log<String> = store.log("log");
    let append = |bytes: usize| {
        let id = store.next_id();
        (id, store.commit(batch(|batch| log.append(batch, "ann", id, &"x".repeat(bytes)))))
    };
    let (kept, ticket) = append(50_000);
    ticket.wait().unwrap();
    // All of these in one group.
    faults.hold_commits();
    let first = append(10);
    let tickets = [append(10), append(1_000_000), append(10)];
    let cancelled = [append(20), append(1_000_000)];
    let over = store.commit(batch(|batch| {
        log.append(batch, "bob", store.next_id(), &"x".repeat(1_000_000));
        log.delete(batch, "ann", cancelled[0].0);
    }));
    faults.release();
    first.1.wait().unwrap();
    let outcomes = tickets.map(|(_, ticket)| ticket.wait());
    assert_eq!(outcomes, [Ok(()), Err(StoreError::Full), Ok(())]);
    // The deletion came with what did not fit, so the entry is there, as its ticket says.
    let cancelled_id = cancelled[0].0;
    assert_eq!(cancelled.map(|(_, ticket)| ticket.wait()), [Ok(()), Err(StoreError::Full)]);
    assert_eq!(over.wait(), Err(StoreError::Full));
    assert_eq!(
        block_on(log.range("ann", Some(LogId(cancelled_id.0 - 1)), 9)),
        Ok(vec![(cancelled_id, "x".repeat(20))])
    );
    // Space that is given back can be taken again.
    assert_eq!(append(200_000).1.wait(), Err(StoreError::Full));
    store.commit(batch(|batch| log.delete(batch, "ann", kept))).wait().unwrap();
    append(200_000).1.wait().unwrap();
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let options = Options { queue_bytes_max: 100_000, faults: faults.clone(), ..Options::default() };
    let store = Store::open_with(dir.path(), options).unwrap();
    let value: Value<String> = store.value("value");
    let put = || store.commit(batch(|batch| value.put(batch, "ann", &"x".repeat(40_000))));
    faults.hold_commits();
    let tickets = [put(), put(), put()];
    assert_eq!(tickets[2].outcome(), Some(Err(StoreError::Full)));
    faults.release();
    assert_eq!(tickets.map(Ticket::wait), [Ok(()), Ok(()), Err(StoreError::Full)]);
    put().wait().unwrap();
}

#[test]
fn a_log_id_that_cannot_be_stored_fails_its_batch() {
    on_each_backend(|store| {
        let log: Log<String> = store.log("log");
        let append = |id| store.commit(batch(|batch| log.append(batch, "ann", id, &text("x")))).wait();
        assert!(matches!(append(LogId(LogId::MAX.0 + 1)), Err(StoreError::Backend(_))));
        assert_eq!(append(LogId::MAX), Ok(()));
        let largest = LogId(u64::MAX);
        assert_eq!(block_on(log.range_back("ann", Some(largest), 9)), Ok(vec![(LogId::MAX, text("x"))]));
        assert_eq!(block_on(log.range_back("ann", Some(LogId(0)), 9)), Ok(vec![]));
        assert_eq!(block_on(log.range("ann", None, 9)), Ok(vec![(LogId::MAX, text("x"))]));
    });
}

#[test]
fn a_row_that_its_type_cannot_read_is_corrupt() {
    on_each_backend(|store| {
        let bytes: Value<Vec<u8>> = store.value("value");
        store.commit(batch(|batch| bytes.put(batch, "ann", &vec![0xff]))).wait().unwrap();
        let texts: Value<String> = store.value("value");
        assert_eq!(block_on(texts.get("ann")), Err(StoreError::Corrupt("value")));
    });
}

#[test]
fn a_closed_store_has_committed_what_was_queued_and_says_closed() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let value: Value<String> = store.value("value");
        let put = |owner: &str| store.commit(batch(|batch| value.put(batch, owner, &text("x"))));
        let tickets: Vec<_> = (0..50).map(|owner| put(&owner.to_string())).collect();
        store.close();
        store.close();
        assert!(tickets.iter().all(|ticket| ticket.outcome() == Some(Ok(()))));
        assert_eq!(put("late").outcome(), Some(Err(StoreError::Closed)));
        assert_eq!(block_on(value.get("1")), Err(StoreError::Closed));
        let again = Store::open(dir.path()).unwrap();
        assert_eq!(block_on(again.value::<String>("value").count("")), Ok(50));
        assert!(!dir.path().join("store.db-wal").exists() || again.statistics().batches == 0);
    }
}

#[test]
fn the_last_handle_to_go_closes_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let value: Value<String> = store.value("value");
    drop(store.commit(batch(|batch| value.put(batch, "ann", &text("x")))));
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(OpenError::InUse { pid }) if pid == Some(std::process::id())));
    drop(value);
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(block_on(again.value::<String>("value").get("ann")), Ok(Some(text("x"))));
}

#[test]
fn dropping_tickets_cancels_nothing_and_leaves_the_order() {
    on_each_backend(|store| {
        let value: Value<String> = store.value("value");
        for number in 0..200 {
            drop(store.commit(batch(|batch| value.put(batch, "ann", &number.to_string()))));
        }
        let last = store.commit(batch(|batch| value.expect(batch, "ann", Some(&text("199")))));
        assert_eq!(last.wait(), Ok(()));
    });
}

#[test]
fn an_empty_batch_has_nothing_to_wait_for() {
    on_each_backend(|store| {
        assert_eq!(store.commit(Batch::new()).outcome(), Some(Ok(())));
    });
}

#[test]
fn many_committers_each_see_their_own_writes_and_all_are_kept() {
    on_each_backend(|store| {
        let log: Log<String> = store.log("log");
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (log, barrier) = (&log, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for count in 1..=20 {
                        let owner = format!("owner {thread}");
                        let append = batch(|batch| log.append(batch, &owner, store.next_id(), &count.to_string()));
                        store.commit(append).wait().unwrap();
                        assert_eq!(block_on(log.count(&owner)), Ok(count));
                    }
                });
            }
        });
        assert_eq!(store.statistics().rows, 160);
    });
}

#[test]
fn a_future_is_woken_when_its_batch_is_durable() {
    #[derive(Default)]
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let faults = Faults::new();
    let store = Store::memory_with(faults.clone());
    let value: Value<String> = store.value("value");
    faults.hold_commits();
    let mut ticket = store.commit(batch(|batch| value.put(batch, "ann", &text("x"))));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut pinned = std::pin::pin!(&mut ticket);
    assert_eq!(pinned.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    faults.release();
    store.close();
    assert_eq!(woken.0.load(SeqCst), 1);
    assert_eq!(pinned.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
}

#[test]
fn tickets_and_reads_work_in_a_runtime_and_may_cross_threads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let log: Log<String> = store.log("log");
        let tasks: Vec<_> = (0..50)
            .map(|task| {
                let (store, log) = (store.clone(), log.clone());
                tokio::spawn(async move {
                    let owner = format!("owner {task}");
                    let append = batch(|batch| log.append(batch, &owner, store.next_id(), &text("x")));
                    store.commit(append).await.unwrap();
                    log.count(&owner).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 1);
        }
    });
}

#[test]
fn ids_go_on_after_a_restart_even_where_the_clock_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let in_an_hour = store.next_id().millis() + 3_600_000;
    let id = store.next_id_at(in_an_hour);
    store.close();
    let again = Store::open(dir.path()).unwrap();
    let next = again.next_id();
    assert!(next > id, "{next:?} after {id:?}");
    assert_eq!(next.millis(), in_an_hour);
}

/// A task that holds the last handle of a store and goes when it is woken.
#[test]
fn a_waker_may_drop_the_last_handle_on_a_thread_of_the_store() {
    struct Holds(std::sync::Mutex<Option<(Store, Value<String>)>>);
    impl Wake for Holds {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let store = Store::open_with(dir.path(), Options { faults: faults.clone(), ..Options::default() }).unwrap();
    let value: Value<String> = store.value("value");
    faults.hold_commits();
    // Too large to share a group, so that the thread has to go on after it called the waker.
    let mut ticket = store.commit(batch(|batch| value.put(batch, "ann", &"x".repeat(16 * 1024 * 1024))));
    let next = store.commit(batch(|batch| value.put(batch, "ann", &text("y"))));
    let waker = Waker::from(Arc::new(Holds(std::sync::Mutex::new(Some((store, value))))));
    let pending = std::pin::pin!(&mut ticket).poll(&mut Context::from_waker(&waker));
    assert_eq!(pending, Poll::Pending);
    faults.release();
    assert_eq!(next.wait(), Ok(()));
    let begun = Instant::now();
    let again = loop {
        match Store::open(dir.path()) {
            Ok(store) => break store,
            Err(OpenError::InUse { .. }) if begun.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(ticket.outcome(), Some(Ok(())));
    assert_eq!(block_on(again.value::<String>("value").get("ann")), Ok(Some(text("y"))));
}
