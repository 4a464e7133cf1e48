//! `magpie export`: piece by piece as the server gives them, so that a large server needs no large memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_proto::jid::BareJid;
use magpie_server::admin::{AccountExport, Status, account_export, status};
use magpie_server::portable::NS;
use serde_json::json;

use crate::cli::{Export, Global};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::target::{IfMissing, Target};

pub(crate) fn export(global: &Global, export: &Export) -> Result<(), Failure> {
    let start = Instant::now();
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Refuse)?;
    let status = target.run::<Status>(status::Arguments {})?;
    let served = || status["domains"].as_array().into_iter().flatten();
    let hosts: Vec<String> = match (&export.user, &export.domain) {
        (Some(user), _) => vec![user.domain().to_owned()],
        (None, Some(domain)) => vec![domain.clone()],
        (None, None) => served().filter_map(|domain| domain["domain"].as_str()).map(str::to_owned).collect(),
    };
    let count = served().filter(|domain| hosts.iter().any(|host| domain["domain"] == host.as_str()));
    let count: u64 = count.filter_map(|domain| domain["accounts"].as_u64()).sum();
    let bar = bar(if export.user.is_some() { 1 } else { count });

    let mut out = Out::new(&export.out)?;
    out.write(&format!("<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='{NS}'>\n"))?;
    let mut accounts = 0;
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    for host in &hosts {
        // A domain has no character that XML escapes (RFC 7622 §3.2).
        out.write(&format!("<host jid='{host}'>\n"))?;
        let username = export.user.as_ref().and_then(BareJid::local).map(str::to_owned);
        let mut after = None;
        loop {
            let arguments = account_export::Arguments { host: host.clone(), username: username.clone(), after };
            let piece = target.run::<AccountExport>(arguments)?;
            out.write(piece["xml"].as_str().unwrap_or_default())?;
            let done = piece["accounts"].as_u64().unwrap_or_default();
            accounts += done;
            bar.inc(done);
            for (what, count) in piece["left_out"].as_object().into_iter().flatten() {
                *left_out.entry(what.clone()).or_default() += count.as_u64().unwrap_or_default();
            }
            after = serde_json::from_value(piece["next"].clone()).map_err(|error| unreadable(&error))?;
            if after.is_none() {
                break;
            }
        }
        out.write("</host>\n")?;
    }
    // One that is served no more may have accounts yet.
    let is_served = |host: &String| served().any(|domain| domain["domain"] == host.as_str());
    if accounts == 0
        && let Some(host) = hosts.iter().find(|host| !is_served(host))
    {
        let names: Vec<&str> = served().filter_map(|domain| domain["domain"].as_str()).collect();
        let failure = Failure::new(format!("{host} is not a domain of this server, and has no accounts here"));
        return Err(failure.help(format!("served: {}", names.join(", "))));
    }
    out.write("</server-data>\n")?;
    let bytes = out.finish()?;
    bar.finish_and_clear();
    for (what, count) in &left_out {
        eprintln!("not in the file, which has no place for it: {what} ({})", counted(*count, "account"));
    }
    if export.out == Path::new("-") {
        return Ok(());
    }
    let seconds = start.elapsed().as_secs_f64();
    let document = json!({
        "accounts": accounts,
        "hosts": hosts,
        "bytes": bytes,
        "file": export.out,
        "left_out": left_out,
        "seconds": seconds,
    });
    output::print(global, &document, || {
        format!("Wrote {} to {} in {seconds:.1} s.\n", counted(accounts, "account"), export.out.display())
    })
}

pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!("the server's answer cannot be read: {error}"))
        .help("use the magpie of the same version as the running server")
}

fn bar(accounts: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} accounts, {eta} left");
    ProgressBar::new(accounts).with_style(style.expect("the template is well-formed"))
}

/// The file, which has its name once it is whole, and which only its owner may read (§6).
struct Out {
    writer: BufWriter<Box<dyn Write>>,
    part: Option<Part>,
    bytes: u64,
}

/// The file while it is not whole: what was written of it is removed with this value.
struct Part {
    file: File,
    name: PathBuf,
    /// What it is called once it is whole.
    whole: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}

impl Out {
    fn new(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { writer: BufWriter::new(Box::new(std::io::stdout())), part: None, bytes: 0 });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let name = PathBuf::from(name);
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name)?;
            Ok((file.try_clone()?, file))
        };
        let opened: std::io::Result<(File, File)> = open();
        let (file, other) =
            opened.map_err(|error| Failure::new(format!("cannot write {}: {error}", name.display())))?;
        let part = Part { file: other, name, whole: path.to_owned() };
        Ok(Self { writer: BufWriter::new(Box::new(file)), part: Some(part), bytes: 0 })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes += text.len() as u64;
        self.writer.write_all(text.as_bytes()).map_err(|error| Failure::new(format!("cannot write the file: {error}")))
    }

    fn finish(mut self) -> Result<u64, Failure> {
        let finish = || {
            self.writer.flush()?;
            if let Some(part) = &self.part {
                part.file.sync_all()?;
                std::fs::rename(&part.name, &part.whole)?;
            }
            Ok(())
        };
        let finished: std::io::Result<()> = { finish }();
        finished.map_err(|error| Failure::new(format!("cannot write the file: {error}")))?;
        Ok(self.bytes)
    }
}
