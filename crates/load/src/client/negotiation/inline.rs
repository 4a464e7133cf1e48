//! XEP-0388, 0386, 0484: a login that binds a resource, and later one by a token.

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::{ACKS, Negotiation, Profile, Refusal, Step, answer, condition, put, text};
use crate::client::sasl::{self, Keys, Mechanism, Scram, Token};
use crate::client::splitter::{attribute, name, text_of};

/// How a client logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// RFC 6120.
    #[default]
    Sasl,
    /// XEP-0388 and 0386: what it wants is done within the login.
    Sasl2,
    /// The same; from the second login on by a token (XEP-0484), without waiting to read what is on offer.
    Fast,
}

const SASL2: &str = "urn:xmpp:sasl:2";
const BIND2: &str = "urn:xmpp:bind:0";
const FAST: &str = "urn:xmpp:fast:0";

impl Negotiation {
    /// Sends the login, where the server offers it.
    pub(super) fn log_in_inline(
        &mut self,
        profile: &Profile,
        features: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let offers = |what: &str| memmem::find(features, what.as_bytes()).is_some();
        let missing = [
            (offers(SASL2), "SASL2 (XEP-0388)"),
            (offers(BIND2), "Bind 2 (XEP-0386)"),
            (profile.login != Login::Fast || offers(FAST) && offers(Token::MECHANISM), "tokens (XEP-0484)"),
            (offers(&format!(">{}<", profile.mechanism.name())), profile.mechanism.name()),
        ];
        if let Some((_, what)) = missing.iter().find(|(offered, _)| !offered) {
            let hint = if self.encrypted { "" } else { ", or not without TLS (--security tls)" };
            return Err(Refusal::NotOffered(format!("{what}{hint}")));
        }
        let first = match profile.mechanism {
            Mechanism::Plain => sasl::plain(&self.account.username, &self.account.password),
            mechanism => self.scram.insert(Scram::new(mechanism, &self.account.username, sasl::nonce())).first(),
        };
        self.authenticate_by(profile, profile.mechanism.name(), &first, out);
        self.step = Step::Inline;
        Ok(())
    }

    /// Sends the login by a token that is there, behind the header.
    pub(super) fn log_in_by_token(&mut self, profile: &Profile, out: &mut Vec<u8>) {
        let Some(token) = &self.token else { return };
        let first = token.first(&self.account.username);
        self.authenticate_by(profile, Token::MECHANISM, &first, out);
        self.step = Step::FeaturesBehind;
    }

    fn authenticate_by(&mut self, profile: &Profile, mechanism: &str, first: &str, out: &mut Vec<u8>) {
        let id = sasl::device_id(&self.account.username);
        put(
            out,
            &[
                "<authenticate xmlns='",
                SASL2,
                "' mechanism='",
                mechanism,
                "'><initial-response>",
                first,
                "</initial-response><user-agent id='",
                &id,
                "'><software>magpie-load</software></user-agent>",
            ],
        );
        match (profile.login, &self.token) {
            (Login::Fast, Some(_)) => put(out, &["<fast xmlns='", FAST, "'/>"]),
            (Login::Fast, None) => {
                put(out, &["<request-token xmlns='", FAST, "' mechanism='", Token::MECHANISM, "'/>"]);
            }
            _ => {}
        }
        put(out, &["<bind xmlns='", BIND2, "'><tag>", &self.account.resource, "</tag>"]);
        if profile.acks {
            put(out, &["<enable xmlns='", ACKS, "' resume='true'/>"]);
        }
        if profile.carbons {
            put(out, &["<enable xmlns='urn:xmpp:carbons:2'/>"]);
        }
        put(out, &["</bind></authenticate>"]);
    }

    /// The server's part of the login.
    pub(super) fn inline(
        &mut self,
        profile: &Profile,
        keys: &mut Keys,
        element: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let account = &self.account;
        match (name(element), &mut self.scram) {
            (b"challenge", Some(scram)) => {
                let challenge = text_of(element, "challenge").unwrap_or_default();
                let response = scram.answer(keys, &account.password, challenge)?;
                put(out, &["<response xmlns='", SASL2, "'>", &response, "</response>"]);
                return Ok(());
            }
            (b"success", _) => {}
            (b"failure", _) => return Err(Refusal::Login(account.username.clone(), condition(element))),
            _ => return Err(answer("the login", element)),
        }
        let said = text_of(element, "additional-data").unwrap_or_default();
        match (&mut self.scram, &self.token) {
            (Some(scram), _) => scram.verify(said)?,
            (None, Some(token)) => token.verify(said)?,
            (None, None) => {}
        }
        let jid = text_of(element, "authorization-identifier").filter(|jid| jid.contains(&b'/'));
        self.ready.jid = text(jid.ok_or_else(|| answer("bind", element))?);
        let part = |tag: &str| memmem::find(element, tag.as_bytes()).map(|found| &element[found..]);
        if profile.acks {
            let enabled = part("<enabled").ok_or_else(|| answer("<enable/>", element))?;
            self.ready.stream = Some(text(attribute(enabled, b"id").unwrap_or_default()));
        }
        let given = part("<token").and_then(|token| attribute(token, b"token")).map(text);
        self.ready.token = match (given.map(Token::new), self.token.take()) {
            (Some(given), _) => Some(given),
            (None, used) => used,
        };
        if profile.login == Login::Fast && self.ready.token.is_none() {
            return Err(Refusal::NotOffered("a token, though it was asked for".into()));
        }
        // What was done within the login is not asked for again.
        self.last(&Profile { acks: false, carbons: false, ..profile.clone() }, out);
        Ok(())
    }
}
