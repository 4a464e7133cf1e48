//! Stands in for the server crate's `Server` until that starts: listens, and closes what connects.

use std::net::SocketAddr;

use magpie_proto::jid::BareJid;
use magpie_server::admin::{ReloadReport, Sessions};
use magpie_server::config::{Config, ListenKind};
use magpie_store::Store;
use tokio::net::TcpListener;

pub(super) struct Server {
    listeners: Vec<(ListenKind, TcpListener)>,
}

impl Server {
    pub(super) async fn start(config: Config, _: Store) -> Result<Self, std::io::Error> {
        let mut listeners = Vec::new();
        for listen in &config.listen {
            listeners.push((listen.kind, TcpListener::bind(listen.address).await?));
        }
        Ok(Self { listeners })
    }

    pub(super) async fn reload(&self, _: Config) -> ReloadReport {
        ReloadReport::default()
    }

    pub(super) async fn shutdown(&self) {}

    pub(super) fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.listeners.iter().filter_map(|(kind, listener)| Some((*kind, listener.local_addr().ok()?))).collect()
    }
}

impl Sessions for Server {
    fn on_account_removed(&self, _: &BareJid) {}
    fn on_password_changed(&self, _: &BareJid) {}
    fn count(&self) -> usize {
        0
    }
    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.addresses()
    }
}
