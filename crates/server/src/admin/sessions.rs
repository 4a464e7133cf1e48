//! The running server as the operations see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, Jid, StreamCondition, StreamError, ns};

use super::{Ending, Removing, SessionLine, Sessions};
use crate::config::ListenKind;
use crate::mailbox::Mail;
use crate::modules::bind2;
use crate::modules::invites::Invite;
use crate::modules::muc::Muc;
use crate::modules::notices::Notice;
use crate::news;
use crate::registry::SessionHandle;
use crate::server::{Server, random_text};

/// Sessions that take longer to end are stuck.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// How often is looked whether they have ended.
const LOOKED_EVERY: Duration = Duration::from_millis(10);

impl Sessions for Server {
    fn remove_account(self: Arc<Self>, account: BareJid) -> Option<Removing> {
        Some(Box::pin(async move { self.modules.register.remove(&self, &account).await }))
    }

    fn end_all(self: Arc<Self>, account: BareJid) -> Ending {
        Box::pin(async move {
            news::account_emptied(&self, &account);
            let deadline = tokio::time::Instant::now() + ENDED_WITHIN;
            while !self.registry().sessions(&account).is_empty() {
                if tokio::time::Instant::now() > deadline {
                    return false;
                }
                tokio::time::sleep(LOOKED_EVERY).await;
            }
            // What the last of them had put by.
            news::account_emptied(&self, &account);
            true
        })
    }

    fn on_account_removed(&self, account: &BareJid) {
        news::account_removed(self, account);
    }

    fn on_account_imported(&self, account: &BareJid) {
        self.modules.archive_preferences.look_again(account);
    }

    fn on_account_replaced(&self, account: &BareJid) {
        news::account_replaced(self, account);
    }

    fn on_account_disabled(&self, account: &BareJid) {
        news::account_disabled(self, account);
    }

    fn on_motd_changed(self: Arc<Self>, host: &str, notice: Option<Notice>) {
        self.modules.notices.motd_changed(&self, host, notice);
    }

    fn on_invite_made(&self, invite: &Invite) {
        self.modules.invites.invite_made(invite);
    }

    fn on_password_changed(&self, account: &BareJid) {
        news::password_changed(self, account, None);
    }

    fn on_clients_revoked(&self, account: &BareJid, clients: &[String]) {
        let ids: Vec<String> = clients.iter().map(|client| self.device_tag(account, client)).collect();
        let error = StreamError::new(StreamCondition::NotAuthorized, "the client's token was taken back");
        for session in self.registry().sessions(account) {
            if ids.iter().any(|id| bind2::is_of(&session, id)) {
                // A session that is ending by itself needs no telling.
                let _ = session.mailbox.put(Mail::End(error.clone()));
            }
        }
    }

    fn count(&self) -> usize {
        self.registry().all().len()
    }

    fn list(&self, account: Option<&BareJid>) -> Vec<SessionLine> {
        let sessions = match account {
            Some(account) => self.registry().sessions(account),
            None => self.registry().all(),
        };
        let line = |session: Arc<SessionHandle>| {
            self.registry().with_resource(&session, |resource| SessionLine {
                jid: session.jid.clone(),
                available: resource.is_available(),
                away: resource.presence.as_ref().is_some_and(is_away),
                priority: resource.priority,
                detached: resource.detached,
            })
        };
        // One that has ended meanwhile is none any more.
        sessions.into_iter().filter_map(line).collect()
    }

    fn end(&self, jid: &Jid) -> usize {
        let mut sessions = self.registry().sessions(&jid.to_bare());
        sessions.retain(|session| jid.resource().is_none_or(|resource| session.jid.resource() == resource));
        let error = StreamError::new(StreamCondition::PolicyViolation, "ended by the administrator");
        for session in &sessions {
            // A session that is ending by itself needs no telling.
            let _ = session.mailbox.put(Mail::End(error.clone()));
        }
        sessions.len()
    }

    fn announce(&self, host: &str, subject: Option<&str>, text: &str) -> usize {
        let element = |name: &str, text: &str| Element::new(name, ns::CLIENT).with_text(text);
        let mut sent = 0;
        for session in self.registry().all().into_iter().filter(|session| session.jid.domain() == host) {
            if self.registry().with_resource(&session, |resource| resource.is_available()) != Some(true) {
                continue;
            }
            let message = Element::new("message", ns::CLIENT)
                .with_attr("type", "headline")
                .with_attr("from", host)
                .with_attr("to", session.jid.as_str())
                .with_attr("id", random_text(6))
                .with_all(subject.map(|subject| element("subject", subject)))
                .with(element("body", text));
            sent += usize::from(session.send(Stanza::new(&message)));
        }
        sent
    }

    fn rooms(&self) -> Option<Arc<Muc>> {
        Some(Arc::clone(&self.modules.muc))
    }

    fn addresses(&self) -> Vec<(ListenKind, SocketAddr)> {
        self.addresses()
    }
}

fn is_away(presence: &Stanza) -> bool {
    let show = presence.child("show", ns::CLIENT).map(|show| show.element().text());
    matches!(show.as_deref(), Some("away" | "xa"))
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
