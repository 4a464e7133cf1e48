//! The namespaces of the protocol, by the names that the documents give them.

/// RFC 6120: stanzas between a client and its server.
pub const CLIENT: &str = "jabber:client";
/// RFC 6120: stanzas between servers.
pub const SERVER: &str = "jabber:server";
/// RFC 6120 §4.8.1: the stream element, its features and errors.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// RFC 6120 §4.9.2: conditions of stream errors.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// RFC 6120 §8.3.2: conditions of stanza errors.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// RFC 6120 §5: STARTTLS.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// RFC 6120 §6: SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// XEP-0388: the Extensible SASL Profile.
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// XEP-0386: Bind 2.
pub const BIND2: &str = "urn:xmpp:bind:0";
/// XEP-0484: Fast Authentication Streamlining Tokens.
pub const FAST: &str = "urn:xmpp:fast:0";
/// XEP-0480: SASL Upgrade Tasks.
pub const UPGRADE: &str = "urn:xmpp:sasl:upgrade:0";
/// XEP-0480 §3: of what SCRAM keys are made.
pub const SCRAM_UPGRADE: &str = "urn:xmpp:scram-upgrade:0";
/// XEP-0509: Initial Authentication Pipelining.
pub const PIPELINING: &str = "urn:xmpp:iap:0";
/// RFC 6120 §7: resource binding.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// RFC 3921 §3: sessions, a no-op that old clients still ask for.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// The `xml:` prefix.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// XEP-0198: Stream Management.
pub const SM: &str = "urn:xmpp:sm:3";
/// XEP-0085: Chat State Notifications.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// RFC 6121 §2: the roster.
pub const ROSTER: &str = "jabber:iq:roster";
/// RFC 6121 §2.6: roster versioning as a stream feature.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// RFC 6121 §3.4: subscription pre-approval as a stream feature.
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// XEP-0077: registration.
pub const REGISTER: &str = "jabber:iq:register";
/// XEP-0077: registration as a stream feature.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// XEP-0445: registration by invite as a stream feature.
pub const INVITE_FEATURE: &str = "urn:xmpp:ibr-token:0";
/// XEP-0379: the token of an invite.
pub const INVITE_TOKEN: &str = "urn:xmpp:pars:0";
