//! Where a Redis server is: `redis://`, `rediss://` with TLS, and `unix://` for a socket.

use std::fmt;
use std::path::PathBuf;

use super::remote::percent_decoded;
use crate::tls::Verify;

pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `unix:///PATH?db=DATABASE`.
pub(super) struct Url {
    pub(super) address: Address,
    /// The user may be empty.
    pub(super) user: Option<(String, String)>,
    pub(super) database: u32,
    /// What TLS verifies, if there is any.
    pub(super) verify: Option<Verify>,
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(needed)?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => {
                let (user, password) = user.split_once(':').ok_or("`url` has a user and no password")?;
                (Some((percent_decoded(user)?, percent_decoded(password)?)), host)
            }
            None => (None, host),
        };
        let options = Options::parse(options)?;
        let (address, database) = match scheme {
            "unix" | "redis+unix" if host.is_empty() && path.len() > 1 => {
                (Address::Unix(percent_decoded(path)?.into()), options.database)
            }
            "redis" | "rediss" => (tcp(host)?, path.strip_prefix('/').filter(|path| !path.is_empty())),
            _ => return Err(needed()),
        };
        let database = match database {
            Some(database) => {
                database.parse().map_err(|_| format!("`url`: {database:?} is no number of a database"))?
            }
            None => 0,
        };
        if scheme != "rediss" && options.file.is_some() {
            return Err("`sslrootcert` is of use with rediss:// alone".into());
        }
        let verify = (scheme == "rediss").then_some(Verify::Name(options.file));
        Ok(Self { address, user, database, verify })
    }
}

#[derive(Default)]
struct Options<'a> {
    database: Option<&'a str>,
    file: Option<PathBuf>,
}

impl<'a> Options<'a> {
    fn parse(options: &'a str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("db", value)) => parsed.database = Some(value),
                Some(("sslrootcert", value)) => parsed.file = Some(percent_decoded(value)?.into()),
                _ => return Err(format!("`url`: unknown option {option:?}")),
            }
        }
        Ok(parsed)
    }
}

fn needed() -> String {
    "a source of the kind `redis` needs `url`, as redis://:password@host:6379/0, rediss://… with TLS, or unix:///path"
        .into()
}

fn tcp(host: &str) -> Result<Address, String> {
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port.strip_prefix(':').ok_or_else(needed)?)),
        None if host.contains(['[', ']']) => return Err(needed()),
        None => host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("`url`: {port:?} is no port"))?,
        None => 6379,
    };
    Ok(Address::Tcp(if name.is_empty() { "localhost".into() } else { percent_decoded(name)? }, port))
}

/// Without user and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => write!(f, "{host}:{port}/{}", self.database),
            Address::Unix(path) => write!(f, "{} (database {})", path.display(), self.database),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_read_in_all_its_forms_and_shown_without_its_password() {
        for (url, shown, user, tls) in [
            ("redis://host", "host:6379/0", None, false),
            ("redis://host:7000/3", "host:7000/3", None, false),
            ("redis://", "localhost:6379/0", None, false),
            ("redis://:p%40ss@[::1]:7000/", "::1:7000/0", Some(("", "p@ss")), false),
            ("rediss://reader:a:b@host/1", "host:6379/1", Some(("reader", "a:b")), true),
            ("unix:///run/redis.sock?db=2", "/run/redis.sock (database 2)", None, false),
            ("redis+unix://u:p@/run/a%20b", "/run/a b (database 0)", Some(("u", "p")), false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown, "{url}");
            assert_eq!(parsed.user, user.map(|(user, password)| (user.to_owned(), password.to_owned())), "{url}");
            assert_eq!(parsed.verify.is_some(), tls, "{url}");
        }
        for url in [
            "",
            "host:6379",
            "http://host",
            "redis://host:port",
            "redis://host/first",
            "redis://secret@host",
            "unix://",
            "unix://host/path",
            "redis://[::1",
            "redis://host?timeout=3",
            "redis://:%ff@host",
            "redis://host?sslrootcert=ca.pem",
        ] {
            assert!(Url::parse(url).is_err(), "{url}");
        }
    }
}
