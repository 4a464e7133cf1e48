//! XEP-0115: Entity Capabilities
//!
//! Presence carries a hash of what a client is and understands, so that each kind of client is asked once and not each client.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::data_forms::{FORM_TYPE, Form};
use super::disco::Info;
use crate::Element;
use crate::xml::Stanza;

/// The namespace.
pub const NS: &str = "http://jabber.org/protocol/caps";

/// `<c/>`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caps {
    /// The hash function, as `sha-1`. `None` is the legacy format, whose `ver` proves nothing (§5.4).
    pub hash: Option<String>,
    /// Which software it is, as a URI.
    pub node: String,
    /// The verification string.
    pub ver: String,
}

/// An answer to `disco#info` that cannot be hashed unambiguously (§5.4), named by what is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the same {0} appears twice")]
pub struct IllFormed(&'static str);

impl Caps {
    /// What this entity is, for its own presence or stream features.
    pub fn describing(node: &str, info: &Info) -> Result<Self, IllFormed> {
        Ok(Self { hash: Some("sha-1".to_owned()), node: node.to_owned(), ver: verification_string(info)? })
    }

    /// What a presence carries; `None` where it carries none, or one that lacks a part.
    pub fn of(presence: &Stanza) -> Option<Self> {
        presence.child("c", NS).and_then(|child| Self::parse(&child.element()))
    }

    /// Parses `<c/>`.
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is("c", NS) {
            return None;
        }
        let attr = |name| element.attr(name).map(str::to_owned);
        Some(Self { hash: attr("hash"), node: attr("node")?, ver: attr("ver")? })
    }

    /// As an element.
    pub fn element(&self) -> Element {
        let mut element = Element::new("c", NS);
        if let Some(hash) = &self.hash {
            element.set_attr("hash", hash);
        }
        element.with_attr("node", &self.node).with_attr("ver", &self.ver)
    }

    /// The node to ask for what the hash stands for (§6.2).
    pub fn query_node(&self) -> String {
        format!("{}#{}", self.node, self.ver)
    }

    /// Whether this answer is what was hashed: only then may it stand for every entity that sends the same hash (§5.4). An
    /// unknown hash function proves nothing.
    pub fn is_proved_by(&self, info: &Info) -> bool {
        self.hash.as_deref() == Some("sha-1") && verification_string(info).as_ref() == Ok(&self.ver)
    }
}

/// The verification string (§5.1), hashed with SHA-1, which every implementation supports.
pub fn verification_string(info: &Info) -> Result<String, IllFormed> {
    let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, factors(info)?.as_bytes());
    Ok(BASE64_STANDARD.encode(hashed))
}

fn factors(info: &Info) -> Result<String, IllFormed> {
    let mut s = String::new();

    let mut identities: Vec<_> = info
        .identities
        .iter()
        .map(|identity| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            [identity.category.clone(), identity.kind.clone(), text(&identity.lang), text(&identity.name)]
        })
        .collect();
    sort_unique(&mut identities, "identity")?;
    for identity in &identities {
        push(&mut s, &identity.join("/"));
    }

    let mut features: Vec<_> = info.features.iter().collect();
    sort_unique(&mut features, "feature")?;
    for feature in features {
        push(&mut s, feature);
    }

    let mut forms = Vec::new();
    for form in &info.forms {
        if let Some(form_type) = form.form_type() {
            let names = form.field(FORM_TYPE).map_or(&[][..], |field| &field.values);
            if names.iter().any(|name| name != form_type) {
                return Err(IllFormed("field FORM_TYPE"));
            }
            forms.push((form_type, form));
        }
    }
    forms.sort_by_key(|(form_type, _)| *form_type);
    if forms.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(IllFormed("form"));
    }
    for (form_type, form) in forms {
        push(&mut s, form_type);
        push_fields(&mut s, form);
    }
    Ok(s)
}

fn push_fields(s: &mut String, form: &Form) {
    let mut fields: Vec<_> =
        form.fields.iter().filter_map(|field| Some((field.var.as_deref()?, &field.values))).collect();
    fields.retain(|(var, _)| *var != FORM_TYPE);
    fields.sort_by_key(|(var, _)| *var);
    for (var, values) in fields {
        push(s, var);
        let mut values: Vec<_> = values.iter().collect();
        values.sort();
        for value in values {
            push(s, value);
        }
    }
}

/// A factor and its end. A `<` inside stays escaped, or what it pretends to end could be forged (§5.1).
fn push(s: &mut String, factor: &str) {
    s.push_str(&factor.replace('<', "&lt;"));
    s.push('<');
}

/// Sorted by bytes, which is what `i;octet` means for UTF-8.
fn sort_unique<T: Ord>(factors: &mut [T], name: &'static str) -> Result<(), IllFormed> {
    factors.sort();
    if factors.windows(2).any(|pair| pair[0] == pair[1]) { Err(IllFormed(name)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;
    use crate::xeps::data_forms::{Field, FieldType, FormKind};
    use crate::xeps::disco::Identity;

    fn features() -> Vec<String> {
        // Not in the order in which they are hashed.
        ["muc", "disco#items", "caps", "disco#info"].map(|name| format!("http://jabber.org/protocol/{name}")).into()
    }

    fn exodus() -> Info {
        let identities = vec![Identity::new("client", "pc").with_name("Exodus 0.9.1")];
        Info { identities, features: features(), ..Info::default() }
    }

    fn software() -> Form {
        let field = |var: &str| Field { var: Some(var.to_owned()), ..Field::default() };
        Form::new(FormKind::Result)
            .with(field("software_version").with_value("0.11"))
            .with(field("os").with_value("Mac"))
            .with(Field::new(FieldType::Hidden, FORM_TYPE).with_value("urn:xmpp:dataforms:softwareinfo"))
            .with(Field::new(FieldType::TextMulti, "ip_version").with_values(["ipv6", "ipv4"]))
            .with(field("os_version").with_value("10.5.1"))
            .with(field("software").with_value("Psi"))
    }

    fn psi() -> Info {
        let identity = |name: &str, lang: &str| Identity::new("client", "pc").with_name(name).with_lang(lang);
        let identities = vec![identity("Psi 0.11", "en"), identity("\u{3a8} 0.11", "el")];
        Info { node: None, identities, features: features(), forms: vec![software()] }
    }

    #[test]
    fn the_examples_of_the_document_have_their_hashes() {
        assert_eq!(verification_string(&exodus()).unwrap(), "QgayPKawpkPSDYmwT/WM94uAlu0=");
        assert_eq!(verification_string(&psi()).unwrap(), "q07IKJEyjvHSyhy//CH0CxmKi8w=");
    }

    #[test]
    fn a_hash_is_proved_by_what_was_hashed_and_nothing_else() {
        let caps = Caps::describing("https://example.org/client", &psi()).unwrap();
        assert!(caps.is_proved_by(&psi()));
        assert!(!caps.is_proved_by(&exodus()));
        assert!(!Caps { hash: Some("sha-256".into()), ..caps.clone() }.is_proved_by(&psi()));
        assert!(!Caps { hash: None, ..caps.clone() }.is_proved_by(&psi()));
        assert_eq!(caps.query_node(), "https://example.org/client#q07IKJEyjvHSyhy//CH0CxmKi8w=");
    }

    #[test]
    fn what_is_there_twice_makes_an_answer_ill_formed() {
        let mut info = psi();
        info.identities.push(info.identities[0].clone());
        assert_eq!(verification_string(&info), Err(IllFormed("identity")));
        let mut info = psi();
        info.features.push(info.features[0].clone());
        assert_eq!(verification_string(&info), Err(IllFormed("feature")));
        let mut info = psi();
        info.forms.push(Form::typed(FormKind::Result, "urn:xmpp:dataforms:softwareinfo"));
        assert_eq!(verification_string(&info), Err(IllFormed("form")));
        let mut info = psi();
        info.forms[0].fields[2].values.push("urn:other".into());
        assert_eq!(verification_string(&info), Err(IllFormed("field FORM_TYPE")));
    }

    #[test]
    fn a_form_whose_type_is_not_hidden_is_passed_over() {
        let mut info = exodus();
        info.forms = vec![software(), Form::new(FormKind::Result)];
        info.forms[0].fields[2].kind = None;
        assert_eq!(verification_string(&info).unwrap(), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn a_name_cannot_pretend_to_be_a_feature() {
        let honest = Info { features: vec!["urn:a".into(), "urn:b".into()], ..Info::default() };
        let forged = Info { features: vec!["urn:a<urn:b".into()], ..Info::default() };
        assert_ne!(verification_string(&honest), verification_string(&forged));
    }

    #[test]
    fn capabilities_are_written_and_read() {
        let caps = Caps { hash: Some("sha-1".into()), node: "urn:n".into(), ver: "v=".into() };
        let xml = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:n' ver='v='/>";
        assert_eq!(caps.element().to_xml(ns::CLIENT), xml);
        let presence = |child: &str| Stanza::parse(format!("<presence>{child}</presence>").as_bytes()).unwrap();
        assert_eq!(Caps::of(&presence(xml)), Some(caps));
        assert_eq!(Caps::of(&presence("<c xmlns='http://jabber.org/protocol/caps' node='n'/>")), None);
        assert_eq!(Caps::of(&presence("")), None);
    }
}
