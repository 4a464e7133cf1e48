//! XEP-0163 §4.3.4: who comes online gets the last items of those nodes that it wants.
//!
//! Most contacts of most people have nothing that it wants, so which names the nodes of an account have is remembered: a login asks the
//! store about those contacts alone who have something to send.

use std::collections::HashMap;
use std::sync::Arc;

use magpie_proto::xeps::pubsub_config::SendLast;
use magpie_proto::{BareJid, Jid, StanzaError};
use parking_lot::Mutex;

use super::node::{Asker, Node};
use super::notify::message;
use super::publish::published;
use super::storage::{NODES_MAX, Place};
use super::{Interests, Pubsub};
use crate::mailbox::{Addressee, Delivery};
use crate::registry::SessionHandle;
use crate::server::Server;
use crate::subscription::Subscription;

/// Bytes of the names that are remembered; with more all are looked up anew.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

/// What an entry takes besides its text.
const ENTRY_BYTES: usize = 96;

/// The names of those nodes whose last item is sent to who comes online, by the owner of the rows.
#[derive(Default)]
pub(super) struct Greetings(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    names: HashMap<Box<str>, Names>,
    bytes: usize,
    /// Grows with each change: what was read before one is not remembered after it.
    changes: u64,
}

type Names = Arc<[Box<str>]>;

impl Greetings {
    fn get(&self, owner: &str) -> Result<Names, u64> {
        let known = self.0.lock();
        known.names.get(owner).cloned().ok_or(known.changes)
    }

    /// Remembers what was read when there had been so many changes.
    fn put(&self, owner: &str, names: &Names, changes: u64) {
        let mut known = self.0.lock();
        if known.changes != changes {
            return;
        }
        let bytes = bytes(owner, names);
        if known.bytes + bytes > REMEMBERED_BYTES_MAX {
            (known.names, known.bytes) = (HashMap::new(), 0);
        }
        known.bytes += bytes;
        if let Some(before) = known.names.insert(owner.into(), Arc::clone(names)) {
            known.bytes -= self::bytes(owner, &before);
        }
    }

    /// A node came, went or was configured.
    pub(super) fn forget(&self, owner: &str) {
        let mut known = self.0.lock();
        known.changes += 1;
        if let Some(before) = known.names.remove(owner) {
            known.bytes -= bytes(owner, &before);
        }
    }
}

fn bytes(owner: &str, names: &[Box<str>]) -> usize {
    ENTRY_BYTES + owner.len() + names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum::<usize>()
}

fn greets(node: &Node) -> bool {
    node.config.send_last == SendLast::OnSubAndPresence && node.config.deliver
}

impl Pubsub {
    /// A session came online, or says only now what it wants: it gets the last item of each node that it wants, of its own account
    /// and of those whose presence it sees.
    pub async fn greet(&self, server: &Arc<Server>, session: &Arc<SessionHandle>, interests: &Interests) {
        let Ok(roster) = server.modules.roster.of(&session.account).await else { return };
        self.send_last_of(server, session, &session.account, interests).await;
        for contact in roster.contacts(Subscription::has_to) {
            let contact = contact.jid();
            if server.serves(contact.domain()) {
                self.send_last_of(server, session, &contact, interests).await;
            }
        }
    }

    /// A contact has just been let see the account's presence: its sessions get the last items that they want.
    pub async fn greet_contact(&self, server: &Arc<Server>, account: &BareJid, contact: &BareJid) {
        for session in server.registry().sessions(contact) {
            if let Some(interests) = server.modules.caps.interests(session.id) {
                self.send_last_of(server, &session, account, &interests).await;
            }
        }
    }

    /// The last items of one account's nodes to one session.
    async fn send_last_of(
        &self,
        server: &Arc<Server>,
        session: &Arc<SessionHandle>,
        account: &BareJid,
        interests: &Interests,
    ) {
        let place = Place::account(account);
        let Ok(names) = self.greeting_nodes(server, &place).await else { return };
        let names: Vec<&Box<str>> = names.iter().filter(|name| interests.contains(*name)).collect();
        if names.is_empty() {
            return;
        }
        let jid = Jid::from(session.jid.clone());
        let own = *account == session.account;
        if !own {
            let blocks = server.modules.blocking.blocks(account, &jid).await;
            let blocked = server.modules.blocking.blocks(&session.account, &account.clone().into()).await;
            if blocks.unwrap_or(true) || blocked.unwrap_or(true) {
                return;
            }
        }
        // What anybody may read, as most pictures, needs no look into the roster of who is not here.
        let mut asker = Asker::stranger(jid);
        let mut known = false;
        for name in names {
            let Ok(Some(node)) = self.storage.node(&place, name).await else { continue };
            if !greets(&node) {
                continue;
            }
            if node.may_read(&asker).is_err() && !known {
                let Ok(found) = self.asker(server, &place, &asker.jid).await else { return };
                (asker, known) = (found, true);
            }
            if node.may_read(&asker).is_err() {
                continue;
            }
            if let Ok(Some(item)) = self.storage.last(&place, name, &node).await {
                let message = message(&place, &node, &published(name, &[&item], node.config.payloads));
                session.mailbox.deliver(Delivery::to(message, Addressee::Session));
            }
        }
    }

    /// The names of an account's nodes whose last items are sent to who comes online.
    async fn greeting_nodes(&self, server: &Server, place: &Place) -> Result<Names, StanzaError> {
        let changes = match self.storage.greetings.get(place.owner()) {
            Ok(names) => return Ok(names),
            Err(changes) => changes,
        };
        let nodes = self.storage.nodes(place, None, NODES_MAX as usize).await?;
        let names = nodes.into_iter().filter(|(_, node)| greets(node)).map(|(name, _)| name.into_boxed_str());
        let names: Names = names.collect();
        // What is not there yet may be brought by an import, which tells nobody.
        if !names.is_empty() || server.account_exists(&place.address).await.unwrap_or_default() {
            self.storage.greetings.put(place.owner(), &names, changes);
        }
        Ok(names)
    }

    /// An account is gone.
    pub fn forget(&self, account: &BareJid) {
        self.storage.greetings.forget(Place::account(account).owner());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| Box::from(*name)).collect()
    }

    fn read(greetings: &Greetings, owner: &str) -> u64 {
        greetings.get(owner).expect_err("it is not known")
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let greetings = Greetings::default();
        let before = read(&greetings, "a");
        greetings.forget("a");
        greetings.put("a", &names(&["old"]), before);
        let after = read(&greetings, "a");
        greetings.put("a", &names(&["new"]), after);
        assert_eq!(greetings.get("a"), Ok(names(&["new"])));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let greetings = Greetings::default();
        let long = names(&[&"x".repeat(1 << 20)]);
        for owner in 0..100 {
            greetings.put(&owner.to_string(), &long, 0);
            greetings.put(&owner.to_string(), &long, 0);
            assert!(greetings.0.lock().bytes <= REMEMBERED_BYTES_MAX);
        }
        let known = greetings.0.lock();
        assert_eq!(known.bytes, known.names.iter().map(|(owner, names)| bytes(owner, names)).sum::<usize>());
        assert!(known.names.len() > 1);
    }
}
