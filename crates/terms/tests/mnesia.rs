//! Tables that Mnesia itself writes: dumped, not dumped, killed and damaged; and logs of records.

#![allow(clippy::unwrap_used)]

mod erl;
mod random;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use erl::{Erl, expected, source};
use magpie_etf::{Tape, TermKind};
use magpie_terms::config::{SourceKind, Terms};
use magpie_terms::sources::mnesia::Mnesia;
use magpie_terms::sources::{Found, Source as _, SourceError};
use random::Random;

fn open(path: &Path) -> Mnesia {
    Mnesia::open(&source(SourceKind::Mnesia, path), &Terms::default()).unwrap()
}

/// Mnesia in a folder, dumped only when it is asked to.
fn start(folder: &Path) -> Erl {
    let dir = format!("{:?}", folder.to_str().unwrap());
    let mut erl = Erl::start(&["-mnesia", "dir", &dir, "-mnesia", "dump_log_write_threshold", "1000000"]);
    let loaded = erl.value("application:load(mnesia)");
    assert!(
        loaded.root().as_atom() == Some("ok"),
        "missing: Mnesia\n  apt-get update && apt-get install --no-install-recommends erlang-mnesia"
    );
    erl
}

const TABLES: [(&str, &str, &str, &str); 5] = [
    ("things", "DCD", "disc_copies", "set"),
    ("bags", "DCD", "disc_copies", "bag"),
    ("sorted", "DCD", "disc_copies", "ordered_set"),
    ("files", "DAT", "disc_only_copies", "set"),
    ("bagfiles", "DAT", "disc_only_copies", "bag"),
];

fn create(erl: &mut Erl) {
    erl.run("mnesia:create_schema([node()])");
    erl.run("mnesia:start()");
    for (name, _, storage, kind) in TABLES {
        erl.run(&format!(
            "{{atomic, ok}} = mnesia:create_table({name}, [{{{storage}, [node()]}}, {{type, {kind}}}, {{record_name, r}}]), ok"
        ));
    }
}

/// Objects of a bag come in any order.
fn sorted(tape: &Tape<'_>, is_bag: bool) -> Vec<String> {
    let mut all = match tape.root().kind() {
        TermKind::List(objects) if is_bag => objects.map(|object| object.to_string()).collect(),
        _ => vec![tape.root().to_string()],
    };
    all.sort();
    all
}

struct Expected {
    keys: Vec<String>,
    objects: Vec<Vec<Vec<Vec<u8>>>>,
}

/// What Mnesia has of each table.
fn ask(erl: &mut Erl, numbers: &str) -> Expected {
    let keys = erl.keys(numbers);
    let objects = TABLES.iter().map(|(name, ..)| erl.objects(&format!("files:mnesia({name}, {numbers})"))).collect();
    Expected { keys, objects }
}

async fn check(sources: &[Mnesia], wanted: &Expected, when: &str) {
    for (((name, _, _, kind), source), objects) in TABLES.iter().zip(sources).zip(&wanted.objects) {
        let is_bag = *kind == "bag";
        let mut there = 0;
        for (key, objects) in wanted.keys.iter().zip(objects) {
            let found = source.get(key).await.unwrap_or_else(|error| panic!("{when}, {name}, {key}: {error}"));
            let tape = found.as_ref().map(|found| magpie_etf::decode(&found.bytes).unwrap());
            let wanted = expected(objects, is_bag);
            there += usize::from(wanted.is_some());
            let shown = |tape: &Tape<'_>| sorted(tape, is_bag);
            assert_eq!(tape.as_ref().map(shown), wanted.as_ref().map(shown), "{when}, {name}, {key}");
        }
        assert!(there > 0, "{when}, {name}: nothing is there");
    }
}

/// A file whose time is that of its last change long ago, so that it is not waited for.
fn settle(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
}

#[tokio::test]
async fn what_mnesia_has_is_found_before_and_after_dumps_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut erl = start(folder.path());
    create(&mut erl);
    let sources: Vec<Mnesia> =
        TABLES.iter().map(|(name, extension, ..)| open(&folder.path().join(format!("{name}.{extension}")))).collect();
    let all = "lists:seq(1, 600, 7)";
    let each = |change: &str, numbers: &str| {
        let tables: Vec<&str> = TABLES.iter().map(|(name, ..)| *name).collect();
        format!(
            "{{atomic, _}} = mnesia:transaction(fun() -> [{change} || T <- [{}], N <- {numbers}] end), ok",
            tables.join(",")
        )
    };
    let write = |round: u32| format!("mnesia:write(T, {{r, files:key(N), files:value(N, {round})}}, write)");
    erl.run(&each(&write(1), "lists:seq(1, 300)"));
    // What DETS delays is written after a moment.
    erl.run("timer:sleep(3500)");
    settle(folder.path());
    check(&sources, &ask(&mut erl, all), "in LATEST.LOG").await;
    erl.value("mnesia:dump_log()");
    settle(folder.path());
    check(&sources, &ask(&mut erl, all), "dumped").await;
    erl.run(&each(&write(2), "lists:seq(200, 500)"));
    erl.run(&each("mnesia:delete(T, files:key(N), write)", "lists:seq(1, 500, 5)"));
    erl.run(&each("[mnesia:delete_object(T, R, write) || R <- mnesia:read(T, files:key(N))]", "lists:seq(2, 500, 9)"));
    erl.run(&each(&write(1), "lists:seq(1, 500, 10)"));
    erl.run("timer:sleep(3500)");
    settle(folder.path());
    check(&sources, &ask(&mut erl, all), "changed").await;
    erl.value("mnesia:dump_log()");
    settle(folder.path());
    check(&sources, &ask(&mut erl, all), "changed and dumped").await;
    erl.run("[mnesia:dirty_update_counter(T, c, 5) || T <- [things, sorted, files], _ <- [1, 2, 3]], ok");
    erl.run("[mnesia:dirty_update_counter(T, c, -7) || T <- [things, sorted, files]], ok");
    erl.run(&each(&write(3), "[1, 2, 3]"));
    erl.run("timer:sleep(3500)");
    settle(folder.path());
    for source in [&sources[0], &sources[2], &sources[3]] {
        let found = source.get("c").await.unwrap().unwrap();
        assert_eq!(magpie_etf::decode(&found.bytes).unwrap().root().to_string(), "{r,c,8}");
    }
    erl.run("[{atomic, ok} = mnesia:clear_table(T) || T <- [things, files]], ok");
    erl.run(&each(&write(4), "lists:seq(290, 310)"));
    erl.run("timer:sleep(3500)");
    // What is logged is written after two seconds at the latest.
    let wanted = ask(&mut erl, all);
    settle(folder.path());
    check(&sources, &wanted, "cleared").await;
    erl.kill();
    check(&sources, &wanted, "killed").await;
    let fresh: Vec<Mnesia> =
        TABLES.iter().map(|(name, extension, ..)| open(&folder.path().join(format!("{name}.{extension}")))).collect();
    check(&fresh, &wanted, "killed, and read anew").await;
    let mut erl = start(folder.path());
    erl.run("mnesia:start()");
    erl.run("mnesia:wait_for_tables([things, bags, sorted, files, bagfiles], 60000)");
    settle(folder.path());
    check(&sources, &ask(&mut erl, all), "started again").await;
    erl.value("mnesia:stop()");
    settle(folder.path());
    check(&sources, &wanted, "stopped").await;
}

#[tokio::test]
async fn a_key_that_is_always_there_is_always_found_while_mnesia_writes_and_dumps() {
    let folder = tempfile::tempdir().unwrap();
    let mut erl = start(folder.path());
    create(&mut erl);
    erl.run("[mnesia:dirty_write(things, {r, files:key(N), files:value(N, 0)}) || N <- lists:seq(1, 30)], ok");
    erl.value("mnesia:dump_log()");
    let keys = erl.keys("lists:seq(1, 30)");
    let things = open(&folder.path().join("things.DCD"));
    erl.value(
        "spawn(fun() -> files:writer(fun(N, R) -> mnesia:dirty_write(things, {r, files:key(N), files:value(N, R)}) end, \
         lists:seq(1, 30), 1) end), spawn(fun() -> (fun F() -> mnesia:dump_log(), timer:sleep(50), F() end)() end)",
    );
    let began = Instant::now();
    let mut rounds = vec![0; keys.len()];
    let mut latest = 0;
    while began.elapsed() < Duration::from_secs(5) {
        for (nth, key) in keys.iter().enumerate() {
            match things.get(key).await {
                Ok(Some(Found { bytes, .. })) => {
                    let tape = magpie_etf::decode(&bytes).unwrap();
                    let value = tape.root().as_tuple().unwrap().nth(2).unwrap().as_tuple().unwrap().collect::<Vec<_>>();
                    assert_eq!(value[0].as_i64().unwrap(), nth as i64 + 1);
                    let round = value[1].as_i64().unwrap();
                    assert!(round >= rounds[nth], "{key} went back from {} to {round}", rounds[nth]);
                    rounds[nth] = round;
                    latest = latest.max(round);
                }
                Ok(None) => panic!("{key} is gone"),
                Err(SourceError::Unavailable(_)) => {}
                Err(error) => panic!("{key}: {error}"),
            }
        }
    }
    assert!(latest > 2, "{latest}");
}

#[tokio::test]
async fn of_a_log_of_records_the_last_under_a_key_is_found_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.LOG");
    let log = open(&path);
    assert_eq!(log.get("1").await.unwrap(), None);
    let mut erl = Erl::start(&[]);
    erl.run(&format!("{{ok, l}} = disk_log:open([{{name, l}}, {{file, {path:?}}}]), disk_log:log(l, {{r, 1, a}})"));
    erl.run("disk_log:sync(l)");
    let shown = |found: Option<Found>| found.map(|found| magpie_etf::decode(&found.bytes).unwrap().root().to_string());
    assert_eq!(shown(log.get("1").await.unwrap()).as_deref(), Some("{r,1,a}"));
    // Items that have a sum, and one whose key is behind the first 64 KiB.
    erl.run(
        "ok = disk_log:log_terms(l, [not_a_tuple, {r, 1, b}, {r, 2, binary:copy(<<7>>, 200000)}, \
         {binary:copy(<<1>>, 100000), 3, x}, {r, 4}]), disk_log:sync(l)",
    );
    assert_eq!(shown(log.get("1").await.unwrap()).as_deref(), Some("{r,1,b}"));
    assert_eq!(log.get("2").await.unwrap().unwrap().bytes.len(), 200_014);
    assert_eq!(log.get("3").await.unwrap().unwrap().bytes.len(), 100_014);
    assert_eq!(shown(log.get("4").await.unwrap()).as_deref(), Some("{r,4}"));
    let version = log.get("1").await.unwrap().unwrap().version;
    erl.run("ok = disk_log:log(l, {r, 5, new}), disk_log:sync(l)");
    assert_eq!(log.get("1").await.unwrap().unwrap().version, version, "another key does not change it");
    erl.run("ok = disk_log:log(l, {r, 1, c}), disk_log:sync(l)");
    assert_ne!(log.get("1").await.unwrap().unwrap().version, version);
    erl.run("ok = disk_log:truncate(l), ok = disk_log:log(l, {r, 6, x}), disk_log:close(l)");
    assert_eq!(log.get("1").await.unwrap(), None);
    assert_eq!(shown(log.get("6").await.unwrap()).as_deref(), Some("{r,6,x}"));
    // Made empty, and grown by items of the same size beyond what was read, before anybody looks.
    let keys = |from: u32| {
        format!("[ok = disk_log:log(l, {{r, N, x}}) || N <- lists:seq({from}, {from} + 19)], disk_log:sync(l)")
    };
    erl.value(&format!(
        "{{ok, l}} = disk_log:open([{{name, l}}, {{file, {path:?}}}]), disk_log:truncate(l), {}",
        keys(100)
    ));
    assert_eq!(shown(log.get("119").await.unwrap()).as_deref(), Some("{r,119,x}"));
    erl.run(&format!("disk_log:truncate(l), {}, {}", keys(200), keys(230)));
    assert_eq!(shown(log.get("200").await.unwrap()).as_deref(), Some("{r,200,x}"));
    assert_eq!(log.get("119").await.unwrap(), None);
    erl.run("ok = disk_log:truncate(l), ok = disk_log:log(l, {r, 6, x}), disk_log:close(l)");
    // An item of which not all has come yet.
    let mut bytes = fs::read(&path).unwrap();
    let whole = bytes.clone();
    bytes.extend_from_slice(&whole[8..whole.len() - 1]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(shown(log.get("6").await.unwrap()).as_deref(), Some("{r,6,x}"));
}

#[test]
fn paths_that_name_no_table_are_refused() {
    for path in ["", "folder/things.DCL"] {
        assert!(Mnesia::open(&source(SourceKind::Mnesia, Path::new(path)), &Terms::default()).is_err(), "{path}");
    }
}

#[tokio::test]
async fn damaged_files_give_errors_or_nothing_but_never_the_object_of_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut erl = start(folder.path());
    create(&mut erl);
    // Mnesia writes a table anew when what came since is more than a quarter of it.
    for (numbers, then) in [
        ("1, 40", "mnesia:dump_log()"),
        ("1, 4", "mnesia:dump_log()"),
        ("1, 4", "mnesia:dump_log()"),
        ("1, 40", "mnesia:sync_log()"),
    ] {
        erl.run(&format!(
            "[mnesia:dirty_write(T, {{r, files:key(N), files:value(N, 1)}}) || T <- [things, bags], \
             N <- lists:seq({numbers})], {then}, ok"
        ));
    }
    let keys = erl.keys("lists:seq(1, 40)");
    erl.kill();
    let names = ["things.DCD", "things.DCL", "bags.DCL", "LATEST.LOG", "schema.DAT"];
    let whole: Vec<Vec<u8>> = names.iter().map(|name| fs::read(folder.path().join(name)).unwrap_or_default()).collect();
    assert!(whole.iter().all(|bytes| bytes.len() > 100), "{:?}", whole.iter().map(Vec::len).collect::<Vec<_>>());
    let mut random = Random(6);
    let began = Instant::now();
    let mut found = 0;
    for round in 0..2000 {
        let file = random.below(names.len());
        let mut bytes = whole[file].clone();
        match round % 4 {
            0 => bytes.truncate(random.below(bytes.len())),
            // A length of 4 GiB.
            1 => {
                let at = random.below(bytes.len() - 4);
                bytes[at..at + 4].fill(0xff);
            }
            _ => {
                for _ in 0..=random.below(20) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.below(256) as u8;
                }
            }
        }
        fs::write(folder.path().join(names[file]), &bytes).unwrap();
        settle(folder.path());
        let sources = [open(&folder.path().join("things.DCD")), open(&folder.path().join("bags.DCD"))];
        for _ in 0..4 {
            let key = &keys[random.below(keys.len())];
            if let Ok(Some(Found { bytes, .. })) = sources[random.below(2)].get(key).await {
                let Ok(tape) = magpie_etf::decode(&bytes) else { continue };
                let object = match tape.root().kind() {
                    TermKind::List(mut objects) => objects.next().unwrap(),
                    _ => tape.root(),
                };
                let key = magpie_etf::text::parse(key).unwrap();
                let there = object.as_tuple().and_then(|mut fields| fields.nth(1));
                assert!(there.is_some_and(|there| there == key.root()), "round {round}: {}", tape.root());
                found += 1;
            }
        }
        fs::write(folder.path().join(names[file]), &whole[file]).unwrap();
    }
    assert!(found > 1000, "{found}");
    assert!(began.elapsed() < Duration::from_secs(120));
}
