//! The running server as the operations see it.

use std::net::SocketAddr;
use std::sync::Arc;

use magpie_proto::jid::BareJid;

use super::{Removing, Sessions};
use crate::config::ListenKind;
use crate::news;
use crate::server::Server;

impl Sessions for Server {
    fn remove_account(self: Arc<Self>, account: BareJid) -> Option<Removing> {
        Some(Box::pin(async move { self.modules.register.remove(&self, &account).await }))
    }

    fn on_account_removed(&self, account: &BareJid) {
        news::account_removed(self, account);
    }

    fn on_password_changed(&self, account: &BareJid) {
        news::password_changed(self, account, None);
    }

    fn count(&self) -> usize {
        self.registry().all().len()
    }

    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.addresses()
    }
}
