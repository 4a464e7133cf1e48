//! The index of what Magpie can do: each module with the document it implements.

mod archive_ids;
mod elsewhere;
pub mod listing;
mod push_devices;

use std::future::Future;
use std::sync::Arc;

use magpie_proto::Element;
use magpie_store::StoreError;

use bind2::Binding;

use crate::requests::{Requests, TwoOwners};
use crate::server::Deps;

/// What a module says of itself: service discovery, the list of XEPs and the README come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Which XEP; `None` for an RFC.
    pub xep: Option<u16>,
    /// The document's title.
    pub title: &'static str,
    /// The version of the document that was read.
    pub version: &'static str,
    /// Features that a served domain advertises for it (XEP-0030).
    pub host_features: &'static [&'static str],
    /// Features that an account's bare JID advertises for it.
    pub account_features: &'static [&'static str],
}

impl Modules {
    /// Reads what modules must know before anybody can connect.
    pub async fn load(&self, domains: &[String]) -> Result<(), StoreError> {
        self.invites.load(domains).await?;
        self.notices.load(domains).await?;
        self.archive_preferences.load(domains).await?;
        self.push.load().await
    }
}

/// A module: it owns requests, is a step in `pipeline.rs`, or hears news.
pub trait Module: Send + Sync + Sized + 'static {
    /// What it implements.
    const ABOUT: &'static [About];

    /// Made once, when the server starts.
    fn new(deps: &Deps) -> Self;

    /// What it offers on a stream after authentication (RFC 6120 §4.3.2).
    fn stream_features(&self, _domain: &str) -> Vec<Element> {
        Vec::new()
    }

    /// What can be had within authentication (XEP-0388 §2.1).
    fn inline_features(&self) -> Vec<Element> {
        Vec::new()
    }

    /// What a client can ask for within `<bind/>` (XEP-0386 §3.1), by the name of the feature.
    const BIND_FEATURES: &'static [&'static str] = &[];

    /// A resource was bound by XEP-0386: does what the client asked for, and gives what is to stand in `<bound/>`. Nothing that
    /// comes for the session from now on is written before `<success/>`.
    fn bound(&self, _binding: &mut Binding<'_>) -> impl Future<Output = Vec<Element>> + Send {
        std::future::ready(Vec::new())
    }

    /// Claims its requests.
    fn register(self: &Arc<Self>, _requests: &mut Requests) {}
}

macro_rules! modules {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ident,)*) => {
        $($(#[doc = $doc])+ pub mod $name;)*

        /// All modules of one server.
        pub struct Modules {
            $($(#[doc = $doc])+ pub $name: Arc<$name::$type>,)*
        }

        impl Modules {
            /// Makes every module and the table of owners.
            pub fn new(deps: &Deps) -> Result<(Self, Requests), TwoOwners> {
                let mut requests = Requests::default();
                let modules = Self { $($name: Arc::new($name::$type::new(deps)),)* };
                $(modules.$name.register(&mut requests);)*
                Ok((modules, requests.checked()?))
            }

            /// What the modules offer after authentication, each for itself.
            pub fn stream_features(&self, domain: &str) -> Vec<Element> {
                let mut features = Vec::new();
                $(features.extend(self.$name.stream_features(domain));)*
                features
            }

            /// What can be had within authentication.
            pub fn inline_features(&self) -> Vec<Element> {
                let mut features = Vec::new();
                $(features.extend(self.$name.inline_features());)*
                features
            }

            /// What can be asked for within `<bind/>` (XEP-0386).
            pub fn bind_features() -> impl Iterator<Item = &'static str> {
                [$(<$name::$type as Module>::BIND_FEATURES,)*].into_iter().flatten().copied()
            }

            /// Lets each module do what was asked of it within `<bind/>` (XEP-0386): what is to stand in `<bound/>`.
            pub async fn bound(&self, binding: &mut Binding<'_>) -> Vec<Element> {
                let mut answers = Vec::new();
                $(answers.extend(self.$name.bound(binding).await);)*
                answers
            }

            /// What the modules say of themselves, and what is implemented in none of them.
            pub const ABOUT: &'static [&'static [About]] = &[elsewhere::ABOUT, $(<$name::$type as Module>::ABOUT,)*];
        }
    };
}

modules! {
    /// RFC 6120 §7: Resource Binding
    bind: Bind,
    /// XEP-0386: Bind 2
    bind2: Bind2,
    /// XEP-0484: Fast Authentication Streamlining Tokens
    fast: Fast,
    /// XEP-0480: SASL Upgrade Tasks
    sasl_upgrade: SaslUpgrade,
    /// RFC 6121 §2: Roster
    roster: RosterModule,
    /// RFC 6121 §4: Presence
    presence: Presence,
    /// XEP-0313: Message Archive Management
    archive: MessageArchive,
    /// XEP-0441: Message Archive Management Preferences
    archive_preferences: ArchivePreferences,
    /// XEP-0424: Message Retraction
    retraction: Retraction,
    /// XEP-0430: Inbox
    inbox: Inbox,
    /// XEP-0431: Full Text Search in MAM
    search: FullTextSearch,
    /// XEP-0160: Best Practices for Handling Offline Messages
    offline: Offline,
    /// XEP-0191: Blocking Command
    blocking: Blocking,
    /// XEP-0377: Blocking Command Abuse Reporting
    reports: Reports,
    /// XEP-0280: Message Carbons
    carbons: Carbons,
    /// XEP-0198: Stream Management
    stream_management: StreamManagement,
    /// XEP-0357: Push Notifications
    push: Push,
    /// XEP-0352: Client State Indication
    client_state: ClientStateIndication,
    /// XEP-0049: Private XML Storage
    private: Private,
    /// XEP-0054: vcard-temp, XEP-0153: vCard-Based Avatars
    vcard: VcardTemp,
    /// XEP-0060: Publish-Subscribe, XEP-0163: Personal Eventing Protocol
    pubsub: Pubsub,
    /// XEP-0045: Multi-User Chat
    muc: Muc,
    /// XEP-0077: In-Band Registration
    register: Register,
    /// XEP-0379: Pre-Authenticated Roster Subscription, XEP-0401: Easy User Onboarding, XEP-0445: Pre-Authenticated In-Band Registration
    invites: Invites,
    /// XEP-0050: Ad-Hoc Commands, XEP-0133: Service Administration
    adhoc: AdHocCommands,
    /// XEP-0133: Service Administration (message of the day, welcome)
    notices: Notices,
    /// XEP-0199: XMPP Ping
    ping: Ping,
    /// XEP-0030: Service Discovery
    disco: Disco,
    /// XEP-0115: Entity Capabilities
    caps: Capabilities,
    /// XEP-0157: Contact Addresses for XMPP Services
    contact: ContactAddresses,
    /// XEP-0215: External Service Discovery
    external_services: ExternalServices,
    /// XEP-0092: Software Version
    version: SoftwareVersion,
    /// XEP-0202: Entity Time
    time: EntityTime,
    /// XEP-0012: Last Activity
    last: LastActivity,
    /// XEP-0359: Unique and Stable Stanza IDs
    stanza_ids: StanzaIds,
}
