//! What a conversation expects of an element: everything that it writes must be there; what it does not write may be.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::sasl;
use super::xml::{Node, parse_fragment};

/// The namespace behind the prefix `is:` in expectations.
pub(crate) const IS: &str = "urn:magpie:conversation";

/// The values by name that a conversation knows.
pub(crate) type Variables = BTreeMap<String, String>;

/// Replaces `{name}`, `{base64 text}`, `{token user token}`, `{scram hash first challenge}`, `{salted hash salt rounds}` and
/// `{repeat count text}` in what is sent.
pub(crate) fn substitute(text: &str, variables: &Variables) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(text)? {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Braces(name) => out.push_str(&value_of(name, variables)?),
        }
    }
    Ok(out)
}

fn value_of(name: &str, variables: &Variables) -> Result<String, String> {
    if let Some(text) = name.strip_prefix("base64 ") {
        return Ok(BASE64.encode(substitute_brackets(text, variables)?.replace("\\0", "\0")));
    }
    if let Some((user, token)) = name.strip_prefix("token ").and_then(|rest| rest.split_once(' ')) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, substitute_brackets(token, variables)?.as_bytes());
        let proof = hmac::sign(&key, b"Initiator");
        return Ok(BASE64.encode([user.as_bytes(), b"\0", proof.as_ref()].concat()));
    }
    if let Some(rest) = name.strip_prefix("scram ") {
        let [hash, first_bare, challenge] = words(rest)?;
        return sasl::respond(hash, first_bare, &substitute_brackets(challenge, variables)?);
    }
    if let Some(rest) = name.strip_prefix("salted ") {
        let [hash, salt, rounds] = words(rest)?;
        let [salt, rounds] = [salt, rounds].map(|text| substitute_brackets(text, variables));
        return sasl::salted(hash, &salt?, &rounds?);
    }
    if let Some((count, text)) = name.strip_prefix("repeat ").and_then(|rest| rest.split_once(' ')) {
        let count: usize = count.parse().map_err(|_| format!("{{{name}}}: `{count}` is no number"))?;
        return Ok(text.repeat(count));
    }
    variables.get(name).cloned().ok_or_else(|| format!("nothing is called {{{name}}} here"))
}

fn words(text: &str) -> Result<[&str; 3], String> {
    let words: Vec<&str> = text.split(' ').collect();
    words.try_into().map_err(|_| format!("expected three words: {text}"))
}

/// Inside `{base64 …}` a variable is written `[name]`, since braces do not nest.
fn substitute_brackets(text: &str, variables: &Variables) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let (name, after) = after.split_once(']').ok_or("a `[` has no `]`")?;
        out.push_str(before);
        out.push_str(&value_of(name, variables)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

enum Part<'a> {
    Literal(&'a str),
    Braces(&'a str),
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a `{` has no `}`")?;
        if !before.is_empty() {
            parts.push(Part::Literal(before));
        }
        parts.push(match name.starts_with("urn:") {
            true => Part::Literal(&rest[before.len()..rest.len() - after.len()]),
            false => Part::Braces(name.trim()),
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

/// Whether `found` is what `expected` asks for; the captures go into `variables` only if it is.
pub(crate) fn check(expected: &Node, found: &Node, variables: &mut Variables) -> Result<(), String> {
    let mut captured = variables.clone();
    check_element(expected, found, &mut captured, &format!("<{}>", expected.name.1))?;
    *variables = captured;
    Ok(())
}

fn check_element(expected: &Node, found: &Node, variables: &mut Variables, path: &str) -> Result<(), String> {
    if expected.is(IS, "any") {
        return Ok(());
    }
    if expected.name != found.name {
        return Err(format!(
            "{path}: expected {} in '{}', found {} in '{}'",
            expected.name.1, expected.name.0, found.name.1, found.name.0
        ));
    }
    let exact = expected.attrs.contains_key(&(IS.to_owned(), "exact".to_owned()));
    for (name, pattern) in expected.attrs.iter().filter(|(name, _)| name.0 != IS) {
        let shown = format!("{path} @{}", name.1);
        match (pattern.as_str(), found.attrs.get(name)) {
            ("{absent}" | "{not true}", None) => {}
            ("{absent}", Some(value)) => return Err(format!("{shown}: must not be there, found '{value}'")),
            (_, None) => return Err(format!("{shown}: expected '{pattern}', is missing")),
            (_, Some(value)) => check_value(pattern, value, variables).map_err(|why| format!("{shown}: {why}"))?,
        }
    }
    if exact && let Some(name) = found.attrs.keys().find(|name| !expected.attrs.contains_key(*name)) {
        return Err(format!("{path} @{}: nothing else was expected in this element", name.1));
    }
    let (text, found_text) = (expected.text.trim(), found.text.trim());
    if !text.is_empty() {
        check_value(text, found_text, variables).map_err(|why| format!("{path} text: {why}"))?;
    } else if exact && !found_text.is_empty() {
        return Err(format!("{path} text: expected none, found '{found_text}'"));
    }
    let (absent, wanted): (Vec<&Node>, Vec<&Node>) =
        expected.children.iter().partition(|child| child.attrs.contains_key(&(IS.to_owned(), "absent".to_owned())));
    for child in absent {
        let mut without = child.clone();
        without.attrs.retain(|name, _| name.0 != IS);
        let mut ignored = variables.clone();
        if found.children.iter().any(|there| check_element(&without, there, &mut ignored, path).is_ok()) {
            return Err(format!("{path}: must not contain <{} xmlns='{}'>", child.name.1, child.name.0));
        }
    }
    if exact && wanted.len() != found.children.len() {
        return Err(format!("{path}: expected {} children, found {}", wanted.len(), found.children.len()));
    }
    let mut free: Vec<&Node> = found.children.iter().collect();
    check_children(&wanted, &mut free, variables, path)
}

/// Gives each wanted child one of the free ones, in any order.
fn check_children(
    wanted: &[&Node],
    free: &mut Vec<&Node>,
    variables: &mut Variables,
    path: &str,
) -> Result<(), String> {
    let Some((first, rest)) = wanted.split_first() else { return Ok(()) };
    let inner = format!("{path}<{}>", first.name.1);
    let mut reason = None;
    for index in 0..free.len() {
        let mut captured = variables.clone();
        let candidate = free[index];
        match check_element(first, candidate, &mut captured, &inner) {
            Ok(()) => {
                free.remove(index);
                match check_children(rest, free, &mut captured, path) {
                    Ok(()) => {
                        *variables = captured;
                        return Ok(());
                    }
                    Err(why) => reason = Some(why),
                }
                free.insert(index, candidate);
            }
            // The child of the right name says best what is wrong.
            Err(why) if candidate.name == first.name => reason = Some(why),
            Err(_) => {}
        }
    }
    Err(reason.unwrap_or_else(|| format!("{inner}: missing (xmlns='{}')", first.name.0)))
}

/// Matches a value against `{any}`, `{capture x}`, `{one of a b}`, `{x}` and plain text in any mixture.
fn check_value(pattern: &str, value: &str, variables: &mut Variables) -> Result<(), String> {
    if let Some(choices) = pattern.strip_prefix("{one of ").and_then(|rest| rest.strip_suffix('}')) {
        return if choices.split_whitespace().any(|choice| choice == value) {
            Ok(())
        } else {
            Err(format!("expected one of {choices}, found '{value}'"))
        };
    }
    if let Some(other) = pattern.strip_prefix("{not ").and_then(|rest| rest.strip_suffix('}')) {
        return if value == other { Err(format!("must not be '{other}'")) } else { Ok(()) };
    }
    if let Some(decoded) = pattern.strip_prefix("{decoded ").and_then(|rest| rest.strip_suffix('}')) {
        let value = BASE64.decode(value).map_err(|error| format!("'{value}' is not base64: {error}"))?;
        // What is written in square brackets there is written in braces elsewhere.
        let pattern = decoded.replace('[', "{").replace(']', "}");
        return check_value(&pattern, &String::from_utf8_lossy(&value), variables);
    }
    let parts = parts(pattern)?;
    let mut captured = variables.clone();
    if match_parts(&parts, value, &mut captured)? {
        *variables = captured;
        return Ok(());
    }
    let shown = substitute_known(&parts, variables);
    Err(format!("expected '{shown}', found '{value}'"))
}

fn match_parts(parts: &[Part<'_>], value: &str, variables: &mut Variables) -> Result<bool, String> {
    let Some((first, rest)) = parts.split_first() else { return Ok(value.is_empty()) };
    let capture = match first {
        Part::Literal(text) => {
            return match value.strip_prefix(text) {
                Some(value) => match_parts(rest, value, variables),
                None => Ok(false),
            };
        }
        Part::Braces("any") => None,
        Part::Braces(name) => match name.strip_prefix("capture ") {
            Some(name) => Some(name),
            None => {
                return match value.strip_prefix(value_of(name, variables)?.as_str()) {
                    Some(value) => match_parts(rest, value, variables),
                    None => Ok(false),
                };
            }
        },
    };
    // A hole takes at least one character.
    for (end, _) in value.char_indices().skip(1).chain([(value.len(), ' ')]) {
        if end == 0 {
            continue;
        }
        let mut captured = variables.clone();
        if let Some(name) = capture {
            captured.insert(name.to_owned(), value[..end].to_owned());
        }
        if match_parts(rest, &value[end..], &mut captured)? {
            *variables = captured;
            return Ok(true);
        }
    }
    Ok(false)
}

fn substitute_known(parts: &[Part<'_>], variables: &Variables) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => (*text).to_owned(),
            Part::Braces(name) => value_of(name, variables).unwrap_or_else(|_| format!("{{{name}}}")),
        })
        .collect()
}

/// The judge is judged first: expectation, element, whether they agree.
const TABLE: &[(&str, &str, bool)] = &[
    ("<message/>", "<message id='1'><body>x</body></message>", true),
    ("<message/>", "<presence/>", false),
    ("<iq type='result'/>", "<iq type='result' id='a'/>", true),
    ("<iq type='result'/>", "<iq type='error' id='a'/>", false),
    ("<iq type='result'/>", "<iq id='a'/>", false),
    ("<iq id='{any}'/>", "<iq id='a'/>", true),
    ("<iq id='{any}'/>", "<iq id=''/>", false),
    ("<iq id='{any}'/>", "<iq/>", false),
    ("<iq id='{absent}'/>", "<iq/>", true),
    ("<iq id='{absent}'/>", "<iq id='a'/>", false),
    ("<iq id='{not true}'/>", "<iq/>", true),
    ("<iq id='{not true}'/>", "<iq id='false'/>", true),
    ("<iq id='{not true}'/>", "<iq id='true'/>", false),
    ("<iq id='{one of a b}'/>", "<iq id='b'/>", true),
    ("<iq id='{one of a b}'/>", "<iq id='c'/>", false),
    ("<iq to='romeo@{host}/{any}'/>", "<iq to='romeo@h/x'/>", true),
    ("<iq to='romeo@{host}/{any}'/>", "<iq to='romeo@h/'/>", false),
    ("<iq to='romeo@{host}/{any}'/>", "<iq to='romeo@i/x'/>", false),
    ("<iq id='{capture x}' to='{x}'/>", "<iq id='a' to='a'/>", true),
    ("<iq id='{capture x}' to='{x}'/>", "<iq id='a' to='b'/>", false),
    ("<message><body>a</body></message>", "<message><body>a</body></message>", true),
    ("<message><body>a</body></message>", "<message><body>ab</body></message>", false),
    ("<message><body>a</body></message>", "<message><body xmlns='u'>a</body></message>", false),
    ("<message><body/></message>", "<message/>", false),
    ("<message><body is:absent='yes'/></message>", "<message/>", true),
    ("<message><body is:absent='yes'/></message>", "<message><body>a</body></message>", false),
    ("<message is:exact='yes'/>", "<message/>", true),
    ("<message is:exact='yes'/>", "<message id='a'/>", false),
    ("<message is:exact='yes'/>", "<message><body/></message>", false),
    ("<message is:exact='yes'/>", "<message>text</message>", false),
    ("<q><i/><i/></q>", "<q><i/></q>", false),
    ("<q><i a='{capture x}'/><i a='2' b='{x}'/></q>", "<q><i a='2' b='1'/><i a='1'/></q>", true),
    ("<q><i a='1'/><i a='2'/></q>", "<q><i a='2'/><i a='1'/></q>", true),
    ("<q><is:any/></q>", "<q><i xmlns='u'/></q>", true),
    ("<q><is:any/></q>", "<q/>", false),
];

/// Runs the table.
pub(crate) fn judge_the_judge() -> Result<(), String> {
    for (expectation, element, agree) in TABLE {
        let mut variables = Variables::from([("host".to_owned(), "h".to_owned())]);
        let (expectations, elements) = (parse_fragment(expectation, IS)?, parse_fragment(element, IS)?);
        let outcome = check(&expectations[0], &elements[0], &mut variables);
        if outcome.is_ok() != *agree {
            return Err(format!("the judge is wrong about {expectation} and {element}: {outcome:?}"));
        }
    }
    Ok(())
}
