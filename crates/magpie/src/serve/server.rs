//! The running server, as administration sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use magpie_proto::jid::BareJid;
use magpie_server::StartError;
use magpie_server::admin::{ReloadReport, Sessions};
use magpie_server::config::{Config, ListenKind};
use magpie_store::Store;

pub(super) struct Server(Arc<magpie_server::Server>);

impl Server {
    pub(super) async fn start(config: Config, store: Store) -> Result<Self, StartError> {
        Ok(Self(magpie_server::Server::start(config, store).await?))
    }

    pub(super) async fn reload(&self, new: Config) -> ReloadReport {
        self.0.reload(new).await
    }

    pub(super) async fn shutdown(&self) {
        self.0.shutdown().await;
    }

    pub(super) fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.0.addresses()
    }
}

impl Sessions for Server {
    fn on_account_removed(&self, _: &BareJid) {}
    fn on_password_changed(&self, _: &BareJid) {}
    fn count(&self) -> usize {
        self.0.registry().all().len()
    }
    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.0.addresses()
    }
}
