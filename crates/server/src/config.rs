//! The configuration as types: the reference page and `magpie config default` come from here.
//!
//! Durations and sizes carry their unit in the name. Every field has a default, so that an empty file serves `localhost`.

mod reference;
pub mod schema;
mod validate;

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use magpie_proto::sasl::{Hash, ScramPolicy};
use magpie_terms::config::Terms;
use serde::{Deserialize, Serialize};

pub use reference::{Key, Section, reference};
pub use validate::ConfigError;

/// The hashes by the names that the configuration uses.
const HASHES: [(&str, Hash); 3] = [("sha-1", Hash::Sha1), ("sha-256", Hash::Sha256), ("sha-512", Hash::Sha512)];

/// The hash that the configuration names so: `sha-1`, `sha-256`, `sha-512`.
pub fn parse_hash(name: &str) -> Option<Hash> {
    HASHES.iter().find(|(known, _)| *known == name).map(|(_, hash)| *hash)
}

/// All of `magpie.toml`. Every key can be left out. Relative paths begin at the folder of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The served domains. `--domain` on the command line takes their place.
    pub domains: Vec<String>,
    /// Accounts that may administer the server, as `juliet@example.org`.
    pub admins: Vec<String>,
    /// The data folder, made on first start. `--data` on the command line takes its place.
    pub data: PathBuf,
    /// Where connections are accepted.
    pub listen: Vec<Listen>,
    /// Certificates by domain; a domain without one uses `certs/DOMAIN.crt` and `.key` in the data folder, made on first start.
    pub certificate: Vec<Certificate>,
    /// Domains that are served elsewhere now: a client is told where (`see-other-host`).
    pub moved: Vec<Moved>,
    /// Accounts that people make themselves (XEP-0077).
    pub registration: Registration,
    /// Links by which people make accounts or become contacts (XEP-0401).
    pub invites: Invites,
    /// Passwords and how they are checked.
    pub auth: Auth,
    /// What a peer may ask for, each with the answer to one who asks for more.
    pub limits: Limits,
    /// Where people reach those who run the server (XEP-0157): URIs, as `mailto:abuse@example.org`.
    pub contact: Contact,
    /// Group chat (XEP-0045): who makes rooms, and how much a room takes in a while.
    pub rooms: Rooms,
    /// What users report whom they block (XEP-0377).
    pub reports: Reports,
    /// STUN and TURN servers for calls, and other services beside this one, of which users are told (XEP-0215).
    pub external_service: Vec<ExternalService>,
    /// What strangers can find out.
    pub privacy: Privacy,
    /// Every account's messages, kept on the server (XEP-0313).
    pub archive: Archive,
    /// What the services that wake people's devices are told (XEP-0357).
    pub push: Push,
    /// Erlang's terms for other programs, over HTTP and BERT-RPC: for listeners of the kinds `terms`, `terms-tls` and `bert`, and for
    /// `magpie terms`.
    pub terms: Terms,
    /// Figures for monitoring, and whether the server is well.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: vec!["localhost".into()],
            admins: Vec::new(),
            data: "magpie-data".into(),
            listen: vec![
                Listen {
                    address: (Ipv6Addr::UNSPECIFIED, 5222).into(),
                    kind: ListenKind::C2s,
                    tls: TlsMode::Required,
                    force: false,
                },
                Listen {
                    address: (Ipv6Addr::UNSPECIFIED, 5223).into(),
                    kind: ListenKind::C2sTls,
                    tls: TlsMode::Required,
                    force: false,
                },
            ],
            certificate: Vec::new(),
            moved: Vec::new(),
            registration: Registration::default(),
            invites: Invites::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            contact: Contact::default(),
            rooms: Rooms::default(),
            reports: Reports::default(),
            external_service: Vec::new(),
            privacy: Privacy::default(),
            archive: Archive::default(),
            push: Push::default(),
            terms: Terms::default(),
            metrics: Metrics::default(),
        }
    }
}

/// One `[[listen]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: ListenKind,
    /// Whether STARTTLS must be used.
    #[serde(default)]
    pub tls: TlsMode,
    /// Allows on an address that is not loopback what is dangerous there: `tls = "optional"`, or the kinds that say so.
    #[serde(default)]
    pub force: bool,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenKind {
    /// Clients, STARTTLS.
    C2s,
    /// Clients, direct TLS (XEP-0368).
    C2sTls,
    /// Erlang's terms over HTTP. Loopback addresses only, unless forced.
    Terms,
    /// Erlang's terms over HTTPS. On other than loopback addresses it needs `terms.tokens`, unless forced.
    TermsTls,
    /// BERT-RPC, which knows no passwords. Loopback addresses only, unless forced.
    Bert,
}

impl ListenKind {
    /// Whether XMPP is spoken there.
    pub fn is_xmpp(self) -> bool {
        matches!(self, Self::C2s | Self::C2sTls)
    }
}

impl fmt::Display for ListenKind {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Whether a listener insists on TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No authentication without TLS.
    #[default]
    Required,
    /// TLS is offered; PLAIN is allowed without it. Loopback addresses only, unless forced.
    Optional,
}

/// One `[[certificate]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// For which served domain.
    pub domain: String,
    /// PEM file with the chain, leaf first.
    pub chain: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// One `[[moved]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The domain that was served here.
    pub domain: String,
    /// The host, with a port where it is not 5222, that serves it now.
    pub to: String,
}

/// `[registration]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Whether strangers may make accounts.
    pub open: bool,
}

/// `[invites]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invites {
    /// Whether every user may invite people to make an account here, as administrators may; others can only invite people to become
    /// their contacts.
    pub users_make_accounts: bool,
    /// Days for which an invite is valid that says nothing else.
    pub days: u64,
    /// Web page that says what to do with an invite, as `https://example.org/invite/#{token}`: `{token}` and `{uri}` stand for the
    /// invite's. Empty: none.
    pub page: String,
}

impl Default for Invites {
    fn default() -> Self {
        Self { users_make_accounts: false, days: 7, page: String::new() }
    }
}

/// `[rooms]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// Who may make rooms.
    pub made_by: RoomMakers,
    /// Rooms that one user may make in an hour; one more is `resource-constraint`. 0: no limit. Administrators are not counted.
    pub made_per_hour_max: u32,
    /// Messages and changes of presence a second, on average over five, that a room takes of one occupant who is no moderator; one
    /// more is `policy-violation`. 0: no limit.
    pub occupant_messages_per_second_max: u32,
    /// The same of all occupants together, moderators too; one more is `resource-constraint`. 0: no limit.
    pub messages_per_second_max: u32,
    /// Occupants who are no members and enter one room in a minute; one more is `resource-constraint`. 0: no limit.
    pub entrances_per_minute_max: u32,
    /// Searches for rooms (XEP-0433) of one user in a minute, also page by page; one more is `resource-constraint`. 0: no limit.
    pub searches_per_minute_max: u32,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            made_by: RoomMakers::Users,
            made_per_hour_max: 1000,
            occupant_messages_per_second_max: 20,
            messages_per_second_max: 0,
            entrances_per_minute_max: 0,
            searches_per_minute_max: 30,
        }
    }
}

/// Who may make rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoomMakers {
    /// Every user of this server.
    #[default]
    Users,
    /// The `admins` alone; others enter the rooms that there are.
    Admins,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// For which hashes keys are made of a new password: `sha-1`, `sha-256`, `sha-512`. An account that was made when fewer were
    /// configured gets the others at its next login with PLAIN, or with a client that knows XEP-0480.
    pub hashes: Vec<String>,
    /// PBKDF2 rounds for new passwords, at least 4096.
    pub iterations: u32,
    /// Whether PLAIN is offered (under TLS, or on a listener with `tls = "optional"`).
    pub plain: bool,
    /// Served domains that offer ANONYMOUS and nothing else.
    pub anonymous: Vec<String>,
    /// Whether SCRAM tells clients what was offered (XEP-0474), so that they see if somebody has taken the best away. Clients that log in by
    /// SASL2 (XEP-0388) are told in any case; off is for old ones that fail over what they do not know.
    pub downgrade_protection: bool,
    /// Whether a client with a token may log in by the first bytes of direct TLS (0-RTT, XEP-0484), without any round trip of its own. The
    /// server then remembers TLS sessions, and they end with it: after a restart clients make whole handshakes.
    pub early_data: bool,
    /// Failed attempts a minute after which an account, and an address, must wait.
    pub failures_per_minute_max: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            hashes: vec!["sha-1".into(), "sha-256".into(), "sha-512".into()],
            iterations: 4096,
            plain: true,
            anonymous: Vec::new(),
            downgrade_protection: true,
            early_data: false,
            failures_per_minute_max: 20,
        }
    }
}

impl Auth {
    /// Which keys a new password gets. A hash that [`Config::validate`] refuses is left out.
    pub fn scram_policy(&self) -> ScramPolicy {
        let hashes = self.hashes.iter().filter_map(|name| parse_hash(name));
        ScramPolicy { hashes: hashes.map(|hash| (hash, self.iterations)).collect() }
    }
}

/// `[limits]`: each has its answer written beside it; `config/validate.rs` says how small it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a stanza after authentication; more is `policy-violation`. Advertised by XEP-0478.
    pub stanza_bytes_max: usize,
    /// Bytes of an element before authentication; more is `policy-violation`.
    pub stanza_bytes_max_before_auth: usize,
    /// Elements inside each other; more is `policy-violation`.
    pub depth_max: u16,
    /// Attributes of one element; more is `policy-violation`.
    pub attributes_max: u16,
    /// Elements in one stanza; more is `policy-violation`.
    pub elements_max: u32,
    /// Seconds from the connection to a bound resource; then `connection-timeout`.
    pub login_seconds_max: u64,
    /// Seconds without a byte after which the server asks whether the peer is there. Advertised by XEP-0478.
    pub idle_seconds_max: u64,
    /// Seconds for which a broken stream can be resumed (XEP-0198).
    pub resume_seconds_max: u64,
    /// Stanzas waiting for an acknowledgement; more ends the stream with `policy-violation`.
    pub unacked_stanzas_max: usize,
    /// Bytes waiting to be written to one peer; more ends the connection (the session can be resumed).
    pub unsent_bytes_max: usize,
    /// Sessions of one account; one more is `resource-constraint`.
    pub sessions_per_account_max: usize,
    /// Connections not yet authenticated, all together; one more is closed.
    pub unauthenticated_max: usize,
    /// Connections from one address; one more is closed. 0: no limit.
    pub connections_per_address_max: usize,
    /// Messages kept for an account that is offline; one more is `resource-constraint` to the sender.
    pub offline_messages_max: u64,
    /// Contacts in one roster; one more is `resource-constraint`.
    pub roster_items_max: usize,
    /// Bytes of one stored private element or vCard; more is `policy-violation`.
    pub stored_bytes_max: usize,
    /// Bytes a second that one connection may send on average; faster is read slower. 0: no limit.
    pub bytes_per_second_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanza_bytes_max: 256 * 1024,
            stanza_bytes_max_before_auth: 16 * 1024,
            depth_max: 64,
            attributes_max: 64,
            elements_max: 8192,
            login_seconds_max: 30,
            idle_seconds_max: 300,
            resume_seconds_max: 300,
            unacked_stanzas_max: 4096,
            unsent_bytes_max: 4 * 1024 * 1024,
            sessions_per_account_max: 32,
            unauthenticated_max: 10_000,
            connections_per_address_max: 0,
            offline_messages_max: 10_000,
            roster_items_max: 5_000,
            stored_bytes_max: 256 * 1024,
            bytes_per_second_max: 0,
        }
    }
}

/// `[contact]`: addresses as URIs (`mailto:…`, `xmpp:…`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// To report abuse.
    pub abuse: Vec<String>,
    /// Who administers the server.
    pub admin: Vec<String>,
    /// For praise and wishes.
    pub feedback: Vec<String>,
    /// To buy something.
    pub sales: Vec<String>,
    /// To report a weakness.
    pub security: Vec<String>,
    /// Where disturbances are announced.
    pub status: Vec<String>,
    /// For help.
    pub support: Vec<String>,
}

/// `[reports]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reports {
    /// Whether each report is sent to the `admins` as a message. All are kept in any case: `magpie report list`.
    pub notify_admins: bool,
}

/// One `[[external_service]]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalService {
    /// What it is: `stun`, `stuns`, `turn`, `turns`, or another type of XEP-0215's registry.
    pub kind: String,
    /// Its name or address.
    pub host: String,
    /// Its port.
    #[serde(default)]
    pub port: Option<u16>,
    /// Over what it is reached.
    #[serde(default)]
    pub transport: Option<ServiceTransport>,
    /// Its name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret that a TURN server shares with this one (coturn: `use-auth-secret`, `static-auth-secret`): each user gets a
    /// password of their own, for a while. Empty: none.
    #[serde(default)]
    pub secret: String,
    /// A username that is the same for all, in place of a secret. Empty: none.
    #[serde(default)]
    pub username: String,
    /// Its password.
    #[serde(default)]
    pub password: String,
    /// Seconds for which a password is valid that is made of the secret.
    #[serde(default = "a_day")]
    pub seconds: u64,
}

/// Long enough for the longest call, as coturn's manual has it.
fn a_day() -> u64 {
    24 * 60 * 60
}

impl fmt::Debug for ExternalService {
    /// Without secret and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalService").field("kind", &self.kind).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Over what a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceTransport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

impl fmt::Display for ServiceTransport {
    /// As on the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// `[privacy]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Privacy {
    /// Whether an IQ request to a full JID is delivered though its sender may not see the recipient's presence. `false` is what
    /// RFC 6121 §8.5.3.1 recommends; file transfers and calls with people who are not in the roster then fail.
    pub strangers_may_ask: bool,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { strangers_may_ask: true }
    }
}

/// `[archive]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// Whether messages are kept, so that every device of an account finds all of them. What is there already stays readable.
    pub enabled: bool,
    /// Days after which messages are forgotten, a calendar month at a time; 0: never. An account may have fewer: `magpie user
    /// retention`.
    pub keep_days: u32,
    /// Domains whose messages have an age of their own.
    pub domain: Vec<ArchiveOfDomain>,
}

impl Archive {
    /// As [`Archive::keep_days`], of a domain.
    pub fn keep_days_of(&self, domain: &str) -> u32 {
        self.domain.iter().find(|of| of.domain == domain).map_or(self.keep_days, |of| of.keep_days)
    }
}

/// One `[[archive.domain]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveOfDomain {
    /// A served domain.
    pub domain: String,
    /// Days after which its messages are forgotten, a calendar month at a time; 0: never.
    pub keep_days: u32,
}

impl Default for Archive {
    fn default() -> Self {
        Self { enabled: true, keep_days: 0, domain: Vec::new() }
    }
}

/// `[push]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// Whether they are told from whom a message is.
    pub sender: bool,
    /// Whether they are told what it says. Of an encrypted message nobody is told.
    pub body: bool,
    /// What they are told in place of that, by which some know that there is something to show. Empty: nothing.
    pub text: String,
}

impl Default for Push {
    fn default() -> Self {
        Self { sender: false, body: false, text: "New message".into() }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Loopback address of `/metrics`, `/healthz` and `/readyz`; empty: none.
    pub address: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { address: "127.0.0.1:5290".into() }
    }
}
