//! XEP-0060 §8.2: what a node is configured with, as a value and as a form.

use super::data_forms::{Field, FieldType, Form, FormKind};
use super::pubsub::NODE_CONFIG;

words! {
    /// §4.5: who may subscribe and retrieve items.
    AccessModel {
        /// Anybody.
        Open = "open",
        /// Who may see the owner's presence.
        Presence = "presence",
        /// Who stands in one of the named groups of the owner's roster.
        Roster = "roster",
        /// Whom an owner lets.
        Authorize = "authorize",
        /// Who is affiliated.
        Whitelist = "whitelist",
    }
}

words! {
    /// Who may publish, besides owners and publishers.
    PublishModel {
        /// Nobody.
        Publishers = "publishers",
        /// Subscribers.
        Subscribers = "subscribers",
        /// Anybody.
        Open = "open",
    }
}

words! {
    /// When the last item is sent without being asked for.
    SendLast {
        /// Never.
        Never = "never",
        /// To new subscribers.
        OnSub = "on_sub",
        /// To new subscribers, and whenever a subscriber comes online.
        OnSubAndPresence = "on_sub_and_presence",
    }
}

words! {
    /// What a notification is sent as.
    NotificationType {
        /// `headline`: for who is there.
        Headline = "headline",
        /// `normal`: kept for who is not.
        Normal = "normal",
        /// `chat`
        Chat = "chat",
    }
}

words! {
    /// What becomes of a publication to a node that is full.
    WhenFull {
        /// The oldest goes, and subscribers are told.
        RetractOldest = "retract-oldest",
        /// The oldest goes in silence.
        DiscardOldest = "discard-oldest",
        /// It is refused.
        Reject = "reject",
    }
}

/// What a node is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `title`
    pub title: String,
    /// `description`
    pub description: String,
    /// `type`: the namespace of its payloads.
    pub payload_type: String,
    /// `language`
    pub language: String,
    /// `access_model`
    pub access: AccessModel,
    /// `roster_groups_allowed`
    pub groups: Vec<String>,
    /// `publish_model`
    pub publish: PublishModel,
    /// `max_items`; `None` is `max`: as many as the server lets it.
    pub max_items: Option<u32>,
    /// `item_expire`, in seconds; `None` is `max`: never.
    pub expire_seconds: Option<u32>,
    /// `max_payload_size`, in bytes; `None`: as much as the server lets it.
    pub payload_bytes_max: Option<u32>,
    /// `persist_items`
    pub persist: bool,
    /// `deliver_notifications`
    pub deliver: bool,
    /// `deliver_payloads`
    pub payloads: bool,
    /// `send_last_published_item`
    pub send_last: SendLast,
    /// `notification_type`
    pub notification: NotificationType,
    /// `notify_config`
    pub notify_config: bool,
    /// `notify_delete`
    pub notify_delete: bool,
    /// `notify_retract`
    pub notify_retract: bool,
    /// `notify_sub`
    pub notify_sub: bool,
    /// `subscribe`: whether there may be subscriptions.
    pub subscribe: bool,
    /// `publish_node_full`
    pub when_full: WhenFull,
}

/// A form that a node cannot be configured with, by what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A field that is not known.
    #[error("there is no field '{0}'")]
    Unknown(String),
    /// A value that its field does not have.
    #[error("the field '{0}' has no such value")]
    Value(String),
    /// Another form.
    #[error("the form is of another type")]
    FormType,
}

impl NodeConfig {
    /// XEP-0163 §5: what a node of an account is configured with unless its owner says otherwise.
    pub fn personal() -> Self {
        Self {
            title: String::new(),
            description: String::new(),
            payload_type: String::new(),
            language: String::new(),
            access: AccessModel::Presence,
            groups: Vec::new(),
            publish: PublishModel::Publishers,
            max_items: Some(1),
            expire_seconds: None,
            payload_bytes_max: None,
            persist: true,
            deliver: true,
            payloads: true,
            send_last: SendLast::OnSubAndPresence,
            notification: NotificationType::Headline,
            notify_config: false,
            notify_delete: true,
            notify_retract: true,
            notify_sub: false,
            subscribe: true,
            when_full: WhenFull::DiscardOldest,
        }
    }

    /// What a node of a service is configured with unless its owner says otherwise.
    pub fn general() -> Self {
        Self { access: AccessModel::Open, max_items: Some(20), send_last: SendLast::OnSub, ..Self::personal() }
    }

    /// With the values of a form of the given type. What it does not name stays as it is.
    ///
    /// # Errors
    /// Where it has a field that is not known, or a value that its field does not have: then nothing is changed.
    pub fn with(&self, form: &Form, form_type: &str) -> Result<Self, ConfigError> {
        if form.form_type().is_some_and(|found| found != form_type) {
            return Err(ConfigError::FormType);
        }
        let mut config = self.clone();
        for field in &form.fields {
            if let Some(var) = field.var.as_deref().filter(|var| *var != super::data_forms::FORM_TYPE) {
                config.set(var, field)?;
            }
        }
        Ok(config)
    }

    fn set(&mut self, var: &str, field: &Field) -> Result<(), ConfigError> {
        let wrong = || ConfigError::Value(var.to_owned());
        let text = || field.value().unwrap_or_default().to_owned();
        let flag = || field.boolean().ok_or_else(wrong);
        let word = field.value().unwrap_or_default();
        let number = || word.trim().parse::<u32>().map_err(|_| wrong());
        match var.strip_prefix("pubsub#").unwrap_or_default() {
            "title" => self.title = text(),
            "description" => self.description = text(),
            "type" => self.payload_type = text(),
            "language" => self.language = text(),
            "access_model" => self.access = AccessModel::parse(word).ok_or_else(wrong)?,
            "roster_groups_allowed" => self.groups.clone_from(&field.values),
            "publish_model" => self.publish = PublishModel::parse(word).ok_or_else(wrong)?,
            "max_items" => self.max_items = if word == "max" { None } else { Some(number()?) },
            // Zero is how implementations before `max` said never.
            "item_expire" => {
                self.expire_seconds = if matches!(word, "max" | "" | "0") { None } else { Some(number()?) };
            }
            "max_payload_size" => self.payload_bytes_max = if word.is_empty() { None } else { Some(number()?) },
            "persist_items" => self.persist = flag()?,
            "deliver_notifications" => self.deliver = flag()?,
            "deliver_payloads" => self.payloads = flag()?,
            "send_last_published_item" => self.send_last = SendLast::parse(word).ok_or_else(wrong)?,
            "notification_type" => self.notification = NotificationType::parse(word).ok_or_else(wrong)?,
            "notify_config" => self.notify_config = flag()?,
            "notify_delete" => self.notify_delete = flag()?,
            "notify_retract" => self.notify_retract = flag()?,
            "notify_sub" => self.notify_sub = flag()?,
            "subscribe" => self.subscribe = flag()?,
            "publish_node_full" => self.when_full = WhenFull::parse(word).ok_or_else(wrong)?,
            // There is one kind of node.
            "node_type" if word == "leaf" => {}
            "node_type" => return Err(wrong()),
            _ => return Err(ConfigError::Unknown(var.to_owned())),
        }
        Ok(())
    }

    /// As a form with every field.
    pub fn form(&self, kind: FormKind) -> Form {
        let text = |var: &str, label: &str, value: &str| {
            let field = Field::new(FieldType::TextSingle, format!("pubsub#{var}")).with_label(label);
            if value.is_empty() { field } else { field.with_value(value) }
        };
        let flag = |var: &str, label: &str, value: bool| {
            Field::new(FieldType::Boolean, format!("pubsub#{var}")).with_label(label).with_bool(value)
        };
        let or_max = |value: Option<u32>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        let list = |var: &str, label: &str, value: &str, all: &[&str]| {
            let field = Field::new(FieldType::ListSingle, format!("pubsub#{var}")).with_label(label).with_value(value);
            all.iter().fold(field, |field, word| field.with_option(*word, *word))
        };
        let groups = Field::new(FieldType::ListMulti, "pubsub#roster_groups_allowed")
            .with_label("The roster groups of which contacts may subscribe and retrieve items")
            .with_values(self.groups.iter().cloned());
        let payload_bytes_max = self.payload_bytes_max.map(|max| max.to_string()).unwrap_or_default();
        Form::typed(kind, NODE_CONFIG)
            .with(text("title", "A name for people", &self.title))
            .with(text("description", "A description for people", &self.description))
            .with(text("type", "The namespace of payloads", &self.payload_type))
            .with(text("language", "The language of the node", &self.language))
            .with(list(
                "access_model",
                "Who may subscribe and retrieve items",
                self.access.name(),
                &names(AccessModel::ALL, AccessModel::name),
            ))
            .with(groups)
            .with(list(
                "publish_model",
                "Who may publish",
                self.publish.name(),
                &names(PublishModel::ALL, PublishModel::name),
            ))
            .with(text("max_items", "How many items are kept", &or_max(self.max_items)))
            .with(text("item_expire", "After how many seconds items go", &or_max(self.expire_seconds)))
            .with(text("max_payload_size", "How many bytes a payload may have", &payload_bytes_max))
            .with(flag("persist_items", "Whether items are kept", self.persist))
            .with(flag("deliver_notifications", "Whether subscribers are notified", self.deliver))
            .with(flag("deliver_payloads", "Whether notifications have payloads", self.payloads))
            .with(list(
                "send_last_published_item",
                "When the last item is sent",
                self.send_last.name(),
                &names(SendLast::ALL, SendLast::name),
            ))
            .with(list(
                "notification_type",
                "What notifications are sent as",
                self.notification.name(),
                &names(NotificationType::ALL, NotificationType::name),
            ))
            .with(flag("notify_config", "Whether subscribers hear of a new configuration", self.notify_config))
            .with(flag("notify_delete", "Whether subscribers hear that the node is deleted", self.notify_delete))
            .with(flag("notify_retract", "Whether subscribers hear that items are removed", self.notify_retract))
            .with(flag("notify_sub", "Whether owners hear of subscribers who come and go", self.notify_sub))
            .with(flag("subscribe", "Whether there may be subscriptions", self.subscribe))
            .with(list(
                "publish_node_full",
                "What becomes of a publication to a full node",
                self.when_full.name(),
                &names(WhenFull::ALL, WhenFull::name),
            ))
    }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().copied().map(name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::xeps::pubsub::PUBLISH_OPTIONS;

    fn form(fields: &[(&str, &str)]) -> Form {
        fields.iter().fold(Form::typed(FormKind::Submit, NODE_CONFIG), |form, (var, value)| {
            form.with(Field { var: Some((*var).to_owned()), ..Field::default() }.with_value(*value))
        })
    }

    #[test]
    fn a_configuration_is_read_as_it_is_written() {
        for config in [
            NodeConfig::personal(),
            NodeConfig::general(),
            NodeConfig {
                title: "a <b>".into(),
                access: AccessModel::Roster,
                groups: vec!["x".into(), "y".into()],
                max_items: None,
                expire_seconds: Some(60),
                payload_bytes_max: Some(1),
                when_full: WhenFull::Reject,
                notification: NotificationType::Normal,
                ..NodeConfig::general()
            },
        ] {
            let written = config.form(FormKind::Submit);
            assert_eq!(NodeConfig::personal().with(&written, NODE_CONFIG), Ok(config));
        }
    }

    #[test]
    fn what_a_form_does_not_name_stays_as_it_is() {
        let config = NodeConfig::personal().with(&form(&[("pubsub#max_items", "max")]), NODE_CONFIG).unwrap();
        assert_eq!(config, NodeConfig { max_items: None, ..NodeConfig::personal() });
        let same = NodeConfig::personal().with(&Form::new(FormKind::Submit), NODE_CONFIG).unwrap();
        assert_eq!(same, NodeConfig::personal());
    }

    #[test]
    fn unknown_fields_and_values_are_refused_by_name() {
        let with = |var, value| NodeConfig::personal().with(&form(&[(var, value)]), NODE_CONFIG);
        for var in ["pubsub#nothing", "title", "", "pubsub#"] {
            assert_eq!(with(var, "1"), Err(ConfigError::Unknown(var.into())), "{var}");
        }
        for (var, value) in [
            ("pubsub#access_model", "secret"),
            ("pubsub#max_items", "-1"),
            ("pubsub#max_items", "99999999999"),
            ("pubsub#persist_items", "perhaps"),
            ("pubsub#node_type", "collection"),
            ("pubsub#item_expire", "soon"),
        ] {
            assert_eq!(with(var, value), Err(ConfigError::Value(var.into())), "{var}");
        }
        let other = form(&[]);
        assert_eq!(NodeConfig::personal().with(&other, PUBLISH_OPTIONS), Err(ConfigError::FormType));
    }
}
