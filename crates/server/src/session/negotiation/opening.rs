//! RFC 6120 §4: what a client finds behind its stream header.

use magpie_proto::sasl::{ChannelBindings, Hash, Offer};
use magpie_proto::stream::{Acceptance, Opening, StartTls, StreamLimits};
use magpie_proto::xml::XmlLimits;
use magpie_proto::{StreamCondition, StreamError, jid};
use tracing::info;

use super::Negotiation;
use crate::config::{Limits, TlsMode};

impl Negotiation {
    pub(super) fn open(&mut self, opening: Opening) {
        let config = self.server.config();
        // §4.7.2: a client that names no host gets that of its account, or the one whose certificate it was shown, or the
        // only one there is.
        let account = || opening.account.as_ref().map(|account| account.domain().to_owned());
        let shown = || self.connection.server_name().map(str::to_owned);
        let named = opening.to.clone().or_else(account).or_else(shown);
        let domain = match (named, config.domains.as_slice()) {
            (Some(named), _) => jid::parse_domain(&named).unwrap_or(named),
            (None, [only]) => only.clone(),
            (None, _) => {
                drop(config);
                self.fail(StreamError::new(StreamCondition::HostUnknown, "the stream header names no host"));
                return;
            }
        };
        if let Some(moved) = config.moved.iter().find(|moved| moved.domain == domain) {
            let error = StreamCondition::SeeOtherHost(moved.to.clone()).into();
            drop(config);
            self.fail(error);
            return;
        }
        if !config.domains.contains(&domain) {
            drop(config);
            info!(address = %self.address, domain, "host unknown");
            self.fail(StreamCondition::HostUnknown.into());
            return;
        }
        self.domain.clone_from(&domain);
        let secure = opening.secure;
        let optional = self.gate.tls == TlsMode::Optional;
        let starttls = match (secure, optional) {
            (true, _) => StartTls::No,
            (false, true) => StartTls::Optional,
            (false, false) => StartTls::Required,
        };
        let anonymous = config.auth.anonymous.contains(&domain);
        let invites = !anonymous && self.server.modules.invites.are_open(&domain);
        let hashes: Vec<Hash> = config.auth.hashes.iter().filter_map(|name| Hash::parse(name)).collect();
        let plain = config.auth.plain && (secure || optional);
        // Who has logged in is offered no mechanism.
        let bindings = match opening.account {
            Some(_) => ChannelBindings::default(),
            None => self.connection.transport.bindings(self.server.certificates()),
        };
        let bytes_max = match opening.account {
            Some(_) => config.limits.stanza_bytes_max,
            None => config.limits.stanza_bytes_max_before_auth,
        };
        // Who does not log in is not waited for as long as who has (XEP-0478 §2).
        let idle_seconds = match opening.account {
            Some(_) => config.limits.idle_seconds_max,
            None => config.limits.idle_seconds_max.min(config.limits.login_seconds_max),
        };
        let acceptance = Acceptance {
            // XEP-0388 §3: never in clear.
            inline: secure.then(|| self.inline_features(&bindings, anonymous)),
            offer: match anonymous {
                true => Offer::new(&domain, bindings, &[], false, true),
                false => Offer::new(&domain, bindings, &hashes, plain, false),
            },
            protected: config.auth.downgrade_protection,
            domain,
            starttls,
            registration: config.registration.open && !anonymous || invites,
            invites,
            features: match opening.account {
                Some(_) => self.server.stream_features(&self.domain),
                None => Vec::new(),
            },
            limits: StreamLimits { bytes_max, idle_seconds: Some(idle_seconds) },
            xml: match opening.account {
                Some(_) => after_auth(&config.limits),
                None => before_auth(&config.limits),
            },
        };
        drop(config);
        self.connection.stream.accept(acceptance);
    }
}

pub(super) fn before_auth(limits: &Limits) -> XmlLimits {
    XmlLimits { stanza_bytes_max: limits.stanza_bytes_max_before_auth, ..after_auth(limits) }
}

pub(in crate::session) fn after_auth(limits: &Limits) -> XmlLimits {
    XmlLimits {
        stanza_bytes_max: limits.stanza_bytes_max,
        depth_max: limits.depth_max,
        attributes_max: limits.attributes_max,
        elements_max: limits.elements_max,
    }
}
