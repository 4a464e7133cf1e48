//! `magpie serve`: start, signals, stop.

pub(crate) mod log;
pub(crate) mod memory;
mod welcome;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_server::admin::socket::{AdminSocket, socket_path};
use magpie_server::admin::{self, Context, ErrorKind, OperationError, Process, ReloadReport};
use magpie_server::config::Config;
use magpie_server::server::{Server, StartError};
use magpie_store::{Store, StoreError};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::cli::{Global, Serve};
use crate::failure::Failure;
use crate::{config, target};
use log::LogFilter;

pub(crate) fn run(global: &Global, serve: &Serve) -> Result<(), Failure> {
    let mut config = config::load_for_server(global, &serve.domains)?;
    // Absolute, so that what is printed and logged means the same elsewhere.
    if let Ok(absolute) = std::path::absolute(&config.data) {
        config.data = absolute;
    }
    let log = log::start(&serve.log, serve.log_format)?;
    let files_max = raise_open_files();
    runtime()?.block_on(Serving { global, serve, config, log, files_max }.run())
}

/// Sockets that a look at them reports at once: no more than a thread's queue of tasks has room for, so that they are not
/// handed to the queue that all threads share.
const EVENTS_MAX: usize = 128;

/// Turns of tasks between two looks at the sockets, where there is always a task to run.
const TURNS_MAX: u32 = 255;

/// What runs the tasks.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS_MAX)
        .event_interval(TURNS_MAX)
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))
}

/// Raises the soft limit of open files to the hard one, and gives it. A connection is an open file.
pub(crate) fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, files = limit.current, "cannot raise the limit of open files");
            limit.current
        }
    }
}

/// A server from its start to its stop.
struct Serving<'a> {
    global: &'a Global,
    serve: &'a Serve,
    config: Config,
    log: LogFilter,
    files_max: Option<u64>,
}

impl Serving<'_> {
    async fn run(self) -> Result<(), Failure> {
        // First of all, so that a signal during the start is not lost.
        let mut signals = Signals::new()?;
        let data = &self.config.data;
        let store = target::open_store(data)?;
        let outcome = self.serve_from(&store, &mut signals).await;
        store.close();
        outcome
    }

    async fn serve_from(&self, store: &Store, signals: &mut Signals) -> Result<(), Failure> {
        let socket = AdminSocket::bind(&self.config.data).map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", socket_path(&self.config.data).display()))
                .help("the data folder must be on a file system that has Unix sockets")
        })?;
        let server = Server::start(self.config.clone(), store.clone()).await.map_err(|error| cannot_start(&error))?;
        let process: Arc<dyn Process> = Arc::new(Running {
            server: Arc::clone(&server),
            global: Global { config: self.global.config.clone(), data: self.global.data.clone(), json: false },
            domains: self.serve.domains.clone(),
            log: self.log.clone(),
            started: Instant::now(),
            stop: signals.stop.clone(),
        });
        server.modules.adhoc.administers(Arc::downgrade(&process));
        let context = Arc::new(Context::of_server(&server).with_process(process));
        let (stop, stopped) = watch::channel(false);
        let administration = tokio::spawn(socket.serve(Arc::clone(&context), stopped));

        let addresses = server.addresses();
        let mut none_yet = true;
        for domain in &self.config.domains {
            none_yet &= server.deps.accounts.count(domain).await.is_ok_and(|count| count == 0);
        }
        let welcome = welcome::Welcome {
            config: &self.config,
            global: self.global,
            addresses: &addresses,
            metrics: server.metrics_address(),
            files_max: self.files_max,
            none_yet,
        };
        welcome.print()?;
        notify(&[NotifyState::Ready]);
        info!(domains = ?self.config.domains, files_max = self.files_max, "ready");

        let small = tokio::spawn(memory::keep_small(Arc::clone(&server)));
        while signals.next().await == Wanted::Reload {
            reload(&context).await;
        }
        small.abort();
        info!("stopping");
        notify(&[NotifyState::Stopping]);
        let stopping = async {
            // Nobody administers a server that is ending its sessions.
            let _ = stop.send(true);
            if let Err(panic) = administration.await {
                error!(%panic, "the administration socket failed");
            }
            server.shutdown().await;
        };
        tokio::select! {
            () = stopping => {
                info!("stopped");
                Ok(())
            }
            () = signals.stop() => Err(Failure::new("stopped at once, by a second signal: sessions were cut off")),
        }
    }
}

/// Why the server does not start, and what to do.
fn cannot_start(error: &StartError) -> Failure {
    let failure = Failure::new(format!("cannot start: {error}")).kind("start");
    let (system, key) = match error {
        StartError::Listen { error, .. } => (error.kind(), "[[listen]]"),
        StartError::Metrics { error, .. } => (error.kind(), "[metrics]"),
        StartError::Certificate(_) => return failure.help("correct the file, or remove it from the configuration"),
        StartError::Store(StoreError::Full) => return failure.help("free some space on the disk"),
        StartError::Terms(_) => return failure.help("correct this part of magpie.toml"),
        StartError::Store(_) | StartError::TwoOwners(_) => return failure,
    };
    match system {
        io::ErrorKind::AddrInUse => failure.help(format!(
            "another program has this port (`ss -ltnp` says which): end it, or write another address under {key} in \
             magpie.toml"
        )),
        io::ErrorKind::PermissionDenied => failure.help(format!(
            "only root may have this port: write one above 1023 under {key} in magpie.toml, or give the program \
             CAP_NET_BIND_SERVICE"
        )),
        io::ErrorKind::AddrNotAvailable => {
            failure.help(format!("this machine has no such address (`ip address` lists them): correct it under {key}"))
        }
        _ => failure,
    }
}

/// SIGHUP: what `magpie reload` does, with its answer in the log.
async fn reload(context: &Context) {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now().ok());
    notify(&state);
    match admin::run(context, "reload", serde_json::json!({})).await.map(serde_json::from_value::<ReloadReport>) {
        Ok(Ok(report)) => {
            report.reloaded.iter().for_each(|what| info!(%what, "reloaded"));
            report.needs_restart.iter().for_each(|what| warn!(%what, "changed, and needs a restart to be in force"));
            report.errors.iter().for_each(|error| error!(%error, "not reloaded"));
            if report == ReloadReport::default() {
                info!("reloaded: nothing has changed");
            }
        }
        Ok(Err(error)) => error!(%error, "not reloaded"),
        Err(error) => error!(%error, "not reloaded; the configuration is as it was"),
    }
    notify(&[NotifyState::Ready]);
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot talk to the service manager");
    }
}

/// What the operations ask of this process.
struct Running {
    server: Arc<Server>,
    global: Global,
    domains: Vec<String>,
    log: LogFilter,
    started: Instant,
    /// Wakes up whoever waits for a signal.
    stop: Arc<Notify>,
}

impl Process for Running {
    fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, OperationError>> + Send + '_>> {
        Box::pin(async {
            let mut config = config::load_for_server(&self.global, &self.domains)
                .map_err(|failure| OperationError::new(ErrorKind::Failed, failure.text()))?;
            if let Ok(absolute) = std::path::absolute(&config.data) {
                config.data = absolute;
            }
            Ok(self.server.reload(config).await)
        })
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        self.log.set(filter)
    }

    fn stop_after(&self, delay: Duration) {
        let stop = Arc::clone(&self.stop);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            stop.notify_one();
        });
    }
}

/// The signals that the server takes, and what administrators order in place of one.
pub(crate) struct Signals {
    stop: Arc<Notify>,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Wanted {
    Reload,
    Stop,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen to signals: {error}")));
        Ok(Self {
            stop: Arc::default(),
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.terminate.recv() => Wanted::Stop,
            () = self.stop.notified() => Wanted::Stop,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await == Wanted::Reload {}
    }
}
