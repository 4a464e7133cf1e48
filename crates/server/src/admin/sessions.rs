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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use magpie_store::{Batch, Store};
    use serde_json::json;

    use super::*;
    use crate::accounts::owner;
    use crate::admin::{Context, run};
    use crate::config::Config;
    use crate::roster::Item;
    use crate::subscription::{State, Subscription};

    #[tokio::test]
    async fn a_removal_by_the_administrator_cancels_the_subscriptions_at_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            domains: vec!["example.org".into()],
            data: folder.path().to_owned(),
            listen: Vec::new(),
            metrics: crate::config::Metrics { address: String::new() },
            ..Config::default()
        };
        let store = Store::memory();
        let server = Server::start(config, store.clone()).await.unwrap();
        let (romeo, juliet) =
            (BareJid::parse("romeo@example.org").unwrap(), BareJid::parse("juliet@example.org").unwrap());
        let rosters = store.map::<Item>("roster");
        let mut batch = Batch::new();
        for (account, contact) in [(&romeo, &juliet), (&juliet, &romeo)] {
            server.deps.accounts.create(account, "secret").await.unwrap();
            let state = State { subscription: Subscription::Both, ..State::default() };
            let item = Item { state, ..Item::new(contact.clone()) };
            rosters.put(&mut batch, &owner(account), contact.as_str(), &item);
        }
        store.commit(batch).await.unwrap();

        let context = Context::of_server(&server);
        let remove = || run(&context, "user_remove", json!({ "jid": "romeo@example.org" }));
        remove().await.unwrap();

        let left = rosters.get(&owner(&juliet), romeo.as_str()).await.unwrap().unwrap();
        assert_eq!(left.state, State::default());
        assert_eq!(rosters.list(&owner(&romeo)).await.unwrap().len(), 0);
        assert!(!server.deps.accounts.exists(&romeo).await.unwrap());
        assert_eq!(remove().await.unwrap_err().kind, crate::admin::ErrorKind::NotFound);
    }
}
