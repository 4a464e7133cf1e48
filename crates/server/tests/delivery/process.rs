//! A server in a process of its own, so that it can be killed: this test program, told so by its environment.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use magpie_server::Server;
use magpie_store::{OpenError, Store};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::client::PATIENCE;
use super::{config, from_environment};

const FOLDER: &str = "MAGPIE_STRESS_FOLDER";
const SEED: &str = "MAGPIE_STRESS_SEED";
const PORT: &str = "MAGPIE_STRESS_PORT";
const LISTENS: &str = "listens on ";

/// Serves, where the environment says so, until the input ends.
pub async fn serve() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let end = Instant::now() + PATIENCE;
    let store = loop {
        match Store::open(&folder.join("data")) {
            // A process that another test is just starting has the lock too, until it becomes another program.
            Err(OpenError::InUse { .. }) if Instant::now() < end => sleep(Duration::from_millis(10)).await,
            opened => break opened.unwrap(),
        }
    };
    let mut config = config(&folder, from_environment(SEED, 0));
    config.listen[0].address.set_port(u16::try_from(from_environment(PORT, 0)).unwrap());
    let server = Server::start(config, store).await.unwrap();
    println!("\n{LISTENS}{}", server.addresses()[0].1);
    let _ = spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    server.shutdown().await;
}

/// The process; dropped, it is killed.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    pub async fn start(folder: &Path, seed: u64) -> Self {
        Self::start_at(folder, seed, 0).await
    }

    /// At this port, or at any that is free if it is 0.
    pub async fn start_at(folder: &Path, seed: u64, port: u16) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["serves_for_another_test", "--exact", "--nocapture"])
            .env(FOLDER, folder)
            .env(SEED, seed.to_string())
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let address = lines.find_map(|line| Some(line.strip_prefix(LISTENS)?.parse().unwrap()));
            // It may say more, which must not stop it.
            std::thread::spawn(move || lines.for_each(drop));
            Self { child, address: address.expect("it says where it listens") }
        })
        .await
        .unwrap()
    }

    /// `SIGKILL`.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = spawn_blocking(move || self.child.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it is gone already there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
