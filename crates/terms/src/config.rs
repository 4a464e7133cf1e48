//! The configuration of the term service as types. Durations and sizes carry their unit in the name.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[terms]`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// Secrets, one of which each request must bring along (`Authorization: Bearer SECRET`). None: no request needs one; a listener on an
    /// address that is not loopback then needs `force`.
    pub tokens: Vec<String>,
    /// Origins whose pages may ask in a browser, as `https://example.org`; `*` is all.
    pub origins: Vec<String>,
    /// Bytes of one term, in whatever form; more is `413`. A stream of them may be of any length.
    pub term_bytes_max: usize,
    /// Bytes to which a compressed term may inflate; more is `422`.
    pub inflated_bytes_max: usize,
    /// Bytes of terms above 64 KiB that are held for all requests together: that come, that a function has, that are sent; and of memory that
    /// they take as they are converted, of which one term may have half. More waits.
    pub held_bytes_max: usize,
    /// Seconds without a byte in either direction, between two requests too, after which a connection is closed.
    pub idle_seconds_max: u64,
    /// Seconds that a request's head may take; then the connection is closed.
    pub head_seconds_max: u64,
    /// Seconds until the first bytes of a function's answer; then `504`.
    pub function_seconds_max: u64,
    /// Seconds that a source may take to find a term, connecting to it included; then `503`.
    pub source_seconds_max: u64,
    /// Paths below which functions are called as `mod_esi` does: `/esi/Module:Function?Input`.
    pub esi: Vec<String>,
    /// Modules that may be called there, others are `403`. None named: all.
    pub esi_modules: Vec<String>,
    /// Data that Erlang keeps, read at `GET /terms/NAME/KEY`.
    pub source: Vec<TermSource>,
    /// Functions that another server answers.
    pub function: Vec<TermFunction>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            origins: Vec::new(),
            term_bytes_max: 16 << 20,
            inflated_bytes_max: 32 << 20,
            held_bytes_max: 256 << 20,
            idle_seconds_max: 60,
            head_seconds_max: 10,
            function_seconds_max: 15,
            source_seconds_max: 5,
            esi: vec!["/esi".into(), "/".into()],
            esi_modules: Vec::new(),
            source: Vec::new(),
            function: Vec::new(),
        }
    }
}

impl fmt::Debug for Terms {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms").field("source", &self.source).field("function", &self.function).finish_non_exhaustive()
    }
}

/// One `[[terms.function]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermFunction {
    /// The module by whose name it is called.
    pub module: String,
    /// The function's name; `*` is every one that has no entry of its own.
    pub function: String,
    /// Who answers, as `http://127.0.0.1:9000/add`. `{function}` stands for the function's name.
    pub url: String,
    /// For `https`: the file with the authorities whose certificates count; without it those that the system trusts.
    #[serde(default)]
    pub ca_file: PathBuf,
}

/// One `[[terms.source]]`: data that Erlang keeps, read at `GET /terms/NAME/KEY`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermSource {
    /// Its name in the path. One without a name has the keys that begin with no other's: `GET /terms/KEY`.
    #[serde(default)]
    pub name: String,
    /// What keeps the terms.
    pub kind: SourceKind,
    /// `directory`: the folder. `dets`, `sqlite`: the file. `mnesia`: a table's `.DCD` or `.DAT` file. `disk-log`: the name that
    /// `disk_log` was given, without `.1` or `.idx`.
    #[serde(default)]
    pub path: PathBuf,
    /// `postgresql`, `redis`: where the server is, as `postgresql://user:password@host/database` or `redis://host:6379/0`.
    #[serde(default)]
    pub url: String,
    /// `postgresql`, `sqlite`: the query whose first column is the term, with `$1` for the key, as
    /// `SELECT term FROM users WHERE id = $1`. `redis`: the command, as `GET user:$1` or `HGET users $1`.
    #[serde(default)]
    pub query: String,
    /// `directory`: what a file's name has behind the key, as `.term`.
    #[serde(default)]
    pub suffix: String,
    /// How the key in the path is read.
    #[serde(default)]
    pub key: KeyKind,
}

impl fmt::Debug for TermSource {
    /// Without the address, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TermSource").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What keeps terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A folder with a file for each term.
    Directory,
    /// A file of DETS.
    Dets,
    /// A log of records that `disk_log` wrote.
    DiskLog,
    /// A table of Mnesia.
    Mnesia,
    /// A column of a PostgreSQL database.
    Postgresql,
    /// A Redis server.
    Redis,
    /// A column of a SQLite database.
    Sqlite,
}

/// How a key in a path is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// `dets`, `mnesia`, `disk-log`: as Erlang's syntax has it (`42`, `ok`, `{a,1}`), and as a binary where it is no term. Databases: a whole number
    /// where it is one, or else text.
    #[default]
    Guess,
    /// A binary; for databases bytes.
    Binary,
    /// A string, which is a list of characters; for databases text.
    Text,
    /// An atom; for databases text.
    Atom,
    /// A whole number.
    Integer,
    /// Any term in Erlang's syntax; for databases what `term_to_binary` makes of it.
    Term,
}
