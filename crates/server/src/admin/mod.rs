//! Administration: each operation is defined once, in a file of its own; every face runs it from here.
//!
//! The faces are the command line (through [`socket`], or on the data folder when no server runs), and whatever
//! else lists [`OPERATIONS`]. An operation takes arguments and answers with JSON.

pub mod account_export;
pub mod account_import;
pub mod announce;
pub mod command;
pub mod domain_show;
mod error;
pub mod invite_create;
pub mod invite_list;
pub mod invite_revoke;
pub mod log_level;
pub mod notice_remove;
pub mod notice_set;
pub mod notice_show;
pub mod reload;
pub mod report_list;
pub mod report_remove;
pub mod room_ban;
pub mod room_bans;
pub mod room_destroy;
pub mod room_list;
pub mod room_show;
pub mod room_unban;
mod rooms;
pub mod search_rebuild;
pub mod session_end;
pub mod session_list;
mod sessions;
pub mod socket;
pub mod status;
pub mod stop;
pub mod token_list;
pub mod token_revoke;
pub mod user_add;
pub mod user_disable;
pub mod user_enable;
pub mod user_exists;
pub mod user_import_batch;
pub mod user_list;
pub mod user_passwd;
pub mod user_remove;
pub mod user_retention;
pub mod user_roster;
pub mod user_show;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use magpie_proto::jid::{BareJid, FullJid, Jid, parse_domain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::accounts::{AccountError, Accounts};
use crate::config::schema::{Kind, kind_of};
use crate::config::{Config, ListenKind};
use crate::modules::invites::Invite;
use crate::modules::muc::Muc;
use crate::modules::notices::Notice;
use crate::server::Server;

pub use account_export::AccountExport;
pub use account_import::{AccountImport, Part, PartOutcome};
pub use announce::Announce;
pub use command::{Argument, Command, Shown};
pub use domain_show::DomainShow;
pub use error::{ErrorKind, OperationError};
pub use invite_create::InviteCreate;
pub use invite_list::InviteList;
pub use invite_revoke::InviteRevoke;
pub use log_level::LogLevel;
pub use notice_remove::NoticeRemove;
pub use notice_set::NoticeSet;
pub use notice_show::NoticeShow;
pub use reload::{Reload, ReloadReport};
pub use report_list::ReportList;
pub use report_remove::ReportRemove;
pub use room_ban::RoomBan;
pub use room_bans::RoomBans;
pub use room_destroy::RoomDestroy;
pub use room_list::RoomList;
pub use room_show::RoomShow;
pub use room_unban::RoomUnban;
pub use search_rebuild::SearchRebuild;
pub use session_end::SessionEnd;
pub use session_list::SessionList;
pub use status::Status;
pub use stop::Stop;
pub use token_list::TokenList;
pub use token_revoke::TokenRevoke;
pub use user_add::UserAdd;
pub use user_disable::UserDisable;
pub use user_enable::UserEnable;
pub use user_exists::UserExists;
pub use user_import_batch::{ROWS_MAX, Row, RowOutcome, UserImportBatch};
pub use user_list::UserList;
pub use user_passwd::UserPasswd;
pub use user_remove::UserRemove;
pub use user_retention::UserRetention;
pub use user_roster::UserRoster;
pub use user_show::UserShow;

/// All operations, in the order in which they are listed to people.
pub static OPERATIONS: &[Definition] = &[
    Definition::of::<Status>(),
    Definition::of::<UserAdd>(),
    Definition::of::<UserPasswd>(),
    Definition::of::<UserRemove>(),
    Definition::of::<UserDisable>(),
    Definition::of::<UserEnable>(),
    Definition::of::<UserRetention>(),
    Definition::of::<UserShow>(),
    Definition::of::<UserRoster>(),
    Definition::of::<UserList>(),
    Definition::of::<UserExists>(),
    Definition::of::<UserImportBatch>(),
    Definition::of::<TokenList>(),
    Definition::of::<TokenRevoke>(),
    Definition::of::<InviteCreate>(),
    Definition::of::<InviteList>(),
    Definition::of::<InviteRevoke>(),
    Definition::of::<AccountExport>(),
    Definition::of::<AccountImport>(),
    Definition::of::<ReportList>(),
    Definition::of::<ReportRemove>(),
    Definition::of::<RoomList>(),
    Definition::of::<RoomShow>(),
    Definition::of::<RoomDestroy>(),
    Definition::of::<RoomBan>(),
    Definition::of::<RoomUnban>(),
    Definition::of::<RoomBans>(),
    Definition::of::<DomainShow>(),
    Definition::of::<SessionList>(),
    Definition::of::<SessionEnd>(),
    Definition::of::<Announce>(),
    Definition::of::<NoticeSet>(),
    Definition::of::<NoticeShow>(),
    Definition::of::<NoticeRemove>(),
    Definition::of::<SearchRebuild>(),
    Definition::of::<Reload>(),
    Definition::of::<LogLevel>(),
    Definition::of::<Stop>(),
];

/// One thing that an administrator can do.
pub trait Operation: 'static {
    /// Its name: stable, `noun_verb`.
    const NAME: &'static str;
    /// What it does, for people, in one sentence.
    const DOC: &'static str;
    /// The commands by which people run it from their clients; none where it is for programs.
    const COMMANDS: &'static [Command] = &[];
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
    /// Its commands (XEP-0050).
    pub commands: &'static [Command],
    run: for<'a> fn(&'a Context, Value) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Value, OperationError>> + Send + 'a>>;

impl Definition {
    const fn of<O: Operation>() -> Self {
        Self {
            name: O::NAME,
            doc: O::DOC,
            arguments: kind_of::<O::Arguments>,
            commands: O::COMMANDS,
            run: |context, arguments| {
                Box::pin(async move {
                    let arguments = serde_json::from_value(arguments)
                        .map_err(|wrong| OperationError::invalid(format!("{}: {wrong}", O::NAME)))?;
                    O::run(context, arguments).await
                })
            },
        }
    }

    /// Runs it.
    pub async fn run(&self, context: &Context, arguments: Value) -> Result<Value, OperationError> {
        (self.run)(context, arguments).await
    }
}

/// Runs the operation of this name.
pub async fn run(context: &Context, name: &str, arguments: Value) -> Result<Value, OperationError> {
    let Some(definition) = OPERATIONS.iter().find(|definition| definition.name == name) else {
        let known: Vec<_> = OPERATIONS.iter().map(|definition| definition.name).collect();
        return Err(OperationError::new(ErrorKind::UnknownOperation, format!("there is no operation \"{name}\""))
            .help(format!("known are: {}", known.join(", "))));
    };
    definition.run(context, arguments).await
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

/// Whether all sessions of an account have ended.
pub type Ending = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The sessions of a running server.
pub trait Sessions: Send + Sync {
    /// Removes an account as its own user would: its contacts are told. `None`: nobody needs to be told, and it can be
    /// erased as it is.
    fn remove_account(self: Arc<Self>, _account: BareJid) -> Option<Removing> {
        None
    }
    /// Ends the sessions of an account that is disabled and will be emptied, and forgets what is known of it.
    fn end_all(self: Arc<Self>, account: BareJid) -> Ending;
    /// The account is no more: its sessions must end, and none of them may be resumed.
    fn on_account_removed(&self, account: &BareJid);
    /// Data of an account came by an import.
    fn on_account_imported(&self, account: &BareJid);
    /// Some of the data of an account that is replaced is there.
    fn on_account_replaced(&self, account: &BareJid);
    /// The account may not be used for now: its sessions must end, and none of them may be resumed.
    fn on_account_disabled(&self, account: &BareJid);
    /// The message of the day of a domain is another, or there is none any more.
    fn on_motd_changed(self: Arc<Self>, host: &str, notice: Option<Notice>);
    /// An invite was made.
    fn on_invite_made(&self, invite: &Invite);
    /// The password is another: sessions that know only the old one must end, and none of them may be resumed.
    fn on_password_changed(&self, account: &BareJid);
    /// Tokens of these clients were taken back, which are named as they call themselves: their sessions must end, and none of them
    /// may be resumed.
    fn on_clients_revoked(&self, account: &BareJid, clients: &[String]);
    /// How many sessions are bound.
    fn count(&self) -> usize;
    /// The sessions, of an account or of all.
    fn list(&self, account: Option<&BareJid>) -> Vec<SessionLine>;
    /// Ends the sessions at this address, which may be a bare JID; how many there were.
    fn end(&self, jid: &Jid) -> usize;
    /// Sends a message of the domain to everybody of it who is available; how many got it.
    fn announce(&self, host: &str, subject: Option<&str>, text: &str) -> usize;
    /// Its rooms.
    fn rooms(&self) -> Option<Arc<Muc>> {
        None
    }
    /// Where connections are accepted.
    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)>;
}

/// A session, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionLine {
    /// Its address.
    #[serde(serialize_with = "as_text")]
    pub jid: FullJid,
    /// Whether it has sent available presence.
    pub available: bool,
    /// Whether it says that its user is away (RFC 6121 §4.7.2.1).
    pub away: bool,
    /// The priority of its presence.
    pub priority: i8,
    /// Whether its connection is gone and it may be resumed (XEP-0198).
    pub detached: bool,
}

fn as_text<S: serde::Serializer>(jid: &FullJid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(jid.as_str())
}

/// The process of a running server.
pub trait Process: Send + Sync {
    /// Seconds since the start.
    fn uptime_seconds(&self) -> u64;
    /// Reads the configuration again and applies what can be applied.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, OperationError>> + Send + '_>>;
    /// What the log takes from now on, as `info,magpie_server=debug`. The error says what is wrong with the filter.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;
    /// Stops the server after this time, as a signal would.
    fn stop_after(&self, delay: Duration);
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

    /// The domain of this server that is named; the only one there is where none is.
    fn host(&self, named: Option<&str>) -> Result<String, OperationError> {
        let config = self.config();
        let Some(named) = named else {
            return match config.domains.as_slice() {
                [only] => Ok(only.clone()),
                several => Err(OperationError::invalid("several domains are served")
                    .help(format!("say which: {}", several.join(", ")))),
            };
        };
        let host = parse_domain(named).map_err(|_| OperationError::invalid(format!("\"{named}\" is no domain")))?;
        if self.serves(&host) { Ok(host) } else { Err(self.not_served(&host)) }
    }

    /// An account that is there.
    async fn existing_account(&self, text: &str) -> Result<BareJid, OperationError> {
        let account = self.account(text)?;
        match self.accounts.exists(&account).await? {
            true => Ok(account),
            false => Err(OperationError::of_account(AccountError::NotFound, &account)),
        }
    }

    fn process(&self) -> Result<&dyn Process, OperationError> {
        self.process.as_deref().ok_or_else(not_running)
    }

    fn sessions(&self) -> Result<&dyn Sessions, OperationError> {
        self.sessions.as_deref().ok_or_else(not_running)
    }
}

fn not_running() -> OperationError {
    OperationError::new(ErrorKind::NotRunning, "no server is running").help("start it with `magpie serve`")
}

#[cfg(test)]
mod tests;
