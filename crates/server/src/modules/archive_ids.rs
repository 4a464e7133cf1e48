//! Ids of archived messages (XEP-0359, XEP-0313): a place in the store's archive, with a tag that only this server can make.

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use magpie_proto::BareJid;
use magpie_store::LogId;

/// Makes ids of places, and knows its own.
pub(super) struct Ids(hmac::Key);

impl Ids {
    /// For the server with this secret.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&secret, b"ids of archived messages");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// The id of a place in an account's archive: 22 characters.
    pub(super) fn id(&self, account: &BareJid, place: LogId) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&place.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.tag(account, place));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place of an id, unless it was not made here for this account.
    pub(super) fn place(&self, account: &BareJid, id: &str) -> Option<LogId> {
        let bytes: [u8; 16] = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        let (place, tag) = bytes.split_first_chunk()?;
        let place = LogId(u64::from_be_bytes(*place));
        aws_lc_rs::constant_time::verify_slices_are_equal(tag, &self.tag(account, place)).ok()?;
        Some(place)
    }

    fn tag(&self, account: &BareJid, place: LogId) -> [u8; 8] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&place.0.to_be_bytes());
        context.update(account.as_str().as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&context.sign().as_ref()[..8]);
        tag
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bare(jid: &str) -> BareJid {
        BareJid::parse(jid).unwrap()
    }

    #[test]
    fn an_id_is_its_accounts_and_its_servers_alone() {
        let (ids, juliet) = (Ids::new(&[1; 32]), bare("juliet@capulet.example"));
        let place = LogId::at_millis(1_800_000_000_000);
        let id = ids.id(&juliet, place);
        assert_eq!((id.len(), ids.place(&juliet, &id)), (22, Some(place)));
        assert_eq!(ids.place(&bare("romeo@montague.example"), &id), None);
        assert_eq!(Ids::new(&[2; 32]).place(&juliet, &id), None);
        for made_up in ["", "1", "made-up", &id[..21], &format!("{id}A"), "AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(ids.place(&juliet, made_up), None, "{made_up}");
        }
        // The place is in it, and the next place needs another tag.
        let (mut bytes, decode) = (BASE64_URL_SAFE_NO_PAD.decode(&id).unwrap(), BASE64_URL_SAFE_NO_PAD);
        bytes[7] += 1;
        assert_eq!(ids.place(&juliet, &decode.encode(bytes)), None);
    }
}
