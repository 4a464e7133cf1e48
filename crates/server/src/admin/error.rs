//! How an operation fails: for a program by its kind, for a person by its message and help.

use serde::{Deserialize, Serialize};

use crate::accounts::AccountError;
use magpie_store::StoreError;

/// An operation that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct OperationError {
    /// Which kind, for programs.
    pub kind: ErrorKind,
    /// What is wrong, for people.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// There is no such operation.
    UnknownOperation,
    /// An argument is missing, unknown or malformed.
    Invalid,
    /// There is no such account.
    NotFound,
    /// There is such an account already.
    Exists,
    /// The domain is not one of this server's.
    NotServed,
    /// Nobody may do it.
    NotAllowed,
    /// It takes a running server, and there is none.
    NotRunning,
    /// The data cannot be read or written.
    Storage,
    /// Anything else.
    Failed,
}

impl OperationError {
    /// An error without help.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    /// A malformed argument.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What an account's error means to who asked for `account`.
    pub(super) fn of_account(error: AccountError, account: impl std::fmt::Display) -> Self {
        match error {
            AccountError::Exists => Self::new(ErrorKind::Exists, format!("{account} exists already"))
                .help(format!("to change its password: magpie user passwd {account}")),
            AccountError::NotFound => Self::new(ErrorKind::NotFound, format!("there is no account {account}"))
                .help(format!("to make it: magpie user add {account}")),
            AccountError::NoLocalpart => Self::invalid(error.to_string()),
            AccountError::Password(error) => Self::invalid(error.to_string())
                .help("choose another one (RFC 8265 §4 says which characters may be in it)"),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        let help = match &error {
            StoreError::Conflict => "try again",
            StoreError::Full => "free some space, then try again",
            StoreError::Backend(_) => "the log of the server, or of the system, may say more",
            StoreError::Corrupt(_) => "restore the data folder from a backup",
            StoreError::Closed => "the server is stopping; try again when it has stopped",
        };
        Self::new(ErrorKind::Storage, error.to_string()).help(help)
    }
}
