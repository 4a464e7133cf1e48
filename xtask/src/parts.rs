//! The parts of `cargo xtask test`: each runs whole, and the summary says what became of it and how long it took.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Workspace, cargo, needs, tidy};

struct Part {
    name: &'static str,
    about: &'static str,
    /// Needs the program that the part `build` makes.
    needs_magpie: bool,
    run: fn(&Workspace) -> Result<(), String>,
}

/// Cheap ones first: they fail soonest.
const PARTS: &[Part] = &[
    Part { name: "format", about: "cargo fmt --check", needs_magpie: false, run: format },
    Part { name: "tidy", about: "arrows, names, licences", needs_magpie: false, run: tidy::tidy },
    Part { name: "clippy", about: "cargo clippy, warnings denied", needs_magpie: false, run: clippy },
    Part { name: "unit", about: "cargo test --workspace", needs_magpie: false, run: unit },
    Part { name: "build", about: "the program that the next parts run", needs_magpie: false, run: build },
    Part { name: "conversations", about: "RFCs and XEPs over TCP", needs_magpie: true, run: |w| conversations(w, &[]) },
    Part {
        name: "prosody",
        about: "the same conversations with Prosody: are they right?",
        needs_magpie: false,
        run: |w| conversations(w, &["--against".into(), "prosody".into()]),
    },
    Part {
        name: "clients",
        about: "slixmpp, aioxmpp, go-sendxmpp, profanity, poezio",
        needs_magpie: true,
        run: |w| clients(w, &[]),
    },
    Part { name: "migration", about: "from Prosody to Magpie", needs_magpie: true, run: migration },
    Part {
        name: "kill",
        about: "kill -9 and restarts lose no acknowledged message",
        needs_magpie: true,
        run: |w| kill(w, &[]),
    },
    Part {
        name: "kill-rooms",
        about: "kill -9 loses no acknowledged message of a room, and no affiliation",
        needs_magpie: true,
        run: |w| kill_rooms(w, &[]),
    },
];

/// Runs all parts, or those that `--only` names.
pub(crate) fn test(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let only = only(arguments)?;
    let started = Instant::now();
    let mut rows = Vec::new();
    let mut no_magpie = false;
    for part in PARTS.iter().filter(|part| only.is_empty() || only.contains(&part.name)) {
        println!("\n== {}: {}", part.name, part.about);
        let began = Instant::now();
        let outcome = if part.needs_magpie && no_magpie {
            Err("not run: there is no program".to_owned())
        } else {
            (part.run)(workspace)
        };
        no_magpie |= part.name == "build" && outcome.is_err();
        match &outcome {
            Ok(()) => println!("== {} passed in {}", part.name, seconds(began.elapsed())),
            Err(why) => println!("== {} FAILED after {}: {why}", part.name, seconds(began.elapsed())),
        }
        rows.push((part, outcome, began.elapsed()));
    }
    println!("\n{:<16} {:<7} {:>9}", "part", "", "time");
    for (part, outcome, took) in &rows {
        println!("{:<16} {:<7} {:>9}", part.name, if outcome.is_ok() { "passed" } else { "FAILED" }, seconds(*took));
    }
    println!("{:<16} {:<7} {:>9}\n", "all", "", seconds(started.elapsed()));
    let failed = rows.iter().filter(|(_, outcome, _)| outcome.is_err()).count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    if failed == 0 { Ok(()) } else { Err(String::new()) }
}

fn only(arguments: &[String]) -> Result<Vec<&str>, String> {
    let mut only = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let name = match (word.as_str(), word.strip_prefix("--only=")) {
            ("--only", _) => words.next().map(String::as_str),
            (_, Some(name)) => Some(name),
            _ => return Err(format!("unknown option {word}")),
        };
        match name {
            Some(name) if PARTS.iter().any(|part| part.name == name) => only.push(name),
            _ => {
                let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
                return Err(format!("--only takes one of: {}", names.join(", ")));
            }
        }
    }
    Ok(only)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Runs a command in sight; an error names it.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = command.status().map_err(|error| format!("cannot run {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} {}: {status}", words.join(" "))) }
}

fn run_cargo(workspace: &Workspace, words: &[&str]) -> Result<(), String> {
    run(Command::new(cargo()).args(words).current_dir(&workspace.root))
}

fn format(workspace: &Workspace) -> Result<(), String> {
    run_cargo(workspace, &["fmt", "--all", "--check"])
}

fn clippy(workspace: &Workspace) -> Result<(), String> {
    // `--all-targets` leaves out what is `test = false`.
    run_cargo(
        workspace,
        &["clippy", "--workspace", "--all-targets", "--test", "conversations", "--locked", "--", "-D", "warnings"],
    )
}

fn unit(workspace: &Workspace) -> Result<(), String> {
    needs::commands(&["erl", "go", "postgres", "redis-server", "python3"])?;
    run_cargo(workspace, &["test", "--workspace", "--locked"])
}

fn build(workspace: &Workspace) -> Result<(), String> {
    run_cargo(workspace, &["build", "--package", "magpie", "--locked"])
}

/// Holds the conversations; the arguments go to their runner.
pub(crate) fn conversations(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    if let Some(peer) = peer(arguments) {
        needs::commands(&[peer])?;
    } else if std::env::var_os("MAGPIE_BIN").is_none() {
        build(workspace)?;
    }
    run(Command::new(cargo())
        .args(["test", "--quiet", "--package", "magpie-server", "--test", "conversations", "--locked", "--"])
        .args(arguments)
        .env("MAGPIE_BIN", workspace.magpie())
        .current_dir(&workspace.root))
}

/// Runs the real clients; the arguments go to `tests/clients/run.py`.
pub(crate) fn clients(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut wanted = vec!["go-sendxmpp", "profanity", "poezio", "tmux", "openssl"];
    if arguments.iter().any(|word| word == "gajim") {
        wanted.extend(["gajim", "Xvfb", "xdotool", "import", "dbus-run-session"]);
    }
    needs::commands(&wanted)?;
    python_script(workspace, "tests/clients/run.py", arguments)
}

/// Takes accounts from Prosody to Magpie by a file of XEP-0227.
pub(crate) fn migration(workspace: &Workspace) -> Result<(), String> {
    needs::commands(&["prosody", "openssl"])?;
    python_script(workspace, "tests/migration/run.py", &[])
}

/// Kills the server under load; the arguments go to `tests/kill/run.py`.
pub(crate) fn kill(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    needs::commands(&["openssl"])?;
    python_script(workspace, "tests/kill/run.py", arguments)
}

/// Kills the server while people talk in a room; the arguments go to `tests/kill/rooms.py`.
pub(crate) fn kill_rooms(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    needs::commands(&["openssl"])?;
    python_script(workspace, "tests/kill/rooms.py", arguments)
}

/// Runs fuzz targets on stable, for 60 seconds each or as long as asked.
pub(crate) fn fuzz(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    run(Command::new(cargo())
        .args(["run", "--quiet", "--profile", "fuzz", "-p", "magpie-fuzz", "--", "--into"])
        .arg(workspace.target.join("fuzz-inputs"))
        .args(arguments)
        .current_dir(&workspace.root))
}

/// Erlang's terms beside OTP and other crates, and the service of them beside Erlang's own; the arguments go to `magpie-load terms`.
pub(crate) fn bench_terms(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    needs::commands(&["erl", "inets"])?;
    run_cargo(workspace, &["build", "--release", "--locked", "-p", "magpie", "-p", "magpie-load"])?;
    run_cargo(workspace, &["bench", "--locked", "-p", "magpie-etf", "--bench", "otp"])?;
    run(Command::new(workspace.target.join("release/magpie-load")).arg("terms").args(arguments))
}

fn python_script(workspace: &Workspace, script: &str, arguments: &[String]) -> Result<(), String> {
    if let Some(peer) = peer(arguments) {
        needs::commands(&[peer])?;
    } else if std::env::var_os("MAGPIE_BIN").is_none() {
        build(workspace)?;
    }
    let python = needs::python(workspace)?;
    run(Command::new(python)
        .arg(workspace.root.join(script))
        .args(arguments)
        .env("MAGPIE_BIN", workspace.magpie())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .current_dir(&workspace.root))
}

/// The command of the other server that the arguments name.
fn peer(arguments: &[String]) -> Option<&'static str> {
    let pair = arguments.windows(2).find(|pair| pair[0] == "--against")?;
    match pair[1].as_str() {
        "prosody" => Some("prosody"),
        "ejabberd" => Some("ejabberdctl"),
        _ => None,
    }
}
