//! `magpie import`: first the data of an account, then its credentials, which make it be there. An import that was cut off is
//! begun again with the same file: accounts that are there are skipped. Where they are to be replaced, the files are read whole before
//! the first of them is emptied.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_proto::jid::{BareJid, parse_domain};
use magpie_proto::sasl::{Credentials, ScramPolicy};
use magpie_proto::{Element, ns};
use magpie_server::accounts::derive;
use magpie_server::admin::{
    AccountImport, Part, PartOutcome, Row, RowOutcome, Status, UserEnable, UserExists, UserImportBatch, account_import,
    status, user_enable, user_exists, user_import_batch,
};
use magpie_server::config::Auth;
use magpie_server::portable::{credentials_of, says_disabled};
use magpie_server::server::random_text;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::export::unreadable;
use super::file::{Item, PortableFile};
use crate::cli::Global;
use crate::config;
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::target::{IfMissing, Target};

/// Bytes of data that are sent at a time, about: in JSON, where each may be two, they fit a request with the largest element.
const BATCH_BYTES: usize = 512 * 1024;

/// Accounts that are made at a time.
const BATCH_ACCOUNTS: usize = 500;

/// Lines of a report; more are counted.
const LINES_MAX: usize = 1000;

pub(crate) fn import(global: &Global, files: &[PathBuf], replace: bool) -> Result<(), Failure> {
    let start = Instant::now();
    if replace {
        let nothing = "nothing was imported or replaced; correct the file and import it again";
        files.iter().try_for_each(|file| check(file).map_err(|failure| failure.help(nothing)))?;
    }
    let mut target = Target::open(&config::load(global, &[])?, IfMissing::Create)?;
    // As the holder of the data says: a running server may have another configuration than the one that was read here.
    let status = target.run::<Status>(status::Arguments {})?;
    let auth: Auth = serde_json::from_value(status["auth"].clone()).map_err(|error| unreadable(&error))?;
    let domains = status["domains"].as_array().into_iter().flatten();
    let mut import = Import {
        target,
        policy: auth.scram_policy(),
        domains: domains.filter_map(|domain| domain["domain"].as_str()).map(str::to_owned).collect(),
        replace,
        report: Report::default(),
        bar: bar(),
        seen: HashSet::new(),
        host: None,
        current: None,
        parts: Vec::new(),
        bytes: 0,
        whole: Vec::new(),
    };
    for file in files {
        let read = import.read(file);
        // What was read whole before a fault is kept.
        import.current = None;
        import.flush()?;
        read?;
    }
    import.bar.finish_and_clear();
    import.report.finish(global, start.elapsed().as_secs_f64())
}

/// Whether a file can be read to its end.
fn check(path: &Path) -> Result<(), Failure> {
    let mut file = PortableFile::open(path, ProgressBar::hidden())?;
    while file.next()?.is_some() {}
    Ok(())
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {decimal_bytes} of {decimal_total_bytes}, {eta} left");
    ProgressBar::new(0).with_style(style.expect("the template is well-formed"))
}

/// A user of the file.
struct User {
    jid: BareJid,
    password: Option<String>,
    keys: Credentials,
    /// Whether the file says that it may not be used.
    disabled: bool,
}

struct Import {
    target: Target,
    policy: ScramPolicy,
    domains: Vec<String>,
    /// Whether accounts that exist are replaced.
    replace: bool,
    report: Report,
    bar: ProgressBar,
    /// Users that the files have had.
    seen: HashSet<BareJid>,
    /// The host whose users follow; `None` where it is not served.
    host: Option<String>,
    /// The user whose data follow; `None` where they are not wanted.
    current: Option<User>,
    parts: Vec<Part>,
    bytes: usize,
    /// Users whose data are all in `parts` or kept already.
    whole: Vec<User>,
}

impl Import {
    fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let mut file = PortableFile::open(path, self.bar.clone())?;
        while let Some(item) = file.next()? {
            match item {
                Item::Host(jid) => self.host(&jid),
                Item::User { name, password } => self.user(&name, password)?,
                Item::Unit(xml) => self.unit(xml)?,
                Item::UserEnd => {
                    self.whole.extend(self.current.take());
                    if self.whole.len() >= BATCH_ACCOUNTS {
                        self.flush()?;
                    }
                }
                Item::LeftOut(what) => {
                    let whose = self.current.as_ref().map(|user| user.jid.to_string());
                    self.report.left_out(&self.bar, whose.as_deref().unwrap_or("the file"), &what);
                }
            }
        }
        Ok(())
    }

    fn host(&mut self, jid: &str) {
        let host = parse_domain(jid).ok().filter(|host| self.domains.contains(host));
        if host.is_none() {
            let message = format!("{jid} is not a domain of this server");
            self.report.failed(&self.bar, jid, &message);
        }
        self.host = host;
    }

    fn user(&mut self, name: &str, password: Option<String>) -> Result<(), Failure> {
        self.current = None;
        let Some(host) = &self.host else { return Ok(()) };
        let Ok(jid) = BareJid::from_parts(Some(name), host) else {
            self.report.failed(&self.bar, &format!("{name}@{host}"), "it is no address");
            return Ok(());
        };
        if self.seen.contains(&jid) || !self.replace && self.exists(&jid)? {
            self.report.exists(&self.bar, &jid);
            return Ok(());
        }
        // A password that cannot be one is told before anything is erased; for no hash nothing is derived of it.
        let derived = password.as_deref().map(|password| derive(password, &ScramPolicy { hashes: Vec::new() }));
        if let Some(Err(error)) = derived {
            self.report.failed(&self.bar, jid.as_str(), &error.to_string());
            return Ok(());
        }
        self.seen.insert(jid.clone());
        self.parts.push(Part { jid: jid.to_string(), xml: None });
        self.current = Some(User { jid, password, keys: Credentials { keys: Vec::new() }, disabled: false });
        Ok(())
    }

    fn exists(&mut self, jid: &BareJid) -> Result<bool, Failure> {
        let answer = self.target.run::<UserExists>(user_exists::Arguments { jids: vec![jid.to_string()] })?;
        Ok(answer["exist"][0] == true)
    }

    fn unit(&mut self, xml: String) -> Result<(), Failure> {
        let Some(user) = &mut self.current else { return Ok(()) };
        if xml.contains("scram-credentials") && !xml.contains("<body") {
            let element = Element::parse(xml.as_bytes(), ns::CLIENT).ok();
            match element.as_ref().and_then(credentials_of) {
                Some(Ok(keys)) if user.keys.get(keys.hash).is_none() => user.keys.keys.push(keys),
                Some(Ok(_)) => {}
                Some(Err(wrong)) => self.report.left_out(&self.bar, user.jid.as_str(), &wrong),
                None => {}
            }
        }
        if xml.contains("disabled") && !xml.contains("<body") {
            user.disabled |= Element::parse(xml.as_bytes(), ns::CLIENT).is_ok_and(|element| says_disabled(&element));
        }
        self.bytes += xml.len();
        self.parts.push(Part { jid: user.jid.to_string(), xml: Some(xml) });
        if self.bytes >= BATCH_BYTES || self.parts.len() >= account_import::PARTS_MAX {
            self.send_parts()?;
        }
        Ok(())
    }

    /// Sends the data, and makes the accounts whose data are there.
    fn flush(&mut self) -> Result<(), Failure> {
        self.send_parts()?;
        let policy = &self.policy;
        let users = std::mem::take(&mut self.whole);
        let derived: Vec<_> = users.into_par_iter().map(|user| with_keys(user, policy)).collect();
        let (mut rows, mut made) = (Vec::new(), Vec::new());
        for outcome in derived {
            match outcome {
                Ok((user, keys)) => {
                    rows.push(Row::new(&user.jid, &keys));
                    made.push(user);
                }
                Err((jid, wrong)) => self.report.failed(&self.bar, jid.as_str(), &wrong),
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let arguments = user_import_batch::Arguments { rows, replace: self.replace };
        let answer = self.target.run::<UserImportBatch>(arguments)?;
        let outcomes: Vec<RowOutcome> =
            serde_json::from_value(answer["outcomes"].clone()).map_err(|error| unreadable(&error))?;
        for (user, outcome) in made.iter().zip(outcomes) {
            match outcome {
                RowOutcome::Created | RowOutcome::Replaced => {
                    match outcome {
                        RowOutcome::Created => self.report.created += 1,
                        _ => self.report.replaced += 1,
                    }
                    if user.password.is_none() && user.keys.keys.is_empty() {
                        self.report.without_password(&self.bar, &user.jid);
                    }
                    if outcome == RowOutcome::Replaced && !user.disabled {
                        self.target.run::<UserEnable>(user_enable::Arguments { jid: user.jid.to_string() })?;
                    }
                }
                RowOutcome::Exists => self.report.exists(&self.bar, &user.jid),
                RowOutcome::NotServed | RowOutcome::Invalid => {
                    self.report.failed(&self.bar, user.jid.as_str(), "the server refused it");
                }
            }
        }
        Ok(())
    }

    fn send_parts(&mut self) -> Result<(), Failure> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.parts);
        self.bytes = 0;
        let shown: Vec<(String, String)> = parts.iter().map(|part| (part.jid.clone(), name_of(part))).collect();
        let arguments = account_import::Arguments { parts, replace: self.replace };
        let answer = self.target.run::<AccountImport>(arguments)?;
        let outcomes: Vec<PartOutcome> =
            serde_json::from_value(answer["outcomes"].clone()).map_err(|error| unreadable(&error))?;
        for ((jid, name), outcome) in shown.iter().zip(outcomes) {
            match outcome {
                PartOutcome::Kept(left_out) => {
                    left_out.iter().for_each(|what| self.report.left_out(&self.bar, jid, what));
                }
                PartOutcome::Unknown => self.report.left_out(&self.bar, jid, name),
                PartOutcome::Invalid => {
                    self.report.left_out(&self.bar, jid, &format!("{name}, which is no XML for XMPP"))
                }
                PartOutcome::Refused => self.report.left_out(&self.bar, jid, &format!("{name}: the account is there")),
            }
        }
        Ok(())
    }
}

/// The opening tag, for people.
fn name_of(part: &Part) -> String {
    let xml = part.xml.as_deref().unwrap_or("<user>");
    let tag = xml.split_inclusive('>').next().unwrap_or(xml);
    tag.chars().take(120).collect()
}

/// The user with the keys that the account is to have, or why it can have none.
fn with_keys(user: User, policy: &ScramPolicy) -> Result<(User, Credentials), (BareJid, String)> {
    let derived = match &user.password {
        // A password is worth more than keys for some of the hashes.
        Some(password) => derive(password, policy),
        None if user.keys.keys.is_empty() => derive(&random_text(24), policy),
        None => Ok(Credentials { keys: user.keys.keys.clone() }),
    };
    match derived {
        Ok(keys) => Ok((user, keys)),
        Err(error) => Err((user.jid, error.to_string())),
    }
}

/// What became of it all so far.
#[derive(Default)]
struct Report {
    created: u64,
    replaced: u64,
    existing: Lines,
    without_password: Lines,
    left_out: Lines,
    failed: Lines,
}

/// Lines for people and programs; of very many only the first.
#[derive(Default)]
struct Lines {
    count: u64,
    lines: Vec<Value>,
}

impl Lines {
    fn add(&mut self, bar: &ProgressBar, text: &str, line: Value) {
        self.count += 1;
        if self.lines.len() < LINES_MAX {
            bar.suspend(|| eprintln!("{text}"));
            self.lines.push(line);
        }
    }
}

impl Report {
    fn exists(&mut self, bar: &ProgressBar, jid: &BareJid) {
        self.existing.add(bar, &format!("{jid} exists already; skipped"), jid.as_str().into());
    }

    fn without_password(&mut self, bar: &ProgressBar, jid: &BareJid) {
        let text = format!("{jid} has no password in the file: set one with `magpie user passwd {jid}`");
        self.without_password.add(bar, &text, jid.as_str().into());
    }

    fn left_out(&mut self, bar: &ProgressBar, whose: &str, what: &str) {
        self.left_out.add(bar, &format!("{whose}: left out: {what}"), json!({ "of": whose, "what": what }));
    }

    fn failed(&mut self, bar: &ProgressBar, jid: &str, message: &str) {
        self.failed.add(bar, &format!("{jid}: {message}"), json!({ "jid": jid, "message": message }));
    }

    fn finish(self, global: &Global, seconds: f64) -> Result<(), Failure> {
        let Self { created, replaced, existing, without_password, left_out, failed } = self;
        if existing.count > 0 {
            eprintln!("to replace accounts that exist, with all that they have: magpie import --replace FILE");
        }
        let document = json!({
            "created": created,
            "replaced": replaced,
            "existing": { "count": existing.count, "first": existing.lines },
            "without_password": { "count": without_password.count, "first": without_password.lines },
            "left_out": { "count": left_out.count, "first": left_out.lines },
            "failed": { "count": failed.count, "first": failed.lines },
            "seconds": seconds,
        });
        let text = || {
            let (made, skipped) = (counted(created, "account"), counted(existing.count, "existing one"));
            format!(
                "Added {made} in {seconds:.1} s, replaced {replaced}, skipped {skipped}, left out {} of their data.\n",
                left_out.count
            )
        };
        output::print(global, &document, text)?;
        match failed.count {
            0 => Ok(()),
            count => Err(Failure::new(format!("{} could not be imported", counted(count, "account or host"))).said()),
        }
    }
}
