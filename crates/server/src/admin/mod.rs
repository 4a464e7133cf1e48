//! Administration: each operation is defined once, in a file of its own; every face runs it from here.
//!
//! The faces are the command line (through [`socket`], or on the data folder when no server runs), and whatever
//! else lists [`OPERATIONS`]. An operation takes arguments and answers with JSON.

mod error;
pub mod log_level;
pub mod reload;
mod sessions;
pub mod socket;
pub mod status;
pub mod user_add;
pub mod user_exists;
pub mod user_import_batch;
pub mod user_list;
pub mod user_passwd;
pub mod user_remove;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use magpie_proto::jid::BareJid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::accounts::{AccountError, Accounts};
use crate::config::schema::{Kind, kind_of};
use crate::config::{Config, ListenKind};
use crate::server::Server;

pub use error::{ErrorKind, OperationError};
pub use log_level::LogLevel;
pub use reload::{Reload, ReloadReport};
pub use status::Status;
pub use user_add::UserAdd;
pub use user_exists::UserExists;
pub use user_import_batch::{ROWS_MAX, Row, RowOutcome, UserImportBatch};
pub use user_list::UserList;
pub use user_passwd::UserPasswd;
pub use user_remove::UserRemove;

/// All operations, in the order in which they are listed to people.
pub static OPERATIONS: &[Definition] = &[
    Definition::of::<Status>(),
    Definition::of::<UserAdd>(),
    Definition::of::<UserPasswd>(),
    Definition::of::<UserRemove>(),
    Definition::of::<UserList>(),
    Definition::of::<UserExists>(),
    Definition::of::<UserImportBatch>(),
    Definition::of::<Reload>(),
    Definition::of::<LogLevel>(),
];

/// One thing that an administrator can do.
pub trait Operation: 'static {
    /// Its name: stable, `noun_verb`.
    const NAME: &'static str;
    /// What it does, for people, in one sentence.
    const DOC: &'static str;
    /// What it needs to know.
    type Arguments: Serialize + DeserializeOwned + Send + 'static;
    /// Does it.
    fn run(context: &Context, arguments: Self::Arguments)
    -> impl Future<Output = Result<Value, OperationError>> + Send;
}

/// What a face knows of an operation.
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// The names and kinds of its arguments.
    pub arguments: fn() -> Kind,
    run: for<'a> fn(&'a Context, Value) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Value, OperationError>> + Send + 'a>>;

impl Definition {
    const fn of<O: Operation>() -> Self {
        Self {
            name: O::NAME,
            doc: O::DOC,
            arguments: kind_of::<O::Arguments>,
            run: |context, arguments| {
                Box::pin(async move {
                    let arguments = serde_json::from_value(arguments)
                        .map_err(|wrong| OperationError::invalid(format!("{}: {wrong}", O::NAME)))?;
                    O::run(context, arguments).await
                })
            },
        }
    }
}

/// Runs the operation of this name.
pub async fn run(context: &Context, name: &str, arguments: Value) -> Result<Value, OperationError> {
    let Some(definition) = OPERATIONS.iter().find(|definition| definition.name == name) else {
        let known: Vec<_> = OPERATIONS.iter().map(|definition| definition.name).collect();
        return Err(OperationError::new(ErrorKind::UnknownOperation, format!("there is no operation \"{name}\""))
            .help(format!("known are: {}", known.join(", "))));
    };
    (definition.run)(context, arguments).await
}

/// What operations work on: the accounts, and the running server where there is one.
pub struct Context {
    accounts: Accounts,
    config: Arc<ArcSwap<Config>>,
    sessions: Option<Arc<dyn Sessions>>,
    process: Option<Arc<dyn Process>>,
}

/// A removal under way.
pub type Removing = Pin<Box<dyn Future<Output = Result<(), AccountError>> + Send>>;

/// The sessions of a running server.
pub trait Sessions: Send + Sync {
    /// Removes an account as its own user would: its contacts are told. `None`: nobody needs to be told, and it can be
    /// erased as it is.
    fn remove_account(self: Arc<Self>, _account: BareJid) -> Option<Removing> {
        None
    }
    /// The account is no more: its sessions must end, and none of them may be resumed.
    fn on_account_removed(&self, account: &BareJid);
    /// The password is another: sessions that know only the old one must end, and none of them may be resumed.
    fn on_password_changed(&self, account: &BareJid);
    /// How many sessions are bound.
    fn count(&self) -> usize;
    /// Where connections are accepted.
    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)>;
}

/// The process of a running server.
pub trait Process: Send + Sync {
    /// Seconds since the start.
    fn uptime_seconds(&self) -> u64;
    /// Reads the configuration again and applies what can be applied.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, OperationError>> + Send + '_>>;
    /// What the log takes from now on, as `info,magpie_server=debug`. The error says what is wrong with the filter.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;
}

impl Context {
    /// The data without a running server.
    pub fn new(accounts: Accounts, config: Config) -> Self {
        Self { accounts, config: Arc::new(ArcSwap::from_pointee(config)), sessions: None, process: None }
    }

    /// A running server, with its configuration as it is reloaded.
    pub fn of_server(server: &Arc<Server>) -> Self {
        Self {
            accounts: server.deps.accounts.clone(),
            config: Arc::clone(&server.deps.config),
            sessions: Some(Arc::clone(server) as Arc<dyn Sessions>),
            process: None,
        }
    }

    /// With the running server's process.
    pub fn with_process(mut self, process: Arc<dyn Process>) -> Self {
        self.process = Some(process);
        self
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The address of an account, whether or not it exists.
    fn account(&self, text: &str) -> Result<BareJid, OperationError> {
        match BareJid::parse(text) {
            Ok(account) if account.local().is_some() => Ok(account),
            _ => Err(OperationError::invalid(format!("\"{text}\" is not the address of an account"))
                .help("write it as juliet@example.org")),
        }
    }

    /// As [`Context::account`], on a served domain.
    fn served_account(&self, text: &str) -> Result<BareJid, OperationError> {
        let account = self.account(text)?;
        if self.serves(account.domain()) { Ok(account) } else { Err(self.not_served(account.domain())) }
    }

    fn serves(&self, domain: &str) -> bool {
        self.config().domains.iter().any(|served| served == domain)
    }

    fn not_served(&self, domain: &str) -> OperationError {
        let served = self.config().domains.join(", ");
        OperationError::new(ErrorKind::NotServed, format!("{domain} is not a domain of this server")).help(match &self
            .process
        {
            Some(_) => format!("served: {served}. Add it to domains in magpie.toml, and restart the server"),
            None => format!("served: {served}. Add it to domains in magpie.toml, or give --domain {domain}"),
        })
    }

    fn process(&self) -> Result<&dyn Process, OperationError> {
        self.process.as_deref().ok_or_else(|| {
            OperationError::new(ErrorKind::NotRunning, "no server is running").help("start it with `magpie serve`")
        })
    }
}

#[cfg(test)]
mod tests;
