//! What streams take of memory. A file of its own, as a process has but one peak: its tests take turns.

#![allow(clippy::unwrap_used)]

mod client;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Running, prefixed, start, start_with, term};
use magpie_terms::config::Terms;
use magpie_terms::functions::Functions;
use magpie_terms::sources::{Found, Lookup, Source};

const STREAM: &str = "Content-Type: application/x-erlang-binary-stream\r\n";

static TURN: Mutex<()> = Mutex::new(());

/// A term of so many bytes and a few: a binary of text.
fn text_of(bytes: usize) -> Vec<u8> {
    [&[131, 109][..], &u32::try_from(bytes).unwrap().to_be_bytes(), &vec![b'x'; bytes]].concat()
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_long_stream_takes_no_more_memory_than_a_short_one() {
    const STREAM_BYTES: usize = 96 << 20;
    let _turn = TURN.lock().unwrap();
    let service = start(Terms::default());
    let item = prefixed([&text_of(10_000)[..]]);
    let block = item.repeat(100);
    let blocks = STREAM_BYTES / block.len();
    let mut socket = service.connect();
    let before = peak_memory();
    let length = blocks * block.len();
    let head = format!(
        "POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n{STREAM}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    for _ in 0..blocks {
        socket.write_all(&block).unwrap();
    }
    assert!(reading.join().unwrap() > STREAM_BYTES / 10 * 9);
    let grown = peak_memory() - before;
    assert!(grown < 16 << 20, "{} KiB more for a stream of {} MiB", grown >> 10, STREAM_BYTES >> 20);
}

#[test]
fn who_reads_nothing_of_the_answer_stops_the_stream() {
    let _turn = TURN.lock().unwrap();
    let service = start(Terms { idle_seconds_max: 1, ..Terms::default() });
    let mut socket = service.connect();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let block = prefixed([&text_of(10_000)[..]]).repeat(100);
    let length = 1usize << 34;
    let head = format!("POST /terms/to-json HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{STREAM}\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let before = peak_memory();
    // What the system buffers goes out; then nothing moves, and the connection is closed.
    let mut sent = 0;
    while socket.write_all(&block).is_ok() {
        sent += block.len();
        assert!(sent < 1 << 28, "the stream is taken though nobody reads the answer");
    }
    assert!(peak_memory() - before < 16 << 20);
}

/// What is in memory now, in bytes; a thread looks on, as the peak of the process is that of other tests.
struct Watch {
    done: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<usize>,
    before: usize,
}

impl Watch {
    fn begin() -> Self {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let looking = std::thread::spawn(move || {
            let mut most = 0;
            while !seen.load(Ordering::Relaxed) {
                most = most.max(resident());
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        Self { done, looking, before: resident() }
    }

    fn grown(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        self.looking.join().unwrap().saturating_sub(self.before)
    }
}

/// A few kilobytes that inflate to a list of 8 million `[]`, and become a tape of 128 MB.
fn bomb() -> Vec<u8> {
    const COUNT: usize = 8_000_000;
    let count = u32::try_from(COUNT).unwrap().to_be_bytes();
    let list = [&[108][..], &count, &vec![106; COUNT + 1]].concat();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&list).unwrap();
    let size = u32::try_from(list.len()).unwrap().to_be_bytes();
    [&[131, 80][..], &size, &zlib.finish().unwrap()].concat()
}

#[test]
fn small_bodies_that_become_much_are_refused_while_other_requests_go_on() {
    let _turn = TURN.lock().unwrap();
    let held_bytes_max = 64 << 20;
    let service = start(Terms { held_bytes_max, term_bytes_max: 1 << 20, ..Terms::default() });
    let bomb = bomb();
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    for at_once in [2, 8] {
        let watch = Watch::begin();
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let refused: Vec<_> = (0..at_once)
                .map(|number| {
                    let target = ["/terms/to-json", "/terms/to-text"][number % 2];
                    let (service, bomb) = (&service, &bomb);
                    scope.spawn(move || service.post(target, "", bomb))
                })
                .collect();
            let running = &running;
            let ended = scope.spawn(move || {
                for refused in refused {
                    let answer = refused.join().unwrap();
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    assert!(["too-much-memory", "busy"].contains(&code.as_str()), "{code}");
                }
                running.store(false, Ordering::Relaxed);
            });
            while running.load(Ordering::Relaxed) {
                assert_eq!(service.get("/healthz").status, 200);
                assert_eq!(service.post("/terms/to-json", "", &term("{a,1}")).status, 200);
            }
            ended.join().unwrap();
        });
        let grown = watch.grown();
        assert!(grown < 2 * held_bytes_max, "{} MiB more beside {at_once} bombs", grown >> 20);
    }
}

#[test]
fn long_terms_that_are_asked_for_and_never_read_find_room_or_are_refused() {
    const BYTES: usize = 4 << 20;

    #[derive(Debug)]
    struct Long;
    impl Source for Long {
        fn get<'a>(&'a self, _: &'a str) -> Lookup<'a> {
            Box::pin(async { Ok(Some(Found { bytes: text_of(BYTES).into(), version: None })) })
        }
    }

    let _turn = TURN.lock().unwrap();
    let held_bytes_max = 32 << 20;
    let settings = Terms { held_bytes_max, term_bytes_max: 8 << 20, ..Terms::default() };
    let service: Running = start_with(settings, Functions::default(), vec![(String::new(), Arc::new(Long))]);
    let watch = Watch::begin();
    let sockets: Vec<_> = (0..40)
        .map(|_| {
            let mut socket = service.connect();
            socket.write_all(b"GET /terms/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            socket
        })
        .collect();
    // Each is answered, with the term or with a refusal, within the time that a term waits for room.
    for mut socket in &sockets {
        let mut head = [0; 12];
        socket.read_exact(&mut head).unwrap();
        assert!(head.ends_with(b"200") || head.ends_with(b"503"), "{}", String::from_utf8_lossy(&head));
    }
    let grown = watch.grown();
    // What comes from the source before it has room is as much again, and the system has what was sent.
    assert!(grown < 4 * held_bytes_max, "{} MiB more", grown >> 20);
    drop(sockets);
}
