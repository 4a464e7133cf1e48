//! XEP-0292 §10: the properties of both forms, each as the other has it.
//!
//! A property that the other form has no room for stays where it was, and one that is the same in both as it was written.

use magpie_proto::Element;

use super::{NS_VCARD, is_empty};

const NS_TEMP: &str = "vcard-temp";

/// Properties with one value: in the older form, in the newer one, and what kind of value that is.
const VALUES: &[(&str, &str, &str)] = &[
    ("FN", "fn", "text"),
    ("NICKNAME", "nickname", "text"),
    ("BDAY", "bday", "date"),
    ("TZ", "tz", "text"),
    ("TITLE", "title", "text"),
    ("ROLE", "role", "text"),
    // Of a note the first that stands here is made: it is what clients show.
    ("DESC", "note", "text"),
    ("NOTE", "note", "text"),
    ("PRODID", "prodid", "text"),
    ("REV", "rev", "timestamp"),
    ("UID", "uid", "text"),
    ("URL", "url", "uri"),
];

/// Names in the older form and in the newer one.
type Names = (&'static str, &'static str);

/// Properties with parts: their names, and the names of the parts.
const PARTS: &[(&str, &str, &[Names])] = &[
    (
        "N",
        "n",
        &[
            ("FAMILY", "surname"),
            ("GIVEN", "given"),
            ("MIDDLE", "additional"),
            ("PREFIX", "prefix"),
            ("SUFFIX", "suffix"),
        ],
    ),
    (
        "ADR",
        "adr",
        &[
            ("POBOX", "pobox"),
            ("EXTADD", "ext"),
            ("STREET", "street"),
            ("LOCALITY", "locality"),
            ("REGION", "region"),
            ("PCODE", "code"),
            ("CTRY", "country"),
        ],
    ),
];

/// Properties that are lists of words: their names, and those of the words in the older form, of which the first stands once.
const LISTS: &[(&str, &str, &str, &str)] =
    &[("ORG", "org", "ORGNAME", "ORGUNIT"), ("CATEGORIES", "categories", "KEYWORD", "KEYWORD")];

/// Elements without content that say what an address or number is for.
const KINDS: &[Names] = &[
    ("HOME", "home"),
    ("WORK", "work"),
    ("VOICE", "voice"),
    ("FAX", "fax"),
    ("CELL", "cell"),
    ("PAGER", "pager"),
    ("VIDEO", "video"),
];

/// The newer form of a card, with what `before` has and the older form has no room for.
pub(super) fn to_vcard4(vcard: &Element, before: Option<&Element>) -> Element {
    let picture = vcard.children().any(|child| child.is("PHOTO", NS_TEMP));
    let known = || before.into_iter().flat_map(Element::children);
    let properties = vcard.children().filter_map(|old| {
        let same = known().find(|new| older(new).as_ref() == Some(old));
        same.cloned().or_else(|| newer(old))
    });
    let kept = known().filter(|new| older(new).is_none() && !is_empty(new) && !(picture && new.is("photo", NS_VCARD)));
    let mut card = Element::new("vcard", NS_VCARD).with_all(properties).with_all(kept.cloned());
    if card.child("fn", NS_VCARD).is_none() {
        // RFC 6350 §6.2.1: there is one.
        let nickname = card.child("nickname", NS_VCARD).and_then(value).unwrap_or_default();
        card.push(value_of("fn", "text", &nickname));
    }
    card
}

/// The older form of a card, with what `before` has and the newer form has no room for, and with its picture.
pub(super) fn to_vcard_temp(card: &Element, before: Option<&Element>) -> Element {
    let known = || before.into_iter().flat_map(Element::children);
    let is_picture = |old: &&Element| old.is("PHOTO", NS_TEMP) && old.child("BINVAL", NS_TEMP).is_some();
    let picture = known().any(|old| is_picture(&old));
    let properties = card.children().filter_map(|new| {
        // The picture is that of the avatar, where there is one.
        if picture && new.is("photo", NS_VCARD) {
            return None;
        }
        let same = known().find(|old| newer(old).as_ref() == Some(new));
        same.cloned().or_else(|| older(new)).or_else(|| photo(new))
    });
    let kept = known().filter(|old| is_picture(old) || newer(old).is_none() && !is_empty(old));
    Element::new("vCard", NS_TEMP).with_all(properties).with_all(kept.cloned())
}

/// A property of the older form as the newer one has it. `None`: it has no room for it.
fn newer(old: &Element) -> Option<Element> {
    if old.ns() != NS_TEMP || is_empty(old) {
        return None;
    }
    let part = |name: &str| old.child(name, NS_TEMP).map(Element::text).filter(|text| !text.trim().is_empty());
    if let Some((_, name, kind)) = VALUES.iter().find(|(known, ..)| *known == old.name()) {
        return Some(value_of(name, kind, &old.text()));
    }
    if let Some((_, name, parts)) = PARTS.iter().find(|(known, ..)| *known == old.name()) {
        let part = |(old, new): &(&str, &str)| {
            // Clients write it in two ways.
            let text = part(old).or_else(|| part("EXTADR").filter(|_| *old == "EXTADD"))?;
            Some(Element::new(new, NS_VCARD).with_text(text))
        };
        return Some(Element::new(name, NS_VCARD).with_all(parameters(old)).with_all(parts.iter().filter_map(part)));
    }
    if let Some((_, name, first, others)) = LISTS.iter().find(|(known, ..)| *known == old.name()) {
        let words = old.children().filter(|child| child.is(first, NS_TEMP) || child.is(others, NS_TEMP));
        let words = words.map(|word| Element::new("text", NS_VCARD).with_text(word.text()));
        return Some(Element::new(name, NS_VCARD).with_all(words));
    }
    match old.name() {
        "TEL" => {
            let number = part("NUMBER")?;
            // What people write is seldom a URI.
            let is_uri = number.chars().all(|char| char.is_ascii_digit() || "+-.()".contains(char));
            let value = if is_uri { ("uri", format!("tel:{number}")) } else { ("text", number) };
            Some(typed("tel", old, value))
        }
        "EMAIL" => Some(typed("email", old, ("text", part("USERID")?))),
        "JABBERID" => Some(value_of("impp", "uri", &format!("xmpp:{}", old.text().trim()))),
        "GEO" => Some(value_of("geo", "uri", &format!("geo:{},{}", part("LAT")?, part("LON")?))),
        "KEY" => Some(value_of("key", "text", &part("CRED")?)),
        "PHOTO" => Some(value_of("photo", "uri", &part("EXTVAL")?)),
        "LOGO" | "SOUND" => {
            let name = if old.name() == "LOGO" { "logo" } else { "sound" };
            let kind = part("TYPE").unwrap_or_else(|| if name == "logo" { "image/png" } else { "audio/basic" }.to_owned());
            let data = part("BINVAL").map(|data| format!("data:{kind};base64,{}", without_spaces(&data)));
            Some(value_of(name, "uri", &data.or_else(|| part("EXTVAL"))?))
        }
        _ => None,
    }
}

/// A property of the newer form as the older one has it. `None`: it has no room for it.
fn older(new: &Element) -> Option<Element> {
    if new.ns() != NS_VCARD || is_empty(new) {
        return None;
    }
    let field = |name: &str, text: &str| Element::new(name, NS_TEMP).with_text(text);
    if let Some((name, ..)) = VALUES.iter().find(|(_, known, _)| *known == new.name()) {
        return Some(field(name, &value(new)?));
    }
    if let Some((name, _, parts)) = PARTS.iter().find(|(_, known, _)| *known == new.name()) {
        let part = |(old, known): &(&str, &str)| {
            let text = new.child(known, NS_VCARD).map(Element::text).filter(|text| !text.trim().is_empty())?;
            Some(field(old, &text))
        };
        return Some(Element::new(name, NS_TEMP).with_all(kinds(new)).with_all(parts.iter().filter_map(part)));
    }
    if let Some((name, _, first, others)) = LISTS.iter().find(|(_, known, ..)| *known == new.name()) {
        let words = new.children().filter(|child| child.is("text", NS_VCARD)).enumerate();
        let words = words.map(|(at, word)| field(if at == 0 { first } else { others }, &word.text()));
        return Some(Element::new(name, NS_TEMP).with_all(words));
    }
    let value = value(new)?;
    let typed = |name, part, value: &str| Element::new(name, NS_TEMP).with_all(kinds(new)).with(field(part, value));
    match new.name() {
        "tel" => Some(typed("TEL", "NUMBER", value.strip_prefix("tel:").unwrap_or(&value))),
        "email" => Some(typed("EMAIL", "USERID", &value)),
        "impp" => Some(field("JABBERID", value.strip_prefix("xmpp:")?)),
        "geo" => {
            let (lat, lon) = value.strip_prefix("geo:")?.split_once(',')?;
            let lon = lon.split([',', ';']).next().unwrap_or_default();
            Some(Element::new("GEO", NS_TEMP).with(field("LAT", lat)).with(field("LON", lon)))
        }
        "key" if new.child("text", NS_VCARD).is_some() => {
            Some(Element::new("KEY", NS_TEMP).with(field("CRED", &value)))
        }
        "photo" if !value.starts_with("data:") => Some(binary("PHOTO", &value)),
        "logo" => Some(binary("LOGO", &value)),
        "sound" => Some(binary("SOUND", &value)),
        _ => None,
    }
}

/// A picture in the card itself.
fn photo(new: &Element) -> Option<Element> {
    let value = value(new).filter(|_| new.is("photo", NS_VCARD))?;
    data_of(&value).map(|_| binary("PHOTO", &value))
}

fn binary(name: &str, uri: &str) -> Element {
    let field = |name: &str, text: &str| Element::new(name, NS_TEMP).with_text(text);
    let element = Element::new(name, NS_TEMP);
    match data_of(uri) {
        Some((kind, data)) => element.with(field("TYPE", kind)).with(field("BINVAL", data)),
        None => element.with(field("EXTVAL", uri)),
    }
}

/// Media type and base64 of a `data:` URI (RFC 2397).
fn data_of(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("data:")?.split_once(";base64,")
}

/// The value of a property, of whichever kind it is.
fn value(new: &Element) -> Option<String> {
    let mut values = new.children().filter(|child| !child.is("parameters", NS_VCARD));
    values.next().map(Element::text).filter(|value| !value.trim().is_empty())
}

fn value_of(name: &str, kind: &str, value: &str) -> Element {
    Element::new(name, NS_VCARD).with(Element::new(kind, NS_VCARD).with_text(value))
}

fn typed(name: &str, old: &Element, (kind, value): (&str, String)) -> Element {
    let value = Element::new(kind, NS_VCARD).with_text(value);
    Element::new(name, NS_VCARD).with_all(parameters(old)).with(value)
}

/// What an address of the older form says that it is for.
fn parameters(old: &Element) -> Option<Element> {
    let words = KINDS.iter().filter(|(flag, _)| old.child(flag, NS_TEMP).is_some());
    let words: Vec<Element> = words.map(|(_, word)| Element::new("text", NS_VCARD).with_text(*word)).collect();
    let preferred = old.child("PREF", NS_TEMP).is_some();
    let kinds = (!words.is_empty()).then(|| Element::new("type", NS_VCARD).with_all(words));
    let preferred = preferred.then(|| value_of("pref", "integer", "1"));
    (kinds.is_some() || preferred.is_some())
        .then(|| Element::new("parameters", NS_VCARD).with_all(kinds).with_all(preferred))
}

/// The same in the older form.
fn kinds(new: &Element) -> Vec<Element> {
    let Some(parameters) = new.child("parameters", NS_VCARD) else { return Vec::new() };
    let words: Vec<String> = parameters.child("type", NS_VCARD).into_iter().flat_map(Element::children).map(Element::text).collect();
    let flags = KINDS.iter().filter(|(_, word)| words.iter().any(|known| known == word)).map(|(flag, _)| *flag);
    let preferred = parameters.child("pref", NS_VCARD).is_some().then_some("PREF");
    flags.chain(preferred).map(|flag| Element::new(flag, NS_TEMP)).collect()
}

fn without_spaces(text: &str) -> String {
    text.chars().filter(|char| !char.is_whitespace()).collect()
}

#[cfg(test)]
mod tests;
