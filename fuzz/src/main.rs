//! `cargo xtask fuzz`: runs targets for a while, each on inputs made from a seed, without nightly.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use magpie_fuzz::{Fuzzer, TARGETS, Target, smallest};

const USAGE: &str = "\
cargo xtask fuzz [TARGET]… [--seconds N] [--seed N] [--into FOLDER] [--note]
  --seconds N    for each target (60)
  --seed N       the same makes the same inputs (the time)
  --into FOLDER  where an input goes that makes a target panic or hang (target/fuzz)
  --note         each input is written there before it is run: for what ends the process itself";
/// What takes longer hangs.
const INPUT_SECONDS_MAX: u64 = 20;

struct Asked {
    targets: Vec<Target>,
    seconds: u64,
    seed: u64,
    into: PathBuf,
    is_noted: bool,
}

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => Arc::new(asked),
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let failed = asked.targets.iter().filter(|target| !fuzz(**target, &asked)).count();
    println!("{} passed, {failed} failed", asked.targets.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Asked {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let mut asked =
            Self { targets: Vec::new(), seconds: 60, seed: now, into: "target/fuzz".into(), is_noted: false };
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{word} needs a number\n{USAGE}"))
            };
            match word.as_str() {
                "--seconds" => asked.seconds = number()?,
                "--seed" => asked.seed = number()?,
                "--into" => asked.into = words.next().ok_or(USAGE)?.into(),
                "--note" => asked.is_noted = true,
                name => match TARGETS.iter().find(|target| target.name == name) {
                    Some(target) => asked.targets.push(*target),
                    None => {
                        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                        return Err(format!("no target {name}; there are {}\n{USAGE}", names.join(", ")));
                    }
                },
            }
        }
        if asked.targets.is_empty() {
            asked.targets = TARGETS.to_vec();
        }
        Ok(asked)
    }

    /// Prints an input in base 16, and writes it to a file.
    fn show(&self, target: Target, what: &str, input: &[u8]) {
        println!("{}: {what} on {} bytes, seed {}:", target.name, input.len(), self.seed);
        println!("{}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        match self.keep(&format!("{}-{}", target.name, self.seed), input) {
            Ok(path) => println!("{}: it is in {}", target.name, path.display()),
            Err(error) => println!("{}: it cannot be written: {error}", target.name),
        }
    }

    fn keep(&self, name: &str, input: &[u8]) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(&self.into)?;
        let path = self.into.join(name);
        std::fs::write(&path, input)?;
        Ok(path)
    }
}

/// Runs a target in a thread of its own, beside a look at how far it is.
fn fuzz(target: Target, asked: &Arc<Asked>) -> bool {
    let (count, input) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (done, finished) = mpsc::channel();
    let began = Instant::now();
    {
        let (asked, count, input) = (asked.clone(), count.clone(), input.clone());
        std::thread::spawn(move || {
            let mut fuzzer = Fuzzer::new(target, corpus(target), asked.seed);
            while began.elapsed().as_secs() < asked.seconds {
                let next = fuzzer.input();
                if asked.is_noted {
                    let _ = asked.keep("noted", &next);
                }
                input.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&next);
                if !fuzzer.run(next.clone()) {
                    let _ = done.send((Some(smallest(target, next)), fuzzer.outcomes()));
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            let _ = done.send((None, fuzzer.outcomes()));
        });
    }
    let mut last = (0, Instant::now());
    loop {
        let outcome = finished.recv_timeout(Duration::from_secs(1));
        let inputs = count.load(Ordering::Relaxed);
        match outcome {
            Ok((None, outcomes)) => {
                let seconds = began.elapsed().as_secs();
                println!("\r{}: {inputs} inputs in {seconds} s, {outcomes} kinds of outcomes", target.name);
                return true;
            }
            Ok((Some(input), _)) => {
                println!();
                asked.show(target, "panics", &input);
                return false;
            }
            Err(_) => {
                print!("\r{}: {inputs} inputs", target.name);
                let _ = std::io::stdout().flush();
            }
        }
        if inputs != last.0 {
            last = (inputs, Instant::now());
        } else if last.1.elapsed().as_secs() > INPUT_SECONDS_MAX {
            println!();
            asked.show(target, "hangs", &input.lock().unwrap_or_else(PoisonError::into_inner));
            return false;
        }
    }
}

/// The files of the repository for targets of this language.
fn corpus(target: Target) -> Vec<Vec<u8>> {
    let folder = if target.name == "tokenizer" { "tokenizer" } else { "terms" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut corpus: Vec<Vec<u8>> = files.flatten().filter_map(|file| std::fs::read(file.path()).ok()).collect();
    corpus.sort();
    corpus
}
