//! The running server as the operations see it.

use std::net::SocketAddr;

use magpie_proto::jid::BareJid;
use magpie_proto::{StreamCondition, StreamError};

use super::Sessions;
use crate::config::ListenKind;
use crate::server::Server;

impl Sessions for Server {
    fn on_account_removed(&self, account: &BareJid) {
        // XEP-0077 §3.2: the condition for a stream whose account is cancelled.
        let error = StreamError::new(StreamCondition::NotAuthorized, "the account was removed");
        self.registry().end(account, &error);
    }

    fn on_password_changed(&self, account: &BareJid) {
        let error = StreamError::new(StreamCondition::NotAuthorized, "the password was changed");
        self.registry().end(account, &error);
    }

    fn count(&self) -> usize {
        self.registry().all().len()
    }

    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.addresses()
    }
}
