//! XEP-0357: Push Notifications, what a push service is told.

use super::data_forms::{Field, FieldType, Form, FormKind};
use super::pubsub;
use crate::Element;

/// The namespace.
pub const NS: &str = "urn:xmpp:push:0";

/// The type of the form that sums up what waits.
pub const NS_SUMMARY: &str = "urn:xmpp:push:summary";

/// The type of the form with which a service lets something be published.
pub const NS_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";

/// Bytes of a body that are shown.
const BODY_BYTES_MAX: usize = 1024;

/// What waits for somebody (§5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many messages.
    pub count: u64,
    /// How many requests for a subscription; 0 where they are no news.
    pub requests: u64,
    /// From whom the last of them is.
    pub sender: Option<String>,
    /// What the last of them says.
    pub body: Option<String>,
}

impl Summary {
    /// `<notification/>`
    pub fn notification(&self) -> Element {
        let text = |var: &str, value: &str| Field::new(FieldType::TextSingle, var).with_value(value);
        let mut form = Form::typed(FormKind::Submit, NS_SUMMARY).with(text("message-count", &self.count.to_string()));
        if self.requests > 0 {
            form = form.with(text("pending-subscription-count", &self.requests.to_string()));
        }
        let others = [("last-message-sender", &self.sender), ("last-message-body", &self.body)];
        for (var, value) in others {
            form.fields.extend(value.as_ref().map(|value| text(var, value)));
        }
        Element::new("notification", NS).with(form.element())
    }

    /// `<pubsub/>`, to be published at the node (none where it is empty), with the form that the service wants to see.
    pub fn publication(&self, node: &str, options: Option<Element>) -> Element {
        let mut publish = Element::new("publish", pubsub::NS);
        if !node.is_empty() {
            publish.set_attr("node", node);
        }
        Element::new("pubsub", pubsub::NS)
            .with(publish.with(Element::new("item", pubsub::NS).with(self.notification())))
            .with_all(options.map(|form| Element::new("publish-options", pubsub::NS).with(form)))
    }
}

/// As much of a body as is shown.
pub fn shortened(mut body: String) -> String {
    if body.len() > BODY_BYTES_MAX {
        body.truncate(body.floor_char_boundary(BODY_BYTES_MAX));
        body.push('…');
    }
    body
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_summary_has_what_is_known_and_nothing_else() {
        let form = |sender: Option<&str>, body: Option<&str>| {
            let (sender, body) = (sender.map(str::to_owned), body.map(str::to_owned));
            Form::of(&Summary { count: 2, requests: 0, sender, body }.notification()).unwrap()
        };
        let all = form(Some("a@b/c"), Some("hi"));
        let values = ["message-count", "last-message-sender", "last-message-body"].map(|var| all.value(var));
        assert_eq!((all.form_type(), values), (Some(NS_SUMMARY), [Some("2"), Some("a@b/c"), Some("hi")]));
        assert_eq!(form(None, None).fields.len(), 2);
        let asked = Summary { count: 0, requests: 3, sender: None, body: None };
        let asked = Form::of(&asked.notification()).unwrap();
        let values = ["message-count", "pending-subscription-count"].map(|var| asked.value(var));
        assert_eq!((values, asked.fields.len()), ([Some("0"), Some("3")], 3));
    }

    #[test]
    fn a_long_body_is_cut_between_characters() {
        let cut = shortened("ü".repeat(BODY_BYTES_MAX));
        assert_eq!((cut.chars().count(), cut.ends_with("ü…")), (BODY_BYTES_MAX / 2 + 1, true));
        assert_eq!(shortened("x".repeat(BODY_BYTES_MAX)).len(), BODY_BYTES_MAX);
    }
}
