//! XEP-0390: Entity Capabilities 2.0
//!
//! Presence carries hashes of what a client is and understands, by any hash function, over an input whose parts cannot be confused.

use aws_lc_rs::digest::{Algorithm, SHA3_256, SHA3_512, SHA256, SHA512, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::data_forms::{FORM_TYPE, FieldType, Form};
use super::disco::NS_INFO;
use crate::Element;
use crate::xml::Stanza;

/// The namespace.
pub const NS: &str = "urn:xmpp:caps";
/// The namespace of `<hash/>` (XEP-0300).
pub const NS_HASHES: &str = "urn:xmpp:hashes:2";

/// The separators (§4.1), from the widest to the narrowest: no XML has these characters.
const FS: u8 = 0x1c;
const GS: u8 = 0x1d;
const RS: u8 = 0x1e;
const US: u8 = 0x1f;

/// A capability hash: the name of its function as XEP-0300 has it, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CapsHash {
    algo: String,
    /// In base64.
    value: String,
}

/// An answer to `disco#info` that has no hash (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHash {
    /// An element that the algorithm does not know.
    #[error("there is an element that is no identity, feature or form")]
    Unknown,
    /// A form of several items.
    #[error("a form reports several items")]
    Items,
    /// A form that does not say which it is (XEP-0068).
    #[error("a form has no hidden FORM_TYPE with one value")]
    FormType,
}

impl CapsHash {
    /// The SHA-256 of what an entity is: of the `<query/>` that it answers.
    pub fn describing(query: &Element) -> Result<Self, NoHash> {
        let value = BASE64_STANDARD.encode(digest(&SHA256, &input(query, None)?));
        Ok(Self { algo: "sha-256".to_owned(), value })
    }

    /// The hashes that a presence carries. Those that are no base64 are left out.
    pub fn set_of(presence: &Stanza) -> Vec<Self> {
        let Some(set) = presence.child("c", NS).map(|child| child.element()) else { return Vec::new() };
        let hashes = set.children().filter(|child| child.is("hash", NS_HASHES)).filter_map(|hash| {
            let value = BASE64_STANDARD.decode(hash.text().trim()).ok().filter(|value| !value.is_empty())?;
            Some(Self { algo: hash.attr("algo")?.to_owned(), value: BASE64_STANDARD.encode(value) })
        });
        hashes.collect()
    }

    /// The hash function's name.
    pub fn algo(&self) -> &str {
        &self.algo
    }

    /// The value in base64.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// A set with this hash alone.
    pub fn element(&self) -> Element {
        let hash = Element::new("hash", NS_HASHES).with_attr("algo", &self.algo).with_text(self.value.as_str());
        Element::new("c", NS).with(hash)
    }

    /// §4.3: the node to ask for what the hash stands for.
    pub fn query_node(&self) -> String {
        format!("{NS}#{}.{}", self.algo, self.value)
    }

    /// Whether its function is one that can be verified here.
    pub fn is_verifiable(&self) -> bool {
        algorithm(&self.algo).is_some()
    }

    /// §4.4: whether this answer is what was hashed; `lang` is the language that the answer inherits. A function that is not known
    /// proves nothing.
    pub fn is_proved_by(&self, query: &Element, lang: Option<&str>) -> bool {
        let (Some(algorithm), Ok(input)) = (algorithm(&self.algo), input(query, lang)) else { return false };
        BASE64_STANDARD.encode(digest(algorithm, &input)) == self.value
    }
}

/// The functions of XEP-0300 that may be used; SHA-1 and MD5 may not.
fn algorithm(name: &str) -> Option<&'static Algorithm> {
    match name {
        "sha-256" => Some(&SHA256),
        "sha-512" => Some(&SHA512),
        "sha3-256" => Some(&SHA3_256),
        "sha3-512" => Some(&SHA3_512),
        _ => None,
    }
}

/// §4.1: what is hashed.
fn input(query: &Element, lang: Option<&str>) -> Result<Vec<u8>, NoHash> {
    let lang = query.attr("xml:lang").or(lang).unwrap_or_default();
    let (mut features, mut identities, mut forms) = (Vec::new(), Vec::new(), Vec::new());
    for child in query.children() {
        let attr = |name| child.attr(name).unwrap_or_default();
        if child.is("feature", NS_INFO) {
            features.push(joined([attr("var")]));
        } else if child.is("identity", NS_INFO) {
            let lang = child.attr("xml:lang").unwrap_or(lang);
            identities.push(ended(joined([attr("category"), attr("type"), lang, attr("name")]), RS));
        } else {
            forms.push(form(&Form::parse(child).ok_or(NoHash::Unknown)?)?);
        }
    }
    Ok([sorted(features, FS), sorted(identities, FS), sorted(forms, FS)].concat())
}

fn form(form: &Form) -> Result<Vec<u8>, NoHash> {
    if !form.reported.is_empty() || !form.items.is_empty() {
        return Err(NoHash::Items);
    }
    let named = form.field(FORM_TYPE);
    if !named.is_some_and(|field| field.kind == Some(FieldType::Hidden) && field.values.len() == 1) {
        return Err(NoHash::FormType);
    }
    let fields = form.fields.iter().map(|field| {
        let var = joined([field.var.as_deref().unwrap_or_default()]);
        let values = field.values.iter().map(|value| joined([value.as_str()])).collect();
        [var, sorted(values, RS)].concat()
    });
    Ok(sorted(fields.collect(), GS))
}

/// Each part with its end.
fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    parts.into_iter().flat_map(|part| part.bytes().chain([US])).collect()
}

/// The parts in order (`i;octet`), with the end of the whole.
fn sorted(mut parts: Vec<Vec<u8>>, end: u8) -> Vec<u8> {
    parts.sort();
    ended(parts.concat(), end)
}

fn ended(mut part: Vec<u8>, end: u8) -> Vec<u8> {
    part.push(end);
    part
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ns;

    fn query(content: &str) -> Element {
        Element::parse(format!("<query xmlns='{NS_INFO}'>{content}</query>").as_bytes(), ns::CLIENT).unwrap()
    }

    fn features(names: &[&str]) -> String {
        names.iter().map(|name| format!("<feature var='{name}'/>")).collect()
    }

    fn simple() -> Element {
        let jabber = ["si", "bytestreams", "chatstates", "disco#info", "disco#items", "ibb", "rosterx"];
        let jabber = jabber.map(|name| format!("http://jabber.org/protocol/{name}"));
        let mut names: Vec<&str> = jabber.iter().map(String::as_str).collect();
        names.extend(["http://jabber.org/protocol/si/profile/file-transfer", "jabber:iq:last", "jabber:iq:privacy"]);
        names.extend(["jabber:iq:roster", "jabber:iq:time", "jabber:iq:version", "jabber:x:oob", "urn:xmpp:ping"]);
        names.extend(["urn:xmpp:receipts", "urn:xmpp:time"]);
        query(&format!("{}<identity category='client' type='mobile' name='BombusMod'/>", features(&names)))
    }

    fn software(form_type: &str) -> String {
        let field = |var: &str, value: &str| format!("<field var='{var}'><value>{value}</value></field>");
        let form_type =
            format!("<field {form_type} var='FORM_TYPE'><value>urn:xmpp:dataforms:softwareinfo</value></field>");
        let version = field("software_version", "0.11.1-svn-20111216-mod (Tcl/Tk 8.6b2)");
        let software = field("software", "Tkabber");
        let os = [field("os", "Windows"), field("os_version", "XP")].concat();
        format!("<x xmlns='jabber:x:data' type='result'>{form_type}{software}{version}{os}</x>")
    }

    /// The features of the second example stand in it as base64.
    fn complex_features() -> Vec<&'static str> {
        "games:board|http://jabber.org/protocol/activity|http://jabber.org/protocol/activity+notify|\
         http://jabber.org/protocol/bytestreams|http://jabber.org/protocol/chatstates|http://jabber.org/protocol/commands|\
         http://jabber.org/protocol/disco#info|http://jabber.org/protocol/disco#items|http://jabber.org/protocol/evil|\
         http://jabber.org/protocol/feature-neg|http://jabber.org/protocol/geoloc|http://jabber.org/protocol/geoloc+notify|\
         http://jabber.org/protocol/ibb|http://jabber.org/protocol/iqibb|http://jabber.org/protocol/mood|\
         http://jabber.org/protocol/mood+notify|http://jabber.org/protocol/rosterx|http://jabber.org/protocol/si|\
         http://jabber.org/protocol/si/profile/file-transfer|http://jabber.org/protocol/tune|\
         http://www.facebook.com/xmpp/messages|http://www.xmpp.org/extensions/xep-0084.html#ns-metadata+notify|\
         jabber:iq:avatar|jabber:iq:browse|jabber:iq:dtcp|jabber:iq:filexfer|jabber:iq:ibb|jabber:iq:inband|\
         jabber:iq:jidlink|jabber:iq:last|jabber:iq:oob|jabber:iq:privacy|jabber:iq:roster|jabber:iq:time|\
         jabber:iq:version|jabber:x:data|jabber:x:event|jabber:x:oob|urn:xmpp:avatar:metadata+notify|urn:xmpp:ping|\
         urn:xmpp:receipts|urn:xmpp:time"
            .split('|')
            .collect()
    }

    fn complex() -> Element {
        let mut names = complex_features();
        names.reverse();
        let identities = "<identity category='client' name='Tkabber' type='pc' xml:lang='en'/>\
                          <identity category='client' name='Ткаббер' type='pc' xml:lang='ru'/>";
        query(&format!("{identities}{}{}", features(&names), software("type='hidden'")))
    }

    fn hash(algo: &str, value: &str) -> CapsHash {
        CapsHash { algo: algo.into(), value: value.into() }
    }

    #[test]
    fn the_examples_of_the_document_have_their_hashes() {
        for (query, algo, value) in [
            (simple(), "sha-256", "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8="),
            (simple(), "sha3-256", "79mdYAfU9rEdTOcWDO7UEAt6E56SUzk/g6TnqUeuD9Q="),
            (complex(), "sha-256", "u79ZroNJbdSWhdSp311mddz44oHHPsEBntQ5b1jqBSY="),
            (complex(), "sha3-256", "XpUJzLAc93258sMECZ3FJpebkzuyNXDzRNwQog8eycg="),
        ] {
            assert!(hash(algo, value).is_proved_by(&query, None), "{algo} {value}");
        }
        assert_eq!(CapsHash::describing(&simple()).unwrap().value(), "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8=");
    }

    #[test]
    fn another_answer_and_a_function_that_is_not_known_or_not_allowed_prove_nothing() {
        let value = "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8=";
        assert!(!hash("sha-256", value).is_proved_by(&complex(), None));
        for algo in ["sha-1", "md5", "SHA-256", "blake2b-256", ""] {
            assert!(!hash(algo, value).is_verifiable() && !hash(algo, value).is_proved_by(&simple(), None), "{algo}");
        }
    }

    #[test]
    fn a_language_counts_wherever_it_is_inherited_from() {
        let identity = |lang: &str| query(&format!("<identity category='a' type='b' name='c' {lang}/>"));
        let english = CapsHash::describing(&identity("xml:lang='en'")).unwrap();
        assert!(english.is_proved_by(&identity(""), Some("en")));
        assert!(english.is_proved_by(&identity("").with_attr("xml:lang", "en"), Some("de")));
        assert!(!english.is_proved_by(&identity(""), None));
    }

    #[test]
    fn what_the_algorithm_does_not_know_has_no_hash() {
        let items = "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value></field>\
                     <reported><field var='b'/></reported></x>";
        for (content, why) in [
            ("<item xmlns='urn:x'/>", NoHash::Unknown),
            ("<feature xmlns='urn:x' var='a'/>", NoHash::Unknown),
            (&*software(""), NoHash::FormType),
            ("<x xmlns='jabber:x:data' type='result'/>", NoHash::FormType),
            (items, NoHash::Items),
        ] {
            assert_eq!(input(&query(content), None), Err(why), "{content}");
        }
    }

    #[test]
    fn hashes_are_written_and_read_and_what_is_no_base64_is_left_out() {
        let hash = CapsHash::describing(&simple()).unwrap();
        assert_eq!(hash.query_node(), "urn:xmpp:caps#sha-256.kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8=");
        let presence = |child: &str| Stanza::parse(format!("<presence>{child}</presence>").as_bytes()).unwrap();
        assert_eq!(CapsHash::set_of(&presence(&hash.element().to_xml(ns::CLIENT))), [hash]);
        let bad = "<c xmlns='urn:xmpp:caps'><hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>?</hash>\
                   <hash xmlns='urn:xmpp:hashes:2'>YQ==</hash><hash xmlns='x' algo='a'>YQ==</hash></c>";
        assert!(CapsHash::set_of(&presence(bad)).is_empty() && CapsHash::set_of(&presence("")).is_empty());
    }
}
