//! A column of a PostgreSQL database.

use std::error::Error as _;
use std::path::PathBuf;
use std::str::FromStr as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, Error, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::parameter::{self, Parameter};
use super::remote::{Driver, Failure, KEEP_ALIVE, Remote, Server, percent_decoded};
use super::{Found, Limits, Source, SourceError};
use crate::config::TermSource;
use crate::tls::{self, Verify};

/// The server at `url`; it is connected to when it is first asked.
pub fn open(source: &TermSource, limits: Limits) -> Result<impl Source + use<>, String> {
    if !source.query.contains("$1") {
        return Err("a source of the kind `postgresql` needs `query`, with `$1` for the key".into());
    }
    let (mut config, verify) = parse_url(&source.url)?;
    // The server gives up a little sooner than who waits for it, so that the connection stays. What the query calls cannot write.
    let patience = limits.time().mul_f64(0.9).as_millis().max(1);
    let options = format!(
        "{} -c default_transaction_read_only=on -c statement_timeout={patience}",
        config.get_options().unwrap_or_default()
    );
    config.options(options.trim_start()).keepalives_idle(KEEP_ALIVE);
    if config.get_application_name().is_none() {
        config.application_name("magpie terms");
    }
    let place = format!("PostgreSQL at {}", place(&config));
    let query = source.query.trim().trim_end_matches(';').to_owned();
    let tls = MakeRustlsConnect::new(tls::client(&verify)?);
    Ok(Remote::new(Postgresql { config, tls, place, query, limits }, source.key, limits))
}

/// `sslmode` and `sslrootcert` are read here, as the library does not know all that they can be.
fn parse_url(url: &str) -> Result<(Config, Verify), String> {
    if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
        return Err("a source of the kind `postgresql` needs `url`, as postgresql://user:password@host/database".into());
    }
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let mut kept = Vec::new();
    let (mut mode, mut file) = ("prefer", None);
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", value)) => mode = value,
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", value)) => file = Some(PathBuf::from(percent_decoded(value)?)),
            _ => kept.push(option),
        }
    }
    let mut config = Config::from_str(&format!("{address}?{}", kept.join("&"))).map_err(|error| told(&error))?;
    let (mode, verify) = match (mode, file) {
        ("disable", _) => (SslMode::Disable, Verify::Nothing),
        ("prefer", _) => (SslMode::Prefer, Verify::Nothing),
        ("require", None) => (SslMode::Require, Verify::Nothing),
        ("require" | "verify-ca", Some(file)) => (SslMode::Require, Verify::Authority(file)),
        ("verify-full", file) => (SslMode::Require, Verify::Name(file)),
        ("verify-ca", None) => return Err("`sslmode=verify-ca` needs `sslrootcert`, the authority's file".into()),
        (mode, _) => {
            let known = "disable, prefer, require, verify-ca, verify-full";
            return Err(format!("`sslmode={mode}` is none of {known}"));
        }
    };
    config.ssl_mode(mode);
    if config.get_hosts().is_empty() {
        return Err("`url` names no host".into());
    }
    Ok((config, verify))
}

/// Host, port and database; no password.
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().or(config.get_user()).unwrap_or_default())
}

struct Postgresql {
    config: Config,
    tls: MakeRustlsConnect,
    place: String,
    query: String,
    limits: Limits,
}

struct Connection {
    client: Client,
    statement: Statement,
    /// The type of `$1`.
    key: Type,
    _driver: Driver,
}

impl Server for Postgresql {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let (client, connection) = self.config.connect(self.tls.clone()).await.map_err(|error| told(&error))?;
        // Its end shows in the client.
        let driver = Driver::spawn(async move { drop(connection.await) });
        let key = key_type(&prepare(&client, &self.query).await?)?;
        let statement = prepare(&client, &self.bounded()).await?;
        Ok(Connection { client, statement, key, _driver: driver })
    }

    fn is_closed(connection: &Connection) -> bool {
        connection.client.is_closed()
    }

    async fn ask(&self, connection: &Connection, key: &Parameter) -> Result<Option<Found>, Failure> {
        fit(key, &connection.key).map_err(Failure::Answer)?;
        let row = connection.client.query_opt(&connection.statement, &[key]).await;
        let row = row.map_err(|error| self.failure(&error, connection))?;
        let Some(row) = row else { return Ok(None) };
        let wrong = |error: Error| Failure::Answer(SourceError::Damaged(told(&error)));
        let term: Option<Raw<'_>> = row.try_get(0).map_err(wrong)?;
        let length: Option<i32> = row.try_get(1).map_err(wrong)?;
        match (term, length) {
            (Some(Raw(bytes)), _) => Ok(Some(Found { bytes: Bytes::copy_from_slice(bytes), version: None })),
            (None, Some(length)) => Err(Failure::Answer(SourceError::too_long(length, self.limits))),
            (None, None) => Ok(None),
        }
    }

    fn place(&self) -> &str {
        &self.place
    }
}

impl Postgresql {
    /// The query, with a row and a length at most. The server knows the length of a value without reading it. `OFFSET 0` keeps it
    /// from asking for the column twice.
    fn bounded(&self) -> String {
        format!(
            "SELECT CASE WHEN octet_length(magpie_term) <= {} THEN magpie_term END, octet_length(magpie_term) FROM \
             (SELECT * FROM ({}\n) AS magpie_rows OFFSET 0) AS magpie_rows (magpie_term) LIMIT 1",
            self.limits.bytes_max, self.query
        )
    }

    fn failure(&self, error: &Error, connection: &Connection) -> Failure {
        let lost = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            // The statement is gone, as behind a pool, or its table has changed.
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::FEATURE_NOT_SUPPORTED,
        ];
        let key = [
            SqlState::INVALID_TEXT_REPRESENTATION,
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            SqlState::INVALID_DATETIME_FORMAT,
            SqlState::DATETIME_FIELD_OVERFLOW,
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            SqlState::INVALID_BINARY_REPRESENTATION,
        ];
        match error.code() {
            None if connection.client.is_closed() => Failure::Lost(told(error)),
            Some(code) if lost.contains(code) => Failure::Lost(told(error)),
            Some(code) if key.contains(code) => Failure::Answer(SourceError::Key(told(error))),
            Some(_) => Failure::Answer(SourceError::Unavailable(format!("{}: {}", self.place, told(error)))),
            None => Failure::Lost(told(error)),
        }
    }
}

/// The type of `$1`, of a query that is as it must be.
fn key_type(statement: &Statement) -> Result<Type, String> {
    let [key] = statement.params() else {
        return Err(format!("the query has {} parameters, and only `$1` is given", statement.params().len()));
    };
    match statement.columns().first().map(tokio_postgres::Column::type_) {
        Some(&(Type::BYTEA | Type::TEXT | Type::VARCHAR)) => Ok(key.clone()),
        Some(other) => Err(format!("the query's first column is of the type {other}, and must be bytea")),
        None => Err("the query gives no column".into()),
    }
}

async fn prepare(client: &Client, query: &str) -> Result<Statement, String> {
    client.prepare(query).await.map_err(|error| told(&error))
}

/// The server's own words, or those of what failed below.
fn told(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => format!("{} ({})", error.message(), error.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Whether the key can be of the type of `$1`, as far as that can be told without asking the server.
fn fit(key: &Parameter, kind: &Type) -> Result<(), SourceError> {
    let is_integer = [Type::INT2, Type::INT4, Type::INT8, Type::OID].contains(kind);
    match key {
        Parameter::Bytes(_) if *kind != Type::BYTEA => {
            Err(SourceError::Unavailable(format!("the query's $1 is of the type {kind}, and the keys are bytes")))
        }
        Parameter::Text(text) if is_integer && parameter::integer(text).is_none() => {
            Err(SourceError::Key("not a whole number".into()))
        }
        Parameter::Text(text) if *kind != Type::BYTEA && text.contains('\0') => {
            Err(SourceError::Key("text has no NUL here".into()))
        }
        _ => Ok(()),
    }
}

/// Bytes go as they are to a `bytea`. All else goes as text, which the server reads as the type that the query has.
impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Integer(integer) => out.put_slice(integer.to_string().as_bytes()),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, kind: &Type) -> Format {
        if *kind == Type::BYTEA { Format::Binary } else { Format::Text }
    }

    to_sql_checked!();
}

/// The bytes of a column.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(kind: &Type) -> bool {
        [Type::BYTEA, Type::TEXT, Type::VARCHAR].contains(kind)
    }
}

/// Without the configuration, which has the password.
impl std::fmt::Debug for Postgresql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgresql").field("place", &self.place).finish_non_exhaustive()
    }
}
