//! `user_import_batch`: makes many accounts in one transaction, of keys that the face has derived.
//!
//! The face derives: here thousands of derivations would stand in one queue with the passwords that people set.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use magpie_proto::jid::BareJid;
use magpie_proto::sasl::Credentials;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{Context, Operation, OperationError};
use crate::accounts::Written;

/// How many rows a batch has at most. One of this size with the longest addresses fits a line of the socket.
pub const ROWS_MAX: usize = 1000;

/// Makes many accounts.
pub struct UserImportBatch;

/// Which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// At most 1000.
    pub rows: Vec<Row>,
    /// Whether accounts that exist get the new keys. Their sessions end.
    #[serde(default)]
    pub replace: bool,
}

/// One account.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Address of the account.
    pub jid: String,
    /// Base64 of [`Credentials::encode`].
    pub credentials: String,
}

impl Row {
    /// An account with its keys.
    pub fn new(account: &BareJid, credentials: &Credentials) -> Self {
        Self { jid: account.to_string(), credentials: STANDARD.encode(credentials.encode()) }
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowOutcome {
    /// The account is new.
    Created,
    /// The account was there and has the new keys.
    Replaced,
    /// The account was there and is as it was.
    Exists,
    /// The domain is not served.
    NotServed,
    /// The address is not an account's, or the keys cannot be read.
    Invalid,
}

impl Operation for UserImportBatch {
    const NAME: &'static str = "user_import_batch";
    const DOC: &'static str = "Makes many accounts in one transaction; says of each row what became of it.";
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        if arguments.rows.len() > ROWS_MAX {
            return Err(OperationError::invalid(format!("more than {ROWS_MAX} rows")));
        }
        let mut outcomes = Vec::with_capacity(arguments.rows.len());
        let mut accounts = Vec::with_capacity(arguments.rows.len());
        for row in &arguments.rows {
            outcomes.push(match read(context, row) {
                Ok(account) => {
                    accounts.push(account);
                    None
                }
                Err(outcome) => Some(outcome),
            });
        }
        let jids: Vec<BareJid> = accounts.iter().map(|(account, _)| account.clone()).collect();
        let written = if arguments.replace {
            context.accounts.replace_many(accounts).await?
        } else {
            context.accounts.create_many(accounts).await?
        };
        if let Some(sessions) = &context.sessions {
            let replaced = jids.iter().zip(&written).filter(|(_, written)| **written == Written::Replaced);
            replaced.for_each(|(account, _)| sessions.on_password_changed(account));
        }
        let made = written.iter().filter(|written| **written == Written::Created).count();
        info!(rows = arguments.rows.len(), made, "accounts imported");
        let mut written = written.into_iter();
        // Each row that was readable has its answer in `written`, in the same order.
        let outcomes: Vec<RowOutcome> = outcomes
            .into_iter()
            .map(|outcome| outcome.or_else(|| written.next().map(outcome_of)).unwrap_or(RowOutcome::Invalid))
            .collect();
        Ok(json!({ "outcomes": outcomes }))
    }
}

fn read(context: &Context, row: &Row) -> Result<(BareJid, Credentials), RowOutcome> {
    let account = context.account(&row.jid).map_err(|_| RowOutcome::Invalid)?;
    if !context.serves(account.domain()) {
        return Err(RowOutcome::NotServed);
    }
    let bytes = STANDARD.decode(&row.credentials).map_err(|_| RowOutcome::Invalid)?;
    let credentials = Credentials::decode(&bytes).ok_or(RowOutcome::Invalid)?;
    Ok((account, credentials))
}

fn outcome_of(written: Written) -> RowOutcome {
    match written {
        Written::Created => RowOutcome::Created,
        Written::Replaced => RowOutcome::Replaced,
        Written::Exists => RowOutcome::Exists,
        Written::NoLocalpart => RowOutcome::Invalid,
    }
}
