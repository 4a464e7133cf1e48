//! The ways to log in, each from the connection to a bound resource.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use magpie_proto::xml::Element;
use rustls::ClientConfig;

use super::connection::PASSWORD;
use super::sasl::Exchange;
use super::wire::Wire;

pub(crate) const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(crate) const SASL2: &str = "urn:xmpp:sasl:2";
pub(crate) const FAST: &str = "urn:xmpp:fast:0";
const PHONE: &str = "d4565fa7-4d72-4749-b3d3-740edbf87770";
const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
const BIND2: &str = "<bind xmlns='urn:xmpp:bind:0'><tag>Phone</tag></bind>";

/// RFC 6120: STARTTLS, SCRAM, a stream after each, then a resource.
pub(crate) fn starttls_and_sasl(address: SocketAddr) -> Wire {
    let mut wire = Wire::connect(address);
    wire.open("");
    wire.hear();
    wire.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(wire.hear().name(), "proceed");
    let mut config = ClientConfig::clone(&super::wire::tls_client());
    config.alpn_protocols.clear();
    wire.protect(&Arc::new(config));
    wire.restart();
    classic(wire)
}

/// XEP-0368, and the rest of RFC 6120.
pub(crate) fn tls_and_sasl(address: SocketAddr, config: &Arc<ClientConfig>) -> Wire {
    let mut wire = Wire::connect(address);
    wire.protect(config);
    classic(wire)
}

fn classic(mut wire: Wire) -> Wire {
    wire.open("");
    wire.hear();
    let (mut exchange, first) = Exchange::start("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    wire.say(&format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{first}</auth>"));
    let answer = exchange.respond(&wire.hear().text(), PASSWORD).unwrap();
    wire.say(&format!("<response xmlns='{SASL}'>{answer}</response>"));
    exchange.finish(&wire.hear().text()).unwrap();
    wire.restart();
    wire.open("");
    wire.hear();
    wire.say(BIND);
    assert_eq!(wire.hear().attr("type"), Some("result"));
    wire
}

/// XEP-0388 and XEP-0386. `pipelined`: the client knows what is on offer and does not wait to read it (XEP-0509).
pub(crate) fn sasl2(address: SocketAddr, config: &Arc<ClientConfig>, pipelined: bool) -> Wire {
    let mut wire = Wire::connect(address);
    wire.protect(config);
    let (mut exchange, first) = Exchange::start("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    let authenticate = authenticate("SCRAM-SHA-256", &first, BIND2);
    if pipelined {
        wire.open(&authenticate);
        wire.hear();
    } else {
        wire.open("");
        wire.hear();
        wire.say(&authenticate);
    }
    let answer = exchange.respond(&wire.hear().text(), PASSWORD).unwrap();
    wire.say(&format!("<response xmlns='{SASL2}'>{answer}</response>"));
    let success = wire.hear();
    exchange.finish(&success.child("additional-data", SASL2).unwrap().text()).unwrap();
    assert_bound(&success, &mut wire);
    wire
}

/// Gets a token, and a TLS session to come back with.
pub(crate) fn token(address: SocketAddr, config: &Arc<ClientConfig>) -> String {
    let mut wire = Wire::connect(address);
    wire.protect(config);
    let wish = format!("<request-token xmlns='{FAST}' mechanism='HT-SHA-256-NONE'/>");
    let plain = BASE64.encode(format!("\0juliet\0{PASSWORD}"));
    wire.open(&authenticate("PLAIN", &plain, &wish));
    wire.hear();
    let success = wire.hear();
    success.child("token", FAST).unwrap().attr("token").unwrap().to_owned()
}

/// XEP-0484. The client knows what is on offer.
pub(crate) fn fast(address: SocketAddr, config: &Arc<ClientConfig>, token: &str) -> Wire {
    let mut wire = Wire::connect(address);
    wire.protect(config);
    wire.open(&by_token(token, "", BIND2));
    wire.hear();
    let success = wire.hear();
    assert_eq!(wire.tls().handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert_bound(&success, &mut wire);
    wire
}

/// The same by early data of TLS.
pub(crate) fn fast_early(address: SocketAddr, config: &Arc<ClientConfig>, token: &str, count: u32) -> Wire {
    let mut wire = Wire::connect(address);
    let login = by_token(token, &format!(" count='{count}'"), BIND2);
    wire.protect_and_say(config, &format!("{}{login}", super::wire::header()));
    wire.hear();
    let success = wire.hear();
    assert!(wire.tls().is_early_data_accepted());
    assert_bound(&success, &mut wire);
    wire
}

/// `<authenticate/>` with a token.
pub(crate) fn by_token(token: &str, attributes: &str, inline: &str) -> String {
    let proof = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), b"Initiator");
    let message = BASE64.encode([b"juliet\0", proof.as_ref()].concat());
    authenticate("HT-SHA-256-NONE", &message, &format!("<fast xmlns='{FAST}'{attributes}/>{inline}"))
}

pub(crate) fn authenticate(mechanism: &str, initial: &str, inline: &str) -> String {
    format!(
        "<authenticate xmlns='{SASL2}' mechanism='{mechanism}'><initial-response>{initial}</initial-response>\
         <user-agent id='{PHONE}'/>{inline}</authenticate>"
    )
}

fn assert_bound(success: &Element, wire: &mut Wire) {
    assert!(success.is("success", SASL2) && success.child("bound", "urn:xmpp:bind:0").is_some(), "{success:?}");
    assert_eq!(wire.hear().name(), "features");
}
