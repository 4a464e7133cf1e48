//! The server under attack.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, PASSWORD, PATIENCE};

pub(crate) struct Server {
    folder: TempDir,
    child: Option<(Child, BufReader<ChildStdout>)>,
    /// For clients: STARTTLS is offered, and nobody needs it.
    pub(crate) plain: SocketAddr,
    /// TLS first.
    pub(crate) tls: SocketAddr,
}

impl Server {
    /// With these lines under `[limits]`, and these accounts.
    pub(crate) fn start(limits: &str, users: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"c2s\"\ntls = \"optional\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"c2s-tls\"\n\
             [metrics]\naddress = \"\"\n[limits]\n{limits}\n"
        );
        fs::write(folder.path().join("magpie.toml"), config).unwrap();
        for user in users {
            let name = format!("{user}@localhost");
            let added = command(folder.path()).args(["user", "add", &name, "--password", PASSWORD]).output().unwrap();
            assert!(added.status.success(), "{added:?}");
        }
        let nowhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut server = Self { folder, child: None, plain: nowhere, tls: nowhere };
        server.run();
        server
    }

    /// Starts it, again after a stop.
    pub(crate) fn run(&mut self) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.folder.path().join("log")).unwrap();
        let mut child = command(self.folder.path())
            .args(["serve", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let ready = Value::deserialize(&mut serde_json::Deserializer::from_reader(&mut stdout))
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        let address = |index: usize| ready["listen"][index]["address"].as_str().unwrap().parse().unwrap();
        (self.plain, self.tls) = (address(0), address(1));
        self.child = Some((child, stdout));
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.plain)
    }

    /// A session that has sent its presence.
    pub(crate) fn login(&self, user: &str) -> Client {
        let mut client = self.connect();
        client.login(user, user);
        client.send("<presence/>");
        client.wait_for(&["<presence", &format!("from='{user}@localhost/{user}'")]);
        client
    }

    /// Memory of its own that is resident, in KiB: not what it shares with the file that it runs.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sockets and files that the server has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}; {}", self.tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has ended by itself; its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let (mut child, _stdout) = self.child.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server does not end: {}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, stdout)) = &mut self.child {
            // Fails where it has ended already.
            let _ = child.kill();
            let _ = child.wait();
            let mut rest = String::new();
            let _ = stdout.read_line(&mut rest);
        }
        if std::thread::panicking() {
            eprintln!("--- the server's last words:\n{}", self.tail());
        }
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(cargo_bin("magpie"));
    command.current_dir(folder).env_remove("NOTIFY_SOCKET").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}
