//! Archives on both backends: what one does the other does, across months, spaces and restarts; and ids become readable in their order.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "wait/mod.rs"]
mod wait;

use std::sync::atomic::{AtomicBool, Ordering};

use magpie_store::{Archive, Batch, Effect, Faults, Filing, LogId, Options, Page, Store, StoreError, Topic};
use proptest::prelude::*;

use wait::wait;

type Bytes = Vec<u8>;

const OWNERS: [&str; 4] = ["a.example/ann", "a.example/bob", "b.example/ann", "a.example"];
const TOPICS: [&str; 3] = ["", "romeo@b.example", "ä"];
/// Moments of four months, some at the very ends of one.
const DAYS: [u64; 7] = [0, 30, 31, 58, 59, 60, 91];

/// Owner, topic, moment.
type Place = (usize, usize, usize);

#[derive(Clone, Debug)]
enum Step {
    /// For one owner, or for two at once.
    Append(Place, Option<(usize, usize)>, u8, Bytes),
    /// With the id that the store gives; the place's moment says nothing.
    Arrive(Place, Option<(usize, usize)>, u8, Bytes),
    /// Of one that has arrived, counted from the newest.
    ReplaceArrived(Place, usize, bool, Bytes),
    ReadArrived(Place, usize),
    /// Or takes it back.
    Replace(Place, bool, Bytes),
    Read(Place),
    Forget(Place),
    Trim(Place, usize),
    Erase(Place),
    Page(Place, Page),
    Reopen,
    /// Opens a copy of the files, as a crash leaves them.
    Crash,
}

fn page() -> impl Strategy<Value = Page> {
    let id = || proptest::option::of((0..DAYS.len()).prop_map(id));
    let topic = proptest::option::of((0..TOPICS.len()).prop_map(|topic| TOPICS[topic].to_owned()));
    (topic, id(), id(), any::<bool>(), 0..5usize).prop_map(|(topic, after, before, backwards, limit)| Page {
        topic,
        after,
        before,
        backwards,
        limit,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..OWNERS.len(), 0..TOPICS.len(), 0..DAYS.len());
    let second = || proptest::option::of((0..OWNERS.len(), 0..TOPICS.len()));
    let bytes = || proptest::collection::vec(0..3u8, 0..3);
    let step = prop_oneof![
        12 => (place(), second(), 0..3u8, bytes()).prop_map(|(place, second, effect, bytes)| Step::Append(place, second, effect, bytes)),
        20 => (place(), second(), 0..3u8, bytes()).prop_map(|(place, second, effect, bytes)| Step::Arrive(place, second, effect, bytes)),
        3 => (place(), 0..9usize, any::<bool>(), bytes()).prop_map(|(place, back, counts, bytes)| Step::ReplaceArrived(place, back, counts, bytes)),
        2 => (place(), 0..9usize).prop_map(|(place, back)| Step::ReadArrived(place, back)),
        3 => (place(), any::<bool>(), bytes()).prop_map(|(place, counts, bytes)| Step::Replace(place, counts, bytes)),
        2 => place().prop_map(Step::Read),
        1 => place().prop_map(Step::Forget),
        2 => (place(), 0..4usize).prop_map(|(place, limit)| Step::Trim(place, limit)),
        1 => place().prop_map(Step::Erase),
        8 => (place(), page()).prop_map(|(place, page)| Step::Page(place, page)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

fn id(day: usize) -> LogId {
    LogId::at_millis(DAYS[day] * 24 * 60 * 60 * 1000)
}

fn commit(store: &Store, fill: impl FnOnce(&Archive<Bytes>, &mut Batch)) {
    let mut batch = Batch::new();
    fill(&store.archive("archive"), &mut batch);
    store.commit(batch).wait().unwrap();
}

/// `counts`: it is not taken back.
fn replace(store: &Store, owner: &str, id: LogId, counts: bool, record: &Bytes) {
    commit(store, |archive, batch| match counts {
        true => archive.replace(batch, owner, id, record),
        false => archive.take_back(batch, owner, id, record),
    });
}

/// Entries, topics, and entries by their ids.
type All = (Vec<(LogId, Bytes)>, Vec<(String, Topic)>, Vec<(LogId, Bytes)>);

/// What can be asked of one owner.
fn all(store: &Store, owner: &str, arrived: &[LogId]) -> All {
    let archive = store.archive::<Bytes>("archive");
    let entries = wait(archive.page(owner, Page { limit: 1000, ..Page::default() })).unwrap();
    let ends = entries.first().zip(entries.last()).map(|((first, _), (last, _))| (*first, *last));
    assert_eq!(wait(archive.ends(owner)).unwrap(), ends);
    let mut topics = wait(archive.topics(owner)).unwrap();
    topics.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, topic) in &topics {
        assert_eq!(wait(archive.topic(owner, name)).unwrap().as_ref(), Some(topic));
    }
    let ids = (0..DAYS.len()).map(id).chain(arrived.iter().copied()).rev().collect();
    let named = wait(archive.entries(owner, ids)).unwrap();
    (entries, topics, named)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn both_backends_say_the_same_of_whatever_was_done(steps in steps(), arriving in 0..3usize) {
        // None waits longer than for the next group, some do, all do.
        let options = Options { arriving_bytes_max: [0, 1000, 1 << 20][arriving], ..Options::default() };
        let mut folder = tempfile::tempdir().unwrap();
        let memory = Store::memory();
        let mut sqlite = Store::open_with(folder.path(), options.clone()).unwrap();
        let mut arrived: Vec<LogId> = Vec::new();
        let back = |arrived: &[LogId], back: usize| arrived.iter().rev().nth(back).copied();
        for step in steps {
            let both = [&memory, &sqlite];
            let effect = |effect: u8| [Effect::None, Effect::New, Effect::Read][usize::from(effect)];
            let filings = |(owner, topic, _): Place, second: Option<(usize, usize)>, effect| {
                let filing = |owner: usize, topic: usize, effect| Filing { owner: OWNERS[owner], topic: TOPICS[topic], effect };
                let mut filings = vec![filing(owner, topic, effect)];
                filings.extend(second.filter(|second| second.0 != owner).map(|(owner, topic)| filing(owner, topic, Effect::New)));
                filings
            };
            match step {
                Step::Append(place, second, done, bytes) => {
                    let filings = filings(place, second, effect(done));
                    both.iter().for_each(|store| commit(store, |archive, batch| archive.append(batch, Some(id(place.2)), &filings, &bytes)));
                }
                Step::Arrive(place, second, done, bytes) => {
                    let mut batch = Batch::new();
                    sqlite.archive("archive").append(&mut batch, None, &filings(place, second, effect(done)), &bytes);
                    let (id, ticket) = sqlite.commit_placed(batch);
                    ticket.wait().unwrap();
                    commit(&memory, |archive, batch| archive.append(batch, Some(id), &filings(place, second, effect(done)), &bytes));
                    arrived.push(id);
                }
                Step::ReplaceArrived((owner, ..), count, counts, bytes) => if let Some(id) = back(&arrived, count) {
                    both.iter().for_each(|store| replace(store, OWNERS[owner], id, counts, &bytes));
                },
                Step::ReadArrived((owner, topic, _), count) => if let Some(id) = back(&arrived, count) {
                    both.iter().for_each(|store| commit(store, |archive, batch| archive.read(batch, OWNERS[owner], TOPICS[topic], id)));
                },
                Step::Replace((owner, _, day), counts, bytes) => {
                    both.iter().for_each(|store| replace(store, OWNERS[owner], id(day), counts, &bytes));
                }
                Step::Read((owner, topic, day)) => {
                    both.iter().for_each(|store| commit(store, |archive, batch| archive.read(batch, OWNERS[owner], TOPICS[topic], id(day))));
                }
                Step::Forget((owner, _, day)) => {
                    let space = OWNERS[owner].split('/').next().unwrap();
                    // The last of the days: all that has arrived, too.
                    let before = if day == DAYS.len() - 1 { LogId::MAX } else { id(day) };
                    both.iter().for_each(|store| commit(store, |archive, batch| archive.forget(batch, space, before)));
                }
                Step::Trim((owner, _, day), limit) => both.iter().for_each(|store| {
                    commit(store, |archive, batch| {
                        // What waits is put in its place by this, so that how many are new is the same in both.
                        archive.forget(batch, "nobody", LogId(0));
                        archive.trim(batch, OWNERS[owner], id(day), limit);
                    });
                }),
                Step::Erase((owner, ..)) => both.iter().for_each(|store| {
                    let mut batch = Batch::new();
                    batch.erase(OWNERS[owner]);
                    store.commit(batch).wait().unwrap();
                }),
                Step::Page((owner, ..), page) => {
                    let [one, other] = both.map(|store| wait(store.archive::<Bytes>("archive").page(OWNERS[owner], page.clone())).unwrap());
                    prop_assert_eq!(one, other);
                }
                Step::Reopen => {
                    sqlite.close();
                    sqlite = Store::open_with(folder.path(), options.clone()).unwrap();
                }
                Step::Crash => {
                    let copy = tempfile::tempdir().unwrap();
                    for name in ["store.db", "store.db-wal"] {
                        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
                    }
                    sqlite = Store::open_with(copy.path(), options.clone()).unwrap();
                    folder = copy;
                }
            }
            for owner in OWNERS {
                prop_assert_eq!(all(&memory, owner, &arrived), all(&sqlite, owner, &arrived), "{}", owner);
            }
        }
    }
}

#[test]
fn a_topic_knows_its_last_entry_how_many_it_has_and_how_many_are_new() {
    for store in [Store::memory(), Store::open(tempfile::tempdir().unwrap().path()).unwrap()] {
        let append = |day: usize, effect| {
            let filing = Filing { owner: OWNERS[0], topic: "t", effect };
            commit(&store, |archive, batch| archive.append(batch, Some(id(day)), &[filing], &b"x".to_vec()));
        };
        let topic = || {
            let topic = wait(store.archive::<Bytes>("archive").topic(OWNERS[0], "t")).unwrap();
            topic.map(|Topic { last, count, new }| (last, count, new))
        };
        assert_eq!(topic(), None);
        append(0, Effect::New);
        append(1, Effect::None);
        append(2, Effect::New);
        append(4, Effect::New);
        assert_eq!(topic(), Some((id(4), 4, 3)));
        commit(&store, |archive, batch| archive.read(batch, OWNERS[0], "t", id(2)));
        assert_eq!(topic(), Some((id(4), 4, 1)));
        append(5, Effect::Read);
        assert_eq!(topic(), Some((id(5), 5, 0)));
    }
}

#[test]
fn what_is_taken_back_is_new_no_more_and_what_was_read_before_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::open(folder.path()).unwrap()] {
        let append = |day: usize, effect| {
            let filing = Filing { owner: OWNERS[0], topic: "t", effect };
            commit(&store, |archive, batch| archive.append(batch, Some(id(day)), &[filing], &b"x".to_vec()));
        };
        let new = || wait(store.archive::<Bytes>("archive").topic(OWNERS[0], "t")).unwrap().map(|topic| topic.new);
        let take_back = |day: usize| replace(&store, OWNERS[0], id(day), false, &b"gone".to_vec());
        for day in [0, 1, 3, 5] {
            append(day, Effect::New);
        }
        append(4, Effect::None);
        commit(&store, |archive, batch| archive.read(batch, OWNERS[0], "t", id(1)));
        assert_eq!(new(), Some(2));
        // One that is read, one that never was new, one that is not there.
        for day in [1, 4, 2] {
            take_back(day);
            assert_eq!(new(), Some(2), "{day}");
        }
        // In the middle, and not twice.
        take_back(3);
        assert_eq!(new(), Some(1));
        take_back(3);
        assert_eq!(new(), Some(1));
        replace(&store, OWNERS[0], id(5), true, &b"other".to_vec());
        assert_eq!(new(), Some(1));
        take_back(5);
        assert_eq!(new(), Some(0));
        append(6, Effect::New);
        assert_eq!(new(), Some(1));
    }
}

/// An id that was taken and committed later than the next one would be passed over by who pages on from that.
#[test]
fn the_oldest_entries_of_one_owner_are_forgotten_so_many_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::open(folder.path()).unwrap()] {
        for (owner, topic, day) in
            [("a/ann", "x", 0), ("a/ann", "y", 1), ("a/ann", "x", 3), ("a/ann", "x", 5), ("a/bob", "x", 0)]
        {
            let filing = Filing { owner, topic, effect: Effect::New };
            commit(&store, |archive, batch| archive.append(batch, Some(id(day)), &[filing], &vec![1]));
        }
        let archive = store.archive::<Bytes>("archive");
        let days = |owner: &str| {
            let page = wait(archive.page(owner, Page { limit: 9, ..Page::default() })).unwrap();
            page.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let topics = || wait(archive.topics("a/ann")).unwrap();
        commit(&store, |archive, batch| archive.trim(batch, "a/ann", id(5), 2));
        assert_eq!(days("a/ann"), [id(3), id(5)]);
        assert_eq!(topics(), [("x".to_owned(), Topic { last: id(5), count: 2, new: 2 })]);
        commit(&store, |archive, batch| archive.trim(batch, "a/ann", id(5), 2));
        assert_eq!((days("a/ann"), days("a/bob")), (vec![id(5)], vec![id(0)]));
        commit(&store, |archive, batch| archive.trim(batch, "a/ann", LogId::MAX, 9));
        assert_eq!((days("a/ann"), topics().len()), (Vec::new(), 0));
        store.close();
    }
}

#[test]
fn whoever_pages_on_from_the_last_entry_seen_misses_none() {
    let folder = tempfile::tempdir().unwrap();
    page_on_while_others_write(&Store::open(folder.path()).unwrap());
    page_on_while_others_write(&Store::memory());
    // While entries are put where they belong, too.
    let folder = tempfile::tempdir().unwrap();
    let options = Options { arriving_bytes_max: 2000, ..Options::default() };
    page_on_while_others_write(&Store::open_with(folder.path(), options).unwrap());
}

#[test]
fn a_store_that_rests_has_put_all_that_arrived_where_it_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let filing = Filing { owner: OWNERS[0], topic: "t", effect: Effect::New };
    for _ in 0..1200 {
        let mut batch = Batch::new();
        store.archive("archive").append(&mut batch, None, &[filing], &b"x".to_vec());
        store.commit_placed(batch).1.wait().unwrap();
    }
    let count = |sql: &str| -> i64 {
        let connection = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let waiting =
        || count("SELECT (SELECT count(*) FROM archive_arrivals_0) + (SELECT count(*) FROM archive_arrivals_1)");
    assert!(waiting() > 0);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while waiting() > 0 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!((waiting(), count("SELECT count(*) FROM archive_part_1")), (0, 1200));
    assert_eq!(
        wait(store.archive::<Bytes>("archive").topic(OWNERS[0], "t")).unwrap().map(|topic| topic.count),
        Some(1200)
    );
}

#[test]
fn an_entry_without_an_id_is_refused_where_it_is_given_none() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::memory_with(Faults::new()), Store::open(folder.path()).unwrap()] {
        let mut batch = Batch::new();
        let filing = Filing { owner: OWNERS[0], topic: "t", effect: Effect::New };
        store.archive("archive").append(&mut batch, None, &[filing], &b"x".to_vec());
        assert!(matches!(store.commit(batch).wait(), Err(StoreError::Backend(_))));
    }
}

fn page_on_while_others_write(store: &Store) {
    const EACH: usize = 400;
    const THREADS: usize = 4;
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let archive = store.archive::<Bytes>("archive");
            let mut seen: Vec<LogId> = Vec::new();
            let (mut counted, total) = (0, (EACH * THREADS) as u64);
            loop {
                let last_round = done.load(Ordering::SeqCst);
                let page = Page { after: seen.last().copied(), limit: 7, ..Page::default() };
                let found = wait(archive.page(OWNERS[0], page)).unwrap();
                let known = wait(archive.topic(OWNERS[0], "t")).unwrap().map_or(0, |topic| topic.count);
                assert!(
                    (counted.max(seen.len() as u64 + found.len() as u64)..=total).contains(&known),
                    "{known} after {counted}"
                );
                counted = known;
                if found.is_empty() && last_round {
                    return seen;
                }
                seen.extend(found.into_iter().map(|(id, _)| id));
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let tickets: Vec<_> = (0..EACH)
                        .map(|_| {
                            let mut batch = Batch::new();
                            let filing = Filing { owner: OWNERS[0], topic: "t", effect: Effect::New };
                            store.archive("archive").append(&mut batch, None, &[filing], &b"x".to_vec());
                            store.commit_placed(batch).1
                        })
                        .collect();
                    tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert_eq!(seen.len(), EACH * THREADS);
    assert!(seen.is_sorted());
}
