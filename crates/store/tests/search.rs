//! Search in an archive: both backends find the same whatever was done, in any language, and the index follows the archive through
//! ends, losses and restorations.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "text/mod.rs"]
mod text;
#[path = "wait/mod.rs"]
mod wait;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use magpie_store::{
    Archive, Batch, Effect, Filing, LOOKED_AT_MAX, LogId, Options, Page, Search, SearchEnd, Store, Words,
};
use proptest::prelude::*;

use text::Text;
use wait::wait;

/// A store with what a test does to it.
struct Subject {
    store: Store,
    archive: Archive<Text>,
    search: Search<Text>,
}

impl Subject {
    fn new(store: Store) -> Self {
        Self { archive: store.archive("archive"), search: store.search("archive"), store }
    }

    fn open(folder: &Path) -> Self {
        Self::new(Store::open(folder).unwrap())
    }

    fn commit(&self, fill: impl FnOnce(&Archive<Text>, &mut Batch)) {
        let mut batch = Batch::new();
        fill(&self.archive, &mut batch);
        self.store.commit(batch).wait().unwrap();
    }

    /// One message for one owner, with an id of its own.
    fn say(&self, owner: &str, text: &str) {
        let mut batch = Batch::new();
        let filing = Filing { owner, topic: "t", effect: Effect::None };
        self.archive.append(&mut batch, None, &[filing], &Text(text.to_owned()));
        self.store.commit_placed(batch).1.wait().unwrap();
    }

    /// As [`Subject::say`], and it does not wait to be filed.
    fn say_filed(&self, owner: &str, text: &str) {
        self.say_at(&[owner], "t", self.store.next_id(), text);
    }

    fn say_at(&self, owners: &[&str], topic: &str, id: LogId, text: &str) {
        let filings: Vec<_> = owners.iter().map(|owner| Filing { owner, topic, effect: Effect::None }).collect();
        self.commit(|archive, batch| archive.append(batch, Some(id), &filings, &Text(text.to_owned())));
    }

    fn fill(&self, owner: &str, count: usize, text: impl Fn(usize) -> String) {
        let filing = Filing { owner, topic: "t", effect: Effect::None };
        let tickets: Vec<_> = (0..count)
            .map(|index| {
                let mut batch = Batch::new();
                self.archive.append(&mut batch, None, &[filing], &Text(text(index)));
                self.store.commit_placed(batch).1
            })
            .collect();
        tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
    }

    fn find_page(&self, owner: &str, sought: &str, page: Page) -> (Vec<(LogId, Text)>, SearchEnd) {
        let mut found = Vec::new();
        let words = Words::parse(sought).unwrap();
        let end = wait(self.search.find(owner, &words, &page, |id, text| {
            found.push((id, text));
            if found.len() == page.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        (found, end.unwrap())
    }

    fn find(&self, owner: &str, sought: &str) -> Vec<String> {
        let (found, end) = self.find_page(owner, sought, Page { limit: 100_000, ..Page::default() });
        assert_eq!(end, SearchEnd::Complete);
        found.into_iter().map(|(_, text)| text.0).collect()
    }

    /// Since it was opened.
    fn wait_until_indexed(&self, count: u64) {
        let since = Instant::now();
        let statistics = || self.store.statistics();
        while statistics().search_indexed < count || statistics().search_behind > 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "{:?}", statistics());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn on_both(test: impl Fn(&Subject)) {
    test(&Subject::new(Store::memory()));
    let folder = tempfile::tempdir().unwrap();
    test(&Subject::open(folder.path()));
    // Entries are on their way to their tables, and to the index, all the time.
    let folder = tempfile::tempdir().unwrap();
    let options = Options { arriving_bytes_max: 2000, ..Options::default() };
    test(&Subject::new(Store::open_with(folder.path(), options).unwrap()));
}

const ANN: &str = "a.example/ann";
const BOB: &str = "a.example/bob";

#[test]
fn a_message_is_found_by_its_words_in_any_language_as_soon_as_it_is_kept() {
    on_both(|subject| {
        for (text, sought) in [
            ("The nightingale sings", "NIGHTINGALE"),
            ("Es grünt so grün in Łódź", "grun lodz"),
            ("我们明天去北京大学", "北京"),
            ("明日は東京タワーへ行きます", "タワー"),
            ("猫です", "猫"),
            ("오늘 학교에서 만나요", "학교"),
            ("ผมกินข้าวแล้ว", "ข้าว"),
            ("Встретимся у ёлки", "елки"),
            ("see you at 18:30 on example.org", "example.org"),
            ("\"quoted\" AND (NEAR OR NOT *)", "near or not and"),
        ] {
            assert_eq!(subject.find(ANN, sought), [""; 0], "{sought}");
            subject.say(ANN, text);
            assert_eq!(subject.find(ANN, sought), [text], "{sought}");
            assert_eq!(subject.find(BOB, sought), [""; 0], "{sought}");
        }
    });
}

#[test]
fn pages_go_on_where_the_one_before_ended_in_both_directions() {
    on_both(|subject| {
        subject.fill(ANN, 1000, |index| format!("{} {index}", if index % 3 == 0 { "fizz" } else { "other" }));
        for backwards in [false, true] {
            let (mut seen, mut page) = (Vec::new(), Page { backwards, limit: 7, ..Page::default() });
            loop {
                let (found, end) = subject.find_page(ANN, "fizz", page.clone());
                seen.extend(found.iter().map(|(id, _)| *id));
                match found.last() {
                    Some((id, _)) if end == SearchEnd::Stopped => match backwards {
                        true => page.before = Some(*id),
                        false => page.after = Some(*id),
                    },
                    _ => break,
                }
            }
            if backwards {
                seen.reverse();
            }
            assert!(seen.len() == 334 && seen.is_sorted(), "{}", seen.len());
        }
    });
}

#[test]
fn an_index_goes_on_where_it_was_when_the_store_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    const COUNT: usize = 6000;
    let first = {
        let subject = Subject::open(folder.path());
        subject.fill(ANN, COUNT, |index| format!("word{index}"));
        while subject.store.statistics().search_indexed == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        subject.store.close();
        subject.store.statistics().search_indexed
    };
    assert!(first < COUNT as u64, "the store was closed in the middle");
    let subject = Subject::open(folder.path());
    subject.wait_until_indexed(COUNT as u64 - first);
    assert_eq!(first + subject.store.statistics().search_indexed, COUNT as u64);
    for index in (0..COUNT).step_by(COUNT / 20) {
        assert_eq!(subject.find(ANN, &format!("word{index}")).len(), 1, "{index}");
    }
}

#[test]
fn the_index_looks_only_where_something_came() {
    let folder = tempfile::tempdir().unwrap();
    const DOMAINS: usize = 60;
    let subject = Subject::open(folder.path());
    let owner = |domain: usize| format!("{domain}.example/ann");
    for (domain, day) in (0..DOMAINS).flat_map(|domain| [0, 31, 91].map(|day| (domain, day))) {
        let id = LogId::at_millis(day * 24 * 60 * 60 * 1000 + domain as u64);
        subject.say_at(&[&owner(domain)], "t", id, "alpha");
    }
    subject.wait_until_indexed(3 * DOMAINS as u64);
    let looked = |subject: &Subject| subject.store.statistics().search_looked;
    assert_eq!(subject.find(ANN, "alpha").len(), 0, "and it has heard of all");
    // Where one is new it looks, and for what was changed or taken away nowhere but at that.
    let before = looked(&subject);
    subject.say_filed(&owner(7), "beta");
    assert_eq!(subject.find(&owner(7), "beta").len(), 1);
    subject.wait_until_indexed(3 * DOMAINS as u64 + 1);
    assert!((1..=3).contains(&(looked(&subject) - before)), "{}", looked(&subject) - before);
    let before = looked(&subject);
    let id = LogId::at_millis(31 * 24 * 60 * 60 * 1000 + 9);
    subject.commit(|archive, batch| archive.replace(batch, &owner(9), id, &Text("gamma".to_owned())));
    assert_eq!((subject.find(&owner(9), "gamma").len(), subject.find(&owner(9), "alpha").len()), (1, 2));
    subject.commit(|_, batch| batch.erase(&owner(11)));
    assert_eq!(subject.find(&owner(11), "alpha").len(), 0);
    // What has nothing to do with archives it does not hear of.
    let mut batch = Batch::new();
    subject.store.value::<String>("value").put(&mut batch, ANN, &"x".to_owned());
    subject.store.commit(batch).wait().unwrap();
    assert_eq!(subject.find(&owner(12), "alpha").len(), 3);
    assert_eq!(looked(&subject), before);
    // Where a part was dropped it looks everywhere, once.
    subject.commit(|archive, batch| archive.forget(batch, "5.example", id));
    assert_eq!(subject.find(&owner(5), "alpha").len(), 2);
    // One part is gone, and one came with what was said above.
    assert_eq!(looked(&subject) - before, 3 * DOMAINS as u64);
    // A message that comes again, as by an import, is found again.
    subject.say_at(&[&owner(5)], "t", LogId::at_millis(5), "alpha");
    assert_eq!(subject.find(&owner(5), "alpha").len(), 3);
}

#[test]
fn what_the_index_does_not_know_yet_is_found_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::open(folder.path());
    // More than a search waits for.
    subject.fill(ANN, 5000, |index| format!("word{index}"));
    for index in [0, 2500, 4999] {
        assert_eq!(subject.find(ANN, &format!("word{index}")), [format!("word{index}")]);
    }
}

#[test]
fn an_index_that_was_deleted_or_is_garbage_or_was_asked_for_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("search-archive.db");
    {
        let subject = Subject::open(folder.path());
        subject.say_filed(ANN, "one two");
        assert_eq!(subject.find(ANN, "one").len(), 1);
    }
    for garbage in [None, Some("not a database, but long enough to look like one. ".repeat(200))] {
        std::fs::remove_file(&file).unwrap();
        if let Some(garbage) = garbage {
            std::fs::write(&file, garbage).unwrap();
        }
        let subject = Subject::open(folder.path());
        assert_eq!(subject.find(ANN, "one").len(), 1);
        subject.wait_until_indexed(1);
        assert_eq!(subject.find(ANN, "two").len(), 1);
    }
    let subject = Subject::open(folder.path());
    assert_eq!((subject.find(ANN, "one").len(), subject.store.statistics().search_indexed), (1, 0));
    wait(subject.search.rebuild()).unwrap();
    assert_eq!(subject.find(ANN, "two").len(), 1);
    subject.wait_until_indexed(1);
    assert_eq!(subject.find(ANN, "one").len(), 1);
}

/// A backup may have the archive of one moment and the index of a later one.
#[test]
fn an_index_that_knows_more_than_the_archive_misses_nothing_that_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    {
        let subject = Subject::open(folder.path());
        subject.say_filed(ANN, "first");
        subject.store.close();
    }
    let backup = std::fs::read(&store).unwrap();
    {
        let subject = Subject::open(folder.path());
        subject.say_filed(ANN, "second");
        subject.say_filed(BOB, "third");
        assert_eq!(subject.find(BOB, "third").len(), 1);
        subject.store.close();
    }
    std::fs::write(&store, backup).unwrap();
    let subject = Subject::open(folder.path());
    for text in ["fourth", "fifth", "sixth"] {
        subject.say_filed(BOB, text);
    }
    for (owner, text, count) in
        [(ANN, "first", 1), (ANN, "second", 0), (BOB, "third", 0), (BOB, "fourth", 1), (BOB, "sixth", 1)]
    {
        assert_eq!(subject.find(owner, text).len(), count, "{text}");
    }
}

/// The erased owner's row was the last: the next one must not have its number.
#[test]
fn what_comes_after_an_erased_owner_is_found() {
    on_both(|subject| {
        for say in [Subject::say, Subject::say_filed] {
            for (name, text) in [("a.example/one", "alpha"), ("a.example/two", "beta"), ("a.example/one", "gamma")] {
                say(subject, name, text);
                assert_eq!(subject.find(name, text).len(), 1);
                subject.commit(|_, batch| batch.erase(name));
                assert_eq!(subject.find(name, text).len(), 0);
            }
            say(subject, ANN, "delta");
            assert_eq!(subject.find(ANN, "delta").len(), 1);
            subject.commit(|_, batch| batch.erase(ANN));
        }
    });
}

#[test]
fn of_an_erased_owner_the_store_keeps_nothing_once_the_index_has_followed() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::open(folder.path());
    subject.say_filed(ANN, "alpha");
    assert_eq!(subject.find(ANN, "alpha").len(), 1);
    subject.commit(|_, batch| batch.erase(ANN));
    assert_eq!(subject.find(ANN, "alpha").len(), 0);
    wait(subject.store.settled()).unwrap();
    let files =
        ["store.db", "search-archive.db"].map(|file| rusqlite::Connection::open(folder.path().join(file)).unwrap());
    let count = |file: usize, table: &str| -> i64 {
        files[file].query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(0, "archive_removals"), 0);
    subject.store.close();
    assert_eq!(count(1, "owners"), 0);
}

/// As the command line does while no server runs.
#[test]
fn an_index_follows_what_was_taken_away_while_nobody_searched() {
    let folder = tempfile::tempdir().unwrap();
    {
        let subject = Subject::open(folder.path());
        subject.say_filed(ANN, "alpha");
        subject.say_filed(BOB, "alpha");
        assert_eq!(subject.find(ANN, "alpha").len(), 1);
    }
    let store = Store::open(folder.path()).unwrap();
    let mut batch = Batch::new();
    batch.erase(ANN);
    store.commit(batch).wait().unwrap();
    store.close();
    {
        let subject = Subject::open(folder.path());
        assert_eq!((subject.find(ANN, "alpha").len(), subject.find(BOB, "alpha").len()), (0, 1));
        assert_eq!(subject.store.statistics().search_indexed, 0, "it went on, and did not start over");
        subject.store.close();
    }
    let file = rusqlite::Connection::open(folder.path().join("search-archive.db")).unwrap();
    let owners: Vec<String> = file
        .prepare("SELECT owner FROM owners")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(owners, [BOB]);
}

#[test]
fn a_search_looks_at_so_many_entries_and_no_more() {
    on_both(|subject| {
        // Every one has the words, and none has them in this order.
        subject.fill(ANN, LOOKED_AT_MAX + 2000, |_| "to be".to_owned());
        let (found, end) = subject.find_page(ANN, "\"be to\"", Page { limit: 10, ..Page::default() });
        assert_eq!((found.len(), end), (0, SearchEnd::Exhausted));
    });
}

const OWNERS: [&str; 4] = ["a.example/ann", "a.example/bob", "b.example/ann", "a.example"];
const TOPICS: [&str; 2] = ["romeo@b.example", "ä"];
const TEXTS: [&str; 8] = ["a b", "B c", "c", "北京", "京北 a", "", "*", "à 北"];
const SOUGHT: [&str; 8] = ["a", "b", "a b", "c", "北京", "京", "\"b c\"", "北 a"];
const DAYS: [u64; 7] = [0, 30, 31, 58, 59, 60, 91];

type Place = (usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Append(BTreeSet<usize>, usize, Place, usize),
    Replace(usize, Place, usize),
    Forget(usize, usize),
    Trim(usize, usize),
    Erase(usize),
    Rebuild,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Three moments of a day, two of them of one millisecond.
    let place = || (0..DAYS.len(), 0..3usize);
    let owners = proptest::collection::btree_set(0..OWNERS.len(), 1..3);
    let step = prop_oneof![
        12 => (owners, 0..TOPICS.len(), place(), 0..TEXTS.len()).prop_map(|(owners, topic, place, text)| Step::Append(owners, topic, place, text)),
        2 => (0..OWNERS.len(), place(), 0..TEXTS.len()).prop_map(|(owner, place, text)| Step::Replace(owner, place, text)),
        1 => (0..OWNERS.len(), 0..DAYS.len()).prop_map(|(owner, day)| Step::Forget(owner, day)),
        1 => (0..OWNERS.len(), 0..DAYS.len()).prop_map(|(owner, day)| Step::Trim(owner, day)),
        1 => (0..OWNERS.len()).prop_map(Step::Erase),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..30)
}

fn id((day, moment): Place) -> LogId {
    LogId(LogId::at_millis(DAYS[day] * 24 * 60 * 60 * 1000).0 + [0, 7, 1 << 20][moment])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn both_backends_find_the_same_whatever_was_done(steps in steps(), pages in proptest::collection::vec((any::<bool>(), 1..5usize, any::<bool>()), 4)) {
        let folder = tempfile::tempdir().unwrap();
        let memory = Subject::new(Store::memory());
        let mut sqlite = Subject::open(folder.path());
        for (number, step) in steps.into_iter().enumerate() {
            let both = [&memory, &sqlite];
            match step {
                Step::Append(owners, topic, place, text) => both.iter().for_each(|subject| {
                    let owners: Vec<_> = owners.iter().map(|owner| OWNERS[*owner]).collect();
                    subject.say_at(&owners, TOPICS[topic], id(place), TEXTS[text]);
                }),
                Step::Replace(owner, place, text) => both.iter().for_each(|subject| {
                    subject.commit(|archive, batch| archive.replace(batch, OWNERS[owner], id(place), &Text(TEXTS[text].to_owned())));
                }),
                Step::Forget(owner, day) => both.iter().for_each(|subject| {
                    let space = OWNERS[owner].split('/').next().unwrap();
                    subject.commit(|archive, batch| archive.forget(batch, space, id((day, 0))));
                }),
                Step::Trim(owner, day) => both.iter().for_each(|subject| {
                    subject.commit(|archive, batch| archive.trim(batch, OWNERS[owner], id((day, 2)), 3));
                }),
                Step::Erase(owner) => both.iter().for_each(|subject| subject.commit(|_, batch| batch.erase(OWNERS[owner]))),
                Step::Rebuild => wait(sqlite.search.rebuild()).unwrap(),
                Step::Reopen => {
                    sqlite.store.close();
                    sqlite = Subject::open(folder.path());
                }
            }
            for (owner, sought) in OWNERS.iter().flat_map(|owner| SOUGHT.iter().map(move |sought| (owner, sought))) {
                for (backwards, limit, by_topic) in &pages[number % 4..][..1] {
                    let topic = by_topic.then(|| TOPICS[0].to_owned());
                    let page = Page { backwards: *backwards, limit: *limit, topic, after: Some(id((1, 0))), before: Some(id((5, 2))) };
                    let all = Page { limit: 1000, ..Page::default() };
                    for page in [page, all] {
                        let [one, other] = [&memory, &sqlite].map(|subject| subject.find_page(owner, sought, page.clone()));
                        prop_assert_eq!(one, other, "{} {} {:?}", owner, sought, page);
                    }
                }
            }
        }
    }
}
