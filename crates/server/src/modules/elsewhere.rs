//! The documents that are implemented in no module: by streams, listeners and the vocabulary of several modules.

use super::About;

/// What they are. None of them answers requests, so there are no features to advertise.
pub(super) const ABOUT: &[About] = &[
    document("RFC 6120: Extensible Messaging and Presence Protocol (XMPP): Core", "2011"),
    document("RFC 7622: Extensible Messaging and Presence Protocol (XMPP): Address Format", "2015"),
    document(
        "RFC 7590: Use of Transport Layer Security (TLS) in the Extensible Messaging and Presence Protocol (XMPP)",
        "2015",
    ),
    document(
        "RFC 5802: Salted Challenge Response Authentication Mechanism (SCRAM) SASL and GSS-API Mechanisms",
        "2010",
    ),
    document(
        "RFC 7677: SCRAM-SHA-256 and SCRAM-SHA-256-PLUS Simple Authentication and Security Layer (SASL) Mechanisms",
        "2015",
    ),
    document("RFC 5929: Channel Bindings for TLS", "2010"),
    document("RFC 9266: Channel Bindings for TLS 1.3", "2022"),
    xep(4, "Data Forms", "2.13.2"),
    xep(68, "Field Standardization for Data Forms", "1.3.0"),
    xep(82, "XMPP Date and Time Profiles", "1.1.1"),
    xep(175, "Best Practices for Use of SASL ANONYMOUS", "1.2"),
    xep(227, "Portable Import/Export Format for XMPP-IM Servers", "1.1"),
    xep(297, "Stanza Forwarding", "1.0"),
    xep(334, "Message Processing Hints", "1.0.0"),
    xep(368, "SRV records for XMPP over TLS", "1.1.0"),
    xep(388, "Extensible SASL Profile", "1.0.4"),
    xep(440, "SASL Channel-Binding Type Capability", "1.0.0"),
    xep(474, "SASL SCRAM Downgrade Protection", "0.5.0"),
    xep(478, "Stream Limits Advertisement", "0.2.0"),
    xep(509, "Initial Authentication Pipelining", "0.2.0"),
];

const fn document(title: &'static str, version: &'static str) -> About {
    About { xep: None, title, version, host_features: &[], account_features: &[] }
}

const fn xep(number: u16, title: &'static str, version: &'static str) -> About {
    About { xep: Some(number), title, version, host_features: &[], account_features: &[] }
}
