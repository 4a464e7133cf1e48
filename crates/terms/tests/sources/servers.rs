//! Servers from Debian's packages, as children of the test that needs them.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PASSWORD: &str = "p@ss:word/?#";
pub(crate) const PASSWORD_IN_URL: &str = "p%40ss%3Aword%2F%3F%23";

fn missing(command: &str, package: &str) -> ! {
    panic!("missing: {command}\n  apt-get update && apt-get install --no-install-recommends {package}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(what: &str, mut is_done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < PATIENCE, "{what} takes more than {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A certificate for `localhost` and the authority that signed it, as PEM files.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority_certificate.pem()).unwrap();
        std::fs::write(folder.path().join("server.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn give_to(&self, user: Option<(u32, u32)>) {
        std::fs::set_permissions(self.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(self.path("server.key"), PermissionsExt::from_mode(0o600)).unwrap();
        if let Some((user, group)) = user {
            chown(self.path("server.key"), Some(user), Some(group)).unwrap();
        }
    }
}

/// A PostgreSQL server with the user `postgres`, whose password is [`PASSWORD`].
pub(crate) struct Postgres {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = unprivileged();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        for path in [folder.path(), &password] {
            if let Some((user, group)) = user {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
        let output = postgres_command("initdb", user)
            .args(["--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8", "-U", "postgres"])
            .args(["-A", "scram-sha-256", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut server = Self { child: None, folder, port: free_port() };
        server.start_again(settings);
        server
    }

    /// Starts it on the same port and data.
    pub(crate) fn start_again(&mut self, settings: &[&str]) {
        assert!(self.child.is_none());
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = postgres_command("postgres", unprivileged());
        command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-F"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        // The line stands in its file once connections are taken.
        let ready = self.folder.path().join("data/postmaster.pid");
        wait("the start of PostgreSQL", || {
            let died = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(died.is_none(), "{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
            std::fs::read_to_string(&ready)
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
        });
    }

    pub(crate) fn start_with_tls(&mut self, certificates: &Certificates) {
        certificates.give_to(unprivileged());
        let certificate = format!("ssl_cert_file={}", certificates.path("server.pem"));
        let key = format!("ssl_key_file={}", certificates.path("server.key"));
        self.start_again(&["ssl=on", &certificate, &key]);
    }

    /// As after a crash: no connection is closed in an orderly way.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, Signal::QUIT);
            child.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgresql://postgres:{PASSWORD_IN_URL}@localhost:{}/postgres", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The same over the Unix socket.
    pub(crate) fn socket_url(&self) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgresql://postgres:{PASSWORD_IN_URL}@{folder}:{}/postgres", self.port)
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// PostgreSQL does not run as root: then Debian's user for it has to.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let Some(line) = users.lines().find(|line| line.starts_with("postgres:")) else {
        missing("the user postgres", "postgresql")
    };
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// Debian has the programs in a folder for each version.
fn postgres_command(name: &str, user: Option<(u32, u32)>) -> Command {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let Some(program) = folders.iter().map(|folder| folder.join(name)).find(|program| program.exists()) else {
        missing(name, "postgresql")
    };
    let mut command = Command::new(program);
    command.current_dir(Path::new("/")).stdin(Stdio::null());
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

/// A Redis server with the database that its last life has saved.
pub(crate) struct Redis {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    pub(crate) fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { child: None, folder: tempfile::tempdir().unwrap(), port: free_port(), options };
        server.start_again();
        server
    }

    pub(crate) fn start_with_tls(certificates: &Certificates, port: u16) -> Self {
        Self::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            &certificates.path("ca.pem"),
            "--tls-cert-file",
            &certificates.path("server.pem"),
            "--tls-key-file",
            &certificates.path("server.key"),
        ])
    }

    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => missing("redis-server", "redis-server"),
            Err(error) => panic!("redis-server does not start: {error}"),
        };
        self.child = Some(child);
        wait("the start of Redis", || {
            let died = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(died.is_none(), "redis-server ended");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://localhost:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It keeps its connections, and says nothing.
    pub(crate) fn pause(&self) {
        signal(self.child.as_ref().unwrap(), Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        signal(self.child.as_ref().unwrap(), Signal::CONT);
    }

    /// Sends commands on a connection of their own, and gives what the last one is answered with.
    pub(crate) fn say(&self, commands: &[&[&[u8]]]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        for words in commands {
            write!(stream, "*{}\r\n", words.len()).unwrap();
            for word in *words {
                write!(stream, "${}\r\n", word.len()).unwrap();
                stream.write_all(word).unwrap();
                stream.write_all(b"\r\n").unwrap();
            }
            answer.resize(1 << 16, 0);
            let length = stream.read(&mut answer).unwrap();
            answer.truncate(length);
            assert!(!answer.starts_with(b"-"), "{}", String::from_utf8_lossy(&answer));
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
