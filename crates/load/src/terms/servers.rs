//! Who is asked: Magpie's term service, and `httpd` of Erlang's inets.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::CompareError;
use crate::compare::place::write;
use crate::compare::process::{Interrupt, Started};

/// The functions behind `httpd`.
const FUNCTIONS: &str = include_str!("../../../../bench/profiles/inets/echo_server.erl");

/// The record that becomes JSON, which Erlang writes.
pub(super) const RECORD_FILE: &str = "record.bin";

const PATIENCE: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerKind {
    Magpie,
    Floor,
    HttpdNoDelay,
    Httpd,
}

impl ServerKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Magpie => "Magpie",
            Self::Floor => "floor",
            Self::HttpdNoDelay => "inets httpd, nodelay",
            Self::Httpd => "inets httpd, default",
        }
    }
}

/// A server that runs until this value goes.
pub(super) struct Server {
    pub(super) kind: ServerKind,
    pub(super) address: SocketAddr,
    started: Started,
}

impl Server {
    pub(super) fn start(
        kind: ServerKind,
        magpie: &Path,
        folder: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, CompareError> {
        let address = free_address()?;
        let command = match kind {
            ServerKind::Magpie => {
                // Made by Erlang, before anybody is asked.
                write_record(folder, interrupt)?;
                let mut command = Command::new(magpie);
                command.args(["terms", "--log", "warn", "--listen", &address.to_string()]);
                command
            }
            ServerKind::Floor => {
                let this = std::env::current_exe().map_err(CompareError::file(Path::new("this program")))?;
                let mut command = Command::new(this);
                command.args(["terms-floor", "--listen", &address.to_string()]);
                command
            }
            ServerKind::HttpdNoDelay => httpd(folder, address, true)?,
            ServerKind::Httpd => httpd(folder, address, false)?,
        };
        let mut started = Started::start(vec![command], folder, None)?;
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            started.check()?;
            interrupt.check()?;
            if begun.elapsed() > PATIENCE {
                return Err(CompareError::Setup(format!("{} does not listen", kind.name())));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { kind, address, started })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.started.pids()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.started.stop();
    }
}

fn free_address() -> Result<SocketAddr, CompareError> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| CompareError::Setup(format!("no free port: {error}")))
}

fn write_record(folder: &Path, interrupt: &Interrupt) -> Result<(), CompareError> {
    if folder.join(RECORD_FILE).exists() {
        return Ok(());
    }
    // Whoever starts httpd writes it.
    drop(Server::start(ServerKind::Httpd, Path::new(""), folder, interrupt)?);
    fs::metadata(folder.join(RECORD_FILE)).map(drop).map_err(CompareError::file(&folder.join(RECORD_FILE)))
}

fn httpd(folder: &Path, address: SocketAddr, nodelay: bool) -> Result<Command, CompareError> {
    let source = folder.join("echo_server.erl");
    write(&source, FUNCTIONS)?;
    let (port, folder) = (address.port(), folder.display());
    let script = format!(
        "{{ok, M, Code}} = compile:file({source:?}, [binary]), {{module, M}} = code:load_binary(M, \"echo_server\", Code), \
         ok = application:start(inets), ok = M:start({port}, \"{folder}\")."
    );
    let mut command = Command::new("erl");
    if nodelay {
        // The option of its own that its pages name is refused by this release.
        command.args(["-kernel", "inet_default_listen_options", "[{nodelay,true}]"]);
    }
    // As ejabberd runs it too: threads that wait do not spin.
    command.args(["-noinput", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "-eval", &script]);
    Ok(command)
}
