//! XEP-0215: External Service Discovery
//!
//! Tells the users of this server which STUN and TURN servers there are for their calls, as configured under `[[external_service]]`. A
//! TURN server that shares a secret with this one (coturn's `use-auth-secret`) takes passwords that are made here for each who asks,
//! and that it need not be told of.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use magpie_proto::xeps::date_time::DateTime;
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, StanzaCondition, StanzaError};

use super::{About, Module};
use crate::config::ExternalService;
use crate::requests::{Query, Reply, Requests, To, Verb};
use crate::server::{Deps, now};

const NS: &str = "urn:xmpp:extdisco:2";

/// The module: all that it knows is in the configuration.
pub struct ExternalServices;

impl Module for ExternalServices {
    const ABOUT: &'static [About] = &[About {
        xep: Some(215),
        title: "External Service Discovery",
        version: "1.0.0",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own_now(To::Host, Verb::Get, ("services", NS), self, Self::services);
        requests.own_now(To::Host, Verb::Get, ("credentials", NS), self, Self::credentials);
    }
}

impl ExternalServices {
    /// §3.1, §3.2
    fn services(&self, query: &Query<'_>) -> Reply {
        let account = &query.session()?.account;
        let payload = query.payload();
        let wanted = payload.attr("type");
        let config = query.server.config();
        let services = config.external_service.iter().filter(|service| wanted.is_none_or(|kind| service.kind == kind));
        let mut answer = Element::new("services", NS);
        if let Some(wanted) = wanted {
            answer.set_attr("type", wanted);
        }
        Ok(Some(answer.with_all(services.map(|service| element(service, account, now())))))
    }

    /// §3.3
    fn credentials(&self, query: &Query<'_>) -> Reply {
        let account = &query.session()?.account;
        let payload = query.payload();
        let wanted: Vec<Wanted<'_>> = payload.children().filter(|child| child.is("service", NS)).map(Wanted::of).collect();
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted.host.is_none() || wanted.kind.is_none()) {
            let text = "name the service by its host and type";
            return Err(StanzaError::new(StanzaCondition::BadRequest, text));
        }
        let config = query.server.config();
        let services = config.external_service.iter().filter(|service| service.has_credentials());
        let found: Vec<Element> = services
            .filter(|service| wanted.iter().any(|wanted| wanted.means(service)))
            .map(|service| element(service, account, now()))
            .collect();
        match found.is_empty() {
            true => Err(StanzaCondition::ItemNotFound.into()),
            false => Ok(Some(Element::new("credentials", NS).with_all(found))),
        }
    }
}

/// Which service somebody asks for.
struct Wanted<'a> {
    host: Option<&'a str>,
    kind: Option<&'a str>,
    port: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(element: &'a Element) -> Self {
        Self { host: element.attr("host"), kind: element.attr("type"), port: element.attr("port") }
    }

    fn means(&self, service: &ExternalService) -> bool {
        self.host == Some(service.host.as_str())
            && self.kind == Some(service.kind.as_str())
            && self.port.is_none_or(|port| port.parse() == Ok(service.port.unwrap_or_default()))
    }
}

impl ExternalService {
    fn has_credentials(&self) -> bool {
        !self.secret.is_empty() || !self.username.is_empty()
    }
}

/// A service as the account sees it now.
fn element(service: &ExternalService, account: &BareJid, now: Duration) -> Element {
    let mut element = Element::new("service", NS).with_attr("type", &service.kind).with_attr("host", &service.host);
    if let Some(port) = service.port {
        element.set_attr("port", port.to_string());
    }
    for (name, value) in [("transport", service.transport.map(|transport| transport.to_string())), ("name", service.name.clone())]
    {
        if let Some(value) = value {
            element.set_attr(name, value);
        }
    }
    if !service.has_credentials() {
        return element;
    }
    element.set_attr("restricted", "true");
    if service.secret.is_empty() {
        return element.with_attr("username", &service.username).with_attr("password", &service.password);
    }
    let expires = now.as_secs() + service.seconds;
    let (username, password) = time_limited(&service.secret, expires, account);
    element
        .with_attr("username", username)
        .with_attr("password", password)
        .with_attr("expires", DateTime::from_unix(expires as i64, 0).to_string())
}

/// What a TURN server with the same secret takes until then: who and until when, and a proof that this server says so.
fn time_limited(secret: &str, expires: u64, account: &BareJid) -> (String, String) {
    let username = format!("{expires}:{account}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let password = BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, password)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::ServiceTransport;
    use magpie_proto::ns;

    fn service() -> ExternalService {
        ExternalService {
            kind: "turn".into(),
            host: "turn.example.org".into(),
            port: None,
            transport: None,
            name: None,
            secret: String::new(),
            username: String::new(),
            password: String::new(),
            seconds: 3600,
        }
    }

    fn xml(service: &ExternalService) -> String {
        let account = BareJid::parse("juliet@example.org").unwrap();
        element(service, &account, Duration::from_secs(1_000_000_000)).to_xml(ns::CLIENT)
    }

    #[test]
    fn a_shared_secret_makes_a_password_that_coturn_takes_for_a_while() {
        let transport = Some(ServiceTransport::Udp);
        let turn = ExternalService { port: Some(3478), transport, secret: "north".into(), ..service() };
        // As of `echo -n 1000003600:juliet@example.org | openssl dgst -sha1 -hmac north -binary | base64`.
        let expected = "<service xmlns='urn:xmpp:extdisco:2' type='turn' host='turn.example.org' port='3478' transport='udp' \
                        restricted='true' username='1000003600:juliet@example.org' password='+h05E+xV7Watj3eRg23aMUilU0w=' \
                        expires='2001-09-09T02:46:40Z'/>";
        assert_eq!(xml(&turn), expected);
    }

    #[test]
    fn a_fixed_password_does_not_expire_and_a_service_for_all_has_none() {
        let fixed = ExternalService { username: "u".into(), password: "p".into(), ..service() };
        let expected = "<service xmlns='urn:xmpp:extdisco:2' type='turn' host='turn.example.org' restricted='true' username='u' \
                        password='p'/>";
        assert_eq!(xml(&fixed), expected);
        let open = ExternalService { name: Some("Ours".into()), ..service() };
        assert_eq!(xml(&open), "<service xmlns='urn:xmpp:extdisco:2' type='turn' host='turn.example.org' name='Ours'/>");
    }
}
