//! `magpie user import`: the accounts of a CSV file.
//!
//! Deriving keys takes nearly all of the time, so it is done here, on all cores, while the batch before is written.

mod rows;

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use magpie_proto::sasl::{Credentials, PasswordError, ScramPolicy};
use magpie_server::accounts::derive;
use magpie_server::admin::{
    ROWS_MAX, Row, RowOutcome, Status, UserExists, UserImportBatch, status, user_exists, user_import_batch,
};
use magpie_server::config::{Auth, Config};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, counted};
use crate::target::{IfMissing, Target};
use rows::{Account, BadLine};

pub(crate) fn run(global: &Global, config: &Config, file: &Path, replace: bool) -> Result<(), Failure> {
    let text = read(file)?;
    let start = Instant::now();
    let rows: Vec<_> = rows::read(&text).collect();
    let mut target = Target::open(config, IfMissing::Create)?;
    // As the holder of the data says: a running server may have another configuration than the one that was read here.
    let status = target.run::<Status>(status::Arguments {})?;
    let auth: Auth = serde_json::from_value(status["auth"].clone()).map_err(|error| unreadable(&error))?;
    let policy = auth.scram_policy();
    let domains = status["domains"].as_array().into_iter().flatten();
    let domains: Vec<String> = domains.filter_map(|domain| domain["domain"].as_str()).map(str::to_owned).collect();

    let mut report = Report::new(file, rows.len());
    let mut rows = rows.into_iter();
    let mut derived = Vec::new();
    loop {
        let batch: Vec<_> = rows.by_ref().take(ROWS_MAX).collect();
        let last = batch.is_empty();
        let wanted = wanted(&mut target, batch, &domains, replace, &mut report)?;
        let bar = report.bar.clone();
        let (written, next) = std::thread::scope(|scope| {
            let report = &mut report;
            let target = &mut target;
            let write = scope.spawn(move || write(target, derived, replace, report));
            let next = derive_all(wanted, &policy, &bar);
            (write.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), next)
        });
        written?;
        derived = next;
        if last {
            return report.finish(global, start);
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

/// The accounts for which keys are needed; the others are in the report.
fn wanted(
    target: &mut Target,
    batch: Vec<Result<Account, BadLine>>,
    domains: &[String],
    replace: bool,
    report: &mut Report,
) -> Result<Vec<Account>, Failure> {
    let all = batch.len();
    let mut accounts = Vec::with_capacity(all);
    for row in batch {
        match row {
            Err(bad) => report.failed(bad.line, None, &bad.message),
            Ok(account) if !domains.iter().any(|domain| domain == account.jid.domain()) => {
                report.not_served(&account);
            }
            Ok(account) => accounts.push(account),
        }
    }
    if replace || accounts.is_empty() {
        report.bar.inc((all - accounts.len()) as u64);
        return Ok(accounts);
    }
    let jids = accounts.iter().map(|account| account.jid.to_string()).collect();
    let answer = target.run::<UserExists>(user_exists::Arguments { jids })?;
    let exist: Vec<bool> = serde_json::from_value(answer["exist"].clone()).map_err(|error| unreadable(&error))?;
    let mut exist = exist.into_iter();
    accounts.retain(|account| {
        let exists = exist.next().unwrap_or_default();
        if exists {
            report.exists(account);
        }
        !exists
    });
    report.bar.inc((all - accounts.len()) as u64);
    Ok(accounts)
}

type Derived = (Account, Result<Credentials, PasswordError>);

fn derive_all(accounts: Vec<Account>, policy: &ScramPolicy, bar: &ProgressBar) -> Vec<Derived> {
    let derive = |account: Account| {
        let credentials = derive(&account.password, policy);
        bar.inc(1);
        (account, credentials)
    };
    accounts.into_par_iter().map(derive).collect()
}

/// Writes a batch in one transaction.
fn write(target: &mut Target, batch: Vec<Derived>, replace: bool, report: &mut Report) -> Result<(), Failure> {
    let mut accounts = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for (account, credentials) in batch {
        match credentials {
            Ok(credentials) => {
                rows.push(Row::new(&account.jid, &credentials));
                accounts.push(account);
            }
            Err(error) => report.failed(account.line, Some(&account), &error.to_string()),
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let answer = target.run::<UserImportBatch>(user_import_batch::Arguments { rows, replace })?;
    let outcomes: Vec<RowOutcome> =
        serde_json::from_value(answer["outcomes"].clone()).map_err(|error| unreadable(&error))?;
    for (account, outcome) in accounts.iter().zip(outcomes) {
        match outcome {
            RowOutcome::Created => report.created += 1,
            RowOutcome::Replaced => report.replaced += 1,
            RowOutcome::Exists => report.exists(account),
            RowOutcome::NotServed => report.not_served(account),
            RowOutcome::Invalid => report.failed(account.line, Some(account), "the server refused it"),
        }
    }
    Ok(())
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!("the server's answer cannot be read: {error}"))
        .help("use the magpie of the same version as the running server")
}

/// Accounts that exist already of which each has a line: after an import that was interrupted it may be nearly all.
const EXISTING_SHOWN_MAX: usize = 20;

/// What became of the rows so far.
struct Report<'a> {
    file: &'a Path,
    bar: ProgressBar,
    rows: usize,
    created: u64,
    replaced: u64,
    existing: Vec<Value>,
    failed: Vec<Value>,
}

impl<'a> Report<'a> {
    fn new(file: &'a Path, rows: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(rows as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} accounts, {eta} left");
        bar.set_style(style.expect("the template is well-formed"));
        Self { file, bar, rows, created: 0, replaced: 0, existing: Vec::new(), failed: Vec::new() }
    }

    fn exists(&mut self, account: &Account) {
        match self.existing.len() {
            0..EXISTING_SHOWN_MAX => self.say(account.line, &format!("{} exists already; skipped", account.jid)),
            EXISTING_SHOWN_MAX => self.say(account.line, "more accounts exist already; they are skipped and counted"),
            _ => {}
        }
        self.existing.push(json!({ "line": account.line, "jid": account.jid.as_str() }));
    }

    fn not_served(&mut self, account: &Account) {
        let message = format!("{} is not a domain of this server", account.jid.domain());
        self.failed(account.line, Some(account), &message);
    }

    fn failed(&mut self, line: u64, account: Option<&Account>, message: &str) {
        let jid = account.map(|account| account.jid.as_str());
        self.say(line, &jid.map_or_else(|| message.to_owned(), |jid| format!("{jid}: {message}")));
        self.failed.push(json!({ "line": line, "jid": jid, "message": message }));
    }

    /// A line on standard error, above the bar.
    fn say(&self, line: u64, message: &str) {
        self.bar.suspend(|| eprintln!("{}:{line}: {message}", self.file.display()));
    }

    fn finish(mut self, global: &Global, start: Instant) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        for lines in [&mut self.existing, &mut self.failed] {
            lines.sort_by_key(|entry| entry["line"].as_u64());
        }
        let seconds = start.elapsed().as_secs_f64();
        let failed = self.failed.len() as u64;
        let document = json!({
            "rows": self.rows,
            "created": self.created,
            "replaced": self.replaced,
            "existing": self.existing,
            "failed": self.failed,
            "seconds": seconds,
        });
        let failure = (failed > 0).then(|| {
            Failure::new(format!("{} of {} could not be imported", counted(failed, "line"), self.file.display()))
                .help("correct them and import the file again: accounts that exist are skipped")
        });
        let text = || {
            let done = counted(self.created, "account");
            let existing = counted(self.existing.len() as u64, "existing one");
            format!("Added {done} in {seconds:.1} s, replaced {}, skipped {existing}.\n", self.replaced)
        };
        output::print(global, &document, text)?;
        failure.map_or(Ok(()), |failure| Err(failure.said()))
    }
}
