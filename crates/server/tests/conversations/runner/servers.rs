//! The servers that conversations are held with: Magpie, or Prosody or ejabberd to see whether a conversation itself is right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::connection::PASSWORD;
use super::ejabberd;
use super::perform::Addresses;
use super::script::{EARLIER, Script};
use super::xml::{CLIENT, STREAM};

/// A server that was started for some scripts, on a folder of its own; both end with the value.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) addresses: Addresses,
    command: Mutex<Command>,
    child: Mutex<Child>,
    folder: tempfile::TempDir,
}

/// How long a server may take to start or to stop: ejabberd starts some forty processes for each domain.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Magpie,
    Prosody,
    Ejabberd,
}

impl Kind {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Magpie, Self::Prosody, Self::Ejabberd].into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Magpie => "magpie",
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
        }
    }
}

/// The domain that only this script uses.
pub(crate) fn domain_of(script: &Script) -> String {
    format!("{}.localhost", script.name.to_lowercase())
}

impl Server {
    pub(crate) fn start(
        kind: Kind,
        scripts: &[&Script],
        settings: &BTreeMap<String, String>,
        magpie: &Path,
    ) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("conversations-").tempdir().map_err(|error| error.to_string())?;
        let addresses = Addresses { starttls: free_address()?, direct_tls: free_address()? };
        let mut command = match kind {
            Kind::Magpie => prepare_magpie(folder.path(), addresses, scripts, settings, magpie)?,
            Kind::Prosody => prepare_prosody(folder.path(), addresses, scripts, settings)?,
            Kind::Ejabberd => ejabberd::prepare(folder.path(), addresses, scripts, settings)?,
        };
        let child = spawn(&mut command, folder.path())?;
        let server = Self { kind, addresses, command: Mutex::new(command), child: Mutex::new(child), folder };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Stops it in order, and starts it again on what it has.
    pub(crate) fn restart(&self) -> Result<(), String> {
        let pid = self.child().id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().map_err(|error| error.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        while told.success() && self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        match self.child().try_wait() {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => return Err(format!("the server did not stop in order ({status}):\n{}", self.log())),
            _ => return Err("the server does not stop".into()),
        }
        // Only ejabberd makes it.
        let _ = fs::remove_file(self.folder.path().join(ejabberd::READY));
        let mut command = self.command.lock().expect("no thread panics with the lock");
        *self.child() = spawn(&mut command, self.folder.path())?;
        self.wait_until_it_listens()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no thread panics with the lock")
    }

    fn wait_until_it_listens(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_accounts = self.kind != Kind::Ejabberd || self.folder.path().join(ejabberd::READY).exists();
            if has_accounts
                && TcpStream::connect(self.addresses.direct_tls).is_ok()
                && let Ok(connection) = TcpStream::connect(self.addresses.starttls)
            {
                return self.wait_until_it_answers(connection);
            }
            if let Some(status) = self.child().try_wait().map_err(|error| error.to_string())? {
                return Err(format!("the server ended at once ({status}):\n{}", self.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server does not listen:\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Prosody listens long before it has read all its domains.
    fn wait_until_it_answers(&self, mut connection: TcpStream) -> Result<(), String> {
        let header = format!("<stream:stream to='localhost' version='1.0' xmlns='{CLIENT}' xmlns:stream='{STREAM}'>");
        connection
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| connection.write_all(header.as_bytes()))
            .and_then(|()| connection.read(&mut [0]))
            .map(drop)
            .map_err(|error| format!("the server does not answer: {error}\n{}", self.log()))
    }

    /// The last lines that it wrote.
    pub(crate) fn log(&self) -> String {
        let mut all = String::new();
        for name in ["output", "prosody.log", ejabberd::LOG] {
            let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Whether it still runs: a conversation must not end the server.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both can only fail where the process is gone already.
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

fn spawn(command: &mut Command, folder: &Path) -> Result<Child, String> {
    let output = fs::OpenOptions::new().create(true).append(true).open(folder.join("output"));
    let output = output.map_err(|error| error.to_string())?;
    let copy = output.try_clone().map_err(|error| error.to_string())?;
    let command = command.stdin(Stdio::null()).stdout(output).stderr(copy);
    command.spawn().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))
}

fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(|error| error.to_string())
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A certificate and its key for the domains of all conversations, in PEM.
pub(super) fn certificate() -> Result<(String, String), String> {
    let names = ["localhost".to_owned(), "*.localhost".to_owned()];
    let mut parameters = rcgen::CertificateParams::new(names).map_err(|error| error.to_string())?;
    // Erlang waits for the end of a certificate, and rcgen's default lies beyond what it can wait for.
    parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = parameters.self_signed(&key).map_err(|error| error.to_string())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn prepare_magpie(
    folder: &Path,
    addresses: Addresses,
    scripts: &[&Script],
    settings: &BTreeMap<String, String>,
    magpie: &Path,
) -> Result<Command, String> {
    let domains: Vec<String> = scripts.iter().map(|script| format!("{:?}", domain_of(script))).collect();
    let mut values = BTreeMap::from([
        ("domains".to_owned(), format!("[{}]", domains.join(", "))),
        ("data".to_owned(), format!("{:?}", folder.join("data").display().to_string())),
        ("metrics.address".to_owned(), "\"\"".to_owned()),
        ("contact.abuse".to_owned(), "[\"mailto:abuse@shakespeare.example\"]".to_owned()),
        // Every conversation comes from one address, and some fail to log in on purpose.
        ("auth.failures_per_minute_max".to_owned(), "1000".to_owned()),
    ]);
    let (earlier, settings): (Vec<_>, Vec<_>) = settings.iter().partition(|(key, _)| key.starts_with(EARLIER));
    values.extend(settings.into_iter().map(|(key, value)| (key.clone(), value.clone())));
    let mut earlier_values = values.clone();
    earlier_values.extend(earlier.into_iter().map(|(key, value)| (key[EARLIER.len()..].to_owned(), value.clone())));
    let config_file = write_config(folder, "magpie.toml", &values, addresses)?;
    let earlier_config_file = write_config(folder, "earlier.toml", &earlier_values, addresses)?;

    let mut accounts = String::from("jid,password\n");
    for script in scripts {
        for local in &script.accounts {
            let _ = writeln!(accounts, "{local}@{},{PASSWORD}", domain_of(script));
        }
    }
    let accounts_file = folder.join("accounts.csv");
    write(&accounts_file, &accounts)?;
    let import = Command::new(magpie)
        .arg("--config")
        .arg(&earlier_config_file)
        .args(["user", "import"])
        .arg(&accounts_file)
        .current_dir(folder)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", magpie.display()))?;
    if !import.status.success() {
        return Err(format!(
            "`magpie user import` failed:\n{}{}",
            String::from_utf8_lossy(&import.stdout),
            String::from_utf8_lossy(&import.stderr)
        ));
    }
    let mut command = Command::new(magpie);
    command.arg("--config").arg(&config_file).arg("serve").current_dir(folder);
    Ok(command)
}

fn write_config(
    folder: &Path,
    name: &str,
    values: &BTreeMap<String, String>,
    addresses: Addresses,
) -> Result<PathBuf, String> {
    let mut config = String::new();
    for (key, value) in values {
        let _ = writeln!(config, "{key} = {value}");
    }
    let _ = write!(
        config,
        "[[listen]]\naddress = \"{}\"\nkind = \"c2s\"\ntls = \"optional\"\n\n[[listen]]\naddress = \"{}\"\nkind = \"c2s-tls\"\n",
        addresses.starttls, addresses.direct_tls
    );
    let file = folder.join(name);
    write(&file, &config)?;
    Ok(file)
}

const PROSODY_MODULES: &str = "\"roster\"; \"saslauth\"; \"tls\"; \"disco\"; \"private\"; \"vcard_legacy\"; \"pep\"; \
    \"blocklist\"; \"smacks\"; \"carbons\"; \"csi_simple\"; \"ping\"; \"time\"; \"version\"; \"uptime\"; \"lastactivity\"; \
    \"user_account_management\"; \"offline\"; \"server_contact_info\"";

fn prepare_prosody(
    folder: &Path,
    addresses: Addresses,
    scripts: &[&Script],
    settings: &BTreeMap<String, String>,
) -> Result<Command, String> {
    let open_registration = settings.get("registration.open").is_some_and(|value| value == "true");
    let (certificate_pem, key_pem) = certificate()?;
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    write(&certificate, &certificate_pem)?;
    write(&key, &key_pem)?;
    let data = folder.join("data");
    let registration = if open_registration { "; \"register_ibr\"" } else { "" };
    let admins = settings.get("admins").map_or("", String::as_str).trim_matches(['[', ']']);
    let administration = if admins.is_empty() { "" } else { "; \"admin_adhoc\"; \"announce\"" };
    let mut config = format!(
        r#"run_as_root = true
pidfile = "{pid}"
data_path = "{data}"
log = {{ info = "{log}" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {direct_port} }}
ssl = {{ certificate = "{certificate}"; key = "{key}" }}
c2s_direct_tls_ssl = {{ certificate = "{certificate}"; key = "{key}" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
allow_registration = {open_registration}
admins = {{ {admins} }}
modules_enabled = {{ {PROSODY_MODULES}{registration}{administration} }}
modules_disabled = {{ "s2s" }}
contact_info = {{ abuse = {{ "mailto:abuse@shakespeare.example" }} }}
"#,
        pid = folder.join("prosody.pid").display(),
        data = data.display(),
        log = folder.join("prosody.log").display(),
        port = addresses.starttls.port(),
        direct_port = addresses.direct_tls.port(),
        certificate = certificate.display(),
        key = key.display(),
    );
    for script in scripts {
        let domain = domain_of(script);
        let _ = writeln!(config, "VirtualHost \"{domain}\"");
        if !script.prosody_modules.is_empty() {
            let _ = writeln!(config, "modules_enabled = {{ \"{}\" }}", script.prosody_modules.join("\"; \""));
        }
        for option in &script.prosody_options {
            let _ = writeln!(config, "{option}");
        }
        if script.has_rooms {
            let _ = writeln!(config, "Component \"conference.{domain}\" \"muc\"\nmodules_enabled = {{ \"muc_mam\" }}");
        }
        if script.has_pubsub {
            // Nodes are made by its administrators alone: whoever a conversation names first.
            let admin = script.accounts.first().map_or("", String::as_str);
            let _ = writeln!(config, "Component \"pubsub.{domain}\" \"pubsub\"\nadmins = {{ \"{admin}@{domain}\" }}");
        }
        let accounts = data.join(prosody_file_name(&domain)).join("accounts");
        fs::create_dir_all(&accounts).map_err(|error| error.to_string())?;
        for local in &script.accounts {
            let file = accounts.join(format!("{}.dat", prosody_file_name(local)));
            write(&file, &format!("return {{ [\"password\"] = \"{PASSWORD}\" }};\n"))?;
        }
    }
    let config_file = folder.join("prosody.cfg.lua");
    write(&config_file, &config)?;
    let mut command = Command::new("prosody");
    command.arg("--config").arg(&config_file).arg("-F").current_dir(folder);
    Ok(command)
}

/// Prosody writes every other character as `%xx`.
fn prosody_file_name(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

/// `MAGPIE_BIN`, or the program of this checkout, built now.
pub(crate) fn magpie_program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MAGPIE_BIN") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "magpie"])
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err("`cargo build --package magpie` failed".into());
    }
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/debug/deps/conversations-0123 -> target/debug/magpie
    let folder = test.ancestors().nth(2).ok_or("the test program lies in no target folder")?;
    Ok(folder.join("magpie"))
}
