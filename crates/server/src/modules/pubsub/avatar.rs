//! XEP-0398: User Avatar to vCard-Based Avatars Conversion, XEP-0084: User Avatar
//!
//! One picture, wherever a client puts it: what is published goes into the vCard, where anybody may see it, and what is put
//! into the vCard is published.

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, PUBLISH_OPTIONS};
use magpie_proto::xeps::pubsub_config::AccessModel;
use magpie_proto::{Element, StanzaError};

use super::Pubsub;
use super::storage::{Change, Item};
use crate::modules::vcard::{NS as NS_VCARD, Picture, Vcard};
use crate::server::Server;

/// The node with the picture (XEP-0084 §4.1).
const DATA: &str = "urn:xmpp:avatar:data";

/// The node that says which picture it is (XEP-0084 §4.2).
pub(super) const METADATA: &str = "urn:xmpp:avatar:metadata";

impl Pubsub {
    /// An account says which picture it has: the vCard gets it, if everybody may see it (XEP-0398 §7).
    pub(super) async fn avatar_published(&self, server: &Server, change: &mut Change<'_>) -> Result<(), StanzaError> {
        let last = match change.node(METADATA).await? {
            Some(metadata) => change.last(METADATA, &metadata).await?,
            None => None,
        };
        let infos: Vec<&Element> = last.iter().filter_map(Item::payload).flat_map(Element::children).collect();
        if infos.is_empty() {
            return put_picture(server, change, None).await;
        }
        // Of several versions the one that is here.
        let here = |info: &&Element| info.is("info", METADATA) && info.attr("url").is_none();
        let Some(info) = infos.into_iter().find(here) else { return Ok(()) };
        let (Some(id), Some(data)) = (info.attr("id"), change.node(DATA).await?) else { return Ok(()) };
        if data.config.access != AccessModel::Open {
            return Ok(());
        }
        let item = change.item(DATA, &data, id).await?;
        let payload = item.as_ref().and_then(Item::payload);
        let text = payload.filter(|payload| payload.is("data", DATA)).map(Element::text);
        let kind = info.attr("type").unwrap_or("image/png");
        // A picture that is not the one that is named is none (XEP-0398 §3.1).
        match text.and_then(|text| Picture::parse(&text, kind)).filter(|picture| picture.hash == id) {
            Some(picture) => put_picture(server, change, Some(&picture)).await,
            None => Ok(()),
        }
    }

    /// A vCard has another picture, or none: it is published (XEP-0398 §3.2).
    pub(super) async fn put_avatar(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        picture: Option<&Picture>,
    ) -> Result<(), StanzaError> {
        if let Some(picture) = picture {
            let data = Element::new("data", DATA).with_text(picture.base64.as_str());
            self.put_openly(server, change, DATA, &picture.hash, data).await?;
        } else if change.node(METADATA).await?.is_none() {
            return Ok(());
        }
        let info = picture.map(|picture| {
            Element::new("info", METADATA)
                .with_attr("id", &picture.hash)
                .with_attr("type", &picture.kind)
                .with_attr("bytes", picture.bytes.to_string())
        });
        let id = picture.map_or("current", |picture| &picture.hash);
        let metadata = Element::new("metadata", METADATA).with_all(info);
        self.put_openly(server, change, METADATA, id, metadata).await
    }

    /// A vCard is for everybody, and so is a node that is made of it.
    async fn put_openly(
        &self,
        server: &Server,
        change: &mut Change<'_>,
        name: &str,
        id: &str,
        payload: Element,
    ) -> Result<(), StanzaError> {
        let is_new = change.node(name).await?.is_none();
        let open = Form::typed(FormKind::Submit, PUBLISH_OPTIONS)
            .with(Field::new(FieldType::ListSingle, "pubsub#access_model").with_value(AccessModel::Open.name()));
        let item = Element::new("item", NS).with_attr("id", id).with(payload);
        self.put_copy(server, change, name, &item, is_new.then_some(&open)).await
    }
}

/// Puts a picture into the account's vCard, or takes it out.
async fn put_picture(server: &Server, change: &mut Change<'_>, picture: Option<&Picture>) -> Result<(), StanzaError> {
    let known = server.modules.vcard.stored(&change.place().address).await?;
    if picture.is_none() && known.as_ref().is_none_or(|vcard| vcard.photo().is_empty()) {
        return Ok(());
    }
    let vcard = known.unwrap_or_else(|| Vcard::new(Element::new("vCard", NS_VCARD))).with_picture(picture);
    change.put_vcard(vcard);
    Ok(())
}
