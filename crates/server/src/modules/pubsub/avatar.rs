//! XEP-0398: User Avatar to vCard-Based Avatars Conversion, XEP-0084: User Avatar
//!
//! One picture, wherever a client puts it: what is published goes into the vCard, where anybody may see it, and what is put
//! into the vCard is published.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, PUBLISH_OPTIONS};
use magpie_proto::xeps::pubsub_config::AccessModel;
use magpie_proto::{BareJid, Element};

use super::Pubsub;
use super::storage::{Item, Place};
use crate::modules::vcard::Picture;
use crate::server::Server;

/// The node with the picture (XEP-0084 §4.1).
const DATA: &str = "urn:xmpp:avatar:data";

/// The node that says which picture it is (XEP-0084 §4.2).
pub(super) const METADATA: &str = "urn:xmpp:avatar:metadata";

impl Pubsub {
    /// An account says which picture it has: the vCard gets it, if everybody may see it (XEP-0398 §7).
    pub(super) async fn avatar_published(&self, server: &Arc<Server>, place: &Place) {
        let last = match self.storage.node(place, METADATA).await {
            Ok(Some(metadata)) => self.storage.last(place, METADATA, &metadata).await,
            Ok(None) => Ok(None),
            Err(_) => return,
        };
        let Ok(last) = last else { return };
        let infos: Vec<&Element> = last.iter().filter_map(Item::payload).flat_map(Element::children).collect();
        if infos.is_empty() {
            server.modules.vcard.set_picture(server, &place.address, None).await;
            return;
        }
        // Of several versions the one that is here.
        let Some(info) = infos.into_iter().find(|info| info.is("info", METADATA) && info.attr("url").is_none()) else { return };
        let (Some(id), Ok(Some(data))) = (info.attr("id"), self.storage.node(place, DATA).await) else { return };
        if data.config.access != AccessModel::Open {
            return;
        }
        let Ok(Some(item)) = self.storage.item(place, DATA, &data, id).await else { return };
        let text = item.item.payload().filter(|payload| payload.is("data", DATA)).map(Element::text);
        let kind = info.attr("type").unwrap_or("image/png");
        // A picture that is not the one that is named is none (XEP-0398 §3.1).
        let picture = text.and_then(|text| Picture::parse(&text, kind)).filter(|picture| picture.hash == id);
        if let Some(picture) = picture {
            server.modules.vcard.set_picture(server, &place.address, Some(&picture)).await;
        }
    }

    /// A vCard has another picture, or none: it is published (XEP-0398 §3.2).
    pub async fn publish_avatar(&self, server: &Arc<Server>, account: &BareJid, picture: Option<&Picture>) {
        let place = Place::account(account);
        if let Some(picture) = picture {
            let data = Element::new("data", DATA).with_text(picture.base64.as_str());
            self.publish_openly(server, &place, DATA, &picture.hash, data).await;
        } else if !matches!(self.storage.node(&place, METADATA).await, Ok(Some(_))) {
            return;
        }
        let info = picture.map(|picture| {
            Element::new("info", METADATA)
                .with_attr("id", &picture.hash)
                .with_attr("type", &picture.kind)
                .with_attr("bytes", picture.bytes.to_string())
        });
        let id = picture.map_or("current", |picture| &picture.hash);
        let metadata = Element::new("metadata", METADATA).with_all(info);
        self.publish_openly(server, &place, METADATA, id, metadata).await;
    }

    /// A vCard is for everybody, and so is a node that is made of it.
    async fn publish_openly(&self, server: &Arc<Server>, place: &Place, name: &str, id: &str, payload: Element) {
        let is_new = matches!(self.storage.node(place, name).await, Ok(None));
        let open = Form::typed(FormKind::Submit, PUBLISH_OPTIONS)
            .with(Field::new(FieldType::ListSingle, "pubsub#access_model").with_value(AccessModel::Open.name()));
        let item = Element::new("item", NS).with_attr("id", id).with(payload);
        let options = is_new.then_some(&open);
        let published = self.publish_items(server, place, name, &place.address, &[&item], options, |_| ()).await;
        if let Err(error) = published {
            tracing::debug!(%error, account = %place.address, name, "a picture was not published");
        }
    }
}
