//! The command line of `magpie-load`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::client::negotiation::{Profile, Security};
use crate::client::sasl::Mechanism;
use crate::crew::{Crew, Order};
use crate::plan::{Accounts, Plan, Protocol, Trust};
use crate::result::Run;
use crate::scenarios::{
    Work, history, idle, login, offline, pairs, ping, presence, room_fill, rooms, rooms_idle, storm,
};
use crate::worker;

/// Measures XMPP servers.
#[derive(Debug, Parser)]
#[command(name = "magpie-load", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sessions that are there and do nothing: memory
    Idle {
        #[command(flatten)]
        work: idle::Idle,
        #[command(flatten)]
        options: Options,
    },
    /// Pairs of users write to each other
    Pairs {
        #[command(flatten)]
        work: pairs::Pairs,
        #[command(flatten)]
        options: Options,
    },
    /// Passes bytes on as they are: the floor of what a message can cost
    Relay(crate::relay::RelayOptions),
    /// Sessions ask the server whether it is there
    Ping {
        #[command(flatten)]
        work: ping::Ping,
        #[command(flatten)]
        options: Options,
    },
    /// Clients log in, leave, and log in again
    Login {
        #[command(flatten)]
        work: login::Login,
        #[command(flatten)]
        options: Options,
    },
    /// Users come and go, and their contacts hear of it
    Presence {
        #[command(flatten)]
        work: presence::Presence,
        #[command(flatten)]
        options: Options,
    },
    /// All connections break at once, and all clients come back
    Storm {
        #[command(flatten)]
        work: storm::Storm,
        #[command(flatten)]
        options: Options,
    },
    /// People come back and get what was written to them meanwhile
    Offline {
        #[command(flatten)]
        work: offline::Offline,
        #[command(flatten)]
        options: Options,
    },
    /// Clients page through their archives
    History {
        #[command(flatten)]
        work: history::History,
        #[command(flatten)]
        options: Options,
    },
    /// Occupants of rooms say something, and all others hear it
    Rooms {
        #[command(flatten)]
        work: rooms::Rooms,
        #[command(flatten)]
        options: Options,
    },
    /// Everybody enters an empty room at the same moment
    RoomFill {
        #[command(flatten)]
        work: room_fill::RoomFill,
        #[command(flatten)]
        options: Options,
    },
    /// Persistent rooms are made and left: how fast, and what they take of the server's memory
    RoomsIdle {
        #[command(flatten)]
        work: rooms_idle::RoomsIdle,
        #[command(flatten)]
        options: Options,
    },
    /// One page with plots, of results that were kept as JSON
    Report(crate::report::Args),
    /// Compares Magpie with other servers and the floor
    Compare(crate::compare::CompareOptions),
    /// Holds up to a million idle sessions on this machine, by many processes of Magpie
    Many(crate::many::ManyOptions),
    /// Makes a hundred thousand rooms, or millions, and starts Magpie on them
    ManyRooms(crate::many::rooms::ManyRoomsOptions),
    /// Answers requests with the same bytes: the floor of what a request can cost
    #[command(hide = true)]
    TermsFloor(crate::terms::floor::FloorOptions),
    /// Compares the service of Erlang's terms with Erlang's own web server
    Terms(crate::terms::TermsOptions),
    /// Runs the phases of a scenario file
    Run {
        /// The file, in TOML
        file: PathBuf,
        /// Where the results go as JSON, a list; - is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Prints the accounts that runs log in to, as CSV lines `jid,password`
    Accounts {
        /// How many
        #[arg(long, value_name = "N")]
        count: u32,
        #[command(flatten)]
        options: Options,
    },
    /// Started by `magpie-load` itself
    #[command(hide = true)]
    Worker,
}

/// Where the server is, who logs in, and how long.
#[derive(Clone, Debug, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Where the server listens; several take turns
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5222", help_heading = "Server")]
    pub address: Vec<String>,
    /// The domain of the accounts
    #[arg(long, default_value = "localhost", value_name = "NAME", help_heading = "Server")]
    pub domain: String,
    /// What is spoken: `raw` measures a bare relay of the same bytes
    #[arg(long, default_value = "xmpp", help_heading = "Server")]
    pub protocol: Protocol,
    /// How connections are protected
    #[arg(long, default_value = "plain", help_heading = "Server")]
    pub security: Security,
    /// How users prove who they are
    #[arg(long, default_value = "plain", help_heading = "Server")]
    pub mechanism: Mechanism,
    /// Accepts any certificate; on loopback addresses always so
    #[arg(long, help_heading = "Server")]
    pub insecure: bool,
    /// PEM file with the authorities whose certificates are accepted
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub ca: Option<PathBuf>,
    /// How the server is called in the result
    #[arg(long, default_value = "server", value_name = "NAME", help_heading = "Server")]
    pub server_name: String,
    /// A process of the server, whose CPU time and memory are measured; several are added up
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub server_pid: Vec<u32>,
    /// Name of the accounts before the `@`; `{}` is the number
    #[arg(long, default_value = "user{}", value_name = "PATTERN", help_heading = "Accounts")]
    pub accounts: String,
    /// Their password; `{}` is the number
    #[arg(long, default_value = "pw{}", value_name = "PATTERN", help_heading = "Accounts")]
    pub password: String,
    /// Number of the first account
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Accounts")]
    pub first_account: u32,
    /// Sessions
    #[arg(long, short = 'c', default_value_t = 200, value_name = "N")]
    pub connections: u32,
    /// Seconds before anything counts
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub seconds: f64,
    /// New connections a second; 0: as many as the server takes
    #[arg(long, visible_alias = "ramp", default_value_t = 0.0, value_name = "PER_SECOND")]
    pub connect_rate: f64,
    /// Logins under way at a time
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub connecting_max: u32,
    /// Seconds that a login may take
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub login_seconds_max: u64,
    /// Addresses to connect from: single ones or ranges as 127.0.0.1-127.0.0.20, with commas between
    #[arg(long, value_name = "LIST", default_value = "")]
    pub sources: String,
    /// Worker processes; `auto`: as many as the limit of open files demands
    #[arg(long, default_value = "auto", value_name = "N")]
    pub processes: String,
    /// Sessions acknowledge stanzas (XEP-0198) and ask for acknowledgements
    #[arg(long)]
    pub acks: bool,
    /// Sessions ask for carbons (XEP-0280)
    #[arg(long)]
    pub carbons: bool,
    /// Where the result goes as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Of all that is random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Only the options, to have their defaults.
#[derive(Debug, Parser)]
struct Defaults {
    #[command(flatten)]
    options: Options,
}

impl Default for Options {
    fn default() -> Self {
        Defaults::parse_from(["magpie-load"]).options
    }
}

/// Sessions of one worker where the number of workers is `auto`.
const SESSIONS_PER_PROCESS: u32 = 19_000;

/// Files of a process that are not connections.
const OTHER_FILES: u64 = 64;

/// Runs the command line.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare(options) => crate::compare::compare(&options).map_err(|error| error.to_string()),
        Command::Many(options) => crate::many::many(&options).map_err(|error| error.to_string()),
        Command::TermsFloor(options) => crate::terms::floor::floor(&options).map_err(|error| error.to_string()),
        Command::Terms(options) => crate::terms::terms(&options).map_err(|error| error.to_string()),
        Command::ManyRooms(options) => crate::many::rooms::many_rooms(&options).map_err(|error| error.to_string()),
        Command::Relay(options) => crate::relay::relay(&options).map(|_| ()).map_err(|error| error.to_string()),
        Command::Report(options) => crate::report::run(&options),
        Command::Run { file, json } => crate::file::run(&file).and_then(|runs| show(&runs, &runs, json.as_deref())),
        Command::Accounts { count, options } => accounts(count, &options),
        Command::Worker => worker::run().map_err(|error| error.to_string()),
        Command::Idle { work, options } => run(Work::Idle(work), &options),
        Command::Pairs { work, options } => run(Work::Pairs(work), &options),
        Command::Ping { work, options } => run(Work::Ping(work), &options),
        Command::Login { work, options } => run(Work::Login(work), &options),
        Command::Presence { work, options } => run(Work::Presence(work), &options),
        Command::Storm { work, options } => run(Work::Storm(work), &options),
        Command::Offline { work, options } => run(Work::Offline(work), &options),
        Command::History { work, options } => run(Work::History(work), &options),
        Command::Rooms { work, options } => run(Work::Rooms(work), &options),
        Command::RoomFill { work, options } => run(Work::RoomFill(work), &options),
        Command::RoomsIdle { work, options } => run(Work::RoomsIdle(work), &options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("magpie-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: Work, options: &Options) -> Result<(), String> {
    let run = measure(options.order(work)?)?;
    show(&run, std::slice::from_ref(&run), options.json.as_deref())
}

fn show(document: &impl serde::Serialize, runs: &[Run], file: Option<&Path>) -> Result<(), String> {
    if let Some(file) = file {
        let json = serde_json::to_string_pretty(document).map_err(|error| error.to_string())?;
        if file.as_os_str() == "-" {
            println!("{json}");
        } else {
            std::fs::write(file, json + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
    }
    for run in runs {
        eprintln!("{}", line(run));
    }
    Ok(())
}

fn accounts(count: u32, options: &Options) -> Result<(), String> {
    let accounts = options.accounts();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = (0..count).try_for_each(|index| {
        let (username, password) = accounts.login(index);
        writeln!(out, "{username}@{},{password}", options.domain)
    });
    written.and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))
}

/// Runs one scenario.
pub fn measure(order: Order) -> Result<Run, String> {
    let work = order.plan.work.clone();
    let mut crew = Crew::start(order).map_err(|error| error.to_string())?;
    lead(&work, &mut crew)
}

/// Runs one scenario with workers that wait for it.
pub(crate) fn lead(work: &Work, crew: &mut Crew) -> Result<Run, String> {
    let accounts = format!("--count {} > accounts.csv", crew.order.plan.sessions);
    work.lead(crew).map_err(|error| match error.to_string() {
        error if error.contains("refuses the login") => format!(
            "{error}\nAre the accounts there, and is the password theirs? `magpie-load accounts {accounts}` writes them; \
             `magpie user import accounts.csv` makes them in Magpie."
        ),
        error => error,
    })
}

impl Options {
    /// The run that is asked for.
    pub fn order(&self, work: Work) -> Result<Order, String> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in &self.address {
            let found = address.to_socket_addrs().map_err(|error| format!("--address {address}: {error}"))?;
            addresses.extend(found.take(1));
        }
        let work = work.with_rooms_called(&format!("load{}-", std::process::id()));
        let sessions = work.sessions(self.connections);
        let login = match &work {
            Work::Login(login) => login.clone(),
            _ => login::Login::default(),
        };
        let trust = Trust {
            any: self.insecure || (self.ca.is_none() && addresses.iter().all(|address| address.ip().is_loopback())),
            ca: self.ca.clone(),
            tls12: false,
            resume: login.resumes(),
        };
        let limit = worker::raise_file_limit().saturating_sub(OTHER_FILES).clamp(1, u64::from(SESSIONS_PER_PROCESS));
        let processes = match self.processes.as_str() {
            "auto" => sessions.div_ceil(limit as u32),
            number => number.parse().map_err(|_| format!("--processes {number}: neither a number nor `auto`"))?,
        };
        // In a storm nobody waits for others; a rate of new connections bounds it where that is wished for.
        let all_at_once = matches!(work, Work::Storm(_) | Work::Login(_) | Work::Offline(_));
        let plan = Plan {
            protocol: self.protocol,
            profile: Profile {
                domain: self.domain.clone(),
                security: self.security,
                mechanism: self.mechanism,
                login: login.profile(),
                acks: self.acks,
                carbons: self.carbons,
                roster: work.needs_roster(),
                presence: work.needs_presence(),
            },
            addresses,
            sources: sources(&self.sources)?,
            accounts: self.accounts(),
            trust,
            sessions,
            first: 0,
            total: sessions,
            connect_rate: self.connect_rate,
            connecting_max: if all_at_once { sessions } else { self.connecting_max },
            login_seconds_max: self.login_seconds_max,
            drain_seconds_max: 5.0,
            seed: self.seed,
            work,
        };
        Ok(Order {
            parameters: self.parameters(&plan),
            plan,
            processes,
            warmup: self.warmup,
            seconds: self.seconds,
            server_pids: self.server_pid.clone(),
            server: self.server_name.clone(),
        })
    }

    fn accounts(&self) -> Accounts {
        Accounts {
            username: self.accounts.clone(),
            password: self.password.clone(),
            first: self.first_account,
            count: 0,
        }
    }

    fn parameters(&self, plan: &Plan) -> BTreeMap<String, serde_json::Value> {
        let profile = &plan.profile;
        let mut all = BTreeMap::from([
            ("connections".to_owned(), plan.sessions.into()),
            ("protocol".into(), serde_json::json!(plan.protocol)),
            ("security".into(), serde_json::json!(profile.security)),
            ("mechanism".into(), serde_json::json!(profile.mechanism)),
            ("acks".into(), profile.acks.into()),
            ("carbons".into(), profile.carbons.into()),
            ("warmup".into(), self.warmup.into()),
            ("seconds".into(), self.seconds.into()),
            ("seed".into(), self.seed.into()),
        ]);
        if let Ok(serde_json::Value::Object(work)) = serde_json::to_value(&plan.work) {
            for of_scenario in work.into_iter().filter_map(|(_, value)| value.as_object().cloned()) {
                all.extend(of_scenario.into_iter().filter(|(_, value)| !value.is_null()));
            }
        }
        all
    }
}

/// The scenario and the parameters of a command line, without running it.
#[cfg(test)]
pub(crate) fn asked(words: &[String]) -> (String, BTreeMap<String, serde_json::Value>) {
    let program = std::iter::once("magpie-load");
    let (work, options) = match Cli::parse_from(program.chain(words.iter().map(String::as_str))).command {
        Command::Idle { work, options } => (Work::Idle(work), options),
        Command::Pairs { work, options } => (Work::Pairs(work), options),
        Command::Ping { work, options } => (Work::Ping(work), options),
        Command::Login { work, options } => (Work::Login(work), options),
        Command::Presence { work, options } => (Work::Presence(work), options),
        Command::Storm { work, options } => (Work::Storm(work), options),
        Command::Offline { work, options } => (Work::Offline(work), options),
        Command::History { work, options } => (Work::History(work), options),
        Command::Rooms { work, options } => (Work::Rooms(work), options),
        Command::RoomFill { work, options } => (Work::RoomFill(work), options),
        Command::RoomsIdle { work, options } => (Work::RoomsIdle(work), options),
        other => panic!("{other:?} is no scenario"),
    };
    (words[0].clone(), options.order(work).expect("the words of a row are right").parameters)
}

/// One line about a run.
pub fn line(run: &Run) -> String {
    let mut line = format!("{} {}: ", run.server, run.scenario);
    if let Some(memory) = &run.memory {
        let bytes = run.bytes_per_session().unwrap_or_default();
        return line + &format!("{} sessions, {bytes:.0} bytes each", memory.sessions);
    }
    line += &format!("{:.0} {}/s", run.rate(), crate::report::units::plural(&run.unit));
    if let Some(bytes) = run.figures.get(rooms_idle::BYTES) {
        line += &format!(", {bytes:.0} bytes of memory each");
    }
    if let Some(latency) = &run.latency {
        line += &format!(", p50 {:.2} ms, p99 {:.2} ms", latency.at(50.0) / 1e3, latency.at(99.0) / 1e3);
    }
    if let Some(acks) = &run.ack_latency {
        line += &format!(", acks p50 {:.2} ms, p99 {:.2} ms", acks.at(50.0) / 1e3, acks.at(99.0) / 1e3);
    }
    if let Some(server) = run.server_us() {
        line += &format!(", server {server:.2} µs CPU each");
    }
    if run.operations > 0 {
        line += &format!(", client {:.2} µs", run.client_cpu.total() * 1e6 / run.operations as f64);
    }
    for (what, count) in &run.errors {
        line += &format!("; {count} × {what}");
    }
    line
}

/// Single addresses and ranges, with commas between.
fn sources(list: &str) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|error| format!("--sources {text}: {error}"));
        match part.split_once('-') {
            None => all.push(parse(part)?),
            Some((first, last)) => match (parse(first)?, parse(last)?) {
                (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                    all.extend((first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V4(bits.into())));
                }
                _ => return Err(format!("--sources {part}: a range goes from a lower to a higher IPv4 address")),
            },
        }
    }
    Ok(all)
}
