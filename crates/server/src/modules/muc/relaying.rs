//! XEP-0045 §17.4: IQs between occupants, and XEP-0410: whether one still is one.
//!
//! The id of a request that is passed on is given a tag of the session that asked, so that the answer finds its way back to it and
//! nothing need be remembered.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::error::ErrorType;
use magpie_proto::xeps::disco;
use magpie_proto::xml::{Attr, Stanza};
use magpie_proto::{FullJid, StanzaCondition, StanzaError};

use super::avatars::asks_for_vcard;
use super::occupants::Occupant;
use super::room::{Outcome, Outside, Room, not_an_occupant};
use crate::modules::ping;

/// Characters of a tag.
const TAG: usize = 8;

/// What becomes of an IQ to an occupant.
#[derive(Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It went to the occupant's client.
    Passed,
    /// The room answers it: the occupant is there.
    Here,
    /// The server answers it for the occupant's account.
    ByServer,
}

/// To who asks an occupant and is none. XEP-0410 §3.3: that is how it learns that it is not there; §6.6: service discovery has another.
pub(super) fn is_not_there(iq: &Stanza) -> StanzaError {
    match iq.children().any(|child| matches!(child.ns, disco::NS_INFO | disco::NS_ITEMS)) {
        true => StanzaError::new(StanzaCondition::BadRequest, "only occupants may ask occupants"),
        false => not_an_occupant().with_type(ErrorType::Cancel),
    }
}

impl Room {
    /// An IQ from an occupant to a nickname.
    pub fn relay(&self, from: &FullJid, nick: &str, iq: &Stanza, out: &mut impl Outside) -> Outcome<Relayed> {
        let sender = self.occupants.seated(from).ok_or_else(|| is_not_there(iq))?;
        let target = self.occupants.named(nick).filter(|target| target.nick() == nick);
        let target = target.ok_or(StanzaCondition::ItemNotFound)?;
        if matches!(iq.type_().as_deref(), Some("result" | "error")) {
            self.relay_answer(sender, target, iq, out);
            return Ok(Relayed::Passed);
        }
        if iq.child("ping", ping::NS).is_some() && target.address == sender.address {
            return Ok(Relayed::Here);
        }
        if asks_for_vcard(iq) {
            return Ok(Relayed::ByServer);
        }
        let id = format!("{}{}", self.tag(from), iq.id().unwrap_or_default());
        let passed = iq.with(Attr::From, Some(sender.address.as_str())).with(Attr::Id, Some(&id));
        if let Some(seat) = target.seats.last() {
            out.send(seat, &passed);
        }
        Ok(Relayed::Passed)
    }

    /// An answer that nobody asked for goes nowhere.
    fn relay_answer(&self, sender: &Occupant, target: &Occupant, iq: &Stanza, out: &mut impl Outside) {
        let Some(id) = iq.id() else { return };
        let Some((tag, id)) = id.split_at_checked(TAG) else { return };
        if let Some(seat) = target.seats.iter().find(|seat| self.tag(&seat.jid) == tag) {
            out.send(seat, &iq.with(Attr::From, Some(sender.address.as_str())).with(Attr::Id, Some(id)));
        }
    }

    fn tag(&self, jid: &FullJid) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.secret);
        let tag = aws_lc_rs::hmac::sign(&key, jid.as_str().as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..TAG * 3 / 4])
    }
}
