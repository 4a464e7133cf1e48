//! THE facts that modules may hear. Whoever hears one cannot veto it, and the order in one list says nothing.

use std::sync::Arc;

use magpie_proto::{BareJid, Stanza, StreamCondition, StreamError};
use magpie_store::StoreError;

use crate::registry::{Resource, SessionHandle};
use crate::server::Server;

/// A resource was bound; the session has not begun.
pub async fn session_bound(server: &Arc<Server>, session: &Arc<SessionHandle>) -> Result<(), StoreError> {
    server.modules.roster.load_into_registry(&session.account).await?;
    server.modules.blocking.load_into_registry(&session.account).await?;
    server.modules.vcard.load_into_registry(&session.account).await?;
    server.deps.metrics.session_began();
    Ok(())
}

/// A session is over, and out of the registry.
pub async fn session_ended(server: &Arc<Server>, resource: Resource) {
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

/// An account is gone, with all that was its own.
pub fn account_removed(server: &Server, account: &BareJid) {
    server.modules.offline.forget(account);
    let error = StreamError::new(StreamCondition::NotAuthorized, "the account was removed");
    server.registry().end(account, &error);
}
