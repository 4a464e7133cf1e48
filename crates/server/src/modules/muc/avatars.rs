//! XEP-0486: MUC Avatars, and the vCards of occupants (XEP-0045 §17.4)
//!
//! A room has a vCard, whose pictures are its own; who asks an occupant for one gets that of its account. The pictures' hashes are a
//! part of the room, the vCard itself is in the store alone.

use std::sync::Arc;

use magpie_proto::xeps::muc::{self, Affiliation, Status};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, FullJid, Jid, StanzaCondition, StanzaError, ns};

use super::room::{Change, Outcome, Outside, Room, not_an_occupant};
use super::rooms::Act;
use super::{Muc, durable};
use crate::modules::offline::refusal;
use crate::modules::vcard;
use crate::requests::{Reply, Request};
use crate::services::Service;

impl Room {
    /// Another vCard for the room; an empty one is none.
    pub fn set_vcard(&mut self, from: &Jid, vcard: Element, out: &mut impl Outside) -> Outcome {
        self.check_seen(from)?;
        if self.affiliation(&from.to_bare()) < Affiliation::Admin {
            return Err(StanzaError::new(StanzaCondition::Forbidden, "only owners and admins set the room's avatar"));
        }
        self.avatars = vcard::pictures(&vcard).map(|picture| picture.hash.into()).collect();
        // Of a room that does not last this goes with it.
        self.stored = true;
        let is_empty = vcard.children().next().is_none();
        out.change(Change::Vcard((!is_empty).then(|| Box::new(vcard))));
        let message =
            Element::new("message", ns::CLIENT).with_attr("from", &self.address).with_attr("type", "groupchat");
        self.broadcast(&Stanza::new(&message.with(muc::user(None, &[Status::ConfigurationChanged]))), out);
        Ok(())
    }

    /// Whether who asks may know that there is a room.
    pub(super) fn check_seen(&self, from: &Jid) -> Outcome {
        match self.locked && self.affiliation(&from.to_bare()) != Affiliation::Owner {
            true => Err(StanzaCondition::ItemNotFound.into()),
            false => Ok(()),
        }
    }

    /// Whose vCard is that of an occupant, for those who are there too.
    fn account_behind(&self, from: &FullJid, nick: &str) -> Outcome<BareJid> {
        self.occupants.seated(from).ok_or_else(not_an_occupant)?;
        let target = self.occupants.named(nick).filter(|target| target.nick() == nick);
        Ok(target.ok_or(StanzaCondition::ItemNotFound)?.account.clone())
    }
}

/// Whether an IQ asks for a vCard.
pub(super) fn asks_for_vcard(iq: &Stanza) -> bool {
    iq.type_().as_deref() == Some("get") && iq.child("vCard", vcard::NS).is_some()
}

impl Muc {
    pub(super) async fn vcard_get(self: Arc<Self>, request: Request) -> Reply {
        if request.to.local().is_none() {
            return Ok(Some(of_service(&request.to)));
        }
        let to = request.stanza.to().and_then(|to| Jid::parse(&to).ok());
        if let Some(nick) = to.as_ref().and_then(Jid::resource) {
            return self.vcard_of_occupant(&request, nick).await;
        }
        self.rooms.with(&request.to, |room, _| room.check_seen(&request.from)).await?;
        let vcard = self.rooms.storage.vcard(&request.to).await.map_err(refusal)?;
        vcard.map(Some).ok_or_else(|| StanzaCondition::ItemNotFound.into())
    }

    async fn vcard_of_occupant(&self, request: &Request, nick: &str) -> Reply {
        let from = request.from.to_full().ok_or_else(not_an_occupant)?;
        let (account, _) = self.rooms.with(&request.to, |room, _| room.account_behind(&from, nick)).await?;
        let modules = &request.server.modules;
        // Who is blocked by an account gets nothing of it here either (XEP-0191 §3.2).
        let blocked = modules.blocking.of(&account).await.map_err(refusal)?;
        match blocked.blocks(&request.from) {
            true => Err(StanzaCondition::ServiceUnavailable.into()),
            false => {
                modules.vcard.of(&account).await?.map(Some).ok_or_else(|| StanzaCondition::ServiceUnavailable.into())
            }
        }
    }

    pub(super) async fn vcard_set(self: Arc<Self>, request: Request) -> Reply {
        if request.to.local().is_none() {
            return Err(StanzaCondition::Forbidden.into());
        }
        let vcard = request.payload();
        vcard::check_size(&vcard, request.server.config().limits.stored_bytes_max)?;
        let act = |room: &mut Room, out: &mut Act<'_>| room.set_vcard(&request.from, vcard, out);
        let ((), left) = self.rooms.with(&request.to, act).await?;
        durable(left).await
    }
}

/// What the service says of itself.
fn of_service(service: &BareJid) -> Element {
    let field = |name, text: &str| Element::new(name, vcard::NS).with_text(text);
    Element::new("vCard", vcard::NS).with(field("FN", Service::Muc.title())).with(field("JABBERID", service.domain()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use magpie_proto::xeps::muc_config::RoomConfig;

    use super::super::tests::{Scene, bare, condition, full};
    use super::*;

    fn vcard(content: &str) -> Element {
        Element::parse(format!("<vCard xmlns='vcard-temp'>{content}</vCard>").as_bytes(), ns::CLIENT).unwrap()
    }

    fn hashes(scene: &Scene) -> Vec<String> {
        let info = scene.room.info(&full("hag").into(), None).unwrap();
        info.forms[0].field("muc#roominfo_avatarhash").map(|field| field.values.clone()).unwrap_or_default()
    }

    #[test]
    fn the_hash_of_each_picture_is_told_until_the_vcard_is_empty() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        assert_eq!(hashes(&scene), [""; 0]);
        let two = "<PHOTO><BINVAL>YWJj</BINVAL></PHOTO><PHOTO><BINVAL>YQ==</BINVAL></PHOTO>";
        for (content, expected) in [
            (two, &["a9993e364706816aba3e25717850c26c9cd0d89d", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"][..]),
            ("", &[]),
        ] {
            scene.room.set_vcard(&full("crone").into(), vcard(content), &mut scene.written).unwrap();
            assert_eq!(hashes(&scene), expected);
            assert_eq!(scene.sent(), ["crone < room: 104", "hag < room: 104"]);
            let kept = (!content.is_empty()).then(|| Box::new(vcard(content)));
            assert_eq!(scene.written.changes.last(), Some(&Change::Vcard(kept)));
        }
    }

    #[test]
    fn only_owners_and_admins_set_it() {
        let mut scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        for (affiliation, may) in [(Affiliation::None, false), (Affiliation::Member, false), (Affiliation::Admin, true)]
        {
            scene.room.restore(bare("hag"), super::super::room::Standing { affiliation, ..Default::default() });
            let set = scene.room.set_vcard(&full("hag").into(), vcard("<FN>Coven</FN>"), &mut scene.written);
            match may {
                true => assert_eq!(set, Ok(())),
                false => assert_eq!(condition(set), StanzaCondition::Forbidden),
            }
        }
    }

    #[test]
    fn the_vcard_of_an_occupant_is_its_accounts_and_for_occupants_alone() {
        let scene = Scene::with(RoomConfig::default(), &["crone", "hag"]);
        assert_eq!(scene.room.account_behind(&full("hag"), "crone"), Ok(bare("crone")));
        let refused = |who, nick| scene.room.account_behind(&full(who), nick).unwrap_err().condition;
        assert_eq!(refused("macbeth", "crone"), StanzaCondition::NotAcceptable);
        assert_eq!(refused("hag", "nobody"), StanzaCondition::ItemNotFound);
    }
}
