//! The configuration of a server in a test.

use std::path::Path;

use magpie_server::config::{Config, Listen, ListenKind, TlsMode};

/// Clients without TLS on a port of its own, and nothing else.
pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.listen = vec![Listen {
        address: ([127, 0, 0, 1], 0).into(),
        kind: ListenKind::C2s,
        tls: TlsMode::Optional,
        force: false,
    }];
    config.metrics.address.clear();
    config
}
