//! The Unix socket in the data folder: one JSON request a line, one JSON response a line.
//!
//! ```text
//! {"operation":"user_add","arguments":{"jid":"juliet@example.org","password":"…"}}
//! {"ok":{"jid":"juliet@example.org"}}    or    {"error":{"kind":"exists","message":"…","help":"…"}}
//! ```
//!
//! Who may write to the file may administer: it belongs to the user of the server, with mode 0600.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::{Context, Operation, OperationError, run};

/// A longer request ends the connection. A full [`super::UserImportBatch`] is shorter: an address has at most 2,047
/// bytes, twice that where each is escaped, and the keys of three hashes less than 1,000.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Connections at the same time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 32;
/// The system's queue of connections not yet accepted.
const BACKLOG: i32 = 64;
/// How long a stop waits for requests that are under way.
const STOP_SECONDS_MAX: u64 = 5;
/// How long a face waits for one response: erasing an account with a large archive takes its time.
const RESPONSE_SECONDS_MAX: u64 = 120;
/// Paths of Unix sockets are at most this long on any system (macOS: 104 with the final zero).
const PATH_BYTES_MAX: usize = 100;

/// The socket of the server that uses this data folder.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("magpie.sock")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    operation: String,
    #[serde(default = "no_arguments")]
    arguments: Value,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Response {
    Ok(Value),
    Error(OperationError),
}

/// The socket of a server. Dropping it removes the file.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Which file is ours: another server may have put its own in the place.
    file: (u64, u64),
}

impl AdminSocket {
    /// Binds in the data folder, whose lock the caller holds: a file that is there is a dead server's, and is replaced.
    pub fn bind(data: &Path) -> io::Result<Self> {
        let path = socket_path(data);
        let new = data.join("magpie.sock.new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        with_short_path(&new, |short| socket.bind(&SockAddr::unix(short)?))?;
        // Nobody can connect before `listen`, and nobody finds the file before `rename`: there is no moment in which
        // others than the owner get in.
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())?;
        std::fs::rename(&new, &path)?;
        let metadata = std::fs::symlink_metadata(&path)?;
        Ok(Self { listener, path, file: (metadata.dev(), metadata.ino()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers requests until `stop` is true or its sender is gone; then lets those end that are under way.
    pub async fn serve(self, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let stop_each = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(answer(stream, Arc::clone(&context), stop_each.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "administration socket: cannot accept");
                        // Out of files: the next attempt would fail as well.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), rest).await.is_err() {
            warn!("administration socket: a request was cut off by the stop");
        }
    }
}

/// Resolves when `stop` is true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, "administration socket: cannot remove the file");
        }
    }
}

async fn answer(mut stream: UnixStream, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut read).take(REQUEST_BYTES_MAX as u64 + 1);
        let whole = tokio::select! {
            () = stopped(&mut stop) => return,
            read = bounded.read_until(b'\n', &mut line) => read.is_ok() && line.pop() == Some(b'\n'),
        };
        let too_long = line.len() >= REQUEST_BYTES_MAX;
        if !whole && !too_long {
            // Closed, perhaps in the middle of a request: a request that is cut off is not done.
            return;
        }
        let response = if too_long {
            Response::Error(OperationError::invalid(format!("a request is longer than {REQUEST_BYTES_MAX} bytes")))
        } else {
            respond(&context, &line).await
        };
        let mut text = serde_json::to_vec(&response).expect("JSON values can be written as JSON");
        text.push(b'\n');
        if write.write_all(&text).await.is_err() || too_long {
            return;
        }
    }
}

async fn respond(context: &Context, line: &[u8]) -> Response {
    let outcome = match serde_json::from_slice::<Request>(line) {
        Ok(request) => run(context, &request.operation, request.arguments).await,
        Err(error) => Err(OperationError::invalid(format!("a request that cannot be read: {error}"))),
    };
    outcome.map_or_else(Response::Error, Response::Ok)
}

/// A face's connection to a running server. Blocks.
pub struct Client {
    stream: BufReader<BlockingStream>,
}

impl Client {
    /// Connects to the server that uses this data folder; `None` where no server answers there, be it that there is
    /// no folder, no socket, or that of a dead server.
    pub fn connect(data: &Path) -> io::Result<Option<Self>> {
        match with_short_path(&socket_path(data), |short| BlockingStream::connect(short)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(RESPONSE_SECONDS_MAX)))?;
                stream.set_write_timeout(Some(Duration::from_secs(RESPONSE_SECONDS_MAX)))?;
                Ok(Some(Self { stream: BufReader::new(stream) }))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the server run the operation.
    pub fn call<O: Operation>(&mut self, arguments: &O::Arguments) -> io::Result<Result<Value, OperationError>> {
        let request = Request { operation: O::NAME.to_owned(), arguments: serde_json::to_value(arguments)? };
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        self.stream.get_mut().write_all(&text)?;
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(match serde_json::from_slice(&line)? {
            Response::Ok(value) => Ok(value),
            Response::Error(error) => Err(error),
        })
    }
}

/// Gives `use_path` a path to the same file that is short enough for the address of a socket.
fn with_short_path<T>(path: &Path, use_path: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return use_path(path) };
    if path.as_os_str().len() <= PATH_BYTES_MAX || !cfg!(target_os = "linux") {
        return use_path(path);
    }
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&folder);
    use_path(&Path::new("/proc/self/fd").join(descriptor.to_string()).join(name))
}
