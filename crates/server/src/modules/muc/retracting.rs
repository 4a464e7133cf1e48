//! XEP-0425: Moderated Message Retraction, and XEP-0424 in rooms: what is taken back is a tombstone in the room's archive, and nothing
//! for who enters later.

use magpie_proto::xeps::muc::Role;
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, StanzaCondition, StanzaError, ns};

use super::occupant_ids;
use super::room::{Outcome, Outside, Room};
use super::rooms::{Act, Left};
use super::{Muc, durable};
use crate::modules::offline::refusal;
use crate::modules::retraction::{self, Tombstones};
use crate::requests::{Reply, Request};
use crate::server::{Server, random_text};

/// XEP-0425: the namespace.
pub const NS_MODERATE: &str = "urn:xmpp:message-moderate:1";

/// Bytes of the id of the message by which a room tells of a retraction.
const ID_BYTES: usize = 12;

/// Characters of a reason.
const REASON_MAX: usize = 1024;

impl Room {
    /// By which everybody learns that a moderator has taken a message back.
    fn moderated(&self, from: &FullJid, id: &str, reason: Option<&str>) -> Outcome<Stanza> {
        let moderator = self.occupant(from)?;
        if moderator.role != Role::Moderator {
            return Err(StanzaError::new(StanzaCondition::Forbidden, "only moderators take back what others wrote"));
        }
        let moderated = Element::new("moderated", NS_MODERATE).with_attr("by", &moderator.address);
        let moderated = moderated.with(occupant_ids::element(&moderator.id));
        let reason = reason.map(|reason| Element::new("reason", retraction::NS).with_text(reason));
        let retract = Element::new("retract", retraction::NS).with_attr("id", id).with(moderated).with_all(reason);
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", &self.address)
            .with_attr("type", "groupchat")
            .with_attr("id", random_text(ID_BYTES));
        Ok(Stanza::new(&message.with(retract)))
    }
}

impl Muc {
    /// A message that takes another one back is said, and what it takes back is gone.
    pub(super) async fn retract(
        &self,
        server: &Server,
        address: &BareJid,
        from: &FullJid,
        message: &Stanza,
    ) -> Outcome<Left> {
        let (said, _) = self.rooms.with(address, |room, _| room.said_by(from, message)).await?;
        let found = server.modules.retraction.find_in_room(server, &said, address).await.map_err(refusal)?;
        let act = |room: &mut Room, out: &mut Act<'_>| {
            let ids = self.bury(room, found, out);
            // Only if it is said: who has no voice any more takes nothing back.
            room.groupchat(from, message, out)?;
            room.forget_said(&ids);
            Ok(())
        };
        Ok(self.rooms.with(address, act).await?.1)
    }

    /// Has tombstones written with the next message that is kept; gives the ids of those that they are for.
    fn bury(&self, room: &Room, found: Tombstones, out: &mut Act<'_>) -> Vec<String> {
        let ids = found.0.iter().map(|(_, place, _)| self.archive.id(&room.address, *place)).collect();
        out.tombstones = found;
        ids
    }

    /// `<moderate/>`
    pub(super) async fn moderate(self: std::sync::Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        let id = payload.attr("id").filter(|id| !id.is_empty()).ok_or(StanzaCondition::BadRequest)?;
        if payload.child("retract", retraction::NS).is_none() {
            return Err(StanzaCondition::FeatureNotImplemented.into());
        }
        let from = request.from.to_full().ok_or(StanzaCondition::BadRequest)?;
        let reason = payload.child("reason", NS_MODERATE).or_else(|| payload.child("reason", retraction::NS));
        let reason: Option<String> = reason.map(|reason| reason.text().chars().take(REASON_MAX).collect());
        let reason = reason.as_deref().filter(|reason| !reason.is_empty());
        let (said, _) = self.rooms.with(&request.to, |room, _| room.moderated(&from, id, reason)).await?;
        let found = request.server.modules.retraction.find_moderated(&request.server, &request.to, id, &said).await;
        let found = found.map_err(refusal)?.ok_or(StanzaCondition::ItemNotFound)?;
        let act = |room: &mut Room, out: &mut Act<'_>| {
            // Again: a moderator may have been one no more meanwhile.
            room.moderated(&from, id, reason)?;
            let ids = self.bury(room, found, out);
            room.forget_said(&ids);
            let said = out.keep(said, None);
            room.broadcast(&said, out);
            Ok(())
        };
        let ((), left) = self.rooms.with(&request.to, act).await?;
        if let Some(kept) = left.kept {
            kept.ticket.await.map_err(refusal)?;
        }
        durable(Left { kept: None, ..left }).await
    }
}
