//! The configuration of the term service as types. Durations and sizes carry their unit in the name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One `[[terms.source]]`: data that Erlang keeps, read at `GET /terms/NAME/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermSource {
    /// Its name in the path. One without a name has the keys that begin with no other's: `GET /terms/KEY`.
    #[serde(default)]
    pub name: String,
    /// What keeps the terms.
    pub kind: SourceKind,
    /// `directory`: the folder. `dets`, `sqlite`: the file. `mnesia`: a table's `.DCD` or `.DAT` file, or a file of records that
    /// `disk_log` wrote.
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

/// What keeps terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A folder with a file for each term.
    Directory,
    /// A file of DETS.
    Dets,
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
    /// `dets`, `mnesia`: as Erlang's syntax has it (`42`, `ok`, `{a,1}`), and as a binary where it is no term. Databases: a whole number
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
