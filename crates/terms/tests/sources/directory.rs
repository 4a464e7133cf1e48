use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use magpie_terms::config::SourceKind;
use magpie_terms::sources::{Limits, Source, directory};

use crate::written::{JULIET, ROMEO, term};
use crate::{LIMITS, hostile_keys, look, source};

fn open(folder: &Path, suffix: &str, limits: Limits) -> impl Source + use<> {
    let mut source = source(SourceKind::Directory);
    source.path = folder.to_owned();
    source.suffix = suffix.to_owned();
    directory::open(&source, limits).unwrap()
}

#[tokio::test]
async fn each_file_is_a_term_and_its_path_the_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("verona")).unwrap();
    std::fs::write(folder.path().join("verona/romeo.term"), term("romeo")).unwrap();
    std::fs::write(folder.path().join("朱丽叶.term"), term("juliet")).unwrap();
    std::fs::write(folder.path().join("romeo"), term("romeo")).unwrap();
    let terms = open(folder.path(), ".term", LIMITS);
    assert_eq!(look(&terms, "verona/romeo").await, ROMEO);
    assert_eq!(look(&terms, "朱丽叶").await, JULIET);
    for key in ["romeo", "verona", "verona/romeo.term", "verona/mercutio", "verona/romeo/age"] {
        assert_eq!(look(&terms, key).await, "nothing", "{key}");
    }
    assert_eq!(look(&open(folder.path(), "", LIMITS), "romeo").await, ROMEO);
}

#[tokio::test]
async fn no_key_and_no_link_leads_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), term("romeo")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("terms");
    std::fs::create_dir_all(inside.join("verona")).unwrap();
    std::fs::write(inside.join("verona/romeo"), term("romeo")).unwrap();
    std::fs::write(inside.join("42"), term("romeo")).unwrap();
    std::fs::write(inside.join(".erlang.cookie"), term("romeo")).unwrap();
    std::fs::write(folder.path().join("above"), term("romeo")).unwrap();
    symlink(outside.path().join("secret"), inside.join("file")).unwrap();
    symlink(outside.path(), inside.join("folder")).unwrap();
    symlink("../above", inside.join("above")).unwrap();
    symlink("../../above", inside.join("verona/above")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    symlink("/proc/self/root", inside.join("root")).unwrap();
    symlink("verona/romeo", inside.join("romeo")).unwrap();
    let terms = open(&inside, "", LIMITS);
    for key in ["file", "folder/secret", "above", "verona/above", "loop", "root/etc/passwd", ".erlang.cookie"] {
        assert_eq!(look(&terms, key).await, "nothing", "{key}");
    }
    for key in hostile_keys() {
        assert_eq!(look(&terms, &key).await, "nothing", "{key:.80?}");
    }
    assert_eq!(look(&terms, "romeo").await, ROMEO, "a link that stays inside is followed");
    assert_eq!(look(&terms, "42").await, ROMEO);
}

#[tokio::test]
async fn what_is_no_file_is_no_term_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let terms = open(folder.path(), "", LIMITS);
    for key in ["pipe", "socket"] {
        assert_eq!(look(&terms, key).await, "nothing", "{key}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_long_is_not_read_and_a_long_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let long = term("long");
    std::fs::write(folder.path().join("long"), long).unwrap();
    std::fs::File::create(folder.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    let exact = open(folder.path(), "", Limits { bytes_max: long.len(), ..LIMITS });
    assert_eq!(exact.get("long").await.unwrap().unwrap().bytes, long);
    assert_eq!(
        look(&exact, "huge").await,
        format!("damaged: 1099511627776 bytes, and at most {} are read", long.len())
    );
    let less = open(folder.path(), "", Limits { bytes_max: long.len() - 1, ..LIMITS });
    let expected = format!("damaged: {} bytes, and at most {} are read", long.len(), long.len() - 1);
    assert_eq!(look(&less, "long").await, expected);
}

#[tokio::test]
async fn a_folder_that_comes_later_is_found_and_until_then_the_source_is_unavailable() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("later");
    let terms = open(&folder, "", LIMITS);
    let got = look(&terms, "romeo").await;
    assert!(got.starts_with("unavailable: ") && got.contains("later: No such file"), "{got}");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("romeo"), term("romeo")).unwrap();
    assert_eq!(look(&terms, "romeo").await, ROMEO);
    std::fs::write(folder.join("empty"), "").unwrap();
    let got = look(&terms, "empty").await;
    assert!(got.starts_with("unavailable: ") && got.contains("empty"), "somebody may be about to write it: {got}");
    let file = std::fs::File::options().write(true).open(folder.join("empty")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    assert_eq!(look(&terms, "empty").await, "damaged: the file is empty");
}

#[tokio::test]
async fn a_new_term_has_a_new_version_and_an_old_one_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let terms = open(folder.path(), "", LIMITS);
    let write = |bytes: &[u8]| {
        std::fs::write(folder.path().join(".next"), bytes).unwrap();
        std::fs::rename(folder.path().join(".next"), folder.path().join("romeo")).unwrap();
    };
    write(term("romeo"));
    let version = async || terms.get("romeo").await.unwrap().unwrap().version.unwrap();
    let first = version().await;
    assert_eq!(version().await, first);
    // Of the same length, so that the file's number or its time tells.
    let kept = std::fs::File::open(folder.path().join("romeo")).unwrap();
    write(term("romeo"));
    assert_ne!(version().await, first);
    drop(kept);
    std::fs::write(folder.path().join("romeo"), term("juliet")).unwrap();
    assert_eq!(look(&terms, "romeo").await, JULIET);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_by_renaming_is_read_whole_old_or_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (short, long) = (term("romeo"), term("long"));
    std::fs::write(path.join("romeo"), short).unwrap();
    let terms = open(folder.path(), "", LIMITS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = Writing(&stop);
        scope.spawn(|| {
            for bytes in [long, short].into_iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                std::fs::write(path.join(".next"), bytes).unwrap();
                std::fs::rename(path.join(".next"), path.join("romeo")).unwrap();
            }
        });
        let mut seen = [0; 2];
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let began = Instant::now();
                while seen.iter().any(|&times| times < 100) && began.elapsed() < Duration::from_secs(60) {
                    let bytes = terms.get("romeo").await.unwrap().unwrap().bytes;
                    assert!(bytes == short || bytes == long, "{} bytes", bytes.len());
                    seen[usize::from(bytes == long)] += 1;
                }
            });
        });
        drop(writing);
        assert!(seen.iter().all(|&times| times >= 100), "{seen:?}");
    });
}

/// Ends the writer's thread, after a failure too.
struct Writing<'a>(&'a AtomicBool);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
