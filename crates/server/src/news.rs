//! THE facts that modules may hear. Whoever hears one cannot veto it, and the order in one list says nothing.

use std::sync::Arc;

use magpie_proto::{BareJid, Stanza, StreamCondition, StreamError};
use magpie_store::StoreError;

use crate::accounts;
use crate::registry::{Account, Resource, SessionHandle};
use crate::server::Server;

/// A resource was bound; the session has not begun.
pub async fn session_bound(server: &Arc<Server>, session: &Arc<SessionHandle>) -> Result<(), StoreError> {
    load(server, session).await?;
    server.modules.push.session_bound(&session.account).await?;
    server.deps.metrics.session_began();
    Ok(())
}

/// Brings what modules know of the account into the registry, unless another session of it did, in one visit to the store.
async fn load(server: &Arc<Server>, session: &Arc<SessionHandle>) -> Result<(), StoreError> {
    let account = &session.account;
    let crate::modules::Modules { roster, blocking, vcard, .. } = &server.modules;
    let is_loaded = |account: &Account| account.roster.is_some() && account.blocked().is_some();
    if server.registry().with(account, |account| account.is_none_or(|account| is_loaded(account))) {
        return Ok(());
    }
    let [journal, items] = roster.wanted();
    let wanted = [journal, items, blocking.wanted(), vcard.wanted()];
    let rows = server.deps.store.read(&accounts::owner(account), &wanted).await?;
    roster.bring(account, &rows)?;
    blocking.bring(account, &rows)?;
    vcard.bring(account, &rows)
}

/// A session has become available.
pub fn session_available(server: &Arc<Server>, session: &Arc<SessionHandle>) {
    server.modules.notices.session_available(server, session);
}

/// Somebody has made an account.
pub async fn account_registered(server: &Arc<Server>, account: &BareJid) {
    server.modules.notices.account_made(server, account).await;
}

/// A session is over, and out of the registry.
pub async fn session_ended(server: &Arc<Server>, resource: Resource) {
    server.modules.caps.session_ended(resource.session.id);
    server.modules.presence.session_ended(server, &resource).await;
    server.deps.metrics.session_ended();
    let SessionHandle { account, anonymous, .. } = &*resource.session;
    if server.registry().sessions(account).is_empty() {
        // Contacts must not keep requests and subscriptions of an address that nobody will have again.
        if *anonymous && let Err(error) = server.modules.roster.cancel_all(server, account).await {
            tracing::warn!(%error, %account, "the contacts of an account that ends could not be told");
        }
        // What the last session of an account wrote after its removal goes too.
        let gone = *anonymous || server.deps.accounts.exists(account).await.is_ok_and(|exists| !exists);
        if gone {
            if let Err(error) = server.modules.muc.forget_account(account).await {
                tracing::warn!(%error, %account, "rooms could not forget an account that ends");
            }
            server.deps.accounts.erase(account);
        }
    }
}

/// The last available resource of an account is gone, as `presence` said.
pub async fn account_left(server: &Server, session: &SessionHandle, presence: &Stanza) {
    // What ends with its session leaves nothing behind.
    if !session.anonymous {
        server.modules.last.account_left(&session.account, presence).await;
    }
}

/// An account's password was changed: whoever is logged in with the old one is asked again, but for the session that did it.
pub fn password_changed(server: &Server, account: &BareJid, by: Option<&SessionHandle>) {
    let error = StreamError::new(StreamCondition::Reset, "the password was changed");
    server.registry().end_others(account, by.map(|session| session.id), &error);
}

/// An account may not be used for now.
pub fn account_disabled(server: &Server, account: &BareJid) {
    server.registry().end(account, &StreamError::new(StreamCondition::NotAuthorized, "the account is disabled"));
}

/// An account is gone, with all that was its own.
pub fn account_removed(server: &Server, account: &BareJid) {
    forget(server, account);
    let error = StreamError::new(StreamCondition::NotAuthorized, "the account was removed");
    server.registry().end(account, &error);
}

/// An account is about to get other data for all that it has.
pub fn account_emptied(server: &Server, account: &BareJid) {
    forget(server, account);
    account_disabled(server, account);
}

/// An account has other data than before.
pub fn account_replaced(server: &Server, account: &BareJid) {
    forget(server, account);
    server.modules.archive_preferences.look_again(account);
}

fn forget(server: &Server, account: &BareJid) {
    server.modules.offline.forget(account);
    server.modules.last.forget(account);
    server.modules.archive_preferences.forget(account);
    server.modules.pubsub.forget(account);
    server.modules.push.forget(account);
}
