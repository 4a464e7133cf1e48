//! XEP-0133: Service Administration §4.21 to §4.25: the message of the day and the welcome
//!
//! What the administrators of a domain let everybody know: a message of the day, which each user gets once, now or when next
//! available; and a welcome, which waits for whoever makes an account. Most servers have neither, and then nothing is asked.

use std::collections::HashMap;
use std::sync::Arc;

use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, ns};
use magpie_store::{Batch, Record, Store, StoreError, Value};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{About, Module};
use crate::accounts;
use crate::pipeline;
use crate::registry::SessionHandle;
use crate::server::{Deps, Server, random_text};

/// Which notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// The message of the day.
    Motd,
    /// The welcome.
    Welcome,
}

/// A notice as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Another one for each that is set, so that it is known who has had it.
    pub id: String,
    /// What it says.
    pub text: String,
}

impl Record for Notice {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings always have a JSON form");
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The notices in a store, by domain.
#[derive(Clone)]
pub struct NoticeBook {
    store: Store,
    motd: Value<Notice>,
    welcome: Value<Notice>,
    /// Which message of the day an account has had.
    seen: Value<String>,
}

impl NoticeBook {
    /// Those of this store.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            motd: store.value("motd"),
            welcome: store.value("welcome"),
            seen: store.value("motd-seen"),
        }
    }

    fn of(&self, kind: NoticeKind) -> &Value<Notice> {
        match kind {
            NoticeKind::Motd => &self.motd,
            NoticeKind::Welcome => &self.welcome,
        }
    }

    /// What the domain says.
    pub async fn get(&self, kind: NoticeKind, host: &str) -> Result<Option<Notice>, StoreError> {
        self.of(kind).get(host).await
    }

    /// Sets or removes it.
    pub async fn set(&self, kind: NoticeKind, host: &str, notice: Option<&Notice>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        match notice {
            Some(notice) => self.of(kind).put(&mut batch, host, notice),
            None => self.of(kind).delete(&mut batch, host),
        }
        self.store.commit(batch).await
    }

    /// Notes that the account gets this message of the day; whether it has not had it before. Of two sessions one is told so.
    async fn claim(&self, account: &BareJid, notice: &Notice) -> Result<bool, StoreError> {
        let owner = accounts::owner(account);
        let seen = self.seen.get(&owner).await?;
        if seen.as_ref() == Some(&notice.id) {
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.seen.expect(&mut batch, &owner, seen.as_ref());
        self.seen.put(&mut batch, &owner, &notice.id);
        match self.store.commit(batch).await {
            Err(StoreError::Conflict) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

/// The module.
pub struct Notices {
    book: NoticeBook,
    /// The messages of the day, by domain, so that whoever comes costs no look into the store where there is none.
    motd: RwLock<HashMap<String, Notice>>,
}

impl Module for Notices {
    const ABOUT: &'static [About] = &[];

    fn new(deps: &Deps) -> Self {
        Self { book: NoticeBook::new(&deps.store), motd: RwLock::default() }
    }
}

impl Notices {
    /// Looks when the server starts what the domains say.
    pub async fn load(&self, hosts: &[String]) -> Result<(), StoreError> {
        for host in hosts {
            if let Some(notice) = self.book.get(NoticeKind::Motd, host).await? {
                self.motd.write().insert(host.clone(), notice);
            }
        }
        Ok(())
    }

    /// Hears of a message of the day: who is online gets it now.
    pub fn motd_changed(&self, server: &Arc<Server>, host: &str, notice: Option<Notice>) {
        match notice {
            None => drop(self.motd.write().remove(host)),
            Some(notice) => {
                self.motd.write().insert(host.to_owned(), notice);
                for session in server.registry().all().into_iter().filter(|session| session.jid.domain() == host) {
                    if server.registry().with_resource(&session, |resource| resource.is_available()) == Some(true) {
                        self.session_available(server, &session);
                    }
                }
            }
        }
    }

    /// Hears that a session is available.
    pub fn session_available(&self, server: &Arc<Server>, session: &Arc<SessionHandle>) {
        let notice = {
            let motd = self.motd.read();
            if motd.is_empty() || session.anonymous {
                return;
            }
            motd.get(session.jid.domain()).cloned()
        };
        let Some(notice) = notice else { return };
        let (server, session) = (Arc::clone(server), Arc::clone(session));
        tokio::spawn(async move {
            match server.modules.notices.book.claim(&session.account, &notice).await {
                Ok(true) => drop(session.send(message(&session.jid, &notice.text))),
                Ok(false) => {}
                Err(error) => error!(%error, account = %session.account, "the message of the day was not given"),
            }
        });
    }

    /// Hears that somebody has made an account: the welcome waits for the first session.
    pub async fn account_made(&self, server: &Arc<Server>, account: &BareJid) {
        let welcome = match self.book.get(NoticeKind::Welcome, account.domain()).await {
            Ok(Some(welcome)) => welcome,
            Ok(None) => return,
            Err(error) => return error!(%error, %account, "the welcome cannot be read"),
        };
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", account.domain())
            .with_attr("to", account)
            .with_attr("id", random_text(6))
            .with(Element::new("body", ns::CLIENT).with_text(welcome.text));
        let message = Stanza::new(&message);
        let given = pipeline::account_receives_message(server, &account.clone().into(), &message, true).await;
        match given.map(|promise| promise.ticket) {
            Ok(Some(ticket)) => {
                if let Err(error) = ticket.await {
                    error!(%error, %account, "the welcome was not kept");
                }
            }
            Ok(None) => {}
            Err(error) => error!(%error, %account, "the welcome was not given"),
        }
    }
}

fn message(to: &FullJid, text: &str) -> Stanza {
    let message = Element::new("message", ns::CLIENT)
        .with_attr("type", "headline")
        .with_attr("from", to.domain())
        .with_attr("to", to.as_str())
        .with_attr("id", random_text(6))
        .with(Element::new("body", ns::CLIENT).with_text(text));
    Stanza::new(&message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn each_account_gets_a_message_of_the_day_once_and_another_one_again() {
        let book = NoticeBook::new(&Store::memory());
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let notice = |id: &str| Notice { id: id.into(), text: "x".into() };
        assert!(book.claim(&juliet, &notice("1")).await.unwrap());
        assert!(!book.claim(&juliet, &notice("1")).await.unwrap());
        assert!(book.claim(&juliet, &notice("2")).await.unwrap());
        book.set(NoticeKind::Motd, "example.org", Some(&notice("2"))).await.unwrap();
        assert_eq!(book.get(NoticeKind::Welcome, "example.org").await.unwrap(), None);
        assert_eq!(book.get(NoticeKind::Motd, "example.org").await.unwrap(), Some(notice("2")));
        book.set(NoticeKind::Motd, "example.org", None).await.unwrap();
        assert_eq!(book.get(NoticeKind::Motd, "example.org").await.unwrap(), None);
    }
}
