//! The accept loop on a system that has no file descriptors left. A process of its own, because the limit is the process's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use magpie_server::config::{Listen, ListenKind, TlsMode};
use magpie_server::listen::tcp::{Admission, Listener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Ticks of processor time that this process has used, from proc_pid_stat(5): `utime` and `stime`.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn accepting_goes_on_once_there_are_file_descriptors_again_and_waits_without_work() {
    let address = ([127, 0, 0, 1], 0).into();
    let listen = Listen { address, kind: ListenKind::C2s, tls: TlsMode::Required, force: false };
    let listener = Listener::bind(&listen, false).unwrap();
    let address = listener.address();
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let (_stop, stopping) = watch::channel(false);
    let admission = Admission::new(|| 0, || {});
    tokio::spawn(listener.run(admission, stopping, move |socket, _, _admitted| drop(sender.send(socket))));

    let processor = ticks();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // The last descriptor is the client's, so that there is none for the server's side.
    hoard.pop();
    let _client = StdStream::connect(address).unwrap();
    assert!(timeout(Duration::from_millis(1500), accepted.recv()).await.is_err());
    hoard.pop();
    hoard.pop();
    let begun = Instant::now();
    assert!(timeout(Duration::from_secs(5), accepted.recv()).await.unwrap().is_some());
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(hoard);
    // A busy loop would have used 150 of them.
    assert!(ticks() - processor < 30, "{}", ticks() - processor);
}
