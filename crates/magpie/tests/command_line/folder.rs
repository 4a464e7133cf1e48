//! A working folder in which commands run, and a server that runs in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const SECONDS_MAX: u64 = 60;

pub(crate) struct Folder {
    folder: TempDir,
}

/// What a command left behind.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The JSON document on standard output: exactly one.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Fails unless the exit code is this one; shows why.
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder where nothing else is said.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("magpie-data")
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs `magpie` with these arguments, without a terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "")
    }

    /// As [`Folder::run`], with this on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("magpie"));
        command.current_dir(self.path()).args(arguments).env_remove("NOTIFY_SOCKET").env("NO_COLOR", "1");
        command
    }

    /// A configuration with which servers do not meet.
    pub(crate) fn write_config(&self, more: &str) {
        let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"c2s\"\n\n[metrics]\naddress = \"\"\n";
        self.write("magpie.toml", format!("{more}\n{listen}"));
    }

    /// Starts `magpie serve --json`, and waits until it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Running {
        self.start("serve", arguments)
    }

    /// Starts a command that goes on until it is stopped, with `--json`, and waits until it is ready.
    pub(crate) fn start(&self, command: &str, arguments: &[&str]) -> Running {
        let all = [&[command, "--json"], arguments].concat();
        let log = fs::File::create(self.path().join("log")).unwrap();
        let mut child = self.command(&all).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut document = serde_json::Deserializer::from_reader(&mut stdout);
        let ready = Value::deserialize(&mut document)
            .unwrap_or_else(|error| panic!("{error}: {}", fs::read_to_string(self.path().join("log")).unwrap()));
        Running { child, stdout, ready, log: self.path().join("log") }
    }
}

/// A server. Ends with the test.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
    log: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `TERM`, `HUP`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end, and gives the exit code and the rest of standard output.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(SECONDS_MAX);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut rest = String::new();
        while self.stdout.read_line(&mut rest).unwrap() > 0 {}
        (status.code(), rest)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(SECONDS_MAX);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "\"{text}\" is not in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
