//! XEP-0060 §6.3: what a subscriber chooses for a subscription: whether it is notified, which it may not want for a while.

use magpie_proto::xeps::data_forms::{FORM_TYPE, Field, FieldType, Form, FormKind};
use magpie_proto::xeps::pubsub::{NS, SUBSCRIBE_OPTIONS, error};
use magpie_proto::{Element, StanzaCondition, StanzaError};

use super::storage::Place;
use super::subscribe::jid_of;
use super::{Pubsub, node_name};
use crate::requests::{Reply, Request};

const DELIVER: &str = "pubsub#deliver";

impl Pubsub {
    /// §6.3.2
    pub(super) async fn options(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let (name, jid) = (node_name(asked)?, jid_of(asked)?);
        has_no_subid(asked)?;
        let node = self.existing(place, name).await?;
        node.require_subscription(&request.from.to_bare(), &jid)?;
        let options = Element::new("options", NS).with_attr("node", name).with_attr("jid", &jid);
        Ok(Some(Element::new("pubsub", NS).with(options.with(form(node.delivers_to(&jid))))))
    }

    /// §6.3.5
    pub(super) async fn set_options(&self, request: &Request, place: &Place, asked: &Element) -> Reply {
        let (name, jid) = (node_name(asked)?, jid_of(asked)?);
        has_no_subid(asked)?;
        let chosen = read(asked)?;
        let _turn = self.turn(place).await;
        let mut node = self.existing(place, name).await?;
        node.require_subscription(&request.from.to_bare(), &jid)?;
        if let Some(deliver) = chosen {
            node.deliver_to(&jid, deliver);
            self.save(&request.server, place, name, &node).await?;
        }
        Ok(None)
    }

    /// §6.4: what a subscription begins with, at any node.
    pub(super) fn default_options(asked: &Element) -> Reply {
        let mut default = Element::new("default", NS);
        if let Some(name) = asked.attr("node") {
            default.set_attr("node", name);
        }
        Ok(Some(Element::new("pubsub", NS).with(default.with(form(true)))))
    }
}

fn form(deliver: bool) -> Element {
    let field = Field::new(FieldType::Boolean, DELIVER).with_label("Whether you are notified").with_bool(deliver);
    Form::typed(FormKind::Form, SUBSCRIBE_OPTIONS).with(field).element()
}

/// What a subscriber has chosen, for another server; nothing, where that is what a subscription begins with.
pub fn exported(deliver: bool) -> Option<Element> {
    let field = Field::new(FieldType::Boolean, DELIVER).with_bool(deliver);
    (!deliver).then(|| Form::typed(FormKind::Submit, SUBSCRIBE_OPTIONS).with(field).element())
}

/// What a subscriber has chosen at another server: whether it is notified, and the names of what there is no choice of here.
pub fn imported(options: &Element) -> (Option<bool>, Vec<String>) {
    let (mut deliver, mut others) = (None, Vec::new());
    // Servers that keep no value for a field write it without.
    let fields = Form::of(options).into_iter().flat_map(|form| form.fields);
    for field in fields.filter(|field| field.value().is_some_and(|value| !value.is_empty())) {
        match field.var.as_deref() {
            Some(FORM_TYPE) => {}
            Some(DELIVER) if field.boolean().is_some() => deliver = field.boolean(),
            var => others.push(var.unwrap_or_default().to_owned()),
        }
    }
    (deliver, others)
}

/// What `<options/>` choose; nothing, where they leave it as it is.
pub(super) fn read(options: &Element) -> Result<Option<bool>, StanzaError> {
    let invalid = || error(StanzaCondition::BadRequest, "invalid-options");
    let form = Form::of(options).ok_or_else(invalid)?;
    match form.kind {
        FormKind::Cancel => return Ok(None),
        FormKind::Submit if form.form_type() == Some(SUBSCRIBE_OPTIONS) => {}
        _ => return Err(invalid()),
    }
    if form.fields.iter().any(|field| !matches!(field.var.as_deref(), Some(DELIVER | FORM_TYPE))) {
        return Err(invalid());
    }
    form.field(DELIVER).map(|field| field.boolean().ok_or_else(invalid)).transpose()
}

/// §6.3.4.3: each address has one subscription, and none has an id.
fn has_no_subid(asked: &Element) -> Result<(), StanzaError> {
    match asked.attr("subid") {
        Some(_) => Err(error(StanzaCondition::NotAcceptable, "invalid-subid")),
        None => Ok(()),
    }
}
