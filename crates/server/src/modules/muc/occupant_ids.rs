//! XEP-0421: Occupant identifiers for semi-anonymous MUCs
//!
//! An id is the room's for an account, whatever nicknames it has, and tells nothing of the account.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::BareJid;
use magpie_proto::xml::{Element, Stanza};

use super::room::Room;

/// The namespace.
pub const NS: &str = "urn:xmpp:occupant-id:0";

/// Bytes of an id, of which each has 8 bits of a hash.
const ID_BYTES: usize = 18;

/// The id of an account in the room with this secret.
pub fn made(secret: &[u8; 16], account: &BareJid) -> Box<str> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let id = aws_lc_rs::hmac::sign(&key, account.as_str().as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&id.as_ref()[..ID_BYTES]).into()
}

/// `<occupant-id/>`
pub fn element(id: &str) -> Element {
    Element::new("occupant-id", NS).with_attr("id", id)
}

/// The id of who sent a message, as the room wrote it.
pub fn of(message: &Stanza) -> Option<String> {
    Some(message.child("occupant-id", NS)?.element().attr("id")?.to_owned())
}

impl Room {
    /// The id of an account in this room.
    pub(super) fn occupant_id(&self, account: &BareJid) -> Box<str> {
        made(&self.secret, account)
    }
}
