//! Logs that `disk_log` itself writes: wrapped round several files, external, and while they are written.

#![allow(clippy::unwrap_used)]

mod erl;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use erl::{Erl, source};
use magpie_terms::config::{SourceKind, Terms};
use magpie_terms::sources::log::Log;
use magpie_terms::sources::{Limits, Source as _, SourceError};

fn open(path: &Path) -> Log {
    let limits = Limits { bytes_max: 1 << 20, seconds_max: 30 };
    Log::open(&source(SourceKind::DiskLog, path), &Terms::default(), limits).unwrap()
}

async fn shown(log: &Log, key: &str) -> Option<String> {
    let found = log.get(key).await.unwrap();
    found.map(|found| magpie_etf::decode(&found.bytes).unwrap().root().to_string())
}

/// Opens the log `l`; each item of `log` is a record of a number, its round, and a hundred bytes.
fn start(path: &Path, options: &str, log: &str) -> Erl {
    let mut erl = Erl::start(&[]);
    erl.value(&format!("{{ok, l}} = disk_log:open([{{name, l}}, {{file, {path:?}}}, {options}])"));
    erl.value(&format!(
        "register(writer, spawn(fun() -> (fun F() -> receive {{From, Ns, Round}} -> \
         [ok = {log} || N <- Ns, R <- [{{r, N, Round, binary:copy(<<7>>, 100)}}]], \
         ok = disk_log:sync(l), From ! written, F() end end)() end))"
    ));
    erl
}

fn write(erl: &mut Erl, numbers: &str, round: u32) {
    erl.value(&format!("writer ! {{self(), {numbers}, {round}}}, receive written -> written end"));
}

/// What `disk_log` itself reads: each number with its last round.
fn kept(erl: &mut Erl) -> Vec<(i64, i64)> {
    let read = "(fun F(C, Map) -> case disk_log:chunk(l, C) of eof -> maps:to_list(Map); {Next, Terms} -> \
                F(Next, lists:foldl(fun({r, N, Round, _}, M) -> M#{N => Round} end, Map, Terms)) end end)(start, #{})";
    let value = erl.value(read);
    let magpie_etf::TermKind::List(pairs) = value.root().kind() else { panic!("{}", value.root()) };
    let number = |term: Option<magpie_etf::Term<'_>>| term.unwrap().as_i64().unwrap();
    pairs.map(|pair| pair.as_tuple().unwrap()).map(|mut pair| (number(pair.next()), number(pair.next()))).collect()
}

#[tokio::test]
async fn of_a_log_that_is_wrapped_round_its_files_what_is_left_is_found_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.LOG");
    let log = open(&path);
    assert_eq!(shown(&log, "1").await, None);
    let mut erl = start(&path, "{type, wrap}, {size, {10000, 4}}", "disk_log:log(l, R)");
    let mut wrapped = 0;
    // A file holds some 70 records.
    for round in 1..=8 {
        write(&mut erl, "lists:seq(1, 150, 3)", round);
        write(&mut erl, &format!("lists:seq({round}000, {round}040)"), round);
        let kept = kept(&mut erl);
        for number in
            (1..=150).step_by(3).chain((1..=round).flat_map(|round| round as i64 * 1000..=round as i64 * 1000 + 40))
        {
            let expected = kept.iter().find(|(there, _)| *there == number).map(|(_, round)| *round);
            let found = shown(&log, &number.to_string()).await;
            let found = found.map(|record| record.split(',').nth(2).unwrap().parse::<i64>().unwrap());
            assert_eq!(found, expected, "{number} in round {round}");
            wrapped += usize::from(expected.is_none());
        }
    }
    assert!(wrapped > 100, "{wrapped}: some were overwritten");
    assert!(folder.path().join("events.LOG.4").exists() && !path.exists());
    erl.value("disk_log:close(l)");
    assert_eq!(shown(&log, "8040").await.unwrap().split(',').nth(2), Some("8"));
}

#[tokio::test]
async fn a_record_that_is_written_again_and_again_is_found_while_the_log_is_wrapped_round() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    let mut erl = start(&path, "{type, wrap}, {size, {20000, 3}}", "disk_log:log(l, R)");
    write(&mut erl, "[1, 2]", 0);
    erl.value(
        "spawn(fun() -> (fun F(Round) -> [ok = disk_log:log(l, {r, N, Round, binary:copy(<<7>>, 100)}) || N <- [1, 2, 1000 + Round]], \
         F(Round + 1) end)(1) end)",
    );
    let log = open(&path);
    let (began, mut last, mut found) = (Instant::now(), 0, 0);
    // Long enough for the log to be wrapped round, however slow the machine is.
    while found < 100 || last < 3000 {
        assert!(began.elapsed() < Duration::from_secs(120), "{found} times, up to {last}");
        match log.get("1").await {
            Ok(Some(record)) => {
                let tape = magpie_etf::decode(&record.bytes).unwrap();
                let round = tape.root().as_tuple().unwrap().nth(2).unwrap().as_i64().unwrap();
                assert!(round >= last, "it went back from {last} to {round}");
                (last, found) = (round, found + 1);
            }
            Ok(None) => panic!("it is gone"),
            Err(SourceError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_external_log_whose_items_are_terms_is_read_alone_and_wrapped_and_with_a_torn_end() {
    for (options, first) in
        [("{type, wrap}, {size, {10000, 3}}, {format, external}", "log.1"), ("{format, external}", "log")]
    {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder.path().join("log"));
        let mut erl = start(&folder.path().join("log"), options, "disk_log:blog(l, term_to_binary(R))");
        write(&mut erl, "lists:seq(1, 40)", 1);
        write(&mut erl, "[7]", 2);
        assert_eq!(shown(&log, "7").await.unwrap().split(',').nth(2), Some("2"), "{options}");
        assert_eq!(shown(&log, "40").await.unwrap().split(',').nth(2), Some("1"));
        assert_eq!(shown(&log, "41").await, None);
        // One that is compressed, and one that is longer than what is read at once.
        erl.value("ok = disk_log:blog(l, term_to_binary({r, 50, lists:seq(1, 300)}, [compressed])), disk_log:sync(l)");
        assert!(shown(&log, "50").await.unwrap().starts_with("{r,50,[1,2,3,"));
        if !options.contains("wrap") {
            erl.value("ok = disk_log:blog(l, term_to_binary({r, 51, binary:copy(<<1>>, 500000)})), disk_log:sync(l)");
            write(&mut erl, "[52]", 3);
            assert_eq!(log.get("51").await.unwrap().unwrap().bytes.len(), 500_000 + 14);
            assert!(shown(&log, "52").await.is_some());
        }
        erl.value("disk_log:close(l)");
        let file = folder.path().join(first);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], &whole[..50]].concat()).unwrap();
        assert_eq!(shown(&log, "7").await.unwrap().split(',').nth(2), Some("2"), "the last is not whole yet");
        fs::write(&file, [&whole[..], b"no term"].concat()).unwrap();
        assert!(matches!(log.get("7").await, Err(SourceError::Damaged(_))));
    }
}

#[tokio::test]
async fn a_log_of_one_file_is_read_as_tables_of_mnesia_are_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.LOG");
    let mut erl = start(&path, "{type, halt}", "disk_log:log(l, R)");
    write(&mut erl, "[1, 2]", 5);
    assert_eq!(shown(&open(&path), "2").await.unwrap().split(',').nth(2), Some("5"));
    fs::write(folder.path().join("other.idx"), b"none").unwrap();
    assert!(matches!(open(&folder.path().join("other")).get("1").await, Err(SourceError::Damaged(_))));
    for path in ["", "users.DCD", "events.LOG.idx"] {
        let limits = Limits { bytes_max: 1 << 20, seconds_max: 5 };
        assert!(Log::open(&source(SourceKind::DiskLog, Path::new(path)), &Terms::default(), limits).is_err(), "{path}");
    }
}
