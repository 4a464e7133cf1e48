//! `magpie-load many`: up to a million idle sessions on one machine, by as many processes as their limit of files demands.
//!
//! A data folder is made once and copied for each server. Every server has a worker of its own with source addresses of its
//! own. What is reported is what sessions took: of the servers, of the kernel, and of the workers, apart.

mod clients;
mod course;
pub mod layout;
pub mod rooms;
mod servers;
mod system;
mod table;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::clients::{Clients, Guard, Stop};
use self::course::Course;
use self::layout::{LayoutError, SESSIONS_PER_PROCESS, Share};
use self::servers::{Home, Node, Template};
use self::system::{System, Wanted};
use crate::client::negotiation::{Login, Profile, Security};
use crate::client::sasl::Mechanism;
use crate::compare::CompareError;
use crate::compare::about::{MACHINE, VERSION};
use crate::compare::magpie::Magpie;
use crate::compare::place::{DOMAIN, PASSWORD};
use crate::compare::process::Interrupt;
use crate::compare::server::{Accounts, Archive, Server as _};
use crate::crew::CrewError;
use crate::measure::{KernelMemory, Processes};
use crate::plan::{self, Plan, Protocol, Trust};
use crate::report::html::Machine;
use crate::report::table::percentile;
use crate::result::{Cpu, Memory, Run};
use crate::scenarios::{Work, idle};
use crate::worker;

/// Holds as many idle sessions as are asked for, authenticated, with rosters loaded and presence sent.
///
/// A process may have no more open files than its limit says (`ulimit -n`), often 20 000, so that the sessions are shared
/// out among servers of 19 000 each, with a client process for each. They know nothing of each other: messages go between
/// sessions of the same server. One server process for all of them takes descriptor tables of its threads' own, which
/// Magpie does not have yet.
///
/// Limits of the system that do not suffice are named with the command that raises them; nothing is changed.
#[derive(Clone, Debug, clap::Args)]
pub struct ManyOptions {
    /// Sessions
    #[arg(long, short = 'c', value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub connections: u32,
    /// Sessions of each server, at most
    #[arg(long, value_name = "N", default_value_t = SESSIONS_PER_PROCESS, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_process: u32,
    /// Leaves out the 20 mutual contacts that everybody has
    #[arg(long)]
    pub no_contacts: bool,
    /// How users prove who they are
    #[arg(long, default_value = "scram-sha-1")]
    pub mechanism: Mechanism,
    /// New connections a second; 0: as many as the servers take
    #[arg(long, default_value_t = CONNECT_RATE, value_name = "PER_SECOND")]
    pub connect_rate: f64,
    /// Logins under way at a time
    #[arg(long, default_value_t = CONNECTING_MAX, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connecting_max: u32,
    /// Messages to random sessions once all are there
    #[arg(long, default_value_t = MESSAGES, value_name = "N")]
    pub messages: u32,
    /// Minutes after which no more sessions are brought up, and what is held is reported
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    pub minutes_max: f64,
    /// Memory that stays available: before less is, no more sessions are brought up
    #[arg(long, default_value_t = 1536, value_name = "MIB")]
    pub free_mib: u64,
    /// Where data folders are; the one that is copied stays there for the next time
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The program of Magpie; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    pub magpie: Option<PathBuf>,
    /// Where the result is appended, as a line of JSON; - is standard output. `compare` reads bench/many.jsonl
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Of all that is random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

impl ManyOptions {
    /// The command that measures this again: what of the options bears on the figures, where it is not the default.
    fn command(&self) -> String {
        let mut command = format!("magpie-load many -c {}", self.connections);
        let mut option = |differs: bool, text: String| {
            if differs {
                command += &format!(" --{text}");
            }
        };
        option(self.per_process != SESSIONS_PER_PROCESS, format!("per-process {}", self.per_process));
        option(self.no_contacts, "no-contacts".into());
        let mechanism = self.mechanism.name().to_ascii_lowercase();
        option(self.mechanism != Mechanism::ScramSha1, format!("mechanism {mechanism}"));
        option(self.connect_rate != CONNECT_RATE, format!("connect-rate {}", self.connect_rate));
        option(self.connecting_max != CONNECTING_MAX, format!("connecting-max {}", self.connecting_max));
        option(self.messages != MESSAGES, format!("messages {}", self.messages));
        command
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ManyError {
    /// The operator ended it.
    #[error("interrupted; all processes have ended")]
    Interrupted,
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Limits of the system.
    #[error("the system does not allow so many:\n{0}")]
    System(String),
    /// Nothing was held when memory or time was short.
    #[error("stopped before a single server was full: {0}")]
    Nothing(String),
    /// Sessions cannot be shared out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A server.
    #[error(transparent)]
    Server(CompareError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] CrewError),
}

impl From<CompareError> for ManyError {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Interrupted => Self::Interrupted,
            other => Self::Server(other),
        }
    }
}

/// What rests when nobody logs in any more: the last presence is delivered, and what logins left behind is given back.
const SETTLE: Duration = Duration::from_secs(4);

/// Seconds that a login may take while a server has all of them at once.
const LOGIN_SECONDS_MAX: u64 = 60;

/// New connections a second.
const CONNECT_RATE: f64 = 5_000.0;

/// Logins under way at a time.
const CONNECTING_MAX: u32 = 100;

/// Messages to random sessions.
const MESSAGES: u32 = 1_000;

/// Memory of all at one moment, bytes.
#[derive(Clone, Copy, Debug)]
struct Look {
    servers: u64,
    kernel: KernelMemory,
    clients: u64,
}

/// What was done, for the report.
struct Done {
    shares: usize,
    template_bytes: u64,
    template_seconds: Option<f64>,
    idle_server_bytes: f64,
    server_threads: f64,
    before: Look,
    with: Look,
    course: Course,
    messages: Run,
    client_cpu: Cpu,
    stopped: Option<Stop>,
}

/// Holds the sessions, prints the table and writes the result.
pub fn many(options: &ManyOptions) -> Result<(), ManyError> {
    let guard = Guard {
        interrupt: Interrupt::on_signals()?,
        deadline: Instant::now() + Duration::from_secs_f64(options.minutes_max.clamp(0.0, 1e6) * 60.0),
        free_min: options.free_mib << 20,
    };
    let magpie = Magpie::find(options.magpie.clone())?;
    let system = System::read();
    let per_process = layout::per_process(options.per_process, worker::raise_file_limit())?;
    let ports = system.ports.unwrap_or((32_768, 60_999));
    let shares = layout::shares(options.connections, per_process, ports)?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    allowed(&system, options, &shares)?;
    let done = hold(options, &magpie, &shares, &guard)?;
    let mut run = result(options, per_process, &done);
    run.started = started;
    let version = magpie.version(&guard.interrupt)?;
    let about = [("command", options.command()), (VERSION, version), (MACHINE, Machine::this().to_string())];
    run.parameters.extend(about.map(|(name, value)| (name.to_owned(), value.into())));
    print!("{}", table::table(&run).text());
    if let Some(stop) = done.stopped {
        println!("{}", table::why(stop, guard.free_min));
    }
    options.out.as_deref().map_or(Ok(()), |file| append(&run, file))
}

/// Says what of the system does not suffice; fails where it cannot work.
fn allowed(system: &System, options: &ManyOptions, shares: &[Share]) -> Result<(), ManyError> {
    let wanted = Wanted {
        sessions: options.connections.into(),
        servers: shares.len() as u64,
        connecting_max: options.connecting_max.into(),
        free_min: options.free_mib << 20,
    };
    let (fatal, others): (Vec<_>, Vec<_>) = system.findings(wanted).into_iter().partition(|finding| finding.fatal);
    for finding in others {
        eprintln!("note: {}", finding.text);
    }
    let fatal: Vec<String> = fatal.into_iter().map(|finding| finding.text).collect();
    if fatal.is_empty() { Ok(()) } else { Err(ManyError::System(fatal.join("\n"))) }
}

/// Starts everything, measures, and ends everything.
fn hold(options: &ManyOptions, magpie: &Magpie, shares: &[Share], guard: &Guard) -> Result<Done, ManyError> {
    let home = Home::new(options.folder.as_deref())?;
    let accounts = Accounts {
        number: shares.first().map_or(1, |share| share.sessions),
        contacts: !options.no_contacts,
        archive: Archive::Off,
        rooms: false,
    };
    eprintln!("making {} accounts, unless they are there", accounts.number);
    let template = Template::make(magpie, &home, accounts, &guard.interrupt)?;
    let bar = bar("starting servers", shares.len() as u64);
    let mut nodes = Vec::new();
    for index in 0..shares.len() {
        nodes.push(Node::start(magpie, &home, &template, index + 1, &guard.interrupt)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Declared after the servers, so that the workers end first.
    let mut clients = Clients::start(plans(options, shares, &nodes), guard)?;
    let mut servers = processes(nodes.iter().flat_map(Node::pids))?;
    let mut workers = processes(clients.pids())?;
    thread::sleep(SETTLE);
    let idle = each_memory(&nodes)?;
    let mut before = look(&mut servers, &mut workers)?;
    let idle_server_bytes = before.servers as f64 / shares.len() as f64;
    let threads = servers.usage().threads as f64;
    let bar = self::bar("logging in", options.connections.into());
    let (course, stopped) = clients.connect(&mut nodes, &mut servers, guard, |sessions| bar.set_position(sessions))?;
    bar.finish_and_clear();
    if course.held() == 0 {
        return Err(ManyError::Nothing(stopped.map_or_else(String::new, |stop| table::why(stop, guard.free_min))));
    }
    thread::sleep(SETTLE);
    let client_cpu = workers.cpu();
    let mut with = look(&mut servers, &mut workers)?;
    // A server whose sessions were given up half-way holds none of those that count, and has not given all back.
    let full = layout::full(shares, course.held());
    before.servers = idle[..full].iter().sum();
    with.servers = each_memory(&nodes[..full])?.iter().sum();
    let bar = self::bar("messages to random sessions", options.messages.into());
    let messages = clients.messages(course.held(), guard, |messages| bar.set_position(messages))?;
    bar.finish_and_clear();
    eprintln!("ending all");
    // All of them before the first client leaves: otherwise they would take leave of each session.
    nodes.iter_mut().for_each(Node::kill);
    Ok(Done {
        shares: shares.len(),
        template_bytes: template.bytes,
        template_seconds: template.seconds,
        idle_server_bytes,
        server_threads: threads / shares.len() as f64,
        before,
        with,
        course,
        messages,
        client_cpu,
        stopped,
    })
}

fn processes(pids: impl IntoIterator<Item = u32>) -> Result<Processes, ManyError> {
    Processes::of(pids).map_err(proc_error)
}

/// Memory of each server by itself, bytes.
fn each_memory(nodes: &[Node]) -> Result<Vec<u64>, ManyError> {
    nodes.iter().map(|node| Ok(processes(node.pids())?.memory().bytes)).collect()
}

fn proc_error(source: io::Error) -> ManyError {
    ManyError::File { path: "/proc".into(), source }
}

fn look(servers: &mut Processes, workers: &mut Processes) -> Result<Look, ManyError> {
    let kernel = KernelMemory::read().map_err(proc_error)?;
    Ok(Look { servers: servers.memory().bytes, kernel, clients: workers.memory().bytes })
}

/// What each worker is to do.
fn plans(options: &ManyOptions, shares: &[Share], nodes: &[Node]) -> Vec<Plan> {
    let processes = shares.len() as u32;
    let plan = |(index, (share, node)): (usize, (&Share, &Node))| {
        let messages = layout::messages(options.messages, processes, index as u32);
        Plan {
            work: Work::Idle(idle::Idle { messages, ..idle::Idle::default() }),
            protocol: Protocol::Xmpp,
            profile: Profile {
                login: Login::default(),
                domain: DOMAIN.into(),
                security: Security::Plain,
                mechanism: options.mechanism,
                acks: false,
                carbons: false,
                roster: true,
                presence: true,
            },
            addresses: vec![node.place.address()],
            sources: share.sources.iter().copied().map(IpAddr::V4).collect(),
            accounts: plan::Accounts { username: "user{}".into(), password: PASSWORD.into(), first: 1, count: 0 },
            trust: Trust::default(),
            sessions: share.sessions,
            first: 0,
            total: share.sessions,
            connect_rate: options.connect_rate,
            connecting_max: options.connecting_max,
            login_seconds_max: LOGIN_SECONDS_MAX,
            drain_seconds_max: 5.0,
            seed: options.seed.wrapping_add(index as u64),
        }
    };
    shares.iter().zip(nodes).enumerate().map(plan).collect()
}

/// The result in the shape of all results: `idle`, so that the goals' rows find it.
fn result(options: &ManyOptions, per_process: u32, done: &Done) -> Run {
    let held = done.course.held();
    let each = |with: u64, before: u64| (with as f64 - before as f64) / held.max(1) as f64;
    let mut figures = BTreeMap::from([
        ("login_seconds".to_owned(), done.course.seconds()),
        ("client_bytes_per_session".into(), each(done.with.clients, done.before.clients)),
        ("kernel_bytes_per_session".into(), each(done.with.kernel.bytes(), done.before.kernel.bytes())),
        ("server_processes".into(), done.shares as f64),
        ("idle_server_bytes".into(), done.idle_server_bytes),
        ("server_threads".into(), done.server_threads),
        ("data_bytes_per_server".into(), done.template_bytes as f64),
    ]);
    figures.extend(done.template_seconds.map(|seconds| ("prepare_seconds".to_owned(), seconds)));
    for (name, from, to) in [("", 0.0, 1.0), ("first_tenth_", 0.0, 0.1), ("last_tenth_", 0.9, 1.0)] {
        if let Some(pace) = done.course.pace(from, to) {
            figures.insert(format!("{name}logins_per_second"), pace.logins_per_second);
            figures.insert(format!("{name}login_server_cpu_us"), pace.server_us);
        }
    }
    for (name, wanted) in [("random_message_us", 50.0), ("random_message_p99_us", 99.0)] {
        figures.extend(percentile(&done.messages, wanted).map(|us| (name.to_owned(), us)));
    }
    figures.insert("random_messages".into(), done.messages.operations as f64);
    let contacts = if options.no_contacts { 0 } else { crate::compare::client::CONTACTS };
    let parameters = BTreeMap::from([
        ("measured_by".to_owned(), "many".into()),
        ("connections".into(), held.into()),
        ("connections_wanted".into(), options.connections.into()),
        ("contacts".into(), contacts.into()),
        ("security".into(), "plain".into()),
        ("mechanism".into(), serde_json::json!(options.mechanism)),
        ("per_process".into(), per_process.into()),
        ("connect_rate".into(), options.connect_rate.into()),
    ]);
    Run {
        scenario: "idle".into(),
        server: "Magpie".into(),
        unit: "session".into(),
        parameters,
        operations: held,
        seconds: done.course.seconds(),
        server_cpu: done.course.points.last().map(|point| point.server_cpu),
        client_cpu: done.client_cpu,
        latency: done.messages.latency.clone(),
        errors: done.messages.errors.clone(),
        memory: Some(Memory {
            sessions: held,
            before: done.before.servers,
            with: done.with.servers,
            after: None,
            kernel_before: done.before.kernel.bytes(),
            kernel_with: done.with.kernel.bytes(),
        }),
        figures,
        ..Run::default()
    }
}

fn append(run: &Run, file: &Path) -> Result<(), ManyError> {
    let line = serde_json::to_string(run).map_err(|error| at(file)(error.into()))? + "\n";
    if file.as_os_str() == "-" {
        return io::stdout().write_all(line.as_bytes()).map_err(at(file));
    }
    let mut out = File::options().create(true).append(true).open(file).map_err(at(file))?;
    out.write_all(line.as_bytes()).map_err(at(file))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ManyError {
    let path = path.to_owned();
    move |source| ManyError::File { path, source }
}

/// A bar with the time that is left; without a terminal a line says that it has begun.
fn bar(what: &'static str, length: u64) -> ProgressBar {
    let terminal = io::stderr().is_terminal();
    if !terminal {
        eprintln!("{what}: {length}");
    }
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}
