//! RFC 6120 §4.3.2: what a server advertises at each stage of a client's stream.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Acceptance;
use crate::ns;
use crate::sasl::{sasl2, xml as sasl_xml};
use crate::xml::Element;

/// Bytes of the name of a list of features.
const CONFIG_VERSION_BYTES: usize = 15;

/// Whether STARTTLS is on offer (RFC 6120 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Not on offer: the stream is under TLS already, or there is no certificate.
    No,
    /// On offer; authentication goes without it too.
    Optional,
    /// Nothing else is on offer until it is done.
    Required,
}

/// XEP-0478: the limits that a stream advertises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// Bytes of one top-level element, the largest that is accepted.
    pub bytes_max: usize,
    /// Seconds without traffic after which the server may end the stream.
    pub idle_seconds: Option<u64>,
}

impl StreamLimits {
    fn element(self) -> Element {
        const NS: &str = "urn:xmpp:stream-limits:0";
        let limits =
            Element::new("limits", NS).with(Element::new("max-bytes", NS).with_text(self.bytes_max.to_string()));
        match self.idle_seconds {
            Some(seconds) => limits.with(Element::new("idle-seconds", NS).with_text(seconds.to_string())),
            None => limits,
        }
    }
}

/// Before TLS, or before authentication where TLS is there or not needed.
pub(super) fn before_authentication(acceptance: &Acceptance) -> Element {
    let &Acceptance { starttls, ref offer, ref inline, registration, invites, limits, .. } = acceptance;
    let mut features = Element::new("features", ns::STREAM);
    if starttls != StartTls::No {
        let mut element = Element::new("starttls", ns::TLS);
        if starttls == StartTls::Required {
            element = element.with(Element::new("required", ns::TLS));
        }
        features = features.with(element);
    }
    if starttls != StartTls::Required {
        if !offer.mechanisms.is_empty() {
            features = features.with(sasl_xml::mechanisms(offer));
            if let Some(inline) = inline {
                features = features.with(sasl2::authentication(offer, inline));
            }
        }
        features = features.with_all(sasl_xml::channel_bindings(offer));
        if invites {
            features = features.with(Element::new("register", ns::INVITE_FEATURE));
        }
        if registration {
            features = features.with(Element::new("register", ns::REGISTER_FEATURE));
        }
    }
    features.with(limits.element())
}

/// XEP-0509 §2.2: a name for just these features, so that a client can say next time which it has in mind.
pub(super) fn config_version(features: &Element) -> String {
    let digest = digest::digest(&digest::SHA256, features.to_xml(ns::STREAM).as_bytes());
    BASE64.encode(&digest.as_ref()[..CONFIG_VERSION_BYTES])
}

/// Once a resource is bound, where that took no stream of its own (XEP-0386, or XEP-0198 §9).
pub(super) fn after_binding(extra: &[Element], limits: StreamLimits) -> Element {
    Element::new("features", ns::STREAM).with_all(extra.iter().cloned()).with(limits.element())
}

/// After authentication: bind, and what the server adds (roster versioning, capabilities …).
pub(super) fn after_authentication(extra: &[Element], limits: StreamLimits) -> Element {
    Element::new("features", ns::STREAM)
        .with(Element::new("bind", ns::BIND))
        // RFC 3921 demanded this step; RFC 6121 dropped it, and `optional` tells old clients so.
        .with(Element::new("session", ns::SESSION).with(Element::new("optional", ns::SESSION)))
        .with(Element::new("sm", ns::SM))
        .with_all(extra.iter().cloned())
        .with(limits.element())
}
