//! What must be known of a message before it is routed, and has to be read for that.

use std::sync::Arc;

use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, StanzaError};

use super::may_need_room;
use crate::accounts;
use crate::modules::archive_preferences::Sides;
use crate::modules::offline::{Offline, refusal};
use crate::modules::{archive, inbox, retraction, stanza_ids};
use crate::server::Server;

/// What the store said of a message's recipient.
pub(super) struct Asked {
    pub(super) exists: bool,
    /// Whether one more message may be kept, as far as that may be needed.
    pub(super) room: bool,
    /// Who wants it in the archive (XEP-0441).
    pub(super) archives: Sides,
    /// What it does to what is in the archive.
    pub(super) changes: archive::Changes,
}

impl Asked {
    /// What is so where nothing is known that asks for a look.
    pub(super) fn nothing() -> Self {
        Self { exists: true, room: true, archives: Sides::default(), changes: archive::Changes::default() }
    }
}

/// Asks the store what must be known before the message is routed, and cannot be asked under the registry's lock.
pub(super) async fn ask(
    server: &Arc<Server>,
    account: &BareJid,
    message: &Stanza,
    sender: Option<&BareJid>,
) -> Result<Asked, StanzaError> {
    // Before anything is stored or copied: what a blocked contact sends never arrives (XEP-0191 §3.2).
    server.modules.blocking.refuse_received(account, message).await?;
    let exists = server.account_exists(account).await?;
    let storable = Offline::is_storable(&stanza_ids::without_claims(message, account));
    let room = match storable && exists && server.registry().with(account, may_need_room) {
        true => server.modules.offline.has_room(account).await?,
        false => true,
    };
    let archives = match storable && exists {
        true => server.modules.archive_preferences.choose(server, message, account, sender).await.map_err(refusal)?,
        false => Sides::default(),
    };
    let mut changes = archive::Changes::default();
    if exists && changes_archive(message) {
        // Before the message is archived, and with it: what it takes back is there until then and not after it (XEP-0424), and so
        // is what it says was not read (XEP-0333). Whether it is itself archived changes nothing in that.
        let found = server.modules.retraction.find(server, message, account, sender).await;
        changes.tombstones = found.map_err(refusal)?;
        if let Some(sender) = sender {
            let displayed = server.modules.inbox.displayed(server, message, sender, account).await;
            let displayed = displayed.map_err(refusal)?;
            changes.displayed = displayed.map(|up_to| (accounts::owner(sender), account.to_string(), up_to));
        }
    }
    Ok(Asked { exists, room, archives, changes })
}

/// Whether the message may do something to those that are in the archive already, so that they have to be looked at. Not one that comes
/// back with an error, nor one of a room's.
pub(super) fn changes_archive(message: &Stanza) -> bool {
    let changes = |name: &str, ns: &str| (name == "retract" && ns == retraction::NS) || inbox::is_marker(name, ns);
    message.children().any(|child| changes(child.name, child.ns))
        && !matches!(message.type_().as_deref(), Some("error" | "groupchat"))
}
