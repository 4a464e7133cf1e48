//! The processes of a server: started as children with their log in a file, stopped by pid and waited for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::CompareError;

/// A server that needs longer to end is ended.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

/// Whether the operator wants it to end (Ctrl-C, SIGTERM).
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes SIGINT and SIGTERM from now on: the second one ends the process at once.
    pub fn on_signals() -> Result<Self, CompareError> {
        let interrupt = Self::default();
        let flag = Arc::clone(&interrupt.0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| CompareError::Setup(error.to_string()))?;
        thread::spawn(move || {
            runtime.block_on(async {
                let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = terminate.recv() => {}
                    }
                    if flag.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        });
        Ok(interrupt)
    }

    /// Fails when it came.
    pub fn check(&self) -> Result<(), CompareError> {
        if self.0.load(Ordering::Relaxed) { Err(CompareError::Interrupted) } else { Ok(()) }
    }
}

/// The processes of a server that runs; they end when this value goes.
#[derive(Debug)]
pub struct Started {
    children: Vec<Child>,
    log: PathBuf,
}

impl Started {
    /// Starts the commands in order, in process groups of their own.
    ///
    /// `cpus` are the processors that they may use; none means all. Should this process be killed, the system ends them too.
    pub fn start(commands: Vec<Command>, folder: &Path, cpus: Option<&str>) -> Result<Self, CompareError> {
        use std::os::unix::process::CommandExt as _;
        let log = folder.join("server.log");
        let mut started = Self { children: Vec::new(), log };
        for command in commands {
            let output = File::options().create(true).append(true).open(&started.log);
            let output = output.map_err(CompareError::file(&started.log))?;
            let errors = output.try_clone().map_err(CompareError::file(&started.log))?;
            let mut command = wrapped(&command, cpus);
            command.current_dir(folder).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
            started.children.push(command.spawn().map_err(CompareError::program(&command))?);
        }
        Ok(started)
    }

    /// The pids of the children, and of all that they have started.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.children.iter().map(Child::id).collect();
        let mut at = 0;
        while at < pids.len() {
            let tasks = fs::read_dir(format!("/proc/{}/task", pids[at])).into_iter().flatten().flatten();
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            at += 1;
        }
        pids
    }

    /// Fails with the end of the log when one of them has ended.
    pub fn check(&mut self) -> Result<(), CompareError> {
        for child in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                let text = fs::read(&self.log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(30)..].join("\n");
                return Err(CompareError::Setup(format!("it ended with {status}\n{last}")));
            }
        }
        Ok(())
    }

    /// Asks them to end, the last one first, and waits.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { continue };
            let _ = kill_process(pid, Signal::TERM);
            if wait(&mut child, PATIENCE).is_none() {
                eprintln!("process {} does not end, and is killed", child.id());
                let _ = child.kill();
                let _ = child.wait();
            }
            // What it started and left behind has its group.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Started {
    /// Ends them at once, without a chance to write anything down; [`stop`](Self::stop) waits until they are gone.
    pub fn kill(&mut self) {
        for child in &mut self.children {
            // One that has ended already is no matter.
            let _ = child.kill();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The command under `setpriv`, which has the system end it when we are gone, and `taskset`.
fn wrapped(command: &Command, cpus: Option<&str>) -> Command {
    let mut words = vec!["setpriv".into(), "--pdeathsig".into(), "KILL".into(), "--".into()];
    if let Some(cpus) = cpus {
        words.extend(["taskset".into(), "--cpu-list".into(), cpus.into()]);
    }
    words.push(command.get_program().to_owned());
    words.extend(command.get_args().map(ToOwned::to_owned));
    let mut all = Command::new(&words[0]);
    all.args(&words[1..]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.env(name, value),
            None => all.env_remove(name),
        };
    }
    all
}

/// Waits so long for the end of a child.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
            _ => return None,
        }
    }
}

/// Runs a command to its end, in the background of the operator's wish to stop; an error has what it said.
pub fn run(command: &mut Command, patience: Duration, interrupt: &Interrupt) -> Result<String, CompareError> {
    use std::os::unix::process::CommandExt as _;
    let output =
        std::env::temp_dir().join(format!("magpie-compare-{}-{:?}.out", std::process::id(), thread::current().id()));
    let file = File::create(&output).map_err(CompareError::file(&output))?;
    let errors = file.try_clone().map_err(CompareError::file(&output))?;
    let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0).spawn();
    let mut child = child.map_err(CompareError::program(command))?;
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) => {}
            Err(error) => break Err(CompareError::Setup(error.to_string())),
        }
        if let Err(interrupted) = interrupt.check() {
            break Err(interrupted);
        }
        if Instant::now() > deadline {
            break Err(CompareError::Setup(format!("it took longer than {} seconds", patience.as_secs())));
        }
        thread::sleep(LOOK);
    };
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = fs::read(&output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let _ = fs::remove_file(&output);
    let named = |why: String| {
        let program = command.get_program().to_string_lossy().into_owned();
        CompareError::Setup(format!("{program}: {why}\n{}", said.trim_end()))
    };
    match status {
        Ok(status) if status.success() => Ok(said),
        Ok(status) => Err(named(status.to_string())),
        Err(CompareError::Setup(why)) => Err(named(why)),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn lives(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn what_a_server_has_started_is_known_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let commands = vec![shell("sleep 60 & wait"), shell("sleep 61")];
        let mut started = Started::start(commands, folder.path(), Some("0")).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while started.pids().len() < 3 {
            assert!(Instant::now() < deadline);
            thread::sleep(LOOK);
        }
        let pids = started.pids();
        started.check().unwrap();
        started.stop();
        let deadline = Instant::now() + PATIENCE;
        while pids.iter().any(|pid| lives(*pid)) {
            assert!(Instant::now() < deadline, "something stayed behind");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_server_that_does_not_listen_to_requests_is_killed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; touch ready; while :; do sleep 0.05; done";
        let mut started = Started::start(vec![shell(script)], folder.path(), None).unwrap();
        let pid = started.pids()[0];
        let began = Instant::now();
        while !folder.path().join("ready").exists() {
            assert!(began.elapsed() < PATIENCE);
            thread::sleep(LOOK);
        }
        let began = Instant::now();
        started.kill();
        started.stop();
        assert!(began.elapsed() < PATIENCE / 2 && !lives(pid));
    }

    #[test]
    fn a_server_that_ends_is_reported_with_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut started = Started::start(vec![shell("echo no such option; exit 3")], folder.path(), None).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            if let Err(error) = started.check() {
                break error.to_string();
            }
            assert!(Instant::now() < deadline);
            thread::sleep(LOOK);
        };
        assert!(error.contains("no such option") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_command_gives_what_it_says_or_why_it_failed() {
        let interrupt = Interrupt::default();
        assert_eq!(run(&mut shell("echo yes"), PATIENCE, &interrupt).unwrap(), "yes\n");
        let error = run(&mut shell("echo because; exit 4"), PATIENCE, &interrupt).unwrap_err().to_string();
        assert!(error.contains("because") && error.contains('4'), "{error}");
        let error = run(&mut shell("sleep 60"), Duration::from_millis(100), &interrupt).unwrap_err().to_string();
        assert!(error.contains("longer"), "{error}");
        interrupt.0.store(true, Ordering::Relaxed);
        let error = run(&mut shell("sleep 60"), PATIENCE, &interrupt).unwrap_err();
        assert!(matches!(error, CompareError::Interrupted), "{error}");
    }
}
