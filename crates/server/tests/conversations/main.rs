//! RFC 6120, RFC 6121 and the XEPs as conversations: `README.md` beside this file describes the format.
//!
//! `cargo xtask conversations [--against prosody|ejabberd] [--excused] [--list] [NAME…]` runs those whose file name contains one of the
//! names.

mod list;
mod runner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runner::perform::perform;
use runner::script::{self, Script};
use runner::servers::{Kind, Server, domain_of, magpie_program};

/// Conversations at a time: they mostly wait.
const THREADS: usize = 12;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    kind: Kind,
    /// Only say which are held with which server.
    list: bool,
    /// Hold those alone that say that they are not for the server: they must fail, or there is no reason for what they say.
    excused: bool,
    names: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { kind: Kind::Magpie, list: false, excused: false, names: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--against" => {
                let name = words.next().unwrap_or_default();
                parsed.kind =
                    Kind::parse(&name).ok_or_else(|| format!("--against magpie, prosody or ejabberd, not {name:?}"))?;
            }
            "--list" => parsed.list = true,
            "--excused" => parsed.excused = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name => parsed.names.push(name.to_owned()),
        }
    }
    Ok(parsed)
}

fn run() -> Result<bool, String> {
    let arguments = arguments()?;
    runner::pattern::judge_the_judge()?;
    let mut scripts = scripts(&arguments)?;
    if arguments.list {
        list::list(&scripts);
        return Ok(true);
    }
    if arguments.excused {
        scripts.retain(|script| script.is_excused(arguments.kind));
        scripts.iter_mut().for_each(Script::forget_excuses);
    } else {
        let excused = scripts.extract_if(.., |script| script.not_for.contains_key(&arguments.kind));
        for script in excused {
            println!("not for {}: {} ({})", arguments.kind.name(), script.name, script.not_for[&arguments.kind]);
        }
    }
    let magpie = match arguments.kind {
        Kind::Magpie => magpie_program()?,
        Kind::Prosody | Kind::Ejabberd => PathBuf::new(),
    };
    let mut groups: BTreeMap<_, Vec<&Script>> = BTreeMap::new();
    for script in &scripts {
        let alone = script.restarts_the_server().then_some(&script.name);
        groups.entry((&script.settings, alone)).or_default().push(script);
    }
    let mut failed = Vec::new();
    for ((settings, _), group) in groups {
        let server = Server::start(arguments.kind, &group, settings, &magpie)?;
        let reports = perform_all(&group, &server);
        let died = !server.is_alive();
        if died || !reports.is_empty() && !arguments.excused {
            println!("the end of the server's log:\n{}\n", server.log());
        }
        for (name, report) in reports {
            println!("FAILED {report}");
            failed.push(name);
        }
        if died && !arguments.excused {
            return Err("the server ended during the conversations".into());
        }
    }
    Ok(if arguments.excused { all_failed(&scripts, &failed) } else { none_failed(&scripts, &failed) })
}

fn none_failed(scripts: &[Script], failed: &[String]) -> bool {
    for name in failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", scripts.len() - failed.len(), failed.len());
    failed.is_empty()
}

/// Whoever says that it is not for a server must fail with it.
fn all_failed(scripts: &[Script], failed: &[String]) -> bool {
    let unfounded: Vec<&Script> = scripts.iter().filter(|script| !failed.contains(&script.name)).collect();
    for script in &unfounded {
        println!("passed, though it says that it cannot: {}", script.name);
    }
    println!("{} are rightly excused, {} are not", failed.len(), unfounded.len());
    unfounded.is_empty()
}

fn scripts(arguments: &Arguments) -> Result<Vec<Script>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path);
        let script = script::parse(shown, &text)?;
        if arguments.names.is_empty() || arguments.names.iter().any(|name| script.name.contains(file_stem(name))) {
            scripts.push(script);
        }
    }
    if scripts.is_empty() {
        return Err(format!("no conversation is called {:?}", arguments.names));
    }
    Ok(scripts)
}

/// A name may be given as a path, as a shell completes it.
fn file_stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name)
}

fn perform_all(scripts: &[&Script], server: &Server) -> Vec<(String, String)> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    // ejabberd says "Database failure" where two nodes come into being at the same moment.
    let nodes = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let makes_nodes = server.kind == Kind::Ejabberd && script.may_make_nodes;
                    let _alone = makes_nodes.then(|| nodes.lock().expect("no thread panics with the lock"));
                    let started = Instant::now();
                    let outcome = perform(script, server, &domain_of(script));
                    report_line(script, started.elapsed(), outcome.is_ok());
                    if let Err(report) = outcome {
                        reports.lock().expect("no thread panics with the lock").push((script.name.clone(), report));
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("no thread panics with the lock");
    reports.sort();
    reports
}

fn report_line(script: &Script, took: Duration, passed: bool) {
    println!("{} {:<40} {:>6} ms", if passed { "ok    " } else { "FAILED" }, script.name, took.as_millis());
}
