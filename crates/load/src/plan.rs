//! What a worker process is asked to do: the part of a run that goes over its standard input.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::client::negotiation::{Account, Profile};
use crate::scenarios::Work;

/// What is spoken with the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 6120.
    #[default]
    Xmpp,
    /// The bytes of the stanzas alone, to a relay: a pair's number in four bytes, then messages of one size.
    Raw,
}

/// One worker's part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario, with what it alone needs.
    pub work: Work,
    /// What is spoken.
    pub protocol: Protocol,
    /// What every session is to be.
    pub profile: Profile,
    /// Where the server listens; sessions take turns.
    pub addresses: Vec<SocketAddr>,
    /// Addresses to connect from; sessions take turns. Empty: the system's choice.
    pub sources: Vec<IpAddr>,
    /// Who logs in.
    pub accounts: Accounts,
    /// How certificates are checked.
    pub trust: Trust,
    /// Sessions of this worker.
    pub sessions: u32,
    /// Sessions of the workers before it.
    pub first: u32,
    /// Sessions of all workers.
    pub total: u32,
    /// Connections a second that this worker begins; 0: as many as the server takes.
    pub connect_rate: f64,
    /// Logins that this worker has under way at a time.
    pub connecting_max: u32,
    /// Seconds that a login may take.
    pub login_seconds_max: u64,
    /// Seconds to wait at the end for what was sent.
    pub drain_seconds_max: f64,
    /// Of all that is random.
    pub seed: u64,
}

/// Names and passwords: `{}` is replaced by the account's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// The part before the `@`.
    pub username: String,
    /// The password.
    pub password: String,
    /// The number of the first account.
    pub first: u32,
    /// Accounts; sessions beyond them log in to the first ones again. 0: as many as sessions.
    pub count: u32,
}

/// Which certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Any.
    pub any: bool,
    /// Those of the authorities in this PEM file.
    pub ca: Option<PathBuf>,
    /// Only TLS 1.2.
    pub tls12: bool,
    /// Sessions are resumed with tickets where the server gives some.
    pub resume: bool,
}

impl Accounts {
    /// The name and the password of session `index`, counted from 0.
    pub fn login(&self, index: u32) -> (String, String) {
        let index = if self.count > 0 { index % self.count } else { index };
        let number = (self.first + index).to_string();
        (self.username.replace("{}", &number), self.password.replace("{}", &number))
    }
}

impl Plan {
    /// Who session `who` of this worker is.
    pub fn account(&self, who: u32) -> Account {
        let index = self.first + who;
        let (username, password) = self.accounts.login(index);
        Account { username, password, resource: format!("load{index}") }
    }

    /// Where session `who` of this worker connects to, and from where.
    pub fn route(&self, who: u32) -> (SocketAddr, Option<IpAddr>) {
        let index = (self.first + who) as usize;
        let source = (!self.sources.is_empty()).then(|| self.sources[index % self.sources.len()]);
        (self.addresses[index % self.addresses.len()], source)
    }
}
