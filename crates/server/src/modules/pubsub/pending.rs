//! XEP-0060 §8.7: an owner asks again who waits for a decision on a subscription: the command `get-pending` of XEP-0050.
//!
//! Nothing is kept between its two stages: the second one names the node, and is checked as if there had been no first.

use std::sync::Arc;

use magpie_proto::xeps::data_forms::{Field, FieldType, Form, FormKind};
use magpie_proto::xeps::disco::{Identity, Info, Item, Items};
use magpie_proto::xeps::pubsub::{SUBSCRIBE_AUTHORIZATION, SubscriptionState};
use magpie_proto::{Element, Jid, StanzaCondition, StanzaError};

use super::node::Node;
use super::{NODES_ASKED_MAX, Pubsub, place};
use crate::modules::adhoc::NS;
use crate::requests::{Reply, Request};
use crate::server::random_text;

/// The command.
pub(super) const GET_PENDING: &str = "http://jabber.org/protocol/pubsub#get-pending";

impl Pubsub {
    pub(super) async fn command(self: Arc<Self>, request: Request) -> Reply {
        let payload = request.payload();
        if payload.attr("node") != Some(GET_PENDING) {
            return Err(StanzaError::new(StanzaCondition::ItemNotFound, "there is no such command"));
        }
        let id = payload.attr("sessionid").filter(|id| !id.is_empty()).map_or_else(|| random_text(12), str::to_owned);
        let answer = |status: &str| {
            let command = Element::new("command", NS).with_attr("node", GET_PENDING);
            command.with_attr("sessionid", &id).with_attr("status", status)
        };
        let form = match (payload.attr("action"), Form::of(&payload)) {
            (Some("cancel"), _) => return Ok(Some(answer("canceled"))),
            (None | Some("execute" | "next" | "complete"), form) => form,
            (Some("prev"), _) => return Err(refusal("bad-action")),
            _ => return Err(refusal("malformed-action")),
        };
        let Some(form) = form.filter(|form| form.kind == FormKind::Submit) else {
            let actions = Element::new("actions", NS).with_attr("execute", "complete").with(Element::new("complete", NS));
            return Ok(Some(answer("executing").with(actions).with(self.nodes_with_pending(&request).await?.element())));
        };
        let name = form.value("pubsub#node").ok_or_else(|| refusal("bad-payload"))?;
        let place = place(&request);
        let node = self.existing(&place, name).await?;
        node.require_owner(&request.from.to_bare())?;
        request.answer(Some(&answer("completed")));
        for jid in pending(&node) {
            self.send(&request.server, &place, &request.from, &Self::approval_request(&place, name, jid)).await;
        }
        Ok(None)
    }

    /// The asker's nodes at which somebody waits, to choose from.
    async fn nodes_with_pending(&self, request: &Request) -> Result<Form, StanzaError> {
        let who = request.from.to_bare();
        let nodes = self.storage.nodes_of(&place(request), &who, NODES_ASKED_MAX).await?;
        let waiting = nodes.iter().filter(|(_, node)| node.require_owner(&who).is_ok() && pending(node).next().is_some());
        let field = Field::new(FieldType::ListSingle, "pubsub#node").with_label("Node");
        let field = waiting.fold(field, |field, (name, _)| field.with_option(name, name));
        Ok(Form::typed(FormKind::Form, SUBSCRIBE_AUTHORIZATION).with_title("Subscription requests").with(field))
    }

    /// XEP-0050 §2.1: the commands of the service.
    pub(super) fn commands(request: &Request) -> Items {
        let command = Item::new(request.to.clone()).with_node(GET_PENDING).with_name("Subscription requests");
        Items { node: Some(NS.to_owned()), items: vec![command] }
    }

    /// XEP-0050 §2.2: what the command is.
    pub(super) fn command_info() -> Info {
        Info {
            node: Some(GET_PENDING.to_owned()),
            identities: vec![Identity::new("automation", "command-node").with_name("Subscription requests")],
            features: vec![NS.to_owned(), magpie_proto::xeps::data_forms::NS.to_owned()],
            ..Info::default()
        }
    }
}

fn pending(node: &Node) -> impl Iterator<Item = &Jid> {
    node.subscriptions().filter(|(_, state)| *state == SubscriptionState::Pending).map(|(jid, _)| jid)
}

/// XEP-0050 §4.4
fn refusal(name: &str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_application(Element::new(name, NS))
}
