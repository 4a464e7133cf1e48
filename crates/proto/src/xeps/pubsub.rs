//! XEP-0060: Publish-Subscribe
//!
//! The words of the protocol: affiliations, subscription states, its own error conditions. What a node is configured with is in
//! [`super::pubsub_config`].

use crate::{Element, StanzaCondition, StanzaError};

/// The namespace of what entities, subscribers and publishers ask.
pub const NS: &str = "http://jabber.org/protocol/pubsub";
/// The namespace of what owners ask.
pub const NS_OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
/// The namespace of notifications.
pub const NS_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// The namespace of error conditions.
pub const NS_ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// The type of forms that configure a node.
pub const NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// The type of forms with preconditions of a publication (§7.1.5).
pub const PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
/// The type of forms that describe a node (§5.4).
pub const META_DATA: &str = "http://jabber.org/protocol/pubsub#meta-data";
/// The type of forms by which an owner decides on a subscription (§8.6).
pub const SUBSCRIBE_AUTHORIZATION: &str = "http://jabber.org/protocol/pubsub#subscribe_authorization";
/// The type of forms by which a subscriber says what it wants (§6.3).
pub const SUBSCRIBE_OPTIONS: &str = "http://jabber.org/protocol/pubsub#subscribe_options";

/// §4.1: what an entity is to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Affiliation {
    /// `owner`
    Owner,
    /// `publisher`
    Publisher,
    /// `publish-only`: publishes, but sees nothing
    PublishOnly,
    /// `member`
    Member,
    /// `none`
    #[default]
    None,
    /// `outcast`
    Outcast,
}

impl Affiliation {
    const ALL: [Self; 6] = [Self::Owner, Self::Publisher, Self::PublishOnly, Self::Member, Self::None, Self::Outcast];

    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Publisher => "publisher",
            Self::PublishOnly => "publish-only",
            Self::Member => "member",
            Self::None => "none",
            Self::Outcast => "outcast",
        }
    }

    /// Reads the attribute.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|affiliation| affiliation.name() == name)
    }
}

/// §4.2: how a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubscriptionState {
    /// `none`
    #[default]
    None,
    /// `pending`: an owner has to decide
    Pending,
    /// `unconfigured`: options have to be set first
    Unconfigured,
    /// `subscribed`
    Subscribed,
}

impl SubscriptionState {
    const ALL: [Self; 4] = [Self::None, Self::Pending, Self::Unconfigured, Self::Subscribed];

    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Unconfigured => "unconfigured",
            Self::Subscribed => "subscribed",
        }
    }

    /// Reads the attribute.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// An error with one of the conditions of the protocol's own.
pub fn error(condition: StanzaCondition, specific: &str) -> StanzaError {
    StanzaError::from(condition).with_application(Element::new(specific, NS_ERRORS))
}

/// `unsupported`, with the feature that is not.
pub fn unsupported(feature: &str) -> StanzaError {
    let element = Element::new("unsupported", NS_ERRORS).with_attr("feature", feature);
    StanzaError::from(StanzaCondition::FeatureNotImplemented).with_application(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_affiliation_and_state_is_read_as_it_is_written_and_nothing_else_is() {
        for affiliation in Affiliation::ALL {
            assert_eq!(Affiliation::parse(affiliation.name()), Some(affiliation));
        }
        for state in SubscriptionState::ALL {
            assert_eq!(SubscriptionState::parse(state.name()), Some(state));
        }
        assert_eq!((Affiliation::parse("admin"), SubscriptionState::parse("")), (None, None));
    }
}
