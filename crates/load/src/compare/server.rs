//! What the comparison wants of a server, and how it gets one from Debian.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::CompareError;
use super::client::{Client, user};
use super::place::Place;
use super::process::{Interrupt, Started, run};
use crate::report::goals::MAGPIE;

/// One kind of server: a file for each.
pub trait Server {
    /// How it is called in tables.
    fn name(&self) -> &'static str;

    /// The programs it needs, by the Debian package that has each; a package that has none stands beside an empty name.
    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What it calls its version.
    fn version(&self, interrupt: &Interrupt) -> Result<String, CompareError>;

    /// The SASL mechanism for its logins, as `magpie-load --mechanism` has it.
    fn mechanism(&self) -> &'static str {
        "scram-sha-1"
    }

    /// What speaks with it, as `magpie-load --protocol` has it.
    fn protocol(&self) -> &'static str {
        "xmpp"
    }

    /// Writes its profile, and makes accounts 1 to `accounts`, with contacts where `contacts` says so.
    fn prepare(&self, place: &Place, accounts: Accounts, interrupt: &Interrupt) -> Result<(), CompareError>;

    /// Whether it was prepared with its archives filled; otherwise its users are to write to each other.
    fn fills_archives(&self) -> bool {
        false
    }

    /// Its processes, in the order in which they are to be started.
    fn commands(&self, place: &Place) -> Result<Vec<Command>, CompareError>;

    /// Whether it is ready at this moment: by a real login.
    fn is_ready(&self, place: &Place) -> bool {
        Client::log_in(place.address(), &user(1), Duration::from_secs(10)).is_ok()
    }
}

/// What is in a server's storage before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accounts {
    /// How many, numbered from 1.
    pub number: u32,
    /// Whether they have rosters of twenty mutual contacts.
    pub contacts: bool,
    /// Whether the server keeps archives of messages.
    pub archive: Archive,
    /// Whether it has rooms, at `conference.` and the domain.
    pub rooms: bool,
}

/// What of archives there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Archive {
    /// The server keeps none.
    #[default]
    Off,
    /// It keeps all messages.
    On,
    /// And the archives of the first 200 accounts hold messages: of each so many with one other.
    Filled(u32),
}

/// Accounts whose archives are filled.
pub const ARCHIVES: u32 = 200;

impl Archive {
    /// Messages that users write to each other to fill a server's archives. Prosody takes twenty times as long for each as
    /// Magpie, so it gets a tenth, which can only make it faster where an archive's size matters.
    pub fn messages(self, server: &str) -> Option<u64> {
        let Self::Filled(each) = self else { return None };
        let all = u64::from(each) * u64::from(ARCHIVES) / 2;
        Some(if server == MAGPIE { all } else { all / 10 })
    }

    /// How long that takes, about.
    fn seconds(self, server: &str) -> f64 {
        let a_second = match server {
            MAGPIE => 25_000.0,
            "Prosody" => 2_000.0,
            _ => 20_000.0,
        };
        self.messages(server).map_or(0.0, |messages| messages as f64 / a_second + 5.0)
    }
}

impl Accounts {
    /// How long it takes to make them, about: most write files, Magpie subscribes users to each other.
    pub fn seconds(self, server: &str) -> f64 {
        let (each, each_with_contacts) = if server == "Magpie" { (1e-4, 1.5e-3) } else { (1e-3, 2e-3) };
        let accounts = f64::from(self.number) * if self.contacts { each_with_contacts } else { each };
        2.0 + accounts + self.archive.seconds(server)
    }
}

/// A server may take so long from its start to the first login.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often one looks whether it is ready.
const LOOK: Duration = Duration::from_millis(20);

/// Starts a prepared server and waits until it is ready.
pub fn start(
    server: &dyn Server,
    place: &Place,
    cpus: Option<&str>,
    interrupt: &Interrupt,
) -> Result<Started, CompareError> {
    let mut started = Started::start(server.commands(place)?, &place.folder, cpus)?;
    until(&mut started, place, interrupt, || server.is_ready(place).then_some(()))?;
    Ok(started)
}

/// Waits until `look` finds what it looks for at a server that was started.
pub fn until<T>(
    started: &mut Started,
    place: &Place,
    interrupt: &Interrupt,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, CompareError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        interrupt.check()?;
        started.check()?;
        if Instant::now() > deadline {
            let log = place.folder.join("server.log");
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(CompareError::Setup(format!("it is not ready after {} seconds\n{said}", PATIENCE.as_secs())));
        }
        thread::sleep(LOOK);
    }
}

/// Sees to it that the servers' programs are there: installs them from Debian as root, and names what is missing otherwise.
pub fn install(servers: &[Box<dyn Server>], interrupt: &Interrupt) -> Result<(), CompareError> {
    let missing: Vec<&str> = servers
        .iter()
        .flat_map(|server| server.needs())
        .filter(|(program, package)| match *program {
            "" => package_version(package, interrupt).map_or(true, |version| version.is_empty()),
            program => find(program).is_none(),
        })
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let advice = format!(
        "missing: {0}\n  apt-get update && apt-get install --no-install-recommends {0}\nor leave them out: --servers",
        missing.join(" ")
    );
    if !rustix::process::geteuid().is_root() || find("apt-get").is_none() {
        return Err(CompareError::Setup(advice));
    }
    eprintln!("installing {}", missing.join(" "));
    let _no_services = NoServices::new()?;
    let mut update = Command::new("apt-get");
    update.args(["-q", "update"]);
    let mut install = Command::new("apt-get");
    install
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    for command in [&mut update, &mut install] {
        run(command, Duration::from_secs(600), interrupt)
            .map_err(|error| CompareError::Setup(format!("{error}\n{advice}")))?;
    }
    Ok(())
}

/// Where a program is: on the path, or where Debian has those for administrators.
pub fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

/// The version of an installed Debian package.
pub fn package_version(package: &str, interrupt: &Interrupt) -> Result<String, CompareError> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", package]);
    run(&mut query, Duration::from_secs(30), interrupt).map(|version| version.trim().to_owned())
}

/// While it lives Debian's packages start no services: they would take ports and CPU time, and stay.
struct NoServices {
    ours: Option<&'static Path>,
}

impl NoServices {
    fn new() -> Result<Self, CompareError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Path::new("/usr/sbin/policy-rc.d");
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {}
            // The machine has a policy of its own, as containers have.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Self { ours: None }),
            Err(error) => return Err(CompareError::file(path)(error)),
        }
        let policy = Self { ours: Some(path) };
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(CompareError::file(path))?;
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
