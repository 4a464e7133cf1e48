//! XEP-0388, 0386, 0484, RFC 8446: how long logging in takes, counted, and what nobody may do by early data.

#![allow(clippy::unwrap_used)]

#[path = "../conversations/runner/sasl.rs"]
#[allow(dead_code)]
mod sasl;
mod ways;
mod wire;

/// What the client of the conversations needs.
mod connection {
    pub(crate) const PASSWORD: &str = "secret";
}

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use magpie_proto::BareJid;
use magpie_server::config::{Config, Listen, ListenKind, TlsMode};
use magpie_server::server::Server;
use magpie_store::Store;
use tokio::runtime::Runtime;

use connection::PASSWORD;
use ways::SASL2;
use wire::{RoundTrips, Wire, tls_client};

struct Host {
    server: Arc<Server>,
    store: Store,
    runtime: Runtime,
    starttls: SocketAddr,
    direct: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(early_data: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listen = |kind| Listen { address: ([127, 0, 0, 1], 0).into(), kind, tls: TlsMode::Required, force: false };
        let mut config = Config { data: folder.path().to_owned(), ..Config::default() };
        config.listen = vec![listen(ListenKind::C2s), listen(ListenKind::C2sTls)];
        config.metrics.address = String::new();
        config.auth.early_data = early_data;
        let store = Store::open(&folder.path().join("data")).unwrap();
        let server = runtime.block_on(Server::start(config, store.clone())).unwrap();
        let juliet = BareJid::parse("juliet@localhost").unwrap();
        runtime.block_on(server.deps.accounts.create(&juliet, PASSWORD)).unwrap();
        let address = |kind| server.addresses().into_iter().find(|(of, _)| *of == kind).unwrap().1;
        let (starttls, direct) = (address(ListenKind::C2s), address(ListenKind::C2sTls));
        Self { server, store, runtime, starttls, direct, _folder: folder }
    }

    /// Logs in, and counts.
    fn measure(&self, log_in: impl FnOnce() -> Wire) -> Row {
        let before = self.store.statistics().reads;
        let wire = log_in();
        let Wire { round_trips, sent, received, .. } = wire;
        Row { round_trips, sent, received, reads: (self.store.statistics().reads - before) as usize }
    }

    fn resources(&self) -> Vec<String> {
        let sessions = self.server.registry().sessions(&BareJid::parse("juliet@localhost").unwrap());
        sessions.iter().map(|session| session.jid.resource().to_owned()).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.runtime.block_on(self.server.shutdown());
    }
}

/// A row of the page: round trips, bytes each way, reads of the store.
#[derive(Debug, PartialEq)]
struct Row {
    round_trips: RoundTrips,
    sent: usize,
    received: usize,
    reads: usize,
}

impl Row {
    /// Signatures and the certificate differ by some bytes each time, features now and then.
    fn agrees_with(&self, other: &Self) -> bool {
        let near = |one: usize, other: usize| one.abs_diff(other) <= other / 20;
        let same = (self.round_trips, self.reads) == (other.round_trips, other.reads);
        same && near(self.sent, other.sent) && near(self.received, other.received)
    }
}

#[test]
fn the_page_on_logins_says_how_many_round_trips_bytes_and_reads_each_takes() {
    let host = Host::start(false);
    let config = tls_client();
    let token = ways::token(host.direct, &config);
    let mut measured = vec![
        ("STARTTLS, SCRAM", host.measure(|| ways::starttls_and_sasl(host.starttls))),
        ("direct TLS, SCRAM", host.measure(|| ways::tls_and_sasl(host.direct, &tls_client()))),
        ("SASL2, Bind 2", host.measure(|| ways::sasl2(host.direct, &tls_client(), false))),
        ("SASL2, Bind 2, pipelined", host.measure(|| ways::sasl2(host.direct, &tls_client(), true))),
    ];
    measured.push(("FAST, TLS resumed", host.measure(|| ways::fast(host.direct, &config, &token))));
    let (host, config) = (Host::start(true), tls_client());
    let token = ways::token(host.direct, &config);
    measured.push(("FAST, 0-RTT", host.measure(|| ways::fast_early(host.direct, &config, &token, 1))));

    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/login.md")).unwrap();
    let written = rows(&page);
    for (name, row) in &measured {
        let RoundTrips { tcp, tls, xmpp } = row.round_trips;
        let all = row.round_trips.all();
        println!("| {name} | {tcp} | {tls} | {xmpp} | {all} | {} | {} | {} |", row.sent, row.received, row.reads);
    }
    for (name, row) in &measured {
        let said = written.get(*name).unwrap_or_else(|| panic!("docs/login.md does not speak of {name}"));
        assert!(row.agrees_with(said), "docs/login.md says of {name} {said:?}, and it is {row:?}");
    }
    assert_eq!(written.len(), measured.len());
    let of = |name: &str| measured.iter().find(|(of, _)| *of == name).unwrap().1.round_trips;
    assert_eq!(of("FAST, TLS resumed").xmpp, 1);
    assert_eq!((of("FAST, 0-RTT").tls, of("FAST, 0-RTT").xmpp), (1, 0));
}

/// The rows of the page's table, by the way to log in.
fn rows(page: &str) -> BTreeMap<String, Row> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells = cells(line);
        let numbers: Vec<usize> = cells.get(2..9)?.iter().map(|cell| cell.parse().ok()).collect::<Option<_>>()?;
        let [tcp, tls, xmpp, all, sent, received, reads] = numbers[..] else { return None };
        let round_trips = RoundTrips { tcp, tls, xmpp };
        assert_eq!(round_trips.all(), all, "{line}");
        Some((cells[1].clone(), Row { round_trips, sent, received, reads }))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn who_sends_a_clients_first_bytes_again_logs_in_as_nobody() {
    let host = Host::start(true);
    let config = tls_client();
    let token = ways::token(host.direct, &config);
    let mut wire = ways::fast_early(host.direct, &config, &token, 1);
    wire.say("<presence/>");
    assert_eq!(wire.hear().name(), "presence");
    let before = host.resources();
    assert_eq!(before.len(), 1);
    let first_flight = wire.first_flight();
    for _ in 0..3 {
        let mut again = Wire::connect(host.direct);
        again.say_as_it_is(&first_flight);
        // The server shakes hands with whoever it is, who cannot go on, and takes nothing of what was said.
        assert!(again.gets_an_answer());
    }
    assert_eq!(host.resources(), before);
    // The session that was there has not noticed.
    wire.say("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(wire.hear().attr("type"), Some("result"));
}

/// What a client gets that says this as early data, after the features.
fn said_early(host: &Host, said: &str) -> magpie_proto::xml::Element {
    let config = tls_client();
    ways::token(host.direct, &config);
    let mut wire = Wire::connect(host.direct);
    wire.protect_and_say(&config, &format!("{}{said}", wire::header()));
    wire.hear();
    let answer = wire.hear();
    assert!(wire.tls().is_early_data_accepted());
    answer
}

#[test]
fn by_early_data_nobody_logs_in_but_with_a_token_and_a_count_that_is_new() {
    let host = Host::start(true);
    let config = tls_client();
    let token = ways::token(host.direct, &config);
    drop(ways::fast_early(host.direct, &config, &token, 2));
    let condition = |said: &str| {
        let failure = said_early(&host, said);
        assert!(failure.is("failure", SASL2), "{failure:?}");
        failure.children().next().unwrap().name().to_owned()
    };
    let by_token = |attributes: &str| ways::by_token(&token, attributes, "");
    for (attributes, expected) in [
        ("", "malformed-request"),
        (" count='x'", "malformed-request"),
        (" count='-1'", "malformed-request"),
        (" count='0'", "not-authorized"),
        (" count='2'", "not-authorized"),
        (" count='1'", "not-authorized"),
    ] {
        // The token that `said_early` asks for goes to the same client: the one in use stays good until that is used.
        assert_eq!(condition(&by_token(attributes)), expected, "{attributes}");
    }
    let plain = ways::authenticate("PLAIN", "AGp1bGlldABzZWNyZXQ=", "");
    assert_eq!(condition(&plain), "temporary-auth-failure");
    for other in [
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABzZWNyZXQ=</auth>",
        "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>",
        "<message/>",
    ] {
        let error = said_early(&host, other);
        assert_eq!(error.children().next().unwrap().name(), "policy-violation", "{other}");
    }
    assert!(host.resources().is_empty());
}

#[test]
fn a_client_may_say_more_behind_its_login_and_go_on_once_the_handshake_has_ended() {
    let host = Host::start(true);
    let config = tls_client();
    let token = ways::token(host.direct, &config);
    let mut wire = Wire::connect(host.direct);
    let bind = "<bind xmlns='urn:xmpp:bind:0'/>";
    let login = ways::by_token(&token, " count='1'", bind);
    wire.protect_and_say(&config, &format!("{}{login}<presence/>", wire::header()));
    let names: Vec<String> = (0..4).map(|_| wire.hear().name().to_owned()).collect();
    assert_eq!(names, ["features", "success", "features", "presence"]);
    assert_eq!(wire.round_trips, RoundTrips { tcp: 1, tls: 1, xmpp: 0 });
    wire.say("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(wire.hear().attr("type"), Some("result"));
}

#[test]
fn without_the_setting_nobody_may_send_early_data_and_with_it_starttls_goes_without() {
    let fast = |address, config: &_| {
        let mut wire = Wire::connect(address);
        wire.protect(config);
        wire.open("");
        let features = wire.hear();
        let inline = features.child("authentication", SASL2).unwrap().child("inline", SASL2).unwrap();
        inline.child("fast", ways::FAST).unwrap().attr("tls-0rtt").map(str::to_owned)
    };
    let (config, on) = (tls_client(), Host::start(true));
    assert_eq!(fast(on.direct, &config).as_deref(), Some("true"));
    let (config, off) = (tls_client(), Host::start(false));
    assert_eq!(fast(off.direct, &config), None);
    let token = ways::token(off.direct, &config);
    let resumed = ways::fast(off.direct, &config, &token);
    assert_eq!(resumed.tls().handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert!(!Wire::may_send_early_data(&config));
    let config = tls_client();
    ways::token(on.direct, &config);
    assert!(Wire::may_send_early_data(&config));
}
