//! XEP-0054: vcard-temp, XEP-0153: vCard-Based Avatars
//!
//! A user's electronic business card, which anybody may read. The server tells contacts of a new picture in it: it puts
//! the picture's hash into presence that does not speak of one, and sends the presence again when the picture changes.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use magpie_proto::xml::{Element, Stanza};
use magpie_proto::{BareJid, StanzaCondition, StanzaError, ns};
use magpie_store::{Batch, Record, Rows, Store, StoreError, Ticket, Value, Wanted};

use super::{About, Module};
use crate::accounts;
use crate::modules::offline::refusal;
use crate::registry::{Registry, SessionHandle};
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};

/// The namespace.
pub const NS: &str = "vcard-temp";
const NS_UPDATE: &str = "vcard-temp:x:update";

/// XEP-0153 §4.5: base64 as people write it, spaces removed.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A stored vCard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vcard {
    /// The element.
    element: Element,
    /// SHA-1 of the picture in lower-case hexadecimal; empty where there is none.
    photo: String,
}

impl Vcard {
    /// A vCard as a client sends it.
    pub fn new(element: Element) -> Self {
        let photo = picture(&element).map_or_else(String::new, |picture| picture.hash);
        Self { element, photo }
    }

    /// The element, as it was sent.
    pub fn into_element(self) -> Element {
        self.element
    }

    /// The element.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// The hash of its picture; empty where there is none.
    pub fn photo(&self) -> &str {
        &self.photo
    }

    /// Its picture.
    pub fn picture(&self) -> Option<Picture> {
        picture(&self.element)
    }

    /// The same with this picture.
    pub fn with_picture(self, picture: Option<&Picture>) -> Self {
        let others = self.element.children().filter(|child| !child.is("PHOTO", NS)).cloned();
        let photo = picture.map(|picture| {
            let field = |name, text: &str| Element::new(name, NS).with_text(text);
            Element::new("PHOTO", NS).with(field("TYPE", &picture.kind)).with(field("BINVAL", &picture.base64))
        });
        Self::new(Element::new("vCard", NS).with_all(others).with_all(photo))
    }
}

/// Which picture presence showed before a change, and which one it shows from now on.
pub struct Shown {
    before: Option<Arc<str>>,
    photo: Arc<str>,
}

/// A picture of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// As base64, without spaces.
    pub base64: String,
    /// Its media type.
    pub kind: String,
    /// How many bytes it has.
    pub bytes: usize,
    /// SHA-1 of them in lower-case hexadecimal.
    pub hash: String,
}

impl Picture {
    /// A picture in base64; `None` where that is none.
    pub fn parse(base64: &str, kind: &str) -> Option<Self> {
        let base64: String = base64.chars().filter(|char| !char.is_whitespace()).collect();
        let decoded = BASE64.decode(&base64).ok().filter(|bytes| !bytes.is_empty())?;
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &decoded);
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { base64, kind: kind.to_owned(), bytes: decoded.len(), hash })
    }
}

impl Record for Vcard {
    /// The hash on a line of its own, so that presence needs no picture, then the element.
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.photo.as_bytes());
        out.push(b'\n');
        self.element.write(ns::CLIENT, out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let line = bytes.iter().position(|byte| *byte == b'\n')?;
        let photo = String::from_utf8(bytes[..line].to_vec()).ok()?;
        Some(Self { element: Element::parse(&bytes[line + 1..], ns::CLIENT).ok()?, photo })
    }
}

/// The picture of a vCard.
fn picture(vcard: &Element) -> Option<Picture> {
    pictures(vcard).next()
}

/// The pictures of a vCard, each of which shows the same in another form. What is no base64 is no picture.
pub fn pictures(vcard: &Element) -> impl Iterator<Item = Picture> {
    let photos = vcard.children().filter(|child| child.is("PHOTO", NS));
    photos.filter_map(|photo| {
        let kind = photo.child("TYPE", NS).map(Element::text).filter(|kind| !kind.is_empty());
        Picture::parse(&photo.child("BINVAL", NS)?.text(), kind.as_deref().unwrap_or("image/png"))
    })
}

/// Whether a vCard may be kept.
///
/// # Errors
/// `policy-violation` where it has too many bytes.
pub fn check_size(vcard: &Element, bytes_max: usize) -> Result<(), StanzaError> {
    match vcard.to_xml(ns::CLIENT).len() > bytes_max {
        true => Err(StanzaError::new(StanzaCondition::PolicyViolation, format!("a vCard may have {bytes_max} bytes"))),
        false => Ok(()),
    }
}

/// The module.
pub struct VcardTemp {
    store: Store,
    vcards: Value<Vcard>,
    registry: Arc<Registry>,
    deps: Deps,
}

impl Module for VcardTemp {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(54),
            title: "vcard-temp",
            version: "1.3.0",
            host_features: &[NS],
            account_features: &[NS],
        },
        About {
            xep: Some(153),
            title: "vCard-Based Avatars",
            version: "1.1.1",
            host_features: &[],
            account_features: &[],
        },
    ];

    fn new(deps: &Deps) -> Self {
        Self {
            store: deps.store.clone(),
            vcards: deps.store.value("vcard"),
            registry: Arc::clone(&deps.registry),
            deps: deps.clone(),
        }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        let vcard = ("vCard", NS);
        requests.own(To::OwnAccount, Verb::Get, vcard, self, Self::get_own);
        requests.own(To::OwnAccount, Verb::Set, vcard, self, Self::set);
        requests.own(To::Account, Verb::Get, vcard, self, Self::get_other);
        requests.own_now(To::Host, Verb::Get, vcard, self, Self::get_host);
        for target in [To::Account, To::Host] {
            requests.own_now(target, Verb::Set, vcard, self, Self::refuse);
        }
    }
}

impl VcardTemp {
    /// What must be read to know the picture of an account.
    pub fn wanted(&self) -> Wanted {
        self.vcards.wanted()
    }

    /// Brings the hash of the picture of an account with a new session into the registry.
    pub fn bring(&self, account: &BareJid, rows: &Rows) -> Result<(), StoreError> {
        let Some(vcard) = self.vcards.found(rows)? else { return Ok(()) };
        self.registry.with(account, |account| {
            if let Some(account) = account {
                // A session that was faster may have changed it already.
                account.photo.get_or_insert_with(|| vcard.photo.into());
            }
        });
        Ok(())
    }

    /// A step: available presence that says nothing of a picture says what the server knows (XEP-0153 §3.1).
    pub fn add_photo<'a>(&self, session: &SessionHandle, presence: &'a Stanza) -> Cow<'a, Stanza> {
        let photo = self.registry.with(&session.account, |account| account.and_then(|account| account.photo.clone()));
        let Some(photo) = photo else { return Cow::Borrowed(presence) };
        match presence.child("x", NS_UPDATE).map(|child| child.element()) {
            None => Cow::Owned(presence.with_child(&update(&photo))),
            // A client that is not ready to say leaves it to the server (XEP-0398 §4).
            Some(child) if child.child("photo", NS_UPDATE).is_none() => Cow::Owned(with_update(presence, &photo)),
            Some(_) => Cow::Borrowed(presence),
        }
    }

    async fn get_own(self: Arc<Self>, request: Request) -> Reply {
        match self.of(&request.to).await? {
            Some(vcard) => Ok(Some(vcard)),
            None => Err(StanzaCondition::ItemNotFound.into()),
        }
    }

    /// §3.3: an account without a vCard and no account at all look alike.
    async fn get_other(self: Arc<Self>, request: Request) -> Reply {
        match self.of(&request.to).await? {
            Some(vcard) => Ok(Some(vcard)),
            None => Err(StanzaCondition::ServiceUnavailable.into()),
        }
    }

    /// The vCard of an account.
    pub async fn of(&self, account: &BareJid) -> Result<Option<Element>, StanzaError> {
        let vcard = self.vcards.get(&accounts::owner(account)).await.map_err(refusal)?;
        Ok(vcard.map(|vcard| vcard.element))
    }

    fn get_host(&self, query: &Query<'_>) -> Reply {
        let field = |name, text: &str| Element::new(name, NS).with_text(text);
        let vcard = Element::new("vCard", NS)
            .with(field("FN", query.to.domain()))
            .with(field("DESC", "An XMPP server that runs Magpie."))
            .with(field("JABBERID", query.to.domain()));
        Ok(Some(vcard))
    }

    /// Those who know the newer form, or the nodes of the picture, find it there as soon as it is answered (XEP-0292, XEP-0398).
    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let (server, account) = (&request.server, &request.session()?.account);
        let vcard = request.payload();
        check_size(&vcard, self.deps.config.load().limits.stored_bytes_max)?;
        let kept = server.modules.pubsub.store_vcard(server, account, Vcard::new(vcard)).await?;
        // The answer first: the client then knows its own new picture in the presence that follows.
        request.answer(None);
        kept.tell(server).await;
        Ok(None)
    }

    /// The vCard of an account, with what the server knows of it.
    pub async fn stored(&self, account: &BareJid) -> Result<Option<Vcard>, StanzaError> {
        self.vcards.get(&accounts::owner(account)).await.map_err(refusal)
    }

    /// Stores a vCard together with what else is in the batch; gives what becomes of the account's presence when that is done.
    pub fn commit(&self, account: &BareJid, vcard: &Vcard, mut batch: Batch) -> (Ticket, Shown) {
        let photo: Arc<str> = vcard.photo.as_str().into();
        self.vcards.put(&mut batch, &accounts::owner(account), vcard);
        // Under the account's lock, so that of two changes the later one is the last in the store and here.
        self.registry.with(account, |entry| {
            let before = entry.and_then(|entry| entry.photo.replace(Arc::clone(&photo)));
            (self.store.commit(batch), Shown { before, photo })
        })
    }

    /// Contacts see the picture that the account has now.
    pub async fn show(&self, server: &Arc<Server>, account: &BareJid, Shown { before, photo }: &Shown) {
        if before.as_deref() != Some(&**photo) {
            let change = |presence: &Stanza| replaced(presence, before.as_deref(), photo);
            server.modules.presence.show_again(server, account, change).await;
        }
    }

    /// Somebody else's (§3.2).
    fn refuse(&self, _query: &Query<'_>) -> Reply {
        Err(StanzaCondition::Forbidden.into())
    }
}

/// The child of presence that names the picture; an empty hash means that there is none (XEP-0153 §4.1).
fn update(photo: &str) -> Element {
    Element::new("x", NS_UPDATE).with(Element::new("photo", NS_UPDATE).with_text(photo))
}

/// The presence with the new hash, where it had the old one, or none. `None`: its client speaks for itself.
fn replaced(presence: &Stanza, before: Option<&str>, photo: &str) -> Option<Stanza> {
    let Some(child) = presence.child("x", NS_UPDATE) else {
        return Some(presence.with_child(&update(photo)));
    };
    match child.element().child("photo", NS_UPDATE).map(Element::text) {
        Some(shown) if Some(shown.as_str()) != before => None,
        _ => Some(with_update(presence, photo)),
    }
}

fn with_update(presence: &Stanza, photo: &str) -> Stanza {
    presence.without_children(|child| child.is("x", NS_UPDATE)).with_child(&update(photo))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// SHA-1 of `abc` (FIPS 180-2 appendix A).
    const ABC: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";

    fn vcard(content: &str) -> Vcard {
        Vcard::new(Element::parse(format!("<vCard xmlns='{NS}'>{content}</vCard>").as_bytes(), ns::CLIENT).unwrap())
    }

    fn presence(content: &str) -> Stanza {
        Stanza::parse(format!("<presence from='a@b/c'>{content}</presence>").as_bytes()).unwrap()
    }

    fn shown(presence: &Stanza) -> Option<String> {
        Some(presence.child("x", NS_UPDATE)?.element().child("photo", NS_UPDATE)?.text())
    }

    #[test]
    fn the_hash_is_of_the_decoded_picture_whatever_the_line_breaks_and_padding() {
        for text in ["YWJj", " YW\n Jj\r\n", "YWJj"] {
            assert_eq!(vcard(&format!("<FN>A</FN><PHOTO><BINVAL>{text}</BINVAL></PHOTO>")).photo, ABC);
        }
        assert_eq!(vcard("<PHOTO><BINVAL>YQ</BINVAL></PHOTO>"), {
            let mut padded = vcard("<PHOTO><BINVAL>YQ==</BINVAL></PHOTO>");
            padded.element = vcard("<PHOTO><BINVAL>YQ</BINVAL></PHOTO>").element;
            padded
        });
    }

    #[test]
    fn a_vcard_without_a_readable_picture_has_no_hash() {
        for content in [
            "",
            "<FN>A</FN>",
            "<PHOTO/>",
            "<PHOTO><BINVAL/></PHOTO>",
            "<PHOTO><BINVAL>?</BINVAL></PHOTO>",
            "<PHOTO><EXTVAL>http://example.org/</EXTVAL></PHOTO>",
        ] {
            assert_eq!(vcard(content).photo, "", "{content}");
        }
        assert_eq!(vcard("<PHOTO><EXTVAL>x</EXTVAL></PHOTO><PHOTO><BINVAL>YWJj</BINVAL></PHOTO>").photo, ABC);
    }

    #[test]
    fn a_stored_vcard_is_read_as_it_was() {
        for content in ["", "<FN>A &amp; B\n</FN><PHOTO><BINVAL>YWJj</BINVAL></PHOTO>"] {
            let vcard = vcard(content);
            let mut bytes = Vec::new();
            vcard.encode(&mut bytes);
            assert_eq!(Vcard::decode(&bytes), Some(vcard));
        }
        assert_eq!(Vcard::decode(b"<vCard xmlns='vcard-temp'/>"), None);
    }

    #[test]
    fn presence_that_shows_the_old_picture_or_none_shows_the_new_one() {
        let plain = presence("<show>away</show>");
        let first = replaced(&plain, None, ABC).unwrap();
        assert_eq!(shown(&first).as_deref(), Some(ABC));
        assert!(first.child("show", ns::CLIENT).is_some());
        let removed = replaced(&first, Some(ABC), "").unwrap();
        assert_eq!(shown(&removed).as_deref(), Some(""));
        assert_eq!(removed.children().count(), 2);
    }

    #[test]
    fn a_client_that_speaks_for_itself_is_not_corrected() {
        let own = presence("<x xmlns='vcard-temp:x:update'><photo>00ff</photo></x>");
        assert_eq!(replaced(&own, Some(ABC), ""), None);
        let not_ready = presence("<x xmlns='vcard-temp:x:update'/>");
        assert_eq!(replaced(&not_ready, Some(""), ABC).as_ref().and_then(shown).as_deref(), Some(ABC));
    }
}
