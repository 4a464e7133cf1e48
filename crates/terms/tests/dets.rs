//! Files of DETS that Erlang itself writes, open, closed, killed and damaged.

#![allow(clippy::unwrap_used)]

mod erl;
mod random;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use erl::{Erl, expected, source};
use magpie_terms::config::{SourceKind, Terms};
use magpie_terms::sources::dets::Dets;
use magpie_terms::sources::{Found, Source as _, SourceError};
use random::Random;

fn open(path: &Path) -> Dets {
    Dets::open(&source(SourceKind::Dets, path), &Terms::default()).unwrap()
}

async fn check(erl: &mut Erl, path: &Path, numbers: &str, is_bag: bool) {
    let keys = erl.keys(numbers);
    let objects = erl.objects(&format!("files:dets(t, {numbers})"));
    check_all(path, &keys, &objects, is_bag).await;
}

async fn check_all(path: &Path, keys: &[String], objects: &[Vec<Vec<u8>>], is_bag: bool) {
    let dets = open(path);
    for (key, objects) in keys.iter().zip(objects) {
        let found = dets.get(key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let tape = found.as_ref().map(|found| magpie_etf::decode(&found.bytes).unwrap());
        assert_eq!(tape, expected(objects, is_bag), "{key}");
    }
}

/// A file whose time is that of its last change long ago, so that it is not waited for.
fn settle(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

#[tokio::test]
async fn what_erlang_keeps_in_dets_is_found_while_it_is_open_after_it_was_closed_and_after_a_kill() {
    for (kind, keypos) in [("set", 1), ("bag", 2), ("duplicate_bag", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.dets");
        let mut erl = Erl::start(&[]);
        // Not saved while it is open, but for the last round: the header keeps what it said at first.
        let opened = format!(
            "{{ok, t}} = dets:open_file(t, [{{file, {path:?}}}, {{type, {kind}}}, {{keypos, {keypos}}}, \
             {{auto_save, infinity}}, {{delayed_write, {{20, 2000}}}}]), ok"
        );
        erl.run(&opened);
        let object =
            if keypos == 1 { "{files:key(N), files:value(N, R)}" } else { "{files:value(N, R), files:key(N), x}" };
        let write = format!("fun(Ns, R) -> dets:insert(t, [{object} || N <- Ns]) end");
        check(&mut erl, &path, "[1, 2]", kind != "set").await;
        for (round, numbers, looked_for) in [
            (1, "lists:seq(1, 300)", "lists:seq(1, 320, 9)"),
            (2, "lists:seq(200, 3000)", "lists:seq(1, 3100, 61)"),
            (3, "lists:seq(1, 6000, 3)", "lists:seq(1, 6050, 97)"),
        ] {
            // What is delayed is written, and the table grows step by step.
            erl.run(&format!("ok = ({write})({numbers}, {round}), timer:sleep(500)"));
            check(&mut erl, &path, looked_for, kind != "set").await;
        }
        erl.run(
            "[ok = dets:delete(t, files:key(N)) || N <- lists:seq(1, 6000, 4)], \
             [ok = dets:delete_object(t, O) || N <- lists:seq(2, 6000, 8), O <- dets:lookup(t, files:key(N))], dets:sync(t)",
        );
        let keys = erl.keys("lists:seq(1, 6400, 5)");
        let objects = erl.objects("files:dets(t, lists:seq(1, 6400, 5))");
        if kind == "bag" {
            erl.kill();
        } else {
            erl.run("dets:close(t)");
        }
        settle(&path);
        check_all(&path, &keys, &objects, kind != "set").await;
        // Erlang repairs what was not closed.
        let mut erl = Erl::start(&[]);
        erl.run(&opened);
        check(&mut erl, &path, "lists:seq(1, 6100, 97)", kind != "set").await;
    }
}

#[tokio::test]
async fn a_key_that_is_always_there_is_always_found_while_erlang_writes_and_the_table_grows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.dets");
    let mut erl = Erl::start(&[]);
    erl.run(&format!("{{ok, t}} = dets:open_file(t, [{{file, {path:?}}}, {{delayed_write, {{10, 2000}}}}]), ok"));
    erl.run("ok = dets:insert(t, [{files:key(N), files:value(N, 0)} || N <- lists:seq(1, 50)]), dets:sync(t)");
    let keys = erl.keys("lists:seq(1, 50)");
    erl.value(
        "spawn(fun() -> files:writer(fun(N, R) -> dets:insert(t, {files:key(N), files:value(N, R)}) end, lists:seq(1, 50), 1) end)",
    );
    let dets = open(&path);
    let began = Instant::now();
    let mut versions = std::collections::HashSet::new();
    while began.elapsed() < Duration::from_secs(4) {
        for (nth, key) in keys.iter().enumerate() {
            match dets.get(key).await {
                Ok(Some(Found { bytes, version })) => {
                    let tape = magpie_etf::decode(&bytes).unwrap();
                    let value = tape.root().as_tuple().unwrap().nth(1).unwrap().as_tuple().unwrap().collect::<Vec<_>>();
                    let (number, round) = (value[0].as_i64().unwrap(), value[1].as_i64().unwrap());
                    assert_eq!(number, nth as i64 + 1);
                    assert_eq!(value[2].as_binary().unwrap().len() as i64, 4 * ((number * 7 + round * 13) % 60));
                    versions.insert(version);
                }
                Ok(None) => panic!("{key} is gone"),
                Err(SourceError::Unavailable(_)) => {}
                Err(error) => panic!("{key}: {error}"),
            }
        }
    }
    assert!(versions.len() > 5, "{}", versions.len());
}

#[tokio::test]
async fn a_file_that_is_not_there_is_no_term_and_one_of_something_else_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    assert_eq!(open(&path).get("a").await.unwrap(), None);
    fs::write(&path, vec![7; 10_000]).unwrap();
    settle(&path);
    assert!(matches!(open(&path).get("a").await, Err(SourceError::Damaged(_))));
    assert!(matches!(open(folder.path()).get("a").await, Err(SourceError::Unavailable(_))));
    assert!(matches!(open(&path).get("A").await, Err(SourceError::Key(_))));
}

#[tokio::test]
async fn damaged_files_give_errors_or_nothing_but_never_the_object_of_another_key() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["set", "bag"] {
        let path = folder.path().join(kind);
        let mut erl = Erl::start(&[]);
        erl.run(&format!(
            "{{ok, t}} = dets:open_file(t, [{{file, {path:?}}}, {{type, {kind}}}]), \
             ok = dets:insert(t, [{{files:key(N), files:value(N, R)}} || N <- lists:seq(1, 100), R <- [1, 2]]), dets:close(t)"
        ));
        let keys = erl.keys("lists:seq(1, 100)");
        let whole = fs::read(&path).unwrap();
        let mut random = Random(5);
        let began = Instant::now();
        for round in 0..3000 {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes.truncate(random.below(whole.len())),
                // A pointer or a size of 4 GiB, or one that leads back to itself.
                1 => {
                    let at = random.below(whole.len() / 4) * 4;
                    let word = [u32::MAX, at as u32, 0x8000_0000, 1336][random.below(4)];
                    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
                }
                _ => {
                    for _ in 0..=random.below(20) {
                        let at = random.below(whole.len());
                        bytes[at] = random.below(256) as u8;
                    }
                }
            }
            // The sum in the header would refuse what comes behind.
            if round % 3 == 0 && bytes.len() > 188 {
                bytes[168..184].fill(0);
            }
            fs::write(&path, &bytes).unwrap();
            settle(&path);
            for _ in 0..4 {
                let key = &keys[random.below(keys.len())];
                if let Ok(Some(Found { bytes, .. })) = open(&path).get(key).await {
                    let found = magpie_etf::decode(&bytes);
                    let key = magpie_etf::text::parse(key).unwrap();
                    let Ok(found) = found else { continue };
                    let object = match found.root().kind() {
                        magpie_etf::TermKind::List(mut objects) => objects.next().unwrap(),
                        _ => found.root(),
                    };
                    assert!(object.as_tuple().unwrap().next().unwrap() == key.root(), "round {round}");
                }
            }
        }
        assert!(began.elapsed() < Duration::from_secs(120));
    }
}
