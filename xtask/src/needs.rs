//! What the tests need from Debian and PyPI: installed where that is possible, named exactly where it is not.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Workspace;
use crate::parts::run;

/// A command and the Debian packages that have it.
const COMMANDS: &[(&str, &str)] = &[
    ("prosody", "prosody"),
    ("ejabberdctl", "ejabberd"),
    ("go-sendxmpp", "go-sendxmpp"),
    ("profanity", "profanity"),
    ("poezio", "poezio"),
    ("gajim", "gajim gajim-omemo"),
    ("Xvfb", "xvfb"),
    ("xdotool", "xdotool"),
    ("import", "imagemagick"),
    ("dbus-run-session", "dbus"),
    ("tmux", "tmux"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("valgrind", "valgrind"),
    ("erl", "erlang-base"),
    ("go", "golang-go"),
    ("postgres", "postgresql"),
    ("redis-server", "redis-server"),
];
/// Applications of Erlang that are packages of their own, and which of what is wanted needs them.
const APPLICATIONS: &[(&str, &str, &str)] = &[("erl", "mnesia", "erlang-mnesia"), ("inets", "inets", "erlang-inets")];
/// Debian keeps the programs of PostgreSQL here, in a folder for each version.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Sees to it that these commands are there.
pub(crate) fn commands(wanted: &[&str]) -> Result<(), String> {
    let mut missing: Vec<&str> = COMMANDS
        .iter()
        .filter(|(command, _)| wanted.contains(command) && !is_on_path(command))
        .flat_map(|(_, packages)| packages.split(' '))
        .collect();
    let applications = APPLICATIONS.iter().filter(|(by, name, _)| wanted.contains(by) && !erlang_has(name));
    missing.extend(applications.map(|(_, _, package)| *package));
    if wanted.contains(&"python3") && !python_makes_venvs() {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let advice =
        format!("missing: {0}\n  apt-get update && apt-get install --no-install-recommends {0}", missing.join(" "));
    if !is_root() || !is_on_path("apt-get") {
        return Err(advice);
    }
    println!("installing {}", missing.join(" "));
    let _quiet = NoServices::new()?;
    run(Command::new("apt-get").args(["-q", "update"])).map_err(|why| format!("{why}\n{advice}"))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .map_err(|why| format!("{why}\n{advice}"))
}

/// A Python with slixmpp and aioxmpp, in the target folder; gives its program.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf, String> {
    commands(&["python3"])?;
    let requirements = workspace.root.join("tests/requirements.txt");
    let wanted = fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let folder = workspace.target.join("python");
    let (python, installed) = (folder.join("bin/python"), folder.join("installed-requirements.txt"));
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) && python.exists() {
        return Ok(python);
    }
    let names: Vec<&str> = wanted.lines().filter(|line| !line.starts_with('#')).collect();
    println!("installing {}", names.join(", "));
    fs::create_dir_all(&workspace.target).map_err(|error| error.to_string())?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))
    .map_err(|why| format!("{why}\nmissing: the Python packages of {}", requirements.display()))?;
    fs::write(&installed, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn is_on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir(POSTGRESQL).into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(versions).any(|folder| {
        fs::metadata(folder.join(command)).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn erlang_has(application: &str) -> bool {
    let look = format!("halt(case code:lib_dir({application}) of {{error, _}} -> 1; _ -> 0 end).");
    let status = Command::new("erl").args(["-noshell", "-eval", &look]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn python_makes_venvs() -> bool {
    is_on_path("python3")
        && Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// While it lives Debian's packages start no services: they would take the ports and outlive the tests.
struct NoServices {
    ours: Option<&'static Path>,
}

impl NoServices {
    fn new() -> Result<Self, String> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
        match file {
            Ok(_) => {}
            // The machine has a policy of its own, as containers have.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Self { ours: None }),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
        let policy = Self { ours: Some(path) };
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.ours
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("{} stays behind: {error}", path.display());
        }
    }
}
