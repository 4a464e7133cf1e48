//! What a command works on: the running server, or the data folder when none runs.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use magpie_server::accounts::Accounts;
use magpie_server::admin::socket::{Client, socket_path};
use magpie_server::admin::{Context, Operation, OperationError};
use magpie_server::config::Config;
use magpie_store::{OpenError, Options, Store};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::serve::memory;

/// How long a command waits for the folder while another command, or a server that starts or stops, has it.
const WAIT_SECONDS_MAX: u64 = 2;

const FREE_SPACE: &str = "free some space on the disk, then try again";

/// Where operations run.
pub(crate) enum Target {
    /// In the running server.
    Server(Client),
    /// Here, on the data folder, which is locked meanwhile.
    Folder(Box<Folder>),
}

/// An open data folder.
pub(crate) struct Folder {
    context: Context,
    store: Store,
    runtime: Runtime,
}

/// What to do where there is no data folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Make it.
    Create,
    /// Fail.
    Refuse,
}

impl Target {
    /// The running server, or the folder.
    pub(crate) fn open(config: &Config, if_missing: IfMissing) -> Result<Self, Failure> {
        let data = &config.data;
        let missing = || if_missing == IfMissing::Refuse && !data.exists();
        let server_or_store = wait_for(data, || match connect(data)? {
            Some(client) => Ok(Found::Server(client)),
            None if missing() => Err(no_folder(data)),
            None => Ok(Found::Store(Store::open(data))),
        })?;
        match server_or_store {
            Found::Server(client) => Ok(Self::Server(client)),
            Found::Store(store) => {
                let store = store.map_err(|error| cannot_open(data, &error))?;
                Ok(Self::Folder(Box::new(Folder::new(config, store)?)))
            }
        }
    }

    /// Runs the operation.
    pub(crate) fn run<O: Operation>(&mut self, arguments: O::Arguments) -> Result<Value, Failure> {
        let outcome: Result<Value, OperationError> = match self {
            Self::Server(client) => client.call::<O>(&arguments).map_err(|error| broken(&error))?,
            Self::Folder(folder) => folder.runtime.block_on(O::run(&folder.context, arguments)),
        };
        Ok(outcome?)
    }
}

impl Folder {
    fn new(config: &Config, store: Store) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        let accounts = Accounts::new(&store, config.auth.scram_policy());
        Ok(Self { context: Context::new(accounts, config.clone()), store, runtime })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.store.close();
    }
}

/// The running server, for commands that need one.
pub(crate) fn server(config: &Config) -> Result<Client, Failure> {
    connect(&config.data)?.ok_or_else(|| {
        let socket = socket_path(&config.data);
        Failure::new(format!("no server is running: nobody answers on {}", socket.display()))
            .kind("not-running")
            .help("start it with `magpie serve`, or name its folder with --data or --config")
    })
}

/// The folder's store, for a server.
pub(crate) fn open_store(data: &Path) -> Result<Store, Failure> {
    let found = wait_for(data, || match connect(data)? {
        Some(client) => Ok(Found::Server(client)),
        None => {
            let options = Options { at_rest: Some(memory::give_back), ..Options::default() };
            Ok(Found::Store(Store::open_with(data, options)))
        }
    })?;
    match found {
        Found::Store(store) => store.map_err(|error| cannot_open(data, &error)),
        Found::Server(_) => Err(Failure::new(format!("a server runs already on the data folder {}", data.display()))
            .kind("in-use")
            .help("`magpie status` says more of it; another server needs another folder, given with --data")),
    }
}

/// Who has the data.
enum Found {
    Server(Client),
    Store(Result<Store, OpenError>),
}

/// Looks again for a while as long as another process has the folder and does not answer.
fn wait_for(data: &Path, look: impl Fn() -> Result<Found, Failure>) -> Result<Found, Failure> {
    let start = Instant::now();
    loop {
        let found = look()?;
        let in_use = matches!(found, Found::Store(Err(OpenError::InUse { .. })));
        if !in_use || start.elapsed() > Duration::from_secs(WAIT_SECONDS_MAX) {
            return Ok(found);
        }
        tracing::debug!(data = %data.display(), "waiting for the data folder");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Why the folder cannot be opened, and what to do.
fn cannot_open(data: &Path, error: &OpenError) -> Failure {
    let folder = data.display();
    match error {
        OpenError::InUse { pid } => {
            let by = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let socket = socket_path(data);
            Failure::new(format!(
                "the data folder {folder} is in use by {by}, which does not answer on {}",
                socket.display()
            ))
            .kind("in-use")
            .help("if it is starting or stopping, try again in a moment; otherwise end it first")
        }
        OpenError::Newer { found, known } => Failure::new(format!(
            "the data folder {folder} was written by a newer magpie: its format is {found}, this one knows {known}"
        ))
        .kind("newer-data")
        .help("install the newer version again, or name another folder with --data"),
        OpenError::Io(error) => Failure::new(format!("cannot open the data folder {folder}: {error}"))
            .kind("storage")
            .help(match error.kind() {
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    "there is a file in its place: name a folder"
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the server must write there: name a folder on another file system"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FREE_SPACE,
                _ => "run it as the user of the server, or check who may write to the folder",
            }),
        OpenError::Backend(error) => {
            let failure = Failure::new(format!("cannot open the data folder {folder}: {error}")).kind("storage");
            // SQLite's own words (SQLITE_FULL).
            let full = error.contains("disk is full");
            failure.help(if full { FREE_SPACE } else { "if the folder is damaged, restore it from a backup" })
        }
    }
}

fn connect(data: &Path) -> Result<Option<Client>, Failure> {
    Client::connect(data).map_err(|error| {
        let socket = socket_path(data);
        let failure = Failure::new(format!("cannot talk to the server on {}: {error}", socket.display()));
        if error.kind() == io::ErrorKind::PermissionDenied {
            failure.kind("not-allowed").help("run it as the user that runs the server, or as root")
        } else {
            failure.help("check that the server runs on this machine")
        }
    })
}

pub(crate) fn broken(error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the server takes too long to answer".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => format!("the connection to the server broke: {error}"),
    };
    Failure::new(message).help("its log says more; `magpie status` says whether it still runs")
}

fn no_folder(data: &Path) -> Failure {
    Failure::new(format!("there is no data folder {}", data.display()))
        .kind("no-data")
        .help("name it with --data or --config; `magpie serve` and `magpie user add` make a new one")
}
