//! What a configuration must fulfil beyond its types, each with the reason and the way out.

mod services;
mod terms;

use std::net::{IpAddr, SocketAddr};

use magpie_proto::jid::{BareJid, parse_domain};
use magpie_proto::sasl::Hash;

use super::{Config, HASHES, ListenKind, TlsMode, parse_hash};

/// RFC 6120 §13.12: a server must take stanzas of this size.
const STANZA_BYTES_MIN: usize = 10_000;
/// A SASL message with a signed token can be as long as this.
const STANZA_BYTES_MIN_BEFORE_AUTH: usize = 4096;
/// RFC 5802 §5.1
const ITERATIONS_MIN: u32 = 4096;
/// A client computes as many rounds as the server says: more would keep a telephone busy for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;

/// A value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which key, from the top: `limits.depth_max`, `listen[1].tls`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// All that is wrong, in the order of the keys; empty where the server can run with it.
    pub fn validate(&self) -> Vec<ConfigError> {
        let mut check = Check { config: self, served: Vec::new(), errors: Vec::new() };
        check.domains();
        check.data();
        check.admins();
        check.listeners();
        check.certificates();
        check.moved();
        check.archive();
        check.invites();
        check.auth();
        check.limits();
        check.contact();
        check.external_services();
        check.terms();
        check.metrics();
        check.errors
    }

    /// Validates, and gives domains and addresses the form in which stanzas carry them (RFC 7622).
    pub fn prepared(mut self) -> Result<Self, Vec<ConfigError>> {
        let errors = self.validate();
        if !errors.is_empty() {
            return Err(errors);
        }
        let domains = self.domains.iter_mut().chain(&mut self.auth.anonymous);
        let domains = domains.chain(self.certificate.iter_mut().map(|certificate| &mut certificate.domain));
        let domains = domains.chain(self.archive.domain.iter_mut().map(|of| &mut of.domain));
        for domain in domains.chain(self.moved.iter_mut().map(|moved| &mut moved.domain)) {
            if let Ok(prepared) = parse_domain(domain) {
                *domain = prepared;
            }
        }
        for admin in &mut self.admins {
            if let Ok(prepared) = BareJid::parse(admin) {
                *admin = prepared.to_string();
            }
        }
        Ok(self)
    }
}

struct Check<'a> {
    config: &'a Config,
    /// The served domains, prepared.
    served: Vec<String>,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(ConfigError { key: key.into(), message: message.into(), help: Some(help.into()) });
    }

    fn domains(&mut self) {
        if self.config.domains.is_empty() {
            self.refuse("domains", "no domain is served", "name at least one, as in domains = [\"example.org\"]");
        }
        for (index, domain) in self.config.domains.iter().enumerate() {
            let key = format!("domains[{index}]");
            match parse_domain(domain) {
                Err(_) => self.refuse(key, format!("\"{domain}\" is no domain"), "write a name as example.org"),
                Ok(prepared) if self.served.contains(&prepared) => {
                    self.refuse(key, format!("{prepared} is there twice"), "remove one of them");
                }
                Ok(prepared) => self.served.push(prepared),
            }
        }
    }

    fn data(&mut self) {
        // It would be the folder of the file, and only its owner could read it any more.
        if self.config.data.as_os_str().is_empty() {
            self.refuse("data", "no folder is named", "name one, as magpie-data or /var/lib/magpie");
        }
    }

    /// Refuses a domain that is not served.
    fn must_be_served(&mut self, key: String, domain: &str) {
        if parse_domain(domain).is_ok_and(|prepared| self.served.contains(&prepared)) {
            return;
        }
        let help = format!("add it to domains, or write one of: {}", self.served.join(", "));
        self.refuse(key, format!("\"{domain}\" is not a served domain"), help);
    }

    fn admins(&mut self) {
        for (index, admin) in self.config.admins.iter().enumerate() {
            let key = format!("admins[{index}]");
            match BareJid::parse(admin) {
                Ok(jid) if jid.local().is_some() => {}
                _ => self.refuse(
                    key,
                    format!("\"{admin}\" is no account"),
                    "write an address without a resource, as juliet@example.org",
                ),
            }
        }
    }

    fn listeners(&mut self) {
        let listeners = &self.config.listen;
        if listeners.is_empty() {
            self.refuse(
                "listen",
                "nobody could connect",
                "add a [[listen]], or remove the key to get the default ones",
            );
        }
        for (index, listen) in listeners.iter().enumerate() {
            let earlier = listeners[..index].iter().find(|earlier| overlap(earlier.address, listen.address));
            if let Some(earlier) = earlier {
                let message = format!("{} is taken by the listener on {}", listen.address, earlier.address);
                self.refuse(format!("listen[{index}].address"), message, "give it another port, or remove one of them");
            }
            if listen.tls == TlsMode::Optional {
                let key = format!("listen[{index}].tls");
                if listen.kind != ListenKind::C2s {
                    let help = "remove the line, or write kind = \"c2s\"";
                    self.refuse(key, format!("on a listener of kind {} there is no choice", listen.kind), help);
                } else if !listen.address.ip().is_loopback() && !listen.force {
                    self.refuse(
                        key,
                        format!("passwords could cross the network in the clear: {} is not loopback", listen.address),
                        "write tls = \"required\", listen on 127.0.0.1, or add force = true if you know why",
                    );
                }
            }
        }
    }

    fn certificates(&mut self) {
        for (index, certificate) in self.config.certificate.iter().enumerate() {
            let key = format!("certificate[{index}].domain");
            self.must_be_served(key.clone(), &certificate.domain);
            let prepared = parse_domain(&certificate.domain);
            let earlier = &self.config.certificate[..index];
            if prepared.is_ok() && earlier.iter().any(|earlier| parse_domain(&earlier.domain) == prepared) {
                self.refuse(key, format!("{} has two certificates", certificate.domain), "remove one of them");
            }
            for (name, path) in [("chain", &certificate.chain), ("key", &certificate.key)] {
                if path.as_os_str().is_empty() {
                    self.refuse(format!("certificate[{index}].{name}"), "no file is named", "name a PEM file");
                }
            }
        }
    }

    fn moved(&mut self) {
        for (index, moved) in self.config.moved.iter().enumerate() {
            let key = format!("moved[{index}].domain");
            match parse_domain(&moved.domain) {
                Err(_) => {
                    self.refuse(key, format!("\"{}\" is no domain", moved.domain), "write a name as example.org");
                }
                Ok(prepared) if self.served.contains(&prepared) => {
                    let help = "remove it from domains, or remove this [[moved]]";
                    self.refuse(key, format!("{prepared} is served here"), help);
                }
                Ok(prepared) => {
                    let earlier = &self.config.moved[..index];
                    if earlier.iter().any(|earlier| parse_domain(&earlier.domain).as_ref() == Ok(&prepared)) {
                        self.refuse(key, format!("{prepared} is there twice"), "remove one of them");
                    }
                }
            }
            if !is_host(&moved.to) {
                let message = format!("\"{}\" is no host", moved.to);
                let help = "write a name or an address, as xmpp.example.org, 192.0.2.1:5222 or [2001:db8::1]:5222";
                self.refuse(format!("moved[{index}].to"), message, help);
            }
        }
    }

    fn archive(&mut self) {
        for (index, of) in self.config.archive.domain.iter().enumerate() {
            let key = format!("archive.domain[{index}].domain");
            let prepared = parse_domain(&of.domain).ok().filter(|domain| self.served.contains(domain));
            let Some(prepared) = prepared else {
                let message = format!("\"{}\" is not a served domain", of.domain);
                self.refuse(key, message, "name one of domains");
                continue;
            };
            let earlier = &self.config.archive.domain[..index];
            if earlier.iter().any(|earlier| parse_domain(&earlier.domain).as_ref() == Ok(&prepared)) {
                self.refuse(key, format!("{prepared} is there twice"), "remove one of them");
            }
        }
    }

    fn auth(&mut self) {
        let auth = &self.config.auth;
        let known = HASHES.map(|(name, _)| name).join(", ");
        if auth.hashes.is_empty() {
            self.refuse("auth.hashes", "no password could be checked", format!("name at least one of: {known}"));
        }
        let mut seen: Vec<Hash> = Vec::new();
        for (index, name) in auth.hashes.iter().enumerate() {
            let key = format!("auth.hashes[{index}]");
            match parse_hash(name) {
                None => self.refuse(key, format!("\"{name}\" is no known hash"), format!("known are: {known}")),
                Some(hash) if seen.contains(&hash) => {
                    self.refuse(key, format!("{name} is there twice"), "remove one of them");
                }
                Some(hash) => seen.push(hash),
            }
        }
        if auth.iterations < ITERATIONS_MIN {
            let message = format!("{} rounds are too few (RFC 5802 §5.1)", auth.iterations);
            self.refuse("auth.iterations", message, format!("write at least {ITERATIONS_MIN}"));
        } else if auth.iterations > ITERATIONS_MAX {
            let message = format!("{} rounds would keep clients busy for minutes", auth.iterations);
            self.refuse("auth.iterations", message, format!("write at most {ITERATIONS_MAX}"));
        }
        for (index, domain) in auth.anonymous.iter().enumerate() {
            self.must_be_served(format!("auth.anonymous[{index}]"), domain);
        }
        if auth.failures_per_minute_max == 0 {
            let help = "write at least 1; registration and the number of connections have limits of their own";
            self.refuse("auth.failures_per_minute_max", "nobody could mistype a password", help);
        }
    }

    fn limits(&mut self) {
        let limits = &self.config.limits;
        let at_least: [(&str, u64, u64, &str); 15] = [
            ("stanza_bytes_max", limits.stanza_bytes_max as u64, STANZA_BYTES_MIN as u64, "RFC 6120 §13.12 demands it"),
            (
                "stanza_bytes_max_before_auth",
                limits.stanza_bytes_max_before_auth as u64,
                STANZA_BYTES_MIN_BEFORE_AUTH as u64,
                "an authentication can need as much",
            ),
            ("depth_max", limits.depth_max.into(), 8, "ordinary payloads are as deep"),
            ("attributes_max", limits.attributes_max.into(), 8, "ordinary payloads have as many"),
            ("elements_max", limits.elements_max.into(), 64, "ordinary payloads have as many"),
            ("login_seconds_max", limits.login_seconds_max, 1, "nobody could log in"),
            ("idle_seconds_max", limits.idle_seconds_max, 1, "every stream would be asked at once"),
            ("unacked_stanzas_max", limits.unacked_stanzas_max as u64, 1, "no stream could be managed (XEP-0198)"),
            ("sessions_per_account_max", limits.sessions_per_account_max as u64, 1, "nobody could log in"),
            ("unauthenticated_max", limits.unauthenticated_max as u64, 1, "nobody could log in"),
            (
                "unsent_bytes_max",
                limits.unsent_bytes_max as u64,
                limits.stanza_bytes_max as u64,
                "a stanza of stanza_bytes_max must fit",
            ),
            ("roster_items_max", limits.roster_items_max as u64, 1, "nobody could have a contact"),
            ("stored_bytes_max", limits.stored_bytes_max as u64, 1024, "no vCard would fit"),
            ("bytes_per_second_max", limits.bytes_per_second_max, 0, ""),
            ("connections_per_address_max", limits.connections_per_address_max as u64, 0, ""),
        ];
        for (name, value, min, reason) in at_least {
            if value < min {
                let message = format!("{value} is too small: {reason}");
                self.refuse(format!("limits.{name}"), message, format!("write at least {min}"));
            }
        }
        // Slower than this, one stanza of the smallest allowed limit takes longer than a client waits for an answer.
        if (1..1000).contains(&limits.bytes_per_second_max) {
            let message = format!("{} bytes a second are too slow to chat", limits.bytes_per_second_max);
            self.refuse("limits.bytes_per_second_max", message, "write at least 1000, or 0 for no limit");
        }
        let users = limits.stanza_bytes_max;
        if users >= STANZA_BYTES_MIN && limits.stanza_bytes_max_before_auth > users {
            let message = "strangers may send more at once than users";
            let help = format!("write at most stanza_bytes_max, which is {}", limits.stanza_bytes_max);
            self.refuse("limits.stanza_bytes_max_before_auth", message, help);
        }
    }

    fn contact(&mut self) {
        let contact = &self.config.contact;
        let lists = [
            ("abuse", &contact.abuse),
            ("admin", &contact.admin),
            ("feedback", &contact.feedback),
            ("sales", &contact.sales),
            ("security", &contact.security),
            ("status", &contact.status),
            ("support", &contact.support),
        ];
        for (name, uris) in lists {
            for (index, uri) in uris.iter().enumerate() {
                if !is_uri(uri) {
                    self.refuse(
                        format!("contact.{name}[{index}]"),
                        format!("\"{uri}\" is no URI"),
                        "write the kind of address before it, as mailto:abuse@example.org or xmpp:admin@example.org",
                    );
                }
            }
        }
    }

    fn metrics(&mut self) {
        let address = &self.config.metrics.address;
        if address.is_empty() {
            return;
        }
        match address.parse::<SocketAddr>() {
            Err(_) => {
                let help = "write 127.0.0.1:5290, or \"\" for none";
                self.refuse("metrics.address", format!("\"{address}\" is no address with a port"), help);
            }
            Ok(address) if !address.ip().is_loopback() => self.refuse(
                "metrics.address",
                format!("{address} is not loopback, and there is no access control on metrics"),
                "write 127.0.0.1:5290, and let a proxy on this machine decide who may read them",
            ),
            Ok(address) => {
                // A listener on [::] takes IPv4 connections as well, unless another listener has them.
                let both = |listen: SocketAddr| listen.is_ipv6() && any(listen.ip()) && listen.port() == address.port();
                let taken =
                    self.config.listen.iter().find(|listen| overlap(listen.address, address) || both(listen.address));
                if let Some(listen) = taken {
                    let message = format!("{address} is taken by the listener on {}", listen.address);
                    self.refuse("metrics.address", message, "give it another port");
                }
            }
        }
    }
}

/// Whether the system would refuse to bind both.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // The system chooses a free port for each 0.
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.is_ipv4() == other.is_ipv4() && (any(one.ip()) || any(other.ip())))
}

fn any(address: IpAddr) -> bool {
    address.is_unspecified()
}

/// RFC 6120 §4.9.3.19: a name or an address, with a port where it is not the usual one; IPv6 in brackets.
fn is_host(text: &str) -> bool {
    if text.starts_with('[') {
        let address = text.strip_suffix(']').map_or(text.to_owned(), |_| format!("{text}:0"));
        return address.parse::<SocketAddr>().is_ok();
    }
    let host = match text.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) => return false,
        None => text,
    };
    parse_domain(host).is_ok()
}

/// RFC 3986 §3: a scheme, a colon, something; no spaces.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && !rest.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn wrong(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        let errors = config.validate();
        assert!(errors.iter().all(|error| error.help.is_some()));
        errors.into_iter().map(|error| error.to_string()).collect()
    }

    fn listen(address: &str, kind: ListenKind, tls: TlsMode) -> Listen {
        Listen { address: address.parse().expect("an address"), kind, tls, force: false }
    }

    #[test]
    fn the_default_is_right() {
        assert_eq!(wrong(|_| {}), [""; 0]);
    }

    #[test]
    fn domains_must_be_domains_and_there_once() {
        assert_eq!(wrong(|config| config.domains.clear()), ["domains: no domain is served"]);
        let twice = wrong(|config| config.domains = vec!["example.org".into(), "Example.ORG".into()]);
        assert_eq!(twice, ["domains[1]: example.org is there twice"]);
        let spaces = wrong(|config| config.domains = vec!["example.org".into(), "a b".into()]);
        assert_eq!(spaces, ["domains[1]: \"a b\" is no domain"]);
    }

    #[test]
    fn administrators_are_accounts() {
        for admin in ["example.org", "juliet@example.org/balcony", "@"] {
            assert_eq!(
                wrong(|config| config.admins = vec![admin.into()]),
                [format!("admins[0]: \"{admin}\" is no account")]
            );
        }
        assert_eq!(wrong(|config| config.admins = vec!["juliet@example.org".into()]), [""; 0]);
    }

    #[test]
    fn plain_text_stays_on_the_machine_unless_forced() {
        let open = listen("0.0.0.0:5222", ListenKind::C2s, TlsMode::Optional);
        let errors = wrong(|config| config.listen = vec![open.clone()]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("listen[0].tls: passwords could cross the network"), "{errors:?}");
        assert_eq!(wrong(|config| config.listen = vec![Listen { force: true, ..open }]), [""; 0]);
        for loopback in ["127.0.0.1:5222", "[::1]:5222"] {
            let listen = listen(loopback, ListenKind::C2s, TlsMode::Optional);
            assert_eq!(wrong(|config| config.listen = vec![listen]), [""; 0]);
        }
        let direct = listen("127.0.0.1:5223", ListenKind::C2sTls, TlsMode::Optional);
        let errors = wrong(|config| config.listen = vec![direct]);
        assert_eq!(errors, ["listen[0].tls: on a listener of kind c2s-tls there is no choice"]);
    }

    #[test]
    fn listeners_do_not_take_each_others_addresses() {
        let pair = |one: &str, other: &str| {
            let listen = |address| listen(address, ListenKind::C2s, TlsMode::Required);
            wrong(|config| config.listen = vec![listen(one), listen(other)]).len()
        };
        assert_eq!(pair("127.0.0.1:5222", "127.0.0.1:5222"), 1);
        assert_eq!(pair("0.0.0.0:5222", "127.0.0.1:5222"), 1);
        assert_eq!(pair("127.0.0.1:5222", "0.0.0.0:5222"), 1);
        assert_eq!(pair("127.0.0.1:5222", "127.0.0.2:5222"), 0);
        assert_eq!(pair("0.0.0.0:5222", "[::1]:5222"), 0);
        assert_eq!(pair("127.0.0.1:0", "127.0.0.1:0"), 0);
        assert_eq!(wrong(|config| config.listen.clear()), ["listen: nobody could connect"]);
    }

    #[test]
    fn certificates_are_for_served_domains_once_each() {
        let certificate =
            |domain: &str| Certificate { domain: domain.into(), chain: "a.pem".into(), key: "b.pem".into() };
        let errors = wrong(|config| config.certificate = vec![certificate("localhost"), certificate("other.example")]);
        assert_eq!(errors, ["certificate[1].domain: \"other.example\" is not a served domain"]);
        let errors = wrong(|config| config.certificate = vec![certificate("localhost"), certificate("LOCALHOST")]);
        assert_eq!(errors, ["certificate[1].domain: LOCALHOST has two certificates"]);
        let empty = Certificate { key: "".into(), ..certificate("localhost") };
        assert_eq!(wrong(|config| config.certificate = vec![empty]), ["certificate[0].key: no file is named"]);
    }

    #[test]
    fn an_archive_has_an_age_for_served_domains_once_each() {
        let of = |domain: &str| ArchiveOfDomain { domain: domain.into(), keep_days: 7 };
        let errors = |domains: &[&str]| {
            wrong(|config| config.archive.domain = domains.iter().map(|domain| of(domain)).collect())
        };
        assert_eq!(errors(&["localhost"]), [""; 0]);
        assert_eq!(errors(&["other.example"]), ["archive.domain[0].domain: \"other.example\" is not a served domain"]);
        assert_eq!(errors(&["localhost", "LOCALHOST"]), ["archive.domain[1].domain: localhost is there twice"]);
    }

    #[test]
    fn a_moved_domain_is_not_served_here_and_says_where_it_is() {
        let moved = |domain: &str, to: &str| Moved { domain: domain.into(), to: to.into() };
        for to in [
            "xmpp.example.org",
            "xmpp.example.org:5223",
            "192.0.2.1",
            "192.0.2.1:5222",
            "[2001:db8::1]",
            "[2001:db8::1]:1",
        ] {
            assert_eq!(wrong(|config| config.moved = vec![moved("old.example", to)]), [""; 0], "{to}");
        }
        for to in ["", "a b", "2001:db8::1", "xmpp.example.org:99999", "[2001:db8::1", ":5222"] {
            let errors = wrong(|config| config.moved = vec![moved("old.example", to)]);
            assert_eq!(errors, [format!("moved[0].to: \"{to}\" is no host")]);
        }
        let errors = wrong(|config| config.moved = vec![moved("localhost", "a.example"), moved("a b", "a.example")]);
        assert_eq!(errors, ["moved[0].domain: localhost is served here", "moved[1].domain: \"a b\" is no domain"]);
        let errors =
            wrong(|config| config.moved = vec![moved("b.example", "a.example"), moved("B.example", "a.example")]);
        assert_eq!(errors, ["moved[1].domain: b.example is there twice"]);
    }

    #[test]
    fn authentication_is_with_known_hashes_and_enough_rounds() {
        assert_eq!(wrong(|config| config.auth.iterations = 4095).len(), 1);
        assert_eq!(wrong(|config| config.auth.iterations = 10_000_001).len(), 1);
        assert_eq!(
            wrong(|config| config.auth.hashes = vec!["md5".into()]),
            ["auth.hashes[0]: \"md5\" is no known hash"]
        );
        let twice = wrong(|config| config.auth.hashes = vec!["sha-1".into(), "sha-1".into()]);
        assert_eq!(twice, ["auth.hashes[1]: sha-1 is there twice"]);
        assert_eq!(wrong(|config| config.auth.hashes.clear()).len(), 1);
        assert_eq!(wrong(|config| config.auth.anonymous = vec!["guest.example".into()]).len(), 1);
        assert_eq!(wrong(|config| config.auth.failures_per_minute_max = 0).len(), 1);
    }

    #[test]
    fn limits_leave_room_for_the_protocol() {
        let errors = wrong(|config| config.limits.stanza_bytes_max = 9_999);
        assert_eq!(errors, ["limits.stanza_bytes_max: 9999 is too small: RFC 6120 §13.12 demands it"]);
        // What strangers may send no longer fits below it.
        let errors = wrong(|config| config.limits.stanza_bytes_max = 10_000);
        assert_eq!(errors, ["limits.stanza_bytes_max_before_auth: strangers may send more at once than users"]);
        assert_eq!(wrong(|config| config.limits.bytes_per_second_max = 999).len(), 1);
        assert_eq!(wrong(|config| config.limits.unsent_bytes_max = 1000).len(), 1);
        assert_eq!(wrong(|config| config.limits.sessions_per_account_max = 0).len(), 1);
    }

    #[test]
    fn contacts_are_uris() {
        for (text, errors) in [("mailto:abuse@example.org", 0), ("abuse@example.org", 1), (":x", 1), ("xmpp:", 1)] {
            assert_eq!(wrong(|config| config.contact.abuse = vec![text.into()]).len(), errors, "{text}");
        }
    }

    #[test]
    fn metrics_stay_on_the_machine() {
        assert_eq!(wrong(|config| config.metrics.address.clear()), [""; 0]);
        for address in ["0.0.0.0:5290", "5290", "127.0.0.1:5222"] {
            assert_eq!(wrong(|config| config.metrics.address = address.into()).len(), 1, "{address}");
        }
    }

    #[test]
    fn preparing_gives_domains_and_accounts_their_form_in_stanzas() {
        let config = Config {
            domains: vec!["Example.ORG".into()],
            admins: vec!["Juliet@Example.ORG".into()],
            auth: Auth { anonymous: vec!["EXAMPLE.org".into()], ..Auth::default() },
            ..Config::default()
        };
        let prepared = config.prepared().expect("nothing is wrong with it");
        assert_eq!(prepared.domains, ["example.org"]);
        assert_eq!(prepared.admins, ["juliet@example.org"]);
        assert_eq!(prepared.auth.anonymous, ["example.org"]);
        assert!(Config { domains: vec![], ..Config::default() }.prepared().is_err());
    }
}
