//! The shapes against a model that is too simple to be wrong, on each backend, across restarts.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use magpie_store::{Batch, Faults, Log, LogId, Map, Store, StoreError, Ticket, Value};
use proptest::prelude::*;

type Bytes = Vec<u8>;

const NAMES: [&str; 2] = ["one", "two"];
const OWNERS: [&str; 6] = ["", "a", "a/b", "a/b\0", "a\u{10ffff}", "ä"];
const KEYS: [&str; 4] = ["", "k", "k\0", "ø"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "a\u{10ffff}", "z"];

/// A name, an owner and a key by their places; an id.
type Place = (usize, usize, usize, u64);

#[derive(Clone, Debug)]
enum Write {
    PutValue(Place, Bytes),
    DeleteValue(Place),
    /// true: what is there; false: something else
    ExpectValue(Place, bool),
    PutEntry(Place, Bytes),
    DeleteEntry(Place),
    ClearMap(Place),
    ExpectEntry(Place, bool),
    Append(Place, Bytes),
    DeleteFromLog(Place),
    ClearLog(Place),
    Erase(Place),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    /// Waits for all tickets and reads everything.
    Check {
        after: u64,
        limit: usize,
    },
    Reopen,
}

fn write() -> impl Strategy<Value = Write> {
    let place = || (0..NAMES.len(), 0..OWNERS.len(), 0..KEYS.len(), 0..6u64);
    let bytes = || proptest::collection::vec(0..3u8, 0..3);
    prop_oneof![
        4 => (place(), bytes()).prop_map(|(place, bytes)| Write::PutValue(place, bytes)),
        2 => place().prop_map(Write::DeleteValue),
        1 => (place(), proptest::bool::weighted(0.7)).prop_map(|(place, holds)| Write::ExpectValue(place, holds)),
        4 => (place(), bytes()).prop_map(|(place, bytes)| Write::PutEntry(place, bytes)),
        2 => place().prop_map(Write::DeleteEntry),
        1 => place().prop_map(Write::ClearMap),
        1 => (place(), proptest::bool::weighted(0.7)).prop_map(|(place, holds)| Write::ExpectEntry(place, holds)),
        6 => (place(), bytes()).prop_map(|(place, bytes)| Write::Append(place, bytes)),
        4 => place().prop_map(Write::DeleteFromLog),
        1 => place().prop_map(Write::ClearLog),
        1 => place().prop_map(Write::Erase),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => proptest::collection::vec(write(), 0..5).prop_map(Step::Commit),
        2 => (0..7u64, 0..5usize).prop_map(|(after, limit)| Step::Check { after, limit }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

#[derive(Clone, Default)]
struct Model {
    values: BTreeMap<(usize, usize), Bytes>,
    entries: BTreeMap<(usize, usize, usize), Bytes>,
    logs: BTreeMap<(usize, usize, u64), Bytes>,
}

impl Model {
    fn write(&mut self, write: &Write) {
        match write {
            Write::PutValue((name, owner, ..), bytes) => drop(self.values.insert((*name, *owner), bytes.clone())),
            Write::DeleteValue((name, owner, ..)) => drop(self.values.remove(&(*name, *owner))),
            Write::PutEntry((name, owner, key, _), bytes) => {
                self.entries.insert((*name, *owner, *key), bytes.clone());
            }
            Write::DeleteEntry((name, owner, key, _)) => drop(self.entries.remove(&(*name, *owner, *key))),
            Write::ClearMap((name, owner, ..)) => {
                self.entries.retain(|(of_name, of_owner, _), _| (of_name, of_owner) != (name, owner));
            }
            Write::Append((name, owner, _, id), bytes) => drop(self.logs.insert((*name, *owner, *id), bytes.clone())),
            Write::DeleteFromLog((name, owner, _, id)) => drop(self.logs.remove(&(*name, *owner, *id))),
            Write::ClearLog((name, owner, ..)) => {
                self.logs.retain(|(of_name, of_owner, _), _| (of_name, of_owner) != (name, owner));
            }
            Write::Erase((_, owner, ..)) => {
                self.values.retain(|(_, of_owner), _| of_owner != owner);
                self.entries.retain(|(_, of_owner, _), _| of_owner != owner);
                self.logs.retain(|(_, of_owner, _), _| of_owner != owner);
            }
            Write::ExpectValue(..) | Write::ExpectEntry(..) => {}
        }
    }
}

struct Subject {
    store: Store,
    values: [Value<Bytes>; 2],
    maps: [Map<Bytes>; 2],
    logs: [Log<Bytes>; 2],
}

impl Subject {
    fn new(store: Store) -> Self {
        let (values, maps, logs) =
            (NAMES.map(|name| store.value(name)), NAMES.map(|name| store.map(name)), NAMES.map(|name| store.log(name)));
        Self { store, values, maps, logs }
    }

    /// Commits to both, and returns what the ticket has to say.
    fn commit(&self, model: &mut Model, writes: &[Write]) -> (Ticket, Result<(), StoreError>) {
        let mut batch = Batch::new();
        let mut holds = true;
        let before = model.clone();
        // Not what the model has.
        let other = b"something else".to_vec();
        for write in writes {
            match write {
                Write::PutValue((name, owner, ..), bytes) => self.values[*name].put(&mut batch, OWNERS[*owner], bytes),
                Write::DeleteValue((name, owner, ..)) => self.values[*name].delete(&mut batch, OWNERS[*owner]),
                Write::ExpectValue((name, owner, ..), holding) => {
                    let found = before.values.get(&(*name, *owner));
                    let expected = if *holding { found } else { found.is_none().then_some(&other) };
                    self.values[*name].expect(&mut batch, OWNERS[*owner], expected);
                    holds &= holding;
                }
                Write::PutEntry((name, owner, key, _), bytes) => {
                    self.maps[*name].put(&mut batch, OWNERS[*owner], KEYS[*key], bytes);
                }
                Write::DeleteEntry((name, owner, key, _)) => {
                    self.maps[*name].delete(&mut batch, OWNERS[*owner], KEYS[*key]);
                }
                Write::ClearMap((name, owner, ..)) => self.maps[*name].clear(&mut batch, OWNERS[*owner]),
                Write::ExpectEntry((name, owner, key, _), holding) => {
                    let found = before.entries.get(&(*name, *owner, *key));
                    let expected = if *holding { found } else { found.is_none().then_some(&other) };
                    self.maps[*name].expect(&mut batch, OWNERS[*owner], KEYS[*key], expected);
                    holds &= holding;
                }
                Write::Append((name, owner, _, id), bytes) => {
                    self.logs[*name].append(&mut batch, OWNERS[*owner], LogId(*id), bytes);
                }
                Write::DeleteFromLog((name, owner, _, id)) => {
                    self.logs[*name].delete(&mut batch, OWNERS[*owner], LogId(*id));
                }
                Write::ClearLog((name, owner, ..)) => self.logs[*name].clear(&mut batch, OWNERS[*owner]),
                Write::Erase((_, owner, ..)) => batch.erase(OWNERS[*owner]),
            }
            model.write(write);
        }
        assert_eq!(batch.is_empty(), writes.is_empty());
        if !holds {
            *model = before;
        }
        (self.store.commit(batch), if holds { Ok(()) } else { Err(StoreError::Conflict) })
    }

    async fn check(&self, model: &Model, after: u64, limit: usize) {
        for (name, _) in NAMES.iter().enumerate() {
            for (owner, of) in OWNERS.iter().enumerate() {
                assert_eq!(self.values[name].get(of).await.unwrap().as_ref(), model.values.get(&(name, owner)));
                let mut entries: Vec<(String, Bytes)> = Vec::new();
                for (key, of_key) in KEYS.iter().enumerate() {
                    let entry = model.entries.get(&(name, owner, key));
                    assert_eq!(self.maps[name].get(of, of_key).await.unwrap().as_ref(), entry);
                    entries.extend(entry.map(|entry| (of_key.to_string(), entry.clone())));
                }
                entries.sort();
                assert_eq!(self.maps[name].list(of).await.unwrap(), entries);

                let log =
                    model.logs.iter().filter(|((of_name, of_owner, _), _)| (*of_name, *of_owner) == (name, owner));
                let log: Vec<_> = log.map(|((_, _, id), bytes)| (LogId(*id), bytes.clone())).collect();
                assert_eq!(self.logs[name].count(of).await.unwrap(), log.len() as u64);
                assert_eq!(self.logs[name].range(of, None, limit).await.unwrap(), log[..limit.min(log.len())]);
                let mut back: Vec<_> = log.iter().filter(|(id, _)| id.0 < after).cloned().collect();
                back.reverse();
                back.truncate(limit);
                assert_eq!(self.logs[name].range_back(of, Some(LogId(after)), limit).await.unwrap(), back);
                let newest: Vec<_> = log.iter().rev().take(limit).cloned().collect();
                assert_eq!(self.logs[name].range_back(of, None, limit).await.unwrap(), newest);
                let page: Vec<_> = log.into_iter().filter(|(id, _)| id.0 > after).take(limit).collect();
                assert_eq!(self.logs[name].range(of, Some(LogId(after)), limit).await.unwrap(), page);
            }
            let owners: BTreeSet<_> =
                model.values.keys().filter(|(of_name, _)| *of_name == name).map(|(_, owner)| OWNERS[*owner]).collect();
            for prefix in PREFIXES {
                let of_prefix: Vec<_> = owners.iter().filter(|owner| owner.starts_with(prefix)).collect();
                assert_eq!(self.values[name].count(prefix).await.unwrap(), of_prefix.len() as u64);
                for after in [None].into_iter().chain(OWNERS.into_iter().map(Some)) {
                    let later = of_prefix.iter().filter(|owner| after.is_none_or(|after| ***owner > after));
                    let page: Vec<_> = later.take(limit).map(|owner| owner.to_string()).collect();
                    assert_eq!(self.values[name].owners(prefix, after, limit).await.unwrap(), page);
                }
            }
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs the steps; `reopen` gives the store of the next life, or the same one where it has but one.
fn run(steps: &[Step], mut subject: Subject, reopen: impl Fn(Store) -> Store) {
    let mut model = Model::default();
    let mut tickets = Vec::new();
    let settle = |tickets: &mut Vec<(Ticket, Result<(), StoreError>)>| {
        tickets.drain(..).for_each(|(ticket, expected)| assert_eq!(ticket.wait(), expected));
    };
    for step in steps {
        match step {
            Step::Commit(writes) => {
                // What is to be expected is known only once all before it is there; the model does not know the queue.
                tickets.push(subject.commit(&mut model, writes));
            }
            Step::Check { after, limit } => {
                settle(&mut tickets);
                block_on(subject.check(&model, *after, *limit));
            }
            Step::Reopen => {
                subject = Subject::new(reopen(subject.store));
                settle(&mut tickets);
                block_on(subject.check(&model, 0, 9));
            }
        }
    }
    settle(&mut tickets);
    block_on(subject.check(&model, 2, 9));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_folder_does_what_the_model_does(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path()).unwrap();
        run(&steps, Subject::new(open()), |store| {
            store.close();
            open()
        });
    }

    #[test]
    fn memory_does_what_the_model_does(steps in steps()) {
        run(&steps, Subject::new(Store::memory()), |store| store);
    }

    #[test]
    fn memory_behind_a_thread_does_what_the_model_does(steps in steps()) {
        run(&steps, Subject::new(Store::memory_with(Faults::new())), |store| store);
    }
}
