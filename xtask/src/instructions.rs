//! Instructions of the server for each operation, function by function, counted by valgrind's callgrind while magpie-load runs.
//!
//! They do not depend on what else the machine does. They are no time: what waits for memory, and what the kernel does, is not in
//! them.

mod callgrind;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use self::callgrind::{Function, Profile};
use crate::parts::run;
use crate::{Workspace, cargo, needs};

pub(crate) const USAGE: &str = "\
cargo xtask instructions SCENARIO [--top N] [--inclusive] [--json] [--per NAME] [--seconds N] [-- OPTION…]
  SCENARIO      pairs, ping, presence or login
  --top N       functions in the table, 40 by default
  --inclusive   ordered by what they cost with all that they call
  --json        as one JSON document
  --per NAME    operations are the calls of the function with NAME in its name
  --seconds N   how long is counted, 5 by default
  -- OPTION…    to magpie-load, as `--acks --carbons` or `--security tls --resumed`";

/// A scenario of magpie-load, how many sessions it has here, and functions that are called once for each of its operations: the first
/// that was called counts.
const SCENARIOS: [(&str, &str, &[&str]); 4] = [
    ("pairs", "100", &["pipeline::user_sends_now", "pipeline::send_message", "pipeline::user_sends_message"]),
    ("ping", "100", &["ping::Ping::answer", "requests::Requests::find"]),
    ("presence", "42", &["mailbox::Mailbox::deliver"]),
    ("login", "50", &["ClientStream::bound", "Modules::stream_features"]),
];

/// Valgrind makes the server many times slower: what happens once is over by then.
const WARM_UP_SECONDS: u32 = 8;

/// For whatever has to be waited for.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq)]
struct Options {
    scenario: String,
    top: usize,
    inclusive: bool,
    json: bool,
    per: Option<String>,
    seconds: u32,
    load: Vec<String>,
}

/// Builds, counts and prints.
pub(crate) fn instructions(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    needs::commands(&["valgrind"])?;
    let build = ["build", "--release", "--locked", "--package", "magpie", "--package", "magpie-load"];
    run(Command::new(cargo()).args(build).current_dir(&workspace.root))?;
    let programs = workspace.target.join("release");
    let magpie = std::env::var_os("MAGPIE_BIN").map_or_else(|| programs.join("magpie"), PathBuf::from);
    // Beside the programs, so that kcachegrind can be shown what was counted last.
    let written = workspace.target.join(format!("callgrind.{}", options.scenario));
    let profile = Counting { magpie, load: programs.join("magpie-load"), options: &options }.count(&written)?;
    let operation = options.operation(&profile)?;
    if options.json {
        println!("{:#}", document(&options, &profile, operation));
    } else {
        print!("{}", table(&options, &profile, operation));
        eprintln!("all of it: {}", written.display());
    }
    Ok(())
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            scenario: String::new(),
            top: 40,
            inclusive: false,
            json: false,
            per: None,
            seconds: 5,
            load: Vec::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} takes a value\n{USAGE}"));
            let number = |text: &String| text.parse().map_err(|_| format!("{word} takes a number\n{USAGE}"));
            match word.as_str() {
                "--top" => options.top = number(value()?)? as usize,
                "--seconds" => options.seconds = number(value()?)?,
                "--per" => options.per = Some(value()?.clone()),
                "--inclusive" => options.inclusive = true,
                "--json" => options.json = true,
                "--" => options.load = words.by_ref().cloned().collect(),
                scenario if options.scenario.is_empty() && SCENARIOS.iter().any(|(name, ..)| *name == scenario) => {
                    options.scenario = scenario.to_owned();
                }
                _ => return Err(format!("what is {word}?\n{USAGE}")),
            }
        }
        if options.scenario.is_empty() { Err(USAGE.to_owned()) } else { Ok(options) }
    }

    fn known(&self) -> (&'static str, &'static [&'static str]) {
        let (_, sessions, functions) =
            SCENARIOS.iter().find(|(name, ..)| *name == self.scenario).expect("another one is not parsed");
        (sessions, functions)
    }

    /// The function whose calls are the operations.
    fn operation<'a>(&self, profile: &'a Profile) -> Result<&'a Function, String> {
        let of_scenario = || self.known().1.iter().find_map(|part| profile.calls_of(part));
        let found = self.per.as_ref().map_or_else(of_scenario, |part| profile.calls_of(part));
        found.ok_or_else(|| "no function of that name was called: name another with --per".to_owned())
    }
}

/// A server under callgrind in a folder of its own, and the load on it.
struct Counting<'a> {
    magpie: PathBuf,
    load: PathBuf,
    options: &'a Options,
}

impl Counting<'_> {
    /// What callgrind wrote is left at `written`.
    fn count(&self, written: &Path) -> Result<Profile, String> {
        let folder = Folder::new()?;
        let (port, tls_port) = free_ports().map_err(|error| format!("no free port: {error}"))?;
        let config = folder.0.join("magpie.toml");
        write(&config, &configuration(&folder.0, port, tls_port))?;
        let magpie = |program: &mut Command| {
            program.arg("--config").arg(&config).stdout(Stdio::null());
        };
        let accounts = folder.0.join("accounts.csv");
        // From 0, so that patterns which begin with 0 and those which begin with 1 are served.
        write(&accounts, &(0..=500).map(|user| format!("user{user}@localhost,pw{user}\n")).collect::<String>())?;
        let mut import = Command::new(&self.magpie);
        magpie(&mut import);
        run(import.args(["user", "import"]).arg(&accounts))?;

        let out = folder.0.join("callgrind.out");
        let mut server = Command::new("valgrind");
        server.args(["--quiet", "--tool=callgrind", "--instr-atstart=no"]);
        server.arg(format!("--callgrind-out-file={}", out.display())).arg(&self.magpie);
        magpie(&mut server);
        // One thread of the runtime: callgrind lets no two run at a time anyhow.
        server.args(["serve", "--log", "warn"]).env("TOKIO_WORKER_THREADS", "1");
        let mut server = Running::start(&mut server)?;
        let pid = server.0.id().to_string();
        server.wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;

        let mut load = Running::start(&mut self.load_command(port, tls_port))?;
        let mut said = Lines(BufReader::new(load.0.stderr.take().ok_or("magpie-load says nothing")?));
        said.until("warming up")?;
        control(&["--instr=on", &pid])?;
        sleep(Duration::from_secs(self.options.seconds.into()));
        control(&["--instr=off", &pid])?;
        control(&["--dump", &pid])?;
        if load.0.try_wait().is_ok_and(|ended| ended.is_some()) {
            return Err(format!("the load ended before all was counted: {}", said.last()?));
        }
        // Dumps are numbered.
        let dump = out.with_extension("out.1");
        server.wait_until("callgrind has written", || fs::metadata(&dump).is_ok_and(|file| file.len() > 0))?;
        eprintln!("{}", said.last()?);
        load.0.wait().map_err(|error| error.to_string())?;
        drop(server);
        fs::copy(&dump, written).map_err(|error| format!("{}: {error}", written.display()))?;
        let text = fs::read_to_string(&dump).map_err(|error| format!("{}: {error}", dump.display()))?;
        Profile::parse(&text).map_err(|why| format!("{}: {why}", written.display()))
    }

    fn load_command(&self, port: u16, tls_port: u16) -> Command {
        let load = &self.options.load;
        let is_tls = load.windows(2).any(|pair| pair[0] == "--security" && pair[1] == "tls");
        let mut command = Command::new(&self.load);
        command.arg(&self.options.scenario);
        let names = |option: &str| load.iter().any(|word| word == option);
        if !names("-c") && !names("--connections") {
            command.args(["--connections", self.options.known().0]);
        }
        if self.options.scenario == "login" && !names("--mechanism") {
            command.args(["--mechanism", "scram-sha-1"]);
        }
        // It goes on for longer than is counted, so that nobody leaves meanwhile.
        let seconds = self.options.seconds + 6;
        command.args(["--warmup", &WARM_UP_SECONDS.to_string(), "--seconds", &seconds.to_string()]);
        command.args(["--address", &format!("127.0.0.1:{}", if is_tls { tls_port } else { port })]);
        command.args(load).stderr(Stdio::piped()).stdout(Stdio::null());
        command
    }
}

fn configuration(folder: &Path, port: u16, tls_port: u16) -> String {
    // As text in TOML: a path on this system may have quotes in it.
    let data = json!(folder.join("data")).to_string();
    format!(
        "domains = [\"localhost\"]\ndata = {data}\nauth.failures_per_minute_max = 100000\nmetrics.address = \"\"\n\
         limits.unauthenticated_max = 200000\n\
         rooms.occupant_messages_per_second_max = 0\nrooms.made_per_hour_max = 0\n\
         [[listen]]\naddress = \"127.0.0.1:{port}\"\nkind = \"c2s\"\ntls = \"optional\"\n\
         [[listen]]\naddress = \"127.0.0.1:{tls_port}\"\nkind = \"c2s-tls\"\n"
    )
}

fn control(words: &[&str]) -> Result<(), String> {
    let output = Command::new("callgrind_control").args(words).output();
    let output = output.map_err(|error| format!("cannot run callgrind_control: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Both at once, so that they differ.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Goes away with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("magpie-instructions-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends with us.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).spawn().map(Self).map_err(|error| format!("cannot run {name}: {error}"))
    }

    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !is_so() {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("it ended before {what}: {status}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("it takes too long until {what}"));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What magpie-load says: a line at the end of each phase.
struct Lines<R>(BufReader<R>);

impl<R: std::io::Read> Lines<R> {
    fn until(&mut self, part: &str) -> Result<(), String> {
        let mut all = String::new();
        loop {
            let start = all.len();
            match self.0.read_line(&mut all) {
                Ok(0) | Err(_) => return Err(format!("magpie-load: {}", all.trim_end())),
                Ok(_) if all[start..].contains(part) => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    fn last(self) -> Result<String, String> {
        let lines: Result<Vec<String>, _> = self.0.lines().collect();
        lines.map_err(|error| error.to_string())?.pop().ok_or_else(|| "magpie-load ended without a word".to_owned())
    }
}

/// The dearest first.
fn dearest<'a>(options: &Options, profile: &'a Profile) -> Vec<&'a Function> {
    let mut functions: Vec<&Function> = profile.functions.iter().collect();
    functions
        .sort_by_key(|function| std::cmp::Reverse(if options.inclusive { function.inclusive } else { function.own }));
    functions.truncate(options.top);
    functions
}

fn table(options: &Options, profile: &Profile, operation: &Function) -> String {
    let each = |number: u64| number as f64 / operation.calls as f64;
    let mut table = format!(
        "{}: {:.0} instructions each, {} times {}\n\n{:>11} {:>9} {:>11}  function\n",
        options.scenario,
        each(profile.total),
        operation.calls,
        operation.name,
        "self",
        "calls",
        "inclusive"
    );
    for Function { name, own, calls, inclusive } in dearest(options, profile) {
        table += &format!("{:>11.1} {:>9.2} {:>11.1}  {name}\n", each(*own), each(*calls), each(*inclusive));
    }
    table
}

fn document(options: &Options, profile: &Profile, operation: &Function) -> serde_json::Value {
    let each = |number: u64| number as f64 / operation.calls as f64;
    let functions = dearest(options, profile).into_iter().map(|function| {
        json!({
            "name": function.name,
            "self": each(function.own),
            "calls": each(function.calls),
            "inclusive": each(function.inclusive),
        })
    });
    json!({
        "scenario": options.scenario,
        "options": options.load,
        "operation": operation.name,
        "operations": operation.calls,
        "instructions": each(profile.total),
        "functions": functions.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn profile() -> Profile {
        Profile::parse(
            "events: Ir\nfn=turn\n1 50\ncfn=magpie::ping::Ping::answer\ncalls=10 1\n2 400\nfn=magpie::ping::Ping::answer\n1 400\n",
        )
        .unwrap()
    }

    #[test]
    fn what_follows_two_dashes_is_for_the_load() {
        let options = parse("login --top 7 --json -- --security tls --resumed").unwrap();
        assert_eq!((options.scenario.as_str(), options.top, options.json), ("login", 7, true));
        assert_eq!(options.load, ["--security", "tls", "--resumed"]);
        assert!(!options.inclusive && options.per.is_none());
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for line in ["", "idle", "pairs ping", "pairs --top", "pairs --top many", "pairs --acks"] {
            assert!(parse(line).unwrap_err().contains("SCENARIO"), "{line}");
        }
    }

    #[test]
    fn figures_are_for_one_operation() {
        let options = parse("ping --top 1 --inclusive").unwrap();
        let profile = profile();
        let operation = options.operation(&profile).unwrap();
        let table = table(&options, &profile, operation);
        assert_eq!(table.lines().next(), Some("ping: 45 instructions each, 10 times magpie::ping::Ping::answer"));
        assert_eq!(table.lines().last(), Some("        5.0      0.00        45.0  turn"));
        let document = document(&options, &profile, operation);
        assert_eq!(document["functions"], json!([{"name": "turn", "self": 5.0, "calls": 0.0, "inclusive": 45.0}]));
    }

    #[test]
    fn operations_can_be_those_of_another_function_and_one_that_was_not_called_is_an_error() {
        let profile = profile();
        assert_eq!(parse("pairs --per Ping").unwrap().operation(&profile).unwrap().calls, 10);
        assert!(parse("pairs").unwrap().operation(&profile).unwrap_err().contains("--per"));
        assert!(parse("ping --per turn").unwrap().operation(&profile).unwrap_err().contains("--per"));
    }
}
