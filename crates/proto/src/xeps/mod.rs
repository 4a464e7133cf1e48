//! Vocabulary without behaviour: what several modules read and write inside their payloads.

#[macro_use]
mod words;

/// XEP-0115: Entity Capabilities
pub mod caps;
/// XEP-0390: Entity Capabilities 2.0
pub mod caps2;
/// XEP-0004: Data Forms
pub mod data_forms;
/// XEP-0082: XMPP Date and Time Profiles
pub mod date_time;
/// XEP-0203: Delayed Delivery
pub mod delay;
/// XEP-0030: Service Discovery
pub mod disco;
/// XEP-0380: Explicit Message Encryption
pub mod encryption;
/// XEP-0297: Stanza Forwarding
pub mod forwarding;
/// XEP-0334: Message Processing Hints
pub mod hints;
/// XEP-0313: Message Archive Management
pub mod mam;
/// XEP-0045: Multi-User Chat
pub mod muc;
/// XEP-0045 §10: what a room is configured with
pub mod muc_config;
/// XEP-0060: Publish-Subscribe
pub mod pubsub;
/// XEP-0060 §8.2: what a node is configured with
pub mod pubsub_config;
/// XEP-0357: Push Notifications
pub mod push;
/// XEP-0372: References
pub mod references;
/// XEP-0059: Result Set Management
pub mod result_sets;
